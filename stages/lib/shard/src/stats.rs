//! Sums from which statistics follow: kept per block of rows, so that they
//! merge over any part of a data set without reading its rows again.
//!
//! Mean and variance come from sums and sums of squares in f64. The textbook's
//! warning (cancellation when the mean is large beside the deviation) does not
//! bite: rows hold at most 24 significant bits, and 53 - 2 * 24 bits are left
//! where mean and deviation are of one order, as in log magnitudes. The order
//! of summation is fixed (rows, blocks, segments by digest), so equal data give
//! equal bits.

use serde::{Deserialize, Serialize};

/// Count, sum, sum of squares, least and greatest value of each dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    /// Rows summed up.
    pub count: u64,
    /// Sum per dimension, shaped `(width,)`.
    pub sum: Vec<f64>,
    /// Sum of squares per dimension, shaped `(width,)`.
    pub square: Vec<f64>,
    /// Least value per dimension, shaped `(width,)`; infinite while `count` is 0.
    pub min: Vec<f32>,
    /// Greatest value per dimension, shaped `(width,)`; minus infinity while
    /// `count` is 0.
    pub max: Vec<f32>,
}

impl Sums {
    /// Sums of no rows of `width` values.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            count: 0,
            sum: vec![0.0; width],
            square: vec![0.0; width],
            min: vec![f32::INFINITY; width],
            max: vec![f32::NEG_INFINITY; width],
        }
    }

    /// Values per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.sum.len()
    }

    /// Adds whole rows in row-major order; a last part of a row is left out.
    pub fn add(&mut self, rows: &[f32]) {
        let width = self.width();
        if width == 0 {
            return;
        }
        for row in rows.chunks_exact(width) {
            for (sum, &x) in self.sum.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
            for (square, &x) in self.square.iter_mut().zip(row) {
                *square += f64::from(x) * f64::from(x);
            }
            for (min, &x) in self.min.iter_mut().zip(row) {
                *min = if x < *min { x } else { *min };
            }
            for (max, &x) in self.max.iter_mut().zip(row) {
                *max = if x > *max { x } else { *max };
            }
            self.count += 1;
        }
    }

    /// Adds the rows that `other`, of the same width, has summed up.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        for (a, b) in self.sum.iter_mut().zip(&other.sum) {
            *a += b;
        }
        for (a, b) in self.square.iter_mut().zip(&other.square) {
            *a += b;
        }
        for (a, b) in self.min.iter_mut().zip(&other.min) {
            *a = a.min(*b);
        }
        for (a, b) in self.max.iter_mut().zip(&other.max) {
            *a = a.max(*b);
        }
    }

    /// Mean, standard deviation, least and greatest value per dimension; none
    /// when there are no rows.
    #[must_use]
    pub fn statistics(&self) -> Option<Statistics> {
        if self.count == 0 {
            return None;
        }
        let n = self.count as f64;
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / n).collect();
        let variance = self
            .square
            .iter()
            .zip(&mean)
            .map(|(square, m)| square / n - m * m);
        // Rounding may leave a constant dimension a little below zero.
        let std = variance.map(|v| v.max(0.0).sqrt()).collect();
        Some(Statistics {
            count: self.count,
            mean,
            std,
            min: self.min.clone(),
            max: self.max.clone(),
        })
    }
}

/// Statistics of a set of rows, per dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Rows that were summed up.
    pub count: u64,
    /// Mean, shaped `(width,)`.
    pub mean: Vec<f64>,
    /// Standard deviation of the population (divided by `count`), `(width,)`;
    /// 0 for a dimension that never changes.
    pub std: Vec<f64>,
    /// Least value, `(width,)`.
    pub min: Vec<f32>,
    /// Greatest value, `(width,)`.
    pub max: Vec<f32>,
}
