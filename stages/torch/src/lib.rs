//! The stages that need libtorch.
//!
//! Everything here runs in the executable `pipeline-torch`, which `pipeline` starts when a graph
//! trains or samples (see [`stage_core::worker`] for how they talk). The parameters of these
//! stages and the parts that need no libtorch are in `stage-train` and `stage-predict`.
//!
//! - [`device`]: CUDA, MPS or CPU, and why not another.
//! - [`params`], [`optim`], [`checkpoint`]: named weights, AdamW with a state that can be saved,
//!   and the files of both.
//! - [`models`]: a file per architecture.
//! - [`learner`]: the training loop; [`innovations`]: what sampling draws from.
//! - [`jobs`]: the stages themselves.

#![warn(missing_docs)]

pub mod checkpoint;
pub mod data;
pub mod device;
mod error;
mod ffi;
pub mod history;
pub mod innovations;
pub mod jobs;
pub mod learner;
pub mod model_file;
pub mod models;
pub mod optim;
pub mod params;
pub mod signals;
pub mod tensorboard;
pub mod validate;

pub use error::{Error, Result};

/// Sets the process up; to be called first in `main`, before there are threads.
pub fn start() {
    ffi::keep_freed_memory();
    signals::catch();
}
