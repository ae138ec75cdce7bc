//! Notes of a part to voices in which nothing overlaps, split at barlines.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::error::{Result, ScoreError};
use crate::limits::MAX_NOTES;
use crate::model::{Measure, Note, Part, Ticks};

/// Voices that notation programs allow on a staff.
const VOICES_PER_STAFF: usize = 4;

/// A chord, a note, or grace notes at one place: all that begins together in a
/// voice and lasts equally long.
pub(super) struct Chord<'a> {
    pub(super) onset: Ticks,
    pub(super) duration: Ticks,
    pub(super) notes: Vec<&'a Note>,
}

/// A chord, or what of it lies in one measure.
pub(super) struct Segment {
    /// Index into [`Voices::chords`].
    pub(super) chord: usize,
    /// Index of the voice, from 0.
    pub(super) voice: usize,
    pub(super) onset: Ticks,
    pub(super) duration: Ticks,
    /// The chord goes on from before this segment, or beyond it.
    pub(super) continued: bool,
    pub(super) continues: bool,
}

/// A part laid out.
pub(super) struct Voices<'a> {
    pub(super) chords: Vec<Chord<'a>>,
    /// Segments of each measure by voice, then onset.
    pub(super) measures: Vec<Vec<Segment>>,
    /// Staff of each voice, from 1, where the notes themselves name none.
    pub(super) staves: Vec<u8>,
    /// Staves of the part.
    pub(super) staff_count: u8,
    /// Whether notes know their staves.
    pub(super) own_staves: bool,
}

/// Lays out `part`.
///
/// # Errors
/// When splitting at barlines makes more than twice [`MAX_NOTES`] pieces.
pub(super) fn lay_out<'a>(part: &'a Part, measures: &[Measure]) -> Result<Voices<'a>> {
    let own_staves = part.notes.iter().any(|n| n.voice != 0);
    let mut streams = Streams::default();
    let mut chords: Vec<Chord<'a>> = Vec::new();
    let mut homes: Vec<usize> = Vec::new();
    let mut notes = part.notes.as_slice();
    while let Some(first) = notes.first() {
        // All notes of one onset at a time.
        let count = notes.iter().take_while(|n| n.onset == first.onset).count();
        let (now, later) = notes.split_at(count);
        notes = later;
        let mut together: BTreeMap<(bool, u16, u16, Reverse<Ticks>), Vec<&'a Note>> =
            BTreeMap::new();
        for note in now {
            let after = note.grace.is_some_and(|g| g.after);
            let place = note.grace.map_or(u16::MAX, |g| g.index);
            // Grace notes first, then chords from long to short; a Nachschlag last.
            let key = (after, place, note.voice, Reverse(note.duration));
            together.entry(key).or_default().push(note);
        }
        let principals = now.iter().filter(|n| n.grace.is_none());
        let ends: BTreeMap<u16, Ticks> = principals
            .map(|n| (n.voice, n.onset.saturating_add(n.duration)))
            .collect();
        for ((after, ..), mut notes) in together {
            notes.sort_by_key(|n| n.pitch.key);
            let Some(head) = notes.first() else { continue };
            let duration = head.duration;
            // A Nachschlag stands where its principal ends.
            let end = ends.get(&head.voice).copied().filter(|_| after);
            let onset = end.unwrap_or(head.onset);
            homes.push(streams.place(head.voice, onset, duration, after));
            chords.push(Chord {
                onset,
                duration,
                notes,
            });
        }
    }
    let segments = split(&chords, &homes, measures)?;
    let staves: Vec<u8> = (0..streams.taken.len())
        .map(|v| u8::try_from(v / VOICES_PER_STAFF + 1).unwrap_or(u8::MAX))
        .collect();
    let staff_count = if own_staves {
        part.notes.iter().map(|n| n.staff).max().unwrap_or(1)
    } else {
        staves.last().copied().unwrap_or(1)
    };
    Ok(Voices {
        chords,
        measures: segments,
        staves,
        staff_count,
        own_staves,
    })
}

/// Voices and until when each is taken.
#[derive(Default)]
struct Streams {
    /// By voice of the source, the stream that is its own; not lent to others,
    /// so that voices stay whole.
    homes: BTreeMap<u16, usize>,
    /// By stream: until when it is taken, and whether it is some voice's own.
    taken: Vec<(Ticks, bool)>,
    busy: BinaryHeap<Reverse<(Ticks, usize)>>,
    /// Streams that are nobody's own and silent now.
    free: BTreeSet<usize>,
}

impl Streams {
    /// The stream of a chord: that of its voice, else the lowest that is free.
    fn place(&mut self, voice: u16, onset: Ticks, duration: Ticks, after: bool) -> usize {
        self.release(onset);
        let own = self.homes.get(&voice).copied();
        let fits = |s: &usize| after || self.taken.get(*s).is_none_or(|t| t.0 <= onset);
        let stream = match own.filter(fits) {
            Some(stream) => stream,
            None if voice != 0 && own.is_none() => {
                let stream = self.open(true);
                self.homes.insert(voice, stream);
                stream
            }
            None => self.free.pop_first().unwrap_or_else(|| self.open(false)),
        };
        if let Some((until, owned)) = self.taken.get_mut(stream) {
            *until = (*until).max(onset.saturating_add(duration));
            if !*owned {
                self.busy.push(Reverse((*until, stream)));
            }
        }
        stream
    }

    fn release(&mut self, onset: Ticks) {
        while let Some(&Reverse((end, stream))) = self.busy.peek() {
            if end > onset {
                break;
            }
            self.busy.pop();
            self.free.insert(stream);
        }
    }

    fn open(&mut self, owned: bool) -> usize {
        self.taken.push((0, owned));
        self.taken.len() - 1
    }
}

/// Cuts chords at barlines.
fn split(chords: &[Chord<'_>], homes: &[usize], measures: &[Measure]) -> Result<Vec<Vec<Segment>>> {
    let mut out: Vec<Vec<Segment>> = Vec::new();
    out.resize_with(measures.len(), Vec::new);
    let mut total = 0_usize;
    for (index, (chord, &voice)) in chords.iter().zip(homes).enumerate() {
        let end = chord.onset.saturating_add(chord.duration);
        let after = chord
            .notes
            .first()
            .is_some_and(|n| n.grace.is_some_and(|g| g.after));
        // A Nachschlag at the barline belongs to the measure before it.
        let probe = if after {
            chord.onset.saturating_sub(1)
        } else {
            chord.onset
        };
        let first = measures
            .partition_point(|m| m.onset <= probe)
            .saturating_sub(1);
        let mut onset = chord.onset;
        for (number, measure) in measures.iter().enumerate().skip(first) {
            let last = number + 1 == measures.len();
            let until = if last {
                end
            } else {
                end.min(measure.onset.saturating_add(measure.length))
            };
            let Some(list) = out.get_mut(number) else {
                break;
            };
            list.push(Segment {
                chord: index,
                voice,
                onset,
                duration: until.saturating_sub(onset),
                continued: onset > chord.onset,
                continues: until < end,
            });
            total += chord.notes.len();
            if total > 2 * MAX_NOTES {
                return Err(ScoreError::TooLarge {
                    what: "number of notes split at barlines",
                    place: format!("measure `{}`", measure.number),
                    got: total as u64,
                    limit: 2 * MAX_NOTES as u64,
                });
            }
            onset = until;
            if until >= end {
                break;
            }
        }
    }
    for list in &mut out {
        // Stable: grace notes stay before their principal.
        list.sort_by_key(|s| (s.voice, s.onset));
    }
    Ok(out)
}
