//! Inverse short-time Fourier transform.
//!
//! The signal whose transform is nearest to the given frames in the sense of least
//! squares (Griffin & Lim 1984, eq. 6): overlapped and added frames, windowed once
//! more, divided by the overlapped and added squares of the window.

use std::fmt;
use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner};

use crate::window::Window;
use crate::{Complex32, Error, Frames, StftConfig};

/// Where the squared windows add up to less, the signal was not seen: 0 there
/// instead of rounding errors blown up.
const LEAST_WEIGHT: f32 = 1e-8;

/// The signal of frames shaped `(frames, bins)`: mono PCM.
///
/// Undoes [`crate::stft`] wherever squared windows add up to more than 1e-8. With
/// padding the first sample is the middle of the first frame. `length` cuts the
/// signal or fills it up with zeros; without it, it ends at the middle of the last
/// frame (with padding) or at its end.
///
/// # Errors
/// A bad configuration, rows of another width, or [`Error::Memory`].
pub fn istft(
    frames: &Frames<Complex32>,
    config: StftConfig,
    length: Option<usize>,
) -> Result<Vec<f32>, Error> {
    let mut stream = IstftStream::new(config)?;
    let natural = match (frames.len(), config.pad()) {
        (0, _) => 0,
        (count, 0) => (count - 1) * config.hop + config.n_fft,
        (count, _) => (count - 1) * config.hop,
    };
    let length = length.unwrap_or(natural);
    let mut signal = Frames::with_capacity(1, length.saturating_add(config.n_fft))?.into_vec();
    for frame in frames.rows() {
        stream.push(frame, &mut signal)?;
    }
    stream.finish(&mut signal);
    signal.resize(length, 0.0);
    Ok(signal)
}

/// Adds frames up as they come, and hands out the samples that no later frame
/// reaches.
pub struct IstftStream {
    config: StftConfig,
    window: Window,
    plan: Arc<dyn ComplexToReal<f32>>,
    spectrum: Vec<Complex32>,
    frame: Vec<f32>,
    scratch: Vec<Complex32>,
    /// Weighted samples from the start of the next frame on.
    sum: Vec<f32>,
    /// Squared windows at the same places.
    weight: Vec<f32>,
    /// Samples of padding still to be left out at the beginning.
    skip: usize,
}

impl fmt::Debug for IstftStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IstftStream")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl IstftStream {
    /// Plans the transform.
    ///
    /// # Errors
    /// Those of [`StftConfig::validate`].
    pub fn new(config: StftConfig) -> Result<Self, Error> {
        config.validate()?;
        let plan = RealFftPlanner::new().plan_fft_inverse(config.n_fft);
        Ok(Self {
            config,
            window: Window::new(config.window, config.win_length, config.n_fft),
            spectrum: plan.make_input_vec(),
            frame: plan.make_output_vec(),
            scratch: plan.make_scratch_vec(),
            plan,
            sum: vec![0.0; config.n_fft],
            weight: vec![0.0; config.n_fft],
            skip: config.pad(),
        })
    }

    /// Adds the next frame (`bins` values, as [`crate::Stft::frame`] gives them) and
    /// appends the `hop` samples that are then finished to `signal`; fewer at the
    /// beginning, where padding is left out.
    ///
    /// # Errors
    /// [`Error::Bins`] when `frame` has another length.
    pub fn push(&mut self, frame: &[Complex32], signal: &mut Vec<f32>) -> Result<(), Error> {
        let bad_width = Error::Bins {
            got: frame.len(),
            expected: self.config.bins(),
        };
        if frame.len() != self.spectrum.len() {
            return Err(bad_width);
        }
        self.spectrum.copy_from_slice(frame);
        // The transform of a real signal is real at 0 Hz and at half the rate; a
        // model's frames need not be, and realfft refuses others.
        if let [first, .., last] = self.spectrum.as_mut_slice() {
            first.im = 0.0;
            last.im = 0.0;
        }
        self.plan
            .process_with_scratch(&mut self.spectrum, &mut self.frame, &mut self.scratch)
            .map_err(|_| bad_width)?;
        let scale = 1.0 / self.config.n_fft as f32;
        let places = self.sum.iter_mut().zip(&mut self.weight);
        for (((sum, weight), x), w) in places.zip(&self.frame).zip(self.window.values()) {
            *sum += x * (w * scale);
            *weight += w * w;
        }
        self.hand_out(self.config.hop, signal);
        Ok(())
    }

    /// Appends the rest of the last frames and makes the stream ready for another
    /// signal. With padding, the last `n_fft` / 2 samples of it are what the padding
    /// became: cut the signal to its length.
    pub fn finish(&mut self, signal: &mut Vec<f32>) {
        self.hand_out(self.config.n_fft - self.config.hop, signal);
        self.sum.fill(0.0);
        self.weight.fill(0.0);
        self.skip = self.config.pad();
    }

    fn hand_out(&mut self, count: usize, signal: &mut Vec<f32>) {
        let done = self
            .sum
            .iter()
            .zip(&self.weight)
            .take(count)
            .skip(self.skip);
        signal.extend(done.map(|(&sum, &weight)| {
            if weight > LEAST_WEIGHT {
                sum / weight
            } else {
                0.0
            }
        }));
        self.skip = self.skip.saturating_sub(count);
        for places in [&mut self.sum, &mut self.weight] {
            places.copy_within(count.., 0);
            let rest = places.len() - count;
            places[rest..].fill(0.0);
        }
    }
}
