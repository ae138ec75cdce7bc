//! Tasks: what one step of a sequence is, how it is scored, and how a prompt becomes a result.
//!
//! A task opens a data set for the trainer and a model file for the stage `predict`. It is chosen
//! by the model: see [`stage_train::models`].

pub mod frames;

use serde_json::{Map, Value};
use shard::{Batch, Loader, Shape};
use stage_core::{Cancel, ItemInput};

use crate::Result;
use crate::models::{Chunk, Model, Pass};
use crate::params::Params;
use crate::trainer::metrics::Metrics;

/// What the trainer asks of a task. It is bound to a data set, a device, and one model's
/// parameters.
pub trait Task {
    /// What models of this task can do beside being trained.
    type Model: Model + ?Sized;

    /// A model whose tensors come from `params`.
    ///
    /// # Errors
    /// The data do not suit the model; a tensor is missing; out of memory.
    fn build(&self, params: Params) -> Result<Box<Self::Model>>;

    /// What a model file says beside weights and training: enough to build the model again.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    fn facts(&self) -> Result<Map<String, Value>>;

    /// The loader of training batches.
    ///
    /// # Errors
    /// No piece is long enough; the segments cannot be read.
    fn loader(&self) -> Result<Loader>;

    /// A loader's batch as tensors on the device.
    ///
    /// # Errors
    /// Out of memory.
    fn chunk(&self, batch: Batch, shape: Shape) -> Result<Chunk>;

    /// Rows of the training split.
    fn training_rows(&self) -> u64;

    /// One pass over the training split for what a model fits without gradients. It ends with an
    /// error when `cancel` is set.
    ///
    /// # Errors
    /// The segments cannot be read.
    fn pass<'a>(&'a self, cancel: &'a Cancel) -> Result<Pass<'a>>;

    /// Measures a model on the validation split, the primary metric first; gives none when
    /// nothing is held out.
    ///
    /// # Errors
    /// Data cannot be read, libtorch fails, or a stop was asked for.
    fn validate(&self, model: &Self::Model, cancel: &Cancel) -> Result<Metrics>;
}

/// The sampling loop of a task: prompt in, steps out.
pub trait Generator {
    /// A prompt as the model reads it.
    type Prompt;

    /// Reads a prompt.
    ///
    /// # Errors
    /// It is not of the kind that the model was trained on, too short, too long, or empty.
    fn prompt(&self, item: &ItemInput) -> Result<Self::Prompt>;

    /// Samples `steps` steps after the prompt; `push` takes the values of each.
    ///
    /// # Errors
    /// libtorch fails, the model gives no numbers, a stop was asked for, or `push` fails.
    fn generate(
        &self,
        prompt: &Self::Prompt,
        steps: u64,
        push: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()>;
}
