//! The model file as it is read: weights and everything that is needed to use them.
//!
//! Facts beside the weights, as one canonical JSON value (see [`crate::checkpoint`]):
//! `architecture`, `rows` (columns, statistics, the transform), `road` (the stages upstream with
//! their resolved parameters), `train` (the training's own), `step`, `epoch`, `metrics`. No names,
//! times or paths: the bytes follow from data and parameters alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_train::Architecture;
use tch::{Device, Tensor};

use crate::checkpoint::{self, Checkpoint};
use crate::models::{self, Model};
use crate::params::Params;
use crate::rows::Rows;
use crate::tasks::frames::{self, FrameModel};
use crate::trainer::metrics::Metrics;
use crate::{Error, Result};

/// What a model file says beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The model and its parameters.
    pub architecture: Architecture,
    /// What it reads and predicts.
    pub rows: Rows,
    /// The stages through which its training data went.
    pub road: Option<Value>,
    /// The training's parameters.
    pub train: Value,
    /// Steps made.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u64,
    /// What validation measured at that step.
    pub metrics: Metrics,
}

/// Reads a model file and builds the model on `device`.
///
/// # Errors
/// [`Error::Checkpoint`]: the file is damaged, is none of ours, or its weights do not fit the
/// architecture that it names.
pub fn load(path: &Path, device: Device) -> Result<(Box<dyn FrameModel>, Facts)> {
    let (facts, tensors) = read(path)?;
    let params = Params::saved(device, tensors);
    let model = frames::build(&facts.architecture, &facts.rows, params)
        .and_then(|model| models::check_complete(model.as_ref()).map(|()| model))
        .map_err(|error| match error {
            Error::Checkpoint { reason, .. } => Error::checkpoint(&name_of(path), reason),
            error => error,
        })?;
    Ok((model, facts))
}

/// Reads a model file's facts and tensors.
///
/// # Errors
/// As [`load`].
pub fn read(path: &Path) -> Result<(Facts, BTreeMap<String, Tensor>)> {
    facts_of(&name_of(path), checkpoint::read(path)?)
}

fn facts_of(file: &str, saved: Checkpoint) -> Result<(Facts, BTreeMap<String, Tensor>)> {
    let facts: Facts = serde_json::from_value(Value::Object(saved.meta)).map_err(|e| {
        Error::checkpoint(
            file,
            format!("is no model that this program can use ({e}); make it again with this version"),
        )
    })?;
    facts
        .architecture
        .validate()
        .map_err(|error| format!("has an architecture that cannot be: {error}"))
        .and_then(|()| facts.rows.check())
        .map_err(|reason| Error::checkpoint(file, reason))?;
    Ok((facts, saved.tensors))
}

/// Puts the weights of the file at `path` into `model`, for a training that begins with them.
/// `name` is that of the model.
///
/// # Errors
/// As [`load`]; or the file holds another model.
pub fn load_weights(path: &Path, model: &mut (impl Model + ?Sized), name: &str) -> Result<()> {
    let saved = checkpoint::read(path)?;
    let file = name_of(path);
    let held = saved.meta.get("architecture").and_then(|a| a.get("name"));
    if held.and_then(Value::as_str) != Some(name) {
        let held = held.map_or_else(|| "another kind".to_owned(), Value::to_string);
        return Err(Error::checkpoint(
            &file,
            format!("holds a model {held}, expected `{name}`"),
        ));
    }
    models::restore(model, saved.tensors).map_err(|reason| Error::checkpoint(&file, reason))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
