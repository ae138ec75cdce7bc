//! Training: it learns, it is the same each time, and it goes on where it was.

mod common;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{artifact, context, dataset, inputs, run, small, stage};
use pipeline_torch::checkpoint;
use pipeline_torch::trainer::history::Record;
use serde_json::{Value, json};
use stage_core::{Context, DeviceChoice, Event, StageError};

#[test]
fn a_small_model_beats_copying_and_its_files_say_so() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(&dir.path().join("data"), false);
    let inputs = inputs([("dataset", artifact(data))]);
    let (cx, events) = context(None);
    let files = run(
        &*stage("train", &small(120)),
        &inputs,
        &dir.path().join("out"),
        &cx,
    )
    .unwrap();
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "history.csv",
            "history.jsonl",
            "last.safetensors",
            "loss.png",
            "loss.svg",
            "model.safetensors"
        ]
    );
    let history = String::from_utf8(files["history.jsonl"].clone()).unwrap();
    let records: Vec<Record> = history
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let best = &records.iter().rev().find(|r| r.best).unwrap().metrics[0];
    let [copy_previous, bin_mean] = [0, 1].map(|i| best.baselines[i].value);
    assert!(best.value < 0.97 * copy_previous, "{best:?}");
    assert!(copy_previous < bin_mean, "{best:?}");
    let model = checkpoint::from_bytes("m", &files["model.safetensors"]).unwrap();
    assert_eq!(model.meta["architecture"]["name"], "residual-lstm");
    assert_eq!(model.meta["metrics"][0]["name"], "rmse");
    assert_eq!(model.meta["road"][0]["kind"], "featurize");
    assert!(model.meta["rows"]["mean"].as_array().unwrap().len() == 33);
    let events = events.lock().unwrap();
    assert!(events.contains(&Event::Total {
        total: 120,
        unit: "steps".into()
    }));
    let advanced = events
        .iter()
        .filter(|e| matches!(e, Event::Advance { by: 1 }))
        .count();
    assert_eq!(advanced, 120);
}

/// Stops after some steps, as a signal would.
fn stopping_after(steps: u64, scratch: &std::path::Path) -> Context {
    let count = Arc::new(AtomicU64::new(0));
    let cancel = stage_core::Cancel::default();
    let seen = cancel.clone();
    let mut cx = Context::new(Arc::new(move |event| {
        if matches!(event, Event::Advance { .. })
            && count.fetch_add(1, Ordering::Relaxed) + 1 == steps
        {
            seen.set();
        }
    }));
    cx.cancel = cancel;
    cx.device = DeviceChoice::Cpu;
    cx.scratch = Some(scratch.to_owned());
    cx.preprocessing = Some(stage_core::Preprocessing {
        stages: json!([{"kind": "featurize", "n_fft": 64}]),
        ..Default::default()
    });
    cx
}

#[test]
fn stopped_and_resumed_is_the_same_as_not() {
    let _turn = common::alone();
    for (params, phase) in [
        (small(40), false),
        (
            json!({"model": "fft-frame-lstm", "hidden_size": 8, "num_layers": 2, "batch_size": 16, "threads": 1,
                   "max_steps": 40, "save_every": 7}),
            true,
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let data = dataset(&dir.path().join("data"), phase);
        let inputs = inputs([("dataset", artifact(data))]);
        let out = dir.path().join("out");
        let stage = stage("train", &params);
        let (cx, _) = context(None);
        let whole = run(&*stage, &inputs, &out, &cx).unwrap();

        let scratch = dir.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        for steps in [3, 9, 14] {
            let cx = stopping_after(steps, &scratch);
            let error = run(&*stage, &inputs, &out, &cx).unwrap_err();
            assert!(matches!(error, StageError::Paused(_)), "{error}");
        }
        let (cx, _) = context(Some(&scratch));
        let resumed = run(&*stage, &inputs, &out, &cx).unwrap();
        assert!(whole == resumed, "the files differ");

        // Killed instead: the state is that of some save before.
        let state = scratch.join("state.safetensors");
        let (cx, _) = context(Some(&scratch));
        assert!(
            whole == run(&*stage, &inputs, &out, &cx).unwrap(),
            "finished training is taken up"
        );
        fs::write(&state, b"damaged").unwrap();
        assert!(
            whole == run(&*stage, &inputs, &out, &cx).unwrap(),
            "a damaged state starts again"
        );
    }
}

#[test]
fn a_raised_budget_goes_on_and_ends_like_a_single_run() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(&dir.path().join("data"), false);
    let inputs = inputs([("dataset", artifact(data))]);
    let out = dir.path().join("out");
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let (cx, _) = context(Some(&scratch));
    run(&*stage("train", &small(25)), &inputs, &out, &cx).unwrap();
    let (cx, events) = context(Some(&scratch));
    let raised = run(&*stage("train", &small(40)), &inputs, &out, &cx).unwrap();
    assert!(
        events
            .lock()
            .unwrap()
            .contains(&Event::Position { done: 25 })
    );
    let (cx, _) = context(None);
    let single = run(&*stage("train", &small(40)), &inputs, &out, &cx).unwrap();
    assert!(raised == single, "the files differ");
}

#[test]
fn weights_to_begin_with_must_fit() {
    let _turn = common::alone();
    let dir = tempfile::tempdir().unwrap();
    let data = dataset(&dir.path().join("data"), true);
    let inputs = inputs([("dataset", artifact(data))]);
    let out = dir.path().join("out");
    let (cx, _) = context(None);
    let files = run(&*stage("train", &small(5)), &inputs, &out, &cx).unwrap();
    let path = dir.path().join("m.safetensors");
    fs::write(&path, &files["model.safetensors"]).unwrap();
    let begin = |mut params: Value| {
        params["init_from"] = json!("m.safetensors");
        let (cx, _) = context(None);
        let cx = cx.with_files([("init_from".to_owned(), path.clone())].into());
        run(&*stage("train", &params), &inputs, &out, &cx)
    };
    begin(small(5)).unwrap();
    let wrong =
        begin(json!({"model": "fft-frame-lstm", "hidden_size": 8, "max_steps": 2})).unwrap_err();
    assert!(wrong.to_string().contains("residual-lstm"), "{wrong}");
    let mut other = small(2);
    other["hidden_size"] = json!(8);
    let wrong = begin(other).unwrap_err();
    assert!(wrong.to_string().contains("shape"), "{wrong}");
}
