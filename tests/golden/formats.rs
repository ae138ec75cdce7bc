//! The bytes of every format that is written, and that those of older versions can be read.

use std::collections::BTreeMap;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::sync::Arc;

use audio::{Decoder, FlacWriter, PcmSpec, SampleFormat, WavWriter};
use engine::store::{
    ActionRecord, Artifact, InterimRecord, Origin, Outcome, PinRecord, Record, RunOutcome,
    RunRecord, RunStage, StageSettings, Ulid, decode_commit, encode_commit,
};
use plot::{
    Baseline, ColourMap, FrequencyAxis, LineChart, Panel, Scale, Series, Size, Spectrogram,
};
use shard::{
    Column, Dtype, Layout, Manifest, ManifestBuilder, Metadata, RowType, Segment, SegmentId,
    SegmentWriter, ShardOptions, ShardReader, ShardWriter, Split,
};
use stage_core::{Digest, Kind, Part, Tree};

use super::Writer;
use crate::common::Place;

const SHARD: Writer = Writer {
    name: "shard",
    version: 1,
    constant: "`VERSION` in stages/lib/shard/src/write.rs and that of `featurize`",
    ending: ".parquet",
};

/// A value that an f16 holds exactly, in [-2, 2).
fn value(n: usize) -> f32 {
    (n * 37 % 1024) as f32 / 256.0 - 2.0
}

fn metadata() -> Metadata {
    let pairs = [("rate", "8000"), ("hop", "16"), ("samples", "320")];
    Metadata::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
}

fn shard_bytes() -> Vec<u8> {
    let columns = [
        Column::new("magnitude", 5, Dtype::F16),
        Column::new("descriptors", 2, Dtype::F32),
    ];
    let options = ShardOptions::default();
    let mut writer = ShardWriter::new(Vec::new(), &columns, &metadata(), options).unwrap();
    let magnitudes: Vec<f32> = (0..100).map(value).collect();
    let descriptors: Vec<f32> = (0..40).map(|n| 1000.0 + value(n)).collect();
    writer.push(&[magnitudes.as_slice(), &descriptors]).unwrap();
    writer.finish().unwrap().0
}

#[test]
fn shards() {
    SHARD.check(&shard_bytes());
    for (version, bytes) in SHARD.all() {
        let shard = ShardReader::from_bytes(bytes, "golden").unwrap();
        assert_eq!(shard.rows(), 20, "version {version}");
        let expected: Vec<f32> = (0..100).map(value).collect();
        assert_eq!(shard.read_f32("magnitude").unwrap(), expected);
        assert_eq!(shard.metadata()["rate"], "8000");
    }
}

const BIT_ROWS: usize = 1100;

/// A segment of each type of row.
fn segment_bytes(row_type: RowType) -> Vec<u8> {
    let layout = Layout::new(row_type, [("a", 3), ("b", 8)]).unwrap();
    let mut writer = SegmentWriter::new(Vec::new(), layout, metadata()).unwrap();
    let floats: Vec<f32> = (0..220).map(value).collect();
    match row_type {
        RowType::F32 => writer.push_f32(&floats).unwrap(),
        RowType::F16 => writer.push_f32(&floats).unwrap(),
        RowType::U16 => {
            let tokens: Vec<u16> = (0..220).map(|n| n * 7 % 99).collect();
            writer.push_u16(&tokens).unwrap();
        }
        RowType::Bit => {
            // More rows than a block of sums has.
            let bits: Vec<bool> = (0..BIT_ROWS * 11).map(|n| n % 3 == 0).collect();
            writer.push_bits(&bits).unwrap();
        }
    }
    writer.finish().unwrap().0
}

fn open_segment(bytes: &[u8]) -> Segment {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    Segment::from_file(&file, "golden").unwrap()
}

#[test]
fn segments() {
    let rows = [
        ("segment-f32", RowType::F32),
        ("segment-f16", RowType::F16),
        ("segment-u16", RowType::U16),
        ("segment-bits", RowType::Bit),
    ];
    for (name, row_type) in rows {
        let writer = Writer {
            name,
            version: 1,
            constant: "`VERSION` in stages/lib/shard/src/segment/format.rs and that of `dataset`",
            ending: ".bin",
        };
        writer.check(&segment_bytes(row_type));
        for (version, bytes) in writer.all() {
            let segment = open_segment(&bytes);
            segment.verify().unwrap();
            let rows = match row_type {
                RowType::Bit => BIT_ROWS as u64,
                _ => 20,
            };
            assert_eq!(segment.rows(), rows, "{name}, version {version}");
            assert_eq!(segment.layout().row_type, row_type);
        }
    }
}

