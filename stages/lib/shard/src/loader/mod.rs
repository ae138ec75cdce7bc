//! The loader: batches of rows from a data set larger than memory.
//!
//! Threads gather ahead of the training thread into buffers that go round, one
//! memcpy (or one conversion to f32) per window. A batch owns its buffer until
//! it is dropped, and its rows begin where a tensor's would, so that a tensor
//! can be made over them instead of copied from them.
//!
//! What a batch holds is a pure function of (manifest, options, position),
//! position being the number of batches since the beginning of training: to
//! resume is to start there.
//!
//! - [`Sampling::Windows`]: windows at random, each by itself.
//! - [`Sampling::Chunks`]: `batch` streams, each walking through whole pieces,
//!   for recurrent state that is carried from batch to batch.
//!
//! Pieces come as they were stored. To augment training pieces, draw from
//! (seed, epoch, piece): a batch names all three.

mod maps;
mod order;
mod plan;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use bytemuck::{cast_slice, cast_slice_mut};
use half::f16;

use self::maps::Maps;
use self::plan::{Piece, Plan};
use self::stream::Buffers;
pub use self::stream::Stream;
use crate::error::{Error, Result};
use crate::layout::{Layout, RowType};
use crate::manifest::{Manifest, SegmentId, Split};

/// How places of a batch are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Windows in random order, each by itself: begin with a fresh state.
    ///
    /// An epoch takes every window of every piece once, in an order drawn from
    /// (seed, epoch); the windows of a piece begin `stride` rows apart, from an
    /// offset drawn anew each epoch among those that lose no window. Left out:
    /// pieces shorter than a window, per piece fewer than `stride` rows, and
    /// the last windows of the order that fill no batch.
    Windows {
        /// Rows from one window to the next; at least 1. With `stride = rows`
        /// every row is seen about once an epoch, with 1 about `rows` times.
        stride: usize,
    },
    /// Streams of consecutive chunks, for carried state.
    ///
    /// The pieces of an epoch stand in a line, in an order drawn from (seed,
    /// epoch), each cut into chunks of `rows` rows; the line is cut into
    /// `batch` equal lengths, and each stream walks one. `reset` says where a
    /// stream begins a piece (or comes into one at the beginning of an epoch).
    Chunks {
        /// What becomes of the ends.
        remainder: Remainder,
    },
}

/// What becomes of rows that fill no chunk, and of chunks that fill no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remainder {
    /// They are left out: for training.
    ///
    /// Each piece begins at an offset drawn anew each epoch. Every row is the
    /// beginning of a chunk, or in one, at most once an epoch; left out are per
    /// piece fewer than `rows` rows (all of a piece shorter than `rows +
    /// lookahead`), and fewer than `batch` chunks at the end of the line.
    Drop,
    /// They are padded with zeros, and `lengths` says how far: for validation.
    ///
    /// Every row from `lookahead` on of every piece is a target exactly once;
    /// pieces stand in the manifest's order, the same in every epoch.
    Pad,
}

/// In which type rows come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// As they are stored: a plain copy.
    Native,
    /// As f32: half floats exactly, tokens as numbers, bits as 0 and 1.
    F32,
    /// As i64, as an embedding takes them: tokens as numbers, bits as 0 and 1;
    /// not for rows of floats.
    I64,
}

/// What a [`Loader`] should do.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Which rows to take.
    pub split: Split,
    /// Places in a batch, B; lowered to the number of units in an epoch when
    /// there are fewer, see [`Loader::shape`].
    pub batch: usize,
    /// Rows per window or chunk, T.
    pub rows: usize,
    /// Rows more at the end of each window, so that row `t + lookahead` is the
    /// target of row `t`; the next window begins with them again. Default 1.
    pub lookahead: usize,
    /// How places are filled.
    pub sampling: Sampling,
    /// Seed of every order and offset.
    pub seed: u64,
    /// In which type rows come out.
    pub output: Output,
    /// Threads that gather ahead; at least 1. No result depends on it.
    pub threads: usize,
    /// Batches that each thread may be ahead; at least 1.
    pub prefetch: usize,
    /// Segments open at once; at least 1. Default 4,096.
    pub max_open: usize,
}

impl LoaderOptions {
    /// Options with the usual defaults: lookahead 1, seed 0, f32, one thread
    /// two batches ahead, 4,096 open segments.
    #[must_use]
    pub fn new(split: Split, batch: usize, rows: usize, sampling: Sampling) -> Self {
        Self {
            split,
            batch,
            rows,
            lookahead: 1,
            sampling,
            seed: 0,
            output: Output::F32,
            threads: 1,
            prefetch: 2,
            max_open: 4096,
        }
    }

