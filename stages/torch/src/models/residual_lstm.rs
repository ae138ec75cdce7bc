//! Model `residual-lstm`: an LSTM over whole pieces that predicts the *change* of a log-magnitude
//! frame, and draws what it could not foresee from what it could not foresee in training.
//!
//! Let x be a frame, each bin normalised by mean and deviation of the training split.
//!
//! **Mean.** x̂ₜ₊₁ = xₜ + W hₜ + local(xₜ, xₜ₋₁, …), by squared error. h is a stack of LSTM layers,
//! with state carried through the piece. `local` is a small convolution over neighbouring bins
//! of the last frames, the same for all bins: how a partial decays or beats is the same law
//! everywhere, and learning it once instead of 513 times is worth most of the gain on minutes of
//! data (held-out error 0.86 of copying the last frame, against 0.93 without it).
//!
//! **Innovations.** A mean alone, fed back, fades into a drone. So xₜ₊₁ = x̂ₜ₊₁ + τ e, within each
//! bin's training range; τ is the temperature, and e an error that the trained mean made on a
//! training frame. Errors are drawn in runs: with probability 1/L the next comes from anywhere,
//! otherwise it is the successor of the last (stationary bootstrap, Politis & Romano 1994; L is
//! half a second, and no run is longer than three quarters of one). An attack thus keeps its
//! harmonics, its course and its rarity; when and on top of what it comes is new. Half seconds of the
//! corpus can be recognised in what is sampled: that is the price.
//!
//! A density trained by likelihood was tried in its place (a mixture for whole frames, scales by
//! bin and frame, noise correlated between bins). Its level and flux can be held near the corpus's
//! by bounds and by a gain found after training, but what it makes is a texture: the flux of the
//! liveliest frames is 2 to 3 times that of the usual ones, where the corpus has 8 and drawn
//! errors 4 to 6. Drawing errors from states like the present one (nearest neighbours of h) gets
//! caught: no attack ever lies near a state without one. Beginning each run at the best of 16
//! random places by what was foreseen there makes harmonies no steadier, and the log-mel Fréchet
//! distance to the corpus larger (114 against 92; between halves of the corpus 58).

use dsp::MagnitudeKind;
use stage_train::models::ResidualLstm as Config;
use tch::{Kind, Tensor};

use super::layers::{Conv1d, Linear, Lstm};
use super::{Chunk, Loss, Model, Moment, OpenPass, State};
use crate::params::{Init, Params};
use crate::rows::Rows;
use crate::tasks::frames::FrameModel;
use crate::{Error, Result};

mod innovations;

use innovations::KEPT;

/// Bins that each convolution sees.
const KERNEL: i64 = 5;
/// Length that runs of innovations have on average, in seconds, if nothing cuts them short.
const RUN_SECONDS: f64 = 0.5;
/// Longest run in seconds: no second of what is sampled is a second of the corpus.
const LONGEST_SECONDS: f64 = 0.75;

/// See the module.
#[derive(Debug)]
pub struct ResidualLstm {
    config: Config,
    params: Params,
    start: i64,
    bins: i64,
    width: i64,
    mean: Tensor,
    std: Tensor,
    low: Tensor,
    high: Tensor,
    input: Linear,
    layers: Vec<Lstm>,
    change: Linear,
    local: [Conv1d; 3],
    /// Errors on training frames, normalised, `(KEPT, bins)`; 0 until they are known.
    innovations: Tensor,
    /// `(KEPT)`: 1 where the next innovation is not the successor.
    ends: Tensor,
    /// Probability that a run of innovations ends after a frame.
    jump: f64,
    /// Frames of the longest run.
    longest: f64,
}

