//! A finished file gets its name.
//!
//! Objects and commits are written elsewhere and renamed into place, and a name that is taken
//! must stay what it is: two processes may bring the same object, or choose the same name for a
//! commit. Most file systems rename without replacing, or have hard links, which do not replace
//! either. Some have neither (exFAT through FUSE, some network mounts of FUSE). There, a
//! process that gives a name holds the kernel lock of `names.lock` while it looks whether the name
//! is free and renames. The lock ends with its process, so that a crash leaves nothing to clear, and readers
//! need no lock: the rename itself is atomic.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Layout;
use crate::fs::{Fs, lock_holders};

/// How long another process may hold the lock, which takes it as long as a file takes to get a name.
const PATIENCE: Duration = Duration::from_secs(30);

/// Renames, failing with `AlreadyExists` if there is something at `to`.
///
/// # Errors
/// As [`Fs::rename_new`]; the file system has no locks either.
pub(crate) fn publish(fs: &dyn Fs, layout: &Layout, from: &Path, to: &Path) -> io::Result<()> {
    match fs.rename_new(from, to) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        renamed => return renamed,
    }
    let lock = fs.open_lock(&layout.root.join("names.lock"), layout.lock_mode)?;
    let begun = Instant::now();
    while !lock.try_lock()? {
        if begun.elapsed() > PATIENCE {
            let holders = lock_holders(fs, &*lock);
            let reason = format!("`names.lock` of the cache is held by {holders}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    match fs.lstat(to) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs.rename(from, to),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::fs::RealFs;
    use crate::fs::sim::SimFs;

    #[test]
    fn a_name_that_is_taken_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let without = SimFs::new(&root, &[]).unwrap().without_links();
        let disks: [(&str, &dyn Fs); 2] = [("with links", &RealFs), ("without", &without)];
        for (name, fs) in disks {
            let layout = Layout::new(root.join(name), 0o600);
            std::fs::create_dir(&layout.root).unwrap();
            let [from, to, other] = ["from", "to", "other"].map(|file| layout.root.join(file));
            std::fs::write(&from, "one").unwrap();
            std::fs::write(&other, "two").unwrap();
            publish(fs, &layout, &from, &to).unwrap();
            assert!(!from.exists(), "{name}");
            let rows = [
                (&other, &to, io::ErrorKind::AlreadyExists),
                (&from, &layout.root.join("free"), io::ErrorKind::NotFound),
                (&other, &layout.tmp.join("x"), io::ErrorKind::NotFound),
            ];
            for (from, to, kind) in rows {
                let error = publish(fs, &layout, from, to).unwrap_err();
                assert_eq!(error.kind(), kind, "{name}");
            }
            assert_eq!(std::fs::read_to_string(&to).unwrap(), "one", "{name}");
            assert_eq!(std::fs::read_to_string(&other).unwrap(), "two", "{name}");
        }
    }

    #[test]
    fn one_of_many_has_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let fs = SimFs::new(&root, &[]).unwrap().without_links();
        let layout = Layout::new(root, 0o600);
        let won = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (fs, layout, won) = (&fs, &layout, &won);
                scope.spawn(move || {
                    for n in 0..50 {
                        let from = layout.root.join(format!("{thread}-{n}"));
                        std::fs::write(&from, "x").unwrap();
                        match publish(fs, layout, &from, &layout.root.join(format!("{n}"))) {
                            Ok(()) => _ = won.fetch_add(1, Ordering::Relaxed),
                            Err(error) => assert_eq!(error.kind(), io::ErrorKind::AlreadyExists),
                        }
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 50);
    }
}