#[test]
fn manifests() {
    let writer = Writer {
        name: "manifest",
        version: shard::MANIFEST_VERSION,
        constant: "`MANIFEST_VERSION` in stages/lib/shard/src/manifest.rs and that of `dataset`",
        ending: ".json",
    };
    let bytes = segment_bytes(RowType::F16);
    let digest = SegmentId(Digest::of(&bytes).0);
    let parts = BTreeMap::from([
        (Split::Train, 0..12),
        (Split::Valid, 14..17),
        (Split::Test, 18..20),
    ]);
    let mut builder = ManifestBuilder::new();
    builder.add(digest, &open_segment(&bytes), &parts).unwrap();
    writer.check(&builder.finish("time").unwrap().to_json().unwrap());
    for (version, bytes) in writer.all() {
        let manifest = Manifest::from_json(&bytes, "golden").unwrap();
        assert_eq!(manifest.counts.train.rows, 12, "version {version}");
    }
}

fn records() -> Vec<Record> {
    let origin = Origin {
        run: Ulid(7),
        pipeline: "/home/me/nocturnes/pipeline.toml".to_owned(),
        program: "0.1.0".to_owned(),
        class: "x86_64-avx2".to_owned(),
    };
    let settings = StageSettings {
        stage: "decode".to_owned(),
        kind: "decode".to_owned(),
        version: 1,
        part: Part::Item,
        params: r#"{"rate":22050}"#.to_owned(),
    };
    let (shared, settings) = (Arc::new(origin.clone()), Arc::new(settings));
    let tree = Tree::single("pcm.wav", Digest::of(b"x"), 1);
    let action = |item: &str, outcome| ActionRecord {
        key: Digest::of(item.as_bytes()),
        origin: shared.clone(),
        settings: settings.clone(),
        item: item.to_owned(),
        inputs: BTreeMap::from([("in".to_owned(), vec![Digest::of(b"1"), Digest::of(b"2")])]),
        outcome,
        seconds: 0.25,
        bytes: 44,
        at: 1_700_000_000_000,
    };
    let failed = Outcome::Failed {
        reason: "line\nbreak".to_owned(),
        program: "0.1.0".to_owned(),
    };
    vec![
        Record::Action(action("a \"b\"\n.wav", Outcome::Done(Artifact::new(&tree)))),
        Record::Action(action("c.wav", failed)),
        Record::Interim(InterimRecord {
            origin: shared.clone(),
            stage: "train".to_owned(),
            key: Digest::of(b"k"),
            step: 100,
            artifact: Artifact::new(&tree),
            at: 1_700_000_000_001,
        }),
        Record::Run(RunRecord {
            origin,
            command: "pipeline run".to_owned(),
            started: 1_700_000_000_000,
            ended: 1_700_000_000_002,
            outcome: RunOutcome::Failed,
            stages: vec![RunStage {
                stage: "decode".to_owned(),
                executed: 1,
                failed: 1,
                seconds: 0.5,
                ..RunStage::default()
            }],
            collected: false,
        }),
        Record::Pin(PinRecord {
            run: Ulid(7),
            pinned: true,
            note: "keep".to_owned(),
            at: 1_700_000_000_003,
        }),
    ]
}

#[test]
fn commits() {
    let writer = Writer {
        name: "commit",
        version: 2,
        constant: "`VERSION` in src/engine/src/store/wire.rs",
        ending: "",
    };
    writer.check(&encode_commit(&records()).unwrap());
    for (version, bytes) in writer.all() {
        let read = decode_commit(&bytes).unwrap();
        assert_eq!(
            format!("{read:?}"),
            format!("{:?}", records()),
            "version {version}"
        );
    }
}

/// A quarter of a second that swells, at 8 kHz in two channels, of samples that 16 bits hold
/// exactly.
fn samples() -> Vec<f32> {
    (0..512).map(|n| value(n) * n as f32 / 2048.0).collect()
}

#[test]
fn recordings() {
    for (name, format) in [
        ("wav-s16", SampleFormat::S16),
        ("wav-f32", SampleFormat::F32),
    ] {
        let spec = PcmSpec {
            rate: 8000,
            channels: 2,
            format,
        };
        let mut wav = WavWriter::new(Cursor::new(Vec::new()), spec).unwrap();
        wav.write(&samples()).unwrap();
        let bytes = wav.finish().unwrap().into_inner();
        let writer = Writer {
            name,
            version: stage_decode::Decode::VERSION,
            constant: "`VERSION` of the stages `decode`, `render` and `predict`",
            ending: ".wav",
        };
        writer.check(&bytes);
        decodes(bytes);
    }
    let spec = PcmSpec {
        rate: 8000,
        channels: 2,
        format: SampleFormat::S16,
    };
    let mut bytes = Vec::new();
    let mut flac = FlacWriter::new(Cursor::new(&mut bytes), spec).unwrap();
    flac.write(&samples()).unwrap();
    flac.finish().unwrap();
    let writer = Writer {
        name: "flac",
        version: stage_predict::Predict::VERSION,
        constant: "`VERSION` of the stage `predict`",
        ending: ".flac",
    };
    writer.check(&bytes);
    decodes(bytes);
}

