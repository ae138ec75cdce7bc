//! The stages that this executable does.

mod predict;
mod train;

use stage_core::{KindEntry, Registry};

pub use predict::PredictJob;
pub use train::TrainJob;

/// The kinds that this worker knows.
pub fn registry() -> Registry {
    Registry::new([KindEntry::of::<TrainJob>(), KindEntry::of::<PredictJob>()])
}

/// The class of machines that compute the same bytes as this worker.
pub fn class() -> String {
    format!("{}-libtorch2.11.0", stage_core::machine_class())
}
