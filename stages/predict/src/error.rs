//! What can go wrong on the way from sampled frames to sound.

use stage_core::StageError;

/// An error of the finish part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The transform, phase reconstruction or their memory.
    #[error("making sound of the frames")]
    Dsp(#[from] dsp::Error),
    /// The sound file.
    #[error("writing the sound")]
    Audio(#[from] audio::Error),
    /// Sampled frames or the prompt's could not be read.
    #[error("reading frames")]
    Shard(#[from] shard::Error),
    /// The picture.
    #[error("drawing the spectrogram")]
    Plot(#[from] plot::Error),
    /// A sample or prompt that is not what it should be.
    #[error("{0}")]
    Input(String),
    /// Anything that the stage's surroundings say.
    #[error(transparent)]
    Stage(#[from] StageError),
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        match error {
            Error::Stage(error) => error,
            Error::Dsp(dsp::Error::Stopped) => Self::Cancelled,
            Error::Input(_) => Self::Content(text),
            Error::Shard(error) if error.is_damage() => Self::Damaged(text),
            _ => Self::Environment(text),
        }
    }
}
