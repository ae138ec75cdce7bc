//! All voices together: who begins, who sounds, who has to give way.

use crate::bank::BLOCK;
use crate::note::Note;
use crate::voice::Voice;

/// Most notes that sound at a time; beyond, the softest gives way.
pub const POLYPHONY: usize = 256;
/// Most voices that fade out after they gave way.
const FADING: usize = 64;

/// Plays notes with our own instruments.
#[derive(Debug)]
pub(crate) struct Orchestra {
    /// By onset.
    notes: Vec<Note>,
    /// The first note that has not begun.
    next: usize,
    voices: Vec<Voice>,
    rate: f64,
    level: f64,
    seed: u64,
    /// Samples played.
    now: u64,
}

impl Orchestra {
    /// Notes must be checked, and sorted by onset.
    pub(crate) fn new(notes: Vec<Note>, rate: f64, level: f64, seed: u64) -> Self {
        Self {
            notes,
            next: 0,
            voices: Vec::new(),
            rate,
            level,
            seed,
            now: 0,
        }
    }

    /// How many voices there are, with those that fade out.
    pub(crate) fn voices(&self) -> usize {
        self.voices.len()
    }

    /// Overwrites `block` with the next samples.
    pub(crate) fn render(&mut self, block: &mut [f32; BLOCK]) {
        block.fill(0.0);
        let end = self.now + BLOCK as u64;
        while let Some(note) = self.notes.get(self.next).copied() {
            let onset = (note.onset * self.rate).round() as u64;
            if onset >= end {
                break;
            }
            self.next += 1;
            let offset = onset.saturating_sub(self.now) as usize;
            self.begin(&note, offset.min(BLOCK - 1));
        }
        for voice in &mut self.voices {
            voice.render(block);
        }
        self.voices.retain(|voice| !voice.ended());
        self.now = end;
    }

    fn begin(&mut self, note: &Note, offset: usize) {
        if note.gain <= 0.0 || !self.make_room() {
            return;
        }
        let voice = Voice::new(note, offset, self.rate, self.level, self.seed);
        if let Some(group) = voice.choke() {
            for other in &mut self.voices {
                if other.choke() == Some(group) {
                    other.kill();
                }
            }
        }
        self.voices.push(voice);
    }

    /// Sees to it that one more voice may begin; false if all that sound have
    /// only just begun themselves.
    fn make_room(&mut self) -> bool {
        let fading = self.voices.iter().filter(|v| v.killed()).count();
        if self.voices.len() - fading < POLYPHONY {
            return true;
        }
        let softest = self
            .voices
            .iter_mut()
            .filter(|v| !v.killed() && v.peak().is_finite())
            .min_by(|a, b| prominence(a).total_cmp(&prominence(b)));
        let Some(voice) = softest else { return false };
        voice.kill();
        if fading >= FADING
            && let Some(oldest) = self.voices.iter().position(Voice::killed)
        {
            self.voices.remove(oldest);
        }
        true
    }
}

/// How much a voice would be missed.
fn prominence(voice: &Voice) -> f32 {
    let share = if voice.released() { 0.25 } else { 1.0 };
    voice.peak() * share
}
