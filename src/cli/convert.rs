//! `pipeline convert`: scores into each other, sound and scores into WAV or FLAC.

use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use audio::{Container, Decoder, PcmSpec, PcmWriter, SampleFormat};
use clap::{Args, ValueEnum};
use stage_core::{Cancel, Context, Digest, Input, ItemInput, Output, SOURCE_FILE, Stage, Tree};

use super::files::{self, Put, split};
use super::{Failure, Outcome, say};

/// How samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bits {
    /// 16-bit integers
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

impl Convert {
    pub(crate) fn execute(self) -> Outcome {
        crate::worker::limit_memory(crate::worker::MEMORY);
        let extension = self
            .output
            .extension()
            .map(|e| e.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("musicxml" | "xml") => self.score(score::write_musicxml)?,
            Some("mxl") => self.score(score::write_mxl)?,
            Some("mid" | "midi") => self.score(score::write_midi)?,
            Some("wav") => self.sound(Container::Wav)?,
            Some("flac") => self.sound(Container::Flac)?,
            _ => {
                return Err(Failure::Usage(
                    format!(
                        "cannot tell the format from the name `{}`",
                        self.output.display()
                    ),
                    Some("end it in .musicxml, .mxl, .mid, .wav or .flac".to_owned()),
                ));
            }
        }
        say(&format!("{} written\n", self.output.display()))
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        let limit = score::limits::MAX_TEXT;
        let shown = self.input.display();
        let mut bytes = Vec::new();
        files::open(&self.input)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read `{shown}`"))?;
        if bytes.len() as u64 > limit {
            bail!("`{shown}` is larger than {limit} bytes, the most that is read of a score");
        }
        Ok(bytes)
    }

    fn is_score(&self) -> anyhow::Result<bool> {
        let mut head = Vec::new();
        files::open(&self.input)?
            .take(4096)
            .read_to_end(&mut head)
            .with_context(|| format!("cannot read `{}`", self.input.display()))?;
        Ok(score::sniff(&head).is_some())
    }

    fn score(&self, write: fn(&score::Score) -> score::Result<Vec<u8>>) -> Outcome {
        let score = score::read(&self.read()?)
            .with_context(|| format!("`{}` cannot be read as a score", self.input.display()))?;
        for warning in &score.warnings {
            super::complain_softly(warning);
        }
        let bytes = write(&score).map_err(anyhow::Error::new)?;
        files::write(&self.output, &bytes)
    }

    fn sound(&self, container: Container) -> Outcome {
        let is_score = self.is_score()?;
        let (dir, name) = split(&self.output)?;
        let mut put = Put::into(dir, &Cancel::default())?;
        let source = if is_score {
            self.play(&put.work()?)?
        } else {
            self.input.clone()
        };
        let mut writer = BufWriter::new(put.create(name.as_ref())?);
        self.transcode(&source, container, &mut writer)
            .with_context(|| format!("cannot convert `{}`", self.input.display()))?;
        writer
            .flush()
            .with_context(|| format!("cannot write `{}`", self.output.display()))?;
        put.commit()
    }

    /// Plays the score into a WAV file of 32-bit floats in `work`.
    fn play(&self, work: &Path) -> anyhow::Result<PathBuf> {
        let render = stage_render::Render {
            rate: self.rate,
            format: audio::WavFormat::F32,
            ..stage_render::Render::default()
        };
        let size = files::open(&self.input)?.stat()?.size;
        let digest = Digest::of(&[]);
        let item = ItemInput {
            source: digest,
            label: None,
            input: Input {
                tree: Tree::single(SOURCE_FILE, digest, size),
                paths: [(SOURCE_FILE.to_owned(), self.input.clone())].into(),
                state: None,
            },
        };
        let dir = work.join("played");
        std::fs::create_dir(&dir)?;
        let mut out = Output::new(&dir);
        render
            .map(&item, &mut out, &Context::silent())
            .with_context(|| format!("cannot play `{}`", self.input.display()))?;
        Ok(dir.join(stage_render::PCM))
    }

    fn transcode(
        &self,
        source: &Path,
        container: Container,
        writer: impl Write + Seek,
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
        while let Some(block) = decoder.next_block()? {
            samples.clear();
            block.interleave(&mut samples);
            pcm.write(&samples)?;
        }
        pcm.finish()?;
        Ok(())
    }
}
