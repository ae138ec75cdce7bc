//! Verification and repair, over toy stages.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod toy;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use engine::store::{Fault, Store, VerifyOptions, VerifyReport};
use engine::{Ending, Observer, Repair, RunEvent};
use stage_core::Cancel;
use toy::{Toy, done, objects};

fn verify(store: &Store, subset: Option<(u64, u64)>) -> VerifyReport {
    let cancel = Cancel::default();
    let options = VerifyOptions {
        subset,
        cancel: &cancel,
        on_bytes: &|_| {},
    };
    store.verify(&options).unwrap()
}

#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Observer for Ear {
    fn observe(&self, event: &RunEvent<'_>) {
        if let RunEvent::Ended {
            who,
            ending: Ending::Executed,
            ..
        } = event
        {
            let name = format!("{} {} {}", who.stage, who.part, who.item);
            self.0.lock().unwrap().push(name.trim().to_owned());
        }
    }
}

fn repair(toy: &Toy, settings: &[&str]) -> (Repair, Vec<String>) {
    let project = toy.project(settings);
    let cancel = Cancel::default();
    let options = VerifyOptions {
        subset: None,
        cancel: &cancel,
        on_bytes: &|_| {},
    };
    let ear = Ear::default();
    let repair = engine::repair(&project, toy.request(), &options, &ear).unwrap();
    assert!(verify(&project.store, None).is_clean());
    let mut executed = ear.0.into_inner().unwrap();
    executed.sort();
    assert_eq!(repair.executed, executed.len() as u64);
    (repair, executed)
}

fn path_of(cache: &Path, name: &str) -> PathBuf {
    cache.join("objects").join(&name[..2]).join(&name[2..])
}

/// Objects are read-only: they are replaced, not written to.
fn put(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The name of the only object with this content.
fn object(toy: &Toy, content: &str) -> String {
    let all = objects(&toy.cache());
    let mut named = all
        .into_iter()
        .filter(|(_, bytes)| bytes == content.as_bytes());
    named.next().unwrap().0
}

#[test]
fn a_whole_cache_is_clean_and_stays_as_it_is() {
    let toy = done();
    let project = toy.project(&[]);
    let report = verify(&project.store, None);
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.checked.count, objects(&toy.cache()).len() as u64);
    let (repair, executed) = repair(&toy, &[]);
    assert_eq!((repair.found.is_clean(), executed.len()), (true, 0));
}

