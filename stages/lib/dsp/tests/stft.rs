//! The transform against its definition, and there and back again.

#![allow(clippy::unwrap_used)]

use dsp::{
    Complex32, Error, IstftStream, Padding, Stft, StftConfig, StftStream, WindowShape, istft, stft,
};
use proptest::prelude::*;

/// Deterministic noise in [-1, 1].
fn noise(seed: u64, samples: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..samples).map(|_| next()).collect()
}

/// `numpy.pad(signal, pad, mode="reflect")`, sample by sample.
fn padded(signal: &[f32], config: &StftConfig) -> Vec<f32> {
    let (pad, len) = (config.pad() as i64, signal.len() as i64);
    let mirror = |mut i: i64| {
        while len > 1 && !(0..len).contains(&i) {
            i = if i < 0 { -i } else { 2 * (len - 1) - i };
        }
        signal[i.clamp(0, len - 1) as usize]
    };
    (-pad..len + pad)
        .map(|i| match config.padding {
            Padding::Zero if !(0..len).contains(&i) => 0.0,
            _ => mirror(i),
        })
        .collect()
}

/// The sum that defines the transform, in double precision, over all frames.
fn by_definition(signal: &[f32], config: &StftConfig) -> Vec<Vec<(f64, f64)>> {
    let window = Stft::new(*config).unwrap().window().values().to_vec();
    let signal = padded(signal, config);
    let turn = std::f64::consts::TAU / config.n_fft as f64;
    let bin = |frame: &[f32], k: usize| {
        let term = |(n, (&x, &w)): (usize, (&f32, &f32))| {
            let angle = turn * ((k * n) % config.n_fft) as f64;
            let value = f64::from(x) * f64::from(w);
            (value * angle.cos(), -value * angle.sin())
        };
        frame
            .iter()
            .zip(&window)
            .enumerate()
            .map(term)
            .fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
    };
    (0..)
        .map_while(|t| signal.get(t * config.hop..t * config.hop + config.n_fft))
        .map(|frame| (0..config.bins()).map(|k| bin(frame, k)).collect())
        .collect()
}

