//! Codes and bits from shard to batch: what is written comes back, whatever the width.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs::File;

use half::f16;
use proptest::prelude::*;
use shard::{
    Column, Dtype, Error, Layout, Loader, LoaderOptions, ManifestBuilder, Metadata, Output, Parts,
    Remainder, RowsMut, Sampling, Segment, SegmentId, SegmentWriter, ShardOptions, ShardReader,
    ShardWriter, Split, Values,
};

/// The values of one column, owned.
#[derive(Clone, Debug, PartialEq)]
enum Owned {
    F16(Vec<f16>),
    F32(Vec<f32>),
    U16(Vec<u16>),
    Bit(Vec<bool>),
}

impl Owned {
    fn new(dtype: Dtype, count: usize, seed: usize) -> Self {
        let code = |i: usize| ((i + seed) * 40_503 % 65_536) as u16;
        let codes = (0..count).map(code);
        match dtype {
            Dtype::F16 => Self::F16(codes.map(|x| f16::from_f32(f32::from(x) / 7.0)).collect()),
            Dtype::F32 => Self::F32(codes.map(|x| f32::from(x) / 7.0).collect()),
            Dtype::U16 => Self::U16(codes.collect()),
            Dtype::Bit => Self::Bit(codes.map(|x| x % 3 == 0).collect()),
        }
    }

    fn slice(&self, range: std::ops::Range<usize>) -> Values<'_> {
        match self {
            Self::F16(values) => Values::F16(&values[range]),
            Self::F32(values) => Values::F32(&values[range]),
            Self::U16(values) => Values::U16(&values[range]),
            Self::Bit(values) => Values::Bit(&values[range]),
        }
    }

    fn extend(&mut self, values: Values<'_>) {
        match (self, values) {
            (Self::F16(all), Values::F16(values)) => all.extend(values),
            (Self::F32(all), Values::F32(values)) => all.extend(values),
            (Self::U16(all), Values::U16(values)) => all.extend(values),
            (Self::Bit(all), Values::Bit(values)) => all.extend(values),
            (_, values) => panic!("{:?} came back", values.dtype()),
        }
    }
}

fn shard_of(columns: &[Column], data: &[Owned], rows: usize, step: usize, group: usize) -> Vec<u8> {
    let options = ShardOptions {
        row_group_bytes: group,
        ..Default::default()
    };
    let mut writer = ShardWriter::new(Vec::new(), columns, &Metadata::new(), options).unwrap();
    for from in (0..rows).step_by(step) {
        let to = (from + step).min(rows);
        let pairs = columns.iter().zip(data);
        let part: Vec<Values<'_>> = pairs
            .map(|(c, values)| values.slice(from * c.width as usize..to * c.width as usize))
            .collect();
        writer.push(&part).unwrap();
    }
    let (bytes, written) = writer.finish().unwrap();
    assert_eq!(written, rows as u64);
    bytes
}

fn widths() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![1, 2, 7, 8, 9, 88, 128])
}

