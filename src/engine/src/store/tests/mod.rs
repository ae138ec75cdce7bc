//! Tests of the store as a whole.

mod claims;
mod durability;
mod files;
mod foreign;
mod gc;
mod index;
mod locks;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use stage_core::{Digest, Entry, Part, Tree};

use super::*;
use crate::fs::RealFs;

/// A store in a fresh folder, with the warnings it gave.
pub(super) struct Home {
    pub(super) dir: tempfile::TempDir,
    pub(super) warnings: Arc<Mutex<Vec<Warning>>>,
}

impl Home {
    pub(super) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            warnings: Arc::default(),
        }
    }

    pub(super) fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("cache")
    }

    pub(super) fn options(&self) -> StoreOptions {
        let warnings = self.warnings.clone();
        StoreOptions {
            fs: Arc::new(RealFs),
            state_dir: Some(self.dir.path().join("state")),
            warn: Arc::new(move |warning| warnings.lock().unwrap().push(warning)),
        }
    }

    pub(super) fn open(&self) -> Store {
        self.try_open().unwrap()
    }

    pub(super) fn try_open(&self) -> Result<Store> {
        Store::open(&self.root(), self.options())
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = std::mem::take(&mut *self.warnings.lock().unwrap());
        warnings.iter().map(Warning::to_string).collect()
    }
}

pub(super) fn origin() -> Arc<Origin> {
    Arc::new(Origin {
        run: Ulid(1),
        pipeline: "tunes".to_owned(),
        program: "0.1.0".to_owned(),
        class: "test".to_owned(),
    })
}

pub(super) fn settings(params: &str) -> Arc<StageSettings> {
    Arc::new(StageSettings {
        stage: "decode".to_owned(),
        kind: "decode".to_owned(),
        version: 1,
        part: Part::Item,
        params: params.to_owned(),
    })
}

pub(super) fn key(n: usize) -> Digest {
    Digest::of(format!("key {n}").as_bytes())
}

/// The content of the `n`th action's one file.
pub(super) fn content(n: usize) -> Vec<u8> {
    format!("content {n}").into_bytes()
}

pub(super) fn tree(n: usize) -> Tree {
    let bytes = content(n);
    Tree::single("out.txt", Digest::of(&bytes), bytes.len() as u64)
}

pub(super) fn action(n: usize, outcome: Outcome) -> ActionRecord {
    ActionRecord {
        key: key(n),
        origin: origin(),
        settings: settings("{}"),
        item: format!("{n:05}.wav"),
        inputs: BTreeMap::from([("in".to_owned(), vec![Digest::of(&n.to_le_bytes())])]),
        outcome,
        seconds: 0.5,
        bytes: 10,
        at: 1000 + n as u64,
    }
}

/// Does the `n`th action: writes its object and queues its record.
pub(super) fn perform(store: &Store, n: usize) {
    let entry = store.import_bytes(&content(n)).unwrap();
    let tree = Tree(BTreeMap::from([("out.txt".to_owned(), entry)]));
    let outcome = Outcome::Done(Artifact::new(&tree));
    store
        .queue(Record::Action(action(n, outcome)), None)
        .unwrap();
}

pub(super) fn perform_all(store: &Store, actions: std::ops::Range<usize>) {
    for n in actions {
        perform(store, n);
    }
    store.flush().unwrap();
}

/// How many of the actions `0..n` are known with their right artifacts.
pub(super) fn known(store: &Store, n: usize) -> usize {
    let keys: Vec<_> = (0..n).map(key).collect();
    let results = store.lookup_many(&keys).unwrap();
    let mut known = 0;
    for (n, result) in results.into_iter().enumerate() {
        let Some(result) = result else { continue };
        assert_eq!(result.outcome.artifact().unwrap().tree(), tree(n));
        known += 1;
    }
    known
}

pub(super) fn never_wait(holder: Option<&Holder>) -> ControlFlow<()> {
    panic!("nobody should hold it, but {holder:?} does")
}

