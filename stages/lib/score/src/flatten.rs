//! The score as played, still in ticks: repeats unfolded, ties merged, grace
//! notes and ornaments given time.
//!
//! Grace notes and ornaments follow the plainest reading of C. P. E. Bach's
//! *Versuch* (1753): an unslashed grace note (appoggiatura) takes its written
//! value from its principal, at most half of it, or two thirds of a dotted one;
//! slashed ones are short; trills begin on the main note and alternate
//! with the next degree of the key.

use std::collections::HashMap;

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_NOTES, MAX_SECONDS};
use crate::model::{Note, Ornament, Part, Score, Tempo, Ticks};
use crate::notes::{Struck, merge_ties};
use crate::unfold::{Run, runs};

/// Longest a slashed grace note sounds, in quarter notes: a thirty-second.
const SHORT_GRACE: f64 = 0.125;
/// Strokes of trills per quarter note.
const TRILL_RATE: f64 = 8.0;
/// Most notes that one ornament is played as.
const MAX_STROKES: usize = 512;
/// Tempo where none is given, in quarter notes per minute (MIDI 1.0, MusicXML).
pub(crate) const DEFAULT_TEMPO: f64 = 120.0;

/// A note as played; times in ticks, whole except for grace notes and ornaments.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Played<'a> {
    pub(crate) note: &'a Note,
    pub(crate) onset: f64,
    pub(crate) duration: f64,
    /// Sounding key; differs from the note's in ornaments.
    pub(crate) key: u8,
    /// Velocity with accents applied, 1 to 127.
    pub(crate) velocity: u8,
    /// The written piece on which the note ends, for its fermata.
    pub(crate) last: &'a Note,
    /// Written tick at which the last piece begins as played.
    pub(crate) last_onset: f64,
}

/// A part as played.
pub(crate) struct PlayedPart<'a> {
    pub(crate) part: &'a Part,
    pub(crate) notes: Vec<Played<'a>>,
    /// Pedal movements, ascending, in played ticks.
    pub(crate) pedals: Vec<(Ticks, bool)>,
    /// Fermatas over rests as (onset, duration) in played ticks.
    pub(crate) fermatas: Vec<(Ticks, Ticks)>,
}

/// The whole score as played.
pub(crate) struct Flat<'a> {
    pub(crate) parts: Vec<PlayedPart<'a>>,
    /// Tempo changes, ascending, the first at tick 0.
    pub(crate) tempos: Vec<(Ticks, f64)>,
    pub(crate) runs: Vec<Run>,
}

/// Unfolds and realises `score`.
pub(crate) fn flatten(score: &Score) -> Result<Flat<'_>> {
    let runs = runs(score)?;
    let mut total = 0_usize;
    let mut parts = Vec::with_capacity(score.parts.len());
    for part in &score.parts {
        total = total.saturating_add(count(&part.notes, &runs));
        check_notes(total)?;
        let unfolded = runs.iter().flat_map(|run| {
            let shift = run.shift();
            within(&part.notes, run, |n| n.onset)
                .iter()
                .map(move |note| (note, shift))
        });
        let notes = realise(score, merge_ties(unfolded));
        total = total.saturating_add(notes.len());
        check_notes(total)?;
        let pedals = project(&part.pedals, &runs, |p| p.onset, |at, p| (at, p.down));
        let fermatas = project_spans(&part.fermatas, &runs);
        parts.push(PlayedPart {
            part,
            notes,
            pedals,
            fermatas,
        });
    }
    let flat = Flat {
        parts,
        tempos: tempos(score, &runs),
        runs,
    };
    flat.check_length(score.divisions)?;
    Ok(flat)
}

/// `items` whose written onset lies in `run`; they ascend by onset.
pub(crate) fn within<'t, T>(items: &'t [T], run: &Run, onset: impl Fn(&T) -> Ticks) -> &'t [T] {
    let from = items.partition_point(|item| onset(item) < run.start);
    let to = items.partition_point(|item| onset(item) < run.end);
    items.get(from..to.max(from)).unwrap_or(&[])
}

fn count(notes: &[Note], runs: &[Run]) -> usize {
    runs.iter()
        .map(|run| within(notes, run, |n| n.onset).len())
        .fold(0, usize::saturating_add)
}

fn check_notes(total: usize) -> Result<()> {
    // Twice, because a part is counted as written and as realised.
    if total <= 2 * MAX_NOTES {
        return Ok(());
    }
    Err(ScoreError::TooLarge {
        what: "number of notes with repeats",
        place: "the piece".to_owned(),
        got: (total / 2) as u64,
        limit: MAX_NOTES as u64,
    })
}

