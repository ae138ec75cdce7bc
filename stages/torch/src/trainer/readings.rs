//! Loss, gradient norm and their sums, kept on the device until somebody asks.
//!
//! Reading a number makes the host wait for all that the device has still to do. So nothing is
//! read in a step: values are read for the screen about once a second, sums for the history and
//! the state file, and whether all was finite before each save and validation and every
//! [`CHECK_EVERY`] steps.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::update::wide;
use crate::{Error, Result};

/// Most steps between two looks at whether losses and gradients are finite.
pub const CHECK_EVERY: u64 = 50;

/// The numbers of a training that are on the device.
#[derive(Debug)]
pub struct Readings {
    device: Device,
    /// Sums since the last record, by name.
    sums: BTreeMap<String, Tensor>,
    /// Loss and gradient norm of the last step.
    last: Option<(Tensor, Tensor)>,
    /// Whether every loss and norm so far was finite, if there was one.
    finite: Option<Tensor>,
}

impl Readings {
    /// None yet.
    pub fn new(device: Device) -> Self {
        Self {
            device,
            sums: BTreeMap::new(),
            last: None,
            finite: None,
        }
    }

    /// Adds a scalar to the sum `name`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn add(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let value = value.f_detach()?.f_to_kind(wide(self.device))?;
        let sum = match self.sums.get(name) {
            Some(sum) => sum.f_add(&value)?,
            // A copy: `value` may be the model's own tensor.
            None => value.f_zeros_like()?.f_add(&value)?,
        };
        self.sums.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Keeps loss and gradient norm of an update, and whether they are finite.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn keep(&mut self, loss: &Tensor, norm: Tensor) -> Result<()> {
        let loss = loss.f_detach()?;
        let finite = loss.f_isfinite()?.f_logical_and(&norm.f_isfinite()?)?;
        self.finite = Some(match &self.finite {
            Some(before) => before.f_logical_and(&finite)?,
            None => finite,
        });
        self.last = Some((loss, norm));
        Ok(())
    }

    /// Loss and gradient norm of the last step. Waits for the device.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn last(&self) -> Result<Option<(f64, f64)>> {
        match &self.last {
            Some((loss, norm)) => Ok(Some((f64::try_from(loss)?, f64::try_from(norm)?))),
            None => Ok(None),
        }
    }

    /// The sums since the last record. Waits for the device.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn sums(&self) -> Result<BTreeMap<String, f64>> {
        let read = self.sums.iter();
        read.map(|(name, sum)| Ok((name.clone(), f64::try_from(sum)?)))
            .collect()
    }

    /// Begins anew from sums that were saved.
    ///
    /// # Errors
    /// Out of memory.
    pub fn restore(&mut self, sums: &BTreeMap<String, f64>) -> Result<()> {
        *self = Self::new(self.device);
        for (name, sum) in sums {
            let sum = Tensor::f_full([0_i64; 0], *sum, (wide(self.device), self.device))?;
            self.sums.insert(name.clone(), sum);
        }
        Ok(())
    }

    /// Checks that every loss and gradient so far was finite. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Diverged`] when one was not.
    pub fn check(&self, step: u64) -> Result<()> {
        let finite = match &self.finite {
            Some(finite) => f64::try_from(finite.f_to_kind(Kind::Float)?)? > 0.5,
            None => true,
        };
        if finite {
            return Ok(());
        }
        Err(Error::Diverged(format!(
            "the loss or its gradients are no longer finite numbers at step {step}; \
             lower `learning_rate` or `clip`"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_that_is_not_finite_is_remembered() {
        let mut readings = Readings::new(Device::Cpu);
        readings.check(0).unwrap();
        for (loss, fine) in [(1.0, true), (f64::NAN, false), (2.0, false)] {
            let loss = Tensor::from(loss);
            readings.keep(&loss, Tensor::from(0.5)).unwrap();
            assert_eq!(readings.check(1).is_ok(), fine);
        }
        assert_eq!(readings.last().unwrap(), Some((2.0, 0.5)));
        let mut readings = Readings::new(Device::Cpu);
        readings
            .keep(&Tensor::from(1.0), Tensor::from(f64::INFINITY))
            .unwrap();
        assert!(readings.check(1).is_err());
    }

    #[test]
    fn sums_go_on_where_they_were_saved() {
        let mut readings = Readings::new(Device::Cpu);
        let value = Tensor::from(0.1_f32);
        for _ in 0..3 {
            readings.add("loss", &value).unwrap();
        }
        let mut resumed = Readings::new(Device::Cpu);
        resumed.restore(&readings.sums().unwrap()).unwrap();
        for readings in [&mut readings, &mut resumed] {
            readings.add("loss", &value).unwrap();
        }
        assert_eq!(readings.sums().unwrap(), resumed.sums().unwrap());
        assert!((readings.sums().unwrap()["loss"] - 0.4).abs() < 1e-7);
    }
}
