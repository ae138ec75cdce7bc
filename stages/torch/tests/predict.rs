//! Sampling: deterministic by seed, and clear about what it cannot do.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{artifact, context, dataset, input_of, inputs, prompt, run, small, stage, tune};
use serde_json::{Value, json};
use stage_core::{ItemInput, StageError};

/// Trains for a moment and gives the model's folder.
fn trained(dir: &Path, params: &Value, phase: bool) -> ItemInput {
    let data = dataset(&dir.join("data"), phase);
    let (cx, _) = context(None);
    let out = dir.join("model");
    run(
        &*stage("train", params),
        &inputs([("dataset", artifact(data))]),
        &out,
        &cx,
    )
    .unwrap();
    artifact(input_of(&out, &["model.safetensors"])).remove(0)
}

fn sample(
    dir: &Path,
    model: &ItemInput,
    prompt: &ItemInput,
    params: &Value,
) -> Result<BTreeMap<String, Vec<u8>>, StageError> {
    let inputs = inputs([
        ("model", vec![model.clone()]),
        ("prompt", vec![prompt.clone()]),
    ]);
    let (cx, _) = context(None);
    run(
        &*stage("predict", params),
        &inputs,
        &dir.join("samples"),
        &cx,
    )
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let model = trained(dir.path(), &small(20), false);
    let prompt = prompt(&dir.path().join("prompt"), &tune(9, 4000), false);
    let of = |seed: u64, variations: u32| {
        let params = json!({"frames": 20, "seed": seed, "variations": variations, "threads": 1});
        sample(dir.path(), &model, &prompt, &params).unwrap()
    };
    let one = of(1, 1);
    assert_eq!(one.keys().collect::<Vec<_>>(), ["samples/1-1.parquet"]);
    assert!(one == of(1, 1));
    assert!(one != of(2, 1));
    let two = of(1, 2);
    assert!(two["samples/1-1.parquet"] == one["samples/1-1.parquet"]);
    assert!(two["samples/1-1.parquet"] != two["samples/1-2.parquet"]);
}

#[test]
fn the_window_model_feeds_its_predictions_back() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let params = json!({"model": "fft-frame-lstm", "hidden_size": 16, "num_layers": 2, "threads": 1, "max_steps": 60});
    let model = trained(dir.path(), &params, true);
    let prompt = prompt(&dir.path().join("prompt"), &tune(9, 4000), true);
    sample(
        dir.path(),
        &model,
        &prompt,
        &json!({"frames": 30, "threads": 1}),
    )
    .unwrap();
    let shard = shard::ShardReader::open(dir.path().join("samples/samples/1-1.parquet")).unwrap();
    let rows = shard.read_f32("magnitude").unwrap();
    let frames: Vec<&[f32]> = rows.chunks(33).collect();
    assert_eq!(frames.len(), 30);
    assert!(
        frames.windows(2).any(|pair| pair[0] != pair[1]),
        "identical frames"
    );
    assert!(
        shard
            .read_f32("phase")
            .unwrap()
            .iter()
            .all(|p| p.abs() <= std::f32::consts::PI + 1e-5)
    );
}

#[test]
fn what_cannot_be_continued_is_refused_with_its_reason() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let model = trained(dir.path(), &small(5), false);
    let good = prompt(&dir.path().join("good"), &tune(9, 4000), false);
    let silent = prompt(&dir.path().join("silent"), &[0.0; 4000], false);
    let short = prompt(&dir.path().join("short"), &tune(9, 80), false);
    let few = json!({"frames": 3});
    let refused = |model: &ItemInput, prompt: &ItemInput, params: &Value, says: &str| {
        let error = sample(dir.path(), model, prompt, params)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(&model, &silent, &few, "silent");
    refused(&model, &short, &few, "give a longer one");
    refused(
        &model,
        &good,
        &json!({"frames": 10_000_000}),
        "expected 1 to",
    );
    refused(&model, &good, &json!({"frames": 0}), "expected 1 to");

    let path = dir.path().join("model/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let mut flipped = bytes.clone();
    let last = flipped.len() - 5;
    flipped[last] ^= 4;
    fs::write(&path, &flipped).unwrap();
    refused(&model, &good, &few, "damaged");
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(&model, &good, &few, "truncated");
    fs::write(&path, b"").unwrap();
    refused(&model, &good, &few, "truncated");
    fs::remove_file(&path).unwrap();
    refused(&model, &good, &few, "cannot open");
}
