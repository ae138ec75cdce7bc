//! Inputs that fuzzing found, each once more through the target that it was found for: nothing
//! panics, takes longer than a moment, or more than 256 MiB.
//!
//! `found/TARGET/NAME` is the smallest input that showed a fault; CONTRIBUTING.md says how one
//! comes here.

#![allow(clippy::unwrap_used, reason = "for tests")]

#[path = "../fuzz/src/targets/mod.rs"]
#[expect(unreachable_pub, reason = "there it is of a library")]
mod targets;

use std::alloc::System;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use cap::Cap;

/// What one input may take, in bytes; as in fuzz/src/lib.rs.
const MEMORY: usize = 256 << 20;
/// How long one input may take, with no optimisation and on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

// One test, for the limit of memory holds for the process.
#[test]
fn what_was_found_stays_mended() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/found");
    for (name, target) in targets::ALL {
        let Ok(folder) = fs::read_dir(home.join(name)) else {
            continue;
        };
        for entry in folder {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let (done, waiting) = mpsc::channel();
            let limit = ALLOCATOR.allocated() + MEMORY;
            ALLOCATOR.set_limit(limit).unwrap();
            let work = std::thread::spawn(move || {
                target(&bytes);
                let _ = done.send(());
            });
            let ended = waiting.recv_timeout(PATIENCE);
            ALLOCATOR.set_limit(usize::MAX).unwrap();
            assert!(
                ended != Err(mpsc::RecvTimeoutError::Timeout),
                "`{}` takes longer than {PATIENCE:?}",
                path.display()
            );
            assert!(
                work.join().is_ok(),
                "`{}` makes its reader panic",
                path.display()
            );
        }
    }
}
