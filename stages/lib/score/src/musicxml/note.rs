//! `<note>`: everything on it that changes what sounds.

use roxmltree::Node;

use crate::error::Result;
use crate::model::{Articulation, Ornament, Pitch, STEP_SEMITONES, Spelling, Ticks, clamp_key};

use super::attributes::Transpose;
use super::tree::{Grid, Place, child, child_text, dotted, elements, number, text, type_quarters};

/// What is drawn at the place of a note.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Head {
    Rest,
    Pitched(WrittenPitch),
    /// A drum, where it stands: octave and step, if given.
    Unpitched(Option<(i64, u8)>),
}

/// A pitch as written, before transposition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct WrittenPitch {
    pub(super) step: u8,
    pub(super) octave: i64,
    /// Semitones, with fractions for microtones.
    pub(super) alter: f64,
}

impl WrittenPitch {
    /// What sounds under a transposition.
    pub(super) fn sounding(&self, transpose: &Transpose) -> Pitch {
        let natural = STEP_SEMITONES
            .get(usize::from(self.step))
            .copied()
            .unwrap_or(0);
        // Quarter tones stay above (or below) the key that they are named after.
        let semitones = if self.alter.fract().abs() == 0.5 {
            self.alter.trunc()
        } else {
            self.alter.round()
        };
        let cents = ((self.alter - semitones) * 100.0) as f32;
        let written = 12 * (self.octave + 1) + natural + semitones as i64;
        let exact = written + transpose.semitones;
        let key = clamp_key(exact);
        let spelling = transpose
            .steps
            .and_then(|steps| spell(key, 7 * self.octave + i64::from(self.step) + steps));
        Pitch {
            key,
            cents,
            spelling: spelling.filter(|_| i64::from(key) == exact),
        }
    }
}

/// `key` on a step of the staff, counted from C of octave 0.
fn spell(key: u8, staff_step: i64) -> Option<Spelling> {
    let (octave, step) = (staff_step.div_euclid(7), staff_step.rem_euclid(7));
    let natural = 12 * (octave + 1) + STEP_SEMITONES.get(step as usize).copied()?;
    let alter = i8::try_from(i64::from(key) - natural)
        .ok()
        .filter(|a| a.abs() <= 3)?;
    Some(Spelling {
        step: step as u8,
        alter,
        octave: i8::try_from(octave).ok()?,
    })
}

/// Reads the head of a note.
pub(super) fn head(node: Node<'_, '_>, place: &Place<'_>) -> Result<Head> {
    if let Some(pitch) = child(node, "pitch") {
        let got = child_text(pitch, "step").unwrap_or("");
        let step = step(got).ok_or_else(|| place.value("step", got, "A to G"))?;
        let octave = octave(child_text(pitch, "octave").unwrap_or(""), place)?;
        let alter = match child_text(pitch, "alter") {
            None | Some("") => 0.0,
            Some(got) => number(got)
                .filter(|a| a.abs() <= 27.0)
                .ok_or_else(|| place.value("alter", got, "-27 to 27 semitones"))?,
        };
        return Ok(Head::Pitched(WrittenPitch {
            step,
            octave,
            alter,
        }));
    }
    if let Some(unpitched) = child(node, "unpitched") {
        let at = child_text(unpitched, "display-step").and_then(step);
        let at = match (at, child_text(unpitched, "display-octave")) {
            (Some(step), Some(got)) => Some((octave(got, place)?, step)),
            _ => None,
        };
        return Ok(Head::Unpitched(at));
    }
    Ok(Head::Rest)
}

fn step(text: &str) -> Option<u8> {
    Some(match text {
        "C" | "c" => 0,
        "D" | "d" => 1,
        "E" | "e" => 2,
        "F" | "f" => 3,
        "G" | "g" => 4,
        "A" | "a" => 5,
        "B" | "b" => 6,
        _ => return None,
    })
}

