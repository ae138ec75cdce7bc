//! Commits, the truth of a cache.

#![no_main]

fuzz::target!(fuzz::targets::commit);
