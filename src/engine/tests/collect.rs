//! Collection beside runs, over toy stages.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod toy;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::Verdict;
use engine::store::{GcOptions, Outcome, RunOutcome, Store, StoreError};
use stage_core::Part;
use toy::{FILES, Toy};

fn keep(runs: usize) -> GcOptions {
    GcOptions {
        keep_runs: runs,
        min_age: Duration::ZERO,
        ..GcOptions::default()
    }
}

/// Every object that the newest record of a stage's item names is there, with its bytes.
fn check_whole(store: &Store) {
    for stage in ["read", "count", "sum", "tell"] {
        for part in [Part::Item, Part::Whole, Part::Finish] {
            for latest in store.latest("toy", stage, part).unwrap() {
                let result = store.lookup(&latest.key).unwrap().unwrap();
                if let Outcome::Done(artifact) = result.outcome {
                    store.input(&artifact.tree()).unwrap();
                }
            }
        }
    }
}

#[test]
fn what_the_last_run_used_is_found_after_a_collection() {
    let toy = Toy::new(&FILES);
    toy.run();
    let changed = toy.run_with(&["read.upper=true", "sum.unit=x"], toy.request());
    assert_eq!(changed.summary.verdict, Verdict::Done);
    let project = toy.project(&[]);
    let report = project.store.gc(&keep(1)).unwrap();
    assert!(report.total().freed.count > 0);
    let again = toy.run_with(&["read.upper=true", "sum.unit=x"], toy.request());
    assert_eq!(again.executed, [""; 0]);
    assert_eq!(again.result, changed.result);
    // What is gone is done again, and only that: the upper case has the same counts.
    let first = toy.run();
    let names: Vec<&str> = first.executed.iter().map(|name| &name[..4]).collect();
    assert_eq!(names, ["read", "read", "read", "sum ", "tell", "tell"]);
    check_whole(&project.store);
}

#[test]
fn a_run_that_found_everything_counts_as_the_last() {
    let toy = Toy::new(&FILES);
    let first = toy.run();
    toy.run_with(&["sum.unit=x"], toy.request());
    // Back again: nothing to do, but from now on this is what is used.
    let back = toy.run();
    assert_eq!(back.executed, [""; 0]);
    let project = toy.project(&[]);
    assert_eq!(project.store.runs(9).unwrap().len(), 3);
    project.store.gc(&keep(1)).unwrap();
    drop(project);
    let again = toy.run();
    assert_eq!(again.executed, [""; 0]);
    assert_eq!(again.result, first.result);
    // The same once more is not recorded.
    assert_eq!(toy.project(&[]).store.runs(9).unwrap().len(), 3);
}

#[test]
fn a_collection_beside_runs_takes_nothing_that_they_use() {
    let toy = Toy::new(&FILES);
    for n in 0..30 {
        toy.write(&format!("more/{n}.txt"), &"word ".repeat(n));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut collections = 0;
            while !stop.load(Ordering::Relaxed) {
                let project = toy.project(&[]);
                match project.store.gc(&keep(1)) {
                    Ok(_) => collections += 1,
                    Err(StoreError::Collecting { .. }) => {}
                    Err(error) => panic!("{}", engine::chain(&error)),
                }
            }
            collections
        });
        for round in 0..12 {
            // Old and new settings in turn: what is found may be on its way out.
            let upper = format!("read.upper={}", round % 2 == 0);
            let unit = format!("sum.unit=u{}", round % 3);
            let run = toy.run_with(&[&upper, &unit], toy.request());
            assert_eq!(
                run.summary.verdict,
                Verdict::Done,
                "{:?}",
                run.summary.troubles
            );
            assert!(run.result.starts_with("441 u"), "{}", run.result);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(collector.join().unwrap() > 3);
    });
    let project = toy.project(&[]);
    project.store.gc(&keep(1)).unwrap();
    check_whole(&project.store);
    drop(project);
    let last = toy.run_with(&["read.upper=false", "sum.unit=u2"], toy.request());
    assert_eq!(last.executed, [""; 0]);
}

#[test]
fn a_run_under_way_is_recorded_as_begun() {
    let toy = Toy::new(&FILES);
    toy.run();
    let runs = toy.project(&[]).store.runs(9).unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0].outcome, RunOutcome::Done);
    // Its beginning and its end are two records, in this order.
    let mut outcomes = Vec::new();
    let store = toy.project(&[]).store;
    store
        .each_record(|_, record| {
            if let engine::store::Record::Run(run) = record {
                outcomes.push(run.outcome);
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(outcomes, [RunOutcome::Started, RunOutcome::Done]);
    assert!(
        fs::read_dir(toy.cache().join("leases"))
            .unwrap()
            .next()
            .is_none()
    );
}