fn dtypes() -> impl Strategy<Value = Dtype> {
    prop::sample::select(vec![Dtype::F16, Dtype::F32, Dtype::U16, Dtype::Bit])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shards_of_all_types_round_trip(
        types in prop::collection::vec((widths(), dtypes()), 1..4),
        rows in 0_usize..70,
        step in 1_usize..20,
        group in 1_usize..3000,
        batch in 1_usize..40,
    ) {
        let columns: Vec<Column> = types
            .iter()
            .enumerate()
            .map(|(i, &(width, dtype))| Column::new(format!("c{i}"), width, dtype))
            .collect();
        let data: Vec<Owned> = columns
            .iter()
            .enumerate()
            .map(|(i, c)| Owned::new(c.dtype, rows * c.width as usize, i))
            .collect();
        let bytes = shard_of(&columns, &data, rows, step, group);
        // However rows are pushed, the bytes are the same.
        prop_assert!(bytes == shard_of(&columns, &data, rows, rows.max(1), group));
        let reader = ShardReader::from_bytes(bytes, "test").unwrap();
        prop_assert_eq!(reader.columns(), &columns[..]);
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let mut read: Vec<Owned> = columns.iter().map(|c| Owned::new(c.dtype, 0, 0)).collect();
        for batch in reader.batches(&names, batch).unwrap() {
            let batch = batch.unwrap();
            for (i, all) in read.iter_mut().enumerate() {
                all.extend(batch.column(i).unwrap());
            }
        }
        prop_assert_eq!(read, data);
    }

    #[test]
    fn batches_of_codes_equal_a_naive_gather(
        widths in prop::collection::vec(widths(), 1..3),
        bit: bool,
        pieces in prop::collection::vec(1_usize..40, 1..5),
        rows in 1_usize..9,
        places in 1_usize..4,
    ) {
        prop_assume!(pieces.iter().any(|&count| count > 1));
        let dtype = if bit { Dtype::Bit } else { Dtype::U16 };
        let dir = tempfile::tempdir().unwrap();
        let fields = widths.iter().enumerate().map(|(i, &width)| (format!("c{i}"), width));
        let layout = Layout::new(dtype.into(), fields).unwrap();
        let width = layout.width() as usize;
        let mut builder = ManifestBuilder::new();
        // Piece by piece, row by row: the values side by side.
        let mut expected: Vec<Vec<Vec<i64>>> = Vec::new();
        for (i, &count) in pieces.iter().enumerate() {
            let data: Vec<Owned> = widths
                .iter()
                .map(|&width| Owned::new(dtype, count * width as usize, i + width as usize))
                .collect();
            let row = |r: usize| {
                let mut values = Vec::new();
                for (column, &width) in data.iter().zip(&widths) {
                    let width = width as usize;
                    column.slice(r * width..(r + 1) * width).append_f32(&mut values);
                }
                values.iter().map(|&x| x as i64).collect()
            };
            expected.push((0..count).map(row).collect());
            let id = SegmentId([i as u8; 32]);
            let path = dir.path().join(format!("{id}.bin"));
            let file = File::create(&path).unwrap();
            let mut writer = SegmentWriter::new(file, layout.clone(), Metadata::new()).unwrap();
            let columns: Vec<Values<'_>> = data
                .iter()
                .zip(&widths)
                .map(|(column, &width)| column.slice(0..count * width as usize))
                .collect();
            writer.push_columns(&columns).unwrap();
            writer.finish().unwrap();
            let parts = Parts::from([(Split::Train, 0..count as u64)]);
            builder.add(id, &Segment::open(&path).unwrap(), &parts).unwrap();
        }
        let manifest = builder.finish("test").unwrap();
        prop_assert!(manifest.statistics.is_none());
        let bytes = manifest.to_json().unwrap();
        prop_assert_eq!(&shard::Manifest::from_json(&bytes, "test").unwrap(), &manifest);
        let sampling = Sampling::Chunks { remainder: Remainder::Pad };
        let mut options = LoaderOptions::new(Split::Train, places, rows, sampling);
        options.output = Output::I64;
        let loader = Loader::open(&manifest, dir.path(), &options).unwrap();
        let shape = loader.shape();
        // The chunks of a piece follow each other, each from the last row of the one before.
        let mut at = vec![0; pieces.len()];
        for batch in loader.epoch(0).unwrap() {
            let mut batch = batch.unwrap();
            let all = batch.data().i64().unwrap().to_vec();
            let is_i64 = matches!(batch.rows_mut(), Some(RowsMut::I64(rows)) if rows == all);
            prop_assert!(is_i64);
            let lengths = batch.lengths().to_vec();
            for (place, values) in all.chunks(shape.rows * width).enumerate() {
                let (real, padding) = values.split_at(lengths[place] as usize * width);
                prop_assert!(padding.iter().all(|&x| x == 0));
                if real.is_empty() {
                    continue;
                }
                let piece = &expected[batch.pieces()[place] as usize];
                let found = piece
                    .windows(lengths[place] as usize)
                    .any(|window| window.concat() == real);
                prop_assert!(found, "no such rows in the piece");
                at[batch.pieces()[place] as usize] += lengths[place] as usize - 1;
            }
        }
        // Each row from the second on is a target once.
        let targets: Vec<usize> = pieces.iter().map(|&count| count - 1).collect();
        prop_assert_eq!(at, targets);
    }
}

#[test]
fn values_of_another_type_are_refused() {
    let columns = [
        Column::new("token", 1, Dtype::U16),
        Column::new("key", 1, Dtype::Bit),
    ];
    let options = ShardOptions::default();
    let mut writer = ShardWriter::new(Vec::new(), &columns, &Metadata::new(), options).unwrap();
    let error = writer.push(&[Values::U16(&[1]), Values::F32(&[1.0])]);
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Values { .. }), "{error}");
    assert_eq!(error.to_string(), "column `key` is bit, got values of f32");

    let layout = Layout::new(shard::RowType::U16, [("a", 1), ("b", 1)]).unwrap();
    let mut writer = SegmentWriter::new(Vec::new(), layout, Metadata::new()).unwrap();
    let error = writer.push_columns(&[Values::U16(&[1]), Values::Bit(&[true])]);
    assert!(matches!(error, Err(Error::Values { .. })), "{error:?}");
}
