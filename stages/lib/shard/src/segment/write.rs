//! Writes a segment in one pass: rows stream through, sums and digests follow.

use std::io::Write;

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::format::{ALIGN, BLOCK_ROWS, CHUNK, Header, Trailer};
use crate::error::{Error, Result};
use crate::layout::{Layout, RowType, Values};
use crate::manifest::SegmentId;
use crate::stats::Sums;
use crate::write::Metadata;

/// Writes the rows of one item as a segment.
///
/// Memory is bounded but for the sums and digests, 1 to 2 % of the rows.
///
/// ```
/// use shard::{Layout, Metadata, RowType, SegmentWriter};
///
/// let layout = Layout::new(RowType::U16, [("token", 1)])?;
/// let mut writer = SegmentWriter::new(Vec::new(), layout, Metadata::new())?;
/// writer.push_u16(&[5, 6, 7])?;
/// assert_eq!(writer.rows(), 3);
/// let (bytes, root) = writer.finish()?;
/// # assert_eq!(bytes.len() % 8, 0);
/// # assert!(bytes.ends_with(&root.0));
/// # Ok::<(), shard::Error>(())
/// ```
pub struct SegmentWriter<W: Write> {
    out: W,
    layout: Layout,
    /// Header, then the blocks: what the trailer's digest covers.
    covered: blake3::Hasher,
    header: u64,
    rows: u64,
    chunk: blake3::Hasher,
    /// Bytes in `chunk`.
    filled: u64,
    digests: Vec<u8>,
    block: Sums,
    blocks: Vec<u8>,
    /// Scratch of encoded rows and of their values.
    encoded: Vec<u8>,
    floats: Vec<f32>,
}

impl<W: Write> SegmentWriter<W> {
    /// Begins a segment on `out`; `metadata` is what follows from parameters
    /// alone (rate, hop, units), since it enters the segment's digest.
    ///
    /// # Errors
    /// [`Error::Layout`], [`Error::Io`].
    pub fn new(mut out: W, layout: Layout, metadata: Metadata) -> Result<Self> {
        layout.check()?;
        let header = Header { layout, metadata };
        let bytes = header.encode()?;
        out.write_all(&bytes)
            .map_err(Error::io("write", "segment"))?;
        let mut covered = blake3::Hasher::new();
        covered.update(&bytes);
        let layout = header.layout;
        Ok(Self {
            out,
            covered,
            header: bytes.len() as u64,
            rows: 0,
            chunk: blake3::Hasher::new(),
            filled: 0,
            digests: Vec::new(),
            block: Sums::new(layout.width() as usize),
            blocks: Vec::new(),
            encoded: Vec::new(),
            floats: Vec::new(),
            layout,
        })
    }

    /// Appends whole rows of floats, shaped `(k, width)`; as f16 where rows
    /// are f16.
    ///
    /// # Errors
    /// [`Error::RowType`] for rows of tokens or bits, [`Error::Length`],
    /// [`Error::NotFinite`], [`Error::Io`].
    pub fn push_f32(&mut self, rows: &[f32]) -> Result<()> {
        self.expect("f32 or f16", &[RowType::F32, RowType::F16])?;
        self.whole(rows.len())?;
        for part in self.parts(rows.len()).map(|range| &rows[range]) {
            self.encoded.clear();
            self.floats.clear();
            if self.layout.row_type == RowType::F32 {
                self.encoded.extend_from_slice(bytemuck::cast_slice(part));
                self.floats.extend_from_slice(part);
            } else {
                let halves: Vec<f16> = part.iter().map(|&x| f16::from_f32(x)).collect();
                self.encoded
                    .extend_from_slice(bytemuck::cast_slice(&halves));
                self.floats.extend(halves.iter().map(|x| x.to_f32()));
            }
            self.write(Some(part))?;
        }
        Ok(())
    }

    /// Appends whole rows of half floats, shaped `(k, width)`.
    ///
    /// # Errors
    /// As [`push_f32`](Self::push_f32).
    pub fn push_f16(&mut self, rows: &[f16]) -> Result<()> {
        self.expect("f32 or f16", &[RowType::F32, RowType::F16])?;
        self.whole(rows.len())?;
        for part in self.parts(rows.len()).map(|range| &rows[range]) {
            self.encoded.clear();
            self.floats.clear();
            self.floats.resize(part.len(), 0.0);
            part.convert_to_f32_slice(&mut self.floats);
            if self.layout.row_type == RowType::F32 {
                self.encoded
                    .extend_from_slice(bytemuck::cast_slice(&self.floats));
            } else {
                self.encoded.extend_from_slice(bytemuck::cast_slice(part));
            }
            self.write(None)?;
        }
        Ok(())
    }

