//! Durations in ticks to note values: types, dots and tuplets; keys to names.

use crate::model::{Spelling, Ticks};

/// Types by the power of two of a quarter note that they last, largest first.
const TYPES: [(&str, i32); 12] = [
    ("long", 4),
    ("breve", 3),
    ("whole", 2),
    ("half", 1),
    ("quarter", 0),
    ("eighth", -1),
    ("16th", -2),
    ("32nd", -3),
    ("64th", -4),
    ("128th", -5),
    ("256th", -6),
    ("512th", -7),
];
/// Tuplets as (actual, normal) notes.
const TUPLETS: [(i64, i64); 3] = [(3, 2), (5, 4), (7, 4)];
/// Smallest value of a tuplet: below it every duration would look like one.
const TUPLET_FLOOR: i32 = -3;
/// Most notes that one duration is split into.
const MAX_PIECES: usize = 4;

/// A value that a note head can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) name: &'static str,
    pub(super) dots: u32,
    /// Actual and normal notes.
    pub(super) tuplet: Option<(i64, i64)>,
}

/// A piece of a duration, with its value where one fits exactly.
pub(super) type Piece = (Ticks, Option<Value>);

/// Splits a duration into tied pieces that can be notated; one piece without a
/// value where that is not possible (performances off the grid), which readers
/// take by its `<duration>`.
pub(super) fn pieces(duration: Ticks, divisions: u32) -> Vec<Piece> {
    if let Some(value) = value(duration, divisions) {
        return vec![(duration, Some(value))];
    }
    let mut out = Vec::new();
    let mut rest = duration;
    while rest > 0 && out.len() < MAX_PIECES {
        let Some(next) = largest_binary(rest, divisions) else {
            break;
        };
        out.push(next);
        rest -= next.0;
    }
    if rest == 0 {
        out
    } else {
        vec![(duration, None)]
    }
}

/// The value that lasts exactly `duration`.
pub(super) fn value(duration: Ticks, divisions: u32) -> Option<Value> {
    for (name, power) in TYPES {
        for dots in 0..=2 {
            if binary_ticks(power, dots, divisions) == Some(duration) {
                return Some(Value {
                    name,
                    dots,
                    tuplet: None,
                });
            }
        }
    }
    for (actual, normal) in TUPLETS {
        for (name, power) in TYPES
            .iter()
            .copied()
            .filter(|t| t.1 >= TUPLET_FLOOR && t.1 <= 1)
        {
            let plain = duration
                .checked_mul(actual)
                .filter(|t| t % normal == 0)
                .map(|t| t / normal);
            if plain.is_some() && plain == binary_ticks(power, 0, divisions) {
                return Some(Value {
                    name,
                    dots: 0,
                    tuplet: Some((actual, normal)),
                });
            }
        }
    }
    None
}

/// The longest plain or dotted value of at most `limit` ticks, down to a 64th.
fn largest_binary(limit: Ticks, divisions: u32) -> Option<Piece> {
    for (name, power) in TYPES.iter().copied().filter(|t| t.1 >= -4) {
        for dots in [1, 0] {
            if let Some(ticks) = binary_ticks(power, dots, divisions).filter(|&t| t <= limit) {
                return Some((
                    ticks,
                    Some(Value {
                        name,
                        dots,
                        tuplet: None,
                    }),
                ));
            }
        }
    }
    None
}

/// Ticks of a quarter note times 2^power, dotted; `None` off the grid.
fn binary_ticks(power: i32, dots: u32, divisions: u32) -> Option<Ticks> {
    let numerator = i64::from(divisions) * ((1 << (dots + 1)) - 1);
    let shift = power - i32::try_from(dots).ok()?;
    if shift >= 0 {
        return Some(numerator << shift);
    }
    let unit = 1_i64 << -shift;
    (numerator % unit == 0).then_some(numerator / unit)
}

/// The usual name of a key under a signature: the one within the twelve fifths
/// from four below the tonic (three in minor) up.
pub(super) fn spell(key: u8, fifths: i8, minor: bool) -> Spelling {
    let lowest = i64::from(fifths) - if minor { 3 } else { 4 };
    let class = i64::from(key) % 12;
    // Position on the line of fifths, C = 0, G = 1, F = -1.
    let position = lowest + (7 * class - lowest).rem_euclid(12);
    let step = (4 * position).rem_euclid(7);
    let alter = (position + 1).div_euclid(7);
    let octave = (i64::from(key) - alter).div_euclid(12) - 1;
    Spelling {
        step: step as u8,
        alter: alter as i8,
        octave: octave as i8,
    }
}

/// Letter of a step, C for 0.
pub(super) fn letter(step: u8) -> &'static str {
    ["C", "D", "E", "F", "G", "A", "B"]
        .get(usize::from(step))
        .copied()
        .unwrap_or("C")
}
