//! The stages that need libtorch.
//!
//! Everything here runs in the executable `pipeline-torch`, which `pipeline` starts when a graph
//! trains or samples (see [`stage_core::worker`] for how they talk). The parameters of these
//! stages and the parts that need no libtorch are in `stage-train` and `stage-predict`.
//!
//! - [`models`]: a file per model, over [`params`]. A model knows no file, loader or optimiser.
//! - [`tasks`]: what a step of a sequence is, how it is scored, how a prompt is continued.
//! - [`trainer`]: loop, optimisers, schedule, history. It names no task and no model.
//! - [`checkpoint`], [`model_file`]: the files of models and of trainings under way.
//! - [`data`], [`rows`]: data sets as tensors. [`device`]: CUDA, MPS or CPU, and why not another.
//! - [`jobs`]: the stages themselves.

#![warn(missing_docs)]

pub mod checkpoint;
pub mod data;
pub mod device;
mod error;
mod ffi;
pub mod jobs;
pub mod model_file;
pub mod models;
pub mod params;
pub mod rows;
pub mod signals;
pub mod tasks;
pub mod trainer;

pub use error::{Error, Result};

/// Sets the process up; to be called first in `main`, before there are threads.
pub fn start() {
    ffi::keep_freed_memory();
    signals::catch();
}
