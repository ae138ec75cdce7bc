//! Dynamic marks and wedges to velocities.
//!
//! Velocities of the marks are MuseScore's (ppp 16, then 16 or 17 a step to fff
//! 126), which agree with MusicXML's `<sound dynamics>` as per cent of the
//! forte, velocity 90, in its exports.

use crate::model::{Dynamic, DynamicKind, Note, Ticks};

/// Velocity where nothing is marked: mezzo forte.
pub(super) const DEFAULT: u8 = 80;
/// What a wedge adds that leads to no mark.
const STEP: f64 = 16.0;

/// Level of a mark such as `mf`, and whether it holds beyond its note.
pub(super) fn mark(name: &str) -> Option<DynamicKind> {
    let level = |velocity| Some(DynamicKind::Level(name.to_owned(), velocity));
    match name {
        "pppppp" | "ppppp" => level(5),
        "pppp" => level(10),
        "ppp" => level(16),
        "pp" => level(33),
        "p" => level(49),
        "mp" => level(64),
        "mf" => level(80),
        "f" => level(96),
        "ff" => level(112),
        "fff" => level(126),
        "ffff" | "fffff" | "ffffff" => level(127),
        // Forte, then piano at once: the level after it.
        "fp" | "sfp" | "pf" => level(49),
        "sfpp" => level(33),
        "sf" | "sfz" | "fz" | "rf" | "rfz" => Some(DynamicKind::Accent(name.to_owned(), 112)),
        "sffz" => Some(DynamicKind::Accent(name.to_owned(), 126)),
        _ => None,
    }
}

/// Velocity of `<sound dynamics>` or a note's `dynamics`: per cent of 90.
pub(super) fn from_percent(percent: f64) -> u8 {
    (percent * 0.9).round().clamp(1.0, 127.0) as u8
}

/// The inverse of [`from_percent`].
pub(super) fn to_percent(velocity: u8) -> f64 {
    f64::from(velocity) / 0.9
}

/// Sets the velocity of every note that has none of its own (0). `quarter` is
/// in ticks; marks and notes ascend by onset.
pub(super) fn apply(notes: &mut [Note], marks: &[Dynamic], quarter: Ticks) {
    let curve = Curve::new(marks, quarter);
    let mut segment = 0;
    let mut accents = marks
        .iter()
        .filter(|d| matches!(d.kind, DynamicKind::Accent(..)))
        .peekable();
    for note in notes {
        while curve
            .segments
            .get(segment + 1)
            .is_some_and(|s| s.start <= note.onset)
        {
            segment += 1;
        }
        while accents.next_if(|d| d.onset < note.onset).is_some() {}
        if note.velocity != 0 {
            continue;
        }
        let level = curve
            .segments
            .get(segment)
            .map_or(f64::from(DEFAULT), |s| s.at(note.onset));
        note.velocity = level.round().clamp(1.0, 127.0) as u8;
        if let Some(Dynamic {
            onset,
            kind: DynamicKind::Accent(_, velocity),
        }) = accents.peek()
            && *onset == note.onset
        {
            note.velocity = note.velocity.max(*velocity);
        }
    }
}

/// A straight line of loudness from `start` on.
struct Segment {
    start: Ticks,
    end: Ticks,
    from: f64,
    to: f64,
}

impl Segment {
    fn at(&self, tick: Ticks) -> f64 {
        if tick >= self.end || self.end <= self.start {
            return self.to;
        }
        let share = (tick - self.start) as f64 / (self.end - self.start) as f64;
        self.from + share * (self.to - self.from)
    }
}

struct Curve {
    segments: Vec<Segment>,
}

impl Curve {
    fn new(marks: &[Dynamic], quarter: Ticks) -> Self {
        let start = f64::from(DEFAULT);
        let mut segments = vec![Segment {
            start: Ticks::MIN,
            end: Ticks::MIN,
            from: start,
            to: start,
        }];
        let mut level = start;
        let mut next_level = next_levels(marks);
        next_level.reverse();
        for (index, mark) in marks.iter().enumerate() {
            let upcoming = next_level.pop().flatten();
            match &mark.kind {
                DynamicKind::Level(_, velocity) => {
                    level = f64::from(*velocity);
                    segments.push(Segment {
                        start: mark.onset,
                        end: mark.onset,
                        from: level,
                        to: level,
                    });
                }
                DynamicKind::Wedge(louder) => {
                    let later = marks.get(index + 1..).unwrap_or(&[]).iter();
                    let stop = later
                        .take(64)
                        .find(|m| !matches!(m.kind, DynamicKind::Accent(..)));
                    let Some(stop) = stop else { continue };
                    // A mark at the tip, or within a measure of it, is the goal if
                    // it lies in the direction of the wedge.
                    let goal = upcoming.filter(|(at, velocity)| {
                        *at <= stop.onset.saturating_add(4 * quarter)
                            && (f64::from(*velocity) > level) == *louder
                    });
                    let sign = if *louder { STEP } else { -STEP };
                    let to = goal.map_or((level + sign).clamp(1.0, 127.0), |(_, v)| f64::from(v));
                    segments.push(Segment {
                        start: mark.onset,
                        end: stop.onset,
                        from: level,
                        to,
                    });
                    level = to;
                }
                DynamicKind::WedgeStop | DynamicKind::Accent(..) => {}
            }
        }
        Self { segments }
    }
}

/// For every mark, the onset and velocity of the next level after it.
fn next_levels(marks: &[Dynamic]) -> Vec<Option<(Ticks, u8)>> {
    let mut next = None;
    let mut out: Vec<_> = marks
        .iter()
        .rev()
        .map(|mark| {
            let upcoming = next;
            if let DynamicKind::Level(_, velocity) = mark.kind {
                next = Some((mark.onset, velocity));
            }
            upcoming
        })
        .collect();
    out.reverse();
    out
}
