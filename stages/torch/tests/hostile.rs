//! Model files that were made to do harm: whatever they say, sampling from them is an error that
//! names the reason, and nothing is built that the file does not hold.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{artifact, context, dataset, input_of, inputs, prompt, run, small, stage, tune};
use pipeline_torch::checkpoint::{self, Checkpoint};
use serde_json::{Value, json};
use stage_core::StageError;
use tch::{Device, Kind, Tensor};

/// A small model, as a file holds it.
fn model(folder: &Path, more: &Value) -> Vec<u8> {
    let mut params = small(2);
    if more.get("model").is_some() {
        params.as_object_mut().unwrap().remove("chunk");
    }
    for (key, value) in more.as_object().unwrap() {
        params[key] = value.clone();
    }
    let data = dataset(&folder.join("data"), true);
    let train = stage("train", &params);
    let ports = inputs([("dataset", artifact(data))]);
    let (cx, _) = context(None);
    let mut files = run(train.as_ref(), &ports, &folder.join("trained"), &cx).unwrap();
    files.remove("model.safetensors").unwrap()
}

/// What sampling from a model file says.
fn sample(folder: &Path, model: &[u8]) -> Result<(), StageError> {
    fs::write(folder.join("model.safetensors"), model).unwrap();
    let predict = stage("predict", &json!({"frames": 2, "threads": 1}));
    let ports = inputs([
        ("model", artifact(input_of(folder, &["model.safetensors"]))),
        (
            "prompt",
            vec![prompt(&folder.join("prompt"), &tune(9, 8000), true)],
        ),
    ]);
    let (cx, _) = context(None);
    run(predict.as_ref(), &ports, &folder.join("sampled"), &cx).map(drop)
}

/// The bytes of a model after an edit.
fn edited(model: &[u8], edit: impl FnOnce(&mut Value, &mut BTreeMap<String, Tensor>)) -> Vec<u8> {
    let Checkpoint { mut tensors, meta } = checkpoint::from_bytes("m", model).unwrap();
    let mut facts = Value::Object(meta);
    edit(&mut facts, &mut tensors);
    let tensors = tensors.iter().map(|(n, t)| (n.clone(), t)).collect();
    checkpoint::to_bytes(&tensors, facts.as_object().unwrap()).unwrap()
}

#[track_caller]
fn refused(said: Result<(), StageError>, words: &str, row: &str) {
    match said {
        Err(StageError::Content(reason)) => assert!(reason.contains(words), "{row}: {reason}"),
        other => panic!("{row}: {other:?}"),
    }
}

