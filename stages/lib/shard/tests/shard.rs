//! Shards: what is written is read back, and no damage passes or panics.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use half::f16;
use proptest::prelude::*;
use shard::{Column, Dtype, Error, Metadata, ShardOptions, ShardReader, ShardWriter};

/// Deterministic values in [-10, 0), like log magnitudes.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            -((state >> 8) as f32) / (1 << 24) as f32 * 10.0
        })
        .collect()
}

fn write(columns: &[Column], rows: &[Vec<f32>], step: usize, options: ShardOptions) -> Vec<u8> {
    let metadata = Metadata::from([
        ("hop".to_owned(), "256".to_owned()),
        ("sample_rate".to_owned(), "22050".to_owned()),
    ]);
    let mut writer = ShardWriter::new(Vec::new(), columns, &metadata, options).unwrap();
    let count = rows[0].len() / columns[0].width as usize;
    for from in (0..count).step_by(step) {
        let to = (from + step).min(count);
        let part: Vec<&[f32]> = columns
            .iter()
            .zip(rows)
            .map(|(c, v)| &v[from * c.width as usize..to * c.width as usize])
            .collect();
        writer.push(&part).unwrap();
    }
    let (bytes, frames) = writer.finish().unwrap();
    assert_eq!(frames, count as u64);
    bytes
}

fn sample() -> Vec<u8> {
    let columns = [
        Column::new("magnitude", 17, Dtype::F16),
        Column::new("phase", 5, Dtype::F32),
    ];
    let rows = [values(17 * 300, 1), values(5 * 300, 2)];
    write(
        &columns,
        &rows,
        7,
        ShardOptions {
            row_group_bytes: 4096,
            ..Default::default()
        },
    )
}

/// Reads everything that there is to read.
fn read_all(bytes: Vec<u8>) -> shard::Result<(Metadata, Vec<Vec<f32>>)> {
    let reader = ShardReader::from_bytes(bytes, "test")?;
    let columns = reader.columns().to_vec();
    let all = columns
        .iter()
        .map(|c| reader.read_f32(&c.name))
        .collect::<shard::Result<_>>()?;
    Ok((reader.metadata().clone(), all))
}

#[test]
fn columns_come_back_in_their_types() {
    let (metadata, columns) = read_all(sample()).unwrap();
    assert_eq!(metadata["hop"], "256");
    assert_eq!(metadata["frames"], "300");
    let exact = values(5 * 300, 2);
    assert_eq!(columns[1], exact);
    let halves: Vec<f32> = values(17 * 300, 1)
        .into_iter()
        .map(|v| f16::from_f32(v).to_f32())
        .collect();
    assert_eq!(columns[0], halves);
}

#[test]
fn batches_stream_all_rows_once() {
    let reader = ShardReader::from_bytes(sample(), "test").unwrap();
    let mut out = Vec::new();
    let mut rows = 0;
    for batch in reader.batches(&["phase", "magnitude"], 64).unwrap() {
        let batch = batch.unwrap();
        assert!(batch.rows() <= 64);
        rows += batch.rows();
        batch.column(0).unwrap().append_f32(&mut out);
        assert_eq!(batch.column(1).unwrap().len(), batch.rows() * 17);
        assert!(batch.column(2).is_none());
    }
    assert_eq!(rows, 300);
    assert_eq!(out, values(5 * 300, 2));
}

#[test]
fn equal_frames_give_equal_bytes_however_they_are_pushed() {
    let columns = [Column::new("m", 9, Dtype::F16)];
    let rows = [values(9 * 500, 3)];
    let options = ShardOptions {
        row_group_bytes: 1000,
        ..Default::default()
    };
    let whole = write(&columns, &rows, 500, options);
    for step in [1, 3, 64, 499] {
        assert!(
            write(&columns, &rows, step, options) == whole,
            "step {step}"
        );
    }
}

/// DuckDB refuses byte-stream-split on two-byte values.
#[test]
fn only_f32_columns_are_byte_stream_split() {
    use parquet::basic::Encoding;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let reader = SerializedFileReader::new(bytes::Bytes::from(sample())).unwrap();
    let metadata = reader.metadata();
    assert!(metadata.num_row_groups() > 1);
    for group in metadata.row_groups() {
        let split = |i| {
            group
                .column(i)
                .encodings()
                .any(|encoding| encoding == Encoding::BYTE_STREAM_SPLIT)
        };
        assert_eq!((split(0), split(1)), (false, true));
        assert!((0..2).all(|i| group.column(i).dictionary_page_offset().is_none()));
    }
    assert_eq!(metadata.file_metadata().created_by(), Some("pipeline"));
}

