//! Segments: the rows of one item, mapped into memory, as a model reads them.
//!
//! ```text
//! header    "plsegmnt", version, row type, width, columns, metadata   padded to 64
//! data      rows, one after another, little-endian                    padded to 64
//! blocks    per 1,024 rows: sum f64, square f64, min f32, max f32, each (width,)
//! chunks    BLAKE3 of every 1 MiB of data, 32 bytes each
//! trailer   "plsegend", version, lengths, rows, BLAKE3 of all but data: 64 bytes
//! ```
//!
//! The trailer's digest covers header, blocks, chunks and the trailer's own
//! fields, and is checked at each opening; a chunk of data is checked when a
//! process first touches it. A window of rows is one run of bytes, so that
//! gathering a batch is a memcpy per window.

mod format;
mod read;
mod write;

pub use format::{BLOCK_ROWS, CHUNK};
pub use read::{Checked, Segment};
pub use write::SegmentWriter;
