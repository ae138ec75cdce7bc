//! How strongly to deviate from the mean when sampling, found by listening to the model itself.
//!
//! A density that is right for one step is not yet right for a thousand: its frames, fed back,
//! lead where no recording was, and a little too much widens what comes next. So the model
//! continues held-out pieces at many gains at once, and the gain is taken whose continuation
//! moves and is as loud as the true one does and is: flux (mean rise in dB from frame to frame)
//! and level (mean dB). The result is part of the model, so that temperature 1 means "as lively
//! as the corpus" for every model.

use shard::{Loader, Split};
use stage_core::Cancel;
use tch::{Device, Kind, Tensor};

use crate::data::{Dataset, chunk_of};
use crate::models::{Draw, NextFrame};
use crate::params::seed_of;
use crate::validate::Decibels;
use crate::{Error, Result};

/// Gains tried, ascending.
const GAINS: [f64; 12] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25];
/// Pieces continued at each gain.
const PIECES: usize = 4;
/// Frames of each piece that are read first.
const PROMPT: usize = 128;
/// Frames that are sampled.
const FRAMES: usize = 768;
/// Frames of a piece by which the true sound is judged.
const JUDGED: usize = FRAMES - SKIPPED as usize;
/// Frames at the beginning that do not count: the prompt still rings.
const SKIPPED: i64 = 128;

/// Where the loudest bin of a stretch is put, in dB.
const LOUDEST: f64 = -6.0;

/// Level and flux of a stretch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Liveliness {
    /// Mean of the dB spectrogram.
    pub level: f64,
    /// Mean over bins and frames of the rise in dB from frame to frame.
    pub flux: f64,
}

impl Liveliness {
    /// Of decibels `(T, bins)`, shifted so that the loudest bin is at [`LOUDEST`]: as heard when
    /// both are turned up equally loud. A hiss without notes is then too loud in the mean.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn of(decibels: &Tensor) -> Result<Self> {
        let loudest = f64::try_from(decibels.f_max()?)?;
        let lowest = f64::from(dsp::to_db(dsp::DEFAULT_FLOOR));
        let decibels = decibels
            .f_add_scalar(LOUDEST - loudest)?
            .f_clamp_min(lowest)?;
        let rise = decibels
            .f_diff::<Tensor>(1, 0, None, None)?
            .f_clamp_min(0.0)?;
        Ok(Self {
            level: f64::try_from(decibels.f_mean(Kind::Float)?)?,
            flux: f64::try_from(rise.f_mean(Kind::Float)?)?,
        })
    }

    /// How far from `other`: 1 is a factor of e in flux, or 6 dB in level.
    fn distance(&self, other: &Self) -> f64 {
        let flux = (self.flux.max(1e-6) / other.flux.max(1e-6)).ln().abs();
        flux + (self.level - other.level).abs() / 6.0
    }
}

/// Sets the gain of `model`.
///
/// # Errors
/// Data cannot be read, libtorch fails, or a stop was asked for.
pub fn calibrate(
    model: &mut dyn NextFrame,
    data: &Dataset,
    device: Device,
    seed: u64,
    cancel: &Cancel,
) -> Result<()> {
    if !model.draws() {
        return Ok(());
    }
    let _guard = tch::no_grad_guard();
    let split = if data.manifest.counts.valid.rows as usize > 2 * PROMPT {
        Split::Valid
    } else {
        Split::Train
    };
    let loader = data.pass(split, PIECES, JUDGED)?;
    let (prompts, truth) = prompts(&loader, data, device)?;
    let pieces = prompts.size3()?.0;
    let gains: Vec<f32> = GAINS
        .iter()
        .flat_map(|&gain| std::iter::repeat_n(gain as f32, pieces as usize))
        .collect();
    let gains = Tensor::f_from_slice(&gains)?.f_to_device(device)?;
    let streams = gains.size1()?;
    let temperature = gains.f_ones_like()?;
    tch::manual_seed(seed_of(seed, &["calibrate"]));
    let mut rows = prompts.f_repeat([GAINS.len() as i64, 1, 1])?;
    let mut reset = Tensor::f_ones([streams], (Kind::Float, device))?;
    let mut state = model.begin(streams)?;
    let scale = Decibels::of(&data.rows)?;
    let mut decibels = Vec::with_capacity(FRAMES);
    for _ in 0..FRAMES {
        cancel.check()?;
        let (next, after) = model.sample(
            &rows,
            &reset,
            &state,
            &Draw {
                temperature: &temperature,
                gain: Some(&gains),
            },
        )?;
        state = after;
        reset = reset.f_zeros_like()?;
        rows = next.f_unsqueeze(1)?;
        decibels.push(scale.forward(&next)?);
    }
    let decibels = Tensor::f_stack(&decibels, 1)?; // (gains × pieces, FRAMES, bins)
    let decibels = decibels.f_narrow(1, SKIPPED, FRAMES as i64 - SKIPPED)?;
    let mut best = (f64::INFINITY, 1.0);
    for (i, &gain) in GAINS.iter().enumerate() {
        let mut distance = 0.0;
        for piece in 0..pieces {
            let heard = Liveliness::of(&decibels.f_get(i as i64 * pieces + piece)?)?;
            distance += heard.distance(&truth) / pieces as f64;
        }
        if distance < best.0 {
            best = (distance, gain);
        }
    }
    model.set_gain(best.1);
    Ok(())
}

/// The first rows of some pieces, `(pieces, PROMPT, width)`, and how the split sounds.
fn prompts(loader: &Loader, data: &Dataset, device: Device) -> Result<(Tensor, Liveliness)> {
    let shape = loader.shape();
    let scale = Decibels::of(&data.rows)?;
    let mut prompts = Vec::new();
    let (mut level, mut flux, mut count) = (0.0, 0.0, 0.0);
    for batch in loader.epoch(0)? {
        let batch = batch?;
        let chunk = chunk_of(&batch, shape.width, device)?;
        for (stream, &length) in batch.lengths().iter().enumerate() {
            if (length as usize) < PROMPT {
                continue;
            }
            let all = chunk
                .rows
                .f_get(stream as i64)?
                .f_narrow(0, 0, i64::from(length))?;
            let rows = all.f_narrow(0, 0, PROMPT as i64)?;
            let heard = Liveliness::of(&scale.forward(&all)?)?;
            level += heard.level;
            flux += heard.flux;
            count += 1.0;
            if prompts.len() < PIECES {
                prompts.push(rows);
            }
        }
    }
    if prompts.is_empty() {
        return Err(Error::Data(format!(
            "no piece has {PROMPT} frames: the model cannot be tried out; add longer pieces"
        )));
    }
    let truth = Liveliness {
        level: level / count,
        flux: flux / count,
    };
    Ok((Tensor::f_stack(&prompts, 0)?, truth))
}
