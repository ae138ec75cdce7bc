//! Second pass: the notes of one part, on the measures laid out before.

use std::collections::HashMap;

use roxmltree::Node;

use crate::error::Result;
use crate::gm;
use crate::limits::MAX_NOTES;
use crate::model::{
    Dynamic, DynamicKind, Grace, Instrument, Key, Measure, Note, Part, Pedal, Pitch, Ticks,
};

use super::attributes::{self, Transpose};
use super::direction::{self, TempoMark};
use super::layout::PartNodes;
use super::levels;
use super::note::{self, Head};
use super::partlist::{PartInfo, Sound, midi_instrument};
use super::repeats::{Barlines, jumps, segno_sign};
use super::tree::{Grid, Place, child, child_text, divisions, duration, elements, number, text};

/// What all parts contribute to.
pub(super) struct Common<'s> {
    pub(super) grid: Grid,
    pub(super) measures: &'s mut [Measure],
    pub(super) tempos: Vec<TempoMark>,
    /// Concert keys of the first part that has any.
    pub(super) keys: Vec<Key>,
    /// Notes of all parts so far.
    pub(super) notes: usize,
    pub(super) warnings: Vec<String>,
}

/// Reads a part.
pub(super) fn read_part(
    nodes: &PartNodes<'_, '_>,
    index: usize,
    info: PartInfo,
    common: &mut Common<'_>,
) -> Result<Part> {
    let mut reader = Reader {
        place: Place {
            part: nodes.id,
            measure: "",
        },
        index,
        grid: common.grid,
        divisions: 1,
        at: 0,
        base: 0,
        chord_at: 0,
        transposes: HashMap::new(),
        sounds: info.instruments,
        numbers: HashMap::new(),
        voices: HashMap::new(),
        graces: HashMap::new(),
        last_notes: HashMap::new(),
        copied: Vec::new(),
        repeating: None,
        keys: Vec::new(),
        mended: 0,
        part: Part {
            name: info.name,
            ..Part::default()
        },
    };
    let mut barlines = Barlines::default();
    for (number, measure) in nodes.measures.iter().enumerate() {
        let (before, from) = common.measures.split_at_mut(number);
        let Some(target) = from.first_mut() else {
            break;
        };
        reader.place.measure = measure.number();
        (reader.base, reader.at) = (target.onset, target.onset);
        barlines.begin(target);
        let first_note = reader.part.notes.len();
        for item in elements(measure.body) {
            match item.tag_name().name() {
                "barline" => barlines.read(item, target, before.last_mut()),
                "sound" => {
                    jumps(item, target);
                    reader.sound(item, reader.at, &mut common.tempos, false);
                }
                "direction" => {
                    segno_sign(item, target);
                    if let Some(sound) = child(item, "sound") {
                        jumps(sound, target);
                    }
                    reader.direction(item, &mut common.tempos);
                }
                "attributes" => reader.attributes(item)?,
                "note" => reader.note(item)?,
                "backup" => reader.step(item, -1)?,
                "forward" => reader.step(item, 1)?,
                _ => {}
            }
            let total = common.notes.saturating_add(reader.part.notes.len());
            if total > MAX_NOTES {
                return Err(reader.place.too_large(
                    "number of notes",
                    total as u64,
                    MAX_NOTES as u64,
                ));
            }
        }
        reader.end_measure(number, first_note, common.measures, common.notes)?;
        if let Some(target) = common.measures.get_mut(number) {
            barlines.end(target);
        }
    }
    if common.keys.is_empty() {
        common.keys = std::mem::take(&mut reader.keys);
    }
    if reader.mended > 0 {
        let mended = reader.mended;
        common.warnings.push(format!(
            "part `{}`: {mended} notes without a length left out",
            super::tree::short(nodes.id)
        ));
    }
    common.notes = common.notes.saturating_add(reader.part.notes.len());
    Ok(reader.finish())
}

struct Reader<'a> {
    place: Place<'a>,
    index: usize,
    grid: Grid,
    divisions: u32,
    /// Absolute tick of the cursor, and of the measure.
    at: Ticks,
    base: Ticks,
    /// Onset of the last note that was not a chord's.
    chord_at: Ticks,
    /// By staff; `None` is for all staves.
    transposes: HashMap<Option<u8>, Transpose>,
    sounds: Vec<(String, Sound)>,
    numbers: HashMap<Instrument, u16>,
    voices: HashMap<String, u16>,
    /// Grace notes whose principal has not come yet, by voice, as indices.
    graces: HashMap<u16, Vec<usize>>,
    /// Onset of the last note of each voice in this measure.
    last_notes: HashMap<u16, Ticks>,
    /// Range of note indices of each measure, for measure repeats.
    copied: Vec<(usize, usize)>,
    /// Measures that each repeated measure lies behind its model.
    repeating: Option<usize>,
    keys: Vec<Key>,
    mended: usize,
    part: Part,
}

