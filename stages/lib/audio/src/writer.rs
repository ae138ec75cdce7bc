//! One writer for every container that we write.

use std::fmt;
use std::io::{Seek, Write};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::flac::FlacWriter;
use crate::pcm::PcmSpec;
use crate::wav::WavWriter;

/// Containers that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    /// RIFF WAVE: integers and floats, at most 4 GiB.
    Wav,
    /// FLAC: 16 and 24 bits, lossless at about half the size.
    Flac,
}

impl Container {
    /// Usual file extension, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Flac => "flac",
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

impl FromStr for Container {
    type Err = Error;

    /// Reads `wav` or `flac`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "wav" => Ok(Self::Wav),
            "flac" => Ok(Self::Flac),
            _ => Err(Error::Container {
                got: text.to_owned(),
            }),
        }
    }
}

/// Writes PCM into a WAV or FLAC file, block by block.
///
/// ```
/// # fn main() -> audio::Result<()> {
/// use audio::{Container, PcmSpec, PcmWriter, SampleFormat};
/// let mut file = std::io::Cursor::new(Vec::new());
/// let spec = PcmSpec::mono(22_050, SampleFormat::S16);
/// let mut pcm = PcmWriter::new(&mut file, Container::Flac, spec)?;
/// pcm.write(&[0.0, 0.5, -0.5])?;
/// pcm.finish()?;
/// assert!(file.into_inner().starts_with(b"fLaC"));
/// # Ok(())
/// # }
/// ```
// The two are made once per file: nothing is gained by evening out their sizes.
#[expect(clippy::large_enum_variant, reason = "one value per open file")]
pub enum PcmWriter<W: Write + Seek> {
    /// Into WAV.
    Wav(WavWriter<W>),
    /// Into FLAC.
    Flac(FlacWriter<W>),
}

impl<W: Write + Seek> PcmWriter<W> {
    /// Begins a file at the present position of `inner`; pass `&mut file` to
    /// have it back after [`PcmWriter::finish`].
    ///
    /// # Errors
    /// A rate, a number of channels or a sample format that the container has
    /// not; failing writes.
    pub fn new(inner: W, container: Container, spec: PcmSpec) -> Result<Self> {
        Ok(match container {
            Container::Wav => Self::Wav(WavWriter::new(inner, spec)?),
            Container::Flac => Self::Flac(FlacWriter::new(inner, spec)?),
        })
    }

    /// What is being written.
    pub const fn spec(&self) -> &PcmSpec {
        match self {
            Self::Wav(wav) => wav.spec(),
            Self::Flac(flac) => flac.spec(),
        }
    }

    /// Frames written so far.
    pub const fn frames(&self) -> u64 {
        match self {
            Self::Wav(wav) => wav.frames(),
            Self::Flac(flac) => flac.frames(),
        }
    }

    /// Appends whole frames of interleaved samples in [-1, 1]; see
    /// [`crate::pcm`] for rounding and clamping.
    ///
    /// # Errors
    /// Samples that are no whole frames, NaN or infinite; more than WAV's 4 GiB;
    /// failing writes.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        match self {
            Self::Wav(wav) => wav.write(samples),
            Self::Flac(flac) => flac.write(samples),
        }
    }

    /// Completes the file. Nothing is complete without it.
    ///
    /// # Errors
    /// FLAC without frames; failing writes.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Wav(wav) => wav.finish().map(drop),
            Self::Flac(flac) => flac.finish(),
        }
    }
}
