//! Column chunks of lists that are never null, page by page.
//!
//! The `parquet` crate's own column writer asks for a level and a value at a time; a half float is
//! a byte string to it, with an owner of its own. Here a page is what the format says it is: levels
//! that are known from the number of rows ([`crate::levels`]), then the bytes of the values, plain
//! or split into streams (`Encodings.md`, "Byte Stream Split"). It is encoded and compressed while
//! it lies in the processor's cache. Headers, footer and all else are the crate's.
//!
//! Pages are cut where the crate's writer cut them, so that shards are the bytes that they were.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::basic::{Compression, Encoding, EncodingMask, PageType};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use crate::layout::Column;
use crate::levels;

/// Bytes of values in a page, about. Buffers of this size stay in the processor's cache, and below
/// the size from which malloc asks the system for each: with pages of half a megabyte a third of
/// the time of f32 shards went to taking and returning them.
const PAGE: usize = 64 * 1024;

/// Most rows of a page, about.
const PAGE_ROWS: usize = 20_000;

/// Values after which a page may end, at least; it ends with a row.
const STEP: usize = 1024;

/// The pages of a column in the row group at hand.
pub(crate) struct Pages {
    pub(crate) column: Column,
    description: ColumnDescPtr,
    compression: Compression,
    /// Of the page at hand.
    values: Values,
    /// Rows of the page at hand.
    rows: usize,
    /// Rows since the last turn, see [`Cut`].
    turn: usize,
    cut: Cut,
    /// Number of rows of a page → its levels: a file has few such numbers.
    levels: BTreeMap<usize, Vec<u8>>,
    /// A page before compression.
    raw: Vec<u8>,
    /// A page after compression.
    compressed: Vec<u8>,
    /// Pages that are done, with their headers.
    done: Vec<u8>,
    /// Of these, for the footer: pages, rows, bytes before compression.
    totals: Totals,
}

enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

#[derive(Default)]
struct Totals {
    pages: i32,
    rows: usize,
    uncompressed: usize,
}

/// Where pages may end: after each `step` rows, counted anew every `turn` rows.
struct Cut {
    step: usize,
    turn: usize,
}

impl Pages {
    /// Begins the first row group of `column`, of f16 if `half`, else of f32; `description` is the
    /// schema's of its values.
    pub(crate) fn new(
        column: Column,
        half: bool,
        description: ColumnDescPtr,
        compression: Compression,
    ) -> Self {
        let width = column.width as usize;
        Self {
            values: if half {
                Values::F16(Vec::new())
            } else {
                Values::F32(Vec::new())
            },
            cut: Cut {
                step: STEP.div_ceil(width),
                turn: (PAGE / (width * column.dtype.bytes())).max(1),
            },
            column,
            description,
            compression,
            rows: 0,
            turn: 0,
            levels: BTreeMap::new(),
            raw: Vec::new(),
            compressed: Vec::new(),
            done: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Appends whole rows. Gives the position of the first value that is NaN, infinite or beyond
    /// what the column holds; then nothing more may be asked of it.
    pub(crate) fn append(
        &mut self,
        values: &[f32],
        zstd: &mut Compressor<'static>,
    ) -> Result<Option<usize>, ParquetError> {
        let width = self.column.width as usize;
        let mut done = 0;
        while done < values.len() {
            let until_cut = self.cut.step - self.turn % self.cut.step;
            let rows = until_cut.min(self.cut.turn - self.turn);
            let part = &values[done..values.len().min(done + rows * width)];
            if let Some(bad) = self.values.extend(part) {
                return Ok(Some(done + bad));
            }
            self.rows += part.len() / width;
            self.turn += part.len() / width;
            done += part.len();
            let may_end = self.turn.is_multiple_of(self.cut.step) || self.turn == self.cut.turn;
            if self.turn == self.cut.turn {
                self.turn = 0;
            }
            if may_end && (self.values.bytes() >= PAGE || self.rows >= PAGE_ROWS) {
                self.end_page(zstd)?;
            }
        }
        Ok(None)
    }

    /// Hands the column's pages to `group`, and begins the next row group.
    pub(crate) fn end_chunk<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        zstd: &mut Compressor<'static>,
    ) -> Result<(), ParquetError> {
        if self.rows > 0 {
            self.end_page(zstd)?;
        }
        self.turn = 0;
        let totals = std::mem::take(&mut self.totals);
        let encoding = self.values.encoding();
        let metadata = ColumnChunkMetaData::builder(self.description.clone())
            .set_compression(self.compression)
            .set_encodings_mask(EncodingMask::new_from_encodings(
                [Encoding::RLE, encoding].iter(),
            ))
            .set_page_encoding_stats(vec![PageEncodingStats {
                page_type: PageType::DATA_PAGE,
                encoding,
                count: totals.pages,
            }])
            .set_total_compressed_size(self.done.len() as i64)
            .set_total_uncompressed_size(totals.uncompressed as i64)
            .set_num_values((totals.rows * self.column.width as usize) as i64)
            .set_data_page_offset(0)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: self.done.len() as u64,
            rows_written: totals.rows as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: None,
        };
        group.append_column(&Done(&self.done), close)?;
        self.done.clear();
        Ok(())
    }

