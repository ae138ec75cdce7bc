//! `pipeline convert`: scores into each other, sound and scores into WAV or FLAC.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use audio::{Container, Decoder, PcmSpec, PcmWriter, SampleFormat};
use clap::{Args, ValueEnum};
use engine::fs::{Fs, RealFs};
use serde::{Deserialize, Serialize};
use stage_core::text::of_name;
use stage_core::{
    Cancel, Context, Event, Inputs, ItemInput, Kind, Output, Part, Port, SOURCE_FILE, Stage,
    StageError,
};

use super::files::{self, Put, split};
use super::foreign;
use crate::outcome::{Failure, Outcome, print};

/// How samples are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Bits {
    /// 16-bit integers
    #[default]
    #[value(name = "16")]
    S16,
    /// 24-bit integers
    #[value(name = "24")]
    S24,
    /// 32-bit floats (WAV)
    Float,
}

/// Turn MusicXML, MXL and MIDI into each other, and any audio or score into WAV or FLAC
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline convert tune.mid tune.musicxml
  pipeline convert tune.mxl tune.mid
  pipeline convert tune.musicxml tune.flac    played by the built-in instruments
  pipeline convert song.m4a song.wav --bits 24")]
pub(crate) struct Convert {
    /// File to read
    input: PathBuf,
    /// File to write: .musicxml, .xml, .mxl, .mid, .midi, .wav or .flac
    output: PathBuf,
    /// How samples are stored, for WAV and FLAC
    #[arg(long, value_enum, default_value_t = Bits::S16)]
    bits: Bits,
    /// Samples per second of a score that is played
    #[arg(long, value_name = "HZ", default_value_t = 44_100)]
    rate: u32,
}

/// The file that the worker leaves.
const DONE: &str = "done";

impl Convert {
    pub(crate) fn execute(self) -> Outcome {
        let extension = self
            .output
            .extension()
            .map(|e| e.to_string_lossy().to_lowercase());
        let to = match extension.as_deref() {
            Some("musicxml" | "xml") => To::MusicXml,
            Some("mxl") => To::Mxl,
            Some("mid" | "midi") => To::Midi,
            Some("wav") => To::Wav,
            Some("flac") => To::Flac,
            _ => {
                return Err(Failure::Usage(
                    format!(
                        "cannot tell the format from the name `{}`",
                        of_name(&self.output)
                    ),
                    Some("end it in .musicxml, .mxl, .mid, .wav or .flac".to_owned()),
                ));
            }
        };
        let (dir, name) = split(&self.output)?;
        let mut put = Put::into(dir, &Cancel::default())?;
        let work = put.work()?;
        let (out, scratch) = (work.join("out"), work.join("scratch"));
        std::fs::create_dir(&out)?;
        std::fs::create_dir(&scratch)?;
        let transcode = Transcode {
            to,
            bits: self.bits,
            rate: self.rate,
        };
        foreign::read(&transcode, &self.input, &out, &scratch)?;
        put.stage(name.as_ref(), |staged| {
            let moved = RealFs.rename(&out.join(DONE), staged);
            Ok(moved.with_context(|| format!("cannot write `{}`", of_name(&self.output)))?)
        })?;
        put.commit()?;
        print(format!("{} written", of_name(&self.output)))
    }
}

/// A format that is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum To {
    MusicXml,
    Mxl,
    Midi,
    #[default]
    Wav,
    Flac,
}

/// What `convert` has done in a worker: the file in another format.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Transcode {
    to: To,
    bits: Bits,
    rate: u32,
}

impl Kind for Transcode {
    const KIND: &'static str = "convert";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a file in another format";
}

impl Stage for Transcode {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item]
    }

    fn gives(&self, _: Part) -> &'static str {
        "sound"
    }

    fn ports(&self) -> &'static [Port] {
        &[]
    }

    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        cx: &Context,
    ) -> Result<(), StageError> {
        let done = out.path(DONE)?;
        let written = match self.to {
            To::MusicXml => score(item, &done, cx, score::write_musicxml),
            To::Mxl => score(item, &done, cx, score::write_mxl),
            To::Midi => score(item, &done, cx, score::write_midi),
            To::Wav => self.sound(item, &done, cx, Container::Wav),
            To::Flac => self.sound(item, &done, cx, Container::Flac),
        };
        written.map_err(|e| StageError::content(format!("{e:#}")))
    }
}

