//! A picture in the making, as the text of an SVG 1.1 file.

use std::fmt::Write;

use crate::Size;

/// Ink of axes and text.
pub(crate) const INK: &str = "#222222";
/// Lines of the grid behind a chart.
pub(crate) const GRID: &str = "#e4e4e4";

/// A rectangle in pixels; `y` grows downwards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

impl Frame {
    pub(crate) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

/// Where a text hangs on its point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// The text of an SVG file.
pub(crate) struct Svg {
    text: String,
}

impl Svg {
    /// A white page of `size`.
    pub(crate) fn new(size: Size) -> Self {
        let mut svg = Self::transparent(size);
        svg.push(r##"<rect width="100%" height="100%" fill="#ffffff"/>"##);
        svg
    }

    /// An empty page of `size`, to be laid over something.
    pub(crate) fn transparent(size: Size) -> Self {
        let (width, height) = (size.width(), size.height());
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" \
             font-family=\"'DejaVu Sans', Verdana, sans-serif\" font-size=\"12\" \
             fill=\"{INK}\">\n"
        );
        Self { text }
    }

    /// Appends an element on a line of its own.
    pub(crate) fn push(&mut self, element: &str) {
        self.text.push_str(element);
        self.text.push('\n');
    }

    /// A straight line; `style` holds its other attributes.
    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let _ = writeln!(
            self.text,
            r#"<line x1="{}" y1="{}" x2="{}" y2="{}" {style}/>"#,
            number(from.0),
            number(from.1),
            number(to.0),
            number(to.1)
        );
    }

    /// The outline of `frame`.
    pub(crate) fn outline(&mut self, frame: &Frame) {
        let _ = writeln!(
            self.text,
            r#"<rect x="{}" y="{}" width="{}" height="{}" fill="none" stroke="{INK}"/>"#,
            number(frame.left),
            number(frame.top),
            number(frame.width()),
            number(frame.height())
        );
    }

    /// `text` at `place`, the left, middle or right of its base line.
    pub(crate) fn label(&mut self, place: (f64, f64), anchor: Anchor, style: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.text,
            r#"<text x="{}" y="{}" text-anchor="{anchor}" {style}>{}</text>"#,
            number(place.0),
            number(place.1),
            escape(text)
        );
    }

    /// `text` centred on `place`, read from bottom to top.
    pub(crate) fn upright(&mut self, place: (f64, f64), text: &str) {
        let (x, y) = (number(place.0), number(place.1));
        let _ = writeln!(
            self.text,
            r#"<text x="{x}" y="{y}" text-anchor="middle" transform="rotate(-90 {x} {y})">{}</text>"#,
            escape(text)
        );
    }

    /// The title over `frame`, cut to the width of it.
    pub(crate) fn title(&mut self, frame: &Frame, text: &str) {
        let place = (frame.left, frame.top - 12.0);
        let cut = shorten(text, frame.width(), 15.0);
        self.label(place, Anchor::Start, r#"font-size="15""#, &cut);
    }

    /// The file.
    pub(crate) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

/// A coordinate, to a hundredth of a pixel, without needless zeros.
pub(crate) fn number(value: f64) -> String {
    let mut text = format!("{:.2}", value + 0.0);
    while text.ends_with('0') {
        text.pop();
    }
    if text.ends_with('.') {
        text.pop();
    }
    match text.as_str() {
        "-0" => "0".to_owned(),
        _ => text,
    }
}

/// Width of `text` in pixels at a font size, as DejaVu Sans has it on average;
/// at worst (all capital W) it is too short by a third.
pub(crate) fn text_width(text: &str, font_size: f64) -> f64 {
    text.chars().count() as f64 * font_size * 0.6
}

/// `text` cut, with an ellipsis, to about `width` pixels.
pub(crate) fn shorten(text: &str, width: f64, font_size: f64) -> String {
    if text_width(text, font_size) <= width {
        return text.to_owned();
    }
    let room = (width / (font_size * 0.6)) as usize;
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('\u{2026}');
    cut
}

/// `text` as character data of XML 1.0, which cannot hold control characters
/// (production 2) even when escaped.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out() {
        assert_eq!(
            escape("</text>&\u{0}\"x\"\n"),
            "&lt;/text&gt;&amp; &quot;x&quot; "
        );
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (1.0, "1"),
            (0.126, "0.13"),
            (-0.001, "0"),
            (100.0, "100"),
            (2.5, "2.5"),
        ] {
            let got = number(value);
            // Half to even or up: either is right for 0.125.
            assert!(
                got == expected || (value == 0.125 && got == "0.12"),
                "{got}"
            );
        }
    }

    #[test]
    fn long_titles_are_cut() {
        assert_eq!(shorten("Gigue", 100.0, 15.0), "Gigue");
        assert_eq!(shorten("Wohltemperiertes", 72.0, 15.0), "Wohltem\u{2026}");
        assert_eq!(shorten("Wohltemperiertes", 0.0, 15.0), "\u{2026}");
    }
}
