//! The whole part of the stage `predict`: samples frames that continue prompts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use dsp::{FrameFormat, Padding};
use shard::{Column, Dtype, ShardOptions, ShardReader, ShardWriter};
use stage_core::{Context, Event, Inputs, ItemInput, Output, StageError};
use stage_predict::{FRAMES, MODEL_STEP, PROMPT_FRAMES, Predict, sample_name};
use stage_train::{Architecture, MODEL};
use tch::{Device, Kind as TensorKind, Tensor};

use crate::jobs::Work;
use crate::model_file::{self, Facts};
use crate::models::{Draw, NextFrame, Rows};
use crate::params::seed_of;
use crate::{Error, Result, device, signals};

/// Fewest frames of a prompt: with less there is no telling a sound from a click.
const MIN_PROMPT: usize = 8;
/// Most bytes of a prompt's rows in memory.
const MAX_PROMPT_BYTES: usize = 2 << 30;
/// Rows of the prompt read at a time.
const READ: i64 = 256;
/// Most values of the windows of the rows that are read at a time.
const MAX_WINDOWED: usize = 1 << 28;
/// Frames between two events.
const TELL: u64 = 16;
/// A prompt whose loudest bin lies within this of the floor, in nepers, is silent.
const SILENCE: f32 = 0.5;
/// What a prompt ends with that stays this far below its loudest bin, in dB, is not read: a model
/// that is given the silence after a piece goes on with silence.
const TAIL: f32 = 40.0;

