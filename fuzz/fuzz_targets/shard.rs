//! Shards: Parquet under a seal.

#![no_main]

fuzz::target!(fuzz::targets::shard);
