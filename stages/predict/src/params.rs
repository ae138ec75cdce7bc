//! The parameters of prediction.

use serde::{Deserialize, Serialize};
use stage_core::ParamError;

/// Most frames of one continuation: 50 minutes at the default road. The sound is made with all
/// of them in memory.
pub const MAX_FRAMES: u64 = 1 << 18;

/// Parameters that say nothing about the sampled frames.
pub(crate) const UNREAD_BY_WHOLE: &[&str] = &[
    "phase",
    "start",
    "iterations",
    "format",
    "depth",
    "keep_prompt",
];
/// Parameters that say nothing about what is made of the sampled frames.
pub(crate) const UNREAD_BY_FINISH: &[&str] = &[
    "frames",
    "seconds",
    "temperature",
    "variations",
    "seed",
    "prompt_seconds",
    "threads",
];

/// Where phases come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseMethod {
    /// Fast Griffin-Lim, better than the other two alone.
    #[default]
    GriffinLim,
    /// Phase gradient heap integration alone: 7 times faster.
    Pghi,
    /// What the model predicted, if it predicts phases.
    Predicted,
}

/// Where Griffin-Lim starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseStart {
    /// Phase gradient heap integration.
    #[default]
    Pghi,
    /// Instantaneous frequencies of the predicted phases, integrated.
    Frequency,
    /// The predicted phases as they are.
    Predicted,
}

/// Container of the sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// WAV.
    #[default]
    Wav,
    /// FLAC, lossless at about half the size.
    Flac,
}

/// Sample format of the sound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub enum Depth {
    /// 16-bit integers.
    #[default]
    #[serde(rename = "16")]
    S16,
    /// 24-bit integers.
    #[serde(rename = "24")]
    S24,
    /// 32-bit floats, WAV only.
    #[serde(rename = "float")]
    Float,
}

/// A sample format as it may be written: a number of bits without quotes, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Bits(u64),
    Name(String),
}

impl TryFrom<Written> for Depth {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let name = match written {
            Written::Bits(bits) => bits.to_string(),
            Written::Name(name) => name,
        };
        match name.as_str() {
            "16" => Ok(Self::S16),
            "24" => Ok(Self::S24),
            "float" => Ok(Self::Float),
            _ => Err(format!("`{name}`, expected \"16\", \"24\" or \"float\"")),
        }
    }
}

/// The stage `predict`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predict {
    /// Frames to sample, at least 1; left out, `seconds` decides.
    pub frames: Option<u64>,
    /// Seconds to sample.
    pub seconds: f64,
    /// Scales the deviation from the mean: 0 is the mean, 1 as lively as the corpus.
    pub temperature: f64,
    /// Continuations of each prompt, each with a random stream of its own.
    pub variations: u32,
    /// Seed of the random streams.
    pub seed: u64,
    /// Seconds of the prompt that are read, from its beginning; 0 reads all of it.
    pub prompt_seconds: f64,
    /// CPU threads of libtorch while sampling. Part of the result.
    pub threads: u32,
    /// Where phases come from.
    pub phase: PhaseMethod,
    /// Where Griffin-Lim starts from.
    pub start: PhaseStart,
    /// Rounds of Griffin-Lim.
    pub iterations: u32,
    /// Container of the sound.
    pub format: Container,
    /// Sample format of the sound.
    pub depth: Depth,
    /// Whether the prompt leads into the sound and picture, or is trimmed off.
    pub keep_prompt: bool,
}

impl Default for Predict {
    fn default() -> Self {
        Self {
            frames: None,
            seconds: 10.0,
            temperature: 1.0,
            variations: 1,
            seed: 0,
            prompt_seconds: 0.0,
            threads: 2,
            phase: PhaseMethod::default(),
            start: PhaseStart::default(),
            iterations: 64,
            format: Container::default(),
            depth: Depth::default(),
            keep_prompt: true,
        }
    }
}