impl Work for Predict {
    fn work(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()> {
        sample_all(self, inputs, out, cx)
    }
}

fn sample_all(params: &Predict, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()> {
    // Before any other call into libtorch.
    let device = device::open(cx.device)?;
    tch::set_num_threads(i32::try_from(params.threads).unwrap_or(1));
    let _guard = tch::no_grad_guard();
    let path = inputs.one("model")?.path(MODEL)?;
    // In the store it is named by its digest, which tells nobody which file to replace.
    let (model, facts) = model_file::load(path, device).map_err(|error| match error {
        Error::Checkpoint { reason, .. } => Error::checkpoint(MODEL, reason),
        error => error,
    })?;
    let format = facts.rows.format()?;
    let frames = params.frames_at(format.frame_rate()).map_err(Error::Data)?;
    let prompts = inputs.items("prompt");
    if prompts.is_empty() {
        return Err(Error::Data("there is no prompt to continue".to_owned()));
    }
    cx.info(format!(
        "sampling {frames} frames ({:.1} s) on {} with the model of step {}",
        frames as f64 / format.frame_rate(),
        device::name(device),
        facts.step
    ));
    cx.emit(Event::Total {
        total: frames * u64::from(params.variations) * prompts.len() as u64,
        unit: "frames".to_owned(),
    });
    for (i, item) in prompts.iter().enumerate() {
        let prompt = Prompt::read(params, item, &facts, &format)?;
        for variation in 1..=params.variations {
            let path = out.path(&sample_name(i + 1, variation))?;
            let purpose = ["predict", &item.source.to_hex(), &variation.to_string()];
            tch::manual_seed(seed_of(params.seed, &purpose));
            let sampler = Sampler {
                model: model.as_ref(),
                facts: &facts,
                device,
                cx,
            };
            sampler.write(&path, &prompt, frames, params.temperature)?;
        }
    }
    Ok(())
}

/// The rows of a prompt as the model reads them.
struct Prompt {
    /// `(frames, width)`, row-major.
    rows: Vec<f32>,
    frames: usize,
}

impl Prompt {
    fn read(
        params: &Predict,
        item: &ItemInput,
        facts: &Facts,
        format: &FrameFormat,
    ) -> Result<Self> {
        let reader = ShardReader::open(item.input.path(FRAMES)?)?;
        let given = FrameFormat::from_metadata(reader.metadata())
            .map_err(|e| Error::Data(format!("the prompt's frames: {e}")))?;
        if given != *format {
            return Err(Error::Data(format!(
                "the prompt's frames are not what the model was trained on: {}",
                differences(&given, format)
            )));
        }
        let frames = usable(&reader, format, params.prompt_seconds);
        let least = match &facts.architecture {
            Architecture::Residual(_) => MIN_PROMPT,
            Architecture::S0(config) => MIN_PROMPT.max(config.window as usize),
        };
        if frames < least {
            return Err(Error::Data(format!(
                "the prompt has {frames} frames, expected at least {least} ({:.2} s); give a longer one",
                least as f64 / format.frame_rate()
            )));
        }
        let width = facts.rows.width();
        if frames.saturating_mul(width * 4) > MAX_PROMPT_BYTES {
            return Err(Error::Data(format!(
                "the prompt has {frames} frames, more than fit into memory; set `prompt_seconds`"
            )));
        }
        let mut rows = interleave(&reader, &facts.rows, frames)?;
        let frames = sounding(&rows, &facts.rows, format)?.max(least);
        rows.truncate(frames * width);
        Ok(Self { rows, frames })
    }
}

/// How many frames of a prompt to read: those that lie within the sound, not the mirrored ones
/// at its end, and no more than asked for.
fn usable(reader: &ShardReader, format: &FrameFormat, seconds: f64) -> usize {
    let mut frames = usize::try_from(reader.rows()).unwrap_or(usize::MAX);
    let samples = reader
        .metadata()
        .get("samples")
        .and_then(|text| text.parse::<usize>().ok());
    if let (Some(samples), true) = (samples, format.config.padding != Padding::None) {
        let within = samples
            .checked_sub(format.config.n_fft / 2)
            .map_or(0, |rest| rest / format.config.hop + 1);
        frames = frames.min(within);
    }
    if seconds > 0.0 {
        frames = frames.min((seconds * format.frame_rate()).round() as usize);
    }
    frames
}

fn interleave(reader: &ShardReader, rows: &Rows, frames: usize) -> Result<Vec<f32>> {
    let width = rows.width();
    let names: Vec<&str> = rows.columns.iter().map(|(name, _)| name.as_str()).collect();
    for (name, expected) in &rows.columns {
        let got = reader.column(name)?.width;
        if got != *expected {
            return Err(Error::Data(format!(
                "the prompt's `{name}` has {got} values, the model's {expected}"
            )));
        }
    }
    let mut all = Vec::new();
    all.try_reserve_exact(frames * width)
        .map_err(|e| Error::Data(format!("the prompt does not fit into memory: {e}")))?;
    let mut columns: Vec<Vec<f32>> = vec![Vec::new(); names.len()];
    'read: for batch in reader.batches(&names, READ as usize)? {
        let batch = batch?;
        for (i, column) in columns.iter_mut().enumerate() {
            column.clear();
            if let Some(values) = batch.column(i) {
                values.append_f32(column);
            }
        }
        for row in 0..batch.rows() {
            if all.len() >= frames * width {
                break 'read;
            }
            for (column, (_, width)) in columns.iter().zip(&rows.columns) {
                let width = *width as usize;
                all.extend(column.iter().skip(row * width).take(width));
            }
        }
    }
    Ok(all)
}

/// How many frames there are until the sound has died away.
fn sounding(all: &[f32], rows: &Rows, format: &FrameFormat) -> Result<usize> {
    if let Some(bad) = all.iter().find(|x| !x.is_finite()) {
        return Err(Error::Data(format!(
            "the prompt has a value of {bad}, expected finite ones"
        )));
    }
    let (first, bins) = rows.column("magnitude").unwrap_or((0, rows.width()));
    let scale = format.scale().map_err(|e| Error::Data(e.to_string()))?;
    let mut decibels = vec![0.0; bins];
    let peaks: Vec<f32> = all
        .chunks_exact(rows.width())
        .map(|row| {
            let magnitudes = row.get(first..first + bins).unwrap_or_default();
            format.decibels(&scale, magnitudes, &mut decibels);
            decibels.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        })
        .collect();
    let loudest = peaks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if loudest <= dsp::to_db(scale.floor() + SILENCE) {
        return Err(Error::Data(
            "the prompt is silent: there is nothing to continue; give one with sound in it"
                .to_owned(),
        ));
    }
    let last = peaks.iter().rposition(|peak| *peak > loudest - TAIL);
    Ok(last.map_or(0, |last| last + 1))
}

fn differences(given: &FrameFormat, wanted: &FrameFormat) -> String {
    let (given, wanted) = (given.metadata(), wanted.metadata());
    let mut texts = Vec::new();
    for (key, wanted) in &wanted {
        let got = given.get(key).map_or("missing", String::as_str);
        if got != wanted {
            texts.push(format!("`{key}` is {got}, expected {wanted}"));
        }
    }
    texts.join(", ")
}

struct Sampler<'a> {
    model: &'a dyn NextFrame,
    facts: &'a Facts,
    device: Device,
    cx: &'a Context,
}