impl Reader<'_> {
    fn step(&mut self, node: Node<'_, '_>, sign: Ticks) -> Result<()> {
        let by = duration(node, self.grid, self.divisions, &self.place)?.unwrap_or(0);
        self.at = (self.at + sign * by).max(self.base);
        self.grid.check(self.at, &self.place).map(|_| ())
    }

    fn attributes(&mut self, node: Node<'_, '_>) -> Result<()> {
        self.divisions = divisions(node, &self.place)?.unwrap_or(self.divisions);
        for item in elements(node) {
            match item.tag_name().name() {
                "transpose" => {
                    let (staff, transpose) = attributes::transpose(item, &self.place)?;
                    if staff.is_none() {
                        self.transposes.clear();
                    }
                    self.transposes.insert(staff, transpose);
                }
                "measure-style" => {
                    if let Some(repeat) = child(item, "measure-repeat") {
                        let behind = text(repeat)
                            .parse::<usize>()
                            .ok()
                            .filter(|n| (1..=64).contains(n));
                        self.repeating = match repeat.attribute("type") {
                            Some("start") => Some(behind.unwrap_or(1)),
                            _ => None,
                        };
                    }
                }
                _ => {}
            }
        }
        // After <transpose>, which comes later in the element but applies to the key.
        if let Some((fifths, minor)) = child(node, "key").and_then(attributes::key) {
            let fifths = attributes::concert_fifths(fifths, &self.transpose(None));
            if self
                .keys
                .last()
                .is_none_or(|k| (k.fifths, k.minor) != (fifths, minor))
            {
                self.keys.push(Key {
                    onset: self.at,
                    fifths,
                    minor,
                });
            }
        }
        Ok(())
    }

    fn transpose(&self, staff: Option<u8>) -> Transpose {
        let own = staff.and_then(|s| self.transposes.get(&Some(s)));
        own.or_else(|| self.transposes.get(&None))
            .copied()
            .unwrap_or(Transpose {
                steps: Some(0),
                ..Transpose::default()
            })
    }

    fn note(&mut self, node: Node<'_, '_>) -> Result<()> {
        let chord = child(node, "chord").is_some();
        let grace = child(node, "grace");
        let length = match (
            grace,
            duration(node, self.grid, self.divisions, &self.place)?,
        ) {
            (Some(_), _) => 0,
            (None, Some(length)) => length,
            (None, None) => note::notated_length(node, self.grid),
        };
        let onset = if chord { self.chord_at } else { self.at };
        if !chord {
            self.chord_at = self.at;
            self.at = self.grid.check(self.at + length, &self.place)?;
        }
        let head = note::head(node, &self.place)?;
        let (articulation, ornament) = note::articulation(node);
        if head == Head::Rest {
            if articulation.fermata && length > 0 {
                self.part.fermatas.push((onset, length));
            }
            return Ok(());
        }
        // Cue notes show what others play.
        if child(node, "cue").is_some() || grace.is_some_and(|g| child(g, "cue").is_some()) {
            return Ok(());
        }
        if length == 0 && grace.is_none() {
            self.mended += 1;
            return Ok(());
        }
        let staff = child_text(node, "staff")
            .and_then(|s| s.parse::<u8>().ok())
            .unwrap_or(1)
            .max(1);
        let voice = self.voice(child_text(node, "voice").unwrap_or("1"));
        let transpose = self.transpose(Some(staff));
        let (instrument, pitch) = self.sounding(node, head, &transpose);
        let (tie_start, tie_stop) = note::ties(node);
        let dynamics = node.attribute("dynamics").and_then(number);
        let mut written = Note {
            onset,
            duration: length,
            pitch,
            velocity: dynamics.map_or(0, levels::from_percent),
            voice,
            staff,
            instrument,
            tie_start,
            tie_stop,
            articulation,
            ornament,
            ..Note::default()
        };
        match grace {
            Some(grace) => {
                written.grace = Some(self.grace(node, grace, voice, chord));
                self.graces
                    .entry(voice)
                    .or_default()
                    .push(self.part.notes.len());
            }
            None => {
                self.graces.remove(&voice);
                self.last_notes.insert(voice, onset);
            }
        }
        if let Some(octave) = transpose.double {
            let key = crate::model::clamp_key(i64::from(pitch.key) + octave);
            let doubled = Pitch {
                key,
                spelling: None,
                ..pitch
            };
            self.part.notes.push(Note {
                pitch: doubled,
                ..written.clone()
            });
        }
        self.part.notes.push(written);
        Ok(())
    }

    /// Reads `<grace>`; notes of a chord share their place among the graces.
    fn grace(&self, node: Node<'_, '_>, grace: Node<'_, '_>, voice: u16, chord: bool) -> Grace {
        let waiting = self.graces.get(&voice).and_then(|w| w.last());
        let last = waiting
            .and_then(|&i| self.part.notes.get(i)?.grace)
            .map(|g| g.index);
        let index = match last {
            Some(last) if chord => last,
            Some(last) => last.saturating_add(1),
            None => 0,
        };
        let steal = grace.attribute("steal-time-previous").and_then(number);
        Grace {
            slash: grace.attribute("slash") == Some("yes"),
            index,
            quarters: note::notated_quarters(node).unwrap_or(0.5) as f32,
            steal_previous: steal.map(|percent| (percent / 100.0).clamp(0.0, 1.0) as f32),
            after: false,
        }
    }

    /// Voices keep their number where they have one.
    fn voice(&mut self, name: &str) -> u16 {
        if let Ok(number) = name.parse::<u16>()
            && (1..=1000).contains(&number)
        {
            return number;
        }
        let next = u16::try_from(1001 + self.voices.len()).unwrap_or(u16::MAX);
        *self.voices.entry(super::tree::short(name)).or_insert(next)
    }

    /// Instrument and pitch of a note.
    fn sounding(&mut self, node: Node<'_, '_>, head: Head, transpose: &Transpose) -> (u16, Pitch) {
        let id = child(node, "instrument").and_then(|n| n.attribute("id"));
        let named = id.and_then(|id| self.sounds.iter().find(|(known, _)| known == id));
        let sound = named
            .or_else(|| self.sounds.first())
            .map(|(_, s)| s.clone())
            .unwrap_or_default();
        let mut instrument = sound.instrument;
        let pitch = match head {
            Head::Pitched(written) => {
                let mut pitch = written.sounding(transpose);
                if instrument.percussion {
                    // A drum kit written with pitches: they are its keys.
                    pitch = Pitch::from_key(sound.unpitched.unwrap_or(pitch.key));
                }
                pitch
            }
            Head::Unpitched(at) => {
                instrument.percussion = true;
                let key = sound.unpitched.or_else(|| gm::drum(&instrument.name));
                let (octave, step) = at.unwrap_or((5, 0));
                Pitch::from_key(key.unwrap_or_else(|| gm::drum_at(octave, step)))
            }
            Head::Rest => Pitch::from_key(60),
        };
        if instrument.percussion {
            // The sounds of a kit are one instrument, whatever each is called.
            instrument.name.clone_from(&self.part.name);
            instrument.channel = Some(9);
        }
        (self.instrument_number(instrument), pitch)
    }

    fn instrument_number(&mut self, instrument: Instrument) -> u16 {
        if let Some(&number) = self.numbers.get(&instrument) {
            return number;
        }
        let number = u16::try_from(self.part.instruments.len()).unwrap_or(u16::MAX);
        if number < u16::MAX {
            self.part.instruments.push(instrument.clone());
            self.numbers.insert(instrument, number);
        }
        number
    }

    fn direction(&mut self, node: Node<'_, '_>, tempos: &mut Vec<TempoMark>) {
        // An offset moves what is printed; what sounds only where it says so.
        let offset = child(node, "offset").filter(|o| o.attribute("sound") == Some("yes"));
        let at = self.at.saturating_add(self.offset(offset)).max(0);
        let sound = child(node, "sound");
        let loudness = sound.and_then(direction::sound_dynamics);
        let mut marked = false;
        for item in elements(node).filter(|n| n.tag_name().name() == "direction-type") {
            marked |= direction::dynamics(item, loudness, at, &mut self.part.dynamics);
            for mark in elements(item) {
                match mark.tag_name().name() {
                    "pedal" => direction::pedal(mark, at, &mut self.part.pedals),
                    "metronome" => {
                        let current = tempos.iter().rev().take(1000).find(|t| t.onset <= at);
                        let current = current.map_or(120.0, |t| t.quarters_per_minute);
                        if let Some(quarters_per_minute) = direction::metronome(mark, current) {
                            tempos.push(TempoMark {
                                onset: at,
                                quarters_per_minute,
                                sounding: false,
                                part: self.index,
                            });
                        }
                    }
                    _ => {}
                }
            }
        }
        if let Some(sound) = sound {
            self.sound(sound, at, tempos, marked);
        }
    }

    /// Ticks of an `<offset>`, 0 where there is none or it means nothing.
    fn offset(&self, node: Option<Node<'_, '_>>) -> Ticks {
        let milli = node.and_then(|n| super::tree::milli(text(n))).unwrap_or(0);
        self.grid.scale(milli, self.divisions)
    }

    /// `marked`: the loudness is that of a mark already taken.
    fn sound(&mut self, node: Node<'_, '_>, at: Ticks, tempos: &mut Vec<TempoMark>, marked: bool) {
        let at = at.saturating_add(self.offset(child(node, "offset"))).max(0);
        if let Some(quarters_per_minute) = direction::sound_tempo(node) {
            tempos.push(TempoMark {
                onset: at,
                quarters_per_minute,
                sounding: true,
                part: self.index,
            });
        }
        if let Some(velocity) = direction::sound_dynamics(node).filter(|_| !marked) {
            self.part.dynamics.push(Dynamic {
                onset: at,
                kind: DynamicKind::Level(String::new(), velocity),
            });
        }
        if let Some(down) = direction::damper(node) {
            self.part.pedals.push(Pedal { onset: at, down });
        }
        for item in elements(node).filter(|n| n.tag_name().name() == "midi-instrument") {
            let id = item.attribute("id").unwrap_or("");
            if let Some((_, sound)) = self.sounds.iter_mut().find(|(known, _)| known == id) {
                midi_instrument(item, sound);
            }
        }
    }

    /// Settles grace notes that no principal followed, and measure repeats.
    fn end_measure(
        &mut self,
        number: usize,
        first_note: usize,
        measures: &[Measure],
        total: usize,
    ) -> Result<()> {
        let last_notes = std::mem::take(&mut self.last_notes);
        for (voice, waiting) in std::mem::take(&mut self.graces) {
            let Some(&onset) = last_notes.get(&voice) else {
                continue;
            };
            for index in waiting {
                if let Some(note) = self.part.notes.get_mut(index) {
                    note.onset = onset;
                    note.grace = note.grace.map(|g| Grace { after: true, ..g });
                }
            }
        }
        if let Some(behind) = self.repeating
            && self.part.notes.len() == first_note
            && let Some(source) = number.checked_sub(behind)
            && let (Some(&(from, to)), Some(model)) =
                (self.copied.get(source), measures.get(source))
        {
            let shift = self.base - model.onset;
            let wanted = total
                .saturating_add(self.part.notes.len())
                .saturating_add(to - from);
            if wanted > MAX_NOTES {
                return Err(self.place.too_large(
                    "number of notes",
                    wanted as u64,
                    MAX_NOTES as u64,
                ));
            }
            let copies: Vec<Note> = self.part.notes.get(from..to).unwrap_or(&[]).to_vec();
            self.part.notes.extend(copies.into_iter().map(|n| Note {
                onset: n.onset + shift,
                ..n
            }));
        }
        self.copied.push((first_note, self.part.notes.len()));
        Ok(())
    }

    fn finish(self) -> Part {
        let mut part = self.part;
        // Grace notes before their principal; a Nachschlag after it.
        part.notes
            .sort_by_key(|n| (n.onset, n.grace.is_none_or(|g| g.after)));
        part.pedals.sort_by_key(|p| p.onset);
        // The sign and its <sound> say the same twice.
        part.pedals.dedup_by_key(|p| p.down);
        part.fermatas.sort_unstable();
        // A wedge begins from the mark at its tail, and ends before the one at its tip.
        let rank = |kind: &DynamicKind| match kind {
            DynamicKind::WedgeStop => 0,
            DynamicKind::Level(..) => 1,
            DynamicKind::Accent(..) => 2,
            DynamicKind::Wedge(_) => 3,
        };
        part.dynamics.sort_by_key(|d| (d.onset, rank(&d.kind)));
        levels::apply(
            &mut part.notes,
            &part.dynamics,
            Ticks::from(self.grid.ticks),
        );
        part
    }
}
