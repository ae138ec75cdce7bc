//! The manifest of a data set: which segments there are, how they are split,
//! and statistics over the training rows.
//!
//! It is canonical JSON: keys in alphabetical order, segments in the order of
//! their digests, numbers in their shortest form, so that equal data sets give
//! equal bytes. It holds no names: renaming a recording changes nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::segment::Segment;
use crate::stats::{Statistics, Sums};
use crate::write::Metadata;

/// Version of the manifest format.
pub const MANIFEST_VERSION: u32 = 1;
/// Largest manifest that is read: some five million segments.
const MAX_MANIFEST: u64 = 1 << 30;

/// A BLAKE3 digest that names a segment, written in 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub [u8; 32]);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SegmentId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        let hash = blake3::Hash::from_hex(text).ok().filter(|_| lower);
        let hash = hash.ok_or_else(|| {
            let reason = format!("`{}` is no digest of 64 digits", text.escape_debug());
            Error::format("manifest", "manifest", reason)
        })?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl Serialize for SegmentId {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What a model learns from.
    Train,
    /// What decides when to stop.
    Valid,
    /// What is looked at once, at the end.
    Test,
}

impl Split {
    /// All three, in this order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    /// `train`, `valid` or `test`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

/// One segment of a data set, and which of its rows belong to which split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    // Fields in alphabetical order: the order of the JSON keys.
    /// Length of the file.
    pub bytes: u64,
    /// BLAKE3 of the whole file, which names it.
    pub digest: SegmentId,
    /// The digest in its trailer, from which every row can be checked; the
    /// loader compares it on opening, so that no segment stands for another.
    pub root: SegmentId,
    /// Its rows.
    pub rows: u64,
    /// Rows `start..end` of each split that has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<(u64, u64)>,
    /// See `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<(u64, u64)>,
    /// See `test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<(u64, u64)>,
}

impl SegmentEntry {
    /// The rows that belong to `split`; empty when none do.
    #[must_use]
    pub fn part(&self, split: Split) -> Range<u64> {
        let part = match split {
            Split::Train => self.train,
            Split::Valid => self.valid,
            Split::Test => self.test,
        };
        part.map_or(0..0, |(start, end)| start..end)
    }
}

/// Which rows of one segment belong to which split.
pub type Parts = BTreeMap<Split, Range<u64>>;

/// How much a split holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Segments of which it has rows.
    pub pieces: u64,
    /// Rows.
    pub rows: u64,
}

/// How much each split holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Test split.
    pub test: Count,
    /// Training split.
    pub train: Count,
    /// Validation split.
    pub valid: Count,
}

impl Counts {
    /// The count of `split`.
    #[must_use]
    pub fn of(&self, split: Split) -> Count {
        match split {
            Split::Train => self.train,
            Split::Valid => self.valid,
            Split::Test => self.test,
        }
    }

    fn of_mut(&mut self, split: Split) -> &mut Count {
        match split {
            Split::Train => &mut self.train,
            Split::Valid => &mut self.valid,
            Split::Test => &mut self.test,
        }
    }
}

/// A data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    // Fields in alphabetical order: the order of the JSON keys.
    /// How much each split holds.
    pub counts: Counts,
    /// Type and columns of every row.
    pub layout: Layout,
    /// What the rows are: sample rate, n_fft, hop, window, units …, as every
    /// segment says of itself.
    pub metadata: Metadata,
    /// The segments by ascending digest.
    pub segments: Vec<SegmentEntry>,
    /// The rule by which the splits were made, e.g. `share` or `time`.
    pub split: String,
    /// Statistics over the training rows, per dimension; none when there are
    /// no training rows, or rows are not floats.
    pub statistics: Option<Statistics>,
    /// [`MANIFEST_VERSION`].
    pub version: u32,
}

impl Manifest {
    /// The manifest's bytes.
    ///
    /// # Errors
    /// [`Error::Format`] for statistics that are not finite.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|e| Error::format("manifest", "manifest", e.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a manifest from bytes; errors call them `file`.
    ///
    /// # Errors
    /// [`Error::Format`] for anything that does not hold together.
    pub fn from_json(bytes: &[u8], file: &str) -> Result<Self> {
        let not = |reason: String| Error::format(file, "manifest", reason);
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| not(e.to_string()))?;
        manifest.check().map_err(not)?;
        Ok(manifest)
    }

    /// Reads the manifest at `path`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Format`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let file = File::open(path.as_ref()).map_err(Error::io("open", &name))?;
        let mut bytes = Vec::new();
        file.take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &name))?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(Error::format(&name, "manifest", "it is longer than 1 GiB"));
        }
        Self::from_json(&bytes, &name)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.version != MANIFEST_VERSION {
            return Err(format!(
                "version {} is not {MANIFEST_VERSION}",
                self.version
            ));
        }
        self.layout.check().map_err(|e| e.to_string())?;
        let mut counts = Counts::default();
        for (i, entry) in self.segments.iter().enumerate() {
            if i > 0 && self.segments[i - 1].digest >= entry.digest {
                return Err(format!("segment {} is out of order", entry.digest));
            }
            for split in Split::ALL {
                let part = entry.part(split);
                if part.start > part.end || part.end > entry.rows {
                    return Err(format!(
                        "segment {}: rows {part:?} of {}",
                        entry.digest, entry.rows
                    ));
                }
                add(&mut counts, split, &part);
            }
        }
        if counts != self.counts {
            return Err("counts do not agree with the segments".to_owned());
        }
        let width = self.layout.width() as usize;
        let float = self.layout.row_type.is_float();
        let Some(statistics) = &self.statistics else {
            return if counts.train.rows == 0 || !float {
                Ok(())
            } else {
                Err("no statistics".to_owned())
            };
        };
        if !float {
            let codes = self.layout.row_type.name();
            return Err(format!("statistics of {codes} rows, expected none"));
        }
        let Statistics {
            count,
            mean,
            std,
            min,
            max,
        } = statistics;
        let widths = [mean.len(), std.len(), min.len(), max.len()];
        if widths != [width; 4] || *count != counts.train.rows {
            return Err(format!("statistics of {count} rows of {widths:?} values"));
        }
        Ok(())
    }
}

