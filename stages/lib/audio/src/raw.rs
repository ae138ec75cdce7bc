//! Packets of plain 16-bit samples, little-endian: what most WAV files hold.
//!
//! The same values as symphonia's decoder gives, whose reader takes a sample at a time: a third of
//! the time of decoding went there.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_PCM_S16LE;

/// What one full step of a 16-bit sample is.
const STEP: f32 = 1.0 / 32_768.0;

/// Reads packets of such samples.
pub(crate) struct Pcm {
    /// Frames per second.
    pub(crate) rate: u32,
    pub(crate) channels: Channels,
    count: usize,
}

impl Pcm {
    /// A reader of the track, if it holds such samples and uses all of their bits.
    pub(crate) fn new(params: &AudioCodecParameters) -> Option<Self> {
        let bits = [params.bits_per_coded_sample, params.bits_per_sample];
        let channels = params.channels.clone()?;
        let count = channels.count();
        let plain = params.codec == CODEC_ID_PCM_S16LE
            && bits.into_iter().flatten().all(|bits| bits == 16)
            && count > 0;
        plain.then_some(Self {
            rate: params.sample_rate?,
            channels,
            count,
        })
    }

    /// The samples of whole frames of `bytes` in place of what `planes` held, one per channel.
    pub(crate) fn decode(&self, bytes: &[u8], planes: &mut Vec<Vec<f32>>) {
        planes.resize_with(self.count, Vec::new);
        for plane in &mut *planes {
            plane.clear();
        }
        match &mut planes[..] {
            [mono] => mono.extend(bytes.as_chunks().0.iter().map(|&x| sample(x))),
            // Both channels as one number: the compiler does not see that it may.
            [left, right] => {
                let frames = bytes.as_chunks().0;
                let both = |frame: &[u8; 4]| i32::from_le_bytes(*frame);
                left.extend(frames.iter().map(|x| ((both(x) << 16) >> 16) as f32 * STEP));
                right.extend(frames.iter().map(|x| (both(x) >> 16) as f32 * STEP));
            }
            planes => {
                for frame in bytes.chunks_exact(2 * planes.len()) {
                    for (plane, &x) in planes.iter_mut().zip(frame.as_chunks().0) {
                        plane.push(sample(x));
                    }
                }
            }
        }
    }
}

fn sample(bytes: [u8; 2]) -> f32 {
    f32::from(i16::from_le_bytes(bytes)) * STEP
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use symphonia::core::audio::Position;
    use symphonia::core::codecs::audio::{AudioDecoderOptions, CODEC_ID_NULL_AUDIO};
    use symphonia::core::packet::Packet;
    use symphonia::core::units::{Duration, Timestamp};

    use super::*;

    fn params(count: usize) -> AudioCodecParameters {
        let channels = match count {
            1 => Channels::Positioned(Position::FRONT_LEFT),
            2 => Channels::Positioned(Position::FRONT_LEFT | Position::FRONT_RIGHT),
            count => Channels::Discrete(count as u16),
        };
        let mut params = AudioCodecParameters::new();
        params
            .for_codec(CODEC_ID_PCM_S16LE)
            .with_sample_rate(44_100)
            .with_channels(channels);
        params
    }

    #[test]
    fn only_plain_samples_are_read() {
        let check = |change: fn(&mut AudioCodecParameters), expected: bool| {
            let mut params = params(2);
            change(&mut params);
            assert_eq!(Pcm::new(&params).is_some(), expected, "{params:?}");
        };
        check(|_| (), true);
        check(|p| p.bits_per_coded_sample = Some(16), true);
        check(|p| p.bits_per_coded_sample = Some(12), false);
        check(|p| p.codec = CODEC_ID_NULL_AUDIO, false);
        check(|p| p.channels = None, false);
    }

    proptest! {
        #[test]
        fn samples_are_those_of_symphonia(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            count in 1..6_usize,
        ) {
            let params = params(count);
            let mut theirs = symphonia::default::get_codecs()
                .make_audio_decoder(&params, &AudioDecoderOptions::default())
                .unwrap();
            let packet = Packet::new(0, Timestamp::from(0), Duration::from(0_u32), bytes.clone());
            let mut expected: Vec<Vec<f32>> = Vec::new();
            theirs.decode(&packet).unwrap().copy_to_vecs_planar(&mut expected);
            let mut planes = vec![vec![9.0; 3]; 7];
            Pcm::new(&params).unwrap().decode(&bytes, &mut planes);
            prop_assert_eq!(planes, expected);
        }
    }
}
