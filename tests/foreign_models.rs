//! Model files from elsewhere: what they say is not trusted.
//!
//! Most of these models do not get as far as libtorch: what is tried is what `pipeline` itself
//! makes of the road that a model describes. `stages/torch/tests/hostile.rs` tries the rest.

#![allow(clippy::unwrap_used, reason = "for tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Place, Said, wav};
use serde_json::{Value, json};

/// What a private file holds.
const SECRET: &[u8] = b"nobody else may read this";

/// A folder with a prompt, and a private file that a model could name.
fn place() -> Place {
    let place = Place::new();
    fs::write(place.path("prompt.wav"), wav(440.0, 1.0, "x")).unwrap();
    let secret = place.path("secret");
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    place
}

/// The road of a usual model.
fn road() -> Value {
    let stage = |kind: &str, inputs: Value| json!({"kind": kind, "version": 1, "params": {}, "inputs": inputs});
    let sound = ["decode", "render"].map(|kind| stage(kind, json!(["source"])));
    json!([stage("featurize", json!(sound))])
}

/// Writes a model file that holds no tensors.
fn write_model(path: &Path, road: &Value) {
    let facts = json!({"format": 1, "step": 3, "road": road}).to_string();
    let header = json!({"__metadata__": {"pipeline": facts}}).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    fs::write(path, bytes).unwrap();
}

fn predict(place: &Place, road: &Value, more: &[&str]) -> Said {
    write_model(&place.path("m.safetensors"), road);
    let mut args = vec!["run", "predict", "--model", "m.safetensors"];
    args.extend(["--prompt", "prompt.wav"]);
    args.extend(more);
    place.run(&args)
}

/// The files in a folder and all below it.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_usual_road_is_gone() {
    let place = place();
    let said = predict(&place, &road(), &["--dry-run"]).expect(0);
    assert!(said.out.contains("featurize"), "{}", said.out);
}

#[test]
fn a_road_that_is_none_is_refused() {
    let place = place();
    let secret = place.path("secret");
    let unknown = "00".repeat(32);
    let in_featurize = |key: &str, value: Value| (format!("/0/params/{key}"), value);
    let in_render = |value: Value| ("/0/inputs/1/params/soundfont".to_owned(), value);
    let stages = |count: usize| -> Value {
        let stage =
            |n| json!({"kind": "featurize", "params": {"hop": n + 1}, "inputs": ["source"]});
        (0..count).map(stage).collect()
    };
    let newline = "hop = 128\n[sources.more]\npath = \".\"\n[stages.x]\nkind";
    let rows: Vec<((String, Value), &str)> = vec![
        // Files of this machine.
        (
            in_render(json!(secret)),
            "`soundfont` names a file of this machine",
        ),
        (
            in_render(json!("secret")),
            "`soundfont` names a file of this machine",
        ),
        (
            in_render(json!({"file": secret})),
            "parameter `soundfont` of stage `render`",
        ),
        (
            in_render(json!({"file": "../../../secret"})),
            "parameter `soundfont` of stage `render`",
        ),
        (
            in_render(json!({"file": {"file": secret}})),
            "parameter `soundfont` of stage `render`",
        ),
        (
            in_render(json!({"file": unknown})),
            "`--set render.soundfont=FILE`",
        ),
        (in_render(json!({"path": secret})), "stage `render`"),
        (in_render(json!([secret])), "stage `render`"),
        // Text that would be more than a value in pipeline.toml.
        (
            in_featurize(newline, json!(1)),
            "no parameter `hop = 128\\n[sources.more]",
        ),
        (
            in_featurize("window", json!("hann\"\n[sources.more]\n")),
            "stage `featurize`",
        ),
        (
            in_featurize("inputs", json!(["secret"])),
            "no parameter `inputs`",
        ),
        (in_featurize("kind", json!("train")), "no parameter `kind`"),
        (
            ("/0/kind".to_owned(), json!("featurize]\n[sources.more")),
            "no stage kind `featurize]\\n",
        ),
        (
            ("/0/kind".to_owned(), json!("\u{1b}[2J")),
            "no stage kind `\\u{1b}[2J`",
        ),
        (
            ("/0/kind".to_owned(), json!("train")),
            "does not prepare single files",
        ),
        (
            ("/0/kind".to_owned(), json!("predict")),
            "does not prepare single files",
        ),
        (
            ("/0/kind".to_owned(), json!("dataset")),
            "does not prepare single files",
        ),
        (("/0/kind".to_owned(), json!(["featurize"])), "has no kind"),
        (("/0/inputs/0".to_owned(), json!(null)), "has no kind"),
        // Sizes.
        (in_featurize("hop", json!(0)), "stage `featurize`"),
        (in_featurize("hop", json!(-1)), "stage `featurize`"),
        (
            in_featurize("n_fft", json!(1_u64 << 40)),
            "stage `featurize`",
        ),
        (in_featurize("n_fft", json!(u64::MAX)), "stage `featurize`"),
        (
            ("/0/inputs/0/params/rate".to_owned(), json!(0)),
            "stage `decode`",
        ),
        (
            ("/0/inputs/0/params/rate".to_owned(), json!(1_000_000_000)),
            "stage `decode`",
        ),
        ((String::new(), stages(65)), "more than 64 stages"),
        ((String::new(), json!([])), "of another program"),
        ((String::new(), json!(7)), "of another program"),
    ];
    for ((pointer, value), words) in rows {
        let mut bad = road();
        // A pointer cannot name what is not there yet.
        let (parent, key) = pointer.rsplit_once('/').unwrap_or_default();
        match bad.pointer_mut(parent) {
            Some(Value::Object(map)) => drop(map.insert(key.to_owned(), value.clone())),
            Some(Value::Array(list)) if !key.is_empty() => {
                list[key.parse::<usize>().unwrap()] = value.clone();
            }
            _ => bad = value.clone(),
        }
        let said = predict(&place, &bad, &[]);
        let row = format!("{pointer} = {value}\n{}\n{}", said.out, said.err);
        assert_eq!(said.code, 1, "{row}");
        assert!(said.err.contains(words), "{words}: {row}");
        assert!(said.err.starts_with("error: the model"), "{row}");
        assert!(!said.err.contains('\u{1b}'), "{row}");
    }
    let readable = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes == SECRET);
    let copies: Vec<_> = files(&place.path(".pipeline"))
        .into_iter()
        .filter(readable)
        .collect();
    assert!(copies.is_empty(), "{copies:?}");
}

