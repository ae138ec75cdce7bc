//! Opus packets to samples (RFC 6716), with the identification header of
//! RFC 7845, section 5.1.
//!
//! Symphonia hands out the packets of Ogg, Matroska, MP4 and CAF but cannot
//! decode them. `ropus` does, bit-exact with the fixed-point reference; with
//! the other pure Rust decoder, `opus-decoder` 0.1, 30 s of music took 11.8 s
//! instead of 0.1 s, and damaged packets overflowed its arithmetic.

use ropus::OpusMSDecoder;
use symphonia::core::audio::{Channels, Position};

/// Opus always decodes at this rate, Hz.
pub(crate) const RATE: u32 = 48_000;
/// Frames of the longest packet: 120 ms.
const MAX_FRAMES: usize = 5_760;

/// For each number of channels, where the planes in the order of
/// `WAVE_FORMAT_EXTENSIBLE` lie in the Vorbis order of mapping family 1.
const WAVE_FROM_VORBIS: [&[usize]; 8] = [
    &[0],
    &[0, 1],
    &[0, 2, 1],
    &[0, 1, 2, 3],
    &[0, 2, 1, 3, 4],
    &[0, 2, 1, 5, 3, 4],
    &[0, 2, 1, 6, 5, 3, 4],
    &[0, 2, 1, 7, 5, 6, 3, 4],
];

/// A decoder and what its header asks for.
pub(crate) struct Opus {
    decoder: OpusMSDecoder,
    order: Vec<usize>,
    pub(crate) channels: Channels,
    /// Frames at the beginning that only prime the decoder.
    pub(crate) pre_skip: u32,
    gain: f32,
    interleaved: Vec<i16>,
}

impl Opus {
    /// Reads the `OpusHead` header.
    pub(crate) fn new(head: &[u8]) -> Result<Self, String> {
        let [b'O', b'p', b'u', b's', b'H', b'e', b'a', b'd', _, rest @ ..] = head else {
            return Err("the Opus header is missing".to_owned());
        };
        let [
            count,
            skip0,
            skip1,
            _,
            _,
            _,
            _,
            gain0,
            gain1,
            family,
            rest @ ..,
        ] = rest
        else {
            return Err("the Opus header is too short".to_owned());
        };
        let count = usize::from(*count);
        let (streams, coupled, mapping) = match (family, count) {
            // One stream, mono or stereo (RFC 7845, section 5.1.1.1).
            (0, 1 | 2) => (1, count - 1, &[0, 1][..]),
            (1 | 255, 1..=8) => {
                let [streams, coupled, mapping @ ..] = rest else {
                    return Err("the Opus channel mapping is missing".to_owned());
                };
                (usize::from(*streams), usize::from(*coupled), mapping)
            }
            _ => {
                return Err(format!(
                    "Opus mapping family {family} with {count} channels, expected 0, 1 or 255 with at most 8"
                ));
            }
        };
        let mapping = mapping
            .get(..count)
            .ok_or("the Opus channel mapping is too short")?;
        let decoded = streams + coupled;
        if streams == 0
            || coupled > streams
            || decoded > 255
            || mapping
                .iter()
                .any(|&m| m != 255 && usize::from(m) >= decoded)
        {
            return Err("the Opus channel mapping names streams that are not".to_owned());
        }
        let decoder = OpusMSDecoder::new(
            RATE as i32,
            count as i32,
            streams as i32,
            coupled as i32,
            mapping,
        )
        .map_err(|code| format!("the Opus decoder refused with code {code}"))?;
        let (order, channels) = match WAVE_FROM_VORBIS.get(count - 1) {
            Some(order) if *family < 255 => (order.to_vec(), layout(count)),
            _ => ((0..count).collect(), Channels::Discrete(count as u16)),
        };
        let gain_db = f32::from(i16::from_le_bytes([*gain0, *gain1])) / 256.0;
        Ok(Self {
            decoder,
            order,
            channels,
            pre_skip: u32::from(u16::from_le_bytes([*skip0, *skip1])),
            gain: 10.0_f32.powf(gain_db / 20.0),
            interleaved: vec![0; MAX_FRAMES * count],
        })
    }

    /// Decodes a packet into one plane per channel.
    pub(crate) fn decode(
        &mut self,
        packet: &[u8],
        planes: &mut Vec<Vec<f32>>,
    ) -> Result<(), String> {
        if packet.is_empty() {
            // The decoder would invent sound to conceal a loss.
            return Err("an empty packet".to_owned());
        }
        let length = i32::try_from(packet.len()).map_err(|_| "a packet of 2 GiB".to_owned())?;
        let frames = self
            .decoder
            .decode(
                Some(packet),
                length,
                &mut self.interleaved,
                MAX_FRAMES as i32,
                false,
            )
            .map_err(|code| format!("the Opus decoder refused with code {code}"))?;
        let frames = usize::try_from(frames).unwrap_or(0);
        let scale = self.gain / 32_768.0;
        let count = self.order.len();
        planes.resize_with(count, Vec::new);
        for (plane, &source) in planes.iter_mut().zip(&self.order) {
            plane.clear();
            let samples = self.interleaved.iter().skip(source).step_by(count);
            plane.extend(samples.take(frames).map(|&x| f32::from(x) * scale));
        }
        Ok(())
    }
}

/// The loudspeakers of mapping families 0 and 1 (RFC 7845, section 5.1.1.2).
fn layout(count: usize) -> Channels {
    let front = Position::FRONT_LEFT | Position::FRONT_RIGHT;
    let rear = Position::REAR_LEFT | Position::REAR_RIGHT;
    let side = Position::SIDE_LEFT | Position::SIDE_RIGHT;
    let (center, lfe) = (Position::FRONT_CENTER, Position::LFE1);
    Channels::Positioned(match count {
        1 => center,
        2 => front,
        3 => front | center,
        4 => front | rear,
        5 => front | center | rear,
        6 => front | center | lfe | rear,
        7 => front | center | lfe | Position::REAR_CENTER | side,
        _ => front | center | lfe | rear | side,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(channels: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.extend([channels, 0x38, 0x01, 0x80, 0xBB, 0, 0, 0, 0, family]);
        head.extend(rest);
        head
    }

    #[test]
    fn headers_are_checked() {
        assert_eq!(Opus::new(&head(2, 0, &[])).unwrap().pre_skip, 312);
        assert!(Opus::new(&head(6, 1, &[4, 2, 0, 4, 1, 2, 3, 5])).is_ok());
        for bad in [
            head(3, 0, &[]),
            head(6, 1, &[4, 2, 0, 4, 1, 2, 3, 6]),
            head(6, 1, &[4, 2, 0, 4]),
            head(2, 1, &[0, 0, 0, 1]),
            head(9, 1, &[9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            b"OpusHead\x01".to_vec(),
            Vec::new(),
        ] {
            assert!(Opus::new(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_an_error_at_worst(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..6)) {
            let mut opus = Opus::new(&head(2, 0, &[])).unwrap();
            let mut planes = Vec::new();
            for packet in packets {
                let _ = opus.decode(&packet, &mut planes);
            }
        }
    }
}
