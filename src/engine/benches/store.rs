//! The store's cost per action: durable publishing, and looking up.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engine::store::{
    ActionRecord, Artifact, GcOptions, HashOptions, Origin, Outcome, Record, StageSettings, Store,
    StoreOptions, Ulid, VerifyOptions,
};
use rayon::prelude::*;
use stage_core::{Cancel, Digest, Part, Tree};

fn open(root: &Path) -> Store {
    Store::open(root, StoreOptions::new(|_| ())).expect("a store")
}

fn key(n: usize) -> Digest {
    Digest::of(&n.to_le_bytes())
}

struct Actions {
    origin: Arc<Origin>,
    settings: Arc<StageSettings>,
}

impl Actions {
    fn new() -> Self {
        Self {
            origin: Arc::new(Origin {
                run: Ulid::new(),
                pipeline: "bench".to_owned(),
                program: "0".to_owned(),
                class: "bench".to_owned(),
            }),
            settings: Arc::new(StageSettings {
                stage: "decode".to_owned(),
                kind: "decode".to_owned(),
                version: 1,
                part: Part::Item,
                params: r#"{"rate":22050,"bits":16}"#.to_owned(),
            }),
        }
    }

    fn record(&self, n: usize, tree: &Tree) -> Record {
        Record::Action(ActionRecord {
            key: key(n),
            origin: self.origin.clone(),
            settings: self.settings.clone(),
            item: format!("folder/piece {n:06}.wav"),
            inputs: BTreeMap::from([("in".to_owned(), vec![key(n + 1)])]),
            outcome: Outcome::Done(Artifact::new(tree)),
            seconds: 0.1,
            bytes: 1000,
            at: 1,
        })
    }

    /// Records without objects, as if linked.
    fn fill(&self, store: &Store, count: usize) {
        for n in 0..count {
            let tree = Tree::single("pcm.wav", key(n), 1000);
            store.queue(self.record(n, &tree), None).expect("queued");
        }
        store.flush().expect("durable");
    }
}

fn publish(c: &mut Criterion) {
    let actions = Actions::new();
    let mut group = c.benchmark_group("publish");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(10_000));
    group.bench_function("10k tiny actions", |b| {
        b.iter_batched_ref(
            || {
                let dir = tempfile::tempdir().expect("a folder");
                (open(&dir.path().join("cache")), dir)
            },
            |(store, _)| {
                for n in 0..10_000_usize {
                    let claim = store
                        .claim(&key(n), |_| std::ops::ControlFlow::Break(()))
                        .expect("free");
                    let entry = store.import_bytes(&n.to_le_bytes()).expect("imported");
                    let tree = Tree(BTreeMap::from([("out".to_owned(), entry)]));
                    store
                        .queue(actions.record(n, &tree), Some(claim))
                        .expect("queued");
                }
                store.flush().expect("durable");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn look_up(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("cache");
    Actions::new().fill(&open(&root), 30_000);
    let keys: Vec<_> = (0..30_000).map(key).collect();
    let mut group = c.benchmark_group("look up");
    group.sample_size(20);
    group.throughput(Throughput::Elements(30_000));
    let store = open(&root);
    group.bench_function("30k of 30k", |b| {
        b.iter(|| black_box(store.lookup_many(&keys).expect("found")));
    });
    group.bench_function("30k of 30k, opening", |b| {
        b.iter(|| black_box(open(&root).lookup_many(&keys).expect("found")));
    });
    group.throughput(Throughput::Elements(300));
    group.bench_function("300 of 30k", |b| {
        b.iter(|| black_box(store.lookup_many(&keys[..300]).expect("found")));
    });
    drop(store);
    group.sample_size(10);
    group.throughput(Throughput::Elements(30_000));
    group.bench_function("fold 30k anew", |b| {
        b.iter(|| {
            std::fs::remove_file(root.join("index.db")).expect("removed");
            open(&root)
        });
    });
    group.finish();
}

fn stat(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("cache"));
    let corpus = dir.path().join("corpus");
    std::fs::create_dir(&corpus).expect("a folder");
    let paths: Vec<_> = (0..10_000)
        .map(|n| corpus.join(format!("{n:05}.bin")))
        .collect();
    for (n, path) in paths.iter().enumerate() {
        let bytes = n.to_le_bytes().repeat(512);
        std::fs::write(path, bytes).expect("written");
    }
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let digests = |paranoid| {
        let options = HashOptions {
            paranoid,
            cancel: &Cancel::default(),
            on_bytes: &|_| (),
        };
        store.digest_many(&paths, &options)
    };
    digests(false);
    let mut group = c.benchmark_group("10k files of 4 KiB");
    group
        .sample_size(20)
        .throughput(Throughput::Elements(10_000));
    group.bench_function("stat cache", |b| b.iter(|| black_box(digests(false))));
    group.bench_function("paranoid", |b| b.iter(|| black_box(digests(true))));
    group.finish();
}

/// Verification against hashing the same bytes in memory on as many threads.
fn verify(c: &mut Criterion) {
    const OBJECTS: usize = 64;
    const SIZE: usize = 4 << 20;
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(&dir.path().join("cache"));
    let contents: Vec<Vec<u8>> = (0..OBJECTS)
        .map(|n| {
            (0..SIZE)
                .map(|i| (i * 31 + n * 7 + (i >> 9)) as u8)
                .collect()
        })
        .collect();
    for content in &contents {
        store.import_bytes(content).expect("imported");
    }
    let mut group = c.benchmark_group("verify 256 MiB");
    group.sample_size(20);
    group.throughput(Throughput::Bytes((OBJECTS * SIZE) as u64));
    group.bench_function("objects", |b| {
        b.iter(|| {
            let report = store.verify(&VerifyOptions {
                subset: None,
                cancel: &Cancel::default(),
                on_bytes: &|_| (),
            });
            assert!(report.expect("verified").is_clean());
        });
    });
    group.bench_function("bare BLAKE3", |b| {
        b.iter(|| {
            let digests = contents.par_iter().map(|content| Digest::of(content));
            black_box(digests.collect::<Vec<_>>())
        });
    });
    group.finish();
}

/// How long a collection keeps the gate closed, about: it decides over 30,000 records.
fn collect(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path().join("cache");
    Actions::new().fill(&open(&root), 30_000);
    let store = open(&root);
    let everything = GcOptions {
        keep_runs: 1,
        min_age: std::time::Duration::MAX,
        ..GcOptions::default()
    };
    let mut group = c.benchmark_group("collect");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(30_000));
    group.bench_function("30k records that stay", |b| {
        b.iter(|| black_box(store.gc(&everything).expect("collected")));
    });
    group.finish();
}

criterion_group!(benches, publish, look_up, stat, verify, collect);
criterion_main!(benches);
