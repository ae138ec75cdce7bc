//! The model file: weights and everything that is needed to use them.
//!
//! Facts beside the weights, as one canonical JSON value (see [`crate::checkpoint`]):
//! `architecture`, `rows` (columns, statistics, the transform), `road` (the stages upstream with
//! their resolved parameters), `train` (the training's own), `step`, `epoch`, `errors`. No names,
//! times or paths: the bytes follow from data and parameters alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stage_train::Architecture;
use tch::{Device, Tensor};

use crate::checkpoint::{self, Checkpoint};
use crate::models::{self, NextFrame, Rows};
use crate::validate::Errors;
use crate::{Error, Result};

/// Most columns of the rows: a data set has magnitudes, phases and descriptors.
const MAX_COLUMNS: usize = 16;
/// Most values of a row.
const MAX_WIDTH: usize = 1 << 20;
/// Largest value in the statistics of the rows, far above any magnitude.
const MAX_VALUE: f32 = 1e12;

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
    let model = rebuild(&name_of(path), &facts, device, tensors)?;
    Ok((model, facts))
}

/// As [`load`], from memory; `file` is its name in errors.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(file: &str, bytes: &[u8], device: Device) -> Result<(Box<dyn NextFrame>, Facts)> {
    let (facts, tensors) = facts_of(file, checkpoint::from_bytes(file, bytes)?)?;
    let model = rebuild(file, &facts, device, tensors)?;
    Ok((model, facts))
}

fn rebuild(
    file: &str,
    facts: &Facts,
    device: Device,
    tensors: BTreeMap<String, Tensor>,
) -> Result<Box<dyn NextFrame>> {
    models::rebuild(&facts.architecture, &facts.rows, device, tensors).map_err(
        |error| match error {
            Error::Checkpoint { reason, .. } => Error::checkpoint(file, reason),
            error => error,
        },
    )
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

/// Checks what a digest cannot vouch for: that the facts are such as this program writes. A file
/// can be made to exhaust memory, or to feed the sampler with what is no number.
fn check(facts: &Facts) -> std::result::Result<(), String> {
    facts
        .architecture
        .validate()
        .map_err(|error| format!("has an architecture that cannot be: {error}"))?;
    let rows = &facts.rows;
    let mut names = BTreeSet::new();
    for (name, width) in &rows.columns {
        if *width == 0 || !names.insert(name) {
            let name: String = name.chars().take(100).collect();
            return Err(format!(
                "has a column `{}` twice or without values",
                name.escape_debug()
            ));
        }
    }
    if !(1..=MAX_COLUMNS).contains(&names.len()) {
        return Err(format!(
            "has {} columns, expected 1 to {MAX_COLUMNS}",
            names.len()
        ));
    }
    let width = rows.width();
    if width > MAX_WIDTH {
        return Err(format!(
            "has rows of {width} values, expected 1 to {MAX_WIDTH}"
        ));
    }
    // The models compute in f32.
    let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
    for (what, values) in [
        ("mean", &narrow(&rows.mean)),
        ("std", &narrow(&rows.std)),
        ("min", &rows.min),
        ("max", &rows.max),
    ] {
        let length = values.len();
        if length != width {
            return Err(format!("has `{what}` of {length} values, expected {width}"));
        }
        if let Some(bad) = values.iter().find(|x| x.is_nan() || x.abs() > MAX_VALUE) {
            return Err(format!(
                "has {bad:e} in `{what}`, expected numbers from -{MAX_VALUE:e} to {MAX_VALUE:e}"
            ));
        }
    }
    if rows.std.iter().any(|std| *std < 0.0) {
        return Err("has a negative deviation in `std`".to_owned());
    }
    if rows.min.iter().zip(&rows.max).any(|(min, max)| min > max) {
        return Err("has a value in `min` above that in `max`".to_owned());
    }
    rows.format()
        .map(drop)
        .map_err(|error| format!("has {error}"))
}
