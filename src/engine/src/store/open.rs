//! Opening a store: its format, its folders, and where its index lives.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use stage_core::{Cancel, Digest};

use super::commit::Committer;
use super::error::{Result, StoreError, Warning, is_read_only};
use super::gate::Gate;
use super::index::{Index, IndexError, Place};
use super::lock::{Sharing, Waiting};
use super::objects::Objects;
use super::{FORMAT, Inner, Layout, Store, lease, ulid};
use crate::fs::{self, FileKind, Fs, RealFs, lock_mode};

const FORMAT_TEXT: &str = "pipeline store ";

/// The file by which backup programs know a cache (<https://bford.info/cachedir/>).
const TAG: &str = "CACHEDIR.TAG";

const TAG_TEXT: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
                        # This folder is a cache of the program `pipeline`: all in it can be made again.\n";

/// How the folder begins into which a store of an older format is moved; its number follows.
const ASIDE: &str = "format-";

/// How a store is opened.
#[derive(Clone)]
pub struct StoreOptions {
    /// The disk.
    pub fs: Arc<dyn Fs>,
    /// Where indexes of caches on network file systems live, one folder each; without it they
    /// live in memory.
    pub state_dir: Option<PathBuf>,
    /// Told of what the user should know although the work goes on; from any thread.
    pub warn: Arc<dyn Fn(Warning) + Send + Sync>,
}

impl StoreOptions {
    /// The real disk and the user's state folder (`$XDG_STATE_HOME` or `~/.local/state`).
    pub fn new(warn: impl Fn(Warning) + Send + Sync + 'static) -> Self {
        let absolute = |path: PathBuf| path.is_absolute().then_some(path);
        let variable = |name| std::env::var_os(name).map(PathBuf::from).and_then(absolute);
        let home = || variable("HOME").map(|home| home.join(".local/state"));
        Self {
            fs: Arc::new(RealFs),
            state_dir: variable("XDG_STATE_HOME")
                .or_else(home)
                .map(|state| state.join("pipeline")),
            warn: Arc::new(warn),
        }
    }
}

impl Store {
    /// Opens the store in the folder `root`, making it if the folder is missing or empty, and
    /// brings its index up to date.
    ///
    /// # Errors
    /// The folder is something else or of another format, cannot be made or read, or holds
    /// commits of a newer program.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self> {
        let fs = options.fs;
        prepare(&*fs, root, &*options.warn)?;
        let root = fs
            .canonicalize(root)
            .map_err(StoreError::io("open", root))?;
        let mode = fs.stat(&root).map_err(StoreError::io("read", &root))?.mode;
        let layout = Arc::new(Layout::new(root, lock_mode(mode)));
        let root = &layout.root;
        for folder in layout.folders() {
            match fs.create_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    check_folder(&*fs, folder)?;
                }
                // A read-only cache can be read although some are missing.
                Err(error) if is_read_only(&error) => {}
                made => made.map_err(StoreError::io("create", folder))?,
            }
        }
        let kind = fs.fs_kind(root).map_err(StoreError::io("open", root))?;
        let root_handle = fs.open(root).map_err(StoreError::io("open", root))?;
        let warn = options.warn;
        let cancel = Cancel::default();
        let waiting = Waiting {
            fs: &*fs,
            warn: &*warn,
            cancel: &cancel,
        };
        let state = options.state_dir.as_deref();
        let index = open_index(&waiting, &layout, kind.network, state)?;
        let inner = Inner {
            objects: Objects::new(fs.clone(), layout.clone()),
            gate: Gate::new(fs.clone(), &layout),
            clock: ulid::Clock::new(),
            root: root_handle,
            syncs_whole: kind.syncs_whole,
            index: Mutex::new(index),
            listing: Mutex::default(),
            pending: Mutex::default(),
            lease: OnceLock::new(),
            leasing: Mutex::default(),
            generation: AtomicU64::new(0),
            warn,
            fs,
            layout,
            cancel: Mutex::new(cancel),
        };
        inner.refresh()?;
        Ok(Self {
            inner: Arc::new(inner),
            committer: Committer::default(),
        })
    }
}

/// Checks the folder's format, or makes an empty store of it. `format` comes first, so that a
/// store cut short by a crash is known for what it is.
fn prepare(fs: &dyn Fs, root: &Path, warn: &(dyn Fn(Warning) + Send + Sync)) -> Result<()> {
    let path = root.join("format");
    let bytes = match fs::read(fs, &path, 4096) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(fs, root).map_err(StoreError::io("create", root))?;
            let entries = fs.read_dir(root).map_err(StoreError::io("list", root))?;
            // Another process may be making it: its unfinished file begins with a dot.
            let foreign = |name: &str| {
                name != "format"
                    && !name.starts_with(".format.")
                    && !name.starts_with(ASIDE)
                    && name != "index.lock"
            };
            if entries.iter().any(|e| foreign(&e.name.to_string_lossy())) {
                // … or have made it between the two looks.
                if fs.stat(&path).is_err() {
                    return Err(StoreError::NotAStore {
                        path: root.to_owned(),
                    });
                }
                return prepare(fs, root, warn);
            }
            fs::write_atomic(fs, &path, format_line(FORMAT).as_bytes())
                .map_err(StoreError::io("create", path))?;
            // Best effort: nothing of ours reads it.
            let _ = fs::write_atomic(fs, &root.join(TAG), TAG_TEXT.as_bytes());
            return Ok(());
        }
        bytes => bytes.map_err(StoreError::io("read", &path))?,
    };
    let text = String::from_utf8_lossy(&bytes);
    match format_of(&text) {
        Some(FORMAT) => Ok(()),
        // There has been no older one in the world that would be worth taking over: what it holds
        // can be made again.
        Some(older) if older < FORMAT => {
            let aside = set_older_aside(fs, root, &text, older, warn)?;
            warn(Warning::OlderFormat {
                found: older,
                path: aside,
            });
            prepare(fs, root, warn)
        }
        Some(newer) => Err(StoreError::Format {
            path: root.to_owned(),
            found: newer,
            expected: FORMAT,
        }),
        None => Err(StoreError::FormatDamaged {
            path,
            expected: format_line(FORMAT).trim_end().to_owned(),
        }),
    }
}

