//! What stands between the notes as MusicXML: tempos, dynamics, pedals,
//! barlines, endings and jumps.

use crate::model::{DynamicKind, Measure};

use super::levels::to_percent;
use super::xml::{Xml, decimal};

/// Something between the notes.
pub(super) enum Mark<'a> {
    /// Quarter notes per minute, and whether it is to be read as well as heard.
    Tempo(f64, bool),
    Dynamic(&'a DynamicKind),
    Pedal(bool),
}

pub(super) fn write_mark(xml: &mut Xml, mark: &Mark<'_>) {
    match mark {
        Mark::Tempo(tempo, shown) => {
            let text = decimal(*tempo, 12);
            if !shown {
                return xml.empty("sound", &[("tempo", &text)]);
            }
            xml.open("direction", &[("placement", "above")]);
            xml.open("direction-type", &[]);
            xml.open("metronome", &[]);
            xml.text("beat-unit", "quarter");
            xml.text("per-minute", decimal(*tempo, 2));
            xml.close();
            xml.close();
            xml.empty("sound", &[("tempo", &text)]);
            xml.close();
        }
        Mark::Dynamic(DynamicKind::Level(name, velocity)) if name.is_empty() => {
            xml.empty("sound", &[("dynamics", &decimal(to_percent(*velocity), 2))]);
        }
        Mark::Dynamic(kind) => {
            xml.open("direction", &[("placement", "below")]);
            xml.open("direction-type", &[]);
            match kind {
                DynamicKind::Level(name, _) | DynamicKind::Accent(name, _) => {
                    xml.open("dynamics", &[]);
                    match DYNAMIC_NAMES.iter().find(|known| *known == name) {
                        Some(known) => xml.empty(known, &[]),
                        None => xml.text("other-dynamics", name),
                    }
                    xml.close();
                }
                DynamicKind::Wedge(true) => xml.empty("wedge", &[("type", "crescendo")]),
                DynamicKind::Wedge(false) => xml.empty("wedge", &[("type", "diminuendo")]),
                DynamicKind::WedgeStop => xml.empty("wedge", &[("type", "stop")]),
            }
            xml.close();
            if let DynamicKind::Level(_, velocity) = kind {
                xml.empty("sound", &[("dynamics", &decimal(to_percent(*velocity), 2))]);
            }
            xml.close();
        }
        Mark::Pedal(down) => {
            xml.open("direction", &[("placement", "below")]);
            xml.open("direction-type", &[]);
            xml.empty(
                "pedal",
                &[
                    ("type", if *down { "start" } else { "stop" }),
                    ("line", "yes"),
                ],
            );
            xml.close();
            xml.empty(
                "sound",
                &[("damper-pedal", if *down { "yes" } else { "no" })],
            );
            xml.close();
        }
    }
}

/// Dynamic marks that have an element of their own (MusicXML 4.0, `dynamics`).
const DYNAMIC_NAMES: [&str; 24] = [
    "p", "pp", "ppp", "pppp", "ppppp", "pppppp", "f", "ff", "fff", "ffff", "fffff", "ffffff", "mp",
    "mf", "sf", "sfp", "sfpp", "fp", "rf", "rfz", "sfz", "sffz", "fz", "pf",
];

pub(super) fn left_barline(xml: &mut Xml, measure: &Measure) {
    let bracket = measure.ending.as_ref().filter(|e| e.first);
    if !measure.repeat_start && bracket.is_none() {
        return;
    }
    xml.open("barline", &[("location", "left")]);
    if let Some(ending) = bracket {
        xml.empty(
            "ending",
            &[("number", &join(&ending.numbers)), ("type", "start")],
        );
    }
    if measure.repeat_start {
        xml.empty("repeat", &[("direction", "forward")]);
    }
    xml.close();
}

pub(super) fn right_barline(xml: &mut Xml, measure: &Measure) {
    let bracket = measure.ending.as_ref().filter(|e| e.last);
    if measure.repeat_end.is_none() && bracket.is_none() {
        return;
    }
    xml.open("barline", &[("location", "right")]);
    if let Some(ending) = bracket {
        xml.empty(
            "ending",
            &[("number", &join(&ending.numbers)), ("type", "stop")],
        );
    }
    if let Some(times) = measure.repeat_end {
        let label = times.to_string();
        let mut attributes = vec![("direction", "backward")];
        if times != 2 {
            attributes.push(("times", &label));
        }
        xml.empty("repeat", &attributes);
    }
    xml.close();
}

fn join(numbers: &[u32]) -> String {
    numbers
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

/// Signs that are jumped to, at the beginning of a measure.
pub(super) fn targets(xml: &mut Xml, measure: &Measure) {
    for (label, sign, attribute) in [
        (&measure.jumps.segno, "segno", "segno"),
        (&measure.jumps.coda, "coda", "coda"),
    ] {
        if let Some(label) = label {
            xml.open("direction", &[("placement", "above")]);
            xml.open("direction-type", &[]);
            xml.empty(sign, &[]);
            xml.close();
            xml.empty("sound", &[(attribute, label)]);
            xml.close();
        }
    }
}

/// Jumps, at the end of a measure.
pub(super) fn jumps(xml: &mut Xml, measure: &Measure) {
    let jumps = &measure.jumps;
    let mut sounds: Vec<(&str, &str, &str)> = Vec::new();
    if let Some(label) = &jumps.to_coda {
        sounds.push(("To Coda", "tocoda", label));
    }
    if jumps.fine {
        sounds.push(("Fine", "fine", "yes"));
    }
    if jumps.da_capo {
        sounds.push(("D.C.", "dacapo", "yes"));
    }
    if let Some(label) = &jumps.dal_segno {
        sounds.push(("D.S.", "dalsegno", label));
    }
    for (words, attribute, value) in sounds {
        xml.open("direction", &[("placement", "above")]);
        xml.open("direction-type", &[]);
        xml.text("words", words);
        xml.close();
        let mut attributes = vec![(attribute, value)];
        if jumps.forward_repeat && matches!(attribute, "dacapo" | "dalsegno") {
            attributes.push(("forward-repeat", "yes"));
        }
        xml.empty("sound", &attributes);
        xml.close();
    }
}
