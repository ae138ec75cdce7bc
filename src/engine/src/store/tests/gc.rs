//! What is collected, and what never is.

use std::time::Duration;

use super::*;

fn options(keep_runs: usize) -> GcOptions {
    GcOptions {
        keep_runs,
        min_age: Duration::ZERO,
        ..GcOptions::default()
    }
}

/// A run that used the actions `used`, all of them recorded as its own if they are new.
fn run(store: &Store, id: u128, used: &[usize]) {
    let origin = Arc::new(Origin {
        run: Ulid(id),
        ..(*origin()).clone()
    });
    for n in used {
        if store.lookup(&key(*n)).unwrap().is_none() {
            let entry = store.import_bytes(&content(*n)).unwrap();
            let tree = Tree(BTreeMap::from([("out.txt".to_owned(), entry)]));
            let mut action = action(*n, Outcome::Done(Artifact::new(&tree)));
            action.origin = origin.clone();
            store.queue(Record::Action(action), None).unwrap();
        }
    }
    let artifacts: Vec<_> = used.iter().map(|n| tree(*n).digest()).collect();
    let record = RunRecord {
        origin: (*origin).clone(),
        command: "pipeline run".to_owned(),
        started: u64::try_from(id).unwrap() * 1000,
        ended: u64::try_from(id).unwrap() * 1000 + 500,
        outcome: RunOutcome::Done,
        stages: vec![RunStage {
            stage: "decode".to_owned(),
            artifacts: Some(store.put_digests(&artifacts).unwrap()),
            ..RunStage::default()
        }],
        collected: false,
    };
    store.queue(Record::Run(record), None).unwrap();
    store.flush().unwrap();
}

fn pin(store: &Store, id: u128, pinned: bool) {
    let pin = PinRecord {
        run: Ulid(id),
        pinned,
        note: String::new(),
        at: now_millis(),
    };
    store.queue(Record::Pin(pin), None).unwrap();
    store.flush().unwrap();
}

/// Which of the actions `0..10` are known, each with all its bytes.
fn whole(store: &Store) -> Vec<usize> {
    let is_known = |n: &usize| {
        let result = store.lookup(&key(*n)).unwrap();
        let Some(result) = result else { return false };
        store
            .input(&result.outcome.artifact().unwrap().tree())
            .unwrap();
        true
    };
    (0..10).filter(is_known).collect()
}

/// A store with runs 1 to 4 over the actions 0, 1; 1, 2; 2, 3; 3, 4. A new process.
fn with_runs(home: &Home) -> Store {
    let store = home.open();
    for id in 1..5 {
        let n = usize::try_from(id).unwrap();
        run(&store, id, &[n - 1, n]);
    }
    drop(store);
    home.open()
}

#[test]
fn the_last_runs_are_kept() {
    for (keep, known, objects) in [
        (9, vec![0, 1, 2, 3, 4], 9),
        (2, vec![2, 3, 4], 5),
        (1, vec![3, 4], 3),
        (0, vec![], 0),
    ] {
        let home = Home::new();
        let store = with_runs(&home);
        let dry = GcOptions {
            dry_run: true,
            ..options(keep)
        };
        let foretold = store.gc(&dry).unwrap();
        assert_eq!(whole(&store), [0, 1, 2, 3, 4]);
        let report = store.gc(&options(keep)).unwrap();
        assert_eq!(report, foretold, "{keep}");
        assert_eq!(whole(&store), known, "{keep}");
        assert_eq!(store.objects().unwrap().len(), objects, "{keep}");
        assert_eq!(report.total().kept.count, objects as u64);
        assert_eq!(names_in(&home.root().join("trash")), [""; 0]);
        let collected: Vec<_> = store.runs(9).unwrap().iter().map(|r| r.collected).collect();
        assert_eq!(collected, (0..4).map(|n| n >= keep).collect::<Vec<_>>());
        let again = store.gc(&options(keep)).unwrap();
        assert_eq!((again.records, again.total().freed), (0, Amount::default()));
        assert_eq!(whole(&home.open()), known);
        assert_eq!(home.warnings(), [""; 0]);
    }
}