fn decodes(bytes: Vec<u8>) {
    let mut decoder = Decoder::new(Cursor::new(bytes)).unwrap();
    let mut frames = 0;
    while let Some(block) = decoder.next_block().unwrap() {
        frames += block.frames();
    }
    assert_eq!(frames, 256);
}

#[test]
fn pictures() {
    let chart = LineChart {
        title: "loss".to_owned(),
        x_label: "step".to_owned(),
        panels: vec![Panel {
            y_label: "dB".to_owned(),
            series: vec![Series {
                name: "model".to_owned(),
                points: vec![(0.0, 12.0), (10.0, 8.5), (20.0, 7.25)],
            }],
            baselines: vec![Baseline {
                name: "copy".to_owned(),
                value: 9.0,
            }],
            scale: Scale::Linear,
        }],
        size: Size::new(480, 320).unwrap(),
    };
    let svg = Writer {
        name: "chart",
        version: stage_train::Train::VERSION,
        constant: "`VERSION` of the stage `train`",
        ending: ".svg",
    };
    svg.check(chart.to_svg().as_bytes());
    let decibels: Vec<f32> = (0..40).map(|n| 20.0 * value(n)).collect();
    let spectrogram = Spectrogram {
        title: "tune",
        decibels: &decibels,
        bins: 5,
        seconds_per_frame: 0.25,
        hertz_per_bin: 500.0,
        axis: FrequencyAxis::Linear,
        range_db: 80.0,
        mark: None,
        colours: ColourMap::default(),
        size: Size::new(320, 240).unwrap(),
    };
    let png = Writer {
        name: "spectrogram",
        version: stage_predict::Predict::VERSION,
        constant: "`VERSION` of the stage `predict`",
        ending: ".png",
    };
    png.check(&spectrogram.render_png().unwrap());
}

/// Two measures: a chord, a tie, a dotted note, a tempo.
const SCORE: &str = r#"<?xml version="1.0"?><score-partwise version="4.0"><part-list>
<score-part id="P1"><part-name>Piano</part-name></score-part></part-list><part id="P1">
<measure number="1"><attributes><divisions>2</divisions><key><fifths>1</fifths></key>
<time><beats>4</beats><beat-type>4</beat-type></time></attributes><sound tempo="90"/>
<note><pitch><step>G</step><octave>4</octave></pitch><duration>3</duration><type>quarter</type><dot/></note>
<note><chord/><pitch><step>B</step><octave>4</octave></pitch><duration>3</duration><type>quarter</type><dot/></note>
<note><rest/><duration>1</duration></note>
<note><pitch><step>F</step><alter>1</alter><octave>4</octave></pitch><duration>4</duration><tie type="start"/></note>
</measure><measure number="2">
<note><pitch><step>F</step><alter>1</alter><octave>4</octave></pitch><duration>4</duration><tie type="stop"/></note>
<note><pitch><step>D</step><octave>5</octave></pitch><duration>4</duration></note>
</measure></part></score-partwise>"#;

#[test]
fn scores() {
    let score = score::read(SCORE.as_bytes()).unwrap();
    let unversioned = |name, ending| Writer {
        name,
        version: 0,
        constant: "",
        ending,
    };
    unversioned("score", ".musicxml").check(&score::write_musicxml(&score).unwrap());
    unversioned("score", ".mxl").check(&score::write_mxl(&score).unwrap());
    unversioned("score", ".mid").check(&score::write_midi(&score).unwrap());
    let performance = score.performance().unwrap();
    let events: String = performance
        .events
        .iter()
        .map(|event| format!("{event:?}\n"))
        .collect();
    let performed = Writer {
        name: "performance",
        version: stage_render::Render::VERSION,
        constant: "`VERSION` of the stage `render`",
        ending: ".txt",
    };
    performed.check(events.as_bytes());
}

#[test]
fn the_first_pipeline_toml() {
    let place = Place::initialised();
    let text = std::fs::read(place.path("pipeline.toml")).unwrap();
    let writer = Writer {
        name: "pipeline",
        version: 0,
        constant: "",
        ending: ".toml",
    };
    writer.check(&text);
}
