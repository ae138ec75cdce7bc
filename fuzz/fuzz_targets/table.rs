//! Tables of splits.

#![no_main]

fuzz::target!(fuzz::targets::table);
