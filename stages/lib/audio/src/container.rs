//! What demuxers leave unsaid: MP4 edit lists, the order of bytes in QuickTime's samples, and
//! whether an Ogg stream ends.

use std::io::{Read, Seek};

use crate::error::Result;
use crate::sniff::bytes_at;

/// Atoms looked at before giving up; a file of ours has some tens.
const MAX_ATOMS: usize = 4_096;

/// The part of a track that an MP4 edit list plays, in ticks of the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    /// Ticks to leave out at the beginning.
    pub(crate) start: u64,
    /// Ticks to play; `None` plays to the end.
    pub(crate) length: Option<u64>,
    /// Ticks per second of the track.
    pub(crate) timescale: u32,
}

/// What an MP4 or QuickTime track says of itself that the demuxer does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mp4Track {
    pub(crate) id: u32,
    /// What its edit list (ISO/IEC 14496-12, 8.6.6) plays if that has one entry, as encoders write
    /// it to trim the priming and padding of AAC.
    pub(crate) edit: Option<Edit>,
    /// Its PCM samples are big-endian, see [`is_big_endian`].
    pub(crate) big_endian: bool,
}

/// The tracks of a file of `length` bytes.
///
/// Anything that cannot be understood is left out: the demuxer judges the file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn mp4_tracks<R: Read + Seek>(inner: &mut R, length: u64) -> Result<Vec<Mp4Track>> {
    let mut tracks = Vec::new();
    let mut atoms = Atoms {
        inner,
        left: MAX_ATOMS,
    };
    let Some(moov) = atoms.child(b"moov", (0, length))? else {
        return Ok(tracks);
    };
    let movie_scale = match atoms.child(b"mvhd", moov)? {
        Some(mvhd) => timescale(&atoms.head(mvhd)?),
        None => None,
    };
    let mut from = moov;
    while let Some(trak) = atoms.child(b"trak", from)? {
        from = (trak.1, moov.1);
        let Some(tkhd) = atoms.child(b"tkhd", trak)? else {
            continue;
        };
        let tkhd = atoms.head(tkhd)?;
        let at = if tkhd.first() == Some(&1) { 20 } else { 12 };
        let Some(id) = word(&tkhd, at) else {
            continue;
        };
        let mdhd = atoms.descend(&[b"mdia", b"mdhd"], trak)?;
        let elst = atoms.descend(&[b"edts", b"elst"], trak)?;
        let edit = match (mdhd, elst) {
            (Some(mdhd), Some(elst)) => {
                let (mdhd, elst) = (atoms.head(mdhd)?, atoms.head(elst)?);
                edit(movie_scale, timescale(&mdhd), &elst)
            }
            _ => None,
        };
        let stsd = atoms.descend(&[b"mdia", b"minf", b"stbl", b"stsd"], trak)?;
        let big_endian = match stsd {
            Some((start, end)) => {
                let size = (end - start).min(1_024) as usize;
                is_big_endian(&bytes_at(atoms.inner, start, size)?)
            }
            None => false,
        };
        tracks.push(Mp4Track {
            id,
            edit,
            big_endian,
        });
    }
    Ok(tracks)
}

/// Whether the PCM samples of the sample description `stsd` are big-endian and the demuxer takes
/// them for little-endian.
///
/// `in24`, `in32`, `fl32` and `fl64` are unless an atom `enda` says 1 (QuickTime File Format
/// Specification, "Sound Sample Description Extensions").
fn is_big_endian(stsd: &[u8]) -> bool {
    // Version, flags, the number of entries, then the first of them: size and format.
    let coding = stsd.get(12..16).unwrap_or_default();
    let either = [b"in24", b"in32", b"fl32", b"fl64"];
    either.iter().any(|&name| name == coding)
        && !stsd
            .windows(6)
            .any(|w| w.starts_with(b"enda") && w.ends_with(&[0, 1]))
}

fn edit(movie_scale: Option<u32>, track_scale: Option<u32>, elst: &[u8]) -> Option<Edit> {
    let (movie_scale, track_scale) = (movie_scale?, track_scale?);
    if word(elst, 4) != Some(1) {
        return None;
    }
    let (duration, start) = if elst.first() == Some(&1) {
        (double(elst, 8)?, double(elst, 16)? as i64)
    } else {
        (
            u64::from(word(elst, 8)?),
            i64::from(word(elst, 12)?.cast_signed()),
        )
    };
    // The duration counts ticks of the movie, which are coarser than samples:
    // round up and let the end of the track cut.
    let ticks = (u128::from(duration) * u128::from(track_scale)).div_ceil(u128::from(movie_scale));
    Some(Edit {
        start: u64::try_from(start).ok()?,
        length: u64::try_from(ticks).ok().filter(|&t| t > 0),
        timescale: track_scale,
    })
}

/// Timescale of an `mvhd` or `mdhd`, which begin alike.
fn timescale(atom: &[u8]) -> Option<u32> {
    word(atom, if atom.first() == Some(&1) { 20 } else { 12 }).filter(|&scale| scale > 0)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

fn double(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
    Some(u64::from_be_bytes(bytes))
}

/// Start and end of an atom's content in the file.
type Span = (u64, u64);

struct Atoms<'a, R> {
    inner: &'a mut R,
    left: usize,
}

