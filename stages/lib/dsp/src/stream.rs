//! Short-time Fourier transform of a signal that arrives in blocks.
//!
//! The padded signal is never built: the stream keeps the samples of the frame to
//! come, and the last half window for the reflection at the end. Its memory is a
//! few windows, whatever the signal's length, and its frames do not depend on how
//! the signal was cut into blocks.

use crate::{Complex32, Error, Frames, Padding, Stft, StftConfig};

/// Blocks are taken in pieces of at most so many samples, to bound the buffer.
const PIECE: usize = 8192;

/// The spectra of all frames of `signal`, shaped `(frames, bins)`.
///
/// `signal` is mono PCM, nominally in [-1, 1]. An empty signal has no frames.
///
/// # Errors
/// A bad configuration, or [`Error::Memory`].
pub fn stft(signal: &[f32], config: StftConfig) -> Result<Frames<Complex32>, Error> {
    let stft = Stft::new(config)?;
    let frames = usize::try_from(config.frames(signal.len() as u64)).unwrap_or(usize::MAX);
    let mut out = Frames::with_capacity(config.bins(), frames)?;
    let mut stream = StftStream::new(stft);
    let mut keep = |spectrum: &[Complex32]| {
        out.push(spectrum);
        Ok::<_, Error>(())
    };
    stream.push(signal, &mut keep)?;
    stream.finish(&mut keep)?;
    Ok(out)
}

/// Cuts blocks of samples into frames and transforms them.
#[derive(Debug, Clone)]
pub struct StftStream {
    stft: Stft,
    /// A stretch of the padded signal, from at least `history` samples before its
    /// end, or from the next frame's start if that lies further back. Until there
    /// are enough samples to mirror (`!primed`), the bare signal from its start.
    buffer: Vec<f32>,
    /// Where in `buffer` the next frame begins.
    next: usize,
    primed: bool,
    /// Whether there was a sample at all.
    received: bool,
    spectrum: Vec<Complex32>,
}

impl StftStream {
    /// A stream at its beginning.
    pub fn new(stft: Stft) -> Self {
        let mut stream = Self {
            buffer: Vec::with_capacity(PIECE + 2 * stft.config().n_fft),
            next: 0,
            primed: false,
            received: false,
            spectrum: vec![Complex32::default(); stft.config().bins()],
            stft,
        };
        stream.restart();
        stream
    }

    /// The transform in use.
    pub fn stft(&self) -> &Stft {
        &self.stft
    }

    /// Takes the next samples of the signal and hands each frame that is complete
    /// to `emit`, in order. A frame is `bins` values, unscaled (see [`Stft::frame`]).
    ///
    /// # Errors
    /// The first that `emit` returns; frames already handed over stay so, the rest
    /// of the block is lost.
    pub fn push<E: From<Error>>(
        &mut self,
        block: &[f32],
        mut emit: impl FnMut(&[Complex32]) -> Result<(), E>,
    ) -> Result<(), E> {
        for piece in block.chunks(PIECE) {
            self.received = true;
            self.buffer.extend_from_slice(piece);
            self.prime();
            if self.primed {
                self.drain(&mut emit)?;
                self.forget();
            }
        }
        Ok(())
    }

    /// Ends the signal: hands the last frames to `emit` and makes the stream ready
    /// for another signal.
    ///
    /// # Errors
    /// The first that `emit` returns.
    pub fn finish<E: From<Error>>(
        &mut self,
        mut emit: impl FnMut(&[Complex32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let config = *self.stft.config();
        match config.padding {
            _ if !self.received => self.buffer.clear(),
            Padding::None => {}
            Padding::Zero => self.buffer.resize(self.buffer.len() + config.pad(), 0.0),
            Padding::Reflect if self.primed => mirror_end(&mut self.buffer, config.pad()),
            Padding::Reflect => self.buffer = mirror_both(&self.buffer, config.pad()),
        }
        let result = self.drain(&mut emit);
        self.restart();
        result
    }

    fn restart(&mut self) {
        let config = self.stft.config();
        self.buffer.clear();
        if config.padding == Padding::Zero {
            self.buffer.resize(config.pad(), 0.0);
        }
        self.next = 0;
        self.received = false;
        self.primed = config.padding != Padding::Reflect;
    }

    /// Puts the mirrored half window in front, once enough samples are there.
    fn prime(&mut self) {
        let pad = self.stft.config().pad();
        let samples = self.buffer.len();
        if self.primed || samples <= pad {
            return;
        }
        self.buffer.resize(samples + pad, 0.0);
        self.buffer.copy_within(..samples, pad);
        for i in 0..pad {
            self.buffer[i] = self.buffer[2 * pad - i];
        }
        self.primed = true;
    }

    fn drain<E: From<Error>>(
        &mut self,
        emit: &mut impl FnMut(&[Complex32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let StftConfig { n_fft, hop, .. } = *self.stft.config();
        while let Some(samples) = self.buffer.get(self.next..self.next + n_fft) {
            self.stft.frame(samples, &mut self.spectrum)?;
            emit(&self.spectrum)?;
            self.next += hop;
        }
        Ok(())
    }

    /// Drops samples that neither a frame nor the reflection at the end will read.
    fn forget(&mut self) {
        let history = self.stft.config().pad() + 1;
        let useless = self.next.min(self.buffer.len().saturating_sub(history));
        // Not at each call: blocks of a few samples would move a window every time.
        if useless >= PIECE {
            self.buffer.copy_within(useless.., 0);
            self.buffer.truncate(self.buffer.len() - useless);
            self.next -= useless;
        }
    }
}

/// Appends `pad` samples mirrored at the last one; there must be more than `pad`.
fn mirror_end(buffer: &mut Vec<f32>, pad: usize) {
    let last = buffer.len() - 1;
    for i in 1..=pad {
        buffer.push(buffer[last - i]);
    }
}

/// `signal`, which is not empty, mirrored at both ends as often as `pad` asks for.
fn mirror_both(signal: &[f32], pad: usize) -> Vec<f32> {
    let period = (2 * (signal.len() - 1)).max(1);
    let start = period - pad % period;
    (0..signal.len() + 2 * pad)
        .map(|i| {
            let at = (start + i) % period;
            signal[at.min(period - at)]
        })
        .collect()
}
