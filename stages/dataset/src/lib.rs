//! The stage `dataset`: from frames to what a model is trained on.
//!
//! Its item part turns one shard (`frames.parquet`) into a segment
//! (`segment.bin`) that holds only the columns a model reads. Its whole part
//! draws the splits and writes `manifest.json` beside links to the distinct
//! segments (`segments/<digest>.bin`), to be opened by [`shard::Loader`].
//!
//! Names never reach the artifact: what a path says about splits is reduced to
//! a label when the work is planned ([`Stage::labels`]).
#![warn(missing_docs)]

mod error;
mod map;
mod reduce;
mod split;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shard::{SegmentId, Split};
use stage_core::{
    Context, Estimate, FileParam, Inputs, ItemInput, Kind, Output, ParamError, Part, Port,
    PortTakes, Stage, StageError,
};

pub use error::Error;

/// Name of the port that takes the frames.
pub const PORT: &str = "frames";
/// What the stage reads of each item.
pub const FRAMES_FILE: &str = "frames.parquet";
/// What an item becomes.
pub const SEGMENT: &str = "segment.bin";
/// What the set becomes.
pub const MANIFEST: &str = "manifest.json";
/// Largest table of splits that is read, in bytes: some 200,000 lines. As maps
/// of paths it takes many times that, and not in a worker.
const MAX_TABLE: u64 = 16 << 20;

/// Where the segment `digest` stands in the set's artifact.
#[must_use]
pub fn segment_name(digest: &SegmentId) -> String {
    format!("segments/{digest}.bin")
}

/// How pieces are split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// By folders where some are named valid or test, else by share, else
    /// (under three pieces) by time.
    #[default]
    Auto,
    /// By the outermost folder named train, valid or test.
    Folders,
    /// By a table, see [`Dataset::csv`].
    Csv,
    /// By the digest of the source file.
    Share,
    /// The last part of each piece.
    Time,
}

impl Rule {
    /// The name in pipeline.toml and in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Folders => "folders",
            Self::Csv => "csv",
            Self::Share => "share",
            Self::Time => "time",
        }
    }
}

/// Parameters of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dataset {
    /// Columns of the frames that a model reads, side by side in this order.
    pub columns: Vec<String>,
    /// How pieces are split.
    pub split: Rule,
    /// Share of the validation split, in [0, 0.9].
    pub valid: f64,
    /// Share of the test split, in [0, 0.9].
    pub test: f64,
    /// Rows left out between the parts of a piece split by time: one context
    /// of the model, so that none straddles the border.
    pub gap: u64,
    /// With `split = "csv"`: a table with a column `split` and one of `path`,
    /// `file` or `filename`.
    pub csv: Option<FileParam>,
}

impl Default for Dataset {
    fn default() -> Self {
        Self {
            columns: vec!["magnitude".to_owned()],
            split: Rule::Auto,
            valid: 0.1,
            test: 0.1,
            gap: 64,
            csv: None,
        }
    }
}

impl Kind for Dataset {
    const KIND: &'static str = "dataset";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "gathers frames into a data set with train, valid and test splits";
}

