//! Fourteen numbers that sum a spectrum up.
//!
//! All are functions of one frame's magnitudes (flux also of the frame before), in
//! the order of [`DESCRIPTORS`]. With a_k the magnitude of bin k scaled so that a
//! full-scale sine is 1, f_k its frequency in Hz, p_k = a_k / Σa and K bins:
//!
//! | name | formula | unit | source |
//! |---|---|---|---|
//! | centroid | μ = Σ f p | Hz | Peeters 2004, 6.1.1 |
//! | spread | σ = √Σ (f - μ)² p | Hz | Peeters 2004, 6.1.2 |
//! | skewness | Σ (f - μ)³ p / σ³ | – | Peeters 2004, 6.1.3 |
//! | kurtosis | Σ (f - μ)⁴ p / σ⁴ | – | Peeters 2004, 6.1.4 |
//! | entropy | -Σ p ln p / ln K, 0 (one bin) to 1 (flat) | – | Misra et al. 2004 |
//! | flatness | geometric / arithmetic mean of a² | – | Peeters 2004, 6.6.1; ISO/IEC 15938-4 |
//! | crest | max a / mean a | – | Peeters 2004, 6.6.2 |
//! | flux | √(Σ (a - a before)² / K) | full scale | Lerch 2012, eq. 3.27 |
//! | slope | regression of a on f, over Σa | 1 / Hz | Peeters 2004, 6.1.5 |
//! | decrease | Σ_{k≥1} (a_k - a_0) / k / Σ_{k≥1} a_k | – | Peeters 2004, 6.1.6 |
//! | rolloff | least f below which 85 % of Σa lies | Hz | Lerch 2012, eq. 3.29; librosa |
//! | rms | √(Σ a² / 2B), ends halved, B the window's noise bandwidth | full scale | Lerch 2012, 4.3.1, by Parseval |
//! | high_frequency_content | Σ a² k / (K - 1) | full scale² | Masri 1996 |
//! | irregularity | Σ (a_k - a_{k+1})² / Σ a² | – | Jensen 1999 |
//!
//! Peeters and librosa disagree on rolloff (95 % of the energy there): this is
//! librosa's. A silent frame (Σa at most 1e-9) has 0 everywhere but for flux.

use crate::Window;
use crate::ln::ln;

/// The names of the descriptors, in the order of the values.
pub const DESCRIPTORS: [&str; 14] = [
    "centroid",
    "spread",
    "skewness",
    "kurtosis",
    "entropy",
    "flatness",
    "crest",
    "flux",
    "slope",
    "decrease",
    "rolloff",
    "rms",
    "high_frequency_content",
    "irregularity",
];

/// The share of the magnitudes below the rolloff.
const ROLLOFF: f64 = 0.85;

/// Σa below which a frame counts as silent: -180 dB.
const SILENCE: f64 = 1e-9;

/// Computes the descriptors of consecutive frames.
#[derive(Debug, Clone)]
pub struct Descriptors {
    /// Hz per bin.
    step: f64,
    /// From |X| to a.
    scale: f32,
    /// The window's equivalent noise bandwidth, in bins.
    noise_bandwidth: f64,
    amplitudes: Vec<f32>,
    before: Vec<f32>,
    first: bool,
}

impl Descriptors {
    /// For frames weighted by `window`, of a signal of `rate` samples per second.
    pub fn new(window: &Window, rate: u32) -> Self {
        let bins = window.values().len() / 2 + 1;
        let scale = (2.0 / window.sum()) as f32;
        Self::with_scale(bins, rate, scale, window.noise_bandwidth())
    }

    fn with_scale(bins: usize, rate: u32, scale: f32, noise_bandwidth: f64) -> Self {
        Self {
            step: f64::from(rate) / 2.0 / (bins.max(2) - 1) as f64,
            scale,
            noise_bandwidth,
            amplitudes: vec![0.0; bins],
            before: vec![0.0; bins],
            first: true,
        }
    }

    /// Begins another signal.
    pub fn restart(&mut self) {
        self.first = true;
    }

