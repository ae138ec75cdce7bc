//! Continues prompts with a trained model, and makes sound and pictures of it.
//!
//! Two parts, so that another sound format or phase method samples nothing again:
//!
//! - **whole** (in `pipeline-torch`): model and prompts → one shard of sampled frames per prompt
//!   and variation, [`sample_name`].
//! - **finish** (here): sampled frames → `audio.wav` or `audio.flac`, `spectrogram.png` and
//!   `about.json` per prompt and variation; the prompt's own sound leads into it.
//!
//! The prompt's true phase comes from its sound (`pcm.wav` in the prompt's artifact or on port
//! `sound`), else from a column `phase` of its frames; with neither, its phase is reconstructed
//! like the rest's.

#![warn(missing_docs)]

mod error;
mod params;
mod phase;
mod prompt;
mod sound;

use stage_core::{
    Context, Delivery, Estimate, Host, Inputs, Kind, Needs, Output, ParamError, Part, Port,
    PortTakes, Stage, StageError,
};

pub use error::Error;
pub use params::{Container, Depth, MAX_FRAMES, PhaseMethod, PhaseStart, Predict};
pub use prompt::{FRAMES, PCM};

/// The executable that samples.
pub const PROGRAM: &str = "pipeline-torch";

/// Metadata key of a sample: how many of the prompt's frames the model read.
pub const PROMPT_FRAMES: &str = "prompt_frames";
/// Metadata key of a sample: the step of the model.
pub const MODEL_STEP: &str = "model_step";

/// The file of the sampled frames in the whole part's artifact; prompts and variations are
/// counted from 1.
pub fn sample_name(prompt: usize, variation: u32) -> String {
    format!("samples/{prompt}-{variation}.parquet")
}

impl Kind for Predict {
    const KIND: &'static str = "predict";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "continues prompts with a trained model";
    const DELIVERY: Delivery = Delivery::Prompted;
}

impl Stage for Predict {
    fn parts(&self) -> &'static [Part] {
        &[Part::Whole, Part::Finish]
    }

    fn gives(&self, _: Part) -> &'static str {
        "continuations"
    }

    fn needs(&self, part: Part) -> Needs {
        Needs {
            device: part == Part::Whole,
            threads: None,
        }
    }

    fn ports(&self) -> &'static [Port] {
        const PORTS: &[Port] = &[
            Port {
                name: "prompt",
                takes: PortTakes::Items,
                of: &["rows"],
                required: true,
                about: "frames of what to continue, as `featurize` makes them",
            },
            Port {
                name: "model",
                takes: PortTakes::Artifact,
                of: &["model"],
                required: true,
                about: "a trained model",
            },
            Port {
                name: "sound",
                takes: PortTakes::Items,
                of: &["sound"],
                required: false,
                about: "sound of the prompts, for their true phase",
            },
        ];
        PORTS
    }

    fn host(&self, part: Part) -> Host {
        match part {
            Part::Finish => Host::Engine,
            _ => Host::Program(PROGRAM),
        }
    }

    fn validate(&self) -> Result<(), ParamError> {
        self.check()
    }

    fn unread_by(&self, part: Part) -> &'static [&'static str] {
        match part {
            Part::Finish => params::UNREAD_BY_FINISH,
            _ => params::UNREAD_BY_WHOLE,
        }
    }

    fn estimate(&self, part: Part, _extent: f64) -> Estimate {
        let frames = self
            .frames
            .map_or(self.seconds * 86.0, |frames| frames as f64);
        let all = frames * f64::from(self.variations);
        match part {
            Part::Finish => Estimate {
                seconds: all * 513.0 * f64::from(self.iterations) * 3e-8,
                bytes: all * 512.0 + 200e3,
            },
            _ => Estimate {
                seconds: all * 5e-3,
                bytes: all * 2e3,
            },
        }
    }

    fn finish(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<(), StageError> {
        sound::finish(self, inputs, out, cx).map_err(StageError::from)
    }
}
