//! The index may be lost, older, cut or damaged, and nothing is lost with it.

use std::fs;
use std::path::PathBuf;

use super::*;

const FILES: [&str; 3] = ["index.db", "index.db-wal", "index.db-shm"];

/// Copies the index's files; those that are not there are not in the copy.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in FILES {
        let _ = fs::remove_file(to.join(name));
        if from.join(name).exists() {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}

/// A store of 40 actions with a copy of its index at 20, both taken as a kill leaves them: with
/// the log beside the database.
fn with_copies() -> (Home, PathBuf, PathBuf) {
    let home = Home::new();
    let (older, newer) = (home.dir.path().join("older"), home.dir.path().join("newer"));
    let store = home.open();
    perform_all(&store, 0..20);
    copy(&home.root(), &older);
    perform_all(&store, 20..40);
    copy(&home.root(), &newer);
    drop(store);
    (home, older, newer)
}

/// Folds the log into the database of the folder.
fn empty_log(dir: &Path) {
    let conn = rusqlite::Connection::open(dir.join("index.db")).unwrap();
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
}

/// Opens the store twice: everything is known, and the second time nothing is said.
fn check(home: &Home, case: &str) {
    assert_eq!(known(&home.open(), 40), 40, "{case}");
    home.warnings();
    assert_eq!(known(&home.open(), 40), 40, "{case}, again");
    assert_eq!(home.warnings(), [""; 0], "{case}, again");
}

#[test]
fn deleted() {
    for deleted in [&FILES[..1], &FILES[1..], &FILES] {
        let (home, _, newer) = with_copies();
        copy(&newer, &home.root());
        for name in deleted {
            fs::remove_file(home.root().join(name)).unwrap();
        }
        check(&home, &format!("{deleted:?} deleted"));
    }
}

#[test]
fn a_deleted_one_needs_no_words() {
    let (home, ..) = with_copies();
    fs::remove_file(home.root().join("index.db")).unwrap();
    assert_eq!(known(&home.open(), 40), 40);
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn a_long_log_is_emptied_at_the_end() {
    let home = Home::new();
    let log = home.root().join("index.db-wal");
    let mut longest = 0;
    for n in 0..40 {
        perform_all(&home.open(), 50 * n..50 * (n + 1));
        longest = longest.max(fs::metadata(&log).unwrap().len());
    }
    assert!(longest > 256 * 1024, "{longest}");
    assert!(longest <= 1 << 20, "{longest}");
    assert_eq!(known(&home.open(), 2000), 2000);
}

/// SQLite finds nothing wrong with such a database, and the index cannot begin without these names.
#[test]
fn names_of_commits_that_cannot_be_read() {
    let (home, _, newer) = with_copies();
    copy(&newer, &home.root());
    let conn = rusqlite::Connection::open(home.root().join("index.db")).unwrap();
    conn.execute("INSERT INTO folded VALUES(x'00')", [])
        .unwrap();
    drop(conn);
    assert_eq!(known(&home.open(), 40), 40);
    let warnings = home.warnings();
    assert!(warnings.iter().any(|w| w.contains("index")), "{warnings:?}");
    check(&home, "a name of another length");
}

#[test]
fn older() {
    for with_log in [true, false] {
        let (home, older, _) = with_copies();
        if !with_log {
            empty_log(&older);
        }
        copy(&older, &home.root());
        check(&home, &format!("older copy, log {with_log}"));
    }
}

#[test]
fn older_beside_the_log_of_a_newer_one() {
    let (home, older, newer) = with_copies();
    // The old database had been emptied of its log; the newer log lacks those pages.
    empty_log(&older);
    copy(&newer, &home.root());
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::copy(older.join("index.db"), home.root().join("index.db")).unwrap();
    assert_eq!(known(&home.open(), 40), 40);
    let warnings = home.warnings();
    assert!(
        warnings[0].contains("changed after its log"),
        "{warnings:?}"
    );
    check(&home, "older database, newer log");
}

#[test]
fn killed_processes_index_is_used_as_it_is() {
    let (home, _, newer) = with_copies();
    // A kill leaves the database first and the log last.
    copy(&newer, &home.root());
    check(&home, "killed");
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn cut_zeroed_flipped_or_something_else() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage); 7] = [
        ("empty", Vec::clear),
        ("one byte", |b| b.truncate(1)),
        ("half", |b| b.truncate(b.len() / 2)),
        ("text", |b| *b = b"this is no database".repeat(400)),
        ("zeroed page", |b| b[8192..12288].fill(0)),
        ("zeroed first page", |b| b[..4096].fill(0)),
        ("all flipped", |b| {
            b.iter_mut().skip(4096).for_each(|b| *b = !*b);
        }),
    ];
    for (case, damage) in cases {
        let (home, ..) = with_copies();
        empty_log(&home.root());
        let path = home.root().join("index.db");
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        check(&home, case);
    }
}

