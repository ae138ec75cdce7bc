//! Line charts, such as the validation error of a training run above its loss.

use std::fmt::Write;

use crate::raster::Canvas;
use crate::svg::{Anchor, Frame, GRID, Svg, escape, number, shorten, text_width};
use crate::ticks::{self, Ticks};
use crate::{Error, Size};

/// How values lie along the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal steps.
    #[default]
    Linear,
    /// Equal ratios; drawn as [`Scale::Linear`] where a value is not above 0.
    Log,
}

/// A named line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// The points `(x, y)` by ascending `x`. One that is not finite breaks the
    /// line.
    pub points: Vec<(f64, f64)>,
}

/// A named horizontal line: what a trivial method reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// What the legend says.
    pub name: String,
    /// Where it lies; not drawn when not finite.
    pub value: f64,
}

/// Lines over a common vertical axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Quantity and unit upwards.
    pub y_label: String,
    /// The lines, drawn in this order.
    pub series: Vec<Series>,
    /// The baselines, drawn below the lines and dashed.
    pub baselines: Vec<Baseline>,
    /// How values lie along the vertical axis.
    pub scale: Scale,
}

/// Panels one above another over a common horizontal axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What it is of; may be empty.
    pub title: String,
    /// Quantity and unit to the right.
    pub x_label: String,
    /// The panels from top to bottom. Those that find no room are left out.
    pub panels: Vec<Panel>,
    /// Size of the picture, labels included.
    pub size: Size,
}

/// Colours of lines, told apart by the colour-blind: Okabe & Ito (2008).
const COLOURS: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

/// Colours and dashes of baselines.
const BASELINES: [(&str, &str); 3] = [
    ("#555555", "7 4"),
    ("#888888", "2 3"),
    ("#aaaaaa", "9 3 2 3"),
];

impl LineChart {
    /// The chart as the text of an SVG file. Equal numbers give equal text.
    ///
    /// Its size does not grow with the points: of those that share a column of
    /// pixels the first, the last and both extremes are kept, which gives the
    /// same picture.
    pub fn to_svg(&self) -> String {
        let frames = self.frames();
        let mut svg = Svg::new(self.size);
        if let Some(first) = frames.first() {
            svg.title(first, &self.title);
        }
        let x = self.range();
        let mut colours = COLOURS.iter().cycle();
        for (i, (panel, frame)) in self.panels.iter().zip(&frames).enumerate() {
            let axes = Axes::new(panel, x, *frame);
            let x_label = (i + 1 == frames.len()).then_some(self.x_label.as_str());
            axes.draw(&mut svg, x_label, &panel.y_label);
            for (baseline, (colour, dash)) in panel.baselines.iter().zip(BASELINES.iter().cycle()) {
                if let Some(y) = axes.y(baseline.value) {
                    let style = format!(
                        r#"stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}""#
                    );
                    svg.line((frame.left, y), (frame.right, y), &style);
                }
            }
            let lines: Vec<(&Series, &str)> =
                panel.series.iter().zip(colours.by_ref().copied()).collect();
            for (series, colour) in &lines {
                draw_series(&mut svg, &axes, series, colour);
            }
            svg.outline(frame);
            draw_legend(&mut svg, frame, &lines, &panel.baselines);
        }
        svg.finish()
    }

    /// The chart as a PNG file, drawn from [`Self::to_svg`].
    ///
    /// # Errors
    /// [`Error::Svg`] or [`Error::Png`], which would be a fault of this crate.
    pub fn to_png(&self) -> Result<Vec<u8>, Error> {
        let mut canvas = Canvas::white(self.size);
        canvas.draw(&self.to_svg())?;
        canvas.png()
    }

    /// Where the panels lie: of equal height, each at least [`MIN_PANEL`] high.
    fn frames(&self) -> Vec<Frame> {
        let title = if self.title.is_empty() { 16.0 } else { 36.0 };
        let bottom = f64::from(self.size.height()) - 48.0;
        let fit = ((bottom - title + GAP) / (MIN_PANEL + GAP)).max(1.0) as usize;
        let count = self.panels.len().min(fit);
        let height = (bottom - title - GAP * (count.max(1) - 1) as f64) / count.max(1) as f64;
        (0..count)
            .map(|i| {
                let top = title + i as f64 * (height + GAP);
                Frame {
                    left: 76.0,
                    top,
                    right: f64::from(self.size.width()) - 24.0,
                    bottom: top + height,
                }
            })
            .collect()
    }

