//! The measures of a part as MusicXML.

use crate::flatten::fifths_at;
use crate::model::{
    Articulation, Dynamic, Grace, Measure, Note, Ornament, Part, Score, Spelling, Tempo, Ticks,
    TimeSignature,
};

use super::levels::to_percent;
use super::notation::{Value, letter, pieces, spell, value};
use super::voices::{Chord, Segment, Voices};
use super::write::{Sound, sound_id, used_sounds};
use super::write_marks::{Mark, jumps, left_barline, right_barline, targets, write_mark};
use super::xml::{Xml, decimal};

/// The instruments of a part, as they are written.
pub(super) struct Sounds<'a> {
    pub(super) list: Vec<Sound<'a>>,
}

impl<'a> Sounds<'a> {
    pub(super) fn of(index: usize, part: &'a Part) -> Self {
        Self {
            list: used_sounds(index, part),
        }
    }
}

/// Writes one part, measure after measure.
pub(super) struct PartWriter<'a> {
    score: &'a Score,
    index: usize,
    part: &'a Part,
    /// Notes name their instrument.
    many_sounds: bool,
    voices: &'a Voices<'a>,
    measures: &'a [Measure],
    /// What is still to be written, and what is in force.
    tempos: std::iter::Peekable<std::slice::Iter<'a, Tempo>>,
    dynamics: std::iter::Peekable<std::slice::Iter<'a, Dynamic>>,
    pedals: std::iter::Peekable<std::slice::Iter<'a, crate::model::Pedal>>,
    time: Option<TimeSignature>,
    key: Option<(i8, bool)>,
}

impl<'a> PartWriter<'a> {
    pub(super) fn new(
        score: &'a Score,
        index: usize,
        part: &'a Part,
        sounds: &Sounds<'_>,
        voices: &'a Voices<'a>,
        measures: &'a [Measure],
    ) -> Self {
        // Tempos hold for all parts and are written in the first.
        let tempos = if index == 0 {
            score.tempos.as_slice()
        } else {
            &[]
        };
        Self {
            score,
            index,
            part,
            many_sounds: sounds.list.len() > 1,
            voices,
            measures,
            tempos: tempos.iter().peekable(),
            dynamics: part.dynamics.iter().peekable(),
            pedals: part.pedals.iter().peekable(),
            time: None,
            key: None,
        }
    }

    pub(super) fn write(mut self, xml: &mut Xml) {
        for (number, measure) in self.measures.iter().enumerate() {
            let fallback = (number + 1).to_string();
            let label = if measure.number.is_empty() {
                &fallback
            } else {
                &measure.number
            };
            let mut attributes = vec![("number", label.as_str())];
            if measure.implicit {
                attributes.push(("implicit", "yes"));
            }
            xml.open("measure", &attributes);
            left_barline(xml, measure);
            self.attributes(xml, number, measure);
            if self.index == 0 {
                targets(xml, measure);
            }
            self.marks(xml, measure);
            let segments = self
                .voices
                .measures
                .get(number)
                .map_or(&[][..], Vec::as_slice);
            self.voices_of(xml, measure, segments);
            if self.index == 0 {
                jumps(xml, measure);
            }
            right_barline(xml, measure);
            xml.close();
        }
    }

    fn attributes(&mut self, xml: &mut Xml, number: usize, measure: &Measure) {
        // A key that changes inside a measure is written at the next barline.
        let index = self
            .score
            .keys
            .partition_point(|k| k.onset <= measure.onset);
        let key = index.checked_sub(1).and_then(|i| self.score.keys.get(i));
        let key = key.map(|k| (k.fifths, k.minor));
        let new_key = key.filter(|k| self.key != Some(*k));
        let new_time = self.time != Some(measure.time);
        if number > 0 && new_key.is_none() && !new_time {
            return;
        }
        xml.open("attributes", &[]);
        if number == 0 {
            xml.text("divisions", self.score.divisions);
        }
        if let Some((fifths, minor)) = new_key {
            self.key = Some((fifths, minor));
            xml.open("key", &[]);
            xml.text("fifths", fifths);
            xml.text("mode", if minor { "minor" } else { "major" });
            xml.close();
        }
        if new_time {
            self.time = Some(measure.time);
            xml.open("time", &[]);
            xml.text("beats", measure.time.beats);
            xml.text("beat-type", measure.time.beat_type);
            xml.close();
        }
        if number == 0 {
            self.staves(xml);
        }
        xml.close();
    }

