//! Our own pages are those of the `parquet` crate's column writer, byte for byte.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use half::f16;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, FixedLenByteArray, FixedLenByteArrayType, FloatType};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use proptest::prelude::*;
use shard::{Column, Dtype, Metadata, ShardOptions, ShardWriter};

const PAGE: usize = 64 * 1024;

fn values(count: usize) -> Vec<f32> {
    (0..count)
        .map(|n| (n * 37 % 1009) as f32 / 100.0 - 10.0)
        .collect()
}

/// A shard of `rows` without its seal, its columns written by the crate.
fn by_the_crate(columns: &[Column], rows: usize, group: usize) -> Vec<u8> {
    let fields = columns.iter().map(|column| {
        let data_type = match column.dtype {
            Dtype::F16 => DataType::Float16,
            Dtype::F32 => DataType::Float32,
            Dtype::U16 | Dtype::Bit => panic!("its pages are the crate's"),
        };
        let item = Arc::new(Field::new("element", data_type, false));
        let list = DataType::FixedSizeList(item, column.width as i32);
        Field::new(&column.name, list, false)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let mut properties = WriterProperties::builder()
        .set_writer_version(WriterVersion::PARQUET_1_0)
        .set_created_by("pipeline".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
        .set_data_page_size_limit(PAGE)
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::PLAIN)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(Vec::new()));
    for column in columns.iter().filter(|column| column.dtype == Dtype::F32) {
        let path = ["list", "element"].map(str::to_owned);
        let path = ColumnPath::new([&[column.name.clone()][..], &path].concat());
        properties = properties.set_column_encoding(path, Encoding::BYTE_STREAM_SPLIT);
    }
    let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build())).unwrap();
    let (mut writer, _) = writer.into_serialized_writer().unwrap();
    for first in (0..rows).step_by(group) {
        let rows = first..rows.min(first + group);
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let width = column.width as usize;
            let values = &values(rows.end * width)[rows.start * width..];
            let turn = (PAGE / (width * column.dtype.bytes())).max(1);
            let mut out = group.next_column().unwrap().unwrap();
            for values in values.chunks(turn * width) {
                let definition = vec![1; values.len()];
                let repetition = (0..values.len()).map(|i| i16::from(i % width > 0));
                let repetition: Vec<i16> = repetition.collect();
                let levels = (Some(&definition[..]), Some(&repetition[..]));
                match column.dtype {
                    Dtype::F32 => {
                        let writer = out.typed::<FloatType>();
                        writer.write_batch(values, levels.0, levels.1).unwrap();
                    }
                    Dtype::U16 | Dtype::Bit => panic!("its pages are the crate's"),
                    Dtype::F16 => {
                        let bytes = values.iter().map(|&x| f16::from_f32(x).to_le_bytes());
                        let bytes = bytes.map(|b| ByteArray::from(b.to_vec()).into());
                        let values: Vec<FixedLenByteArray> = bytes.collect();
                        let writer = out.typed::<FixedLenByteArrayType>();
                        writer.write_batch(&values, levels.0, levels.1).unwrap();
                    }
                }
            }
            out.close().unwrap();
        }
        group.close().unwrap();
    }
    for (key, value) in [("frames", rows.to_string()), ("shard_version", "1".into())] {
        writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
    }
    writer.into_inner().unwrap()
}

/// The same, written by us `step` rows at a time, and without its seal.
fn by_us(columns: &[Column], rows: usize, group_bytes: usize, step: usize) -> Vec<u8> {
    let options = ShardOptions {
        row_group_bytes: group_bytes,
        ..Default::default()
    };
    let mut writer = ShardWriter::new(Vec::new(), columns, &Metadata::new(), options).unwrap();
    let all: Vec<Vec<f32>> = columns
        .iter()
        .map(|column| values(rows * column.width as usize))
        .collect();
    for first in (0..rows).step_by(step) {
        let last = rows.min(first + step);
        let part = columns.iter().zip(&all).map(|(column, values)| {
            let width = column.width as usize;
            &values[first * width..last * width]
        });
        writer.push(&part.collect::<Vec<_>>()).unwrap();
    }
    let mut bytes = writer.finish().unwrap().0;
    let length = bytes.len();
    let footer = u32::from_le_bytes(bytes[length - 8..length - 4].try_into().unwrap());
    let seal = length - 8 - footer as usize - 40;
    bytes.drain(seal..seal + 40);
    bytes
}

fn check(columns: &[(u32, Dtype)], rows: usize, group_bytes: usize, step: usize) {
    let columns: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(|(i, &(width, dtype))| Column::new(format!("c{i}"), width, dtype))
        .collect();
    let row_bytes = columns
        .iter()
        .map(|column| column.width as usize * column.dtype.bytes());
    let group = (group_bytes / row_bytes.sum::<usize>()).max(1);
    let (ours, theirs) = (
        by_us(&columns, rows, group_bytes, step),
        by_the_crate(&columns, rows, group),
    );
    assert!(
        ours == theirs,
        "{columns:?}, {rows} rows, groups of {group}"
    );
}

#[test]
fn frames_are_the_crates() {
    check(&[(513, Dtype::F16)], 2_500, 1 << 20, 1);
    check(&[(513, Dtype::F32), (513, Dtype::F32)], 700, 1 << 20, 1);
    check(&[(513, Dtype::F16), (14, Dtype::F32)], 1_500, 1 << 20, 1);
}

#[test]
fn narrow_and_wide_rows_are_the_crates() {
    check(&[(1, Dtype::F16)], 50_000, 1 << 20, 999);
    check(&[(1, Dtype::F32)], 50_000, 1 << 20, 999);
    check(&[(3, Dtype::F16), (7, Dtype::F32)], 30_000, 1 << 18, 999);
    check(&[(40_000, Dtype::F16), (40_000, Dtype::F32)], 5, 1 << 20, 2);
    check(&[(9, Dtype::F16)], 0, 1 << 20, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_shape_is_the_crates(
        columns in prop::collection::vec((1..1_500_u32, prop::sample::select(vec![Dtype::F16, Dtype::F32])), 1..4),
        rows in 0..400_usize,
        group_bytes in 1..400_000_usize,
        step in 1..300_usize,
    ) {
        check(&columns, rows, group_bytes, step);
    }
}
