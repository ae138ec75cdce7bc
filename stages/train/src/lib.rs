//! Trains a next-frame model on a data set.
//!
//! This crate holds the parameters, their defaults by preset and their validation; the work is
//! done in the executable `pipeline-torch`, where libtorch is. A [`Preset`] names an architecture
//! and fills in every parameter that pipeline.toml leaves out, before anything is hashed: writing
//! a preset's own value out changes no fingerprint.
//!
//! Whole part: a data set (`manifest.json` and segments) → `model.safetensors` (the best by
//! validation), `last.safetensors`, `history.jsonl`, `history.csv`, `loss.svg`, `loss.png`.

#![warn(missing_docs)]

mod architecture;
mod resolve;

use serde::{Deserialize, Serialize};
use stage_core::{
    Delivery, Estimate, FileParam, Host, Kind, ParamError, Part, Port, PortTakes, Stage,
};

use architecture::{MAX_CHUNK, MIN_CHUNK};

pub use architecture::{Architecture, Preset, ResidualConfig, S0Config};

/// File of the best model in the artifact.
pub const MODEL: &str = "model.safetensors";
/// File of the last model in the artifact.
pub const LAST: &str = "last.safetensors";
/// History as JSON lines.
pub const HISTORY_JSONL: &str = "history.jsonl";
/// History as a table.
pub const HISTORY_CSV: &str = "history.csv";

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls in a straight line.
    Linear,
    /// Falls along half a cosine.
    Cosine,
}

/// The stage `train`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "resolve::Raw")]
pub struct Train {
    /// Architecture and defaults of everything else.
    pub preset: Preset,
    /// Values in each hidden layer.
    pub hidden_size: u32,
    /// LSTM layers.
    pub num_layers: u32,
    /// Share of values dropped between layers while training.
    pub dropout: f64,
    /// Deviation of the noise that is added to the frames given while training, in deviations of
    /// their bins (residual): a model that learns to mend its input strays less on its own.
    pub input_noise: f64,
    /// Parallel streams (residual) or windows (s0) in a step.
    pub batch_size: u32,
    /// Frames that a step goes back in time; s0: the window.
    pub chunk: u32,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u32,
    /// Shape of the fall after it.
    pub decay: Decay,
    /// Steps of the fall; afterwards the rate stays at a hundredth of the highest.
    pub decay_steps: u32,
    /// Decoupled weight decay of matrices.
    pub weight_decay: f64,
    /// Largest global norm of the gradients; 0 clips nothing.
    pub clip: f64,
    /// Stop after so many steps. A budget.
    pub max_steps: u64,
    /// Stop after so many passes over the training split; 0 sets no limit. A budget.
    pub epochs: u64,
    /// Stop after so many validations without a new best; 0 never does. A budget.
    pub patience: u32,
    /// Steps between saves of the state. Changes no result.
    pub save_every: u32,
    /// CPU threads of libtorch. Part of the result: another number gives other low bits.
    pub threads: u32,
    /// Seed of weights, order, dropout and noise.
    pub seed: u64,
    /// A model file whose weights to begin with.
    pub init_from: Option<FileParam>,
    /// Begin with the weights of this stage's last finished model.
    pub warm_start: bool,
}

impl Default for Train {
    fn default() -> Self {
        Preset::default().defaults()
    }
}

impl Train {
    /// What the model is made of.
    pub fn architecture(&self) -> Architecture {
        match self.preset {
            Preset::Residual => Architecture::Residual(ResidualConfig {
                hidden_size: self.hidden_size,
                num_layers: self.num_layers,
                dropout: self.dropout,
                input_noise: self.input_noise,
                ..ResidualConfig::default()
            }),
            Preset::S0 => Architecture::S0(S0Config {
                hidden_size: self.hidden_size,
                num_layers: self.num_layers,
                dropout: self.dropout,
                window: self.chunk,
            }),
        }
    }
}

impl Kind for Train {
    const KIND: &'static str = "train";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "trains a next-frame model on a data set";
    const DELIVERY: Delivery = Delivery::Folder;
}

/// The executable that does the work.
pub const PROGRAM: &str = "pipeline-torch";