fn octave(text: &str, place: &Place<'_>) -> Result<i64> {
    let octave = text.parse::<i64>().ok().filter(|o| (-2..=12).contains(o));
    octave.ok_or_else(|| place.value("octave", text, "0 to 9"))
}

/// Quarter notes that a note's type, dots and tuplet say; `None` without a type.
pub(super) fn notated_quarters(node: Node<'_, '_>) -> Option<f64> {
    let base = type_quarters(child_text(node, "type")?)?;
    let dots = elements(node)
        .filter(|n| n.tag_name().name() == "dot")
        .count();
    let mut quarters = dotted(base, dots);
    if let Some(tuplet) = child(node, "time-modification") {
        let part = |name| {
            child_text(tuplet, name)
                .and_then(number)
                .filter(|n| (1.0..=1000.0).contains(n))
        };
        if let (Some(actual), Some(normal)) = (part("actual-notes"), part("normal-notes")) {
            quarters *= normal / actual;
        }
    }
    Some(quarters)
}

/// Length of a note that has no `<duration>`.
pub(super) fn notated_length(node: Node<'_, '_>, grid: Grid) -> Ticks {
    grid.quarters(notated_quarters(node).unwrap_or(0.0))
}

/// Ties as (begins, ends): `<tie>`, or `<tied>` where an exporter leaves it at that.
pub(super) fn ties(node: Node<'_, '_>) -> (bool, bool) {
    let read = |parent: Node<'_, '_>, name: &str| {
        let mut found = (false, false);
        for tie in elements(parent).filter(|n| n.tag_name().name() == name) {
            match tie.attribute("type") {
                Some("start") => found.0 = true,
                Some("stop") => found.1 = true,
                Some("continue") => found = (true, true),
                _ => {}
            }
        }
        found
    };
    let sounding = read(node, "tie");
    if sounding != (false, false) {
        return sounding;
    }
    let each = notations(node).map(|n| read(n, "tied"));
    each.fold((false, false), |a, b| (a.0 || b.0, a.1 || b.1))
}

fn notations<'a, 'i: 'a>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    elements(node).filter(|n| n.tag_name().name() == "notations")
}

/// Marks over a note.
pub(super) fn articulation(node: Node<'_, '_>) -> (Articulation, Option<Ornament>) {
    let mut marks = Articulation::default();
    let mut ornament = None;
    for item in notations(node).flat_map(elements) {
        match item.tag_name().name() {
            "fermata" => marks.fermata = true,
            "arpeggiate" => marks.arpeggio = true,
            "articulations" => {
                for mark in elements(item) {
                    match mark.tag_name().name() {
                        "staccato" | "spiccato" => marks.staccato = true,
                        "staccatissimo" => marks.staccatissimo = true,
                        "tenuto" => marks.tenuto = true,
                        "detached-legato" => (marks.staccato, marks.tenuto) = (true, true),
                        "accent" => marks.accent = true,
                        "strong-accent" => marks.marcato = true,
                        _ => {}
                    }
                }
            }
            "ornaments" => ornament = ornament.or_else(|| elements(item).find_map(ornament_of)),
            _ => {}
        }
    }
    (marks, ornament)
}

fn ornament_of(node: Node<'_, '_>) -> Option<Ornament> {
    Some(match node.tag_name().name() {
        "trill-mark" | "shake" => Ornament::Trill,
        // A mordent with its stroke goes down; without (inverted), up.
        "mordent" => Ornament::Mordent,
        "inverted-mordent" => Ornament::InvertedMordent,
        "turn" | "delayed-turn" | "vertical-turn" => Ornament::Turn,
        "inverted-turn" | "delayed-inverted-turn" | "inverted-vertical-turn" => {
            Ornament::InvertedTurn
        }
        // Tremolos between two notes, and rolls without a number, are left plain.
        "tremolo" if matches!(node.attribute("type"), None | Some("single")) => {
            let marks = text(node)
                .parse::<u8>()
                .ok()
                .filter(|m| (1..=8).contains(m))?;
            Ornament::Tremolo(marks)
        }
        _ => return None,
    })
}
