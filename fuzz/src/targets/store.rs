//! What the engine keeps: commits, and the index that is folded from them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use engine::fs::RealFs;
use engine::store::{
    COMMIT_VERSION, Store, StoreOptions, Warning, commit_of_body, decode_commit, encode_commit,
};
use stage_core::Part;

/// Reads a commit, first as it stands, then as the body under a header that fits it; what can be
/// read reads back as it was.
pub fn commit(bytes: &[u8]) {
    read_commit(bytes);
    read_commit(&commit_of_body(COMMIT_VERSION, bytes));
}

fn read_commit(bytes: &[u8]) {
    let Ok(records) = decode_commit(bytes) else {
        return;
    };
    let written = encode_commit(&records).expect("what was read can be written");
    let again = decode_commit(&written).expect("what was written can be read");
    // Debug text, for a time that is not a number equals nothing, itself included.
    assert_eq!(format!("{again:?}"), format!("{records:?}"));
}

/// The commit of the cache that the index belongs to.
const COMMIT: &[u8] = include_bytes!("../../../tests/golden/files/commit-2");

/// Says that it is a cache.
const FORMAT: &[u8] = include_bytes!("../../../tests/golden/caches/2/format");

/// Opens a cache whose index is `bytes`, asks it everything, and changes it.
pub fn index(bytes: &[u8]) {
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = CACHE.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let root = dir.path().join("cache");
    write_cache(&root, bytes).expect("the folder for temporary files can be written");
    let options = StoreOptions {
        fs: Arc::new(RealFs),
        state_dir: None,
        // Anywhere but on disk the index would have to be made at each start.
        warn: Arc::new(|warning| {
            assert!(
                !matches!(warning, Warning::IndexInMemory { .. }),
                "{warning}"
            );
        }),
    };
    let store = Store::open(&root, options).expect("a cache opens whatever its index is");
    let records = decode_commit(COMMIT).expect("the seed is a commit");
    let actions: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            engine::store::Record::Action(action) => Some(action),
            _ => None,
        })
        .collect();
    let (pipeline, stage) = match actions.first() {
        Some(action) => (
            action.origin.pipeline.clone(),
            action.settings.stage.clone(),
        ),
        None => return,
    };
    // The index of another cache may be a sound one: that it lacks an action is no fault, that
    // it gives one another outcome is.
    for action in &actions {
        let found = store.lookup(&action.key).expect("a lookup");
        if let Some(found) = found {
            assert_eq!(found.outcome, action.outcome);
        }
    }
    let _ = store.runs(10).expect("the runs");
    let _ = store.pins().expect("the pins");
    for part in [Part::Item, Part::Whole, Part::Finish] {
        let _ = store.latest(&pipeline, &stage, part).expect("the latest");
        let _ = store.rate(&pipeline, &stage, part).expect("the rate");
        let _ = store.last_done(&pipeline, &stage, part, "a.wav");
    }
    let _ = store.interims(&pipeline, &stage, 10).expect("the interims");
    let again = records.into_iter().take(1);
    for record in again {
        store.queue(record, None).expect("a record is queued");
    }
    store.flush().expect("a record is written");
}

fn write_cache(root: &Path, index: &[u8]) -> std::io::Result<()> {
    let commits = root.join("commits");
    if commits.is_dir() {
        fs::remove_dir_all(&commits)?;
    }
    fs::create_dir_all(&commits)?;
    fs::write(root.join("format"), FORMAT)?;
    fs::write(commits.join("01M7W5HH0000000000000000AA"), COMMIT)?;
    for name in ["index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(root.join(name));
    }
    fs::write(root.join("index.db"), index)
}
