//! One frame of the short-time Fourier transform, and what describes all of them.

use std::fmt;
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use crate::window::Window;
use crate::{Complex32, Error, WindowShape};

/// The shortest transform, in samples.
pub const MIN_N_FFT: usize = 16;
/// The longest transform, in samples: 1.4 s at 48 kHz.
pub const MAX_N_FFT: usize = 65_536;

/// What stands before the first and after the last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Padding {
    /// Nothing: frame t begins at sample t * hop, and only whole frames count.
    None,
    /// The signal mirrored at its first and last sample, `n_fft` / 2 on each side,
    /// so that frame t is centred on sample t * hop. A signal shorter than that is
    /// mirrored again and again, as by `numpy.pad(mode="reflect")`.
    #[default]
    Reflect,
    /// Zeros, `n_fft` / 2 on each side.
    Zero,
}

/// How a signal is cut into frames.
///
/// The defaults are 1024-sample Hann windows at a hop of 256, centred by
/// reflection: `librosa.stft(y, n_fft=1024, hop_length=256, pad_mode="reflect")`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StftConfig {
    /// Length of the transform in samples: even, 16 to 65,536.
    pub n_fft: usize,
    /// Distance between frames in samples: 1 to `win_length`.
    pub hop: usize,
    /// Length of the window in samples: 2 to `n_fft`.
    pub win_length: usize,
    /// The window's family.
    pub window: WindowShape,
    /// What stands outside the signal.
    pub padding: Padding,
}

impl Default for StftConfig {
    fn default() -> Self {
        Self {
            n_fft: 1024,
            hop: 256,
            win_length: 1024,
            window: WindowShape::Hann,
            padding: Padding::Reflect,
        }
    }
}

impl StftConfig {
    /// Checks the ranges that the fields state.
    ///
    /// # Errors
    /// The field that is out of range, in the order of the fields.
    pub fn validate(&self) -> Result<(), Error> {
        let Self {
            n_fft,
            hop,
            win_length,
            ..
        } = *self;
        if !(MIN_N_FFT..=MAX_N_FFT).contains(&n_fft) || n_fft % 2 != 0 {
            return Err(Error::NFft {
                got: n_fft,
                min: MIN_N_FFT,
                max: MAX_N_FFT,
            });
        }
        if hop == 0 {
            return Err(Error::ZeroHop);
        }
        if !(2..=n_fft).contains(&win_length) {
            return Err(Error::WinLength {
                got: win_length,
                n_fft,
            });
        }
        if hop > win_length {
            return Err(Error::Hop { hop, win_length });
        }
        Ok(())
    }

    /// Values per frame: `n_fft` / 2 + 1, from 0 Hz to half the rate.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// Samples of padding on each side.
    pub fn pad(&self) -> usize {
        match self.padding {
            Padding::None => 0,
            Padding::Reflect | Padding::Zero => self.n_fft / 2,
        }
    }

    /// The number of frames of a signal of `samples` samples.
    ///
    /// An empty signal has none. With padding there are 1 + `samples` / `hop`,
    /// without, as many as fit.
    pub fn frames(&self, samples: u64) -> u64 {
        let beyond_first = (samples + 2 * self.pad() as u64).checked_sub(self.n_fft as u64);
        match beyond_first {
            Some(rest) if samples > 0 => 1 + rest / (self.hop as u64).max(1),
            _ => 0,
        }
    }
}

/// Transforms single frames. Holds the plan, the window and the working memory,
/// so that no frame allocates; a clone shares the plan.
#[derive(Clone)]
pub struct Stft {
    config: StftConfig,
    window: Window,
    plan: Arc<dyn RealToComplex<f32>>,
    windowed: Vec<f32>,
    scratch: Vec<Complex32>,
}

impl fmt::Debug for Stft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stft")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Stft {
    /// Plans the transform.
    ///
    /// # Errors
    /// Those of [`StftConfig::validate`].
    pub fn new(config: StftConfig) -> Result<Self, Error> {
        config.validate()?;
        let plan = RealFftPlanner::new().plan_fft_forward(config.n_fft);
        Ok(Self {
            config,
            window: Window::new(config.window, config.win_length, config.n_fft),
            windowed: plan.make_input_vec(),
            scratch: plan.make_scratch_vec(),
            plan,
        })
    }

    /// How the signal is cut.
    pub fn config(&self) -> &StftConfig {
        &self.config
    }

    /// The weights of a frame.
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// Transforms one frame: X\[k\] = Σₙ w\[n\] x\[n\] exp(-2πi kn / `n_fft`).
    ///
    /// `samples` are the frame's `n_fft` samples (missing ones count as zero),
    /// `spectrum` takes the `bins` values; nothing is scaled. The phase is that at
    /// the frame's *first* sample, as librosa has it.
    ///
    /// # Errors
    /// [`Error::Bins`] when `spectrum` has another length.
    pub fn frame(&mut self, samples: &[f32], spectrum: &mut [Complex32]) -> Result<(), Error> {
        let whole = samples.len().min(self.windowed.len());
        let (head, tail) = self.windowed.split_at_mut(whole);
        for ((out, x), w) in head.iter_mut().zip(samples).zip(self.window.values()) {
            *out = x * w;
        }
        tail.fill(0.0);
        self.plan
            .process_with_scratch(&mut self.windowed, spectrum, &mut self.scratch)
            .map_err(|_| Error::Bins {
                got: spectrum.len(),
                expected: self.config.bins(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let base = StftConfig::default();
        let cases = [
            (
                StftConfig { n_fft: 14, ..base },
                "`n_fft` is 14 samples, expected an even number from 16 to 65536",
            ),
            (
                StftConfig {
                    n_fft: 1023,
                    ..base
                },
                "`n_fft` is 1023 samples, expected an even number from 16 to 65536",
            ),
            (
                StftConfig { hop: 0, ..base },
                "`hop` is 0 samples, expected at least 1",
            ),
            (
                StftConfig { hop: 2048, ..base },
                "`hop` of 2048 samples is longer than the window of 1024 samples",
            ),
            (
                StftConfig {
                    win_length: 4096,
                    ..base
                },
                "`win_length` is 4096 samples, expected 2 to `n_fft`, which is 1024",
            ),
        ];
        for (config, text) in cases {
            assert_eq!(Stft::new(config).unwrap_err().to_string(), text);
        }
        assert_eq!(base.validate(), Ok(()));
    }

    #[test]
    fn frames_cover_the_signal() {
        let centred = StftConfig::default();
        let bare = StftConfig {
            padding: Padding::None,
            ..centred
        };
        let cases = [
            (0, 0, 0),
            (1, 1, 0),
            (255, 1, 0),
            (256, 2, 0),
            (1024, 5, 1),
            (1279, 5, 1),
            (1280, 6, 2),
        ];
        for (samples, with, without) in cases {
            assert_eq!(centred.frames(samples), with, "{samples} samples, centred");
            assert_eq!(bare.frames(samples), without, "{samples} samples, bare");
        }
    }
}
