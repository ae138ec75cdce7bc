//! Events of a standard MIDI file to a [`Score`].
//!
//! Each channel of each track becomes a part. Ticks are kept as they are. Notes
//! struck again before they end are paired first in, first out. Notes hung at
//! the end of a track end with it.

use std::collections::{HashMap, VecDeque};

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_MEASURES, MAX_NOTES, MAX_PART_MEASURES, MAX_PARTS};
use crate::model::{
    Instrument, Key, Measure, Note, Part, Pedal, Pitch, Score, Tempo, Ticks, TimeSignature,
};

use super::channels::{Channels, controls, pedals};
use super::tracks::{Division, Event, File, Kind, parse};

/// Reads a standard MIDI file.
pub(crate) fn read(bytes: &[u8]) -> Result<Score> {
    let mut file = parse(bytes)?;
    if file.format == 2 {
        play_in_sequence(&mut file);
    }
    let mut score = Score {
        divisions: file.division.grid(),
        ..Score::default()
    };
    for warning in std::mem::take(&mut file.warnings) {
        score.warn(warning);
    }
    let controls = controls(&file.tracks);
    let pedals = pedals(&controls);
    let mut struck = Vec::new();
    for (track, events) in file.tracks.iter().enumerate() {
        pair_notes(&mut score, track, events, &mut struck)?;
    }
    struck.sort_by_key(|s| s.onset);
    let mut parts = Parts::default();
    play_controls(&controls, &struck, &mut parts)?;
    score.parts = parts.finish(&file.tracks, &pedals);
    score.title = if file.format == 1 {
        title(&file.tracks)
    } else {
        String::new()
    };
    read_tempos(&mut score, &file);
    read_measures(&mut score, &file.tracks)?;
    Ok(score)
}

/// Format 2 holds independent patterns; they are played one after another.
fn play_in_sequence(file: &mut File) {
    let mut shift: Ticks = 0;
    for track in &mut file.tracks {
        let mut end = shift;
        for event in track {
            event.tick = event.tick.saturating_add(shift);
            end = end.max(event.tick);
        }
        shift = end;
    }
}

/// A note between its two events.
struct Struck {
    track: usize,
    channel: u8,
    key: u8,
    velocity: u8,
    onset: Ticks,
    duration: Ticks,
}

fn pair_notes(
    score: &mut Score,
    track: usize,
    events: &[Event],
    out: &mut Vec<Struck>,
) -> Result<()> {
    let mut open: HashMap<(u8, u8), VecDeque<usize>> = HashMap::new();
    let (mut unmatched, mut hung, mut empty) = (0_usize, 0_usize, 0_usize);
    let mut end = 0;
    for event in events {
        end = event.tick;
        match event.kind {
            Kind::NoteOn {
                channel,
                key,
                velocity,
            } => {
                if out.len() >= MAX_NOTES {
                    return Err(ScoreError::TooLarge {
                        what: "number of notes",
                        place: format!("MIDI track {}", track + 1),
                        got: out.len() as u64 + 1,
                        limit: MAX_NOTES as u64,
                    });
                }
                open.entry((channel, key)).or_default().push_back(out.len());
                out.push(Struck {
                    track,
                    channel,
                    key,
                    velocity,
                    onset: event.tick,
                    duration: -1,
                });
            }
            Kind::NoteOff { channel, key } => {
                match open.get_mut(&(channel, key)).and_then(VecDeque::pop_front) {
                    Some(index) => close(out, index, event.tick, &mut empty),
                    None => unmatched += 1,
                }
            }
            // All sound off, all notes off.
            Kind::Control {
                channel,
                number: 120 | 123,
                ..
            } => {
                for (_, waiting) in open.iter_mut().filter(|((c, _), _)| *c == channel) {
                    for index in waiting.drain(..) {
                        close(out, index, event.tick, &mut empty);
                    }
                }
            }
            _ => {}
        }
    }
    for index in open.into_values().flatten() {
        hung += 1;
        close(out, index, end, &mut empty);
    }
    let mut report = |count: usize, what: &str| {
        if count > 0 {
            score.warn(format!("track {}: {count} {what}", track + 1));
        }
    };
    report(unmatched, "note ends without a beginning ignored");
    report(hung, "notes without an end held to the end of the track");
    report(empty, "notes of no duration given one tick");
    Ok(())
}

