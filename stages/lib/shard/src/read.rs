//! Reads a Parquet shard back, batch by batch.
//!
//! The seal is checked first, over the whole file (5 GB/s, a small part of the
//! decoding); what the library sees has then been written by us. Its layout is
//! checked again all the same, and its panics become errors.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float16Type, Float32Type, UInt16Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, Result};
use crate::layout::{Column, Dtype, MAX_WIDTH, Values, check_columns};
use crate::seal;
use crate::source::Source;
use crate::write::{FORMAT, FRAMES, Metadata, VERSION};

/// Most bytes of values in one row group of a shard that we read.
const MAX_GROUP: u64 = 256 << 20;

/// A shard whose seal and layout were found whole.
#[derive(Debug)]
pub struct ShardReader {
    source: Source,
    file: String,
    arrow: ArrowReaderMetadata,
    columns: Vec<Column>,
    metadata: Metadata,
    rows: u64,
}

impl ShardReader {
    /// Opens the shard at `path` and checks its seal over all its bytes.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] for anything that is no shard;
    /// [`Error::Damaged`] for one that changed since it was written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let file = File::open(path.as_ref()).map_err(Error::io("open", &name))?;
        Self::from_file(file, name)
    }

    /// Like [`open`](Self::open), of a file that is already open; errors call
    /// it `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_file(file: File, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        let source = Source::file(file).map_err(Error::io("read", &name))?;
        Self::new(source, name)
    }

    /// Like [`open`](Self::open), of bytes in memory; errors call them `name`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>, name: impl Into<String>) -> Result<Self> {
        Self::new(Source::Memory(bytes.into()), name.into())
    }

    fn new(source: Source, file: String) -> Result<Self> {
        seal::check(&source, &file)?;
        let arrow = guarded(&file, || {
            ArrowReaderMetadata::load(&source, ArrowReaderOptions::new())
                .map_err(|e| parquet_error(&file, &e))
        })?;
        let columns = columns_of(&arrow, &file)?;
        let metadata = metadata_of(&arrow);
        let rows = check_rows(&arrow, &columns, &metadata, &file)?;
        Ok(Self {
            source,
            file,
            arrow,
            columns,
            metadata,
            rows,
        })
    }

    /// The columns, in the order in which they were written.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Rows, i.e. frames.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// What the shard says of itself, `frames` and `shard_version` included.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Finds a column by name.
    ///
    /// # Errors
    /// [`Error::NoColumn`].
    pub fn column(&self, name: &str) -> Result<&Column> {
        self.columns
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| Error::NoColumn {
                file: self.file.clone(),
                column: name.to_owned(),
                available: self
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .collect(),
            })
    }

    /// Streams the columns `names`, at most `rows` rows at a time.
    ///
    /// # Errors
    /// [`Error::NoColumn`], [`Error::Parquet`].
    pub fn batches(&self, names: &[&str], rows: usize) -> Result<RowBatches> {
        let mut roots = Vec::with_capacity(names.len());
        let mut columns = Vec::with_capacity(names.len());
        for &name in names {
            let column = self.column(name)?;
            roots.extend(self.columns.iter().position(|other| other == column));
            columns.push(column.clone());
        }
        let reader = guarded(&self.file, || {
            let mask = ProjectionMask::roots(self.arrow.parquet_schema(), roots);
            ParquetRecordBatchReaderBuilder::new_with_metadata(
                self.source.clone(),
                self.arrow.clone(),
            )
            .with_projection(mask)
            .with_batch_size(rows.max(1))
            .build()
            .map_err(|e| parquet_error(&self.file, &e))
        })?;
        Ok(RowBatches {
            reader,
            columns,
            file: self.file.clone(),
            left: self.rows,
            failed: false,
        })
    }

    /// The whole column `name` as `f32`, shaped `(rows, width)` in row-major
    /// order. For one item at a time: two hours of frames take 1.3 GB.
    ///
    /// # Errors
    /// [`Error::NoColumn`], [`Error::Parquet`], [`Error::Memory`].
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let width = u64::from(self.column(name)?.width);
        let values = self.rows.saturating_mul(width);
        let mut out = Vec::new();
        let reserved = usize::try_from(values)
            .ok()
            .map(|n| out.try_reserve_exact(n).is_ok());
        if reserved != Some(true) {
            return Err(Error::Memory {
                bytes: values.saturating_mul(4),
                what: format!("column `{name}` of `{}`", self.file),
            });
        }
        for batch in self.batches(&[name], 1024)? {
            if let Some(values) = batch?.column(0) {
                values.append_f32(&mut out);
            }
        }
        Ok(out)
    }
}

