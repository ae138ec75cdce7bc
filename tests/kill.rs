//! kill -9 at random times, then a plain re-run: it finishes, and everything equals what an
//! undisturbed run makes, byte for byte.
//!
//! `PIPELINE_KILLS` sets how often (6 by default); the seed of each is printed when it fails.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use common::{Place, kills, wav};

const FILES: u32 = 8;

fn place() -> Place {
    let place = Place::initialised();
    for i in 0..FILES {
        let hertz = 200.0 + 40.0 * f64::from(i);
        place.write(format!("{i}.wav"), &wav(hertz, 6.0, "x"));
    }
    place
}

/// Everything that the stages made, by stage and name.
fn everything(place: &Place) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for stage in ["decode", "featurize", "dataset"] {
        let out = format!("exported/{stage}");
        place.run(&["export", stage, "--out", &out]).expect(0);
        collect(&place.path(&out), stage, &mut all);
    }
    all
}

fn collect(dir: &Path, prefix: &str, all: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let name = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            collect(&entry.path(), &name, all);
        } else {
            all.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn a_killed_run_is_taken_up_and_gives_the_same_bytes() {
    let undisturbed = place();
    let begun = Instant::now();
    undisturbed.json("dataset").expect(0);
    let whole = begun.elapsed();
    let expected = everything(&undisturbed);
    assert!(expected.len() > 2 * FILES as usize);

    for (seed, wait) in kills(6, whole) {
        let place = place();
        place.kill(&["run", "dataset", "--quiet"], wait);
        let said = place.run(&["run", "dataset", "--quiet"]);
        assert_eq!(said.code, 0, "seed {seed}: {}", said.err);
        assert!(everything(&place) == expected, "seed {seed}: other bytes");
        assert_eq!(
            place.json("dataset").expect(0).executed(),
            [""; 0],
            "seed {seed}"
        );
    }
}
