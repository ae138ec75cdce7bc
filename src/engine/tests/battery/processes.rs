//! Two to eight processes at once on one cache: runs, predictions, collections,
//! verifications and looks at the status.
//!
//! *Passing*: all of them end, and well, within the time that a deadlock would exceed; what each
//! run gives is what an undisturbed one gives; a verification finds nothing; no action is executed by two of them, and nothing
//! is lost: the next run executes nothing (unless a collection was told to keep the last run
//! only); `status` answers within a second.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use engine::Request;
use engine::store::{Record, Store, StoreOptions};
use rand::RngExt;
use stage_core::Digest;

use super::case::Row;
use super::child::{Op, Orders, digest, report, start};
use super::oracle::PROMPT;
use super::toy::{Toy, coded, numbered, run_project};

const ROW: Row = Row {
    name: "processes",
    quick: 8,
    ci: 200,
    nightly: 10_000,
};

const FILES: usize = 12;

/// No process takes as long unless it waits for ever.
const DEADLOCK: Duration = Duration::from_secs(120);

const SETTINGS: [&[&str]; 3] = [&[], &["read.upper=true"], &["sum.unit='words'"]];

fn toy() -> Toy {
    let toy = Toy {
        toml: coded(),
        ..numbered(FILES)
    };
    std::fs::write(toy.dir.path().join(PROMPT), "what then").unwrap();
    toy
}

fn request(toy: &Toy, predict: bool) -> Request {
    let mut request = toy.request();
    if predict {
        let prompt = toy.dir.path().join(PROMPT);
        request.bindings.insert("prompt".into(), prompt);
    }
    request
}

#[test]
fn at_once() {
    // By settings and whether it is a prediction: what an undisturbed run gives.
    let mut clean = BTreeMap::new();
    let undisturbed = toy();
    for (n, settings) in SETTINGS.iter().enumerate() {
        for predict in [false, true] {
            let run = undisturbed.run_with(settings, request(&undisturbed, predict));
            clean.insert((n, predict), digest(&run.everything));
        }
    }
    let slowest = Mutex::new(0.0_f64);
    ROW.run(
        |seed| case(seed, &clean, &slowest),
        || format!(": slowest status {:.3} s", slowest.lock().unwrap()),
    );
}

fn case(seed: u64, clean: &BTreeMap<(usize, bool), Digest>, slowest: &Mutex<f64>) {
    let mut rng = ROW.rng(seed);
    let toy = toy();
    let mut children = Vec::new();
    // In every other case, collections that free what finished runs made.
    let keep = if rng.random_range(0..2) == 0 { 1 } else { 100 };
    for n in 0..rng.random_range(2..=8) {
        let op = match rng.random_range(0..7) {
            0..=2 => Op::Run,
            3 => Op::Predict,
            4 => Op::Gc(keep),
            5 => Op::Verify,
            _ => Op::Status,
        };
        let settings = rng.random_range(0..SETTINGS.len());
        let orders = Orders {
            dir: toy.dir.path().to_owned(),
            op,
            settings: SETTINGS[settings].iter().map(|s| (*s).to_owned()).collect(),
            jobs: rng.random_range(1..4),
            report: toy.dir.path().join(format!("report-{n}")),
        };
        std::thread::sleep(Duration::from_millis(rng.random_range(0..20)));
        children.push((settings, start(&orders), orders));
    }
    let begun = Instant::now();
    for (settings, mut child, orders) in children {
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > DEADLOCK {
                child.kill().unwrap();
                panic!("{:?} did not end", orders.op);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {said}", orders.op);
        let report = report(&orders);
        assert_eq!(report.failed, [""; 0], "{:?}", orders.op);
        // A collection that is not over yet has withdrawn commits that the index still names.
        let odd = |text: &&String| !text.contains("knew commits that are gone");
        assert_eq!(report.warnings.iter().find(odd), None, "{:?}", orders.op);
        if orders.op == Op::Status {
            assert!(report.seconds < 1.0, "status took {} s", report.seconds);
            let mut slowest = slowest.lock().unwrap();
            *slowest = slowest.max(report.seconds);
        } else if matches!(orders.op, Op::Run | Op::Predict) {
            let expected = clean[&(settings, orders.op == Op::Predict)];
            assert_eq!(report.everything, Some(expected), "{:?}", orders.op);
            let project = toy.open(&toy.cache(), quiet(), SETTINGS[settings]).unwrap();
            let again = run_project(&project, request(&toy, orders.op == Op::Predict));
            assert!(
                again.executed.is_empty() || keep == 1,
                "after {:?}: {:?}",
                orders.op,
                again.executed
            );
        }
    }
    let store = Store::open(&toy.cache(), quiet()).unwrap();
    let mut times: BTreeMap<Digest, (u32, String)> = BTreeMap::new();
    let each = |_, record| {
        if let Record::Action(action) = record {
            let name = format!("{} {}", action.settings.stage, action.item);
            times.entry(action.key).or_insert((0, name)).0 += 1;
        }
        Ok(())
    };
    store.each_record(each).unwrap();
    if keep == 1 {
        return;
    }
    let twice: Vec<_> = times.values().filter(|(times, _)| *times > 1).collect();
    assert!(twice.is_empty(), "executed more than once: {twice:?}");
}

/// Without a word: another process may be collecting.
fn quiet() -> StoreOptions {
    StoreOptions::new(|_| {})
}
