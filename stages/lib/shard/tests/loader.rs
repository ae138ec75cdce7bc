//! The loader: what an epoch covers, purity of its order, resuming, damage.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use half::f16;
use proptest::prelude::*;
use shard::{
    Data, Error, Layout, Loader, LoaderOptions, Manifest, ManifestBuilder, Metadata, Output, Parts,
    Remainder, RowType, Sampling, Segment, SegmentId, SegmentWriter, Split,
};

const WINDOWS: Sampling = Sampling::Windows { stride: 4 };
const DROP: Sampling = Sampling::Chunks {
    remainder: Remainder::Drop,
};
const PAD: Sampling = Sampling::Chunks {
    remainder: Remainder::Pad,
};

fn id(i: usize) -> SegmentId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(i as u64).to_be_bytes());
    SegmentId(bytes)
}

/// Row `r` of piece `i` is `(i, r)`, so that each row says where it is from.
fn data_set(folder: &Path, row_type: RowType, rows: &[usize]) -> Manifest {
    let mut builder = ManifestBuilder::new();
    for (i, &count) in rows.iter().enumerate() {
        let layout = Layout::new(row_type, [("piece", 1), ("row", 1)]).unwrap();
        let path = folder.join(format!("{}.bin", id(i)));
        let file = File::create(&path).unwrap();
        let mut writer = SegmentWriter::new(file, layout, Metadata::new()).unwrap();
        let values: Vec<u16> = (0..count).flat_map(|r| [i as u16, r as u16]).collect();
        match row_type {
            RowType::U16 => writer.push_u16(&values).unwrap(),
            RowType::Bit => {
                writer
                    .push_bits(&values.iter().map(|v| v & 1 == 1).collect::<Vec<_>>())
                    .unwrap();
            }
            RowType::F16 | RowType::F32 => {
                writer
                    .push_f32(&values.iter().map(|&v| f32::from(v)).collect::<Vec<_>>())
                    .unwrap();
            }
        }
        writer.finish().unwrap();
        let segment = Segment::open(&path).unwrap();
        let parts = Parts::from([(Split::Train, 0..count as u64)]);
        builder.add(id(i), &segment, &parts).unwrap();
    }
    builder.finish("test").unwrap()
}

fn options(batch: usize, rows: usize, sampling: Sampling) -> LoaderOptions {
    LoaderOptions {
        seed: 11,
        ..LoaderOptions::new(Split::Train, batch, rows, sampling)
    }
}

/// A batch as plain values: position, rows as (piece, row), reset, lengths.
type Plain = (u64, Vec<(u16, u16)>, Vec<bool>, Vec<u32>);

fn plain(batch: &shard::Batch) -> Plain {
    let rows = batch
        .data()
        .f32()
        .unwrap()
        .chunks(2)
        .map(|r| (r[0] as u16, r[1] as u16));
    (
        batch.position,
        rows.collect(),
        batch.reset().to_vec(),
        batch.lengths().to_vec(),
    )
}

fn take(loader: &Loader, epoch: u64, step: u64, count: usize) -> Vec<Plain> {
    loader
        .at(epoch, step)
        .unwrap()
        .take(count)
        .map(|b| plain(&b.unwrap()))
        .collect()
}

