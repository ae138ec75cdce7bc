//! Writes the frames of one item as a Parquet shard.
//!
//! Each column is a fixed-size list that is never null. Dictionary encoding is
//! off, since on float columns it makes files larger than the raw values.
//! Memory is bounded by one row group, whatever the length of the item.
//!
//! f32 columns are byte-stream-split: the like bytes of all values lie together,
//! which lets zstd see that exponents repeat. f16 columns are plain, although
//! splitting would save another 12 %: DuckDB 2.0 reads no byte-stream-split
//! column of two-byte values, and a shard is to be read by other tools.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field as ArrowField, Schema};
use bytes::Bytes;
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, FixedLenByteArray, FixedLenByteArrayType, FloatType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::ColumnPath;

use crate::error::{Error, Result};
use crate::layout::{Column, Dtype, check_columns};
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

/// Bytes of values in a page, about. Buffers of this size stay in the processor's cache, and below
/// the size from which malloc asks the system for each: with pages of half a megabyte a third of
/// the time of f32 shards went to taking and returning them.
const PAGE: usize = 64 * 1024;

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

/// Writes one item's frames, pushed in order, as a Parquet shard.
///
/// ```
/// use shard::{Column, Dtype, Metadata, ShardOptions, ShardWriter};
///
/// let columns = [Column::new("magnitude", 3, Dtype::F16)];
/// let metadata = Metadata::from([("hop".to_owned(), "256".to_owned())]);
/// let mut writer = ShardWriter::new(Vec::new(), &columns, &metadata, ShardOptions::default())?;
/// writer.push(&[&[0.0, -1.0, -2.0]])?;
/// let (bytes, frames) = writer.finish()?;
/// assert_eq!(frames, 1);
/// # assert!(!bytes.is_empty());
/// # Ok::<(), shard::Error>(())
/// ```
pub struct ShardWriter<W: Write + Send> {
    writer: SerializedFileWriter<Sealing<W>>,
    columns: Vec<Buffered>,
    /// Rows in the buffers.
    pending: usize,
    /// Rows of a full row group.
    group: usize,
    /// Rows in finished row groups.
    written: u64,
}

/// A column and its values of the row group at hand.
struct Buffered {
    column: Column,
    values: Pending,
    levels: Levels,
}

/// The levels of some rows of a list that is never null (Dremel; Parquet's `LogicalTypes.md`): every
/// value is there, and all but the first of a row continue its list.
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl Levels {
    fn new(width: usize, rows: usize) -> Self {
        let repetition = (0..width * rows).map(|i| i16::from(i % width > 0));
        Self {
            definition: vec![1; width * rows],
            repetition: repetition.collect(),
        }
    }
}

/// The two bytes of every half float, one after another: a value of a column of bytes is a slice of
/// this, which costs nothing to make, copy or drop. Slices of a buffer would be counted, each of them.
static HALVES: [u8; 2 << 16] = {
    let mut bytes = [0; 2 << 16];
    let mut bits = 0;
    while bits < 1 << 16 {
        let [low, high] = (bits as u16).to_le_bytes();
        bytes[2 * bits] = low;
        bytes[2 * bits + 1] = high;
        bits += 1;
    }
    bytes
};

fn bytes_of(value: f16) -> FixedLenByteArray {
    let at = 2 * usize::from(value.to_bits());
    ByteArray::from(Bytes::from_static(&HALVES[at..at + 2])).into()
}

