//! Why a recording could not be decoded.

use stage_core::StageError;
use thiserror::Error;

/// Why a recording could not be decoded.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The source cannot be read or used; the text says what it is like.
    #[error("the recording {0}")]
    Source(audio::Error),
    /// The artifact cannot be written.
    #[error("{0}")]
    Write(audio::Error),
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        let reason = error.to_string();
        match error {
            Error::Source(audio::Error::Io { action, source }) => Self::Io {
                context: format!("trying to {action} the recording"),
                source,
            },
            Error::Write(audio::Error::Io { action, source }) => Self::Io {
                context: format!("trying to {action} the PCM"),
                source,
            },
            _ => Self::Content(reason),
        }
    }
}
