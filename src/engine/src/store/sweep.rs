//! Removing what dead processes and collections left.
//!
//! Cleaning removes only what this program made: what lies in a folder of the cache and has a name
//! that the program gives there. Other files stay. It never acts through a symbolic link.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use stage_core::Digest;

use super::error::{Result, StoreError};
use super::lease::{PATIENCE, lease_files, same};
use super::{Layout, Ulid};
use crate::fs::{self, DirEntry, FileKind, Fs, Handle};

/// The claim of a process that collects.
pub(super) const COLLECTION: &str = "collection";

/// How the name of a commit in the trash begins.
pub(super) const COMMIT: &str = "commit-";

/// How the name of something in the trash begins that is not the program's, and stays.
pub(super) const STRAY: &str = "stray-";

/// Lists a folder of the cache.
pub(super) fn entries(fs: &dyn Fs, dir: &Path) -> Result<Vec<DirEntry>> {
    fs::read_own_dir(fs, dir).map_err(StoreError::io("list", dir))
}

/// The process whose temporary file or folder has this name: `<lease>-<number>`.
fn owner_of_temporary(name: &OsStr) -> Option<Ulid> {
    let (owner, number) = name.to_str()?.split_once('-')?;
    number.parse::<u64>().ok()?;
    owner.parse().ok()
}

/// Whether a name in `claims/` is that of a claim: of an action, of a scratch folder, or of a
/// collection.
fn is_claim(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        let key = name.strip_suffix(".scratch").unwrap_or(name);
        name == COLLECTION || key.parse::<Digest>().is_ok()
    })
}

/// Whether an entry of the trash is an object or a commit that was set aside, or a link or a pipe
/// that stood in the place of one: to unlink it touches nothing else. Anything else came from
/// somewhere else, and stays; so does a folder, which may hold files of somebody's.
pub(super) fn is_trash(entry: &DirEntry) -> bool {
    let is_ours = |name: &str| match name.strip_prefix(COMMIT) {
        Some(commit) => commit.parse::<Ulid>().is_ok(),
        None => name.split_once('-').is_some_and(|(ulid, digest)| {
            ulid.parse::<Ulid>().is_ok() && digest.parse::<Digest>().is_ok()
        }),
    };
    entry.kind != FileKind::Dir && entry.name.to_str().is_some_and(is_ours)
}

/// Whether an entry of `scratch/` is the folder of an action.
pub(super) fn is_scratch(entry: &DirEntry) -> bool {
    let is_key = |name: &str| name.parse::<Digest>().is_ok();
    entry.kind == FileKind::Dir && entry.name.to_str().is_some_and(is_key)
}

/// Removes the leases and temporary files of dead processes.
///
/// # Errors
/// The folders cannot be listed. What cannot be removed now is left for the next.
pub(super) fn tmp(fs: &dyn Fs, layout: &Layout) -> Result<()> {
    let mut living = Vec::new();
    for (id, path) in lease_files(fs, layout)? {
        let Ok(file) = fs.open_lock(&path, layout.lock_mode) else {
            living.push(id);
            continue;
        };
        if matches!(file.try_lock(), Ok(true)) {
            // Its temporary files go below, as those of everybody who is not living.
            let _ = fs.remove_file(&path);
        } else {
            living.push(id);
        }
    }
    for entry in entries(fs, &layout.tmp)? {
        let Some(owner) = owner_of_temporary(&entry.name) else {
            continue;
        };
        // A process that took its lease after the listing above is alive, too.
        let lease = layout.leases.join(owner.to_string());
        if living.contains(&owner) || fs.lstat(&lease).is_ok() {
            continue;
        }
        let path = layout.tmp.join(&entry.name);
        let _ = match entry.kind {
            FileKind::Dir => fs::remove_dir_all(fs, &path),
            _ => fs.remove_file(&path),
        };
    }
    Ok(())
}

/// Removes the claims that dead processes left.
///
/// # Errors
/// The folder cannot be listed. What cannot be removed now is left for the next.
pub(super) fn claims(fs: &dyn Fs, layout: &Layout) -> Result<()> {
    let dir = &layout.claims;
    // File → its handle, locked here; `None` if somebody else has the lock.
    let mut files: HashMap<(u64, u64), Option<Box<dyn Handle>>> = HashMap::new();
    for entry in entries(fs, dir)? {
        if entry.kind != FileKind::File || !is_claim(&entry.name) {
            continue;
        }
        let path = dir.join(&entry.name);
        // One that is gone by now must not be made again, hence not `open_lock`.
        let Ok(stat) = fs.lstat(&path) else { continue };
        let place = (stat.dev, stat.ino);
        let file = files.entry(place).or_insert_with(|| {
            let file = fs.open(&path).ok()?;
            let is_free = (0..PATIENCE).any(|tried| {
                if tried > 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                matches!(file.try_lock(), Ok(true))
            });
            is_free.then_some(file)
        });
        if let Some(file) = file
            && matches!(same(fs, &path, &**file), Ok(true))
        {
            let _ = fs.remove_file(&path);
        }
        if stat.links == 1 {
            // It stands for no other claim.
            files.remove(&place);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_program_gives_are_cleaned() {
        let ulid = Ulid::new().to_string();
        let digest = Digest::of(b"x").to_string();
        let entry = |name: &str, kind| DirEntry {
            name: name.into(),
            kind,
        };
        for (name, is_own) in [
            (format!("{ulid}-0"), true),
            (format!("{ulid}-17"), true),
            (ulid.clone(), false),
            (format!("{ulid}-a"), false),
            ("report-2".to_owned(), false),
            ("thesis.txt".to_owned(), false),
        ] {
            let owner = owner_of_temporary(OsStr::new(&name));
            assert_eq!(owner.is_some(), is_own, "{name}");
        }
        for (name, is_own) in [
            (digest.clone(), true),
            (format!("{digest}.scratch"), true),
            ("collection".to_owned(), true),
            (format!("{digest}.txt"), false),
            ("notes".to_owned(), false),
        ] {
            assert_eq!(is_claim(OsStr::new(&name)), is_own, "{name}");
        }
        for (name, kind, is_own) in [
            (format!("{ulid}-{digest}"), FileKind::File, true),
            (format!("commit-{ulid}"), FileKind::File, true),
            (format!("{ulid}-{digest}"), FileKind::Dir, false),
            (format!("{ulid}-{digest}"), FileKind::Symlink, true),
            (format!("stray-{ulid}-{digest}"), FileKind::File, false),
            ("old-photos".to_owned(), FileKind::File, false),
        ] {
            assert_eq!(is_trash(&entry(&name, kind)), is_own, "{name}");
        }
        assert!(is_scratch(&entry(&digest, FileKind::Dir)));
        assert!(!is_scratch(&entry(&digest, FileKind::Symlink)));
        assert!(!is_scratch(&entry("mine", FileKind::Dir)));
    }
}
