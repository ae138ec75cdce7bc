//! Why a score could not be rendered.

use std::io;

use stage_core::StageError;
use thiserror::Error;

/// Why a score could not be rendered.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// The bytes are no score that can be read, or it cannot be performed.
    #[error("the score cannot be read")]
    Score(#[from] score::ScoreError),
    /// Nothing in the score sounds.
    #[error("the score has no notes to play")]
    NoNotes,
    /// All notes are too soft to be heard, or outside hearing.
    #[error(
        "the score renders to silence ({notes} notes, peak {peak_db:.0} dB of full scale): \
         are all its channels turned down?"
    )]
    Silent { notes: usize, peak_db: f64 },
    /// The piece is longer than the parameter allows.
    #[error(
        "the score lasts {seconds:.1} s, expected at most {max} s: raise `max_duration` if that is right"
    )]
    TooLong { seconds: f64, max: f64 },
    /// Notes, options or SoundFont that the synthesiser refuses.
    #[error(transparent)]
    Synth(#[from] synth::Error),
    /// The PCM cannot be written.
    #[error(transparent)]
    Audio(#[from] audio::Error),
    /// The SoundFont's file cannot be opened.
    #[error("opening the sound font")]
    SoundFont(#[source] io::Error),
}

impl From<Error> for StageError {
    fn from(error: Error) -> Self {
        let content = match &error {
            Error::Score(_) | Error::NoNotes | Error::Silent { .. } | Error::TooLong { .. } => true,
            Error::Synth(cause) => !matches!(cause, synth::Error::SoundFontIo(_)),
            Error::Audio(cause) => cause.is_content(),
            Error::SoundFont(_) => false,
        };
        // The causes' sentences belong to the reason that the user reads.
        let reason = chain(&error);
        if content {
            Self::Content(reason)
        } else {
            Self::Environment(reason)
        }
    }
}

/// The message with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
