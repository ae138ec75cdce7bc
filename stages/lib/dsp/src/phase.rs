//! Phases of spectra and their change over time.
//!
//! The instantaneous frequency of a bin is what the phase vocoder measures
//! (Flanagan & Golden 1966; Dolson 1986): the phase moves by 2π · hop · k / `n_fft`
//! from frame to frame for a partial at the bin's middle, and by so much more or
//! less as the partial lies beside it.

use std::f32::consts::{PI, TAU};
use std::f64;

use crate::atan2::atan2;
use crate::{Complex32, StftConfig};

/// The phase of each bin in radians, in [-π, π]; 0 where the magnitude is 0.
///
/// It refers to the frame's first sample (see [`crate::Stft::frame`]).
pub fn phase(spectrum: &[Complex32], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(spectrum) {
        *out = atan2(x.im, x.re);
    }
}

/// `angle` in radians, less whole turns: in [-π, π].
pub fn principal_angle(angle: f32) -> f32 {
    (angle - TAU * (angle / TAU).round()).clamp(-PI, PI)
}

/// Instantaneous frequency of each bin, in radians per sample, from the phases of
/// two consecutive frames.
///
/// The partial is taken to lie within ± π / hop radians per sample of the bin's
/// middle; multiply by rate / 2π for Hz.
pub fn instantaneous_frequency(
    config: &StftConfig,
    previous: &[f32],
    current: &[f32],
    out: &mut [f32],
) {
    let hop = config.hop as f64;
    for (bin, ((out, before), now)) in out.iter_mut().zip(previous).zip(current).enumerate() {
        let middle = f64::consts::TAU * bin as f64 / config.n_fft as f64;
        let turned = f64::from(now - before) - middle * hop;
        let beside = turned - f64::consts::TAU * (turned / f64::consts::TAU).round();
        *out = (middle + beside / hop) as f32;
    }
}

/// The phases one frame on: `phases` (radians) turned by `frequency` (radians per
/// sample) over a hop, kept in [-π, π]. Undoes [`instantaneous_frequency`].
///
/// Alone it carries errors on from frame to frame: use it to start
/// [`crate::griffin_lim`], not instead of it.
pub fn integrate_frequency(config: &StftConfig, frequency: &[f32], phases: &mut [f32]) {
    let hop = config.hop as f64;
    for (phase, &omega) in phases.iter_mut().zip(frequency) {
        let angle = f64::from(*phase) + f64::from(omega) * hop;
        let turns = (angle / f64::consts::TAU).round();
        *phase = principal_angle((angle - turns * f64::consts::TAU) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stft;

    fn phases(cycles: f32, config: StftConfig) -> Vec<Vec<f32>> {
        let signal: Vec<f32> = (0..8192).map(|n| (TAU * cycles * n as f32).cos()).collect();
        let spectra = stft(&signal, config).unwrap();
        let turn = |row: &[Complex32]| {
            let mut out = vec![0.0; row.len()];
            phase(row, &mut out);
            out
        };
        spectra.rows().map(turn).collect()
    }

    #[test]
    fn a_sine_beside_a_bin_has_its_own_frequency() {
        let config = StftConfig {
            n_fft: 512,
            hop: 64,
            win_length: 512,
            ..Default::default()
        };
        for bin in [20.0, 20.3, 20.49, 100.7] {
            let cycles = bin / 512.0;
            let phases = phases(cycles, config);
            let mut frequency = vec![0.0; config.bins()];
            instantaneous_frequency(&config, &phases[10], &phases[11], &mut frequency);
            for near in [bin.floor() as usize, bin.floor() as usize + 1] {
                assert!(
                    (frequency[near] / TAU - cycles).abs() < 1e-5,
                    "bin {bin} at {near}"
                );
            }
            let mut turned = phases[10].clone();
            integrate_frequency(&config, &frequency, &mut turned);
            for (a, b) in turned.iter().zip(&phases[11]) {
                assert!(principal_angle(a - b).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn angles_lose_whole_turns() {
        for (angle, expected) in [
            (0.0, 0.0),
            (TAU, 0.0),
            (-3.0 * TAU + 1.0, 1.0),
            (4.0, 4.0 - TAU),
        ] {
            assert!((principal_angle(angle) - expected).abs() < 1e-5);
        }
        assert!((-PI..=PI).contains(&principal_angle(1e6)));
    }
}
