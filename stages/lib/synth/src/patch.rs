//! What an instrument makes of a key: partials, noise, and how they move.

use crate::bank::Bank;
use crate::envelope::Adsr;
use crate::noise::{Noise, NoiseSpec, Pass};
use crate::note::{Note, Sound, frequency};
use crate::rng::Rng;

/// A key that is struck: everything an instrument may depend on.
#[derive(Debug)]
pub(crate) struct Key {
    /// Fundamental in Hz.
    pub(crate) f0: f64,
    /// MIDI pitch.
    pub(crate) pitch: f64,
    /// Velocity as a share of the hardest, above 0 and at most 1.
    pub(crate) force: f64,
    /// Samples per second.
    pub(crate) rate: f64,
    /// Root mean square that a voice of full level has at this velocity.
    pub(crate) level: f64,
    /// Random numbers that belong to this note alone.
    pub(crate) rng: Rng,
    /// Random numbers that belong to this key of the instrument, however and
    /// whenever it is struck.
    pub(crate) wood: Rng,
}

impl Key {
    /// The key of `note`, whose root mean square at velocity 127 is to be `level`.
    ///
    /// The squared velocity is the concave curve of DLS and SoundFont 2.04
    /// (§8.4.2): 40 dB · log10(velocity / 127).
    pub(crate) fn new(note: &Note, rate: f64, level: f64, seed: u64) -> Self {
        let force = f64::from(note.velocity) / 127.0;
        let sound = match note.sound {
            Sound::Program(program) => u64::from(program),
            Sound::Drum(key) => 256 + u64::from(key),
        };
        // Seeded by what the note is, not by its place in the list: adding a
        // note elsewhere leaves this one's noise alone.
        let rng = Rng::from_words(&[
            seed,
            note.onset.to_bits(),
            note.pitch.to_bits(),
            u64::from(note.velocity),
            sound,
        ]);
        Self {
            f0: frequency(note.pitch),
            pitch: note.pitch,
            force,
            rate,
            level: level * force * force * f64::from(note.gain),
            rng,
            wood: Rng::from_words(&[sound, note.pitch.to_bits()]),
        }
    }

    /// Linear between `soft` (velocity 0) and `hard` (velocity 127).
    pub(crate) fn blend(&self, soft: f64, hard: f64) -> f64 {
        soft + (hard - soft) * self.force
    }

    /// A random phase in radians.
    pub(crate) fn phase(&mut self) -> f64 {
        self.rng.unit() * std::f64::consts::TAU
    }
}

/// A slow wave on the frequency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vibrato {
    /// Hz of the wave.
    pub(crate) rate: f64,
    /// Largest deviation as a share of the frequency.
    pub(crate) depth: f64,
    /// Seconds until it sets in.
    pub(crate) delay: f64,
}

/// A frequency that begins elsewhere and comes home exponentially.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glide {
    /// Frequency at the onset as a multiple of the final one.
    pub(crate) from: f64,
    /// Seconds to 1/e of the way.
    pub(crate) tau: f64,
}

/// A slow wave on the level.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tremolo {
    /// Hz of the wave.
    pub(crate) rate: f64,
    /// How far the level dips, 0 to 1.
    pub(crate) depth: f64,
}

/// Brightness that comes after the level, as in brass (Risset & Mathews,
/// "Analysis of musical-instrument tones", Physics Today 22(2), 1969): partial k
/// is weighted with `k^(−dark · (1 − b(t)))`, where b rises to 1 and settles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swell {
    /// Exponent by which the tone is darker where b = 0.
    pub(crate) dark: f64,
    /// Seconds in which b comes near 1.
    pub(crate) rise: f64,
    /// What b settles at, 0 to 1.
    pub(crate) settle: f64,
    /// Seconds in which it does.
    pub(crate) fall: f64,
}

impl Swell {
    /// The exponent at `t` seconds after the onset.
    pub(crate) fn slope(&self, t: f64) -> f64 {
        let up = 1.0 - (-3.0 * t / self.rise.max(1e-3)).exp();
        let down = self.settle + (1.0 - self.settle) * (-3.0 * t / self.fall.max(1e-3)).exp();
        self.dark * (1.0 - up * down)
    }
}

/// A voice before it sounds.
#[derive(Debug)]
pub(crate) struct Patch {
    pub(crate) bank: Bank,
    pub(crate) noises: Vec<Noise>,
    pub(crate) adsr: Adsr,
    /// Rings on when the key is let go.
    pub(crate) one_shot: bool,
    /// Voices of the same number silence each other (hi-hats, whistles, …).
    pub(crate) choke: Option<u8>,
    pub(crate) vibrato: Option<Vibrato>,
    pub(crate) glide: Option<Glide>,
    pub(crate) tremolo: Option<Tremolo>,
    pub(crate) swell: Option<Swell>,
}

impl Patch {
    /// An empty patch. `headroom` is the largest factor by which vibrato or
    /// glide will raise a frequency.
    pub(crate) fn new(key: &Key, adsr: Adsr, headroom: f64) -> Self {
        Self {
            bank: Bank::new(key.rate, headroom),
            noises: Vec::new(),
            adsr,
            one_shot: false,
            choke: None,
            vibrato: None,
            glide: None,
            tremolo: None,
            swell: None,
        }
    }

    /// Adds noise of `gain` relative to the level of `key`.
    pub(crate) fn noise(&mut self, key: &mut Key, spec: NoiseSpec) {
        if spec.gain <= 0.0 {
            return;
        }
        let seed = (key.rng.unit() * (1u64 << 52) as f64) as u64;
        let rng = Rng::from_words(&[seed]);
        self.noises
            .push(Noise::new(&spec, key.level, key.rate, rng));
    }
}

/// A resonance of a body or a mouth: gain around a frequency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Formant {
    /// Centre in Hz.
    pub(crate) frequency: f64,
    /// Half width in octaves at which the gain has fallen to 1/e.
    pub(crate) width: f64,
    /// Gain at the centre, added to 1.
    pub(crate) gain: f64,
}

/// Factor by which formants raise a partial of `frequency` Hz.
pub(crate) fn resonance(formants: &[Formant], frequency: f64) -> f64 {
    1.0 + formants
        .iter()
        .map(|f| {
            let octaves = (frequency / f.frequency).log2() / f.width;
            f.gain * (-octaves * octaves).exp()
        })
        .sum::<f64>()
}

/// A noise that lasts as long as the voice.
pub(crate) fn steady(pass: Pass, frequency: f64, q: f64, gain: f64) -> NoiseSpec {
    burst(pass, frequency, q, gain, f64::INFINITY)
}

/// A noise that falls by 60 dB in `t60` seconds.
pub(crate) fn burst(pass: Pass, frequency: f64, q: f64, gain: f64, t60: f64) -> NoiseSpec {
    NoiseSpec {
        pass,
        frequency,
        q,
        gain,
        t60,
    }
}
