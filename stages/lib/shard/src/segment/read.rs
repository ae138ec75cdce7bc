//! Maps a segment and hands out its rows, each chunk checked when first touched.
//!
//! A tiny one is read instead: to map it, to fault its page in and to unmap it
//! takes as long as all else that opening it takes.

use std::fs::File;
use std::ops::{Deref, Range};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::AnyBitPattern;
use half::f16;
use half::slice::HalfFloatSliceExt;
use memmap2::Mmap;

use super::format::{
    BLOCK_ROWS, CHUNK, DIGEST, Header, MAX_HEADER, Parts, TRAILER, Trailer, block_bytes,
};
use crate::block::Block;
use crate::error::{Error, Result};
use crate::layout::{Layout, RowType};
use crate::manifest::SegmentId;
use crate::stats::Sums;
use crate::write::Metadata;

/// Which chunks of one segment this process has found whole.
///
/// Kept apart from the mapping, so that a segment that was unmapped to make
/// room need not be hashed again: stored segments never change.
#[derive(Debug, Default)]
pub struct Checked(Box<[AtomicU64]>);

impl Checked {
    fn new(chunks: u64) -> Self {
        Self(
            (0..chunks.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
        )
    }

    fn contains(&self, chunk: u64) -> bool {
        let word = self.0.get((chunk / 64) as usize);
        word.is_some_and(|word| word.load(Ordering::Acquire) >> (chunk % 64) & 1 == 1)
    }

    fn insert(&self, chunk: u64) {
        if let Some(word) = self.0.get((chunk / 64) as usize) {
            word.fetch_or(1 << (chunk % 64), Ordering::Release);
        }
    }
}

/// Longest file that is read into memory, not mapped: 4,096 of them, as many as
/// a loader keeps open, take 64 MiB.
const TINY: u64 = 16 << 10;

/// Where the bytes of a segment lie.
#[derive(Debug)]
enum Place {
    Mapped(Mmap),
    Read(Block),
}

impl Deref for Place {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(block) => block.bytes(),
        }
    }
}

/// A segment, mapped read-only; one of at most 16 KiB is read into memory.
///
/// The file must not change while it is mapped: a store writes segments once
/// and read-only. (A file cut short under a mapping kills the process with
/// SIGBUS; no check can prevent that.)
#[derive(Debug)]
pub struct Segment {
    place: Place,
    file: String,
    header: Header,
    rows: u64,
    parts: Parts,
    root: SegmentId,
    checked: Arc<Checked>,
}

