//! Bytes of a standard MIDI file to timed events, mending what can be mended.
//!
//! An own reader, since files found in the wild break the letter of the
//! standard in ways that cost the rest of a track elsewhere: running status
//! that goes on after meta and system exclusive events, stray bytes, tracks cut
//! short, lengths that lie, no end of track.

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_DIVISIONS, MAX_QUARTERS};
use crate::model::Ticks;

/// Bytes before the header that are skipped: MacBinary and RIFF wrappers.
const MAX_WRAPPER: usize = 256;

/// A file taken apart.
pub(crate) struct File {
    pub(crate) format: u16,
    pub(crate) division: Division,
    pub(crate) tracks: Vec<Vec<Event>>,
    pub(crate) warnings: Vec<String>,
}

/// What a tick is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Division {
    /// So many to the quarter note.
    Quarter(u32),
    /// So many to the second, times 1000 / 1001 where `drop` (29.97 frames).
    Second { ticks: u32, drop: bool },
}

impl Division {
    /// Ticks per quarter note of the grid; a second counts as a quarter note.
    pub(crate) fn grid(self) -> u32 {
        match self {
            Self::Quarter(ticks) | Self::Second { ticks, .. } => ticks.clamp(1, MAX_DIVISIONS),
        }
    }
}

/// An event at its absolute tick.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) tick: Ticks,
    pub(crate) kind: Kind,
}

/// The events that matter here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    NoteOn {
        channel: u8,
        key: u8,
        velocity: u8,
    },
    NoteOff {
        channel: u8,
        key: u8,
    },
    Control {
        channel: u8,
        number: u8,
        value: u8,
    },
    Program {
        channel: u8,
        program: u8,
    },
    /// Pitch bend, -8192 to 8191.
    Bend {
        channel: u8,
        value: i16,
    },
    TrackName(String),
    /// Microseconds per quarter note, 1 to 2^24 - 1.
    Tempo(u32),
    /// Beats and the exponent of the beat type.
    Time(u8, u8),
    /// Sharps or flats, and whether minor.
    Key(i8, bool),
    /// Where the track ends.
    End,
}

/// Offset of `MThd`, behind a wrapper at most.
pub(crate) fn find_header(bytes: &[u8]) -> Option<usize> {
    let window = bytes.get(..bytes.len().min(MAX_WRAPPER))?;
    window
        .windows(4)
        .position(|four| four == b"MThd")
        .filter(|&at| at == 0 || wrapped(bytes, at))
}

/// RIFF says `RMID`; MacBinary headers are 128 bytes and begin with a zero.
fn wrapped(bytes: &[u8], at: usize) -> bool {
    let riff = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"RMID");
    riff || (at == 128 && bytes.first() == Some(&0))
}

