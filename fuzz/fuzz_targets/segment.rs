//! Segments, which are mapped into memory.

#![no_main]

fuzz::target!(fuzz::targets::segment);
