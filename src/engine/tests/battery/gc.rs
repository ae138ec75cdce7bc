//! Collection on random graphs of runs, artifacts and objects, interrupted at a random step: by
//! calls that fail from then on, or by a crash with a loss of what was not synced.
//!
//! *Passing*: nothing that a kept run, a pin or a living process reaches is ever gone, no record
//! refers to what is gone, and a second collection leaves exactly what is reachable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::fs::Fs;
use engine::fs::sim::{Error, Fault, Loss, SimFs};
use engine::store::{
    ActionRecord, Artifact, Origin, Outcome, PinRecord, Record, RunOutcome, RunRecord, RunStage,
    StageSettings, Store, StoreOptions, Ulid,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use stage_core::{Digest, Part, Tree};

use super::case::Row;
use super::scenario::collect;
use super::toy::temporary;

const ROW: Row = Row {
    name: "gc",
    quick: 100,
    ci: 5_000,
    nightly: 100_000,
};

/// A random graph.
#[derive(Debug)]
struct Graph {
    /// Artifact → its objects, by number.
    artifacts: Vec<BTreeSet<usize>>,
    /// Runs, oldest first: pipeline and artifacts.
    runs: Vec<(usize, BTreeSet<usize>)>,
    pinned: BTreeSet<usize>,
    /// Objects that nothing refers to.
    litter: BTreeSet<usize>,
    /// An artifact that a living process holds.
    held: Option<usize>,
    keep: usize,
}

const OBJECTS: usize = 12;

impl Graph {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let some = |rng: &mut ChaCha8Rng, of: usize, most: usize| -> BTreeSet<usize> {
            let count = rng.random_range(1..=most);
            (0..count).map(|_| rng.random_range(0..of)).collect()
        };
        let artifacts: Vec<_> = (0..rng.random_range(1..9))
            .map(|_| some(rng, OBJECTS, 3))
            .collect();
        let runs: Vec<_> = (0..rng.random_range(0..6))
            .map(|_| (rng.random_range(0..2), some(rng, artifacts.len(), 4)))
            .collect();
        let pinned = (0..runs.len())
            .filter(|_| rng.random_range(0..5) == 0)
            .collect();
        let used: BTreeSet<usize> = runs.iter().flat_map(|(_, used)| used.clone()).collect();
        let held = used.iter().next().copied();
        Self {
            pinned,
            litter: some(rng, OBJECTS, 2),
            held: held.filter(|_| rng.random_range(0..3) == 0),
            keep: rng.random_range(0..4),
            artifacts,
            runs,
        }
    }

    /// The runs that are kept: the last ones of each pipeline, and besides those that are pinned.
    fn kept(&self) -> BTreeSet<usize> {
        let mut kept = self.pinned.clone();
        for pipeline in 0..2 {
            let of = (0..self.runs.len())
                .filter(|run| self.runs[*run].0 == pipeline && !self.pinned.contains(run));
            kept.extend(of.rev().take(self.keep));
        }
        kept
    }

    /// The objects that must stay.
    fn reachable(&self, held: bool) -> BTreeSet<Digest> {
        let mut objects = BTreeSet::new();
        let held = self.held.filter(|_| held);
        let mut artifacts: BTreeSet<usize> = held.into_iter().collect();
        for run in self.kept() {
            artifacts.extend(&self.runs[run].1);
            objects.insert(Digest::of(&self.list(run)));
        }
        for artifact in artifacts {
            let numbers = self.artifacts[artifact].iter();
            objects.extend(numbers.map(|n| Digest::of(&content(*n))));
        }
        objects
    }

    /// The bytes of a run's list of artifacts.
    fn list(&self, run: usize) -> Vec<u8> {
        let digests = self.digests(run);
        digests.iter().flat_map(|digest| digest.0).collect()
    }

    fn digests(&self, run: usize) -> Vec<Digest> {
        let used = self.runs[run].1.iter();
        let digests: BTreeSet<_> = used.map(|n| self.artifact(*n).digest).collect();
        digests.into_iter().collect()
    }

    fn artifact(&self, n: usize) -> Artifact {
        let entry = |object: &usize| {
            let bytes = content(*object);
            let entry = stage_core::Entry {
                digest: Digest::of(&bytes),
                size: bytes.len() as u64,
                self_checked: false,
            };
            (format!("object {object}"), entry)
        };
        Artifact::new(&Tree(self.artifacts[n].iter().map(entry).collect()))
    }

    /// What an object is.
    fn name(&self, digest: Digest) -> String {
        let object = (0..OBJECTS).find(|n| Digest::of(&content(*n)) == digest);
        let list = (0..self.runs.len()).find(|run| Digest::of(&self.list(*run)) == digest);
        match (object, list) {
            (Some(n), _) => format!("object {n}"),
            (_, Some(run)) => format!("the list of run {run}"),
            _ => digest.to_hex(),
        }
    }

    fn build(&self, cache: &Path) {
        let store = Store::open(cache, quiet(None)).unwrap();
        for object in &self.litter {
            store.import_bytes(&content(*object)).unwrap();
        }
        let mut done = BTreeSet::new();
        for (run, (pipeline, used)) in self.runs.iter().enumerate() {
            let origin = Arc::new(Origin {
                run: Ulid(run as u128 + 1),
                pipeline: format!("pipeline {pipeline}"),
                program: "test".into(),
                class: "test".into(),
            });
            let at = 1000 * (run as u64 + 1);
            for n in used {
                if done.insert(*n) {
                    for object in &self.artifacts[*n] {
                        store.import_bytes(&content(*object)).unwrap();
                    }
                    store
                        .queue(Record::Action(self.action(*n, &origin, at)), None)
                        .unwrap();
                }
            }
            let record = RunRecord {
                origin: (*origin).clone(),
                command: String::new(),
                started: at,
                ended: at + 500,
                outcome: RunOutcome::Done,
                stages: vec![RunStage {
                    stage: "work".into(),
                    artifacts: Some(store.put_digests(&self.digests(run)).unwrap()),
                    ..RunStage::default()
                }],
                collected: false,
            };
            store.queue(Record::Run(record), None).unwrap();
            if self.pinned.contains(&run) {
                let pin = PinRecord {
                    run: origin.run,
                    pinned: true,
                    note: String::new(),
                    at,
                };
                store.queue(Record::Pin(pin), None).unwrap();
            }
            // Some runs share a commit.
            if run % 2 == 0 {
                store.flush().unwrap();
            }
        }
        store.flush().unwrap();
    }

    fn action(&self, n: usize, origin: &Arc<Origin>, at: u64) -> ActionRecord {
        ActionRecord {
            key: Digest::of(format!("key {n}").as_bytes()),
            origin: origin.clone(),
            settings: Arc::new(StageSettings {
                stage: "work".into(),
                kind: "work".into(),
                version: 1,
                part: Part::Item,
                params: "{}".into(),
            }),
            item: format!("{n}.txt"),
            inputs: BTreeMap::new(),
            outcome: Outcome::Done(self.artifact(n)),
            seconds: 0.1,
            bytes: 1,
            at,
        }
    }
}

