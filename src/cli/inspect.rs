//! `pipeline inspect`: says what a file is, by its contents.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stage_core::text::of_name;
use stage_core::{Inputs, ItemInput, Kind, Output, Part, Port, SOURCE_FILE, Stage, StageError};

use super::{files, foreign, picture};
use crate::outcome::{Outcome, print, print_json, shown};
use crate::ui::page::Page;

/// Say what a file is: audio, score, shard, segment, data set
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline inspect song.flac            rate, channels, duration
  pipeline inspect tune.musicxml        parts, tempo, and its notes
  pipeline inspect frames.parquet --json
  pipeline inspect manifest.json        a data set: splits, statistics
  pipeline inspect song.flac --png song.png   draw its spectrogram")]
pub(crate) struct Inspect {
    /// The file
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw the spectrogram of a recording or a shard
    #[arg(long, value_name = "PICTURE")]
    png: Option<PathBuf>,
}

/// Largest score that is read, in bytes.
const MAX_SCORE: u64 = score::limits::MAX_TEXT;
/// Notes that the text shows; JSON has them all.
const SHOWN_NOTES: usize = 20;

/// Files that the worker leaves.
const ABOUT: &str = "about";
const PICTURE: &str = "picture.png";

impl Inspect {
    pub(crate) fn execute(self) -> Outcome {
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        let (out, scratch) = (work.path(), work.path());
        let look = Look {
            json: self.json,
            draw: self.png.is_some(),
        };
        foreign::read(&look, &self.file, out, scratch)?;
        let about = std::fs::read_to_string(out.join(ABOUT));
        let about = about.context("cannot read the worker's answer")?;
        if let Some(to) = &self.png {
            let picture = std::fs::read(out.join(PICTURE));
            let picture = picture.context("cannot read the worker's picture")?;
            files::write(to, &picture)?;
        }
        if self.json {
            return print_json(&about);
        }
        let mut page = Page::default();
        about.lines().for_each(|line| page.line(line));
        print(page)
    }
}

/// What `inspect` has done in a worker: the file's description, and its picture.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Look {
    /// Whether it is described in JSON.
    json: bool,
    /// Whether its spectrogram is drawn.
    draw: bool,
}

impl Kind for Look {
    const KIND: &'static str = "inspect";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "says what a file is";
}

impl Stage for Look {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item]
    }

    fn gives(&self, _: Part) -> &'static str {
        "report"
    }

    fn ports(&self) -> &'static [Port] {
        &[]
    }

    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        _: &stage_core::Context,
    ) -> Result<(), StageError> {
        let file = item.input.path(SOURCE_FILE)?;
        let look = || {
            let value = describe(file)?;
            let picture = self.draw.then(|| draw(file, &value)).transpose()?;
            Ok((value, picture))
        };
        let looked: anyhow::Result<_> = look();
        let (value, picture) = looked.map_err(|e| StageError::content(format!("{e:#}")))?;
        if let Some(picture) = picture {
            out.write(PICTURE, &picture)?;
        }
        let about = if self.json {
            format!("{value}\n")
        } else {
            text(&value).as_str().to_owned()
        };
        out.write(ABOUT, about.as_bytes())
    }
}

fn draw(file: &Path, value: &Value) -> anyhow::Result<Vec<u8>> {
    let title = shown(file.file_name().unwrap_or_default());
    match value["type"].as_str() {
        Some("shard") => picture::of_shard(file, &title),
        Some("audio") => picture::of_sound(file, &title),
        kind => bail!(
            "a {} has no spectrogram: `pipeline convert` plays scores",
            kind.unwrap_or("file of this kind")
        ),
    }
}

fn describe(path: &Path) -> anyhow::Result<Value> {
    let shown = of_name(path);
    if path.is_dir() {
        let manifest = path.join("manifest.json");
        if manifest.is_file() {
            return data_set(&manifest);
        }
        bail!("`{shown}` is a folder, and no data set: it has no manifest.json");
    }
    let mut head = Vec::new();
    let file = files::open(path)?;
    let size = file.stat()?.size;
    file.take(4096)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read `{shown}`"))?;
    if head.is_empty() {
        bail!("`{shown}` is empty");
    }
    let mut value = if head.starts_with(b"PAR1") {
        shard(path)?
    } else if head.starts_with(b"plsegmnt") {
        segment(path)?
    } else if looks_like_model(&head) {
        model(path)?
    } else if head.trim_ascii_start().starts_with(b"{") {
        data_set(path)?
    } else if score::sniff(&head).is_some() {
        a_score(path, size)?
    } else {
        sound(path)?
    };
    value["bytes"] = json!(size);
    Ok(value)
}

fn sound(path: &Path) -> anyhow::Result<Value> {
    let info = audio::probe(path).with_context(|| format!("`{}`", of_name(path)))?;
    Ok(json!({
        "type": "audio",
        "container": info.container,
        "codec": info.codec,
        "rate_hz": info.rate,
        "channels": info.channels,
        "bits": info.bits,
        "frames": info.frames,
        "duration_s": info.seconds(),
    }))
}

