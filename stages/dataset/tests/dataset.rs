//! The stage as the engine calls it: shards in, segments and a manifest out.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use shard::{
    Column, Dtype, Loader, LoaderOptions, Manifest, Metadata, Remainder, RowType, Sampling,
    Segment, ShardOptions, ShardWriter, Split, Values,
};
use stage_core::{
    Context, Digest, Event, FailureClass, FileParam, Input, Inputs, ItemInput, Output, Part, Stage,
    Tree,
};
use stage_dataset::{Dataset, MANIFEST, PORT, Rule, SEGMENT};

/// A shard of `rows` frames whose first value is `start`.
fn frames(path: &Path, rows: usize, start: f32, dtype: Dtype) {
    let columns = [
        Column::new("magnitude", 4, dtype),
        Column::new("phase", 4, Dtype::F32),
    ];
    let metadata = Metadata::from([
        ("rate".to_owned(), "22050".to_owned()),
        ("hop".to_owned(), "256".to_owned()),
        ("samples".to_owned(), (rows * 256).to_string()),
    ]);
    let file = fs::File::create(path).unwrap();
    let mut writer = ShardWriter::new(file, &columns, &metadata, ShardOptions::default()).unwrap();
    for row in 0..rows {
        let x = start + row as f32 / 16.0;
        writer
            .push(&[[x, x + 1.0, -x, 0.5].as_slice(), &[0.25; 4]])
            .unwrap();
    }
    writer.finish().unwrap();
}

fn input(path: PathBuf, name: &str) -> Input {
    let bytes = fs::read(&path).unwrap();
    Input {
        tree: Tree::single(name, Digest::of(&bytes), bytes.len() as u64),
        paths: BTreeMap::from([(name.to_owned(), path)]),
        file_id: None,
    }
}

/// A piece: name of its source file, its label, its sound.
struct Piece(&'static str, Option<&'static str>, f32);

struct Bench {
    dir: tempfile::TempDir,
    stage: Dataset,
    rows: usize,
}

struct Outcome {
    manifest: Manifest,
    notes: Vec<String>,
    tree: Tree,
    folder: PathBuf,
}