enum Pending {
    F16(Vec<f16>),
    F32(Vec<f32>),
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
        let columns: Vec<Buffered> = columns.iter().map(Buffered::new).collect();
        let schema = Arc::new(Schema::new(
            columns.iter().map(Buffered::field).collect::<Vec<_>>(),
        ));
        let row_bytes: usize = columns
            .iter()
            .map(|c| c.column.width as usize * c.column.dtype.bytes())
            .sum();
        let group = (options.row_group_bytes / row_bytes).max(1);
        let properties = properties(options, &columns, metadata)?;
        // Arrow's writer makes the schema, and the metadata by which Arrow's readers know it again.
        let (writer, _) = ArrowWriter::try_new(Sealing::new(out), schema, Some(properties))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(Error::Encode)?;
        Ok(Self {
            writer,
            columns,
            pending: 0,
            group,
            written: 0,
        })
    }

    /// Appends whole rows: one slice per column, in the columns' order, each
    /// of `k * width` values in row-major order, with one `k` for all.
    ///
    /// # Errors
    /// [`Error::Length`] for slices that are no whole rows, or unlike many;
    /// [`Error::NotFinite`] for NaN, infinities and values beyond an f16;
    /// [`Error::Encode`] when writing fails. After an error the shard is to be
    /// thrown away.
    pub fn push(&mut self, rows: &[&[f32]]) -> Result<()> {
        let count = self.rows_of(rows)?;
        let mut done = 0;
        while done < count {
            let take = (count - done).min(self.group - self.pending);
            let first = self.written + self.pending as u64;
            for (buffered, values) in self.columns.iter_mut().zip(rows) {
                let width = buffered.column.width as usize;
                buffered.append(&values[done * width..(done + take) * width], first)?;
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

    fn rows_of(&self, rows: &[&[f32]]) -> Result<usize> {
        let mut count = None;
        for (i, buffered) in self.columns.iter().enumerate() {
            let width = buffered.column.width as usize;
            let got = rows.get(i).map_or(0, |values| values.len());
            let expected = count.unwrap_or(got / width) * width;
            if got != expected {
                return Err(buffered.length(got, format!("{expected} ({width} per row)")));
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

    /// Encodes the buffered rows as one row group.
    fn flush(&mut self) -> Result<()> {
        if self.pending == 0 {
            return Ok(());
        }
        let mut group = self.writer.next_row_group().map_err(Error::Encode)?;
        for buffered in &mut self.columns {
            let column = group.next_column().map_err(Error::Encode)?;
            let missing = || ParquetError::General("a column too few".to_owned());
            let column = column.ok_or_else(missing).map_err(Error::Encode)?;
            buffered.encode(column).map_err(Error::Encode)?;
        }
        group.close().map_err(Error::Encode)?;
        self.written += self.pending as u64;
        self.pending = 0;
        Ok(())
    }
}

impl Buffered {
    fn new(column: &Column) -> Self {
        let values = match column.dtype {
            Dtype::F16 => Pending::F16(Vec::new()),
            Dtype::F32 => Pending::F32(Vec::new()),
        };
        let width = column.width as usize;
        let rows = PAGE / (width * column.dtype.bytes());
        Self {
            column: column.clone(),
            values,
            levels: Levels::new(width, rows.max(1)),
        }
    }

    fn field(&self) -> ArrowField {
        let data_type = match self.column.dtype {
            Dtype::F16 => DataType::Float16,
            Dtype::F32 => DataType::Float32,
        };
        let item = Arc::new(ArrowField::new(ITEM, data_type, false));
        // `check_columns` holds widths to 2^20, far within an i32.
        let list = DataType::FixedSizeList(item, self.column.width as i32);
        ArrowField::new(&self.column.name, list, false)
    }

    fn length(&self, got: usize, expected: String) -> Error {
        Error::Length {
            column: self.column.name.clone(),
            got,
            expected,
        }
    }

    /// `first` is the row at which the buffer's new values begin.
    fn append(&mut self, values: &[f32], first: u64) -> Result<()> {
        let bad = match &mut self.values {
            Pending::F32(buffer) => {
                buffer.extend_from_slice(values);
                values.iter().position(|value| !value.is_finite())
            }
            Pending::F16(buffer) => {
                let start = buffer.len();
                buffer.resize(start + values.len(), f16::ZERO);
                let new = &mut buffer[start..];
                new.convert_from_f32_slice(values);
                new.iter().position(|value| !value.is_finite())
            }
        };
        match bad {
            None => Ok(()),
            Some(at) => Err(Error::NotFinite {
                column: self.column.name.clone(),
                row: first + (at / self.column.width as usize) as u64,
                value: values[at],
                dtype: self.column.dtype.name(),
            }),
        }
    }

    /// Writes the buffered values, some rows at a time, and empties the buffer.
    fn encode(
        &mut self,
        mut column: SerializedColumnWriter<'_>,
    ) -> std::result::Result<(), ParquetError> {
        let Levels {
            definition,
            repetition,
        } = &self.levels;
        match &mut self.values {
            Pending::F32(buffer) => {
                for rows in buffer.chunks(definition.len()) {
                    let levels = (&definition[..rows.len()], &repetition[..rows.len()]);
                    let writer = column.typed::<FloatType>();
                    writer.write_batch(rows, Some(levels.0), Some(levels.1))?;
                }
                buffer.clear();
            }
            Pending::F16(buffer) => {
                let mut values = Vec::with_capacity(definition.len().min(buffer.len()));
                for rows in buffer.chunks(definition.len()) {
                    values.clear();
                    values.extend(rows.iter().copied().map(bytes_of));
                    let levels = (&definition[..rows.len()], &repetition[..rows.len()]);
                    let writer = column.typed::<FixedLenByteArrayType>();
                    writer.write_batch(&values, Some(levels.0), Some(levels.1))?;
                }
                buffer.clear();
            }
        }
        column.close()
    }
}

fn properties(
    options: ShardOptions,
    columns: &[Buffered],
    metadata: &Metadata,
) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(options.zstd_level).map_err(Error::Encode)?;
    let pairs = metadata
        .iter()
        .map(|(key, value)| pair(key, value))
        .collect();
    let mut builder = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        // The library's version would change the bytes of every shard.
        .set_created_by("pipeline".to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_data_page_size_limit(PAGE)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(pairs));
    for Column { name, dtype, .. } in columns.iter().map(|buffered| &buffered.column) {
        if *dtype == Dtype::F32 {
            let path = ["list", ITEM].map(str::to_owned);
            let path = ColumnPath::new([&[name.clone()][..], &path].concat());
            builder = builder.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
        }
    }
    Ok(builder.build())
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue::new(key.to_owned(), value.to_owned())
}
