//! The table of models: a file each with the model's own parameters, and one line in
//! `models!` below.
//!
//! The tensors of a model are in `stages/torch/src/models`, in a file of the same name: this crate
//! is linked into `pipeline`, which does without libtorch.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stage_core::ParamError;

/// What one step of a sequence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Rows of real numbers: the frames of a spectrogram.
    Frames,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How training batches are cut from the pieces of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// Successive chunks of each piece; state is carried from one to the next.
    Chunks {
        /// Rows of a chunk.
        rows: u32,
    },
    /// Overlapping windows of all pieces, shuffled.
    Windows {
        /// Rows of a window.
        rows: u32,
        /// Rows between the beginnings of two windows.
        stride: u32,
    },
}

/// The parameters of one model, without its tensors.
pub trait ModelParams: Default + Serialize + for<'de> Deserialize<'de> {
    /// The name in pipeline.toml and in model files.
    const NAME: &'static str;
    /// One line on what it is.
    const ABOUT: &'static str;
    /// What it is a model of.
    const TASK: TaskName;

    /// The training parameters that are other than usual when this model is trained.
    fn training() -> Value;

    /// Checks the ranges of all fields.
    ///
    /// # Errors
    /// The first field that is out of its range.
    fn validate(&self) -> Result<(), ParamError>;

    /// How its training batches are cut.
    fn sampling(&self) -> Sampling;

    /// About how many multiply-adds a row takes.
    fn weights(&self) -> f64;
}

/// One line of the table of models.
#[derive(Debug, Clone, Copy)]
pub struct ModelEntry {
    /// The name in pipeline.toml and in model files.
    pub name: &'static str,
    /// One line on what it is.
    pub about: &'static str,
    /// What it is a model of.
    pub task: TaskName,
    /// The file in `stages/train/src/models` and in `stages/torch/src/models`, without `.rs`.
    pub file: &'static str,
    /// The defaults of its own parameters.
    pub defaults: fn() -> Value,
    /// The training parameters that it sets otherwise than usual.
    pub training: fn() -> Value,
}

macro_rules! models {
    ($($file:ident: $model:ident),* $(,)?) => {
        $(mod $file; pub use $file::$model;)*

        /// A model with its parameters: enough, with the description of the rows, to build it
        /// again. Part of the model file, where `name` is [`ModelParams::NAME`].
        #[derive(Debug, Clone, PartialEq)]
        pub enum Architecture {
            $(#[doc = concat!("See [`", stringify!($model), "`].")] $model($model),)*
        }

        /// Every model.
        pub const MODELS: &[ModelEntry] = &[$(ModelEntry {
            name: $model::NAME,
            about: $model::ABOUT,
            task: $model::TASK,
            file: stringify!($file),
            defaults: || serde_json::to_value($model::default()).unwrap_or_default(),
            training: $model::training,
        }),*];

        impl Architecture {
            /// The line of the table.
            pub fn entry(&self) -> &'static ModelEntry {
                let name = match self { $(Self::$model(_) => $model::NAME,)* };
                MODELS.iter().find(|entry| entry.name == name).unwrap_or(&MODELS[0])
            }

            /// Checks the ranges of all fields.
            ///
            /// # Errors
            /// The first field that is out of its range.
            pub fn validate(&self) -> Result<(), ParamError> {
                match self { $(Self::$model(params) => params.validate(),)* }
            }

            /// How training batches are cut.
            pub fn sampling(&self) -> Sampling {
                match self { $(Self::$model(params) => params.sampling(),)* }
            }

            /// About how many multiply-adds a row takes.
            pub fn weights(&self) -> f64 {
                match self { $(Self::$model(params) => params.weights(),)* }
            }

            /// The model's own parameters, without its name.
            pub fn params(&self) -> Map<String, Value> {
                let params = match self { $(Self::$model(params) => serde_json::to_value(params),)* };
                match params {
                    Ok(Value::Object(map)) => map,
                    _ => Map::new(),
                }
            }

            /// The model `name` with these parameters of its own.
            ///
            /// # Errors
            /// There is no such model or parameter; a value has another type.
            pub fn from_params(name: &str, params: Map<String, Value>) -> serde_json::Result<Self> {
                let params = Value::Object(params);
                match name {
                    $($model::NAME => $model::deserialize(params).map(Self::$model),)*
                    _ => Err(unknown_model(name)),
                }
            }
        }
    };
}

models! {
    residual_lstm: ResidualLstm,
    fft_frame_lstm: FftFrameLstm,
}

/// The key of a model's name in model files.
const NAME: &str = "name";

impl Architecture {
    /// The name in pipeline.toml and in model files.
    pub fn name(&self) -> &'static str {
        self.entry().name
    }
}

impl Serialize for Architecture {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = self.params();
        map.insert(NAME.to_owned(), self.name().into());
        map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut map = Map::deserialize(deserializer)?;
        let Some(Value::String(name)) = map.remove(NAME) else {
            return Err(D::Error::missing_field(NAME));
        };
        Self::from_params(&name, map).map_err(D::Error::custom)
    }
}

/// The line of the model `name`.
pub fn model(name: &str) -> Option<&'static ModelEntry> {
    MODELS.iter().find(|entry| entry.name == name)
}

/// That there is no model `name`, with the names that there are.
pub(crate) fn unknown_model(name: &str) -> serde_json::Error {
    let names: Vec<&str> = MODELS.iter().map(|entry| entry.name).collect();
    serde_json::Error::custom(format!(
        "there is no model `{}`, expected one of {}",
        name.escape_debug(),
        names.join(", ")
    ))
}

fn check_count(key: &'static str, value: u32, most: u32) -> Result<(), ParamError> {
    ParamError::check_range(key, &value, 1..=most, "")
}

/// The bounds of a chunk or window: two frames are the fewest that one can be predicted in.
fn check_frames(key: &'static str, value: u32) -> Result<(), ParamError> {
    ParamError::check_range(key, &value, 2..=65_536, "frames")
}

fn check_recurrent(hidden_size: u32, num_layers: u32, dropout: f64) -> Result<(), ParamError> {
    check_count("hidden_size", hidden_size, 16_384)?;
    check_count("num_layers", num_layers, 64)?;
    ParamError::check_range("dropout", &dropout, 0.0..=0.95, "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The names of the files in a folder, without `.rs`, but for those that hold no model.
    fn files(folder: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .map(|name| name.trim_end_matches(".rs").to_owned())
            .filter(|name| !["mod", "model", "layers"].contains(&name.as_str()))
            .collect()
    }

    #[test]
    fn every_model_has_its_files_and_every_file_its_line() {
        let table: BTreeSet<String> = MODELS.iter().map(|m| m.file.to_owned()).collect();
        assert_eq!(files("src/models"), table, "stages/train/src/models");
        assert_eq!(
            files("../torch/src/models"),
            table,
            "stages/torch/src/models"
        );
    }

    #[test]
    fn names_are_those_of_the_files() {
        for entry in MODELS {
            assert_eq!(entry.name, entry.file.replace('_', "-"));
        }
    }

    #[test]
    fn an_architecture_reads_back() {
        for entry in MODELS {
            let built = Architecture::from_params(entry.name, Map::new()).unwrap();
            built.validate().unwrap();
            let text = serde_json::to_string(&built).unwrap();
            assert_eq!(serde_json::from_str::<Architecture>(&text).unwrap(), built);
        }
    }
}
