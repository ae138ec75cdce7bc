//! Where the index lies on disk: its door, its tables, and copies of another time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::super::lock::{Sharing, Waiting};
use super::{IndexError, Result};
use crate::fs::{self, FileKind, Fs, Handle, lock_holders};

/// Version of the tables. Another one is rebuilt, not migrated.
const SCHEMA: i64 = 4;

/// "pipe": tells our database from another.
const APPLICATION: i64 = 0x7069_7065;

/// How long another process is waited for in one go.
pub(super) const BUSY: Duration = Duration::from_secs(1);

pub(super) const TABLES: &str = "
CREATE TABLE folded(name BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE actions(key BLOB PRIMARY KEY, stamp BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE settings(digest BLOB PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE latest(
  pipeline TEXT, stage TEXT, part TEXT, item TEXT, failed INTEGER,
  stamp BLOB NOT NULL, key BLOB NOT NULL, settings BLOB NOT NULL, inputs BLOB NOT NULL,
  reason TEXT, seconds REAL NOT NULL, bytes INTEGER NOT NULL, output INTEGER NOT NULL,
  run BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY(pipeline, stage, part, item, failed)) WITHOUT ROWID;
CREATE TABLE runs(id BLOB PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pins(run BLOB PRIMARY KEY, stamp BLOB NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE interims(
  pipeline TEXT, stage TEXT, stamp BLOB, origin TEXT NOT NULL, key BLOB NOT NULL,
  step INTEGER NOT NULL, artifact BLOB NOT NULL, tree BLOB NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY(pipeline, stage, stamp)) WITHOUT ROWID;
CREATE TABLE stats(
  dev INTEGER, ino INTEGER, body BLOB NOT NULL, PRIMARY KEY(dev, ino)) WITHOUT ROWID;
CREATE TABLE settled(request BLOB PRIMARY KEY, at INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
";

/// Empties every table that is folded from the commits.
pub(super) const EMPTY: &str = "
DELETE FROM folded; DELETE FROM actions; DELETE FROM settings; DELETE FROM latest;
DELETE FROM runs; DELETE FROM pins; DELETE FROM interims;
";

pub(super) const DATABASE: &str = "index.db";
pub(super) const LOG: &str = "index.db-wal";
pub(super) const SHARED_MEMORY: &str = "index.db-shm";

/// The locked door, the file of the users, and whether there are no others.
pub(super) type Door = (Box<dyn Handle>, Box<dyn Handle>, bool);

/// Where an index lies.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The folder.
    pub(crate) dir: PathBuf,
    /// Permissions of its files, all of which are locked by processes.
    pub(crate) lock_mode: u32,
}

impl Place {
    /// The path of one of its files.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The path of the database.
    pub(crate) fn database(&self) -> PathBuf {
        self.path(DATABASE)
    }

    fn open(&self, fs: &dyn Fs, name: &str) -> Result<Box<dyn Handle>> {
        let file = fs.open_lock(&self.path(name), self.lock_mode);
        file.map_err(IndexError::Io)
    }

    /// Opens the door and shuts it behind us until it is dropped. A door that is held for longer
    /// than a moment is no reason to wait: there are other places for an index.
    pub(super) fn enter(&self, waiting: &Waiting<'_>) -> Result<Door> {
        const DOOR: &str = "index.lock";
        let door = self.open(waiting.fs, DOOR)?;
        let path = self.path(DOOR);
        let taken = waiting.take(&*door, &path, Sharing::Exclusive, Some(BUSY));
        if !taken.map_err(|error| IndexError::Io(io::Error::other(error)))? {
            return Err(IndexError::Held(lock_holders(waiting.fs, &*door)));
        }
        let users = self.open(waiting.fs, "index.users")?;
        let alone = users.try_lock().map_err(IndexError::Io)?;
        Ok((door, users, alone))
    }

    /// Makes the database's file, and gives those that there are their permissions: SQLite would
    /// let everybody read them, and so lock them. Only for who is alone: to close a file is to let
    /// go of SQLite's own locks of it.
    pub(super) fn prepare(&self, fs: &dyn Fs) -> Result<()> {
        for name in [DATABASE, LOG, SHARED_MEMORY] {
            let path = self.path(name);
            match fs.lstat(&path) {
                Ok(stat) if stat.kind != FileKind::File => {
                    return Err(IndexError::Wrong(format!("`{name}` is no regular file")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && name != DATABASE => {}
                _ => drop(self.open(fs, name)?),
            }
        }
        Ok(())
    }
}

/// Whether the database was changed after its log: not by us, see above.
pub(super) fn is_older_beside_log(fs: &dyn Fs, dir: &Path) -> bool {
    match (fs.stat(&dir.join(LOG)), fs.stat(&dir.join(DATABASE))) {
        (Ok(log), Ok(database)) => log.size > 0 && database.ctime > log.mtime,
        _ => false,
    }
}

/// Removes the log of a database that somebody has removed.
pub(super) fn remove_widowed_log(fs: &dyn Fs, dir: &Path) -> Result<()> {
    match fs.stat(&dir.join(DATABASE)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => remove(fs, dir),
        _ => Ok(()),
    }
}

/// Removes the index with its log.
pub(super) fn remove(fs: &dyn Fs, dir: &Path) -> Result<()> {
    for name in [LOG, SHARED_MEMORY, "index.db-journal", DATABASE] {
        fs::gone_is_fine(fs.remove_file(&dir.join(name))).map_err(IndexError::Io)?;
    }
    Ok(())
}

/// Opens a database that is open already, to read beside its first connection.
pub(super) fn reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "cache_size", -4096)?;
    Ok(conn)
}

/// Opens the database, checks whose it is, and makes its tables if it is new. Reads from it, so
/// that its log is open, too.
pub(super) fn connect(path: &Path) -> Result<Connection> {
    let mut conn = Connection::open(path)?;
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "normal")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "cache_size", -16_384)?;
    let pragma =
        |conn: &Connection, name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = (
        pragma(&conn, "application_id")?,
        pragma(&conn, "user_version")?,
    );
    if found == (APPLICATION, SCHEMA) {
        return Ok(conn);
    }
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        return Err(IndexError::Wrong(format!(
            "its tables have version {}, expected {SCHEMA}",
            found.1
        )));
    }
    tx.execute_batch(TABLES)?;
    tx.pragma_update(None, "application_id", APPLICATION)?;
    tx.pragma_update(None, "user_version", SCHEMA)?;
    tx.commit()?;
    Ok(conn)
}