impl ResidualLstm {
    /// A model for rows that have a column `magnitude`, whose tensors come from `params`; other
    /// columns are ignored.
    ///
    /// # Errors
    /// There is no such column, or its magnitudes are not logarithmic; a tensor is missing; out of
    /// memory.
    pub fn new(config: &Config, rows: &Rows, mut params: Params) -> Result<Self> {
        let (start, bins) = rows.column("magnitude").ok_or_else(|| {
            Error::Data(
                "the data set has no column `magnitude`, which model `residual-lstm` reads"
                    .to_owned(),
            )
        })?;
        if rows.format()?.magnitude != MagnitudeKind::Log {
            return Err(Error::Data(
                "model `residual-lstm` reads log-magnitudes, but the data set's are linear; \
                 set `magnitude = \"log\"` in the featurize stage"
                    .to_owned(),
            ));
        }
        let device = params.device();
        let p = &mut params;
        let hidden = i64::from(config.hidden_size);
        let channels = i64::from(config.channels);
        let history = i64::from(config.history);
        let width = rows.width() as i64;
        let f = bins as i64;
        let zero = Init::Constant(0.0);
        let input = Linear::new(p, "input", f, hidden)?;
        let layers = (0..config.num_layers)
            .map(|i| Lstm::new(p, &format!("lstm.{i}"), hidden, hidden))
            .collect::<Result<Vec<_>>>()?;
        // Zero at first: the net begins as "copy the last frame" and improves on it.
        let change = Linear::with_init(p, "change", [hidden, f], zero, zero)?;
        let local = [
            Conv1d::new(p, "local.0", history, channels, KERNEL)?,
            Conv1d::new(p, "local.1", channels, channels, KERNEL)?,
            Conv1d::with_init(p, "local.2", [channels, 1, KERNEL], zero, zero)?,
        ];
        let constant = |values: Vec<f32>| -> Result<Tensor> {
            let all = Tensor::f_from_slice(&values)?;
            Ok(all.f_narrow(0, start as i64, f)?.f_to_device(device)?)
        };
        let mean = constant(rows.mean.iter().map(|&x| x as f32).collect())?;
        // A bin that never moves would be divided by zero.
        let std = constant(rows.std.iter().map(|&x| (x as f32).max(1e-3)).collect())?;
        let low = constant(rows.min.clone())?.f_sub(&mean)?.f_div(&std)?;
        let high = constant(rows.max.clone())?.f_sub(&mean)?.f_div(&std)?;
        let frame_rate = rows.format()?.frame_rate();
        let innovations = params.buffer("innovations", &[KEPT as i64, f], 0.0)?;
        let ends = params.buffer("ends", &[KEPT as i64], 1.0)?;
        Ok(Self {
            config: config.clone(),
            start: start as i64,
            bins: f,
            width,
            mean,
            std,
            low,
            high,
            input,
            layers,
            change,
            local,
            innovations,
            ends,
            jump: 1.0 / (RUN_SECONDS * frame_rate).max(1.0),
            longest: (LONGEST_SECONDS * frame_rate).round().max(1.0),
            params,
        })
    }

    fn normalise(&self, rows: &Tensor) -> Result<Tensor> {
        let x = rows.f_narrow(-1, self.start, self.bins)?;
        Ok(x.f_sub(&self.mean)?.f_div(&self.std)?)
    }

    /// The mean of the frame after each one, `(B, T, bins)`, normalised.
    ///
    /// State tensors have the stream first; libtorch's kernel wants `(1, B, hidden)`.
    fn forward(&self, x: &Tensor, state: &State, train: bool) -> Result<(Tensor, State)> {
        let (streams, frames, bins) = x.size3()?;
        let history = i64::from(self.config.history);
        let mut after = Vec::with_capacity(state.0.len());
        let mut h = self.input.forward(x)?; // (B, T, H)
        for (i, layer) in self.layers.iter().enumerate() {
            let hidden = state.0[2 * i].f_unsqueeze(0)?;
            let cell = state.0[2 * i + 1].f_unsqueeze(0)?;
            let (y, [hidden, cell]) = layer.forward(&h, [&hidden, &cell])?;
            after.push(hidden.f_squeeze_dim(0)?);
            after.push(cell.f_squeeze_dim(0)?);
            h = if i == 0 { y } else { y.f_add(&h)? };
            if self.config.dropout > 0.0 {
                h = h.f_dropout(self.config.dropout, train)?;
            }
        }
        // Differences to the frames before the chunk come from the state: (B, history - 1, F).
        let past = &state.0[2 * self.layers.len()];
        let all = Tensor::f_cat(&[past, x], 1)?; // (B, history - 1 + T, F)
        after.push(all.f_narrow(1, frames, history - 1)?.f_contiguous()?);
        after.push(state.0[2 * self.layers.len() + 1].shallow_clone());
        let mut planes = Vec::with_capacity(self.config.history as usize);
        planes.push(x.shallow_clone());
        for back in 1..history {
            let earlier = all.f_narrow(1, history - 1 - back, frames)?;
            planes.push(earlier.f_sub(x)?);
        }
        let planes = Tensor::f_stack(&planes, 2)?; // (B, T, history, F)
        let planes = planes.f_view([streams * frames, history, bins])?;
        let c = self.local[0].forward(&planes)?.f_gelu("none")?;
        let c = self.local[1].forward(&c)?.f_gelu("none")?;
        let c = self.local[2].forward(&c)?; // (B T, 1, F)
        let c = c.f_view([streams, frames, bins])?;
        let change = self.change.forward(&h)?.f_add(&c)?;
        Ok((x.f_add(&change)?, State(after)))
    }