    /// The descriptors of the next frame, whose magnitudes |X| are unscaled.
    ///
    /// Always finite: magnitudes that are no numbers count as 0, a's above 1e6
    /// (which no signal in [-1, 1] reaches) as 1e6. The first frame has a flux of 0.
    pub fn next(&mut self, magnitudes: &[f32]) -> [f32; 14] {
        std::mem::swap(&mut self.amplitudes, &mut self.before);
        self.amplitudes.fill(0.0);
        for (a, x) in self.amplitudes.iter_mut().zip(magnitudes) {
            let scaled = x * self.scale;
            *a = if scaled > 0.0 { scaled.min(1e6) } else { 0.0 };
        }
        if std::mem::take(&mut self.first) {
            self.before.copy_from_slice(&self.amplitudes);
        }
        let flux = flux(&self.amplitudes, &self.before);
        let sums = Sums::of(&self.amplitudes);
        if sums.a <= SILENCE {
            return DESCRIPTORS.map(|name| if name == "flux" { flux as f32 } else { 0.0 });
        }
        let moments = Moments::of(&self.amplitudes, &sums);
        let bins = self.amplitudes.len() as f64;
        let values = [
            moments.mean * self.step,
            moments.deviation * self.step,
            moments.skewness,
            moments.kurtosis,
            // -Σ p ln p with p = a / Σa, without dividing each a.
            ((sums.a.ln() - sums.a_ln_a / sums.a) / bins.ln()).clamp(0.0, 1.0),
            ((2.0 * sums.ln_a / bins).exp() / (sums.squares / bins)).min(1.0),
            sums.largest * bins / sums.a,
            flux,
            slope(&sums, bins) / self.step,
            sums.decrease,
            self.rolloff(sums.a),
            (sums.halved_squares / (2.0 * self.noise_bandwidth)).sqrt(),
            sums.k_squares / (bins - 1.0).max(1.0),
            sums.jumps / sums.squares,
        ];
        // Skewness and kurtosis of a line spectrum may divide by almost nothing.
        values.map(|x| {
            if x.is_finite() {
                x.clamp(-1e9, 1e9) as f32
            } else {
                0.0
            }
        })
    }

    fn rolloff(&self, total: f64) -> f64 {
        let mut below = 0.0;
        let reached = self.amplitudes.iter().position(|&a| {
            below += f64::from(a);
            below >= ROLLOFF * total
        });
        reached.unwrap_or(self.amplitudes.len() - 1) as f64 * self.step
    }
}

/// Sums over the bins of a frame, in double precision.
#[derive(Default)]
struct Sums {
    a: f64,
    k_a: f64,
    squares: f64,
    halved_squares: f64,
    k_squares: f64,
    ln_a: f64,
    a_ln_a: f64,
    largest: f64,
    jumps: f64,
    decrease: f64,
}

impl Sums {
    fn of(amplitudes: &[f32]) -> Self {
        let mut sums = Self::default();
        let first = f64::from(amplitudes.first().copied().unwrap_or_default());
        let last = amplitudes.len().saturating_sub(1);
        for (k, &amplitude) in amplitudes.iter().enumerate() {
            let (bin, a) = (k as f64, f64::from(amplitude));
            let square = a * a;
            // Zeros would make the geometric mean 0 and its logarithm infinite.
            let log = f64::from(ln(amplitude.max(1e-12)));
            sums.a += a;
            sums.k_a += bin * a;
            sums.squares += square;
            sums.halved_squares += if k == 0 || k == last {
                0.5 * square
            } else {
                square
            };
            sums.k_squares += bin * square;
            sums.ln_a += log;
            sums.a_ln_a += a * log;
            sums.largest = sums.largest.max(a);
            if k > 0 {
                sums.decrease += (a - first) / bin;
            }
        }
        for pair in amplitudes.windows(2) {
            sums.jumps += f64::from(pair[0] - pair[1]).powi(2);
        }
        let overtones = sums.a - first;
        sums.decrease = if overtones > SILENCE {
            sums.decrease / overtones
        } else {
            0.0
        };
        sums
    }
}

/// Moments of the magnitudes taken as a distribution over bins.
struct Moments {
    mean: f64,
    deviation: f64,
    skewness: f64,
    kurtosis: f64,
}

impl Moments {
    fn of(amplitudes: &[f32], sums: &Sums) -> Self {
        let mean = sums.k_a / sums.a;
        let (mut second, mut third, mut fourth) = (0.0, 0.0, 0.0);
        for (k, &a) in amplitudes.iter().enumerate() {
            let distance = k as f64 - mean;
            let moment = distance * distance * f64::from(a);
            second += moment;
            third += moment * distance;
            fourth += moment * distance * distance;
        }
        let variance = second / sums.a;
        // All in one bin: no spread, and no shape to speak of.
        let (skewness, kurtosis) = if variance > 1e-12 {
            (
                third / sums.a / variance.powf(1.5),
                fourth / sums.a / (variance * variance),
            )
        } else {
            (0.0, 0.0)
        };
        Self {
            mean,
            deviation: variance.sqrt(),
            skewness,
            kurtosis,
        }
    }
}