    fn check(&self) -> Result<()> {
        let stride = match self.sampling {
            Sampling::Windows { stride } => stride,
            Sampling::Chunks { .. } => 1,
        };
        let values = [
            ("batch", self.batch, 1 << 20),
            ("rows", self.rows, 1 << 32),
            ("stride", stride, 1 << 32),
            ("threads", self.threads, 256),
            ("prefetch", self.prefetch, 4096),
            ("max_open", self.max_open, 65_000),
        ];
        for (name, value, most) in values {
            if value == 0 || value > most {
                return Err(Error::Loader(format!(
                    "`{name}` is {value}, expected 1 to {most}"
                )));
            }
        }
        if self.lookahead > 1 << 32 {
            return Err(Error::Loader(format!("`lookahead` is {}", self.lookahead)));
        }
        Ok(())
    }
}

/// The shape of every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Places, B.
    pub batch: usize,
    /// Rows in each, T + lookahead.
    pub rows: usize,
    /// Values in each row, D.
    pub width: usize,
}

/// Rows of a batch, in row-major order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Data<'a> {
    /// Floats, shaped `(B, T + lookahead, D)`.
    F32(&'a [f32]),
    /// Half floats, shaped `(B, T + lookahead, D)`.
    F16(&'a [f16]),
    /// Tokens, shaped `(B, T + lookahead, D)`.
    U16(&'a [u16]),
    /// Tokens or bits as i64, shaped `(B, T + lookahead, D)`.
    I64(&'a [i64]),
    /// Packed bits, shaped `(B, T + lookahead, ceil(D / 8))`, see [`RowType::Bit`].
    Bit(&'a [u8]),
}

impl<'a> Data<'a> {
    /// The floats; none for another type.
    #[must_use]
    pub fn f32(self) -> Option<&'a [f32]> {
        if let Self::F32(values) = self {
            Some(values)
        } else {
            None
        }
    }

    /// The half floats; none for another type.
    #[must_use]
    pub fn f16(self) -> Option<&'a [f16]> {
        if let Self::F16(values) = self {
            Some(values)
        } else {
            None
        }
    }

    /// Tokens or bits as i64; none for another type.
    #[must_use]
    pub fn i64(self) -> Option<&'a [i64]> {
        if let Self::I64(values) = self {
            Some(values)
        } else {
            None
        }
    }

    /// The tokens; none for another type.
    #[must_use]
    pub fn u16(self) -> Option<&'a [u16]> {
        if let Self::U16(values) = self {
            Some(values)
        } else {
            None
        }
    }
}

/// Rows of a batch to be written to, shaped `(B, T + lookahead, D)`.
#[derive(Debug, PartialEq)]
pub enum RowsMut<'a> {
    /// Floats.
    F32(&'a mut [f32]),
    /// Tokens or bits.
    I64(&'a mut [i64]),
}

/// One batch. Dropping it hands its buffers back to the loader.
#[derive(Debug)]
pub struct Batch {
    /// Batches since the beginning of training.
    pub position: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Step within the epoch, from 0.
    pub step: u64,
    /// Type of the rows at rest, and in which they are here.
    row_type: RowType,
    output: Output,
    buffers: Buffers,
    home: Option<Sender<Buffers>>,
}

impl Batch {
    /// The rows, shaped `(B, T + lookahead, D)`.
    #[must_use]
    pub fn data(&self) -> Data<'_> {
        let bytes = self.buffers.rows.bytes();
        match (self.output, self.row_type) {
            (Output::F32, _) | (Output::Native, RowType::F32) => Data::F32(cast_slice(bytes)),
            (Output::I64, _) => Data::I64(cast_slice(bytes)),
            (Output::Native, RowType::F16) => Data::F16(cast_slice(bytes)),
            (Output::Native, RowType::U16) => Data::U16(cast_slice(bytes)),
            (Output::Native, RowType::Bit) => Data::Bit(bytes),
        }
    }

    /// The rows if they are f32 or i64, to be written to; they begin at a
    /// multiple of 64 bytes and stay where they are until the batch is dropped,
    /// wherever it is moved.
    #[must_use]
    pub fn rows_mut(&mut self) -> Option<RowsMut<'_>> {
        let bytes = self.buffers.rows.bytes_mut();
        match (self.output, self.row_type) {
            (Output::F32, _) | (Output::Native, RowType::F32) => {
                Some(RowsMut::F32(cast_slice_mut(bytes)))
            }
            (Output::I64, _) => Some(RowsMut::I64(cast_slice_mut(bytes))),
            (Output::Native, RowType::F16 | RowType::U16 | RowType::Bit) => None,
        }
    }

    /// Shaped `(B,)`: whether the state of that place starts afresh.
    #[must_use]
    pub fn reset(&self) -> &[bool] {
        &self.buffers.reset
    }

    /// Shaped `(B,)`: rows that are real, at most T + lookahead; the rest is
    /// zero. Always full but for [`Remainder::Pad`], where a place with nothing
    /// left has 0. Of `n` real rows the first `n - lookahead` have a target.
    #[must_use]
    pub fn lengths(&self) -> &[u32] {
        &self.buffers.lengths
    }

    /// Shaped `(B,)`: which piece each place is in, counted in the manifest's
    /// order; `u32::MAX` for a place with nothing left.
    #[must_use]
    pub fn pieces(&self) -> &[u32] {
        &self.buffers.pieces
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            // The thread may have ended: then nobody needs the buffers.
            let _ = home.send(std::mem::take(&mut self.buffers));
        }
    }
}

