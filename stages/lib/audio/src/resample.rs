//! Conversion of the sampling rate by a fixed ratio, streaming.
//!
//! Each block is transformed, its spectrum cut or extended and multiplied by an
//! anti-aliasing filter, and transformed back (rubato's `Fft`: overlap-add of a
//! sinc under a squared Blackman-Harris window). The filter is linear-phase and
//! its delay is taken off, so that output frame `n` stands at the time of input
//! frame `n * from / to`.

use audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

use crate::error::{Error, Result};
use crate::pcm::PcmSpec;

/// Input frames per block, at least. The filter is as long as a block, so longer
/// blocks pass more of the band below the lower Nyquist frequency.
const BLOCK: usize = 2048;

/// Largest magnitude of a sample: far from where sums of a block overflow.
const MAX_MAGNITUDE: f32 = 1e9;

/// Converts one channel from one rate to another.
///
/// Give it blocks of any length, then finish: the output has
/// `round(frames * to / from)` frames. Equal rates pass through untouched.
pub struct Resampler {
    /// None when the rates are equal.
    blocks: Option<Blocks>,
    from: u32,
    to: u32,
    /// Input not yet transformed, less than a block.
    pending: Vec<f32>,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// A converter from `from` Hz to `to` Hz.
    ///
    /// # Errors
    /// A rate of 0 or above [`PcmSpec::MAX_RATE`].
    pub fn new(from: u32, to: u32) -> Result<Self> {
        for rate in [from, to] {
            if rate == 0 || rate > PcmSpec::MAX_RATE {
                return Err(Error::Rate { got: rate });
            }
        }
        Ok(Self {
            blocks: if from == to {
                None
            } else {
                Some(Blocks::new(from, to)?)
            },
            from,
            to,
            pending: Vec::new(),
            taken: 0,
            given: 0,
        })
    }

    /// Frames per second that come out, Hz.
    pub const fn rate(&self) -> u32 {
        self.to
    }

    /// Takes `input` and appends to `output` what is ready.
    ///
    /// # Errors
    /// A sample that is NaN, infinite or beyond ±1e9.
    pub fn push(&mut self, mut input: &[f32], output: &mut Vec<f32>) -> Result<()> {
        let before = output.len();
        if let Some(blocks) = &mut self.blocks {
            // The transform panics where its sums overflow or are NaN.
            // To look at all instead of searching lets the compiler use SIMD.
            let good = |x: &f32| x.abs() <= MAX_MAGNITUDE;
            if !input.iter().fold(true, |all, x| all & good(x)) {
                let value = input.iter().find(|x| !good(x)).unwrap_or(&f32::NAN);
                return Err(Error::Resample(format!(
                    "sample {value}, expected at most ±{MAX_MAGNITUDE}"
                )));
            }
            self.taken += input.len() as u64;
            if !self.pending.is_empty() {
                let missing = blocks.size - self.pending.len();
                let (fill, rest) = input.split_at(input.len().min(missing));
                self.pending.extend_from_slice(fill);
                input = rest;
            }
            if self.pending.len() == blocks.size {
                blocks.convert(&self.pending, output)?;
                self.pending.clear();
            }
            let mut whole = input.chunks_exact(blocks.size);
            for block in &mut whole {
                blocks.convert(block, output)?;
            }
            self.pending.extend_from_slice(whole.remainder());
        } else {
            output.extend_from_slice(input);
            self.taken += input.len() as u64;
        }
        self.given += (output.len() - before) as u64;
        Ok(())
    }

    /// Appends what is left. Nothing may be pushed afterwards.
    ///
    /// # Errors
    /// As [`Resampler::push`].
    pub fn finish(&mut self, output: &mut Vec<f32>) -> Result<()> {
        let total = frames_after(self.taken, self.from, self.to);
        if let Some(blocks) = &mut self.blocks {
            while self.given < total {
                let before = output.len();
                self.pending.resize(blocks.size, 0.0);
                blocks.convert(&self.pending, output)?;
                self.pending.clear();
                self.given += (output.len() - before) as u64;
            }
            // The last block ran beyond the end of the input.
            let excess = usize::try_from(self.given - total).unwrap_or(usize::MAX);
            output.truncate(output.len().saturating_sub(excess));
            self.given = total;
        }
        Ok(())
    }
}

