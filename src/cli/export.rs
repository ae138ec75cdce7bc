//! `pipeline export`: copies a result out of the cache.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use engine::config::nearest;
use engine::store::Artifact;
use engine::{Cause, FileStatus, Item, Project, Session, State};
use stage_core::text::{of_name, visible};
use stage_core::{Cancel, Part, Tree};

use super::deliver::{Content, Piece, bring, fail, objects};
use super::files::{MAX_NAME, fit, split};
use super::options::Global;
use super::options::View;
use crate::outcome::{FAILED, Failure, Outcome, print, print_error, print_warning};

/// Copy a stage's result out of the cache
#[derive(Debug, Args)]
#[command(after_help = "\
Only what is up to date is copied: if anything of it is stale, nothing is written. The items of
several sources go into a folder per source.

Examples:
  pipeline export dataset --out exported          the data set, as a folder
  pipeline export decode song.mp3 --out song.wav  one item's only file, under this name
  pipeline export featurize --out shards          every item, a file or folder each
  pipeline export featurize@prompt tune.mid --prompt tune.mid --out tune.parquet
                                                  the prompt's item, not the corpus's")]
pub(crate) struct Export {
    /// The stage, or STAGE@SOURCE for the items of one source
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

/// What is asked for: a stage, maybe the items of one source, maybe one item.
struct Wanted<'a> {
    stage: &'a str,
    source: Option<&'a str>,
    item: Option<&'a str>,
    out: &'a Path,
    /// Options that a run needs to make the same.
    flags: String,
}

impl Export {
    pub(crate) fn execute(self, global: &Global) -> Outcome {
        let (stage, source) = match self.stage.split_once('@') {
            Some((stage, source)) => (stage, Some(source)),
            None => (self.stage.as_str(), None),
        };
        let view = self.view.clone();
        let (project, mut request) = view.open(global, vec![stage.to_owned()])?;
        request.out = Some(self.out.clone());
        let session = Session::prepare(&project, request, &Cancel::default())?;
        let wanted = Wanted {
            stage,
            source,
            item: self.item.as_deref(),
            out: &self.out,
            flags: self.view.flags(),
        };
        if let Some(source) = source {
            wanted.check_source(&session, source, &self.view)?;
        }
        let graph = session.graph();
        let makes_one = graph
            .stage(stage)
            .is_some_and(|index| graph.stages[index].has(Part::Whole));
        if self.item.is_none() && makes_one {
            wanted.whole(&project, &session)
        } else {
            wanted.items(&project, &session)
        }
    }
}

