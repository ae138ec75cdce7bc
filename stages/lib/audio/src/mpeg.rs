//! The frames of an MPEG audio stream, by their headers alone.
//!
//! Recordings begin with zeros or in the middle of a frame, are joined from others, or have a
//! header that counts other frames than there are. The demuxer then trims what it should not, or
//! skips what is damaged. Walking over the headers first tells where frames begin and how many
//! there are (ISO/IEC 11172-3, 2.4.1.3; 13818-3, 2.4.2.3; Xing's header as LAME writes it).

use std::io::{BufReader, Read, Seek, SeekFrom};

use crate::error::{Error, Result};
use crate::sniff::{bytes_at, id3v2_length};

/// Headers in a row that make a stream of what might be chance.
const IN_A_ROW: usize = 4;
/// Bytes that are searched for the first frame, beyond a run of zeros.
const SEARCH: usize = 256 * 1024;
/// Zeros that are skipped before it. A file of zeros alone must not be read to its end.
const MAX_ZEROS: u64 = 16 << 20;

/// Bit rates of layers I to III of MPEG 1, then of layer I and layers II and III of MPEG 2, in
/// kbit/s.
const RATES: [[u32; 15]; 5] = [
    [
        0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448,
    ],
    [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384,
    ],
    [
        0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320,
    ],
    [
        0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256,
    ],
    [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160],
];

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    /// Bytes of the frame.
    length: u64,
    /// What all frames of a stream share: version, layer, sample rate.
    stream: [u8; 2],
    /// Bytes from the beginning to a Xing header, if it is one of layer III.
    side: Option<usize>,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [0xFF, second, third, fourth, ..] = *bytes else {
            return None;
        };
        let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
        let (rate, sampling) = (usize::from(third >> 4), third >> 2 & 3);
        if second & 0xE0 != 0xE0 || version == 1 || layer == 0 || sampling == 3 {
            return None;
        }
        let first = version == 3;
        let table = match (first, layer) {
            (true, 3) => 0,
            (true, 2) => 1,
            (true, _) => 2,
            (false, 3) => 3,
            (false, _) => 4,
        };
        // Free format (0) gives no length.
        let rate = RATES[table].get(rate).copied().filter(|&rate| rate > 0)?;
        let hertz = [44_100, 48_000, 32_000][usize::from(sampling)]
            >> match version {
                3 => 0,
                2 => 1,
                _ => 2,
            };
        let padding = u32::from(third >> 1 & 1);
        let length = match layer {
            3 => (12_000 * rate / hertz + padding) * 4,
            2 => 144_000 * rate / hertz + padding,
            _ if first => 144_000 * rate / hertz + padding,
            _ => 72_000 * rate / hertz + padding,
        };
        let mono = fourth >> 6 == 3;
        let side = (layer == 1).then_some(match (first, mono) {
            (true, false) => 36,
            (true, true) | (false, false) => 21,
            (false, true) => 13,
        });
        Some(Self {
            length: u64::from(length),
            stream: [second & 0x1E, third & 0x0C],
            side,
        })
    }
}

/// Where a stream of frames begins in `bytes`: as many headers follow one another there as fit, at
/// least [`IN_A_ROW`].
fn first_frame(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|&from| {
        let mut at = from;
        let mut stream = None;
        for _ in 0..IN_A_ROW {
            let Some(header) = bytes.get(at..).and_then(Header::read) else {
                return false;
            };
            if *stream.get_or_insert(header.stream) != header.stream {
                return false;
            }
            at += header.length as usize;
        }
        true
    })
}

/// Where in `inner` a stream of frames begins after `start`: behind an APE tag, zeros or the rest
/// of a frame that was cut.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn find<R: Read + Seek>(inner: &mut R, start: u64, end: u64) -> Result<Option<u64>> {
    let mut at = start;
    let head = bytes_at(inner, at, 32)?;
    if let Some(rest) = head.strip_prefix(b"APETAGEX")
        && let Some(&size) = rest.get(4..).and_then(|rest| rest.first_chunk::<4>())
    {
        at += 32 + u64::from(u32::from_le_bytes(size));
    }
    loop {
        let bytes = bytes_at(inner, at, SEARCH)?;
        let Some(zeros) = bytes.iter().position(|&b| b != 0) else {
            if bytes.len() < SEARCH || at >= end || at - start > MAX_ZEROS {
                return Ok(None);
            }
            at += bytes.len() as u64;
            continue;
        };
        at += zeros as u64;
        let bytes = bytes_at(inner, at, SEARCH)?;
        return Ok(first_frame(&bytes).map(|offset| at + offset as u64));
    }
}

/// What a stream holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    /// Frames that hold sound.
    pub(crate) count: u64,
    /// How many the header in front counts, and the bytes of that header's frame.
    pub(crate) promised: Option<(u64, u64)>,
    /// The first bytes between frames that are neither, from and to; nothing was counted after them.
    pub(crate) gap: Option<(u64, u64)>,
}