/// Copies point events into played time. At each jump the state in force at
/// the written place is stated anew.
fn project<T, U>(
    items: &[T],
    runs: &[Run],
    onset: impl Fn(&T) -> Ticks,
    make: impl Fn(Ticks, &T) -> U,
) -> Vec<U> {
    let mut out = Vec::new();
    for run in runs {
        let from = items.partition_point(|item| onset(item) < run.start);
        if let Some(before) = from.checked_sub(1).and_then(|i| items.get(i)) {
            out.push(make(run.onset, before));
        }
        let inside = within(items, run, &onset);
        out.extend(
            inside
                .iter()
                .map(|item| make(onset(item).saturating_add(run.shift()), item)),
        );
        if out.len() > 4 * MAX_NOTES {
            break;
        }
    }
    out
}

fn project_spans(spans: &[(Ticks, Ticks)], runs: &[Run]) -> Vec<(Ticks, Ticks)> {
    let each = runs.iter().flat_map(|run| {
        let inside = within(spans, run, |span| span.0).iter();
        inside.map(|span| (span.0.saturating_add(run.shift()), span.1))
    });
    each.take(MAX_NOTES).collect()
}

/// The tempo map as played; of changes at one tick the last counts.
fn tempos(score: &Score, runs: &[Run]) -> Vec<(Ticks, f64)> {
    let first = Tempo {
        onset: Ticks::MIN,
        quarters_per_minute: DEFAULT_TEMPO,
    };
    let written: Vec<Tempo> = std::iter::once(first)
        .chain(score.tempos.iter().copied())
        .collect();
    let mut map: Vec<(Ticks, f64)> = Vec::new();
    for (at, tempo) in project(
        &written,
        runs,
        |t| t.onset,
        |at, t| (at, t.quarters_per_minute),
    ) {
        match map.last_mut() {
            Some(last) if last.0 == at => last.1 = tempo,
            Some(last) if last.1.to_bits() == tempo.to_bits() => {}
            _ => map.push((at, tempo)),
        }
    }
    map
}

impl Flat<'_> {
    /// Refuses a piece that would play for more than a day.
    fn check_length(&self, divisions: u32) -> Result<()> {
        let ends = self
            .parts
            .iter()
            .flat_map(|p| &p.notes)
            .map(|n| n.onset + n.duration);
        let end = ends.fold(0.0, f64::max);
        let mut seconds = 0.0;
        let mut from = self.tempos.iter().peekable();
        while let Some(&(at, tempo)) = from.next() {
            let until = from.peek().map_or(end, |next| (next.0 as f64).min(end));
            seconds += (until - at as f64).max(0.0) * 60.0 / (tempo * f64::from(divisions));
        }
        if seconds <= MAX_SECONDS {
            return Ok(());
        }
        Err(ScoreError::TooLarge {
            what: "duration in seconds, repeats unfolded,",
            place: "the piece".to_owned(),
            got: seconds as u64,
            limit: MAX_SECONDS as u64,
        })
    }

    /// Played tick at which the piece ends, rests included.
    pub(crate) fn end(&self, score: &Score) -> Ticks {
        self.runs.last().map_or(0, |run| {
            let written = run.end.min(score.end).max(run.start);
            written.saturating_add(run.shift())
        })
    }

    /// Whether every time is a whole tick of the written grid.
    pub(crate) fn on_grid(&self) -> bool {
        let whole = |x: f64| x.fract() == 0.0;
        let notes = self.parts.iter().flat_map(|p| &p.notes);
        notes
            .into_iter()
            .all(|n| whole(n.onset) && whole(n.duration))
    }
}

/// Gives grace notes and ornaments time, sorted by onset.
fn realise<'a>(score: &'a Score, struck: Vec<Struck<'a>>) -> Vec<Played<'a>> {
    let has_graces = struck.iter().any(|s| s.note.grace.is_some());
    let mut notes: Vec<Played<'a>> = Vec::with_capacity(struck.len());
    notes.extend(struck.iter().map(|s| played(s)));
    if has_graces {
        place_graces(score, &mut notes);
    }
    if notes.iter().any(|n| n.note.ornament.is_some()) {
        notes = play_ornaments(score, notes);
    }
    notes.sort_by(|a, b| a.onset.total_cmp(&b.onset).then(a.key.cmp(&b.key)));
    notes
}

