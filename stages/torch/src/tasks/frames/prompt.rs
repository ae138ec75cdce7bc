//! Reading a prompt: the frames of a file as the model reads them.

use dsp::{FrameFormat, Padding};
use shard::ShardReader;
use stage_core::ItemInput;
use stage_predict::FRAMES;

use crate::rows::Rows;
use crate::{Error, Result};

/// Fewest frames of a prompt: with less there is no telling a sound from a click.
const MIN_PROMPT: usize = 8;
/// Most bytes of a prompt's rows in memory.
const MAX_PROMPT_BYTES: usize = 2 << 30;
/// Rows of the prompt read at a time.
const READ: usize = 256;
/// A prompt whose loudest bin lies within this of the floor, in nepers, is silent.
const SILENCE: f32 = 0.5;
/// What a prompt ends with that stays this far below its loudest bin, in dB, is not read: a model
/// that is given the silence after a piece goes on with silence.
const TAIL: f32 = 40.0;

/// The rows of a prompt as the model reads them.
#[derive(Debug)]
pub struct FramePrompt {
    /// `(frames, width)`, row-major.
    pub rows: Vec<f32>,
    /// How many there are.
    pub frames: usize,
}

impl FramePrompt {
    /// Reads at most `seconds` of a prompt (0: all of it), and refuses less than `least` frames.
    ///
    /// # Errors
    /// Its frames are not `rows`; it is too short, too long or silent; it cannot be read.
    pub fn read(item: &ItemInput, rows: &Rows, least: usize, seconds: f64) -> Result<Self> {
        let format = &rows.format()?;
        let reader = ShardReader::open(item.input.path(FRAMES)?)?;
        let given = FrameFormat::from_metadata(reader.metadata())
            .map_err(|e| Error::Data(format!("the prompt's frames: {e}")))?;
        if given != *format {
            return Err(Error::Data(format!(
                "the prompt's frames are not what the model was trained on: {}",
                differences(&given, format)
            )));
        }
        let frames = usable(&reader, format, seconds);
        let least = least.max(MIN_PROMPT);
        if frames < least {
            return Err(Error::Data(format!(
                "the prompt has {frames} frames, expected at least {least} ({:.2} s); give a longer one",
                least as f64 / format.frame_rate()
            )));
        }
        let width = rows.width();
        if frames.saturating_mul(width * 4) > MAX_PROMPT_BYTES {
            return Err(Error::Data(format!(
                "the prompt has {frames} frames, more than fit into memory; set `prompt_seconds`"
            )));
        }
        let mut values = interleave(&reader, rows, frames)?;
        let frames = sounding(&values, rows, format)?.max(least);
        values.truncate(frames * width);
        Ok(Self {
            rows: values,
            frames,
        })
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
    'read: for batch in reader.batches(&names, READ)? {
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
