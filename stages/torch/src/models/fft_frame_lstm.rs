//! Model `fft-frame-lstm`: the classic window-to-frame LSTM on magnitudes and phases.
//!
//! Magnitude and phase of a window of frames, side by side and with spectral descriptors
//! appended, go through a stack of LSTM layers that begins every window from zero; a linear head
//! on the last step gives magnitude and phase of the next frame, by mean squared error.
//!
//! What commonly goes wrong with this design is mended, the design is kept: every value is
//! scaled by mean and deviation of the training split; the columns have one fixed order;
//! predictions are fed back, with the descriptors of each predicted frame computed from it by
//! the code that computed the corpus's; and the error of a phase is the shorter way around the
//! circle, so that −π and π are neighbours. A phase mean is still a poor thing to regress (it
//! moves with the frame's position in time): Griffin-Lim from the predicted magnitudes is the
//! better end of the road, and is offered by the predict stage.

use std::f64::consts::PI;

use dsp::{Descriptors, FrameFormat, Stft};
use stage_train::models::FftFrameLstm as Config;
use tch::{Device, Kind, Tensor};

use super::layers::{Linear, Lstm};
use super::{Chunk, Loss, Model, State};
use crate::params::{Init, Params};
use crate::rows::Rows;
use crate::tasks::frames::FrameModel;
use crate::{Error, Result};

/// Most values of the windows of the rows that are read at a time.
const MAX_WINDOWED: usize = 1 << 28;

/// See the module.
#[derive(Debug)]
pub struct FftFrameLstm {
    config: Config,
    params: Params,
    width: i64,
    bins: i64,
    magnitude: i64,
    phase: i64,
    /// First value of the descriptors and their number, when the data set has them.
    descriptors: Option<(i64, i64)>,
    format: FrameFormat,
    mean: Tensor,
    std: Tensor,
    low: Tensor,
    high: Tensor,
    layers: Vec<Lstm>,
    head: Linear,
}

