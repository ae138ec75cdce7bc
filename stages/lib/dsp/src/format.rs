//! What stored frames are: everything that is needed to compute them from a signal
//! or a signal from them, as key-value metadata.
//!
//! The stage that writes frames and those that read them, much later and from a
//! model file perhaps, share this one description.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    DEFAULT_FLOOR, Error, MagnitudeScale, Padding, Stft, StftConfig, Window, WindowShape, to_db,
};

/// How magnitudes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MagnitudeKind {
    /// ln(|X| · 2 / Σw) in nepers: a full-scale sine is 0. See [`MagnitudeScale`].
    #[default]
    Log,
    /// |X|, unscaled: a full-scale sine is Σw / 2. What librosa and torch give.
    Linear,
}

impl MagnitudeKind {
    /// The name in parameters and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Linear => "linear",
        }
    }
}

/// What frames are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameFormat {
    /// Samples per second of the signal.
    pub rate: u32,
    /// How the signal was cut.
    pub config: StftConfig,
    /// How magnitudes are stored.
    pub magnitude: MagnitudeKind,
    /// The least magnitude, in nepers relative to a full-scale sine; linear
    /// magnitudes may have none.
    pub floor: Option<f32>,
}

impl FrameFormat {
    /// Checks the ranges that the fields state.
    ///
    /// # Errors
    /// The field that is out of range; a log magnitude without a floor.
    pub fn validate(&self) -> Result<(), Error> {
        self.config.validate()?;
        if self.rate == 0 {
            return Err(bad("rate", "0", "samples per second"));
        }
        match self.floor {
            Some(floor) => MagnitudeScale::check_floor(floor),
            None if self.magnitude == MagnitudeKind::Log => Err(Error::Floor { got: f32::NAN }),
            None => Ok(()),
        }
    }

    /// As text, to be kept beside the frames; [`FrameFormat::from_metadata`] reads it.
    ///
    /// Keys: `rate` (Hz), `n_fft`, `hop`, `win_length` (samples), `window`, `padding`
    /// (`reflect`, `zero` or `none`), `magnitude` (`log` or `linear`),
    /// `magnitude_unit`, `full_scale` (the |X| of a full-scale sine) and, if there is
    /// one, `floor` (nepers relative to a full-scale sine).
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let unit = match self.magnitude {
            MagnitudeKind::Log => "nepers relative to a full-scale sine",
            MagnitudeKind::Linear => "unscaled |X|",
        };
        let StftConfig {
            n_fft,
            hop,
            win_length,
            window,
            padding,
        } = self.config;
        let full_scale = Window::new(window, win_length, n_fft).sum() / 2.0;
        let mut pairs = vec![
            ("rate", self.rate.to_string()),
            ("n_fft", n_fft.to_string()),
            ("hop", hop.to_string()),
            ("win_length", win_length.to_string()),
            ("window", window.name().to_owned()),
            ("padding", padding.name().to_owned()),
            ("magnitude", self.magnitude.name().to_owned()),
            ("magnitude_unit", unit.to_owned()),
            ("full_scale", format!("{full_scale:.6}")),
        ];
        pairs.extend(self.floor.map(|floor| ("floor", floor.to_string())));
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    /// Reads what [`FrameFormat::metadata`] wrote; other keys do not matter.
    ///
    /// # Errors
    /// A key is missing or its value is not one that we write.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, Error> {
        let number = |key| value(metadata, key, "a number of samples");
        let floor = match metadata.contains_key("floor") {
            true => Some(value(metadata, "floor", "a number of nepers")?),
            false => None,
        };
        let format = Self {
            rate: value(metadata, "rate", "samples per second")?,
            config: StftConfig {
                n_fft: number("n_fft")?,
                hop: number("hop")?,
                win_length: number("win_length")?,
                window: value(metadata, "window", "`hann`, `hamming` or `gauss`")?,
                padding: value(metadata, "padding", "`reflect`, `zero` or `none`")?,
            },
            magnitude: value(metadata, "magnitude", "`log` or `linear`")?,
            floor,
        };
        format.validate()?;
        Ok(format)
    }

    /// The scale of log magnitudes; with the default floor where linear ones have
    /// none.
    ///
    /// # Errors
    /// Those of [`FrameFormat::validate`].
    pub fn scale(&self) -> Result<MagnitudeScale, Error> {
        self.validate()?;
        let stft = Stft::new(self.config)?;
        MagnitudeScale::new(stft.window(), self.floor.unwrap_or(DEFAULT_FLOOR))
    }

    /// Frames per second.
    pub fn frame_rate(&self) -> f64 {
        f64::from(self.rate) / self.config.hop.max(1) as f64
    }

    /// Magnitudes |X|, unscaled, of stored ones: what [`crate::pghi`] wants. Log
    /// magnitudes at their floor become 0. `scale` is that of [`FrameFormat::scale`].
    pub fn unscaled(&self, scale: &MagnitudeScale, stored: &[f32], out: &mut [f32]) {
        match self.magnitude {
            MagnitudeKind::Log => scale.unlog(stored, out),
            MagnitudeKind::Linear => {
                for (out, x) in out.iter_mut().zip(stored) {
                    *out = x.max(0.0);
                }
            }
        }
    }

    /// Levels in dB of stored magnitudes, a full-scale sine being 0 dB, not below
    /// the floor of `scale`, which is that of [`FrameFormat::scale`].
    pub fn decibels(&self, scale: &MagnitudeScale, stored: &[f32], out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(stored) {
            let nepers = match self.magnitude {
                MagnitudeKind::Log => x,
                MagnitudeKind::Linear => (x * scale.scale()).ln(),
            };
            *out = to_db(nepers.max(scale.floor()));
        }
    }
}