#[test]
fn every_kind_of_damage_is_named_and_mended_alone() {
    type Damage = fn(&Path);
    let kinds: [(&str, Damage); 5] = [
        ("flip", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[0] ^= 1;
            put(path, &bytes);
        }),
        ("cut", |path| put(path, b"")),
        ("longer", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.push(0);
            put(path, &bytes);
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("a folder", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    // (content, who has it, what is done again)
    let whose = [
        ("one two", "read a.txt: text", vec!["read item a.txt"]),
        // The sum's item links the count, which alone has to be made.
        ("1", "count b.txt: count", vec!["count item b.txt"]),
        ("6  of 3", "sum : sum", vec!["sum whole"]),
        ("6  of 36  of 3", "tell : text", vec!["tell whole"]),
        ("6  of 36  of 3!", "tell : told", vec!["tell finish"]),
    ];
    for (kind, damage) in kinds {
        for (content, user, again) in &whose {
            let toy = done();
            let before = objects(&toy.cache());
            let name = object(&toy, content);
            damage(&path_of(&toy.cache(), &name));
            let report = verify(&toy.project(&[]).store, None);
            assert_eq!(report.damage.len(), 1, "{kind} {content}");
            let found = &report.damage[0];
            assert_eq!(found.digest.to_hex(), name);
            assert_eq!(found.fault == Fault::Missing, kind == "gone");
            let named = found
                .users
                .iter()
                .map(|u| format!("{} {}: {}", u.stage, u.item, u.file));
            assert!(
                named.collect::<Vec<_>>().contains(&(*user).to_owned()),
                "{found:?}"
            );
            let (repair, executed) = repair(&toy, &[]);
            assert_eq!(executed, *again, "{kind} {content}");
            assert_eq!(repair.forgotten, []);
            let after = objects(&toy.cache());
            for (name, bytes) in before {
                assert_eq!(after.get(&name), Some(&bytes), "{kind} {content}");
            }
        }
    }
}

#[test]
fn a_run_of_damage_is_mended_in_the_order_of_the_graph() {
    let toy = done();
    let before = objects(&toy.cache());
    for name in before.keys() {
        fs::remove_file(path_of(&toy.cache(), name)).unwrap();
    }
    let (repair, executed) = repair(&toy, &[]);
    // A sum's item is a link to a count: it is there again when that is.
    assert_eq!(executed.len(), 3 + 3 + 1 + 2, "{executed:?}");
    assert_eq!(repair.found.damage.len(), before.len());
    let run = toy.run();
    assert_eq!(run.executed, [""; 0]);
    assert_eq!(run.result, "6  of 36  of 3!");
}

#[test]
fn what_the_pipeline_does_not_describe_is_forgotten() {
    let toy = done();
    toy.run_with(&["sum.unit=x"], toy.request());
    let name = object(&toy, "6  of 3");
    put(&path_of(&toy.cache(), &name), b"7  of 3");
    let (repaired, executed) = repair(&toy, &["sum.unit=x"]);
    assert_eq!(executed, [""; 0]);
    assert_eq!(repaired.forgotten.len(), 1);
    assert_eq!(repaired.forgotten[0].stage, "sum");
    // It is not served; and what followed from it is found, as the bytes are the same again.
    let run = toy.run();
    assert_eq!(run.executed, ["sum whole"]);
    assert_eq!(run.result, "6  of 36  of 3!");
}

#[test]
fn parts_cover_all_objects_once() {
    let toy = done();
    let store = toy.project(&[]).store;
    let counts: Vec<u64> = (1..=7)
        .map(|n| verify(&store, Some((n, 7))).checked.count)
        .collect();
    assert_eq!(
        counts.iter().sum::<u64>(),
        objects(&toy.cache()).len() as u64
    );
    assert_eq!(verify(&store, Some((3, 7))).checked.count, counts[2]);
}

#[test]
fn damaged_commits_strays_and_an_index_out_of_step_are_named() {
    let toy = done();
    let commits = toy.cache().join("commits");
    // The largest is the one with the actions.
    let files = fs::read_dir(&commits).unwrap();
    let commit = files
        .map(|file| file.unwrap().path())
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&commit).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&commit, bytes).unwrap();
    fs::write(commits.join("notes.txt"), b"x").unwrap();
    fs::write(toy.cache().join("objects/readme"), b"x").unwrap();
    let report = verify(&toy.project(&[]).store, None);
    assert_eq!(report.commits.len(), 1);
    assert_eq!(report.strays.len(), 2, "{report:?}");
    assert!(!report.is_clean());
    assert!(commit.exists(), "nothing is changed");
    let (repair, _) = repair(&toy, &[]);
    assert_eq!(repair.found.commits.len(), 1);
    assert!(!commit.exists());
    let run = toy.run();
    assert_eq!(run.result, "6  of 36  of 3!");
    assert!(
        !run.executed.is_empty(),
        "what the commit recorded is done again"
    );
}

#[test]
fn a_damaged_index_is_made_anew() {
    let toy = done();
    let store = toy.project(&[]).store;
    let conn = rusqlite::Connection::open(toy.cache().join("index.db")).unwrap();
    conn.execute(
        "DELETE FROM actions WHERE key = (SELECT min(key) FROM actions)",
        [],
    )
    .unwrap();
    drop(conn);
    let report = verify(&store, None);
    assert!(report.index.unwrap().contains("it lacks"));
    drop(store);
    repair(&toy, &[]);
    assert_eq!(toy.run().executed, [""; 0]);
}
