//! The default model: an LSTM over whole pieces that predicts the *change* of a log-magnitude
//! frame, and a density of what it could not foresee, from which frames are drawn.
//!
//! Let x be a frame, each bin normalised by mean and deviation of the training split.
//!
//! **Mean.** x̂ₜ₊₁ = xₜ + W hₜ + local(xₜ, xₜ₋₁, …), by squared error. h is a stack of LSTM layers,
//! with state carried through the piece. `local` is a small convolution over neighbouring bins
//! of the last frames, the same for all bins: how a partial decays or beats is the same law
//! everywhere, and learning it once instead of 513 times is worth most of the gain on minutes of
//! data (held-out error 0.86 of copying the last frame, against 0.93 without it).
//!
//! **Density.** A mean alone, fed back, fades into a drone. The residual e = xₜ₊₁ − x̂ₜ₊₁ (cut off
//! from the gradient of the mean) is e = s(h, local) ∘ (μₘ + σₘ ∘ z): a scale per bin and frame; a
//! mixture component m drawn for the whole frame with probability π(h), because onsets are rare
//! and move many bins at once (mixture density network, Bishop 1994); z standard normal and
//! correlated between bins, since a window's main lobe spreads each partial over several. The
//! correlation is an exponential average over training, not a gradient's work. We do not regress
//! x itself by likelihood: its mean is then worse than copying the last frame.
//!
//! **Drift.** Sampled frames lead to places where no recording ever was, where the density widens,
//! which leads further away. So each bin is kept within its training range; the mean log-scale of
//! a frame is kept below what 95 % of training frames have (without that bound free running ends
//! in hiss 8 dB too loud, with it level and flux stay the corpus's for as long as was tried); and
//! z is scaled by one gain, found after training by continuing validation pieces freely at many
//! gains at once (see [`crate::calibrate`]). Training on frames that the model drew itself
//! (scheduled sampling) was tried in its place: in minutes of training it costs the mean 8 % of
//! error and does not hold the level.

use std::cell::RefCell;

use dsp::MagnitudeKind;
use stage_train::ResidualConfig;
use tch::{Device, IndexOp, Kind, Tensor};

use super::layers::{Conv1d, Linear, Lstm};
use super::{Chunk, Draw, Loss, NextFrame, Rows, State};
use crate::params::{Init, Params};
use crate::{Error, Result};

/// Bins that each convolution sees.
const KERNEL: i64 = 5;
/// Share of each step in the running means of correlation and ceiling.
const RUNNING_RATE: f64 = 0.05;
/// Log-scales are kept in this range: beyond it a bin is silent or wild.
const LOG_SCALE: (f64, f64) = (-7.0, 3.0);

/// See the module.
#[derive(Debug)]
pub struct Residual {
    config: ResidualConfig,
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
    scale: Linear,
    mixture: Linear,
    local: [Conv1d; 3],
    component_mean: Tensor,
    component_scale: Tensor,
    /// Mean of z zᵀ over training, `(bins, bins)`.
    correlation: Tensor,
    /// What the mean log-scale of 95 % of training frames stays below, `(1)`.
    ceiling: Tensor,
    /// Factor of z when sampling, `(1)`.
    gain: Tensor,
    /// Root of the correlation while it does not change, see [`Residual::correlated`].
    root: RefCell<Option<Tensor>>,
}

/// What the net says of the frame after each one it read.
struct Density {
    /// `(B, T, bins)`, normalised.
    mean: Tensor,
    /// `(B, T, bins)`, natural logarithm.
    log_scale: Tensor,
    /// `(B, T, components)`, log-probabilities.
    log_mixture: Tensor,
}