impl Bench {
    fn new(stage: Dataset) -> Self {
        stage.validate().unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            stage,
            rows: 100,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn segment(&self, piece: &Piece) -> Input {
        let folder = self.folder(piece.0);
        let shard = folder.join("frames.parquet");
        frames(&shard, self.rows, piece.2, Dtype::F16);
        let item = ItemInput {
            source: Digest::of(piece.0.as_bytes()),
            label: None,
            input: input(shard, "frames.parquet"),
        };
        let mut out = Output::new(&folder);
        self.stage
            .map(&item, &Inputs::default(), &mut out, &Context::silent())
            .unwrap();
        let (tree, written) = out.seal().unwrap();
        assert_eq!(written, [SEGMENT]);
        assert!(tree.get(SEGMENT).unwrap().self_checked);
        let root = Segment::open(folder.join(SEGMENT)).unwrap().root();
        assert_eq!(tree.seal(SEGMENT), Some(Digest(root.0)));
        Input {
            tree,
            paths: BTreeMap::from([(SEGMENT.to_owned(), folder.join(SEGMENT))]),
            file_id: None,
        }
    }

    fn reduce(&self, pieces: &[Piece]) -> Result<Outcome, stage_core::StageError> {
        let mut items: Vec<ItemInput> = pieces
            .iter()
            .map(|piece| ItemInput {
                source: Digest::of(piece.0.as_bytes()),
                label: piece.1.map(str::to_owned),
                input: self.segment(piece),
            })
            .collect();
        items.sort_by_key(|item| (item.source, item.input.tree.digest(), item.label.clone()));
        let paths: BTreeMap<String, PathBuf> = items
            .iter()
            .map(|item| {
                let digest = item.input.tree.get(SEGMENT).unwrap().digest;
                (
                    format!("{digest}.bin"),
                    item.input.path(SEGMENT).unwrap().to_owned(),
                )
            })
            .collect();
        let inputs = Inputs {
            ports: BTreeMap::from([(PORT.to_owned(), items)]),
        };
        let notes = Arc::new(Mutex::new(Vec::new()));
        let sink = notes.clone();
        let cx = Context::new(Arc::new(move |event| {
            if let Event::Note { text, .. } = event {
                sink.lock().unwrap().push(text);
            }
        }));
        // A new one each time, as the engine gives.
        let number = fs::read_dir(self.dir.path()).unwrap().count();
        let folder = self.folder(&format!("whole {number}"));
        let mut out = Output::new(&folder);
        self.stage.reduce(&inputs, &mut out, &cx)?;
        let (tree, written) = out.seal()?;
        assert_eq!(written, [MANIFEST]);
        // What the engine does with links.
        fs::create_dir_all(folder.join("segments")).unwrap();
        for (name, path) in paths {
            fs::copy(path, folder.join("segments").join(name)).unwrap();
        }
        let manifest = Manifest::open(folder.join(MANIFEST)).unwrap();
        for entry in &manifest.segments {
            assert!(
                tree.get(&format!("segments/{}.bin", entry.digest))
                    .is_some()
            );
        }
        assert_eq!(tree.0.len(), manifest.segments.len() + 1);
        let notes = notes.lock().unwrap().clone();
        Ok(Outcome {
            manifest,
            notes,
            tree,
            folder,
        })
    }
}

fn counts(manifest: &Manifest) -> [u64; 3] {
    Split::ALL.map(|split| manifest.counts.of(split).pieces)
}

const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

fn distinct(count: usize) -> Vec<Piece> {
    (0..count)
        .map(|i| Piece(NAMES[i], None, i as f32))
        .collect()
}

#[test]
fn segments_hold_the_asked_columns_as_they_are_stored() {
    let both = Dataset {
        columns: vec!["phase".to_owned(), "magnitude".to_owned()],
        ..Dataset::default()
    };
    for (stage, row_type, width) in [
        (Dataset::default(), RowType::F16, 4),
        (both, RowType::F32, 8),
    ] {
        let bench = Bench::new(stage);
        let input = bench.segment(&Piece("a", None, 1.0));
        let segment = Segment::open(input.path(SEGMENT).unwrap()).unwrap();
        assert_eq!(
            (segment.layout().row_type, segment.layout().width()),
            (row_type, width)
        );
        assert_eq!(segment.rows(), 100);
        let keys: Vec<&str> = segment.metadata().keys().map(String::as_str).collect();
        assert_eq!(keys, ["hop", "rate"], "nothing of the item alone");
        let mut row = vec![0.0; width as usize];
        segment.read_f32(16..17, &mut row).unwrap();
        assert_eq!(row[width as usize - 4..], [2.0, 3.0, -2.0, 0.5]);
    }
}

#[test]
fn columns_of_codes_lie_in_a_row_of_their_own_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("frames.parquet");
    let columns = [
        Column::new("token", 2, Dtype::U16),
        Column::new("position", 1, Dtype::U16),
        Column::new("keys", 9, Dtype::Bit),
        Column::new("magnitude", 1, Dtype::F16),
    ];
    let file = fs::File::create(&path).unwrap();
    let (metadata, options) = (Metadata::new(), ShardOptions::default());
    let mut writer = ShardWriter::new(file, &columns, &metadata, options).unwrap();
    let keys = [true; 18];
    writer
        .push(&[
            Values::U16(&[1, 2, 65_535, 4]),
            Values::U16(&[7, 8]),
            Values::Bit(&keys),
            Values::F32(&[0.0, 1.0]),
        ])
        .unwrap();
    writer.finish().unwrap();
    let item = ItemInput {
        source: Digest::of(b"x"),
        label: None,
        input: input(path, "frames.parquet"),
    };
    let map = |columns: &[&str]| {
        let stage = Dataset {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            ..Dataset::default()
        };
        let mut out = Output::new(dir.path());
        stage
            .map(&item, &Inputs::default(), &mut out, &Context::silent())
            .map(|_| Segment::open(dir.path().join(SEGMENT)).unwrap())
            .map_err(|error| error.reason())
    };
    let tokens = map(&["token", "position"]).unwrap();
    assert_eq!(tokens.layout().row_type, RowType::U16);
    let mut rows = [0; 6];
    tokens.read_i64(0..2, &mut rows).unwrap();
    assert_eq!(rows, [1, 2, 7, 65_535, 4, 8]);
    let keys = map(&["keys"]).unwrap();
    assert_eq!(keys.layout().row_type, RowType::Bit);
    assert_eq!(keys.bytes(0..2).unwrap(), [255, 1, 255, 1]);
    let mixed = map(&["token", "magnitude"]).err().unwrap();
    assert!(
        mixed.contains("column `magnitude` is f16, but `token` is u16"),
        "{mixed}"
    );
}

