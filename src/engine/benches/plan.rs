//! Fingerprints and plans: what a run costs before it does anything.
//!
//! Over toy texts: the whole of [`engine::Session::prepare`] (list, stat, look up) when nothing has
//! changed, beside a bare walk that only lists and stats.

#![allow(clippy::unwrap_used, reason = "a bench stops where it stands")]

#[path = "../tests/toy/mod.rs"]
mod toy;

use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use engine::Session;
use stage_core::{Cancel, Digest, KeyHasher};
use toy::Toy;

fn fingerprint(c: &mut Criterion) {
    let params = r#"{"format":"s16","max_duration":86400.0,"min_duration":0.5,"rate":22050}"#;
    let input = Digest::of(b"input");
    let mut hasher = KeyHasher::new("pipeline action 2");
    hasher
        .field(b"decode")
        .field(&1_u32.to_le_bytes())
        .field(b"item")
        .field(params.as_bytes());
    let base = hasher.finish();
    c.bench_function("fingerprint of an item's action", |b| {
        b.iter(|| black_box(input).keyed(&base));
    });
}

fn bare_walk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan, nothing stale");
    group.sample_size(10);
    for files in [300_u32, 3000] {
        let toy = Toy::new(&[]);
        for i in 0..files {
            toy.write(&format!("{i}.txt"), &format!("text number {i}"));
        }
        // Files as young as their recording are not trusted by the stat cache.
        std::thread::sleep(std::time::Duration::from_secs(3));
        toy.run();
        toy.run();
        group.throughput(Throughput::Elements(files.into()));
        let corpus = toy.dir.path().join("corpus");
        group.bench_with_input(BenchmarkId::new("bare walk", files), &corpus, |b, dir| {
            b.iter(|| bare_walk(dir));
        });
        let project = toy.project(&[]);
        group.bench_with_input(
            BenchmarkId::new("prepare", files),
            &project,
            |b, project| {
                b.iter(|| {
                    let session = Session::prepare(project, toy.request(), &Cancel::default());
                    session.unwrap().forecast().unwrap().to_do()
                });
            },
        );
    }
}

criterion_group!(benches, fingerprint, plan);
criterion_main!(benches);
