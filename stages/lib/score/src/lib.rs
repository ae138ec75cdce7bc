//! Scores: MusicXML and MIDI, read, written and performed.
//!
//! Both formats meet in one [`Score`]: parts of notes on an exact grid of
//! ticks, at concert pitch, with the marks that change what sounds. From it
//! come three views:
//!
//! - [`Score::notes`], notes on the written grid with ties merged, to inspect;
//! - [`Score::performance`], note events in seconds with repeats unfolded and
//!   everything applied that a player would do, to render;
//! - [`write_musicxml`], [`write_mxl`] and [`write_midi`].
//!
//! Readers take foreign bytes: nothing in them panics, allocates without bound
//! or runs without end ([`limits`]). What they can mend they mend and report in
//! [`Score::warnings`].

mod error;
mod flatten;
mod gm;
pub mod limits;
mod midi;
mod model;
mod musicxml;
mod notes;
mod performance;
mod unfold;

#[cfg(test)]
mod tests;

pub use error::{Result, ScoreError};
pub use midi::write_midi;
pub use model::{
    Articulation, Dynamic, DynamicKind, Ending, Grace, Instrument, Jumps, Key, Measure, Note,
    Ornament, Part, Pedal, Pitch, Score, Spelling, Tempo, Ticks, TimeSignature,
};
pub use musicxml::{write_musicxml, write_mxl};
pub use notes::GridNote;
pub use performance::{NoteEvent, Performance};

/// A file format of scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// MusicXML text (.musicxml, .xml).
    MusicXml,
    /// Compressed MusicXML (.mxl).
    Mxl,
    /// Standard MIDI file (.mid), bare or in a RIFF wrapper (.rmi).
    Midi,
}

/// The format of `bytes` by their contents; `None` if they are no score.
///
/// A zip archive counts as compressed MusicXML before it is looked into.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    if midi::find_header(bytes).is_some() {
        Some(Format::Midi)
    } else if bytes.starts_with(b"PK\x03\x04") {
        Some(Format::Mxl)
    } else if musicxml::looks_like(bytes) {
        Some(Format::MusicXml)
    } else {
        None
    }
}

/// Reads a score in any of the formats, told apart by contents.
///
/// # Errors
/// When the bytes are no score, are damaged beyond mending, or ask for more
/// than [`limits`] allow. Errors in MusicXML name the part and measure.
pub fn read(bytes: &[u8]) -> Result<Score> {
    match sniff(bytes) {
        Some(Format::Midi) => midi::read(bytes),
        Some(Format::Mxl) => musicxml::read_mxl(bytes),
        Some(Format::MusicXml) => musicxml::read_text(bytes),
        None => Err(ScoreError::UnknownFormat { len: bytes.len() }),
    }
}
