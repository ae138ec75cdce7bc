//! Magnitudes of spectra, linear and on a scale that has a full-scale sine at 0.

use serde::{Deserialize, Serialize};

use crate::ln::ln;
use crate::{Complex32, Error, Window};

/// The floor of log magnitudes unless stated otherwise: e^-10 of a full-scale
/// sine, -86.9 dB (Marafioti et al. 2019, TiFGAN). Below 16-bit quantisation noise
/// spread over a thousand bins there is nothing to learn.
pub const DEFAULT_FLOOR: f32 = -10.0;

/// Decibels per neper, 20 / ln 10.
const DB_PER_NEPER: f32 = 20.0 / std::f32::consts::LN_10;

/// Decibels of a log magnitude in nepers: 20 log₁₀ of the magnitude, where a
/// full-scale sine is 0 dB.
pub fn to_db(nepers: f32) -> f32 {
    nepers * DB_PER_NEPER
}

/// The log magnitude in nepers of a level in decibels; undoes [`to_db`].
pub fn from_db(db: f32) -> f32 {
    db / DB_PER_NEPER
}

/// The magnitudes |X| of a spectrum, unscaled; as many as the shorter slice holds.
pub fn magnitude(spectrum: &[Complex32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(spectrum) {
        *out = (x.re * x.re + x.im * x.im).sqrt();
    }
}

/// A logarithmic scale of magnitudes, with a floor.
///
/// L = ln(max(|X| · 2 / Σw, e^floor)) in nepers. The scale 2 / Σw, with the
/// window's sum Σw, puts a sine of amplitude 1 at 0, whatever window and length;
/// only 0 Hz and half the rate can reach ln 2. Decibels: [`to_db`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MagnitudeScale {
    scale: f32,
    floor: f32,
}

impl MagnitudeScale {
    /// The scale of spectra weighted by `window`; `floor` in nepers, -40 to -1.
    ///
    /// # Errors
    /// [`Error::Floor`] when `floor` is out of range.
    pub fn new(window: &Window, floor: f32) -> Result<Self, Error> {
        Self::check_floor(floor)?;
        Ok(Self {
            scale: (2.0 / window.sum()) as f32,
            floor,
        })
    }

    /// Whether a floor, in nepers, lies within -40 to -1.
    ///
    /// # Errors
    /// [`Error::Floor`] when it does not.
    pub fn check_floor(floor: f32) -> Result<(), Error> {
        // Squared, e^-40 is still a normal number; the logarithm relies on that.
        if (-40.0..=-1.0).contains(&floor) {
            Ok(())
        } else {
            Err(Error::Floor { got: floor })
        }
    }

    /// The least value, in nepers.
    pub fn floor(&self) -> f32 {
        self.floor
    }

    /// 2 / Σw: multiplies |X| so that a full-scale sine has magnitude 1.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Log magnitudes of a spectrum, in nepers, at least the floor.
    ///
    /// NaN becomes the floor, infinity a large finite number.
    pub fn log(&self, spectrum: &[Complex32], out: &mut [f32]) {
        let (square, least) = (self.scale * self.scale, (2.0 * self.floor).exp());
        // Half the logarithm of the power spares the square root. Rounding may land
        // a hair below the floor, hence the second `max`.
        for (out, x) in out.iter_mut().zip(spectrum) {
            let power = (x.re * x.re + x.im * x.im) * square;
            *out = (0.5 * ln(power.max(least))).max(self.floor);
        }
    }

    /// Magnitudes |X| of a spectrum, unscaled, at least as large as the floor says.
    pub fn linear(&self, spectrum: &[Complex32], out: &mut [f32]) {
        let least = self.floor.exp() / self.scale;
        for (out, x) in out.iter_mut().zip(spectrum) {
            *out = (x.re * x.re + x.im * x.im).sqrt().max(least);
        }
    }

    /// Magnitudes |X|, unscaled, of log magnitudes; undoes [`MagnitudeScale::log`].
    ///
    /// What lies at the floor or below becomes 0: it stood for "nothing heard", and
    /// a thousand bins at the floor would add up to hiss.
    pub fn unlog(&self, log: &[f32], out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(log) {
            *out = if value > self.floor {
                value.exp() / self.scale
            } else {
                0.0
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;
    use crate::{Stft, StftConfig, WindowShape, stft};

    fn sine(cycles: f32, amplitude: f32, samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| amplitude * (TAU * cycles * n as f32).sin())
            .collect()
    }

    #[test]
    fn a_full_scale_sine_is_0_db_under_any_window() {
        for window in [WindowShape::Hann, WindowShape::Hamming, WindowShape::Gauss] {
            for (n_fft, win_length) in [(512, 512), (1024, 600)] {
                let config = StftConfig {
                    n_fft,
                    hop: 128,
                    win_length,
                    window,
                    ..Default::default()
                };
                let scale =
                    MagnitudeScale::new(Stft::new(config).unwrap().window(), -10.0).unwrap();
                for (amplitude, db) in [(1.0, 0.0), (0.1, -20.0)] {
                    let spectra = stft(&sine(32.0 / 512.0, amplitude, 4096), config).unwrap();
                    let mut log = vec![0.0; config.bins()];
                    scale.log(spectra.row(16), &mut log);
                    let peak = log.iter().copied().fold(f32::MIN, f32::max);
                    assert!(
                        (to_db(peak) - db).abs() < 0.01,
                        "{window:?} {n_fft} {db}: {peak}"
                    );
                }
            }
        }
    }

    #[test]
    fn log_agrees_with_the_formula_and_undoes() {
        let window = Stft::new(StftConfig::default()).unwrap().window().clone();
        let scale = MagnitudeScale::new(&window, DEFAULT_FLOOR).unwrap();
        let spectrum: Vec<_> = (0..513)
            .map(|k| Complex32::from_polar(300.0 * (-(k as f32) / 30.0).exp(), k as f32))
            .collect();
        let (mut log, mut back) = (vec![0.0; 513], vec![0.0; 513]);
        scale.log(&spectrum, &mut log);
        scale.unlog(&log, &mut back);
        for (k, x) in spectrum.iter().enumerate() {
            let exact = (f64::from(x.norm()) * 2.0 / 512.0).ln().max(-10.0);
            assert!((f64::from(log[k]) - exact).abs() < 1e-6, "bin {k}");
            let expected = if log[k] > -10.0 { x.norm() } else { 0.0 };
            assert!((back[k] - expected).abs() <= 3e-6 * expected, "bin {k}");
        }
    }

    #[test]
    fn bad_numbers_stay_inside_the_scale() {
        let window = Stft::new(StftConfig::default()).unwrap().window().clone();
        let scale = MagnitudeScale::new(&window, DEFAULT_FLOOR).unwrap();
        let bad = [f32::NAN, f32::INFINITY, 0.0, 1e-30].map(|re| Complex32::new(re, 0.0));
        let mut log = [0.0; 4];
        scale.log(&bad, &mut log);
        assert_eq!([log[0], log[2], log[3]], [-10.0; 3]);
        assert!(log[1].is_finite());
        for floor in [0.0, -41.0, f32::NAN] {
            assert!(MagnitudeScale::new(&window, floor).is_err());
        }
    }
}
