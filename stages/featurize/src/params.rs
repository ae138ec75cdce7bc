//! Parameters: what may be left out is filled in before anything is hashed, so that
//! writing a default out changes no fingerprint.

use dsp::{DEFAULT_FLOOR, Error, FrameFormat, MagnitudeKind, Padding, StftConfig, WindowShape};
use serde::{Deserialize, Serialize};
use shard::Dtype;
use stage_core::ParamError;

/// Parameters of the stage `featurize`.
///
/// The defaults suit next-frame models: 1024-sample Hann windows, a hop of 256, log
/// magnitudes down to e^-10 of full scale, 16-bit floats.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Raw")]
pub struct Featurize {
    /// Length of the transform in samples: even, 16 to 65,536.
    pub n_fft: usize,
    /// Distance between frames in samples: 1 to `win_length`.
    pub hop: usize,
    /// Length of the window in samples: 2 to `n_fft`; `n_fft` if left out.
    pub win_length: usize,
    /// Family of the window: `hann`, `hamming` or `gauss`; all periodic.
    pub window: WindowShape,
    /// Whether frame t is centred on sample t * hop, the ends being mirrored; otherwise
    /// it begins there.
    pub center: bool,
    /// `log`: ln(|X| * 2 / Σw), where a full-scale sine is 0; `linear`: |X|, unscaled, as
    /// librosa and torch give it.
    pub magnitude: MagnitudeKind,
    /// Least magnitude in nepers relative to a full-scale sine, -40 to -1. If left out,
    /// -10 (-87 dB) for log magnitudes and none for linear ones.
    pub floor: Option<f64>,
    /// Whether to store phases, too: radians, referred to each frame's first sample.
    pub phase: bool,
    /// Whether to store the 14 spectral descriptors, too ([`dsp::DESCRIPTORS`]).
    pub descriptors: bool,
    /// Type of stored magnitudes and phases: `f16` or `f32`. Descriptors are always `f32`:
    /// a kurtosis can exceed what an `f16` holds.
    pub dtype: Dtype,
    /// zstd level, 1 to 19: higher is a little smaller and much slower.
    pub zstd_level: i32,
}

/// The parameters as written: anything may be missing.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    n_fft: Option<usize>,
    hop: Option<usize>,
    win_length: Option<usize>,
    window: WindowShape,
    center: Option<bool>,
    magnitude: MagnitudeKind,
    floor: Option<f64>,
    phase: bool,
    descriptors: bool,
    dtype: Option<Dtype>,
    zstd_level: Option<i32>,
}

impl From<Raw> for Featurize {
    fn from(raw: Raw) -> Self {
        let n_fft = raw.n_fft.unwrap_or(1024);
        let floor = match raw.magnitude {
            MagnitudeKind::Log => Some(raw.floor.unwrap_or(f64::from(DEFAULT_FLOOR))),
            MagnitudeKind::Linear => raw.floor,
        };
        Self {
            n_fft,
            hop: raw.hop.unwrap_or(256),
            win_length: raw.win_length.unwrap_or(n_fft),
            window: raw.window,
            center: raw.center.unwrap_or(true),
            magnitude: raw.magnitude,
            floor,
            phase: raw.phase,
            descriptors: raw.descriptors,
            dtype: raw.dtype.unwrap_or(Dtype::F16),
            zstd_level: raw.zstd_level.unwrap_or(1),
        }
    }
}

impl Default for Featurize {
    fn default() -> Self {
        Raw::default().into()
    }
}

impl Featurize {
    /// How a signal of `rate` Hz becomes frames.
    pub fn format(&self, rate: u32) -> FrameFormat {
        FrameFormat {
            rate,
            config: StftConfig {
                n_fft: self.n_fft,
                hop: self.hop,
                win_length: self.win_length,
                window: self.window,
                padding: if self.center {
                    Padding::Reflect
                } else {
                    Padding::None
                },
            },
            magnitude: self.magnitude,
            floor: self.floor.map(|floor| floor as f32),
        }
    }

