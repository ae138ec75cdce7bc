//! Segments and manifests: round trips of every row type, sums, and damage.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::io::Write;

use half::f16;
use proptest::prelude::*;
use shard::{
    BLOCK_ROWS, Error, Layout, Manifest, ManifestBuilder, Metadata, Parts, RowType, Segment,
    SegmentId, SegmentWriter, Split, Sums, Values,
};

fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 20) as f32 / 512.0 - 4.0
        })
        .collect()
}

fn metadata() -> Metadata {
    Metadata::from([("sample_rate".to_owned(), "22050".to_owned())])
}

/// A segment of `rows` rows of `width` noise values; multiples of 1/512 in
/// [-4, 4), which every float type holds exactly.
fn segment(row_type: RowType, width: u32, rows: usize, seed: u32) -> Vec<u8> {
    let layout = Layout::new(row_type, [("x", width)]).unwrap();
    let mut writer = SegmentWriter::new(Vec::new(), layout, metadata()).unwrap();
    let values = noise(rows * width as usize, seed);
    for part in values.chunks(width as usize * 700) {
        match row_type {
            RowType::F32 => writer.push_f32(part).unwrap(),
            RowType::F16 => {
                let halves: Vec<f16> = part.iter().map(|&x| f16::from_f32(x)).collect();
                writer.push_f16(&halves).unwrap();
            }
            RowType::U16 => writer.push_u16(&tokens(part)).unwrap(),
            RowType::Bit => {
                writer
                    .push_bits(&part.iter().map(|&x| x > 0.0).collect::<Vec<_>>())
                    .unwrap();
            }
        }
    }
    assert_eq!(writer.rows(), rows as u64);
    let (bytes, root) = writer.finish().unwrap();
    let segment = open(&bytes).unwrap();
    assert_eq!(segment.root(), root);
    segment.expect_root(root).unwrap();
    let error = segment.expect_root(SegmentId([7; 32])).unwrap_err();
    assert!(error.is_damage(), "{error}");
    bytes
}

fn tokens(values: &[f32]) -> Vec<u16> {
    values.iter().map(|&x| ((x + 4.0) * 512.0) as u16).collect()
}

/// What a segment of noise should give back as f32.
fn expected(row_type: RowType, values: &[f32]) -> Vec<f32> {
    match row_type {
        RowType::F32 | RowType::F16 => values.to_vec(),
        RowType::U16 => tokens(values).into_iter().map(f32::from).collect(),
        RowType::Bit => values
            .iter()
            .map(|&x| f32::from(u8::from(x > 0.0)))
            .collect(),
    }
}

fn open(bytes: &[u8]) -> shard::Result<Segment> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Segment::from_file(&file, "test")
}

const TYPES: [RowType; 4] = [RowType::F32, RowType::F16, RowType::U16, RowType::Bit];

#[test]
fn rows_of_every_type_come_back() {
    for row_type in TYPES {
        for (width, rows) in [(1, 0), (1, 1), (3, 2500), (513, 1500), (88, 1024)] {
            let segment = open(&segment(row_type, width, rows, 5)).unwrap();
            assert_eq!(
                (segment.rows(), segment.layout().width()),
                (rows as u64, width)
            );
            assert_eq!(segment.metadata(), &metadata());
            let values = expected(row_type, &noise(rows * width as usize, 5));
            let mut out = vec![0.0; values.len()];
            segment.read_f32(0..rows as u64, &mut out).unwrap();
            assert!(out == values, "{row_type:?} {width} x {rows}");
            segment.verify().unwrap();
        }
    }
}

/// To touch a mapping of what was cut off would kill the process.
#[test]
fn a_tiny_segment_needs_its_file_no_more() {
    let bytes = segment(RowType::F32, 3, 500, 5);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let segment = Segment::from_file(&file, "test").unwrap();
    file.set_len(0).unwrap();
    segment.verify().unwrap();
    assert_eq!(segment.f32(0..500).unwrap(), noise(1500, 5));
    assert!(bytes.len() < 16 << 10 && Segment::from_file(&file, "test").is_err());
}

