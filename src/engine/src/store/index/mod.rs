//! The index: SQLite, folded from the commits, never the truth.
//!
//! Whatever happens to `index.db`, the store stays right: a file that is missing, older, cut or
//! damaged is noticed and made anew.
//! - *Missing or older*: it holds the names of the commits that were folded into it; those that
//!   are missing are folded, and a name without its commit means that all are folded anew
//!   ([`super::fold`]).
//! - *An older file beside the write-ahead log of a newer one* (restored) would give a mix of pages.
//!   SQLite cannot know; we can: whoever closes leaves the log younger than the database, and so
//!   does a kill; a restore leaves the database changed after the log. Checkpoints are made by us
//!   alone and empty the log, so that the order holds.
//! - *Damaged*: SQLite reports most; each row that answers for an action or a file carries a
//!   checksum over key and value besides.
//!
//! Opening and replacing happen under the lock of `index.lock`, so that nobody opens a log by the
//! name of a database that is being replaced. A process keeps a shared lock on `index.users`;
//! who gets it exclusively is alone. Nobody waits for long for either, nor for SQLite's own locks: a
//! process that is stopped with one keeps it, and an index in memory is as good.

mod place;
mod write;

use std::collections::HashSet;
use std::io;
use std::thread::ScopedJoinHandle;

use rayon::slice::ParallelSliceMut;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use stage_core::{Digest, Part};

use super::Ulid;
use super::files::StatSig;
use super::lock::Waiting;
use super::record::{
    ActionResult, Artifact, InterimRecord, Latest, Origin, PinRecord, Rate, Record, RunRecord,
};
use super::row::{self, Settled};
use super::ulid::now_millis;
use crate::fs::{Fs, Handle};
use crate::threads;
pub(crate) use place::Place;
use place::{DATABASE, connect, is_older_beside_log, remove, remove_widowed_log};
use write::fold_commits;

/// Rows written between checkpoints.
const CHECKPOINT_ROWS: usize = 30_000;

/// Bytes of the log that are left for the next process: it reads them before anything else.
const LOG_LEFT: u64 = 1 << 20;

/// Rows that are passed over before the cursor is placed anew, see [`Index::lookup_many`].
const SKIP: usize = 4;

/// From how many keys on the table is gone through on two threads.
const MANY: usize = 2_000;

/// Requests of which something is noted, at most.
const SETTLED: i64 = 64;

/// Why the index did not answer.
#[derive(Debug)]
pub(crate) enum IndexError {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// What it holds is wrong, or not folded from these commits.
    Wrong(String),
    /// Its files cannot be opened or locked.
    Io(io::Error),
    /// Another process opens or replaces it for longer than a moment.
    Held(String),
}

impl IndexError {
    /// Whether it says nothing of the database: others hold it for longer than is waited for.
    pub(crate) fn passes(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        matches!(self, Self::Sql(rusqlite::Error::SqliteFailure(e, _))
            if matches!(e.code, DatabaseBusy | DatabaseLocked))
    }
}

impl From<rusqlite::Error> for IndexError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl std::fmt::Display for IndexError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sql(error) => error.fmt(f),
            Self::Wrong(text) => f.write_str(text),
            Self::Io(error) => error.fmt(f),
            Self::Held(holders) => write!(f, "it is held by {holders}"),
        }
    }
}

type Result<T, E = IndexError> = std::result::Result<T, E>;

/// An open index.
#[derive(Debug)]
pub(crate) struct Index {
    conn: Connection,
    /// Commits known to be folded; the table may hold more, by other processes.
    folded: HashSet<Ulid>,
    rows_since_checkpoint: usize,
    /// Where it lives; `None` in memory.
    place: Option<Place>,
    /// Says to other processes that the index is in use.
    _users: Option<Box<dyn Handle>>,
}

impl Index {
    /// Opens the index at `place`, making it if there is none. The text says why an
    /// existing one had to be dropped, if so.
    pub(crate) fn open(waiting: &Waiting<'_>, place: Place) -> Result<(Self, Option<String>)> {
        let (fs, dir) = (waiting.fs, &place.dir);
        let (_door, users, alone) = place.enter(waiting)?;
        if alone {
            remove_widowed_log(fs, dir)?;
        }
        let suspect = alone && is_older_beside_log(fs, dir);
        let opened = if suspect {
            Err(IndexError::Wrong(
                "it was changed after its log, by a kill while it was written or by a copy of \
                 another time"
                    .to_owned(),
            ))
        } else {
            let prepared = if alone { place.prepare(fs) } else { Ok(()) };
            prepared
                .and_then(|()| connect(&dir.join(DATABASE)))
                .and_then(with_folded)
        };
        let (opened, why) = match opened {
            Ok(opened) => (opened, None),
            Err(error) if error.passes() => return Err(error),
            Err(error) => (make_anew(fs, &place)?, Some(error.to_string())),
        };
        let index = Self::new(opened, Some((place, users)))?;
        Ok((index, why))
    }

