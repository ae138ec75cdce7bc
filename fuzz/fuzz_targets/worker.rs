//! Lines between the engine and its workers.

#![no_main]

fuzz::target!(fuzz::targets::worker);
