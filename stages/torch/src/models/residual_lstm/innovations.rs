//! What surprised a model in its training split, kept as the source of its liveliness.
//!
//! A mean alone, fed back, fades into a drone, so sampling adds to each mean an *innovation*: what
//! the model could not foresee. It is taken from recordings, not from a parametric density: the
//! residual bootstrap of time series, in runs of random length (the stationary bootstrap of
//! Politis & Romano, 1994), so that an attack keeps its harmonics and the frames after it.

use tch::{Device, Kind, Tensor};

use crate::models::Pass;
use crate::tasks::frames::FrameModel;
use crate::{Error, Result};

/// Frames that are kept: 48 s at the default preprocessing, 8 MiB.
pub(crate) const KEPT: usize = 4096;
/// Most frames of the training split that are read, as a multiple of those kept.
const READ: usize = 16;

/// The errors of the model's mean on runs spread over the training split, `(KEPT, width)` in the
/// units of rows, and `(KEPT)`: 1 where the next is not the successor.
///
/// # Errors
/// Data cannot be read, libtorch fails, or a stop was asked for.
pub(crate) fn collect(model: &dyn FrameModel, pass: Pass<'_>) -> Result<(Tensor, Tensor)> {
    let _guard = tch::no_grad_guard();
    let device = model.params().device();
    let total = usize::try_from(pass.rows).unwrap_or(usize::MAX);
    let stride = total.min(READ * KEPT).div_ceil(KEPT).max(1);
    let (mut runs, mut ends, mut kept) = (Vec::new(), Vec::new(), 0);
    let mut state = model.begin(pass.streams)?;
    for (i, chunk) in pass.chunks.enumerate() {
        let chunk = chunk?;
        let frames = chunk.rows.size3()?.1 - 1;
        let now = chunk.rows.f_narrow(1, 0, frames)?;
        let (mean, after) = model.predict(&now, &chunk.reset, &state)?;
        state = after;
        let error = chunk.rows.f_narrow(1, 1, frames)?.f_sub(&mean)?;
        let lengths = chunk
            .weight
            .f_sum_dim_intlist(1, false, Kind::Float)?
            .f_to_device(Device::Cpu)?;
        for (stream, length) in Vec::<f32>::try_from(lengths)?.into_iter().enumerate() {
            let length = length as usize;
            // Every stride-th chunk, another stream each time.
            if length == 0 || (i + stream) % stride != 0 {
                continue;
            }
            runs.push(
                error
                    .f_get(stream as i64)?
                    .f_narrow(0, 0, length as i64)?
                    .f_contiguous()?,
            );
            ends.extend(std::iter::repeat_n(0.0_f32, length - 1));
            ends.push(1.0);
            kept += length;
        }
        if kept >= KEPT {
            break;
        }
    }
    if kept == 0 {
        return Err(Error::Data(
            "the training split has no two frames in a row; add longer pieces".to_owned(),
        ));
    }
    // A small corpus is kept more than once.
    let times = KEPT.div_ceil(kept) as i64;
    let runs = Tensor::f_cat(&runs, 0)?.f_repeat([times, 1])?;
    let ends = Tensor::f_from_slice(&ends)?.f_repeat([times])?;
    let ends = ends.f_narrow(0, 0, KEPT as i64)?.f_to_device(device)?;
    Ok((runs.f_narrow(0, 0, KEPT as i64)?, ends))
}