fn played<'a>(struck: &Struck<'a>) -> Played<'a> {
    let (onset, duration) = (struck.onset as f64, struck.duration as f64);
    Played {
        note: struck.note,
        onset,
        duration,
        key: struck.note.pitch.key,
        velocity: accented(struck.note),
        last: struck.last,
        last_onset: onset + duration - struck.last.duration as f64,
    }
}

/// Velocity with accents: a quarter louder, a marcato a half.
fn accented(note: &Note) -> u8 {
    let factor = match (note.articulation.marcato, note.articulation.accent) {
        (true, _) => 1.5,
        (false, true) => 1.25,
        (false, false) => 1.0,
    };
    (f64::from(note.velocity) * factor)
        .round()
        .clamp(1.0, 127.0) as u8
}

/// The grace notes before (or after) one principal of a voice.
struct GraceGroup {
    graces: Vec<usize>,
    principals: Vec<usize>,
}

/// Moves grace notes to their place and shortens the notes they take time from.
fn place_graces(score: &Score, notes: &mut [Played<'_>]) {
    let quarter = f64::from(score.divisions);
    // By voice, onset, and whether they follow their principal.
    let mut groups: HashMap<(u16, i64, bool), GraceGroup> = HashMap::new();
    for (index, n) in notes.iter().enumerate() {
        let Some(grace) = n.note.grace else { continue };
        let key = (n.note.voice, n.onset as i64, grace.after);
        let group = groups.entry(key).or_insert_with(|| GraceGroup {
            graces: Vec::new(),
            principals: Vec::new(),
        });
        group.graces.push(index);
    }
    // The notes of each voice by where they end, for what is taken from before.
    let mut ends: HashMap<(u16, i64), Vec<usize>> = HashMap::new();
    for (index, n) in notes.iter().enumerate() {
        if n.note.grace.is_some() {
            continue;
        }
        for after in [false, true] {
            if let Some(group) = groups.get_mut(&(n.note.voice, n.onset as i64, after)) {
                group.principals.push(index);
            }
        }
        ends.entry((n.note.voice, (n.onset + n.duration) as i64))
            .or_default()
            .push(index);
    }
    let mut keys: Vec<_> = groups.keys().copied().collect();
    keys.sort_unstable();
    for key in keys {
        let Some(group) = groups.get(&key) else {
            continue;
        };
        let previous = ends.get(&(key.0, key.1)).map_or(&[][..], Vec::as_slice);
        place_group(notes, group, previous, quarter);
    }
}

fn place_group(notes: &mut [Played<'_>], group: &GraceGroup, previous: &[usize], quarter: f64) {
    let graces: Vec<_> = group
        .graces
        .iter()
        .filter_map(|&i| Some((i, notes.get(i)?.note.grace?)))
        .collect();
    let Some(&(first, head)) = graces.first() else {
        return;
    };
    let slots = graces
        .iter()
        .map(|(_, g)| usize::from(g.index))
        .max()
        .unwrap_or(0)
        + 1;
    // Written length of each slot in quarter notes; slashed ones are short.
    let mut lengths = vec![0.0_f64; slots.min(graces.len())];
    for (_, grace) in &graces {
        let slot = usize::from(grace.index).min(lengths.len().saturating_sub(1));
        let nominal = f64::from(grace.quarters).clamp(0.03125, 4.0);
        if let Some(length) = lengths.get_mut(slot) {
            *length = if grace.slash || head.after {
                nominal.min(SHORT_GRACE)
            } else {
                nominal
            };
        }
    }
    let wanted = lengths.iter().sum::<f64>() * quarter;
    let at = notes.get(first).map_or(0.0, |n| n.onset);
    let shortest = |ids: &[usize], notes: &[Played<'_>]| {
        ids.iter()
            .filter_map(|&i| Some(notes.get(i)?.duration))
            .reduce(f64::min)
    };
    let from_previous = head.steal_previous.is_some();
    // Room that may be taken, and where the group ends.
    let (room, end, shorten, delay) = if head.after {
        let held = shortest(&group.principals, notes).unwrap_or(quarter);
        (held / 2.0, at + held, &group.principals[..], false)
    } else if from_previous && !previous.is_empty() {
        let held = shortest(previous, notes).unwrap_or(quarter);
        let share = f64::from(head.steal_previous.unwrap_or(0.5)).clamp(0.0, 0.9);
        (
            held * if share > 0.0 { share } else { 0.5 },
            at,
            previous,
            false,
        )
    } else {
        let held = shortest(&group.principals, notes).unwrap_or(quarter);
        let dotted = (held / quarter).log2().fract() != 0.0;
        let share = if head.slash || !dotted {
            0.5
        } else {
            2.0 / 3.0
        };
        (held * share, at, &group.principals[..], true)
    };
    let taken = wanted.min(room);
    let scale = if wanted > 0.0 { taken / wanted } else { 0.0 };
    let start = if delay { at } else { end - taken };
    // Where each slot begins, in quarter notes.
    let begins: Vec<f64> = lengths
        .iter()
        .scan(0.0, |at, length| {
            let begin = *at;
            *at += length;
            Some(begin)
        })
        .collect();
    for (index, grace) in &graces {
        let slot = usize::from(grace.index).min(lengths.len().saturating_sub(1));
        let before = begins.get(slot).copied().unwrap_or(0.0);
        let length = lengths.get(slot).copied().unwrap_or(0.0);
        if let Some(n) = notes.get_mut(*index) {
            n.onset = start + before * quarter * scale;
            n.duration = (length * quarter * scale).max(quarter / 64.0);
            n.last_onset = n.onset;
        }
    }
    for &index in shorten {
        if let Some(n) = notes.get_mut(index) {
            n.duration -= taken;
            if delay {
                n.onset += taken;
            }
        }
    }
}

/// Replaces ornamented notes by what is played.
fn play_ornaments<'a>(score: &Score, notes: Vec<Played<'a>>) -> Vec<Played<'a>> {
    let quarter = f64::from(score.divisions);
    let mut out = Vec::with_capacity(notes.len());
    for n in notes {
        let Some(ornament) = n.note.ornament else {
            out.push(n);
            continue;
        };
        let fifths = fifths_at(score, n.note.onset);
        let (up, down) = (neighbour(n.key, fifths, 1), neighbour(n.key, fifths, -1));
        let main = n.key;
        let short = (n.duration / 4.0).min(quarter / 8.0);
        let rest = |strokes: f64| n.duration - strokes * short;
        let strokes: Vec<(u8, f64)> = match ornament {
            Ornament::Trill => {
                let pairs = (n.duration / quarter * TRILL_RATE / 2.0).round().max(1.0);
                let strokes = ((pairs * 2.0) as usize).clamp(2, MAX_STROKES);
                let each = n.duration / strokes as f64;
                (0..strokes)
                    .map(|i| (if i % 2 == 0 { main } else { up }, each))
                    .collect()
            }
            Ornament::Mordent => vec![(main, short), (down, short), (main, rest(2.0))],
            Ornament::InvertedMordent => vec![(main, short), (up, short), (main, rest(2.0))],
            Ornament::Turn => vec![(up, short), (main, short), (down, short), (main, rest(3.0))],
            Ornament::InvertedTurn => {
                vec![(down, short), (main, short), (up, short), (main, rest(3.0))]
            }
            Ornament::Tremolo(marks) => {
                // One stroke through the stem is eighths, each more halves them.
                let value = quarter / f64::from(1_u32 << u32::from(marks.clamp(1, 8)));
                let strokes = ((n.duration / value).round() as usize).clamp(1, MAX_STROKES);
                vec![(main, n.duration / strokes as f64); strokes]
            }
        };
        let mut onset = n.onset;
        for (key, duration) in strokes {
            out.push(Played {
                key,
                onset,
                duration,
                ..n.clone()
            });
            onset += duration;
        }
    }
    out
}

/// Sharps or flats in force at a written tick.
pub(crate) fn fifths_at(score: &Score, at: Ticks) -> i8 {
    let index = score.keys.partition_point(|k| k.onset <= at);
    index
        .checked_sub(1)
        .and_then(|i| score.keys.get(i))
        .map_or(0, |k| k.fifths)
}

/// The next key up or down in the major scale of the signature.
fn neighbour(key: u8, fifths: i8, direction: i64) -> u8 {
    let tonic = (i64::from(fifths) * 7).rem_euclid(12);
    let in_scale = |k: i64| [0, 2, 4, 5, 7, 9, 11].contains(&(k - tonic).rem_euclid(12));
    let near = i64::from(key) + direction;
    // A chromatic note is trilled with the degree next to it, at most a tone away.
    let chosen = if in_scale(near) {
        near
    } else {
        near + direction
    };
    u8::try_from(chosen.clamp(0, 127)).unwrap_or(key)
}
