//! Why a run cannot begin or go on.

use std::path::PathBuf;

use stage_core::StageError;

use crate::config::Diagnostic;
use crate::scan::ScanError;
use crate::store::StoreError;

/// Why a run cannot begin or go on. Failures of single actions are not here: they are part of a
/// run's [`crate::Summary`].
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// What was written in pipeline.toml or on the command line cannot be meant.
    #[error(transparent)]
    Config(#[from] Diagnostic),
    /// What was asked for cannot be done.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A source cannot be listed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// The cache does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file that a parameter names cannot be read.
    #[error("stage `{stage}`: the file of its parameter `{key}` cannot be used")]
    FileParam {
        /// Name of the stage.
        stage: String,
        /// The parameter.
        key: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// A stage cannot tell what its items are called.
    #[error("stage `{stage}` cannot label its items")]
    Labels {
        /// Name of the stage.
        stage: String,
        /// The cause.
        #[source]
        source: StageError,
    },
    /// The disk cannot hold what the run is going to write.
    #[error(
        "the cache `{}` has {free} left, and this run is expected to write {needed}",
        path.display()
    )]
    DiskFull {
        /// The cache.
        path: PathBuf,
        /// Bytes left, for people.
        free: String,
        /// Bytes forecast, for people.
        needed: String,
    },
}

impl EngineError {
    /// What the user can do about it, if there is something to say that the message does not.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::DiskFull { .. } => Some(
                "free some space, put the cache elsewhere with `--cache DIR`, or begin all the \
                     same with `run --ignore-space`: what is finished when the disk is full is kept"
                    .to_owned(),
            ),
            Self::Store(error) if error.lost_object().is_some() => {
                Some("the next `pipeline run` of its stage makes it again".to_owned())
            }
            _ => None,
        }
    }

    /// Whether the fault is in what the user wrote (exit code 2) rather than in the world (1).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Config(_) | Self::Usage { .. } => true,
            Self::Scan(ScanError::Root { source, .. }) => missing(source),
            Self::FileParam {
                source: StoreError::Io { source, .. },
                ..
            } => missing(source),
            Self::Store(error) => matches!(error, StoreError::NotAStore { .. }),
            _ => false,
        }
    }
}

/// Whether a path that the user named is not there.
fn missing(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

/// An error with its causes, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