fn close(struck: &mut [Struck], index: usize, tick: Ticks, empty: &mut usize) {
    if let Some(note) = struck.get_mut(index) {
        note.duration = tick.saturating_sub(note.onset);
        if note.duration < 1 {
            // Drum machines strike and release at once; the drum sounds all the same.
            note.duration = 1;
            *empty += 1;
        }
    }
}

/// The parts in the making, by track and channel.
#[derive(Default)]
struct Parts {
    index: HashMap<(usize, u8), usize>,
    parts: Vec<((usize, u8), Part)>,
    instruments: HashMap<(usize, Instrument), u16>,
}

/// Plays controls and notes in order. At one tick controls come first: a
/// program change in one track is meant for the notes of another.
fn play_controls(controls: &[&Event], struck: &[Struck], parts: &mut Parts) -> Result<()> {
    let mut channels = Channels::default();
    let mut waiting = controls.iter().peekable();
    for note in struck {
        while let Some(event) = waiting.next_if(|e| e.tick <= note.onset) {
            channels.apply(&event.kind);
        }
        parts.push(note, &channels)?;
    }
    Ok(())
}

impl Parts {
    fn push(&mut self, struck: &Struck, channels: &Channels) -> Result<()> {
        let address = (struck.track, struck.channel);
        let part = match self.index.get(&address) {
            Some(&part) => part,
            None => {
                if self.parts.len() >= MAX_PARTS {
                    return Err(ScoreError::TooLarge {
                        what: "number of parts (channels of tracks)",
                        place: format!("MIDI track {}", struck.track + 1),
                        got: self.parts.len() as u64 + 1,
                        limit: MAX_PARTS as u64,
                    });
                }
                self.index.insert(address, self.parts.len());
                self.parts.push((address, Part::default()));
                self.parts.len() - 1
            }
        };
        let state = channels.get(struck.channel);
        let Some((_, list)) = self.parts.get_mut(part) else {
            return Ok(());
        };
        let instrument = state.instrument(struck.channel);
        let number = match self.instruments.get(&(part, instrument.clone())) {
            Some(&number) => number,
            None => {
                // 128 programs times 128 volumes fit.
                let number = u16::try_from(list.instruments.len()).unwrap_or(u16::MAX);
                list.instruments.push(instrument.clone());
                self.instruments.insert((part, instrument), number);
                number
            }
        };
        let mut pitch = Pitch::from_key(struck.key);
        if struck.channel != 9 {
            pitch.cents = state.cents();
        }
        list.notes.push(Note {
            onset: struck.onset,
            duration: struck.duration,
            pitch,
            velocity: struck.velocity,
            expression: state.expression,
            instrument: number,
            ..Note::default()
        });
        Ok(())
    }

    /// Parts in order of tracks, then channels, with names and pedals.
    fn finish(self, tracks: &[Vec<Event>], pedals: &[Vec<(Ticks, bool)>]) -> Vec<Part> {
        let mut parts = self.parts;
        parts.sort_by_key(|(address, _)| *address);
        let named = |((track, channel), mut part): ((usize, u8), Part)| {
            part.name = tracks
                .get(track)
                .map_or_else(String::new, |t| track_name(t));
            let moves = pedals
                .get(usize::from(channel))
                .map_or(&[][..], Vec::as_slice);
            part.pedals = moves
                .iter()
                .map(|&(onset, down)| Pedal { onset, down })
                .collect();
            part
        };
        parts.into_iter().map(named).collect()
    }
}