fn content(object: usize) -> Vec<u8> {
    format!("the bytes of object {object}").into_bytes()
}

fn quiet(disk: Option<&SimFs>) -> StoreOptions {
    let mut options = StoreOptions::new(|_| {});
    if let Some(disk) = disk {
        options.fs = Arc::new(disk.clone()) as Arc<dyn Fs>;
    }
    options
}

#[test]
fn random_graphs() {
    let (failed, crashed) = (AtomicU64::new(0), AtomicU64::new(0));
    ROW.run(
        |seed| case(seed, &failed, &crashed),
        || {
            format!(
                ": {} cut short by an error, {} by a crash",
                failed.load(Ordering::Relaxed),
                crashed.load(Ordering::Relaxed)
            )
        },
    );
}

fn case(seed: u64, failed: &AtomicU64, crashed: &AtomicU64) {
    let mut rng = ROW.rng(seed);
    let graph = Graph::random(&mut rng);
    let dir = temporary();
    let cache = dir.path().join("cache");
    graph.build(&cache);
    let other = graph.held.map(|artifact| {
        let store = Store::open(&cache, quiet(None)).unwrap();
        let digest = graph.artifact(artifact).digest;
        let generation = store.generation();
        assert!(store.hold(&[digest], generation).unwrap());
        store
    });
    let disk = SimFs::new(&cache, &[]).unwrap();
    if rng.random_range(0..3) == 0 {
        // How many calls there are is not known; most collections make more.
        let call = rng.random_range(0..150);
        let (error, lasting) = (Error::Device, true);
        disk.fail(Fault::At {
            call,
            error,
            lasting,
        });
        let opened = Store::open(&cache, quiet(Some(&disk)));
        let _ = opened.and_then(|store| store.gc(&collect(graph.keep)));
        failed.fetch_add(u64::from(disk.has_failed()), Ordering::Relaxed);
        check(&graph, &cache, true);
        drop(other);
        check(&graph, &cache, false);
        return;
    }
    let store = Store::open(&cache, quiet(Some(&disk))).unwrap();
    store.gc(&collect(graph.keep)).unwrap();
    drop(store);
    check(&graph, &cache, true);
    drop(other);
    crashed.fetch_add(1, Ordering::Relaxed);
    let recording = disk.recording();
    for loss in [Loss::Nothing, Loss::All, Loss::Some(seed)] {
        let length = rng.random_range(0..=recording.len());
        let dir = temporary();
        let cache = dir.path().join("cache");
        recording.state(length, loss).write(&cache).unwrap();
        check(&graph, &cache, false);
    }
}

/// What must hold of a cache at any time, and after one more collection.
fn check(graph: &Graph, cache: &Path, held: bool) {
    let store = Store::open(cache, quiet(None)).unwrap();
    let reachable = graph.reachable(held);
    whole(&store, &reachable);
    store.gc(&collect(graph.keep)).unwrap();
    whole(&store, &reachable);
    let left: BTreeSet<_> = store.objects().unwrap().into_iter().collect();
    let more: Vec<_> = left
        .difference(&reachable)
        .map(|d| graph.name(*d))
        .collect();
    assert!(
        more.is_empty(),
        "left and not reachable: {more:?} of {graph:?}"
    );
    drop(store);
    let trash = std::fs::read_dir(cache.join("trash")).unwrap().count();
    assert_eq!(trash, 0, "files in the trash");
}

fn whole(store: &Store, reachable: &BTreeSet<Digest>) {
    let here: BTreeSet<_> = store.objects().unwrap().into_iter().collect();
    let gone: Vec<_> = reachable.difference(&here).collect();
    assert!(gone.is_empty(), "reachable and gone: {gone:?}");
    let mut artifacts = Vec::new();
    let each = |_, record| {
        if let Record::Action(action) = record {
            artifacts.extend(action.outcome.artifact().cloned());
        }
        Ok(())
    };
    store.each_record(each).unwrap();
    for artifact in artifacts {
        store.input(&artifact.tree()).unwrap();
    }
}
