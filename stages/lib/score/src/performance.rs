//! The sounding view: note events in seconds.
//!
//! On top of [`crate::flatten`] come articulation, fermatas, the tempo map and
//! the sustain pedal. A staccato sounds for half of its value, a staccatissimo
//! for a quarter, a portato for three quarters; a fermata doubles the time of
//! what it stands over. These are customs, not measurements: no two players agree.

use crate::error::Result;
use crate::flatten::{Flat, Played, PlayedPart, flatten};
use crate::model::{Score, Ticks};

/// How much longer time takes under a fermata.
const FERMATA: f64 = 2.0;
/// Seconds between the notes of an arpeggio.
const ARPEGGIO: f64 = 0.03;
/// Shortest sounding note in seconds: shorter ones are clicks.
const SHORTEST: f64 = 0.001;

/// One sounding note.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NoteEvent {
    /// Seconds from the beginning, at least 0.
    pub onset: f64,
    /// Seconds until the key *and* the pedal are released, more than 0.
    pub duration: f64,
    /// MIDI pitch, 69 = 440 Hz, with microtones as its fraction; the drum's key
    /// where `percussion`.
    pub pitch: f64,
    /// How hard the note is struck, 1 to 127.
    pub velocity: u8,
    /// General MIDI program, 0 to 127.
    pub program: u8,
    /// Whether `pitch` names a drum.
    pub percussion: bool,
    /// Amplitude factor of channel volume and expression: 1 at their defaults,
    /// 0 to 1.62 (General MIDI level 2: amplitude goes with the square).
    pub gain: f32,
    /// Index into [`Score::parts`].
    pub part: usize,
    /// MIDI channel 0 to 15, if the source names one.
    pub channel: Option<u8>,
}

/// What is heard, note by note.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Performance {
    /// Notes ascending by onset, then part, then pitch.
    pub events: Vec<NoteEvent>,
    /// Seconds until the last note ends; 0 where there is none.
    pub duration: f64,
}

impl Score {
    /// Plays the score: repeats and jumps unfolded, ties merged, tempo map,
    /// grace notes, ornaments, articulations, fermatas and sustain pedal applied.
    ///
    /// # Errors
    /// When repeats unfold to more notes, or the piece to more hours, than
    /// [`crate::limits`] allow.
    pub fn performance(&self) -> Result<Performance> {
        let flat = flatten(self)?;
        let clock = Clock::new(&flat, self.divisions);
        let mut events = Vec::with_capacity(flat.parts.iter().map(|p| p.notes.len()).sum());
        for (index, part) in flat.parts.iter().enumerate() {
            perform_part(index, part, &clock, &mut events);
        }
        events.sort_by(|a, b| {
            let onset = a.onset.total_cmp(&b.onset);
            onset
                .then(a.part.cmp(&b.part))
                .then(a.pitch.total_cmp(&b.pitch))
        });
        let duration = events
            .iter()
            .map(|e| e.onset + e.duration)
            .fold(0.0, f64::max);
        Ok(Performance { events, duration })
    }
}

/// Played ticks to seconds: straight lines between tempo changes and the edges
/// of fermatas.
struct Clock {
    /// (tick, second, seconds per tick), ascending.
    lines: Vec<(f64, f64, f64)>,
}

impl Clock {
    fn new(flat: &Flat<'_>, divisions: u32) -> Self {
        // Fermatas of several parts at one place are one pause.
        let mut spans: Vec<(f64, f64)> = Vec::new();
        for part in &flat.parts {
            let rests = part
                .fermatas
                .iter()
                .map(|s| (s.0 as f64, (s.0.saturating_add(s.1)) as f64));
            let held = part.notes.iter().filter(|n| n.last.articulation.fermata);
            spans.extend(rests.chain(held.map(|n| (n.last_onset, n.onset + n.duration))));
        }
        spans.retain(|s| s.1 > s.0);
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut held: Vec<(f64, f64)> = Vec::new();
        for span in spans {
            match held.last_mut() {
                Some(last) if span.0 <= last.1 && span.0 < last.1 => last.1 = last.1.max(span.1),
                _ => held.push(span),
            }
        }
        let mut edges: Vec<(f64, Edge)> = Vec::with_capacity(flat.tempos.len() + 2 * held.len());
        edges.extend(flat.tempos.iter().map(|t| (t.0 as f64, Edge::Tempo(t.1))));
        edges.extend(
            held.iter()
                .flat_map(|s| [(s.0, Edge::Hold(1)), (s.1, Edge::Hold(-1))]),
        );
        edges.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut lines = vec![(
            0.0,
            0.0,
            seconds_per_tick(crate::flatten::DEFAULT_TEMPO, divisions),
        )];
        let (mut tempo, mut holds) = (crate::flatten::DEFAULT_TEMPO, 0_i32);
        for (at, edge) in edges {
            match edge {
                Edge::Tempo(new) => tempo = new,
                Edge::Hold(by) => holds += by,
            }
            let Some(&(tick, second, rate)) = lines.last() else {
                continue;
            };
            let at = at.max(tick);
            let stretch = if holds > 0 { FERMATA } else { 1.0 };
            lines.push((
                at,
                second + (at - tick) * rate,
                stretch * seconds_per_tick(tempo, divisions),
            ));
        }
        Self { lines }
    }

    fn seconds(&self, tick: f64) -> f64 {
        let index = self
            .lines
            .partition_point(|line| line.0 <= tick)
            .saturating_sub(1);
        self.lines
            .get(index)
            .map_or(0.0, |&(at, second, rate)| second + (tick - at) * rate)
    }
}