    /// The range of the horizontal axis.
    fn range(&self) -> (f64, f64) {
        let series = self.panels.iter().flat_map(|panel| &panel.series);
        let points = series.flat_map(|series| &series.points);
        let whole = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
        ticks::range(points.filter(whole).map(|point| point.0), (0.0, 1.0))
    }
}

/// Pixels between two panels.
const GAP: f64 = 20.0;
/// Pixels of the lowest panel that shows something.
const MIN_PANEL: f64 = 80.0;

/// The names and their strokes, in the upper right: losses fall.
fn draw_legend(svg: &mut Svg, frame: &Frame, lines: &[(&Series, &str)], baselines: &[Baseline]) {
    let lines = lines
        .iter()
        .map(|(series, colour)| (series.name.as_str(), *colour, None));
    let baselines = baselines.iter().zip(BASELINES.iter().cycle());
    let baselines =
        baselines.map(|(line, (colour, dash))| (line.name.as_str(), *colour, Some(*dash)));
    let room = ((frame.height() - 16.0) / 18.0) as usize;
    let entries: Vec<(String, &str, Option<&str>)> = lines
        .chain(baselines)
        .take(room)
        .map(|(name, colour, dash)| (shorten(name, frame.width() * 0.4, 12.0), colour, dash))
        .collect();
    if entries.is_empty() {
        return;
    }
    let widest = entries.iter().map(|(name, ..)| text_width(name, 12.0));
    let width = widest.fold(0.0, f64::max) + 44.0;
    let (left, top) = (frame.right - width - 8.0, frame.top + 8.0);
    svg.push(&format!(
        r##"<rect x="{}" y="{}" width="{}" height="{}" fill="#ffffff" fill-opacity="0.85" stroke="{GRID}"/>"##,
        number(left),
        number(top),
        number(width),
        entries.len() * 18 + 8
    ));
    for (i, (name, colour, dash)) in entries.iter().enumerate() {
        let y = top + 13.0 + i as f64 * 18.0;
        let dash = dash.map(|dash| format!(r#" stroke-dasharray="{dash}""#));
        let style = format!(
            r#"stroke="{colour}" stroke-width="2"{}"#,
            dash.unwrap_or_default()
        );
        svg.line((left + 8.0, y), (left + 30.0, y), &style);
        svg.label((left + 36.0, y + 4.0), Anchor::Start, "", name);
    }
}

/// The ranges of a panel and where they lie on the page.
struct Axes {
    frame: Frame,
    x: (f64, f64),
    y: (f64, f64),
    scale: Scale,
}

impl Axes {
    fn new(panel: &Panel, x: (f64, f64), frame: Frame) -> Self {
        let points = || panel.series.iter().flat_map(|series| &series.points);
        let whole = |point: &&(f64, f64)| point.0.is_finite() && point.1.is_finite();
        let values = || {
            let baselines = panel.baselines.iter().map(|baseline| baseline.value);
            let lines = points().filter(whole).map(|point| point.1);
            lines.chain(baselines).filter(|value| value.is_finite())
        };
        let (low, high) = ticks::range(values(), (0.0, 1.0));
        // Below 1e-100, a lone value included, ratios leave what f64 can hold.
        let positive = values().all(|value| value > 1e-100) && low > 0.0;
        let (scale, y) = match panel.scale {
            Scale::Log if positive => {
                let air = (high / low).powf(0.04);
                (Scale::Log, (low / air, high * air))
            }
            _ => {
                let air = (high - low) * 0.04;
                (Scale::Linear, (low - air, high + air))
            }
        };
        Self { frame, x, y, scale }
    }

    /// Where `x` lies on the page.
    fn x(&self, x: f64) -> Option<f64> {
        let share = (x - self.x.0) / (self.x.1 - self.x.0);
        share
            .is_finite()
            .then(|| self.frame.left + share.clamp(0.0, 1.0) * self.frame.width())
    }

    /// Where `y` lies on the page.
    fn y(&self, y: f64) -> Option<f64> {
        let (low, high) = self.y;
        let share = match self.scale {
            Scale::Linear => (y - low) / (high - low),
            Scale::Log => (y / low).ln() / (high / low).ln(),
        };
        share
            .is_finite()
            .then(|| self.frame.bottom - share.clamp(0.0, 1.0) * self.frame.height())
    }

    /// Draws the grid and the labels; those of the horizontal axis if `x_label` is given.
    fn draw(&self, svg: &mut Svg, x_label: Option<&str>, y_label: &str) {
        let frame = &self.frame;
        let most = |pixels: f64, each: f64| ((pixels / each) as usize).max(4);
        let Ticks(columns) = ticks::linear(self.x.0, self.x.1, most(frame.width(), 80.0));
        let across = most(frame.height(), 40.0);
        let Ticks(rows) = match self.scale {
            Scale::Linear => ticks::linear(self.y.0, self.y.1, across),
            Scale::Log => ticks::logarithmic(self.y.0, self.y.1, across),
        };
        let grid = format!(r#"stroke="{GRID}""#);
        for (x, label) in columns {
            let Some(x) = self.x(x) else { continue };
            svg.line((x, frame.top), (x, frame.bottom), &grid);
            if x_label.is_some() {
                svg.label((x, frame.bottom + 18.0), Anchor::Middle, "", &label);
            }
        }
        for (y, label) in rows {
            let Some(y) = self.y(y) else { continue };
            svg.line((frame.left, y), (frame.right, y), &grid);
            svg.label((frame.left - 8.0, y + 4.0), Anchor::End, "", &label);
        }
        let middle = (
            (frame.left + frame.right) / 2.0,
            (frame.top + frame.bottom) / 2.0,
        );
        if let Some(x_label) = x_label {
            let place = (middle.0, frame.bottom + 38.0);
            svg.label(place, Anchor::Middle, "", x_label);
        }
        svg.upright((18.0, middle.1), y_label);
    }
}

/// Draws each unbroken stretch of `series`; a lone point becomes a dot.
fn draw_series(svg: &mut Svg, axes: &Axes, series: &Series, colour: &str) {
    let mut path = String::new();
    let mut dots = Vec::new();
    let stretches = series
        .points
        .split(|point| !(point.0.is_finite() && point.1.is_finite()));
    for stretch in stretches {
        let placed = stretch
            .iter()
            .filter_map(|&(x, y)| Some((axes.x(x)?, axes.y(y)?)));
        let placed = thin(placed);
        if let [(x, y)] = placed[..] {
            dots.push((x, y));
        }
        for (i, (x, y)) in placed.iter().enumerate() {
            let verb = if i == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{verb}{} {}", number(*x), number(*y));
        }
    }
    if !path.is_empty() {
        svg.push(&format!(
            r#"<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"><title>{}</title></path>"#,
            escape(&series.name)
        ));
    }
    for (x, y) in dots {
        let (x, y) = (number(x), number(y));
        svg.push(&format!(
            r#"<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>"#
        ));
    }
}

/// Of the points in one column of pixels, keeps the first, the lowest, the
/// highest and the last, in their order: the aggregation M4 of Jugel et al.,
/// "M4: A Visualization-Oriented Time Series Data Aggregation" (2014).
fn thin(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    let mut column: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if column
            .first()
            .is_some_and(|first| first.0.floor() != point.0.floor())
        {
            keep(&mut kept, &column);
            column.clear();
        }
        match column.len() {
            // Running extremes: first, lowest, highest, last.
            0 => column = vec![point; 4],
            _ => {
                if point.1 < column[1].1 {
                    column[1] = point;
                }
                if point.1 > column[2].1 {
                    column[2] = point;
                }
                column[3] = point;
            }
        }
    }
    keep(&mut kept, &column);
    kept
}

/// Appends the points of a column by ascending x, each once.
fn keep(kept: &mut Vec<(f64, f64)>, column: &[(f64, f64)]) {
    let mut column = column.to_vec();
    column.sort_by(|a, b| a.0.total_cmp(&b.0));
    column.dedup();
    kept.extend(column);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chart() -> LineChart {
        let line = |name: &str, from: f64, to: f64| Series {
            name: name.to_owned(),
            points: (1..=5)
                .map(|epoch| {
                    let epoch = f64::from(epoch);
                    (epoch, to + (from - to) / epoch)
                })
                .collect(),
        };
        let baseline = |name: &str, value| Baseline {
            name: name.to_owned(),
            value,
        };
        LineChart {
            title: "Loss <s0>".to_owned(),
            x_label: "Epoch".to_owned(),
            panels: vec![Panel {
                y_label: "Mean squared error".to_owned(),
                series: vec![line("training", 1.0, 0.1), line("validation", 1.1, 0.3)],
                baselines: vec![
                    baseline("copy previous", 0.45),
                    baseline("per-bin mean", 0.9),
                ],
                scale: Scale::Linear,
            }],
            size: Size::new(480, 300).unwrap(),
        }
    }

    #[test]
    fn panels_share_the_horizontal_axis() {
        let mut chart = chart();
        chart.size = Size::new(480, 500).unwrap();
        let mut lower = chart.panels[0].clone();
        lower.y_label = "Perplexity".to_owned();
        lower.series.truncate(1);
        for point in &mut lower.series[0].points {
            point.0 += 3.0;
        }
        chart.panels.push(lower);
        insta::assert_snapshot!(chart.to_svg());
        // What finds no room is left out.
        chart.panels = vec![chart.panels[0].clone(); 40];
        let svg = chart.to_svg();
        assert_eq!(svg.matches("Mean squared error").count(), 4);
    }

    #[test]
    fn the_text_is_as_expected() {
        insta::assert_snapshot!(chart().to_svg());
    }

    #[test]
    fn the_picture_is_the_same_each_time() {
        let file = chart().to_png().unwrap();
        assert_eq!(file, chart().to_png().unwrap());
        assert_eq!(file[16..24], [0, 0, 1, 224, 0, 0, 1, 44]);
    }

    #[test]
    fn a_gap_breaks_the_line_and_a_lone_point_is_a_dot() {
        let mut chart = chart();
        chart.panels[0].series.truncate(1);
        chart.panels[0].series[0].points[1].1 = f64::NAN;
        let svg = chart.to_svg();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn nothing_to_draw_is_drawn() {
        let mut chart = chart();
        chart.panels[0].series.clear();
        chart.panels[0].baselines = vec![Baseline {
            name: "unknown".to_owned(),
            value: f64::NAN,
        }];
        chart.to_png().unwrap();
        chart.panels.clear();
        chart.to_png().unwrap();
    }

    #[test]
    fn a_log_scale_falls_back_where_it_cannot_be() {
        let mut chart = chart();
        chart.panels[0].scale = Scale::Log;
        assert_ne!(chart.to_svg(), self::chart().to_svg());
        chart.panels[0].series[0].points[4].1 = -0.5;
        let log = chart.to_svg();
        chart.panels[0].scale = Scale::Linear;
        assert_eq!(log, chart.to_svg());
    }

    #[test]
    fn a_million_points_make_a_small_file_with_every_extreme() {
        let points = (0..1_000_000)
            .map(|i| (f64::from(i), f64::from(i % 1000)))
            .collect();
        let mut chart = chart();
        chart.panels[0].series = vec![Series {
            name: "steps".to_owned(),
            points,
        }];
        let svg = chart.to_svg();
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn any_numbers_make_a_picture(
            points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..40),
            baseline in any::<f64>(),
            name in ".{0,60}",
            log in any::<bool>(),
        ) {
            let chart = LineChart {
                title: name.clone(),
                panels: vec![Panel {
                    y_label: name.clone(),
                    series: vec![Series { name: name.clone(), points }],
                    baselines: vec![Baseline { name, value: baseline }],
                    scale: if log { Scale::Log } else { Scale::Linear },
                }],
                ..chart()
            };
            let svg = chart.to_svg();
            prop_assert!(!svg.contains("NaN") && !svg.contains("inf\""));
            prop_assert!(chart.to_png().is_ok());
        }

        #[test]
        fn thinning_keeps_ends_and_extremes(
            ys in prop::collection::vec(-1e3..1e3f64, 1..400),
        ) {
            let points: Vec<_> = ys.iter().enumerate().map(|(i, y)| (i as f64 * 0.07, *y)).collect();
            let kept = thin(points.iter().copied());
            prop_assert_eq!(kept.first(), points.first());
            prop_assert_eq!(kept.last(), points.last());
            let extreme = |points: &[(f64, f64)], pick: fn(f64, f64) -> f64| {
                points.iter().map(|point| point.1).reduce(pick)
            };
            prop_assert_eq!(extreme(&kept, f64::min), extreme(&points, f64::min));
            prop_assert_eq!(extreme(&kept, f64::max), extreme(&points, f64::max));
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 <= pair[1].0));
        }
    }
}