impl Wanted<'_> {
    /// Refuses a source whose items the stage cannot have.
    fn check_source(&self, session: &Session<'_>, source: &str, view: &View) -> Outcome {
        let (graph, stage) = (session.graph(), self.stage);
        let sources = graph
            .stage(stage)
            .map(|index| graph.sources_of_items(index));
        let sources = sources.cloned().unwrap_or_default();
        let names: Vec<&str> = sources
            .iter()
            .map(|index| graph.sources[*index].name.as_str())
            .collect();
        let Some(index) = graph.source(source).filter(|index| sources.contains(index)) else {
            let hint = match nearest(source, &names) {
                Some(near) => format!("did you mean `{stage}@{near}`?"),
                None if names.is_empty() => format!("leave out `@{source}`"),
                None => format!("it has items of {}", names.join(", ")),
            };
            return Err(Failure::Usage(
                format!("stage `{stage}` has no items of a source `{source}`"),
                Some(hint),
            ));
        };
        if graph.sources[index].path.is_none() && !view.binds(source) {
            return Err(Failure::Usage(
                format!("source `{source}` is not bound"),
                Some(format!("give `--{source} FILE`")),
            ));
        }
        if self.item.is_none()
            && graph
                .stage(stage)
                .is_some_and(|i| graph.stages[i].has(Part::Whole))
        {
            return Err(Failure::Usage(
                format!("stage `{stage}` makes one result of all its sources"),
                Some(format!("leave out `@{source}`, or name an item")),
            ));
        }
        Ok(())
    }

    /// The result of the whole set.
    fn whole(&self, project: &Project, session: &Session<'_>) -> Outcome {
        let Some(artifact) = session.artifact(self.stage) else {
            return Err(self.not_done(session)?);
        };
        self.write(project, artifact)
    }

    /// Why there is no result of the whole set, and what to do.
    fn not_done(&self, session: &Session<'_>) -> Result<Failure, Failure> {
        let stage = self.stage;
        let whys = session.why()?;
        let mut to_do: BTreeMap<&str, usize> = BTreeMap::new();
        let mut failed = None;
        let mut blocked = None;
        for why in &whys {
            match &why.cause {
                Cause::Failed(reason) => {
                    let what = format!("{} (stage {}): {reason}", why.item, why.stage);
                    failed.get_or_insert(what);
                }
                Cause::Blocked(reason) => {
                    blocked.get_or_insert(reason);
                }
                _ => *to_do.entry(&why.stage).or_default() += 1,
            }
        }
        let run = format!("pipeline run {stage}{}", self.flags);
        if to_do.is_empty() {
            let reason = failed.or_else(|| unusable(session));
            let reason = reason.or_else(|| blocked.cloned()).unwrap_or_default();
            print_error(
                &format!("stage `{stage}` is not done: {}", reason.trim_start()),
                Some(&format!("`{run}` says all that is wrong")),
            );
        } else {
            let to_do: Vec<_> = to_do
                .iter()
                .map(|(name, n)| format!("{name} {n}"))
                .collect();
            print_error(
                &format!(
                    "stage `{stage}` is not up to date; actions to do: {}",
                    to_do.join(", ")
                ),
                Some(&format!(
                    "`{run}` does them; `pipeline status --why {stage}{}` says why",
                    self.flags
                )),
            );
        }
        Ok(Failure::Code(FAILED))
    }

    /// One item, or all of them.
    fn items(&self, project: &Project, session: &Session<'_>) -> Outcome {
        let mut items = session.items_of(self.stage);
        items.retain(|item| self.source.is_none_or(|source| source == item.source));
        match self.item {
            Some(name) => self.one_item(project, &items, name),
            None => self.all_items(project, session, &items),
        }
    }

    fn one_item(&self, project: &Project, items: &[Item<'_>], name: &str) -> Outcome {
        let stage = self.stage;
        let named: Vec<&Item<'_>> = items
            .iter()
            .filter(|item| item.name == name || visible(item.name) == name)
            .collect();
        let Some(first) = named.first() else {
            let names: Vec<&str> = items.iter().map(|item| item.name).collect();
            let hint = match (nearest(name, &names), names.first()) {
                (Some(near), _) => format!("did you mean `{near}`?"),
                (None, Some(first)) => {
                    format!("there are {}, the first is `{first}`", names.len())
                }
                (None, None) => format!("leave it out: pipeline export {stage}"),
            };
            return Err(Failure::Usage(
                format!("stage `{stage}` has no item `{name}`"),
                Some(hint),
            ));
        };
        let same = |item: &&Item<'_>| item.artifact.is_some() && item.artifact == first.artifact;
        if !named.iter().skip(1).all(same) {
            let sources: Vec<&str> = named.iter().map(|item| item.source).collect();
            let ways = sources.iter().map(|source| format!("`{stage}@{source}`"));
            return Err(Failure::Usage(
                format!(
                    "stage `{stage}` has an item `{name}` of each of the sources {}",
                    sources.join(", ")
                ),
                Some(format!(
                    "say which: {}",
                    ways.collect::<Vec<_>>().join(" or ")
                )),
            ));
        }
        let Some(artifact) = first.artifact else {
            let hint = format!("`pipeline run {stage}{}` does it", self.flags);
            match first.state {
                State::Failed(engine::Failure { reason, .. }) | State::Blocked(reason) => {
                    print_error(
                        &format!("item `{name}` of stage `{stage}` failed: {reason}"),
                        None,
                    );
                }
                _ => print_error(
                    &format!("item `{name}` of stage `{stage}` is not up to date"),
                    Some(&hint),
                ),
            }
            return Err(Failure::Code(FAILED));
        };
        self.write(project, artifact)
    }

    /// Writes the files of one artifact, and reports how many there are.
    fn write(&self, project: &Project, artifact: &Artifact) -> Outcome {
        let (dir, pieces) = self.places_of(artifact)?;
        bring(
            &objects(project),
            &dir,
            &pieces,
            &Cancel::default(),
            &mut fail,
        )?;
        self.say_written(pieces.len())
    }

    fn all_items(&self, project: &Project, session: &Session<'_>, items: &[Item<'_>]) -> Outcome {
        let stage = self.stage;
        let open: Vec<_> = items.iter().filter(|i| !i.state.is_settled()).collect();
        if let Some(first) = open.first() {
            print_error(
                &format!(
                    "stage `{stage}` is not up to date; {} of {} items are to be done, the first is `{}`",
                    open.len(),
                    items.len(),
                    first.name
                ),
                Some(&format!(
                    "`pipeline run {stage}{}` does it; an item that is done can be exported by its name",
                    self.flags
                )),
            );
            return Err(Failure::Code(FAILED));
        }
        let done: Vec<(&Item<'_>, &Artifact)> = items
            .iter()
            .filter_map(|item| Some((item, item.artifact?)))
            .collect();
        let mut all = self.complain_of_failures(session);
        if done.is_empty() {
            print_error(&format!("stage `{stage}` has no item to export"), None);
            return Err(Failure::Code(FAILED));
        }
        let mut sources: Vec<&str> = done.iter().map(|(item, _)| item.source).collect();
        sources.dedup();
        let several = sources.len() > 1;
        let mut pieces = Vec::new();
        // Piece → its item.
        let mut owners = Vec::new();
        let mut taken: HashMap<PathBuf, &str> = HashMap::new();
        for (item, artifact) in &done {
            let mut folder = PathBuf::new();
            if several {
                folder.push(item.source);
            }
            for piece in item_pieces(&folder, item.name, &artifact.tree()) {
                if let Some(other) = taken.insert(piece.name.clone(), item.name) {
                    print_error(
                        &format!(
                            "`{}` and `{other}` would both be written to `{}`",
                            item.name,
                            of_name(self.out.join(&piece.name))
                        ),
                        Some("export one of them by its name, into another folder"),
                    );
                    all = false;
                    continue;
                }
                pieces.push(piece);
                owners.push(item.name);
            }
        }
        let mut failed = 0;
        let mut complain_of = |index: usize, failure: Failure| {
            let item = owners.get(index).copied().unwrap_or_default();
            failed += 1;
            failure.print_for(&format!("item `{item}`"))
        };
        bring(
            &objects(project),
            self.out,
            &pieces,
            &Cancel::default(),
            &mut complain_of,
        )?;
        self.say_written(pieces.len() - failed)?;
        if all && failed == 0 {
            Ok(())
        } else {
            Err(Failure::Code(FAILED))
        }
    }

    /// Names the files of which there is no item because they failed. Says whether the set counts as
    /// whole without them.
    fn complain_of_failures(&self, session: &Session<'_>) -> bool {
        let mut whole = true;
        for (source, intake) in session.intake() {
            if self.source.is_some_and(|wanted| wanted != source) {
                continue;
            }
            let graph = session.graph();
            let strict = graph
                .source(&source)
                .is_some_and(|index| graph.sources[index].on_bad == engine::config::OnBad::Fail);
            for (file, status) in &intake.others {
                if let FileStatus::Failed { reason, .. } = status {
                    print_warning(&format!("left out: {file}: {reason}"));
                    whole &= !strict;
                }
            }
        }
        whole
    }

    /// Where the files of a single artifact go: the folder, and the names in it. If there is one
    /// file, and `--out` does not name a folder, it is the name of that file.
    fn places_of(&self, artifact: &Artifact) -> Result<(PathBuf, Vec<Piece>), Failure> {
        let tree = artifact.tree();
        let mut files = tree.files();
        if let (Some((_, entry)), None) = (files.next(), files.next())
            && !self.out.is_dir()
            && (self.out.extension().is_some() || self.out.symlink_metadata().is_ok())
        {
            let (dir, name) = split(self.out)?;
            let piece = Piece {
                name: name.into(),
                content: Content::Object(*entry),
            };
            return Ok((dir.to_owned(), vec![piece]));
        }
        Ok((self.out.to_owned(), folder_pieces(Path::new(""), &tree)))
    }

    fn say_written(&self, files: usize) -> Outcome {
        print(format!("{files} file(s) written to {}", of_name(self.out)))
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

/// The first file that could not be read.
fn unusable(session: &Session<'_>) -> Option<String> {
    let intake = session.intake().into_values();
    let mut files = intake.flat_map(|intake| intake.others);
    files.find_map(|(file, status)| match status {
        FileStatus::Failed { reason, .. } => Some(format!("{file}: {reason}")),
        _ => None,
    })
}

/// The result of one item among many: a file named after it, if there is one, with the ending of
/// what it now is; else a folder.
fn item_pieces(folder: &Path, item: &str, tree: &Tree) -> Vec<Piece> {
    let path = folder.join(item);
    let mut files = tree.files();
    let (Some((only, entry)), None) = (files.next(), files.next()) else {
        return folder_pieces(&path, tree);
    };
    let extension = Path::new(only).extension().unwrap_or_default();
    let rest = format!(".{}", extension.to_string_lossy());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    vec![Piece {
        name: path.with_file_name(fit(&name, &rest, MAX_NAME)),
        content: Content::Object(*entry),
    }]
}

fn folder_pieces(folder: &Path, tree: &Tree) -> Vec<Piece> {
    let piece = |(name, entry): (&String, &stage_core::Entry)| Piece {
        name: folder.join(name),
        content: Content::Object(*entry),
    };
    tree.files().map(piece).collect()
}
