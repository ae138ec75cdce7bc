//! Names of any bytes as text, and text from outside as one line for a terminal.
//!
//! A file name is a string of bytes; JSON, the records of the cache and people want text. There is
//! one way of writing for all of them: a byte that is not part of valid UTF-8 is written as `\xHH`,
//! and a backslash that begins a literal `\x` as `\x5C`. So distinct names have distinct texts, and
//! [`to_path`] gives the name back.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Appends `name` to `text`. Distinct names give distinct texts.
pub fn push_name(text: &mut String, name: &OsStr) {
    if let Some(plain) = name.to_str().filter(|name| !name.contains('\\')) {
        text.push_str(plain);
        return;
    }
    for chunk in name.as_bytes().utf8_chunks() {
        // A name that spells such an escape itself must not look like another.
        text.push_str(&chunk.valid().replace("\\x", "\\x5Cx"));
        push_bytes(text, chunk.invalid());
    }
}

/// The text of a file name, a path or a command line argument. Distinct names give distinct texts.
pub fn of_name(name: impl AsRef<OsStr>) -> String {
    let name = name.as_ref();
    let mut text = String::with_capacity(name.len());
    push_name(&mut text, name);
    text
}

/// The path whose text is `text`: every `\xHH` is a byte.
pub fn to_path(text: &str) -> PathBuf {
    let Some(first) = text.find("\\x") else {
        return PathBuf::from(text);
    };
    let (before, mut rest) = text.as_bytes().split_at(first);
    let mut bytes = before.to_vec();
    while let [plain, after @ ..] = rest {
        let (byte, after) = escaped(rest).unwrap_or((*plain, after));
        bytes.push(byte);
        rest = after;
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// The byte of the escape that `text` begins with, and what follows it.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, after) = text.strip_prefix(b"\\x")?.split_at_checked(2)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some((byte, after))
}

/// `text` without what a terminal obeys instead of showing: control characters (line breaks, tabs
/// and escape sequences among them), line and paragraph separators, and marks that reorder text.
/// Their bytes are written as `\xHH`, so that what comes from outside stays within its line, and
/// an item's name can be read off the screen, whatever it is.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            push_bytes(&mut shown, c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal, or a program that shows text, obeys `c` instead of showing it.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Line and paragraph separators.
            '\u{2028}' | '\u{2029}'
            // Marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9).
            | '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

fn push_bytes(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "\\x{byte:02X}");
    }
}

/// For `#[serde(with = "…")]`: a path as its text.
pub(crate) mod path {
    use super::{Path, PathBuf, of_name, to_path};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&of_name(path))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(to_path(&String::deserialize(from)?))
    }
}

/// The same for a path that may be missing.
pub(crate) mod path_option {
    use super::{PathBuf, of_name, to_path};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(of_name).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        Ok(text.as_deref().map(to_path))
    }
}

/// The same for paths by name.
pub(crate) mod path_map {
    use std::collections::BTreeMap;

    use super::{PathBuf, of_name, to_path};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        paths: &BTreeMap<String, PathBuf>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(paths.iter().map(|(name, path)| (name, of_name(path))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<String, PathBuf>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(from)?;
        let paths = texts.into_iter();
        Ok(paths.map(|(name, text)| (name, to_path(&text))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of (name on the disk, its text).
    const NAMES: [(&[u8], &str); 10] = [
        (b"song.wav", "song.wav"),
        (b"caf\xE9.mp3", "caf\\xE9.mp3"),
        (b"caf\\xE9.mp3", "caf\\x5CxE9.mp3"),
        (b"caf\\x5CxE9.mp3", "caf\\x5Cx5CxE9.mp3"),
        ("café.mp3".as_bytes(), "café.mp3"),
        (b"\\\xFF", "\\\\xFF"),
        (b"\\\\xFF", "\\\\x5CxFF"),
        (b"a\\b\xC3", "a\\b\\xC3"),
        (b"new\nline", "new\nline"),
        (b"\xF0\x9F\\x", "\\xF0\\x9F\\x5Cx"),
    ];

    #[test]
    fn names_have_texts_of_their_own_and_come_back() {
        for (name, text) in NAMES {
            let name = OsStr::from_bytes(name);
            assert_eq!(of_name(name), text);
            assert_eq!(to_path(text), Path::new(name), "{text}");
        }
        let texts: std::collections::BTreeSet<&str> = NAMES.iter().map(|row| row.1).collect();
        assert_eq!(texts.len(), NAMES.len());
    }

    #[test]
    fn what_is_no_escape_stays() {
        for text in ["\\x", "\\x4", "\\xZZ", "\\x+1", "\\", "a\\n", "é\\xé0"] {
            assert_eq!(to_path(text), Path::new(text));
        }
    }

    #[test]
    fn what_a_terminal_obeys_is_shown() {
        let rows = [
            ("song é 日本 \\x41", "song é 日本 \\x41"),
            ("a\nall is well", "a\\x0Aall is well"),
            ("\u{1b}[2Jx\r\t\u{7f}", "\\x1B[2Jx\\x0D\\x09\\x7F"),
            ("\u{9b}31m\u{85}", "\\xC2\\x9B31m\\xC2\\x85"),
            ("\u{202e}gnp.\u{2066}", "\\xE2\\x80\\xAEgnp.\\xE2\\x81\\xA6"),
            ("a\u{2028}b\u{200f}", "a\\xE2\\x80\\xA8b\\xE2\\x80\\x8F"),
        ];
        for (text, shown) in rows {
            assert_eq!(visible(text), shown);
        }
        assert!(matches!(visible("plain"), Cow::Borrowed(_)));
        // What is read off the screen names the file.
        assert_eq!(to_path(&visible("a\u{85}\nb")), Path::new("a\u{85}\nb"));
    }
}
