//! Failing calls: in each scenario one call, or all from it on, meets a full disk, a broken
//! device, too many open files, a signal, or moves only some of the bytes.
//!
//! *Passing*: the run either gives the right bytes all the same or ends with an error that says
//! what failed and why, without panic; the cache opens afterwards, with what it held before; a
//! plain run then executes no more than what no commit records and gives the bytes of an
//! undisturbed run. After a failed sync this also holds for the disk as it is when the machine
//! then stops and everything unsynced is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::fs::sim::{Call, Error, Fault, Loss, Snapshot};
use engine::{Verdict, chain};
use rand::RngExt;

use super::case::Row;
use super::scenario::Scenario;
use super::toy::temporary;

const ROW: Row = Row {
    name: "errors",
    quick: 300,
    ci: 5_000,
    nightly: 100_000,
};

#[derive(Default)]
struct Tally {
    endured: AtomicU64,
    refused: AtomicU64,
    missed: AtomicU64,
}

#[test]
fn failing_calls() {
    let scenarios: Vec<(Scenario, Vec<Call>)> = Scenario::all()
        .into_iter()
        .map(|scenario| {
            let dir = temporary();
            let cache = dir.path().join("cache");
            let fs = scenario.begin(&cache);
            scenario.perform(&cache, &fs).unwrap();
            let calls = fs.calls().into_iter().map(|(call, _)| call).collect();
            (scenario, calls)
        })
        .collect();
    let tally = Arc::new(Tally::default());
    let calls: usize = scenarios.iter().map(|(_, calls)| calls.len()).sum();
    ROW.run(
        |seed| case(&scenarios, seed, &tally),
        || {
            let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
            format!(
                ": {} scenarios of {calls} calls; {} faults endured, {} refused with an error, \
                 {} not reached",
                scenarios.len(),
                get(&tally.endured),
                get(&tally.refused),
                get(&tally.missed)
            )
        },
    );
}

fn case(scenarios: &[(Scenario, Vec<Call>)], seed: u64, tally: &Tally) {
    let mut rng = ROW.rng(seed);
    let (scenario, calls) = &scenarios[(seed % scenarios.len() as u64) as usize];
    let call = rng.random_range(0..calls.len());
    let able = Error::ALL.into_iter().filter(|e| e.befalls(calls[call]));
    let able: Vec<Error> = able.collect();
    let error = able[rng.random_range(0..able.len())];
    let lasting = error == Error::Full && rng.random_range(0..2) == 0;
    let dir = temporary();
    let cache = dir.path().join("cache");
    let fs = scenario.begin(&cache);
    fs.fail(Fault::At {
        call,
        error,
        lasting,
    });
    let what = format!(
        "{}, call {call} ({:?}) and {error:?}{}",
        scenario.name,
        calls[call],
        if lasting { " from then on" } else { "" }
    );
    let result = scenario.perform(&cache, &fs);
    let count = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
    match result {
        Ok(run) if run.everything == scenario.clean.everything => {
            assert_eq!(
                run.summary.verdict, scenario.clean.summary.verdict,
                "{what}"
            );
            count(if fs.has_failed() {
                &tally.endured
            } else {
                &tally.missed
            });
        }
        Ok(run) => {
            assert_eq!(run.summary.verdict, Verdict::Failed, "{what}: other bytes");
            let reasons = [run.failed, run.unread].concat().join("\n");
            assert!(is_clear(&reasons, error), "{what}: {reasons:?}");
            count(&tally.refused);
        }
        Err(failure) => {
            let reason = chain(&failure);
            assert!(is_clear(&reason, error), "{what}: {reason:?}");
            count(&tally.refused);
        }
    }
    let guard = |state: &Snapshot, then: &str| {
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            scenario.check(state, &|_| {});
        }));
        if let Err(panic) = checked {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
            panic!("{what}; {then}: {}", text.unwrap_or_default());
        }
    };
    let whole = Snapshot::read(&cache).unwrap();
    guard(&whole, "then a plain run");
    if calls[call] == Call::Sync && error != Error::Interrupted {
        let recording = fs.recording();
        let lost = recording.state(recording.len(), Loss::All);
        guard(&lost, "then the power went");
    }
}

/// Whether a message says what the system said, and of what.
fn is_clear(message: &str, error: Error) -> bool {
    let cause = match error {
        Error::Full => "No space left",
        Error::Device => "Input/output error",
        Error::Files => "Too many open files",
        Error::Interrupted => "Interrupted",
        Error::Short => return false,
    };
    // What stands before the cause is whom it befell.
    message.find(cause).is_some_and(|at| at > 0)
}