impl Sampler<'_> {
    /// Samples `frames` frames after the prompt into a shard at `path`.
    fn write(&self, path: &Path, prompt: &Prompt, frames: u64, temperature: f64) -> Result<()> {
        let rows = &self.facts.rows;
        let columns: Vec<Column> = rows
            .columns
            .iter()
            .map(|(name, width)| Column::new(name.clone(), *width, Dtype::F32))
            .collect();
        // Not what the model says word for word: its file may say anything besides.
        let mut metadata = rows.format()?.metadata();
        metadata.insert(PROMPT_FRAMES.to_owned(), prompt.frames.to_string());
        metadata.insert(MODEL_STEP.to_owned(), self.facts.step.to_string());
        let file = BufWriter::new(File::create(path).map_err(Error::io("create", path))?);
        let mut writer = ShardWriter::new(file, &columns, &metadata, ShardOptions::default())?;
        self.sample(prompt, frames, temperature, |row| {
            let mut rest = row;
            let mut parts = Vec::with_capacity(columns.len());
            for column in &columns {
                let (part, after) = rest.split_at(rest.len().min(column.width as usize));
                parts.push(part);
                rest = after;
            }
            Ok(writer.push(&parts)?)
        })?;
        let (mut file, _) = writer.finish()?;
        file.flush().map_err(Error::io("write", path))
    }

    fn sample(
        &self,
        prompt: &Prompt,
        frames: u64,
        temperature: f64,
        mut push: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let options = (TensorKind::Float, self.device);
        let width = self.facts.rows.width() as i64;
        let all = Tensor::f_from_slice(&prompt.rows)?.f_view([1, -1, width])?;
        let all = all.f_to_device(self.device)?;
        let count = all.size3()?.1;
        let mut state = self.model.begin(1)?;
        let mut reset = Tensor::f_ones([1], options)?;
        // All but the last stretch of the prompt are only read.
        let read = self.rows_at_a_time();
        let mut at = 0;
        while count - at > read {
            self.check()?;
            let (_, after) = self
                .model
                .predict(&all.f_narrow(1, at, read)?, &reset, &state)?;
            state = after;
            reset = reset.f_zeros_like()?;
            at += read;
        }
        let mut rows = all.f_narrow(1, at, count - at)?;
        let temperature = Tensor::f_full([1], temperature, options)?;
        let how = Draw {
            temperature: &temperature,
        };
        let mut buffer = vec![0.0_f32; width as usize];
        for frame in 1..=frames {
            self.check()?;
            let (next, after) = self.model.sample(&rows, &reset, &state, &how)?;
            state = after;
            reset = reset.f_zeros_like()?;
            next.f_to_device(Device::Cpu)?
                .f_contiguous()?
                .f_copy_data(&mut buffer, width as usize)?;
            if buffer.iter().any(|x| !x.is_finite()) {
                return Err(Error::Diverged(format!(
                    "the model gives no numbers at frame {frame}: it is not usable; train it again"
                )));
            }
            push(&buffer)?;
            rows = next.f_unsqueeze(1)?;
            if frame % TELL == 0 || frame == frames {
                let by = if frame % TELL == 0 {
                    TELL
                } else {
                    frame % TELL
                };
                self.cx.emit(Event::Advance { by });
            }
        }
        Ok(())
    }

    /// How many rows of the prompt are read at a time: fewer where each makes a large window.
    fn rows_at_a_time(&self) -> i64 {
        let Architecture::S0(config) = &self.facts.architecture else {
            return READ;
        };
        let window = (config.window as usize).saturating_mul(self.facts.rows.width());
        let rows = MAX_WINDOWED / window.max(1);
        i64::try_from(rows).unwrap_or(READ).clamp(1, READ)
    }

    fn check(&self) -> Result<()> {
        if signals::caught() {
            return Err(Error::Stage(StageError::Cancelled));
        }
        Ok(self.cx.cancel.check()?)
    }
}