    /// Appends whole rows of tokens, shaped `(k, width)`.
    ///
    /// # Errors
    /// [`Error::RowType`] where rows are not tokens, [`Error::Length`],
    /// [`Error::Io`].
    pub fn push_u16(&mut self, rows: &[u16]) -> Result<()> {
        self.expect("u16", &[RowType::U16])?;
        self.whole(rows.len())?;
        for part in self.parts(rows.len()).map(|range| &rows[range]) {
            self.encoded.clear();
            self.encoded.extend_from_slice(bytemuck::cast_slice(part));
            self.floats.clear();
            self.floats.extend(part.iter().map(|&x| f32::from(x)));
            self.write(None)?;
        }
        Ok(())
    }

    /// Appends whole rows of bits, shaped `(k, width)`, one `bool` each.
    ///
    /// # Errors
    /// [`Error::RowType`] where rows are not bits, [`Error::Length`],
    /// [`Error::Io`].
    pub fn push_bits(&mut self, rows: &[bool]) -> Result<()> {
        self.expect("bit", &[RowType::Bit])?;
        self.whole(rows.len())?;
        let width = self.layout.width() as usize;
        for part in self.parts(rows.len()).map(|range| &rows[range]) {
            self.encoded.clear();
            for eight in part.chunks(width).flat_map(|row| row.chunks(8)) {
                let byte = eight
                    .iter()
                    .rev()
                    .fold(0, |byte, &bit| byte << 1 | u8::from(bit));
                self.encoded.push(byte);
            }
            self.floats.clear();
            self.floats
                .extend(part.iter().map(|&bit| f32::from(u8::from(bit))));
            self.write(None)?;
        }
        Ok(())
    }

