//! Rows at rest: Parquet shards, memory-mapped segments, manifests, and the
//! loader that feeds a model from them.
//!
//! - A *shard* ([`ShardWriter`], [`ShardReader`]) holds everything that was
//!   computed of one item, in a format that other tools read.
//! - A *segment* ([`SegmentWriter`], [`Segment`]) holds the columns that a model
//!   reads, typed row by row, to be mapped into memory.
//! - A *manifest* ([`Manifest`]) names a data set's segments, their splits and
//!   the statistics of the training rows; the [`Loader`] streams batches of it.
#![warn(missing_docs)]

#[cfg(target_endian = "big")]
compile_error!("segments are little-endian and mapped as they are");

mod block;
mod error;
mod layout;
mod levels;
mod loader;
mod manifest;
mod pages;
mod read;
mod seal;
mod segment;
mod source;
mod stats;
mod write;

pub use error::{Error, Result};
pub use layout::{Column, Dtype, Field, Layout, MAX_COLUMNS, MAX_NAME, MAX_WIDTH, RowType, Values};
pub use loader::{
    Batch, Data, Loader, LoaderOptions, Output, Remainder, RowsMut, Sampling, Shape, Stream,
};
pub use manifest::{
    Count, Counts, MANIFEST_VERSION, Manifest, ManifestBuilder, Parts, SegmentEntry, SegmentId,
    Split,
};
pub use read::{RowBatch, RowBatches, ShardReader};
pub use segment::{BLOCK_ROWS, CHUNK, Checked, Segment, SegmentWriter};
pub use stats::{Statistics, Sums};
pub use write::{FORMAT, FRAMES, Metadata, ShardOptions, ShardWriter, VERSION};
