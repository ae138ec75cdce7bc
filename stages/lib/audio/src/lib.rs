//! PCM in and out: decoding what users bring, mixing and resampling it, and
//! writing WAV and FLAC.
//!
//! Everything streams: no call holds more than a few blocks of a file, whatever
//! its length or what its header claims. Errors tell a file's content from the
//! machine's failures ([`Error::is_content`]) and name no paths.

mod error;
mod flac;
pub mod pcm;
mod wav;
mod writer;

pub use error::{Error, Result};
pub use flac::FlacWriter;
pub use pcm::{PcmSpec, SampleFormat};
pub use wav::{WavReader, WavWriter};
pub use writer::{Container, PcmWriter};
