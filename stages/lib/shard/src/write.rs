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

use arrow::array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field as ArrowField, Schema};
use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
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
    writer: ArrowWriter<Sealing<W>>,
    schema: Arc<Schema>,
    columns: Vec<Buffered>,
    /// Rows in the buffers.
    pending: usize,
    /// Rows that are encoded at a time.
    batch: usize,
    /// Rows of a full row group.
    group: usize,
    /// Rows that are encoded already: in the open row group, in all.
    grouped: usize,
    written: u64,
}

/// A column and its values of the row group at hand.
struct Buffered {
    column: Column,
    item: Arc<ArrowField>,
    values: Pending,
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
        let fields: Vec<ArrowField> = columns.iter().map(Buffered::field).collect();
        let schema = Arc::new(Schema::new(fields));
        let row_bytes: usize = columns
            .iter()
            .map(|c| c.column.width as usize * c.column.dtype.bytes())
            .sum();
        let group = (options.row_group_bytes / row_bytes).max(1);
        let batch = (PAGE / row_bytes).clamp(1, group);
        let properties = properties(options, &columns, metadata)?;
        let writer = ArrowWriter::try_new(Sealing::new(out), schema.clone(), Some(properties))
            .map_err(Error::Encode)?;
        Ok(Self {
            writer,
            schema,
            columns,
            pending: 0,
            batch,
            group,
            grouped: 0,
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
            let room = (self.batch - self.pending).min(self.group - self.grouped - self.pending);
            let take = (count - done).min(room);
            let first = self.written + self.pending as u64;
            for (buffered, values) in self.columns.iter_mut().zip(rows) {
                let width = buffered.column.width as usize;
                buffered.append(&values[done * width..(done + take) * width], first)?;
            }
            self.pending += take;
            done += take;
            if self.pending == self.batch || self.grouped + self.pending == self.group {
                self.encode()?;
            }
            if self.grouped == self.group {
                self.writer.flush().map_err(Error::Encode)?;
                self.grouped = 0;
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
        self.encode()?;
        self.writer.flush().map_err(Error::Encode)?;
        let rows = self.written;
        self.writer
            .append_key_value_metadata(pair(FRAMES, &rows.to_string()));
        self.writer.append_key_value_metadata(pair(FORMAT, VERSION));
        // Pages may still lie in the writer's buffer: they come before the seal.
        self.writer.sync().map_err(|e| Error::Encode(e.into()))?;
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

    /// Encodes the buffered rows into the open row group.
    fn encode(&mut self) -> Result<()> {
        if self.pending == 0 {
            return Ok(());
        }
        let arrays = self
            .columns
            .iter_mut()
            .map(Buffered::take)
            .collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(self.schema.clone(), arrays)
            .map_err(|e| Error::Encode(e.into()))?;
        self.writer.write(&batch).map_err(Error::Encode)?;
        self.grouped += self.pending;
        self.written += self.pending as u64;
        self.pending = 0;
        Ok(())
    }
}

impl Buffered {
    fn new(column: &Column) -> Self {
        let (data_type, values) = match column.dtype {
            Dtype::F16 => (DataType::Float16, Pending::F16(Vec::new())),
            Dtype::F32 => (DataType::Float32, Pending::F32(Vec::new())),
        };
        let item = Arc::new(ArrowField::new(ITEM, data_type, false));
        Self {
            column: column.clone(),
            item,
            values,
        }
    }

    fn field(&self) -> ArrowField {
        // `check_columns` holds widths to 2^20, far within an i32.
        let list = DataType::FixedSizeList(self.item.clone(), self.column.width as i32);
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

    fn take(&mut self) -> Result<ArrayRef> {
        let values: ArrayRef = match &mut self.values {
            Pending::F16(buffer) => Arc::new(Float16Array::from(std::mem::take(buffer))),
            Pending::F32(buffer) => Arc::new(Float32Array::from(std::mem::take(buffer))),
        };
        let width = self.column.width as i32;
        let list = FixedSizeListArray::try_new(self.item.clone(), width, values, None)
            .map_err(|e| Error::Encode(e.into()))?;
        Ok(Arc::new(list))
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