impl Padding {
    /// The name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reflect => "reflect",
            Self::Zero => "zero",
        }
    }
}

/// Reads a name back, by trying all of them.
macro_rules! from_name {
    ($type:ident: $($variant:ident),+) => {
        impl FromStr for $type {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                [$(Self::$variant),+].into_iter().find(|v| v.name() == text).ok_or(())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

from_name!(MagnitudeKind: Log, Linear);
from_name!(Padding: None, Reflect, Zero);
from_name!(WindowShape: Hann, Hamming, Gauss);

fn value<T: FromStr>(
    metadata: &BTreeMap<String, String>,
    key: &'static str,
    expected: &'static str,
) -> Result<T, Error> {
    let text = metadata.get(key).map_or("missing", String::as_str);
    text.parse().map_err(|_| bad(key, text, expected))
}

fn bad(key: &'static str, got: &str, expected: &'static str) -> Error {
    Error::Metadata {
        key,
        got: got.chars().take(40).collect(),
        expected,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOG: FrameFormat = FrameFormat {
        rate: 22_050,
        config: StftConfig {
            n_fft: 1024,
            hop: 256,
            win_length: 1024,
            window: WindowShape::Hann,
            padding: Padding::Reflect,
        },
        magnitude: MagnitudeKind::Log,
        floor: Some(-10.0),
    };

    #[test]
    fn formats_read_back() {
        let linear = FrameFormat {
            magnitude: MagnitudeKind::Linear,
            floor: None,
            ..LOG
        };
        let config = StftConfig {
            window: WindowShape::Gauss,
            padding: Padding::None,
            ..LOG.config
        };
        for format in [
            LOG,
            linear,
            FrameFormat {
                config,
                floor: Some(-12.5),
                ..LOG
            },
        ] {
            assert_eq!(FrameFormat::from_metadata(&format.metadata()), Ok(format));
        }
        assert_eq!(LOG.metadata()["full_scale"], "256.000000");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let mut metadata = LOG.metadata();
        metadata.insert("window".to_owned(), "kaiser".to_owned());
        let error = FrameFormat::from_metadata(&metadata).unwrap_err();
        assert_eq!(
            error.to_string(),
            "metadata `window` is `kaiser`, expected `hann`, `hamming` or `gauss`"
        );
        metadata.remove("rate");
        let error = FrameFormat::from_metadata(&metadata).unwrap_err();
        assert_eq!(
            error.to_string(),
            "metadata `rate` is `missing`, expected samples per second"
        );
        let unbounded = FrameFormat { floor: None, ..LOG };
        assert!(FrameFormat::from_metadata(&unbounded.metadata()).is_err());
    }

    #[test]
    fn stored_values_become_magnitudes_and_levels() {
        let scale = LOG.scale().unwrap();
        let linear = FrameFormat {
            magnitude: MagnitudeKind::Linear,
            floor: None,
            ..LOG
        };
        let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
        LOG.unscaled(&scale, &[0.0, -1.0, -10.0], &mut a);
        assert!((a[0] - 256.0).abs() < 1e-3 && (a[1] - 94.177).abs() < 1e-3 && a[2] == 0.0);
        LOG.decibels(&scale, &[0.0, -1.0, -11.0], &mut a);
        linear.decibels(&scale, &[256.0, 94.177_14, 0.0], &mut b);
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn any_metadata_is_an_error_at_worst(key in 0usize..10, text in ".{0,12}") {
            let mut metadata = LOG.metadata();
            if let Some(value) = metadata.values_mut().nth(key) {
                *value = text;
            }
            if let Ok(format) = FrameFormat::from_metadata(&metadata) {
                prop_assert!(format.scale().is_ok());
            }
        }
    }
}
