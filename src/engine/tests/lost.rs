//! Objects that are damaged, swapped or lost, and sources that are switched while they are read.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod toy;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::fs::Fs;
use engine::fs::sim::{Call, Error, Fault, SimFs};
use engine::store::{Scope, StoreOptions, VerifyOptions};
use engine::{Deaf, EngineError, Verdict};
use stage_core::{Cancel, Digest};
use toy::{Toy, done, objects, run_project, try_run};

fn object(cache: &Path, content: &str) -> PathBuf {
    let name = Digest::of(content.as_bytes()).to_hex();
    cache.join("objects").join(&name[..2]).join(&name[2..])
}

fn swap(one: &Path, other: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).unwrap();
    fs::rename(other, one).unwrap();
    fs::rename(&aside, other).unwrap();
}

/// Counts check themselves; `1` of `b.txt` and `2` of `a.txt` have one length.
#[test]
fn swapped_objects_are_made_again_by_the_run_that_meets_them() {
    let toy = done();
    swap(&object(&toy.cache(), "1"), &object(&toy.cache(), "2"));
    // The sum is new, so that it reads the counts.
    let run = toy.run_with(&["sum.unit=words"], toy.request());
    assert_eq!(run.summary.verdict, Verdict::Done, "{:?}", run.failed);
    assert!(run.everything["sum  sum"].starts_with(b"6 words of 3"));
    assert_eq!(run.everything["count a.txt count"], b"2");
    let made: Vec<_> = run
        .executed
        .iter()
        .filter(|e| e.starts_with("count"))
        .collect();
    assert_eq!(made, ["count item a.txt", "count item b.txt"]);
    let again = toy.run_with(&["sum.unit=words"], toy.request());
    assert_eq!(again.executed, [""; 0]);
}

#[test]
fn damage_in_many_inputs_is_met_once() {
    type Damage = fn(&Path);
    let cases: [(&str, Damage); 3] = [
        ("flipped", |p| {
            let mut bytes = fs::read(p).unwrap();
            bytes[0] ^= 1;
            fs::remove_file(p).unwrap();
            fs::write(p, bytes).unwrap();
        }),
        ("gone", |p| fs::remove_file(p).unwrap()),
        ("cut", |p| {
            fs::remove_file(p).unwrap();
            fs::write(p, "").unwrap();
        }),
    ];
    for (case, damage) in cases {
        let toy = done();
        for count in ["1", "2", "3"] {
            damage(&object(&toy.cache(), count));
        }
        let run = toy.run_with(&["sum.unit=words"], toy.request());
        assert_eq!(
            run.summary.verdict,
            Verdict::Done,
            "{case}: {:?}",
            run.failed
        );
        assert!(run.everything["sum  sum"].starts_with(b"6 words of 3"));
        let tries = run.executed.iter().filter(|e| *e == "sum whole").count();
        assert_eq!(tries, 1, "{case}");
    }
}

/// What nobody reads is not met; forgotten, it is made again by a plain run, with equal bytes.
#[test]
fn a_forgotten_result_is_made_again_by_a_plain_run() {
    for (content, again) in [
        ("6  of 36  of 3!", vec!["tell finish"]),
        ("6  of 3", vec!["sum whole"]),
        // The sum links it: what it took over is as it was.
        ("1", vec!["count item b.txt"]),
    ] {
        let toy = done();
        let before = objects(&toy.cache());
        let path = object(&toy.cache(), content);
        fs::remove_file(&path).unwrap();
        let lost = [Digest::of(content.as_bytes())].into();
        {
            let project = toy.project(&[]);
            project.store.forget(&lost, Scope::Makers).unwrap();
        }
        let run = toy.run();
        assert_eq!(run.executed, again, "{content}");
        for (name, bytes) in &before {
            let now = objects(&toy.cache());
            // Lists of runs come and go.
            if let Some(now) = now.get(name) {
                assert_eq!(now, bytes);
            }
        }
        assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
    }
}

/// After every step of a repair, cut short there, a plain run gives what it gave.
#[test]
fn a_repair_that_is_cut_short_loses_nothing() {
    let sound = done().run().everything;
    let mut cut = 0;
    for call in (0..600).step_by(7) {
        let toy = done();
        for content in ["6  of 36  of 3!", "2", "three"] {
            fs::remove_file(object(&toy.cache(), content)).unwrap();
        }
        let sim = Arc::new(SimFs::new(&toy.cache(), &[]).unwrap());
        sim.fail(Fault::At {
            call,
            error: Error::Device,
            lasting: true,
        });
        let options = StoreOptions {
            fs: sim.clone() as Arc<dyn Fs>,
            ..StoreOptions::new(|_| {})
        };
        if let Ok(project) = toy.open(&toy.cache(), options, &[]) {
            let cancel = Cancel::default();
            let verify = VerifyOptions {
                subset: None,
                cancel: &cancel,
                on_bytes: &|_| {},
            };
            let _ = engine::repair(&project, toy.request(), &verify, &Deaf);
        }
        cut += usize::from(sim.has_failed());
        let project = toy.project(&[]);
        let run = loop {
            match try_run(&project, toy.request()) {
                Ok(run) => break run,
                // As a reader does that meets a loss.
                Err(EngineError::Store(error)) => {
                    assert!(project.store.forget_lost(&error).unwrap(), "{error}");
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert!(run.everything == sound, "cut at call {call}");
    }
    assert!(cut > 20, "{cut}");
}

/// The folder is another while the file is read, and what it was before and after.
#[test]
fn a_switched_folder_gives_no_result_of_other_bytes() {
    let toy = Toy::new(&[("sub/a.txt", "one two")]);
    let other = toy.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("a.txt"), "six six").unwrap();
    let folder = toy.path("sub");
    let source = folder.join("a.txt");
    let sim = SimFs::new(toy.dir.path(), &[]).unwrap();
    let switched = Arc::new(AtomicBool::new(false));
    let (state, cache) = (switched.clone(), toy.cache());
    sim.on_call(Arc::new(move |call, path| {
        // From the claim of the first action until its source is looked at again.
        let is_claim = call == Call::Link && path.starts_with(cache.join("claims"));
        let is_look = call == Call::Stat && path == source;
        let now = state.load(Ordering::SeqCst);
        if is_claim && !now || is_look && now {
            swap(&folder, &other);
            state.store(!now, Ordering::SeqCst);
        }
    }));
    let options = StoreOptions {
        fs: Arc::new(sim) as Arc<dyn Fs>,
        ..StoreOptions::new(|_| {})
    };
    let project = toy.open(&toy.cache(), options, &[]).unwrap();
    let run = run_project(&project, toy.request());
    assert_eq!(run.executed, [""; 0], "{:?}", run.everything);
    assert!(
        run.failed[0].contains("changed while it was being read"),
        "{:?}",
        run.failed
    );
    drop(project);
    if switched.load(Ordering::SeqCst) {
        swap(&toy.path("sub"), &toy.dir.path().join("other"));
    }
    let run = toy.run();
    assert_eq!(run.everything["read sub/a.txt text"], b"one two");
}
