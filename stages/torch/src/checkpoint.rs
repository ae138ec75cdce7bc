//! Model and state files: safetensors with one canonical JSON value as metadata.
//!
//! Both kinds are written by [`write()`] and read by [`read`]. The header's metadata has one key,
//! [`KEY`], whose value is canonical JSON (sorted keys, shortest numbers), so that the same
//! weights and facts always give the same bytes. The JSON holds a BLAKE3 digest over itself and
//! all tensors: safetensors checks only its own layout, and a flipped bit in a weight would
//! otherwise come out as noise in a tune.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Map, Value};
use stage_core::{Digest, KeyHasher, canonical_json};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// The metadata's only key.
pub const KEY: &str = "pipeline";
/// Version of the layout of the metadata, under `format`.
pub const FORMAT: u64 = 1;
/// Ending of files that are being written.
pub const TEMPORARY: &str = ".tmp";
/// Largest file that is read: far above any model here, far below what would fill a machine.
const MAX_BYTES: u64 = 8 << 30;
/// Longest header that is read. To understand one takes many times its length in memory.
const MAX_HEADER: u64 = 32 << 20;
/// Most axes of a tensor.
const MAX_AXES: usize = 8;

/// A file's tensors and facts.
#[derive(Debug)]
pub struct Checkpoint {
    /// Tensors by name, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// The facts, without `format` and `digest`.
    pub meta: Map<String, Value>,
}

/// The bytes of a file with these tensors (f32 or i64, on any device) and facts.
///
/// # Errors
/// A tensor cannot be copied to the CPU.
pub fn to_bytes(tensors: &BTreeMap<String, &Tensor>, meta: &Map<String, Value>) -> Result<Vec<u8>> {
    let mut raw = BTreeMap::new();
    for (name, tensor) in tensors {
        raw.insert(name.as_str(), bytes_of(name, tensor)?);
    }
    let mut meta = meta.clone();
    meta.insert("format".to_owned(), FORMAT.into());
    meta.remove("digest");
    let digest = digest(
        &meta,
        raw.iter()
            .map(|(name, t)| (*name, t.dtype, &t.shape[..], &t.bytes[..])),
    );
    meta.insert("digest".to_owned(), digest.to_hex().into());
    let text = canonical_json(&Value::Object(meta));
    let views = raw
        .iter()
        .map(|(name, t)| {
            TensorView::new(t.dtype, t.shape.clone(), &t.bytes)
                .map(|view| (*name, view))
                .map_err(|e| Error::checkpoint(name, format!("cannot be written: {e}")))
        })
        .collect::<Result<Vec<_>>>()?;
    let header = HashMap::from([(KEY.to_owned(), text)]);
    safetensors::serialize(views, Some(header))
        .map_err(|e| Error::checkpoint("model", format!("cannot be written: {e}")))
}

/// Writes such a file so that at every moment either the old or the new one is whole: a temporary
/// file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// The disk is full or refuses; the old file is then untouched.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, &Tensor>,
    meta: &Map<String, Value>,
) -> Result<()> {
    write_atomically(path, &to_bytes(tensors, meta)?)
}

/// Replaces the file at `path` by `bytes`, whole or not at all.
///
/// # Errors
/// As [`write()`].
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    // Two processes may write at once: one that was left behind by a killed engine, and the next.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}{TEMPORARY}", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(source) = written {
        // A half-written file would only take up the space that is missing.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("write", &temporary)(source));
    }
    fs::rename(&temporary, path).map_err(Error::io("rename", path))?;
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

/// Reads a file that [`write()`] wrote.
///
/// # Errors
/// [`Error::Checkpoint`] for any other file and for every damage: truncation, a flipped bit in
/// header, facts or weights.
pub fn read(path: &Path) -> Result<Checkpoint> {
    let file = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let handle = File::open(path).map_err(Error::io("open", path))?;
    let length = handle.metadata().map_err(Error::io("read", path))?.len();
    if length > MAX_BYTES {
        return Err(Error::checkpoint(
            &file,
            format!("has {length} bytes; no model of this program has more than {MAX_BYTES}"),
        ));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(length).unwrap_or(usize::MAX);
    bytes
        .try_reserve_exact(room)
        .map_err(|e| Error::checkpoint(&file, format!("does not fit into memory: {e}")))?;
    handle
        .take(MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    from_bytes(&file, &bytes)
}

/// As [`read`], from memory; `file` is its name in errors.
///
/// # Errors
/// As [`read`].
pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Checkpoint> {
    let fail = |reason: String| Error::checkpoint(file, reason);
    let foreign = |e: &dyn std::fmt::Display| {
        fail(format!(
            "is truncated, damaged or no safetensors file ({e}); make it again or give another"
        ))
    };
    let header = bytes.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
    if header > MAX_HEADER {
        return Err(foreign(&format_args!(
            "its header claims {header} bytes, expected at most {MAX_HEADER}"
        )));
    }
    let views = SafeTensors::deserialize(bytes).map_err(|e| foreign(&e))?;
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| foreign(&e))?;
    let text = header
        .metadata()
        .as_ref()
        .and_then(|meta| meta.get(KEY))
        .ok_or_else(|| {
            fail(format!(
                "was not written by this program: its metadata has no `{KEY}`"
            ))
        })?;
    let meta: Value = serde_json::from_str(text)
        .map_err(|e| fail(format!("is damaged: its metadata is no JSON ({e})")))?;
    let Value::Object(mut meta) = meta else {
        return Err(fail(
            "is damaged: its metadata is no JSON object".to_owned(),
        ));
    };
    match meta.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => {}
        other => {
            return Err(fail(format!(
                "has format {other:?}, this program reads {FORMAT}; use the program that wrote it"
            )));
        }
    }
    let stated = meta.remove("digest");
    let mut sorted: Vec<_> = views.tensors();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let found = digest(
        &meta,
        sorted
            .iter()
            .map(|(name, view)| (name.as_str(), view.dtype(), view.shape(), view.data())),
    );
    if stated.as_ref().and_then(Value::as_str) != Some(found.to_hex().as_str()) {
        return Err(fail(
            "is damaged: its contents do not match their digest; make it again or take a copy"
                .to_owned(),
        ));
    }
    meta.remove("format");
    let mut tensors = BTreeMap::new();
    for (name, view) in &sorted {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => {
                return Err(fail(format!(
                    "has `{}` of type {other:?}, expected F32 or I64",
                    name.escape_debug()
                )));
            }
        };
        let shape = shape_of(view).ok_or_else(|| {
            fail(format!(
                "has `{}` of a shape that no tensor can have",
                name.escape_debug()
            ))
        })?;
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(Checkpoint { tensors, meta })
}

