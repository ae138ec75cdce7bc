//! The spectrogram of a shard or a recording, for `pipeline inspect --png`.

use std::path::Path;

use anyhow::{Context, bail};
use dsp::{Complex32, FrameFormat, MagnitudeKind, Stft, StftConfig, StftStream};
use plot::{ColourMap, FrequencyAxis, Size, Spectrogram};

/// Name of the column that is drawn.
const MAGNITUDE: &str = "magnitude";
/// Longest sound that is drawn: the picture has a thousand columns, memory has its bounds.
const MAX_FRAMES: usize = 200_000;

/// Draws the frames of a shard.
pub(super) fn of_shard(path: &Path, title: &str) -> anyhow::Result<Vec<u8>> {
    let reader = shard::ShardReader::open(path)?;
    let format = FrameFormat::from_metadata(reader.metadata())
        .context("the shard does not say how its frames were made")?;
    if reader.rows() > MAX_FRAMES as u64 {
        bail!(
            "{} frames are too many for a picture, expected at most {MAX_FRAMES}",
            reader.rows()
        );
    }
    let stored = reader.read_f32(MAGNITUDE)?;
    let mut decibels = vec![0.0; stored.len()];
    format.decibels(&format.scale()?, &stored, &mut decibels);
    draw(title, &decibels, &format)
}

/// Draws a recording, mixed down, at its own rate.
pub(super) fn of_sound(path: &Path, title: &str) -> anyhow::Result<Vec<u8>> {
    let rate = audio::probe(path)?.rate;
    let options = audio::MonoOptions {
        rate,
        min_seconds: 0.0,
        ..audio::MonoOptions::default()
    };
    let mut mono = audio::MonoReader::open(path, options)?;
    let format = FrameFormat {
        rate,
        config: StftConfig::default(),
        magnitude: MagnitudeKind::Log,
        floor: Some(dsp::DEFAULT_FLOOR),
    };
    let scale = format.scale()?;
    let mut stream = StftStream::new(Stft::new(format.config)?);
    let bins = format.config.bins();
    let mut stored = Vec::new();
    let mut row = vec![0.0; bins];
    let mut keep = |spectrum: &[Complex32]| {
        if stored.len() / bins >= MAX_FRAMES {
            bail!("the sound is too long for a picture, expected at most {MAX_FRAMES} frames");
        }
        scale.log(spectrum, &mut row);
        stored.extend_from_slice(&row);
        Ok(())
    };
    while let Some(block) = mono.next_block()? {
        stream.push(block, &mut keep)?;
    }
    stream.finish(&mut keep)?;
    let mut decibels = vec![0.0; stored.len()];
    format.decibels(&scale, &stored, &mut decibels);
    draw(title, &decibels, &format)
}

fn draw(title: &str, decibels: &[f32], format: &FrameFormat) -> anyhow::Result<Vec<u8>> {
    let picture = Spectrogram {
        title,
        decibels,
        bins: format.config.bins(),
        seconds_per_frame: 1.0 / format.frame_rate(),
        hertz_per_bin: f64::from(format.rate) / format.config.n_fft as f64,
        axis: FrequencyAxis::Log,
        range_db: 80.0,
        mark: None,
        colours: ColourMap::default(),
        size: Size::default(),
    };
    Ok(picture.render_png()?)
}
