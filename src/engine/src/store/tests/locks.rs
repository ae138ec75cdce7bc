//! Locks that somebody else holds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use super::*;
use crate::fs::Handle;

/// Holds the lock of a file of the cache as a process does that is stopped, or one of another user.
fn held(home: &Home, name: &str) -> Box<dyn Handle> {
    let file = RealFs.open(&home.root().join(name)).unwrap();
    assert!(file.try_lock().unwrap(), "{name}");
    file
}

#[test]
fn nobody_but_those_who_may_write_can_lock_a_file() {
    for (folder, expected) in [(0o755, 0o600), (0o775, 0o660)] {
        let home = Home::new();
        fs::create_dir(home.root()).unwrap();
        fs::set_permissions(home.root(), fs::Permissions::from_mode(folder)).unwrap();
        let store = home.open();
        let claim = store.claim(&key(0), never_wait).unwrap();
        let _scratch = store.scratch(&key(1), &origin(), never_wait).unwrap();
        perform_all(&store, 0..2);
        drop(claim);
        let files: Vec<_> = ["leases", "claims"]
            .iter()
            .flat_map(|name| {
                let dir = home.root().join(name);
                names_in(&dir).into_iter().map(move |name| dir.join(name))
            })
            .chain(
                ["gate.lock", "gate.turn", "index.lock", "index.users"]
                    .iter()
                    .chain(&["index.db", "index.db-wal", "index.db-shm"])
                    .map(|name| home.root().join(name)),
            )
            .collect();
        assert!(files.len() > 8, "{files:?}");
        for file in files {
            let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, expected, "{}", file.display());
        }
    }
}

#[test]
fn permissions_that_were_widened_are_narrowed() {
    let home = Home::new();
    perform_all(&home.open(), 0..1);
    let names = ["gate.lock", "gate.turn", "index.lock", "index.db"];
    for name in names {
        let path = home.root().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    perform_all(&home.open(), 1..2);
    for name in names {
        let meta = fs::metadata(home.root().join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_held_index_hangs_nobody() {
    for name in ["index.lock", "index.users"] {
        let home = Home::new();
        perform_all(&home.open(), 0..3);
        let _held = held(&home, name);
        let begun = Instant::now();
        let store = home.open();
        assert_eq!(known(&store, 3), 3, "{name}");
        perform_all(&store, 3..4);
        assert_eq!(known(&store, 4), 4, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[test]
fn a_database_that_is_kept_busy_hangs_nobody() {
    let home = Home::new();
    perform_all(&home.open(), 0..3);
    let other = rusqlite::Connection::open(home.root().join("index.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let store = home.open();
    perform_all(&store, 3..4);
    assert_eq!(known(&store, 4), 4);
    let warnings = home.warnings();
    assert!(
        warnings.iter().any(|w| w.starts_with("waiting for `")),
        "{warnings:?}"
    );
}

#[test]
fn a_held_gate_is_said_and_can_be_left() {
    for name in ["gate.lock", "gate.turn"] {
        let home = Home::new();
        let store = home.open();
        perform_all(&store, 0..1);
        let _held = held(&home, name);
        let cancel = Cancel::default();
        store.cancel_with(&cancel);
        let heard = home.warnings.clone();
        let waiter = std::thread::spawn(move || {
            // Cancels as soon as the user has been told.
            let begun = Instant::now();
            while heard.lock().unwrap().is_empty() && begun.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(10));
            }
            cancel.set();
        });
        let error = store.hold(&[key(9)], store.generation()).unwrap_err();
        assert!(matches!(error, StoreError::Cancelled), "{name}: {error}");
        waiter.join().unwrap();
        let warnings = home.warnings();
        let pid = std::process::id();
        let named = format!("{name}`, locked by process {pid}");
        assert!(warnings[0].contains(&named), "{warnings:?}");
    }
}
