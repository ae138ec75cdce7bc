//! What can go wrong when a picture is made.

/// Why no picture could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The picture is too small to hold its labels, or too large for memory.
    #[error(
        "a picture of {width} x {height} pixels cannot be drawn, expected {min} to {max} each way",
        min = crate::Size::MIN,
        max = crate::Size::MAX
    )]
    Size {
        /// Width asked for, in pixels.
        width: u32,
        /// Height asked for, in pixels.
        height: u32,
    },
    /// The levels do not divide into frames.
    #[error("{levels} levels are no whole number of frames of {bins} bins")]
    Shape {
        /// How many levels there are.
        levels: usize,
        /// Bins of a frame.
        bins: usize,
    },
    /// A step of an axis, or the range of levels, is no positive finite number.
    #[error("`{name}` is {got}, expected a finite number above 0")]
    Step {
        /// The field.
        name: &'static str,
        /// Its value.
        got: f64,
    },
    /// The drawing could not be read back; a fault of this crate.
    #[error("the drawing is no valid SVG")]
    Svg(#[source] resvg::usvg::Error),
    /// The picture could not be encoded.
    #[error("the picture cannot be encoded as PNG")]
    Png(#[source] png::EncodingError),
}
