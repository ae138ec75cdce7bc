//! Models: a file each, and one line in the table below.
//!
//! A model's parameters and defaults are in the file of the same name in `stages/train`.

mod layers;
mod model;

use std::collections::BTreeMap;

use stage_train::Architecture;
use tch::Tensor;

use crate::params::{self, BUFFER, Params};
use crate::rows::Rows;
use crate::tasks::frames::FrameModel;
use crate::{Error, Result};

pub use model::{Chunk, Group, Loss, Model, Moment, OpenPass, Pass, State};

/// A model by its task.
pub enum Built {
    /// Predicts frames.
    Frames(Box<dyn FrameModel>),
}

/// The table: file, model, task.
macro_rules! models {
    ($($file:ident: $model:ident, $task:ident);* $(;)?) => {
        $(mod $file; pub use $file::$model;)*

        /// A model whose tensors come from `params`.
        ///
        /// # Errors
        /// The rows lack a column that the model reads; a tensor is missing; out of memory.
        pub fn build(architecture: &Architecture, rows: &Rows, params: Params) -> Result<Built> {
            Ok(match architecture {
                $(Architecture::$model(config) => {
                    Built::$task(Box::new($model::new(config, rows, params)?))
                })*
            })
        }
    };
}

models! {
    residual_lstm: ResidualLstm, Frames;
    fft_frame_lstm: FftFrameLstm, Frames;
}

/// Checks that a model took every tensor of the file that it was built from.
///
/// # Errors
/// [`Error::Checkpoint`] with the name of a tensor that it did not take.
pub fn check_complete(model: &(impl Model + ?Sized)) -> Result<()> {
    match model.params().left_over() {
        Some(name) => Err(Error::checkpoint("model", params::superfluous(name))),
        None => Ok(()),
    }
}

/// All tensors of a model by their names in its file: weights, then buffers under `buffer/`.
///
/// # Errors
/// libtorch fails.
pub fn tensors(model: &(impl Model + ?Sized)) -> Result<BTreeMap<String, Tensor>> {
    let mut all = BTreeMap::new();
    for (name, tensor) in model.params().iter() {
        all.insert(name.to_owned(), tensor.f_detach()?);
    }
    let buffers = model.buffers().into_iter();
    all.extend(buffers.map(|(name, tensor)| (format!("{BUFFER}{name}"), tensor)));
    Ok(all)
}

/// Puts saved tensors into a model of the same architecture.
///
/// # Errors
/// What does not fit, in words for the user that follow the file's name.
pub fn restore(
    model: &mut (impl Model + ?Sized),
    mut saved: BTreeMap<String, Tensor>,
) -> std::result::Result<(), String> {
    let _guard = tch::no_grad_guard();
    for (name, mut buffer) in model.buffers() {
        let key = format!("{BUFFER}{name}");
        let value = saved
            .remove(&key)
            .ok_or_else(|| format!("lacks the tensor `{key}`"))?;
        params::fits(&key, &value, &buffer.size())?;
        buffer
            .f_copy_(&value)
            .map_err(|e| format!("cannot be copied to the device: {e}"))?;
    }
    model.params_mut().assign(&saved)
}
