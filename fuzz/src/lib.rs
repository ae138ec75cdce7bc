//! Fuzzing of every reader of foreign or stored bytes, by coverage, with libFuzzer.
//!
//! A case fails when it panics, asks for more than [`MEMORY`], or takes longer than the deadline
//! that `cargo xtask fuzz` gives libFuzzer. A panic counts even where our code catches it, for it
//! is caught by chance, except in the places of [`known`].

pub mod known;
pub mod targets;

use std::alloc::System;
use std::panic;

use cap::Cap;

/// What one input may take beyond what was there before it, in bytes.
pub const MEMORY: usize = 256 << 20;

// An allocation beyond the limit fails. Where that is handled, the input was refused, as it
// should be; else the process aborts, and libFuzzer keeps the input.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Once per process: panics in [`known`] places go on to whoever catches them; all others end
/// the process, as libFuzzer's own hook has it.
pub fn begin() {
    let abort = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !known::is_known(panic) {
            abort(panic);
        }
    }));
}

/// Runs `target` on `bytes` within [`MEMORY`].
pub fn case(target: fn(&[u8]), bytes: &[u8]) {
    limit(ALLOCATOR.allocated().saturating_add(MEMORY));
    target(bytes);
    // libFuzzer's own thread allocates, too, but not through here.
    limit(usize::MAX);
}

fn limit(bytes: usize) {
    ALLOCATOR
        .set_limit(bytes)
        .expect("the limit is above what is taken");
}

/// The body of a file in `fuzz_targets/`.
#[macro_export]
macro_rules! target {
    ($target:path) => {
        libfuzzer_sys::fuzz_target!(
            init: $crate::begin(),
            |bytes: &[u8]| $crate::case($target, bytes)
        );
    };
}
