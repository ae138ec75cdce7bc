//! What can go wrong in the worker that uses libtorch.

use std::io;
use std::path::PathBuf;

use stage_core::StageError;
use tch::TchError;

/// Result with this package's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of devices, models, training or sampling.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A device was asked for by name and cannot be used.
    #[error("device `{asked}` cannot be used: {reason}; `--device auto` takes what there is")]
    Device {
        /// The device, as the user named it.
        asked: String,
        /// Why not.
        reason: String,
    },

    /// libtorch refused an operation (out of memory, bad shapes).
    #[error("libtorch failed")]
    Torch(#[from] TchError),

    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried: `read`, `write`, `rename`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },

    /// A model or state file that cannot be used.
    #[error("`{file}` {reason}")]
    Checkpoint {
        /// The file's name.
        file: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },

    /// The data set or the prompt does not suit the model.
    #[error("{0}")]
    Data(String),

    /// Frames at rest could not be read.
    #[error("reading the data set")]
    Shard(#[from] shard::Error),

    /// Training went wrong in itself.
    #[error("{0}")]
    Diverged(String),

    /// A fault of this program, of a model's code say.
    #[error("fault of this program: {0}")]
    Internal(String),

    /// Anything that a stage says.
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl Error {
    /// For `map_err`: an I/O failure of `action` on `path`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// A checkpoint that cannot be used.
    pub fn checkpoint(file: &str, reason: impl Into<String>) -> Self {
        Self::Checkpoint {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }

    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            // libtorch appends its C++ stack: the first line says what happened.
            text.push_str(cause.to_string().lines().next().unwrap_or_default());
            source = cause.source();
        }
        text
    }
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        match error {
            Error::Stage(error) => error,
            Error::Checkpoint { .. } | Error::Data(_) | Error::Diverged(_) => {
                Self::Content(error.chain())
            }
            Error::Shard(ref shard) if shard.is_damage() => Self::Damaged(error.chain()),
            _ => Self::Environment(error.chain()),
        }
    }
}
