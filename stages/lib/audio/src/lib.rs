//! PCM in and out: decoding what users bring, mixing and resampling it, and
//! writing WAV and FLAC.
//!
//! Everything streams: no call holds more than a few blocks of a file, whatever
//! its length or what its header claims. Errors tell a file's content from the
//! machine's failures ([`Error::is_content`]) and name no paths.

#![warn(missing_docs)]

mod container;
mod decode;
mod end;
mod error;
mod flac;
mod iff;
mod info;
mod mix;
mod mono;
mod mono_wav;
mod mpeg;
mod opus;
pub mod pcm;
mod peak;
mod raw;
mod resample;
mod sniff;
mod source;
mod wav;
mod writer;

pub use decode::{Block, Decoder};
pub use error::{Error, Result};
pub use flac::FlacWriter;
pub use info::{AudioInfo, probe};
pub use mono::{MonoOptions, MonoReader};
pub use mono_wav::{MonoWavWriter, WavFormat};
pub use pcm::{PcmSpec, SampleFormat};
pub use peak::PEAK_DB;
pub use resample::{Resampler, frames_after};
pub use wav::{WavReader, WavWriter};
pub use writer::{Container, PcmWriter};
