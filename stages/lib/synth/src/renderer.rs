//! Notes in, samples out, a block at a time.

use std::f64::consts::PI;

use crate::Error;
use crate::bank::BLOCK;
use crate::limiter::Limiter;
use crate::note::Note;
use crate::orchestra::Orchestra;
use crate::reverb::Reverb;
use crate::soundfont::{Player, SoundFont};

/// Root mean square of a note of velocity 127 at level 0 dB, of full scale.
/// Chosen so that loud piano music peaks just below the ceiling.
const NOTE_LEVEL: f64 = 0.18;
/// No sample is larger: −0.3 dB of full scale.
const CEILING: f32 = 0.966;
/// Longest fade at the very end, in seconds.
const FADE: f64 = 0.3;

/// How to render.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Samples per second, 1,000 to 384,000 (with a SoundFont 16,000 to 192,000).
    pub rate: u32,
    /// Level in dB, -60 to 30; at 0 a single note of velocity 127 has a root mean
    /// square of about -15 dB of full scale.
    pub level: f64,
    /// How much of the room is heard, 0 (none) to 1.
    pub reverb: f64,
    /// Seconds that are rendered after the last key was let go, 0 to 60.
    pub tail: f64,
    /// Chooses the noise of hammers, breath and drums.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rate: 22_050,
            level: 0.0,
            reverb: 0.12,
            tail: 1.5,
            seed: 0,
        }
    }
}

impl Options {
    /// Checks every field.
    ///
    /// # Errors
    /// The first one that is out of range or not a number.
    pub fn check(&self) -> Result<(), Error> {
        let checks = [
            (
                "rate",
                f64::from(self.rate),
                1e3,
                384e3,
                "1000 to 384000 Hz",
            ),
            ("level", self.level, -60.0, 30.0, "-60 to 30 dB"),
            ("reverb", self.reverb, 0.0, 1.0, "0 to 1"),
            ("tail", self.tail, 0.0, 60.0, "0 to 60 s"),
        ];
        for (option, value, min, max, expected) in checks {
            if !(min..=max).contains(&value) {
                return Err(Error::Options {
                    option,
                    got: value.to_string(),
                    expected,
                });
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
enum Source {
    Own(Orchestra),
    Font(Box<Player>),
}

/// Renders notes to mono PCM in [-1, 1], as much at a time as is asked for.
///
/// Whatever the length of the piece, it holds no more than the sounding voices
/// (at most [`POLYPHONY`](crate::POLYPHONY)) and the room. The samples are a pure
/// function of notes and options: neither the order in which the notes are given
/// nor the sizes of the buffers change a bit.
#[derive(Debug)]
pub struct Renderer {
    source: Source,
    reverb: Option<Reverb>,
    limiter: Limiter,
    block: [f32; BLOCK],
    /// First sample of `block` not yet given out.
    place: usize,
    given: u64,
    total: u64,
    fade: u64,
}

impl Renderer {
    /// A renderer with our own instruments.
    ///
    /// # Errors
    /// A note or an option is out of range or not a number.
    pub fn new(notes: Vec<Note>, options: &Options) -> Result<Self, Error> {
        let (notes, end) = prepare(notes, options)?;
        let rate = f64::from(options.rate);
        let level = NOTE_LEVEL * 10f64.powf(options.level / 20.0);
        let orchestra = Orchestra::new(notes, rate, level, options.seed);
        Self::with_source(Source::Own(orchestra), end, options)
    }

    /// A renderer that plays the samples of `font`.
    ///
    /// # Errors
    /// As [`Renderer::new`], and when the player refuses the rate.
    pub fn with_sound_font(
        notes: Vec<Note>,
        font: &SoundFont,
        options: &Options,
    ) -> Result<Self, Error> {
        let (notes, end) = prepare(notes, options)?;
        let gain = 10f64.powf(options.level / 20.0);
        let player = Player::new(notes, font, options.rate, gain)?;
        let source = Source::Font(Box::new(player));
        Self::with_source(source, end, options)
    }

    fn with_source(source: Source, end: Option<f64>, options: &Options) -> Result<Self, Error> {
        let rate = f64::from(options.rate);
        let total = end.map_or(0, |end| ((end + options.tail) * rate).ceil() as u64);
        let mut renderer = Self {
            source,
            reverb: (options.reverb > 0.0).then(|| Reverb::new(options.reverb, rate)),
            limiter: Limiter::new(CEILING, rate),
            block: [0.0; BLOCK],
            place: BLOCK,
            given: 0,
            total,
            fade: (options.tail.min(FADE) * rate) as u64,
        };
        for _ in 0..renderer.limiter.latency() {
            renderer.next_sample()?;
        }
        Ok(renderer)
    }

    /// Samples in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Voices that sound now, with those that fade out; 0 with a SoundFont.
    pub fn voices(&self) -> usize {
        match &self.source {
            Source::Own(orchestra) => orchestra.voices(),
            Source::Font(_) => 0,
        }
    }

    /// Fills `out` from its beginning and returns how many samples it wrote: all
    /// of `out`, or fewer at the end of the piece, or 0 after it.
    ///
    /// # Errors
    /// [`Error::SoundFontPlayer`]; the renderer is then of no more use.
    pub fn fill(&mut self, out: &mut [f32]) -> Result<usize, Error> {
        let left = usize::try_from(self.total - self.given).unwrap_or(usize::MAX);
        let count = out.len().min(left);
        for y in out.iter_mut().take(count) {
            *y = self.next_sample()?;
            let rest = self.total - self.given;
            if rest <= self.fade {
                let x = rest as f64 / self.fade as f64;
                *y *= (0.5 - 0.5 * (PI * x).cos()) as f32;
            }
            self.given += 1;
        }
        Ok(count)
    }

    fn next_sample(&mut self) -> Result<f32, Error> {
        if self.place >= BLOCK {
            match &mut self.source {
                Source::Own(orchestra) => orchestra.render(&mut self.block),
                Source::Font(player) => player.render(&mut self.block)?,
            }
            if let Some(reverb) = &mut self.reverb {
                reverb.process(&mut self.block);
            }
            self.place = 0;
        }
        let x = self.block.get(self.place).copied().unwrap_or(0.0);
        self.place += 1;
        Ok(self.limiter.next(x))
    }
}

/// Checks and sorts; also when the last key is let go, if there is a note.
fn prepare(mut notes: Vec<Note>, options: &Options) -> Result<(Vec<Note>, Option<f64>), Error> {
    options.check()?;
    for (index, note) in notes.iter().enumerate() {
        note.check(index)?;
    }
    // By every field, so that the order given does not change a sum's rounding.
    notes.sort_by(|a, b| {
        let times = a.onset.total_cmp(&b.onset);
        let pitches = a.pitch.total_cmp(&b.pitch);
        let sounds = a.sound.cmp(&b.sound);
        times
            .then(sounds)
            .then(pitches)
            .then(a.duration.total_cmp(&b.duration))
            .then(a.velocity.cmp(&b.velocity))
            .then(a.gain.total_cmp(&b.gain))
    });
    let end = notes.iter().map(Note::end).reduce(f64::max);
    Ok((notes, end))
}
