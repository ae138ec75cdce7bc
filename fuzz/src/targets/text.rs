//! What people and other processes write: pipeline.toml, tables of splits, the worker's lines.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use engine::{Config, Setting};
use stage_core::worker::{FromWorker, ToWorker, serve};
use stage_core::{FileParam, KindEntry, Registry, Stage};
use stage_dataset::{Dataset, Rule};

fn registry() -> Registry {
    Registry::new([
        KindEntry::of::<stage_decode::Decode>(),
        KindEntry::of::<stage_render::Render>(),
        KindEntry::of::<stage_featurize::Featurize>(),
        KindEntry::of::<Dataset>(),
        KindEntry::of::<stage_train::Train>(),
        KindEntry::of::<stage_predict::Predict>(),
    ])
}

/// Reads a pipeline.toml. A last line `#set TEXT` is given as `--set TEXT`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let set = text.lines().next_back();
    let set = set.and_then(|line| line.strip_prefix("#set "));
    let settings: Vec<Setting> = set
        .map(|text| Setting {
            flag: "--set".to_owned(),
            text: text.to_owned(),
        })
        .into_iter()
        .collect();
    match Config::parse(
        "pipeline.toml".as_ref(),
        text.to_owned(),
        &registry(),
        &settings,
    ) {
        Ok(config) => {
            for stage in 0..config.graph.stages.len() {
                let _ = config.graph.upstream(stage);
                let _ = config.graph.needed_sources(stage);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Reads a table of splits and asks it for some paths.
pub fn table(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().and_then(|mut file| {
        file.write_all(bytes)?;
        Ok(file)
    });
    let file = file.expect("the folder for temporary files can be written");
    let stage = Dataset {
        split: Rule::Csv,
        csv: Some(FileParam(file.path().to_owned())),
        ..Dataset::default()
    };
    let files: BTreeMap<String, PathBuf> =
        BTreeMap::from([("csv".to_owned(), file.path().to_owned())]);
    let paths = ["a.wav", "2018/a.wav", "x/2018/a.wav", ""];
    for path in paths {
        if let Ok(labels) = stage.labels(&[path], &files) {
            assert_eq!(labels.len(), 1);
        }
    }
}

/// Reads lines as the worker does and as the engine does. The worker knows no kind, so that no
/// job writes where its line says.
pub fn worker(bytes: &[u8]) {
    let _ = serve(
        &Registry::new([]),
        "class",
        Cursor::new(bytes.to_vec()),
        std::io::sink(),
    );
    for line in bytes.split(|b| *b == b'\n') {
        if let Ok(message) = serde_json::from_slice::<ToWorker>(line) {
            serde_json::to_string(&message).expect("what was read can be written");
        }
        if let Ok(message) = serde_json::from_slice::<FromWorker>(line) {
            serde_json::to_string(&message).expect("what was read can be written");
        }
    }
}
