//! Playing the samples of a SoundFont 2 file, by `rustysynth`.
//!
//! A SoundFont player thinks in 16 MIDI channels, each with one program and one
//! pitch bend. Our notes have neither channels nor a limit of programs, so
//! channels are lent: notes of equal program and equal fraction of a semitone
//! share one, and when all are taken the one that has been silent longest (or,
//! failing that, began longest ago) changes hands.

use std::any::Any;
use std::fmt;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustysynth::{SoundFontError, SynthesizerError, SynthesizerSettings};

use crate::Error;
use crate::bank::BLOCK;
use crate::note::{Note, Sound};
use crate::sf2;

const PERCUSSION: usize = rustysynth::Synthesizer::PERCUSSION_CHANNEL;
const CHANNELS: usize = rustysynth::Synthesizer::CHANNEL_COUNT;
/// Samples between two looks of the player at what is to begin.
const STEP: usize = 32;
/// Units of pitch bend per semitone: 14 bits over two semitones up and down.
const BEND: f64 = 4096.0;
/// The player's volume; its own default.
const VOLUME: f64 = 0.5;

/// A SoundFont 2 in memory. Cheap to clone.
#[derive(Clone)]
pub struct SoundFont(Arc<rustysynth::SoundFont>);

impl fmt::Debug for SoundFont {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoundFont")
            .field("presets", &self.0.get_presets().len())
            .field("samples", &self.0.get_wave_data().len())
            .finish()
    }
}

impl SoundFont {
    /// Reads an SF2 file from its beginning; only the samples are kept in memory.
    ///
    /// # Errors
    /// The file is compressed (SF3), damaged, or no SoundFont; reading fails.
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<Self, Error> {
        let mut head = Vec::with_capacity(12);
        reader
            .take(12)
            .read_to_end(&mut head)
            .map_err(Error::SoundFontIo)?;
        if head.get(..4) != Some(b"RIFF") || head.get(8..12) != Some(b"sfbk") {
            return Err(Error::NotASoundFont);
        }
        sf2::check(reader)?;
        reader
            .seek(SeekFrom::Start(0))
            .map_err(Error::SoundFontIo)?;
        match rustysynth::SoundFont::new(reader) {
            Ok(font) => Ok(Self(Arc::new(font))),
            Err(SoundFontError::UnsupportedSampleFormat) => Err(Error::Sf3),
            Err(SoundFontError::IoError(source)) if source.kind() != ErrorKind::UnexpectedEof => {
                Err(Error::SoundFontIo(source))
            }
            Err(source) => Err(Error::SoundFont(source)),
        }
    }
}

/// What a channel is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setting {
    program: u8,
    bend: i32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    setting: Option<Setting>,
    sounding: usize,
    /// Sample at which a note last began or ended.
    used: u64,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    off: u64,
    channel: usize,
    key: i32,
}

/// Plays notes with the samples of a SoundFont.
#[derive(Debug)]
pub(crate) struct Player {
    synthesizer: rustysynth::Synthesizer,
    /// By onset.
    notes: Vec<Note>,
    next: usize,
    held: Vec<Held>,
    channels: [Channel; CHANNELS],
    rate: f64,
    now: u64,
}

impl Player {
    /// Notes must be checked, and sorted by onset; `gain` is an amplitude factor.
    pub(crate) fn new(
        notes: Vec<Note>,
        font: &SoundFont,
        rate: u32,
        gain: f64,
    ) -> Result<Self, Error> {
        let mut settings = SynthesizerSettings::new(rate.min(i32::MAX as u32) as i32);
        settings.block_size = STEP;
        settings.maximum_polyphony = crate::POLYPHONY;
        // One room for both kinds of instruments: ours.
        settings.enable_reverb_and_chorus = false;
        let mut synthesizer = rustysynth::Synthesizer::new(&font.0, &settings)
            .map_err(|_: SynthesizerError| Error::SoundFontRate { rate })?;
        synthesizer.set_master_volume((VOLUME * gain) as f32);
        Ok(Self {
            synthesizer,
            notes,
            next: 0,
            held: Vec::new(),
            channels: [Channel::default(); CHANNELS],
            rate: f64::from(rate),
            now: 0,
        })
    }

