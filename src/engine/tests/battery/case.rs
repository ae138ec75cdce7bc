//! Rows of the battery and their cases.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use stage_core::derive_seed;

/// A row: how many cases it has in each share.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Plain `cargo test`.
    pub(crate) quick: u64,
    /// Before a change lands.
    pub(crate) ci: u64,
    /// Every night.
    pub(crate) nightly: u64,
}

/// One row at a time has the machine.
static TURN: Mutex<()> = Mutex::new(());

/// Failures of a share that are shown; more say nothing new.
const SHOWN: usize = 5;

impl Row {
    /// How many cases there are in the share that is asked for.
    pub(crate) fn cases(&self) -> u64 {
        match std::env::var("PIPELINE_BATTERY").as_deref() {
            Ok("ci") => self.ci,
            Ok("nightly") => self.nightly,
            Ok("quick") | Err(_) => self.quick,
            Ok(other) => panic!("PIPELINE_BATTERY is `{other}`, expected quick, ci or nightly"),
        }
    }

    /// Random numbers of a case.
    pub(crate) fn rng(&self, case: u64) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(derive_seed(case, &[self.name]))
    }

    /// Runs `case` for every seed of the share, or for those in `PIPELINE_BATTERY_CASE` (`7` or
    /// `200..400`), on all cores. `tally` is asked afterwards what there is to tell.
    pub(crate) fn run<T: Display>(&self, case: impl Fn(u64) + Sync, tally: impl FnOnce() -> T) {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let named = named();
        let shown = if named.is_some() { usize::MAX } else { SHOWN };
        let (from, to) = named.unwrap_or_else(|| (0, self.cases()));
        let begun = Instant::now();
        let next = AtomicU64::new(from);
        let failures = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= to || failures.lock().unwrap().len() >= shown {
                            return;
                        }
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
                            let text = message(&*panic);
                            failures.lock().unwrap().push((seed, text));
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap();
        for (seed, text) in &failures {
            eprintln!(
                "battery {name}, case {seed}: {text}\n  again: PIPELINE_BATTERY_CASE={seed} cargo \
                 test -p {package} --test {test} {name}:: -- --nocapture",
                name = self.name,
                package = env!("CARGO_PKG_NAME"),
                test = env!("CARGO_CRATE_NAME"),
            );
        }
        assert!(
            failures.is_empty(),
            "battery {}: {} cases failed",
            self.name,
            failures.len()
        );
        eprintln!(
            "battery {}: {} cases passed in {:.0} s{}",
            self.name,
            to - from,
            begun.elapsed().as_secs_f64(),
            tally()
        );
    }
}

/// The cases that `PIPELINE_BATTERY_CASE` names, from the first to one after the last.
fn named() -> Option<(u64, u64)> {
    let text = std::env::var("PIPELINE_BATTERY_CASE").ok()?;
    let number = |text: &str| {
        let number = text.parse();
        number.expect("PIPELINE_BATTERY_CASE is a case, as in `7`, or a range, as in `200..400`")
    };
    Some(match text.split_once("..") {
        Some((from, to)) => (number(from), number(to)),
        None => (number(&text), number(&text) + 1),
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}
