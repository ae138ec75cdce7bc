//! The finish part: sound, picture and facts of every sampled continuation.

use std::io::{Seek, Write};

use audio::{PcmSpec, PcmWriter, SampleFormat};
use dsp::{Complex32, FrameFormat, Frames, istft, to_db};
use plot::{ColourMap, FrequencyAxis, Mark, Size, Spectrogram};
use serde_json::json;
use shard::ShardReader;
use stage_core::{Context, Event, Input, Inputs, ItemInput, Output, StageError};

use crate::phase::{self, Sampled};
use crate::prompt;
use crate::{Container, Depth, Error, MODEL_STEP, PROMPT_FRAMES, Predict, sample_name};

/// Seconds over which a trimmed continuation fades in: its first frame begins in mid-air.
const FADE: f64 = 0.005;
/// Highest sample; louder sound is scaled down to it as a whole.
const CEILING: f32 = 0.99;

/// Makes sound of every sample of the whole part's artifact.
pub(crate) fn finish(
    params: &Predict,
    inputs: &Inputs,
    out: &mut Output,
    cx: &Context,
) -> Result<(), Error> {
    let whole = inputs.one("whole")?;
    let prompts = inputs.items("prompt");
    let mut samples = Vec::new();
    for (i, item) in prompts.iter().enumerate() {
        let names = (1..).map(|variation| sample_name(i + 1, variation));
        for (v, name) in names
            .take_while(|name| whole.paths.contains_key(name))
            .enumerate()
        {
            samples.push((i + 1, v + 1, item, name));
        }
    }
    if samples.is_empty() {
        return Err(Error::Input(
            "there are no sampled frames to make sound of".to_owned(),
        ));
    }
    cx.emit(Event::Total {
        total: samples.len() as u64,
        unit: "sounds".to_owned(),
    });
    let alone = samples.len() == 1;
    for (prompt, variation, item, name) in samples {
        let prefix = if alone {
            String::new()
        } else {
            format!("{prompt}-{variation}/")
        };
        one(params, inputs, item, (whole, &name), &prefix, out, cx)?;
        cx.emit(Event::Advance { by: 1 });
    }
    Ok(())
}

/// One continuation; its files are named `{prefix}audio.wav` and so on.
fn one(
    params: &Predict,
    inputs: &Inputs,
    item: &ItemInput,
    (whole, name): (&Input, &str),
    prefix: &str,
    out: &mut Output,
    cx: &Context,
) -> Result<(), Error> {
    let reader = ShardReader::open(whole.path(name)?)?;
    let format = FrameFormat::from_metadata(reader.metadata())?;
    let number = |key: &str| {
        let text = reader.metadata().get(key);
        text.and_then(|text| text.parse::<usize>().ok())
            .ok_or_else(|| Error::Input(format!("`{name}` does not say its `{key}`")))
    };
    let prompt_frames = number(PROMPT_FRAMES)?;
    let sampled = Sampled {
        magnitudes: prompt::magnitudes(&reader.read_f32("magnitude")?, &format)?,
        phases: match reader.column("phase") {
            Ok(_) => Some(reader.read_f32("phase")?),
            Err(_) => None,
        },
    };
    let known = prompt::spectra(inputs, item, &format, prompt_frames)?;
    let known = match known.is_empty() {
        false => known,
        true => reconstructed(params, item, &format, prompt_frames, cx)?,
    };
    let mut go_on = || !cx.cancel.is_set();
    let spectra = phase::spectra(params, &known, &sampled, &format, &mut go_on)?;
    let mut signal = istft(&spectra, format.config, None)?;
    let seam = (known.len() * format.config.hop).min(signal.len());
    if !params.keep_prompt {
        signal.drain(..seam);
        fade_in(&mut signal, (FADE * f64::from(format.rate)) as usize);
    }
    let gain = tame(&mut signal);
    write_sound(params, &signal, format.rate, prefix, out)?;
    let shown = match params.keep_prompt {
        true => 0,
        false => known.len(),
    };
    let mark = (known.len() - shown) as f64 / format.frame_rate();
    let picture = picture(&spectra, shown, &format, params.keep_prompt.then_some(mark))?;
    out.write(&format!("{prefix}spectrogram.png"), &picture)?;
    let about = json!({
        "prompt": { "source": item.source, "frames": known.len(), "kept": params.keep_prompt },
        "model_step": number(MODEL_STEP)?,
        "sampled_frames": sampled.magnitudes.len(),
        "rate": format.rate,
        "seconds": signal.len() as f64 / f64::from(format.rate),
        "seam_seconds": if params.keep_prompt { mark } else { 0.0 },
        "gain": gain,
        "phase": params.phase,
        "start": params.start,
        "iterations": params.iterations,
    });
    let text = serde_json::to_string_pretty(&about)
        .map_err(|e| StageError::Environment(format!("writing about.json: {e}")))?;
    out.write(&format!("{prefix}about.json"), text.as_bytes())?;
    Ok(())
}

