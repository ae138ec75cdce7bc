//! The stage `decode`: recordings in any common format to mono PCM.
//!
//! A file is decoded, mixed to one channel (ITU-R BS.775-3), resampled and
//! streamed into `pcm.wav`; memory does not grow with its length. A file that is
//! cut, damaged, silent, too short or no recording at all fails with its reason; of one that
//! lacks less than 1 % and 1 s, or whose header is out of order, the rest is used and a warning
//! says so.
//!
//! The artifact's `identity` is a digest of the samples before resampling, so
//! that neither a tag nor another rate makes another piece of the recording.

#![warn(missing_docs)]

mod error;

use std::sync::{Arc, Mutex, PoisonError};

use audio::{MonoOptions, MonoReader, MonoWavWriter, WavFormat};
use serde::{Deserialize, Serialize};
use stage_core::{
    Context, Digest, Estimate, FILES, Host, Inputs, ItemInput, Kind, Output, ParamError, Part,
    Port, PortTakes, SOURCE_FILE, Stage, StageError,
};

use error::Error;

/// Name of the file of samples in the artifact: a WAV file, mono.
pub const PCM: &str = "pcm.wav";
/// What the identity's digest is of, for domain separation.
const IDENTITY_CONTEXT: &str = "pipeline 2026 decode: mono samples at the source's rate";

/// Parameters of the stage `decode`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decode {
    /// Samples per second of the result, 1,000 to 384,000.
    pub rate: u32,
    /// How samples are stored.
    pub format: WavFormat,
    /// Whether the recording's peak is brought to -1 dB of full scale, so that
    /// quiet and loud recordings meet a model alike.
    pub normalize: bool,
    /// Shortest recording in seconds; a shorter one fails.
    pub min_duration: f64,
    /// Longest recording in seconds; a longer one fails. At most a week.
    pub max_duration: f64,
    /// Level in dB relative to full scale, -200 to 0; a recording whose peak, as
    /// mono, stays below is silent and fails.
    pub silence_db: f64,
}

impl Default for Decode {
    fn default() -> Self {
        let options = MonoOptions::default();
        Self {
            rate: options.rate,
            format: WavFormat::S16,
            normalize: true,
            min_duration: options.min_seconds,
            max_duration: options.max_seconds,
            silence_db: options.silence_db,
        }
    }
}

impl Kind for Decode {
    const KIND: &'static str = "decode";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "decodes recordings (WAV, MP3, FLAC, Ogg, M4A, …) to PCM";
}

