//! The picture of a spectrogram: time to the right, frequency upwards, level
//! as colour.

use crate::colour::Rgb;
use crate::raster::Canvas;
use crate::svg::{Anchor, Frame, INK, Svg, number, shorten, text_width};
use crate::ticks::{self, Ticks};
use crate::{ColourMap, Error, Size};

/// How frequencies lie along their axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrequencyAxis {
    /// Equal steps in hertz.
    #[default]
    Linear,
    /// Equal steps in octaves, from 40 Hz or the first bin above 0 Hz.
    Log,
}

/// A vertical line with a label, at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark<'a> {
    /// Where, in seconds from the first frame.
    pub seconds: f64,
    /// What it says, such as `prompt ends`.
    pub label: &'a str,
}

/// A spectrogram to be drawn.
///
/// Frame `i` is drawn from `i` to `i + 1` times [`Self::seconds_per_frame`].
/// Where several frames or bins share a pixel, the loudest shows: an average
/// would hide short notes in pictures of long pieces.
#[derive(Debug, Clone)]
pub struct Spectrogram<'a> {
    /// What it is of; may be empty.
    pub title: &'a str,
    /// Levels in decibels, shaped `(frames, bins)` in row-major order. NaN is
    /// drawn grey, infinite levels as the ends of the range.
    pub decibels: &'a [f32],
    /// Bins of a frame, the first at 0 Hz.
    pub bins: usize,
    /// The hop over the sampling rate.
    pub seconds_per_frame: f64,
    /// The sampling rate over `n_fft`.
    pub hertz_per_bin: f64,
    /// How frequencies lie along their axis.
    pub axis: FrequencyAxis,
    /// Decibels below the loudest level that are told apart; 80 is usual.
    pub range_db: f64,
    /// A moment to point at, such as the end of a prompt.
    pub mark: Option<Mark<'a>>,
    /// The colours.
    pub colours: ColourMap,
    /// Size of the picture, labels included.
    pub size: Size,
}

/// Where a log axis begins: the lowest notes of a piano lie below, but what
/// shows there is mostly the window's own width.
const LOWEST_HERTZ: f64 = 40.0;

/// The colour of a level that is no number.
const MISSING: Rgb = [128, 128, 128];

