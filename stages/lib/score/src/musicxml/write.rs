//! A [`Score`] as MusicXML 4.0, partwise, at concert pitch.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::model::{Instrument, Measure, Part, Score};

use super::voices::lay_out;
use super::write_measure::{PartWriter, Sounds};
use super::xml::{Xml, decimal};

const HEAD: &str = concat!(
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n",
    "<!DOCTYPE score-partwise PUBLIC \"-//Recordare//DTD MusicXML 4.0 Partwise//EN\"",
    " \"http://www.musicxml.org/dtds/partwise.dtd\">\n",
);

/// Writes `score` as MusicXML text in UTF-8.
///
/// Divisions are the score's ticks, so that every onset and duration survives.
/// Notes are split into tied pieces at barlines and where a duration has no
/// single note value; a duration that no values add up to is written by its
/// `<duration>` alone. Velocities are written on each note. Chords are what
/// begins and ends together; what overlaps goes to further voices, and beyond
/// four voices to further staves.
///
/// # Errors
/// When a score of very long notes splits into more pieces than
/// [`crate::limits`] allow.
pub fn write_musicxml(score: &Score) -> Result<Vec<u8>> {
    let measures = all_measures(score);
    let silent = [Part {
        name: "Silence".to_owned(),
        ..Part::default()
    }];
    let parts = if score.parts.is_empty() {
        &silent[..]
    } else {
        &score.parts
    };
    let mut xml = Xml::new(HEAD);
    xml.open("score-partwise", &[("version", "4.0")]);
    if !score.title.is_empty() {
        xml.open("work", &[]);
        xml.text("work-title", &score.title);
        xml.close();
    }
    xml.open("identification", &[]);
    if !score.composer.is_empty() {
        xml.text_with("creator", &[("type", "composer")], &score.composer);
    }
    xml.open("encoding", &[]);
    xml.text("software", "pipeline");
    xml.close();
    xml.close();
    let sounds: Vec<Sounds> = parts
        .iter()
        .enumerate()
        .map(|(i, p)| Sounds::of(i, p))
        .collect();
    xml.open("part-list", &[]);
    for (index, (part, sounds)) in parts.iter().zip(&sounds).enumerate() {
        score_part(&mut xml, index, part, sounds);
    }
    xml.close();
    for (index, (part, sounds)) in parts.iter().zip(&sounds).enumerate() {
        let voices = lay_out(part, &measures)?;
        xml.open("part", &[("id", &format!("P{}", index + 1))]);
        PartWriter::new(score, index, part, sounds, &voices, &measures).write(&mut xml);
        xml.close();
    }
    xml.close();
    Ok(xml.finish())
}

/// The measures of the score, and more of the last meter where notes go on.
fn all_measures(score: &Score) -> Vec<Measure> {
    let mut measures = score.measures.clone();
    let end = score.length();
    let time = measures.last().map(|m| m.time).unwrap_or_default();
    let nominal = time.length(score.divisions);
    let mut onset = measures
        .last()
        .map_or(0, |m| m.onset.saturating_add(m.length));
    while (onset < end || measures.is_empty()) && measures.len() < crate::limits::MAX_MEASURES {
        let number = (measures.len() + 1).to_string();
        measures.push(Measure {
            onset,
            length: nominal,
            number,
            time,
            ..Measure::default()
        });
        onset = onset.saturating_add(nominal);
    }
    measures
}

fn score_part(xml: &mut Xml, index: usize, part: &Part, sounds: &Sounds) {
    xml.open("score-part", &[("id", &format!("P{}", index + 1))]);
    xml.text("part-name", &part.name);
    for sound in &sounds.list {
        xml.open("score-instrument", &[("id", &sound.id)]);
        let label = [&sound.instrument.name, &part.name]
            .into_iter()
            .find(|n| !n.is_empty());
        xml.text(
            "instrument-name",
            label.map_or("Instrument", |l| l.as_str()),
        );
        xml.close();
    }
    for sound in &sounds.list {
        midi_instrument(xml, &sound.id, sound.instrument, sound.drum);
    }
    xml.close();
}

fn midi_instrument(xml: &mut Xml, id: &str, instrument: &Instrument, drum: Option<u8>) {
    xml.open("midi-instrument", &[("id", id)]);
    let channel = if instrument.percussion {
        Some(9)
    } else {
        instrument.channel
    };
    if let Some(channel) = channel {
        xml.text("midi-channel", channel + 1);
    }
    xml.text("midi-program", u16::from(instrument.program) + 1);
    if let Some(key) = drum {
        xml.text("midi-unpitched", u16::from(key) + 1);
    }
    xml.text("volume", decimal(f64::from(instrument.volume) / 1.27, 4));
    xml.close();
}

/// One `<score-instrument>`.
pub(super) struct Sound<'a> {
    pub(super) id: String,
    pub(super) instrument: &'a Instrument,
    /// The drum, where the instrument is a kit: each has its own.
    pub(super) drum: Option<u8>,
}

/// The instruments that a part really uses; the first one if it is silent.
pub(super) fn used_sounds(index: usize, part: &Part) -> Vec<Sound<'_>> {
    let is_kit = |i: u16| {
        part.instruments
            .get(usize::from(i))
            .is_some_and(|i| i.percussion)
    };
    let used: BTreeSet<(u16, Option<u8>)> = part
        .notes
        .iter()
        .map(|n| (n.instrument, is_kit(n.instrument).then_some(n.pitch.key)))
        .collect();
    let sounds = used.into_iter().filter_map(|(number, drum)| {
        let instrument = part.instruments.get(usize::from(number))?;
        Some(Sound {
            id: sound_id(index, number, drum),
            instrument,
            drum,
        })
    });
    sounds.collect()
}

/// Identifier of an instrument of a part, or of a drum of a kit.
pub(super) fn sound_id(part: usize, instrument: u16, drum: Option<u8>) -> String {
    match drum {
        Some(key) => format!("P{}-I{}-D{key}", part + 1, instrument + 1),
        None => format!("P{}-I{}", part + 1, instrument + 1),
    }
}