#[test]
fn rows_are_read_in_place() {
    let half = open(&segment(RowType::F16, 7, 100, 1)).unwrap();
    let values = half.f16(10..20).unwrap();
    assert_eq!(values.len(), 70);
    assert_eq!(values[0].to_f32(), noise(700, 1)[70]);
    assert!(matches!(half.f32(0..1), Err(Error::RowType { .. })));
    assert!(matches!(half.f16(99..101), Err(Error::Rows { .. })));
    #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
    let reversed = half.f16(5..4).is_err();
    assert!(reversed);
    let token = open(&segment(RowType::U16, 1, 50, 1)).unwrap();
    assert_eq!(token.u16(0..50).unwrap(), tokens(&noise(50, 1)));
}

#[test]
fn sums_of_any_rows_agree_with_the_definition() {
    for row_type in TYPES {
        let (width, rows) = (5usize, 3 * BLOCK_ROWS + 100);
        let segment = open(&segment(row_type, width as u32, rows as usize, 3)).unwrap();
        let values = expected(row_type, &noise(rows as usize * width, 3));
        for range in [
            0..rows,
            0..0,
            0..1024,
            1000..1100,
            1024..3072,
            2000..rows,
            3072..rows,
        ] {
            let sums = segment.sums(range.clone()).unwrap();
            let mut by_definition = Sums::new(width);
            by_definition.add(&values[range.start as usize * width..range.end as usize * width]);
            assert_eq!(sums.count, range.end - range.start);
            assert_eq!(
                (&sums.min, &sums.max),
                (&by_definition.min, &by_definition.max)
            );
            // Exact: sums of multiples of 2^-18 below 2^53 * 2^-18.
            assert_eq!(sums, by_definition, "{row_type:?} {range:?}");
        }
    }
}

#[test]
fn statistics_are_mean_and_population_deviation() {
    let mut sums = Sums::new(2);
    sums.add(&[1.0, 5.0, 2.0, 5.0, 6.0, 5.0]);
    let statistics = sums.statistics().unwrap();
    assert_eq!(statistics.mean, [3.0, 5.0]);
    assert!((statistics.std[0] - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert_eq!(statistics.std[1], 0.0);
    assert_eq!(
        (statistics.min, statistics.max),
        (vec![1.0, 5.0], vec![6.0, 5.0])
    );
    assert!(Sums::new(2).statistics().is_none());
}

#[test]
fn columns_lie_side_by_side() {
    let layout = Layout::new(RowType::F16, [("a", 2), ("b", 1)]).unwrap();
    assert_eq!(layout.range("b"), Some(2..3));
    assert_eq!(layout.range("c"), None);
    let mut writer = SegmentWriter::new(Vec::new(), layout, Metadata::new()).unwrap();
    let halves = [1.0, 2.0, 3.0, 4.0].map(f16::from_f32);
    writer
        .push_columns(&[Values::F16(&halves), Values::F32(&[8.0, 9.0])])
        .unwrap();
    assert!(
        writer
            .push_columns(&[Values::F16(&halves), Values::F32(&[8.0])])
            .is_err()
    );
    assert!(writer.push_columns(&[Values::F16(&halves)]).is_err());
    assert_eq!(writer.rows(), 2);
    let (bytes, _) = writer.finish().unwrap();
    let segment = open(&bytes).unwrap();
    let values: Vec<f32> = segment
        .f16(0..2)
        .unwrap()
        .iter()
        .map(|x| x.to_f32())
        .collect();
    assert_eq!(values, [1.0, 2.0, 8.0, 3.0, 4.0, 9.0]);
}

#[test]
fn bytes_do_not_depend_on_how_rows_are_pushed() {
    let values = noise(3 * 2500, 8);
    let write = |step: usize| {
        let layout = Layout::new(RowType::F16, [("x", 3)]).unwrap();
        let mut writer = SegmentWriter::new(Vec::new(), layout, metadata()).unwrap();
        values
            .chunks(3 * step)
            .for_each(|part| writer.push_f32(part).unwrap());
        writer.finish().unwrap().0
    };
    let whole = write(2500);
    assert_eq!(whole.len() % 8, 0);
    for step in [1, 7, 1023, 1024, 1025] {
        assert!(write(step) == whole, "{step}");
    }
}

#[test]
fn misuse_is_told() {
    let new = |row_type| {
        let layout = Layout::new(row_type, [("x", 2)]).unwrap();
        SegmentWriter::new(Vec::new(), layout, Metadata::new()).unwrap()
    };
    assert!(matches!(
        new(RowType::F32).push_f32(&[1.0]),
        Err(Error::Length { .. })
    ));
    assert!(matches!(
        new(RowType::U16).push_f32(&[1.0, 2.0]),
        Err(Error::RowType { .. })
    ));
    assert!(matches!(
        new(RowType::F16).push_u16(&[1, 2]),
        Err(Error::RowType { .. })
    ));
    let error = new(RowType::F16)
        .push_f32(&[1.0, 2.0, 3.0, 1e6])
        .unwrap_err();
    assert!(
        error.to_string().contains("row 1 of column `x` is 1000000"),
        "{error}"
    );
    let error = new(RowType::F16)
        .push_f16(&[f16::NAN, f16::ZERO])
        .unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }));
}