    /// Replaces the index at `place` by an empty one.
    pub(crate) fn recreate(waiting: &Waiting<'_>, place: Place) -> Result<Self> {
        let (_door, users, _) = place.enter(waiting)?;
        let anew = make_anew(waiting.fs, &place)?;
        Self::new(anew, Some((place, users)))
    }

    /// An empty index that lives as long as this process.
    pub(crate) fn in_memory() -> Result<Self> {
        let conn = Connection::open_in_memory()?;
        conn.execute_batch(place::TABLES)?;
        Self::new((conn, HashSet::new()), None)
    }

    fn new(
        (conn, folded): (Connection, HashSet<Ulid>),
        place: Option<(Place, Box<dyn Handle>)>,
    ) -> Result<Self> {
        conn.set_prepared_statement_cache_capacity(64);
        let (place, users) = place.unzip();
        if let Some(users) = &users {
            // Nobody has it exclusively while the door is ours.
            if !users.try_lock_shared().map_err(IndexError::Io)? {
                return Err(IndexError::Held("another process".to_owned()));
            }
        }
        Ok(Self {
            conn,
            folded,
            rows_since_checkpoint: 0,
            place,
            _users: users,
        })
    }

    /// Where it lives; `None` in memory.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// The commits known to be folded.
    pub(crate) fn folded(&self) -> &HashSet<Ulid> {
        &self.folded
    }

    fn read_folded(&self) -> Result<HashSet<Ulid>> {
        read_folded(&self.conn)
    }

    /// Takes note of what other processes folded.
    pub(crate) fn reload_folded(&mut self) -> Result<()> {
        self.folded = self.read_folded()?;
        Ok(())
    }

