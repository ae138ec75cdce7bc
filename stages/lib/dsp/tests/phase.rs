//! Phase reconstruction on signals whose phase is known.

#![allow(clippy::unwrap_used)]

use std::f32::consts::TAU;

use dsp::{
    Complex32, Error, Frames, GriffinLim, Pghi, StftConfig, WindowShape, griffin_lim, istft,
    magnitude, pghi, spectral_convergence_db, stft,
};
use proptest::prelude::*;

const SMALL: StftConfig = StftConfig {
    n_fft: 256,
    hop: 32,
    win_length: 256,
    window: WindowShape::Gauss,
    padding: dsp::Padding::Reflect,
};

/// A sine that rises from `from` to `to` cycles per sample.
fn chirp(from: f32, to: f32, samples: usize) -> Vec<f32> {
    let rate = f64::from(to - from) / samples as f64;
    (0..samples)
        .map(|n| {
            let n = n as f64;
            let turns = f64::from(from) * n + 0.5 * rate * n * n;
            0.5 * (f64::from(TAU) * turns.fract()).sin() as f32
        })
        .collect()
}

fn magnitudes(spectra: &Frames<Complex32>) -> Frames<f32> {
    let mut out = Frames::zeros(spectra.width(), spectra.len()).unwrap();
    magnitude(spectra.data(), out.data_mut());
    out
}

fn cut(spectra: &Frames<Complex32>, frames: usize) -> Frames<Complex32> {
    Frames::from_vec(
        spectra.width(),
        spectra.data()[..frames * spectra.width()].to_vec(),
    )
}

#[test]
fn pghi_makes_chirps_consistent() {
    let cases = [
        (WindowShape::Gauss, 32, -24.0),
        (WindowShape::Gauss, 64, -22.0),
        (WindowShape::Hann, 32, -24.0),
        (WindowShape::Hamming, 32, -24.0),
    ];
    for (window, hop, at_most) in cases {
        let config = StftConfig {
            window,
            hop,
            ..SMALL
        };
        for (from, to) in [(0.1, 0.1), (0.05, 0.2), (0.3, 0.1)] {
            let spectra = stft(&chirp(from, to, 16_384), config).unwrap();
            let found = pghi(
                &magnitudes(&spectra),
                &Frames::new(1),
                config,
                Pghi::default(),
                &mut || true,
            )
            .unwrap();
            let level = spectral_convergence_db(&found, config).unwrap();
            assert!(
                level < at_most,
                "{window:?}, hop {hop}, {from} to {to}: {level} dB"
            );
        }
    }
}

#[test]
fn known_frames_fix_the_phase_of_what_follows() {
    let signal = chirp(0.08, 0.16, 16_384);
    let spectra = stft(&signal, SMALL).unwrap();
    let known = cut(&spectra, 100);
    let found = pghi(
        &magnitudes(&spectra),
        &known,
        SMALL,
        Pghi::default(),
        &mut || true,
    )
    .unwrap();
    assert_eq!(&found.data()[..known.data().len()], known.data());
    // The reconstruction goes on in step with the true signal, not at any phase.
    let back = istft(&found, SMALL, Some(signal.len())).unwrap();
    let seam = 100 * SMALL.hop;
    let (a, b) = (&signal[seam..seam + 2000], &back[seam..seam + 2000]);
    let error: f32 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let power: f32 = a.iter().map(|a| a * a).sum();
    assert!(error < 0.02 * power, "{}", error / power);
}