#[test]
fn splits_of_one_three_five_and_twelve_files() {
    let bench = Bench::new(Dataset {
        gap: 4,
        ..Dataset::default()
    });
    for (count, rule) in [
        (1, "time"),
        (2, "time"),
        (3, "share"),
        (5, "share"),
        (12, "share"),
    ] {
        let outcome = bench.reduce(&distinct(count)).unwrap();
        let pieces = counts(&outcome.manifest);
        assert_eq!(outcome.manifest.split, rule);
        assert!(pieces.iter().all(|&n| n > 0), "{count}: {pieces:?}");
        if rule == "share" {
            assert_eq!(pieces.iter().sum::<u64>(), count as u64);
            assert!(
                pieces[0] >= pieces[1] && pieces[0] >= pieces[2],
                "{count}: {pieces:?}"
            );
        } else {
            let rows = Split::ALL.map(|split| outcome.manifest.counts.of(split).rows);
            assert_eq!(rows.map(|n| n / count as u64), [74, 9, 9]);
        }
        // What was made can be loaded.
        let sampling = Sampling::Chunks {
            remainder: Remainder::Drop,
        };
        let options = LoaderOptions::new(Split::Train, 4, 8, sampling);
        let loader =
            Loader::open(&outcome.manifest, outcome.folder.join("segments"), &options).unwrap();
        for batch in loader.epoch(0).unwrap() {
            batch.unwrap();
        }
    }
}

#[test]
fn a_file_more_moves_no_other() {
    let bench = Bench::new(Dataset {
        split: Rule::Share,
        ..Dataset::default()
    });
    let splits = |count: usize| {
        let manifest = bench.reduce(&distinct(count)).unwrap().manifest;
        let of = |entry: &shard::SegmentEntry| {
            Split::ALL
                .into_iter()
                .find(|&split| !entry.part(split).is_empty())
        };
        manifest
            .segments
            .iter()
            .map(|e| (e.digest, of(e)))
            .collect::<BTreeMap<_, _>>()
    };
    let (eleven, twelve) = (splits(11), splits(12));
    let moved = eleven
        .iter()
        .filter(|(digest, split)| twelve[digest] != **split)
        .count();
    assert!(
        moved <= 1,
        "only a set that would be empty may take another"
    );
}

