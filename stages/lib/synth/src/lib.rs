//! Notes to sound.
//!
//! [`Renderer`] turns a list of [`Note`]s into mono PCM, block by block, in memory
//! that does not grow with the length of the piece. It plays either instruments
//! of our own, which need no sample data, or those of a [`SoundFont`] that the
//! user names.
//!
//! Our own instruments are additive: banks of decaying sinusoids ([`bank`])
//! and filtered noise, shaped by envelopes, brightness, vibrato and tremolo. All
//! 128 programs and the percussion map of General MIDI are rows of a few
//! mechanisms ([`instruments`]). Nothing aliases, because no partial above the
//! Nyquist frequency is ever made; nothing depends on chance, because every note
//! has its own seeded noise.
//!
//! ```
//! use synth::{Note, Options, Renderer, Sound};
//! let note = Note {
//!     onset: 0.0,
//!     duration: 0.5,
//!     pitch: 69.0,
//!     velocity: 90,
//!     gain: 1.0,
//!     sound: Sound::Program(0),
//! };
//! let mut renderer = Renderer::new(vec![note], &Options::default())?;
//! let mut block = [0.0; 1024];
//! let mut samples = 0;
//! loop {
//!     let count = renderer.fill(&mut block)?;
//!     if count == 0 {
//!         break;
//!     }
//!     samples += count;
//! }
//! assert_eq!(samples, 44_100, "two seconds: the note and its tail");
//! # Ok::<(), synth::Error>(())
//! ```

#![warn(missing_docs)]

mod bank;
mod envelope;
mod error;
mod instruments;
mod limiter;
mod noise;
mod note;
mod orchestra;
mod patch;
mod renderer;
mod reverb;
mod rng;
mod sf2;
mod soundfont;
mod voice;

pub use error::Error;
pub use note::{MAX_GAIN, MAX_SECONDS, Note, Sound};
pub use orchestra::POLYPHONY;
pub use renderer::{Options, Renderer};
pub use soundfont::SoundFont;
