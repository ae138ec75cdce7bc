//! Writing and reading a shard of one minute of frames at the default road.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shard::{Column, Dtype, Metadata, ShardOptions, ShardReader, ShardWriter};

const BINS: usize = 513;
const FRAMES: usize = 60 * 22_050 / 256;

/// Log magnitudes as of music: bins that fall with frequency, move slowly in
/// time, and flicker.
fn frames() -> Vec<f32> {
    let mut state = 1u32;
    let mut noise = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut out = Vec::with_capacity(BINS * FRAMES);
    for frame in 0..FRAMES {
        for bin in 0..BINS {
            let slow = (frame as f32 * 0.02 + bin as f32 * 0.3).sin();
            out.push((-1.0 - 0.012 * bin as f32 + slow + noise()).max(-10.0));
        }
    }
    out
}

fn write(frames: &[f32], dtype: Dtype, zstd_level: i32) -> Vec<u8> {
    let columns = [Column::new("magnitude", BINS as u32, dtype)];
    let options = ShardOptions {
        zstd_level,
        ..ShardOptions::default()
    };
    let mut writer = ShardWriter::new(Vec::new(), &columns, &Metadata::new(), options).unwrap();
    for part in frames.chunks(BINS * 64) {
        writer.push(&[part]).unwrap();
    }
    writer.finish().unwrap().0
}

fn shards(c: &mut Criterion) {
    let frames = frames();
    let mut group = c.benchmark_group("shard");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(frames.len() as u64 * 4));
    for dtype in [Dtype::F16, Dtype::F32] {
        for level in [1, 3] {
            group.bench_function(format!("write-{}-zstd{level}", dtype.name()), |b| {
                b.iter(|| black_box(write(&frames, dtype, level)));
            });
        }
        let bytes = write(&frames, dtype, ShardOptions::default().zstd_level);
        group.bench_function(format!("read-{}", dtype.name()), |b| {
            b.iter(|| {
                let reader = ShardReader::from_bytes(bytes.clone(), "bench").unwrap();
                for batch in reader.batches(&["magnitude"], 512).unwrap() {
                    black_box(batch.unwrap());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, shards);
criterion_main!(benches);
