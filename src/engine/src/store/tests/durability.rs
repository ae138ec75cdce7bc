//! The order in which things become durable, and what happens when they do not.

use super::*;
use crate::fs::sim::{Error, Fault, SimFs};

fn recorded(home: &Home, syncs_whole: bool) -> (Store, SimFs) {
    let root = home.dir.path().canonicalize().unwrap().join("cache");
    let mut fs = SimFs::new(&root, &[]).unwrap();
    if !syncs_whole {
        fs = fs.without_sync_fs();
    }
    let options = StoreOptions {
        fs: Arc::new(fs.clone()),
        ..home.options()
    };
    (Store::open(&root, options).unwrap(), fs)
}

/// Lets all changes fail whose line begins so.
fn fail(fs: &SimFs, start: &str, error: Error) {
    let start = start.to_owned();
    fs.fail(Fault::Line { start, error });
}

#[test]
fn one_object_is_synced_by_itself_before_its_commit() {
    let home = Home::new();
    let (store, disk) = recorded(&home, true);
    perform_all(&store, 1..2);
    disk.take_lines();
    // The second object of a store finds no new folders but its own.
    let hex = Digest::of(&content(2)).to_hex();
    std::fs::create_dir(home.root().join("objects").join(&hex[..2])).unwrap();
    perform_all(&store, 2..3);
    let object = format!("objects/{}", &hex[..2]);
    let mut lines = disk.take_lines();
    // Locks are opened, not changed.
    lines.retain(|line| !line.starts_with("open gate."));
    assert_eq!(
        lines,
        [
            "create tmp/*".to_owned(),
            "write tmp/*".to_owned(),
            "write leases/*".to_owned(),
            format!("rename tmp/* {object}/*"),
            "create tmp/*".to_owned(),
            "write tmp/*".to_owned(),
            format!("sync {object}/*"),
            format!("sync {object}"),
            "sync objects".to_owned(),
            "sync tmp/*".to_owned(),
            "rename tmp/* commits/*".to_owned(),
            "sync commits".to_owned(),
        ]
    );
}

#[test]
fn a_group_is_synced_at_once_before_its_commit() {
    let home = Home::new();
    let (store, disk) = recorded(&home, true);
    perform_all(&store, 0..20);
    let lines = disk.take_lines();
    let last = |start: &str| {
        lines
            .iter()
            .rposition(|line| line.starts_with(start))
            .unwrap()
    };
    let first = |start: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(start))
            .unwrap()
    };
    assert!(last("rename tmp/* objects/") < last("sync all"));
    assert!(first("sync all") < first("rename tmp/* commits/*"));
    assert!(last("rename tmp/* commits/*") < last("sync commits"));
    assert!(!lines.iter().any(|line| line.starts_with("sync objects/")));
}

#[test]
fn without_a_whole_sync_every_object_and_folder_is_synced() {
    let home = Home::new();
    let (store, disk) = recorded(&home, false);
    perform_all(&store, 0..5);
    let lines = disk.take_lines();
    let commit = lines
        .iter()
        .rposition(|l| l == "rename tmp/* commits/*")
        .unwrap();
    for n in 0..5 {
        let hex = Digest::of(&content(n)).to_hex();
        for path in [
            format!("objects/{}/*", &hex[..2]),
            format!("objects/{}", &hex[..2]),
        ] {
            let at = lines.iter().position(|l| *l == format!("sync {path}"));
            assert!(at.is_some_and(|at| at < commit), "{path}: {lines:#?}");
        }
    }
    // Folders may have been made, so their parent is synced.
    assert!(lines.contains(&"sync objects".to_owned()));
}

#[test]
fn an_object_found_in_place_is_synced_with_the_commit_that_uses_it() {
    let home = Home::new();
    let (first, _) = recorded(&home, false);
    let object = first.import_bytes(&content(0)).unwrap();
    let file = || first.fs().lstat(&first.object_path(object.digest)).unwrap();
    let before = file();
    let (second, disk) = recorded(&home, false);
    perform_all(&second, 0..1);
    assert_eq!(file(), before);
    let lines = disk.take_lines();
    assert!(
        lines
            .iter()
            .any(|l| l.starts_with("sync objects/") && l.ends_with("/*"))
    );
}