impl Spectrogram<'_> {
    /// The picture as a PNG file. Equal numbers give equal bytes.
    ///
    /// No frames at all make an empty picture that says so.
    ///
    /// # Errors
    /// [`Error::Shape`] when the levels do not divide into frames,
    /// [`Error::Step`] when a step or the range is not above 0.
    pub fn render_png(&self) -> Result<Vec<u8>, Error> {
        self.check()?;
        let frame = self.frame();
        let top = loudest(self.decibels);
        let mut canvas = Canvas::white(self.size);
        self.paint(&mut canvas, &frame, top);
        canvas.draw(&self.axes(&frame, top))?;
        canvas.png()
    }

    fn check(&self) -> Result<(), Error> {
        let levels = self.decibels.len();
        if levels.checked_rem(self.bins).unwrap_or(levels) != 0 {
            return Err(Error::Shape {
                levels,
                bins: self.bins,
            });
        }
        for (name, got) in [
            ("seconds_per_frame", self.seconds_per_frame),
            ("hertz_per_bin", self.hertz_per_bin),
            ("range_db", self.range_db),
        ] {
            if !(got.is_finite() && got > 0.0) {
                return Err(Error::Step { name, got });
            }
        }
        Ok(())
    }

    fn frames(&self) -> usize {
        self.decibels.len().checked_div(self.bins).unwrap_or(0)
    }

    /// Where the heat map lies, on whole pixels.
    fn frame(&self) -> Frame {
        let title = if self.title.is_empty() { 16.0 } else { 36.0 };
        Frame {
            left: 72.0,
            top: title,
            right: f64::from(self.size.width()) - 92.0,
            bottom: f64::from(self.size.height()) - 48.0,
        }
    }

    /// The frequencies at the bottom and the top, in hertz.
    fn hertz(&self) -> (f64, f64) {
        let top = (self.bins.max(2) - 1) as f64 * self.hertz_per_bin;
        match self.axis {
            FrequencyAxis::Linear => (0.0, top),
            FrequencyAxis::Log => (LOWEST_HERTZ.max(self.hertz_per_bin).min(top / 2.0), top),
        }
    }

    /// The frequency at `share` of the way up.
    fn hertz_at(&self, share: f64) -> f64 {
        let (low, high) = self.hertz();
        match self.axis {
            FrequencyAxis::Linear => low + (high - low) * share,
            FrequencyAxis::Log => low * (high / low).powf(share),
        }
    }

    /// How far up, as a share, `hertz` lies.
    fn share_of(&self, hertz: f64) -> f64 {
        let (low, high) = self.hertz();
        match self.axis {
            FrequencyAxis::Linear => (hertz - low) / (high - low),
            FrequencyAxis::Log => (hertz / low).ln() / (high / low).ln(),
        }
    }

    /// Fills `frame` with colours, and the bar beside it.
    fn paint(&self, canvas: &mut Canvas, frame: &Frame, top: f64) {
        let (left, width) = (frame.left as usize, frame.width() as usize);
        let (first_row, height) = (frame.top as usize, frame.height() as usize);
        let table = self.colours.table();
        let bar = bar(frame);
        for y in 0..height {
            let share = 1.0 - (y as f64 + 0.5) / height as f64;
            let colour = pick(&table, share);
            let row = canvas.row_mut(first_row + y);
            let columns = bar.left as usize..bar.right as usize;
            row.iter_mut()
                .take(columns.end)
                .skip(columns.start)
                .for_each(|pixel| *pixel = colour);
        }
        if self.decibels.is_empty() {
            return;
        }

        let rows: Vec<(usize, usize)> = (0..height).map(|y| self.bins_of(y, height)).collect();
        let mut loud = vec![f32::NAN; self.bins];
        for x in 0..width {
            let (from, to) = cells(x, width, self.frames());
            loud.fill(f32::NAN);
            for frame in self.decibels[from * self.bins..to * self.bins].chunks(self.bins) {
                for (loud, level) in loud.iter_mut().zip(frame) {
                    // `max` passes over a NaN.
                    *loud = loud.max(*level);
                }
            }
            for (y, (low, high)) in rows.iter().enumerate() {
                let level = loud[*low..*high].iter().copied().fold(f32::NAN, f32::max);
                let share = (f64::from(level) - top) / self.range_db + 1.0;
                if let Some(pixel) = canvas.row_mut(first_row + y).get_mut(left + x) {
                    *pixel = pick(&table, share);
                }
            }
        }
    }

    /// The bins that row `y` of `height` shows, counted from the top; at least
    /// one.
    fn bins_of(&self, y: usize, height: usize) -> (usize, usize) {
        let edge = |y: usize| {
            let share = 1.0 - y as f64 / height as f64;
            // A bin reaches half a bin to either side of its frequency.
            (self.hertz_at(share) / self.hertz_per_bin + 0.5).max(0.0) as usize
        };
        let low = edge(y + 1).min(self.bins - 1);
        let high = edge(y).clamp(low + 1, self.bins);
        (low, high)
    }

    /// Everything but the heat map.
    fn axes(&self, frame: &Frame, top: f64) -> String {
        let mut svg = Svg::transparent(self.size);
        svg.title(frame, self.title);
        self.time_axis(&mut svg, frame);
        self.frequency_axis(&mut svg, frame);
        self.level_axis(&mut svg, &bar(frame), top);
        let middle = (frame.left + frame.right) / 2.0;
        match self.decibels.is_empty() {
            true => svg.label(
                (middle, (frame.top + frame.bottom) / 2.0),
                Anchor::Middle,
                "",
                "no frames",
            ),
            false => self.draw_mark(&mut svg, frame),
        }
        svg.outline(frame);
        svg.finish()
    }

    fn seconds(&self) -> f64 {
        self.frames().max(1) as f64 * self.seconds_per_frame
    }

    fn time_axis(&self, svg: &mut Svg, frame: &Frame) {
        let seconds = self.seconds();
        let most = ((frame.width() / 70.0) as usize).max(4);
        let Ticks(marks) = ticks::linear(0.0, seconds, most);
        for (at, label) in marks {
            let x = frame.left + at / seconds * frame.width();
            let below = frame.bottom + 5.0;
            svg.line((x, frame.bottom), (x, below), &stroke());
            svg.label((x, below + 13.0), Anchor::Middle, "", &label);
        }
        let middle = (frame.left + frame.right) / 2.0;
        svg.label(
            (middle, frame.bottom + 38.0),
            Anchor::Middle,
            "",
            "Time (s)",
        );
    }

    fn frequency_axis(&self, svg: &mut Svg, frame: &Frame) {
        let (low, high) = self.hertz();
        let most = ((frame.height() / 30.0) as usize).max(4);
        let Ticks(marks) = match self.axis {
            FrequencyAxis::Linear => ticks::linear(low, high, most),
            FrequencyAxis::Log => ticks::logarithmic(low, high, most),
        };
        for (hertz, label) in marks {
            let y = frame.bottom - self.share_of(hertz) * frame.height();
            svg.line((frame.left - 5.0, y), (frame.left, y), &stroke());
            svg.label((frame.left - 8.0, y + 4.0), Anchor::End, "", &label);
        }
        let middle = (frame.top + frame.bottom) / 2.0;
        svg.upright((18.0, middle), "Frequency (Hz)");
    }

    fn level_axis(&self, svg: &mut Svg, bar: &Frame, top: f64) {
        let low = top - self.range_db;
        let most = ((bar.height() / 40.0) as usize).max(4);
        let Ticks(marks) = ticks::linear(low, top, most);
        for (level, label) in marks {
            let y = bar.bottom - (level - low) / self.range_db * bar.height();
            svg.line((bar.right, y), (bar.right + 4.0, y), &stroke());
            svg.label((bar.right + 7.0, y + 4.0), Anchor::Start, "", &label);
        }
        svg.outline(bar);
        let middle = (bar.top + bar.bottom) / 2.0;
        svg.upright((bar.right + 52.0, middle), "Level (dB)");
    }

    /// The line and label of [`Self::mark`], where it lies in the picture.
    fn draw_mark(&self, svg: &mut Svg, frame: &Frame) {
        let Some(mark) = self.mark else { return };
        let share = mark.seconds / self.seconds();
        if !(0.0..=1.0).contains(&share) {
            return;
        }
        let x = frame.left + share * frame.width();
        // A dark edge keeps the white line visible over loud notes.
        for style in [
            r##"stroke="#000000" stroke-opacity="0.6" stroke-width="3.5""##,
            r##"stroke="#ffffff" stroke-width="1.5" stroke-dasharray="6 3""##,
        ] {
            svg.line((x, frame.top), (x, frame.bottom), style);
        }
        let text = shorten(mark.label, frame.width() - 24.0, 12.0);
        let width = text_width(&text, 12.0) + 8.0;
        let fits = x + 6.0 + width <= frame.right;
        let left = if fits { x + 6.0 } else { x - 6.0 - width }.max(frame.left);
        svg.push(&format!(
            r##"<rect x="{}" y="{}" width="{}" height="19" rx="3" fill="#000000" fill-opacity="0.6"/>"##,
            number(left),
            number(frame.top + 6.0),
            number(width)
        ));
        let place = (left + width / 2.0, frame.top + 20.0);
        svg.label(place, Anchor::Middle, r##"fill="#ffffff""##, &text);
    }
}

