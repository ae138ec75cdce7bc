//! Notes on the written grid, ties merged: the view to inspect and compare.

use std::collections::HashMap;

use crate::model::{Note, Part, Pitch, Score, Ticks};

/// Most ties of one pitch open at a time; more are dropped, the oldest first,
/// lest the search become quadratic.
const MAX_OPEN: usize = 64;

/// A note as written, from where it is struck to where its last tie ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridNote {
    /// Index into [`Score::parts`].
    pub part: usize,
    /// Voice within the part; 0 where there are none.
    pub voice: u16,
    /// First tick.
    pub onset: Ticks,
    /// Duration in ticks; 0 for a grace note.
    pub duration: Ticks,
    /// Sounding pitch, or the drum.
    pub pitch: Pitch,
    /// How loud, 1 to 127.
    pub velocity: u8,
    /// General MIDI program, 0 to 127.
    pub program: u8,
    /// Whether the pitch names a drum.
    pub percussion: bool,
    /// MIDI channel 0 to 15, if the source names one.
    pub channel: Option<u8>,
}

impl Score {
    /// The struck notes in order of parts, then of onset, ties merged, repeats
    /// *not* unfolded.
    pub fn notes(&self) -> impl Iterator<Item = GridNote> + '_ {
        self.parts.iter().enumerate().flat_map(|(index, part)| {
            let merged = merge_ties(part.notes.iter().map(|note| (note, 0)));
            merged
                .into_iter()
                .map(move |struck| grid_note(index, part, &struck))
        })
    }
}

/// A note struck at `onset` and held, over its ties, for `duration`.
pub(crate) struct Struck<'a> {
    pub(crate) note: &'a Note,
    pub(crate) onset: Ticks,
    pub(crate) duration: Ticks,
    /// The last of the tied pieces, which carries the fermata.
    pub(crate) last: &'a Note,
}

/// Joins tied notes; each comes with the ticks to add to its written onset.
///
/// A tie holds when it ends where the next piece of the same pitch begins,
/// rather in its own voice, else in any: engravers let ties change voice. A
/// piece whose beginning is missing, as after a jump, is struck.
pub(crate) fn merge_ties<'a>(notes: impl Iterator<Item = (&'a Note, Ticks)>) -> Vec<Struck<'a>> {
    let mut out: Vec<Struck<'a>> = Vec::with_capacity(notes.size_hint().0);
    // Indices into `out` of notes whose tie is open, by pitch.
    let mut open: HashMap<(u8, u32), Vec<usize>> = HashMap::new();
    for (note, shift) in notes {
        let onset = note.onset.saturating_add(shift);
        let key = (note.pitch.key, note.pitch.cents.to_bits());
        let mut held = None;
        if note.tie_stop
            && let Some(candidates) = open.get_mut(&key)
        {
            let ends_here = |&&i: &&usize| {
                out.get(i)
                    .is_some_and(|s| s.onset.saturating_add(s.duration) == onset)
            };
            let same_voice = |&&i: &&usize| out.get(i).is_some_and(|s| s.last.voice == note.voice);
            let found = candidates
                .iter()
                .filter(ends_here)
                .find(same_voice)
                .or_else(|| candidates.iter().find(ends_here))
                .copied();
            if let Some(index) = found {
                candidates.retain(|&i| i != index);
                held = Some(index);
            }
        }
        let index = match held {
            Some(index) => {
                if let Some(struck) = out.get_mut(index) {
                    struck.duration = struck.duration.saturating_add(note.duration);
                    struck.last = note;
                }
                index
            }
            None => {
                out.push(Struck {
                    note,
                    onset,
                    duration: note.duration,
                    last: note,
                });
                out.len() - 1
            }
        };
        if note.tie_start && note.grace.is_none() {
            let waiting = open.entry(key).or_default();
            // Ties that found no continuation would pile up and make the search slow.
            waiting.retain(|&i| {
                out.get(i)
                    .is_some_and(|s| s.onset.saturating_add(s.duration) >= onset)
            });
            if waiting.len() >= MAX_OPEN {
                waiting.remove(0);
            }
            waiting.push(index);
        }
    }
    out
}

fn grid_note(index: usize, part: &Part, struck: &Struck<'_>) -> GridNote {
    let note = struck.note;
    let instrument = part.instruments.get(usize::from(note.instrument));
    GridNote {
        part: index,
        voice: note.voice,
        onset: struck.onset,
        duration: struck.duration,
        pitch: note.pitch,
        velocity: note.velocity,
        program: instrument.map_or(0, |i| i.program),
        percussion: instrument.is_some_and(|i| i.percussion),
        channel: instrument.and_then(|i| i.channel),
    }
}
