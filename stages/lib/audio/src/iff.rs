//! The chunks of WAV, AIFF and CAF, read as leniently as players read them.
//!
//! Many programs write headers that the demuxer refuses: sizes that were never filled in, chunks
//! without their padding, formats with additional bytes, 24 bits in four bytes, masks of other
//! channels than there are. The demuxer therefore gets a header made here from what the file
//! says ("Multimedia Programming Interface and Data Specifications 1.0", IBM & Microsoft 1991;
//! "Audio Interchange File Format 1.3", Apple 1989; RF64: EBU Tech 3306), followed by the bytes
//! of the file's own samples.

use std::io::{Read, Seek};

use crate::error::{Error, Result};
use crate::sniff::bytes_at;

/// Chunks that are looked at; a file that has more is not understood.
const MAX_CHUNKS: usize = 4_096;
/// Longest `fmt ` or `COMM` chunk that is read.
const MAX_FORMAT: u64 = 1_024;
/// Data lengths from here on were never filled in: programs that write into a pipe leave
/// 7FFF_F000, 2 · 10⁹, 8000_0000 or FFFF_FFFF, less or more the size of the header.
const UNKNOWN: u64 = 1_999_999_000;

const PCM: u16 = 0x0001;
const FLOAT: u16 = 0x0003;
const A_LAW: u16 = 0x0006;
const MU_LAW: u16 = 0x0007;
const EXTENSIBLE: u16 = 0xFFFE;

/// A header for the demuxer, and where the samples lie in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    pub(crate) header: Vec<u8>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// What was not as it should be, for people.
    pub(crate) note: Option<&'static str>,
}

/// Length of the data that were never given a length.
const NO_LENGTH: &str =
    "its header does not give the length of its data; everything to the end of the file was read";

/// A chunk: name, content and the length that it claims.
struct Chunk {
    name: [u8; 4],
    start: u64,
    claimed: u64,
}

/// The chunks of `inner` from `at`, with sizes read by `size`. The visitor answers whether it has
/// seen enough.
fn chunks<R: Read + Seek>(
    inner: &mut R,
    mut at: u64,
    end: u64,
    size: fn([u8; 4]) -> u32,
    mut visit: impl FnMut(&mut R, &Chunk) -> Result<bool>,
) -> Result<()> {
    for _ in 0..MAX_CHUNKS {
        let head = bytes_at(inner, at, 8)?;
        let Some((&name, rest)) = head.split_first_chunk::<4>() else {
            break;
        };
        let Ok(length) = rest.try_into().map(size) else {
            break;
        };
        let chunk = Chunk {
            name,
            start: at + 8,
            claimed: u64::from(length),
        };
        if visit(inner, &chunk)? {
            break;
        }
        let next = chunk.start + chunk.claimed;
        if next >= end {
            break;
        }
        // A chunk of odd length is padded, but not by every program.
        let odd = length % 2 == 1 && {
            let after = bytes_at(inner, next, 5)?;
            let named = |at: usize| {
                after
                    .get(at..at + 4)
                    .is_some_and(|name| name.iter().all(|b| (0x20..0x7F).contains(b)))
            };
            named(1) || !named(0)
        };
        at = next + u64::from(odd);
    }
    Ok(())
}

/// How many bytes of data there are, and what to say of it.
fn data_length(chunk: &Chunk, end: u64) -> (u64, Option<&'static str>) {
    let there = end.saturating_sub(chunk.start);
    if chunk.claimed == 0 || (chunk.claimed > there && chunk.claimed >= UNKNOWN) {
        return (there, Some(NO_LENGTH));
    }
    (chunk.claimed, None)
}

