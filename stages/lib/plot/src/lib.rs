//! Pictures from numbers: spectrograms as PNG, line charts as SVG and PNG.
//!
//! Everything but the heat map of a spectrogram is written as SVG and drawn by
//! resvg with a font that is part of this crate, so no C library and no font of
//! the machine takes part, and equal numbers give equal bytes. We do not use
//! plotters: its text needs fontconfig and freetype.
//!
//! ```
//! let chart = plot::LineChart {
//!     title: "Loss".into(),
//!     x_label: "Epoch".into(),
//!     panels: vec![plot::Panel {
//!         y_label: "Mean squared error".into(),
//!         series: vec![plot::Series {
//!             name: "validation".into(),
//!             points: vec![(1.0, 0.9), (2.0, 0.5), (3.0, 0.4)],
//!         }],
//!         baselines: vec![plot::Baseline { name: "copy previous".into(), value: 0.45 }],
//!         scale: plot::Scale::Linear,
//!     }],
//!     size: plot::Size::default(),
//! };
//! assert!(chart.to_svg().starts_with("<svg"));
//! assert!(chart.to_png()?.starts_with(b"\x89PNG"));
//! # Ok::<(), plot::Error>(())
//! ```

#![warn(missing_docs)]

mod chart;
mod colour;
mod error;
mod raster;
mod spectrogram;
mod svg;
mod ticks;

pub use chart::{Baseline, LineChart, Panel, Scale, Series};
pub use colour::ColourMap;
pub use error::Error;
pub use spectrogram::{FrequencyAxis, Mark, Spectrogram};

/// Width and height of a picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// The least width and height: below, the labels leave no room for a plot.
    pub const MIN: u32 = 240;
    /// The greatest width and height: a picture then takes 256 MiB while it is
    /// drawn.
    pub const MAX: u32 = 8192;

    /// A size of `width` times `height` pixels.
    ///
    /// # Errors
    /// [`Error::Size`] when either is outside [`Size::MIN`] to [`Size::MAX`].
    pub fn new(width: u32, height: u32) -> Result<Self, Error> {
        let fits = |side| (Self::MIN..=Self::MAX).contains(&side);
        match fits(width) && fits(height) {
            true => Ok(Self { width, height }),
            false => Err(Error::Size { width, height }),
        }
    }

    /// Width in pixels.
    pub fn width(self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(self) -> u32 {
        self.height
    }
}

impl Default for Size {
    /// 1000 by 500: the width of a page on a screen.
    fn default() -> Self {
        Self {
            width: 1000,
            height: 500,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded() {
        assert!(Size::new(240, 8192).is_ok());
        assert!(Size::new(239, 500).is_err());
        assert!(Size::new(1000, u32::MAX).is_err());
    }
}