impl Stage for Decode {
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
            about: "a source of recordings",
        }]
    }

    fn host(&self, _part: Part) -> Host {
        Host::Worker
    }

    fn takes(&self, extension: &str) -> bool {
        matches!(
            extension,
            "wav"
                | "wave"
                | "aif"
                | "aiff"
                | "aifc"
                | "flac"
                | "mp1"
                | "mp2"
                | "mp3"
                | "ogg"
                | "oga"
                | "opus"
                | "m4a"
                | "m4b"
                | "mp4"
                | "mov"
                | "aac"
                | "alac"
                | "caf"
                | "mka"
                | "mkv"
                | "webm"
        )
    }

    fn validate(&self) -> Result<(), ParamError> {
        ParamError::check_range("rate", &self.rate, 1_000..=384_000, "Hz")?;
        ParamError::check_range("max_duration", &self.max_duration, 0.001..=604_800.0, "s")?;
        ParamError::check_range("min_duration", &self.min_duration, 0.0..=3_600.0, "s")?;
        ParamError::check_range("silence_db", &self.silence_db, -200.0..=0.0, "dB")?;
        if self.min_duration > self.max_duration {
            let (min, max) = (self.min_duration, self.max_duration);
            return Err(ParamError::new(
                "min_duration",
                format!("`min_duration` of {min} s is longer than `max_duration` of {max} s"),
            )
            .hint("lower `min_duration`, or raise `max_duration`"));
        }
        Ok(())
    }

    fn extent(&self, extension: &str, size: u64) -> f64 {
        // Bytes per second: CD quality, about half of it where it is compressed
        // without loss, and usual bit rates of music else.
        let density = match extension {
            "wav" | "wave" | "aif" | "aiff" | "aifc" => 176_400.0,
            "flac" | "alac" | "caf" => 90_000.0,
            "mp4" | "mov" | "mkv" => 300_000.0,
            _ => 20_000.0,
        };
        size as f64 / density
    }

    fn estimate(&self, _part: Part, extent: f64) -> Estimate {
        Estimate {
            // Measured over the formats: 300 (Opus) to 1,800 (WAV) times real time.
            seconds: extent / 600.0,
            bytes: extent * f64::from(self.rate) * self.format.bytes() as f64,
        }
    }

    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        cx: &Context,
    ) -> Result<(), StageError> {
        let options = MonoOptions {
            rate: self.rate,
            min_seconds: self.min_duration,
            max_seconds: self.max_duration,
            silence_db: self.silence_db,
        };
        let file = item.input.open(SOURCE_FILE)?;
        let mut reader = MonoReader::from_file(file, options).map_err(Error::Source)?;
        let identity = Identity::of(&mut reader);
        let spool = self.normalize.then(|| out.dir().to_owned());
        let file = out.create(PCM)?;
        let mut wav = MonoWavWriter::new(file, self.rate, self.format, spool.as_deref())
            .map_err(Error::Write)?;
        while let Some(samples) = reader.next_block().map_err(Error::Source)? {
            cx.cancel.check()?;
            wav.write(samples).map_err(Error::Write)?;
        }
        for note in reader.notes() {
            cx.warn(note.as_str());
        }
        wav.finish().map_err(Error::Write)?;
        // Of the digits: pieces are divided by it, and stay where they are.
        out.identify(Digest::of(identity.hex().as_bytes()));
        Ok(())
    }
}

/// A running digest of the samples that a reader decodes.
struct Identity(Arc<Mutex<Running>>);

struct Running {
    hasher: blake3::Hasher,
    /// Bytes that are not hashed yet, fewer than a run.
    bytes: Vec<u8>,
}

/// Bytes that are hashed at once: BLAKE3 is fastest on long runs of one power of two.
const RUN: usize = 128 * 1024;

impl Running {
    fn push(&mut self, samples: &[f32]) {
        // So that every run is a whole one: a sample never lies across two.
        for samples in samples.chunks(RUN / 4) {
            let fitting = samples.len().min((RUN - self.bytes.len()) / 4);
            let (now, later) = samples.split_at(fitting);
            self.append(now);
            if self.bytes.len() == RUN {
                self.hash();
            }
            self.append(later);
        }
    }

    fn append(&mut self, samples: &[f32]) {
        let begin = self.bytes.len();
        self.bytes.resize(begin + 4 * samples.len(), 0);
        let new = self.bytes[begin..].as_chunks_mut().0;
        for (bytes, x) in new.iter_mut().zip(samples) {
            *bytes = x.to_le_bytes();
        }
    }

    fn hash(&mut self) {
        self.hasher.update(&self.bytes);
        self.bytes.clear();
    }
}

impl Identity {
    fn of(reader: &mut MonoReader) -> Self {
        let hasher = blake3::Hasher::new_derive_key(IDENTITY_CONTEXT);
        let rate = reader.info().rate.to_le_bytes();
        let mut bytes = Vec::with_capacity(RUN);
        // At the head of the first run, or else all runs would begin out of step.
        bytes.extend(rate);
        let running = Arc::new(Mutex::new(Running { hasher, bytes }));
        let tap = Arc::clone(&running);
        reader.on_source(move |samples| {
            let mut running = tap.lock().unwrap_or_else(PoisonError::into_inner);
            running.push(samples);
        });
        Self(running)
    }

    fn hex(&self) -> String {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.hash();
        running.hasher.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests;