/// The colour bar to the right of `frame`.
fn bar(frame: &Frame) -> Frame {
    Frame {
        left: frame.right + 16.0,
        right: frame.right + 32.0,
        ..*frame
    }
}

fn stroke() -> String {
    format!(r#"stroke="{INK}""#)
}

/// The greatest finite level, 0 where there is none.
fn loudest(levels: &[f32]) -> f64 {
    let finite = levels.iter().copied().filter(|level| level.is_finite());
    let top = finite.fold(f32::NAN, f32::max);
    // Levels of 1e30 dB would overflow the axis.
    let top = if top.is_nan() { 0.0 } else { f64::from(top) };
    top.clamp(-1e6, 1e6)
}

/// The cells of `count` that column `x` of `width` shows: at least one.
fn cells(x: usize, width: usize, count: usize) -> (usize, usize) {
    let edge = |x: usize| (x as f64 / width as f64 * count as f64) as usize;
    let from = edge(x).min(count - 1);
    (from, edge(x + 1).clamp(from + 1, count))
}

/// The colour of `share` of the range; NaN is none of it.
fn pick(table: &[Rgb; 256], share: f64) -> Rgb {
    match share.is_nan() {
        true => MISSING,
        // The cast cuts at 0 and 255.
        false => table[usize::from((share * 255.0).round() as u8)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bell that rises from 500 Hz to 4 kHz, in `frames` frames of 65 bins.
    fn sweep(frames: usize) -> Vec<f32> {
        (0..frames * 65)
            .map(|i| {
                let (t, k) = (i / 65, i % 65);
                let centre = 4.0 + 28.0 * t as f32 / frames as f32;
                -3.0 * (k as f32 - centre).abs() - 6.0
            })
            .collect()
    }

    fn picture(levels: &[f32]) -> Spectrogram<'_> {
        Spectrogram {
            title: "Sweep",
            decibels: levels,
            bins: 65,
            seconds_per_frame: 0.01,
            hertz_per_bin: 125.0,
            axis: FrequencyAxis::Linear,
            range_db: 80.0,
            mark: None,
            colours: ColourMap::Magma,
            size: Size::new(400, 300).unwrap(),
        }
    }

    fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file))
            .read_info()
            .unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    /// The row of the brightest pixel of column `x`, inside the heat map.
    fn ridge(file: &[u8], x: usize) -> usize {
        let (width, _, pixels) = decode(file);
        let bright = |y: usize| {
            let at = (y * width as usize + x) * 3;
            pixels[at..at + 3]
                .iter()
                .map(|c| u32::from(*c))
                .sum::<u32>()
        };
        // The last of the brightest: ties lie on neighbouring rows.
        (40..250).max_by_key(|y| bright(*y)).unwrap()
    }

    #[test]
    fn the_picture_has_its_size_and_is_the_same_each_time() {
        let levels = sweep(300);
        let file = picture(&levels).render_png().unwrap();
        let (width, height, _) = decode(&file);
        assert_eq!((width, height), (400, 300));
        assert_eq!(file, picture(&levels).render_png().unwrap());
    }

    #[test]
    fn frequencies_lie_where_the_axis_says() {
        let levels = sweep(300);
        for axis in [FrequencyAxis::Linear, FrequencyAxis::Log] {
            let picture = Spectrogram {
                axis,
                ..picture(&levels)
            };
            let file = picture.render_png().unwrap();
            let frame = picture.frame();
            for x in [80, 190, 300] {
                let t = (x as f64 + 0.5 - frame.left) / frame.width() * 300.0;
                let hertz = (4.0 + 28.0 * t / 300.0) * 125.0;
                let y = frame.bottom - picture.share_of(hertz) * frame.height();
                let got = ridge(&file, x) as f64;
                // A bin is up to 20 rows high at the foot of a log axis.
                let slack = match axis {
                    FrequencyAxis::Linear => 4.0,
                    FrequencyAxis::Log => 12.0,
                };
                assert!((got - y).abs() < slack, "{axis:?} {x}: row {got}, not {y}");
            }
        }
    }

    #[test]
    fn odd_levels_are_drawn() {
        for odd in [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            f32::MIN,
        ] {
            let mut levels = sweep(20);
            levels[100] = odd;
            picture(&levels).render_png().unwrap();
            picture(&[odd; 65]).render_png().unwrap();
        }
        let nothing = picture(&[]).render_png().unwrap();
        assert_eq!(decode(&nothing).0, 400);
        let no_bins = Spectrogram {
            bins: 0,
            ..picture(&[])
        };
        no_bins.render_png().unwrap();
    }

    #[test]
    fn missing_levels_are_grey() {
        let file = picture(&[f32::NAN; 65]).render_png().unwrap();
        let (width, _, pixels) = decode(&file);
        let at = (150 * width as usize + 150) * 3;
        assert_eq!(pixels[at..at + 3], MISSING);
    }

    #[test]
    fn wrong_shapes_and_steps_are_refused() {
        let levels = sweep(2);
        let odd = picture(&levels[1..]).render_png();
        assert!(matches!(odd, Err(Error::Shape { levels: 129, .. })));
        for step in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let picture = Spectrogram {
                hertz_per_bin: step,
                ..picture(&levels)
            };
            assert!(matches!(picture.render_png(), Err(Error::Step { .. })));
        }
    }

    #[test]
    fn a_mark_shows_only_inside() {
        let levels = sweep(300);
        let plain = picture(&levels).render_png().unwrap();
        for (seconds, shows) in [
            (0.0, true),
            (1.5, true),
            (2.99, true),
            (3.5, false),
            (-1.0, false),
            (f64::NAN, false),
        ] {
            let label = "prompt ends";
            let marked = Spectrogram {
                mark: Some(Mark { seconds, label }),
                ..picture(&levels)
            };
            assert_eq!(marked.render_png().unwrap() != plain, shows, "{seconds} s");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_numbers_make_a_picture(
            levels in prop::collection::vec(any::<f32>(), 0..300),
            bins in 1usize..40,
            steps in (1e-9..1e9f64, 1e-9..1e9f64, 1e-3..1e3f64),
            title in ".{0,80}",
            log in any::<bool>(),
        ) {
            let whole = levels.len() / bins * bins;
            let picture = Spectrogram {
                title: &title,
                decibels: &levels[..whole],
                bins,
                seconds_per_frame: steps.0,
                hertz_per_bin: steps.1,
                range_db: steps.2,
                axis: if log { FrequencyAxis::Log } else { FrequencyAxis::Linear },
                mark: Some(Mark { seconds: steps.0, label: &title }),
                colours: ColourMap::Viridis,
                size: Size::new(240, 240).unwrap(),
            };
            prop_assert!(picture.render_png().is_ok());
        }
    }
}
