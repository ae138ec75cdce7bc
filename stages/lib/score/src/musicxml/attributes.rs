//! `<attributes>`: what is in force from here on.

use roxmltree::Node;

use crate::error::Result;
use crate::model::TimeSignature;

use super::tree::{Place, child, child_text, elements, number, text};

/// Transposition of a staff: what sounds minus what is written.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Transpose {
    /// Semitones, octaves included.
    pub(super) semitones: i64,
    /// Steps of the staff, octaves included; `None` where not given.
    pub(super) steps: Option<i64>,
    /// Semitones of a doubling: an octave down, or up.
    pub(super) double: Option<i64>,
}

/// Reads a `<transpose>`; `None` for its staff stands for all of them.
pub(super) fn transpose(node: Node<'_, '_>, place: &Place<'_>) -> Result<(Option<u8>, Transpose)> {
    let whole = |name: &'static str| -> Result<Option<i64>> {
        let Some(got) = child_text(node, name) else {
            return Ok(None);
        };
        let value = number(got).filter(|n| n.abs() <= 127.0);
        value
            .map(|n| Some(n.round() as i64))
            .ok_or_else(|| place.value("transpose", got, "a number of semitones, steps or octaves"))
    };
    let octaves = whole("octave-change")?.unwrap_or(0);
    let chromatic = whole("chromatic")?.unwrap_or(0);
    let steps = match whole("diatonic")? {
        Some(steps) => Some(steps + 7 * octaves),
        None if chromatic == 0 => Some(7 * octaves),
        None => None,
    };
    let double = child(node, "double").map(|n| {
        if n.attribute("above") == Some("yes") {
            12
        } else {
            -12
        }
    });
    let staff = node.attribute("number").and_then(|n| n.parse().ok());
    Ok((
        staff,
        Transpose {
            semitones: chromatic + 12 * octaves,
            steps,
            double,
        },
    ))
}

/// Reads a `<time>`; `None` where there is no meter (senza misura).
pub(super) fn time(node: Node<'_, '_>, place: &Place<'_>) -> Result<Option<TimeSignature>> {
    if child(node, "senza-misura").is_some() {
        return Ok(None);
    }
    let mut sum: Option<TimeSignature> = None;
    let mut beats = 0_u32;
    for item in elements(node) {
        let got = text(item);
        match item.tag_name().name() {
            // Composite beats are written as "3+2".
            "beats" => {
                beats = 0;
                for term in got.split('+') {
                    let term = term
                        .trim()
                        .parse::<u32>()
                        .ok()
                        .filter(|&b| (1..=1000).contains(&b));
                    let term =
                        term.ok_or_else(|| place.value("beats", got, "1 to 1000, or a sum"))?;
                    beats = (beats + term).min(10_000);
                }
            }
            "beat-type" => {
                let beat_type = got.parse::<u32>().ok().filter(|&b| (1..=1024).contains(&b));
                let beat_type =
                    beat_type.ok_or_else(|| place.value("beat-type", got, "1 to 1024"))?;
                let next = TimeSignature {
                    beats: beats.max(1),
                    beat_type,
                };
                sum = Some(sum.map_or(next, |first| add(first, next)));
            }
            _ => {}
        }
    }
    Ok(sum)
}

/// 3/8 and 2/4 are 7/8.
fn add(a: TimeSignature, b: TimeSignature) -> TimeSignature {
    let fine = a.beat_type.max(b.beat_type);
    let beats = |t: TimeSignature| t.beats.saturating_mul(fine / t.beat_type);
    TimeSignature {
        beats: beats(a).saturating_add(beats(b)).clamp(1, 10_000),
        beat_type: fine,
    }
}

/// Reads a `<key>` as sharps (or flats) and minor; `None` for keys that are no
/// circle of fifths.
pub(super) fn key(node: Node<'_, '_>) -> Option<(i8, bool)> {
    let fifths = child_text(node, "fifths")?.parse::<i8>().ok()?;
    let minor = child_text(node, "mode") == Some("minor");
    (-7..=7).contains(&fifths).then_some((fifths, minor))
}

/// The concert key of a written one.
pub(super) fn concert_fifths(fifths: i8, transpose: &Transpose) -> i8 {
    let moved = (i64::from(fifths) + 7 * transpose.semitones).rem_euclid(12);
    let near = if moved > 6 { moved - 12 } else { moved };
    // Keep C sharp and C flat majors where nothing is transposed.
    if transpose.semitones.rem_euclid(12) == 0 {
        fifths
    } else {
        near as i8
    }
}