/// Reads all there is in a segment.
fn read_all(bytes: &[u8]) -> shard::Result<()> {
    let segment = open(bytes)?;
    segment.sums(0..segment.rows())?;
    segment.verify()?;
    segment.bytes(0..segment.rows())?;
    Ok(())
}

#[test]
fn truncated_segments_are_refused() {
    let bytes = segment(RowType::F16, 9, 1500, 2);
    read_all(&bytes).unwrap();
    for len in (0..bytes.len())
        .step_by(997)
        .chain([63, 64, 127, 128, bytes.len() - 1])
    {
        let error = read_all(&bytes[..len]).unwrap_err();
        assert!(error.is_damage(), "{len}: {error}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(read_all(&longer).unwrap_err().is_damage());
}

#[test]
fn flips_in_every_region_are_found() {
    // The padding after the rows (fewer than 64 bytes) is read by nobody.
    let width = 32;
    let bytes = segment(RowType::F16, width, 1500, 2);
    let len = bytes.len();
    for at in (0..len).step_by(1009).chain(0..200).chain(len - 200..len) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let error = read_all(&damaged).err();
        // The trailer's 8 spare bytes are under the digest, too.
        let error = error.unwrap_or_else(|| panic!("a flip at {at} of {len} passed"));
        assert!(error.is_damage(), "{at}: {error}");
    }
}

#[test]
fn damage_names_file_and_bytes_and_spares_other_chunks() {
    let bytes = segment(RowType::F32, 256, 3000, 2);
    let data_at = 64;
    let mut damaged = bytes;
    damaged[data_at + (1 << 20) + 12345] ^= 1;
    let segment = open(&damaged).unwrap();
    assert!(segment.f32(0..1024).is_ok(), "the first chunk is whole");
    assert!(segment.f32(2048..3000).is_ok(), "the third chunk is whole");
    for _ in 0..2 {
        let Err(Error::Damaged { file, range, .. }) = segment.f32(1000..1025) else {
            panic!("damage passed");
        };
        assert_eq!(file, "test");
        assert_eq!(
            range,
            data_at as u64 + (1 << 20)..data_at as u64 + (2 << 20)
        );
    }
    // Sums of whole blocks need no rows; ragged ends do.
    assert!(segment.sums(0..3000).is_ok());
    assert!(segment.sums(0..1500).is_err());
}

fn id(byte: u8) -> SegmentId {
    SegmentId([byte; 32])
}

fn whole(split: Split, rows: u64) -> Parts {
    Parts::from([(split, 0..rows)])
}

fn manifest() -> Manifest {
    let mut builder = ManifestBuilder::new();
    let sets = [
        (1, Split::Train, 100),
        (2, Split::Train, 2000),
        (5, Split::Test, 30),
    ];
    for (name, split, rows) in sets {
        let segment = open(&segment(RowType::F16, 4, rows as usize, u32::from(name))).unwrap();
        builder
            .add(id(name), &segment, &whole(split, rows))
            .unwrap();
    }
    builder.finish("folders").unwrap()
}

#[test]
fn manifests_read_back_and_are_canonical() {
    let manifest = manifest();
    assert_eq!(
        (manifest.counts.train.pieces, manifest.counts.train.rows),
        (2, 2100)
    );
    assert_eq!(
        (manifest.counts.valid.pieces, manifest.counts.test.rows),
        (0, 30)
    );
    let json = manifest.to_json().unwrap();
    let read = Manifest::from_json(&json, "test").unwrap();
    assert_eq!(read, manifest);
    assert_eq!(read.to_json().unwrap(), json);
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value["version"], 1);
    // Keys are sorted at every level.
    fn check(value: &serde_json::Value, text: &str) {
        if let serde_json::Value::Object(map) = value {
            let keys: Vec<usize> = map
                .keys()
                .map(|k| text.find(&format!("\"{k}\":")).unwrap())
                .collect();
            assert!(map.len() > 20 || keys.is_sorted(), "{:?}", map.keys());
        }
    }
    check(&value, std::str::from_utf8(&json).unwrap());
}