/// A split of a data set, ready to be streamed.
pub struct Loader {
    shared: Arc<Shared>,
}

/// What the threads share.
struct Shared {
    plan: Plan,
    maps: Maps,
    shape: Shape,
    /// Type of the rows at rest.
    row_type: RowType,
    /// Bytes of a row in a batch.
    row_bytes: usize,
    output: Output,
    threads: usize,
    prefetch: usize,
}

impl Loader {
    /// A loader of the segments `<folder>/<digest>.bin`.
    ///
    /// # Errors
    /// As [`with_paths`](Self::with_paths).
    pub fn open(
        manifest: &Manifest,
        folder: impl AsRef<Path>,
        options: &LoaderOptions,
    ) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        Self::with_paths(
            manifest,
            move |digest| folder.join(format!("{digest}.bin")),
            options,
        )
    }

    /// A loader that asks `path_of` where the file of a segment lies. No
    /// segment is opened before it is needed.
    ///
    /// # Errors
    /// [`Error::Loader`] for options out of range, or i64 from rows of floats;
    /// [`Error::Empty`] when no piece of the split is long enough.
    pub fn with_paths(
        manifest: &Manifest,
        path_of: impl Fn(&SegmentId) -> PathBuf + Send + Sync + 'static,
        options: &LoaderOptions,
    ) -> Result<Self> {
        options.check()?;
        let mut pieces = Vec::new();
        for (i, entry) in manifest.segments.iter().enumerate() {
            let rows = entry.part(options.split);
            if !rows.is_empty() {
                let segment = u32::try_from(i)
                    .map_err(|_| Error::Loader("more than 2^32 segments".to_owned()))?;
                pieces.push(Piece { segment, rows });
            }
        }
        let plan = Plan::new(pieces, options)?;
        let layout: &Layout = &manifest.layout;
        let shape = Shape {
            batch: plan.batch as usize,
            rows: options.rows + options.lookahead,
            width: layout.width() as usize,
        };
        // Each thread may hold one segment that has just given way.
        let limit = options.max_open.saturating_sub(options.threads);
        let maps = Maps::new(
            manifest.segments.clone(),
            layout.clone(),
            Box::new(path_of),
            limit,
        );
        let (row_type, width) = (layout.row_type, layout.width());
        let row_bytes = match options.output {
            Output::Native => row_type.row_bytes(width),
            Output::F32 => RowType::F32.row_bytes(width),
            Output::I64 if row_type.is_float() => {
                return Err(Error::Loader(format!(
                    "rows of {} cannot come out as i64; ask for f32",
                    row_type.name()
                )));
            }
            Output::I64 => width as usize * size_of::<i64>(),
        };
        let shared = Shared {
            plan,
            maps,
            shape,
            row_type,
            row_bytes,
            output: options.output,
            threads: options.threads,
            prefetch: options.prefetch,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The shape of every batch; its `batch` may be lower than was asked for.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shared.shape
    }

    /// Batches in an epoch; at least 1, the same in every epoch.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        self.shared.plan.steps
    }

    /// Pieces that are too short to be used at all.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.shared.plan.skipped()
    }

    /// The position of a step of an epoch.
    #[must_use]
    pub fn position(&self, epoch: u64, step: u64) -> u64 {
        epoch
            .saturating_mul(self.steps_per_epoch())
            .saturating_add(step)
    }

    /// Endless batches from `(epoch, step)` on.
    ///
    /// # Errors
    /// [`Error::Loader`] when no thread can be started, [`Error::Memory`].
    pub fn at(&self, epoch: u64, step: u64) -> Result<Stream> {
        self.positions(self.position(epoch, step)..u64::MAX)
    }

    /// The batches of one epoch.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn epoch(&self, epoch: u64) -> Result<Stream> {
        self.positions(self.position(epoch, 0)..self.position(epoch + 1, 0))
    }

    /// The batches at `positions`.
    ///
    /// # Errors
    /// As [`at`](Self::at).
    pub fn positions(&self, positions: std::ops::Range<u64>) -> Result<Stream> {
        Stream::new(self.shared.clone(), positions)
    }
}
