//! The index of a cache: any file in its place.

#![no_main]

fuzz::target!(fuzz::targets::index);
