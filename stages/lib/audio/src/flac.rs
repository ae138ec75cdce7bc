//! FLAC files (RFC 9639), written block by block.

use std::io::{Seek, Write};

use flac_codec::encode::{FlacSampleWriter, Options};

use crate::error::{Error, Result};
use crate::pcm::{PcmSpec, SampleFormat, check_finite, to_i16, to_i24};

/// Writes frames as they come; lengths and MD5 of the samples at the end.
pub struct FlacWriter<W: Write + Seek> {
    inner: FlacSampleWriter<W>,
    spec: PcmSpec,
    /// Samples written so far, over all channels.
    samples: u64,
    integers: Vec<i32>,
}

impl<W: Write + Seek> FlacWriter<W> {
    /// Begins a file at the present position of `inner`; wrap a file in a
    /// [`std::io::BufWriter`] of your own.
    ///
    /// # Errors
    /// Floats, which FLAC has not; a rate or number of channels out of range;
    /// failing writes.
    pub fn new(inner: W, spec: PcmSpec) -> Result<Self> {
        spec.check()?;
        if spec.format == SampleFormat::F32 {
            return Err(Error::FlacFormat { got: spec.format });
        }
        // No padding and no seek table: what they hold depends on nothing that
        // a reader of ours needs.
        let options = Options::default().no_padding().no_seektable();
        let channels = u8::try_from(spec.channels).map_err(|_| Error::Channels {
            got: usize::from(spec.channels),
        })?;
        let bits = u32::from(spec.format.bits());
        let inner = FlacSampleWriter::new(inner, options, spec.rate, bits, channels, None)
            .map_err(encode_error)?;
        Ok(Self {
            inner,
            spec,
            samples: 0,
            integers: Vec::new(),
        })
    }

    /// What is being written.
    pub const fn spec(&self) -> &PcmSpec {
        &self.spec
    }

    /// Frames written so far.
    pub const fn frames(&self) -> u64 {
        self.samples / self.spec.channels as u64
    }

    /// Appends whole frames of interleaved samples, rounded and clamped as in
    /// [`crate::pcm`].
    ///
    /// # Errors
    /// Samples that are no whole frames, NaN or infinite; failing writes.
    pub fn write(&mut self, samples: &[f32]) -> Result<()> {
        if !samples.len().is_multiple_of(self.spec.channels as usize) {
            return Err(Error::PartialFrame {
                samples: samples.len(),
                channels: self.spec.channels,
            });
        }
        check_finite(samples, &self.spec, self.samples)?;
        // The encoder keeps what it is given until a block of 4,096 frames is
        // full, so it is fed in pieces of about that size. It panics on samples
        // outside of the format's range: the conversion clamps.
        for block in samples.chunks(4_096 * self.spec.channels as usize) {
            self.integers.clear();
            if self.spec.format == SampleFormat::S16 {
                self.integers
                    .extend(block.iter().map(|&x| i32::from(to_i16(x))));
            } else {
                self.integers.extend(block.iter().map(|&x| to_i24(x)));
            }
            self.inner.write(&self.integers).map_err(encode_error)?;
            self.samples += block.len() as u64;
        }
        Ok(())
    }

    /// Writes the last block, the lengths and the MD5. `inner` is not flushed:
    /// pass `&mut file` and flush it afterwards.
    ///
    /// # Errors
    /// No frames at all, which FLAC cannot say; failing writes.
    pub fn finish(self) -> Result<()> {
        if self.samples == 0 {
            return Err(Error::NoFrames);
        }
        self.inner.finalize().map_err(encode_error)
    }
}

/// The encoder's error, with the machine's kept apart.
fn encode_error(error: flac_codec::Error) -> Error {
    match error {
        flac_codec::Error::Io(source) => Error::io("write", source),
        other => Error::FlacEncode(other.to_string()),
    }
}
