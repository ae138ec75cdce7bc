//! Note events, and the ranges they have to keep.

use crate::Error;

/// No note may end later than this, in seconds (24 hours).
pub const MAX_SECONDS: f64 = 24.0 * 3600.0;
/// Largest [`Note::gain`].
pub const MAX_GAIN: f32 = 4.0;

/// What sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sound {
    /// A melodic instrument: General MIDI program, 0 to 127 (General MIDI System
    /// Level 1, table 2, counted from 0).
    Program(u8),
    /// A percussion instrument: key of the General MIDI percussion map, 0 to 127
    /// (General MIDI System Level 1, table 3). Keys outside the map sound as a
    /// neutral click.
    Drum(u8),
}

/// One note.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// When it begins, in seconds; at least 0.
    pub onset: f64,
    /// How long it is held, in seconds; at least 0. Percussion rings on
    /// regardless.
    pub duration: f64,
    /// MIDI pitch, 0.0 to 127.99, where 69.0 is A4 = 440 Hz and fractions are
    /// microtones. Percussion ignores it.
    pub pitch: f64,
    /// How hard it is struck, 1 to 127: louder and brighter.
    pub velocity: u8,
    /// Amplitude factor, 0 to [`MAX_GAIN`], for what is louder but not brighter:
    /// channel volume and expression.
    pub gain: f32,
    /// Who plays it.
    pub sound: Sound,
}

impl Note {
    /// Checks every field; `index` names the note in the error.
    pub(crate) fn check(&self, index: usize) -> Result<(), Error> {
        let wrong = |field, got: String, expected| Error::Note {
            index,
            field,
            got,
            expected,
        };
        if !(self.onset >= 0.0 && self.onset.is_finite()) {
            return Err(wrong(
                "onset",
                format!("{} s", self.onset),
                "a finite time from 0 s",
            ));
        }
        if !(self.duration >= 0.0 && self.duration.is_finite()) {
            return Err(wrong(
                "duration",
                format!("{} s", self.duration),
                "a finite time from 0 s",
            ));
        }
        if !(0.0..128.0).contains(&self.pitch) {
            return Err(wrong(
                "pitch",
                self.pitch.to_string(),
                "a MIDI pitch from 0 to below 128",
            ));
        }
        if !(1..=127).contains(&self.velocity) {
            return Err(wrong("velocity", self.velocity.to_string(), "1 to 127"));
        }
        if !(0.0..=MAX_GAIN).contains(&self.gain) {
            return Err(wrong("gain", self.gain.to_string(), "a factor from 0 to 4"));
        }
        match self.sound {
            Sound::Program(program) if program > 127 => {
                return Err(wrong("program", program.to_string(), "0 to 127"));
            }
            Sound::Drum(key) if key > 127 => {
                return Err(wrong("percussion key", key.to_string(), "0 to 127"));
            }
            Sound::Program(_) | Sound::Drum(_) => {}
        }
        if self.end() > MAX_SECONDS {
            return Err(Error::TooLong {
                index,
                end: self.end(),
                max: MAX_SECONDS,
            });
        }
        Ok(())
    }

    /// When the key is let go, in seconds.
    pub(crate) fn end(&self) -> f64 {
        self.onset + self.duration
    }
}

/// Frequency in Hz of a MIDI pitch in equal temperament, A4 = 440 Hz.
pub(crate) fn frequency(pitch: f64) -> f64 {
    440.0 * ((pitch - 69.0) / 12.0).exp2()
}