#[test]
fn no_flipped_bit_is_believed() {
    let (home, ..) = with_copies();
    empty_log(&home.root());
    let path = home.root().join("index.db");
    let whole = fs::read(&path).unwrap();
    let step = whole.len() / 97;
    for at in (0..whole.len()).step_by(step) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).unwrap();
        // A key may be lost (the action is done again), but what is known is right; see `known`.
        known(&home.open(), 40);
    }
}

#[test]
fn damaged_while_it_is_open() {
    let (home, ..) = with_copies();
    let store = home.open();
    let path = home.root().join("index.db");
    let length = fs::metadata(&path).unwrap().len();
    fs::write(&path, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    assert_eq!(known(&store, 40), 40);
    perform_all(&store, 40..50);
    assert_eq!(known(&store, 50), 50);
    assert_eq!(known(&home.open(), 50), 50);
}

#[test]
fn commits_that_vanish_are_forgotten() {
    let (home, ..) = with_copies();
    let commits = home.root().join("commits");
    let first = &names_in(&commits)[0];
    fs::remove_file(commits.join(first)).unwrap();
    let store = home.open();
    assert_eq!(known(&store, 40), 20);
    let warnings = home.warnings();
    assert!(
        warnings[0].contains("commits that are gone"),
        "{warnings:?}"
    );
}

#[test]
fn a_folder_in_its_place_leaves_it_in_the_state_folder() {
    let (home, ..) = with_copies();
    let path = home.root().join("index.db");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check(&home, "a folder");
    assert_eq!(names_in(&home.dir.path().join("state")).len(), 1);
}

#[test]
fn without_any_place_it_lives_in_memory() {
    let (home, ..) = with_copies();
    let path = home.root().join("index.db");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let options = StoreOptions {
        state_dir: None,
        ..home.options()
    };
    let store = Store::open(&home.root(), options).unwrap();
    assert_eq!(known(&store, 40), 40);
    perform_all(&store, 40..45);
    assert_eq!(known(&store, 45), 45);
    assert!(home.warnings()[0].contains("starts without it"));
}

#[test]
fn the_order_of_folding_does_not_matter() {
    let home = Home::new();
    let store = home.open();
    let other = Tree::single("out.txt", Digest::of(b"other"), 5);
    for tree in [&tree(0), &other, &tree(0), &other] {
        let outcome = Outcome::Done(Artifact::new(tree));
        store
            .queue(Record::Action(action(0, outcome)), None)
            .unwrap();
        store.flush().unwrap();
    }
    let names = {
        let mut names: Vec<_> = store.inner().commit_names().unwrap().into_iter().collect();
        names.sort_unstable();
        names
    };
    let mut index = super::super::index::Index::in_memory().unwrap();
    for name in [names[2], names[3], names[0], names[1], names[3]] {
        let records = store.inner().read_commit(name).unwrap().records().unwrap();
        index.fold(&[(name, records)]).unwrap();
    }
    let result = index.lookup_many(&[key(0)]).unwrap();
    let found = result[0]
        .as_ref()
        .unwrap()
        .outcome
        .artifact()
        .unwrap()
        .tree();
    assert_eq!(found, other);
}

#[test]
fn lookups_find_dense_and_sparse_keys_alike() {
    let home = Home::new();
    let store = home.open();
    perform_all(&store, 0..500);
    for step in [1, 2, 7, 100] {
        let wanted: Vec<_> = (0..1000).step_by(step).chain([3, 3, 999]).collect();
        let keys: Vec<_> = wanted.iter().map(|n| key(*n)).collect();
        let found = store.lookup_many(&keys).unwrap();
        for (n, found) in wanted.iter().zip(found) {
            let found = found.map(|f| f.outcome.artifact().unwrap().digest);
            assert_eq!(found, (*n < 500).then(|| tree(*n).digest()), "{n}");
        }
    }
    assert!(store.lookup_many(&[]).unwrap().is_empty());
}
