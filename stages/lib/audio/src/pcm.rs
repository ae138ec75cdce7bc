//! Sample formats and the one rule by which floats become integers.
//!
//! An amplitude of 1.0 is full scale. An `n`-bit integer stands for its value
//! divided by 2^(n-1), as every decoder here and libsndfile have it, so reading
//! what was written gives the same integers again. Writing rounds to the nearest
//! integer, ties to even, and clamps to the format's range. No dither is added:
//! an artifact must be the same bytes each time, and the -98 dB floor of 16 bits
//! lies below the features taken from it.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// How one sample is stored, always little-endian in WAV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleFormat {
    /// Signed 16-bit integer.
    S16,
    /// Signed 24-bit integer, packed into three bytes.
    S24,
    /// IEEE 754 single precision; may exceed ±1.
    F32,
}

impl SampleFormat {
    /// Bits of one sample: 16, 24 or 32.
    pub const fn bits(self) -> u16 {
        match self {
            Self::S16 => 16,
            Self::S24 => 24,
            Self::F32 => 32,
        }
    }

    /// Bytes of one sample: 2, 3 or 4.
    pub const fn bytes(self) -> usize {
        match self {
            Self::S16 => 2,
            Self::S24 => 3,
            Self::F32 => 4,
        }
    }
}

impl fmt::Display for SampleFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S16 => "s16",
            Self::S24 => "s24",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for SampleFormat {
    type Err = Error;

    /// Reads `s16`, `s24` or `f32`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "s16" => Ok(Self::S16),
            "s24" => Ok(Self::S24),
            "f32" => Ok(Self::F32),
            _ => Err(Error::SampleFormat {
                got: text.to_owned(),
            }),
        }
    }
}

/// What a stream of PCM is: frames of `channels` interleaved samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcmSpec {
    /// Frames per second, 1 to 768,000 Hz.
    pub rate: u32,
    /// Channels, 1 to 8.
    pub channels: u16,
    /// How a sample is stored.
    pub format: SampleFormat,
}

impl PcmSpec {
    /// Most channels that we write or read.
    pub const MAX_CHANNELS: u16 = 8;
    /// Highest rate that we write or read, in Hz; the highest in use is 768 kHz.
    pub const MAX_RATE: u32 = 768_000;

    /// One channel at `rate` Hz.
    pub const fn mono(rate: u32, format: SampleFormat) -> Self {
        Self {
            rate,
            channels: 1,
            format,
        }
    }

    /// Checks rate and channels.
    ///
    /// # Errors
    /// A rate or a number of channels outside of its range.
    pub const fn check(&self) -> Result<()> {
        if self.rate == 0 || self.rate > Self::MAX_RATE {
            return Err(Error::Rate { got: self.rate });
        }
        if self.channels == 0 || self.channels > Self::MAX_CHANNELS {
            return Err(Error::Channels {
                got: self.channels as usize,
            });
        }
        Ok(())
    }

    /// Bytes of one frame.
    pub const fn frame_bytes(&self) -> usize {
        self.format.bytes() * self.channels as usize
    }
}

/// Nearest 16-bit integer, clamped.
#[inline]
pub(crate) fn to_i16(sample: f32) -> i16 {
    // At this size f32 counts in ones: the sum is rounded, ties to even, in the one instruction
    // that all processors have, and the integer stands in its lowest bits. 32768 has no rounding
    // error in f32.
    const ONES: f32 = 1.5 * 8_388_608.0;
    ((sample * 32_768.0).clamp(-32_768.0, 32_767.0) + ONES).to_bits() as i16
}

/// Nearest 24-bit integer, clamped.
#[inline]
pub(crate) fn to_i24(sample: f32) -> i32 {
    ((sample * 8_388_608.0).round_ties_even() as i32).clamp(-0x80_0000, 0x7F_FFFF)
}

/// The largest of `peak` and the absolute values of `samples`; NaN counts as nothing.
pub(crate) fn peak_of(peak: f32, samples: &[f32]) -> f32 {
    // A largest value for each of some places, which the compiler keeps in SIMD registers; one for
    // all would wait for the sample before.
    let (blocks, rest) = samples.as_chunks::<32>();
    let mut peaks = [peak; 32];
    for block in blocks {
        for (peak, x) in peaks.iter_mut().zip(block) {
            *peak = if x.abs() > *peak { x.abs() } else { *peak };
        }
    }
    let all = peaks.iter().chain(rest);
    all.fold(peak, |peak, x| peak.max(x.abs()))
}

/// Refuses NaN and infinities; `offset` samples of the stream came before.
pub(crate) fn check_finite(samples: &[f32], spec: &PcmSpec, offset: u64) -> Result<()> {
    // To look at all instead of searching lets the compiler use SIMD.
    if samples.iter().fold(true, |all, x| all & x.is_finite()) {
        return Ok(());
    }
    let at = samples.iter().position(|x| !x.is_finite()).unwrap_or(0);
    let frame = (offset + at as u64) / u64::from(spec.channels.max(1));
    Err(Error::NotFinite {
        value: samples.get(at).copied().unwrap_or(f32::NAN),
        at: frame as f64 / f64::from(spec.rate.max(1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even_and_clamped() {
        let rows = [
            (0.0, 0, 0),
            (0.5 / 32_768.0, 0, 128),
            (1.5 / 32_768.0, 2, 384),
            (-0.5 / 32_768.0, 0, -128),
            (1.0, i16::MAX, 0x7F_FFFF),
            (-1.0, i16::MIN, -0x80_0000),
            (3.0, i16::MAX, 0x7F_FFFF),
            (-3.0, i16::MIN, -0x80_0000),
        ];
        for (x, s16, s24) in rows {
            assert_eq!((to_i16(x), to_i24(x)), (s16, s24), "{x}");
        }
    }

    #[test]
    fn the_peak_is_the_largest_wherever_it_is() {
        for length in [0, 1, 31, 32, 33, 100] {
            for at in 0..length {
                let mut samples = vec![0.25; length];
                samples[at] = -0.5;
                assert_eq!(peak_of(0.0, &samples), 0.5);
                samples[at] = f32::NAN;
                assert_eq!(
                    peak_of(0.125, &samples),
                    if length > 1 { 0.25 } else { 0.125 }
                );
            }
            assert_eq!(peak_of(0.75, &vec![0.5; length]), 0.75);
        }
    }

    #[test]
    fn every_16_bit_integer_survives() {
        for n in i16::MIN..=i16::MAX {
            assert_eq!(to_i16(f32::from(n) / 32_768.0), n);
        }
    }

    #[test]
    fn a_nan_is_named_by_its_time() {
        let spec = PcmSpec {
            rate: 100,
            channels: 2,
            format: SampleFormat::F32,
        };
        let err = check_finite(&[0.0, 0.0, 1.0, f32::NAN], &spec, 96).unwrap_err();
        assert_eq!(
            err.to_string(),
            "has a sample of NaN at 0.490 s, expected finite numbers"
        );
        assert!(check_finite(&[f32::MAX, -1.0], &spec, 0).is_ok());
    }

    #[test]
    fn names_of_formats_read_back() {
        for format in [SampleFormat::S16, SampleFormat::S24, SampleFormat::F32] {
            assert_eq!(format.to_string().parse::<SampleFormat>().unwrap(), format);
        }
        assert!("u8".parse::<SampleFormat>().is_err());
    }
}
