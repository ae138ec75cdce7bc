//! The whole part: segments become a manifest, and their splits are drawn.

use std::collections::{BTreeMap, BTreeSet};

use shard::{Manifest, ManifestBuilder, Parts, Segment, SegmentId, Split};
use stage_core::{Context, Event, Input, Inputs, Output, StageError};

use crate::error::{Error, of_shard};
use crate::split::{by_place, by_share, by_time, place, split_named, stricter};
use crate::{Dataset, MANIFEST, PORT, Rule, SEGMENT, segment_name};

/// A distinct segment and where it came from.
struct Piece<'a> {
    input: &'a Input,
    /// Places of its source files, see [`place`]; several for equal sound.
    places: Vec<f64>,
    labels: BTreeSet<Split>,
}

/// What has been decided for a piece.
enum Decision {
    Whole(Split),
    ByTime,
}

pub(crate) fn reduce(
    stage: &Dataset,
    inputs: &Inputs,
    out: &mut Output,
    cx: &Context,
) -> Result<(), StageError> {
    let items = inputs.items(PORT);
    let mut pieces: BTreeMap<SegmentId, Piece<'_>> = BTreeMap::new();
    for item in items {
        item.input.path(SEGMENT)?;
        let Some(entry) = item.input.tree.get(SEGMENT) else {
            continue;
        };
        let piece = pieces
            .entry(SegmentId(entry.digest.0))
            .or_insert_with(|| Piece {
                input: &item.input,
                places: Vec::new(),
                labels: BTreeSet::new(),
            });
        piece.places.push(place(&item.source));
        if let Some(label) = &item.label {
            piece
                .labels
                .insert(split_named(label).ok_or_else(|| Error::Label(label.clone()))?);
        }
    }
    if pieces.is_empty() {
        return Err(Error::NoPieces.into());
    }
    let (rule, decisions) = decide(stage, &pieces, cx)?;
    cx.emit(Event::Total {
        total: pieces.len() as u64,
        unit: "pieces".to_owned(),
    });
    let mut builder = ManifestBuilder::new();
    let mut undivided = 0;
    for ((digest, piece), decision) in pieces.iter().zip(decisions) {
        cx.cancel.check()?;
        let segment = Segment::open(piece.input.path(SEGMENT)?).map_err(of_shard)?;
        // It was not hashed whole: the seal tells it from another segment in its place.
        if let Some(seal) = piece.input.tree.seal(SEGMENT) {
            segment.expect_root(SegmentId(seal.0)).map_err(of_shard)?;
        }
        let rows = segment.rows();
        let parts = match decision {
            Decision::Whole(split) => Parts::from([(split, 0..rows)]),
            Decision::ByTime => by_time(rows, stage.valid, stage.test, stage.gap),
        };
        undivided += usize::from(rule == Rule::Time && parts.len() == 1);
        builder.add(*digest, &segment, &parts).map_err(of_shard)?;
        // The manifest holds the roots.
        out.link_unsealed(&segment_name(digest), piece.input, SEGMENT)?;
        cx.emit(Event::Advance { by: 1 });
    }
    let manifest = builder.finish(rule.name()).map_err(of_shard)?;
    if undivided > 0 && stage.valid + stage.test > 0.0 {
        cx.warn(format!(
            "{} too short to be divided in time and left whole in train",
            plural(undivided as u64, "piece is", "pieces are")
        ));
    }
    report(&manifest, items.len() - pieces.len(), cx);
    out.write(MANIFEST, &manifest.to_json().map_err(of_shard)?)
}

fn decide(
    stage: &Dataset,
    pieces: &BTreeMap<SegmentId, Piece<'_>>,
    cx: &Context,
) -> Result<(Rule, Vec<Decision>), StageError> {
    let labelled = pieces.values().any(|piece| !piece.labels.is_empty());
    let rule = match stage.split {
        Rule::Auto if labelled => Rule::Folders,
        Rule::Auto if pieces.len() < 3 => Rule::Time,
        Rule::Auto => Rule::Share,
        rule => rule,
    };
    let splits = match rule {
        Rule::Time => {
            return Ok((rule, pieces.values().map(|_| Decision::ByTime).collect()));
        }
        Rule::Share | Rule::Auto => shares(stage, pieces, cx),
        Rule::Folders | Rule::Csv => labels(stage, pieces, cx)?,
    };
    Ok((rule, splits.into_iter().map(Decision::Whole).collect()))
}

/// By share. Equal sound from several files takes the lowest of their places,
/// which is the strictest of their splits.
fn shares(stage: &Dataset, pieces: &BTreeMap<SegmentId, Piece<'_>>, cx: &Context) -> Vec<Split> {
    let lowest = |piece: &Piece<'_>| piece.places.iter().copied().fold(1.0, f64::min);
    let places: Vec<f64> = pieces.values().map(lowest).collect();
    let splits = by_share(&places, stage.valid, stage.test);
    let mut shared = Shared::default();
    for (piece, &split) in pieces.values().zip(&splits) {
        let of = piece
            .places
            .iter()
            .map(|&place| by_place(place, stage.valid, stage.test));
        shared.add(of.collect(), split);
    }
    shared.say(cx);
    splits
}

