//! How far predictions are from held-out frames, beside what needs no learning.
//!
//! Errors are root mean squares in decibels of magnitude over all bins and frames, of the
//! predictive mean: dB = 20 log10, floored where the road's log-magnitudes are. Two floors stand
//! beside them on the same frames: copying the last frame, and the mean of each bin over the
//! training split. A model that does not beat the first has learnt nothing.

use dsp::MagnitudeKind;
use serde::{Deserialize, Serialize};
use shard::Loader;
use stage_core::Cancel;
use tch::{Device, Kind, Tensor};

use crate::data::chunk_of;
use crate::models::{NextFrame, Rows};
use crate::{Error, Result};

/// Decibels per neper.
pub const DB: f64 = 20.0 / std::f64::consts::LN_10;

/// Root-mean-square errors in dB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Of the model.
    pub model: f64,
    /// Of the last frame taken for the next.
    pub copy_previous: f64,
    /// Of each bin's mean over the training split.
    pub bin_mean: f64,
}

impl Errors {
    /// The model's error as a share of copying the last frame.
    pub fn ratio(&self) -> f64 {
        self.model / self.copy_previous.max(1e-12)
    }
}

/// The errors over one pass of `loader`.
///
/// # Errors
/// Data cannot be read, libtorch fails, or a stop was asked for.
pub fn validate(
    model: &dyn NextFrame,
    rows: &Rows,
    loader: &Loader,
    device: Device,
    cancel: &Cancel,
) -> Result<Errors> {
    let _guard = tch::no_grad_guard();
    let decibels = Decibels::of(rows)?;
    let mean: Vec<f32> = rows.mean.iter().map(|&x| x as f32).collect();
    let mean = decibels.forward(&Tensor::f_from_slice(&mean)?.f_to_device(device)?)?;
    let shape = loader.shape();
    let mut state = model.begin(shape.batch as i64)?;
    let (mut sums, mut count) = ([0.0; 3], 0.0);
    for batch in loader.epoch(0)? {
        cancel.check()?;
        let chunk = chunk_of(batch?, shape, device)?;
        let frames = chunk.rows.size3()?.1 - 1;
        let now = chunk.rows.f_narrow(1, 0, frames)?;
        let (predicted, after) = model.predict(&now, &chunk.reset, &state)?;
        state = after;
        let target = decibels.forward(&chunk.rows.f_narrow(1, 1, frames)?)?;
        for (sum, guess) in sums.iter_mut().zip([
            decibels.forward(&predicted)?,
            decibels.forward(&now)?,
            mean.f_expand(target.size(), false)?,
        ]) {
            let square =
                target
                    .f_sub(&guess)?
                    .f_square()?
                    .f_sum_dim_intlist(-1, false, Kind::Float)?;
            *sum += f64::try_from(square.f_mul(&chunk.weight)?.f_sum(Kind::Float)?)?;
        }
        count += f64::try_from(chunk.weight.f_sum(Kind::Float)?)? * decibels.bins() as f64;
    }
    let [model, copy_previous, bin_mean] = sums.map(|sum| (sum / count.max(1.0)).sqrt());
    Ok(Errors {
        model,
        copy_previous,
        bin_mean,
    })
}

/// What turns magnitudes as they stand in rows into decibels relative to a full-scale sine.
#[derive(Debug, Clone, Copy)]
pub struct Decibels {
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
    pub fn of(rows: &Rows) -> Result<Self> {
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
    pub fn bins(&self) -> i64 {
        self.bins
    }

    /// The decibels of rows `(…, width)`: `(…, bins)`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn forward(&self, rows: &Tensor) -> Result<Tensor> {
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