#[test]
fn statistics_are_those_of_the_training_rows_alone() {
    let statistics = manifest().statistics.unwrap();
    let mut all = noise(400, 1);
    all.extend(noise(8000, 2));
    let mut sums = Sums::new(4);
    sums.add(&all);
    assert_eq!(statistics, sums.statistics().unwrap());
}

#[test]
fn segments_that_do_not_belong_together_are_refused() {
    let first = open(&segment(RowType::F16, 4, 10, 1)).unwrap();
    let other = |row_type, width| open(&segment(row_type, width, 10, 1)).unwrap();
    for odd in [other(RowType::F32, 4), other(RowType::F16, 5)] {
        let mut builder = ManifestBuilder::new();
        builder.add(id(1), &first, &Parts::new()).unwrap();
        let error = builder.add(id(2), &odd, &Parts::new()).unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    }
    let mut builder = ManifestBuilder::new();
    builder.add(id(2), &first, &Parts::new()).unwrap();
    assert!(builder.add(id(2), &first, &Parts::new()).is_err(), "twice");
    assert!(
        builder.add(id(1), &first, &Parts::new()).is_err(),
        "out of order"
    );
    assert!(
        builder
            .add(id(3), &first, &whole(Split::Train, 11))
            .is_err(),
        "too many rows"
    );
    assert!(ManifestBuilder::new().finish("share").is_err(), "nothing");
}

#[test]
fn manifests_that_do_not_hold_together_are_refused() {
    let json = String::from_utf8(manifest().to_json().unwrap()).unwrap();
    for (from, to) in [
        ("\"version\":1", "\"version\":2"),
        (
            "\"rows\":100,\"train\":[0,100]",
            "\"rows\":100,\"train\":[0,101]",
        ),
        ("\"rows\":2100", "\"rows\":2101"),
        (
            "\"split\":\"folders\"",
            "\"split\":\"folders\",\"name\":\"x\"",
        ),
        (
            "\"statistics\":{\"count\":2100",
            "\"statistics\":{\"count\":2000",
        ),
        ("0101", "zz01"),
        ("{", "["),
    ] {
        let damaged = json.replacen(from, to, 1);
        assert_ne!(damaged, json, "{from}");
        assert!(
            Manifest::from_json(damaged.as_bytes(), "test").is_err(),
            "{to}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
        head: bool,
        tail: bool,
    ) {
        if head {
            bytes.splice(0..0, segment(RowType::U16, 1, 1, 1).into_iter().take(100));
        }
        if tail {
            let whole = segment(RowType::U16, 1, 1, 1);
            bytes.extend_from_slice(&whole[whole.len() - 64..]);
        }
        prop_assert!(read_all(&bytes).is_err());
        prop_assert!(Manifest::from_json(&bytes, "test").is_err());
    }

    #[test]
    fn segments_round_trip(width in 1u32..70, rows in 0usize..1200, kind in 0usize..4, seed: u32) {
        let row_type = TYPES[kind];
        let segment = open(&segment(row_type, width, rows, seed)).unwrap();
        let values = expected(row_type, &noise(rows * width as usize, seed));
        let mut out = vec![0.0; values.len()];
        segment.read_f32(0..rows as u64, &mut out).unwrap();
        prop_assert_eq!(out, values);
    }
}
