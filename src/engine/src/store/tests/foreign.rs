//! What lies in a cache and is not the program's stays, and nothing acts through a link.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;

/// Everything is old enough to go, and no run is kept.
fn all() -> GcOptions {
    GcOptions {
        keep_runs: 0,
        min_age: std::time::Duration::ZERO,
        ..GcOptions::default()
    }
}

/// A folder of the user's, with names that a cache could hold.
fn precious(home: &Home) -> PathBuf {
    let folder = home.dir.path().join("documents");
    fs::create_dir_all(folder.join("photos")).unwrap();
    for name in [
        "thesis.txt".to_owned(),
        "photos/a.jpg".to_owned(),
        format!("{}-0", Ulid::new()),
        format!("{}-{}", Ulid::new(), key(1)),
        key(2).to_string(),
        Ulid::new().to_string(),
    ] {
        fs::write(folder.join(name), b"precious").unwrap();
    }
    fs::create_dir(folder.join(key(3).to_string())).unwrap();
    folder
}

fn paths_in(dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(paths_in(&path));
        }
        paths.push(path);
    }
    paths.sort();
    paths
}

#[test]
fn a_cache_with_a_link_for_a_folder_is_refused() {
    for name in [
        "objects", "commits", "leases", "claims", "scratch", "trash", "tmp",
    ] {
        // Before the first run, and in a cache that has been used.
        for used in [false, true] {
            let home = Home::new();
            let folder = precious(&home);
            let before = paths_in(&folder);
            if used {
                perform_all(&home.open(), 0..1);
            } else {
                drop(home.open());
            }
            let path = home.root().join(name);
            fs::remove_dir_all(&path).unwrap();
            symlink(&folder, &path).unwrap();
            let error = home.try_open().unwrap_err().to_string();
            let expected = format!("{name}` is a symbolic link, expected a folder of the cache");
            assert!(error.contains(&expected), "{error}");
            assert_eq!(paths_in(&folder), before, "{name}");
        }
    }
}

#[test]
fn a_folder_that_becomes_a_link_is_not_cleaned() {
    for name in ["leases", "claims", "scratch", "trash", "tmp"] {
        let home = Home::new();
        let folder = precious(&home);
        let before = paths_in(&folder);
        let store = home.open();
        perform_all(&store, 0..1);
        let path = home.root().join(name);
        let real = home.root().join("moved");
        fs::rename(&path, &real).unwrap();
        symlink(&folder, &path).unwrap();
        // It may fail; what it must not do is to remove anything behind the link.
        let _ = store.gc(&all());
        drop(store);
        let missing: Vec<_> = before.iter().filter(|p| !p.exists()).collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

#[test]
fn foreign_files_in_the_folders_of_a_cache_stay() {
    let home = Home::new();
    perform_all(&home.open(), 0..2);
    let mut foreign = Vec::new();
    for name in ["claims", "leases", "scratch", "trash", "tmp"] {
        for file in ["notes.txt", "deep/notes.txt"] {
            let path = home.root().join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"mine").unwrap();
            foreign.push(path);
        }
    }
    let linked = precious(&home);
    let before = paths_in(&linked);
    // A link under a name that the program gives.
    let names = [
        format!("tmp/{}-0", Ulid::new()),
        format!("trash/{}-{}", Ulid::new(), key(1)),
        format!("scratch/{}", key(2)),
        format!("claims/{}", key(3)),
        format!("leases/{}", Ulid::new()),
    ];
    for name in names {
        symlink(&linked, home.root().join(name)).unwrap();
    }
    let store = home.open();
    perform_all(&store, 2..3);
    store.gc(&all()).unwrap();
    assert!(foreign.iter().all(|path| path.exists()));
    assert_eq!(paths_in(&linked), before);
}

#[test]
fn strays_are_moved_and_never_removed() {
    let home = Home::new();
    let store = home.open();
    perform_all(&store, 0..1);
    for name in ["objects/notes.txt", "commits/notes.txt"] {
        fs::write(home.root().join(name), b"mine").unwrap();
    }
    let cancel = Cancel::default();
    let options = VerifyOptions {
        subset: None,
        cancel: &cancel,
        on_bytes: &|_| {},
    };
    let report = store.verify(&options).unwrap();
    assert_eq!(report.strays.len(), 2);
    store.set_aside_damage(&report).unwrap();
    store.gc(&all()).unwrap();
    let trash = paths_in(&home.root().join("trash"));
    let mine = trash.iter().filter(|p| fs::read(p).unwrap() == b"mine");
    assert_eq!(mine.count(), 2, "{trash:?}");
}

#[test]
fn an_unreadable_commit_costs_its_records_and_nothing_else() {
    let home = Home::new();
    perform_all(&home.open(), 0..1);
    perform_all(&home.open(), 1..2);
    let commits = home.root().join("commits");
    let first = commits.join(&names_in(&commits)[0]);
    let aside = home.dir.path().join("aside");
    fs::rename(&first, &aside).unwrap();
    fs::create_dir(&first).unwrap();
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(home.root().join(name));
    }
    let store = home.open();
    assert!(store.lookup(&key(0)).unwrap().is_none());
    assert!(store.lookup(&key(1)).unwrap().is_some());
    let warnings = home.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("cannot be read"), "{warnings:?}");
    // What it names is not known: nothing may go.
    let error = store.gc(&all()).unwrap_err().to_string();
    assert!(error.contains("nothing is collected"), "{error}");
    assert!(store.object_path(Digest::of(&content(0))).exists());
    perform_all(&store, 0..1);
    assert_eq!(known(&store, 2), 2, "done again");
    let cancel = Cancel::default();
    let options = VerifyOptions {
        subset: None,
        cancel: &cancel,
        on_bytes: &|_| {},
    };
    let report = store.verify(&options).unwrap();
    assert_eq!(report.commits.len(), 1, "{report:?}");
    store.set_aside_damage(&report).unwrap();
    assert!(store.verify(&options).unwrap().is_clean());
    assert_eq!(known(&home.open(), 2), 2);
    store.gc(&all()).unwrap();
}
