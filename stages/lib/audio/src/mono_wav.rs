//! A piece as the roads keep it: one channel of WAV, at one level.

use std::io::{Seek, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pcm::peak_of;
use crate::peak::{PEAK_DB, PeakSpool};
use crate::{Container, PcmSpec, PcmWriter, SampleFormat};

/// How the samples of a kept piece are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WavFormat {
    /// Signed 16-bit integers.
    #[default]
    S16,
    /// 32-bit floats.
    F32,
}

impl WavFormat {
    /// Bytes of a sample.
    pub const fn bytes(self) -> usize {
        self.sample_format().bytes()
    }

    /// As a format of the writers.
    pub const fn sample_format(self) -> SampleFormat {
        match self {
            Self::S16 => SampleFormat::S16,
            Self::F32 => SampleFormat::F32,
        }
    }
}

/// Writes such a WAV file, block by block, in memory that does not grow.
pub struct MonoWavWriter<W: Write + Seek> {
    wav: PcmWriter<W>,
    spool: Option<PeakSpool>,
    peak: f32,
}

impl<W: Write + Seek> MonoWavWriter<W> {
    /// Begins a file of `rate` samples per second. With `spool`, a folder for a temporary file
    /// without a name, the piece's peak is brought to [`PEAK_DB`]; without, samples stay as they
    /// are.
    ///
    /// # Errors
    /// The header cannot be written.
    pub fn new(file: W, rate: u32, format: WavFormat, spool: Option<&Path>) -> Result<Self> {
        let spec = PcmSpec::mono(rate, format.sample_format());
        Ok(Self {
            wav: PcmWriter::new(file, Container::Wav, spec)?,
            spool: spool.map(PeakSpool::new),
            peak: 0.0,
        })
    }

    /// Appends samples.
    ///
    /// # Errors
    /// The disk is full, or no temporary file can be created.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        self.peak = peak_of(self.peak, samples);
        match &mut self.spool {
            Some(spool) => spool.push(samples),
            None => self.wav.write(samples),
        }
    }

    /// Completes the file; gives the largest absolute sample that came in.
    ///
    /// # Errors
    /// As [`MonoWavWriter::write`].
    pub fn finish(mut self) -> Result<f32> {
        if let Some(spool) = self.spool {
            spool.write_to(&mut self.wav, self.peak, PEAK_DB)?;
        }
        self.wav.finish()?;
        Ok(self.peak)
    }
}
