//! Analysis windows.
//!
//! All are *periodic*: the cosine terms have the period of the window's length N,
//! not N - 1, so that windows at a hop of N / 4 add up to a constant. This is what
//! `scipy.signal.get_window(name, N, fftbins=True)` and hence librosa use.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// The height of the Gaussian window at its edges, relative to its peak.
///
/// 0.01 is the truncation at which Průša, Balazs & Søndergaard (2017) compare
/// windows; lower and the window wastes its length, higher and its side lobes
/// show in the spectrum.
const GAUSS_EDGE: f64 = 0.01;

/// A family of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowShape {
    /// 0.5 - 0.5 cos(2πn / N).
    #[default]
    Hann,
    /// 0.54 - 0.46 cos(2πn / N).
    Hamming,
    /// exp(-π t² / γ) with t = n - N / 2 and γ = 0.17055 N²: 0.01 at its edges,
    /// a standard deviation of σ = √(γ / 2π) = 0.16475 N samples.
    Gauss,
}

impl WindowShape {
    /// The name in parameters and metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hann => "hann",
            Self::Hamming => "hamming",
            Self::Gauss => "gauss",
        }
    }

    /// γ / N²: the time-frequency ratio of the Gaussian exp(-π t² / γ) closest to
    /// this window.
    ///
    /// Exact for the Gaussian itself; for Hann and Hamming the values of Průša,
    /// Balazs & Søndergaard (2017), table I. Multiply by the squared window length
    /// in samples to get γ in samples².
    pub fn gamma(self) -> f64 {
        match self {
            Self::Hann => 0.25645,
            Self::Hamming => 0.29794,
            Self::Gauss => -PI / (4.0 * GAUSS_EDGE.ln()),
        }
    }

    fn value(self, n: usize, length: usize) -> f64 {
        let (n, length) = (n as f64, length as f64);
        let cosine = (2.0 * PI * n / length).cos();
        match self {
            Self::Hann => 0.5 - 0.5 * cosine,
            Self::Hamming => 0.54 - 0.46 * cosine,
            Self::Gauss => {
                let t = (n - length / 2.0) / length;
                (-PI * t * t / self.gamma()).exp()
            }
        }
    }
}

/// A window of `win_length` samples, in the middle of `n_fft` samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    values: Vec<f32>,
    sum: f64,
}

impl Window {
    /// Computes the window; what `win_length` leaves of `n_fft` is zero on both
    /// sides, the odd sample on the right (librosa's `pad_center`).
    pub(crate) fn new(shape: WindowShape, win_length: usize, n_fft: usize) -> Self {
        let left = n_fft.saturating_sub(win_length) / 2;
        let mut values = vec![0.0; n_fft];
        for (n, value) in values.iter_mut().skip(left).take(win_length).enumerate() {
            *value = shape.value(n, win_length) as f32;
        }
        let sum = values.iter().map(|&v| f64::from(v)).sum();
        Self { values, sum }
    }

    /// The `n_fft` weights, the largest being 1.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The sum of the weights. A full-scale sine has a magnitude of half of it.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// The equivalent noise bandwidth in bins, n Σw² / (Σw)² (Harris 1978): by so
    /// much do the squared magnitudes of a sine add up to more than its peak's.
    /// 1.5 for Hann.
    pub fn noise_bandwidth(&self) -> f64 {
        let squares: f64 = self.values.iter().map(|&w| f64::from(w).powi(2)).sum();
        self.values.len() as f64 * squares / (self.sum * self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_periodic_and_peak_in_the_middle() {
        for shape in [WindowShape::Hann, WindowShape::Hamming, WindowShape::Gauss] {
            let window = Window::new(shape, 64, 64);
            let w = window.values();
            assert_eq!(w[32], 1.0, "{shape:?}");
            for n in 1..64 {
                assert!((w[n] - w[64 - n]).abs() < 1e-7, "{shape:?} at {n}");
            }
        }
    }

    #[test]
    fn first_values_are_those_of_the_formulas() {
        let first = |shape| Window::new(shape, 8, 8).values()[..2].to_vec();
        assert_eq!(first(WindowShape::Hann), [0.0, 0.146_446_61]);
        assert_eq!(first(WindowShape::Hamming), [0.08, 0.214_730_88]);
        assert_eq!(first(WindowShape::Gauss), [0.01, 0.074_989_42]);
    }

    #[test]
    fn short_windows_sit_in_the_middle() {
        let window = Window::new(WindowShape::Hamming, 5, 8);
        let zero: Vec<_> = window.values().iter().map(|&v| v == 0.0).collect();
        assert_eq!(zero, [true, false, false, false, false, false, true, true]);
    }

    #[test]
    fn hann_adds_up_at_a_quarter_hop() {
        let window = Window::new(WindowShape::Hann, 64, 64);
        for n in 0..16 {
            let sum: f32 = window.values().iter().skip(n).step_by(16).sum();
            assert!((sum - 2.0).abs() < 1e-6);
        }
        assert!((window.sum() - 32.0).abs() < 1e-6);
        assert!((window.noise_bandwidth() - 1.5).abs() < 1e-6);
    }
}
