//! Which piece, or which part of it, belongs to which split.
//!
//! By share, a piece's place follows from the digest of its source file alone:
//! `u`, read from BLAKE3 of that digest as a number in [0, 1), below `test` is
//! test, below `test + valid` is valid, else train. So a new file moves no
//! other (unless a set would be empty), and neither does another n_fft.

use std::ops::Range;

use shard::{Parts, Split};
use stage_core::Digest;

/// The split that `name` means: the three names, and those that published sets
/// use for them, in any case.
pub(crate) fn split_named(name: &str) -> Option<Split> {
    match name.to_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "valid" | "validation" | "val" | "dev" => Some(Split::Valid),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

/// The split that a path's folders name; the outermost that does.
pub(crate) fn split_of_folders(path: &str) -> Option<Split> {
    let (folders, _) = path.rsplit_once('/')?;
    folders.split('/').find_map(split_named)
}

/// Which of two splits a piece stays in that stands in both: test, then valid,
/// so that nothing learnt from is ever looked at as new.
pub(crate) fn stricter(a: Split, b: Split) -> Split {
    a.max(b)
}

/// The place of a source file in [0, 1).
pub(crate) fn place(source: &Digest) -> f64 {
    let mut hasher = blake3::Hasher::new_derive_key("pipeline data set split 1");
    hasher.update(source.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    let bits = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// The split of a file at `place` by shares alone.
pub(crate) fn by_place(place: f64, valid: f64, test: f64) -> Split {
    if place < test {
        Split::Test
    } else if place < test + valid {
        Split::Valid
    } else {
        Split::Train
    }
}

/// Splits pieces by share, given their places. Sets with a share above 0 are
/// not empty as long as there are pieces: train first, then valid, then test;
/// one that would be empty takes the piece of the lowest place left to it.
pub(crate) fn by_share(places: &[f64], valid: f64, test: f64) -> Vec<Split> {
    let count = places.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| places[a].total_cmp(&places[b]));
    let below = |limit: f64| places.iter().filter(|&&place| place < limit).count();
    // In the order of places test comes first, then valid, then train: what is
    // left to find are two borders, moved as little as the above demands.
    let least_valid = usize::from(valid > 0.0 && count >= 2);
    let least_test = usize::from(test > 0.0 && count >= 2 + least_valid);
    let most_test = count.saturating_sub(1 + least_valid);
    let tests = below(test).clamp(least_test, most_test.max(least_test));
    let most_valid = count.saturating_sub(1 + tests);
    let valids = below(test + valid).saturating_sub(tests);
    let valids = valids.clamp(least_valid, most_valid.max(least_valid));
    let mut splits = vec![Split::Train; count];
    for (rank, &piece) in order.iter().enumerate() {
        if rank < tests {
            splits[piece] = Split::Test;
        } else if rank < tests + valids {
            splits[piece] = Split::Valid;
        }
    }
    splits
}

/// Splits the rows of one piece by time: train, a gap, valid, a gap, test. A
/// piece too short for two rows in each wanted part is all train.
pub(crate) fn by_time(rows: u64, valid: f64, test: f64, gap: u64) -> Parts {
    if rows == 0 {
        return Parts::new();
    }
    let sets = u64::from(valid > 0.0) + u64::from(test > 0.0);
    let usable = rows.saturating_sub(gap.saturating_mul(sets));
    let share = |share: f64| (usable as f64 * share).round() as u64;
    let (valids, tests) = (share(valid), share(test));
    let trains = usable.saturating_sub(valids).saturating_sub(tests);
    let too_short = |rows: u64, wanted: bool| wanted && rows < 2;
    if too_short(trains, true) || too_short(valids, valid > 0.0) || too_short(tests, test > 0.0) {
        return Parts::from([(Split::Train, 0..rows)]);
    }
    // From the end backwards, so that rounding is left to the training part.
    let test_rows = rows - tests..rows;
    let valid_end = if tests > 0 {
        test_rows.start - gap
    } else {
        rows
    };
    let valid_rows = valid_end - valids..valid_end;
    let train_end = if valids > 0 {
        valid_rows.start - gap
    } else {
        valid_end
    };
    let parts = [
        (Split::Train, 0..train_end),
        (Split::Valid, valid_rows),
        (Split::Test, test_rows),
    ];
    parts
        .into_iter()
        .filter(|(_, rows): &(Split, Range<u64>)| !rows.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(splits: &[Split]) -> [usize; 3] {
        Split::ALL.map(|split| splits.iter().filter(|&&s| s == split).count())
    }

    #[test]
    fn few_pieces_split_sensibly() {
        // Whatever their hashes are: all low, all high, spread.
        for (count, expected) in [
            (0, [0, 0, 0]),
            (1, [1, 0, 0]),
            (2, [1, 1, 0]),
            (3, [1, 1, 1]),
        ] {
            for places in [vec![0.01; count], vec![0.99; count], vec![0.15; count]] {
                assert_eq!(counts(&by_share(&places, 0.1, 0.1)), expected, "{places:?}");
            }
        }
        let spread = |n: usize| (0..n).map(|i| i as f64 / n as f64).collect::<Vec<_>>();
        assert_eq!(counts(&by_share(&spread(5), 0.1, 0.1)), [3, 1, 1]);
        assert_eq!(counts(&by_share(&spread(12), 0.1, 0.1)), [9, 1, 2]);
        assert_eq!(counts(&by_share(&spread(12), 0.2, 0.0)), [9, 3, 0]);
        assert_eq!(counts(&by_share(&spread(12), 0.0, 0.0)), [12, 0, 0]);
        assert_eq!(counts(&by_share(&[0.5], 0.5, 0.4)), [1, 0, 0]);
    }

    #[test]
    fn an_empty_set_takes_the_lowest_place() {
        let splits = by_share(&[0.9, 0.5, 0.7], 0.1, 0.1);
        assert_eq!(splits, [Split::Train, Split::Test, Split::Valid]);
        let splits = by_share(&[0.9, 0.05, 0.7, 0.8], 0.1, 0.1);
        assert_eq!(
            splits,
            [Split::Train, Split::Test, Split::Valid, Split::Train]
        );
    }

    #[test]
    fn time_leaves_a_gap_of_one_context() {
        let parts = by_time(1000, 0.1, 0.1, 50);
        // 900 usable rows.
        assert_eq!(parts[&Split::Train], 0..720);
        assert_eq!(parts[&Split::Valid], 770..860);
        assert_eq!(parts[&Split::Test], 910..1000);
        let last_fifth = by_time(1064, 0.2, 0.0, 64);
        assert_eq!(last_fifth[&Split::Train], 0..800);
        assert_eq!(last_fifth[&Split::Valid], 864..1064);
        assert_eq!(last_fifth.len(), 2);
        assert_eq!(
            by_time(60, 0.1, 0.1, 50),
            Parts::from([(Split::Train, 0..60)])
        );
        assert_eq!(
            by_time(500, 0.0, 0.0, 50),
            Parts::from([(Split::Train, 0..500)])
        );
    }

    #[test]
    fn folders_name_splits() {
        for (path, split) in [
            ("train/a.wav", Some(Split::Train)),
            ("jsb/Test/x/a.wav", Some(Split::Test)),
            ("validation/train/a.wav", Some(Split::Valid)),
            ("test.wav", None),
            ("contest/a.wav", None),
            ("x/test", None),
        ] {
            assert_eq!(split_of_folders(path), split, "{path}");
        }
    }

    #[test]
    fn places_are_spread_evenly() {
        let mut tenths = [0; 10];
        for i in 0..10_000u32 {
            let at = place(&Digest::of(&i.to_le_bytes()));
            tenths[(at * 10.0) as usize] += 1;
        }
        assert!(
            tenths.iter().all(|&n| (880..1120).contains(&n)),
            "{tenths:?}"
        );
    }

    proptest! {
        #[test]
        fn sets_are_filled_and_others_stay(
            places in proptest::collection::vec(0.0f64..1.0, 3..60),
            valid in 0.01f64..0.4,
            test in 0.01f64..0.4,
        ) {
            let splits = by_share(&places, valid, test);
            prop_assert!(counts(&splits).iter().all(|&n| n > 0));
            // Where no set would have been empty, each piece is where its own
            // place puts it.
            let alone: Vec<_> = places.iter().map(|&p| by_place(p, valid, test)).collect();
            if counts(&alone).iter().all(|&n| n > 0) {
                prop_assert_eq!(splits, alone);
            }
        }

        #[test]
        fn parts_in_time_are_apart(
            rows in 0u64..5000, valid in 0.0f64..0.45, test in 0.0f64..0.45, gap in 0u64..300,
        ) {
            let parts = by_time(rows, valid, test, gap);
            let mut end = None;
            for split in Split::ALL {
                if let Some(part) = parts.get(&split) {
                    prop_assert!(part.start < part.end && part.end <= rows);
                    prop_assert!(end.is_none_or(|end| part.start >= end + gap));
                    end = Some(part.end);
                }
            }
            prop_assert_eq!(end.unwrap_or(0), rows);
            prop_assert!(rows == 0 || parts.contains_key(&Split::Train));
        }
    }
}