    /// Folds commits in one transaction. One that is folded already, here or by another process,
    /// changes nothing.
    pub(crate) fn fold(&mut self, commits: &[(Ulid, Vec<Record>)]) -> Result<()> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = fold_commits(&tx, commits)?;
        tx.commit()?;
        self.folded.extend(commits.iter().map(|(name, _)| *name));
        self.wrote(rows);
        Ok(())
    }

    /// Replaces everything but what is known of source files by what `next` gives, in one
    /// transaction, unless another process has done so: then just the names that `list` gives are
    /// folded. `next` is given that list, and ends with `None`.
    pub(crate) fn refold<E: From<IndexError>>(
        &mut self,
        list: impl FnOnce() -> Result<HashSet<Ulid>, E>,
        mut next: impl FnMut(&HashSet<Ulid>) -> Result<Option<Vec<(Ulid, Vec<Record>)>>, E>,
    ) -> Result<bool, E> {
        let mut rows = 0;
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(IndexError::from)?;
        let names = list()?;
        let folded = read_folded(&tx)?;
        let stale = folded.iter().any(|name| !names.contains(name));
        if stale {
            tx.execute_batch(place::EMPTY).map_err(IndexError::from)?;
            while let Some(commits) = next(&names)? {
                rows += fold_commits(&tx, &commits)?;
            }
        }
        tx.commit().map_err(IndexError::from)?;
        self.folded = self.read_folded()?;
        self.wrote(rows);
        Ok(stale)
    }

    /// Looks up actions, in any order, with a cursor over the sorted keys: it walks on when the
    /// next key is near, and is placed anew when it is not. So a few keys cost a search each, and
    /// most of a table is read at the speed of a scan.
    pub(crate) fn lookup_many(&self, keys: &[Digest]) -> Result<Vec<Option<ActionResult>>> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.par_sort_unstable_by_key(|i| keys[*i]);
        let mut found = vec![None; keys.len()];
        for (i, result) in self.side_by_side(&order, |conn, order| look_up(conn, keys, order))? {
            found[i] = Some(result);
        }
        Ok(found)
    }

    /// Digests of files by their stat, in the order of `sigs`; `None` where the stat differs from
    /// the recorded one or none is recorded, or the file was young then and `young` is false. Uses
    /// the cursor of [`Index::lookup_many`].
    pub(crate) fn stats(
        &self,
        sigs: &[Option<StatSig>],
        young: bool,
    ) -> Result<Vec<Option<Digest>>> {
        let mut order: Vec<usize> = (0..sigs.len()).filter(|i| sigs[*i].is_some()).collect();
        order.par_sort_unstable_by_key(|i| place_of(sigs, *i));
        let mut found = vec![None; sigs.len()];
        let look = |conn: &Connection, order: &[usize]| look_up_stats(conn, sigs, order);
        for (i, digest, was_young) in self.side_by_side(&order, look)? {
            found[i] = Some(digest).filter(|_| young || !was_young);
        }
        Ok(found)
    }

    /// Looks up what stands in `order`, on two threads if that is much.
    fn side_by_side<T: Send>(
        &self,
        order: &[usize],
        look: impl Fn(&Connection, &[usize]) -> Result<Vec<T>> + Sync,
    ) -> Result<Vec<T>> {
        let Some(at) = self.place.as_ref().filter(|_| order.len() >= MANY) else {
            return look(&self.conn, order);
        };
        let (own, other) = order.split_at(order.len() / 2);
        std::thread::scope(|scope| {
            // Another connection may see a later state: then it knows more, and nothing else.
            let look_there = || look(&place::reader(&at.path(DATABASE))?, other);
            let helper = threads::spawn_scoped(scope, look_there);
            let mut found = look(&self.conn, own)?;
            found.extend(match helper.map(ScopedJoinHandle::join) {
                Some(Ok(Ok(found))) => found,
                _ => look(&self.conn, other)?,
            });
            Ok(found)
        })
    }

    /// Records digests of files, and whether they were young. With `silent` one of them has other
    /// bytes than were recorded for the same state: then no run is known again by such states.
    pub(crate) fn put_stats(
        &mut self,
        files: &[(StatSig, Digest, bool)],
        silent: bool,
    ) -> Result<()> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            if silent {
                tx.execute("DELETE FROM settled", [])?;
            }
            let mut put = tx.prepare_cached(
                "INSERT OR REPLACE INTO stats(dev, ino, body) VALUES(?1, ?2, ?3)",
            )?;
            for (sig, digest, young) in files {
                let body = row::write_stat(sig, digest, *young);
                put.execute(params![sig.dev.cast_signed(), sig.ino.cast_signed(), body])?;
            }
        }
        tx.commit()?;
        self.wrote(files.len());
        Ok(())
    }

    /// What was noted of a request.
    pub(crate) fn settled(&self, request: &Digest) -> Result<Option<Settled>> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT body FROM settled WHERE request = ?1")?;
        let mut rows = statement.query([request.0.as_slice()])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let body = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let settled = row::read_settled(request, body).ok_or_else(wrong_row)?;
        Ok(Some(settled))
    }

    /// Notes something of a request in place of what was noted before; of many requests the newest
    /// stay.
    pub(crate) fn put_settled(&mut self, request: &Digest, settled: &Settled) -> Result<()> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute(
            "INSERT OR REPLACE INTO settled(request, at, body) VALUES(?1, ?2, ?3)",
            params![
                request.0,
                now_millis().cast_signed(),
                row::write_settled(request, settled)
            ],
        )?;
        tx.execute(
            "DELETE FROM settled WHERE request NOT IN
               (SELECT request FROM settled ORDER BY at DESC LIMIT ?1)",
            [SETTLED],
        )?;
        tx.commit()?;
        self.wrote(1);
        Ok(())
    }

    /// The newest action of each item of a stage's part, by item.
    pub(crate) fn latest(&self, pipeline: &str, stage: &str, part: Part) -> Result<Vec<Latest>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT stamp, item, key, s.json, inputs, failed, reason, seconds, bytes, run, at
             FROM latest LEFT JOIN settings s ON s.digest = settings
             WHERE pipeline = ?1 AND stage = ?2 AND part = ?3 ORDER BY item, stamp",
        )?;
        let mut rows = statement.query([pipeline, stage, part.name()])?;
        let mut all: Vec<Latest> = Vec::new();
        while let Some(row) = rows.next()? {
            let latest = read_latest(row)?;
            // Success and failure have a row each; the later one comes second.
            if all.last().is_some_and(|last| last.item == latest.item) {
                all.pop();
            }
            all.push(latest);
        }
        Ok(all)
    }

    /// Key of the newest success of a stage's item.
    pub(crate) fn last_done(
        &self,
        pipeline: &str,
        stage: &str,
        part: Part,
        item: &str,
    ) -> Result<Option<Digest>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT key FROM latest
             WHERE pipeline = ?1 AND stage = ?2 AND part = ?3 AND item = ?4 AND failed = 0",
        )?;
        let key = statement.query_row([pipeline, stage, part.name(), item], |row| row.get(0));
        Ok(key.optional()?.map(Digest))
    }

    /// Sums over the newest successes of a stage's part.
    pub(crate) fn rate(&self, pipeline: &str, stage: &str, part: Part) -> Result<Rate> {
        let mut statement = self.conn.prepare_cached(
            "SELECT count(*), total(seconds), total(output) FROM latest
             WHERE pipeline = ?1 AND stage = ?2 AND part = ?3 AND failed = 0",
        )?;
        // Sums of lengths for a forecast; `as` saturates.
        let rate = statement.query_row([pipeline, stage, part.name()], |row| {
            Ok(Rate {
                actions: row.get::<_, i64>(0)?.cast_unsigned(),
                seconds: row.get(1)?,
                output_bytes: row.get::<_, f64>(2)? as u64,
            })
        })?;
        Ok(rate)
    }

    /// Runs, newest first, at most `limit`.
    pub(crate) fn runs(&self, limit: usize) -> Result<Vec<RunRecord>> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT json FROM runs ORDER BY id DESC LIMIT ?1")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        json_rows(statement.query([limit])?)
    }

    /// The pinned runs.
    pub(crate) fn pins(&self) -> Result<Vec<PinRecord>> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT json FROM pins ORDER BY run")?;
        let mut pins: Vec<PinRecord> = json_rows(statement.query([])?)?;
        pins.retain(|pin| pin.pinned);
        Ok(pins)
    }

    /// What a stage published on its way, newest first, at most `limit`.
    pub(crate) fn interims(
        &self,
        pipeline: &str,
        stage: &str,
        limit: usize,
    ) -> Result<Vec<InterimRecord>> {
        let mut statement = self.conn.prepare_cached(
            "SELECT origin, key, step, artifact, tree, at FROM interims
             WHERE pipeline = ?1 AND stage = ?2 ORDER BY stamp DESC LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![pipeline, stage, limit])?;
        let mut interims = Vec::new();
        while let Some(row) = rows.next()? {
            let tree = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            let origin: Origin = json(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?;
            let artifact = Artifact::from_packed(Digest(row.get(3)?), tree);
            if artifact.tree().digest() != artifact.digest {
                return Err(wrong_row());
            }
            interims.push(InterimRecord {
                origin: origin.into(),
                stage: stage.to_owned(),
                key: Digest(row.get(1)?),
                step: row.get::<_, i64>(2)?.cast_unsigned(),
                artifact,
                at: row.get::<_, i64>(5)?.cast_unsigned(),
            });
        }
        Ok(interims)
    }

    fn wrote(&mut self, rows: usize) {
        self.rows_since_checkpoint += rows;
        if self.rows_since_checkpoint > CHECKPOINT_ROWS {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        self.rows_since_checkpoint = 0;
        // It may find readers in its way: then the next one empties the log.
        let _ = self
            .conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Empties the log if it has become long. Left to itself, SQLite would do so whenever the last
    /// process closes the database: two syncs for a few rows, and two more to begin a new log.
    pub(crate) fn close(&mut self, fs: &dyn Fs) {
        let log = self.place.as_ref().map(|at| at.path(place::LOG));
        if log.is_some_and(|log| fs.stat(&log).is_ok_and(|stat| stat.size > LOG_LEFT)) {
            self.checkpoint();
        }
    }
}

/// Makes an empty index in the place of what is there.
fn make_anew(fs: &dyn Fs, place: &Place) -> Result<(Connection, HashSet<Ulid>)> {
    remove(fs, &place.dir)?;
    place.prepare(fs)?;
    connect(&place.path(DATABASE)).and_then(with_folded)
}

/// A connection with the commits that are folded into it: an index that does not tell them is as
/// good as none.
fn with_folded(conn: Connection) -> Result<(Connection, HashSet<Ulid>)> {
    let folded = read_folded(&conn)?;
    Ok((conn, folded))
}

fn read_folded(conn: &Connection) -> Result<HashSet<Ulid>> {
    let mut statement = conn.prepare("SELECT name FROM folded")?;
    let names = statement.query_map([], |row| row.get::<_, [u8; 16]>(0))?;
    let names = names.map(|name| name.map(|bytes| Ulid(u128::from_be_bytes(bytes))));
    Ok(names.collect::<rusqlite::Result<_>>()?)
}

fn read_latest(row: &rusqlite::Row<'_>) -> Result<Latest> {
    let settings: Option<String> = row.get(3)?;
    let settings = settings.ok_or_else(|| IndexError::Wrong("a stage is missing".to_owned()))?;
    let inputs = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
    Ok(Latest {
        item: row.get(1)?,
        key: Digest(row.get(2)?),
        settings: json(&settings)?,
        inputs: row::read_inputs(inputs).ok_or_else(wrong_row)?,
        failed: row.get(6)?,
        seconds: row.get(7)?,
        bytes: row.get::<_, i64>(8)?.cast_unsigned(),
        run: Ulid(u128::from_be_bytes(row.get(9)?)),
        at: row.get::<_, i64>(10)?.cast_unsigned(),
    })
}

fn json_rows<T: serde::de::DeserializeOwned>(mut rows: rusqlite::Rows<'_>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(json(
            row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?,
        )?);
    }
    Ok(values)
}

fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(wrong_json)
}

/// The results of those of `keys` that `order` names, in the order of the keys.
fn look_up(
    conn: &Connection,
    keys: &[Digest],
    order: &[usize],
) -> Result<Vec<(usize, ActionResult)>> {
    let mut found = Vec::with_capacity(order.len());
    // One look at the database: each query alone would lock it and ask whether it has changed.
    let _one = conn.unchecked_transaction()?;
    let mut statement =
        conn.prepare_cached("SELECT key, body FROM actions WHERE key >= ?1 ORDER BY key")?;
    let mut next = 0;
    while next < order.len() {
        let mut rows = statement.query([keys[order[next]].0.as_slice()])?;
        let mut skipped = 0;
        loop {
            let Some(row) = rows.next()? else {
                return Ok(found);
            };
            let key = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
            while next < order.len() && keys[order[next]].0.as_slice() < key {
                next += 1;
            }
            if next < order.len() && keys[order[next]].0.as_slice() == key {
                skipped = 0;
                let body = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                let first = order[next];
                let result = row::read_action(&keys[first], body).ok_or_else(wrong_row)?;
                next += 1;
                while next < order.len() && keys[order[next]] == keys[first] {
                    found.push((order[next], result.clone()));
                    next += 1;
                }
                found.push((first, result));
            } else {
                skipped += 1;
            }
            if next == order.len() || skipped > SKIP {
                break;
            }
        }
    }
    Ok(found)
}

