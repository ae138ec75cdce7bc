//! The prompt: its stored frames, and its spectra with their true phase.

use audio::WavReader;
use dsp::{Complex32, FrameFormat, Frames, stft};
use shard::ShardReader;
use stage_core::{Inputs, ItemInput};

use crate::Error;

/// File of an item's frames.
pub const FRAMES: &str = "frames.parquet";
/// File of an item's sound.
pub const PCM: &str = "pcm.wav";

/// Most samples of a prompt: three hours at 44.1 kHz. Longer sound is for corpora.
const MAX_SAMPLES: usize = 1 << 29;

/// The spectra of the first `frames` frames of a prompt with their true phase, as `format` cuts
/// them; empty when neither sound nor phase is at hand.
pub(crate) fn spectra(
    inputs: &Inputs,
    item: &ItemInput,
    format: &FrameFormat,
    frames: usize,
) -> Result<Frames<Complex32>, Error> {
    let sound = inputs
        .items("sound")
        .iter()
        .find(|sound| sound.source == item.source)
        .map(|sound| &sound.input)
        .into_iter()
        .chain([&item.input])
        .find_map(|input| input.paths.get(PCM));
    if let Some(path) = sound {
        let mut reader = WavReader::open(path)?;
        if reader.spec().rate != format.rate {
            return Err(Error::Input(format!(
                "the prompt's sound has {} samples per second, the model's frames {}",
                reader.spec().rate,
                format.rate
            )));
        }
        // One frame reaches half a window beyond its middle.
        let samples = frames.saturating_mul(format.config.hop) + format.config.n_fft;
        let mut signal = vec![0.0; samples.min(MAX_SAMPLES)];
        let mut filled = 0;
        while let Some(rest) = signal.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match reader.read(rest)? {
                0 => break,
                read => filled += read,
            }
        }
        signal.truncate(filled);
        let all = stft(&signal, format.config)?;
        return first(&all, frames);
    }
    let reader = ShardReader::open(item.input.path(FRAMES)?)?;
    if reader.column("phase").is_err() {
        return Ok(Frames::new(format.config.bins()));
    }
    let magnitudes = magnitudes(&reader.read_f32("magnitude")?, format)?;
    let phases = reader.read_f32("phase")?;
    let polar = magnitudes.data().iter().zip(&phases);
    let spectra: Vec<Complex32> = polar.map(|(&r, &p)| Complex32::from_polar(r, p)).collect();
    first(&Frames::from_vec(format.config.bins(), spectra), frames)
}

/// |X| of stored magnitudes, row-major.
pub(crate) fn magnitudes(stored: &[f32], format: &FrameFormat) -> Result<Frames<f32>, Error> {
    let scale = format.scale()?;
    let bins = format.config.bins();
    let mut out = Frames::zeros(bins, stored.len() / bins)?;
    format.unscaled(&scale, stored, out.data_mut());
    Ok(out)
}

fn first(all: &Frames<Complex32>, frames: usize) -> Result<Frames<Complex32>, Error> {
    let mut out = Frames::with_capacity(all.width(), frames.min(all.len()))?;
    for row in all.rows().take(frames) {
        out.push(row);
    }
    Ok(out)
}
