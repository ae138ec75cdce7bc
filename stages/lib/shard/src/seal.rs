//! A seal over a whole Parquet file: BLAKE3 of its bytes, kept in the gap
//! before the footer.
//!
//! Parquet pages carry no checksum here (the `parquet` crate writes none), and
//! its reader trusts lengths inside the file: damaged bytes may panic, ask for
//! gigabytes, or pass as music. Readers find everything by absolute offsets
//! from the footer, so they skip the gap, and any Parquet tool opens the file:
//!
//! ```text
//! "PAR1"  pages …  | "plseal01"  BLAKE3 (32 bytes) |  footer  length  "PAR1"
//! ```
//!
//! The digest covers all bytes but the gap itself, footer included. It is no
//! protection against somebody who forges a file on purpose.

use std::io::{self, Write};
use std::ops::Range;

use crate::error::{Error, Result};
use crate::source::Source;

const MAGIC: &[u8; 8] = b"plseal01";
const SEAL: usize = 8 + 32;
const PARQUET: &[u8; 4] = b"PAR1";
/// Largest footer that we read: a shard of a day of audio has about 300 kB.
const MAX_FOOTER: u64 = 64 << 20;

/// Bytes that are hashed and passed on at once: BLAKE3 is fastest on long runs of one power of two.
const RUN: usize = 128 * 1024;

/// Passes pages on to `out`, keeps the footer back until the seal is known.
pub(crate) struct Sealing<W> {
    out: W,
    hasher: blake3::Hasher,
    /// Not passed on yet, less than a run.
    run: Vec<u8>,
    footer: Option<Vec<u8>>,
}

impl<W: Write> Sealing<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            hasher: blake3::Hasher::new(),
            run: Vec::with_capacity(RUN),
            footer: None,
        }
    }

    /// What is written from now on is the footer.
    pub(crate) fn begin_footer(&mut self) {
        self.footer.get_or_insert_default();
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.hasher.update(&self.run);
        self.out.write_all(&self.run)?;
        self.run.clear();
        Ok(())
    }

    /// Writes seal and footer, and gives back what was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.pass_on()?;
        let footer = self.footer.take().unwrap_or_default();
        self.hasher.update(&footer);
        self.out.write_all(MAGIC)?;
        self.out.write_all(self.hasher.finalize().as_bytes())?;
        self.out.write_all(&footer)?;
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(footer) = &mut self.footer {
            footer.extend_from_slice(buf);
            return Ok(buf.len());
        }
        let fitting = buf.len().min(RUN - self.run.len());
        self.run.extend_from_slice(&buf[..fitting]);
        if self.run.len() == RUN {
            self.pass_on()?;
        }
        Ok(fitting)
    }

    /// Nothing: a run stays whole until [`Sealing::finish`], before which there is no shard.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the seal of `source`; on success the bytes are those once written.
///
/// # Errors
/// [`Error::Format`] when there is no seal (not one of our shards),
/// [`Error::Damaged`] when the bytes differ, [`Error::Io`].
pub(crate) fn check(source: &Source, file: &str) -> Result<()> {
    let len = source.len();
    if len < (4 + SEAL + 8) as u64 {
        return Err(Error::format(
            file,
            "shard",
            format!("{len} bytes are too few"),
        ));
    }
    let (mut head, mut tail) = ([0; 4], [0; 8]);
    source
        .read_exact_at(&mut head, 0)
        .map_err(Error::io("read", file))?;
    source
        .read_exact_at(&mut tail, len - 8)
        .map_err(Error::io("read", file))?;
    let [a, b, c, d, magic @ ..] = tail;
    if &head != PARQUET {
        return Err(Error::format(
            file,
            "shard",
            "it does not begin with `PAR1`",
        ));
    }
    if &magic != PARQUET {
        return Err(Error::format(
            file,
            "shard",
            "it does not end with `PAR1` (truncated?)",
        ));
    }
    let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
    let end = len - 8;
    let seal_at = end
        .checked_sub(footer)
        .and_then(|at| at.checked_sub(SEAL as u64));
    let Some(seal_at) = seal_at.filter(|&at| at >= 4 && footer <= MAX_FOOTER) else {
        return Err(Error::damaged(
            file,
            end..len,
            format!("footer of {footer} bytes in a file of {len}"),
        ));
    };
    let mut seal = [0; SEAL];
    source
        .read_exact_at(&mut seal, seal_at)
        .map_err(Error::io("read", file))?;
    let (magic, digest) = seal.split_at(8);
    if magic != MAGIC {
        return Err(Error::format(
            file,
            "shard",
            "a parquet file without our seal, or damaged",
        ));
    }
    let mut hasher = blake3::Hasher::new();
    update(&mut hasher, source, 0..seal_at, file)?;
    update(&mut hasher, source, seal_at + SEAL as u64..len, file)?;
    if hasher.finalize().as_bytes() != digest {
        return Err(Error::damaged(
            file,
            0..len,
            "its BLAKE3 digest differs from its seal",
        ));
    }
    Ok(())
}

fn update(
    hasher: &mut blake3::Hasher,
    source: &Source,
    range: Range<u64>,
    file: &str,
) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = range.start;
    while at < range.end {
        let take = (range.end - at).min(buffer.len() as u64) as usize;
        source
            .read_exact_at(&mut buffer[..take], at)
            .map_err(Error::io("read", file))?;
        hasher.update(&buffer[..take]);
        at += take as u64;
    }
    Ok(())
}
