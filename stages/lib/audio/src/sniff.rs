//! What a file is, by its first bytes; never by its name.
//!
//! Tags around an MPEG stream are measured here and left out of what the decoder
//! sees, so that editing a tag cannot change a sample.

use std::io::{Read, Seek, SeekFrom};

use crate::error::{Error, Result};
use crate::mpeg;

/// Containers that we can open.
pub(crate) const EXPECTED: &str =
    "WAV, AIFF, FLAC, MP3, Ogg, Opus, AAC, M4A/MP4, CAF or Matroska/WebM";

/// A container that we can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Wave,
    Aiff,
    Flac,
    Ogg,
    /// Bare MPEG audio frames, layers 1 to 3.
    Mpeg,
    /// Bare AAC frames with ADTS headers.
    Adts,
    Mp4,
    Caf,
    Matroska,
}

impl Kind {
    /// What people call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wave => "WAV",
            Self::Aiff => "AIFF",
            Self::Flac => "FLAC",
            Self::Ogg => "Ogg",
            Self::Mpeg => "MPEG audio",
            Self::Adts => "ADTS",
            Self::Mp4 => "MP4",
            Self::Caf => "CAF",
            Self::Matroska => "Matroska",
        }
    }
}

/// A container and the bytes of the file that are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sniffed {
    pub(crate) kind: Kind,
    /// First byte after leading tags.
    pub(crate) start: u64,
    /// One past the last byte before trailing tags.
    pub(crate) end: u64,
}

/// Looks at the beginning, and for bare frames at the end, of `inner`.
pub(crate) fn sniff<R: Read + Seek>(inner: &mut R) -> Result<Sniffed> {
    let length = inner
        .seek(SeekFrom::End(0))
        .map_err(|e| Error::io("seek in", e))?;
    if length == 0 {
        return Err(Error::Empty);
    }
    let mut start = 0;
    // ID3v2 tags may stand before anything; more than a few is no tagger's work.
    for _ in 0..8 {
        let head = bytes_at(inner, start, 10)?;
        let Some(tag) = id3v2_length(&head) else {
            break;
        };
        start += tag;
        if start >= length {
            return Err(Error::Malformed {
                what: format!("its ID3 tag claims {tag} bytes, the file has {length}"),
            });
        }
    }
    let head = bytes_at(inner, start, 4096)?;
    let kind = match kind_of(&head) {
        Ok(kind) => kind,
        // Bare frames may begin behind what is none of them.
        Err(unknown @ Error::NotAudio { .. }) => {
            start = mpeg::find(inner, start, length)?.ok_or(unknown)?;
            Kind::Mpeg
        }
        Err(error) => return Err(error),
    };
    let mut end = length;
    if matches!(kind, Kind::Mpeg | Kind::Adts | Kind::Flac) {
        for _ in 0..8 {
            match trailing_tag(inner, start, end)? {
                0 => break,
                tag => end -= tag,
            }
        }
    }
    Ok(Sniffed { kind, start, end })
}

/// Up to `count` bytes from `at`, fewer at the end of the file.
pub(crate) fn bytes_at<R: Read + Seek>(inner: &mut R, at: u64, count: usize) -> Result<Vec<u8>> {
    inner
        .seek(SeekFrom::Start(at))
        .map_err(|e| Error::io("seek in", e))?;
    let mut bytes = Vec::with_capacity(count);
    inner
        .take(count as u64)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::io("read", e))?;
    Ok(bytes)
}

/// Length of the ID3v2 tag that begins here (ID3v2.4.0 structure, section 3.1).
pub(crate) fn id3v2_length(head: &[u8]) -> Option<u64> {
    let [b'I', b'D', b'3', major, minor, flags, sizes @ ..] = head else {
        return None;
    };
    let sizes: [u8; 4] = sizes.get(..4)?.try_into().ok()?;
    if *major == 0xFF || *minor == 0xFF || sizes.iter().any(|&b| b > 0x7F) {
        return None;
    }
    let size = sizes.iter().fold(0, |n, &b| (n << 7) | u64::from(b));
    let footer = if flags & 0x10 == 0 { 0 } else { 10 };
    Some(10 + size + footer)
}

