//! Speed of decoding, mixing, resampling and writing, per minute of sound.

use std::hint::black_box;
use std::io::Cursor;

use audio::{Container, MonoOptions, MonoReader, PcmSpec, PcmWriter, Resampler, SampleFormat};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SECONDS: u32 = 10;

/// Something with harmonics and noise, so that FLAC has work to do.
fn sound(rate: u32, channels: u32) -> Vec<f32> {
    let mut state = 1_u32;
    (0..rate * SECONDS * channels)
        .map(|n| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = state as f32 / u32::MAX as f32 - 0.5;
            let t = (n / channels) as f32 / rate as f32;
            0.4 * (t * 1_382.3).sin() + 0.2 * (t * 2_764.6).sin() + 0.02 * noise
        })
        .collect()
}

fn write(samples: &[f32], container: Container, spec: PcmSpec) -> audio::Result<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    let mut pcm = PcmWriter::new(&mut file, container, spec)?;
    for block in samples.chunks(4_096) {
        pcm.write(block)?;
    }
    pcm.finish()?;
    Ok(file.into_inner())
}

fn read_mono(file: Vec<u8>) -> audio::Result<usize> {
    let mut reader = MonoReader::new(Cursor::new(file), MonoOptions::default())?;
    let mut count = 0;
    while let Some(samples) = reader.next_block()? {
        count += samples.len();
    }
    Ok(count)
}

fn resample(samples: &[f32], from: u32, to: u32) -> audio::Result<Vec<f32>> {
    let mut resampler = Resampler::new(from, to)?;
    let mut output = Vec::with_capacity(samples.len());
    for block in samples.chunks(1_152) {
        resampler.push(block, &mut output)?;
    }
    resampler.finish(&mut output)?;
    Ok(output)
}

fn resampling(c: &mut Criterion) {
    let mut group = c.benchmark_group("resample");
    for (from, to) in [(44_100, 22_050), (48_000, 22_050), (44_100, 16_000)] {
        let samples = sound(from, 1);
        group.throughput(Throughput::Elements(samples.len() as u64));
        group.bench_function(format!("{from} to {to}"), |b| {
            b.iter(|| black_box(resample(&samples, from, to)));
        });
    }
    group.finish();
}

fn files(c: &mut Criterion) {
    let spec = PcmSpec {
        rate: 44_100,
        channels: 2,
        format: SampleFormat::S16,
    };
    let samples = sound(spec.rate, 2);
    let mut group = c.benchmark_group("stereo 44100 s16");
    group.throughput(Throughput::Elements(samples.len() as u64));
    for container in [Container::Wav, Container::Flac] {
        group.bench_function(format!("write {container}"), |b| {
            b.iter(|| black_box(write(&samples, container, spec)));
        });
        let Ok(file) = write(&samples, container, spec) else {
            continue;
        };
        group.bench_function(format!("{container} to mono 22050"), |b| {
            b.iter(|| black_box(read_mono(file.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, resampling, files);
criterion_main!(benches);