    /// The number of staves, and a clef for each that suits most of its notes.
    fn staves(&self, xml: &mut Xml) {
        let count = usize::from(self.voices.staff_count.max(1));
        let mut keys = vec![(0_u64, 0_u64); count];
        for segment in self.voices.measures.iter().flatten() {
            let Some(chord) = self.voices.chords.get(segment.chord) else {
                continue;
            };
            for note in &chord.notes {
                if let Some(sum) =
                    keys.get_mut(usize::from(self.staff(note, segment.voice)).saturating_sub(1))
                {
                    sum.0 += u64::from(note.pitch.key);
                    sum.1 += 1;
                }
            }
        }
        if count > 1 {
            xml.text("staves", count);
        }
        let kit =
            self.part.instruments.iter().all(|i| i.percussion) && !self.part.instruments.is_empty();
        for (staff, (sum, notes)) in keys.into_iter().enumerate() {
            let (sign, line) = match sum.checked_div(notes) {
                _ if kit => ("percussion", 2),
                Some(mean) if mean < 57 => ("F", 4),
                _ => ("G", 2),
            };
            let label = (staff + 1).to_string();
            let numbered: &[(&str, &str)] = if count > 1 {
                &[("number", &label)]
            } else {
                &[]
            };
            xml.open("clef", numbered);
            xml.text("sign", sign);
            xml.text("line", line);
            xml.close();
        }
    }

    fn staff(&self, note: &Note, voice: usize) -> u8 {
        if self.voices.own_staves {
            return note.staff.max(1);
        }
        self.voices.staves.get(voice).copied().unwrap_or(1)
    }

