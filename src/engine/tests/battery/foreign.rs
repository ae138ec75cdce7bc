//! Files of somebody else's in and behind the folders of a cache.
//!
//! *Passing*: a cache with a symbolic link for one of its folders is refused, by all that opens it.
//! Whatever lies behind a link, and whatever lies in a folder of the cache under a name that the
//! program does not give, is there after runs, collections and repairs; and these give what they
//! would give without it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::store::{GcOptions, StoreError, StoreOptions, Ulid};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use stage_core::Digest;

use super::case::Row;
use super::scenario::mend;
use super::toy::{FILES, Run, Toy, done, try_run};

const ROW: Row = Row {
    name: "foreign",
    quick: 20,
    ci: 300,
    nightly: 10_000,
};

const FOLDERS: [&str; 7] = [
    "objects", "commits", "leases", "claims", "scratch", "trash", "tmp",
];

#[test]
fn nothing_foreign_is_removed() {
    let sound = done().run();
    ROW.run(|seed| case(&sound, seed), || ", 0 files lost");
}

/// A name that somebody may give a file; often one that the program gives, too.
fn name(rng: &mut ChaCha8Rng) -> String {
    let ulid = Ulid::new();
    let digest = Digest::of(&rng.random::<[u8; 8]>());
    match rng.random_range(0..8) {
        0 => "thesis.txt".to_owned(),
        1 => ulid.to_string(),
        2 => format!("{ulid}-{}", rng.random_range(0..3)),
        3 => format!("{ulid}-{digest}"),
        4 => digest.to_string(),
        5 => format!("{digest}.scratch"),
        6 => format!("commit-{ulid}"),
        _ => format!("note {}", rng.random_range(0..100)),
    }
}

/// A folder outside of the cache with files and folders in it.
fn precious(toy: &Toy, rng: &mut ChaCha8Rng) -> PathBuf {
    let folder = toy.dir.path().join("documents");
    for _ in 0..rng.random_range(1..6) {
        let inner = folder.join(name(rng));
        fs::create_dir_all(&folder).unwrap();
        if inner.exists() {
            continue;
        }
        if rng.random_range(0..3) == 0 {
            fs::create_dir(&inner).unwrap();
            fs::write(inner.join(name(rng)), b"precious").unwrap();
        } else {
            fs::write(&inner, b"precious").unwrap();
        }
    }
    folder
}

/// All files beneath a folder, links not followed.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            all.extend(files(&entry.path()));
        } else if kind.is_file() {
            all.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    all
}

fn collect(toy: &Toy) {
    let options = StoreOptions::new(|_| {});
    let project = toy.open(&toy.cache(), options, &[]).unwrap();
    let all = GcOptions {
        keep_runs: 1,
        min_age: Duration::ZERO,
        ..GcOptions::default()
    };
    match project.store.gc(&all) {
        // A link under the name of a commit.
        Ok(_) | Err(StoreError::UnreadableCommit { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn case(sound: &Run, seed: u64) {
    let mut rng = ROW.rng(seed);
    let toy = if rng.random_range(0..4) == 0 {
        // The cache has its folders, and nothing has been done.
        let toy = Toy::new(&FILES);
        drop(toy.project(&[]));
        toy
    } else {
        done()
    };
    let folder = precious(&toy, &mut rng);
    let before = files(&folder);
    let at = FOLDERS[rng.random_range(0..FOLDERS.len())];
    let place = toy.cache().join(at);
    if rng.random_range(0..2) == 0 {
        let real = toy.dir.path().join("real");
        fs::rename(&place, &real).unwrap();
        symlink(&folder, &place).unwrap();
        let error = toy.open(&toy.cache(), StoreOptions::new(|_| {}), &[]);
        let error = error.map(drop).unwrap_err();
        assert!(
            matches!(error, StoreError::ForeignFolder { .. }),
            "{at}: {error}"
        );
        assert_eq!(files(&folder), before, "{at}: behind the link");
        fs::remove_file(&place).unwrap();
        fs::rename(&real, &place).unwrap();
    } else {
        // Among the program's own: links to the user's folder, and files.
        let mut own = BTreeMap::new();
        for _ in 0..rng.random_range(1..4) {
            let path = place.join(name(&mut rng));
            if rng.random_range(0..2) == 0 {
                let _ = symlink(&folder, &path);
            } else {
                let path = place.join(format!("mine {}", rng.random_range(0..100)));
                fs::write(&path, b"mine").unwrap();
                own.insert(path, b"mine".to_vec());
            }
        }
        let project = toy.project(&[]);
        try_run(&project, toy.request()).unwrap();
        collect(&toy);
        mend(&project, &toy.request()).unwrap();
        collect(&toy);
        assert_eq!(files(&folder), before, "{at}: behind a link within");
        // A repair moves strays out of the way; it removes none.
        let all = files(&toy.cache());
        let mine = all.values().filter(|bytes| *bytes == b"mine").count();
        assert_eq!(mine, own.len(), "{at}: {own:?}");
    }
    let project = toy.project(&[]);
    let run = try_run(&project, toy.request()).unwrap();
    assert!(run.everything == sound.everything, "{at}");
}
