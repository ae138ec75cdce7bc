//! Why frames could not be made of an item.

use std::io;

use stage_core::StageError;

/// An error of the map half.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sound cannot be read.
    #[error("`pcm.wav` {0}")]
    Audio(#[source] audio::Error),
    /// Sound of more than one channel.
    #[error("`pcm.wav` has {got} channels, expected 1: is it connected to `decode` or `render`?")]
    Channels {
        /// The number of channels.
        got: u16,
    },
    /// Sound shorter than a frame, without padding.
    #[error(
        "has {samples} samples, fewer than the {n_fft} of one frame; set `center = true`, or leave the item out"
    )]
    TooShort {
        /// Samples there are.
        samples: u64,
        /// Samples that a frame takes.
        n_fft: usize,
    },
    /// The analysis refused.
    #[error("cannot be analysed: {0}")]
    Dsp(#[from] dsp::Error),
    /// The shard cannot be written, or not with these values.
    #[error("cannot write `frames.parquet`: {0}")]
    Shard(#[from] shard::Error),
    /// The shard's file cannot be made.
    #[error("creating `frames.parquet`")]
    Create(#[source] io::Error),
    /// Asked to stop, or no place in the output.
    #[error("{0}")]
    Stage(#[from] StageError),
}

impl From<audio::Error> for Error {
    fn from(error: audio::Error) -> Self {
        Self::Audio(error)
    }
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        match error {
            Error::Stage(error) => error,
            Error::Create(source) => Self::Io {
                context: "creating `frames.parquet`".to_owned(),
                source,
            },
            Error::Audio(audio::Error::Io { action, source }) => Self::Io {
                context: format!("cannot {action} `pcm.wav`"),
                source,
            },
            // Values that the chosen type cannot hold come again with the same sound;
            // whatever else keeps a shard from being written is the machine's.
            Error::Shard(shard::Error::NotFinite { .. })
            | Error::Audio(_)
            | Error::Channels { .. }
            | Error::TooShort { .. } => Self::Content(with_causes(&error)),
            Error::Shard(_) | Error::Dsp(_) => Self::Environment(with_causes(&error)),
        }
    }
}

/// The message with those causes that it does not contain already.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
