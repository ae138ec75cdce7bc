//! Calls that fail.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What a call is, as far as failing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// Opening for reading.
    Open,
    /// Opening in a way that may create a file.
    Create,
    /// Creating a folder.
    CreateDir,
    /// Renaming.
    Rename,
    /// Giving another name.
    Link,
    /// Removing a file or a folder.
    Remove,
    /// Listing a folder.
    ReadDir,
    /// Asking about a path, an open file or a file system.
    Stat,
    /// Setting permissions.
    SetMode,
    /// Copying.
    Copy,
    /// Reading from an open file.
    Read,
    /// Writing to an open file.
    Write,
    /// Cutting or extending an open file.
    SetLen,
    /// Locking an open file.
    Lock,
    /// Making something durable.
    Sync,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Error {
    /// `ENOSPC`: no space left.
    Full,
    /// `EIO`: the device failed.
    Device,
    /// `EMFILE`: too many open files.
    Files,
    /// `EINTR`: a signal came.
    Interrupted,
    /// No error: only some of the bytes are read or written.
    Short,
}

impl Error {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::Device,
        Self::Files,
        Self::Interrupted,
        Self::Short,
    ];

    /// Whether a call can fail so.
    pub fn befalls(self, call: Call) -> bool {
        use Call::{
            Copy, Create, CreateDir, Link, Lock, Open, Read, ReadDir, Rename, SetLen, Sync, Write,
        };
        match self {
            Self::Full => matches!(
                call,
                Create | CreateDir | Rename | Link | Copy | Write | SetLen | Sync
            ),
            Self::Device => true,
            Self::Files => matches!(call, Open | Create | ReadDir | Copy),
            Self::Interrupted => matches!(call, Open | Create | Read | Write | Lock | Sync),
            Self::Short => matches!(call, Read | Write),
        }
    }

    fn to_io(self) -> Option<io::Error> {
        let errno = match self {
            Self::Full => Errno::NOSPC,
            Self::Device => Errno::IO,
            Self::Files => Errno::MFILE,
            Self::Interrupted => Errno::INTR,
            Self::Short => return None,
        };
        Some(errno.into())
    }
}

/// Which calls fail, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// None.
    None,
    /// The first call from this number on (0 is the first of all) that can fail so.
    At {
        /// Number of the call.
        call: usize,
        /// How it fails.
        error: Error,
        /// Whether all later ones that can, do so too, as on a full disk.
        lasting: bool,
    },
    /// All that change something and whose line (see [`super::SimFs::take_lines`]) begins so.
    Line {
        /// Beginning of the line.
        start: String,
        /// How they fail.
        error: Error,
    },
}

/// The calls so far, and which are to fail.
#[derive(Debug)]
pub(super) struct Faults {
    calls: Vec<(Call, PathBuf)>,
    fault: Fault,
    met: bool,
    /// Whether the call that was entered last is to be short.
    short: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            calls: Vec::new(),
            fault: Fault::None,
            met: false,
            short: false,
        }
    }
}

impl Faults {
    pub(super) fn set(&mut self, fault: Fault) {
        self.fault = fault;
        self.met = false;
    }

    pub(super) fn met(&self) -> bool {
        self.met
    }

    pub(super) fn calls(&self) -> Vec<(Call, PathBuf)> {
        self.calls.clone()
    }

    pub(super) fn enter(&mut self, call: Call, path: &Path, line: Option<&str>) -> io::Result<()> {
        let number = self.calls.len();
        self.calls.push((call, path.to_owned()));
        self.short = false;
        let error = match &self.fault {
            Fault::None => return Ok(()),
            Fault::At {
                call: from,
                error,
                lasting,
            } => {
                if number < *from || !error.befalls(call) || (self.met && !lasting) {
                    return Ok(());
                }
                *error
            }
            Fault::Line { start, error } => {
                if !line.is_some_and(|line| line.starts_with(start.as_str())) {
                    return Ok(());
                }
                *error
            }
        };
        self.met = true;
        self.short = error == Error::Short;
        error.to_io().map_or(Ok(()), Err)
    }

    /// How many of `length` bytes the call that was entered last moves.
    pub(super) fn share(&self, length: usize) -> usize {
        if self.short {
            length.div_ceil(2)
        } else {
            length
        }
    }
}