    /// Tempos, dynamics and pedals at their places, before the notes: the cursor
    /// goes forward to each of them and back to the barline.
    fn marks(&mut self, xml: &mut Xml, measure: &Measure) {
        let last = self
            .measures
            .last()
            .is_some_and(|m| m.onset == measure.onset);
        let end = if last {
            Ticks::MAX
        } else {
            measure.onset.saturating_add(measure.length)
        };
        let mut marks: Vec<(Ticks, Mark<'a>)> = Vec::new();
        while let Some(tempo) = self.tempos.next_if(|t| t.onset < end) {
            // Metronome marks at barlines only: a performed piece has a tempo on
            // every beat, which is to be heard but not to be read.
            let shown = tempo.onset <= measure.onset;
            marks.push((tempo.onset, Mark::Tempo(tempo.quarters_per_minute, shown)));
        }
        while let Some(dynamic) = self.dynamics.next_if(|d| d.onset < end) {
            marks.push((dynamic.onset, Mark::Dynamic(&dynamic.kind)));
        }
        while let Some(pedal) = self.pedals.next_if(|p| p.onset < end) {
            marks.push((pedal.onset, Mark::Pedal(pedal.down)));
        }
        marks.sort_by_key(|m| m.0);
        let mut at = measure.onset;
        for (onset, mark) in marks {
            // Beyond the last barline nothing sounds; the file must not grow.
            let onset = onset.clamp(measure.onset, measure.onset.saturating_add(measure.length));
            if onset > at {
                step(xml, "forward", onset - at);
                at = onset;
            }
            write_mark(xml, &mark);
        }
        if at > measure.onset {
            step(xml, "backup", at - measure.onset);
        }
    }

    /// All voices of a measure, one after another from the barline.
    fn voices_of(&self, xml: &mut Xml, measure: &Measure, segments: &[Segment]) {
        let end = measure.onset.saturating_add(measure.length);
        let mut at = measure.onset;
        if segments.first().is_none_or(|s| s.voice != 0) {
            // The first voice always fills the measure.
            self.whole_rest(xml, measure);
            at = end;
        }
        for voice in segments.chunk_by(|a, b| a.voice == b.voice) {
            let first = voice.first().map_or(0, |s| s.voice);
            if at > measure.onset {
                step(xml, "backup", at - measure.onset);
                at = measure.onset;
            }
            for segment in voice {
                if segment.onset > at {
                    self.gap(xml, first, at, segment.onset);
                    at = segment.onset;
                }
                self.chord(xml, segment);
                at = at.max(segment.onset.saturating_add(segment.duration));
            }
            if first == 0 && at < end {
                self.gap(xml, first, at, end);
                at = end;
            }
        }
    }

    fn whole_rest(&self, xml: &mut Xml, measure: &Measure) {
        xml.open("note", &[]);
        xml.empty("rest", &[("measure", "yes")]);
        xml.text("duration", measure.length);
        xml.text("voice", 1);
        if self
            .part
            .fermatas
            .iter()
            .any(|f| f.0 == measure.onset && f.1 == measure.length)
        {
            fermata(xml);
        }
        xml.close();
    }

    /// Silence: rests in the first voice, nothing seen in the others.
    fn gap(&self, xml: &mut Xml, voice: usize, from: Ticks, to: Ticks) {
        if voice != 0 {
            return step(xml, "forward", to - from);
        }
        let mut at = from;
        for (ticks, value) in pieces(to - from, self.score.divisions) {
            xml.open("note", &[]);
            xml.empty("rest", &[]);
            xml.text("duration", ticks);
            xml.text("voice", 1);
            note_type(xml, value);
            if self.part.fermatas.iter().any(|f| f.0 == at) {
                fermata(xml);
            }
            xml.close();
            at += ticks;
        }
    }

    /// A chord or grace notes; split where no single value fits.
    fn chord(&self, xml: &mut Xml, segment: &Segment) {
        let Some(chord) = self.voices.chords.get(segment.chord) else {
            return;
        };
        if let Some(grace) = chord.notes.first().and_then(|n| n.grace) {
            self.graces(xml, chord, segment.voice, &grace);
            return;
        }
        let pieces = pieces(segment.duration, self.score.divisions);
        for (place, &(ticks, value)) in pieces.iter().enumerate() {
            let shown = Shown {
                first: place == 0 && !segment.continued,
                last: place + 1 == pieces.len() && !segment.continues,
                ticks: Some(ticks),
                value,
                voice: segment.voice,
            };
            for (row, note) in chord.notes.iter().enumerate() {
                self.note(xml, note, row > 0, &shown, None);
            }
        }
    }

    fn graces(&self, xml: &mut Xml, chord: &Chord<'_>, voice: usize, grace: &Grace) {
        let divisions = 1 << 16;
        let ticks = (f64::from(grace.quarters) * f64::from(divisions)).round() as Ticks;
        let fallback = Value {
            name: "eighth",
            dots: 0,
            tuplet: None,
        };
        let value = value(ticks, divisions as u32)
            .filter(|v| v.tuplet.is_none())
            .unwrap_or(fallback);
        let shown = Shown {
            first: true,
            last: true,
            ticks: None,
            value: Some(value),
            voice,
        };
        for (row, note) in chord.notes.iter().enumerate() {
            self.note(xml, note, row > 0, &shown, Some(grace));
        }
    }

    fn note(
        &self,
        xml: &mut Xml,
        note: &Note,
        in_chord: bool,
        shown: &Shown,
        grace: Option<&Grace>,
    ) {
        let loudness = decimal(to_percent(note.velocity), 2);
        xml.open("note", &[("dynamics", &loudness)]);
        if let Some(grace) = grace {
            let mut attributes = Vec::new();
            let steal = grace
                .steal_previous
                .map(|share| decimal(f64::from(share) * 100.0, 2));
            if let Some(steal) = &steal {
                attributes.push(("steal-time-previous", steal.as_str()));
            }
            if grace.slash {
                attributes.push(("slash", "yes"));
            }
            xml.empty("grace", &attributes);
        }
        if in_chord {
            xml.empty("chord", &[]);
        }
        let instrument = self.part.instruments.get(usize::from(note.instrument));
        let percussion = instrument.is_some_and(|i| i.percussion);
        self.pitch(xml, note, percussion);
        if let Some(ticks) = shown.ticks {
            xml.text("duration", ticks);
        }
        let stops = note.tie_stop || !shown.first;
        let starts = note.tie_start || !shown.last;
        if stops {
            xml.empty("tie", &[("type", "stop")]);
        }
        if starts {
            xml.empty("tie", &[("type", "start")]);
        }
        if self.many_sounds {
            let drum = percussion.then_some(note.pitch.key);
            xml.empty(
                "instrument",
                &[("id", &sound_id(self.index, note.instrument, drum))],
            );
        }
        xml.text("voice", shown.voice + 1);
        note_type(xml, shown.value);
        if self.voices.staff_count > 1 {
            xml.text("staff", self.staff(note, shown.voice));
        }
        notations(xml, note, stops, starts, shown);
        xml.close();
    }

    fn pitch(&self, xml: &mut Xml, note: &Note, percussion: bool) {
        let name = note.pitch.spelling.unwrap_or_else(|| self.spelling(note));
        if percussion {
            // Drums stand where their key would stand among pitches.
            xml.open("unpitched", &[]);
            xml.text("display-step", letter(name.step));
            xml.text("display-octave", name.octave.clamp(0, 9));
            xml.close();
            return;
        }
        xml.open("pitch", &[]);
        xml.text("step", letter(name.step));
        let alter = f64::from(name.alter) + f64::from(note.pitch.cents) / 100.0;
        if alter != 0.0 {
            xml.text("alter", decimal(alter, 6));
        }
        xml.text("octave", name.octave);
        xml.close();
    }

    fn spelling(&self, note: &Note) -> Spelling {
        let index = self.score.keys.partition_point(|k| k.onset <= note.onset);
        let minor = index
            .checked_sub(1)
            .and_then(|i| self.score.keys.get(i))
            .is_some_and(|k| k.minor);
        spell(note.pitch.key, fifths_at(self.score, note.onset), minor)
    }
}

/// A written piece of a chord.
struct Shown {
    /// The piece that is struck, and the one that ends the note.
    first: bool,
    last: bool,
    /// `None` for grace notes.
    ticks: Option<Ticks>,
    value: Option<Value>,
    voice: usize,
}

fn step(xml: &mut Xml, name: &'static str, by: Ticks) {
    xml.open(name, &[]);
    xml.text("duration", by);
    xml.close();
}

fn note_type(xml: &mut Xml, value: Option<Value>) {
    let Some(value) = value else { return };
    xml.text("type", value.name);
    for _ in 0..value.dots {
        xml.empty("dot", &[]);
    }
    if let Some((actual, normal)) = value.tuplet {
        xml.open("time-modification", &[]);
        xml.text("actual-notes", actual);
        xml.text("normal-notes", normal);
        xml.close();
    }
}

fn fermata(xml: &mut Xml) {
    xml.open("notations", &[]);
    xml.empty("fermata", &[]);
    xml.close();
}

/// Marks that make the stroke stand at the first piece of a split note, those
/// that make its end at the last.
fn notations(xml: &mut Xml, note: &Note, stops: bool, starts: bool, shown: &Shown) {
    let marks = note.articulation;
    let at_start = |mark: bool| mark && shown.first;
    let at_end = |mark: bool| mark && shown.last;
    let articulations = [
        (at_start(marks.accent), "accent"),
        (
            marks.marcato && (shown.first || shown.last),
            "strong-accent",
        ),
        (at_end(marks.staccato), "staccato"),
        (at_end(marks.tenuto), "tenuto"),
        (at_end(marks.staccatissimo), "staccatissimo"),
    ];
    let ornament = note.ornament.filter(|_| shown.first);
    let any_articulation = articulations.iter().any(|a| a.0);
    let plain = marks == Articulation::default() && ornament.is_none();
    if !stops
        && !starts
        && (plain
            || !(any_articulation
                || ornament.is_some()
                || at_end(marks.fermata)
                || at_start(marks.arpeggio)))
    {
        return;
    }
    xml.open("notations", &[]);
    if stops {
        xml.empty("tied", &[("type", "stop")]);
    }
    if starts {
        xml.empty("tied", &[("type", "start")]);
    }
    if let Some(ornament) = ornament {
        write_ornament(xml, ornament);
    }
    if any_articulation {
        xml.open("articulations", &[]);
        for (_, name) in articulations.into_iter().filter(|a| a.0) {
            xml.empty(name, &[]);
        }
        xml.close();
    }
    if at_end(marks.fermata) {
        xml.empty("fermata", &[]);
    }
    if at_start(marks.arpeggio) {
        xml.empty("arpeggiate", &[]);
    }
    xml.close();
}

fn write_ornament(xml: &mut Xml, ornament: Ornament) {
    xml.open("ornaments", &[]);
    match ornament {
        Ornament::Trill => xml.empty("trill-mark", &[]),
        Ornament::Mordent => xml.empty("mordent", &[]),
        Ornament::InvertedMordent => xml.empty("inverted-mordent", &[]),
        Ornament::Turn => xml.empty("turn", &[]),
        Ornament::InvertedTurn => xml.empty("inverted-turn", &[]),
        Ornament::Tremolo(marks) => xml.text_with("tremolo", &[("type", "single")], marks),
    }
    xml.close();
}
