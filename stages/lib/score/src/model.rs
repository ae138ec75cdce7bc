//! The score in memory: what is written, at concert pitch, on one grid of ticks.
//!
//! All times are whole ticks, [`Score::divisions`] to the quarter note, counted
//! from the beginning of the piece as written, before repeats are unfolded. A
//! note that is tied across a barline is kept as its written pieces, marked by
//! [`Note::tie_start`] and [`Note::tie_stop`]; [`Score::notes`] merges them.
//! Engraving that sounds nothing (lyrics, beams, slurs, layout) is not kept.

use crate::limits;

/// A time or a duration in ticks, [`Score::divisions`] to the quarter note.
pub type Ticks = i64;

/// A piece of music as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Title of the work; empty if unknown.
    pub title: String,
    /// Composer; empty if unknown.
    pub composer: String,
    /// Ticks per quarter note; 1 to 2^24.
    pub divisions: u32,
    /// The measures in written order, without gaps, the first at tick 0.
    pub measures: Vec<Measure>,
    /// Tempo changes, ascending by onset. Before the first one, and where there
    /// is none, 120 quarter notes per minute.
    pub tempos: Vec<Tempo>,
    /// Key signatures at concert pitch, ascending by onset.
    pub keys: Vec<Key>,
    /// The parts, each in a single order of instruments, voices and staves.
    pub parts: Vec<Part>,
    /// Tick at which the piece ends: with its last measure, or with the last
    /// track of a MIDI file, whose rests at the end count. Where it says less
    /// than the notes, they win.
    pub end: Ticks,
    /// What the reader mended or left out, in words; at most 51 lines.
    pub warnings: Vec<String>,
}

/// One measure, common to all parts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measure {
    /// First tick.
    pub onset: Ticks,
    /// Length in ticks as filled, which a pickup makes shorter than the meter's.
    pub length: Ticks,
    /// Number as printed; any text.
    pub number: String,
    /// The time signature in force.
    pub time: TimeSignature,
    /// Not counted: a pickup, or the second half of a split measure.
    pub implicit: bool,
    /// A repeated section begins here.
    pub repeat_start: bool,
    /// A repeated section ends here and is played so many times in all.
    pub repeat_end: Option<u32>,
    /// The ending (volta) that the measure belongs to.
    pub ending: Option<Ending>,
    /// Jumps and their targets.
    pub jumps: Jumps,
}

/// A bracket with the passes on which its measures are played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Passes, ascending, each at least 1.
    pub numbers: Vec<u32>,
    /// The bracket begins with this measure.
    pub first: bool,
    /// The bracket ends with this measure.
    pub last: bool,
}

/// Da capo, dal segno and what belongs to them, at the resolution of measures:
/// targets count from the beginning of the measure, jumps from its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Jumps {
    /// Target of a dal segno, by its label.
    pub segno: Option<String>,
    /// Target of a jump to the coda, by its label.
    pub coda: Option<String>,
    /// Go back to the beginning.
    pub da_capo: bool,
    /// Go back to the segno of this label.
    pub dal_segno: Option<String>,
    /// After a jump back, go to the coda of this label.
    pub to_coda: Option<String>,
    /// After a jump back, end here.
    pub fine: bool,
    /// Repeats are played again after the jump back.
    pub forward_repeat: bool,
}

/// A meter such as 3/4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSignature {
    /// Beats of a measure, at least 1.
    pub beats: u32,
    /// Note value of a beat as a fraction of the whole note, at least 1.
    pub beat_type: u32,
}

impl Default for TimeSignature {
    fn default() -> Self {
        Self {
            beats: 4,
            beat_type: 4,
        }
    }
}

impl TimeSignature {
    /// Length of a measure in ticks, at least 1, rounded down.
    pub fn length(self, divisions: u32) -> Ticks {
        let whole = i64::from(divisions) * 4;
        (whole * i64::from(self.beats) / i64::from(self.beat_type.max(1))).max(1)
    }
}

/// A tempo in force from `onset` on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tempo {
    /// Tick of the change.
    pub onset: Ticks,
    /// Quarter notes per minute; finite, 0.5 to 60,000,000.
    pub quarters_per_minute: f64,
}