#[test]
fn pinned_runs_are_kept_besides() {
    let home = Home::new();
    let store = with_runs(&home);
    pin(&store, 1, true);
    pin(&store, 2, true);
    pin(&store, 2, false);
    drop(store);
    let store = home.open();
    store.gc(&options(1)).unwrap();
    assert_eq!(whole(&store), [0, 1, 3, 4]);
    pin(&store, 1, false);
    drop(store);
    let store = home.open();
    store.gc(&options(1)).unwrap();
    assert_eq!(whole(&store), [3, 4]);
}

#[test]
fn what_a_living_process_holds_is_kept() {
    let home = Home::new();
    let user = with_runs(&home);
    let other = with_held(&home, &user, &[tree(0).digest(), key(1)]);
    other.gc(&options(1)).unwrap();
    assert_eq!(whole(&user), [0, 1, 3, 4]);
    drop(user);
    other.gc(&options(1)).unwrap();
    assert_eq!(whole(&other), [3, 4]);
}

fn with_held(home: &Home, user: &Store, digests: &[Digest]) -> Store {
    assert!(user.hold(digests, user.generation()).unwrap());
    home.open()
}

#[test]
fn what_was_found_before_a_collection_is_looked_up_again() {
    let home = Home::new();
    let user = with_runs(&home);
    let generation = user.generation();
    assert!(user.lookup(&key(0)).unwrap().is_some());
    home.open().gc(&options(1)).unwrap();
    assert!(!user.hold(&[tree(0).digest()], generation).unwrap());
    assert!(user.lookup(&key(0)).unwrap().is_none());
    assert!(user.lookup_held(&key(0)).unwrap().is_none());
    assert!(user.lookup_held(&key(3)).unwrap().is_some());
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn what_enters_through_a_living_process_is_kept_before_its_record() {
    let home = Home::new();
    drop(with_runs(&home));
    let user = home.open();
    // The object of action 0 is there already, and nothing else keeps it.
    user.import_bytes(&content(0)).unwrap();
    user.import_bytes(&content(7)).unwrap();
    home.open().gc(&options(1)).unwrap();
    perform_all(&user, 0..1);
    perform_all(&user, 7..8);
    assert_eq!(whole(&user), [0, 3, 4, 7]);
}

#[test]
fn a_killed_run_counts_with_what_it_recorded() {
    let home = Home::new();
    let store = with_runs(&home);
    let mut started = store.runs(1).unwrap().remove(0);
    started.origin.run = Ulid(9);
    started.outcome = RunOutcome::Started;
    started.stages[0].artifacts = None;
    store.queue(Record::Run(started), None).unwrap();
    let mut own = action(8, Outcome::Done(Artifact::new(&tree(8))));
    own.origin = Arc::new(Origin {
        run: Ulid(9),
        ..(*origin()).clone()
    });
    store.import_bytes(&content(8)).unwrap();
    store.queue(Record::Action(own), None).unwrap();
    drop(store);
    let store = home.open();
    store.gc(&options(1)).unwrap();
    assert_eq!(whole(&store), [3, 4, 8]);
}

#[test]
fn the_size_is_kept_by_dropping_the_oldest() {
    let home = Home::new();
    let store = with_runs(&home);
    pin(&store, 1, true);
    drop(store);
    let store = home.open();
    // Two contents of nine bytes and a list of 64 per run.
    let run = 2 * 9 + 64;
    let most = |size| GcOptions {
        max_size: Some(size),
        ..options(9)
    };
    let report = store.gc(&most(2 * run)).unwrap();
    assert_eq!((report.runs_kept, report.exceeds), (2, None));
    assert_eq!(whole(&store), [0, 1, 3, 4]);
    let report = store.gc(&most(10)).unwrap();
    assert_eq!((report.runs_kept, report.exceeds), (1, Some(run)));
    assert_eq!(whole(&store), [0, 1]);
}

#[test]
fn what_is_young_is_kept() {
    let home = Home::new();
    let store = with_runs(&home);
    let young = GcOptions {
        min_age: Duration::from_secs(3600),
        ..options(0)
    };
    let report = store.gc(&young).unwrap();
    assert_eq!(report.total().freed.count, 0);
    assert_eq!(store.objects().unwrap().len(), 9);
}

#[test]
fn the_newest_results_of_sets_and_the_newest_states_are_kept() {
    let home = Home::new();
    let store = with_runs(&home);
    for n in [5, 6] {
        let mut action = action(n, Outcome::Done(Artifact::new(&tree(n))));
        action.settings = Arc::new(StageSettings {
            stage: "train".to_owned(),
            part: Part::Whole,
            ..(*settings("{}")).clone()
        });
        store.import_bytes(&content(n)).unwrap();
        store.queue(Record::Action(action), None).unwrap();
    }
    for n in [7, 8] {
        store.import_bytes(&content(n)).unwrap();
        let interim = InterimRecord {
            origin: origin(),
            stage: "train".to_owned(),
            key: key(n),
            step: n as u64,
            artifact: Artifact::new(&tree(n)),
            at: n as u64,
        };
        store.queue(Record::Interim(interim), None).unwrap();
    }
    drop(store);
    let store = home.open();
    store.gc(&options(1)).unwrap();
    assert_eq!(whole(&store), [3, 4, 6]);
    let interims = store.interims("tunes", "train", 9).unwrap();
    assert_eq!(interims.iter().map(|i| i.step).collect::<Vec<_>>(), [8]);
    store.input(&interims[0].artifact.tree()).unwrap();
    store.gc(&options(0)).unwrap();
    assert_eq!(store.objects().unwrap().len(), 0);
}

#[test]
fn many_commits_become_one() {
    let home = Home::new();
    let store = home.open();
    for n in 0..40 {
        perform_all(&store, n..n + 1);
    }
    drop(store);
    let keep_all = GcOptions {
        min_age: Duration::from_secs(3600 * 24 * 365 * 1000),
        ..options(1)
    };
    let other = home.open();
    let store = home.open();
    store.gc(&keep_all).unwrap();
    assert_eq!(names_in(&home.root().join("commits")).len(), 1);
    for store in [store, other, home.open()] {
        store.refresh().unwrap();
        assert_eq!(known(&store, 40), 40);
        perform_all(&store, 40..41);
    }
    assert_eq!(home.warnings(), [""; 0]);
}

#[test]
fn a_list_that_cannot_be_read_keeps_everything_until_then() {
    let home = Home::new();
    let store = with_runs(&home);
    let list = store.runs(1).unwrap()[0].stages[0].artifacts.unwrap();
    let path = store.object_path(list);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"no list").unwrap();
    let report = store.gc(&options(1)).unwrap();
    assert_eq!(report.runs_unreadable, [Ulid(4)]);
    assert_eq!(whole(&store), [0, 1, 2, 3, 4]);
}