    fn end_page(&mut self, zstd: &mut Compressor<'static>) -> Result<(), ParquetError> {
        let (rows, width) = (self.rows, self.column.width as usize);
        let levels = self.levels.entry(rows).or_insert_with(|| {
            let mut levels = Vec::new();
            levels::append(rows, width, &mut levels);
            levels
        });
        self.raw.clear();
        self.raw.extend_from_slice(levels);
        self.values.take(&mut self.raw);
        self.compressed.clear();
        let most = zstd::compress_bound(self.raw.len());
        self.compressed.reserve(most);
        zstd.compress_to_buffer(&self.raw, &mut self.compressed)?;
        let compressed = Bytes::from(std::mem::take(&mut self.compressed));
        let page = Page::DataPage {
            buf: compressed.clone(),
            // `MAX_WIDTH` and `PAGE` keep it far below 2^32.
            num_values: (rows * width) as u32,
            encoding: self.values.encoding(),
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let mut out = TrackedWrite::new(&mut self.done);
        let mut writer = SerializedPageWriter::new(&mut out);
        let spec = writer.write_page(CompressedPage::new(page, self.raw.len()))?;
        writer.close()?;
        // The same memory again, now that the page has let go of it: malloc would give it back to
        // the system, and take it anew, for every page.
        self.compressed = Vec::from(compressed);
        self.totals.pages += 1;
        self.totals.rows += rows;
        self.totals.uncompressed += spec.uncompressed_size;
        self.rows = 0;
        Ok(())
    }
}

impl Values {
    fn bytes(&self) -> usize {
        match self {
            Self::F16(values) => size_of_val(&values[..]),
            Self::F32(values) => size_of_val(&values[..]),
        }
    }

    fn encoding(&self) -> Encoding {
        match self {
            Self::F16(_) => Encoding::PLAIN,
            Self::F32(_) => Encoding::BYTE_STREAM_SPLIT,
        }
    }

    /// Appends `new` as this type; gives the position of the first that is not finite then.
    fn extend(&mut self, new: &[f32]) -> Option<usize> {
        // Exponents of ones only. To look at all of them lets the compiler use SIMD.
        match self {
            Self::F16(values) => {
                let begin = values.len();
                values.resize(begin + new.len(), f16::ZERO);
                let new_values = &mut values[begin..];
                new_values.convert_from_f32_slice(new);
                let odd = |x: &f16| x.to_bits() & 0x7C00 == 0x7C00;
                let any = new_values.iter().fold(false, |any, x| any | odd(x));
                any.then(|| new_values.iter().position(odd))?
            }
            Self::F32(values) => {
                values.extend_from_slice(new);
                let odd = |x: &f32| x.to_bits() & 0x7F80_0000 == 0x7F80_0000;
                let any = new.iter().fold(false, |any, x| any | odd(x));
                any.then(|| new.iter().position(odd))?
            }
        }
    }

    /// Appends the encoded values to `out`, and empties them.
    fn take(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::F16(values) => {
                out.extend_from_slice(bytemuck::cast_slice(values));
                values.clear();
            }
            Self::F32(values) => {
                for byte in 0..4 {
                    out.extend(values.iter().map(|x| (x.to_bits() >> (8 * byte)) as u8));
                }
                values.clear();
            }
        }
    }
}

/// Pages as a file of their own, to be copied from.
struct Done<'a>(&'a [u8]);

impl Length for Done<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl<'a> ChunkReader for Done<'a> {
    type T = &'a [u8];

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let beyond = || ParquetError::EOF(format!("byte {start} of {}", self.0.len()));
        self.0.get(start..).ok_or_else(beyond)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let rest = self.get_read(start)?;
        let beyond = || ParquetError::EOF(format!("{length} bytes of {}", rest.len()));
        rest.get(..length)
            .map(Bytes::copy_from_slice)
            .ok_or_else(beyond)
    }
}
