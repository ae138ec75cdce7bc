//! Panics in code of others that our code is built to catch.
//!
//! Each row is a place, why it is not ours to mend, and what stands before it.

use std::panic::PanicHookInfo;

/// A place in somebody else's source.
struct Known {
    /// What the path of the source file contains.
    file: &'static str,
    /// What the message contains; empty for any.
    message: &'static str,
}

const KNOWN: &[Known] = &[
    // A step of a high note that is longer than the loop of its sample runs past the samples
    // (`fill_block_continuous` goes back by one loop at a time). `synth` catches it: the piece
    // fails with `Error::SoundFontPlayer`.
    Known {
        file: "/rustysynth-1.3.8/src/oscillator.rs",
        message: "index out of bounds",
    },
    // Codecs and containers of recordings. `audio` calls all of it where a panic is caught: the file
    // fails with `Error::Panicked`.
    Known {
        file: "/symphonia-",
        message: "",
    },
    // The reader of Parquet trusts what its writer wrote. `shard` lets it see bytes only under the
    // right seal, and catches what it panics with; the target makes the seal right on purpose.
    Known {
        file: "/parquet-60.1.0/",
        message: "",
    },
    Known {
        file: "/arrow-",
        message: "",
    },
];

/// Whether `panic` is one of those.
pub fn is_known(panic: &PanicHookInfo<'_>) -> bool {
    let file = panic.location().map_or("", |place| place.file());
    let payload = panic.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or_default();
    KNOWN
        .iter()
        .any(|known| file.contains(known.file) && message.contains(known.message))
}
