//! From any file to mono at one rate: decode, judge, mix, resample.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use crate::decode::Decoder;
use crate::error::{Error, Result};
use crate::info::AudioInfo;
use crate::mix::mix;
use crate::pcm::peak_of;
use crate::resample::Resampler;

/// Largest magnitude of a sample, 30 dB above full scale. Lossy codecs overshoot by
/// a few dB; what lies beyond are integers stored as floats, or damage.
const MAX_MAGNITUDE: f32 = 32.0;

/// Peak of a channel that holds sound: -60 dB.
const AUDIBLE: f32 = 1e-3;

/// What is asked of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MonoOptions {
    /// Frames per second of the result, Hz.
    pub rate: u32,
    /// Least duration in seconds.
    pub min_seconds: f64,
    /// Most seconds; bounds the work whatever a file claims.
    pub max_seconds: f64,
    /// A recording whose mono peak stays below is silent, dB relative to full
    /// scale.
    pub silence_db: f64,
}

impl Default for MonoOptions {
    /// 22,050 Hz, half a second to 24 hours, -90 dBFS.
    fn default() -> Self {
        Self {
            rate: 22_050,
            min_seconds: 0.5,
            max_seconds: 86_400.0,
            silence_db: -90.0,
        }
    }
}

/// Reads a recording as mono PCM at a chosen rate.
///
/// Channels are mixed by the coefficients of ITU-R BS.775-3 for one loudspeaker
/// divided by their sum, which for stereo is the mean; then the rate is
/// converted, with the filter's delay taken off. Memory does not grow with the
/// length. As with [`Decoder`], nothing is to be trusted before `None` has come.
///
/// ```no_run
/// # fn main() -> audio::Result<()> {
/// let options = audio::MonoOptions::default();
/// let mut mono = audio::MonoReader::open("song.mp3".as_ref(), options)?;
/// while let Some(samples) = mono.next_block()? {
///     // up to some thousand samples
/// }
/// # Ok(())
/// # }
/// ```
pub struct MonoReader {
    decoder: Decoder,
    weights: Vec<f32>,
    resampler: Resampler,
    options: MonoOptions,
    mono: Vec<f32>,
    output: Vec<f32>,
    /// Source frames read.
    frames: u64,
    peak: f32,
    /// Peak of all channels, as far as it is below [`AUDIBLE`].
    loudest: f32,
    done: bool,
    tap: Option<Tap>,
}

/// Is shown the mono samples of every block.
type Tap = Box<dyn FnMut(&[f32]) + Send>;

impl MonoReader {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Decoder::open`], and a rate out of range.
    pub fn open(path: &Path, options: MonoOptions) -> Result<Self> {
        Self::from_decoder(Decoder::open(path)?, options)
    }

    /// Reads an open file.
    ///
    /// # Errors
    /// As [`MonoReader::open`].
    pub fn from_file(file: File, options: MonoOptions) -> Result<Self> {
        Self::from_decoder(Decoder::new(file)?, options)
    }

    /// Reads from anything that can seek.
    ///
    /// # Errors
    /// As [`MonoReader::open`].
    pub fn new<R: Read + Seek + Send + Sync + 'static>(
        inner: R,
        options: MonoOptions,
    ) -> Result<Self> {
        Self::from_decoder(Decoder::new(inner)?, options)
    }

    fn from_decoder(decoder: Decoder, options: MonoOptions) -> Result<Self> {
        Ok(Self {
            weights: decoder.mono_weights(),
            resampler: Resampler::new(decoder.rate(), options.rate)?,
            decoder,
            options,
            mono: Vec::new(),
            output: Vec::new(),
            frames: 0,
            peak: 0.0,
            loudest: 0.0,
            done: false,
            tap: None,
        })
    }

    /// What the source is.
    pub const fn info(&self) -> &AudioInfo {
        self.decoder.info()
    }

    /// What was not as it should be in a file that is used all the same; see [`Decoder::notes`].
    pub fn notes(&self) -> &[String] {
        self.decoder.notes()
    }

    /// Frames per second of the result, Hz.
    pub const fn rate(&self) -> u32 {
        self.options.rate
    }

    /// Shows `tap` the mono samples at the source's own rate, block by block, before
    /// they are resampled: what the recording is, whatever is asked of it.
    pub fn on_source(&mut self, tap: impl FnMut(&[f32]) + Send + 'static) {
        self.tap = Some(Box::new(tap));
    }

    /// The next samples; `None` after the last.
    ///
    /// # Errors
    /// As [`Decoder::next_block`], and at the latest at the end
    /// [`Error::NotFinite`], [`Error::Scale`], [`Error::TooLong`],
    /// [`Error::TooShort`], [`Error::Silent`], [`Error::Cancels`].
    pub fn next_block(&mut self) -> Result<Option<&[f32]>> {
        self.output.clear();
        let rate = f64::from(self.decoder.rate());
        while self.output.is_empty() && !self.done {
            if let Some(block) = self.decoder.next_block()? {
                mix(block.planes(), &self.weights, &mut self.mono);
                for plane in block.planes() {
                    check_samples(plane, self.frames, rate)?;
                    // Enough to tell silence from sound that cancels.
                    if self.loudest < AUDIBLE {
                        self.loudest = peak_of(self.loudest, plane);
                    }
                }
                self.peak = peak_of(self.peak, &self.mono);
                self.frames += self.mono.len() as u64;
                if self.frames as f64 > self.options.max_seconds * rate {
                    return Err(Error::TooLong {
                        max: self.options.max_seconds,
                    });
                }
                if let Some(tap) = &mut self.tap {
                    tap(&self.mono);
                }
                self.resampler.push(&self.mono, &mut self.output)?;
            } else {
                self.done = true;
                self.judge()?;
                self.resampler.finish(&mut self.output)?;
            }
        }
        Ok((!self.output.is_empty()).then_some(&self.output))
    }

    /// Judges the whole recording.
    fn judge(&self) -> Result<()> {
        let seconds = self.frames as f64 / f64::from(self.decoder.rate());
        if seconds < self.options.min_seconds {
            return Err(Error::TooShort {
                got: seconds,
                min: self.options.min_seconds,
            });
        }
        let peak_db = 20.0 * f64::from(self.peak).log10();
        if peak_db < self.options.silence_db {
            if self.loudest >= AUDIBLE {
                let peak_db = 20.0 * f64::from(self.loudest).log10();
                return Err(Error::Cancels { peak_db });
            }
            return Err(Error::Silent {
                peak_db,
                threshold_db: self.options.silence_db,
            });
        }
        Ok(())
    }
}

/// Refuses NaN, infinities and absurd magnitudes; `offset` frames came before.
fn check_samples(plane: &[f32], offset: u64, rate: f64) -> Result<()> {
    // Comparisons with NaN are false. To look at all instead of searching lets the
    // compiler use SIMD.
    let good = |x: &f32| x.abs() <= MAX_MAGNITUDE;
    if plane.iter().fold(true, |all, x| all & good(x)) {
        return Ok(());
    }
    let bad = plane
        .iter()
        .enumerate()
        .find(|(_, x)| x.is_nan() || x.abs() > MAX_MAGNITUDE);
    let Some((frame, &value)) = bad else {
        return Ok(());
    };
    let at = (offset + frame as u64) as f64 / rate;
    Err(if value.is_finite() {
        Error::Scale {
            value,
            at,
            limit: MAX_MAGNITUDE,
        }
    } else {
        Error::NotFinite { value, at }
    })
}
