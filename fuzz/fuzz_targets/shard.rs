//! Shards: Parquet under a seal.

#![no_main]

fuzz::target!("shard");