#[test]
fn after_a_failed_sync_nothing_is_committed_and_nothing_trusted() {
    for (start, whole) in [
        ("sync all", true),
        ("sync objects/", false),
        ("sync tmp/*", false),
    ] {
        let home = Home::new();
        let (store, disk) = recorded(&home, whole);
        fail(&disk, start, Error::Device);
        for n in 0..10 {
            // The queue may already know of the failure.
            let entry = store.import_bytes(&content(n)).unwrap();
            let tree = Tree(BTreeMap::from([("out.txt".to_owned(), entry)]));
            let record = Record::Action(action(n, Outcome::Done(Artifact::new(&tree))));
            let _ = store.queue(record, None);
        }
        let error = store.flush().unwrap_err();
        assert!(matches!(error, StoreError::Commit(_)), "{start}: {error:?}");
        let record = Record::Action(action(99, Outcome::Done(Artifact::new(&tree(99)))));
        assert!(
            store.queue(record, None).is_err(),
            "{start}: the queue is poisoned"
        );
        drop(store);
        assert!(names_in(&home.root().join("commits")).is_empty(), "{start}");
        let store = home.open();
        assert_eq!(known(&store, 10), 0, "{start}");
        perform_all(&store, 0..10);
        assert_eq!(known(&home.open(), 10), 10, "{start}");
    }
}

#[test]
fn a_full_disk_is_said_and_the_store_stays_whole() {
    for start in [
        "write tmp/*",
        "create tmp/*",
        "rename tmp/* commits/*",
        "sync commits",
    ] {
        let home = Home::new();
        perform_all(&home.open(), 0..3);
        let (store, disk) = recorded(&home, true);
        // The lease is taken and written before.
        assert!(store.hold(&[key(0)], store.generation()).unwrap());
        let entry = store.import_bytes(&content(3)).unwrap();
        fail(&disk, start, Error::Full);
        let tree = Tree(BTreeMap::from([("out.txt".to_owned(), entry)]));
        let outcome = Outcome::Done(Artifact::new(&tree));
        store
            .queue(Record::Action(action(3, outcome)), None)
            .unwrap();
        let error = store.flush().unwrap_err();
        assert!(error.is_disk_full(), "{start}: {error:?}");
        drop(store);
        let store = home.open();
        assert!(known(&store, 4) >= 3, "{start}");
        perform_all(&store, 3..4);
        assert_eq!(known(&home.open(), 4), 4, "{start}");
    }
}

#[test]
fn a_torn_commit_is_set_aside_and_the_others_stand() {
    let home = Home::new();
    let store = home.open();
    for n in 0..3 {
        perform_all(&store, n..n + 1);
    }
    drop(store);
    let commits = home.root().join("commits");
    let victim = commits.join(&names_in(&commits)[1]);
    let bytes = std::fs::read(&victim).unwrap();
    std::fs::write(&victim, &bytes[..bytes.len() - 10]).unwrap();
    std::fs::remove_file(home.root().join("index.db")).unwrap();
    let store = home.open();
    assert_eq!(known(&store, 3), 2);
    let warnings = home.warnings();
    assert!(warnings[0].contains("is damaged"), "{warnings:?}");
    assert_eq!(names_in(&commits).len(), 2);
    assert!(names_in(&home.root().join("trash"))[0].starts_with("commit-"));
    perform_all(&store, 1..2);
    assert_eq!(known(&home.open(), 3), 3);
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn a_commit_of_a_newer_program_is_refused_not_misread() {
    let home = Home::new();
    perform_all(&home.open(), 0..1);
    let name = Ulid::new().to_string();
    let path = home.root().join("commits").join(name);
    std::fs::write(&path, crate::store::commit_of_body(3, b"whatever comes")).unwrap();
    let message = home.try_open().unwrap_err().to_string();
    assert!(message.contains("has version 3, newer than 2"), "{message}");
    assert!(path.exists());
}
