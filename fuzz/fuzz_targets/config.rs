//! pipeline.toml.

#![no_main]

fuzz::target!(fuzz::targets::config);
