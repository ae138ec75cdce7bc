//! Model files, as far as the program must know them without libtorch: the safetensors header
//! (github.com/huggingface/safetensors, "Format") and the facts in it.

use stage_core::text::of_name;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// Largest header that is read, as in `pipeline-torch`. To understand one takes many times its
/// length in memory.
const MAX_HEADER: u64 = 32 << 20;

/// What a tensor is.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct TensorInfo {
    /// `F32`, `F16`, …
    pub(crate) dtype: String,
    /// Its shape.
    pub(crate) shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header of a model file.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// Name → tensor.
    pub(crate) tensors: BTreeMap<String, TensorInfo>,
    /// What the file says of itself beside the weights.
    pub(crate) facts: Value,
}

/// Reads the header and checks that the file is whole.
pub(crate) fn read_header(path: &Path) -> anyhow::Result<Header> {
    let mut file = engine::fs::open_file(&engine::fs::RealFs, path)
        .with_context(|| format!("cannot open `{}`", of_name(path)))?;
    let size = file.stat()?.size;
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .context("shorter than its header")?;
    let length = u64::from_le_bytes(length);
    ensure!(
        length <= MAX_HEADER && length.saturating_add(8) <= size,
        "its header claims {length} bytes, the file has {size}, expected at most {MAX_HEADER}"
    );
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    let mut header: BTreeMap<String, Value> =
        serde_json::from_slice(&bytes).context("its header is no JSON")?;
    let metadata = header.remove("__metadata__").unwrap_or(Value::Null);
    let mut tensors = BTreeMap::new();
    let mut end = 0;
    for (name, value) in header {
        let info: TensorInfo =
            serde_json::from_value(value).with_context(|| format!("tensor `{name}`"))?;
        end = end.max(info.data_offsets.1);
        tensors.insert(name, info);
    }
    let expected = length.saturating_add(8).saturating_add(end);
    if expected != size {
        bail!("it has {size} bytes, expected {expected}: it was cut short or added to");
    }
    Ok(Header {
        tensors,
        facts: facts(metadata),
    })
}

/// The one JSON value among the metadata, or the metadata as they are.
fn facts(metadata: Value) -> Value {
    if let Value::Object(map) = &metadata
        && map.len() == 1
        && let Some(Value::String(text)) = map.values().next()
        && let Ok(value) = serde_json::from_str(text)
    {
        return value;
    }
    metadata
}
