//! From SVG to pixels to PNG.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

use crate::{Error, Size};

/// DejaVu Sans, cut down to Latin, Greek, Cyrillic and a few signs; see
/// `font/README.md`.
const FONT: &[u8] = include_bytes!("../font/DejaVuSans-subset.ttf");

static FONTS: LazyLock<Arc<usvg::fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Pixels of a picture, RGB, row by row from the top.
pub(crate) struct Canvas {
    size: Size,
    pixels: Vec<[u8; 3]>,
}

impl Canvas {
    /// A white canvas.
    pub(crate) fn white(size: Size) -> Self {
        let count = size.width() as usize * size.height() as usize;
        Self {
            size,
            pixels: vec![[255; 3]; count],
        }
    }

    /// Row `y`; empty below the canvas.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [[u8; 3]] {
        let width = self.size.width() as usize;
        self.pixels.chunks_mut(width).nth(y).unwrap_or(&mut [])
    }

    /// Draws an SVG over what is there.
    ///
    /// # Errors
    /// [`Error::Svg`] when `svg` is not well-formed.
    pub(crate) fn draw(&mut self, svg: &str) -> Result<(), Error> {
        let options = usvg::Options {
            fontdb: FONTS.clone(),
            ..usvg::Options::default()
        };
        let tree = usvg::Tree::from_str(svg, &options).map_err(Error::Svg)?;
        let (width, height) = (self.size.width(), self.size.height());
        let mut layer = Pixmap::new(width, height).ok_or(Error::Size { width, height })?;
        resvg::render(&tree, Transform::identity(), &mut layer.as_mut());
        for (below, above) in self.pixels.iter_mut().zip(layer.pixels()) {
            let left = 255 - u32::from(above.alpha());
            let colour = [above.red(), above.green(), above.blue()];
            // The layer's colours are multiplied by their alpha already.
            for (below, above) in below.iter_mut().zip(colour) {
                let shine = (u32::from(*below) * left + 127) / 255;
                *below = (shine + u32::from(above)).min(255) as u8;
            }
        }
        Ok(())
    }

    /// The picture as a PNG file (ISO/IEC 15948), without a time in it.
    ///
    /// # Errors
    /// [`Error::Png`] when the encoder refuses, which no size here makes it do.
    pub(crate) fn png(&self) -> Result<Vec<u8>, Error> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.size.width(), self.size.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_compression(png::Compression::Balanced);
        let mut writer = encoder.write_header().map_err(Error::Png)?;
        writer
            .write_image_data(self.pixels.as_flattened())
            .map_err(Error::Png)?;
        writer.finish().map_err(Error::Png)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::{Anchor, Svg};

    fn ink(text: &str) -> usize {
        let size = Size::new(400, 240).unwrap();
        let mut svg = Svg::new(size);
        svg.label((10.0, 100.0), Anchor::Start, r#"font-size="40""#, text);
        let mut canvas = Canvas::white(size);
        canvas.draw(&svg.finish()).unwrap();
        canvas.pixels.iter().filter(|pixel| pixel[0] < 128).count()
    }

    #[test]
    fn the_font_is_there() {
        let blank = ink("");
        assert_eq!(blank, 0);
        for text in ["Hz", "für Élise", "Чайковский", "\u{2212}3 \u{2026}"] {
            assert!(ink(text) > 100, "{text}");
        }
    }
}
