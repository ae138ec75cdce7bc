//! What the demuxers read from: a window of the file that remembers the
//! machine's failures.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use symphonia::core::io::MediaSource;

/// The first failure of the machine while reading.
///
/// Demuxers report malformed bytes as I/O errors too; only what was caught here
/// is not the content's fault.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<(io::ErrorKind, String)>>>);

impl Failure {
    /// The failure, if there was one.
    pub(crate) fn take(&self) -> Option<io::Error> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take().map(|(kind, text)| io::Error::new(kind, text))
    }

    fn keep<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(e) = &result
            && e.kind() != io::ErrorKind::Interrupted
        {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            slot.get_or_insert_with(|| (e.kind(), e.to_string()));
        }
        result
    }
}

/// A header and bytes `start..end` of `inner`, as a file of their own.
pub(crate) struct Window<R> {
    header: Vec<u8>,
    inner: R,
    start: u64,
    end: u64,
    /// Position in the window.
    at: u64,
    seekable: bool,
    failure: Failure,
}

impl<R: Read + Seek> Window<R> {
    /// A window that is read from its beginning. One that is not `seekable` has no
    /// known length either: demuxers then make no guesses from it.
    pub(crate) fn new(
        header: Vec<u8>,
        mut inner: R,
        start: u64,
        end: u64,
        seekable: bool,
    ) -> io::Result<(Self, Failure)> {
        inner.seek(SeekFrom::Start(start))?;
        let failure = Failure::default();
        let window = Self {
            header,
            inner,
            start,
            end,
            at: 0,
            seekable,
            failure: failure.clone(),
        };
        Ok((window, failure))
    }

    fn len(&self) -> u64 {
        self.header.len() as u64 + (self.end - self.start)
    }
}

impl<R: Read + Seek> Read for Window<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX);
        let count = if let Some(mut rest @ [_, ..]) = self.header.get(at..) {
            rest.read(buffer)?
        } else {
            let left = usize::try_from(self.len().saturating_sub(self.at)).unwrap_or(usize::MAX);
            let wanted = buffer.len().min(left);
            self.failure.keep(self.inner.read(&mut buffer[..wanted]))?
        };
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: Read + Seek> Seek for Window<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        // Not the machine's failure: the offset came from the file's bytes.
        let target = target
            .filter(|&t| i64::try_from(t).is_ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek out of range"))?;
        // Nor is an offset beyond the end, of which a file system refuses the largest: there is
        // nothing to read there.
        let place = target
            .min(self.len())
            .saturating_sub(self.header.len() as u64);
        let place = SeekFrom::Start(self.start + place);
        self.failure.keep(self.inner.seek(place))?;
        self.at = target;
        Ok(self.at)
    }
}

impl<R: Read + Seek + Send + Sync> MediaSource for Window<R> {
    fn is_seekable(&self) -> bool {
        self.seekable
    }

    fn byte_len(&self) -> Option<u64> {
        self.seekable.then(|| self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn nothing_outside_is_seen() {
        let (mut window, failure) =
            Window::new(Vec::new(), Cursor::new(b"0123456789".to_vec()), 2, 6, true).unwrap();
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "2345");
        assert_eq!(window.seek(SeekFrom::End(-1)).unwrap(), 3);
        text.clear();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "5");
        assert!(window.seek(SeekFrom::Current(-9)).is_err());
        assert_eq!(window.seek(SeekFrom::Start(90)).unwrap(), 90);
        assert_eq!(window.read(&mut [0; 4]).unwrap(), 0);
        assert_eq!(window.byte_len(), Some(4));
        assert!(failure.take().is_none());
    }

    #[test]
    fn offsets_beyond_the_end_are_not_the_machines_failure() {
        /// A file system with a largest offset, as all have.
        struct Small(Cursor<Vec<u8>>);
        impl Read for Small {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Seek for Small {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                match to {
                    SeekFrom::Start(offset) if offset > 1000 => {
                        Err(io::Error::from(io::ErrorKind::InvalidInput))
                    }
                    to => self.0.seek(to),
                }
            }
        }
        let bytes = Cursor::new(b"0123456789".to_vec());
        let (mut window, failure) = Window::new(Vec::new(), Small(bytes), 2, 8, true).unwrap();
        for far in [6, 1001, 1 << 62] {
            assert_eq!(window.seek(SeekFrom::Start(far)).unwrap(), far);
            assert_eq!(window.read(&mut [0; 4]).unwrap(), 0);
        }
        assert!(failure.take().is_none());
        assert_eq!(window.seek(SeekFrom::Start(4)).unwrap(), 4);
        let mut text = String::new();
        window.read_to_string(&mut text).unwrap();
        assert_eq!(text, "67");
    }

    #[test]
    fn a_header_is_read_first() {
        let bytes = Cursor::new(b"0123456789abcdef".to_vec());
        let (mut window, _) = Window::new(b"HEAD".to_vec(), bytes, 2, 12, true).unwrap();
        for _ in 0..2 {
            let (mut pieces, mut piece) = (Vec::new(), [0; 3]);
            while let n @ 1.. = window.read(&mut piece).unwrap() {
                pieces.extend_from_slice(&piece[..n]);
            }
            assert_eq!(pieces, b"HEAD23456789ab");
            window.seek(SeekFrom::Start(0)).unwrap();
        }
        for (at, expected) in [(2, &b"AD2"[..2]), (4, b"234"), (13, b"b")] {
            assert_eq!(window.seek(SeekFrom::Start(at)).unwrap(), at);
            let mut piece = [0; 3];
            let n = window.read(&mut piece).unwrap();
            assert_eq!(&piece[..n], expected);
        }
        assert_eq!(window.byte_len(), Some(14));
    }

    #[test]
    fn the_machines_failures_are_kept() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::TimedOut, "gone"))
            }
        }
        impl Seek for Broken {
            fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
                Ok(0)
            }
        }
        let (mut window, failure) = Window::new(Vec::new(), Broken, 0, 9, true).unwrap();
        assert!(window.read(&mut [0; 4]).is_err());
        assert_eq!(failure.take().unwrap().kind(), io::ErrorKind::TimedOut);
    }
}
