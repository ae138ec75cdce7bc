//! The structure of a SoundFont 2 file, checked before a player reads it.
//!
//! `rustysynth` takes what a file says of itself at its word: it sets memory aside for a chunk of
//! 4 GiB that is not there, panics where a list points beyond the next, and copies 8 GB of
//! generators out of half a megabyte whose zones overlap. So the lengths of chunks are held
//! against the file, and the indices of each list against the list that they lead to (SoundFont
//! 2.04, sections 3.1, 5 and 7: "monotonically increasing"). The samples are passed over.

use std::io::{Read, Seek, SeekFrom};

use crate::Error;

/// The lists of a SoundFont, in their order.
const LISTS: [&[u8; 4]; 3] = [b"INFO", b"sdta", b"pdta"];

/// A list whose records lead into another.
struct Index {
    list: &'static [u8; 4],
    /// Bytes of a record.
    record: usize,
    /// Where in it the index stands, as a `u16`.
    place: usize,
    other: &'static [u8; 4],
}

const fn index(
    list: &'static [u8; 4],
    (record, place): (usize, usize),
    other: &'static [u8; 4],
) -> Index {
    Index {
        list,
        record,
        place,
        other,
    }
}

const INDICES: [Index; 4] = [
    index(b"phdr", (38, 24), b"pbag"),
    index(b"pbag", (4, 0), b"pgen"),
    index(b"inst", (22, 20), b"ibag"),
    index(b"ibag", (4, 0), b"igen"),
];

/// Indices are 16 bits wide, so more records than these are of no use.
const MAX_RECORDS: u64 = 1 << 16;
/// Bytes of a record that is led to, a zone or a generator.
const OTHER_RECORD: usize = 4;
/// The widest record, that of a sample's header.
const MAX_RECORD: u64 = 46;

/// Checks the file in `reader` from its beginning to its end.
///
/// # Errors
/// [`Error::SoundFontDamaged`], [`Error::SoundFontIo`].
pub(crate) fn check<R: Read + Seek>(reader: &mut R) -> Result<(), Error> {
    let length = reader.seek(SeekFrom::End(0)).map_err(Error::SoundFontIo)?;
    // After "RIFF", a length, "sfbk".
    let mut at = 12;
    let mut parameters = Vec::new();
    for kind in LISTS {
        let list = bytes(reader, at, 12)?;
        if list.get(..4) != Some(b"LIST") || list.get(8..) != Some(kind) {
            let name = String::from_utf8_lossy(kind);
            return Err(damaged(format!("no list `{name}` at byte {at}")));
        }
        let end = at + 8 + u64::from(word(&list, 4));
        at += 12;
        if end > length {
            return Err(beyond(kind, end, length));
        }
        while at < end {
            let head = bytes(reader, at, 8)?;
            let (id, size) = (head.get(..4).unwrap_or_default(), u64::from(word(&head, 4)));
            at += 8;
            if at + size > end {
                return Err(beyond(id, at + size, end));
            }
            if matches!(id, b"ifil" | b"iver") && size != 4 {
                return Err(damaged(format!("a version of {size} bytes, expected 4")));
            }
            // Modulators are not played.
            if kind == b"pdta" && id != b"pmod" && id != b"imod" {
                let name = String::from_utf8_lossy(id).into_owned();
                if size > MAX_RECORDS * MAX_RECORD {
                    return Err(damaged(format!("a list `{name}` of {size} bytes")));
                }
                parameters.push((name, bytes(reader, at, size)?));
            }
            at += size;
        }
    }
    check_indices(&parameters)
}

fn check_indices(parameters: &[(String, Vec<u8>)]) -> Result<(), Error> {
    // A list that is there twice could be checked as one and played as the other.
    let list = |id: &[u8; 4]| {
        let mut lists = parameters.iter().filter(|(name, _)| name.as_bytes() == id);
        match (lists.next(), lists.next()) {
            (Some((_, list)), None) => Ok(list),
            (found, _) => Err(damaged(format!(
                "{} list `{}`, expected one",
                if found.is_some() {
                    "more than one"
                } else {
                    "no"
                },
                String::from_utf8_lossy(id)
            ))),
        }
    };
    for Index {
        list: id,
        record: size,
        place,
        other,
    } in INDICES
    {
        // The last record of each list only ends it.
        let last = (list(other)?.len() / OTHER_RECORD).saturating_sub(1);
        let mut before = 0;
        for record in list(id)?.chunks_exact(size) {
            let index = record.get(place..place + 2).unwrap_or(&[0, 0]);
            let index = usize::from(index[0]) | usize::from(index[1]) << 8;
            if index < before || index > last {
                return Err(damaged(format!(
                    "a record of `{}` leads to record {index} of `{}`, expected {before} to {last}",
                    String::from_utf8_lossy(id),
                    String::from_utf8_lossy(other)
                )));
            }
            before = index;
        }
    }
    Ok(())
}

fn damaged(what: String) -> Error {
    Error::SoundFontDamaged { what }
}

fn beyond(id: &[u8], end: u64, limit: u64) -> Error {
    let id = String::from_utf8_lossy(id).escape_debug().to_string();
    damaged(format!(
        "the chunk `{id}` ends at byte {end}, beyond {limit}"
    ))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    u32::from_le_bytes(word.unwrap_or_default())
}

/// `count` bytes from `at`; the caller knows that they are few.
fn bytes<R: Read + Seek>(reader: &mut R, at: u64, count: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader
        .seek(SeekFrom::Start(at))
        .and_then(|_| reader.take(count).read_to_end(&mut bytes))
        .map_err(Error::SoundFontIo)?;
    if bytes.len() as u64 != count {
        return Err(damaged(format!(
            "it ends at byte {}",
            at + bytes.len() as u64
        )));
    }
    Ok(bytes)
}