impl Predict {
    /// Frames to sample at `frame_rate` frames per second.
    ///
    /// # Errors
    /// None, or more than [`MAX_FRAMES`].
    pub fn frames_at(&self, frame_rate: f64) -> Result<u64, String> {
        let by_seconds = || (self.seconds * frame_rate).round() as u64;
        let frames = self.frames.unwrap_or_else(by_seconds);
        if (1..=MAX_FRAMES).contains(&frames) {
            return Ok(frames);
        }
        Err(format!(
            "{frames} frames are asked for at {frame_rate:.2} frames per second, expected 1 to \
             {MAX_FRAMES}; set `frames` or `seconds`"
        ))
    }

    pub(crate) fn check(&self) -> Result<(), ParamError> {
        let range = ParamError::check_range::<f64>;
        if let Some(frames) = &self.frames {
            ParamError::check_range("frames", frames, 1..=MAX_FRAMES, "frames")?;
        }
        range("seconds", &self.seconds, 0.0..=86_400.0, "seconds")?;
        if self.frames.is_none() && self.seconds <= 0.0 {
            return Err(ParamError::new(
                "seconds",
                "`seconds` is 0 and `frames` is not set: nothing to sample",
            )
            .hint("set `frames` to at least 1, or `seconds` above 0"));
        }
        range("temperature", &self.temperature, 0.0..=10.0, "")?;
        ParamError::check_range("variations", &self.variations, 1..=1000, "")?;
        range(
            "prompt_seconds",
            &self.prompt_seconds,
            0.0..=86_400.0,
            "seconds",
        )?;
        ParamError::check_range("threads", &self.threads, 1..=256, "")?;
        ParamError::check_range("iterations", &self.iterations, 0..=10_000, "rounds")?;
        if self.format == Container::Flac && self.depth == Depth::Float {
            return Err(
                ParamError::new("depth", "`depth` is float, which FLAC does not hold")
                    .hint("set `depth` to \"16\" or \"24\", or `format` to \"wav\""),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stage_core::KindEntry;

    use super::*;

    #[test]
    fn bad_parameters_are_named() {
        let entry = KindEntry::of::<Predict>();
        for (params, key) in [
            (json!({"frames": 0}), "frames"),
            (json!({"frames": 10_000_000}), "frames"),
            (json!({"seconds": 0}), "seconds"),
            (json!({"seconds": -3.0}), "seconds"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"variations": 0}), "variations"),
            (json!({"format": "flac", "depth": "float"}), "depth"),
        ] {
            let (stage, _) = entry.parse(&params).unwrap();
            assert_eq!(stage.validate().unwrap_err().key, key, "{params}");
        }
        for params in [
            json!({"frame": 1}),
            json!({"frames": -1}),
            json!({"format": "ogg"}),
        ] {
            assert!(entry.parse(&params).is_err(), "{params}");
        }
        Predict::default().check().unwrap();
    }

    #[test]
    fn frames_go_before_seconds() {
        let mut predict = Predict {
            seconds: 2.0,
            ..Predict::default()
        };
        assert_eq!(predict.frames_at(86.0), Ok(172));
        predict.frames = Some(5);
        assert_eq!(predict.frames_at(86.0), Ok(5));
        predict.frames = None;
        predict.seconds = 86_400.0;
        assert!(predict.frames_at(86.0).is_err());
        predict.seconds = 0.001;
        assert!(predict.frames_at(86.0).is_err());
    }

    /// Every parameter is read by one of the parts, and each list names parameters that exist.
    #[test]
    fn the_parts_share_out_the_parameters() {
        let value = serde_json::to_value(Predict {
            frames: Some(1),
            ..Predict::default()
        })
        .unwrap();
        let mut listed: Vec<&str> = UNREAD_BY_FINISH
            .iter()
            .chain(UNREAD_BY_WHOLE)
            .copied()
            .collect();
        listed.sort_unstable();
        let known: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(listed, known);
    }
}