/// Spectra of a prompt of which neither sound nor phase is at hand.
fn reconstructed(
    params: &Predict,
    item: &ItemInput,
    format: &FrameFormat,
    frames: usize,
    cx: &Context,
) -> Result<Frames<Complex32>, Error> {
    let reader = ShardReader::open(item.input.path(prompt::FRAMES)?)?;
    let mut stored = reader.read_f32("magnitude")?;
    stored.truncate(frames.saturating_mul(format.config.bins()));
    let sampled = Sampled {
        magnitudes: prompt::magnitudes(&stored, format)?,
        phases: None,
    };
    let none = Frames::new(format.config.bins());
    // The model's own phases are of no use here: the prompt has none to go with.
    let params = Predict {
        phase: crate::PhaseMethod::Pghi,
        ..params.clone()
    };
    phase::spectra(&params, &none, &sampled, format, &mut || {
        !cx.cancel.is_set()
    })
}

fn fade_in(signal: &mut [f32], samples: usize) {
    let count = samples.max(1) as f32;
    for (i, x) in signal.iter_mut().take(samples).enumerate() {
        *x *= i as f32 / count;
    }
}

/// Scales sound that would clip down as a whole; gives the factor.
fn tame(signal: &mut [f32]) -> f32 {
    let peak = signal.iter().fold(0.0_f32, |peak, x| peak.max(x.abs()));
    if peak <= CEILING {
        return 1.0;
    }
    let gain = CEILING / peak;
    for x in signal.iter_mut() {
        *x *= gain;
    }
    gain
}

fn write_sound(
    params: &Predict,
    signal: &[f32],
    rate: u32,
    prefix: &str,
    out: &mut Output,
) -> Result<(), Error> {
    let depth = match params.depth {
        Depth::S16 => SampleFormat::S16,
        Depth::S24 => SampleFormat::S24,
        Depth::Float => SampleFormat::F32,
    };
    let container = match params.format {
        Container::Wav => audio::Container::Wav,
        Container::Flac => audio::Container::Flac,
    };
    let name = format!("{prefix}audio.{}", container.extension());
    let mut file = out.create(&name)?;
    write_pcm(&mut file, container, PcmSpec::mono(rate, depth), signal)?;
    file.flush()
        .map_err(StageError::io(format!("writing `{name}`")))?;
    Ok(())
}

fn write_pcm(
    file: &mut (impl Write + Seek),
    container: audio::Container,
    spec: PcmSpec,
    signal: &[f32],
) -> Result<(), Error> {
    let mut pcm = PcmWriter::new(file, container, spec)?;
    pcm.write(signal)?;
    pcm.finish()?;
    Ok(())
}

/// The spectrogram from frame `first` on, with a line at `mark` seconds.
fn picture(
    spectra: &Frames<Complex32>,
    first: usize,
    format: &FrameFormat,
    mark: Option<f64>,
) -> Result<Vec<u8>, Error> {
    let scale = format.scale()?;
    let bins = format.config.bins();
    let mut decibels = Frames::zeros(bins, spectra.len().saturating_sub(first))?;
    for (out, spectrum) in decibels.rows_mut().zip(spectra.rows().skip(first)) {
        scale.log(spectrum, out);
        for x in out {
            *x = to_db(*x);
        }
    }
    let picture = Spectrogram {
        title: "Continuation",
        decibels: decibels.data(),
        bins,
        seconds_per_frame: format.config.hop as f64 / f64::from(format.rate),
        hertz_per_bin: f64::from(format.rate) / format.config.n_fft as f64,
        axis: FrequencyAxis::Log,
        range_db: 80.0,
        mark: mark.map(|seconds| Mark {
            seconds,
            label: "prompt ends",
        }),
        colours: ColourMap::default(),
        size: Size::default(),
    };
    Ok(picture.render_png()?)
}
