//! The one place of this package that is `unsafe`: opening a shared library for all to see,
//! catching signals, setting up the allocator, and tensors over memory of ours.
//!
//! libtorch registers the kernels of a device when the library that holds them is loaded; nothing
//! in it needs to be called by name. See [`crate::device`] for when and why.
//!
//! What tch does not wrap is called through libtorch's stable C interface
//! (`torch/csrc/stable/c/shim.h`), whose tensor handles are pointers to `at::Tensor`, as tch's are.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_void};
use std::ptr;

use shard::{Batch, RowsMut};
use tch::Tensor;

use crate::{Error, Result};

type Deleter = extern "C" fn(data: *mut c_void, context: *mut c_void);

unsafe extern "C" {
    safe fn aoti_torch_dtype_float32() -> i32;
    safe fn aoti_torch_dtype_int64() -> i32;
    safe fn aoti_torch_device_type_cpu() -> i32;
    safe fn aoti_torch_layout_strided() -> i32;
    fn torch_from_blob(
        data: *mut c_void,
        dims: i64,
        sizes: *const i64,
        strides: *const i64,
        storage_offset: i64,
        dtype: i32,
        device_type: i32,
        device_index: i32,
        tensor: *mut *mut c_void,
        layout: i32,
        metadata: *const u8,
        metadata_len: i64,
        deleter: Deleter,
        deleter_context: *mut c_void,
    ) -> i32;
}

/// Loads the shared library `name` with its symbols visible to all others, for as long as the
/// process lives.
///
/// `name` without a slash is looked for on the run path of the executable.
///
/// # Errors
/// The loader's own words: what is missing, or of the wrong version.
pub(crate) fn open_library(name: &str) -> std::result::Result<(), String> {
    let Ok(name) = CString::new(name) else {
        return Err("the name of the library has a NUL in it".to_owned());
    };
    // SAFETY: `name` is a valid NUL-terminated string. Loading runs the library's initialisers:
    // we load only libtorch's own, of the release that the executable was linked with. The handle
    // is dropped on purpose: the library must never be unloaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed `dlopen` on this thread, `dlerror` gives NULL or a NUL-terminated
    // string that stays valid until the next call of that family; we copy it at once.
    let reason = unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            "no reason given".to_owned()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Err(reason)
}

/// Calls `handler` when one of `signals` comes. It may only do what is safe in a signal handler:
/// store to an atomic.
pub(crate) fn on_signal(signals: &[libc::c_int], handler: extern "C" fn(libc::c_int)) {
    for &signal in signals {
        // SAFETY: the handler is a plain function that lives as long as the process; replacing the
        // disposition of SIGINT and SIGTERM has no other precondition.
        unsafe {
            libc::signal(signal, handler as *const () as libc::sighandler_t);
        }
    }
}

/// Tells the allocator to keep freed memory of up to 32 MiB a piece instead of giving it back.
///
/// A training step frees and asks again for the same tensors; glibc maps and unmaps the larger
/// ones each time, and the page faults took two fifths of a step's CPU time.
pub(crate) fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `mallopt` only sets tunables; called before other threads exist. Values it does not
    // like it refuses.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

/// The rows of `batch`, shaped `(B, T, width)`, as a tensor on the CPU, without a copy.
///
/// The batch goes home to its loader when the last tensor that shares this memory is dropped, in
/// whichever thread.
///
/// # Errors
/// The rows are neither f32 nor i64, or not of this shape.
pub(crate) fn tensor_over(batch: Batch, shape: [i64; 3]) -> Result<Tensor> {
    extern "C" fn send_home(_: *mut c_void, batch: *mut c_void) {
        // SAFETY: the pointer was made below by `Box::into_raw`; libtorch calls this once.
        drop(unsafe { Box::from_raw(batch.cast::<Batch>()) });
    }

    let mut batch = Box::new(batch);
    let (data, got, dtype): (*mut c_void, usize, i32) = match batch.rows_mut() {
        Some(RowsMut::F32(values)) => (
            values.as_mut_ptr().cast(),
            values.len(),
            aoti_torch_dtype_float32(),
        ),
        Some(RowsMut::I64(values)) => (
            values.as_mut_ptr().cast(),
            values.len(),
            aoti_torch_dtype_int64(),
        ),
        None => {
            return Err(Error::Data(
                "the loader gave rows as they are stored, expected f32 or i64".to_owned(),
            ));
        }
    };
    let [_, rows, width] = shape;
    if shape.iter().any(|&n| n < 0) || shape.iter().product::<i64>() != got as i64 {
        return Err(Error::Data(format!(
            "the loader gave {got} values, expected {shape:?}"
        )));
    }
    let strides = [rows * width, width, 1];
    let mut tensor = ptr::null_mut();
    let context: *mut c_void = Box::into_raw(batch).cast();
    // SAFETY: sizes and strides are three numbers each and describe exactly the values of `dtype` at `data`,
    // which belong to the batch in `context`, stay where they are as long as it lives, and are
    // touched by nobody but the tensor until `send_home`. A batch is `Send`, asserted below.
    let failed = unsafe {
        torch_from_blob(
            data,
            shape.len() as i64,
            shape.as_ptr(),
            strides.as_ptr(),
            0,
            dtype,
            aoti_torch_device_type_cpu(),
            // The CPU has no number; 0 would be another device than that of the memory.
            -1,
            &raw mut tensor,
            aoti_torch_layout_strided(),
            ptr::null(),
            0,
            send_home,
            context,
        )
    };
    if failed != 0 || tensor.is_null() {
        // libtorch does not say whether it has called `send_home`: better lost than freed twice.
        return Err(Error::Data(
            "libtorch made no tensor over a batch; its reason is on standard error".to_owned(),
        ));
    }
    // SAFETY: a new `at::Tensor` that is nobody else's; tch deletes it as such.
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}

/// What [`tensor_over`] asks of a batch.
const _: () = {
    const fn send<T: Send + 'static>() {}
    send::<Batch>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_named() {
        let reason = open_library("libno-such-thing.so.0").unwrap_err();
        assert!(reason.contains("libno-such-thing"), "{reason}");
        assert!(open_library("a\0b").is_err());
    }
}
