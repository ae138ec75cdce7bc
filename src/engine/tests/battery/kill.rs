//! `kill -9` of the process group at a random time, then a plain run.
//!
//! *Passing*: the plain run needs no manual step, executes exactly what no commit records and
//! gives the bytes of an undisturbed run; the next one executes nothing, after
//! a collection neither, which leaves nothing temporary; verification finds nothing.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::Request;
use engine::store::{StoreOptions, VerifyOptions};
use rand::RngExt;
use stage_core::Cancel;

use super::case::Row;
use super::child::{Op, Orders, report, start};
use super::scenario::{collect, work_by_key};
use super::toy::{Run, Toy, coded, numbered, run_project};

const ROW: Row = Row {
    name: "kill",
    quick: 20,
    ci: 50,
    nightly: 5_000,
};

const FILES: usize = 24;

fn orders(toy: &Toy) -> Orders {
    Orders {
        dir: toy.dir.path().to_owned(),
        op: Op::Run,
        settings: vec![],
        jobs: 2,
        report: toy.dir.path().join("report"),
    }
}

#[test]
fn process_groups() {
    let undisturbed = Toy {
        toml: coded(),
        ..numbered(FILES)
    };
    let orders = orders(&undisturbed);
    // The first start reads the program from the disk: the shortest counts.
    let mut whole = Duration::MAX;
    for _ in 0..3 {
        let _ = std::fs::remove_dir_all(undisturbed.cache());
        let begun = Instant::now();
        let output = start(&orders).wait_with_output().unwrap();
        whole = whole.min(begun.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    assert_eq!(report(&orders).executed.len(), 4 * FILES + 5);
    let clean = undisturbed.run();
    let dead = AtomicU64::new(0);
    ROW.run(
        |seed| case(seed, whole, &clean, &dead),
        || format!(": {} died at work", dead.load(Ordering::Relaxed)),
    );
}

fn case(seed: u64, whole: Duration, clean: &Run, dead: &AtomicU64) {
    let mut rng = ROW.rng(seed);
    let toy = Toy {
        toml: coded(),
        ..numbered(FILES)
    };
    let orders = orders(&toy);
    let mut child = start(&orders);
    std::thread::sleep(whole.mul_f64(rng.random_range(0.0..1.2)));
    if let Some(group) = rustix::process::Pid::from_raw(child.id() as i32) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    if child.wait().unwrap().signal() == Some(9) {
        dead.fetch_add(1, Ordering::Relaxed);
    }
    let done = if toy.cache().join("format").exists() {
        work_by_key(&toy.cache()).len()
    } else {
        0
    };
    let options = StoreOptions::new(|warning| panic!("{warning}"));
    let project = toy.open(&toy.cache(), options, &[]).unwrap();
    let run = run_project(&project, Request::default());
    assert!(run.everything == clean.everything, "other bytes");
    assert_eq!(run.executed.len(), 4 * FILES + 5 - done, "executed");
    assert_eq!(run_project(&project, Request::default()).executed, [""; 0]);
    drop(project);
    let project = toy.project(&[]);
    project.store.gc(&collect(1)).unwrap();
    let options = VerifyOptions {
        subset: None,
        cancel: &Cancel::default(),
        on_bytes: &|_| (),
    };
    let found = project.store.verify(&options).unwrap();
    assert!(found.is_clean(), "{found:?}");
    assert_eq!(run_project(&project, Request::default()).executed, [""; 0]);
    drop(project);
    for folder in ["tmp", "leases", "claims", "trash"] {
        let left = std::fs::read_dir(toy.cache().join(folder)).unwrap().count();
        assert_eq!(left, 0, "files left in {folder}");
    }
}
