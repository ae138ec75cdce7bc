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
    run_at(store, id, u64::try_from(id).unwrap() * 1000, used);
}

/// The same, begun at `started`, in milliseconds since 1970.
fn run_at(store: &Store, id: u128, started: u64, used: &[usize]) {
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
        started,
        ended: started + 500,
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

/// The scratch folder of `key(n)` as the run `id` leaves it.
fn work_in_scratch(store: &Store, n: usize, id: u128) -> Scratch {
    let origin = Origin {
        run: Ulid(id),
        ..(*origin()).clone()
    };
    let scratch = store.scratch(&key(n), &origin, never_wait).unwrap();
    std::fs::write(scratch.path().join("state"), b"12345").unwrap();
    scratch
}

/// Of which keys `0..10` there is a scratch folder.
fn scratches(home: &Home) -> Vec<usize> {
    let names = names_in(&home.root().join("scratch"));
    let left: Vec<usize> = (0..10)
        .filter(|n| names.contains(&key(*n).to_hex()))
        .collect();
    assert_eq!(names.len(), 2 * left.len(), "{names:?}");
    left
}

#[test]
fn scratch_goes_with_the_run_that_used_it_last_unless_it_is_locked() {
    let home = Home::new();
    let store = with_runs(&home);
    pin(&store, 1, true);
    let locked = work_in_scratch(&store, 0, 2);
    drop(work_in_scratch(&store, 1, 1));
    drop(work_in_scratch(&store, 2, 2));
    drop(work_in_scratch(&store, 3, 4));
    // Taken up again by the run that is kept.
    drop(work_in_scratch(&store, 4, 2));
    drop(work_in_scratch(&store, 4, 4));
    // Of a run that left no record.
    drop(work_in_scratch(&store, 5, 77));
    let dry = GcOptions {
        dry_run: true,
        ..options(1)
    };
    // The folder that is locked counts as well: nothing tries its lock.
    assert_eq!(store.gc(&dry).unwrap().scratch, amount(3));
    assert_eq!(store.gc(&options(1)).unwrap().scratch, amount(2));
    assert_eq!(scratches(&home), [0, 1, 3, 4]);
    drop(locked);
    assert_eq!(store.gc(&options(1)).unwrap().scratch, amount(1));
    let young = GcOptions::default();
    drop(work_in_scratch(&store, 6, 2));
    assert_eq!(store.gc(&young).unwrap().scratch, amount(0));
    assert_eq!(scratches(&home), [1, 3, 4, 6]);
}

fn amount(count: u64) -> Amount {
    Amount {
        count,
        bytes: 5 * count,
    }
}

#[test]
fn scratch_of_an_older_version_goes_by_its_time() {
    let home = Home::new();
    let store = with_runs(&home);
    for n in [2, 3] {
        let scratch = work_in_scratch(&store, n, 4);
        // It named no run.
        let owner = scratch.path().with_extension("owner");
        let text = std::fs::read_to_string(&owner).unwrap();
        let mut holder: serde_json::Value = serde_json::from_str(&text).unwrap();
        holder.as_object_mut().unwrap().remove("run").unwrap();
        std::fs::write(&owner, holder.to_string()).unwrap();
        if n == 2 {
            // Touched before the first run began.
            for path in [scratch.path().join("state"), scratch.path().to_owned()] {
                let file = std::fs::File::open(path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
        }
    }
    assert_eq!(store.gc(&options(1)).unwrap().scratch, amount(1));
    assert_eq!(scratches(&home), [3]);
}

#[test]
fn a_run_under_a_wrong_clock_does_not_stay_the_newest() {
    let home = Home::new();
    let future = now_millis() + 10 * 365 * 24 * 3600 * 1000;
    let ahead = u128::from(future) << 80 | 5;
    let store = home.open();
    run_at(&store, ahead, future, &[0]);
    drop(store);
    // As the wrong clock names it.
    let commits = home.root().join("commits");
    let [name] = &names_in(&commits)[..] else {
        panic!()
    };
    std::fs::rename(
        commits.join(name),
        commits.join(Ulid(ahead + 1).to_string()),
    )
    .unwrap();
    let store = home.open();
    let today = store.next_run();
    assert!(today > Ulid(ahead), "{today}");
    run_at(&store, today.0, now_millis() - 3_600_000, &[1]);
    assert_eq!(store.runs(1).unwrap()[0].origin.run, today);
    // Ten years ahead is not young.
    let by_age = GcOptions {
        min_age: Duration::from_secs(600),
        dry_run: true,
        ..options(1)
    };
    assert_eq!(store.gc(&by_age).unwrap().runs_dropped, [Ulid(ahead)]);
    store.gc(&options(1)).unwrap();
    assert_eq!(whole(&store), [1]);
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