enum Edge {
    Tempo(f64),
    Hold(i32),
}

fn seconds_per_tick(tempo: f64, divisions: u32) -> f64 {
    60.0 / (tempo * f64::from(divisions.max(1)))
}

fn perform_part(index: usize, part: &PlayedPart<'_>, clock: &Clock, events: &mut Vec<NoteEvent>) {
    let ends = release_ticks(part);
    let mut arpeggio = Arpeggio::default();
    for (n, end) in part.notes.iter().zip(ends) {
        let instrument = part.part.instruments.get(usize::from(n.note.instrument));
        let percussion = instrument.is_some_and(|i| i.percussion);
        let delay = arpeggio.delay(n);
        let onset = clock.seconds(n.onset).max(0.0);
        let duration = (clock.seconds(end) - onset).max(SHORTEST);
        // Never more than half the note, so that a fast chord still sounds.
        let delay = delay.min(duration / 2.0);
        let microtone = if percussion {
            0.0
        } else {
            f64::from(n.note.pitch.cents) / 100.0
        };
        events.push(NoteEvent {
            onset: onset + delay,
            duration: duration - delay,
            pitch: f64::from(n.key) + microtone,
            velocity: n.velocity,
            program: instrument.map_or(0, |i| i.program),
            percussion,
            gain: gain(instrument.map_or(100, |i| i.volume), n.note.expression),
            part: index,
            channel: instrument.and_then(|i| i.channel),
        });
    }
}

/// General MIDI level 2 (RP-024), 3.2: volume and expression each in dB as
/// 40 log10(value / 127); here relative to the default volume of 100.
fn gain(volume: u8, expression: u8) -> f32 {
    let share = f32::from(volume) / 100.0 * (f32::from(expression) / 127.0);
    share * share
}

/// The key of an arpeggiated chord grows from low to high; notes come sorted so.
#[derive(Default)]
struct Arpeggio {
    onset: Option<f64>,
    strings: u32,
}

impl Arpeggio {
    fn delay(&mut self, n: &Played<'_>) -> f64 {
        if !n.note.articulation.arpeggio {
            return 0.0;
        }
        if self.onset == Some(n.onset) {
            self.strings += 1;
        } else {
            (self.onset, self.strings) = (Some(n.onset), 0);
        }
        f64::from(self.strings) * ARPEGGIO
    }
}

/// Tick at which each note falls silent: articulated, then held by the pedal
/// until it rises or the key is struck again.
fn release_ticks(part: &PlayedPart<'_>) -> Vec<f64> {
    let spans = pedal_spans(part);
    let mut next_onset = [f64::INFINITY; 128];
    let mut ends = vec![0.0; part.notes.len()];
    let mut begin = part.notes.len();
    // Backwards, in batches of equal onset, so that `next_onset` is strictly later.
    while begin > 0 {
        let last = begin;
        let at = part.notes.get(last - 1).map_or(0.0, |n| n.onset);
        while begin > 0 && part.notes.get(begin - 1).is_some_and(|n| n.onset >= at) {
            begin -= 1;
        }
        let batch = part.notes.get(begin..last).unwrap_or(&[]);
        for (n, end) in batch.iter().zip(ends.iter_mut().skip(begin)) {
            let release = n.onset + n.duration * share(n);
            let struck = next_onset
                .get(usize::from(n.key))
                .copied()
                .unwrap_or(f64::INFINITY);
            *end = match pedal_at(&spans, release) {
                Some(up) if !is_percussion(part, n) => release.max(up.min(struck)),
                _ => release,
            };
        }
        for n in batch {
            if let Some(next) = next_onset.get_mut(usize::from(n.key)) {
                *next = n.onset;
            }
        }
    }
    ends
}

fn is_percussion(part: &PlayedPart<'_>, n: &Played<'_>) -> bool {
    part.part
        .instruments
        .get(usize::from(n.note.instrument))
        .is_some_and(|i| i.percussion)
}

/// Sounding share of the written duration.
fn share(n: &Played<'_>) -> f64 {
    let marks = n.last.articulation;
    if marks.fermata {
        return 1.0;
    }
    match (
        marks.staccatissimo,
        marks.staccato,
        marks.tenuto,
        marks.marcato,
    ) {
        (true, ..) => 0.25,
        (_, true, true, _) => 0.75,
        (_, true, false, _) => 0.5,
        (_, false, true, _) => 1.0,
        (_, _, _, true) => 2.0 / 3.0,
        _ => 1.0,
    }
}

/// Stretches during which the pedal is down, ascending and disjoint.
fn pedal_spans(part: &PlayedPart<'_>) -> Vec<(f64, f64)> {
    let end = part
        .notes
        .iter()
        .map(|n| n.onset + n.duration)
        .fold(0.0, f64::max);
    let mut spans = Vec::new();
    let mut down: Option<Ticks> = None;
    for &(at, is_down) in &part.pedals {
        match (down, is_down) {
            (None, true) => down = Some(at),
            (Some(from), false) => {
                spans.push((from as f64, at as f64));
                down = None;
            }
            _ => {}
        }
    }
    if let Some(from) = down {
        spans.push((from as f64, end.max(from as f64)));
    }
    spans
}

/// When the pedal that is down at `tick` rises. A note released as the pedal
/// goes down is not caught: that is where the next note is struck.
fn pedal_at(spans: &[(f64, f64)], tick: f64) -> Option<f64> {
    let index = spans.partition_point(|span| span.0 < tick).checked_sub(1)?;
    spans
        .get(index)
        .filter(|span| tick < span.1)
        .map(|span| span.1)
}
