//! What can be wrong with a request to this crate.

/// An error of analysis or synthesis.
///
/// All of them follow from the arguments but [`Error::Memory`] and
/// [`Error::Stopped`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `n_fft` is odd or out of range.
    #[error("`n_fft` is {got} samples, expected an even number from {min} to {max}")]
    NFft {
        /// The value given, in samples.
        got: usize,
        /// The least allowed, in samples.
        min: usize,
        /// The most allowed, in samples.
        max: usize,
    },
    /// The window is empty or longer than the transform.
    #[error("`win_length` is {got} samples, expected 2 to `n_fft`, which is {n_fft}")]
    WinLength {
        /// The value given, in samples.
        got: usize,
        /// The transform's length, in samples.
        n_fft: usize,
    },
    /// The distance between frames is zero.
    #[error("`hop` is 0 samples, expected at least 1")]
    ZeroHop,
    /// Frames lie so far apart that samples between them are never seen.
    #[error("`hop` of {hop} samples is longer than the window of {win_length} samples")]
    Hop {
        /// The value given, in samples.
        hop: usize,
        /// The window's length, in samples.
        win_length: usize,
    },
    /// A logarithm's floor is not a finite number in range.
    #[error(
        "`floor` is {got}, expected -40 to -1 (natural log of magnitude relative to a full-scale sine)"
    )]
    Floor {
        /// The value given, in nepers.
        got: f32,
    },
    /// Rows of another length than the transform's bins.
    #[error("frames have {got} bins, expected {expected}, which is `n_fft` / 2 + 1")]
    Bins {
        /// The width given.
        got: usize,
        /// The width that the configuration wants.
        expected: usize,
    },
    /// Two arguments disagree on the number of frames.
    #[error("`{what}` has {got} frames, expected {expected}")]
    FrameCount {
        /// Which argument.
        what: &'static str,
        /// The number given.
        got: usize,
        /// The number expected.
        expected: usize,
    },
    /// Metadata that do not describe frames.
    #[error("metadata `{key}` is `{got}`, expected {expected}")]
    Metadata {
        /// The key.
        key: &'static str,
        /// Its value, or `missing`.
        got: String,
        /// What would do.
        expected: &'static str,
    },
    /// A result that does not fit into memory.
    #[error("no memory for {frames} frames of {width} values each; use the streaming form")]
    Memory {
        /// Rows asked for.
        frames: usize,
        /// Values per row.
        width: usize,
    },
    /// The caller's `go_on` said no.
    #[error("stopped on request")]
    Stopped,
}