/// A header for the WAV at `start` of `inner`.
///
/// # Errors
/// [`Error::Malformed`] without a usable `fmt ` or `data` chunk; [`Error::Unsupported`] above
/// 4 GiB.
pub(crate) fn wave<R: Read + Seek>(inner: &mut R, start: u64, end: u64) -> Result<Clean> {
    let mut format: Option<Vec<u8>> = None;
    let mut data: Option<Chunk> = None;
    let mut long = None;
    chunks(
        inner,
        start + 12,
        end,
        u32::from_le_bytes,
        |inner, chunk| {
            match &chunk.name {
                b"fmt " => {
                    let length = chunk.claimed.min(MAX_FORMAT) as usize;
                    format = Some(bytes_at(inner, chunk.start, length)?);
                }
                // RF64 has the lengths that do not fit into 32 bits here: RIFF, then data.
                b"ds64" => {
                    let sizes = bytes_at(inner, chunk.start, 16)?;
                    long = sizes.last_chunk::<8>().copied().map(u64::from_le_bytes);
                }
                b"data" => {
                    data = Some(Chunk {
                        claimed: match (chunk.claimed, long) {
                            (0xFFFF_FFFF, Some(long)) => long,
                            (claimed, _) => claimed,
                        },
                        ..*chunk
                    });
                    // Nothing after it is needed, except a format that comes late.
                    return Ok(format.is_some());
                }
                _ => {}
            }
            Ok(false)
        },
    )?;
    let format = format.ok_or_else(|| malformed("it has no `fmt ` chunk"))?;
    let data = data.ok_or_else(|| malformed("it has no `data` chunk"))?;
    let (length, note) = data_length(&data, end);
    let format = wave_format(&format)?;
    let (Ok(length), Ok(whole)) = (
        u32::try_from(length),
        u32::try_from(length + format.len() as u64 + 20),
    ) else {
        return Err(Error::Unsupported {
            what: format!("its {length} bytes of samples are more than 4 GiB; split it"),
        });
    };
    let mut header = b"RIFF".to_vec();
    header.extend(whole.to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend((format.len() as u32).to_le_bytes());
    header.extend(format);
    header.extend(b"data");
    header.extend(length.to_le_bytes());
    Ok(Clean {
        header,
        start: data.start,
        end: end.min(data.start + u64::from(length)),
        note,
    })
}

/// The content of a `fmt ` chunk as the demuxer takes it.
fn wave_format(given: &[u8]) -> Result<Vec<u8>> {
    let short = |at: usize| -> Option<u16> {
        let bytes = given.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_le_bytes(bytes))
    };
    let (Some(tag), Some(channels), Some(rate), Some(align), Some(bits)) =
        (short(0), short(2), given.get(4..8), short(12), short(14))
    else {
        return Err(malformed(&format!(
            "its `fmt ` chunk has {} bytes, expected at least 16",
            given.len()
        )));
    };
    let extended = (tag == EXTENSIBLE).then(|| (short(24), given.get(20..24)));
    let coding = match extended {
        Some((Some(coding), _)) => coding,
        Some((None, _)) => return Err(malformed("its `fmt ` chunk ends before its sub-format")),
        None => tag,
    };
    if !matches!(coding, PCM | FLOAT | A_LAW | MU_LAW) {
        // Other codecs have parameters of their own in what follows.
        return Ok(given[..given.len() & !1].to_vec());
    }
    if channels == 0 {
        return Err(malformed("its `fmt ` chunk gives 0 channels"));
    }
    if !(1..=64).contains(&bits) {
        return Err(malformed(&format!(
            "its `fmt ` chunk gives samples of {bits} bits, expected 1 to 64"
        )));
    }
    // Samples fill whole bytes and stand in their upper bits: 24 bits in four bytes are 32 bits
    // the lowest of which are 0.
    let stored = match align / channels {
        size @ 1..=8 if align % channels == 0 && size * 8 >= bits => size * 8,
        _ => bits.next_multiple_of(8),
    };
    let stored = if matches!(coding, A_LAW | MU_LAW) {
        8
    } else {
        stored
    };
    let align = channels
        .checked_mul(stored / 8)
        .ok_or_else(|| malformed("its `fmt ` chunk gives frames of more than 65,535 bytes"))?;
    let mask = extended
        .and_then(|(_, mask)| mask?.try_into().ok())
        .map(u32::from_le_bytes)
        // A mask of other channels than there are says nothing.
        .filter(|mask| mask.count_ones() == u32::from(channels) && channels > 2);
    let rate: [u8; 4] = rate.try_into().unwrap_or_default();
    let second = u32::from_le_bytes(rate).wrapping_mul(u32::from(align));
    let mut format = match mask {
        Some(_) => EXTENSIBLE,
        None => coding,
    }
    .to_le_bytes()
    .to_vec();
    format.extend(channels.to_le_bytes());
    format.extend(rate);
    format.extend(second.to_le_bytes());
    format.extend(align.to_le_bytes());
    format.extend(stored.to_le_bytes());
    if let Some(mask) = mask {
        format.extend(22_u16.to_le_bytes());
        format.extend(stored.to_le_bytes());
        format.extend(mask.to_le_bytes());
        format.extend(coding.to_le_bytes());
        format.extend(SUB_FORMAT);
    }
    Ok(format)
}

/// What follows the coding in the identifier of a sub-format (`KSDATAFORMAT_SUBTYPE_…`).
const SUB_FORMAT: [u8; 14] = [
    0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71,
];

