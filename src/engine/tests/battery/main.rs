//! The battery of faults.
//!
//! Each row is a file that begins with what passing means. A case has a seed, its number, which is
//! printed with the command that runs it again when it fails. `PIPELINE_BATTERY` says how many
//! cases are run: `quick` (by default, some seconds a row), `ci` or `nightly`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "for tests, whose counts are to be seen"
)]

mod case;
mod child;
mod crash;
mod damage;
mod errors;
mod foreign;
mod gc;
mod incremental;
mod key;
mod kill;
mod locks;
mod oracle;
mod processes;
mod scenario;
mod stat;
mod switch;
#[path = "../toy/mod.rs"]
mod toy;
