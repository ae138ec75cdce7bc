//! Memory of rows: bytes that begin where any type and any vector instruction
//! would have them.
//!
//! Tensors are made over batches of rows, and libtorch aligns its own memory to
//! 64 bytes: matrix products may have other last bits elsewhere (Intel, oneMKL
//! Developer Guide, "Obtaining Numerically Reproducible Results").

use crate::error::{Error, Result};

const ALIGN: usize = 64;

/// Bytes at a multiple of 64, which stay where they are when this is moved.
///
/// We allocate some more and begin further on: glibc before 2.38 does not find
/// freed memory again for requests with an alignment of their own.
#[derive(Debug, Default)]
pub(crate) struct Block {
    all: Vec<u8>,
    start: usize,
    len: usize,
}

impl Block {
    /// Makes room for `len` bytes of `what`: zeros, or what they were if there
    /// was room for just as many.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub(crate) fn resize(&mut self, len: usize, what: &str) -> Result<()> {
        if self.len == len {
            return Ok(());
        }
        *self = Self::default();
        let room = len.saturating_add(ALIGN - 1);
        self.all
            .try_reserve_exact(room)
            .map_err(|_| Error::Memory {
                bytes: len as u64,
                what: what.to_owned(),
            })?;
        self.all.resize(room, 0);
        self.start = self.all.as_ptr().addr().wrapping_neg() % ALIGN;
        self.len = len;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.all[self.start..self.start + self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_begin_at_multiples_and_keep_their_place() {
        for len in [1, 63, 64, 65, 1000, 1 << 20] {
            let mut block = Block::default();
            block.resize(len, "a test").unwrap();
            assert_eq!(block.bytes(), vec![0; len]);
            let place = block.bytes().as_ptr();
            assert!(place.addr().is_multiple_of(ALIGN));
            block.bytes_mut()[len - 1] = 7;
            block.resize(len, "a test").unwrap();
            assert_eq!(block.bytes().last(), Some(&7));
            let mut moved = Box::new(block);
            assert_eq!(moved.bytes_mut().as_ptr(), place);
        }
        assert!(Block::default().bytes().is_empty());
    }

    #[test]
    fn more_than_there_is_is_refused() {
        for len in [isize::MAX as usize - ALIGN, usize::MAX] {
            let error = Block::default().resize(len, "a test");
            assert!(matches!(error, Err(Error::Memory { .. })));
        }
    }
}
