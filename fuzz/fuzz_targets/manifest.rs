//! Manifests of data sets.

#![no_main]

fuzz::target!("manifest");