/// The converter of whole blocks, and its delay.
struct Blocks {
    fft: Fft<f32>,
    /// Input frames of a block.
    size: usize,
    /// One block of output.
    block: Vec<f32>,
    /// Output frames still to be dropped.
    delay: usize,
}

impl Blocks {
    fn new(from: u32, to: u32) -> Result<Self> {
        let unit = (from / gcd(from, to)) as usize;
        // An even number of units makes both block lengths even, hence the delay
        // of half a block a whole number of frames on either side.
        let units = BLOCK.div_ceil(unit).next_multiple_of(2);
        let fft = Fft::new_custom(
            from as usize,
            to as usize,
            units * unit,
            1,
            1,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|e| Error::Resample(e.to_string()))?;
        Ok(Self {
            size: fft.input_frames_next(),
            block: vec![0.0; fft.output_frames_next()],
            delay: fft.output_delay(),
            fft,
        })
    }

    /// Converts `input` of `size` frames and appends the result less the delay.
    fn convert(&mut self, input: &[f32], output: &mut Vec<f32>) -> Result<()> {
        let fault = |e: &dyn std::fmt::Display| Error::Resample(e.to_string());
        let frames = self.block.len();
        let input = InterleavedSlice::new(input, 1, self.size).map_err(|e| fault(&e))?;
        let mut block =
            InterleavedSlice::new_mut(&mut self.block, 1, frames).map_err(|e| fault(&e))?;
        self.fft
            .process_into_buffer(&input, &mut block, None)
            .map_err(|e| fault(&e))?;
        let skip = self.delay.min(frames);
        self.delay -= skip;
        output.extend_from_slice(&self.block[skip..]);
        Ok(())
    }
}