fn add(counts: &mut Counts, split: Split, part: &Range<u64>) {
    if !part.is_empty() {
        let count = counts.of_mut(split);
        count.pieces += 1;
        count.rows = count.rows.saturating_add(part.end - part.start);
    }
}

/// Puts a [`Manifest`] together, one segment at a time.
#[derive(Debug, Default)]
pub struct ManifestBuilder {
    first: Option<(SegmentId, Layout, Metadata)>,
    segments: Vec<SegmentEntry>,
    counts: Counts,
    sums: Option<Sums>,
}

impl ManifestBuilder {
    /// A data set without segments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `segment`, whose file has the BLAKE3 digest `digest`; segments
    /// come by ascending digest, each once, so that sums are always added up
    /// in the same order.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when its layout or metadata differ from the first
    /// segment's; [`Error::Rows`] for parts that it does not have;
    /// [`Error::Format`] when it is out of order; [`Error::Damaged`].
    pub fn add(&mut self, digest: SegmentId, segment: &Segment, parts: &Parts) -> Result<()> {
        if self
            .segments
            .last()
            .is_some_and(|last| last.digest >= digest)
        {
            let reason = format!("segment {digest} was added out of order");
            return Err(Error::format("manifest", "manifest", reason));
        }
        self.compare(digest, segment)?;
        let part = |split| parts.get(&split).filter(|part| !part.is_empty()).cloned();
        for split in Split::ALL {
            if let Some(part) = part(split) {
                segment.check_rows(&part)?;
                add(&mut self.counts, split, &part);
            }
        }
        // A mean of codes says nothing.
        if segment.layout().row_type.is_float()
            && let Some(train) = part(Split::Train)
        {
            let sums = segment.sums(train)?;
            match &mut self.sums {
                Some(total) => total.merge(&sums),
                None => self.sums = Some(sums),
            }
        }
        let pair = |split| part(split).map(|part| (part.start, part.end));
        self.segments.push(SegmentEntry {
            bytes: segment.len_bytes(),
            digest,
            root: segment.root(),
            rows: segment.rows(),
            test: pair(Split::Test),
            train: pair(Split::Train),
            valid: pair(Split::Valid),
        });
        Ok(())
    }

    /// The manifest of what was added; `split` is the rule's name.
    ///
    /// # Errors
    /// [`Error::Format`] when nothing was added.
    pub fn finish(self, split: impl Into<String>) -> Result<Manifest> {
        let Some((_, layout, metadata)) = self.first else {
            return Err(Error::format(
                "manifest",
                "manifest",
                "a data set without segments",
            ));
        };
        Ok(Manifest {
            counts: self.counts,
            layout,
            metadata,
            segments: self.segments,
            split: split.into(),
            statistics: self.sums.and_then(|sums| sums.statistics()),
            version: MANIFEST_VERSION,
        })
    }

    fn compare(&mut self, digest: SegmentId, segment: &Segment) -> Result<()> {
        let (layout, metadata) = (segment.layout(), segment.metadata());
        let Some((first, first_layout, first_metadata)) = &self.first else {
            self.first = Some((digest, layout.clone(), metadata.clone()));
            return Ok(());
        };
        let mismatch = |what: String, got: String, expected: String| Error::Mismatch {
            segment: digest.to_string(),
            first: first.to_string(),
            what,
            got,
            expected,
        };
        if layout != first_layout {
            return Err(mismatch(
                "layout".to_owned(),
                layout.to_string(),
                first_layout.to_string(),
            ));
        }
        let keys = metadata.keys().chain(first_metadata.keys());
        let differing = keys
            .into_iter()
            .find(|&k| metadata.get(k) != first_metadata.get(k));
        if let Some(key) = differing {
            let value = |of: &Metadata| of.get(key).map_or("none".to_owned(), |v| format!("`{v}`"));
            return Err(mismatch(
                format!("metadata `{key}`"),
                value(metadata),
                value(first_metadata),
            ));
        }
        Ok(())
    }
}
