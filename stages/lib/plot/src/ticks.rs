//! Where an axis is marked, and how the marks are labelled.
//!
//! Linear axes are marked at multiples of 1, 2 or 5 times a power of ten, after
//! Heckbert, "Nice Numbers for Graph Labels", Graphics Gems (1990), but only
//! inside the range: the range of our axes is the data's own. Logarithmic axes
//! are marked at 1, 2 and 5 times powers of ten, or at powers alone.

/// Marks of an axis in ascending order, each with its label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ticks(pub(crate) Vec<(f64, String)>);

/// Numbers beyond are cut off, so that differences of them stay finite.
const LARGEST: f64 = 1e100;

/// Numbers nearer to zero count as zero, so that powers of ten stay exact.
const SMALLEST: f64 = 1e-100;

/// The range that `values` span, never empty: `default` where no value is
/// finite, and widened around a lone value.
pub(crate) fn range(values: impl IntoIterator<Item = f64>, default: (f64, f64)) -> (f64, f64) {
    let finite = values.into_iter().filter(|value| value.is_finite());
    let span = finite
        .map(|value| value.clamp(-LARGEST, LARGEST))
        .map(|value| if value.abs() < SMALLEST { 0.0 } else { value })
        .fold(None, |span, value| match span {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        });
    let Some((low, high)) = span else {
        return default;
    };
    // Closer than this, two numbers could not be told apart on the axis.
    let least = low.abs().max(high.abs()) * 1e-9;
    match high - low > least {
        true => (low, high),
        false if low == 0.0 => (-1.0, 1.0),
        false => (low - low.abs() * 0.5, low + low.abs() * 0.5),
    }
}

/// At most `most` marks in the range `low..=high`, evenly spaced.
///
/// Needs `low < high`, both finite, and `most >= 2`; gives at least two marks
/// where `most` is 4 or more.
pub(crate) fn linear(low: f64, high: f64, most: usize) -> Ticks {
    let rough = (high - low) / most.max(2) as f64;
    let power = rough.log10().floor() as i32;
    let candidates = (power..=power + 2).flat_map(|power| [(1, power), (2, power), (5, power)]);
    for (digit, power) in candidates {
        let step = decimal(digit, power);
        let first = (low / step - 1e-9).ceil();
        let last = (high / step + 1e-9).floor();
        if last - first < most as f64 {
            let count = (last - first).max(-1.0) as usize + 1;
            return Ticks(
                (0..count)
                    .map(|i| (first + i as f64) * step)
                    // Adding 0.0 turns -0 into 0.
                    .map(|value| (value + 0.0, label(value + 0.0, step)))
                    .collect(),
            );
        }
    }
    Ticks(Vec::new())
}

/// At most `most` marks in `low..=high` at 1, 2 and 5 times powers of ten, or
/// at powers of ten where these are too many.
///
/// Needs `0 < low < high`, both finite.
pub(crate) fn logarithmic(low: f64, high: f64, most: usize) -> Ticks {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let within = |value: f64| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(&value);
    let marks = |digits: &[i32], stride: i32| -> Vec<(f64, String)> {
        decades
            .clone()
            .filter(|power| power % stride == 0)
            .flat_map(|power| digits.iter().map(move |digit| decimal(*digit, power)))
            .filter(|value| within(*value))
            .map(|value| (value, label(value, value)))
            .collect()
    };
    let fine = marks(&[1, 2, 5], 1);
    if fine.len() < 2 {
        // Less than an octave: the axis is as good as straight.
        return linear(low, high, most);
    }
    if fine.len() <= most {
        return Ticks(fine);
    }
    (1..)
        .map(|stride| marks(&[1], stride))
        .find(|marks| marks.len() <= most.max(1))
        .map_or(Ticks(fine), Ticks)
}

/// `digit` times ten to the `power`. Dividing by an exact power rounds once,
/// where `10f64.powi(-3)` would round twice.
fn decimal(digit: i32, power: i32) -> f64 {
    let digit = f64::from(digit);
    match power < 0 {
        true => digit / 10f64.powi(-power),
        false => digit * 10f64.powi(power),
    }
}

