//! A folder on the way to the sources is another one for a while, and then what it was before.
//!
//! *Passing*: whatever a run reads meanwhile, no result is recorded under the digest of other bytes
//! than those that it was made of: afterwards a plain run over the one folder gives what a clean
//! build of it gives, and so does one over the other. No file's state tells: to rename a folder
//! changes no time of what is in it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use engine::Request;
use engine::fs::Fs;
use engine::fs::sim::SimFs;
use engine::store::StoreOptions;
use rand::RngExt;

use super::case::Row;
use super::toy::{Run, Toy, try_run};

const ROW: Row = Row {
    name: "switch",
    quick: 30,
    ci: 500,
    nightly: 20_000,
};

/// The same names and lengths, so that nothing but the bytes differs.
const ONE: [(&str, &str); 3] = [
    ("sub/a.txt", "one two"),
    ("sub/b.txt", "three"),
    ("sub/deep/c.txt", "four five six"),
];
const OTHER: [(&str, &str); 3] = [
    ("other/a.txt", "six six"),
    ("other/b.txt", "no ha"),
    ("other/deep/c.txt", "a b c d e f g"),
];

fn toy() -> Toy {
    let mut toy = Toy::new(&ONE);
    for (name, text) in OTHER {
        toy.write(name, text);
    }
    // Out of the source.
    fs::rename(toy.path("other"), toy.dir.path().join("other")).unwrap();
    toy.old = true;
    toy
}

fn switch(toy: &Path) {
    let (one, other) = (toy.join("corpus/sub"), toy.join("other"));
    let aside = toy.join("aside");
    fs::rename(&one, &aside).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(&aside, &other).unwrap();
}

#[test]
fn a_folder_that_is_another_for_a_while() {
    let toy_of_both = toy();
    let one = toy_of_both.run();
    switch(toy_of_both.dir.path());
    let both = [one, toy_of_both.run()];
    let calls = AtomicUsize::new(0);
    watched(&toy(), usize::MAX, 0, &calls);
    let calls = calls.load(Ordering::Relaxed);
    ROW.run(|seed| case(&both, calls, seed), || ", 0 wrong");
}

/// A run on a disk where the folder is another from one call to another.
fn watched(toy: &Toy, from: usize, to: usize, count: &AtomicUsize) {
    let sim = SimFs::new(toy.dir.path(), &[]).unwrap();
    let dir = toy.dir.path().to_owned();
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    sim.on_call(Arc::new(move |_, _| {
        let call = seen.fetch_add(1, Ordering::SeqCst);
        if call == from || call == to && to > from {
            switch(&dir);
        }
    }));
    let options = StoreOptions {
        fs: Arc::new(sim) as Arc<dyn Fs>,
        ..StoreOptions::new(|_| {})
    };
    let project = toy.open(&toy.cache(), options, &[]).unwrap();
    let request = Request {
        jobs: 1,
        ..toy.request()
    };
    // It may fail: a file was not what it was.
    let _ = try_run(&project, request);
    drop(project);
    count.store(calls.load(Ordering::SeqCst), Ordering::Relaxed);
}

fn case(both: &[Run; 2], calls: usize, seed: u64) {
    let mut rng = ROW.rng(seed);
    let toy = toy();
    let from = rng.random_range(0..calls);
    let to = from + rng.random_range(1..60);
    let count = AtomicUsize::new(0);
    watched(&toy, from, to, &count);
    let count = count.load(Ordering::Relaxed);
    let switched = usize::from(count > from) + usize::from(count > to);
    if switched == 1 {
        switch(toy.dir.path());
    }
    for expected in both {
        let run = toy.run();
        assert!(
            run.everything == expected.everything,
            "another folder from call {from} to {to} of {calls}"
        );
        switch(toy.dir.path());
    }
}
