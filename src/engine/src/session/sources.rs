//! The demanded sources as the disk has them now: what is listed at the beginning of a run, and
//! what is read of it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use stage_core::{Cancel, Digest, KeyHasher};

use super::demand::Demand;
use super::intake::{SourceFile, intake_stages};
use super::outputs::Outputs;
use super::{Project, Request};
use crate::config::{Graph, Source};
use crate::error::EngineError;
use crate::fs::Fs;
use crate::process::Worker;
use crate::scan::{Listing, Look, list};
use crate::store::{Ctimes, HashOptions, StatSig, StoreError};

/// A file that a parameter names, and its state.
type Seen = (PathBuf, Result<StatSig, StoreError>);

/// What a request needs of the disk.
#[derive(Debug)]
pub struct Sources {
    pub(super) demand: Demand,
    /// Source → what is in it.
    listed: BTreeMap<usize, Listing>,
    /// A worker for the first job.
    pub(super) spare: Option<Worker>,
    /// Source → its files, once they have been read.
    read: Option<BTreeMap<usize, Vec<SourceFile>>>,
    /// (stage, file parameter) → the file and its state.
    pub(super) params: BTreeMap<(usize, &'static str), Seen>,
    /// Digest of all that was seen, if it vouches for the contents.
    pub(crate) state: Option<Digest>,
    /// Digest of the commits that were known before anything was looked up.
    pub(crate) commits: Digest,
    /// What [`crate::store::Store::generation`] said then.
    pub(super) generation: u64,
}

impl Sources {
    /// Lists what `request` demands. Reads no file.
    ///
    /// # Errors
    /// Unknown targets, sources that are not bound or cannot be listed, a store that does not work.
    pub fn list(project: &Project, request: &Request) -> Result<Self, EngineError> {
        let generation = project.store.generation();
        let commits = project.store.commits()?;
        let demand = Demand::of(&project.config.graph, request)?;
        let mut sources = Self {
            listed: BTreeMap::new(),
            spare: None,
            read: None,
            params: BTreeMap::new(),
            state: None,
            commits,
            generation,
            demand,
        };
        let outputs = Outputs::of(project, request);
        outputs.keep_apart(project, request)?;
        sources.list_files(project, request, &outputs.places)?;
        sources.look_at_params(project);
        sources.state = sources.digest().filter(|_| sources.vouch(&*project.fs));
        Ok(sources)
    }

    /// Starts a worker for the work that seems to be ahead: it is ready when the session has found
    /// out what there is to do.
    pub fn expect_work(&mut self, project: &Project) {
        // Whoever needs one meets the error again, and tells it.
        self.spare = Worker::start(&project.worker).ok();
    }

    fn list_files(
        &mut self,
        project: &Project,
        request: &Request,
        results: &[(u64, u64)],
    ) -> Result<(), EngineError> {
        let graph = &project.config.graph;
        let mut wanted: Vec<usize> = self
            .demand
            .items
            .iter()
            .map(|(_, source)| *source)
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        for index in wanted {
            let source = &graph.sources[index];
            let Some(root) = root_of(project, request, source) else {
                continue;
            };
            let taken = taking(graph, &self.demand, index);
            let listing = list(&*project.fs, source, &root, &taken, results)?;
            self.listed.insert(index, listing);
        }
        Ok(())
    }

    /// Looks at the files that parameters name.
    fn look_at_params(&mut self, project: &Project) {
        let mut stages: Vec<usize> = self.demand.items.iter().map(|(stage, _)| *stage).collect();
        stages.extend(&self.demand.wholes);
        stages.sort_unstable();
        stages.dedup();
        for stage in stages {
            for (key, param) in project.config.graph.stages[stage].stage.files() {
                let path = project.config.root.join(param.path());
                let mut seen = project.store.look_at(&[&path]);
                let seen = seen.pop().unwrap_or(Err(StoreError::Cancelled));
                self.params.insert((stage, key), (path, seen));
            }
        }
    }

    /// Whether the states that were seen vouch for the contents.
    fn vouch(&self, fs: &dyn Fs) -> bool {
        let mut ctimes = Ctimes::default();
        let listed = self.listed.values();
        let mut params = self.params.values();
        listed
            .into_iter()
            .all(|listing| listing.vouches(fs, &mut ctimes))
            && params.all(|(path, seen)| {
                let sig = seen.as_ref();
                sig.is_ok_and(|sig| sig.vouches(ctimes.on(sig.dev, fs, || path)))
            })
    }

    fn digest(&self) -> Option<Digest> {
        let mut hasher = KeyHasher::new("pipeline sources 1");
        hasher.count(self.listed.len());
        for (source, listing) in &self.listed {
            hasher.count(*source).field(&listing.state()?.0);
        }
        for ((stage, key), (_, seen)) in &self.params {
            let sig = seen.as_ref().ok()?;
            hasher
                .count(*stage)
                .field(key.as_bytes())
                .field(&sig.to_bytes());
        }
        Some(hasher.finish())
    }