impl Segment {
    /// Maps the segment at `path`.
    ///
    /// Checks lengths and the digest of everything but the rows.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for anything that is no segment;
    /// [`Error::Damaged`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let file = File::open(path.as_ref()).map_err(Error::io("open", &name))?;
        Self::from_file(&file, name)
    }

    /// Like [`open`](Self::open), of a file that is already open; errors call
    /// it `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: &File, name: impl Into<String>) -> Result<Self> {
        let file_name = name.into();
        let len = file
            .metadata()
            .map_err(Error::io("read", &file_name))?
            .len();
        if len < (2 * TRAILER) as u64 || usize::try_from(len).is_err() {
            return Err(Error::format(
                &file_name,
                "segment",
                format!("{len} bytes long"),
            ));
        }
        let place = if len <= TINY {
            let mut block = Block::default();
            block.resize(len as usize, "a segment")?;
            file.read_exact_at(block.bytes_mut(), 0)
                .map_err(Error::io("read", &file_name))?;
            Place::Read(block)
        } else {
            // The mapping has the length of that moment, perhaps no longer `len`.
            Place::Mapped(map(file).map_err(Error::io("map", &file_name))?)
        };
        Self::parse(place, file_name)
    }

    /// Maps the segment at `path` again, trusting the chunks in `checked`,
    /// which an earlier mapping of the same segment has found whole.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_again(path: impl AsRef<Path>, checked: Arc<Checked>) -> Result<Self> {
        let mut segment = Self::open(path)?;
        if checked.0.len() == segment.checked.0.len() {
            segment.checked = checked;
        }
        Ok(segment)
    }

    fn parse(place: Place, file: String) -> Result<Self> {
        let not = |reason: String| Error::format(&file, "segment", reason);
        let len = place.len() as u64;
        let tail = place
            .len()
            .checked_sub(TRAILER)
            .and_then(|at| place.get(at..));
        let tail = tail.ok_or_else(|| not(format!("{len} bytes long")))?;
        let trailer = Trailer::decode(tail).map_err(not)?;
        if trailer.header > MAX_HEADER.min(len) {
            return Err(not(format!("header of {} bytes", trailer.header)));
        }
        let head = place.get(..trailer.header as usize).unwrap_or_default();
        let header = Header::decode(head).map_err(not)?;
        let parts = Parts::new(trailer.header, trailer.rows, &header.layout);
        let parts = parts.filter(|parts| parts.len == len).ok_or_else(|| {
            not(format!(
                "{} rows do not fit a file of {len} bytes",
                trailer.rows
            ))
        })?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(head);
        // Blocks, chunks, and the trailer's fields lie side by side.
        let covered = parts.blocks_at as usize..place.len() - DIGEST;
        hasher.update(place.get(covered).unwrap_or_default());
        if hasher.finalize().as_bytes() != &trailer.digest {
            let reason = "header or sums differ from their BLAKE3 digest";
            return Err(Error::damaged(&file, 0..len, reason));
        }
        let checked = Arc::new(Checked::new(parts.data.div_ceil(CHUNK)));
        Ok(Self {
            place,
            file,
            header,
            rows: trailer.rows,
            parts,
            root: SegmentId(trailer.digest),
            checked,
        })
    }

    /// Type and columns of the rows.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.header.layout
    }

    /// What the segment says of itself.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The digest in the trailer, under which everything else hangs: header
    /// and sums directly, rows by the digests of their chunks.
    #[must_use]
    pub fn root(&self) -> SegmentId {
        self.root
    }

    /// Compares the root with what another file says of this segment.
    ///
    /// # Errors
    /// [`Error::Damaged`]: it is another segment.
    pub fn expect_root(&self, expected: SegmentId) -> Result<()> {
        if self.root == expected {
            return Ok(());
        }
        Err(Error::damaged(
            &self.file,
            0..self.parts.len,
            format!("its root is {}, expected {expected}", self.root),
        ))
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.parts.len
    }

    /// Which chunks were found whole; for [`open_again`](Self::open_again).
    #[must_use]
    pub fn checked(&self) -> &Arc<Checked> {
        &self.checked
    }

    /// The bytes of `rows`, after a check of the chunks that no one has
    /// touched before.
    ///
    /// # Errors
    /// [`Error::Rows`] for rows that are not there; [`Error::Damaged`].
    pub fn bytes(&self, rows: Range<u64>) -> Result<&[u8]> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(Error::Rows {
                file: self.file.clone(),
                range: rows,
                rows: self.rows,
            });
        }
        let row_bytes = self.header.layout.row_bytes() as u64;
        let bytes = rows.start * row_bytes..rows.end * row_bytes;
        self.check(bytes.clone())?;
        let at = (self.parts.data_at + bytes.start) as usize;
        Ok(self
            .place
            .get(at..at + (bytes.end - bytes.start) as usize)
            .unwrap_or_default())
    }

    /// Checks all rows.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn verify(&self) -> Result<()> {
        self.check(0..self.parts.data)
    }

    /// Rows of f32, shaped `(rows, width)`, in place.
    ///
    /// # Errors
    /// [`Error::RowType`], and as [`bytes`](Self::bytes).
    pub fn f32(&self, rows: Range<u64>) -> Result<&[f32]> {
        self.typed(RowType::F32, rows)
    }

    /// Rows of f16, shaped `(rows, width)`, in place.
    ///
    /// # Errors
    /// [`Error::RowType`], and as [`bytes`](Self::bytes).
    pub fn f16(&self, rows: Range<u64>) -> Result<&[f16]> {
        self.typed(RowType::F16, rows)
    }

    /// Rows of tokens, shaped `(rows, width)`, in place.
    ///
    /// # Errors
    /// [`Error::RowType`], and as [`bytes`](Self::bytes).
    pub fn u16(&self, rows: Range<u64>) -> Result<&[u16]> {
        self.typed(RowType::U16, rows)
    }

    /// Copies `rows` of any type into `out` as f32, shaped `(rows, width)`:
    /// tokens as their numbers, bits as 0 and 1.
    ///
    /// # Errors
    /// [`Error::Length`] when `out` is not of that size, and as
    /// [`bytes`](Self::bytes).
    pub fn read_f32(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let bytes = self.sized(rows, out.len())?;
        match self.header.layout.row_type {
            RowType::F32 => out.copy_from_slice(self.cast(bytes)?),
            RowType::F16 => self.cast::<f16>(bytes)?.convert_to_f32_slice(out),
            RowType::U16 => {
                for (out, &token) in out.iter_mut().zip(self.cast::<u16>(bytes)?) {
                    *out = f32::from(token);
                }
            }
            RowType::Bit => self.unpack(bytes, out, f32::from),
        }
        Ok(())
    }

    /// Copies `rows` of tokens or bits into `out` as i64, shaped `(rows,
    /// width)`; bits as 0 and 1.
    ///
    /// # Errors
    /// [`Error::RowType`] for floats, and as [`read_f32`](Self::read_f32).
    pub fn read_i64(&self, rows: Range<u64>, out: &mut [i64]) -> Result<()> {
        let bytes = self.sized(rows, out.len())?;
        match self.header.layout.row_type {
            RowType::U16 => {
                for (out, &token) in out.iter_mut().zip(self.cast::<u16>(bytes)?) {
                    *out = i64::from(token);
                }
            }
            RowType::Bit => self.unpack(bytes, out, i64::from),
            row_type => {
                return Err(Error::RowType {
                    got: row_type.name(),
                    expected: "u16 or bit",
                });
            }
        }
        Ok(())
    }

    /// The bytes of `rows`, whose values must be as many as `values`.
    fn sized(&self, rows: Range<u64>, values: usize) -> Result<&[u8]> {
        let bytes = self.bytes(rows.clone())?;
        let count = (rows.end - rows.start) as usize * self.header.layout.width() as usize;
        if values == count {
            return Ok(bytes);
        }
        Err(Error::Length {
            column: self.file.clone(),
            got: values,
            expected: count.to_string(),
        })
    }

    /// Unpacks rows of bits, each 0 or 1 through `convert`.
    fn unpack<T>(&self, bytes: &[u8], out: &mut [T], convert: impl Fn(u8) -> T) {
        let layout = &self.header.layout;
        let rows = bytes.chunks_exact(layout.row_bytes());
        for (out, bits) in out.chunks_exact_mut(layout.width() as usize).zip(rows) {
            for (i, out) in out.iter_mut().enumerate() {
                *out = convert(bits[i / 8] >> (i % 8) & 1);
            }
        }
    }

    /// Sums over `rows`: whole blocks from what was summed when writing, the
    /// ragged ends from the rows themselves.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn sums(&self, rows: Range<u64>) -> Result<Sums> {
        if rows.start > rows.end || rows.end > self.rows {
            return Err(Error::Rows {
                file: self.file.clone(),
                range: rows,
                rows: self.rows,
            });
        }
        let mut total = Sums::new(self.header.layout.width() as usize);
        let mut at = rows.start;
        while at < rows.end {
            let block = at / BLOCK_ROWS;
            let whole = block * BLOCK_ROWS..((block + 1) * BLOCK_ROWS).min(self.rows);
            let part = at..whole.end.min(rows.end);
            if part == whole {
                total.merge(&self.block(block, whole.end - whole.start)?);
            } else {
                total.merge(&self.sum_rows(part.clone())?);
            }
            at = part.end;
        }
        Ok(total)
    }

    pub(crate) fn check_rows(&self, rows: &Range<u64>) -> Result<()> {
        if rows.start <= rows.end && rows.end <= self.rows {
            return Ok(());
        }
        Err(Error::Rows {
            file: self.file.clone(),
            range: rows.clone(),
            rows: self.rows,
        })
    }

    fn sum_rows(&self, rows: Range<u64>) -> Result<Sums> {
        let width = self.header.layout.width() as usize;
        let mut values = vec![0.0; width];
        let mut sums = Sums::new(width);
        for row in rows {
            self.read_f32(row..row + 1, &mut values)?;
            sums.add(&values);
        }
        Ok(sums)
    }

    fn block(&self, block: u64, count: u64) -> Result<Sums> {
        let width = self.header.layout.width();
        let at = (self.parts.blocks_at + block * block_bytes(width) as u64) as usize;
        let bytes = self
            .place
            .get(at..at + block_bytes(width))
            .unwrap_or_default();
        let (width, eight) = (width as usize, width as usize * 8);
        let (sum, rest) = bytes.split_at_checked(eight).unwrap_or_default();
        let (square, rest) = rest.split_at_checked(eight).unwrap_or_default();
        let (min, max) = rest.split_at_checked(width * 4).unwrap_or_default();
        // Not cast in place: blocks of an odd width lie at odd multiples of 8.
        Ok(Sums {
            count,
            sum: collect(sum, f64::from_le_bytes),
            square: collect(square, f64::from_le_bytes),
            min: collect(min, f32::from_le_bytes),
            max: collect(max, f32::from_le_bytes),
        })
    }

    fn typed<T: AnyBitPattern>(&self, row_type: RowType, rows: Range<u64>) -> Result<&[T]> {
        let got = self.header.layout.row_type;
        if got != row_type {
            return Err(Error::RowType {
                got: got.name(),
                expected: row_type.name(),
            });
        }
        self.cast(self.bytes(rows)?)
    }

    /// Mappings begin on a page, blocks and data on 64 bytes, so this never fails.
    fn cast<'a, T: AnyBitPattern>(&self, bytes: &'a [u8]) -> Result<&'a [T]> {
        bytemuck::try_cast_slice(bytes)
            .map_err(|e| Error::format(&self.file, "segment", e.to_string()))
    }

    /// Checks every chunk that holds some of the data's `bytes`.
    fn check(&self, bytes: Range<u64>) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        for chunk in bytes.start / CHUNK..=(bytes.end - 1) / CHUNK {
            if !self.checked.contains(chunk) {
                self.check_chunk(chunk)?;
                self.checked.insert(chunk);
            }
        }
        Ok(())
    }

    fn check_chunk(&self, chunk: u64) -> Result<()> {
        let at = self.parts.data_at + chunk * CHUNK;
        let range = at..(at + CHUNK).min(self.parts.data_at + self.parts.data);
        let data = self.place.get(range.start as usize..range.end as usize);
        let digest_at = self.parts.chunks_at as usize + chunk as usize * DIGEST;
        let digest = self.place.get(digest_at..digest_at + DIGEST);
        if let (Some(data), Some(digest)) = (data, digest)
            && blake3::hash(data).as_bytes() == digest
        {
            return Ok(());
        }
        Err(Error::damaged(
            &self.file,
            range,
            "its BLAKE3 digest differs from the recorded one",
        ))
    }
}

fn collect<T, const N: usize>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().copied().map(decode).collect()
}

#[expect(unsafe_code, reason = "there is no safe way to map a file")]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the mapping is read-only and private to this type. Undefined
    // behaviour could follow only if the file changed while we hold a slice of
    // it; segments are written once, under a name made of their digest, and
    // are read-only from then on. Every value read from the mapping is checked
    // as one that a stranger wrote.
    unsafe { Mmap::map(file) }
}