/// Iterator over a shard's rows, see [`ShardReader::batches`].
pub struct RowBatches {
    reader: ParquetRecordBatchReader,
    columns: Vec<Column>,
    file: String,
    /// Rows that are still to come.
    left: u64,
    failed: bool,
}

impl Iterator for RowBatches {
    type Item = Result<RowBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let reader = AssertUnwindSafe(&mut self.reader);
        // After a panic the reader is not used again: `failed` ends the stream.
        let batch = guarded(&self.file, || {
            let AssertUnwindSafe(reader) = reader;
            reader.next().transpose().map_err(|e| Error::Parquet {
                file: self.file.clone(),
                reason: e.to_string(),
            })
        });
        let batch = batch.and_then(|batch| self.check(batch)).transpose();
        self.failed = matches!(batch, Some(Err(_)));
        batch
    }
}

impl RowBatches {
    fn check(&mut self, batch: Option<RecordBatch>) -> Result<Option<RowBatch>> {
        let damaged = |reason: String| Error::Parquet {
            file: self.file.clone(),
            reason,
        };
        let Some(batch) = batch else {
            return match self.left {
                0 => Ok(None),
                left => Err(damaged(format!("{left} rows are missing"))),
            };
        };
        let rows = batch.num_rows();
        self.left = self
            .left
            .checked_sub(rows as u64)
            .ok_or_else(|| damaged("more rows than its footer says".to_owned()))?;
        for column in &self.columns {
            let list = batch
                .column_by_name(&column.name)
                .and_then(|a| a.as_fixed_size_list_opt());
            let whole = list.is_some_and(|list| {
                let expected = rows.checked_mul(column.width as usize);
                list.null_count() == 0
                    && list.values().null_count() == 0
                    && Some(list.values().len()) == expected
                    && dtype_of(list.values().data_type()) == Some(column.dtype)
            });
            if !whole {
                return Err(damaged(format!(
                    "column `{}` is not as its schema says",
                    column.name
                )));
            }
        }
        let bits = self.columns.iter().map(|column| bits_of(&batch, column));
        Ok(Some(RowBatch {
            bits: bits.collect(),
            batch,
            columns: self.columns.clone(),
        }))
    }
}

/// Some rows of the columns that were asked for.
#[derive(Clone, Debug)]
pub struct RowBatch {
    batch: RecordBatch,
    columns: Vec<Column>,
    /// Per column: its values where they are bits, else nothing.
    bits: Vec<Vec<bool>>,
}

impl RowBatch {
    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Values of the `i`-th column asked for, shaped `(rows, width)` in
    /// row-major order; none when fewer were asked for.
    #[must_use]
    pub fn column(&self, i: usize) -> Option<Values<'_>> {
        let column = self.columns.get(i)?;
        let list = self
            .batch
            .column_by_name(&column.name)?
            .as_fixed_size_list_opt()?;
        match column.dtype {
            Dtype::F16 => {
                let array = list.values().as_primitive_opt::<Float16Type>()?;
                Some(Values::F16(array.values()))
            }
            Dtype::F32 => {
                let array = list.values().as_primitive_opt::<Float32Type>()?;
                Some(Values::F32(array.values()))
            }
            Dtype::U16 => {
                let array = list.values().as_primitive_opt::<UInt16Type>()?;
                Some(Values::U16(array.values()))
            }
            Dtype::Bit => self.bits.get(i).map(|bits| Values::Bit(bits)),
        }
    }
}

