//! How far predictions are from held-out frames, beside what needs no learning.
//!
//! The metric is the root mean square error in decibels of magnitude over all bins and frames, of
//! the predictive mean: dB = 20 log10, floored where the preprocessing's log-magnitudes are. Two
//! baselines are measured on the same frames: copying the last frame, and the mean of each bin
//! over the training split. A model that does not beat the first has learnt nothing.

use shard::Loader;
use stage_core::Cancel;
use tch::{Device, Kind, Tensor};

use super::FrameModel;
use super::decibels::Decibels;
use crate::Result;
use crate::data::chunk_of;
use crate::rows::Rows;
use crate::trainer::metrics::{Better, Metric};
use crate::trainer::update::wide;

/// The error over one pass of `loader`.
///
/// # Errors
/// Data cannot be read, libtorch fails, or a stop was asked for.
pub(super) fn validate(
    model: &dyn FrameModel,
    rows: &Rows,
    loader: &Loader,
    device: Device,
    cancel: &Cancel,
) -> Result<Metric> {
    let _guard = tch::no_grad_guard();
    let decibels = Decibels::of(rows)?;
    let mean: Vec<f32> = rows.mean.iter().map(|&x| x as f32).collect();
    let mean = decibels.forward(&Tensor::f_from_slice(&mean)?.f_to_device(device)?)?;
    let shape = loader.shape();
    let mut state = model.begin(shape.batch as i64)?;
    // Kept on the device until the end: reading a sum waits for it.
    let zero = || Tensor::f_zeros([0_i64; 0], (wide(device), device));
    let (mut sums, mut count) = ([zero()?, zero()?, zero()?], zero()?);
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
            let square = square.f_mul(&chunk.weight)?.f_sum(Kind::Float)?;
            *sum = sum.f_add(&square)?;
        }
        count = count.f_add(&chunk.weight.f_sum(Kind::Float)?)?;
    }
    let count = f64::try_from(count)? * decibels.bins() as f64;
    let mut errors = [0.0; 3];
    for (error, sum) in errors.iter_mut().zip(&sums) {
        *error = (f64::try_from(sum)? / count.max(1.0)).sqrt();
    }
    let [model, copy_previous, bin_mean] = errors;
    Ok(Metric::new("rmse", "dB", model, Better::Lower)
        .with("copy_previous", copy_previous)
        .with("bin_mean", bin_mean))
}