impl Residual {
    /// A fresh model for rows that have a column `magnitude`; other columns are ignored.
    ///
    /// # Errors
    /// There is no such column, or its magnitudes are not logarithmic; out of memory.
    pub fn new(config: &ResidualConfig, rows: &Rows, device: Device, seed: u64) -> Result<Self> {
        let (start, bins) = rows.column("magnitude").ok_or_else(|| {
            Error::Data(
                "the data set has no column `magnitude`, which preset `residual` reads".to_owned(),
            )
        })?;
        if rows.format()?.magnitude != MagnitudeKind::Log {
            return Err(Error::Data(
                "preset `residual` reads log-magnitudes, but the data set's are linear; \
                 set `magnitude = \"log\"` in the featurize stage"
                    .to_owned(),
            ));
        }
        let mut params = Params::new(device, seed);
        let p = &mut params;
        let hidden = i64::from(config.hidden_size);
        let channels = i64::from(config.channels);
        let history = i64::from(config.history);
        let components = i64::from(config.components);
        let width = rows.width() as i64;
        let f = bins as i64;
        let zero = Init::Constant(0.0);
        let input = Linear::new(p, "input", f, hidden)?;
        let layers = (0..config.num_layers)
            .map(|i| Lstm::new(p, &format!("lstm.{i}"), hidden, hidden))
            .collect::<Result<Vec<_>>>()?;
        // Zero at first: the net begins as "copy the last frame" and improves on it.
        let change = Linear::with_init(p, "change", [hidden, f], zero, zero)?;
        let scale = Linear::with_init(p, "scale", [hidden, f], zero, Init::Constant(-1.0))?;
        let mixture = Linear::new(p, "mixture", hidden, components)?;
        let local = [
            Conv1d::new(p, "local.0", history, channels, KERNEL)?,
            Conv1d::new(p, "local.1", channels, channels, KERNEL)?,
            Conv1d::with_init(p, "local.2", [channels, 2, KERNEL], zero, zero)?,
        ];
        let component_mean = p.add("component.mean", &[components, f], Init::Normal(0.3))?;
        let mut component_scale = p.add("component.log_scale", &[components, f], zero)?;
        {
            // Spread from half to twice, so that components do not begin as one.
            let _guard = tch::no_grad_guard();
            let spread = Tensor::f_linspace(-0.5, 0.5, components, (Kind::Float, device))?;
            component_scale.f_copy_(&spread.f_unsqueeze(1)?.f_expand([components, f], true)?)?;
        }
        let constant = |values: Vec<f32>| -> Result<Tensor> {
            let all = Tensor::f_from_slice(&values)?;
            Ok(all.f_narrow(0, start as i64, f)?.f_to_device(device)?)
        };
        let mean = constant(rows.mean.iter().map(|&x| x as f32).collect())?;
        // A bin that never moves would be divided by zero.
        let std = constant(rows.std.iter().map(|&x| (x as f32).max(1e-3)).collect())?;
        let low = (constant(rows.min.clone())? - &mean) / &std;
        let high = (constant(rows.max.clone())? - &mean) / &std;
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
            scale,
            mixture,
            local,
            component_mean,
            component_scale,
            correlation: Tensor::f_eye(f, (Kind::Float, device))?,
            ceiling: Tensor::f_zeros([1], (Kind::Float, device))?,
            gain: Tensor::f_ones([1], (Kind::Float, device))?,
            root: RefCell::new(None),
            params,
        })
    }

    fn normalise(&self, rows: &Tensor) -> Result<Tensor> {
        let x = rows.f_narrow(-1, self.start, self.bins)?;
        Ok(x.f_sub(&self.mean)?.f_div(&self.std)?)
    }

    /// State tensors have the stream first; libtorch's kernel wants `(1, B, hidden)`.
    fn forward(&self, x: &Tensor, state: &State, train: bool) -> Result<(Density, State)> {
        let (streams, frames, bins) = x.size3()?;
        let history = i64::from(self.config.history);
        let mut after = Vec::with_capacity(state.0.len());
        let mut h = self.input.forward(x)?; // (B, T, H)
        for (i, layer) in self.layers.iter().enumerate() {
            let [hidden, cell] = [&state.0[2 * i], &state.0[2 * i + 1]].map(|s| s.unsqueeze(0));
            let (y, [hidden, cell]) = layer.forward(&h, [&hidden, &cell])?;
            after.push(hidden.f_squeeze_dim(0)?);
            after.push(cell.f_squeeze_dim(0)?);
            h = if i == 0 { y } else { y + &h };
            if self.config.dropout > 0.0 {
                h = h.f_dropout(self.config.dropout, train)?;
            }
        }
        // Differences to the frames before the chunk come from the state: (B, history - 1, F).
        let past = &state.0[2 * self.layers.len()];
        let all = Tensor::f_cat(&[past, x], 1)?; // (B, history - 1 + T, F)
        after.push(all.f_narrow(1, frames, history - 1)?.f_contiguous()?);
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
        let c = self.local[2].forward(&c)?; // (B T, 2, F)
        let c = c.f_view([streams, frames, 2, bins])?;
        let change = self.change.forward(&h)?.f_add(&c.f_select(2, 0)?)?;
        let log_scale = self.scale.forward(&h)?.f_add(&c.f_select(2, 1)?)?;
        let density = Density {
            mean: x.f_add(&change)?,
            log_scale: log_scale.f_clamp(LOG_SCALE.0, LOG_SCALE.1)?,
            log_mixture: self.mixture.forward(&h)?.f_log_softmax(-1, Kind::Float)?,
        };
        Ok((density, State(after)))
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
        Ok(State(after))
    }

    /// Log-density of whitened residuals `(N, F)` under each component: `(N, M)`.
    ///
    /// Expanded into two products, so that no `(N, M, F)` is ever made.
    fn component_log_density(&self, e: &Tensor) -> Result<Tensor> {
        let precision = self.component_scale.f_mul_scalar(-2.0)?.f_exp()?; // (M, F)
        let weighted = self.component_mean.f_mul(&precision)?;
        let square = e.f_square()?.f_matmul(&precision.f_tr()?)?;
        let cross = e.f_matmul(&weighted.f_tr()?)?;
        let constant =
            self.component_mean
                .f_mul(&weighted)?
                .f_sum_dim_intlist(1, false, Kind::Float)?;
        let volume = self
            .component_scale
            .f_sum_dim_intlist(1, false, Kind::Float)?;
        let quadratic = square - cross * 2.0 + constant;
        let normaliser = 0.5 * self.bins as f64 * (2.0 * std::f64::consts::PI).ln();
        Ok(quadratic * -0.5 - volume - normaliser)
    }

    /// Lower triangle whose rows give correlated normals of (nearly) the estimated covariance.
    fn correlated(&self) -> Result<Tensor> {
        if let Some(root) = self.root.borrow().as_ref() {
            return Ok(root.shallow_clone());
        }
        let deviation = self
            .correlation
            .f_diagonal(0, 0, 1)?
            .f_clamp(1e-4, 1e4)?
            .f_sqrt()?;
        let outer = deviation.f_outer(&deviation)?;
        let r = self.correlation.f_div(&outer)?;
        // A little of the identity keeps it positive definite in f32.
        let identity = Tensor::f_eye(self.bins, (Kind::Float, self.params.device()))?;
        let r = r * 0.98 + identity * 0.02;
        // On the CPU: Metal has no Cholesky. Once per chunk in training, once per tune in sampling.
        let lower = r
            .f_to_device(Device::Cpu)?
            .f_linalg_cholesky(false)?
            .f_to_device(self.params.device())?;
        // Outliers that no component explains must not be drawn as if they were usual.
        let root = lower.f_mul(&deviation.f_clamp_max(1.5)?.f_unsqueeze(1)?)?;
        *self.root.borrow_mut() = Some(root.shallow_clone());
        Ok(root)
    }

    /// Draws one frame per stream from a density of one frame, `(B, 1, F)`, within the training
    /// range.
    fn draw(&self, density: &Density, how: &Draw<'_>) -> Result<Tensor> {
        let (streams, _, bins) = density.mean.size3()?;
        let mixture = density.log_mixture.f_view([streams, -1])?.f_exp()?;
        let m = mixture.f_multinomial(1, true)?.f_squeeze_dim(1)?;
        let z = Tensor::f_randn([streams, bins], (Kind::Float, self.params.device()))?;
        let z = z.f_matmul(&self.correlated()?.f_tr()?)?;
        let spread = self.component_scale.f_index_select(0, &m)?.f_exp()?;
        let centre = self.component_mean.f_index_select(0, &m)?;
        let scale = density.log_scale.f_view([streams, bins])?;
        let above = scale
            .f_mean_dim(1, true, Kind::Float)?
            .f_sub(&self.ceiling)?;
        let scale = scale.f_sub(&above.f_clamp_min(0.0)?)?.f_exp()?;
        let gain = how.gain.unwrap_or(&self.gain).f_unsqueeze(1)?;
        // The gain leaves the components' means alone: a damped onset would be no onset.
        let z = z.f_mul(&spread)?.f_mul(&gain)?;
        let e = z
            .f_add(&centre)?
            .f_mul(&scale)?
            .f_mul(&how.temperature.f_unsqueeze(1)?)?;
        let x = density.mean.f_add(&e.f_unsqueeze(1)?)?;
        Ok(x.f_maximum(&self.low)?.f_minimum(&self.high)?)
    }

    /// Updates the running ceiling from log-scales `(B, T, F)`.
    fn learn_ceiling(&mut self, log_scale: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let means = log_scale.f_mean_dim(-1, false, Kind::Float)?.f_view([-1])?;
        let (sorted, _) = means.f_sort(0, false)?;
        let n = sorted.size1()?;
        let seen = sorted.f_narrow(0, (n as f64 * 0.95) as i64, 1)?;
        let _ = self.ceiling.f_lerp_(&seen, RUNNING_RATE)?;
        Ok(())
    }

    /// Updates the running correlation from whitened residuals `(N, F)`.
    fn learn_correlation(
        &mut self,
        e: &Tensor,
        log_density: &Tensor,
        weight: &Tensor,
    ) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let m = log_density.f_argmax(1, false)?;
        let centre = self.component_mean.f_index_select(0, &m)?;
        let spread = self
            .component_scale
            .f_index_select(0, &m)?
            .f_neg()?
            .f_exp()?;
        let z = e.f_sub(&centre)?.f_mul(&spread)?.f_clamp(-5.0, 5.0)?;
        let z = z.f_mul(&weight.f_unsqueeze(1)?)?;
        let n = weight.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        let seen = z.f_tr()?.f_matmul(&z)?.f_div(&n)?;
        *self.root.borrow_mut() = None;
        let _ = self.correlation.f_lerp_(&seen, RUNNING_RATE)?;
        Ok(())
    }
}

