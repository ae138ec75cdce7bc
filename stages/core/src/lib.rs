//! What a stage is, said once for the engine, the stages and the workers.
//!
//! A *stage* is a struct of parameters that can turn inputs into an artifact. The engine knows
//! stages only through [`Stage`] and [`Registry`]; a stage sees only its own fields, its inputs,
//! its output folder and its [`Context`]. This crate is a leaf: it imports nothing of ours, so
//! that stages never depend on the engine nor on one another.
//!
//! - [`Digest`], [`KeyHasher`]: contents and keys (BLAKE3-256).
//! - [`Tree`]: an artifact, names → digests.
//! - [`Stage`], [`Kind`], [`Part`], [`Port`]: what a stage declares and does.
//! - [`Input`], [`Inputs`], [`Output`], [`Context`]: what it is given.
//! - [`text`]: names of any bytes as text, and text that is safe to show.
//! - [`worker`]: the same stages served by another process, over JSON lines.

#![warn(missing_docs)]

mod context;
mod digest;
mod error;
mod event;
mod input;
mod output;
mod params;
mod stage;
pub mod text;
mod tree;
pub mod worker;

pub use context::{Cancel, Context, DeviceChoice, Preprocessing, Publisher, Sink};
pub use digest::{Digest, DigestParseError, KeyHasher, derive_seed};
pub use error::{FailureClass, StageError};
pub use event::{Event, NoteLevel};
pub use input::{FileId, Input, Inputs, ItemInput, SOURCE_FILE};
pub use output::{Output, SEALED_MODE};
pub use params::{FileParam, ParamError, canonical_json};
pub use stage::{
    Delivery, Estimate, FILES, Host, Kind, KindEntry, Needs, Parsed, Part, Port, PortTakes,
    Registry, Stage,
};
pub use tree::{Entry, Tree};

/// The class of machines that compute the same bytes as this one: architecture and SIMD level.
///
/// Low bits of floating-point kernels differ between SIMD levels, so the record of each action
/// holds the class that computed it. Libtorch's version and thread count are added by the worker
/// that uses it.
pub fn machine_class() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let level = if std::arch::is_x86_feature_detected!("avx512f") {
            "avx512"
        } else if std::arch::is_x86_feature_detected!("avx2") {
            "avx2"
        } else {
            "sse2"
        };
        format!("x86_64-{level}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.to_owned()
    }
}
