//! Bytes that a shard is read from: a file by positioned reads, or memory.
//!
//! The `parquet` crate's own implementation for [`File`] shares one offset
//! between clones; positioned reads let several readers of one shard run in
//! several threads.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Readable at any place; its length is fixed when it is opened.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File { file: Arc<File>, len: u64 },
    Memory(Bytes),
}

impl Source {
    pub(crate) fn file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self::File {
            file: Arc::new(file),
            len,
        })
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::File { file, .. } => file.read_exact_at(buffer, at),
            Self::Memory(bytes) => {
                let from = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
                let part = from.and_then(|from| from.get(..buffer.len()));
                buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.read_at(buffer, at),
            Self::Memory(_) => {
                let rest = usize::try_from(self.len().saturating_sub(at)).unwrap_or(usize::MAX);
                let take = buffer.len().min(rest);
                self.read_exact_at(&mut buffer[..take], at)?;
                Ok(take)
            }
        }
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        Self::len(self)
    }
}

impl ChunkReader for Source {
    type T = io::BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(io::BufReader::new(Cursor {
            source: self.clone(),
            at: start,
            vain: 0,
        }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // Lengths come from the file: none may ask for more than there is.
        let end = start
            .checked_add(length as u64)
            .filter(|&end| end <= self.len());
        if end.is_none() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} of a file of {}",
                self.len()
            )));
        }
        if let Self::Memory(bytes) = self {
            let start = start as usize;
            return Ok(bytes.slice(start..start + length));
        }
        let mut buffer = vec![0; length];
        self.read_exact_at(&mut buffer, start)?;
        Ok(buffer.into())
    }
}

/// Reads on from a place of its own.
#[derive(Debug)]
pub(crate) struct Cursor {
    source: Source,
    at: u64,
    /// How often there was nothing left.
    vain: u32,
}

/// How often the end may be met. Parquet's reader skips lists of as many values as a page's header
/// claims, thousands of millions, although each finds the end.
const VAIN: u32 = 1000;

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(buffer, self.at)?;
        self.at += read as u64;
        if read == 0 && !buffer.is_empty() {
            self.vain += 1;
            if self.vain > VAIN {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(read)
    }
}