    /// The state at the first row of `x`: as carried, or begun anew where `reset` is 1.
    fn entering(&self, x: &Tensor, reset: &Tensor, state: &State) -> Result<State> {
        let keep = reset.f_neg()?.f_add_scalar(1.0)?; // (B)
        let mut after = Vec::with_capacity(state.0.len());
        let recurrent = 2 * self.layers.len();
        for tensor in &state.0[..recurrent] {
            after.push(tensor.f_mul(&keep.f_unsqueeze(1)?)?);
        }
        // Before its first frame a piece is taken to have stood still.
        let history = i64::from(self.config.history) - 1;
        let first = x.f_narrow(1, 0, 1)?.f_expand([-1, history, -1], false)?;
        let fresh = reset.f_view([-1, 1, 1])?.f_gt(0.5)?;
        after.push(first.f_where_self(&fresh, &state.0[recurrent])?);
        // No innovation comes before the first.
        let run = &state.0[recurrent + 1]; // (B, 2)
        let none = run.f_full_like(-1.0)?;
        after.push(none.f_where_self(&reset.f_view([-1, 1])?.f_gt(0.5)?, run)?);
        Ok(State(after))
    }

    /// Each stream's innovation after that of `run` `(B, 2)`, the last one's place and how many of
    /// its run came before it: the same of the next, and the errors `(B, bins)`.
    fn innovation(&self, run: &Tensor) -> Result<(Tensor, Tensor)> {
        let options = (Kind::Float, self.params.device());
        let streams = run.size2()?.0;
        let last = run.f_select(1, 0)?;
        let length = run.f_select(1, 1)?.f_add_scalar(1.0)?;
        let ended = self
            .ends
            .f_index_select(0, &last.f_clamp_min(0.0)?.f_to_kind(Kind::Int64)?)?
            .f_gt(0.5)?
            .f_logical_or(&last.f_ge(KEPT as f64 - 1.0)?)?;
        let jump = Tensor::f_rand([streams], options)?
            .f_lt(self.jump)?
            .f_logical_or(&last.f_lt(0.0)?)?
            .f_logical_or(&ended)?
            .f_logical_or(&length.f_ge(self.longest)?)?;
        let anywhere = Tensor::f_randint(KEPT as i64, [streams], options)?;
        let next = anywhere.f_where_self(&jump, &last.f_add_scalar(1.0)?)?;
        let length = length.f_zeros_like()?.f_where_self(&jump, &length)?;
        let errors = self
            .innovations
            .f_index_select(0, &next.f_to_kind(Kind::Int64)?)?;
        Ok((Tensor::f_stack(&[next, length], 1)?, errors))
    }

    fn within_range(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_maximum(&self.low)?.f_minimum(&self.high)?)
    }
}

impl Model for ResidualLstm {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn buffers(&self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("ends", self.ends.shallow_clone()),
            ("innovations", self.innovations.shallow_clone()),
        ]
    }

    /// Keeps the errors that the trained mean makes on training frames.
    fn fit(&mut self, moment: Moment, open: OpenPass<'_>) -> Result<()> {
        if moment == Moment::BeforeTraining {
            return Ok(());
        }
        let (errors, ends) = innovations::collect(self, open()?)?;
        let _guard = tch::no_grad_guard();
        let errors = errors.f_narrow(-1, self.start, self.bins)?;
        self.innovations.f_copy_(&errors.f_div(&self.std)?)?;
        self.ends.f_copy_(&ends)?;
        Ok(())
    }

    fn begin(&self, streams: i64) -> Result<State> {
        let options = (Kind::Float, self.params.device());
        let hidden = i64::from(self.config.hidden_size);
        let mut state = Vec::new();
        for _ in 0..2 * self.layers.len() {
            state.push(Tensor::f_zeros([streams, hidden], options)?);
        }
        let history = i64::from(self.config.history) - 1;
        state.push(Tensor::f_zeros([streams, history, self.bins], options)?);
        // The run of innovations that is under way: none yet.
        state.push(Tensor::f_full([streams, 2], -1.0, options)?);
        Ok(State(state))
    }

    fn loss(&mut self, _group: usize, chunk: &Chunk, state: &State) -> Result<Loss> {
        let x = self.normalise(&chunk.rows)?; // (B, T + 1, F)
        let frames = x.size3()?.1 - 1;
        let target = x.f_narrow(1, 1, frames)?;
        let mut x = x.f_narrow(1, 0, frames)?;
        if self.config.input_noise > 0.0 {
            // Towards the true next frame all the same: the net learns to come back.
            x = x.f_add(&x.f_randn_like()?.f_mul_scalar(self.config.input_noise)?)?;
        }
        let state = self.entering(&x, &chunk.reset, state)?;
        let (mean, state) = self.forward(&x, &state, true)?;
        let weight = &chunk.weight; // (B, T)
        let count = weight.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        let square = target
            .f_sub(&mean)?
            .f_square()?
            .f_mean_dim(-1, false, Kind::Float)?;
        let square = square.f_mul(weight)?.f_sum(Kind::Float)?.f_div(&count)?;
        Ok(Loss {
            parts: vec![("mse", square.f_detach()?)],
            total: square,
            state: state.detach()?,
        })
    }
}