/// By folders or table. A piece without a label is for training, and so is
/// nothing that stands in a stricter set as well. A set without validation
/// pieces gets some of the training pieces, by share.
fn labels(
    stage: &Dataset,
    pieces: &BTreeMap<SegmentId, Piece<'_>>,
    cx: &Context,
) -> Result<Vec<Split>, StageError> {
    let mut unlabelled = 0;
    let mut shared = Shared::default();
    let mut splits = Vec::with_capacity(pieces.len());
    for piece in pieces.values() {
        unlabelled += u64::from(piece.labels.is_empty());
        let split = piece
            .labels
            .iter()
            .copied()
            .reduce(stricter)
            .unwrap_or(Split::Train);
        shared.add(piece.labels.clone(), split);
        splits.push(split);
    }
    shared.say(cx);
    if unlabelled > 0 {
        cx.info(format!(
            "{} in no folder named train, valid or test: taken for training",
            plural(unlabelled, "piece is", "pieces are")
        ));
    }
    let train: Vec<usize> = (0..splits.len())
        .filter(|&i| splits[i] == Split::Train)
        .collect();
    if train.is_empty() {
        let reason = "all are in valid or test, by folder or table, or equal to pieces there";
        return Err(Error::NoTraining(reason.to_owned()).into());
    }
    if stage.valid > 0.0 && !splits.contains(&Split::Valid) {
        let all: Vec<&Piece<'_>> = pieces.values().collect();
        let lowest = |&i: &usize| all[i].places.iter().copied().fold(1.0, f64::min);
        let places: Vec<f64> = train.iter().map(lowest).collect();
        let mut moved = 0;
        for (&i, split) in train.iter().zip(by_share(&places, stage.valid, 0.0)) {
            moved += u64::from(split == Split::Valid);
            splits[i] = split;
        }
        cx.info(format!(
            "no piece is marked for validation: {} taken from train",
            plural(moved, "piece is", "pieces are")
        ));
    }
    Ok(splits)
}

/// Sound that stands in several splits: in which, and where it stays → how often.
#[derive(Default)]
struct Shared(BTreeMap<(BTreeSet<Split>, Split), u64>);

impl Shared {
    fn add(&mut self, of: BTreeSet<Split>, stays: Split) {
        if of.len() > 1 {
            *self.0.entry((of, stays)).or_default() += 1;
        }
    }

    fn say(&self, cx: &Context) {
        for ((of, stays), count) in &self.0 {
            let names: Vec<&str> = of.iter().map(|split| split.name()).collect();
            cx.warn(format!(
                "{} the same in {}: kept in {} alone",
                plural(*count, "piece is", "pieces are"),
                names.join(" and "),
                stays.name()
            ));
        }
    }
}

fn report(manifest: &Manifest, duplicates: usize, cx: &Context) {
    if duplicates > 0 {
        cx.info(format!(
            "{} the same frames as another and {} once",
            plural(duplicates as u64, "file has", "files have"),
            if duplicates == 1 { "counts" } else { "count" }
        ));
    }
    for split in Split::ALL {
        let count = manifest.counts.of(split);
        let time = seconds(manifest, count.rows).map(|s| format!(", {}", clock(s)));
        cx.info(format!(
            "{}: {}, {} rows{}",
            split.name(),
            plural(count.pieces, "piece", "pieces"),
            count.rows,
            time.unwrap_or_default()
        ));
    }
    let (layout, rule) = (&manifest.layout, &manifest.split);
    let mut text = format!("split by {rule}; rows: {layout}");
    if let Some(statistics) = &manifest.statistics {
        let n = statistics.mean.len().max(1) as f64;
        let mean = statistics.mean.iter().sum::<f64>() / n;
        let std = statistics.std.iter().sum::<f64>() / n;
        let min = statistics.min.iter().copied().fold(f32::INFINITY, f32::min);
        let max = statistics
            .max
            .iter()
            .copied()
            .fold(f32::NEG_INFINITY, f32::max);
        text.push_str(&format!(
            "; over the training rows, mean {mean:.3}, standard deviation {std:.3} (averages \
             over dimensions), from {min:.3} to {max:.3}"
        ));
    }
    cx.info(text);
}

/// Seconds that `rows` last, where the metadata has rate and hop.
fn seconds(manifest: &Manifest, rows: u64) -> Option<f64> {
    let number = |key: &str| {
        manifest
            .metadata
            .get(key)?
            .parse::<f64>()
            .ok()
            .filter(|x| *x > 0.0)
    };
    Some(rows as f64 * number("hop")? / number("rate")?)
}

/// Seconds as `1:02:03` or `2:03`.
fn clock(seconds: f64) -> String {
    let all = seconds.round() as u64;
    let (h, m, s) = (all / 3600, all / 60 % 60, all % 60);
    if h > 0 {
        format!("{h}:{m:02}:{s:02} h")
    } else {
        format!("{m}:{s:02} min")
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