/// A header for the AIFF or AIFF-C at `start` of `inner`.
///
/// # Errors
/// [`Error::Malformed`] without a usable `COMM` or `SSND` chunk.
pub(crate) fn aiff<R: Read + Seek>(inner: &mut R, start: u64, end: u64) -> Result<Clean> {
    let form = bytes_at(inner, start + 8, 4)?;
    let compressed = form == b"AIFC";
    let (mut common, mut sound): (Option<Vec<u8>>, Option<(Chunk, u32)>) = (None, None);
    chunks(
        inner,
        start + 12,
        end,
        u32::from_be_bytes,
        |inner, chunk| {
            match &chunk.name {
                b"COMM" => {
                    let length = chunk.claimed.min(MAX_FORMAT) as usize;
                    common = Some(bytes_at(inner, chunk.start, length)?);
                }
                b"SSND" => {
                    let head = bytes_at(inner, chunk.start, 4)?;
                    let offset = head.try_into().map_or(0, u32::from_be_bytes);
                    sound = Some((Chunk { ..*chunk }, offset));
                }
                _ => {}
            }
            Ok(common.is_some() && sound.is_some())
        },
    )?;
    let common = common.ok_or_else(|| malformed("it has no COMM chunk"))?;
    let (chunk, offset) = sound.ok_or_else(|| malformed("it has no SSND chunk"))?;
    let needed = if compressed { 22 } else { 18 };
    let Some(mut common) = common.get(..needed).map(<[u8]>::to_vec) else {
        return Err(malformed(&format!(
            "its COMM chunk has {} bytes, expected at least {needed}",
            common.len()
        )));
    };
    if compressed {
        // The name of the compression, which is for people: empty, with its padding.
        common.extend([0, 0]);
    }
    let (length, note) = data_length(&chunk, end);
    // The samples begin after two numbers and as many bytes as the first of them says.
    let before = 8 + u64::from(offset);
    let samples = length.saturating_sub(before);
    let Ok(whole) = u32::try_from(samples + common.len() as u64 + 28) else {
        return Err(Error::Unsupported {
            what: format!("its {samples} bytes of samples are more than 4 GiB; split it"),
        });
    };
    let mut header = b"FORM".to_vec();
    header.extend(whole.to_be_bytes());
    header.extend(form);
    header.extend(b"COMM");
    header.extend((common.len() as u32).to_be_bytes());
    header.extend(common);
    header.extend(b"SSND");
    header.extend((samples as u32).saturating_add(8).to_be_bytes());
    header.extend([0; 8]);
    let from = (chunk.start + before).min(end);
    Ok(Clean {
        header,
        start: from,
        end: end.min(from + samples),
        note,
    })
}

/// A header for the CAF at `start` of `inner` if its data chunk has no length, which is written as
/// -1: it is then the last and reaches to the end of the file. The demuxer would read on for ever.
///
/// # Errors
/// [`Error::Malformed`]: the chunks before the data are larger than any encoder makes them.
pub(crate) fn caf<R: Read + Seek>(inner: &mut R, start: u64, end: u64) -> Result<Option<Clean>> {
    let mut header = bytes_at(inner, start, 8)?;
    let mut at = start + 8;
    for _ in 0..MAX_CHUNKS {
        let head = bytes_at(inner, at, 12)?;
        let Some((name, length)) = head.split_at_checked(4) else {
            break;
        };
        let Ok(length) = length.try_into().map(i64::from_be_bytes) else {
            break;
        };
        let data = at + 12;
        match (name, u64::try_from(length)) {
            (b"data", Err(_)) if length == -1 => {
                let length = end.saturating_sub(data);
                header.extend(b"data");
                header.extend(length.to_be_bytes());
                return Ok(Some(Clean {
                    header,
                    start: data.min(end),
                    end,
                    note: Some(NO_LENGTH),
                }));
            }
            (_, Ok(length)) if length <= end.saturating_sub(data) => {
                if matches!(name, b"desc" | b"kuki" | b"pakt" | b"chan") {
                    if length > MAX_TABLE {
                        return Err(malformed(&format!(
                            "its chunk `{}` has {length} bytes, expected at most {MAX_TABLE}",
                            name.escape_ascii()
                        )));
                    }
                    header.extend(bytes_at(inner, at, length as usize + 12)?);
                }
                at = data + length;
            }
            _ => break,
        }
    }
    Ok(None)
}

/// Longest chunk that is copied into a header of CAF: packet tables of some days of sound.
const MAX_TABLE: u64 = 16 << 20;

fn malformed(what: &str) -> Error {
    Error::Malformed {
        what: what.to_owned(),
    }
}
