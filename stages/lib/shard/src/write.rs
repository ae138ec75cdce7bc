//! Writes the rows of one item as a Parquet shard.
//!
//! Each column is a fixed-size list that is never null. Dictionary encoding is
//! off for floats, since it makes their files larger than the raw values.
//! Memory is bounded by one row group, whatever the length of the item.
//!
//! f32 columns are byte-stream-split: the like bytes of all values lie together,
//! which lets zstd see that exponents repeat. f16 columns are plain, although
//! splitting would save another 12 %: DuckDB 2.0 reads no byte-stream-split
//! column of two-byte values, and a shard is to be read by other tools.
//!
//! u16 and bit columns are written by Arrow's own column writer, with a
//! dictionary: codes repeat.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, FixedSizeListArray, UInt16Array};
use arrow::datatypes::{DataType, Field as ArrowField, Schema};
use half::slice::HalfFloatSliceExt;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use zstd::bulk::Compressor;

use crate::error::{Error, Result};
use crate::layout::{Column, Dtype, Values, check_columns};
use crate::pages::Pages;
use crate::seal::Sealing;

/// Key-value metadata of a shard, in the order of their keys.
pub type Metadata = BTreeMap<String, String>;

/// The metadata key under which a shard says how many rows it has.
pub const FRAMES: &str = "frames";
/// The metadata key of the format's own version.
pub const FORMAT: &str = "shard_version";
/// Version of the shard format; raised when old readers would misread.
pub const VERSION: &str = "1";
/// The key under which Arrow keeps the schema that makes lists fixed-size.
const ARROW_SCHEMA: &str = "ARROW:schema";

/// Name of the values in a list, as the Parquet specification has it.
const ITEM: &str = "element";

/// How a shard is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// zstd level, 1 to 22. The default is 1: on log magnitudes of music level
    /// 3 takes longer and its files are no smaller (1 % larger, measured).
    pub zstd_level: i32,
    /// Bytes of values in a row group before compression; the default is 4 MiB.
    /// Bounds the memory of writer and reader.
    pub row_group_bytes: usize,
}

impl Default for ShardOptions {
    fn default() -> Self {
        Self {
            zstd_level: 1,
            row_group_bytes: 4 << 20,
        }
    }
}

/// Writes one item's rows, pushed in order, as a Parquet shard.
///
/// ```
/// use shard::{Column, Dtype, Metadata, ShardOptions, ShardWriter};
///
/// let columns = [Column::new("magnitude", 3, Dtype::F16)];
/// let metadata = Metadata::from([("hop".to_owned(), "256".to_owned())]);
/// let mut writer = ShardWriter::new(Vec::new(), &columns, &metadata, ShardOptions::default())?;
/// writer.push(&[[0.0_f32, -1.0, -2.0].as_slice()])?;
/// let (bytes, frames) = writer.finish()?;
/// assert_eq!(frames, 1);
/// # assert!(!bytes.is_empty());
/// # Ok::<(), shard::Error>(())
/// ```
pub struct ShardWriter<W: Write + Send> {
    writer: SerializedFileWriter<Sealing<W>>,
    columns: Vec<Chunk>,
    arrow: ArrowRowGroupWriterFactory,
    /// Row groups that are finished.
    groups: usize,
    zstd: Compressor<'static>,
    /// Rows in the row group at hand.
    pending: usize,
    /// Rows of a full row group.
    group: usize,
    /// Rows in finished row groups.
    written: u64,
}

/// A column in the row group at hand.
enum Chunk {
    Floats(Pages),
    Codes(Column, Vec<u16>),
    Bits(Column, Vec<bool>),
}

impl Chunk {
    fn column(&self) -> &Column {
        match self {
            Self::Floats(pages) => &pages.column,
            Self::Codes(column, _) | Self::Bits(column, _) => column,
        }
    }

