//! Tables of splits.

#![no_main]

fuzz::target!("table");