#[test]
fn windows_cover_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::F16, &[23, 4, 5, 40]);
    let loader = Loader::open(&manifest, dir.path(), &options(3, 4, WINDOWS)).unwrap();
    // Windows of 5 rows, 4 apart: 5 + 0 + 1 + 9 of them, 5 batches of 3.
    assert_eq!((loader.steps_per_epoch(), loader.skipped()), (5, 1));
    assert_eq!((loader.shape().rows, loader.shape().width), (5, 2));
    let mut offsets = Vec::new();
    for epoch in 0..8 {
        let mut starts = BTreeMap::<u16, Vec<u16>>::new();
        for batch in loader.epoch(epoch).unwrap() {
            let (_, rows, reset, lengths) = plain(&batch.unwrap());
            assert_eq!((reset, lengths), (vec![true; 3], vec![5; 3]));
            for window in rows.chunks(5) {
                assert!(
                    window
                        .windows(2)
                        .all(|w| w[0].0 == w[1].0 && w[0].1 + 1 == w[1].1)
                );
                starts.entry(window[0].0).or_default().push(window[0].1);
            }
        }
        let counts: Vec<_> = starts.iter().map(|(piece, s)| (*piece, s.len())).collect();
        assert_eq!(counts, [(0, 5), (2, 1), (3, 9)]);
        let mut of_last = starts[&3].clone();
        of_last.sort_unstable();
        assert!(of_last.windows(2).all(|w| w[0] + 4 == w[1]), "{of_last:?}");
        offsets.push(of_last[0]);
    }
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets, [0, 1, 2, 3], "every offset is drawn in some epoch");
}

#[test]
fn chunks_walk_whole_pieces_and_say_where_they_begin() {
    let dir = tempfile::tempdir().unwrap();
    let lengths = [50, 3, 17, 33, 64, 5];
    let manifest = data_set(dir.path(), RowType::F32, &lengths);
    let loader = Loader::open(&manifest, dir.path(), &options(4, 4, DROP)).unwrap();
    // 12 + 0 + 4 + 8 + 15 + 1 chunks.
    assert_eq!((loader.steps_per_epoch(), loader.skipped()), (10, 1));
    let mut orders = Vec::new();
    for epoch in 0..3 {
        let batches: Vec<Plain> = loader
            .epoch(epoch)
            .unwrap()
            .map(|b| plain(&b.unwrap()))
            .collect();
        assert_eq!(batches.len(), 10);
        let mut seen = BTreeMap::new();
        let mut order = Vec::new();
        for lane in 0..4 {
            let mut before: Option<(u16, u16)> = None;
            for (_, rows, reset, _) in &batches {
                let chunk = &rows[lane * 5..lane * 5 + 5];
                assert!(
                    chunk
                        .windows(2)
                        .all(|w| w[0].0 == w[1].0 && w[0].1 + 1 == w[1].1)
                );
                // A stream goes on exactly where it was, unless it is reset.
                if !reset[lane] {
                    assert_eq!(Some(chunk[0]), before);
                }
                before = Some(chunk[4]);
                for row in &chunk[..4] {
                    *seen.entry(*row).or_insert(0) += 1;
                }
                order.push(chunk[0]);
            }
            assert!(batches[0].2[lane], "all streams begin afresh with an epoch");
        }
        assert!(seen.values().all(|&count| count == 1));
        // All 40 chunks fill 10 batches: only the pieces' ends are left out.
        assert_eq!(seen.len(), 40 * 4);
        orders.push(order);
    }
    assert_ne!(orders[0], orders[1]);
    assert_ne!(orders[1], orders[2]);
}