    /// Appends `values[range]`, whole rows of which the first is row `first`
    /// of the shard.
    fn append(
        &mut self,
        values: Values<'_>,
        range: Range<usize>,
        first: u64,
        zstd: &mut Compressor<'static>,
    ) -> Result<()> {
        let widened;
        let (pages, floats) = match (self, values) {
            (Self::Floats(pages), Values::F32(values)) => (pages, &values[range]),
            (Self::Floats(pages), Values::F16(values)) => {
                widened = values[range].to_f32_vec();
                (pages, widened.as_slice())
            }
            (Self::Codes(_, codes), Values::U16(values)) => {
                codes.extend_from_slice(&values[range]);
                return Ok(());
            }
            (Self::Bits(_, bits), Values::Bit(values)) => {
                bits.extend_from_slice(&values[range]);
                return Ok(());
            }
            (chunk, values) => {
                let column = chunk.column();
                return Err(Error::Values {
                    column: column.name.clone(),
                    got: values.dtype().name(),
                    expected: column.dtype.name(),
                });
            }
        };
        let width = pages.column.width as usize;
        let bad = pages.append(floats, zstd).map_err(Error::Encode)?;
        bad.map_or(Ok(()), |at| {
            Err(Error::NotFinite {
                column: pages.column.name.clone(),
                row: first + (at / width) as u64,
                value: floats[at],
                dtype: pages.column.dtype.name(),
            })
        })
    }

    /// Writes the column into its row group; codes and bits by `writer`.
    fn end<W: Write + Send>(
        &mut self,
        writer: Option<ArrowColumnWriter>,
        group: &mut SerializedRowGroupWriter<'_, Sealing<W>>,
        zstd: &mut Compressor<'static>,
    ) -> std::result::Result<(), ParquetError> {
        let (column, values): (&Column, ArrayRef) = match self {
            Self::Floats(pages) => return pages.end_chunk(group, zstd),
            Self::Codes(column, codes) => {
                let codes = UInt16Array::from(std::mem::take(codes));
                (column, Arc::new(codes))
            }
            Self::Bits(column, bits) => {
                let bits = BooleanArray::from(std::mem::take(bits));
                (column, Arc::new(bits))
            }
        };
        let missing = || ParquetError::General(format!("no writer of column {}", column.name));
        let mut writer = writer.ok_or_else(missing)?;
        let list = FixedSizeListArray::try_new(item(column), column.width as i32, values, None)?;
        let list: ArrayRef = Arc::new(list);
        for leaf in compute_leaves(&field(column), &list)? {
            writer.write(&leaf)?;
        }
        writer.close()?.append_to_row_group(group)
    }
}

impl<W: Write + Send> ShardWriter<W> {
    /// Begins a shard of `columns` on `out`.
    ///
    /// `metadata` lands in the file's key-value metadata; the keys `frames`
    /// and `shard_version` are written by the shard itself.
    ///
    /// # Errors
    /// [`Error::Layout`] for columns that cannot be, [`Error::ReservedKey`],
    /// [`Error::Encode`] for a zstd level outside 1 to 22.
    pub fn new(
        out: W,
        columns: &[Column],
        metadata: &Metadata,
        options: ShardOptions,
    ) -> Result<Self> {
        check_columns(columns)?;
        if let Some(key) = [FRAMES, FORMAT, ARROW_SCHEMA]
            .iter()
            .find(|k| metadata.contains_key(**k))
        {
            return Err(Error::ReservedKey((*key).to_owned()));
        }
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let row_bytes: usize = columns
            .iter()
            .map(|column| column.width as usize * column.dtype.bytes())
            .sum();
        let group = (options.row_group_bytes / row_bytes).max(1);
        let level = ZstdLevel::try_new(options.zstd_level).map_err(Error::Encode)?;
        let compression = Compression::ZSTD(level);
        let zstd = Compressor::new(options.zstd_level).map_err(|e| Error::Encode(e.into()))?;
        // Arrow's writer makes the schema, and the metadata by which Arrow's readers know it again.
        let properties = Some(properties(metadata, compression));
        let (writer, arrow) = ArrowWriter::try_new(Sealing::new(out), schema, properties)
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(Error::Encode)?;
        // A column has one leaf, its values: the schemas go side by side.
        let descriptions = writer.schema_descr().columns();
        let columns = columns.iter().zip(descriptions);
        let columns = columns
            .map(|(column, description)| {
                let column = column.clone();
                match column.dtype {
                    Dtype::F16 | Dtype::F32 => {
                        let half = column.dtype == Dtype::F16;
                        Chunk::Floats(Pages::new(column, half, description.clone(), compression))
                    }
                    Dtype::U16 => Chunk::Codes(column, Vec::new()),
                    Dtype::Bit => Chunk::Bits(column, Vec::new()),
                }
            })
            .collect();
        Ok(Self {
            columns,
            arrow,
            groups: 0,
            writer,
            zstd,
            pending: 0,
            group,
            written: 0,
        })
    }

