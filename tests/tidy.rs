//! What the layout promises: who may import whom, and that every file says what it is.

#![allow(clippy::unwrap_used, reason = "for tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Package → its folder and those of our packages that it depends on (not for tests).
fn packages() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = list.iter().map(|p| p["name"].as_str().unwrap()).collect();
    list.iter()
        .map(|package| {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let imports = package["dependencies"].as_array().unwrap().iter();
            let imports = imports
                .filter(|d| d["kind"].is_null())
                .map(|d| d["name"].as_str().unwrap())
                .filter(|name| ours.contains(name))
                .map(str::to_owned);
            let name = package["name"].as_str().unwrap().to_owned();
            (
                name,
                (manifest.parent().unwrap().to_owned(), imports.collect()),
            )
        })
        .collect()
}

const LIBS: [&str; 6] = ["audio", "dsp", "plot", "score", "shard", "synth"];

fn may_import(who: &str, whom: &str) -> bool {
    let lib = LIBS.contains(&whom);
    match who {
        "stage-core" => false,
        who if LIBS.contains(&who) => false,
        "engine" => whom == "stage-core",
        "pipeline-torch" => lib || ["stage-core", "stage-train", "stage-predict"].contains(&whom),
        who if who.starts_with("stage-") => lib || whom == "stage-core",
        "pipeline" => whom != "pipeline-torch" && whom != "xtask",
        _ => false,
    }
}

#[test]
fn imports_go_one_way() {
    for (who, (_, imports)) in packages() {
        for whom in imports {
            assert!(may_import(&who, &whom), "`{who}` must not import `{whom}`");
        }
    }
}

#[test]
fn only_torch_names_tch() {
    for (name, (dir, _)) in packages() {
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let names_tch = manifest
            .lines()
            .any(|l| l.starts_with("tch.") || l.starts_with("tch ="));
        // The root lists versions for all.
        assert!(
            !names_tch || name == "pipeline-torch" || name == "pipeline",
            "{name}"
        );
    }
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in ["src", "stages", "tests", "benches", "fuzz", "xtask"] {
        rust_files(&root.join(dir), &mut files);
    }
    files
}

#[test]
fn every_file_says_what_it_is() {
    for file in all_rust_files() {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            text.starts_with("//!"),
            "{} does not begin with `//!`",
            file.display()
        );
    }
}

#[test]
fn only_shard_and_ffi_are_unsafe() {
    for file in all_rust_files() {
        let shown = file.to_string_lossy().into_owned();
        if shown.contains("stages/lib/shard/") || shown.contains("torch/src/ffi") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let unsafe_line = text
            .lines()
            .find(|line| line.contains(concat!("unsafe", " {")));
        assert_eq!(unsafe_line, None, "{shown}");
    }
}

/// The modules that a file of `src/` declares, or imports by `crate::`, `super::` or `self::`, as
/// the paths of their files. Its own tests do not count.
fn module_imports(root: &Path, file: &Path, text: &str) -> BTreeSet<PathBuf> {
    let is_home = |name: &str| ["mod.rs", "main.rs"].contains(&name);
    let folder = file.parent().unwrap();
    let own = if is_home(file.file_name().unwrap().to_str().unwrap()) {
        folder.to_owned()
    } else {
        folder.join(file.file_stem().unwrap())
    };
    // The module of a path without its file: that of a folder, or of a file without its ending.
    let file_of = |module: &Path| {
        let files = [
            module.with_extension("rs"),
            module.join("mod.rs"),
            module.join("main.rs"),
        ];
        files.into_iter().find(|file| file.exists())
    };
    let text = text.split("#[cfg(test)]").next().unwrap();
    let declared = text.lines().filter_map(|line| {
        let name = line.strip_suffix(';')?;
        let name = name.strip_prefix("pub(crate) ").unwrap_or(name);
        file_of(&own.join(name.strip_prefix("mod ")?))
    });
    let mut imports: BTreeSet<PathBuf> = declared.collect();
    for (at, _) in text.match_indices("::") {
        let before = &text[..at];
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_');
        let first = &before[start.map_or(0, |at| at + 1)..];
        let base = match first {
            "crate" => root.to_owned(),
            "super" => own.parent().unwrap().to_owned(),
            "self" => own.clone(),
            _ => continue,
        };
        // What is imported: one path, or several in braces.
        let rest = &text[at + 2..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list[..list.find('}').unwrap()].split(',').collect(),
            None => vec![&rest[..rest.find([';', ' ', '(', ',', '<', '{', '\n']).unwrap()]],
        };
        for name in names {
            let mut module = base.clone();
            for part in name.trim().split("::") {
                let deeper = module.join(part);
                if file_of(&deeper).is_none() {
                    break;
                }
                module = deeper;
            }
            imports.extend(file_of(&module).filter(|found| found != file));
        }
    }
    imports
}

/// A module of the program can be understood without those that import it.
#[test]
fn modules_of_the_program_form_no_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.retain(|file| !file.starts_with(root.join("engine")));
    let mut ahead: BTreeMap<PathBuf, BTreeSet<PathBuf>> = files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).unwrap();
            let imports = module_imports(&root, &file, &text);
            (file, imports)
        })
        .collect();
    assert!(ahead.values().map(BTreeSet::len).sum::<usize>() > 50);
    // Files that import nothing that is left are taken away until only circles are left.
    loop {
        let free: Vec<PathBuf> = ahead
            .iter()
            .filter(|(_, imports)| imports.is_empty())
            .map(|(file, _)| file.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        for file in &free {
            ahead.remove(file);
        }
        for imports in ahead.values_mut() {
            imports.retain(|import| !free.contains(import));
        }
    }
    assert!(
        ahead.is_empty(),
        "in circles, or importing from one: {ahead:#?}"
    );
}

/// `name version` of the packages of a lock file that come from a registry.
fn locked(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = std::fs::read_to_string(path).unwrap();
    let packages = text.split("[[package]]").skip(1);
    let packages = packages.filter(|package| package.contains("source = "));
    let field = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim_matches('"').to_owned()
    };
    packages
        .map(|package| {
            format!(
                "{} {}",
                field(package, "name = "),
                field(package, "version = ")
            )
        })
        .collect()
}

/// What is fuzzed is what is shipped: the fuzz targets have a lock file of their own.
#[test]
fn fuzzing_builds_the_same_versions() {
    let ours = locked("Cargo.lock");
    let only_for_fuzzing = ["libfuzzer-sys ", "arbitrary ", "cc ", "jobserver "];
    for package in locked("fuzz/Cargo.lock") {
        let expected = only_for_fuzzing
            .iter()
            .any(|name| package.starts_with(name));
        assert!(
            ours.contains(&package) || expected,
            "fuzz/Cargo.lock has {package}, Cargo.lock has not: bring both to one version"
        );
    }
}

#[test]
fn the_demo_pipeline_plans() {
    let output = Command::new(env!("CARGO_BIN_EXE_pipeline"))
        .args(["graph", "--cache"])
        .arg(tempfile::tempdir().unwrap().path().join("cache"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for stage in ["decode", "render", "featurize", "dataset"] {
        assert!(text.contains(stage), "{text}");
    }
}