#[test]
fn stft_agrees_with_the_textbook_sum() {
    let shapes = [WindowShape::Hann, WindowShape::Hamming, WindowShape::Gauss];
    let pads = [Padding::None, Padding::Reflect, Padding::Zero];
    let sizes = [(16, 4, 16), (64, 24, 50), (96, 7, 33), (128, 128, 128)];
    for window in shapes {
        for padding in pads {
            for (n_fft, hop, win_length) in sizes {
                for samples in [1, 2, 5, 40, 129, 400] {
                    let config = StftConfig {
                        n_fft,
                        hop,
                        win_length,
                        window,
                        padding,
                    };
                    let signal = noise(7, samples);
                    let expected = by_definition(&signal, &config);
                    let got = stft(&signal, config).unwrap();
                    assert_eq!(got.len(), expected.len(), "{config:?}, {samples} samples");
                    assert_eq!(got.len() as u64, config.frames(samples as u64));
                    for (row, exact) in got.rows().zip(&expected) {
                        for (x, e) in row.iter().zip(exact) {
                            let error = (f64::from(x.re) - e.0).hypot(f64::from(x.im) - e.1);
                            assert!(error < 1e-5, "{config:?}, {samples} samples: {error:e}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn energy_is_that_of_the_windowed_samples() {
    // Parseval, frame by frame: Σ|X|² over all n_fft bins = n_fft Σ(w x)².
    let config = StftConfig {
        padding: Padding::None,
        ..Default::default()
    };
    let signal = noise(3, 6000);
    let window = Stft::new(config).unwrap().window().values().to_vec();
    for (t, row) in stft(&signal, config).unwrap().rows().enumerate() {
        let samples = &signal[t * config.hop..][..config.n_fft];
        let time: f64 = samples
            .iter()
            .zip(&window)
            .map(|(x, w)| f64::from(x * w).powi(2))
            .sum();
        let ends = row[0].norm_sqr() + row[config.n_fft / 2].norm_sqr();
        let all: f64 = row
            .iter()
            .map(|x| 2.0 * f64::from(x.norm_sqr()))
            .sum::<f64>()
            - f64::from(ends);
        assert!(
            (all / config.n_fft as f64 / time - 1.0).abs() < 1e-5,
            "frame {t}"
        );
    }
}

#[test]
fn signals_come_back() {
    for window in [WindowShape::Hann, WindowShape::Hamming, WindowShape::Gauss] {
        for (n_fft, hop, win_length) in [
            (64, 16, 64),
            (1024, 256, 1024),
            (1024, 300, 900),
            (512, 256, 512),
        ] {
            for samples in [1, 100, 1024, 5000] {
                let config = StftConfig {
                    n_fft,
                    hop,
                    win_length,
                    window,
                    ..Default::default()
                };
                let signal = noise(11, samples);
                let back = istft(&stft(&signal, config).unwrap(), config, Some(samples)).unwrap();
                for (a, b) in signal.iter().zip(&back) {
                    assert!(
                        (a - b).abs() < 1e-5,
                        "{config:?}, {samples} samples: {a} {b}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_inverse_stops_at_the_middle_of_the_last_frame() {
    let config = StftConfig::default();
    let spectra = stft(&noise(1, 3000), config).unwrap();
    assert_eq!(istft(&spectra, config, None).unwrap().len(), 11 * 256);
    assert_eq!(istft(&spectra, config, Some(9000)).unwrap().len(), 9000);
    let bare = StftConfig {
        padding: Padding::None,
        ..config
    };
    let spectra = stft(&noise(1, 3000), bare).unwrap();
    assert_eq!(istft(&spectra, bare, None).unwrap().len(), 7 * 256 + 1024);
}

#[test]
fn bad_input_is_an_error() {
    let mut inverse = IstftStream::new(StftConfig::default()).unwrap();
    let wanted = Error::Bins {
        got: 3,
        expected: 513,
    };
    assert_eq!(
        inverse.push(&[Complex32::default(); 3], &mut Vec::new()),
        Err(wanted)
    );
    assert!(
        stft(
            &[],
            StftConfig {
                n_fft: 15,
                ..Default::default()
            }
        )
        .is_err()
    );
    assert!(stft(&[], StftConfig::default()).unwrap().is_empty());
}

fn config() -> impl Strategy<Value = StftConfig> {
    let shape = prop_oneof![
        Just(WindowShape::Hann),
        Just(WindowShape::Hamming),
        Just(WindowShape::Gauss)
    ];
    let padding = prop_oneof![
        Just(Padding::None),
        Just(Padding::Reflect),
        Just(Padding::Zero)
    ];
    (8usize..200, 0.0..1.0f64, 0.0..1.0f64, shape, padding).prop_map(
        |(half, win, hop, window, padding)| {
            let win_length = 2 + (win * (2 * half - 2) as f64) as usize;
            let hop = 1 + (hop * (win_length - 1) as f64) as usize;
            StftConfig {
                n_fft: 2 * half,
                hop,
                win_length,
                window,
                padding,
            }
        },
    )
}

proptest! {
    /// However the signal is cut into blocks, the frames are the same bits.
    #[test]
    fn blocks_do_not_matter(
        config in config(),
        samples in 0usize..30_000,
        blocks in prop::collection::vec(0usize..9_000, 1..20),
    ) {
        let signal = noise(5, samples);
        let whole = stft(&signal, config).unwrap();
        let mut stream = StftStream::new(Stft::new(config).unwrap());
        for _ in 0..2 {
            let mut got = Vec::new();
            let mut keep = |row: &[Complex32]| { got.extend_from_slice(row); Ok::<_, Error>(()) };
            let mut rest = signal.as_slice();
            for &block in blocks.iter().cycle().take(1000) {
                let (head, tail) = rest.split_at(block.min(rest.len()));
                stream.push(head, &mut keep).unwrap();
                rest = tail;
            }
            stream.push(rest, &mut keep).unwrap();
            stream.finish(&mut keep).unwrap();
            // A stream that has finished begins anew: the second round is the same.
            prop_assert!(got == whole.data());
        }
        prop_assert_eq!(whole.len() as u64, config.frames(samples as u64));
    }

    /// Any bits as samples and as frames: no panic.
    #[test]
    fn any_bits_pass(config in config(), bits in prop::collection::vec(any::<u32>(), 0..2_000)) {
        let signal: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let spectra = stft(&signal, config).unwrap();
        istft(&spectra, config, None).unwrap();
    }
}
