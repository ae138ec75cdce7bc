//! Why a stage could not do its work, by what follows from it.

use std::io;

use serde::{Deserialize, Serialize};

/// What kind of failure it is: only [`FailureClass::Content`] is remembered by the engine.
///
/// A failure of the item ([`FailureClass::is_of_item`]) costs the item and no more: with
/// `on_bad = "warn"` its set is made without it. No set is made without an item that failed for
/// any other reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// It follows from the input's bytes and the parameters: trying again gives the same.
    Content,
    /// The reader of the item crashed, hung or asked for more memory than it may have. The item is
    /// to blame, but nobody has said so: a busy machine stops a reader too. So the failure is not
    /// remembered, and the next run tries again.
    Crashed,
    /// Disk, permissions, memory of the machine: trying again may succeed.
    Environment,
    /// The bytes of an input are not those that were written. The engine compares them with their
    /// digests, and makes again what is damaged.
    Damaged,
    /// The user or a signal stopped it.
    Cancelled,
    /// Work that can be taken up again was saved and put aside (a signal, a time limit).
    Paused,
}

impl FailureClass {
    /// Whether the item itself failed, not the machine, the user or the time.
    pub fn is_of_item(self) -> bool {
        matches!(self, Self::Content | Self::Crashed)
    }
}

/// The error of a stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The input cannot be used; `0` says what was wrong with it, got and expected.
    #[error("{0}")]
    Content(String),
    /// The code that reads the input panicked, or its process crashed or hung.
    #[error("{0}")]
    Crashed(String),
    /// A failure of the machine; `context` says what was being done.
    #[error("{context}")]
    Io {
        /// What was being done, e.g. "writing `pcm.wav`".
        context: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Any other failure that does not follow from the input: memory, a device, a killed process.
    #[error("{0}")]
    Environment(String),
    /// An input that carries checksums of its own does not pass them, or is another file than the
    /// artifact says.
    #[error("{0}")]
    Damaged(String),
    /// [`crate::Cancel::is_set`] was seen.
    #[error("interrupted")]
    Cancelled,
    /// The work was saved in the scratch folder and can be continued; says how far it got.
    #[error("{0}")]
    Paused(String),
}

impl StageError {
    /// A failure that follows from the input.
    pub fn content(reason: impl Into<String>) -> Self {
        Self::Content(reason.into())
    }

    /// A source's file is no longer the one that was hashed.
    pub fn changed() -> Self {
        Self::Environment("the file changed while it was being read: run again".to_owned())
    }

    /// For `map_err`: an I/O failure while doing `context`.
    pub fn io(context: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }

    /// The class of this failure.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Content(_) => FailureClass::Content,
            Self::Crashed(_) => FailureClass::Crashed,
            Self::Io { .. } | Self::Environment(_) => FailureClass::Environment,
            Self::Damaged(_) => FailureClass::Damaged,
            Self::Cancelled => FailureClass::Cancelled,
            Self::Paused(_) => FailureClass::Paused,
        }
    }

    /// The message with its causes, on one line.
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