/// `value` with as many decimals as a step of `step` needs.
fn label(value: f64, step: f64) -> String {
    let size = value.abs().max(step.abs());
    if value != 0.0 && !(1e-4..1e7).contains(&size) {
        // Enough digits that neighbours differ.
        let digits = (value.abs().log10().floor() - step.log10().floor()).clamp(0.0, 12.0);
        return minus(format!("{value:.*e}", digits as usize));
    }
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0);
    minus(format!("{value:.*}", decimals as usize))
}

/// Puts a minus sign where Rust writes a hyphen.
fn minus(text: String) -> String {
    text.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(ticks: &Ticks) -> String {
        let labels: Vec<&str> = ticks.0.iter().map(|(_, label)| label.as_str()).collect();
        labels.join(" ")
    }

    #[test]
    fn linear_marks_are_round() {
        for (low, high, most, expected) in [
            (0.0, 10.0, 6, "0 2 4 6 8 10"),
            (0.0, 11_025.0, 8, "0 2000 4000 6000 8000 10000"),
            (
                -80.0,
                0.0,
                5,
                "\u{2212}80 \u{2212}60 \u{2212}40 \u{2212}20 0",
            ),
            (0.12, 0.31, 5, "0.15 0.20 0.25 0.30"),
            (0.0, 1.0, 5, "0.0 0.5 1.0"),
            (3.0, 3.004, 5, "3.000 3.001 3.002 3.003 3.004"),
            (0.0, 5e8, 4, "0 2e8 4e8"),
        ] {
            assert_eq!(labels(&linear(low, high, most)), expected);
        }
    }

    #[test]
    fn logarithmic_marks_are_round() {
        for (low, high, most, expected) in [
            (43.0, 11_025.0, 9, "50 100 200 500 1000 2000 5000 10000"),
            (0.02, 3.0, 8, "0.02 0.05 0.1 0.2 0.5 1 2"),
            (1e-3, 1e9, 7, "0.01 1 100 10000 1000000 1e8"),
            (2.1, 2.9, 4, "2.2 2.4 2.6 2.8"),
        ] {
            assert_eq!(labels(&logarithmic(low, high, most)), expected);
        }
    }

    #[test]
    fn a_range_is_never_empty() {
        let nothing = f64::NAN;
        for (values, expected) in [
            (vec![], (0.0, 1.0)),
            (vec![nothing, f64::INFINITY], (0.0, 1.0)),
            (vec![4.0, nothing], (2.0, 6.0)),
            (vec![0.0, 0.0], (-1.0, 1.0)),
            (vec![-1.0, 3.0], (-1.0, 3.0)),
        ] {
            assert_eq!(range(values, (0.0, 1.0)), expected);
        }
    }

    proptest! {
        #[test]
        fn marks_lie_in_the_range_evenly_and_differ(
            a in any::<f64>(), b in any::<f64>(), most in 4usize..12
        ) {
            let (low, high) = range([a, b], (0.0, 1.0));
            let Ticks(ticks) = linear(low, high, most);
            let slack = (high - low) * 1e-6;
            prop_assert!((2..=most).contains(&ticks.len()), "{} marks", ticks.len());
            for (value, _) in &ticks {
                prop_assert!((low - slack..=high + slack).contains(value));
            }
            for pair in ticks.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0);
                prop_assert_ne!(&pair[0].1, &pair[1].1);
            }
        }

        #[test]
        fn logarithmic_marks_lie_in_the_range(
            a in -90.0..90.0f64, b in 0.01..60.0f64, most in 4usize..12
        ) {
            let (low, high) = (10f64.powf(a), 10f64.powf(a + b));
            let Ticks(ticks) = logarithmic(low, high, most);
            prop_assert!((1..=most).contains(&ticks.len()), "{} marks", ticks.len());
            for (value, _) in &ticks {
                prop_assert!((low * 0.999..=high * 1.001).contains(value));
            }
            for pair in ticks.windows(2) {
                prop_assert!(pair[0].0 < pair[1].0);
            }
        }
    }
}