#[test]
fn padded_chunks_have_every_target_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let lengths = [50, 1, 17, 2, 64];
    let manifest = data_set(dir.path(), RowType::F16, &lengths);
    let loader = Loader::open(&manifest, dir.path(), &options(4, 7, PAD)).unwrap();
    let mut targets = BTreeMap::new();
    let mut first = Vec::new();
    for epoch in 0..2 {
        let batches: Vec<Plain> = loader
            .epoch(epoch)
            .unwrap()
            .map(|b| plain(&b.unwrap()))
            .collect();
        for (_, rows, _, lengths) in &batches {
            for (lane, &length) in lengths.iter().enumerate() {
                let place = &rows[lane * 8..lane * 8 + 8];
                for row in place.iter().take(length as usize).skip(1) {
                    *targets.entry(*row).or_insert(0) += 1;
                }
                assert!(place[length as usize..].iter().all(|&row| row == (0, 0)));
            }
        }
        first.push(
            batches
                .into_iter()
                .map(|b| (b.1, b.2, b.3))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(first[0], first[1], "equal in every epoch");
    let expected: usize = lengths.iter().map(|n| n - 1).sum();
    assert_eq!(targets.len(), expected);
    assert!(
        targets.values().all(|&count| count == 2),
        "once in each of two epochs"
    );
}

#[test]
fn resumed_equals_uninterrupted_whatever_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::F16, &[50, 3, 17, 33, 64, 5]);
    for sampling in [WINDOWS, DROP, PAD] {
        let base = options(3, 4, sampling);
        let loader = Loader::open(&manifest, dir.path(), &base).unwrap();
        let all = take(&loader, 0, 0, 60);
        for (threads, prefetch, max_open) in [(1, 1, 1), (2, 1, 3), (3, 4, 4096), (16, 2, 2)] {
            let other = LoaderOptions {
                threads,
                prefetch,
                max_open,
                ..base.clone()
            };
            let other = Loader::open(&manifest, dir.path(), &other).unwrap();
            for from in [0, 1, 13, 37] {
                let (epoch, step) = (
                    from / loader.steps_per_epoch(),
                    from % loader.steps_per_epoch(),
                );
                let resumed = take(&other, epoch, step, 20);
                assert_eq!(
                    resumed,
                    all[from as usize..from as usize + 20],
                    "{sampling:?} {threads}"
                );
            }
        }
        if sampling != PAD {
            let reseeded = LoaderOptions { seed: 12, ..base };
            let reseeded = Loader::open(&manifest, dir.path(), &reseeded).unwrap();
            assert_ne!(take(&reseeded, 0, 0, 60), all);
        }
    }
}

#[test]
fn a_stream_knows_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::F16, &[50, 60]);
    let loader = Loader::open(&manifest, dir.path(), &options(2, 5, DROP)).unwrap();
    let steps = loader.steps_per_epoch();
    let mut stream = loader.at(3, 2).unwrap();
    assert_eq!(stream.position(), 3 * steps + 2);
    let batch = stream.next().unwrap().unwrap();
    assert_eq!(
        (batch.epoch, batch.step, batch.position),
        (3, 2, 3 * steps + 2)
    );
    assert_eq!(stream.position(), 3 * steps + 3);
    assert_eq!(loader.positions(5..5).unwrap().count(), 0);
}

#[test]
fn small_sets_lower_the_batch_and_tiny_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::F16, &[9, 9, 3]);
    let loader = Loader::open(&manifest, dir.path(), &options(64, 4, DROP)).unwrap();
    assert_eq!((loader.shape().batch, loader.steps_per_epoch()), (4, 1));
    let Err(error) = Loader::open(&manifest, dir.path(), &options(2, 9, DROP)) else {
        panic!("no piece has 10 rows");
    };
    assert_eq!(
        error.to_string(),
        "the train split has no piece of at least 10 rows (the longest has 9); shorten the \
         window or add longer pieces"
    );
    let valid = LoaderOptions {
        split: Split::Valid,
        ..options(2, 4, DROP)
    };
    assert!(matches!(
        Loader::open(&manifest, dir.path(), &valid),
        Err(Error::Empty { .. })
    ));
    for bad in [
        options(0, 4, DROP),
        options(1, 0, DROP),
        options(1, usize::MAX, PAD),
    ] {
        assert!(matches!(
            Loader::open(&manifest, dir.path(), &bad),
            Err(Error::Loader(_))
        ));
    }
}