#[test]
fn griffin_lim_improves_and_keeps_what_is_known() {
    let mut signal = chirp(0.02, 0.3, 12_000);
    for (x, y) in signal.iter_mut().zip(chirp(0.25, 0.1, 12_000)) {
        *x += y;
    }
    let spectra = stft(&signal, SMALL).unwrap();
    let wanted = magnitudes(&spectra);
    let random = Pghi {
        tolerance: 1.0,
        seed: 9,
    };
    let start = pghi(&wanted, &cut(&spectra, 50), SMALL, random, &mut || true).unwrap();
    let level = |s: &Frames<Complex32>| spectral_convergence_db(s, SMALL).unwrap();
    let run = |iterations, momentum| {
        griffin_lim(
            start.clone(),
            50,
            SMALL,
            GriffinLim {
                iterations,
                momentum,
            },
            &mut || true,
        )
        .unwrap()
    };
    let (plain, fast) = (run(16, 0.0), run(16, 0.99));
    assert!(
        level(&plain) < level(&start) - 3.0,
        "{} {}",
        level(&start),
        level(&plain)
    );
    assert!(
        level(&fast) < level(&plain),
        "{} {}",
        level(&plain),
        level(&fast)
    );
    for found in [&plain, &fast] {
        assert_eq!(found.data()[..50 * 129], spectra.data()[..50 * 129]);
        for (s, x) in wanted.data().iter().zip(found.data()) {
            assert!((s - x.norm()).abs() <= 1e-5 * s.max(1e-3));
        }
    }
}

#[test]
fn the_true_spectra_are_consistent() {
    let spectra = stft(&chirp(0.1, 0.2, 4096), SMALL).unwrap();
    assert!(spectral_convergence_db(&spectra, SMALL).unwrap() < -100.0);
    assert_eq!(
        spectral_convergence_db(&Frames::new(129), SMALL).unwrap(),
        f64::NEG_INFINITY
    );
}

#[test]
fn work_stops_on_request() {
    let spectra = stft(&chirp(0.02, 0.3, 40_000), SMALL).unwrap();
    let none = Frames::new(1);
    let wanted = magnitudes(&spectra);
    assert_eq!(
        pghi(&wanted, &none, SMALL, Pghi::default(), &mut || false),
        Err(Error::Stopped)
    );
    let found = griffin_lim(spectra, 0, SMALL, GriffinLim::default(), &mut || false);
    assert_eq!(found, Err(Error::Stopped));
}

#[test]
fn mismatches_are_errors() {
    let (wide, narrow) = (
        Frames::<f32>::zeros(129, 2).unwrap(),
        Frames::<f32>::zeros(100, 2).unwrap(),
    );
    let known = Frames::<Complex32>::zeros(129, 3).unwrap();
    let none = Frames::new(129);
    assert_eq!(
        pghi(&narrow, &none, SMALL, Pghi::default(), &mut || true),
        Err(Error::Bins {
            got: 100,
            expected: 129
        })
    );
    assert_eq!(
        pghi(&wide, &known, SMALL, Pghi::default(), &mut || true),
        Err(Error::FrameCount {
            what: "known",
            got: 3,
            expected: 2
        })
    );
    assert!(griffin_lim(known, 4, SMALL, GriffinLim::default(), &mut || true).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any bits as magnitudes: no panic, no endless loop, finite spectra, and the
    /// same ones again.
    #[test]
    fn any_magnitudes_pass(
        bits in prop::collection::vec(any::<u32>(), 0..400),
        known in 0usize..5,
        hop in 1usize..16,
    ) {
        let config = StftConfig { n_fft: 16, hop, win_length: 16, ..SMALL };
        let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let wanted = Frames::from_vec(9, values);
        let spectra = Frames::zeros(9, known.min(wanted.len())).unwrap();
        let found = pghi(&wanted, &spectra, config, Pghi::default(), &mut || true).unwrap();
        prop_assert_eq!(found.len(), wanted.len());
        prop_assert!(found.data().iter().all(|x| x.re.is_finite() && x.im.is_finite()));
        let again = pghi(&wanted, &spectra, config, Pghi::default(), &mut || true).unwrap();
        prop_assert!(found == again);
        griffin_lim(found, spectra.len(), config, GriffinLim { iterations: 2, momentum: 0.99 }, &mut || true).unwrap();
    }
}
