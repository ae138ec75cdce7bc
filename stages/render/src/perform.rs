//! From a performance to the synthesiser's notes, and SoundFonts from disk.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use score::{NoteEvent, Performance};
use synth::{MAX_GAIN, Note, Sound, SoundFont};

use crate::error::Error;

/// The notes of a performance.
pub(crate) fn notes(performance: &Performance) -> Vec<Note> {
    performance.events.iter().map(note).collect()
}

fn note(event: &NoteEvent) -> Note {
    let sound = if event.percussion {
        Sound::Drum(event.pitch.round().clamp(0.0, 127.0) as u8)
    } else {
        Sound::Program(event.program.min(127))
    };
    Note {
        onset: event.onset,
        duration: event.duration,
        // A transposition may leave the keyboard; what sounds there is beyond
        // hearing, but no reason to fail.
        pitch: event.pitch.clamp(0.0, 127.99),
        velocity: event.velocity.clamp(1, 127),
        gain: event.gain.clamp(0.0, MAX_GAIN),
        sound,
    }
}

/// The SoundFont at `path`, from memory if this process read it before.
///
/// A worker renders one score after the other, and reading a SoundFont of a
/// hundred megabytes takes longer than most scores. The path is one of the store,
/// where a name stands for one content.
pub(crate) fn sound_font(path: &Path) -> Result<SoundFont, Error> {
    static LAST: Mutex<Option<(PathBuf, SoundFont)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, font)) = &*last
        && known == path
    {
        return Ok(font.clone());
    }
    // Two fonts at a time could exceed the worker's memory.
    *last = None;
    let file = File::open(path).map_err(Error::SoundFont)?;
    let font = SoundFont::read(&mut BufReader::with_capacity(1 << 16, file))?;
    *last = Some((path.to_owned(), font.clone()));
    Ok(font)
}