/// The shape of a tensor, if libtorch can count its elements. The bytes do not tell: an axis of
/// length 0 makes any others possible.
fn shape_of(view: &TensorView<'_>) -> Option<Vec<i64>> {
    let shape = view.shape().iter().map(|&n| i64::try_from(n).ok());
    let shape: Vec<i64> = shape.collect::<Option<_>>()?;
    let mut lengths = shape.iter().filter(|n| **n > 0);
    lengths.try_fold(1_i64, |count, n| count.checked_mul(*n))?;
    (shape.len() <= MAX_AXES).then_some(shape)
}

struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn bytes_of(name: &str, tensor: &Tensor) -> Result<Raw> {
    let tensor = tensor
        .f_detach()?
        .f_to_device(Device::Cpu)?
        .f_contiguous()?;
    let (dtype, width) = match tensor.kind() {
        Kind::Float => (Dtype::F32, 4),
        Kind::Int64 => (Dtype::I64, 8),
        other => {
            return Err(Error::checkpoint(
                name,
                format!("is of type {other:?}, expected f32 or i64"),
            ));
        }
    };
    let shape: Vec<usize> = tensor
        .size()
        .iter()
        .map(|&n| usize::try_from(n).unwrap_or(0))
        .collect();
    let count = tensor.numel();
    let mut bytes = vec![0; count * width];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(Raw {
        dtype,
        shape,
        bytes,
    })
}

/// Digest of the facts and of every tensor's name, type, shape and bytes.
fn digest<'a>(
    meta: &Map<String, Value>,
    tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], &'a [u8])>,
) -> Digest {
    let mut hasher = KeyHasher::new("pipeline checkpoint 1");
    hasher.field(canonical_json(&Value::Object(meta.clone())).as_bytes());
    for (name, dtype, shape, bytes) in tensors {
        hasher
            .field(name.as_bytes())
            .field(format!("{dtype:?} {shape:?}").as_bytes())
            .field(bytes);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn sample() -> Vec<u8> {
        let w = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
        let n = Tensor::from_slice(&[1_i64, 2]);
        let Value::Object(meta) = json!({"step": 3, "loss": 0.1, "road": [{"kind": "featurize"}]})
        else {
            unreachable!()
        };
        to_bytes(
            &BTreeMap::from([("w".to_owned(), &w), ("n".to_owned(), &n)]),
            &meta,
        )
        .unwrap()
    }

    #[test]
    fn a_file_reads_back_and_is_the_same_bytes_each_time() {
        let bytes = sample();
        assert_eq!(bytes, sample());
        let back = from_bytes("m", &bytes).unwrap();
        assert_eq!(back.tensors["w"].size(), [2, 3]);
        assert_eq!(back.tensors["w"].double_value(&[1, 2]), 5.0);
        assert_eq!(back.tensors["n"].int64_value(&[1]), 2);
        assert_eq!(back.meta["step"], 3);
        assert_eq!(back.meta.len(), 3);
    }

    /// As `tests/golden` of the workspace has it of the other formats: a file a version, made by
    /// `BLESS=1` where there is none.
    #[test]
    fn the_bytes_are_those_of_this_format() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/files");
        let file = |format: u64| home.join(format!("model-{format}.safetensors"));
        if std::env::var_os("BLESS").is_some_and(|value| value == "1") && !file(FORMAT).exists() {
            fs::write(file(FORMAT), sample()).unwrap();
        }
        let golden = fs::read(file(FORMAT)).unwrap_or_default();
        assert!(
            golden == sample(),
            "a model is written in other bytes than `tests/golden/files/model-{FORMAT}.safetensors`: \
             if this is meant, raise `FORMAT` in stages/torch/src/checkpoint.rs and `VERSION` of \
             the stage `train`, then say `BLESS=1 cargo test -p pipeline-torch`"
        );
        for format in 1..=FORMAT {
            assert_eq!(
                read(&file(format)).unwrap().meta["step"],
                3,
                "format {format}"
            );
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes = sample();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(
                from_bytes("m", &bad).is_err(),
                "byte {at} of {}",
                bytes.len()
            );
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(from_bytes("m", &bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        write_atomically(&path, b"old").unwrap();
        assert!(write_atomically(&dir.path().join("none/m"), b"new").is_err());
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(from_bytes("m", &bytes).is_err());
        }
    }
}