#[test]
fn an_empty_shard_is_a_shard() {
    let columns = [Column::new("m", 4, Dtype::F32)];
    let bytes = write(&columns, &[Vec::new()], 1, ShardOptions::default());
    let reader = ShardReader::from_bytes(bytes, "test").unwrap();
    assert_eq!(reader.rows(), 0);
    assert!(reader.read_f32("m").unwrap().is_empty());
}

#[test]
fn misuse_is_told() {
    let m = || Column::new("m", 2, Dtype::F16);
    let new = |columns: &[Column], key: &str| {
        let metadata = Metadata::from([(key.to_owned(), String::new())]);
        ShardWriter::new(Vec::new(), columns, &metadata, ShardOptions::default()).map(|_| ())
    };
    let cases: [(&str, shard::Result<()>); 8] = [
        ("no columns", new(&[], "k")),
        ("appears twice", new(&[m(), m()], "k")),
        ("no values", new(&[Column::new("m", 0, Dtype::F16)], "k")),
        (
            "column name",
            new(&[Column::new("a b", 1, Dtype::F16)], "k"),
        ),
        (
            "more than",
            new(&[Column::new("m", u32::MAX, Dtype::F16)], "k"),
        ),
        ("written by the shard", new(&[m()], "frames")),
        ("written by the shard", new(&[m()], "ARROW:schema")),
        ("has no column `x`; it has `magnitude`, `phase`", {
            let reader = ShardReader::from_bytes(sample(), "test").unwrap();
            reader.read_f32("x").map(|_| ())
        }),
    ];
    for (expected, result) in cases {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let push = |rows: &[&[f32]]| {
        let columns = [m(), Column::new("p", 1, Dtype::F32)];
        let mut writer = ShardWriter::new(
            Vec::new(),
            &columns,
            &Metadata::new(),
            ShardOptions::default(),
        )
        .unwrap();
        writer.push(rows)
    };
    assert!(push(&[&[0.0, 1.0], &[2.0]]).is_ok());
    assert!(matches!(push(&[&[0.0], &[2.0]]), Err(Error::Length { .. })));
    assert!(matches!(
        push(&[&[0.0, 1.0], &[2.0, 3.0]]),
        Err(Error::Length { .. })
    ));
    assert!(matches!(push(&[&[0.0, 1.0]]), Err(Error::Length { .. })));
    assert!(matches!(
        push(&[&[0.0, 1.0], &[2.0], &[]]),
        Err(Error::Layout(_))
    ));
    assert!(matches!(
        push(&[&[0.0, 70_000.0], &[2.0]]),
        Err(Error::NotFinite { row: 0, .. })
    ));
    assert!(matches!(
        push(&[&[0.0, 1.0], &[f32::NAN]]),
        Err(Error::NotFinite { .. })
    ));
}

#[test]
fn truncated_shards_are_refused() {
    let bytes = sample();
    for len in (0..bytes.len()).step_by(37).chain([bytes.len() - 1]) {
        let error = read_all(bytes[..len].to_vec()).unwrap_err();
        assert!(error.is_damage(), "{len}: {error}");
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let bytes = sample();
    for at in (0..bytes.len())
        .step_by(11)
        .chain(bytes.len() - 60..bytes.len())
    {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let error = read_all(damaged).unwrap_err();
        assert!(error.is_damage(), "{at}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), framed: bool) {
        if framed {
            bytes.splice(0..0, *b"PAR1");
            let footer = (bytes.len() as u32 / 2).to_le_bytes();
            bytes.extend(footer);
            bytes.extend(*b"PAR1");
        }
        prop_assert!(read_all(bytes).is_err());
    }

    #[test]
    fn shards_round_trip(
        width in 1u32..40,
        rows in 0usize..60,
        step in 1usize..20,
        group in 1usize..2000,
        level in 1i32..4,
        half: bool,
    ) {
        let dtype = if half { Dtype::F16 } else { Dtype::F32 };
        let data = values(width as usize * rows, 9);
        let columns = [Column::new("m", width, dtype)];
        let options = ShardOptions { zstd_level: level, row_group_bytes: group };
        let (_, read) = read_all(write(&columns, std::slice::from_ref(&data), step, options)).unwrap();
        let expected: Vec<f32> = if half {
            data.iter().map(|&v| f16::from_f32(v).to_f32()).collect()
        } else {
            data
        };
        prop_assert_eq!(&read[0], &expected);
    }
}
