//! The task `frames`: each step is a row of real numbers, the frame of a spectrogram.

mod decibels;
mod generate;
mod prompt;
mod validate;

use dsp::FrameFormat;
use serde_json::{Map, Value};
use shard::{Batch, Loader, Manifest, Shape, Split};
use stage_core::Cancel;
use stage_train::{Architecture, Train};
use tch::{Device, Tensor};

use super::Task;
use crate::data::{Dataset, chunk_of};
use crate::models::{self, Built, Chunk, Model, Pass, State};
use crate::params::Params;
use crate::rows::Rows;
use crate::trainer::metrics::Metrics;
use crate::{Error, Result};

pub use generate::FrameGenerator;

/// A model that predicts the next frame. It reads and predicts raw rows of a data set
/// (log-magnitudes in nepers, phases in radians, …) and keeps what it needs to normalise them.
pub trait FrameModel: Model {
    /// Fewest frames of a prompt that it can continue.
    fn min_prompt(&self) -> usize {
        1
    }

    /// How many rows it can read at a time without taking more than a gigabyte of memory.
    fn rows_at_a_time(&self) -> i64 {
        i64::MAX
    }

    /// The mean of the next frame for each of the rows `(B, T, width)`, and the state after them.
    ///
    /// # Errors
    /// libtorch fails.
    fn predict(&self, rows: &Tensor, reset: &Tensor, state: &State) -> Result<(Tensor, State)>;

    /// Reads rows `(B, T, width)` and draws what follows the last of them: rows `(B, width)`.
    /// `temperature`, `(B)`, scales the deviation from the mean; 0 gives the mean.
    ///
    /// # Errors
    /// libtorch fails.
    fn sample(
        &self,
        rows: &Tensor,
        reset: &Tensor,
        state: &State,
        temperature: &Tensor,
    ) -> Result<(Tensor, State)>;
}

/// A model of frames whose tensors come from `params`.
///
/// # Errors
/// As [`models::build`].
pub fn build(
    architecture: &Architecture,
    rows: &Rows,
    params: Params,
) -> Result<Box<dyn FrameModel>> {
    let Built::Frames(model) = models::build(architecture, rows, params)?;
    Ok(model)
}

/// Training a model of frames.
pub struct Frames {
    train: Train,
    dataset: Dataset,
    rows: Rows,
    validation: Option<Loader>,
    device: Device,
}

impl Frames {
    /// Opens a data set for training.
    ///
    /// # Errors
    /// There is no training split, or the data set does not say what its frames are.
    pub fn open(dataset: Dataset, train: &Train, device: Device) -> Result<Self> {
        Ok(Self {
            rows: rows_of(&dataset.manifest)?,
            validation: dataset.pass(Split::Valid)?,
            train: train.clone(),
            dataset,
            device,
        })
    }
}

impl Task for Frames {
    type Model = dyn FrameModel;

    fn build(&self, params: Params) -> Result<Box<dyn FrameModel>> {
        build(&self.train.architecture, &self.rows, params)
    }

    fn facts(&self) -> Result<Map<String, Value>> {
        let json = |value: serde_json::Result<Value>| {
            value.map_err(|e| Error::Internal(format!("the facts of a model: {e}")))
        };
        let architecture = json(serde_json::to_value(&self.train.architecture))?;
        let rows = json(serde_json::to_value(&self.rows))?;
        Ok(Map::from_iter([
            ("architecture".to_owned(), architecture),
            ("rows".to_owned(), rows),
        ]))
    }

    fn loader(&self) -> Result<Loader> {
        self.dataset
            .training(&self.train.training, &self.train.architecture)
    }

    fn chunk(&self, batch: Batch, shape: Shape) -> Result<Chunk> {
        chunk_of(batch, shape, self.device)
    }

    fn training_rows(&self) -> u64 {
        self.dataset.manifest.counts.train.rows
    }

    fn pass<'a>(&'a self, cancel: &'a Cancel) -> Result<Pass<'a>> {
        let loader = self.dataset.pass(Split::Train)?.ok_or_else(|| {
            Error::Data(
                "the training split has no two frames in a row; add longer pieces".to_owned(),
            )
        })?;
        let shape = loader.shape();
        let batches = loader.epoch(0)?;
        Ok(Pass {
            streams: shape.batch as i64,
            rows: self.training_rows(),
            chunks: Box::new(batches.map(move |batch| {
                cancel.check()?;
                chunk_of(batch?, shape, self.device)
            })),
        })
    }

    fn validate(&self, model: &dyn FrameModel, cancel: &Cancel) -> Result<Metrics> {
        let Some(loader) = &self.validation else {
            return Ok(Vec::new());
        };
        let metric = validate::validate(model, &self.rows, loader, self.device, cancel)?;
        Ok(vec![metric])
    }
}

/// The facts of a data set's rows, from its manifest.
///
/// # Errors
/// The rows are not floats, there is no training split, or the manifest does not say what its
/// frames are.
pub fn rows_of(manifest: &Manifest) -> Result<Rows> {
    let row_type = manifest.layout.row_type;
    if !row_type.is_float() {
        return Err(Error::Data(format!(
            "the data set has rows of {}, but the model reads f16 or f32; choose columns of floats",
            row_type.name()
        )));
    }
    let statistics = manifest.statistics.as_ref().ok_or_else(|| {
        Error::Data("the training split is empty; add pieces or change the split".to_owned())
    })?;
    let format = FrameFormat::from_metadata(&manifest.metadata).map_err(|e| {
        Error::Data(format!(
            "the data set does not say what its frames are: {e}"
        ))
    })?;
    let rows = Rows {
        columns: manifest
            .layout
            .fields
            .iter()
            .map(|field| (field.name.clone(), field.width))
            .collect(),
        mean: statistics.mean.clone(),
        std: statistics.std.clone(),
        min: statistics.min.clone(),
        max: statistics.max.clone(),
        frames: format.metadata(),
    };
    if rows.mean.len() != rows.width() {
        return Err(Error::Data(format!(
            "the data set has statistics of {} values, its rows have {}",
            rows.mean.len(),
            rows.width()
        )));
    }
    Ok(rows)
}
