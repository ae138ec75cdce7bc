//! What can go wrong with sound, told without file names.
//!
//! A reason that follows from a file's content is remembered under that content,
//! and the same bytes may lie under another name tomorrow: the caller adds the
//! name. [`Error::is_content`] tells these reasons from those of the machine.

use std::io;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why sound could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused; says nothing about the content.
    #[error("cannot {action} the audio data")]
    Io {
        /// What was tried: `open`, `read`, `write` or `seek in`.
        action: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A folder stands where a file was expected.
    #[error("is a directory, expected an audio file")]
    Directory,
    /// The file has no bytes.
    #[error("is empty (0 bytes), expected an audio file")]
    Empty,
    /// No known container begins like this.
    #[error(
        "is not audio that can be read: its content looks like {looks_like}; expected {expected}"
    )]
    NotAudio {
        /// What the first bytes resemble.
        looks_like: &'static str,
        /// Containers that would do.
        expected: &'static str,
    },
    /// The container is known, what it holds is not.
    #[error("cannot be decoded: {what}")]
    Unsupported {
        /// Codec or feature, and what would do.
        what: String,
    },
    /// Bytes that contradict their own format.
    #[error("is malformed: {what}")]
    Malformed {
        /// What is wrong, got and expected.
        what: String,
    },
    /// Less sound than the container promises.
    #[error("is truncated: {decoded:.1} s of {expected:.1} s decoded ({why})")]
    Truncated {
        /// Seconds decoded.
        decoded: f64,
        /// Seconds promised.
        expected: f64,
        /// How we know.
        why: &'static str,
    },
    /// Packets that could not be decoded.
    #[error(
        "is damaged: {bad} of {packets} packets could not be decoded, the first at {at:.1} s ({first})"
    )]
    Damaged {
        /// Packets refused by the decoder.
        bad: u64,
        /// Packets read.
        packets: u64,
        /// Seconds decoded before the first of them.
        at: f64,
        /// What the decoder said of the first.
        first: String,
    },
    /// Rate or channels change half-way.
    #[error(
        "changes at {at:.1} s from {from_rate} Hz, {from_channels} channels to {to_rate} Hz, {to_channels} channels; split it there"
    )]
    Changes {
        /// Seconds decoded before.
        at: f64,
        /// Rate before, Hz.
        from_rate: u32,
        /// Channels before.
        from_channels: usize,
        /// Rate after, Hz.
        to_rate: u32,
        /// Channels after.
        to_channels: usize,
    },
    /// The decoder went on without yielding sound.
    #[error("yields no sound: {packets} packets in a row without a sample, at {at:.1} s")]
    Stalled {
        /// Packets read in vain.
        packets: u64,
        /// Seconds decoded before.
        at: f64,
    },
    /// A decoder broke one of its own assumptions on these bytes.
    #[error("made the decoder fail at {at:.1} s: {message}")]
    Panicked {
        /// Seconds decoded before.
        at: f64,
        /// The panic's message.
        message: String,
    },
    /// No frames at all.
    #[error("has no sound: 0 frames")]
    NoFrames,
    /// Shorter than the caller wants.
    #[error("lasts {got:.3} s, expected at least {min} s")]
    TooShort {
        /// Seconds decoded.
        got: f64,
        /// Least seconds.
        min: f64,
    },
    /// Longer than the caller wants.
    #[error("lasts more than {max} s, the longest allowed; split it or raise the limit")]
    TooLong {
        /// Most seconds.
        max: f64,
    },
    /// Nothing to be heard.
    #[error("is silent: its peak of {peak_db:.1} dBFS is below {threshold_db} dBFS")]
    Silent {
        /// Peak in dB relative to full scale.
        peak_db: f64,
        /// The caller's bound.
        threshold_db: f64,
    },
    /// Channels that are each other's opposite.
    #[error(
        "is silent as mono: its channels, with a peak of {peak_db:.1} dBFS, cancel each other; turn the phase of one"
    )]
    Cancels {
        /// Peak of the channels in dB relative to full scale.
        peak_db: f64,
    },
    /// NaN or an infinity among the samples.
    #[error("has a sample of {value} at {at:.3} s, expected finite numbers")]
    NotFinite {
        /// The sample.
        value: f32,
        /// Its time in seconds.
        at: f64,
    },
    /// Samples of no sensible scale.
    #[error(
        "sample {value} at {at:.3} s is beyond {limit} times full scale; store floats as -1 to 1"
    )]
    Scale {
        /// The sample, of any channel.
        value: f32,
        /// Its time in seconds.
        at: f64,
        /// Largest magnitude that is taken.
        limit: f32,
    },
    /// A sample rate out of range.
    #[error("sample rate of {got} Hz, expected 1 to 768000 Hz")]
    Rate {
        /// The rate.
        got: u32,
    },
    /// A number of channels out of range.
    #[error("{got} channels, expected 1 to 8")]
    Channels {
        /// The number.
        got: usize,
    },
    /// Samples that do not fill whole frames.
    #[error("{samples} samples do not make whole frames of {channels} channels")]
    PartialFrame {
        /// Samples given.
        samples: usize,
        /// Channels of a frame.
        channels: u16,
    },
    /// Unknown name of a sample format.
    #[error("sample format `{got}`, expected `s16`, `s24` or `f32`")]
    SampleFormat {
        /// The name given.
        got: String,
    },
    /// Unknown name of a container.
    #[error("container `{got}`, expected `wav` or `flac`")]
    Container {
        /// The name given.
        got: String,
    },
    /// More than the container can count.
    #[error(
        "{bytes} bytes of samples do not fit into a {container} file, which ends at {limit}; write FLAC, a lower rate or a shorter piece"
    )]
    TooLarge {
        /// Container that is full.
        container: &'static str,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes that fit.
        limit: u64,
    },
    /// A sample format that the container has not.
    #[error("FLAC holds integers only: `{got}` cannot be written, use `s16` or `s24`")]
    FlacFormat {
        /// The format asked for.
        got: crate::SampleFormat,
    },
    /// The converter of rates refused.
    #[error("cannot convert the sample rate: {0}")]
    Resample(String),
    /// The FLAC encoder refused.
    #[error("cannot encode FLAC: {0}")]
    FlacEncode(String),
}

impl Error {
    /// Whether the reason follows from the bytes alone and so will come again
    /// with the same bytes; false where another try, another machine or another
    /// permission may do better.
    pub const fn is_content(&self) -> bool {
        !matches!(self, Self::Io { .. })
    }

    /// An error of the operating system while doing `action`, except that bytes
    /// that end too soon are a matter of content.
    pub(crate) fn io(action: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::IsADirectory {
            return Self::Directory;
        }
        Self::Io { action, source }
    }
}
