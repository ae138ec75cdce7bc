//! Magnitudes of rows in decibels.

use dsp::MagnitudeKind;
use tch::Tensor;

use crate::rows::Rows;
use crate::{Error, Result};

/// Decibels per neper.
const DB: f64 = 20.0 / std::f64::consts::LN_10;

/// What turns magnitudes as they stand in rows into decibels relative to a full-scale sine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decibels {
    first: i64,
    bins: i64,
    /// The factor that puts a full-scale sine at 1, for linear magnitudes.
    scale: Option<f64>,
    floor: f64,
}

impl Decibels {
    /// For rows of this kind.
    ///
    /// # Errors
    /// They have no magnitudes, or do not say what they are.
    pub(super) fn of(rows: &Rows) -> Result<Self> {
        let (first, bins) = rows
            .column("magnitude")
            .ok_or_else(|| Error::Data("the data set has no column `magnitude`".to_owned()))?;
        let format = rows.format()?;
        let scale = format.scale().map_err(|e| Error::Data(e.to_string()))?;
        Ok(Self {
            first: first as i64,
            bins: bins as i64,
            scale: (format.magnitude == MagnitudeKind::Linear).then(|| f64::from(scale.scale())),
            floor: f64::from(scale.floor()),
        })
    }

    /// Bins of a frame.
    pub(super) fn bins(&self) -> i64 {
        self.bins
    }

    /// The decibels of rows `(…, width)`: `(…, bins)`.
    ///
    /// # Errors
    /// libtorch fails.
    pub(super) fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        let x = rows.f_narrow(-1, self.first, self.bins)?;
        let nepers = match self.scale {
            Some(scale) => x
                .f_mul_scalar(scale)?
                .f_clamp_min(self.floor.exp())?
                .f_log()?,
            None => x.f_clamp_min(self.floor)?,
        };
        Ok(nepers.f_mul_scalar(DB)?)
    }
}