#[test]
fn facts_that_cannot_be_are_refused() {
    let _turn = common::alone();
    let home = tempfile::tempdir().unwrap();
    let model = model(home.path(), &json!({}));
    sample(home.path(), &edited(&model, |_, _| {})).unwrap();
    let width = 66;
    let rows = [
        // More than the file holds.
        (
            "/architecture/hidden_size",
            json!(16_384),
            "of shape [16, 33], expected [16384, 33]",
        ),
        (
            "/architecture/num_layers",
            json!(64),
            "lacks the tensor `lstm.2.weight_ih`",
        ),
        (
            "/architecture/num_layers",
            json!(1),
            "has a tensor `lstm.1.",
        ),
        (
            "/architecture/channels",
            json!(1024),
            "`local.0.weight` of shape [8, 4, 5]",
        ),
        (
            "/architecture/history",
            json!(256),
            "`local.0.weight` of shape [8, 4, 5]",
        ),
        // Out of range.
        ("/architecture/hidden_size", json!(0), "`hidden_size` is 0"),
        (
            "/architecture/hidden_size",
            json!(u32::MAX),
            "`hidden_size` is 4294967295",
        ),
        (
            "/architecture/hidden_size",
            json!(-1),
            "no model that this program can use",
        ),
        ("/architecture/num_layers", json!(0), "`num_layers` is 0"),
        ("/architecture/history", json!(0), "`history` is 0"),
        (
            "/architecture/history",
            json!(u32::MAX),
            "`history` is 4294967295",
        ),
        ("/architecture/channels", json!(0), "`channels` is 0"),
        ("/architecture/dropout", json!(2.0), "`dropout` is 2"),
        (
            "/architecture/name",
            json!("s1"),
            "no model that this program can use",
        ),
        // Rows.
        ("/rows/columns", json!([["magnitude", 0]]), "without values"),
        ("/rows/columns", json!([]), "has 0 columns"),
        (
            "/rows/columns",
            json!([["magnitude", 33], ["magnitude", 33]]),
            "twice",
        ),
        (
            "/rows/columns",
            json!([["magnitude", 33], ["phase", u32::MAX]]),
            "expected 1 to 1048576",
        ),
        (
            "/rows/columns",
            json!([["phase", 33], ["x", 33]]),
            "no column `magnitude`",
        ),
        (
            "/rows/columns",
            json!([["magnitude", 32], ["phase", 34]]),
            "of shape",
        ),
        (
            "/rows/mean",
            json!([1.0]),
            "has `mean` of 1 values, expected 66",
        ),
        ("/rows/mean/3", json!(1e300), "in `mean`"),
        ("/rows/std/3", json!(-1.0), "negative deviation"),
        (
            "/rows/std/3",
            Value::Null,
            "no model that this program can use",
        ),
        ("/rows/max", json!(vec![1e30; width]), "in `max`"),
        ("/rows/max/3", json!(-1e6), "above that in `max`"),
        // Frames.
        ("/rows/frames/hop", json!("0"), "`hop` is 0"),
        ("/rows/frames/hop", json!("-7"), "`hop` is `-7`"),
        (
            "/rows/frames/n_fft",
            json!("18446744073709551615"),
            "`n_fft` is 18446744073709551615",
        ),
        ("/rows/frames/rate", json!("0"), "`rate` is `0`"),
        (
            "/rows/frames/rate",
            json!("1000000000"),
            "`rate` is 8000, expected 1000000000",
        ),
        ("/rows/frames/floor", json!("NaN"), "floor"),
        ("/rows/frames", json!({}), "`rate` is `missing`"),
        ("/rows", Value::Null, "no model that this program can use"),
        ("/step", json!(-1), "no model that this program can use"),
    ];
    for (pointer, value, words) in rows {
        let bytes = edited(&model, |facts, _| {
            *facts.pointer_mut(pointer).unwrap() = value.clone();
        });
        refused(
            sample(home.path(), &bytes),
            words,
            &format!("{pointer} = {value}"),
        );
    }
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let _turn = common::alone();
    let home = tempfile::tempdir().unwrap();
    let model = model(home.path(), &json!({}));
    let floats = (Kind::Float, Device::Cpu);
    type Edit = Box<dyn FnOnce(&mut BTreeMap<String, Tensor>)>;
    let put = |name: &'static str, tensor: Tensor| -> Edit {
        Box::new(move |tensors| drop(tensors.insert(name.to_owned(), tensor)))
    };
    let fill = |name: &'static str, value: f64| -> Edit {
        Box::new(move |tensors| {
            let _ = tensors.get_mut(name).unwrap().fill_(value);
        })
    };
    let rows: Vec<(Edit, &str)> = vec![
        (
            fill("change.bias", f64::NAN),
            "a value in `change.bias` that is not a finite number",
        ),
        (
            fill("input.weight", f64::INFINITY),
            "a value in `input.weight`",
        ),
        (
            fill("buffer/innovations", f64::NAN),
            "a value in `buffer/innovations`",
        ),
        (
            fill("buffer/ends", f64::NEG_INFINITY),
            "a value in `buffer/ends`",
        ),
        (
            put("buffer/ends", Tensor::ones([4097], floats)),
            "`buffer/ends` of shape [4097]",
        ),
        (
            put("buffer/innovations", Tensor::zeros([0], floats)),
            "`buffer/innovations` of shape [0]",
        ),
        (
            put("change.bias", Tensor::zeros([0, 33], floats)),
            "`change.bias` of shape [0, 33]",
        ),
        (
            put(
                "change.bias",
                Tensor::zeros([33], (Kind::Int64, Device::Cpu)),
            ),
            "of type Int64",
        ),
        (
            put("\u{1b}[2J", Tensor::zeros([1], floats)),
            "has a tensor `\\u{1b}[2J`",
        ),
        (
            put("many", Tensor::zeros([1; 9], floats)),
            "of a shape that no tensor can have",
        ),
        (Box::new(|tensors| tensors.clear()), "lacks the tensor"),
    ];
    for (edit, words) in rows {
        let bytes = edited(&model, |_, tensors| edit(tensors));
        refused(sample(home.path(), &bytes), words, words);
    }
}

#[test]
fn a_window_is_no_longer_than_the_prompt() {
    let _turn = common::alone();
    let home = tempfile::tempdir().unwrap();
    let s0 = model(
        home.path(),
        &json!({"model": "fft-frame-lstm", "window": 6}),
    );
    sample(home.path(), &s0).unwrap();
    for (window, words) in [
        (0, "`window` is 0"),
        (u32::MAX, "`window` is 4294967295"),
        (65_536, "expected at least 65536"),
    ] {
        let bytes = edited(&s0, |facts, _| {
            facts["architecture"]["window"] = window.into();
        });
        refused(sample(home.path(), &bytes), words, words);
    }
}

#[test]
fn a_model_to_begin_with_is_checked_as_well() {
    let _turn = common::alone();
    let home = tempfile::tempdir().unwrap();
    let model = model(home.path(), &json!({}));
    let train = |bytes: &[u8]| {
        let file = home.path().join("first.safetensors");
        fs::write(&file, bytes).unwrap();
        let mut params = small(2);
        params["init_from"] = json!(file);
        let train = stage("train", &params);
        let ports = inputs([(
            "dataset",
            artifact(dataset(&home.path().join("again"), true)),
        )]);
        let (cx, _) = context(None);
        let cx = cx.with_files(BTreeMap::from([("init_from".to_owned(), file)]));
        run(train.as_ref(), &ports, &home.path().join("out"), &cx).map(drop)
    };
    train(&model).unwrap();
    // Only its tensors are read.
    let other = edited(&model, |facts, _| facts["rows"]["std"][0] = json!(-1.0));
    train(&other).unwrap();
    let bad = edited(&model, |_, tensors| {
        let _ = tensors.get_mut("change.bias").unwrap().fill_(f64::NAN);
    });
    refused(train(&bad), "that is not a finite number", "NaN");
    let bad = edited(&model, |_, tensors| {
        let wide = Tensor::zeros([17, 33], (Kind::Float, Device::Cpu));
        drop(tensors.insert("input.weight".to_owned(), wide));
    });
    refused(
        train(&bad),
        "`input.weight` of shape [17, 33], expected [16, 33]",
        "shape",
    );
}