/// Whether the folder `root` is a store, of whatever format.
pub(crate) fn is_store(fs: &dyn Fs, root: &Path) -> bool {
    fs::read(fs, &root.join("format"), 4096)
        .is_ok_and(|text| text.starts_with(FORMAT_TEXT.as_bytes()))
}

/// What the file `format` says: the number, and a hash that tells another number from a damaged
/// one.
fn format_line(format: u32) -> String {
    let text = format!("{FORMAT_TEXT}{format}");
    let digest = Digest::of(text.as_bytes());
    format!("{text} {digest}\n")
}

/// The number that the file `format` says, if it is whole. The first format had no hash.
fn format_of(line: &str) -> Option<u32> {
    let number = line.strip_prefix(FORMAT_TEXT)?.split_whitespace().next()?;
    let format = number.parse().ok()?;
    let first = format == 1 && line.trim_end() == format!("{FORMAT_TEXT}1");
    (first || line == format_line(format)).then_some(format)
}

/// Moves everything in the folder of a store of an older format into one folder within, `format`
/// last, so that the next process goes on where this one was cut short.
fn set_older_aside(
    fs: &dyn Fs,
    root: &Path,
    text: &str,
    older: u32,
    warn: &(dyn Fn(Warning) + Send + Sync),
) -> Result<PathBuf> {
    let lock = root.join("index.lock");
    let mode = fs.stat(root).map_err(StoreError::io("read", root))?.mode;
    let door = fs
        .open_lock(&lock, lock_mode(mode))
        .map_err(StoreError::in_cache("create", &lock, root))?;
    let waiting = Waiting {
        fs,
        warn,
        cancel: &Cancel::default(),
    };
    waiting.take(&*door, &lock, Sharing::Exclusive, None)?;
    let aside = root.join(format!("{ASIDE}{older}"));
    let format = root.join("format");
    let now = fs::read(fs, &format, 4096).unwrap_or_default();
    if String::from_utf8_lossy(&now) != text {
        // Another process has done it while this one waited.
        return Ok(aside);
    }
    fs::create_dir_all(fs, &aside).map_err(StoreError::io("create", &aside))?;
    let entries = fs.read_dir(root).map_err(StoreError::io("list", root))?;
    for entry in entries {
        let name = entry.name.to_string_lossy();
        if name == "format" || name == "index.lock" || name.starts_with(ASIDE) {
            continue;
        }
        let path = root.join(&entry.name);
        fs.rename(&path, &aside.join(&entry.name))
            .map_err(StoreError::io("move", &path))?;
    }
    fs.sync_dir(&aside)
        .map_err(StoreError::io("sync", &aside))?;
    fs.rename(&format, &aside.join("format"))
        .map_err(StoreError::io("move", &format))?;
    fs.sync_dir(root).map_err(StoreError::io("sync", root))?;
    Ok(aside)
}

/// Opens the index in the store, else in the user's state folder, else in memory.
fn open_index(
    waiting: &Waiting<'_>,
    layout: &Layout,
    network: bool,
    state: Option<&Path>,
) -> Result<Index> {
    let (fs, warn, root) = (waiting.fs, waiting.warn, &layout.root);
    let fail = |error: IndexError| StoreError::Index {
        reason: error.to_string(),
    };
    let mut reason = "no folder for it".to_owned();
    let own = (!network).then(|| Place {
        dir: root.to_owned(),
        lock_mode: layout.lock_mode,
    });
    // The state folder is the user's alone.
    let state = state.map(|state| Place {
        dir: state.join(state_name(root)),
        lock_mode: lock_mode(0),
    });
    for place in own.into_iter().chain(state) {
        let opened = fs::create_dir_all(fs, &place.dir)
            .map_err(IndexError::Io)
            .and_then(|()| Index::open(waiting, place));
        match opened {
            Ok((index, why)) => {
                if let Some(reason) = why {
                    warn(Warning::IndexRebuilt { reason });
                }
                return Ok(index);
            }
            Err(error) => reason = error.to_string(),
        }
    }
    warn(Warning::IndexInMemory { reason });
    Index::in_memory().map_err(fail)
}

/// Refuses a folder of the cache that is something else. A link may lead to files of the user's
/// own, and a collection would take them for the program's.
pub(super) fn check_folder(fs: &dyn Fs, path: &Path) -> Result<()> {
    let stat = fs.lstat(path).map_err(StoreError::io("read", path))?;
    let found = match stat.kind {
        FileKind::Dir => return Ok(()),
        FileKind::Symlink => "a symbolic link",
        FileKind::File => "a file",
        FileKind::Other => "a device, pipe or socket",
    };
    Err(StoreError::ForeignFolder {
        path: path.to_owned(),
        found,
    })
}

/// Names a cache within a state folder, which several machines may share.
fn state_name(root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut hasher = stage_core::KeyHasher::new("pipeline state folder 1");
    hasher
        .field(lease::host_name().as_bytes())
        .field(root.as_os_str().as_bytes());
    hasher.finish().to_hex().chars().take(32).collect()
}