/// Where the row of a file is.
fn place_of(sigs: &[Option<StatSig>], i: usize) -> Option<(i64, i64)> {
    sigs[i].map(|sig| (sig.dev.cast_signed(), sig.ino.cast_signed()))
}

/// The digests of those of the files that `order` names, in the order of their places, and whether
/// they were young.
fn look_up_stats(
    conn: &Connection,
    sigs: &[Option<StatSig>],
    order: &[usize],
) -> Result<Vec<(usize, Digest, bool)>> {
    let place = |i: &usize| place_of(sigs, *i);
    let mut found = Vec::with_capacity(order.len());
    let _one = conn.unchecked_transaction()?;
    let mut statement = conn
        .prepare_cached("SELECT ino, body FROM stats WHERE dev = ?1 AND ino >= ?2 ORDER BY ino")?;
    let mut next = 0;
    while let Some((dev, ino)) = order.get(next).and_then(place) {
        let mut rows = statement.query([dev, ino])?;
        let mut skipped = 0;
        loop {
            let here = |next: usize| order.get(next).and_then(place).filter(|p| p.0 == dev);
            let Some(row) = rows.next()? else {
                while here(next).is_some() {
                    next += 1;
                }
                break;
            };
            let ino: i64 = row.get(0)?;
            while here(next).is_some_and(|p| p.1 < ino) {
                next += 1;
            }
            if here(next).is_some_and(|p| p.1 == ino) {
                skipped = 0;
                let body = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                while here(next).is_some_and(|p| p.1 == ino) {
                    let i = order[next];
                    if let Some(sig) = &sigs[i] {
                        let file = row::read_stat(sig, body).map_err(|()| wrong_row())?;
                        found.extend(file.map(|(digest, young)| (i, digest, young)));
                    }
                    next += 1;
                }
            } else {
                skipped += 1;
            }
            if here(next).is_none() || skipped > SKIP {
                break;
            }
        }
    }
    Ok(found)
}

fn wrong_json(error: serde_json::Error) -> IndexError {
    IndexError::Wrong(error.to_string())
}

fn wrong_row() -> IndexError {
    IndexError::Wrong("a row does not pass its checksum".to_owned())
}
