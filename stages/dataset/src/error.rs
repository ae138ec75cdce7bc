//! What a data set can be refused for, and how the engine is to take it.

use stage_core::StageError;

/// An error of the data set's own rules; those of shards and segments are
/// [`shard::Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The table of splits cannot be understood.
    #[error("the split table, line {line}: {reason}")]
    Table {
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },

    /// A piece that the table does not name.
    #[error(
        "the split table does not name `{path}`; add a line for it, or exclude it from the source"
    )]
    Unlisted {
        /// The piece's path, relative to its source.
        path: String,
    },

    /// A piece that the table names twice, in two splits.
    #[error("the split table has `{path}` in {first} and in {second}")]
    Ambiguous {
        /// The piece's path, relative to its source.
        path: String,
        /// One split.
        first: &'static str,
        /// Another.
        second: &'static str,
    },

    /// Nothing to learn from.
    #[error("no piece is in the train split: {0}")]
    NoTraining(String),

    /// No pieces at all.
    #[error("there are no pieces to make a data set of")]
    NoPieces,

    /// A label that this stage did not give.
    #[error("a piece has the label `{0}`, expected train, valid or test")]
    Label(String),

    /// Columns that cannot lie in one row.
    #[error(
        "column `{column}` is {got}, but `{first}` is {expected}: a row has values of one type; \
         make a data set of each"
    )]
    Types {
        /// The first column.
        first: String,
        /// Its type.
        expected: &'static str,
        /// The column that differs.
        column: String,
        /// Its type.
        got: &'static str,
    },

    /// A shard without frames.
    #[error("it has no frames")]
    NoFrames,
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        // All of them follow from parameters and inputs alone.
        Self::content(error.to_string())
    }
}

/// The same for shards and segments. Damaged bytes do not follow from the
/// input's contents: made again they are whole.
pub(crate) fn of_shard(error: shard::Error) -> StageError {
    match error {
        shard::Error::Io {
            action,
            file,
            source,
        } => StageError::Io {
            context: format!("cannot {action} `{file}`"),
            source,
        },
        error if error.is_damage() => StageError::Damaged(error.to_string()),
        error @ (shard::Error::Memory { .. } | shard::Error::Encode(_)) => {
            StageError::Environment(error.to_string())
        }
        error => StageError::content(error.to_string()),
    }
}