#[test]
fn the_user_names_the_file_that_a_model_needs() {
    let place = place();
    let mut with_file = road();
    with_file[0]["inputs"][1]["params"] = json!({"soundfont": {"file": "00".repeat(32)}});
    predict(&place, &with_file, &["--dry-run"]).expect(1);
    let own = ["--dry-run", "--set", "render.soundfont=secret"];
    predict(&place, &with_file, &own).expect(0);
}

#[test]
fn a_model_is_a_regular_file() {
    let place = place();
    let made = std::process::Command::new("mkfifo")
        .arg(place.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    for name in ["pipe", "/dev/zero", "corpus"] {
        let said = place.run(&["run", "predict", "--model", name, "--prompt", "prompt.wav"]);
        assert_eq!(said.code, 1, "{name}: {}", said.err);
        assert!(
            said.err.contains("expected a regular file"),
            "{name}: {}",
            said.err
        );
    }
}

/// The same file with other facts and the digest of these.
fn forged(model: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (length, rest) = model.split_first_chunk().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    let text = header["__metadata__"]["pipeline"].as_str().unwrap();
    let mut facts: Value = serde_json::from_str(text).unwrap();
    facts.as_object_mut().unwrap().remove("digest");
    edit(&mut facts);
    let mut hasher = stage_core::KeyHasher::new("pipeline checkpoint 1");
    hasher.field(facts.to_string().as_bytes());
    for (name, tensor) in header.as_object().unwrap() {
        if name != "__metadata__" {
            let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
            let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
            let dtype = tensor["dtype"].as_str().unwrap();
            hasher
                .field(name.as_bytes())
                .field(format!("{dtype} {shape:?}").as_bytes())
                .field(&data[at(0)..at(1)]);
        }
    }
    facts["digest"] = hasher.finish().to_hex().into();
    header["__metadata__"]["pipeline"] = facts.to_string().into();
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Through both executables, with the memory that a usual model needs and no more.
#[test]
fn a_model_that_names_more_than_it_holds_is_refused_before_it_is_built() {
    let Some(place) = Place::trainable() else {
        return;
    };
    place.json("train").expect(0);
    let model = fs::read(place.path("out/train/model.safetensors")).unwrap();
    type Row = (fn(&mut Value), i32, &'static str);
    let rows: [Row; 3] = [
        (|_| {}, 0, ""),
        (
            |facts| {
                facts["architecture"]["hidden_size"] = 16_384.into();
                facts["architecture"]["num_layers"] = 64.into();
            },
            1,
            "of shape [16, 513], expected [16384, 513]",
        ),
        (
            |facts| facts["architecture"]["num_layers"] = 1_000_000_000.into(),
            1,
            "`num_layers` is 1000000000, expected 1 to 64",
        ),
    ];
    for (edit, code, words) in rows {
        fs::write(place.path("forged.safetensors"), forged(&model, edit)).unwrap();
        let args = ["run", "predict", "--model", "forged.safetensors"];
        let more = ["--prompt", "prompt.mid", "--frames", "4", "--device", "cpu"];
        let said = place.run_limited("-v 6000000", &[&args[..], &more].concat());
        assert_eq!(said.code, code, "{}\n{}", said.out, said.err);
        assert!((said.out + &said.err).contains(words), "{words}");
    }
}

/// Every parameter that names a file is told by `Stage::files`: on this rests that a model names
/// none.
#[test]
fn every_file_parameter_is_declared() {
    for entry in [
        stage_core::KindEntry::of::<stage_decode::Decode>(),
        stage_core::KindEntry::of::<stage_render::Render>(),
        stage_core::KindEntry::of::<stage_featurize::Featurize>(),
        stage_core::KindEntry::of::<stage_dataset::Dataset>(),
        stage_core::KindEntry::of::<stage_train::Train>(),
        stage_core::KindEntry::of::<stage_predict::Predict>(),
    ] {
        for key in entry.defaults().as_object().unwrap().keys() {
            // No name, word or number of ours: only a path can be this.
            if let Ok((stage, _)) = entry.parse(&json!({key.as_str(): "/no/such: file"})) {
                let files: Vec<_> = stage.files().into_iter().map(|(key, _)| key).collect();
                assert_eq!(files, [key.as_str()], "{}", entry.kind);
            }
        }
    }
}