impl NextFrame for Residual {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn buffers(&self) -> Vec<(&'static str, Tensor)> {
        vec![
            ("ceiling", self.ceiling.shallow_clone()),
            ("correlation", self.correlation.shallow_clone()),
            ("gain", self.gain.shallow_clone()),
        ]
    }

    fn restored(&mut self) {
        *self.root.borrow_mut() = None;
    }

    fn gain(&self) -> f64 {
        self.gain.double_value(&[0])
    }

    fn set_gain(&mut self, gain: f64) {
        let _guard = tch::no_grad_guard();
        let _ = self.gain.fill_(gain);
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
        Ok(State(state))
    }

    fn loss(&mut self, chunk: &Chunk, state: &State) -> Result<Loss> {
        let x = self.normalise(&chunk.rows)?; // (B, T + 1, F)
        let frames = x.size3()?.1 - 1;
        let target = x.f_narrow(1, 1, frames)?;
        let x = x.f_narrow(1, 0, frames)?;
        let state = self.entering(&x, &chunk.reset, state)?;
        let (density, state) = self.forward(&x, &state, true)?;
        let weight = &chunk.weight; // (B, T)
        let count = weight.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        let error = target.f_sub(&density.mean)?;
        let square = error.f_square()?.f_mean_dim(-1, false, Kind::Float)?;
        let square = square.f_mul(weight)?.f_sum(Kind::Float)?.f_div(&count)?;
        // The density explains what the mean left; it must not talk the mean into anything.
        let e = error
            .f_detach()?
            .f_mul(&density.log_scale.f_neg()?.f_exp()?)?;
        let e = e.f_reshape([-1, self.bins])?;
        let mixture = density
            .log_mixture
            .f_reshape([-1, i64::from(self.config.components)])?;
        let log_density = self.component_log_density(&e)?.f_add(&mixture)?;
        let volume = density
            .log_scale
            .f_reshape([-1, self.bins])?
            .f_sum_dim_intlist(1, false, Kind::Float)?;
        let nll = volume.f_sub(&log_density.f_logsumexp(1, false)?)?;
        let flat = weight.f_reshape([-1])?;
        let nll = nll
            .f_mul(&flat)?
            .f_sum(Kind::Float)?
            .f_div(&count)?
            .f_div_scalar(self.bins as f64)?;
        self.learn_ceiling(&density.log_scale)?;
        self.learn_correlation(&e, &log_density, &flat)?;
        let total = square.f_add(&nll.f_mul_scalar(self.config.density_weight)?)?;
        Ok(Loss {
            total,
            parts: vec![("mse", square.f_detach()?), ("nll", nll.f_detach()?)],
            state: state.detach(),
        })
    }

    fn predict(&self, rows: &Tensor, reset: &Tensor, state: &State) -> Result<(Tensor, State)> {
        let x = self.normalise(rows)?;
        let state = self.entering(&x, reset, state)?;
        let (density, state) = self.forward(&x, &state, false)?;
        let mean = density.mean.f_maximum(&self.low)?.f_minimum(&self.high)?;
        Ok((self.to_rows(&mean)?, state))
    }

    fn sample(
        &self,
        rows: &Tensor,
        reset: &Tensor,
        state: &State,
        how: &Draw<'_>,
    ) -> Result<(Tensor, State)> {
        let x = self.normalise(rows)?;
        let state = self.entering(&x, reset, state)?;
        let (density, state) = self.forward(&x, &state, false)?;
        let frames = x.size3()?.1;
        let last = |t: &Tensor| t.i((.., frames - 1..frames, ..));
        let density = Density {
            mean: last(&density.mean),
            log_scale: last(&density.log_scale),
            log_mixture: last(&density.log_mixture),
        };
        let drawn = self.draw(&density, how)?;
        Ok((self.to_rows(&drawn)?.f_squeeze_dim(1)?, state))
    }
}

impl Residual {
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