fn track_name(events: &[Event]) -> String {
    let name = events.iter().find_map(|e| match &e.kind {
        Kind::TrackName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

/// In format 1 the first track's name is the title, if it plays no notes.
fn title(tracks: &[Vec<Event>]) -> String {
    match tracks.first() {
        Some(first) if !first.iter().any(|e| matches!(e.kind, Kind::NoteOn { .. })) => {
            track_name(first)
        }
        _ => String::new(),
    }
}

/// The events of all tracks that `pick` takes, by tick; of equals the first track's first.
fn collect<T>(tracks: &[Vec<Event>], pick: impl Fn(&Kind) -> Option<T>) -> Vec<(Ticks, T)> {
    let events = tracks.iter().flatten();
    let mut all: Vec<(Ticks, T)> = events
        .filter_map(|e| pick(&e.kind).map(|value| (e.tick, value)))
        .collect();
    all.sort_by_key(|(tick, _)| *tick);
    all
}

fn read_tempos(score: &mut Score, file: &File) {
    if let Division::Second { drop, .. } = file.division {
        // A quarter note is a second here, so that ticks stay as they are;
        // tempo events say nothing about time codes.
        let quarters_per_minute = if drop { 60.0 * 1000.0 / 1001.0 } else { 60.0 };
        score.tempos.push(Tempo {
            onset: 0,
            quarters_per_minute,
        });
        return;
    }
    let tempos = collect(&file.tracks, |kind| match kind {
        Kind::Tempo(micros) => Some(*micros),
        _ => None,
    });
    for (onset, micros) in tempos {
        let tempo = Tempo {
            onset,
            quarters_per_minute: 60e6 / f64::from(micros),
        };
        match score.tempos.last_mut() {
            Some(last) if last.onset == onset => *last = tempo,
            _ => score.tempos.push(tempo),
        }
    }
}

/// Measures from the time signatures, to the end of the last track.
fn read_measures(score: &mut Score, tracks: &[Vec<Event>]) -> Result<()> {
    let mut odd = 0_usize;
    let signatures = collect(tracks, |kind| match *kind {
        Kind::Time(beats, exponent) => Some((beats, exponent)),
        _ => None,
    });
    let mut meters: Vec<(Ticks, TimeSignature)> = vec![(0, TimeSignature::default())];
    for (tick, (beats, exponent)) in signatures {
        if exponent > 7 {
            odd += 1;
            continue;
        }
        let time = TimeSignature {
            beats: u32::from(beats),
            beat_type: 1 << u32::from(exponent),
        };
        match meters.last_mut() {
            Some(last) if last.0 == tick => last.1 = time,
            Some(last) if last.1 == time => {}
            _ => meters.push((tick, time)),
        }
    }
    if odd > 0 {
        score.warn(format!(
            "{odd} time signatures with beats shorter than a 128th ignored"
        ));
    }
    let sounding = score.length();
    let last_event = tracks.iter().filter_map(|t| t.last()).map(|e| e.tick).max();
    let end = sounding.max(last_event.unwrap_or(0));
    score.end = end;
    let mut meter = meters.iter().peekable();
    let mut time = TimeSignature::default();
    let mut onset = 0;
    let limit = MAX_MEASURES.min(MAX_PART_MEASURES / score.parts.len().max(1));
    while onset < end {
        while let Some((_, new)) = meter.next_if(|m| m.0 <= onset) {
            time = *new;
        }
        if score.measures.len() >= limit {
            if onset >= sounding {
                score.warn("silence after the last note is cut short".to_owned());
                score.end = onset;
                break;
            }
            return Err(ScoreError::TooLarge {
                what: "number of measures",
                place: "the MIDI file".to_owned(),
                got: score.measures.len() as u64 + 1,
                limit: limit as u64,
            });
        }
        // A new meter in the middle of a measure ends it.
        let nominal = time.length(score.divisions);
        let until = meter.peek().map_or(Ticks::MAX, |next| next.0);
        let length = nominal.min(until.saturating_sub(onset)).max(1);
        let number = (score.measures.len() + 1).to_string();
        score.measures.push(Measure {
            onset,
            length,
            number,
            time,
            ..Measure::default()
        });
        onset += length;
    }
    let keys = collect(tracks, |kind| match *kind {
        Kind::Key(fifths, minor) => Some((fifths, minor)),
        _ => None,
    });
    for (onset, (fifths, minor)) in keys {
        let key = Key {
            onset,
            fifths,
            minor,
        };
        match score.keys.last_mut() {
            Some(last) if last.onset == onset => *last = key,
            Some(last) if (last.fifths, last.minor) == (fifths, minor) => {}
            _ => score.keys.push(key),
        }
    }
    Ok(())
}
