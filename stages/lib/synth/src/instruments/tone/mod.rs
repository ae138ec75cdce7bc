//! Tones that last: organs, bowed strings, voices, brass, reeds, pipes, and the
//! synthesiser's leads and pads.
//!
//! A harmonic series falls off as `k^(−slope)`, more steeply at a soft touch; its
//! even partials may be weak (a cylindrical reed), formants shape it (a violin's
//! body, a mouth), brightness may come after loudness ([`Swell`]), several copies
//! slightly out of tune make an ensemble, and breath or bow adds noise.
//! Formant frequencies after Fletcher & Rossing, "The Physics of Musical
//! Instruments" (1998), chapters 10 and 13 to 16, and Peterson & Barney (JASA 24,
//! 1952) for the vowels.

mod electronic;
mod keys;
mod strings;
mod winds;

use crate::bank::MAX_PARTIALS;
use crate::envelope::Adsr;
use crate::noise::Pass;
use crate::patch::{Formant, Key, Patch, Swell, Tremolo, Vibrato, burst, resonance, steady};

/// What a lasting tone is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToneSpec {
    adsr: Adsr,
    /// Frequency ratio and gain of each series that sounds together.
    ranks: &'static [(f64, f64)],
    /// Most partials of a rank.
    harmonics: usize,
    /// Partial k begins with `k^(−slope)`.
    slope: f64,
    /// Slope added at the softest touch.
    soft: f64,
    /// Gain of the even partials.
    even: f64,
    /// Hz at which the top has fallen to 1/e.
    cutoff: f64,
    formants: &'static [Formant],
    swell: Option<Swell>,
    /// Copies of each rank (at most 3), spread over so many cents.
    copies: usize,
    spread: f64,
    /// Cents and Hz of the vibrato, and seconds until it begins.
    vibrato: (f64, f64, f64),
    tremolo: Option<Tremolo>,
    /// Lasting noise: centre as a multiple of f0, quality, gain.
    breath: (f64, f64, f64),
    /// Noise at the onset: Hz, gain, seconds.
    chiff: (f64, f64, f64),
    trim: f64,
}

const TONE: ToneSpec = ToneSpec {
    adsr: Adsr {
        attack: 0.03,
        decay: 0.3,
        sustain: 0.9,
        release: 0.15,
    },
    ranks: &[(1.0, 1.0)],
    harmonics: MAX_PARTIALS,
    slope: 1.2,
    soft: 0.6,
    even: 1.0,
    cutoff: 6000.0,
    formants: &[],
    swell: None,
    copies: 1,
    spread: 0.0,
    vibrato: (0.0, 5.5, 0.3),
    tremolo: None,
    breath: (1.0, 1.0, 0.0),
    chiff: (1000.0, 0.0, 0.05),
    trim: 1.0,
};

const fn adsr(attack: f64, decay: f64, sustain: f64, release: f64) -> Adsr {
    Adsr {
        attack,
        decay,
        sustain,
        release,
    }
}

const fn formant(frequency: f64, width: f64, gain: f64) -> Formant {
    Formant {
        frequency,
        width,
        gain,
    }
}

const fn swell(dark: f64, rise: f64, settle: f64, fall: f64) -> Option<Swell> {
    Some(Swell {
        dark,
        rise,
        settle,
        fall,
    })
}

/// The tone that plays this program, if one does.
pub(super) fn spec(program: u8) -> Option<&'static ToneSpec> {
    Some(match program {
        16..=23 => keys::organ(program),
        29 | 30 => keys::guitar(program),
        40..=44 | 48..=54 | 110 => strings::strings_and_voices(program),
        56..=63 => winds::brass(program),
        64..=71 | 109 | 111 => winds::reed(program),
        72..=79 => winds::pipe(program),
        80..=87 => electronic::lead(program),
        88..=97 | 99..=103 => electronic::pad(program),
        _ => return None,
    })
}

/// The tone `spec` at `key`.
pub(super) fn patch(spec: &ToneSpec, key: &mut Key) -> Patch {
    let mut adsr = spec.adsr;
    // A hard touch speaks sooner, a low note later.
    adsr.attack *= key.blend(1.25, 0.85) * (-(key.pitch - 60.0) / 60.0).exp2().clamp(0.6, 1.6);
    let (cents, vibrato_rate, delay) = spec.vibrato;
    let depth = (cents / 1200.0).exp2() - 1.0;
    let mut patch = Patch::new(key, adsr, 1.0 + depth);
    if depth > 0.0 {
        patch.vibrato = Some(Vibrato {
            rate: vibrato_rate,
            depth,
            delay,
        });
    }
    patch.tremolo = spec.tremolo;
    patch.swell = spec.swell;
    for &(ratio, gain) in spec.ranks {
        add_rank(&mut patch, spec, ratio, gain, key);
    }
    patch.bank.normalise(key.level * spec.trim);
    let (multiple, q, gain) = spec.breath;
    patch.noise(key, steady(Pass::Middle, multiple * key.f0, q, gain));
    let (centre, gain, t60) = spec.chiff;
    patch.noise(key, burst(Pass::Middle, centre, 0.8, gain, t60));
    patch
}

fn add_rank(patch: &mut Patch, spec: &ToneSpec, ratio: f64, gain: f64, key: &mut Key) {
    let slope = spec.slope + spec.soft * (1.0 - key.force);
    let most = (MAX_PARTIALS / (spec.ranks.len() * spec.copies).max(1)).clamp(1, spec.harmonics);
    let mut heard = 0.0f64;
    for k in 1..=most {
        let n = k as f64;
        let f = n * ratio * key.f0;
        if f >= patch.bank.limit() {
            break;
        }
        let parity = if k % 2 == 0 { spec.even } else { 1.0 };
        let amplitude =
            gain * parity * n.powf(-slope) * (-f / spec.cutoff).exp() * resonance(spec.formants, f);
        heard = heard.max(amplitude);
        if amplitude < 3e-4 * heard && k > 8 && parity > 0.0 {
            break;
        }
        for &(place, weight) in chorus(spec.copies) {
            let detune = (place * spec.spread / 1200.0).exp2();
            let phase = key.phase();
            let order = (n * ratio).max(1.0);
            let (f, amplitude) = (f * detune, amplitude * weight);
            patch.bank.push(f, amplitude, f64::INFINITY, phase, order);
        }
    }
}

/// Place (as a share of the spread) and weight of each copy. One leads, so that
/// the beating never empties a partial; the mean, by power, is in tune.
fn chorus(copies: usize) -> &'static [(f64, f64)] {
    match copies {
        0 | 1 => &[(0.0, 1.0)],
        2 => &[(-0.17, 0.86), (0.5, 0.5)],
        _ => &[(0.0, 0.82), (-0.5, 0.41), (0.5, 0.41)],
    }
}
