//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stage_core::Digest;

/// Result of the store's calls.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// What can go wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A call of the file system failed.
    #[error("cannot {doing} `{}`", path.display())]
    Io {
        /// What was being done, as an infinitive: `read`, `create`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cache was laid out by another version of the program.
    #[error(
        "the cache `{}` has format {found}, expected {expected}: use the program that made it, or \
         another folder with `--cache`",
        path.display()
    )]
    Format {
        /// The cache's folder.
        path: PathBuf,
        /// What its `format` file says.
        found: u32,
        /// The format that this program reads and writes.
        expected: u32,
    },
    /// The file that says how the cache is laid out cannot be made out.
    #[error(
        "`{}` is damaged: if no other version of the program made this cache, write the line \
         `{expected}` into it; its contents are checked wherever they are used",
        path.display()
    )]
    FormatDamaged {
        /// The file.
        path: PathBuf,
        /// What it says in a cache of this program.
        expected: String,
    },
    /// The folder holds something else.
    #[error(
        "`{}` is no cache: it holds files but no `format`; name an empty or new folder",
        path.display()
    )]
    NotAStore {
        /// The folder.
        path: PathBuf,
    },
    /// A folder of the cache is something else, most often a symbolic link.
    #[error(
        "`{}` is {found}, expected a folder of the cache: what lies behind it could be removed as \
         the program's own, so this cache is not used; put a folder in its place, or name another \
         cache with `--cache`",
        path.display()
    )]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A collection gave up waiting for those who use the cache.
    #[error(
        "the cache `{}` is in use without a pause by {holders}: nothing was collected; let it go on \
         or end it, and try again",
        path.display()
    )]
    InUse {
        /// The cache's folder.
        path: PathBuf,
        /// Who uses it.
        holders: String,
    },
    /// The cache lies on a read-only file system or belongs to somebody else.
    #[error("the cache `{}` cannot be written: use another with `--cache`", path.display())]
    ReadOnly {
        /// The cache's folder.
        path: PathBuf,
    },
    /// An object that a record names is gone. It has to be made again.
    #[error("object {digest} is missing from the cache")]
    ObjectMissing {
        /// Which.
        digest: Digest,
    },
    /// An object has other bytes than its name says; it was moved to `trash/`. It has to be made
    /// again.
    #[error("object {digest} is damaged: {detail}")]
    ObjectDamaged {
        /// Which.
        digest: Digest,
        /// How: length or digest, got and expected.
        detail: String,
    },
    /// A file that was handed to the store is not what was said of it.
    #[error("`{}` cannot enter the cache: {detail}", path.display())]
    Import {
        /// The file.
        path: PathBuf,
        /// Got and expected.
        detail: String,
    },
    /// A source file was written to whenever it was read.
    #[error("`{}` keeps changing while it is read: run again when it is finished", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
    },
    /// A path that should be hashed is no regular file.
    #[error("`{}` is no regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A commit file was written by a newer version of the program.
    #[error(
        "commit `{}` has version {found}, newer than {expected}: use the newer program",
        path.display()
    )]
    CommitVersion {
        /// The commit.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that this program reads.
        expected: u32,
    },
    /// A commit cannot be read, so that what it names is not known.
    #[error(
        "commit `{}` cannot be read ({reason}): nothing is collected until it can, as what it names \
         would be removed; `pipeline repair` sets it aside",
        path.display()
    )]
    UnreadableCommit {
        /// The commit.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The thread that writes commits met this error; nothing can be committed any more.
    #[error("finished work cannot be committed")]
    Commit(#[source] Arc<Self>),
    /// Another process collects; one at a time is enough.
    #[error("another collection is under way (process {pid}): wait until it has ended")]
    Collecting {
        /// That process; 0 if it does not say.
        pid: u32,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Cancelled,
    /// The index failed twice and cannot live in memory either.
    #[error("the index of the cache fails: {reason}")]
    Index {
        /// What SQLite or the system said.
        reason: String,
    },
}

impl StoreError {
    /// Wraps an I/O error, for `map_err`.
    pub(crate) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            doing,
            path: path.into(),
            source,
        }
    }

    /// The same of writing below the cache's folder `root`, which may refuse all that.
    pub(crate) fn in_cache<'a>(
        doing: &'static str,
        path: &'a Path,
        root: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |error| {
            if is_read_only(&error) {
                let path = root.to_owned();
                Self::ReadOnly { path }
            } else {
                Self::io(doing, path)(error)
            }
        }
    }

    /// The object that has to be made again before the work can go on, if that is the trouble.
    pub fn lost_object(&self) -> Option<Digest> {
        match self {
            Self::ObjectMissing { digest } | Self::ObjectDamaged { digest, .. } => Some(*digest),
            _ => None,
        }
    }

    /// Whether the disk is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Commit(inner) => inner.is_disk_full(),
            _ => false,
        }
    }
}

/// Something the user should know although the work goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// A commit did not pass its checksum; its actions will be done again.
    #[error("commit {name} is damaged ({detail}); it was set aside in `trash/`")]
    DamagedCommit {
        /// Name of the file.
        name: String,
        /// What is wrong.
        detail: String,
    },
    /// A commit cannot be read; its actions will be done again.
    #[error(
        "commit {name} cannot be read ({detail}): what it records is done again; `pipeline repair` \
         sets it aside"
    )]
    UnreadableCommit {
        /// Name of the file.
        name: String,
        /// What the system said.
        detail: String,
    },
    /// The index was unusable and has been made anew from the commits.
    #[error("the index was rebuilt from the commits: {reason}")]
    IndexRebuilt {
        /// Why.
        reason: String,
    },
    /// The index cannot be kept on disk; it lives in memory for this process.
    #[error("the index cannot be kept on disk ({reason}); this command starts without it")]
    IndexInMemory {
        /// Why.
        reason: String,
    },
    /// The cache was of an older format that this program does not read.
    #[error(
        "the cache was of format {found}; it was moved to `{}`, and a new one begins: delete the \
         old one when you like",
        path.display()
    )]
    OlderFormat {
        /// Its format.
        found: u32,
        /// Where it is now.
        path: PathBuf,
    },
    /// An object with wrong bytes was found when its right ones arrived.
    #[error("object {digest} was damaged and has been replaced")]
    ObjectReplaced {
        /// Which.
        digest: Digest,
    },
    /// Another process holds a lock for longer than a moment.
    #[error("waiting for `{}`, locked by {holders}", path.display())]
    WaitingForLock {
        /// The locked file.
        path: PathBuf,
        /// Who holds the lock.
        holders: String,
    },
    /// A file has other bytes than when its unchanged stat was recorded.
    #[error("`{}` changed without a trace in its times and size", path.display())]
    SilentChange {
        /// The file.
        path: PathBuf,
    },
}

/// Whether an error says that nothing can be written here at all.
pub(crate) fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}
