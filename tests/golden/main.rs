//! Golden bytes and values: what is written today is what was written before.
//!
//! A cache holds what stages wrote, under keys that name each kind's `VERSION`. If a stage began
//! to write other bytes under the same version, old results would pass for new ones. So the bytes
//! of every format, and of every stage whose arithmetic is exact, stand in `files/`, one file a
//! version; the others are held to values within a tolerance. CONTRIBUTING.md says how to accept a
//! change.

#![allow(clippy::unwrap_used, reason = "for tests")]

#[path = "../common/mod.rs"]
mod common;

mod cache;
mod formats;
mod stages;

use std::fs;
use std::path::{Path, PathBuf};

/// Something that writes bytes, and the version that says which.
struct Writer {
    /// Begins the names of its files.
    name: &'static str,
    /// What the version is now; 0 where no cache holds the bytes and none is needed.
    version: u32,
    /// Where the version stands, to be told to whoever changed the bytes.
    constant: &'static str,
    /// Ends the names of its files.
    ending: &'static str,
}

impl Writer {
    fn file(&self, version: u32) -> PathBuf {
        let name = match version {
            0 => format!("{}{}", self.name, self.ending),
            version => format!("{}-{version}{}", self.name, self.ending),
        };
        files().join(name)
    }

    /// Holds `bytes` against the newest file, which may be of an older version: a stage's version
    /// also rises for what does not touch these bytes. Makes a file for the present version where
    /// the bytes are others, there is none, and `BLESS=1` is set.
    #[track_caller]
    fn check(&self, bytes: &[u8]) {
        let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
        let versions = (1..=self.version).rev().chain([0]);
        let newest = versions
            .map(|version| (version, self.file(version)))
            .find(|(_, file)| file.is_file());
        if let Some((version, file)) = newest {
            let golden = fs::read(&file).unwrap();
            if golden == bytes {
                return;
            }
            if version == self.version && !(bless && version == 0) {
                panic!("{}", self.complaint(&golden, bytes));
            }
        }
        let file = self.file(self.version);
        assert!(
            bless,
            "there is no `{}`: if version {} of `{}` is new, say `BLESS=1 cargo test --test \
             golden` and commit the file beside those of the older versions",
            shown(&file),
            self.version,
            self.name
        );
        fs::create_dir_all(files()).unwrap();
        fs::write(&file, bytes).unwrap();
    }

    fn complaint(&self, golden: &[u8], bytes: &[u8]) -> String {
        let shown = shown(&self.file(self.version));
        let at = golden.iter().zip(bytes).position(|(a, b)| a != b);
        let at = at.unwrap_or(golden.len().min(bytes.len()));
        let what = format!(
            "`{}` writes other bytes than `{shown}`: {} bytes, expected {}, the first difference \
             at byte {at}",
            self.name,
            bytes.len(),
            golden.len()
        );
        match self.version {
            0 => format!(
                "{what}\n  if this is meant, say `BLESS=1 cargo test --test golden`, and say it in \
                 CHANGELOG.md"
            ),
            version => format!(
                "{what}\n  if this is meant, raise {} to {}, then say \
                 `BLESS=1 cargo test --test golden`;\n  under version {version} caches hold the \
                 old bytes, and would serve them for the new ones",
                self.constant,
                version + 1
            ),
        }
    }

    /// The files of all versions up to the present one, oldest first.
    fn all(&self) -> Vec<(u32, Vec<u8>)> {
        (1..=self.version)
            .filter_map(|version| Some((version, fs::read(self.file(version)).ok()?)))
            .collect()
    }
}

/// The path as seen from the repository.
fn shown(file: &Path) -> String {
    let file = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    file.display().to_string()
}

fn files() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/files")
}

/// Fails unless `got` is as `expected`, but for `tolerance`, value by value.
#[track_caller]
fn close(stage: &str, constant: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "`{stage}`: {got:?}");
    for (i, (x, y)) in got.iter().zip(expected).enumerate() {
        assert!(
            (x - y).abs() <= tolerance,
            "`{stage}` computes {x} for value {i}, expected {y} ± {tolerance}\n  if this is meant, \
             raise {constant} and put these values in place:\n  {got:?}"
        );
    }
}

#[test]
fn a_change_of_bytes_is_told_with_the_version_to_raise() {
    let writer = Writer {
        name: "segment",
        version: 3,
        constant: "`VERSION` in segment/format.rs",
        ending: ".bin",
    };
    let text = writer.complaint(b"abc", b"abx");
    for part in [
        "first difference at byte 2",
        "raise `VERSION` in segment/format.rs to 4",
        "BLESS=1",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