/// `round(frames * to / from)`, halves up.
pub fn frames_after(frames: u64, from: u32, to: u32) -> u64 {
    let doubled = u128::from(frames) * u128::from(to) * 2 + u128::from(from);
    u64::try_from(doubled / (2 * u128::from(from.max(1)))).unwrap_or(u64::MAX)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use proptest::prelude::*;

    use super::*;

    fn sine(frequency: f64, rate: u32, frames: usize) -> Vec<f32> {
        (0..frames)
            .map(|n| (0.5 * (TAU * frequency * n as f64 / f64::from(rate)).sin()) as f32)
            .collect()
    }

    fn convert_all(input: &[f32], from: u32, to: u32, block: usize) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut output = Vec::new();
        for block in input.chunks(block.max(1)) {
            resampler.push(block, &mut output).unwrap();
        }
        resampler.finish(&mut output).unwrap();
        output
    }

    /// Amplitude of `frequency` in `signal`, under a Hann window.
    fn level(signal: &[f32], frequency: f64, rate: u32) -> f64 {
        let (mut re, mut im, mut sum) = (0.0, 0.0, 0.0);
        for (n, &x) in signal.iter().enumerate() {
            let w = 0.5 - 0.5 * (TAU * n as f64 / signal.len() as f64).cos();
            let phase = TAU * frequency * n as f64 / f64::from(rate);
            re += w * f64::from(x) * phase.cos();
            im -= w * f64::from(x) * phase.sin();
            sum += w;
        }
        2.0 * re.hypot(im) / sum
    }

    const RATES: [(u32, u32); 8] = [
        (44_100, 22_050),
        (48_000, 22_050),
        (44_100, 16_000),
        (96_000, 22_050),
        (16_000, 22_050),
        (8_000, 44_100),
        (44_100, 48_000),
        (11_025, 22_050),
    ];

    #[test]
    fn sines_keep_their_level_and_their_time() {
        for (from, to) in RATES {
            let nyquist = f64::from(from.min(to)) / 2.0;
            for share in [0.01, 0.3, 0.9] {
                let frequency = nyquist * share;
                let output = convert_all(&sine(frequency, from, from as usize), from, to, 777);
                assert_eq!(output.len(), to as usize);
                let expected = sine(frequency, to, to as usize);
                // Away from the ends, where the signal begins and stops abruptly.
                let inner = to as usize / 4..to as usize * 3 / 4;
                let error = output[inner.clone()]
                    .iter()
                    .zip(&expected[inner.clone()])
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f32::max);
                assert!(error < 1e-5, "{from} -> {to}, {share}: off by {error}");
                let change = 20.0 * (level(&output[inner], frequency, to) / 0.5).log10();
                assert!(change.abs() < 0.01, "{from} -> {to}, {share}: {change} dB");
            }
        }
    }

    #[test]
    fn what_cannot_be_represented_is_gone() {
        for (from, to) in RATES.iter().filter(|(from, to)| from > to) {
            let (lower, upper) = (f64::from(*to) / 2.0, f64::from(*from) / 2.0);
            for share in [0.01, 0.2, 0.9] {
                let frequency = lower + (upper - lower) * share;
                let output = convert_all(&sine(frequency, *from, *from as usize), *from, *to, 4096);
                let inner = &output[output.len() / 4..output.len() * 3 / 4];
                let rms = (inner.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>()
                    / inner.len() as f64)
                    .sqrt();
                let db = 20.0 * (rms / (0.5 / std::f64::consts::SQRT_2)).log10();
                assert!(db < -90.0, "{from} -> {to}, {frequency} Hz: {db} dB");
            }
        }
    }

    #[test]
    fn an_impulse_stays_where_it_was() {
        for (from, to) in RATES {
            let at = 3 * from as usize / 10;
            let mut input = vec![0.0; from as usize];
            input[at] = 1.0;
            let output = convert_all(&input, from, to, 500);
            let peak = output
                .iter()
                .enumerate()
                .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
                .unwrap()
                .0;
            let expected = at as f64 * f64::from(to) / f64::from(from);
            assert!(
                (peak as f64 - expected).abs() <= 1.0,
                "{from} -> {to}: {peak}"
            );
        }
    }

    #[test]
    fn rates_without_a_common_factor_do() {
        let output = convert_all(&sine(5_000.0, 22_051, 22_051), 22_051, 22_050, 999);
        assert_eq!(output.len(), 22_050);
        let change = 20.0 * (level(&output[5_000..17_000], 5_000.0, 22_050) / 0.5).log10();
        assert!(change.abs() < 0.01, "{change} dB");
    }

    #[test]
    fn absurd_samples_are_refused() {
        let mut resampler = Resampler::new(44_100, 22_050).unwrap();
        for x in [f32::NAN, f32::INFINITY, -2e9] {
            assert!(resampler.push(&[0.0, x], &mut Vec::new()).is_err(), "{x}");
        }
        let mut output = Vec::new();
        resampler.push(&[1e9; 9_000], &mut output).unwrap();
        resampler.finish(&mut output).unwrap();
        assert!(output.iter().all(|x| x.is_finite()));
    }

    #[test]
    fn equal_rates_change_nothing() {
        let input = sine(440.0, 22_050, 5_000);
        assert_eq!(convert_all(&input, 22_050, 22_050, 333), input);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn block_lengths_do_not_matter(
            frames in 0..20_000_usize,
            block in 1..9_000_usize,
            pair in 0..RATES.len(),
        ) {
            let (from, to) = RATES[pair];
            let input = sine(300.0, from, frames);
            let whole = convert_all(&input, from, to, frames);
            prop_assert_eq!(whole.len() as u64, frames_after(frames as u64, from, to));
            prop_assert_eq!(convert_all(&input, from, to, block), whole);
        }
    }
}
