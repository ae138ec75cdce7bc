//! The stage `render`: scores (MusicXML and MIDI) to mono PCM.
//!
//! A score is read and performed by `score` (repeats, tempo, pedal, dynamics …),
//! its notes are played by `synth`, with instruments of our own or a SoundFont that
//! the user names, and streamed into `pcm.wav`, the same artifact that `decode`
//! makes of a recording: from there on the two roads are one.

#![warn(missing_docs)]

mod error;
mod perform;

use audio::{MonoWavWriter, WavFormat};
use serde::{Deserialize, Serialize};
use stage_core::{
    Context, Estimate, FILES, FileParam, Host, Inputs, ItemInput, Kind, Output, ParamError, Part,
    Port, PortTakes, SOURCE_FILE, Stage, StageError,
};
use synth::{Options, Renderer};

use error::Error;

/// Name of the one file in the artifact: a WAV file, mono.
pub const PCM: &str = "pcm.wav";
/// Most bytes that are read of a score.
const MAX_FILE: u64 = score::limits::MAX_TEXT;
/// Samples per turn of the loop: a few milliseconds of work.
const BLOCK: usize = 8192;
/// Peak below which a piece counts as silent: half a step of 16 bits.
const SILENCE: f32 = 0.5 / 32_768.0;

/// Parameters of the stage `render`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Render {
    /// Samples per second, 1,000 to 384,000 (with a SoundFont 16,000 to 192,000).
    pub rate: u32,
    /// A SoundFont 2 file (.sf2) to play with, instead of our own instruments.
    pub soundfont: Option<FileParam>,
    /// Whether the piece's peak is brought to -1 dB of full scale, as `decode` does.
    pub normalize: bool,
    /// Level in dB, -60 to 30. At 0, piano music peaks between -15 and -1 dB of
    /// full scale; a limiter keeps all else below -0.3 dB.
    pub level: f64,
    /// How much of a small room is heard, 0 to 1.
    pub reverb: f64,
    /// Seconds rendered after the last note, 0 to 60.
    pub tail: f64,
    /// How samples are stored.
    pub format: WavFormat,
    /// Longest piece in seconds that is rendered; a longer one fails with a reason.
    pub max_duration: f64,
}

impl Default for Render {
    fn default() -> Self {
        let options = Options::default();
        Self {
            rate: options.rate,
            soundfont: None,
            normalize: true,
            level: options.level,
            reverb: options.reverb,
            tail: options.tail,
            format: WavFormat::S16,
            max_duration: 7200.0,
        }
    }
}

impl Kind for Render {
    const KIND: &'static str = "render";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "plays scores (MusicXML, MIDI) to PCM";
}

impl Stage for Render {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item]
    }

    fn gives(&self, _: Part) -> &'static str {
        "sound"
    }

    fn ports(&self) -> &'static [Port] {
        &[Port {
            name: "items",
            takes: PortTakes::Items,
            of: &[FILES],
            required: true,
            about: "a source of scores",
        }]
    }

    fn host(&self, _part: Part) -> Host {
        Host::Worker
    }

    fn takes(&self, extension: &str) -> bool {
        matches!(extension, "musicxml" | "xml" | "mxl" | "mid" | "midi")
    }

    fn validate(&self) -> Result<(), ParamError> {
        let (low, high) = if self.soundfont.is_some() {
            (16_000, 192_000)
        } else {
            (1000, 384_000)
        };
        ParamError::check_range("rate", &self.rate, low..=high, "Hz")?;
        ParamError::check_range("level", &self.level, -60.0..=30.0, "dB")?;
        if self.normalize && self.level != 0.0 {
            let message = "`level` does nothing while `normalize` brings every piece to one level";
            return Err(ParamError::new("level", message).hint("set `normalize` to false"));
        }
        ParamError::check_range("reverb", &self.reverb, 0.0..=1.0, "")?;
        ParamError::check_range("tail", &self.tail, 0.0..=60.0, "s")?;
        let longest = synth::MAX_SECONDS;
        ParamError::check_range("max_duration", &self.max_duration, 0.1..=longest, "s")
    }

    fn files(&self) -> Vec<(&'static str, &FileParam)> {
        self.soundfont.iter().map(|f| ("soundfont", f)).collect()
    }

    fn extent(&self, extension: &str, size: u64) -> f64 {
        // Bytes per second of music, over 42 piano performances as MIDI and 40
        // chorales as compressed MusicXML; text is some twenty times larger.
        let density = match extension {
            "mid" | "midi" => 130.0,
            "mxl" => 150.0,
            _ => 3000.0,
        };
        size as f64 / density
    }

    fn estimate(&self, _part: Part, extent: f64) -> Estimate {
        let rate = f64::from(self.rate);
        Estimate {
            seconds: extent * rate / 22_050.0 / 100.0,
            bytes: extent * rate * self.format.bytes() as f64,
        }
    }

    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        cx: &Context,
    ) -> Result<(), StageError> {
        let bytes = item.input.read(SOURCE_FILE, MAX_FILE)?;
        let score = score::read(&bytes).map_err(Error::Score)?;
        drop(bytes);
        for warning in &score.warnings {
            cx.warn(warning);
        }
        let performance = score.performance().map_err(Error::Score)?;
        drop(score);
        if performance.events.is_empty() {
            return Err(Error::NoNotes.into());
        }
        if performance.duration > self.max_duration {
            return Err(Error::TooLong {
                seconds: performance.duration,
                max: self.max_duration,
            }
            .into());
        }
        let notes = perform::notes(&performance);
        let count = notes.len();
        drop(performance);
        let renderer = self.renderer(notes, cx)?;
        let peak = self.write(renderer, out, cx)?;
        if peak < SILENCE {
            let peak_db = 20.0 * f64::from(peak).max(1e-10).log10();
            return Err(Error::Silent {
                notes: count,
                peak_db,
            }
            .into());
        }
        Ok(())
    }
}

impl Render {
    fn renderer(&self, notes: Vec<synth::Note>, cx: &Context) -> Result<Renderer, StageError> {
        let options = Options {
            rate: self.rate,
            level: self.level,
            reverb: self.reverb,
            tail: self.tail,
            seed: 0,
        };
        let renderer = if self.soundfont.is_some() {
            let font = perform::sound_font(cx.file("soundfont")?)?;
            Renderer::with_sound_font(notes, &font, &options)
        } else {
            Renderer::new(notes, &options)
        };
        Ok(renderer.map_err(Error::Synth)?)
    }

    /// Streams into `pcm.wav`; returns the peak.
    fn write(
        &self,
        mut renderer: Renderer,
        out: &mut Output,
        cx: &Context,
    ) -> Result<f32, StageError> {
        let spool = self.normalize.then(|| out.dir().to_owned());
        let file = out.create(PCM)?;
        let mut wav = MonoWavWriter::new(file, self.rate, self.format, spool.as_deref())
            .map_err(Error::Audio)?;
        let mut block = vec![0.0; BLOCK];
        loop {
            cx.cancel.check()?;
            let count = renderer.fill(&mut block).map_err(Error::from)?;
            let samples = block.get(..count).unwrap_or_default();
            if samples.is_empty() {
                return Ok(wav.finish().map_err(Error::Audio)?);
            }
            wav.write(samples).map_err(Error::Audio)?;
        }
    }
}

#[cfg(test)]
mod tests;