pub(super) fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(super) fn entry_of(bytes: &[u8]) -> Entry {
    Entry {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        self_checked: false,
    }
}

#[test]
fn what_is_published_is_found_by_this_and_the_next_process() {
    let home = Home::new();
    let store = home.open();
    perform(&store, 0);
    assert_eq!(known(&store, 2), 1, "at once in this process");
    assert_eq!(known(&home.open(), 2), 0, "not durable yet for others");
    perform_all(&store, 1..300);
    assert_eq!(known(&store, 300), 300);
    assert!(store.inner().pending().is_empty());
    assert_eq!(known(&home.open(), 300), 300);
    assert_eq!(store.objects().unwrap().len(), 300);
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn failures_are_remembered_and_superseded() {
    let home = Home::new();
    let store = home.open();
    let failed = Outcome::Failed {
        reason: "no audio".to_owned(),
        program: "0.1.0".to_owned(),
    };
    store
        .queue(Record::Action(action(0, failed.clone())), None)
        .unwrap();
    store.flush().unwrap();
    let store = home.open();
    assert_eq!(store.lookup(&key(0)).unwrap().unwrap().outcome, failed);
    let latest = store.latest("tunes", "decode", Part::Item).unwrap();
    assert_eq!(latest[0].failed.as_deref(), Some("no audio"));
    assert_eq!(
        store.rate("tunes", "decode", Part::Item).unwrap().actions,
        0
    );
    perform_all(&store, 0..1);
    assert_eq!(known(&home.open(), 1), 1);
    let latest = store.latest("tunes", "decode", Part::Item).unwrap();
    assert_eq!((latest.len(), latest[0].failed.as_deref()), (1, None));
}

#[test]
fn history_says_what_went_into_a_key() {
    let home = Home::new();
    let store = home.open();
    perform_all(&store, 0..3);
    let mut changed = action(1, Outcome::Done(Artifact::new(&tree(1))));
    changed.key = Digest::of(b"another key");
    changed.settings = settings(r#"{"rate":1}"#);
    store.queue(Record::Action(changed.clone()), None).unwrap();
    store.flush().unwrap();
    for store in [store, home.open()] {
        let latest = store.latest("tunes", "decode", Part::Item).unwrap();
        let params: Vec<_> = latest.iter().map(|l| l.settings.params.as_str()).collect();
        assert_eq!(params, ["{}", r#"{"rate":1}"#, "{}"]);
        assert_eq!(latest[1].inputs, changed.inputs);
        assert_eq!(latest[1].key, changed.key);
        assert!(
            store
                .latest("others", "decode", Part::Item)
                .unwrap()
                .is_empty()
        );
        let last = store
            .last_done("tunes", "decode", Part::Item, "00001.wav")
            .unwrap();
        assert_eq!(last, Some((changed.key, Artifact::new(&tree(1)))));
        let rate = store.rate("tunes", "decode", Part::Item).unwrap();
        let output_bytes = 3 * content(0).len() as u64;
        let expected = Rate {
            actions: 3,
            seconds: 1.5,
            output_bytes,
        };
        assert_eq!(rate, expected);
    }
}

#[test]
fn runs_pins_and_interims_come_back_newest_first() {
    let home = Home::new();
    let store = home.open();
    let run = |id: u128| {
        let artifacts = store.put_digests(&[key(1), key(2)]).unwrap();
        RunRecord {
            origin: Origin {
                run: Ulid(id),
                ..(*origin()).clone()
            },
            command: "pipeline run".to_owned(),
            started: 1,
            ended: 2,
            outcome: RunOutcome::Done,
            stages: vec![RunStage {
                stage: "decode".to_owned(),
                artifacts: Some(artifacts),
                ..RunStage::default()
            }],
            collected: false,
        }
    };
    let pin = |run, pinned| PinRecord {
        run: Ulid(run),
        pinned,
        note: String::new(),
        at: 5,
    };
    let interim = |step| InterimRecord {
        origin: origin(),
        stage: "train".to_owned(),
        key: key(9),
        step,
        artifact: Artifact::new(&tree(usize::try_from(step).unwrap())),
        at: step,
    };
    let records = [
        Record::Run(run(1)),
        Record::Run(run(2)),
        Record::Pin(pin(1, true)),
        Record::Pin(pin(2, true)),
        Record::Pin(pin(2, false)),
        Record::Interim(interim(10)),
        Record::Interim(interim(20)),
    ];
    for record in records.clone() {
        store.queue(record, None).unwrap();
        store.flush().unwrap();
    }
    let again = home.open();
    assert_eq!(again.runs(10).unwrap(), [run(2), run(1)]);
    assert_eq!(again.runs(1).unwrap(), [run(2)]);
    assert_eq!(again.pins().unwrap(), [pin(1, true)]);
    assert_eq!(
        again.interims("tunes", "train", 9).unwrap(),
        [interim(20), interim(10)]
    );
    let list = again.runs(1).unwrap()[0].stages[0].artifacts.unwrap();
    assert_eq!(again.read_digests(list).unwrap(), [key(1), key(2)]);
    let mut seen = Vec::new();
    let each = |_, record| {
        seen.push(record);
        Ok(())
    };
    again.each_record(each).unwrap();
    assert_eq!(seen, records);
}

#[test]
fn foreign_folders_and_formats_are_refused() {
    let home = Home::new();
    std::fs::create_dir(home.root()).unwrap();
    drop(home.open());
    let format = home.root().join("format");
    let ours = std::fs::read_to_string(&format).unwrap();
    let seven = stage_core::Digest::of(b"pipeline store 7");
    std::fs::write(&format, format!("pipeline store 7 {seven}\n")).unwrap();
    let message = home.try_open().unwrap_err().to_string();
    assert!(message.contains("has format 7, expected 2"), "{message}");
    // Damage is neither an older nor a newer format.
    for at in 0..ours.len() {
        let mut bad = ours.clone().into_bytes();
        bad[at] ^= 1;
        std::fs::write(&format, &bad).unwrap();
        let message = home.try_open().unwrap_err().to_string();
        assert!(
            message.contains("is damaged") && message.contains(ours.trim()),
            "{message}"
        );
    }
    std::fs::remove_file(&format).unwrap();
    let message = home.try_open().unwrap_err().to_string();
    assert!(message.contains("is no cache"), "{message}");
}

#[test]
fn a_store_of_an_older_format_is_set_aside() {
    let home = Home::new();
    perform_all(&home.open(), 0..1);
    std::fs::write(home.root().join("format"), "pipeline store 1\n").unwrap();
    let store = home.open();
    assert_eq!(known(&store, 1), 0);
    assert!(home.warnings()[0].contains("was of format 1"));
    let old = home.root().join("format-1");
    assert!(old.join("objects").is_dir() && old.join("format").is_file());
    drop(store);
    // As after a crash: everything is moved, and the new one not begun.
    let entries = std::fs::read_dir(home.root())
        .unwrap()
        .map(|e| e.unwrap().path());
    for path in entries.filter(|path| *path != old) {
        let _ = std::fs::remove_dir_all(&path).or_else(|_| std::fs::remove_file(&path));
    }
    perform_all(&home.open(), 0..2);
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn a_store_cut_short_while_it_was_made_is_made_whole() {
    let home = Home::new();
    std::fs::create_dir(home.root()).unwrap();
    std::fs::write(home.root().join(".format.1-1"), "pipe").unwrap();
    perform_all(&home.open(), 0..1);
    let tag = std::fs::read_to_string(home.root().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
    for folder in ["objects", "trash", "tmp", "claims", "leases", "scratch"] {
        std::fs::remove_dir_all(home.root().join(folder)).unwrap();
    }
    let store = home.open();
    assert_eq!(known(&store, 1), 1);
    perform_all(&store, 0..2);
}
