//! What can go wrong with frames at rest: one enum for the whole crate.
//!
//! Damage is told apart from misuse: [`Error::is_damage`] says whether the
//! bytes on disk are at fault, so that a caller may drop the object and make
//! it again instead of reporting a fault of its own.

use std::io;
use std::ops::Range;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An error of shards, segments, manifests or the loader.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("cannot {action} `{file}`")]
    Io {
        /// What was tried: `open`, `read`, `map`, `write`.
        action: &'static str,
        /// The file, as the caller named it.
        file: String,
        /// The system's reason.
        source: io::Error,
    },

    /// The file is not of the expected format, or of a version we do not know.
    #[error("`{file}` is not a {expected}: {reason}")]
    Format {
        /// The file, as the caller named it.
        file: String,
        /// What was expected: `shard`, `segment`, `manifest`.
        expected: &'static str,
        /// What was found instead.
        reason: String,
    },

    /// The bytes differ from those that were written.
    #[error(
        "`{file}` is damaged in bytes {}..{}: {reason}; remove it and make it again",
        range.start,
        range.end
    )]
    Damaged {
        /// The file, as the caller named it.
        file: String,
        /// The bytes of the file in which the damage lies.
        range: Range<u64>,
        /// How the damage was found.
        reason: String,
    },

    /// The Parquet library refused a file whose seal is intact.
    #[error("cannot read the parquet data of `{file}`: {reason}")]
    Parquet {
        /// The file, as the caller named it.
        file: String,
        /// The library's words.
        reason: String,
    },

    /// The Parquet library could not encode.
    #[error("cannot encode a shard")]
    Encode(#[source] parquet::errors::ParquetError),

    /// A column is missing.
    #[error("`{file}` has no column `{column}`; it has {}", names(available))]
    NoColumn {
        /// The file, as the caller named it.
        file: String,
        /// The column asked for.
        column: String,
        /// The columns that are there.
        available: Vec<String>,
    },

    /// Columns that cannot be written as asked.
    #[error("bad row layout: {0}")]
    Layout(String),

    /// A metadata key that the format itself writes.
    #[error("metadata key `{0}` is written by the shard itself; choose another")]
    ReservedKey(String),

    /// Values that do not make whole rows, or as many rows in every column.
    #[error("column `{column}` was given {got} values, expected {expected}")]
    Length {
        /// The column.
        column: String,
        /// Values given.
        got: usize,
        /// What would be right.
        expected: String,
    },

    /// A value that is not finite in the stored type.
    #[error(
        "row {row} of column `{column}` is {value}, which is not finite as {dtype}; \
         store finite values, or use f32"
    )]
    NotFinite {
        /// The column.
        column: String,
        /// Row, counted from the beginning of the item.
        row: u64,
        /// The value that was given.
        value: f32,
        /// The stored type.
        dtype: &'static str,
    },

    /// Rows that a segment does not have.
    #[error("rows {}..{} of `{file}` were asked for, it has {rows}", range.start, range.end)]
    Rows {
        /// The file, as the caller named it.
        file: String,
        /// The rows asked for.
        range: Range<u64>,
        /// Rows that there are.
        rows: u64,
    },

    /// The rows are of another type than the call expects.
    #[error("rows are of type {got}, expected {expected}")]
    RowType {
        /// Type of the rows at hand.
        got: &'static str,
        /// Type that the call works on.
        expected: &'static str,
    },

    /// The values are of another type than the column.
    #[error("column `{column}` is {expected}, got values of {got}")]
    Values {
        /// Its name.
        column: String,
        /// Type of the values.
        got: &'static str,
        /// Type of the column.
        expected: &'static str,
    },

    /// Segments that cannot stand in one data set.
    #[error("segment `{segment}` differs from `{first}` in its {what}: {got}, expected {expected}")]
    Mismatch {
        /// Digest of the segment that differs.
        segment: String,
        /// Digest of the first segment.
        first: String,
        /// What differs: `row type`, `columns`, `metadata …`.
        what: String,
        /// What this segment has.
        got: String,
        /// What the first segment has.
        expected: String,
    },

    /// A request for more memory than a sane file needs, or than there is.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// Bytes asked for.
        bytes: u64,
        /// What they were meant for.
        what: String,
    },

    /// A loader asked for something that no order can give.
    #[error("bad loader configuration: {0}")]
    Loader(String),

    /// The split holds no whole window.
    #[error(
        "the {split} split has no piece of at least {needed} rows (the longest has {longest}); \
         shorten the window or add longer pieces"
    )]
    Empty {
        /// The split.
        split: &'static str,
        /// Rows that one window takes.
        needed: u64,
        /// Rows of the longest piece of that split.
        longest: u64,
    },
}

impl Error {
    /// Whether bytes at rest are at fault, so that making them again helps.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Format { .. } | Self::Parquet { .. }
        )
    }

    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io {
            action,
            file,
            source,
        }
    }

    pub(crate) fn format(file: &str, expected: &'static str, reason: impl Into<String>) -> Self {
        Self::Format {
            file: file.to_owned(),
            expected,
            reason: reason.into(),
        }
    }

    pub(crate) fn damaged(file: &str, range: Range<u64>, reason: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            range,
            reason: reason.into(),
        }
    }
}

fn names(available: &[String]) -> String {
    if available.is_empty() {
        return "none".to_owned();
    }
    let quoted: Vec<String> = available.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
