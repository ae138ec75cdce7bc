//! Foreign bytes outside of a run: a command that reads one file has it read in a worker, too.
//!
//! So a file that makes its reader crash, hang or ask for too much memory costs the command its
//! result and the user a message, as it costs a run one item.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use stage_core::worker::Job;
use stage_core::{
    Cancel, DeviceChoice, Digest, Event, Input, Inputs, ItemInput, Kind, NoteLevel, Part,
    SOURCE_FILE, StageError, Tree, text,
};

use super::options;
use super::options::on_interrupt;
use crate::outcome::{Failure, INTERRUPTED, print_warning};

/// Does the item part of `stage` on `file` in a worker process; the result lies in `out`, what is
/// written on the way in `scratch`, both empty folders.
pub(super) fn read<K: Kind>(
    stage: &K,
    file: &Path,
    out: &Path,
    scratch: &Path,
) -> Result<(), Failure> {
    let shown = text::of_name(file);
    let metadata = file.metadata();
    let size = metadata
        .with_context(|| format!("cannot read `{shown}`"))?
        .len();
    // Nobody looks at what it is: nothing of this enters a key.
    let digest = Digest::of(&[]);
    let job = Job {
        kind: K::KIND.to_owned(),
        version: K::VERSION,
        part: Part::Item,
        params: serde_json::to_value(stage).context("a job cannot be written")?,
        item: Some(ItemInput {
            source: digest,
            label: None,
            input: Input {
                tree: Tree::single(SOURCE_FILE, digest, size),
                paths: [(SOURCE_FILE.to_owned(), file.to_owned())].into(),
                file_id: None,
            },
        }),
        inputs: Inputs::default(),
        out: out.to_owned(),
        scratch: Some(scratch.to_owned()),
        run_dir: None,
        preprocessing: None,
        previous: None,
        files: [].into(),
        threads: 1,
        device: DeviceChoice::Auto,
    };
    let cancel = Cancel::default();
    on_interrupt(&cancel);
    let done = engine::perform_alone(&options::worker()?, &job, &cancel, &mut |event| {
        if let Event::Note {
            level: NoteLevel::Warning,
            text,
        } = event
        {
            print_warning(&text);
        }
    });
    match done {
        Ok(()) => Ok(()),
        Err(_) if cancel.is_set() => Err(Failure::Code(INTERRUPTED)),
        // What a file has wrong is said with its name.
        Err(StageError::Content(reason)) => Err(anyhow!(reason).into()),
        Err(error) => Err(anyhow!("`{shown}` cannot be read: {}", error.reason()).into()),
    }
}