impl<R: Read + Seek> Atoms<'_, R> {
    /// The first atom of type `name` in `span`.
    fn child(&mut self, name: &[u8; 4], span: Span) -> Result<Option<Span>> {
        let (mut at, end) = span;
        while at < end && self.left > 0 {
            self.left -= 1;
            let head = bytes_at(self.inner, at, 16)?;
            let (Some(size), Some(kind)) = (word(&head, 0), head.get(4..8)) else {
                break;
            };
            let (size, header) = match size {
                0 => (end - at, 8),
                1 => (double(&head, 8).unwrap_or(0), 16),
                size => (u64::from(size), 8),
            };
            if size < header || size > end - at {
                break;
            }
            if kind == name {
                return Ok(Some((at + header, at + size)));
            }
            at += size;
        }
        Ok(None)
    }

    fn descend(&mut self, path: &[&[u8; 4]], span: Span) -> Result<Option<Span>> {
        let mut span = Some(span);
        for name in path {
            span = match span {
                Some(parent) => self.child(name, parent)?,
                None => None,
            };
        }
        Ok(span)
    }

    /// The first bytes of an atom, enough for the headers read here.
    fn head(&mut self, span: Span) -> Result<Vec<u8>> {
        bytes_at(self.inner, span.0, 64.min((span.1 - span.0) as usize))
    }
}

/// Why an Ogg file `start..end` does not end where its streams do (RFC 3533,
/// section 6), if so.
pub(crate) fn ogg_end<R: Read + Seek>(
    inner: &mut R,
    start: u64,
    end: u64,
) -> Result<Option<&'static str>> {
    /// Header, 255 lacing values and as many full segments.
    const MAX_PAGE: u64 = 27 + 255 + 255 * 255;
    let room = (end - start).min(MAX_PAGE);
    let tail = bytes_at(inner, end - room, room as usize)?;
    let Some(at) = tail.windows(4).rposition(|w| w == b"OggS") else {
        return Ok(Some("its last Ogg page is cut"));
    };
    let page = tail.get(at..).unwrap_or_default();
    let (Some(&flags), Some(&segments)) = (page.get(5), page.get(26)) else {
        return Ok(Some("its last Ogg page is cut"));
    };
    let lacing = page.get(27..27 + usize::from(segments));
    let whole = lacing.is_some_and(|lacing| {
        let body: usize = lacing.iter().map(|&n| usize::from(n)).sum();
        page.len() >= 27 + lacing.len() + body
    });
    Ok(if !whole {
        Some("its last Ogg page is cut")
    } else if flags & 4 == 0 {
        Some("no Ogg page ends its stream")
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn atom(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let mut atom = (content.len() as u32 + 8).to_be_bytes().to_vec();
        atom.extend(name);
        atom.extend(content);
        atom
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_be_bytes()).collect()
    }

    #[test]
    fn the_edits_of_the_tracks_are_found() {
        let mdia = atom(b"mdia", &atom(b"mdhd", &words(&[0, 0, 0, 44_100, 0])));
        let edts = atom(
            b"edts",
            &atom(b"elst", &words(&[0, 1, 1_000, 1_024, 0x1_0000])),
        );
        let trak = |id| {
            let tkhd = atom(b"tkhd", &words(&[0, 0, 0, id]));
            atom(b"trak", &[tkhd, mdia.clone(), edts.clone()].concat())
        };
        let mvhd = atom(b"mvhd", &words(&[0, 0, 0, 1_000]));
        let moov = atom(b"moov", &[mvhd, trak(1), trak(2)].concat());
        let file = [atom(b"ftyp", b"M4A "), atom(b"mdat", &[0; 99]), moov].concat();
        let length = file.len() as u64;
        let expected = Edit {
            start: 1_024,
            length: Some(44_100),
            timescale: 44_100,
        };
        let tracks = mp4_tracks(&mut Cursor::new(file), length).unwrap();
        let edits: Vec<_> = tracks.iter().map(|t| (t.id, t.edit)).collect();
        assert_eq!(edits, [(1, Some(expected)), (2, Some(expected))]);
    }

    #[test]
    fn quicktimes_samples_are_big_endian_unless_it_says_otherwise() {
        let stsd = |coding: &[u8; 4], enda: &[u8]| {
            [&[0; 7][..], &[1, 0, 0, 0, 114], coding, &[0; 40], enda].concat()
        };
        for (coding, enda, expected) in [
            (b"in24", &b"enda\0\0"[..], true),
            (b"in24", b"", true),
            (b"in24", b"enda\0\x01", false),
            (b"fl32", b"enda\0\0", true),
            (b"sowt", b"", false),
            (b"twos", b"enda\0\0", false),
        ] {
            assert_eq!(is_big_endian(&stsd(coding, enda)), expected, "{coding:?}");
        }
        assert!(!is_big_endian(&[]));
    }

    #[test]
    fn ogg_ends_are_judged() {
        let page = |flags: u8| {
            let mut page = b"OggS\0".to_vec();
            page.push(flags);
            page.extend([0; 20]);
            page.extend([2, 3, 4]);
            page.extend([9; 7]);
            page
        };
        let said = |bytes: &[u8]| ogg_end(&mut Cursor::new(bytes), 0, bytes.len() as u64).unwrap();
        let file = [page(2), page(4)].concat();
        assert_eq!(said(&file), None);
        assert_eq!(
            said(&file[..file.len() - 1]),
            Some("its last Ogg page is cut")
        );
        assert_eq!(said(&file[..40]), Some("its last Ogg page is cut"));
        assert_eq!(said(&page(2)), Some("no Ogg page ends its stream"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_edit_at_worst(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let length = bytes.len() as u64;
            let _ = mp4_tracks(&mut Cursor::new(&bytes), length).unwrap();
            let _ = ogg_end(&mut Cursor::new(&bytes), 0, length).unwrap();
        }
    }
}
