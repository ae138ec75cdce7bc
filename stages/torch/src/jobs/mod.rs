//! The stages that this executable does.

mod predict;
mod train;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stage_core::{
    Context, Inputs, Kind, KindEntry, Output, Part, Port, Registry, Stage, StageError,
};
use stage_predict::Predict;
use stage_train::Train;

use crate::{Error, Result};

/// The part of a stage that needs libtorch. Its parameters, ports and checks are in a crate
/// without.
pub trait Work: Kind + Stage + Default + Serialize + DeserializeOwned {
    /// Does the whole part.
    ///
    /// # Errors
    /// Those of the stage.
    fn work(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<()>;
}

/// A stage's parameters with its [`Work`].
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Job<P>(pub P);

impl<P: Work> Kind for Job<P> {
    const KIND: &'static str = P::KIND;
    const VERSION: u32 = P::VERSION;
    const ABOUT: &'static str = P::ABOUT;
}

impl<P: Work> Stage for Job<P> {
    fn parts(&self) -> &'static [Part] {
        self.0.parts()
    }

    fn ports(&self) -> &'static [Port] {
        self.0.ports()
    }

    fn gives(&self, part: Part) -> &'static str {
        self.0.gives(part)
    }

    fn reduce(
        &self,
        inputs: &Inputs,
        out: &mut Output,
        cx: &Context,
    ) -> std::result::Result<(), StageError> {
        // What fails here is this program or this machine, not what it was given to read.
        catch_unwind(AssertUnwindSafe(|| self.0.work(inputs, out, cx)))
            .unwrap_or_else(|payload| {
                let text = stage_core::worker::panic_text(&*payload);
                Err(Error::Internal(format!("panic: {text}")))
            })
            .map_err(StageError::from)
    }
}

/// The kinds that this worker knows.
pub fn registry() -> Registry {
    Registry::new([
        KindEntry::of::<Job<Train>>(),
        KindEntry::of::<Job<Predict>>(),
    ])
}

/// The class of machines that compute the same bytes as this worker.
pub fn class() -> String {
    format!("{}-libtorch2.11.0", stage_core::machine_class())
}