#[test]
fn every_row_type_comes_out_natively_and_as_f32() {
    let dir = tempfile::tempdir().unwrap();
    for row_type in [RowType::F32, RowType::F16, RowType::U16, RowType::Bit] {
        let manifest = data_set(dir.path(), row_type, &[20, 30]);
        let native = LoaderOptions {
            output: Output::Native,
            ..options(2, 4, DROP)
        };
        let native = Loader::open(&manifest, dir.path(), &native).unwrap();
        let floats = Loader::open(&manifest, dir.path(), &options(2, 4, DROP)).unwrap();
        for (a, b) in native.epoch(0).unwrap().zip(floats.epoch(0).unwrap()) {
            let (a, b) = (a.unwrap(), b.unwrap());
            let a: Vec<f32> = match a.data() {
                Data::F32(values) => values.to_vec(),
                Data::F16(values) => values.iter().map(|x| f16::to_f32(*x)).collect(),
                Data::U16(values) => values.iter().map(|&x| f32::from(x)).collect(),
                Data::Bit(bytes) => bytes
                    .iter()
                    .flat_map(|b| [f32::from(b & 1), f32::from(b >> 1)])
                    .collect(),
                Data::I64(_) => panic!("rows are never stored so"),
            };
            assert_eq!(Some(a.as_slice()), b.data().f32(), "{row_type:?}");
            assert_eq!(b.data().f32().unwrap().len(), 2 * 5 * 2);
        }
        let codes = LoaderOptions {
            output: Output::I64,
            ..options(2, 4, DROP)
        };
        let codes = Loader::open(&manifest, dir.path(), &codes);
        if row_type.is_float() {
            assert!(matches!(codes, Err(Error::Loader(_))), "{row_type:?}");
            continue;
        }
        let codes = codes.unwrap().epoch(0).unwrap();
        for (a, b) in codes.zip(floats.epoch(0).unwrap()) {
            let (a, b) = (a.unwrap(), b.unwrap());
            let a: Vec<f32> = a.data().i64().unwrap().iter().map(|&x| x as f32).collect();
            assert_eq!(Some(a.as_slice()), b.data().f32(), "{row_type:?}");
        }
    }
}

/// Tokens of a toy song: the next-token task of the score road.
#[test]
fn tokens_are_loaded_by_the_same_loader() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(RowType::U16, [("token", 1)]).unwrap();
    let path = dir.path().join(format!("{}.bin", id(0)));
    let mut writer =
        SegmentWriter::new(File::create(&path).unwrap(), layout, Metadata::new()).unwrap();
    let song: Vec<u16> = (0..100).map(|i| [60, 64, 67, 312][i % 4]).collect();
    writer.push_u16(&song).unwrap();
    writer.finish().unwrap();
    let mut builder = ManifestBuilder::new();
    let parts = Parts::from([(Split::Train, 0..80), (Split::Valid, 84..100)]);
    builder
        .add(id(0), &Segment::open(&path).unwrap(), &parts)
        .unwrap();
    let manifest = builder.finish("time").unwrap();
    let native = |split| LoaderOptions {
        output: Output::Native,
        split,
        ..options(2, 8, Sampling::Windows { stride: 1 })
    };
    for (split, range, windows) in [(Split::Train, 0..80, 72), (Split::Valid, 84..100, 8)] {
        let loader = Loader::open(&manifest, dir.path(), &native(split)).unwrap();
        assert_eq!(loader.steps_per_epoch(), windows / 2);
        for batch in loader.epoch(0).unwrap() {
            let batch = batch.unwrap();
            for window in batch.data().u16().unwrap().chunks(9) {
                assert!(song[range.clone()].windows(9).any(|part| part == window));
            }
        }
    }
}