#[test]
fn folders_and_tables_become_labels() {
    let stage = Dataset::default();
    let none = BTreeMap::new();
    let labels = |stage: &Dataset, paths: &[&str], files: &BTreeMap<String, PathBuf>| {
        let labels = stage.labels(paths, files).unwrap();
        labels
            .iter()
            .map(|l| l.clone().unwrap_or_default())
            .collect::<Vec<_>>()
    };
    let paths = ["train/a.wav", "Validation/b.wav", "x/test/c.wav", "d.wav"];
    assert_eq!(
        labels(&stage, &paths, &none),
        ["train", "valid", "test", ""]
    );
    assert_eq!(labels(&stage, &["train/a.wav", "b.wav"], &none), ["", ""]);
    let share = Dataset {
        split: Rule::Share,
        ..Dataset::default()
    };
    assert_eq!(labels(&share, &paths, &none), ["", "", "", ""]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("splits.csv");
    fs::write(&path, "file,split\na.wav,train\nb.wav,test\n").unwrap();
    let csv = Dataset {
        split: Rule::Csv,
        csv: Some(FileParam(path.clone())),
        ..Dataset::default()
    };
    csv.validate().unwrap();
    assert_eq!(csv.files()[0].0, "csv");
    let files = BTreeMap::from([("csv".to_owned(), path)]);
    assert_eq!(
        labels(&csv, &["x/a.wav", "b.wav"], &files),
        ["train", "test"]
    );
    let error = csv.labels(&["c.wav"], &files).unwrap_err();
    assert_eq!(error.class(), FailureClass::Content);
    assert!(error.reason().contains("does not name `c.wav`"));
}

#[test]
fn labels_are_followed_and_equal_sound_leaves_train() {
    let bench = Bench::new(Dataset::default());
    let pieces = [
        Piece("a", Some("train"), 0.0),
        Piece("b", Some("train"), 1.0),
        Piece("c", Some("valid"), 2.0),
        Piece("d", Some("test"), 3.0),
        // The same sound as `a`, and as `c`.
        Piece("e", Some("test"), 0.0),
        Piece("f", Some("train"), 2.0),
        Piece("g", None, 5.0),
    ];
    let outcome = bench.reduce(&pieces).unwrap();
    assert_eq!(outcome.manifest.split, "folders");
    assert_eq!(counts(&outcome.manifest), [2, 1, 2]);
    assert_eq!(
        outcome.notes[..3],
        [
            "1 piece is the same in train and valid: kept in valid alone",
            "1 piece is the same in train and test: kept in test alone",
            "1 piece is in no folder named train, valid or test: taken for training",
        ]
    );
    let all = outcome.notes.join("\n");
    assert!(
        all.contains("2 files have the same frames as another and count once"),
        "{all}"
    );
    assert!(all.contains("train: 2 pieces, 200 rows, 0:02 min"), "{all}");
    assert!(
        all.contains("split by folders; rows: f16 of magnitude x 4"),
        "{all}"
    );
    // Statistics come from the training pieces `b` and `g` alone.
    let statistics = outcome.manifest.statistics.unwrap();
    assert_eq!((statistics.count, statistics.min[0]), (200, 1.0));
}

#[test]
fn a_set_without_validation_takes_some_of_train() {
    let bench = Bench::new(Dataset {
        split: Rule::Folders,
        ..Dataset::default()
    });
    let label = |i: usize| Some(if i < 9 { "train" } else { "test" });
    let pieces: Vec<Piece> = (0..12)
        .map(|i| Piece(NAMES[i], label(i), i as f32))
        .collect();
    let outcome = bench.reduce(&pieces).unwrap();
    let [train, valid, test] = counts(&outcome.manifest);
    assert!(
        valid >= 1 && train + valid == 9 && test == 3,
        "{train} {valid} {test}"
    );
    assert!(outcome.notes[0].contains("no piece is marked for validation"));
    let all_test: Vec<Piece> = (0..3)
        .map(|i| Piece(NAMES[i], Some("test"), i as f32))
        .collect();
    let error = bench.reduce(&all_test).err().unwrap();
    assert!(error.reason().contains("no piece is in the train split"));
}

#[test]
fn names_and_duplicates_change_nothing() {
    let bench = Bench::new(Dataset {
        split: Rule::Time,
        gap: 4,
        ..Dataset::default()
    });
    let one = bench
        .reduce(&[Piece("a", None, 0.0), Piece("b", None, 1.0)])
        .unwrap();
    let other = bench
        .reduce(&[
            Piece("x", None, 1.0),
            Piece("y", None, 0.0),
            Piece("z", None, 0.0),
        ])
        .unwrap();
    assert_eq!(one.tree, other.tree);
    let text = String::from_utf8(one.manifest.to_json().unwrap()).unwrap();
    assert!(!text.contains("samples") && !text.contains(".parquet"));
}

#[test]
fn pieces_too_short_for_time_stay_whole() {
    let bench = Bench::new(Dataset {
        split: Rule::Time,
        gap: 64,
        ..Dataset::default()
    });
    let outcome = bench.reduce(&distinct(2)).unwrap();
    assert_eq!(counts(&outcome.manifest), [2, 0, 0]);
    assert!(outcome.notes[0].contains("2 pieces are too short to be divided in time"));
}

#[test]
fn failures_are_told_apart() {
    let bench = Bench::new(Dataset::default());
    let map = |path: PathBuf, stage: &Dataset| {
        let item = ItemInput {
            source: Digest::of(b"x"),
            label: None,
            input: input(path, "frames.parquet"),
        };
        let mut out = Output::new(bench.folder("out"));
        stage
            .map(&item, &Inputs::default(), &mut out, &Context::silent())
            .unwrap_err()
    };
    let shard = bench.dir.path().join("frames.parquet");
    frames(&shard, 10, 0.0, Dtype::F16);
    let asks = Dataset {
        columns: vec!["chroma".to_owned()],
        ..Dataset::default()
    };
    let error = map(shard.clone(), &asks);
    assert_eq!(error.class(), FailureClass::Content);
    assert!(
        error
            .reason()
            .contains("has no column `chroma`; it has `magnitude`, `phase`")
    );
    let mut bytes = fs::read(&shard).unwrap();
    bytes[50] ^= 1;
    fs::write(&shard, bytes).unwrap();
    assert_eq!(
        map(shard.clone(), &bench.stage).class(),
        FailureClass::Damaged
    );
    frames(&shard, 0, 0.0, Dtype::F16);
    let error = map(shard, &bench.stage);
    assert_eq!(
        (error.class(), error.reason().as_str()),
        (FailureClass::Content, "it has no frames")
    );
    assert!(
        bench
            .reduce(&[])
            .err()
            .unwrap()
            .reason()
            .contains("no pieces")
    );
}

#[test]
fn frames_of_two_roads_make_no_data_set() {
    let bench = Bench::new(Dataset {
        split: Rule::Share,
        ..Dataset::default()
    });
    let wide = Bench {
        stage: Dataset {
            columns: vec!["magnitude".to_owned(), "phase".to_owned()],
            ..Dataset::default()
        },
        ..Bench::new(Dataset::default())
    };
    let item = |bench: &Bench, name: &'static str| ItemInput {
        source: Digest::of(name.as_bytes()),
        label: None,
        input: bench.segment(&Piece(name, None, 0.0)),
    };
    let items = vec![item(&bench, "a"), item(&wide, "b")];
    let inputs = Inputs {
        ports: BTreeMap::from([(PORT.to_owned(), items)]),
    };
    let mut out = Output::new(bench.folder("whole"));
    let error = bench
        .stage
        .reduce(&inputs, &mut out, &Context::silent())
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Content);
    assert!(error.reason().contains("differs"), "{error}");
}