    /// Ranges, and parameters against one another.
    pub(crate) fn check(&self) -> Result<(), ParamError> {
        self.format(1)
            .validate()
            .map_err(|error| self.explain(&error))?;
        if !self.dtype.is_float() {
            let got = self.dtype.name();
            return Err(
                ParamError::new("dtype", format!("`dtype` is {got}, expected f16 or f32"))
                    .hint("f16 suits log magnitudes"),
            );
        }
        ParamError::check_range("zstd_level", &self.zstd_level, 1..=19, "")
    }

    fn explain(&self, error: &Error) -> ParamError {
        let (key, hint) = match error {
            Error::NFft { .. } => (
                "n_fft",
                "1024 suits 22,050 Hz, 2048 suits 44,100 Hz".to_owned(),
            ),
            Error::ZeroHop => (
                "hop",
                format!("a quarter of the window is usual: {}", self.win_length / 4),
            ),
            Error::Hop { win_length, .. } => (
                "hop",
                format!("set `hop` to at most {win_length}, or lengthen `win_length`"),
            ),
            Error::WinLength { .. } => (
                "win_length",
                "leave it out to have it as long as `n_fft`".to_owned(),
            ),
            _ => (
                "floor",
                "-10 is -87 dB, below which 16-bit sound is noise".to_owned(),
            ),
        };
        ParamError::new(key, error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolved(value: Value) -> Value {
        serde_json::to_value(serde_json::from_value::<Featurize>(value).unwrap()).unwrap()
    }

    #[test]
    fn written_out_defaults_change_nothing() {
        let plain = resolved(json!({}));
        assert_eq!(resolved(plain.clone()), plain);
        assert_eq!(
            resolved(json!({"floor": -10, "win_length": 1024, "hop": 256})),
            plain
        );
        assert_eq!(resolved(json!({"n_fft": 2048}))["win_length"], 2048);
        let linear = resolved(json!({"magnitude": "linear"}));
        assert_eq!(linear["floor"], Value::Null);
        assert_eq!(resolved(linear.clone()), linear);
    }

    #[test]
    fn unknown_and_wrong_parameters_are_refused() {
        for bad in [
            json!({"hopp": 1}),
            json!({"hop": -1}),
            json!({"window": "kaiser"}),
            json!({"dtype": "f64"}),
        ] {
            assert!(
                serde_json::from_value::<Featurize>(bad.clone()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn bad_values_are_explained() {
        let rows = [
            (
                json!({"hop": 4096, "n_fft": 2048}),
                "hop",
                "`hop` of 4096 samples is longer than the window of 2048 samples",
                "set `hop` to at most 2048, or lengthen `win_length`",
            ),
            (
                json!({"dtype": "u16"}),
                "dtype",
                "`dtype` is u16, expected f16 or f32",
                "f16 suits log magnitudes",
            ),
            (
                json!({"hop": 0}),
                "hop",
                "`hop` is 0 samples, expected at least 1",
                "a quarter of the window is usual: 256",
            ),
            (
                json!({"n_fft": 100_000}),
                "n_fft",
                "`n_fft` is 100000 samples, expected an even number from 16 to 65536",
                "1024 suits 22,050 Hz, 2048 suits 44,100 Hz",
            ),
            (
                json!({"win_length": 2000}),
                "win_length",
                "`win_length` is 2000 samples, expected 2 to `n_fft`, which is 1024",
                "leave it out to have it as long as `n_fft`",
            ),
            (
                json!({"floor": 3}),
                "floor",
                "`floor` is 3, expected -40 to -1 (natural log of magnitude relative to a full-scale sine)",
                "-10 is -87 dB, below which 16-bit sound is noise",
            ),
        ];
        for (params, key, message, hint) in rows {
            let error = serde_json::from_value::<Featurize>(params)
                .unwrap()
                .check()
                .unwrap_err();
            assert_eq!((error.key.as_str(), error.message.as_str()), (key, message));
            assert_eq!(error.hint.as_deref(), Some(hint));
        }
        let level = Featurize {
            zstd_level: 22,
            ..Default::default()
        };
        assert_eq!(level.check().unwrap_err().key, "zstd_level");
    }
}
