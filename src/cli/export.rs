//! `pipeline export`: copies a result out of the cache.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use engine::store::Artifact;
use engine::{Project, Session};
use stage_core::Cancel;
use stage_core::text::{of_name, visible};

use super::setup::View;
use super::{FAILED, Failure, Global, Outcome, say};

/// Copy a stage's result out of the cache
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pipeline export dataset --out exported          the data set, as a folder
  pipeline export decode song.mp3 --out song.wav  one item's only file, under this name
  pipeline export featurize --out shards          every item, a file or folder each")]
pub(crate) struct Export {
    /// The stage
    stage: String,
    /// One item of it, by its path in the source
    #[arg(value_parser = OsStringValueParser::new().map(|item| item_name(&item)))]
    item: Option<String>,
    /// Folder, or file name if the result is one file
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    #[command(flatten)]
    view: View,
}

impl Export {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let view = self.view.clone();
        let (project, request) = view.open(global, vec![self.stage.clone()])?;
        let session = Session::prepare(&project, request, &Cancel::default())?;
        let written = match &self.item {
            None => match session.artifact(&self.stage) {
                Some(artifact) => copy_out(&project, artifact, &self.out)?,
                None => self.all_items(&project, &session)?,
            },
            Some(item) => {
                let items = session.item_artifacts(&self.stage);
                let found = items
                    .iter()
                    .find(|(_, name, _)| name == item || visible(name) == item.as_str());
                let Some((_, _, artifact)) = found else {
                    return Err(self.missing(&items.iter().map(|i| i.1).collect::<Vec<_>>()));
                };
                copy_out(&project, artifact, &self.out)?
            }
        };
        say(format!(
            "{written} file(s) written to {}",
            of_name(&self.out)
        ))
    }

    fn all_items(&self, project: &Project, session: &Session<'_>) -> Result<usize, Failure> {
        let items = session.item_artifacts(&self.stage);
        if items.is_empty() {
            return Err(self.missing(&[]));
        }
        let mut written = 0;
        for (_, name, artifact) in items {
            written += copy_out(project, artifact, &self.place_of(name, artifact))?;
        }
        Ok(written)
    }

    /// Where the result of one item among all goes: a file named after it, if there is one, with
    /// the ending of what it now is; else a folder.
    fn place_of(&self, item: &str, artifact: &Artifact) -> PathBuf {
        let tree = artifact.tree();
        let mut names = tree.files().map(|(name, _)| name);
        match (names.next(), names.next()) {
            (Some(only), None) => {
                let extension = Path::new(only).extension().unwrap_or_default();
                self.out
                    .join(format!("{item}.{}", extension.to_string_lossy()))
            }
            _ => self.out.join(item),
        }
    }

    fn missing(&self, items: &[&str]) -> Failure {
        let stage = &self.stage;
        match &self.item {
            Some(item) if !items.is_empty() => Failure::Usage(
                format!("stage `{stage}` has no finished item `{item}`"),
                Some(match engine::config::nearest(item, items) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are {}, the first is `{}`", items.len(), items[0]),
                }),
            ),
            _ => {
                super::complain(
                    &format!("stage `{stage}` has nothing to export yet"),
                    Some(&format!("`pipeline run {stage}` makes it")),
                );
                Failure::Code(FAILED)
            }
        }
    }
}

/// The name of the item that an argument means: one that is text is a name as the program shows
/// it, one that is not is the name of the file itself.
fn item_name(argument: &OsStr) -> String {
    match argument.to_str() {
        Some(text) => text.to_owned(),
        None => of_name(argument),
    }
}

/// Copies the files of an artifact to `out`: a folder, or, if there is one file and `out` has an
/// extension, that file. Existing files are replaced whole or not at all.
pub(crate) fn copy_out(
    project: &Project,
    artifact: &Artifact,
    out: &Path,
) -> Result<usize, Failure> {
    let tree = artifact.tree();
    let result_files: Vec<_> = tree.files().collect();
    let single = result_files.len() == 1 && out.extension().is_some() && !out.is_dir();
    for (name, entry) in &result_files {
        let to = if single {
            out.to_owned()
        } else {
            out.join(name)
        };
        let from = project.store.checked_path(entry)?;
        place_copy(project, &from, &to)?;
    }
    Ok(result_files.len())
}

/// Copies `from` (sharing blocks where the file system can) beside `to`, then renames it there.
pub(crate) fn place_copy(project: &Project, from: &Path, to: &Path) -> Result<(), Failure> {
    let fail = |error: std::io::Error| {
        Failure::Other(anyhow::Error::new(error).context(format!("cannot write `{}`", of_name(to))))
    };
    let dir = to
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let fs = &*project.fs;
    engine::fs::create_dir_all(fs, dir).map_err(fail)?;
    let name = of_name(to.file_name().unwrap_or_default());
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    let copied = fs
        .copy(from, &temporary)
        .and_then(|_| fs.set_mode(&temporary, 0o644))
        .and_then(|()| fs.rename(&temporary, to));
    if copied.is_err() {
        let _ = fs.remove_file(&temporary);
    }
    copied.map_err(fail)
}
