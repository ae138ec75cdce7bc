//! Manifests of data sets.

#![no_main]

fuzz::target!(fuzz::targets::manifest);