impl FrameModel for ResidualLstm {
    fn predict(&self, rows: &Tensor, reset: &Tensor, state: &State) -> Result<(Tensor, State)> {
        let x = self.normalise(rows)?;
        let state = self.entering(&x, reset, state)?;
        let (mean, state) = self.forward(&x, &state, false)?;
        Ok((self.to_rows(&self.within_range(&mean)?)?, state))
    }

    fn sample(
        &self,
        rows: &Tensor,
        reset: &Tensor,
        state: &State,
        temperature: &Tensor,
    ) -> Result<(Tensor, State)> {
        let x = self.normalise(rows)?;
        let state = self.entering(&x, reset, state)?;
        let (mean, mut state) = self.forward(&x, &state, false)?;
        let frames = x.size3()?.1;
        let mean = self.within_range(&mean.f_select(1, frames - 1)?)?; // (B, bins)
        let (run, errors) = self.innovation(&state.0[2 * self.layers.len() + 1])?;
        state.0[2 * self.layers.len() + 1] = run;
        let drawn = mean.f_add(&errors.f_mul(&temperature.f_unsqueeze(1)?)?)?;
        let drawn = self.within_range(&drawn)?.f_unsqueeze(1)?;
        Ok((self.to_rows(&drawn)?.f_squeeze_dim(1)?, state))
    }
}

impl ResidualLstm {
    /// Rows of the data set from normalised magnitudes; columns that are not modelled are 0.
    fn to_rows(&self, x: &Tensor) -> Result<Tensor> {
        let magnitudes = x.f_mul(&self.std)?.f_add(&self.mean)?;
        if self.bins == self.width {
            return Ok(magnitudes);
        }
        let (streams, frames, _) = x.size3()?;
        let rows = Tensor::f_zeros([streams, frames, self.width], (Kind::Float, x.device()))?;
        rows.f_narrow(-1, self.start, self.bins)?
            .f_copy_(&magnitudes)?;
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::PoisonError;

    use tch::Device;

    use super::*;
    use crate::params::GENERATOR;

    const FLOATS: (Kind, Device) = (Kind::Float, Device::Cpu);

    const BINS: i64 = 33;

    fn model() -> ResidualLstm {
        let format = dsp::FrameFormat {
            rate: 1378,
            config: dsp::StftConfig {
                n_fft: 64,
                hop: 16,
                win_length: 64,
                ..dsp::StftConfig::default()
            },
            magnitude: MagnitudeKind::Log,
            floor: Some(-10.0),
        };
        let width = BINS as usize;
        let rows = Rows {
            columns: vec![("magnitude".into(), BINS as u32)],
            mean: vec![0.0; width],
            std: vec![1.0; width],
            min: vec![-10.0; width],
            max: vec![0.0; width],
            frames: format.metadata(),
        };
        ResidualLstm::new(&Config::default(), &rows, Params::new(Device::Cpu, 0)).unwrap()
    }

    #[test]
    fn runs_of_innovations_are_successive_and_short() {
        let mut model = model();
        let kept = KEPT as i64;
        model.ends = Tensor::zeros([kept], FLOATS);
        let _alone = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(1);
        let mut run = Tensor::full([1, 2], -1.0, FLOATS);
        let (mut last, mut length, mut longest, mut runs) = (-9.0, 0.0, 0.0_f64, 0);
        for _ in 0..5000 {
            run = model.innovation(&run).unwrap().0;
            let place = run.double_value(&[0, 0]);
            assert!((0.0..KEPT as f64).contains(&place));
            length = if place == last + 1.0 {
                length + 1.0
            } else {
                1.0
            };
            runs += i32::from(length == 1.0);
            longest = longest.max(length);
            last = place;
        }
        assert_eq!(longest, model.longest, "0.75 s at 86 frames a second");
        let mean_length = 5000.0 / f64::from(runs);
        // E min(G, m) of a geometric G: (1 - (1 - p)^m) / p.
        let p = model.jump;
        let expected = (1.0 - (1.0 - p).powf(model.longest)) / p;
        assert!(
            (mean_length / expected - 1.0).abs() < 0.2,
            "{mean_length} {expected}"
        );
    }
}
