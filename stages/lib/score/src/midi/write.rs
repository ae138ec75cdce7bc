//! A [`Score`] as a standard MIDI file of format 1.
//!
//! The file plays the score: repeats unfolded, grace notes and ornaments
//! written out, accents in the velocities. Durations stay as written (no
//! staccato, no fermata), for a MIDI file is a grid before it is a sound.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::flatten::{Flat, Played, flatten, within};
use crate::model::{Instrument, Score, Ticks};

/// Most ticks per quarter note that the header can say.
const MAX_PPQ: u32 = 0x7FFF;
/// Least ticks per quarter note where something does not fall on the grid.
const FINE_PPQ: u32 = 480;
/// Grid for scores that are finer than MIDI can say: 2^11 * 3 * 5.
const ROUND_PPQ: u32 = 30_720;
/// Largest delta time (SMF 1.0, variable-length quantities).
const MAX_DELTA: Ticks = 0x0FFF_FFFF;
/// Channel of percussion in General MIDI, 0-based.
const DRUMS: u8 = 9;

/// Writes `score` as a standard MIDI file.
///
/// Track 1 holds title, tempos, meters and keys; each part follows as a track.
/// Ticks are those of the score wherever the format can hold them, that is up
/// to 32,767 to the quarter note; scores with grace notes or ornaments are
/// written on a grid of at least 480, a multiple of their own; grids that are
/// finer still are reduced, and rounded to 30,720 where no reduction is exact.
/// Microtones become pitch bends, with spare channels where they sound together.
///
/// # Errors
/// As [`Score::performance`].
pub fn write_midi(score: &Score) -> Result<Vec<u8>> {
    let flat = flatten(score)?;
    let grid = Grid::of(score, &flat);
    let mut tracks = vec![conductor(score, &flat, &grid)];
    tracks.extend(play_parts(score, &flat, &grid));
    let mut out = Vec::new();
    out.extend_from_slice(b"MThd\0\0\0\x06\0\x01");
    out.extend_from_slice(
        &u16::try_from(tracks.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    out.extend_from_slice(&u16::try_from(grid.ppq).unwrap_or(0x7FFF).to_be_bytes());
    let end = grid.tick(flat.end(score) as f64);
    for events in tracks {
        write_track(&mut out, events, end);
    }
    Ok(out)
}

/// The grid of the file: `ppq` ticks for `divisions` of the score's.
struct Grid {
    ppq: u32,
    divisions: u32,
}

impl Grid {
    fn of(score: &Score, flat: &Flat<'_>) -> Self {
        let divisions = score.divisions.max(1);
        if !flat.on_grid() {
            let fine = divisions.saturating_mul(FINE_PPQ.div_ceil(divisions));
            return Self {
                ppq: if fine <= MAX_PPQ { fine } else { ROUND_PPQ },
                divisions,
            };
        }
        if divisions <= MAX_PPQ {
            return Self {
                ppq: divisions,
                divisions,
            };
        }
        let notes = flat.parts.iter().flat_map(|p| &p.notes);
        let times = notes.flat_map(|n| [n.onset as u64, n.duration as u64]);
        let common = times.fold(u64::from(divisions), gcd);
        let reduced = u64::from(divisions) / common.max(1);
        let ppq = u32::try_from(reduced).ok().filter(|&ppq| ppq <= MAX_PPQ);
        Self {
            ppq: ppq.unwrap_or(ROUND_PPQ),
            divisions,
        }
    }

    fn tick(&self, at: f64) -> Ticks {
        (at.max(0.0) * f64::from(self.ppq) / f64::from(self.divisions)).round() as Ticks
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// An event of a track. At one tick notes end, then controls, then notes begin.
struct Event {
    tick: Ticks,
    class: u8,
    bytes: Vec<u8>,
}

const OFF: u8 = 0;
const CONTROL: u8 = 1;
const ON: u8 = 2;

fn meta(tick: Ticks, kind: u8, data: &[u8]) -> Event {
    let mut bytes = vec![0xFF, kind];
    push_variable(&mut bytes, data.len() as Ticks);
    bytes.extend_from_slice(data);
    Event {
        tick,
        class: CONTROL,
        bytes,
    }
}

/// Title, tempo map, meters and keys.
fn conductor(score: &Score, flat: &Flat<'_>, grid: &Grid) -> Vec<Event> {
    let mut events = Vec::new();
    if !score.title.is_empty() {
        events.push(meta(0, 0x03, score.title.as_bytes()));
    }
    for &(at, tempo) in &flat.tempos {
        let micros = (60e6 / tempo).round().clamp(1.0, 16_777_215.0) as u32;
        let [_, a, b, c] = micros.to_be_bytes();
        events.push(meta(grid.tick(at as f64), 0x51, &[a, b, c]));
    }
    let mut time = None;
    let mut key = None;
    for run in &flat.runs {
        for measure in within(&score.measures, run, |m| m.onset) {
            let at = grid.tick(measure.onset.saturating_add(run.shift()) as f64);
            if time != Some(measure.time) {
                time = Some(measure.time);
                let beats = u8::try_from(measure.time.beats).unwrap_or(u8::MAX);
                let exponent = measure.time.beat_type.max(1).ilog2() as u8;
                events.push(meta(at, 0x58, &[beats, exponent, 24, 8]));
            }
        }
        for signature in within(&score.keys, run, |k| k.onset) {
            let at = grid.tick(signature.onset.saturating_add(run.shift()) as f64);
            if key != Some((signature.fifths, signature.minor)) {
                key = Some((signature.fifths, signature.minor));
                let [fifths] = signature.fifths.to_be_bytes();
                events.push(meta(at, 0x59, &[fifths, u8::from(signature.minor)]));
            }
        }
    }
    events.sort_by_key(|e| e.tick);
    events
}

/// All parts together, since channels are shared by tracks; a track per part.
fn play_parts(score: &Score, flat: &Flat<'_>, grid: &Grid) -> Vec<Vec<Event>> {
    let channels = assign_channels(score);
    let mut tracks: Vec<Vec<Event>> = Vec::with_capacity(flat.parts.len());
    let mut order: Vec<(Ticks, usize, &Played<'_>)> = Vec::new();
    for (index, played) in flat.parts.iter().enumerate() {
        let mut events = Vec::new();
        if !played.part.name.is_empty() {
            events.push(meta(0, 0x03, played.part.name.as_bytes()));
        }
        let used: BTreeSet<u8> = channels
            .iter()
            .filter(|((part, _), _)| *part == index)
            .map(|(_, &c)| c)
            .collect();
        for channel in used.into_iter().filter(|&c| c != DRUMS) {
            for &(at, down) in &played.pedals {
                let tick = grid.tick(at as f64);
                events.push(control(tick, channel, 64, if down { 127 } else { 0 }));
            }
        }
        tracks.push(events);
        order.extend(played.notes.iter().map(|n| (grid.tick(n.onset), index, n)));
    }
    order.sort_by_key(|&(tick, index, _)| (tick, index));
    let mut lanes = Lanes::new(score, &channels);
    for (tick, index, note) in order {
        let end = grid.tick(note.onset + note.duration).max(tick + 1);
        let part = flat.parts.get(index).map(|p| p.part);
        let fallback = Instrument::default();
        let instrument = part
            .and_then(|p| p.instruments.get(usize::from(note.note.instrument)))
            .unwrap_or(&fallback);
        let home = channels
            .get(&(index, note.note.instrument))
            .copied()
            .unwrap_or(0);
        if let Some(events) = tracks.get_mut(index) {
            lanes.play(events, instrument, home, note, tick, end);
        }
    }
    for events in &mut tracks {
        // Stable: a bend and its range stay in order.
        events.sort_by_key(|e| (e.tick, e.class));
    }
    tracks
}

fn control(tick: Ticks, channel: u8, number: u8, value: u8) -> Event {
    Event {
        tick,
        class: CONTROL,
        bytes: vec![0xB0 | channel, number, value & 0x7F],
    }
}

/// A channel for every instrument of every part: its own if it names one,
/// else the next that nobody names, one for each part as far as they go.
fn assign_channels(score: &Score) -> BTreeMap<(usize, u16), u8> {
    let named = |i: &Instrument| match i.channel {
        _ if i.percussion => Some(DRUMS),
        Some(channel) if channel != DRUMS => Some(channel & 0x0F),
        _ => None,
    };
    let taken: BTreeSet<u8> = score
        .parts
        .iter()
        .flat_map(|p| &p.instruments)
        .filter_map(named)
        .collect();
    let melodic: Vec<u8> = (0..16).filter(|&c| c != DRUMS).collect();
    let free: Vec<u8> = melodic
        .iter()
        .copied()
        .filter(|c| !taken.contains(c))
        .collect();
    let pool = if free.is_empty() { &melodic } else { &free };
    let mut next = pool.iter().cycle();
    let mut channels = BTreeMap::new();
    for (index, part) in score.parts.iter().enumerate() {
        let mut own = None;
        for (number, instrument) in part.instruments.iter().enumerate() {
            let channel = named(instrument)
                .or_else(|| own.or_else(|| next.next().copied()))
                .unwrap_or(0);
            if named(instrument).is_none() {
                own = Some(channel);
            }
            channels.insert((index, u16::try_from(number).unwrap_or(u16::MAX)), channel);
        }
    }
    channels
}

/// What was last said on a channel, and until when it sounds.
#[derive(Clone, Copy)]
struct Lane {
    program: Option<u8>,
    volume: u8,
    expression: u8,
    bend: i16,
    range_said: bool,
    busy_until: Ticks,
    /// No instrument calls it home, so that microtones may borrow it.
    spare: bool,
}

struct Lanes {
    lanes: Vec<Lane>,
    /// Range of bends in semitones, 2 to 24.
    range: u8,
}

impl Lanes {
    fn new(score: &Score, channels: &BTreeMap<(usize, u16), u8>) -> Self {
        let homes: BTreeSet<u8> = channels.values().copied().collect();
        let lane = |channel: u8| Lane {
            program: None,
            volume: 100,
            expression: 127,
            bend: 0,
            range_said: false,
            busy_until: 0,
            spare: channel != DRUMS && !homes.contains(&channel),
        };
        let cents = score
            .parts
            .iter()
            .flat_map(|p| &p.notes)
            .map(|n| n.pitch.cents.abs());
        let range = (cents.fold(200.0, f32::max) / 100.0)
            .ceil()
            .clamp(2.0, 24.0) as u8;
        Self {
            lanes: (0..16).map(lane).collect(),
            range,
        }
    }

    /// Writes a note with all that must be said before it.
    fn play(
        &mut self,
        events: &mut Vec<Event>,
        instrument: &Instrument,
        home: u8,
        note: &Played<'_>,
        tick: Ticks,
        end: Ticks,
    ) {
        let cents = if instrument.percussion {
            0.0
        } else {
            note.note.pitch.cents
        };
        let bend = (f64::from(cents) / (100.0 * f64::from(self.range)) * 8192.0).round();
        let bend = bend.clamp(-8192.0, 8191.0) as i16;
        let channel = self.channel_for(home, bend, tick);
        let range = self.range;
        let Some(lane) = self.lanes.get_mut(usize::from(channel)) else {
            return;
        };
        if lane.program != Some(instrument.program)
            && !(instrument.percussion && instrument.program == 0)
        {
            lane.program = Some(instrument.program);
            let bytes = vec![0xC0 | channel, instrument.program & 0x7F];
            events.push(Event {
                tick,
                class: CONTROL,
                bytes,
            });
        }
        if lane.volume != instrument.volume {
            lane.volume = instrument.volume;
            events.push(control(tick, channel, 7, instrument.volume));
        }
        if lane.expression != note.note.expression {
            lane.expression = note.note.expression;
            events.push(control(tick, channel, 11, note.note.expression));
        }
        if lane.bend != bend && lane.busy_until <= tick {
            if !lane.range_said {
                lane.range_said = true;
                for (number, value) in [(101, 0), (100, 0), (6, range), (38, 0)] {
                    events.push(control(tick, channel, number, value));
                }
            }
            lane.bend = bend;
            let value = (i32::from(bend) + 8192) as u16;
            let bytes = vec![0xE0 | channel, (value & 0x7F) as u8, (value >> 7) as u8];
            events.push(Event {
                tick,
                class: CONTROL,
                bytes,
            });
        }
        lane.busy_until = lane.busy_until.max(end);
        let key = note.key & 0x7F;
        let velocity = note.velocity.clamp(1, 127);
        events.push(Event {
            tick,
            class: ON,
            bytes: vec![0x90 | channel, key, velocity],
        });
        events.push(Event {
            tick: end,
            class: OFF,
            bytes: vec![0x80 | channel, key, 64],
        });
    }

    /// The home channel if it is bent so or silent, else a spare one; home all
    /// the same, unbent, where there is none.
    fn channel_for(&self, home: u8, bend: i16, tick: Ticks) -> u8 {
        let fits = |lane: &Lane| lane.bend == bend || lane.busy_until <= tick;
        if self.lanes.get(usize::from(home)).is_none_or(fits) {
            return home;
        }
        let same = |l: &&Lane| l.spare && l.bend == bend && l.busy_until > 0;
        let lanes = || (0_u8..).zip(&self.lanes);
        let found = lanes()
            .find(|(_, l)| same(l))
            .or_else(|| lanes().find(|(_, l)| l.spare && fits(l)));
        found.map_or(home, |(channel, _)| channel)
    }
}

/// A track, which ends at `end` or with its last event.
fn write_track(out: &mut Vec<u8>, mut events: Vec<Event>, end: Ticks) {
    let end = events.last().map_or(end, |e| e.tick.max(end));
    events.push(Event {
        tick: end,
        class: ON,
        bytes: vec![0xFF, 0x2F, 0],
    });

    out.extend_from_slice(b"MTrk");
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut now = 0;
    for event in events {
        // Gaps beyond 2^28 ticks are bridged by empty text events.
        while event.tick - now > MAX_DELTA {
            push_variable(out, MAX_DELTA);
            out.extend_from_slice(&[0xFF, 0x01, 0]);
            now += MAX_DELTA;
        }
        push_variable(out, event.tick - now);
        now = event.tick;
        out.extend_from_slice(&event.bytes);
    }
    let length = u32::try_from(out.len() - length_at - 4)
        .unwrap_or(u32::MAX)
        .to_be_bytes();
    if let Some(field) = out.get_mut(length_at..length_at + 4) {
        field.copy_from_slice(&length);
    }
}

/// A variable-length quantity, at most four bytes.
fn push_variable(out: &mut Vec<u8>, value: Ticks) {
    let value = value.clamp(0, MAX_DELTA) as u32;
    for shift in [21, 14, 7] {
        if value >> shift > 0 {
            out.push((value >> shift & 0x7F) as u8 | 0x80);
        }
    }
    out.push((value & 0x7F) as u8);
}
