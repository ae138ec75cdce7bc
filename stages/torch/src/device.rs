//! Which device computes: CUDA, else MPS, else the CPU, and why not another.
//!
//! The executable is linked with libtorch's CPU half alone. The CUDA half registers its kernels
//! when it is loaded, and that must happen before any other call into libtorch: its hooks are
//! looked up once. So [`open`] is the first thing a job calls, and the library is opened only
//! when the choice allows CUDA and the machine has a driver, because loading it costs 120 ms and
//! 350 MB.

use std::sync::OnceLock;

use serde::Serialize;
use stage_core::DeviceChoice;
use tch::{Cuda, Device};

use crate::{Error, ffi};

/// What was found of one kind of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `cuda`, `mps` or `cpu`.
    pub device: &'static str,
    /// Whether it can be used.
    pub usable: bool,
    /// Number of such devices.
    pub count: usize,
    /// Why it cannot be used, or what is there.
    pub reason: String,
}

/// What `pipeline doctor` says of libtorch.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Release of libtorch that the executable was built for.
    pub libtorch: &'static str,
    /// Version of the bindings.
    pub tch: &'static str,
    /// The device that `auto` takes.
    pub auto: &'static str,
    /// Threads that libtorch takes by default.
    pub threads: i32,
    /// CUDA, MPS, CPU, in the order of preference.
    pub devices: Vec<Finding>,
}

/// Opens the device that was asked for.
///
/// # Errors
/// [`Error::Device`] when a device was asked for by name and is not there; says why.
pub fn open(choice: DeviceChoice) -> Result<Device, Error> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Mps => {
            let found = mps();
            usable(choice, &found, 0).map(|()| Device::Mps)
        }
        DeviceChoice::Cuda(index) => {
            let found = cuda();
            usable(choice, &found, index).map(|()| Device::Cuda(index))
        }
        DeviceChoice::Auto => Ok(if cuda().usable {
            Device::Cuda(0)
        } else if mps().usable {
            Device::Mps
        } else {
            Device::Cpu
        }),
    }
}

/// Looks at every device.
pub fn report() -> Report {
    let devices = vec![cuda(), mps(), cpu()];
    let auto = devices
        .iter()
        .find(|d| d.usable)
        .map_or("cpu", |d| d.device);
    Report {
        libtorch: "2.11.0",
        tch: "0.24.0",
        auto,
        threads: tch::get_num_threads(),
        devices,
    }
}

/// How the device is named in records: it is part of the class of machines that compute the same
/// bytes.
pub fn name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn usable(choice: DeviceChoice, found: &Finding, index: usize) -> Result<(), Error> {
    let reason = if !found.usable {
        found.reason.clone()
    } else if index >= found.count {
        format!("there are {} such devices, counted from 0", found.count)
    } else {
        return Ok(());
    };
    Err(Error::Device {
        asked: choice.to_string(),
        reason,
    })
}

fn cpu() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Finding {
        device: "cpu",
        usable: true,
        count: 1,
        reason: format!("{cores} cores"),
    }
}

fn mps() -> Finding {
    let missing = |reason: &str| Finding {
        device: "mps",
        usable: false,
        count: 0,
        reason: reason.to_owned(),
    };
    if cfg!(not(target_os = "macos")) {
        return missing("Metal is only on macOS");
    }
    if tch::utils::has_mps() {
        Finding {
            device: "mps",
            usable: true,
            count: 1,
            reason: "Apple Metal".to_owned(),
        }
    } else {
        missing("this libtorch or this macOS has no Metal Performance Shaders")
    }
}

fn cuda() -> Finding {
    static FOUND: OnceLock<Finding> = OnceLock::new();
    FOUND.get_or_init(look_for_cuda).clone()
}

fn look_for_cuda() -> Finding {
    let missing = |reason: String| Finding {
        device: "cuda",
        usable: false,
        count: 0,
        reason,
    };
    if cfg!(not(target_os = "linux")) {
        return missing("CUDA is looked for on Linux only".to_owned());
    }
    // The driver is a few hundred kilobytes: without it there is no point in loading libtorch's.
    if let Err(reason) = ffi::open_library("libcuda.so.1") {
        return missing(format!("no NVIDIA driver: {reason}"));
    }
    if let Err(reason) = ffi::open_library("libtorch_cuda.so") {
        return missing(format!(
            "libtorch has no CUDA half that can be loaded: {reason}"
        ));
    }
    let count = usize::try_from(Cuda::device_count()).unwrap_or(0);
    if !Cuda::is_available() || count == 0 {
        return missing(
            "the driver has no device, or is older than this libtorch (see `nvidia-smi`)"
                .to_owned(),
        );
    }
    Finding {
        device: "cuda",
        usable: true,
        count,
        reason: format!("{count} CUDA device(s)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there() {
        assert_eq!(open(DeviceChoice::Cpu).unwrap(), Device::Cpu);
        let report = report();
        assert!(report.devices.iter().any(|d| d.device == "cpu" && d.usable));
        assert!(report.devices.iter().all(|d| !d.reason.is_empty()));
    }

    #[test]
    fn a_device_that_is_not_there_says_why() {
        for (choice, found) in [(DeviceChoice::Cuda(99), cuda()), (DeviceChoice::Mps, mps())] {
            if found.usable && choice == DeviceChoice::Mps {
                continue;
            }
            let error = open(choice).unwrap_err().to_string();
            assert!(error.contains(&choice.to_string()), "{error}");
        }
    }
}