impl FftFrameLstm {
    /// A model for rows with columns `magnitude` and `phase`, and `descriptors` if wanted, whose
    /// tensors come from `params`.
    ///
    /// # Errors
    /// A column is missing, or a tensor; out of memory.
    pub fn new(config: &Config, rows: &Rows, mut params: Params) -> Result<Self> {
        let missing = |column: &str| {
            Error::Data(format!(
                "the data set has no column `{column}`, which model `fft-frame-lstm` reads; \
                 switch it on in the featurize and dataset stages"
            ))
        };
        let (magnitude, bins) = rows
            .column("magnitude")
            .ok_or_else(|| missing("magnitude"))?;
        let (phase, phases) = rows.column("phase").ok_or_else(|| missing("phase"))?;
        if bins != phases {
            return Err(Error::Data(format!(
                "`phase` has {phases} values a frame, `magnitude` {bins}: expected as many"
            )));
        }
        let width = rows.width();
        // Fixed order, whatever the columns are called: all that is neither of the two.
        let first = (0..width).find(|&i| {
            let within = |start: usize| (start..start + bins).contains(&i);
            !within(magnitude) && !within(phase)
        });
        let extra = width - 2 * bins;
        if extra != 0 && extra != dsp::DESCRIPTORS.len() {
            return Err(Error::Data(format!(
                "the rows have {extra} values beside magnitude and phase, expected 0 or the {} \
                 descriptors",
                dsp::DESCRIPTORS.len()
            )));
        }
        let device = params.device();
        let hidden = i64::from(config.hidden_size);
        let inputs = width as i64;
        let mut layers = Vec::new();
        for i in 0..config.num_layers {
            let inputs = if i == 0 { inputs } else { hidden };
            layers.push(Lstm::new(
                &mut params,
                &format!("lstm.{i}"),
                inputs,
                hidden,
            )?);
        }
        let bound = Init::Uniform(1.0 / (hidden as f64).sqrt());
        let head = Linear::with_init(&mut params, "head", [hidden, 2 * bins as i64], bound, bound)?;
        let constant = |values: Vec<f32>| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(&values)?.f_to_device(device)?)
        };
        Ok(Self {
            config: config.clone(),
            width: inputs,
            bins: bins as i64,
            magnitude: magnitude as i64,
            phase: phase as i64,
            descriptors: first
                .map(|first| (first as i64, extra as i64))
                .filter(|d| d.1 > 0),
            format: rows.format()?,
            mean: constant(rows.mean.iter().map(|&x| x as f32).collect())?,
            std: constant(rows.std.iter().map(|&x| (x as f32).max(1e-6)).collect())?,
            low: constant(rows.min.clone())?,
            high: constant(rows.max.clone())?,
            layers,
            head,
            params,
        })
    }

    /// The prediction for windows of raw rows `(N, window, width)`: scaled, `(N, 2 bins)`.
    fn net(&self, windows: &Tensor, train: bool) -> Result<Tensor> {
        let mut h = windows.f_sub(&self.mean)?.f_div(&self.std)?;
        let n = h.size3()?.0;
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 && self.config.dropout > 0.0 {
                h = h.f_dropout(self.config.dropout, train)?;
            }
            let [h0, c0] = layer.zero_state(n)?;
            h = layer.forward(&h, [&h0, &c0])?.0;
        }
        self.head.forward(&h.f_select(1, -1)?)
    }

    fn of(&self, constants: &Tensor, start: i64) -> Result<Tensor> {
        Ok(constants.f_narrow(0, start, self.bins)?)
    }

    /// Raw rows from scaled predictions `(N, 2 bins)`: in range, phases in (−π, π], descriptors 0.
    fn to_rows(&self, y: &Tensor) -> Result<Tensor> {
        let unscale = |at: i64, start: i64| -> Result<Tensor> {
            let part = y.f_narrow(1, at, self.bins)?;
            Ok(part
                .f_mul(&self.of(&self.std, start)?)?
                .f_add(&self.of(&self.mean, start)?)?)
        };
        let magnitude = unscale(0, self.magnitude)?
            .f_maximum(&self.of(&self.low, self.magnitude)?)?
            .f_minimum(&self.of(&self.high, self.magnitude)?)?;
        let phase = wrap(&unscale(self.bins, self.phase)?)?;
        let rows = Tensor::f_zeros([y.size2()?.0, self.width], (Kind::Float, y.device()))?;
        rows.f_narrow(1, self.magnitude, self.bins)?
            .f_copy_(&magnitude)?;
        rows.f_narrow(1, self.phase, self.bins)?.f_copy_(&phase)?;
        Ok(rows)
    }

    /// Fills in the descriptors of `rows` `(N, width)` from their magnitudes and those of the
    /// frames before them, `(N, width)`: the descriptors' flux looks one frame back.
    fn describe(&self, rows: &Tensor, before: &Tensor) -> Result<()> {
        let Some((start, count)) = self.descriptors else {
            return Ok(());
        };
        let stft = Stft::new(self.format.config).map_err(|e| Error::Data(e.to_string()))?;
        let scale = self
            .format
            .scale()
            .map_err(|e| Error::Data(e.to_string()))?;
        let unscaled = |rows: &Tensor| -> Result<Vec<Vec<f32>>> {
            let part = rows
                .f_narrow(1, self.magnitude, self.bins)?
                .f_to_device(Device::Cpu)?;
            let mut frames = Vec::<Vec<f32>>::try_from(part)?;
            for frame in &mut frames {
                let stored = frame.clone();
                self.format.unscaled(&scale, &stored, frame);
            }
            Ok(frames)
        };
        let mut values = Vec::new();
        for (now, last) in unscaled(rows)?.iter().zip(&unscaled(before)?) {
            let mut descriptors = Descriptors::new(stft.window(), self.format.rate);
            descriptors.next(last);
            values.extend_from_slice(&descriptors.next(now));
        }
        let values = Tensor::f_from_slice(&values)?.f_view([-1, count])?;
        let values = values.f_to_device(rows.device())?;
        rows.f_narrow(1, start, count)?.f_copy_(&values)?;
        Ok(())
    }

    /// All windows that end at each of the rows `(B, T, width)`: `(B T, window, width)`.
    fn windows(&self, rows: &Tensor, reset: &Tensor, state: &State) -> Result<(Tensor, State)> {
        let frames = rows.size3()?.1;
        let past = i64::from(self.config.window) - 1;
        let first = rows.f_narrow(1, 0, 1)?.f_expand([-1, past, -1], false)?;
        let fresh = reset.f_view([-1, 1, 1])?.f_gt(0.5)?;
        let before = first.f_where_self(&fresh, &state.0[0])?;
        let all = Tensor::f_cat(&[&before, rows], 1)?;
        let after = all.f_narrow(1, frames, past)?.f_contiguous()?;
        let windows = all
            .f_unfold(1, past + 1, 1)? // (B, T, width, window)
            .f_permute([0, 1, 3, 2])?
            .f_reshape([-1, past + 1, self.width])?;
        Ok((windows, State(vec![after])))
    }
}

