//! SIGINT and SIGTERM ask for a stop; the work under way saves itself and ends.
//!
//! A terminal sends Ctrl-C to every process of the group: without this, the worker would die
//! before it could save what the engine then asks it to.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::ffi;

static CAUGHT: AtomicBool = AtomicBool::new(false);

/// Catches both signals from now on.
pub fn catch() {
    ffi::on_signal(&[libc::SIGINT, libc::SIGTERM], note);
}

/// Whether one came.
pub fn caught() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}

extern "C" fn note(_signal: libc::c_int) {
    CAUGHT.store(true, Ordering::Relaxed);
}