#[test]
fn scratch_that_no_kept_run_touched_goes_unless_it_is_locked() {
    let home = Home::new();
    let store = with_runs(&home);
    let locked = store.scratch(&key(1), "tunes", never_wait).unwrap();
    for n in [2, 3] {
        let scratch = store.scratch(&key(n), "tunes", never_wait).unwrap();
        std::fs::write(scratch.path().join("state"), b"12345").unwrap();
    }
    // As if it had been touched before the first run began.
    for n in [1, 2] {
        let path = home.root().join("scratch").join(key(n).to_hex());
        for path in [path.join("state"), path] {
            if let Ok(file) = std::fs::File::open(path) {
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        }
    }
    let report = store.gc(&options(1)).unwrap();
    assert_eq!(report.scratch, Amount { count: 1, bytes: 5 });
    let left: Vec<_> = names_in(&home.root().join("scratch"));
    let mut expected: Vec<_> = [1, 3]
        .iter()
        .flat_map(|n| [key(*n).to_hex(), format!("{}.owner", key(*n))])
        .collect();
    expected.sort();
    assert_eq!(left, expected);
    drop(locked);
}

#[test]
fn one_collection_at_a_time() {
    let home = Home::new();
    let store = with_runs(&home);
    let path = home.root().join("claims/collection");
    let lease = store.inner().lease().unwrap();
    let other = lease.claim(&path, &mut never_wait).unwrap();
    let error = store.gc(&options(1)).unwrap_err();
    assert!(
        matches!(error, StoreError::Collecting { pid } if pid == std::process::id()),
        "{error}"
    );
    drop(other);
    store.gc(&options(1)).unwrap();
}
