//! pipeline.toml.

#![no_main]

fuzz::target!("config");
