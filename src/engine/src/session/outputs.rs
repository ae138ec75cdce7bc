//! Where results go, and that no source reads them.

use std::path::{Path, PathBuf};

use super::sources::root_of;
use super::{Project, Request};
use crate::config::Source;
use crate::error::EngineError;
use crate::fs::{FileKind, Fs};
use crate::results::{MARK, resolve};
use crate::scan::globs;

/// Where the results of a request go.
pub(super) struct Outputs {
    /// Folders that hold nothing but results: as they were named, and without links.
    own: Vec<(PathBuf, PathBuf)>,
    /// Their devices and inodes, of those that are there.
    pub(super) places: Vec<(u64, u64)>,
    /// What the user named for results, likewise.
    out: Option<(PathBuf, PathBuf)>,
}

impl Outputs {
    pub(super) fn of(project: &Project, request: &Request) -> Self {
        let fs = &*project.fs;
        let with_real = |path: &Path| Some((path.to_owned(), resolve(fs, path)?));
        let own = request.results.iter().chain(&request.runs_dir);
        let own: Vec<_> = own
            .map(PathBuf::as_path)
            .chain([project.store.root()])
            .filter_map(with_real)
            .collect();
        let stats = own.iter().filter_map(|(_, real)| fs.stat(real).ok());
        Self {
            places: stats.map(|stat| (stat.dev, stat.ino)).collect(),
            out: request.out.as_deref().and_then(with_real),
            own,
        }
    }

    /// Refuses sources and outputs that lie in each other: what one run made would be input of the
    /// next.
    pub(super) fn keep_apart(
        &self,
        project: &Project,
        request: &Request,
    ) -> Result<(), EngineError> {
        let fs = &*project.fs;
        for source in &project.config.graph.sources {
            let Some(root) = root_of(project, request, source) else {
                continue;
            };
            // One that cannot be read is met when it is listed.
            let (Ok(real), Ok(stat)) = (fs.canonicalize(&root), fs.stat(&root)) else {
                continue;
            };
            // A single file, e.g. a prompt that is a result, is what the user means.
            if stat.kind == FileKind::Dir {
                self.keep_out_of_results(source, &root, &real)?;
            }
            if let Some((out, real_out)) = &self.out
                && let Ok(below) = real_out.strip_prefix(&real)
                && !self.leaves_out(fs, source, &real, below)?
            {
                return Err(output_in_source(source, &root, out, below));
            }
        }
        Ok(())
    }

    fn keep_out_of_results(
        &self,
        source: &Source,
        root: &Path,
        real: &Path,
    ) -> Result<(), EngineError> {
        let within = self.own.iter().find(|(_, own)| real.starts_with(own));
        let Some((own, _)) = within else {
            return Ok(());
        };
        Err(EngineError::Usage {
            message: format!(
                "source `{}` at `{}` lies in `{}`, where this program writes",
                source.name,
                shown(root),
                own.display()
            ),
            hint: Some(
                "copy what it is to read to another folder, and name that as its `path`".to_owned(),
            ),
        })
    }

    /// Whether `source` leaves out the path `below` its folder `root`.
    fn leaves_out(
        &self,
        fs: &dyn Fs,
        source: &Source,
        root: &Path,
        below: &Path,
    ) -> Result<bool, EngineError> {
        let exclude = globs(source, &source.exclude)?;
        let mut path = root.to_owned();
        let mut name = PathBuf::new();
        for part in below {
            path.push(part);
            name.push(part);
            if part.as_encoded_bytes().starts_with(b".")
                || exclude.is_match(&name)
                || self.own.iter().any(|(_, own)| *own == path)
                || fs.stat(&path.join(MARK)).is_ok()
            {
                return Ok(true);
            }
        }
        // A glob may match all that is in the folder and not the folder; no file has this name.
        Ok(exclude.is_match(name.join("\0")))
    }
}

/// A path as the user would write it.
fn shown(path: &Path) -> String {
    let parts: PathBuf = path.components().collect();
    match parts.strip_prefix(".") {
        Ok(below) if !below.as_os_str().is_empty() => below.display().to_string(),
        _ => parts.display().to_string(),
    }
}

fn output_in_source(source: &Source, root: &Path, out: &Path, below: &Path) -> EngineError {
    let (name, root, out) = (&source.name, shown(root), out.display());
    if below.as_os_str().is_empty() {
        return EngineError::Usage {
            message: format!("the results would go to `{out}`, which is source `{name}` itself"),
            hint: Some("name another folder or file".to_owned()),
        };
    }
    EngineError::Usage {
        message: format!(
            "the results would go to `{out}`, which lies in source `{name}` at `{root}`: the next \
             run would read them as input"
        ),
        hint: Some(format!(
            "name a place elsewhere or below `out/`, or exclude it: exclude = [\"{}\"] in \
             [sources.{name}]",
            below.display()
        )),
    }
}