/// Takes a file apart.
pub(crate) fn parse(bytes: &[u8]) -> Result<File> {
    let at = find_header(bytes).ok_or(ScoreError::UnknownFormat { len: bytes.len() })?;
    let bad = |offset: usize, what: String| ScoreError::MidiHeader { offset, what };
    let header = bytes
        .get(at..at + 14)
        .ok_or_else(|| bad(at, "is cut short, expected 14 bytes".to_owned()))?;
    let word = |i: usize| u16::from_be_bytes([byte(header, i), byte(header, i + 1)]);
    let (format, division) = (word(8), word(12));
    if format > 2 {
        return Err(bad(
            at + 8,
            format!("format is {format}, expected 0, 1 or 2"),
        ));
    }
    let division = read_division(division).ok_or_else(|| {
        bad(at + 12, format!("division is {division:#06x}, expected at least 1 tick per quarter note, or 24, 25, 29 or 30 frames per second"))
    })?;
    let length = u32::from_be_bytes([
        byte(header, 4),
        byte(header, 5),
        byte(header, 6),
        byte(header, 7),
    ]);
    let body = at
        .saturating_add(8)
        .saturating_add((length as usize).max(6))
        .min(bytes.len());
    let mut file = File {
        format,
        division,
        tracks: Vec::new(),
        warnings: Vec::new(),
    };
    file.read_chunks(bytes, body)?;
    let announced = usize::from(word(10));
    if file.tracks.len() != announced {
        file.warnings.push(format!(
            "file has {} tracks, its header says {announced}",
            file.tracks.len()
        ));
    }
    Ok(file)
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

fn read_division(word: u16) -> Option<Division> {
    let [high, low] = word.to_be_bytes();
    if high & 0x80 == 0 {
        return (word > 0).then_some(Division::Quarter(u32::from(word)));
    }
    let (frames, drop) = match high.wrapping_neg() {
        frames @ (24 | 25 | 30) => (frames, false),
        29 => (30, true),
        _ => return None,
    };
    let ticks = u32::from(frames) * u32::from(low);
    (low > 0).then_some(Division::Second { ticks, drop })
}

impl File {
    fn read_chunks(&mut self, bytes: &[u8], mut at: usize) -> Result<()> {
        while let Some(head) = bytes.get(at..at.saturating_add(8)) {
            let length =
                u32::from_be_bytes([byte(head, 4), byte(head, 5), byte(head, 6), byte(head, 7)])
                    as usize;
            let body = at + 8;
            let end = body.saturating_add(length).min(bytes.len());
            if !head.starts_with(b"MTrk") {
                // Other chunks are to be skipped (SMF 1.0, "Chunks"); what is no
                // chunk at all is searched for the next track.
                let alien =
                    head.iter().take(4).all(u8::is_ascii_graphic) && body + length <= bytes.len();
                at = if alien { end } else { find(bytes, at + 1) };
                continue;
            }
            let number = self.tracks.len() + 1;
            if body.saturating_add(length) > bytes.len() {
                self.warnings.push(format!(
                    "track {number} is cut short: {} bytes of {length}",
                    end - body
                ));
            }
            let mut track = Track {
                bytes,
                at: body,
                end,
                events: Vec::new(),
                tick: 0,
            };
            let trouble = track.read(self.division.grid(), number)?;
            self.warnings
                .extend(trouble.into_iter().map(|t| format!("track {number}, {t}")));
            self.tracks.push(track.events);
            at = end;
        }
        Ok(())
    }
}

/// Offset of the next `MTrk`, or the end.
fn find(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or(&[]);
    rest.windows(4)
        .position(|four| four == b"MTrk")
        .map_or(bytes.len(), |i| from + i)
}

struct Track<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
    events: Vec<Event>,
    tick: Ticks,
}

