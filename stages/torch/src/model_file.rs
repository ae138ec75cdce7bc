//! The model file: weights and everything that is needed to use them.
//!
//! Facts beside the weights, as one canonical JSON value (see [`crate::checkpoint`]):
//! `architecture`, `rows` (columns, statistics, the transform), `road` (the stages upstream with
//! their resolved parameters), `train` (the training's own), `step`, `epoch`, `errors`. No names,
//! times or paths: the bytes follow from data and parameters alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_train::Architecture;
use tch::{Device, Tensor};

use crate::checkpoint::{self, Checkpoint};
use crate::models::{self, NextFrame, Rows};
use crate::validate::Errors;
use crate::{Error, Result};

/// What a model file says beside its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// What the model is made of.
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
    /// Errors on the validation split at that step.
    pub errors: Option<Errors>,
}

/// The bytes of the model file.
///
/// # Errors
/// A tensor cannot be copied.
pub fn to_bytes(model: &dyn NextFrame, facts: &Facts) -> Result<Vec<u8>> {
    let tensors = models::tensors(model);
    let tensors: BTreeMap<String, &Tensor> = tensors.iter().map(|(n, t)| (n.clone(), t)).collect();
    let Ok(Value::Object(meta)) = serde_json::to_value(facts) else {
        return Err(Error::checkpoint("model", "has facts that are no JSON"));
    };
    checkpoint::to_bytes(&tensors, &meta)
}

/// Reads a model file and builds the model on `device`.
///
/// # Errors
/// [`Error::Checkpoint`]: the file is damaged, is none of ours, or its weights do not fit the
/// architecture that it names.
pub fn load(path: &Path, device: Device) -> Result<(Box<dyn NextFrame>, Facts)> {
    let (facts, tensors) = read(path)?;
    let file = name_of(path);
    let mut model = models::build(&facts.architecture, &facts.rows, device, 0)?;
    models::restore(model.as_mut(), tensors).map_err(|reason| Error::checkpoint(&file, reason))?;
    Ok((model, facts))
}

/// As [`load`], from memory; `file` is its name in errors.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(file: &str, bytes: &[u8], device: Device) -> Result<(Box<dyn NextFrame>, Facts)> {
    let (facts, tensors) = facts_of(file, checkpoint::from_bytes(file, bytes)?)?;
    let mut model = models::build(&facts.architecture, &facts.rows, device, 0)?;
    models::restore(model.as_mut(), tensors).map_err(|reason| Error::checkpoint(file, reason))?;
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
    check(&facts).map_err(|reason| Error::checkpoint(file, reason))?;
    Ok((facts, saved.tensors))
}

/// Puts the weights of the file at `path` into `model`, for a training that begins with them.
///
/// # Errors
/// As [`load`]; or the file holds another architecture.
pub fn load_weights(path: &Path, model: &mut dyn NextFrame, wanted: &Architecture) -> Result<()> {
    let (facts, tensors) = read(path)?;
    let file = name_of(path);
    if facts.architecture.name() != wanted.name() {
        return Err(Error::checkpoint(
            &file,
            format!(
                "holds a model of architecture `{}`, expected `{}`",
                facts.architecture.name(),
                wanted.name()
            ),
        ));
    }
    models::restore(model, tensors).map_err(|reason| Error::checkpoint(&file, reason))
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Sizes that a digest cannot vouch for: a file of ours, but made to exhaust memory.
fn check(facts: &Facts) -> std::result::Result<(), String> {
    let width = facts.rows.width();
    let rows = &facts.rows;
    if width == 0 || width > 1 << 20 {
        return Err(format!(
            "has rows of {width} values, expected 1 to {}",
            1 << 20
        ));
    }
    for (what, length) in [
        ("mean", rows.mean.len()),
        ("std", rows.std.len()),
        ("min", rows.min.len()),
        ("max", rows.max.len()),
    ] {
        if length != width {
            return Err(format!("has `{what}` of {length} values, expected {width}"));
        }
    }
    let (hidden, layers) = match &facts.architecture {
        Architecture::Residual(c) => (c.hidden_size, c.num_layers),
        Architecture::S0(c) => (c.hidden_size, c.num_layers),
    };
    if hidden > 16_384 || layers > 64 {
        return Err(format!(
            "has {layers} layers of {hidden} values, expected at most 64 of 16384"
        ));
    }
    Ok(())
}
