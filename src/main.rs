//! The `pipeline` executable.

fn main() {}