    /// Appends rows given column by column, in the layout's order, each shaped
    /// `(k, width of the column)` with one `k` for all.
    ///
    /// # Errors
    /// [`Error::Values`] for a column of another type than the rows', and as
    /// [`push_f32`](Self::push_f32).
    pub fn push_columns(&mut self, columns: &[Values<'_>]) -> Result<()> {
        if columns.len() != self.layout.fields.len() {
            return Err(Error::Layout(format!(
                "{} columns were pushed for {}",
                columns.len(),
                self.layout.fields.len()
            )));
        }
        match columns {
            [Values::F32(values)] => return self.push_f32(values),
            [Values::F16(values)] => return self.push_f16(values),
            [Values::U16(values)] => return self.push_u16(values),
            [Values::Bit(values)] => return self.push_bits(values),
            _ => {}
        }
        match self.layout.row_type {
            RowType::F32 | RowType::F16 => {
                let apart = self.apart(columns, |values| {
                    let mut floats = Vec::with_capacity(values.len());
                    values.append_f32(&mut floats);
                    values.dtype().is_float().then_some(floats)
                })?;
                self.push_f32(&self.side_by_side(&apart)?)
            }
            RowType::U16 => {
                let apart = self.apart(columns, |values| match values {
                    Values::U16(codes) => Some(codes),
                    _ => None,
                })?;
                self.push_u16(&self.side_by_side(&apart)?)
            }
            RowType::Bit => {
                let apart = self.apart(columns, |values| match values {
                    Values::Bit(bits) => Some(bits),
                    _ => None,
                })?;
                self.push_bits(&self.side_by_side(&apart)?)
            }
        }
    }

    /// The values of each column in the type of the rows; `convert` gives none
    /// for another type.
    fn apart<'a, T>(
        &self,
        columns: &[Values<'a>],
        convert: impl Fn(Values<'a>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let fields = self.layout.fields.iter().zip(columns);
        fields
            .map(|(field, &values)| {
                convert(values).ok_or_else(|| Error::Values {
                    column: field.name.clone(),
                    got: values.dtype().name(),
                    expected: self.layout.row_type.name(),
                })
            })
            .collect()
    }

    /// Interleaves columns of whole rows, row by row.
    fn side_by_side<T: Copy>(&self, apart: &[impl AsRef<[T]>]) -> Result<Vec<T>> {
        let mut rows = None;
        for (field, values) in self.layout.fields.iter().zip(apart) {
            let width = field.width as usize;
            let got = values.as_ref().len();
            let expected = rows.unwrap_or(got / width) * width;
            if got != expected {
                return Err(Error::Length {
                    column: field.name.clone(),
                    got,
                    expected: format!("{expected} ({width} per row)"),
                });
            }
            rows = Some(got / width);
        }
        let rows = rows.unwrap_or(0);
        let mut out = Vec::with_capacity(rows * self.layout.width() as usize);
        for row in 0..rows {
            for (field, values) in self.layout.fields.iter().zip(apart) {
                let width = field.width as usize;
                out.extend_from_slice(&values.as_ref()[row * width..(row + 1) * width]);
            }
        }
        Ok(out)
    }

    /// Rows pushed so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes sums, digests and trailer; returns what was written to and the
    /// root, see [`Segment::root`](crate::Segment::root). Does not sync to disk.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<(W, SegmentId)> {
        if self.filled > 0 {
            self.end_chunk();
        }
        if self.block.count > 0 {
            self.end_block();
        }
        let data = self.rows * self.layout.row_bytes() as u64;
        let padding = data.next_multiple_of(ALIGN) - data;
        let fields = Trailer::fields(self.rows, self.header);
        for part in [self.blocks.as_slice(), &self.digests, &fields] {
            self.covered.update(part);
        }
        let digest = self.covered.finalize();
        let zeros = [0; ALIGN as usize];
        let parts = [
            &zeros[..padding as usize],
            &self.blocks,
            &self.digests,
            &fields,
            digest.as_bytes(),
        ];
        for part in parts {
            self.out
                .write_all(part)
                .map_err(Error::io("write", "segment"))?;
        }
        self.out.flush().map_err(Error::io("write", "segment"))?;
        Ok((self.out, SegmentId(*digest.as_bytes())))
    }

    fn expect(&self, expected: &'static str, allowed: &[RowType]) -> Result<()> {
        let row_type = self.layout.row_type;
        if allowed.contains(&row_type) {
            return Ok(());
        }
        Err(Error::RowType {
            got: row_type.name(),
            expected,
        })
    }

    fn whole(&self, values: usize) -> Result<()> {
        let width = self.layout.width() as usize;
        if values.is_multiple_of(width) {
            return Ok(());
        }
        Err(Error::Length {
            column: self
                .layout
                .fields
                .iter()
                .map(|f| f.name.as_str())
                .collect::<Vec<_>>()
                .join("+"),
            got: values,
            expected: format!("a multiple of {width}"),
        })
    }

    /// Cuts `values` where a block of sums ends, so that each part lies in one.
    fn parts(&self, values: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<W> {
        let width = self.layout.width() as usize;
        let first = (BLOCK_ROWS - self.rows % BLOCK_ROWS) as usize * width;
        let mut at = 0;
        let mut next = first;
        std::iter::from_fn(move || {
            if at == values {
                return None;
            }
            let range = at..next.min(values);
            at = range.end;
            next = at + BLOCK_ROWS as usize * width;
            Some(range)
        })
    }

    /// Writes the rows in `encoded`, whose values are in `floats`; `given` are
    /// the values before rounding, for the error text.
    fn write(&mut self, given: Option<&[f32]>) -> Result<()> {
        let width = self.layout.width() as usize;
        if let Some(at) = self.floats.iter().position(|x| !x.is_finite()) {
            return Err(Error::NotFinite {
                column: self.column_of(at % width),
                row: self.rows + (at / width) as u64,
                value: given.map_or(self.floats[at], |given| given[at]),
                dtype: self.layout.row_type.name(),
            });
        }
        self.out
            .write_all(&self.encoded)
            .map_err(Error::io("write", "segment"))?;
        let mut rest = self.encoded.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((CHUNK - self.filled) as usize));
            self.chunk.update(now);
            self.filled += now.len() as u64;
            rest = later;
            if self.filled == CHUNK {
                self.digests
                    .extend_from_slice(self.chunk.finalize().as_bytes());
                self.chunk.reset();
                self.filled = 0;
            }
        }
        self.block.add(&self.floats);
        self.rows += (self.floats.len() / width) as u64;
        if self.block.count == BLOCK_ROWS {
            self.end_block();
        }
        Ok(())
    }

    fn end_chunk(&mut self) {
        self.digests
            .extend_from_slice(self.chunk.finalize().as_bytes());
        self.chunk.reset();
        self.filled = 0;
    }

    fn end_block(&mut self) {
        let Sums {
            sum,
            square,
            min,
            max,
            ..
        } = &self.block;
        self.blocks.extend_from_slice(bytemuck::cast_slice(sum));
        self.blocks.extend_from_slice(bytemuck::cast_slice(square));
        self.blocks.extend_from_slice(bytemuck::cast_slice(min));
        self.blocks.extend_from_slice(bytemuck::cast_slice(max));
        self.block = Sums::new(self.block.width());
    }

    fn column_of(&self, value: usize) -> String {
        let mut end = 0;
        for field in &self.layout.fields {
            end += field.width as usize;
            if value < end {
                return field.name.clone();
            }
        }
        String::new()
    }
}