#[test]
fn damage_ends_the_stream_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::F16, &[500]);
    let path = dir.path().join(format!("{}.bin", id(0)));
    let whole = std::fs::read(&path).unwrap();
    let outcome = || {
        let loader = Loader::open(&manifest, dir.path(), &options(2, 4, DROP)).unwrap();
        let mut stream = loader.epoch(0).unwrap();
        let error = stream.find_map(Result::err);
        assert!(stream.next().is_none(), "nothing follows an error");
        error
    };
    assert!(outcome().is_none());
    for at in [70, 1000, whole.len() - 80, 3] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert!(outcome().unwrap().is_damage(), "{at}");
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(outcome().unwrap().is_damage());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(outcome(), Some(Error::Io { .. })));
    // Another whole segment under this name.
    let other = tempfile::tempdir().unwrap();
    data_set(other.path(), RowType::F16, &[1, 500]);
    std::fs::copy(other.path().join(format!("{}.bin", id(1))), &path).unwrap();
    let error = outcome().unwrap();
    assert!(error.is_damage() && error.to_string().contains("its root is"));
}

#[test]
fn three_thousand_tiny_segments_through_sixteen_maps() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::U16, &vec![9; 3000]);
    let few = LoaderOptions {
        max_open: 16,
        threads: 2,
        ..options(32, 8, DROP)
    };
    let loader = Loader::open(&manifest, dir.path(), &few).unwrap();
    let mut pieces: Vec<u32> = Vec::new();
    for batch in loader.epoch(0).unwrap() {
        pieces.extend(batch.unwrap().pieces());
    }
    assert_eq!(pieces.len(), 3000 / 32 * 32);
    pieces.sort_unstable();
    pieces.dedup();
    assert_eq!(pieces.len(), 3000 / 32 * 32, "each piece once");
}

#[test]
fn buffers_go_round() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = data_set(dir.path(), RowType::F16, &[500]);
    let loader = Loader::open(&manifest, dir.path(), &options(2, 4, DROP)).unwrap();
    let mut places = Vec::new();
    for batch in loader.at(0, 0).unwrap().take(200) {
        places.push(batch.unwrap().data().f32().unwrap().as_ptr() as usize);
    }
    places.sort_unstable();
    places.dedup();
    assert!(
        places.len() <= 5,
        "{} buffers for 200 batches",
        places.len()
    );
    // A caller may keep batches: it gets new buffers, and nothing waits for ever.
    let kept: Vec<_> = loader
        .at(0, 0)
        .unwrap()
        .take(50)
        .map(Result::unwrap)
        .collect();
    assert_eq!(kept.len(), 50);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_row_is_visited_twice_in_an_epoch(
        lengths in proptest::collection::vec(0usize..60, 1..8),
        batch in 1usize..7,
        rows in 1usize..9,
        lookahead in 0usize..4,
        pad: bool,
        epoch in 0u64..1000,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let manifest = data_set(dir.path(), RowType::F16, &lengths);
        let sampling = if pad { PAD } else { DROP };
        let options = LoaderOptions { lookahead, ..options(batch, rows, sampling) };
        let needed = if pad { lookahead + 1 } else { rows + lookahead };
        let loader = match Loader::open(&manifest, dir.path(), &options) {
            Ok(loader) => loader,
            Err(Error::Empty { .. }) => {
                prop_assert!(lengths.iter().all(|&n| n < needed));
                return Ok(());
            }
            Err(error) => panic!("{error}"),
        };
        let mut seen = BTreeMap::new();
        let mut chunks = 0;
        for batch in loader.epoch(epoch).unwrap() {
            let (_, all, _, real) = plain(&batch.unwrap());
            for (place, &length) in all.chunks(rows + lookahead).zip(&real) {
                chunks += usize::from(length > 0);
                for row in place.iter().take((length as usize).saturating_sub(lookahead)) {
                    *seen.entry(*row).or_insert(0) += 1;
                }
            }
        }
        prop_assert!(seen.values().all(|&count| count == 1));
        let inputs = |n: usize| n.saturating_sub(lookahead);
        if pad {
            prop_assert_eq!(seen.len(), lengths.iter().map(|&n| inputs(n)).sum::<usize>());
        } else {
            let possible: usize = lengths.iter().map(|&n| inputs(n) / rows).sum();
            prop_assert!(chunks <= possible && chunks + loader.shape().batch > possible);
        }
    }
}
