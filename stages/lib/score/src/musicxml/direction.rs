//! `<direction>` and `<sound>`: tempo, dynamics, pedal.

use roxmltree::Node;

use crate::model::{Dynamic, DynamicKind, Pedal, Ticks};

use super::levels;
use super::tree::{dotted, elements, number, text, type_quarters};

/// Slowest and fastest tempo taken, in quarter notes per minute; MIDI's
/// slowest is 3.6, its fastest 60 million.
pub(super) const TEMPI: std::ops::RangeInclusive<f64> = 0.5..=60e6;

/// A tempo mark of some part, to be sifted when all parts are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TempoMark {
    pub(super) onset: Ticks,
    pub(super) quarters_per_minute: f64,
    /// From a `<sound>`, which knows better than a metronome mark.
    pub(super) sounding: bool,
    pub(super) part: usize,
}

/// Tempo of a `<sound>`.
pub(super) fn sound_tempo(sound: Node<'_, '_>) -> Option<f64> {
    sound
        .attribute("tempo")
        .and_then(number)
        .filter(|t| TEMPI.contains(t))
}

/// Tempo of a `<metronome>`; `current` is that before it, for "quarter = eighth".
pub(super) fn metronome(node: Node<'_, '_>, current: f64) -> Option<f64> {
    let mut units: Vec<(f64, usize)> = Vec::new();
    let mut per_minute = None;
    for item in elements(node) {
        match item.tag_name().name() {
            "beat-unit" => units.push((type_quarters(text(item))?, 0)),
            "beat-unit-dot" => units.last_mut()?.1 += 1,
            // "c. 120", "120-126": the first number counts.
            "per-minute" => per_minute = first_number(text(item)),
            _ => {}
        }
    }
    let mut lengths = units.iter().map(|&(base, dots)| dotted(base, dots));
    let first = lengths.next()?;
    let tempo = match (per_minute, lengths.next()) {
        (Some(beats), _) => beats * first,
        // The first unit at the old tempo lasts as long as the second at the new.
        (None, Some(second)) => current * second / first,
        (None, None) => return None,
    };
    TEMPI.contains(&tempo).then_some(tempo)
}

fn first_number(text: &str) -> Option<f64> {
    let from = text.find(|c: char| c.is_ascii_digit())?;
    let rest = text.get(from..)?;
    let to = rest
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(rest.len());
    rest.get(..to)?.trim_end_matches('.').parse().ok()
}

/// Loudness of a `<sound>`.
pub(super) fn sound_dynamics(sound: Node<'_, '_>) -> Option<u8> {
    let percent = sound.attribute("dynamics").and_then(number)?;
    (percent >= 0.0).then(|| levels::from_percent(percent))
}

/// Dynamic marks of a `<direction-type>`; a loudness in `<sound>` beside them
/// overrules the table.
pub(super) fn dynamics(
    direction_type: Node<'_, '_>,
    sounding: Option<u8>,
    onset: Ticks,
    out: &mut Vec<Dynamic>,
) -> bool {
    let mut marked = false;
    for item in elements(direction_type) {
        match item.tag_name().name() {
            "dynamics" => {
                for mark in elements(item) {
                    let kind = match (levels::mark(mark.tag_name().name()), sounding) {
                        (Some(DynamicKind::Level(name, _)), Some(velocity)) => {
                            DynamicKind::Level(name, velocity)
                        }
                        (Some(kind), _) => kind,
                        (None, _) => continue,
                    };
                    marked |= matches!(kind, DynamicKind::Level(..));
                    out.push(Dynamic { onset, kind });
                }
            }
            "wedge" => {
                let kind = match item.attribute("type") {
                    Some("crescendo") => DynamicKind::Wedge(true),
                    Some("diminuendo") => DynamicKind::Wedge(false),
                    Some("stop") => DynamicKind::WedgeStop,
                    _ => continue,
                };
                out.push(Dynamic { onset, kind });
            }
            _ => {}
        }
    }
    marked
}

/// Pedal movements of a `<pedal>`.
pub(super) fn pedal(node: Node<'_, '_>, onset: Ticks, out: &mut Vec<Pedal>) {
    let mut push = |down| out.push(Pedal { onset, down });
    match node.attribute("type") {
        Some("start" | "resume") => push(true),
        Some("stop" | "discontinue") => push(false),
        Some("change") => {
            push(false);
            push(true);
        }
        _ => {}
    }
}

/// The pedal of a `<sound damper-pedal>`: yes, no, or per cent of its way.
pub(super) fn damper(sound: Node<'_, '_>) -> Option<bool> {
    match sound.attribute("damper-pedal")? {
        "yes" => Some(true),
        "no" => Some(false),
        other => number(other).map(|percent| percent >= 50.0),
    }
}