/// Walks over the frames of `inner` from `start` to `end`.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn walk<R: Read + Seek>(inner: &mut R, start: u64, end: u64) -> Result<Frames> {
    let mut frames = Frames::default();
    let mut reader = BufReader::with_capacity(64 * 1024, inner);
    let io = |e| Error::io("read", e);
    reader.seek(SeekFrom::Start(start)).map_err(io)?;
    let mut at = start;
    let mut head = [0; 4];
    while at + 4 <= end {
        reader.read_exact(&mut head).map_err(io)?;
        let Some(header) = Header::read(&head) else {
            // Joined files bring their tags along.
            let inner = reader.get_mut();
            let tag = match head {
                [b'I', b'D', b'3', _] => id3v2_length(&bytes_at(inner, at, 10)?),
                [b'T', b'A', b'G', _] => Some(128),
                _ => None,
            };
            let Some(tag) = tag else {
                // Such a stream is not used: what comes after does not matter.
                frames.gap = find(reader.get_mut(), at, end)?
                    .filter(|&next| next < end)
                    .map(|next| (at, next));
                break;
            };
            at += tag;
            reader.seek(SeekFrom::Start(at)).map_err(io)?;
            continue;
        };
        let counted = match header.side {
            Some(side) if at == start => {
                let bytes = bytes_at(reader.get_mut(), at, side + 12)?;
                reader.seek(SeekFrom::Start(at + 4)).map_err(io)?;
                bytes.get(side..).and_then(counted_frames)
            }
            _ => None,
        };
        match counted {
            Some(count) => frames.promised = Some((count, header.length)),
            None => frames.count += 1,
        }
        at += header.length;
        let skip = i64::try_from(header.length - 4).unwrap_or(i64::MAX);
        reader.seek_relative(skip).map_err(io)?;
    }
    Ok(frames)
}

/// The frames that a Xing or Info header counts.
fn counted_frames(bytes: &[u8]) -> Option<u64> {
    let (name, rest) = bytes.split_first_chunk::<4>()?;
    if name != b"Xing" && name != b"Info" {
        return None;
    }
    let (flags, rest) = rest.split_first_chunk::<4>()?;
    let has_count = u32::from_be_bytes(*flags) & 1 == 1;
    let count = rest.first_chunk::<4>().copied().map(u32::from_be_bytes)?;
    has_count.then_some(u64::from(count))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A frame of MPEG 1, layer III, 128 kbit/s, 44,100 Hz, stereo: 417 bytes.
    fn frame(fill: u8) -> Vec<u8> {
        let mut frame = vec![0xFF, 0xFB, 0x90, 0x64];
        frame.resize(417, fill);
        frame
    }

    fn info(count: u32) -> Vec<u8> {
        let mut frame = frame(0);
        frame[36..40].copy_from_slice(b"Info");
        frame[43] = 1;
        frame[44..48].copy_from_slice(&count.to_be_bytes());
        frame
    }

    #[test]
    fn lengths_are_those_of_the_standard() {
        for (bytes, length) in [
            ([0xFF, 0xFB, 0x90, 0x64], 417),
            ([0xFF, 0xFB, 0x92, 0x64], 418),
            ([0xFF, 0xFD, 0xA0, 0x00], 626), // layer II, 192 kbit/s
            ([0xFF, 0xFF, 0xC0, 0x00], 416), // layer I, 384 kbit/s
            ([0xFF, 0xF3, 0x40, 0xC0], 104), // MPEG 2, layer III, 32 kbit/s, 22,050 Hz
        ] {
            assert_eq!(Header::read(&bytes).map(|h| h.length), Some(length));
        }
        for bytes in [
            [0xFF, 0xF1, 0x50, 0x80],
            [0xFF, 0xFB, 0xF0, 0x64],
            [0xFF, 0xFB, 0x9C, 0x64],
            [0xFF, 0xFB, 0x00, 0x64],
        ] {
            assert_eq!(Header::read(&bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn the_first_frame_is_found_behind_what_is_none() {
        let stream = frame(7).repeat(6);
        for before in [
            Vec::new(),
            vec![0; 700_000],
            frame(9)[100..].to_vec(),
            b"junk".to_vec(),
        ] {
            let file = [&before[..], &stream].concat();
            let found = find(&mut Cursor::new(&file), 0, file.len() as u64).unwrap();
            assert_eq!(found, Some(before.len() as u64));
        }
        let mut tag = b"APETAGEX\xD0\x07\0\0".to_vec();
        tag.extend(40_u32.to_le_bytes());
        tag.resize(72, 1);
        let file = [&tag[..], &stream].concat();
        let found = find(&mut Cursor::new(&file), 0, file.len() as u64).unwrap();
        assert_eq!(found, Some(72));
        let noise: Vec<u8> = (0..90_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect();
        let length = noise.len() as u64;
        assert_eq!(find(&mut Cursor::new(noise), 0, length).unwrap(), None);
    }

    #[test]
    fn frames_are_counted_with_what_lies_between() {
        let walked = |parts: &[Vec<u8>]| {
            let file = parts.concat();
            walk(&mut Cursor::new(&file), 0, file.len() as u64).unwrap()
        };
        let plain = walked(&[info(5), frame(1).repeat(5)]);
        assert_eq!(
            (plain.count, plain.promised, plain.gap),
            (5, Some((5, 417)), None)
        );
        let tag = b"ID3\x04\0\0\0\0\0\x03abc".to_vec();
        let joined = walked(&[info(5), frame(1).repeat(5), tag, frame(1).repeat(3)]);
        assert_eq!((joined.count, joined.gap), (8, None));
        let hole = walked(&[frame(1).repeat(5), vec![0; 99], frame(1).repeat(4)]);
        assert_eq!((hole.count, hole.gap), (5, Some((2_085, 2_184))));
    }
}
