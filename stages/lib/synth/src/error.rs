//! What can be wrong with notes, options and SoundFonts.

use thiserror::Error;

/// Why nothing was rendered.
#[derive(Debug, Error)]
pub enum Error {
    /// A field of a note is outside its range, or not a number.
    #[error("note {index}: {field} is {got}, expected {expected}")]
    Note {
        /// Position of the note in the list that was given.
        index: usize,
        /// Name of the field of [`Note`](crate::Note).
        field: &'static str,
        /// Its value as text.
        got: String,
        /// The range, with its unit.
        expected: &'static str,
    },
    /// A field of the options is outside its range, or not a number.
    #[error("option `{option}` is {got}, expected {expected}")]
    Options {
        /// Name of the field of [`Options`](crate::Options).
        option: &'static str,
        /// Its value as text.
        got: String,
        /// The range, with its unit.
        expected: &'static str,
    },
    /// A note ends later than [`MAX_SECONDS`](crate::MAX_SECONDS).
    #[error("note {index} ends at {end:.1} s, expected at most {max:.0} s")]
    TooLong {
        /// Position of the note in the list that was given.
        index: usize,
        /// When it ends, in seconds.
        end: f64,
        /// The limit in seconds.
        max: f64,
    },
    /// The bytes are a SoundFont of version 3, whose samples are Ogg Vorbis.
    #[error(
        "the sound font is compressed (SF3, Ogg Vorbis samples), expected SF2: \
         convert it, for instance with `sf3convert -x font.sf3 font.sf2`"
    )]
    Sf3,
    /// The bytes are no SoundFont 2 file, or a damaged one.
    #[error("the sound font cannot be read, expected an SF2 file")]
    SoundFont(#[source] rustysynth::SoundFontError),
    /// A SoundFont 2 file whose parts do not fit together.
    #[error("the sound font is damaged or cut short: {what}; take another copy")]
    SoundFontDamaged {
        /// What does not fit, got and expected.
        what: String,
    },
    /// The SoundFont player gave up in the midst of a piece.
    #[error("the sound font cannot be played, {at:.1} s into the piece ({reason}): choose another")]
    SoundFontPlayer {
        /// Where in the piece, in seconds.
        at: f64,
        /// What the player said.
        reason: String,
    },
    /// The SoundFont's bytes cannot be had; says nothing about what they are.
    #[error("the sound font's file cannot be read")]
    SoundFontIo(#[source] std::io::Error),
    /// The bytes do not begin as a RIFF file of form `sfbk`.
    #[error("this is no sound font: expected a RIFF file of form `sfbk`, as SF2 files are")]
    NotASoundFont,
    /// The SoundFont player refused its settings.
    #[error("the sound font player refuses a sample rate of {rate} Hz, expected 16000 to 192000")]
    SoundFontRate {
        /// The rate that was asked for, in Hz.
        rate: u32,
    },
}