/// The values of a column of bits, which Arrow packs; nothing for another.
fn bits_of(batch: &RecordBatch, column: &Column) -> Vec<bool> {
    let list = batch
        .column_by_name(&column.name)
        .and_then(|array| array.as_fixed_size_list_opt());
    let bits = list.and_then(|list| list.values().as_boolean_opt());
    bits.map_or_else(Vec::new, |bits| bits.values().iter().collect())
}

fn dtype_of(data_type: &DataType) -> Option<Dtype> {
    match data_type {
        DataType::Float16 => Some(Dtype::F16),
        DataType::Float32 => Some(Dtype::F32),
        DataType::UInt16 => Some(Dtype::U16),
        DataType::Boolean => Some(Dtype::Bit),
        _ => None,
    }
}

fn columns_of(arrow: &ArrowReaderMetadata, file: &str) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    for field in arrow.schema().fields() {
        let column = match field.data_type() {
            DataType::FixedSizeList(item, width) => {
                let width = u32::try_from(*width)
                    .ok()
                    .filter(|&width| width <= MAX_WIDTH);
                dtype_of(item.data_type()).zip(width)
            }
            _ => None,
        };
        let Some((dtype, width)) = column else {
            return Err(Error::format(
                file,
                "shard",
                format!("column `{}` is {}", field.name(), field.data_type()),
            ));
        };
        columns.push(Column::new(field.name(), width, dtype));
    }
    check_columns(&columns).map_err(|e| Error::format(file, "shard", e.to_string()))?;
    Ok(columns)
}

fn metadata_of(arrow: &ArrowReaderMetadata) -> Metadata {
    let pairs = arrow.metadata().file_metadata().key_value_metadata();
    pairs
        .into_iter()
        .flatten()
        .filter(|pair| pair.key != "ARROW:schema")
        .filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?)))
        .collect()
}

fn check_rows(
    arrow: &ArrowReaderMetadata,
    columns: &[Column],
    metadata: &Metadata,
    file: &str,
) -> Result<u64> {
    let row_bytes: u64 = columns
        .iter()
        .map(|c| u64::from(c.width) * c.dtype.bytes() as u64)
        .sum();
    let mut rows: u64 = 0;
    for group in arrow.metadata().row_groups() {
        let in_group = u64::try_from(group.num_rows()).unwrap_or(u64::MAX);
        // A row may by itself be wider than a group should be.
        if in_group > 1 && in_group.saturating_mul(row_bytes) > MAX_GROUP {
            return Err(Error::format(
                file,
                "shard",
                format!("a row group of {in_group} rows of {row_bytes} bytes"),
            ));
        }
        rows = rows.saturating_add(in_group);
    }
    match metadata.get(FORMAT).map(String::as_str) {
        Some(VERSION) => {}
        version => {
            return Err(Error::format(
                file,
                "shard",
                format!("version {} is not {VERSION}", version.unwrap_or("(none)")),
            ));
        }
    }
    if metadata.get(FRAMES) != Some(&rows.to_string()) {
        return Err(Error::format(
            file,
            "shard",
            format!(
                "{rows} rows, but its metadata says {:?}",
                metadata.get(FRAMES)
            ),
        ));
    }
    Ok(rows)
}

/// Runs the library's code, which panics on some bytes that its writer would
/// never have written.
fn guarded<T>(file: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("it panicked");
        Err(Error::Parquet {
            file: file.to_owned(),
            reason: reason.to_owned(),
        })
    })
}

fn parquet_error(file: &str, error: &parquet::errors::ParquetError) -> Error {
    Error::Parquet {
        file: file.to_owned(),
        reason: error.to_string(),
    }
}