    /// Overwrites `block` with the next samples. After an error there are no more.
    pub(crate) fn render(&mut self, block: &mut [f32; BLOCK]) -> Result<(), Error> {
        for step in block.chunks_mut(STEP) {
            // The player runs past its samples where one step of a high note is longer than the
            // loop of a short sample, as some sound fonts have it.
            let played = catch_unwind(AssertUnwindSafe(|| self.step(step)));
            let at = self.now as f64 / self.rate;
            let fail = |reason| Error::SoundFontPlayer { at, reason };
            played.map_err(|panic| fail(panic_text(&*panic)))?;
            // Filters may be set so that they blow up.
            if step.iter().any(|x| !x.is_finite()) {
                return Err(fail("its samples grow without bounds".to_owned()));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &mut [f32]) {
        let end = self.now + step.len() as u64;
        self.release(end);
        self.begin(end);
        let (mut left, mut right) = ([0.0; STEP], [0.0; STEP]);
        self.synthesizer.render(&mut left, &mut right);
        for (y, (l, r)) in step.iter_mut().zip(left.iter().zip(&right)) {
            *y = 0.5 * (l + r);
        }
        self.now = end;
    }

    fn release(&mut self, end: u64) {
        let due: Vec<Held> = self.held.iter().filter(|h| h.off < end).copied().collect();
        self.held.retain(|h| h.off >= end);
        for Held { channel, key, off } in due {
            if let Some(c) = self.channels.get_mut(channel) {
                c.sounding = c.sounding.saturating_sub(1);
                c.used = off;
            }
            // The same key may be held by another note, which would be cut off.
            let shared = |h: &Held| h.channel == channel && h.key == key;
            if !self.held.iter().any(shared) {
                self.synthesizer.note_off(channel as i32, key);
            }
        }
    }

    fn begin(&mut self, end: u64) {
        while let Some(note) = self.notes.get(self.next).copied() {
            let onset = (note.onset * self.rate).round() as u64;
            if onset >= end {
                return;
            }
            self.next += 1;
            // Loudness goes with the square of velocity in SoundFonts too.
            let velocity = f32::from(note.velocity) * note.gain.sqrt();
            if note.gain <= 0.0 || self.held.len() >= crate::POLYPHONY {
                continue;
            }
            let velocity = velocity.round().clamp(1.0, 127.0) as i32;
            let (channel, key) = match note.sound {
                Sound::Drum(key) => (PERCUSSION, i32::from(key)),
                Sound::Program(program) => {
                    let key = note.pitch.round().min(127.0);
                    let bend = ((note.pitch - key) * BEND).round() as i32;
                    (self.lend(Setting { program, bend }), key as i32)
                }
            };
            if let Some(c) = self.channels.get_mut(channel) {
                c.sounding += 1;
                c.used = onset;
            }
            let off = (note.end() * self.rate).round() as u64;
            self.held.push(Held {
                off: off.max(onset + 1),
                channel,
                key,
            });
            self.synthesizer.note_on(channel as i32, key, velocity);
        }
    }

    /// The channel with this setting; set, if none had it.
    fn lend(&mut self, setting: Setting) -> usize {
        let melodic = || (0..CHANNELS).filter(|&c| c != PERCUSSION);
        let channels = &self.channels;
        let has = |c: &usize| channels.get(*c).is_some_and(|c| c.setting == Some(setting));
        if let Some(channel) = melodic().find(has) {
            return channel;
        }
        let order = |c: &usize| {
            channels
                .get(*c)
                .map_or((true, 0), |c| (c.sounding > 0, c.used))
        };
        let channel = melodic().min_by_key(order).unwrap_or(0);
        let number = channel as i32;
        self.synthesizer.note_off_all_channel(number, false);
        let program = i32::from(setting.program);
        self.synthesizer
            .process_midi_message(number, 0xc0, program, 0);
        let bend = (8192 + setting.bend).clamp(0, 16_383);
        self.synthesizer
            .process_midi_message(number, 0xe0, bend & 127, bend >> 7);
        self.held.retain(|h| h.channel != channel);
        if let Some(c) = self.channels.get_mut(channel) {
            c.setting = Some(setting);
            c.sounding = 0;
        }
        channel
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}