fn read(input: &Path) -> anyhow::Result<Vec<u8>> {
    let limit = score::limits::MAX_TEXT;
    let shown = of_name(input);
    let mut bytes = Vec::new();
    files::open(input)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read `{shown}`"))?;
    if bytes.len() as u64 > limit {
        bail!("`{shown}` is larger than {limit} bytes, the most that is read of a score");
    }
    Ok(bytes)
}

fn is_score(input: &Path) -> anyhow::Result<bool> {
    let mut head = Vec::new();
    files::open(input)?
        .take(4096)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read `{}`", of_name(input)))?;
    Ok(score::sniff(&head).is_some())
}

fn score(
    item: &ItemInput,
    done: &Path,
    cx: &Context,
    write: fn(&score::Score) -> score::Result<Vec<u8>>,
) -> anyhow::Result<()> {
    let input = item.input.path(SOURCE_FILE)?;
    let score = score::read(&read(input)?)
        .with_context(|| format!("`{}` cannot be read as a score", of_name(input)))?;
    for warning in &score.warnings {
        cx.warn(warning);
    }
    let mut file = File::create(done)?;
    file.write_all(&write(&score)?)?;
    file.sync_all()?;
    Ok(())
}

impl Transcode {
    fn sound(
        &self,
        item: &ItemInput,
        done: &Path,
        cx: &Context,
        container: Container,
    ) -> anyhow::Result<()> {
        let input = item.input.path(SOURCE_FILE)?;
        let source = if is_score(input)? {
            self.play(item, cx)?
        } else {
            input.to_owned()
        };
        let mut writer = BufWriter::new(File::create(done)?);
        self.transcode(&source, container, &mut writer, cx)
            .with_context(|| format!("cannot convert `{}`", of_name(input)))?;
        writer
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .sync_all()?;
        Ok(())
    }

    /// Plays the score into a WAV file of 32-bit floats.
    fn play(&self, item: &ItemInput, cx: &Context) -> anyhow::Result<PathBuf> {
        let render = stage_render::Render {
            rate: self.rate,
            format: audio::WavFormat::F32,
            ..stage_render::Render::default()
        };
        let dir = cx
            .scratch
            .as_deref()
            .context("there is no place to play to")?;
        let mut out = Output::new(dir);
        render
            .map(item, &Inputs::default(), &mut out, cx)
            .with_context(|| {
                let input = item
                    .input
                    .path(SOURCE_FILE)
                    .map_or_else(|_| String::new(), of_name);
                format!("cannot play `{input}`")
            })?;
        Ok(dir.join(stage_render::PCM))
    }

    fn transcode(
        &self,
        source: &Path,
        container: Container,
        writer: impl Write + Seek,
        cx: &Context,
    ) -> anyhow::Result<()> {
        let mut decoder = Decoder::open(source)?;
        let info = decoder.info().clone();
        let spec = PcmSpec {
            rate: info.rate,
            channels: u16::try_from(info.channels)?,
            format: match self.bits {
                Bits::S16 => SampleFormat::S16,
                Bits::S24 => SampleFormat::S24,
                Bits::Float => SampleFormat::F32,
            },
        };
        let mut pcm = PcmWriter::new(writer, container, spec)?;
        let mut samples = Vec::new();
        let (mut said, mut frames) = (Instant::now(), 0);
        while let Some(block) = decoder.next_block()? {
            cx.cancel.check()?;
            frames += block.frames() as u64;
            // A sign of life, for long recordings.
            if said.elapsed() > Duration::from_secs(1) {
                cx.emit(Event::Advance { by: frames });
                (said, frames) = (Instant::now(), 0);
            }
            samples.clear();
            block.interleave(&mut samples);
            pcm.write(&samples)?;
        }
        pcm.finish()?;
        Ok(())
    }
}