impl Track<'_> {
    /// Reads to the end of the track, and tells what was wrong with it.
    fn read(&mut self, grid: u32, number: usize) -> Result<Vec<String>> {
        let limit = MAX_QUARTERS * i64::from(grid);
        let mut trouble = Vec::new();
        let mut running: Option<u8> = None;
        let mut strays = 0_usize;
        let mut ended = false;
        let mut resync = false;
        loop {
            // After stray bytes comes a status byte, not a delta time.
            let delta = if std::mem::take(&mut resync) {
                Some(0)
            } else {
                self.variable()
            };
            let Some(delta) = delta else { break };
            self.tick += i64::from(delta);
            if self.tick > limit {
                return Err(ScoreError::TooLarge {
                    what: "length in quarter notes",
                    place: format!("MIDI track {number}, byte {}", self.at),
                    got: (self.tick / i64::from(grid)) as u64,
                    limit: MAX_QUARTERS as u64,
                });
            }
            let offset = self.at;
            let Some(first) = self.peek() else { break };
            let status = if first & 0x80 != 0 {
                self.at += 1;
                first
            } else if let Some(status) = running {
                status
            } else {
                // A data byte with no status before it: skip to the next status.
                strays += self.skip_data();
                resync = true;
                continue;
            };
            // Meta and system exclusive events cancel running status by the
            // letter; writers exist that go on with it, so it is kept.
            let understood = match status {
                0xFF => match self.meta() {
                    Some(true) => {
                        ended = true;
                        break;
                    }
                    other => other.is_some(),
                },
                0xF0 | 0xF7 => self.exclusive(),
                0xF1 | 0xF3 => self.data().is_some(),
                0xF2 => self.data().and_then(|_| self.data()).is_some(),
                0xF4..=0xFE => true,
                _ => {
                    running = Some(status);
                    self.channel(status, &mut strays)
                }
            };
            if !understood {
                trouble.push(format!(
                    "byte {offset}: event is cut short, the rest of the track is lost"
                ));
                break;
            }
        }
        if strays > 0 {
            trouble.push(format!("{strays} stray bytes skipped"));
        }
        if !ended {
            trouble.push("no end of track".to_owned());
        }
        self.events.push(Event {
            tick: self.tick,
            kind: Kind::End,
        });
        Ok(trouble)
    }

    fn peek(&self) -> Option<u8> {
        self.bytes
            .get(self.at)
            .copied()
            .filter(|_| self.at < self.end)
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// A data byte; a status byte in its place is left for the next event.
    fn data(&mut self) -> Option<u8> {
        let byte = self.peek().filter(|b| b & 0x80 == 0)?;
        self.at += 1;
        Some(byte)
    }

    /// A variable-length quantity of at most four bytes.
    fn variable(&mut self) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..4 {
            let byte = self.next()?;
            value = (value << 7) | u32::from(byte & 0x7F);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        // A fifth byte would be a damaged length; what there is counts.
        Some(value)
    }

    fn skip_data(&mut self) -> usize {
        let from = self.at;
        while self.data().is_some() {}
        self.at - from
    }

    /// A channel event; false if the track ends inside it.
    fn channel(&mut self, status: u8, strays: &mut usize) -> bool {
        let channel = status & 0x0F;
        let kind = status & 0xF0;
        let before = self.at;
        let Some(first) = self.data() else {
            return self.missing(strays);
        };
        if kind == 0xC0 {
            self.push(Kind::Program {
                channel,
                program: first,
            });
            return true;
        }
        if kind == 0xD0 {
            return true;
        }
        let Some(second) = self.data() else {
            *strays += self.at - before;
            return self.missing(strays);
        };
        match kind {
            0x80 => self.push(Kind::NoteOff {
                channel,
                key: first,
            }),
            0x90 if second == 0 => self.push(Kind::NoteOff {
                channel,
                key: first,
            }),
            0x90 => self.push(Kind::NoteOn {
                channel,
                key: first,
                velocity: second,
            }),
            0xB0 => self.push(Kind::Control {
                channel,
                number: first,
                value: second,
            }),
            0xE0 => {
                let value = (i16::from(second) << 7 | i16::from(first)) - 8192;
                self.push(Kind::Bend { channel, value });
            }
            _ => {} // 0xA0, polyphonic pressure
        }
        true
    }

    /// A data byte is missing: at a status byte the event is dropped and
    /// reading goes on, at the end it cannot.
    fn missing(&mut self, strays: &mut usize) -> bool {
        *strays += 1;
        self.peek().is_some()
    }

    fn push(&mut self, kind: Kind) {
        self.events.push(Event {
            tick: self.tick,
            kind,
        });
    }

    fn exclusive(&mut self) -> bool {
        self.block().is_some()
    }

    /// The bytes of a length-prefixed block; what lies beyond the track is cut.
    fn block(&mut self) -> Option<&[u8]> {
        let length = self.variable()? as usize;
        let from = self.at;
        let to = from.checked_add(length).filter(|&to| to <= self.end)?;
        self.at = to;
        self.bytes.get(from..to)
    }

    /// A meta event: `Some(true)` at the end of the track, `None` if cut short.
    fn meta(&mut self) -> Option<bool> {
        let kind = self.next()?;
        let block = self.block()?;
        let event = match (kind, block) {
            (0x2F, _) => return Some(true),
            (0x03, text) => Some(Kind::TrackName(decode_text(text))),
            (0x51, &[a, b, c]) => {
                let micros = u32::from_be_bytes([0, a, b, c]);
                (micros > 0).then_some(Kind::Tempo(micros))
            }
            (0x58, &[beats, exponent, ..]) if beats > 0 => Some(Kind::Time(beats, exponent)),
            (0x59, &[fifths, mode, ..]) => {
                let fifths = i8::from_be_bytes([fifths]);
                (-7..=7)
                    .contains(&fifths)
                    .then_some(Kind::Key(fifths, mode == 1))
            }
            _ => None,
        };
        if let Some(event) = event {
            self.push(event);
        }
        Some(false)
    }
}

/// UTF-8, else Latin-1; without control characters, at most 200 of them.
fn decode_text(bytes: &[u8]) -> String {
    let short = bytes.get(..bytes.len().min(800)).unwrap_or(&[]);
    let text = match std::str::from_utf8(short) {
        Ok(text) => text.to_owned(),
        Err(_) => short.iter().map(|&b| char::from(b)).collect(),
    };
    text.chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}