/// Length of the ID3v1, APEv2 or Lyrics3v2 tag that ends at `end`; 0 when there
/// is none.
fn trailing_tag<R: Read + Seek>(inner: &mut R, start: u64, end: u64) -> Result<u64> {
    let room = end - start;
    let tail = bytes_at(inner, end - room.min(128), room.min(128) as usize)?;
    let from_end = |n: usize| tail.len().checked_sub(n).and_then(|at| tail.get(at..));
    let length = if from_end(128).is_some_and(|tag| tag.starts_with(b"TAG")) {
        128
    } else if let Some([b'A', b'P', b'E', b'T', b'A', b'G', b'E', b'X', rest @ ..]) = from_end(32) {
        let word = |at: usize| {
            rest.get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        let header = if word(12) >> 31 == 1 { 32 } else { 0 };
        u64::from(word(4)).max(32) + header
    } else if let Some(tag) = from_end(15)
        && tag.ends_with(b"LYRICS200")
    {
        tag.get(..6)
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| digits.parse::<u64>().ok())
            .map_or(0, |size| size + 15)
    } else {
        0
    };
    // A tag that would swallow everything is no tag.
    Ok(if length < room { length } else { 0 })
}

/// The container that begins with `head`, or what it looks like instead.
fn kind_of(head: &[u8]) -> Result<Kind> {
    let at = |offset: usize, magic: &[u8]| {
        head.get(offset..)
            .is_some_and(|tail| tail.starts_with(magic))
    };
    let riff = [b"RIFF", b"RF64", b"BW64"].iter().any(|name| at(0, *name));
    let known = if riff && at(8, b"WAVE") {
        Kind::Wave
    } else if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        Kind::Aiff
    } else if at(0, b"fLaC") {
        Kind::Flac
    } else if at(0, b"OggS") {
        Kind::Ogg
    } else if at(4, b"ftyp") {
        Kind::Mp4
    } else if at(0, b"caff") {
        Kind::Caf
    } else if at(0, &[0x1A, 0x45, 0xDF, 0xA3]) {
        Kind::Matroska
    } else if let [0xFF, second, ..] = head
        && second & 0xE0 == 0xE0
        && second & 0x18 != 0x08
    {
        // The layer bits are 00 in ADTS alone, where the sync word is longer.
        match second & 0x16 {
            0x10 if second & 0xF0 == 0xF0 => Kind::Adts,
            layer if layer & 0x06 != 0 => Kind::Mpeg,
            _ => return Err(not_audio(head)),
        }
    } else {
        return Err(not_audio(head));
    };
    Ok(known)
}

/// Says what unknown content resembles.
fn not_audio(head: &[u8]) -> Error {
    const SOUND: &[(usize, &[u8], &str)] = &[
        (0, b"riff\x2E\x91\xCF\x11", "Sony Wave64"),
        (0, b"RIFX", "a big-endian WAV (RIFX)"),
        (0, b"wvPk", "WavPack"),
        (0, b"MAC ", "Monkey's Audio"),
        (0, b"TTA1", "True Audio"),
        (0, b"MPCK", "Musepack"),
        (0, b"MP+", "Musepack"),
        (0, b"DSD ", "DSD"),
        (0, b"FRM8", "DSDIFF"),
        (0, b"#!AMR", "AMR"),
        (0, b".snd", "a Sun AU file"),
        (
            0,
            b"\x30\x26\xB2\x75\x8E\x66\xCF\x11",
            "Windows Media Audio (ASF)",
        ),
    ];
    const OTHER: &[(usize, &[u8], &str)] = &[
        (8, b"AVI ", "an AVI video"),
        (8, b"WEBP", "a WebP picture"),
        (0, b"MThd", "a MIDI file, which belongs to a render stage"),
        (0, b"\x89PNG", "a PNG picture"),
        (0, b"\xFF\xD8\xFF", "a JPEG picture"),
        (0, b"GIF8", "a GIF picture"),
        (0, b"%PDF", "a PDF document"),
        (0, b"PK\x03\x04", "a ZIP archive"),
        (0, b"\x1F\x8B", "a gzip archive"),
        (0, b"\x28\xB5\x2F\xFD", "a zstd archive"),
        (0, b"7z\xBC\xAF", "a 7-Zip archive"),
        (0, b"Rar!", "a RAR archive"),
        (0, b"\x7FELF", "a program (ELF)"),
        (0, b"SQLite format 3", "an SQLite database"),
        (0, b"PAR1", "a Parquet file"),
        (0, b"\x80\x02", "a Python pickle"),
    ];
    let matches = |&&(offset, magic, _): &&(usize, &[u8], &str)| {
        head.get(offset..)
            .is_some_and(|tail| tail.starts_with(magic))
    };
    if let Some((_, _, name)) = SOUND.iter().find(matches) {
        return Error::Unsupported {
            what: format!("it is {name}; convert it to FLAC or WAV"),
        };
    }
    let looks_like = if let Some((_, _, name)) = OTHER.iter().find(matches) {
        name
    } else if head.iter().all(|&b| b == 0) {
        "zero bytes"
    } else if is_text(head) {
        let text = head.trim_ascii_start();
        if text.starts_with(b"<!DOCTYPE html") || text.starts_with(b"<html") {
            "a web page"
        } else if text.starts_with(b"<?xml") || text.starts_with(b"<") {
            "XML text"
        } else {
            "text"
        }
    } else {
        "unknown binary data"
    };
    Error::NotAudio {
        looks_like,
        expected: EXPECTED,
    }
}

