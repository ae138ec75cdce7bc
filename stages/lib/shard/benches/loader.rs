//! The loader beside memcpy: shuffled windows of 64 frames, batch 32, from a
//! data set of 64 pieces that lies in the page cache.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::fs::File;
use std::hint::black_box;
use std::io::BufWriter;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use half::f16;
use shard::{
    Layout, Loader, LoaderOptions, Manifest, ManifestBuilder, Metadata, Output, Parts, Remainder,
    RowType, Sampling, Segment, SegmentId, SegmentWriter, Split,
};

const BINS: usize = 513;
const ROWS: usize = 64;
const BATCH: usize = 32;
const PIECES: u8 = 64;
const FRAMES: usize = 2048;

fn data_set(folder: &Path, row_type: RowType) -> Manifest {
    let mut builder = ManifestBuilder::new();
    let rows: Vec<f32> = (0..BINS * FRAMES)
        .map(|i| (i % 1000) as f32 / 100.0 - 10.0)
        .collect();
    for piece in 0..PIECES {
        let id = SegmentId([piece; 32]);
        let path = folder.join(format!("{id}.bin"));
        let layout = Layout::new(row_type, [("magnitude", BINS as u32)]).unwrap();
        let file = BufWriter::new(File::create(&path).unwrap());
        let mut writer = SegmentWriter::new(file, layout, Metadata::new()).unwrap();
        writer.push_f32(&rows).unwrap();
        writer.finish().unwrap();
        let parts = Parts::from([(Split::Train, 0..FRAMES as u64)]);
        builder
            .add(id, &Segment::open(&path).unwrap(), &parts)
            .unwrap();
    }
    builder.finish("bench").unwrap()
}

fn loader(c: &mut Criterion) {
    let values = BATCH * (ROWS + 1) * BINS;
    let mut group = c.benchmark_group("loader");
    group.sample_size(20);
    for (row_type, output) in [
        (RowType::F32, Output::Native),
        (RowType::F16, Output::Native),
        (RowType::F16, Output::F32),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let manifest = data_set(dir.path(), row_type);
        let name = format!("{}-{output:?}", row_type.name()).to_lowercase();
        let of_value = if row_type == RowType::F32 { 4 } else { 2 };
        // Bytes of rows read, whatever they become.
        group.throughput(Throughput::Bytes((values * of_value) as u64));
        // As many bytes from a source as large as the data set, so that memcpy
        // finds it in the same caches.
        let source = vec![f16::ONE; usize::from(PIECES) * FRAMES * BINS * of_value / 2];
        let mut target = vec![f16::ZERO; values * of_value / 2];
        let mut at = 0;
        group.bench_function(format!("memcpy-{name}"), |b| {
            b.iter(|| {
                let window = (ROWS + 1) * BINS * of_value / 2;
                for place in target.chunks_exact_mut(window) {
                    // Steps of a large odd number of windows: as scattered as a shuffle.
                    at = (at + 7919 * window) % (source.len() - window);
                    place.copy_from_slice(&source[at..at + window]);
                }
                black_box(&target);
            });
        });
        for (kind, sampling) in [
            ("windows", Sampling::Windows { stride: ROWS }),
            (
                "chunks",
                Sampling::Chunks {
                    remainder: Remainder::Drop,
                },
            ),
        ] {
            for threads in [1, 2] {
                let options = LoaderOptions {
                    output,
                    threads,
                    ..LoaderOptions::new(Split::Train, BATCH, ROWS, sampling)
                };
                let loader = Loader::open(&manifest, dir.path(), &options).unwrap();
                // One epoch finds every chunk whole.
                loader
                    .epoch(0)
                    .unwrap()
                    .for_each(|batch| drop(batch.unwrap()));
                let mut stream = loader.at(1, 0).unwrap();
                group.bench_function(format!("{kind}-{name}-{threads}"), |b| {
                    b.iter(|| black_box(stream.next().unwrap().unwrap()));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, loader);
criterion_main!(benches);