    /// The files with their digests: reads those that the stat cache does not vouch for.
    pub(super) fn files(
        &mut self,
        project: &Project,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<BTreeMap<usize, Vec<SourceFile>>, EngineError> {
        self.read(project, request, cancel)?;
        Ok(self.read.take().unwrap_or_default())
    }

    /// Reads every byte, if that is asked for. Afterwards [`Sources::state`] stands for contents.
    pub(crate) fn read_if_paranoid(
        &mut self,
        project: &Project,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        if request.paranoid {
            self.read(project, request, cancel)?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        project: &Project,
        request: &Request,
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        if self.read.is_some() {
            return Ok(());
        }
        let graph = &project.config.graph;
        let mut all = BTreeMap::new();
        for (index, listing) in std::mem::take(&mut self.listed) {
            let takes = taking(graph, &self.demand, index);
            let found = listing.files();
            let mut files = Vec::with_capacity(found.len());
            let mut looks = Vec::with_capacity(found.len());
            for (found, look) in found {
                // Work without the files of a folder that cannot be listed would pass for work on
                // all of them.
                let taken = look.is_some() || found.hides_files || takes(&found.extension);
                files.push(SourceFile {
                    failed: found.unusable.clone().filter(|_| taken),
                    digest: None,
                    sig: None,
                    unread: false,
                    taken,
                    duplicate_of: None,
                    found,
                });
                looks.push(look);
            }
            if !digest(project, request, &mut files, looks, cancel)? {
                self.state = None;
            }
            all.insert(index, files);
        }
        self.read = Some(all);
        Ok(())
    }
}

/// Where a source is, if it is bound.
pub(super) fn root_of(project: &Project, request: &Request, source: &Source) -> Option<PathBuf> {
    match request.bindings.get(&source.name) {
        // Paths on the command line start from where the user stands.
        Some(path) => Some(path.clone()),
        None => Some(project.config.root.join(source.path.as_ref()?)),
    }
}

/// Whether a stage that is connected to the source takes files of an extension.
fn taking<'a>(graph: &'a Graph, demand: &Demand, source: usize) -> impl Fn(&str) -> bool + 'a {
    let stages = intake_stages(graph, demand, source);
    move |extension| {
        let mut stages = stages.iter().map(|stage| &graph.stages[*stage].stage);
        stages.any(|stage| stage.takes(extension))
    }
}

/// Gives each file its digest. Says whether the states that were seen vouch for all of them.
fn digest(
    project: &Project,
    request: &Request,
    files: &mut [SourceFile],
    looks: Vec<Option<Look>>,
    cancel: &Cancel,
) -> Result<bool, EngineError> {
    let store = &project.store;
    let (mut wanted, mut paths, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (file, look)) in files.iter().zip(looks).enumerate() {
        if let Some(look) = look {
            let path = file.found.path.as_path();
            wanted.push(index);
            paths.push(path);
            seen.push(look.map_err(StoreError::io("read", path)));
        }
    }
    let sigs: Vec<Option<StatSig>> = seen.iter().map(|sig| sig.as_ref().ok().copied()).collect();
    let digests: Vec<_> = if request.quick {
        let known = store.known_digests(&seen);
        let known = seen.into_iter().zip(known);
        known
            .map(|(sig, digest)| sig.map(|sig| (sig, digest, false)))
            .collect()
    } else {
        let options = HashOptions {
            paranoid: request.paranoid,
            cancel,
            on_bytes: &|_| {},
        };
        let read = store.digest_seen(&paths, seen, &options).into_iter();
        read.map(|file| file.map(|file| (file.sig, Some(file.digest), file.vouched)))
            .collect()
    };
    let mut vouched = true;
    for ((index, digest), seen) in wanted.iter().zip(digests).zip(sigs) {
        let file = &mut files[*index];
        match digest {
            Ok((_, None, _)) => file.unread = true,
            Ok((sig, Some(digest), own_vouched)) => {
                vouched &= own_vouched && seen == Some(sig);
                file.digest = Some(digest);
                file.sig = Some(sig);
            }
            Err(StoreError::Cancelled) => return Err(StoreError::Cancelled.into()),
            Err(error) => {
                vouched = false;
                file.failed = Some(crate::error::chain(&error));
            }
        }
    }
    find_duplicates(files, &wanted);
    Ok(vouched)
}

/// Notes which of the files that `wanted` names are others over again.
fn find_duplicates(files: &mut [SourceFile], wanted: &[usize]) {
    let mut first: HashMap<Digest, usize> = HashMap::with_capacity(wanted.len());
    // Of another extension, the same bytes are another file.
    let mut others: HashMap<(Digest, &str), usize> = HashMap::new();
    let mut duplicates = Vec::new();
    for index in wanted {
        let Some(digest) = files[*index].digest else {
            continue;
        };
        let extension = |index: usize| &*files[index].found.extension;
        let mut before = *first.entry(digest).or_insert(*index);
        if before != *index && extension(before) != extension(*index) {
            before = *others.entry((digest, extension(*index))).or_insert(*index);
        }
        if before != *index {
            duplicates.push((*index, u32::try_from(before).unwrap_or(u32::MAX)));
        }
    }
    for (index, before) in duplicates {
        files[index].duplicate_of = Some(before);
    }
}