#[test]
fn bad_parameters_are_named() {
    let base = Dataset::default;
    let cases = [
        (
            Dataset {
                columns: Vec::new(),
                ..base()
            },
            "columns",
        ),
        (
            Dataset {
                columns: vec!["a".to_owned(), "a".to_owned()],
                ..base()
            },
            "columns",
        ),
        (
            Dataset {
                valid: -0.1,
                ..base()
            },
            "valid",
        ),
        (
            Dataset {
                valid: f64::NAN,
                ..base()
            },
            "valid",
        ),
        (
            Dataset {
                test: 0.95,
                ..base()
            },
            "test",
        ),
        (
            Dataset {
                valid: 0.5,
                test: 0.5,
                ..base()
            },
            "test",
        ),
        (
            Dataset {
                gap: 2_000_000,
                ..base()
            },
            "gap",
        ),
        (
            Dataset {
                split: Rule::Csv,
                ..base()
            },
            "csv",
        ),
        (
            Dataset {
                csv: Some(FileParam(PathBuf::from("x"))),
                ..base()
            },
            "csv",
        ),
    ];
    for (stage, key) in cases {
        assert_eq!(stage.validate().unwrap_err().key, key, "{stage:?}");
    }
    assert!(serde_json::from_str::<Dataset>(r#"{"colums": []}"#).is_err());
    assert!(serde_json::from_str::<Dataset>(r#"{"split": "random"}"#).is_err());
    let read: Dataset = serde_json::from_str(r#"{"split": "time", "valid": 0.2}"#).unwrap();
    assert_eq!((read.split, read.valid, read.test), (Rule::Time, 0.2, 0.1));
}

#[test]
fn every_parameter_is_read_by_some_part() {
    let stage = Dataset::default();
    let all = serde_json::to_value(&stage).unwrap();
    for key in all.as_object().unwrap().keys() {
        let unread = |part| stage.unread_by(part).contains(&key.as_str());
        assert!(
            unread(Part::Item) != unread(Part::Whole),
            "{key} belongs to one part"
        );
    }
}
