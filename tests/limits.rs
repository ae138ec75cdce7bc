//! What happens when the system gives less than is usual.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "for tests")]

mod common;

use std::fs;
use std::path::Path;

use common::{Place, wav};

/// A project with two recordings.
fn place() -> Place {
    let place = Place::initialised();
    for (name, hertz) in [("a.wav", 220.0), ("b.wav", 330.0)] {
        place.write(name, &wav(hertz, 5.0, "x"));
    }
    place
}

/// With a limit of processes a run does its work with fewer threads, or ends with a message: never
/// with a panic (101) or an abort.
#[test]
fn few_processes_are_no_reason_to_panic() {
    for limit in ["1", "2", "3", "5", "8", "24"] {
        for args in [
            &["run", "decode", "-j", "64"][..],
            &["run", "decode", "-j", "1"],
            &["status"],
            &["gc", "--dry-run"],
        ] {
            let place = place();
            place.run(&["run", "decode", "--dry-run"]).expect(0);
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            for folder in folders(&place.path(".pipeline")) {
                fs::set_permissions(folder, Clone::clone(&open)).unwrap();
            }
            let said = place.run_limited(&format!("-u {limit}"), args);
            if said.code == 126 {
                eprintln!("left out: another user may not run this program");
                return;
            }
            let row = format!("{limit} {args:?}: {}\n{}", said.out, said.err);
            assert!(said.code == 0 || said.code == 1, "{} {row}", said.code);
            assert!(!said.err.contains("panicked"), "{row}");
            // Another user may have other processes that count.
            if limit == "24" && rustix::process::geteuid().is_root() {
                assert_eq!(said.code, 0, "{row}");
            }
            if limit == "1" {
                assert!(said.err.contains("cannot start a thread"), "{row}");
            }
        }
    }
}

/// A folder, and all below it.
fn folders(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            all.extend(folders(&entry.path()));
        }
    }
    all
}

#[test]
fn the_number_of_jobs_has_a_range() {
    let place = place();
    for (jobs, code) in [
        ("18446744073709551615", 2),
        ("18446744073709551616", 2),
        ("1025", 2),
        ("-1", 2),
        ("1024", 0),
        ("0", 0),
    ] {
        for command in [&["run", "decode"][..], &["repair"]] {
            let jobs = format!("--jobs={jobs}");
            place.run(&[command, &[&jobs]].concat()).expect(code);
        }
    }
}

/// Bytes of all objects in the cache.
fn objects(place: &Place) -> u64 {
    let folders = fs::read_dir(place.path(".pipeline/objects")).unwrap();
    let files = folders
        .flatten()
        .flat_map(|f| fs::read_dir(f.path()).unwrap());
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

/// Nothing that is linked from one artifact into another is counted twice.
#[test]
fn a_forecast_from_history_is_what_is_written() {
    let place = place();
    place.run(&["run", "dataset"]).expect(0);
    let set = ["--set", "featurize.hop=250"];
    let plan = ["run", "dataset", "--dry-run", "--json"];
    let plan = place.run(&[&plan[..], &set].concat()).expect(0);
    let forecast = plan.events()[0]["bytes"].as_f64().unwrap();
    let before = objects(&place);
    place
        .run(&[&["run", "dataset"][..], &set].concat())
        .expect(0);
    let written = (objects(&place) - before) as f64;
    let ratio = forecast / written;
    assert!(
        (0.9..1.1).contains(&ratio),
        "{forecast} of {written}: {ratio}"
    );
}
