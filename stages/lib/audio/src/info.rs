//! What a file of sound is, without decoding it whole.

use std::path::Path;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;

use crate::decode::Decoder;
use crate::error::Result;

/// What a file of sound is.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioInfo {
    /// Container: `WAV`, `FLAC`, `Ogg`, …
    pub container: &'static str,
    /// Codec: `pcm_s16le`, `mp3`, `vorbis`, …
    pub codec: String,
    /// Frames per second, Hz.
    pub rate: u32,
    /// Channels.
    pub channels: usize,
    /// Bits of a sample as stored, for codecs that have such.
    pub bits: Option<u32>,
    /// Frames after trimming of encoder padding, when the container says.
    pub frames: Option<u64>,
}

impl AudioInfo {
    /// Duration in seconds, when the container says.
    pub fn seconds(&self) -> Option<f64> {
        self.frames
            .map(|frames| frames as f64 / f64::from(self.rate.max(1)))
    }
}

/// Says what the file at `path` is; where its container does not tell the
/// duration, its packets are counted.
///
/// # Errors
/// As [`Decoder::open`].
pub fn probe(path: &Path) -> Result<AudioInfo> {
    let mut decoder = Decoder::open(path)?;
    let mut info = decoder.info().clone();
    if info.frames.is_none() {
        info.frames = decoder.count_frames();
    }
    Ok(info)
}

/// The codec's short name.
pub(crate) fn codec_name(params: &AudioCodecParameters) -> String {
    if params.codec == CODEC_ID_OPUS {
        return "opus".to_owned();
    }
    symphonia::default::get_codecs()
        .get_audio_decoder(params.codec)
        .map_or_else(
            || params.codec.to_string(),
            |decoder| decoder.codec.info.short_name.to_owned(),
        )
}