/// The principal angle, in (−π, π] up to rounding.
fn wrap(phase: &Tensor) -> Result<Tensor> {
    let turns = phase.f_div_scalar(2.0 * PI)?.f_round()?;
    Ok(phase.f_sub(&turns.f_mul_scalar(2.0 * PI)?)?)
}

impl Model for FftFrameLstm {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn begin(&self, streams: i64) -> Result<State> {
        let past = i64::from(self.config.window) - 1;
        let options = (Kind::Float, self.params.device());
        Ok(State(vec![Tensor::f_zeros(
            [streams, past, self.width],
            options,
        )?]))
    }

    fn loss(&mut self, _group: usize, chunk: &Chunk, state: &State) -> Result<Loss> {
        let frames = chunk.rows.size3()?.1 - 1;
        let windows = chunk.rows.f_narrow(1, 0, frames)?;
        let y = self.net(&windows, true)?;
        let target = chunk.rows.f_select(1, frames)?;
        let scaled = |start: i64| -> Result<Tensor> {
            let part = target.f_narrow(1, start, self.bins)?;
            Ok(part
                .f_sub(&self.of(&self.mean, start)?)?
                .f_div(&self.of(&self.std, start)?)?)
        };
        let magnitude = y
            .f_narrow(1, 0, self.bins)?
            .f_sub(&scaled(self.magnitude)?)?;
        // The shorter way around, back in scaled units.
        let std = self.of(&self.std, self.phase)?;
        let phase = y
            .f_narrow(1, self.bins, self.bins)?
            .f_sub(&scaled(self.phase)?)?;
        let phase = wrap(&phase.f_mul(&std)?)?.f_div(&std)?;
        let magnitude = magnitude.f_square()?.f_mean(Kind::Float)?;
        let phase = phase.f_square()?.f_mean(Kind::Float)?;
        Ok(Loss {
            total: magnitude.f_add(&phase)?.f_mul_scalar(0.5)?,
            parts: vec![
                ("magnitude", magnitude.f_detach()?),
                ("phase", phase.f_detach()?),
            ],
            state: state.share(),
        })
    }
}

impl FrameModel for FftFrameLstm {
    fn min_prompt(&self) -> usize {
        self.config.window as usize
    }

    fn rows_at_a_time(&self) -> i64 {
        let window = (self.config.window as usize).saturating_mul(self.width as usize);
        i64::try_from(MAX_WINDOWED / window.max(1)).unwrap_or(i64::MAX)
    }

    fn predict(&self, rows: &Tensor, reset: &Tensor, state: &State) -> Result<(Tensor, State)> {
        let (streams, frames, width) = rows.size3()?;
        let (windows, state) = self.windows(rows, reset, state)?;
        let y = self.to_rows(&self.net(&windows, false)?)?;
        Ok((y.f_view([streams, frames, width])?, state))
    }

    fn sample(
        &self,
        rows: &Tensor,
        reset: &Tensor,
        state: &State,
        _temperature: &Tensor,
    ) -> Result<(Tensor, State)> {
        let frames = rows.size3()?.1;
        let (windows, state) = self.windows(rows, reset, state)?;
        let window = i64::from(self.config.window);
        let last = windows
            .f_view([-1, frames, window, self.width])?
            .f_select(1, frames - 1)?;
        let y = self.to_rows(&self.net(&last, false)?)?;
        self.describe(&y, &rows.f_select(1, frames - 1)?)?;
        Ok((y, state))
    }
}
