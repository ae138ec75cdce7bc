//! General MIDI's instruments: from program or percussion key to a patch.
//!
//! Five mechanisms make them all: strings that are struck or plucked
//! ([`string`]), bars, bells and membranes ([`modes`]), tones that last while
//! they are blown, bowed or fed ([`tone`]), frequency modulation ([`fm`]) and
//! noises ([`effects`], [`drums`]). A program is a row of one of their tables.

mod drums;
mod effects;
mod fm;
mod modes;
mod string;
mod tone;

use crate::note::Sound;
use crate::patch::{Key, Patch};

/// The patch that plays `sound` on `key`.
pub(crate) fn patch_for(sound: Sound, key: &mut Key) -> Patch {
    match sound {
        Sound::Drum(number) => drums::patch(number, key),
        Sound::Program(program) => program_patch(program, key),
    }
}

fn program_patch(program: u8, key: &mut Key) -> Patch {
    if let Some(spec) = string::spec(program) {
        string::patch(spec, key)
    } else if let Some(spec) = modes::spec(program) {
        modes::patch(spec, key)
    } else if let Some(spec) = fm::spec(program) {
        fm::patch(spec, key)
    } else if let Some(spec) = tone::spec(program) {
        tone::patch(spec, key)
    } else {
        effects::patch(program, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::Note;

    #[test]
    fn every_program_has_exactly_one_mechanism() {
        for program in 0..=127 {
            let owners = [
                string::spec(program).is_some(),
                modes::spec(program).is_some(),
                fm::spec(program).is_some(),
                tone::spec(program).is_some(),
                effects::owns(program),
            ];
            let count = owners.iter().filter(|&&o| o).count();
            assert_eq!(count, 1, "program {program}: {owners:?}");
        }
    }

    #[test]
    fn every_key_of_every_program_sounds() {
        for program in 0..=127 {
            for pitch in [0.0, 21.0, 60.5, 108.0, 127.9] {
                let note = Note {
                    onset: 0.0,
                    duration: 1.0,
                    pitch,
                    velocity: 64,
                    gain: 1.0,
                    sound: Sound::Program(program),
                };
                let mut key = Key::new(&note, 44_100.0, 0.1, 0);
                let patch = patch_for(note.sound, &mut key);
                assert!(
                    !patch.bank.is_empty() || !patch.noises.is_empty(),
                    "program {program} at {pitch}"
                );
            }
        }
    }
}