impl Stage for Dataset {
    fn parts(&self) -> &'static [Part] {
        &[Part::Item, Part::Whole]
    }

    fn gives(&self, part: Part) -> &'static str {
        match part {
            Part::Item => "segment",
            Part::Whole | Part::Finish => "data set",
        }
    }

    fn ports(&self) -> &'static [Port] {
        &[Port {
            name: PORT,
            takes: PortTakes::Items,
            of: &["rows"],
            required: true,
            about: "frames of every item, as featurize writes them",
        }]
    }

    fn validate(&self) -> Result<(), ParamError> {
        if self.columns.is_empty() {
            return Err(ParamError::new(
                "columns",
                "`columns` is empty, expected at least one name",
            )
            .hint("the usual column is \"magnitude\""));
        }
        for (i, name) in self.columns.iter().enumerate() {
            if self.columns[..i].contains(name) {
                return Err(ParamError::new(
                    "columns",
                    format!("`columns` has `{name}` twice"),
                ));
            }
        }
        ParamError::check_range("valid", &self.valid, 0.0..=0.9, "")?;
        ParamError::check_range("test", &self.test, 0.0..=0.9, "")?;
        if self.valid + self.test > 0.95 {
            return Err(ParamError::new(
                "test",
                format!(
                    "`valid` and `test` leave {:.0} % to train on, expected at least 5 %",
                    100.0 * (1.0 - self.valid - self.test)
                ),
            ));
        }
        ParamError::check_range("gap", &self.gap, 0..=1_000_000, "rows")?;
        match (self.split, &self.csv) {
            (Rule::Csv, None) => Err(ParamError::new(
                "csv",
                "`split` is csv, but `csv` is not set",
            )
            .hint("name a table with columns `path` and `split`")),
            (Rule::Csv, Some(_)) | (_, None) => Ok(()),
            (rule, Some(_)) => Err(ParamError::new(
                "csv",
                format!("`csv` is set, but `split` is {}", rule.name()),
            )
            .hint("set `split = \"csv\"`, or remove `csv`")),
        }
    }

    fn unread_by(&self, part: Part) -> &'static [&'static str] {
        match part {
            Part::Item => &["split", "valid", "test", "gap", "csv"],
            // Segments enter by their contents.
            _ => &["columns"],
        }
    }

    fn files(&self) -> Vec<(&'static str, &FileParam)> {
        self.csv.iter().map(|file| ("csv", file)).collect()
    }

    fn labels(
        &self,
        paths: &[&str],
        files: &BTreeMap<String, PathBuf>,
    ) -> Result<Vec<Option<String>>, StageError> {
        let name = |split: Split| split.name().to_owned();
        let folders = || paths.iter().map(|path| split::split_of_folders(path));
        match self.split {
            Rule::Share | Rule::Time => Ok(vec![None; paths.len()]),
            Rule::Folders => Ok(folders().map(|split| split.map(name)).collect()),
            Rule::Auto => {
                // A folder `train` alone divides nothing.
                let divided = folders().flatten().any(|split| split != Split::Train);
                Ok(folders()
                    .map(|split| split.filter(|_| divided).map(name))
                    .collect())
            }
            Rule::Csv => {
                let file = files.get("csv").ok_or_else(|| {
                    StageError::Environment("the table of `csv` was not handed over".to_owned())
                })?;
                let table = table::Table::parse(&read_table(file)?)?;
                let splits = paths.iter().map(|path| Ok(Some(name(table.find(path)?))));
                splits.collect()
            }
        }
    }

    fn estimate(&self, part: Part, extent: f64) -> Estimate {
        match part {
            // Per second of sound, at the default road: 86 rows of 1 KiB and
            // some, decoded from Parquet at 40 MB/s or more.
            Part::Item => Estimate {
                seconds: 0.002 * extent * self.columns.len() as f64,
                bytes: 90_000.0 * extent * self.columns.len() as f64,
            },
            _ => Estimate {
                seconds: 0.0005 * extent,
                bytes: 100.0 * extent,
            },
        }
    }

    fn map(
        &self,
        item: &ItemInput,
        _: &Inputs,
        out: &mut Output,
        cx: &Context,
    ) -> Result<(), StageError> {
        map::map(self, item, out, cx)
    }

    fn reduce(&self, inputs: &Inputs, out: &mut Output, cx: &Context) -> Result<(), StageError> {
        reduce::reduce(self, inputs, out, cx)
    }
}

fn read_table(path: &std::path::Path) -> Result<String, StageError> {
    use std::io::Read;
    let doing = || format!("reading the split table `{}`", path.display());
    let file = std::fs::File::open(path).map_err(StageError::io(doing()))?;
    let mut bytes = Vec::new();
    file.take(MAX_TABLE + 1)
        .read_to_end(&mut bytes)
        .map_err(StageError::io(doing()))?;
    if bytes.len() as u64 > MAX_TABLE {
        return Err(StageError::content(format!(
            "the split table is larger than {MAX_TABLE} bytes"
        )));
    }
    String::from_utf8(bytes)
        .map_err(|_| StageError::content("the split table is not UTF-8 text".to_owned()))
}