    /// Appends whole rows: one slice per column, in the columns' order, each
    /// of `k * width` values in row-major order, with one `k` for all. Floats
    /// of either width go into a float column, u16 and bits into their own.
    ///
    /// # Errors
    /// [`Error::Values`] for values of another type than the column's;
    /// [`Error::Length`] for slices that are no whole rows, or unlike many;
    /// [`Error::NotFinite`] for NaN, infinities and values beyond an f16;
    /// [`Error::Encode`] when writing fails. After an error the shard is to be
    /// thrown away.
    pub fn push<'a, V: Into<Values<'a>> + Copy>(&mut self, rows: &[V]) -> Result<()> {
        let count = self.rows_of(rows)?;
        let mut done = 0;
        while done < count {
            let take = (count - done).min(self.group - self.pending);
            let first = self.rows();
            for (chunk, &values) in self.columns.iter_mut().zip(rows) {
                let width = chunk.column().width as usize;
                let range = done * width..(done + take) * width;
                chunk.append(values.into(), range, first, &mut self.zstd)?;
            }
            self.pending += take;
            done += take;
            if self.pending == self.group {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Rows pushed so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.written + self.pending as u64
    }

    /// Writes what is left, seal and footer; returns what was written to and
    /// the number of rows. Does not sync to disk.
    ///
    /// # Errors
    /// [`Error::Encode`] when writing fails.
    pub fn finish(mut self) -> Result<(W, u64)> {
        self.flush()?;
        let rows = self.written;
        self.writer
            .append_key_value_metadata(pair(FRAMES, &rows.to_string()));
        self.writer.append_key_value_metadata(pair(FORMAT, VERSION));
        // Pages may still lie in the writer's buffer: they come before the seal.
        self.writer.flush().map_err(|e| Error::Encode(e.into()))?;
        self.writer.inner_mut().begin_footer();
        let sealing = self.writer.into_inner().map_err(Error::Encode)?;
        let out = sealing.finish().map_err(|e| Error::Encode(e.into()))?;
        Ok((out, rows))
    }

    fn rows_of<'a, V: Into<Values<'a>> + Copy>(&self, rows: &[V]) -> Result<usize> {
        let mut count = None;
        for (i, column) in self.columns.iter().map(Chunk::column).enumerate() {
            let width = column.width as usize;
            let got = rows.get(i).map_or(0, |&values| values.into().len());
            let expected = count.unwrap_or(got / width) * width;
            if got != expected {
                return Err(Error::Length {
                    column: column.name.clone(),
                    got,
                    expected: format!("{expected} ({width} per row)"),
                });
            }
            count = Some(got / width);
        }
        if rows.len() != self.columns.len() {
            return Err(Error::Layout(format!(
                "{} slices were pushed for {} columns",
                rows.len(),
                self.columns.len()
            )));
        }
        Ok(count.unwrap_or(0))
    }

    /// Ends the row group.
    fn flush(&mut self) -> Result<()> {
        if self.pending == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(Error::Encode)?;
        // One writer per column; none is needed where all are floats.
        let all_floats = self.columns.iter().all(|c| c.column().dtype.is_float());
        let writers = if all_floats {
            Vec::new()
        } else {
            let writers = self.arrow.create_column_writers(self.groups);
            writers.map_err(Error::Encode)?
        };
        let mut writers = writers.into_iter();
        for chunk in &mut self.columns {
            let writer = writers.next();
            let ended = chunk.end(writer, &mut group, &mut self.zstd);
            ended.map_err(Error::Encode)?;
        }
        self.groups += 1;
        group.close().map_err(Error::Encode)?;
        self.written += self.pending as u64;
        self.pending = 0;
        Ok(())
    }
}

/// The values of a column's lists.
fn item(column: &Column) -> Arc<ArrowField> {
    let data_type = match column.dtype {
        Dtype::F16 => DataType::Float16,
        Dtype::F32 => DataType::Float32,
        Dtype::U16 => DataType::UInt16,
        Dtype::Bit => DataType::Boolean,
    };
    Arc::new(ArrowField::new(ITEM, data_type, false))
}

fn field(column: &Column) -> ArrowField {
    // `check_columns` holds widths to 2^20, far within an i32.
    let list = DataType::FixedSizeList(item(column), column.width as i32);
    ArrowField::new(&column.name, list, false)
}

fn properties(metadata: &Metadata, compression: Compression) -> WriterProperties {
    let pairs = metadata
        .iter()
        .map(|(key, value)| pair(key, value))
        .collect();
    WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_compression(compression)
        // The library's version would change the bytes of every shard.
        .set_created_by("pipeline".to_owned())
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(Some(pairs))
        .build()
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue::new(key.to_owned(), value.to_owned())
}