/// A key signature in force from `onset` on, at concert pitch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Tick of the change.
    pub onset: Ticks,
    /// Sharps (positive) or flats (negative), -7 to 7.
    pub fifths: i8,
    /// Whether the mode is minor.
    pub minor: bool,
}

/// One part: what one player, or one hand of a MIDI file, plays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Name as printed; empty if unknown.
    pub name: String,
    /// What the part is played on; notes refer to it by index. Never empty
    /// where there are notes.
    pub instruments: Vec<Instrument>,
    /// Notes as written, ascending by onset, grace notes before their principal.
    pub notes: Vec<Note>,
    /// Sustain pedal going down and up, ascending by onset.
    pub pedals: Vec<Pedal>,
    /// Dynamic marks, ascending by onset. They are already part of the
    /// velocities of `notes` and are kept for writing.
    pub dynamics: Vec<Dynamic>,
    /// Fermatas over rests as (onset, duration), ascending; those over notes
    /// are in [`Articulation::fermata`].
    pub fermatas: Vec<(Ticks, Ticks)>,
}

/// A sound of a part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Instrument {
    /// Name; empty if unknown.
    pub name: String,
    /// MIDI channel 0 to 15; `None` where the source names none.
    pub channel: Option<u8>,
    /// General MIDI program, 0 to 127.
    pub program: u8,
    /// Keys are sounds of a drum kit (General MIDI level 1, channel 10).
    pub percussion: bool,
    /// Channel volume, 0 to 127; 100 by default (General MIDI).
    pub volume: u8,
}

impl Default for Instrument {
    fn default() -> Self {
        Self {
            name: String::new(),
            channel: None,
            program: 0,
            percussion: false,
            volume: 100,
        }
    }
}

/// A written note, or a piece of one between ties.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// First tick; of a grace note, that of its principal.
    pub onset: Ticks,
    /// Written duration in ticks, at least 1; 0 for a grace note.
    pub duration: Ticks,
    /// Sounding pitch, or the drum.
    pub pitch: Pitch,
    /// How loud, 1 to 127, with all dynamic marks applied, accents not.
    pub velocity: u8,
    /// Expression (controller 11) at the onset, 0 to 127.
    pub expression: u8,
    /// Voice within the part; 0 where the source has no voices (MIDI).
    pub voice: u16,
    /// Staff within the part, from 1.
    pub staff: u8,
    /// Index into [`Part::instruments`].
    pub instrument: u16,
    /// Tied to a following note of the same pitch.
    pub tie_start: bool,
    /// Tied to a preceding note of the same pitch, hence not struck.
    pub tie_stop: bool,
    /// A grace note, and how it is played.
    pub grace: Option<Grace>,
    /// How the note is articulated.
    pub articulation: Articulation,
    /// How the note is ornamented.
    pub ornament: Option<Ornament>,
}

impl Default for Note {
    fn default() -> Self {
        Self {
            onset: 0,
            duration: 1,
            pitch: Pitch::from_key(60),
            velocity: 80,
            expression: 127,
            voice: 0,
            staff: 1,
            instrument: 0,
            tie_start: false,
            tie_stop: false,
            grace: None,
            articulation: Articulation::default(),
            ornament: None,
        }
    }
}

/// A sounding pitch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pitch {
    /// MIDI key, 0 to 127; 60 is middle C, 69 is A at 440 Hz.
    pub key: u8,
    /// Deviation from equal temperament in cents, -2400 to 2400.
    pub cents: f32,
    /// How the key is spelled; `None` where the source does not say.
    pub spelling: Option<Spelling>,
}

impl Pitch {
    /// A key of the equal-tempered scale, spelled by the key signature; keys
    /// above 127 are taken down by octaves.
    pub fn from_key(key: u8) -> Self {
        Self {
            key: clamp_key(i64::from(key)),
            cents: 0.0,
            spelling: None,
        }
    }

    /// MIDI pitch with its fraction: 69.5 is a quarter tone above A.
    pub fn midi(self) -> f64 {
        f64::from(self.key) + f64::from(self.cents) / 100.0
    }
}

/// A name of a pitch: the sounding `key` is `12 (octave + 1) + step + alter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelling {
    /// 0 to 6 for C D E F G A B.
    pub step: u8,
    /// Semitones up (sharps) or down (flats), -3 to 3.
    pub alter: i8,
    /// Octave; 4 begins with middle C.
    pub octave: i8,
}