/// Slope of the regression line through the magnitudes, per bin, over their sum.
fn slope(sums: &Sums, bins: f64) -> f64 {
    let (k, k_squares) = (
        bins * (bins - 1.0) / 2.0,
        bins * (bins - 1.0) * (2.0 * bins - 1.0) / 6.0,
    );
    (bins * sums.k_a - k * sums.a) / (bins * k_squares - k * k) / sums.a
}

fn flux(now: &[f32], before: &[f32]) -> f64 {
    let sum: f64 = now
        .iter()
        .zip(before)
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    (sum / now.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Stft, StftConfig};

    /// 5 bins at a rate of 8 Hz: 1 Hz apart, as the formulas are worked by hand.
    fn of(magnitudes: [f32; 5]) -> [f32; 14] {
        Descriptors::with_scale(5, 8, 1.0, 1.0).next(&magnitudes)
    }

    fn check(name: &str, magnitudes: [f32; 5], expected: f32) {
        let at = DESCRIPTORS.iter().position(|&n| n == name).unwrap();
        let got = of(magnitudes)[at];
        assert!(
            (got - expected).abs() < 1e-5,
            "{name} of {magnitudes:?}: {got}, not {expected}"
        );
    }

    #[test]
    fn descriptors_agree_with_their_formulas() {
        let ramp = [0.0, 1.0, 2.0, 3.0, 4.0];
        check("centroid", ramp, 3.0);
        check("spread", ramp, 1.0);
        check("skewness", ramp, (-8.0 * 0.1 - 0.2 + 0.4) / 1.0);
        check("kurtosis", ramp, 16.0 * 0.1 + 0.2 + 0.4);
        check("entropy", [1.0; 5], 1.0);
        check("entropy", [0.0, 1.0, 1.0, 0.0, 0.0], 2f32.ln() / 5f32.ln());
        check("flatness", [1.0; 5], 1.0);
        check(
            "flatness",
            [1.0, 1.0, 1.0, 1.0, 4.0],
            16f32.powf(0.2) / (20.0 / 5.0),
        );
        check("crest", ramp, 2.0);
        check("flux", ramp, 0.0);
        check("slope", ramp, 0.1);
        check(
            "decrease",
            [1.0, 2.0, 3.0, 1.0, 5.0],
            (1.0 + 1.0 + 0.0 + 1.0) / 11.0,
        );
        check("rolloff", [1.0; 5], 4.0);
        check("rolloff", [1.0, 8.0, 0.5, 0.5, 0.0], 1.0);
        check("rms", [0.0, 1.0, 0.0, 0.0, 0.0], 0.5f32.sqrt());
        check(
            "high_frequency_content",
            ramp,
            (1.0 + 8.0 + 27.0 + 64.0) / 4.0,
        );
        check("irregularity", ramp, 4.0 / 30.0);
    }

    #[test]
    fn flux_looks_at_the_frame_before() {
        let mut descriptors = Descriptors::with_scale(4, 8, 0.5, 1.0);
        descriptors.next(&[0.0; 4]);
        let at = DESCRIPTORS.iter().position(|&n| n == "flux").unwrap();
        assert_eq!(descriptors.next(&[2.0; 4])[at], 1.0);
        assert_eq!(descriptors.next(&[0.0; 4])[at], 1.0);
        descriptors.restart();
        assert_eq!(descriptors.next(&[2.0; 4])[at], 0.0);
    }

    #[test]
    fn a_sine_has_its_own_centroid_and_rms() {
        let config = StftConfig::default();
        let stft = Stft::new(config).unwrap();
        let turn = std::f32::consts::TAU * 40.0 / 1024.0;
        let signal: Vec<f32> = (0..8192).map(|n| 0.5 * (turn * n as f32).sin()).collect();
        let mut magnitudes = vec![0.0; config.bins()];
        crate::magnitude(
            crate::stft(&signal, config).unwrap().row(8),
            &mut magnitudes,
        );
        let got = Descriptors::new(stft.window(), 22_050).next(&magnitudes);
        assert!(
            (got[0] - 40.0 * 22_050.0 / 1024.0).abs() < 1.0,
            "{}",
            got[0]
        );
        assert!((got[11] - 0.5 * 0.5f32.sqrt()).abs() < 1e-4, "{}", got[11]);
    }

    #[test]
    fn silence_is_zero() {
        assert_eq!(of([0.0; 5]), [0.0; 14]);
    }

    proptest! {
        #[test]
        fn any_bits_give_finite_numbers(bits in prop::collection::vec(any::<u32>(), 0..200), bins in 1usize..70) {
            let mut descriptors = Descriptors::with_scale(bins, 44_100, 1e-3, 1.5);
            let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
            for frame in values.chunks(bins) {
                prop_assert!(descriptors.next(frame).iter().all(|x| x.is_finite()));
            }
        }
    }
}
