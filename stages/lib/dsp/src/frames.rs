//! Rows of equal width: one per STFT frame.

use crate::Error;

/// Values of consecutive frames, shaped `(frames, width)` in row-major order.
///
/// The length of the data is always a multiple of the width.
#[derive(Debug, Clone, PartialEq)]
pub struct Frames<T> {
    width: usize,
    data: Vec<T>,
}

impl<T: Copy + Default> Frames<T> {
    /// No frames yet, of `width` values each (at least 1).
    pub fn new(width: usize) -> Self {
        Self {
            width: width.max(1),
            data: Vec::new(),
        }
    }

    /// No frames yet, of `width` values each (at least 1), with room for `frames`.
    ///
    /// # Errors
    /// [`Error::Memory`] when the room is not to be had.
    pub fn with_capacity(width: usize, frames: usize) -> Result<Self, Error> {
        let width = width.max(1);
        let mut data = Vec::new();
        width
            .checked_mul(frames)
            .and_then(|values| data.try_reserve_exact(values).ok())
            .ok_or(Error::Memory { frames, width })?;
        Ok(Self { width, data })
    }

    /// `frames` rows of default values.
    ///
    /// # Errors
    /// [`Error::Memory`] when there is no room for them.
    pub fn zeros(width: usize, frames: usize) -> Result<Self, Error> {
        let mut rows = Self::with_capacity(width, frames)?;
        rows.data.resize(rows.width * frames, T::default());
        Ok(rows)
    }

    /// Takes values over; those of a last, incomplete row are dropped.
    pub fn from_vec(width: usize, mut data: Vec<T>) -> Self {
        let width = width.max(1);
        data.truncate(data.len() / width * width);
        Self { width, data }
    }

    /// Appends a row: its first `width` values, filled up with default ones.
    pub fn push(&mut self, row: &[T]) {
        let end = self.data.len() + self.width;
        self.data.extend(row.iter().take(self.width));
        self.data.resize(end, T::default());
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.data.len() / self.width
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// One row, or an empty slice beyond the last.
    pub fn row(&self, index: usize) -> &[T] {
        self.data
            .get(index * self.width..(index + 1) * self.width)
            .unwrap_or_default()
    }

    /// The rows in order of time.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, T> {
        self.data.chunks_exact(self.width)
    }

    /// The rows in order of time, to be changed.
    pub fn rows_mut(&mut self) -> std::slice::ChunksExactMut<'_, T> {
        self.data.chunks_exact_mut(self.width)
    }

    /// All values, row after row.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All values, row after row, to be changed.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// All values, row after row, as their vector.
    pub fn into_vec(self) -> Vec<T> {
        self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_width() {
        let mut rows = Frames::with_capacity(3, 2).unwrap();
        rows.push(&[1, 2]);
        rows.push(&[3, 4, 5, 6]);
        assert_eq!(rows.data(), [1, 2, 0, 3, 4, 5]);
        assert_eq!(
            (rows.len(), rows.row(1), rows.row(2)),
            (2, &[3, 4, 5][..], &[][..])
        );
        assert_eq!(Frames::from_vec(2, vec![1, 2, 3]).data(), [1, 2]);
    }

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(Frames::<f32>::zeros(usize::MAX, 2).is_err());
        assert!(Frames::<f32>::with_capacity(1 << 40, 1 << 20).is_err());
    }
}
