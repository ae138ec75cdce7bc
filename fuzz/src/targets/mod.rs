//! What each target does with its bytes: everything that the program would.
//!
//! Free of libFuzzer, so that `tests/found.rs` of the workspace does the same with the inputs
//! that were found. An `assert!` here states what must hold whatever the bytes are.

mod score_files;
mod shards;
mod sound;
mod store;
mod text;

pub use score_files::score;
pub use shards::{manifest, model, segment, shard};
pub use sound::{audio, soundfont};
pub use store::{commit, index};
pub use text::{config, table, worker};

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; `fuzz_targets/` has a file for each.
pub const ALL: [Target; 16] = [
    ("audio_boxes", audio),
    ("audio_frames", audio),
    ("audio_ogg", audio),
    ("audio_pcm", audio),
    ("commit", commit),
    ("config", config),
    ("index", index),
    ("manifest", manifest),
    ("midi", score),
    ("model", model),
    ("musicxml", score),
    ("segment", segment),
    ("shard", shard),
    ("soundfont", soundfont),
    ("table", table),
    ("worker", worker),
];