/// Whether `head` could be text in UTF-8 (its last character may be cut).
fn is_text(head: &[u8]) -> bool {
    let valid = match str::from_utf8(head) {
        Ok(_) => true,
        Err(e) => e.error_len().is_none() && e.valid_up_to() > 0,
    };
    valid
        && head
            .iter()
            .all(|&b| b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r' | 0x0C))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn said(bytes: &[u8]) -> String {
        match sniff(&mut Cursor::new(bytes)) {
            Ok(found) => format!("{:?} {}..{}", found.kind, found.start, found.end),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn contents_are_named() {
        let rows: &[(&[u8], &str)] = &[
            (b"", "is empty (0 bytes), expected an audio file"),
            (b"RIFF....WAVEfmt ", "Wave 0..16"),
            (b"FORM....AIFC", "Aiff 0..12"),
            (b"fLaC", "Flac 0..4"),
            (b"....ftypM4A ", "Mp4 0..12"),
            (b"\xFF\xFB\x90\x64", "Mpeg 0..4"),
            (b"\xFF\xF1\x50\x80", "Adts 0..4"),
            (b"RF64....WAVE", "Wave 0..12"),
            (b"RIFX....WAVE", "a big-endian WAV (RIFX)"),
            (b"hello there\n", "looks like text"),
            (b"<?xml version=\"1.0\"?>", "looks like XML text"),
            (b"\xFF\xD8\xFF\xE0", "looks like a JPEG picture"),
            (b"MThd\0\0\0\x06", "a render stage"),
            (&[0; 64], "looks like zero bytes"),
            (&[0xC0, 1, 2, 3], "looks like unknown binary data"),
        ];
        for (bytes, expected) in rows {
            let got = said(bytes);
            assert!(got.contains(expected), "{got} / {expected}");
        }
    }

    #[test]
    fn tags_are_left_out() {
        let frames = [0xFF, 0xFB, 0x90, 0x64, 1, 2, 3, 4].repeat(40);
        let mut file = b"ID3\x04\0\0\0\0\0\x03abc".to_vec();
        let start = file.len() as u64;
        file.extend(&frames);
        let end = file.len() as u64;
        let expected = Sniffed {
            kind: Kind::Mpeg,
            start,
            end,
        };
        assert_eq!(sniff(&mut Cursor::new(&file)).unwrap(), expected);
        let mut ape = b"APETAGEX\xD0\x07\0\0".to_vec();
        ape.extend(40_u32.to_le_bytes());
        ape.extend([1, 0, 0, 0, 0, 0, 0, 0x80]);
        ape.extend([0; 8]);
        file.extend([7; 32]); // header
        file.extend([7; 8]); // items
        file.extend(ape);
        let mut id3v1 = b"TAG".to_vec();
        id3v1.resize(128, b'x');
        file.extend(id3v1);
        assert_eq!(sniff(&mut Cursor::new(&file)).unwrap(), expected);
    }
}