impl Stage for Train {
    fn parts(&self) -> &'static [Part] {
        &[Part::Whole]
    }

    fn ports(&self) -> &'static [Port] {
        &[Port {
            name: "dataset",
            takes: PortTakes::Artifact,
            required: true,
            about: "the data set to learn",
        }]
    }

    fn host(&self, _part: Part) -> Host {
        Host::Program(PROGRAM)
    }

    fn validate(&self) -> Result<(), ParamError> {
        let range = ParamError::check_range::<f64>;
        let count = |key, value: u32, most: u32| ParamError::check_range(key, &value, 1..=most, "");
        count("batch_size", self.batch_size, 65_536)?;
        ParamError::check_range("chunk", &self.chunk, MIN_CHUNK..=MAX_CHUNK, "frames")?;
        self.architecture().validate()?;
        count("threads", self.threads, 256)?;
        count("save_every", self.save_every, 1_000_000)?;
        // Preset `s0` does not have it.
        range("input_noise", &self.input_noise, 0.0..=2.0, "")?;
        if self.preset == Preset::S0 && self.input_noise > 0.0 {
            let message = "preset `s0` takes its frames as they are";
            return Err(ParamError::new("input_noise", message).hint("leave it out"));
        }
        range("learning_rate", &self.learning_rate, 1e-9..=1.0, "")?;
        range("weight_decay", &self.weight_decay, 0.0..=1.0, "")?;
        range("clip", &self.clip, 0.0..=1e6, "")?;
        ParamError::check_range(
            "max_steps",
            &self.max_steps,
            1..=u64::from(u32::MAX),
            "steps",
        )?;
        if self.decay != Decay::Constant && self.decay_steps == 0 {
            return Err(ParamError::new(
                "decay_steps",
                "`decay_steps` is 0 steps, expected at least 1 when the learning rate decays",
            )
            .hint("set `decay = \"constant\"`, or give `decay_steps`"));
        }
        if self.warm_start && self.init_from.is_some() {
            return Err(ParamError::new(
                "warm_start",
                "`warm_start` and `init_from` both say which weights to begin with",
            )
            .hint("keep one of them"));
        }
        Ok(())
    }

    fn unread_by(&self, _part: Part) -> &'static [&'static str] {
        &["save_every"]
    }

    fn budget_keys(&self) -> &'static [&'static str] {
        &["max_steps", "epochs", "patience"]
    }

    fn files(&self) -> Vec<(&'static str, &FileParam)> {
        self.init_from
            .iter()
            .map(|file| ("init_from", file))
            .collect()
    }

    fn wants_road(&self, _part: Part) -> bool {
        true
    }

    fn wants_previous(&self) -> bool {
        self.warm_start
    }

    fn estimate(&self, _part: Part, _extent: f64) -> Estimate {
        // Multiply-adds of a frame and its gradients on one core at 20 GFLOP/s.
        let (h, l) = (f64::from(self.hidden_size), f64::from(self.num_layers));
        let weights = l * 8.0 * h * h + 6.0 * 513.0 * h + 2.0e6;
        let frames = f64::from(self.batch_size) * f64::from(self.chunk);
        Estimate {
            seconds: self.max_steps as f64 * frames * weights * 6.0 / 20e9,
            bytes: weights * 8.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stage_core::KindEntry;

    use super::*;

    #[test]
    fn a_preset_fills_in_what_is_left_out() {
        let entry = KindEntry::of::<Train>();
        let (_, bare) = entry.parse(&json!({"preset": "s0"})).unwrap();
        assert_eq!(bare["num_layers"], 4);
        let (_, written) = entry
            .parse(&json!({"preset": "s0", "num_layers": 4}))
            .unwrap();
        assert_eq!(bare, written);
        let (_, again) = entry.parse(&bare).unwrap();
        assert_eq!(bare, again, "resolved parameters resolve to themselves");
        assert_eq!(
            entry.defaults(),
            entry.parse(&json!({"preset": "residual"})).unwrap().1
        );
    }

    #[test]
    fn bad_parameters_are_named() {
        let entry = KindEntry::of::<Train>();
        assert!(
            entry
                .parse(&json!({"hiden_size": 3}))
                .unwrap_err()
                .to_string()
                .contains("hiden_size")
        );
        for (params, key) in [
            (json!({"dropout": 1.5}), "dropout"),
            (json!({"input_noise": -0.1}), "input_noise"),
            (json!({"preset": "s0", "input_noise": 0.1}), "input_noise"),
            (json!({"chunk": 1}), "chunk"),
            (json!({"learning_rate": -1.0}), "learning_rate"),
            (json!({"max_steps": 0}), "max_steps"),
            (json!({"decay": "linear", "decay_steps": 0}), "decay_steps"),
            (json!({"init_from": "a", "warm_start": true}), "warm_start"),
        ] {
            let (stage, _) = entry.parse(&params).unwrap();
            assert_eq!(stage.validate().unwrap_err().key, key);
        }
    }

    #[test]
    fn presets_are_valid() {
        for preset in [Preset::Residual, Preset::S0] {
            preset.defaults().validate().unwrap();
        }
    }
}