fn read_score(path: &Path) -> anyhow::Result<score::Score> {
    let shown = of_name(path);
    let mut bytes = Vec::new();
    files::open(path)?
        .take(MAX_SCORE + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read `{shown}`"))?;
    if bytes.len() as u64 > MAX_SCORE {
        bail!("`{shown}` is larger than {MAX_SCORE} bytes, the most that is read of a score");
    }
    score::read(&bytes).with_context(|| format!("`{shown}` cannot be read as a score"))
}

fn a_score(path: &Path, size: u64) -> anyhow::Result<Value> {
    if size > MAX_SCORE {
        bail!(
            "`{}` is larger than {MAX_SCORE} bytes, the most that is read of a score",
            of_name(path)
        );
    }
    let score = read_score(path)?;
    let performance = score.performance()?;
    let notes: Vec<Value> = score
        .notes()
        .map(|note| {
            json!({
                "part": note.part,
                "voice": note.voice,
                "onset_ticks": note.onset,
                "duration_ticks": note.duration,
                "pitch_midi": note.pitch.midi(),
                "velocity": note.velocity,
                "program": note.program,
                "percussion": note.percussion,
            })
        })
        .collect();
    let parts: Vec<&str> = score.parts.iter().map(|part| part.name.as_str()).collect();
    Ok(json!({
        "type": "score",
        "title": score.title,
        "composer": score.composer,
        "parts": parts,
        "ticks_per_quarter": score.divisions,
        "measures": score.measures.len(),
        "duration_s": performance.duration,
        "sounding_notes": performance.events.len(),
        "warnings": score.warnings,
        "notes": notes,
    }))
}

fn shard(path: &Path) -> anyhow::Result<Value> {
    let reader = shard::ShardReader::open(path)?;
    let columns: Vec<Value> = reader
        .columns()
        .iter()
        .map(|c| json!({"name": c.name, "width": c.width, "type": c.dtype.name()}))
        .collect();
    Ok(json!({
        "type": "shard",
        "frames": reader.rows(),
        "columns": columns,
        "metadata": reader.metadata(),
    }))
}

fn segment(path: &Path) -> anyhow::Result<Value> {
    let segment = shard::Segment::open(path)?;
    let damaged = segment.verify().err().map(|error| error.to_string());
    Ok(json!({
        "type": "segment",
        "rows": segment.rows(),
        "row_type": segment.layout().row_type.name(),
        "columns": segment.layout().fields,
        "metadata": segment.metadata(),
        "damaged": damaged,
    }))
}

fn data_set(path: &Path) -> anyhow::Result<Value> {
    let manifest = shard::Manifest::open(path)?;
    let statistics = manifest.statistics.as_ref();
    let range = |list: Option<&Vec<f64>>| {
        let list = list?;
        let low = list.iter().copied().fold(f64::INFINITY, f64::min);
        let high = list.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(json!([low, high]))
    };
    Ok(json!({
        "type": "data set",
        "segments": manifest.segments.len(),
        "split": manifest.split,
        "counts": manifest.counts,
        "row_type": manifest.layout.row_type.name(),
        "columns": manifest.layout.fields,
        "mean_range": range(statistics.map(|s| &s.mean)),
        "std_range": range(statistics.map(|s| &s.std)),
        "metadata": manifest.metadata,
    }))
}

/// A safetensors file begins with the length of its JSON header.
fn looks_like_model(head: &[u8]) -> bool {
    head.get(8..10) == Some(b"{\"")
}

fn model(path: &Path) -> anyhow::Result<Value> {
    let shown = of_name(path);
    let header =
        crate::model::read_header(path).with_context(|| format!("`{shown}` is no whole model"))?;
    let mut parameters = 0_u64;
    let mut tensors = Map::new();
    for (name, info) in &header.tensors {
        let count: u64 = info.shape.iter().product();
        parameters = parameters.saturating_add(count);
        tensors.insert(
            name.clone(),
            json!({"type": info.dtype, "shape": info.shape}),
        );
    }
    Ok(json!({
        "type": "model",
        "parameters": parameters,
        "facts": header.facts,
        "tensors": tensors,
    }))
}

/// The JSON as lines of `key: value`.
fn text(value: &Value) -> Page {
    let mut page = Page::default();
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(list) if key == "notes" => notes(&mut page, list),
            Value::Array(list) if list.is_empty() => {}
            Value::Array(list) => {
                let items: Vec<_> = list.iter().map(plain).collect();
                page.line(format!("{key}: {}", items.join(", ")));
            }
            Value::Object(map) => {
                page.line(format!("{key}:"));
                for (key, value) in map {
                    page.line(format!("  {key}: {}", plain(value)));
                }
            }
            value => page.line(format!("{key}: {}", plain(value))),
        }
    }
    page
}

fn notes(page: &mut Page, list: &[Value]) {
    page.line(format!("notes: {}", list.len()));
    for note in list.iter().take(SHOWN_NOTES) {
        page.line(format!(
            "  part {} tick {} + {}: pitch {}, velocity {}",
            note["part"],
            note["onset_ticks"],
            note["duration_ticks"],
            note["pitch_midi"],
            note["velocity"]
        ));
    }
    if list.len() > SHOWN_NOTES {
        page.line(format!(
            "  … and {} more (--json has them all)",
            list.len() - SHOWN_NOTES
        ));
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
