//! Faults over the real stages: damage to the files of a cache and of `out/`, and signals at
//! random times.
//!
//! A project of every real stage is run once. Each case works on a copy of it: it does the harm,
//! runs the plain command `pipeline run predict`, and compares everything with the clean build.
//! Without `pipeline-torch` beside `pipeline`, the project ends with the data set.
//!
//! Cases, shares (`PIPELINE_BATTERY`) and the command that runs one case again
//! (`PIPELINE_BATTERY_CASE`) are those of the engine's battery. A single case that fails leaves
//! its folder for inspection.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "for tests, whose counts are to be seen"
)]

#[path = "../../src/engine/tests/battery/case.rs"]
mod case;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod harm;
mod process;
mod project;
mod signal;
