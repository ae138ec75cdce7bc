//! Locks of a cache that somebody holds and does not let go of: a process that is stopped, or one
//! of a user who may read the cache.
//!
//! *Passing*: what only looks answers, and what works either goes on or says within seconds for
//! whom it waits, and ends when the user says so. Afterwards a plain run gives what it gave.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::fs::{Fs, Handle, RealFs};
use engine::store::{StoreError, StoreOptions, Warning};
use engine::{Deaf, EngineError, Request, Session};
use rand::RngExt;
use stage_core::Cancel;

use super::case::Row;
use super::toy::{Run, done};

const ROW: Row = Row {
    name: "locks",
    quick: 4,
    ci: 24,
    nightly: 500,
};

const FILES: [&str; 4] = ["index.lock", "index.users", "gate.lock", "gate.turn"];

/// The longest that anything may take, on a busy machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_held_lock_hangs_nobody() {
    let sound = done().run();
    ROW.run(|seed| case(&sound, seed), || ", 0 hung");
}

fn hold(cache: &std::path::Path, name: &str, shared: bool) -> Box<dyn Handle> {
    let file = RealFs.open(&cache.join(name)).unwrap();
    let held = if shared {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    assert!(held.unwrap(), "{name}");
    file
}

fn case(sound: &Run, seed: u64) {
    let mut rng = ROW.rng(seed);
    let toy = done();
    let name = FILES[rng.random_range(0..FILES.len())];
    let held = hold(&toy.cache(), name, rng.random_range(0..3) == 0);
    let cancel = Cancel::default();
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let (stop, said) = (cancel.clone(), heard.clone());
    let options = StoreOptions::new(move |warning| {
        said.lock().unwrap().push(warning.to_string());
        if matches!(&warning, Warning::WaitingForLock { path, .. } if path.ends_with(name))
            && name.starts_with("gate")
        {
            stop.set();
        }
    });
    let begun = Instant::now();
    let project = toy
        .open(&toy.cache(), options, &["sum.unit=words"])
        .unwrap();
    project.store.cancel_with(&cancel);
    let looking = Request {
        quick: true,
        ..toy.request()
    };
    Session::prepare(&project, looking, &cancel).unwrap();
    assert!(begun.elapsed() < LONG, "{name}: looking");
    let run = Session::prepare(&project, toy.request(), &cancel)
        .and_then(|mut session| session.execute(&Deaf, &cancel));
    assert!(begun.elapsed() < LONG, "{name}: working");
    match run {
        Ok(_) => {}
        Err(EngineError::Store(StoreError::Cancelled)) => {
            let heard = heard.lock().unwrap();
            assert!(heard.iter().any(|text| text.contains(name)), "{heard:?}");
        }
        Err(error) => panic!("{name}: {error}"),
    }
    drop((held, project));
    let run = toy.run();
    assert!(run.everything == sound.everything, "{name}");
}
