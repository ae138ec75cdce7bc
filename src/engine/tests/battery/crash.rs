//! Crash states, in the manner of ALICE: the machine stops after each call of each scenario, and
//! of what no sync covers all is kept, or nothing, or contents or names alone, the last write is
//! torn or reads as zeros, one change is overtaken by the later ones, or each is kept or lost by
//! chance; each with the index as it was, without it, and with an older one.
//!
//! *Passing*: what was committed by then is there, whatever was lost; the cache opens with no manual step and no damaged commit; every object that a
//! commit refers to is whole; a plain run gives what an undisturbed run gives, byte for byte, and
//! executes exactly the actions that no surviving commit records; nothing temporary stays.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use engine::fs::sim::{Effect, Loss, Recording, Snapshot};
use rand::RngExt;
use stage_core::KeyHasher;

use super::case::Row;
use super::scenario::Scenario;
use super::toy::temporary;

const ROW: Row = Row {
    name: "crash",
    quick: 600,
    ci: 20_000,
    nightly: 1_000_000,
};

/// How many losses there are to choose from.
const LOSSES: usize = 10;

/// What becomes of the index.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Kept,
    Deleted,
    Older,
}

#[test]
fn crash_states() {
    let scenarios: Vec<(Scenario, Recording)> = Scenario::all()
        .into_iter()
        .map(|scenario| {
            let recording = record(&scenario);
            (scenario, recording)
        })
        .collect();
    let distinct = Mutex::new(HashSet::new());
    let calls: usize = scenarios.iter().map(|(_, recording)| recording.len()).sum();
    ROW.run(
        |seed| case(&scenarios, seed, &distinct),
        || {
            format!(
                ": {} scenarios of {calls} changes, {} distinct states run",
                scenarios.len(),
                distinct.lock().unwrap().len()
            )
        },
    );
}

fn record(scenario: &Scenario) -> Recording {
    let dir = temporary();
    let cache = dir.path().join("cache");
    let fs = scenario.begin(&cache);
    scenario.perform(&cache, &fs).unwrap();
    fs.recording()
}

fn case(scenarios: &[(Scenario, Recording)], seed: u64, distinct: &Mutex<HashSet<[u8; 32]>>) {
    let fate = [Fate::Kept, Fate::Deleted, Fate::Older][(seed % 3) as usize];
    // The three fates of the index share a state.
    let state_seed = seed / 3;
    let n = state_seed as usize;
    let (number, n) = (n % scenarios.len(), n / scenarios.len());
    let (scenario, recording) = &scenarios[number];
    let (length, loss) = choose(recording, n, state_seed);
    let mut rng = ROW.rng(seed);
    let state = recording.state(length, loss);
    for commit in promised(&recording.effects()[..length]) {
        assert!(
            state.0.contains_key(commit),
            "{}, after {length} changes, {loss:?} lost: {} was committed",
            scenario.name,
            commit.display()
        );
    }
    let index = match fate {
        Fate::Kept => recording.beside(length).clone(),
        Fate::Deleted => Snapshot::default(),
        Fate::Older => recording.beside(rng.random_range(0..=length)).clone(),
    };
    // An older copy may be put back beside the log of the newer one.
    let mixed = fate == Fate::Older && rng.random_range(0..3) == 0;
    let newer = recording.beside(length);
    let log = newer.digest();
    let mut hasher = KeyHasher::new("battery state");
    hasher
        .field(scenario.name.as_bytes())
        .field(&state.digest().0)
        .field(&index.digest().0)
        .field(if mixed { log.0.as_slice() } else { &[] });
    if !distinct.lock().unwrap().insert(hasher.finish().0) {
        return;
    }
    let place = |cache: &Path| {
        if mixed {
            newer.write(cache).unwrap();
            let log = cache.join("index.db-wal");
            if let Ok(log) = File::options().write(true).open(log) {
                let earlier = SystemTime::now() - Duration::from_secs(1);
                log.set_modified(earlier).unwrap();
            }
            if let Some(Some(bytes)) = index.0.get(Path::new("index.db")) {
                std::fs::write(cache.join("index.db"), bytes).unwrap();
            }
        } else {
            index.write(cache).unwrap();
        }
    };
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        scenario.check(&state, &place);
    }));
    if let Err(panic) = checked {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        let kept = keep(seed, &state, &place);
        panic!(
            "{}, after {length} of {} changes (the last: {:?}), {loss:?} lost, index {fate:?}{}: \
             {}\n  the state: {kept}",
            scenario.name,
            recording.len(),
            length.checked_sub(1).map(|n| &recording.effects()[n]),
            if mixed { " beside a newer log" } else { "" },
            text.unwrap_or_default()
        );
    }
}

/// The commits that had been made durable and were not withdrawn since.
fn promised(effects: &[Effect]) -> Vec<&Path> {
    let folder = Path::new("commits");
    let mut named = Vec::new();
    let mut promised = Vec::new();
    for effect in effects {
        match effect {
            Effect::Rename { to, .. } if to.parent() == Some(folder) => named.push(to.as_path()),
            Effect::SyncDir { path } if path == folder => promised.append(&mut named),
            Effect::Remove { path, .. } => promised.retain(|commit| commit != path),
            _ => {}
        }
    }
    promised
}

/// Leaves the state of a failed case to be looked at.
fn keep(seed: u64, state: &Snapshot, index: &dyn Fn(&Path)) -> String {
    let dir = std::env::temp_dir().join(format!("pipeline-battery-crash-{seed}"));
    // Best effort: the failure is what matters.
    let _ = std::fs::remove_dir_all(&dir);
    match state.write(&dir) {
        Ok(()) => {
            index(&dir);
            dir.display().to_string()
        }
        Err(error) => error.to_string(),
    }
}

/// The `n`-th prefix and loss of a recording: all prefixes with one loss each, then with the next,
/// and so on. The order within a pass jumps about, so that a few cases see all of it.
fn choose(recording: &Recording, n: usize, seed: u64) -> (usize, Loss) {
    let prefixes = recording.len() + 1;
    let (pass, place) = (n / prefixes, n % prefixes);
    let golden = (prefixes as f64 * 0.618) as usize;
    let step = (golden.max(1)..).find(|step| gcd(*step, prefixes) == 1);
    let length = place * step.unwrap_or(1) % prefixes;
    let loss = match (pass + place) % LOSSES {
        0 => Loss::All,
        1 => Loss::Some(seed),
        2 => Loss::TornWrite,
        3 => Loss::Nothing,
        4 => Loss::Contents,
        5 => Loss::One(0),
        6 => Loss::Names,
        7 => Loss::ZeroedWrite,
        8 => Loss::One(1),
        _ => Loss::Some(seed ^ 1 << 63),
    };
    (length, loss)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
