//! What the rows of a data set are, as a model and its file know them.

use std::collections::{BTreeMap, BTreeSet};

use dsp::FrameFormat;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Most columns of the rows: a data set has magnitudes, phases and descriptors.
const MAX_COLUMNS: usize = 16;
/// Most values of a row.
const MAX_WIDTH: usize = 1 << 20;
/// Largest value in the statistics of the rows, far above any magnitude.
const MAX_VALUE: f32 = 1e12;

/// What the rows of a data set are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rows {
    /// Columns in order: name and width.
    pub columns: Vec<(String, u32)>,
    /// Mean of each value over the training split.
    pub mean: Vec<f64>,
    /// Standard deviation of each value over the training split.
    pub std: Vec<f64>,
    /// Smallest of each value over the training split.
    pub min: Vec<f32>,
    /// Largest of each value over the training split.
    pub max: Vec<f32>,
    /// What the frames are, as [`dsp::FrameFormat::metadata`] tells it.
    pub frames: BTreeMap<String, String>,
}

impl Rows {
    /// Values in a row.
    pub fn width(&self) -> usize {
        self.columns.iter().map(|(_, width)| *width as usize).sum()
    }

    /// What the frames are.
    ///
    /// # Errors
    /// The description is not one of ours.
    pub fn format(&self) -> Result<FrameFormat> {
        FrameFormat::from_metadata(&self.frames)
            .map_err(|e| Error::Data(format!("the description of the frames: {e}")))
    }

    /// Where the column `name` lies in a row: first value and width.
    pub fn column(&self, name: &str) -> Option<(usize, usize)> {
        let mut start = 0;
        for (column, width) in &self.columns {
            let width = *width as usize;
            if column == name {
                return Some((start, width));
            }
            start += width;
        }
        None
    }

    /// Checks what a digest cannot vouch for: that these are rows such as this program writes. A
    /// file can be made to exhaust memory, or to feed the sampler with what is no number.
    ///
    /// # Errors
    /// The first thing that cannot be, in words for the user that follow the file's name.
    pub fn check(&self) -> std::result::Result<(), String> {
        let mut names = BTreeSet::new();
        for (name, width) in &self.columns {
            if *width == 0 || !names.insert(name) {
                let name: String = name.chars().take(100).collect();
                return Err(format!(
                    "has a column `{}` twice or without values",
                    name.escape_debug()
                ));
            }
        }
        if !(1..=MAX_COLUMNS).contains(&names.len()) {
            return Err(format!(
                "has {} columns, expected 1 to {MAX_COLUMNS}",
                names.len()
            ));
        }
        let width = self.width();
        if width > MAX_WIDTH {
            return Err(format!(
                "has rows of {width} values, expected 1 to {MAX_WIDTH}"
            ));
        }
        // The models compute in f32.
        let narrow = |values: &[f64]| values.iter().map(|&x| x as f32).collect::<Vec<_>>();
        for (what, values) in [
            ("mean", &narrow(&self.mean)),
            ("std", &narrow(&self.std)),
            ("min", &self.min),
            ("max", &self.max),
        ] {
            let length = values.len();
            if length != width {
                return Err(format!("has `{what}` of {length} values, expected {width}"));
            }
            if let Some(bad) = values.iter().find(|x| x.is_nan() || x.abs() > MAX_VALUE) {
                return Err(format!(
                    "has {bad:e} in `{what}`, expected numbers from -{MAX_VALUE:e} to {MAX_VALUE:e}"
                ));
            }
        }
        if self.std.iter().any(|std| *std < 0.0) {
            return Err("has a negative deviation in `std`".to_owned());
        }
        if self.min.iter().zip(&self.max).any(|(min, max)| min > max) {
            return Err("has a value in `min` above that in `max`".to_owned());
        }
        self.format()
            .map(drop)
            .map_err(|error| format!("has {error}"))
    }
}
