//! Bytes of a MusicXML document to text that is safe to parse.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_ATTRIBUTES, MAX_DEPTH, MAX_NAMESPACES, MAX_TEXT};

/// Bytes at the head in which the root element is looked for when sniffing;
/// comments and the document type come before it.
const HEAD: usize = 64 << 10;

/// Whether the bytes are XML with a MusicXML root, in any of the encodings taken.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    // An even cut keeps UTF-16 whole; a UTF-8 character cut in two must not count.
    let head = bytes.get(..bytes.len().min(HEAD)).unwrap_or(&[]);
    let text = match encoding(head) {
        Encoding::Utf16 { little } => utf16_lossy(head, little),
        Encoding::Utf8 => String::from_utf8_lossy(head).into_owned(),
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    text.starts_with('<') && (text.contains("<score-partwise") || text.contains("<score-timewise"))
}

/// The text of a document: UTF-8 or UTF-16 with or without a byte order mark,
/// or Latin-1 where the declaration says so.
///
/// # Errors
/// Refuses invalid encodings, more than [`MAX_TEXT`] bytes, entity
/// declarations, nesting deeper than [`MAX_DEPTH`], elements of more than
/// [`MAX_ATTRIBUTES`], and more than [`MAX_NAMESPACES`]. A plain document type,
/// which MusicXML files have, passes.
pub(crate) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>> {
    if bytes.len() as u64 > MAX_TEXT {
        return Err(ScoreError::TooLarge {
            what: "size in bytes",
            place: "MusicXML text".to_owned(),
            got: bytes.len() as u64,
            limit: MAX_TEXT,
        });
    }
    let text: Cow<'_, str> = match encoding(bytes) {
        Encoding::Utf16 { little } => Cow::Owned(utf16(bytes, little)?),
        Encoding::Utf8 => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) if declares_latin1(bytes) => {
                Cow::Owned(bytes.iter().map(|&b| char::from(b)).collect())
            }
            Err(_) => return Err(ScoreError::Encoding { encoding: "UTF-8" }),
        },
    };
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}').trim_start()),
        Cow::Owned(text) => Cow::Owned(text.trim_start_matches('\u{feff}').trim_start().to_owned()),
    };
    if text.contains("<!ENTITY") {
        return Err(ScoreError::Entities);
    }
    check_depth(&text)?;
    check_attributes(&text)?;
    check_namespaces(&text)?;
    Ok(text)
}

enum Encoding {
    Utf8,
    Utf16 { little: bool },
}

fn encoding(bytes: &[u8]) -> Encoding {
    match bytes {
        [0xFF, 0xFE, ..] | [b'<', 0, ..] => Encoding::Utf16 { little: true },
        [0xFE, 0xFF, ..] | [0, b'<', ..] => Encoding::Utf16 { little: false },
        _ => Encoding::Utf8,
    }
}

fn units(bytes: &[u8], little: bool) -> impl Iterator<Item = u16> + '_ {
    bytes.as_chunks::<2>().0.iter().map(move |&pair| {
        if little {
            u16::from_le_bytes(pair)
        } else {
            u16::from_be_bytes(pair)
        }
    })
}

fn utf16(bytes: &[u8], little: bool) -> Result<String> {
    char::decode_utf16(units(bytes, little))
        .collect::<Result<String, _>>()
        .map_err(|_| ScoreError::Encoding { encoding: "UTF-16" })
}

fn utf16_lossy(bytes: &[u8], little: bool) -> String {
    char::decode_utf16(units(bytes, little))
        .map(|c| c.unwrap_or('\u{fffd}'))
        .collect()
}

fn declares_latin1(bytes: &[u8]) -> bool {
    let head =
        String::from_utf8_lossy(bytes.get(..bytes.len().min(200)).unwrap_or(&[])).to_lowercase();
    let declaration = head.split("?>").next().unwrap_or("");
    declaration.contains("iso-8859-1") || declaration.contains("windows-1252")
}

/// Counts tags without parsing them, before a parser recurses into them. Tags
/// in comments and character data count too, which no real score minds.
fn check_depth(text: &str) -> Result<()> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = rest.get(at + 1..).unwrap_or("");
        match rest.as_bytes().first() {
            Some(b'/') => depth = depth.saturating_sub(1),
            Some(b'!' | b'?') | None => {}
            Some(_) => {
                let end = rest.find(['>', '<']).unwrap_or(rest.len());
                if !rest.get(..end).unwrap_or("").ends_with('/') {
                    depth += 1;
                }
                check("nesting of elements", depth, MAX_DEPTH)?;
            }
        }
    }
    Ok(())
}

/// Counts what may be attributes between one `<` and the next, where all attributes of an element
/// lie: XML allows no `<` in their values. Each has an equals sign before a quote; text that holds
/// such pairs counts too, which no real score minds.
fn check_attributes(text: &str) -> Result<()> {
    let mut count = 0;
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'<' => count = 0,
            b'=' => {
                let blank = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
                rest = rest.get(blank..).unwrap_or(&[]);
                if let [b'"' | b'\'', ..] = rest {
                    count += 1;
                    check("number of attributes of an element", count, MAX_ATTRIBUTES)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Counts the names after `xmlns`, wherever that stands.
fn check_namespaces(text: &str) -> Result<()> {
    let mut names = BTreeSet::new();
    for (at, declaration) in text.match_indices("xmlns") {
        let name = text.get(at + declaration.len()..).unwrap_or("");
        let end = name.find(|c: char| c == '=' || c.is_ascii_whitespace());
        names.insert(name.get(..end.unwrap_or(name.len())).unwrap_or(""));
        check("number of namespaces", names.len(), MAX_NAMESPACES)?;
    }
    Ok(())
}

fn check(what: &'static str, got: usize, limit: usize) -> Result<()> {
    if got <= limit {
        return Ok(());
    }
    Err(ScoreError::TooLarge {
        what,
        place: "MusicXML text".to_owned(),
        got: got as u64,
        limit: limit as u64,
    })
}
