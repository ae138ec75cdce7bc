//! Caches of every format that is read: a run on one does nothing, and every object in it
//! can be read.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use engine::store::{Record, Store, StoreOptions};
use stage_core::Kind;

use crate::common::{Place, wav};

/// The format of the caches that are made now (`FORMAT` in src/engine/src/store/mod.rs).
const FORMAT: u32 = 2;

/// The oldest that is still read; those before are set aside.
const OLDEST: u32 = 2;

const TOML: &str = "\
[sources.corpus]
path = \"corpus\"

[stages.decode]
inputs = [\"corpus\"]
rate = 8000
min_duration = 0.1

[stages.render]
inputs = [\"corpus\"]
rate = 8000
tail = 0.05

[stages.featurize]
inputs = [\"decode\", \"render\"]
n_fft = 64
win_length = 64
hop = 64

[stages.dataset]
inputs = [\"featurize\"]
gap = 1
";

/// A tenth of a second of middle C (Standard MIDI File 1.0, format 0).
const NOTE: &[u8] = b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0\
    MTrk\0\0\0\x0c\0\x90\x3c\x64\x60\x80\x3c\0\0\xff\x2f\0";

fn caches() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/caches")
}

/// A project with a cache of format `format`, made by an older program.
fn project(format: u32) -> Place {
    let place = Place::new();
    place.write("tone.wav", &wav(440.0, 0.2, "golden"));
    place.write("note.mid", NOTE);
    fs::write(place.path("pipeline.toml"), TOML).unwrap();
    let golden = caches().join(format.to_string());
    if golden.is_dir() {
        copy(&golden, &place.path(".pipeline"));
    }
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn open(place: &Place) -> Store {
    let mut options = StoreOptions::new(|warning| panic!("{warning}"));
    options.state_dir = None;
    Store::open(&place.path(".pipeline"), options).unwrap()
}

/// Kinds whose version is no longer that of the cache: their actions, and all after, are done anew.
fn outdated(store: &Store) -> Vec<String> {
    let now = [
        (stage_decode::Decode::KIND, stage_decode::Decode::VERSION),
        (stage_render::Render::KIND, stage_render::Render::VERSION),
        (
            stage_featurize::Featurize::KIND,
            stage_featurize::Featurize::VERSION,
        ),
        (
            stage_dataset::Dataset::KIND,
            stage_dataset::Dataset::VERSION,
        ),
    ];
    let mut outdated = Vec::new();
    let each = |_, record| {
        if let Record::Action(action) = record {
            let settings = &action.settings;
            if !now.contains(&(settings.kind.as_str(), settings.version)) {
                outdated.push(settings.kind.clone());
            }
        }
        Ok(())
    };
    store.each_record(each).unwrap();
    outdated
}

/// Fuzzing the index begins with one of today's layout: of another, nothing would be read.
#[test]
fn the_seed_of_the_index_is_of_todays_layout() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = Place::new();
    let cache = place.path(".pipeline");
    fs::create_dir_all(cache.join("commits")).unwrap();
    let golden = root.join("tests/golden");
    fs::copy(golden.join("caches/2/format"), cache.join("format")).unwrap();
    let commit = cache.join("commits/01M7W5HH0000000000000000AA");
    fs::copy(golden.join("files/commit-2"), commit).unwrap();
    fs::copy(
        root.join("fuzz/seeds/index/index.db"),
        cache.join("index.db"),
    )
    .unwrap();
    // Panics at a warning that the index was made anew.
    drop(open(&place));
}

#[test]
fn a_run_on_a_cache_of_this_format_does_nothing() {
    let place = project(FORMAT);
    let golden = caches().join(FORMAT.to_string());
    if !golden.is_dir() {
        let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
        assert!(
            bless,
            "there is no cache of format {FORMAT} in tests/golden/caches: \
             `BLESS=1 cargo test --test golden` makes one"
        );
        // The record of the run keeps the name of the program as it was called.
        let mut command = place.command(&["run", "dataset"]);
        assert!(command.arg0("pipeline").output().unwrap().status.success());
        for part in ["format", "objects", "commits"] {
            let (from, to) = (place.path(".pipeline").join(part), golden.join(part));
            fs::create_dir_all(&golden).unwrap();
            match from.is_dir() {
                true => copy(&from, &to),
                false => drop(fs::copy(from, to).unwrap()),
            }
        }
    }
    let stale = outdated(&open(&place));
    let run = place.json("dataset").expect(0);
    let executed = run.executed();
    // Without a change of version there is nothing to do: neither keys nor formats have moved.
    if stale.is_empty() {
        assert_eq!(executed, [""; 0]);
    } else {
        let first = |line: &String| stale.iter().any(|kind| line.starts_with(kind.as_str()));
        assert!(executed.iter().any(first), "{stale:?}: {executed:?}");
    }
}

#[test]
fn every_object_of_every_cache_can_be_read() {
    for format in OLDEST..=FORMAT {
        let place = project(format);
        let store = open(&place);
        let mut trees = Vec::new();
        let each = |_, record| {
            if let Record::Action(action) = record {
                trees.extend(action.outcome.artifact().map(|artifact| artifact.tree()));
            }
            Ok(())
        };
        store.each_record(each).unwrap();
        assert_eq!(trees.len(), 7, "format {format}");
        for entry in trees.iter().flat_map(|tree| tree.0.values()) {
            let bytes = store.read_object(entry).unwrap();
            assert_eq!(bytes.len() as u64, entry.size);
        }
    }
}