/// Semitones of the natural steps above C.
pub(crate) const STEP_SEMITONES: [i64; 7] = [0, 2, 4, 5, 7, 9, 11];

/// A key brought into 0 to 127 by octaves, so that it keeps its pitch class.
pub(crate) fn clamp_key(key: i64) -> u8 {
    let folded = if key < 0 {
        key.rem_euclid(12)
    } else if key > 127 {
        let low = 116 + (key - 116).rem_euclid(12);
        low.min(127)
    } else {
        key
    };
    u8::try_from(folded).unwrap_or(60)
}

/// How a grace note is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grace {
    /// Slashed: short (acciaccatura); otherwise it takes its written share.
    pub slash: bool,
    /// Position among the grace notes before one principal; notes of a chord share it.
    pub index: u16,
    /// Written value in quarter notes; 0.5 where unknown.
    pub quarters: f32,
    /// Share of the *preceding* note taken, 0 to 1; `None` to take it from the principal.
    pub steal_previous: Option<f32>,
    /// Ends the note that it follows, which begins at `onset` (Nachschlag).
    pub after: bool,
}

/// Marks over a note that change how it sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Articulation {
    /// Half its value.
    pub staccato: bool,
    /// A quarter of its value.
    pub staccatissimo: bool,
    /// Its full value; with staccato (portato), three quarters.
    pub tenuto: bool,
    /// Louder.
    pub accent: bool,
    /// Louder still, and shorter.
    pub marcato: bool,
    /// Held.
    pub fermata: bool,
    /// The notes of the chord begin one after another, low to high.
    pub arpeggio: bool,
}

/// Ornaments that are played as several notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ornament {
    /// Alternation with the upper neighbour.
    Trill,
    /// Main, lower, main.
    Mordent,
    /// Main, upper, main (Pralltriller).
    InvertedMordent,
    /// Upper, main, lower, main.
    Turn,
    /// Lower, main, upper, main.
    InvertedTurn,
    /// Repetition, with so many strokes through the stem, 1 to 8.
    Tremolo(u8),
}

/// The sustain pedal moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pedal {
    /// Tick of the movement.
    pub onset: Ticks,
    /// Whether it is down from now on.
    pub down: bool,
}

/// A dynamic mark of a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Dynamic {
    /// Tick of the mark.
    pub onset: Ticks,
    /// What it says.
    pub kind: DynamicKind,
}

/// What a dynamic mark says.
#[derive(Debug, Clone, PartialEq)]
pub enum DynamicKind {
    /// A level from here on: MusicXML's name of the mark (empty where only a
    /// loudness is given) and its velocity, 1 to 127.
    Level(String, u8),
    /// An accent on the notes beginning here alone: name and velocity.
    Accent(String, u8),
    /// A crescendo (true) or diminuendo (false) begins.
    Wedge(bool),
    /// The wedge ends.
    WedgeStop,
}

impl Default for Score {
    fn default() -> Self {
        Self {
            title: String::new(),
            composer: String::new(),
            divisions: 480,
            measures: Vec::new(),
            tempos: Vec::new(),
            keys: Vec::new(),
            parts: Vec::new(),
            end: 0,
            warnings: Vec::new(),
        }
    }
}

impl Score {
    /// Whether nothing sounds.
    pub fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.notes.is_empty())
    }

    /// Length in ticks as written: the end of the last measure or note, beyond
    /// [`Score::end`] where that lies inside a measure.
    pub fn length(&self) -> Ticks {
        let bars = self
            .measures
            .last()
            .map_or(0, |m| m.onset.saturating_add(m.length));
        let notes = self.parts.iter().flat_map(|p| &p.notes);
        notes
            .map(|n| n.onset.saturating_add(n.duration))
            .fold(bars, Ticks::max)
    }

    /// Records what was mended; beyond a bound, only that there is more.
    pub(crate) fn warn(&mut self, text: String) {
        match self.warnings.len() {
            n if n < limits::MAX_WARNINGS => self.warnings.push(text),
            n if n == limits::MAX_WARNINGS => self.warnings.push("and more".to_owned()),
            _ => {}
        }
    }
}
