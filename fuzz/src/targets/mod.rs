//! What each target does with its bytes: everything that the program would.
//!
//! Free of libFuzzer, so that `tests/found.rs` of the workspace does the same with the inputs
//! that were found. An `assert!` here states what must hold whatever the bytes are.

mod score_files;
mod shards;
mod sound;
mod store;
mod text;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target; `fuzz_targets/` has a file for each.
pub const ALL: [Target; 16] = [
    ("audio_boxes", sound::audio),
    ("audio_frames", sound::audio),
    ("audio_ogg", sound::audio),
    ("audio_pcm", sound::audio),
    ("commit", store::commit),
    ("config", text::config),
    ("index", store::index),
    ("manifest", shards::manifest),
    ("midi", score_files::score),
    ("model", shards::model),
    ("musicxml", score_files::score),
    ("segment", shards::segment),
    ("shard", shards::shard),
    ("soundfont", sound::soundfont),
    ("table", text::table),
    ("worker", text::worker),
];

/// Runs the target `name` on `bytes`.
///
/// # Panics
/// No target has this name; or the bytes make a reader panic, which is what is looked for.
pub fn run(name: &str, bytes: &[u8]) {
    let target = ALL.iter().find(|(other, _)| *other == name);
    let (_, target) = target.unwrap_or_else(|| panic!("there is no target `{name}`"));
    target(bytes);
}
