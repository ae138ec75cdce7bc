//! Filtered noise: hammers, breath, bows, snares and cymbals.
//!
//! White noise through a state-variable filter in trapezoidal form (Zavalishin,
//! "The Art of VA Filter Design", 2012, §4; Simper's solution of it), which
//! stays stable up to the Nyquist frequency. Levels are set so that a component
//! of gain 1 has a root mean square of about 1 at every sample rate.

use std::f64::consts::PI;

use crate::envelope::fall;
use crate::rng::Rng;

/// Which output of the filter is heard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pass {
    /// All below the corner frequency.
    Low,
    /// A band around it.
    Middle,
    /// All above it.
    High,
}

/// What a noise component is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoiseSpec {
    pub(crate) pass: Pass,
    /// Corner or centre in Hz.
    pub(crate) frequency: f64,
    /// Quality; 0.7 is flat for low and high, larger narrows a band.
    pub(crate) q: f64,
    /// Root mean square relative to the voice's level.
    pub(crate) gain: f64,
    /// Seconds in which it falls by 60 dB; infinity: as long as the voice.
    pub(crate) t60: f64,
}

/// A noise component on its way.
#[derive(Debug, Clone)]
pub(crate) struct Noise {
    rng: Rng,
    pass: Pass,
    k: f32,
    a1: f32,
    a2: f32,
    a3: f32,
    ic1: f32,
    ic2: f32,
    gain: f32,
    decay: f32,
}

impl Noise {
    /// A component of a voice whose level is `level`.
    pub(crate) fn new(spec: &NoiseSpec, level: f64, rate: f64, rng: Rng) -> Self {
        let nyquist = rate / 2.0;
        let frequency = spec.frequency.clamp(1.0, 0.9 * nyquist);
        let q = spec.q.max(0.5);
        // Equivalent noise bandwidth of each output, as a share of the spectrum.
        let bandwidth = match spec.pass {
            Pass::Low => 1.11 * frequency,
            Pass::Middle => PI / 2.0 * frequency / q,
            Pass::High => nyquist - frequency,
        };
        let share = (bandwidth / nyquist).clamp(1e-3, 1.0);
        let unit = (3.0 / share).sqrt();
        let g = (PI * frequency / rate).tan();
        let k = 1.0 / q;
        let a1 = 1.0 / (1.0 + g * (g + k));
        Self {
            rng,
            pass: spec.pass,
            k: k as f32,
            a1: a1 as f32,
            a2: (g * a1) as f32,
            a3: (g * g * a1) as f32,
            ic1: 0.0,
            ic2: 0.0,
            gain: (spec.gain * level * unit) as f32,
            decay: if spec.t60.is_finite() {
                fall(spec.t60, rate)
            } else {
                1.0
            },
        }
    }

    /// Whether it has died away.
    pub(crate) fn is_silent(&self) -> bool {
        self.gain.abs() < 2e-6
    }

    /// Adds the next samples to `out`.
    pub(crate) fn render(&mut self, out: &mut [f32]) {
        for y in out {
            let v0 = self.rng.noise();
            let v3 = v0 - self.ic2;
            let v1 = self.a1 * self.ic1 + self.a2 * v3;
            let v2 = self.ic2 + self.a2 * self.ic1 + self.a3 * v3;
            self.ic1 = 2.0 * v1 - self.ic1;
            self.ic2 = 2.0 * v2 - self.ic2;
            let filtered = match self.pass {
                Pass::Low => v2,
                Pass::Middle => self.k * v1,
                Pass::High => v0 - self.k * v1 - v2,
            };
            *y += self.gain * filtered;
            self.gain *= self.decay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gain_of_one_is_a_level_of_one_at_every_rate() {
        for rate in [8000.0, 22_050.0, 96_000.0] {
            for (pass, frequency, q) in [
                (Pass::Low, 800.0, 0.7),
                (Pass::Middle, 1000.0, 2.0),
                (Pass::High, 2000.0, 0.7),
            ] {
                let spec = NoiseSpec {
                    pass,
                    frequency,
                    q,
                    gain: 1.0,
                    t60: f64::INFINITY,
                };
                let mut noise = Noise::new(&spec, 1.0, rate, Rng::from_words(&[3]));
                let mut y = vec![0.0; 60_000];
                noise.render(&mut y);
                let rms = (y.iter().map(|v| v * v).sum::<f32>() / y.len() as f32).sqrt();
                assert!((0.7..1.4).contains(&rms), "{pass:?} at {rate}: {rms}");
            }
        }
    }
}
