//! Trains a model on a data set.
//!
//! This crate holds the parameters, their defaults and their validation; the work is done in the
//! executable `pipeline-torch`, where libtorch is. In pipeline.toml the parameters of training
//! ([`Training`]) and those of the model ([`models`]) stand side by side; `model` says which model
//! it is. Whatever is left out is filled in before anything is hashed, so that writing a default
//! out changes no fingerprint.
//!
//! Whole part: a data set (`manifest.json` and segments) → `model.safetensors` (the best by
//! validation), `last.safetensors`, `history.jsonl`, `history.csv`, `loss.svg`, `loss.png`.

#![warn(missing_docs)]

pub mod models;
mod params;

use stage_core::{
    Delivery, Estimate, FileParam, Host, Kind, Needs, ParamError, Part, Port, PortTakes, Stage,
};

pub use models::Architecture;
pub use params::{Algorithm, Decay, Train, Training};

/// File of the best model in the artifact.
pub const MODEL: &str = "model.safetensors";
/// File of the last model in the artifact.
pub const LAST: &str = "last.safetensors";
/// History as JSON lines.
pub const HISTORY_JSONL: &str = "history.jsonl";
/// History as a table.
pub const HISTORY_CSV: &str = "history.csv";

impl Kind for Train {
    const KIND: &'static str = "train";
    const VERSION: u32 = 4;
    const ABOUT: &'static str = "trains a model on a data set";
    const SELECTOR: Option<&'static str> = Some(params::MODEL_KEY);
    const DELIVERY: Delivery = Delivery::Folder;
}

/// The executable that does the work.
pub const PROGRAM: &str = "pipeline-torch";

impl Stage for Train {
    fn parts(&self) -> &'static [Part] {
        &[Part::Whole]
    }

    fn gives(&self, _: Part) -> &'static str {
        "model"
    }

    fn needs(&self, part: Part) -> Needs {
        Needs {
            device: part == Part::Whole,
            threads: None,
        }
    }

    fn ports(&self) -> &'static [Port] {
        &[Port {
            name: "dataset",
            takes: PortTakes::Artifact,
            of: &["data set"],
            required: true,
            about: "the data set to learn",
        }]
    }

    fn host(&self, _part: Part) -> Host {
        Host::Program(PROGRAM)
    }

    fn validate(&self) -> Result<(), ParamError> {
        self.architecture.validate()?;
        self.training.validate()
    }

    fn unread_by(&self, _part: Part) -> &'static [&'static str] {
        &["save_every"]
    }

    fn budget_keys(&self) -> &'static [&'static str] {
        &["max_steps", "epochs", "patience"]
    }

    fn files(&self) -> Vec<(&'static str, &FileParam)> {
        let file = self.training.init_from.iter();
        file.map(|file| ("init_from", file)).collect()
    }

    fn wants_preprocessing(&self, _part: Part) -> bool {
        true
    }

    fn wants_previous(&self) -> bool {
        self.training.warm_start
    }

    fn estimate(&self, _part: Part, _extent: f64) -> Estimate {
        // Multiply-adds of a row and its gradients on one core at 20 GFLOP/s.
        let weights = self.architecture.weights();
        let rows = match self.architecture.sampling() {
            models::Sampling::Chunks { rows } | models::Sampling::Windows { rows, .. } => rows,
        };
        let rows = f64::from(self.training.batch_size) * f64::from(rows);
        Estimate {
            seconds: self.training.max_steps as f64 * rows * weights * 6.0 / 20e9,
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
    fn a_model_fills_in_what_is_left_out() {
        let entry = KindEntry::of::<Train>();
        let (_, bare) = entry.parse(&json!({"model": "fft-frame-lstm"})).unwrap();
        assert_eq!(
            (&bare["num_layers"], &bare["batch_size"]),
            (&json!(4), &json!(75))
        );
        let (_, written) = entry
            .parse(&json!({"model": "fft-frame-lstm", "num_layers": 4}))
            .unwrap();
        assert_eq!(bare, written);
        let (_, again) = entry.parse(&bare).unwrap();
        assert_eq!(bare, again, "resolved parameters resolve to themselves");
        assert_eq!(
            entry.defaults(),
            entry.parse(&json!({"model": "residual-lstm"})).unwrap().1
        );
    }

    #[test]
    fn unknown_keys_are_answered_with_those_that_there_are() {
        let entry = KindEntry::of::<Train>();
        for (params, words) in [
            (
                json!({"hiden_size": 3}),
                &["hiden_size", "residual-lstm", "input_noise"][..],
            ),
            (
                json!({"model": "fft-frame-lstm", "input_noise": 0.1}),
                &["input_noise", "fft-frame-lstm", "window"],
            ),
            (json!({"model": "s0"}), &["no model `s0`", "residual-lstm"]),
            (json!({"batch_size": "x"}), &["batch_size"]),
            (json!({"hidden_size": "x"}), &["invalid type"]),
        ] {
            let error = entry.parse(&params).err().unwrap().to_string();
            for word in words {
                assert!(error.contains(word), "{error}");
            }
        }
    }

    #[test]
    fn bad_parameters_are_named() {
        let entry = KindEntry::of::<Train>();
        for (params, key) in [
            (json!({"dropout": 1.5}), "dropout"),
            (json!({"input_noise": -0.1}), "input_noise"),
            (json!({"chunk": 1}), "chunk"),
            (json!({"model": "fft-frame-lstm", "window": 1}), "window"),
            (json!({"learning_rate": -1.0}), "learning_rate"),
            (json!({"max_steps": 0}), "max_steps"),
            (json!({"momentum": 0.9}), "momentum"),
            (json!({"optimiser": "sgd", "nesterov": true}), "nesterov"),
            (json!({"decay": "linear", "decay_steps": 0}), "decay_steps"),
            (json!({"init_from": "a", "warm_start": true}), "warm_start"),
        ] {
            let (stage, _) = entry.parse(&params).unwrap();
            assert_eq!(stage.validate().unwrap_err().key, key);
        }
    }

    #[test]
    fn every_model_is_valid_as_it_comes() {
        for model in models::MODELS {
            let entry = KindEntry::of::<Train>();
            let (stage, _) = entry.parse(&json!({"model": model.name})).unwrap();
            stage.validate().unwrap();
        }
    }

    /// A model whose parameter is called like one of training would take it away.
    #[test]
    fn no_parameter_has_two_meanings() {
        let training = serde_json::to_value(Training::default()).unwrap();
        for model in models::MODELS {
            let own = (model.defaults)();
            for key in own.as_object().unwrap().keys() {
                assert!(training.get(key).is_none(), "{key} of {}", model.name);
            }
            for key in (model.training)().as_object().unwrap().keys() {
                assert!(training.get(key).is_some(), "{key} of {}", model.name);
            }
        }
    }
}
