//! Frames per second of the transform and of what is taken from its frames.

#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dsp::{Complex32, DEFAULT_FLOOR, Error, MagnitudeScale, Stft, StftConfig, StftStream};

/// Ten seconds at 22,050 Hz.
const SAMPLES: usize = 220_500;

fn chirp() -> Vec<f32> {
    (0..SAMPLES)
        .map(|n| (1e-6 * (n as f32).powi(2)).sin())
        .collect()
}

fn transforms(criterion: &mut Criterion) {
    let signal = chirp();
    let config = StftConfig::default();
    let mut group = criterion.benchmark_group("stft_1024_256");
    group.throughput(Throughput::Elements(config.frames(SAMPLES as u64)));
    let mut stream = StftStream::new(Stft::new(config).unwrap());
    group.bench_function("spectra", |b| {
        b.iter(|| {
            let mut look = |row: &[Complex32]| {
                black_box(row);
                Ok::<_, Error>(())
            };
            stream.push(&signal, &mut look).unwrap();
            stream.finish(&mut look).unwrap();
        });
    });
    let scale = MagnitudeScale::new(stream.stft().window(), DEFAULT_FLOOR).unwrap();
    let mut log = vec![0.0; config.bins()];
    group.bench_function("log_magnitudes", |b| {
        b.iter(|| {
            let mut look = |row: &[Complex32]| {
                scale.log(row, &mut log);
                black_box(&log);
                Ok::<_, Error>(())
            };
            stream.push(&signal, &mut look).unwrap();
            stream.finish(&mut look).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, transforms);
criterion_main!(benches);
