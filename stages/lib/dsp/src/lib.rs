//! Short-time Fourier analysis and synthesis of mono signals.
//!
//! The road there: [`StftStream`] cuts a signal into windowed frames and
//! transforms them, [`MagnitudeScale`] turns spectra into magnitudes on a
//! natural-log scale where a full-scale sine is 0, [`Descriptors`] sums a frame
//! up in 14 numbers. The road back: [`pghi`] finds phases for magnitudes that
//! have none, [`griffin_lim`] refines them, [`IstftStream`] adds the frames up.
//!
//! Every transform has one implementation, the streaming one; the functions over
//! whole signals feed it, so both give the same bits. Arithmetic is `f32`
//! (descriptors and phase integration add up in `f64`). Low bits depend on the
//! SIMD level that rustfft finds at run time; on one machine they are equal from
//! run to run.

#![warn(missing_docs)]

mod atan2;
mod descriptors;
mod error;
mod format;
mod frames;
mod griffin_lim;
mod istft;
mod ln;
mod magnitude;
mod pghi;
mod phase;
mod stft;
mod stream;
mod window;

pub use descriptors::{DESCRIPTORS, Descriptors};
pub use error::Error;
pub use format::{FrameFormat, MagnitudeKind};
pub use frames::Frames;
pub use griffin_lim::{GriffinLim, griffin_lim, spectral_convergence_db};
pub use istft::{IstftStream, istft};
pub use ln::ln_in_place;
pub use magnitude::{DEFAULT_FLOOR, MagnitudeScale, from_db, magnitude, to_db};
pub use pghi::{Pghi, pghi};
pub use phase::{instantaneous_frequency, integrate_frequency, phase, principal_angle};
pub use realfft::num_complex::Complex32;
pub use stft::{MAX_N_FFT, MIN_N_FFT, Padding, Stft, StftConfig};
pub use stream::{StftStream, stft};
pub use window::{Window, WindowShape};
