//! Knowing again a run that finds nothing to do.
//!
//! What a run finds follows from the request, the graph, the program, the commits of the cache and
//! the contents of the sources; and for the contents of files vouch their states, as in the stat
//! cache. So a run that found nothing to do leaves a note in the index: digests of all of these,
//! and what it said. While they are the same, the next run says it again, at the cost of listing
//! the sources: no file, no action is looked up. A hundred thousand files take a tenth of a second
//! where the lookups would take half of one more.
//!
//! The note is no truth of its own: where one of the digests is another, it is as if there were
//! none. A file that was young when it was read, or anything in a source that a state does not
//! tell (a dangling link, a folder that cannot be listed), leaves no note.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use stage_core::{Cancel, Digest, KeyHasher, Part, Tree, canonical_json};

use crate::config::NodeId;
use crate::error::EngineError;
use crate::event::{Ending, Observer, RunEvent, Who};
use crate::forecast::Forecast;
use crate::session::{Project, Request, Session, Sources};
use crate::store::{self, Artifact};
use crate::summary::Summary;

/// A run that found nothing to do, known again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settled {
    /// What it did: nothing.
    pub summary: Summary,
    forecast: Forecast,
    /// Stage, part, and how many of its actions are in the cache.
    cached: Vec<(String, Part, u64)>,
    /// Stage → the artifact that [`Session::artifact`] gives.
    artifacts: BTreeMap<String, Tree>,
}

impl Settled {
    /// Whether `request` over these `sources` is known to find nothing to do. With
    /// [`Request::paranoid`] every byte of the sources is read first.
    ///
    /// # Errors
    /// The store does not work.
    pub fn find(
        project: &Project,
        request: &Request,
        sources: &mut Sources,
        cancel: &Cancel,
    ) -> Result<Option<Self>, EngineError> {
        if !is_plain(request) {
            return Ok(None);
        }
        let begun = Instant::now();
        sources.read_if_paranoid(project, request, cancel)?;
        let Some(state) = sources.state else {
            return Ok(None);
        };
        let note = project.store.settled(&request_digest(project, request))?;
        let same = |note: &store::Settled| (note.state, note.commits) == (state, sources.commits);
        let Some(note) = note.filter(same) else {
            return Ok(None);
        };
        // The checksum of the row holds, so only another program can have written what is not
        // understood.
        let settled: Option<Self> = serde_json::from_str(&note.text).ok();
        Ok(settled.map(|mut settled| {
            settled.summary.seconds = begun.elapsed().as_secs_f64();
            settled
        }))
    }

    /// Says what [`Session::execute`] would say on its way.
    pub fn tell(&self, observer: &dyn Observer) {
        observer.observe(&RunEvent::Planned(&self.forecast));
        for (stage, part, count) in &self.cached {
            observer.observe(&RunEvent::Cached {
                stage,
                part: *part,
                count: *count,
            });
        }
        for trouble in self.summary.troubles.iter().filter(|t| !t.blocked) {
            observer.observe(&RunEvent::Ended {
                who: Who {
                    stage: &trouble.stage,
                    part: trouble.part,
                    item: &trouble.item,
                },
                ending: Ending::Failed,
                seconds: 0.0,
                reason: Some(&trouble.reason),
                remembered: true,
            });
        }
    }

    /// See [`Session::artifact`].
    pub fn artifact(&self, stage: &str) -> Option<Artifact> {
        self.artifacts.get(stage).map(Artifact::new)
    }
}

impl Session<'_> {
    /// Leaves a note that this run found nothing to do, if the states of its sources vouch for it.
    pub(crate) fn settle_down(&self, summary: &Summary, forecast: &Forecast) {
        let store = &self.project.store;
        let Some(state) = self.state.filter(|_| is_plain(&self.request)) else {
            return;
        };
        // What another process committed while this one looked may or may not be in what it found.
        let same = store.refresh().and_then(|()| store.commits());
        if same.is_ok_and(|commits| commits == self.commits) {
            let named = |stage: &str| Some((stage.to_owned(), self.artifact(stage)?.tree()));
            let stages = self.graph().stages.iter();
            let cached = self.cached().into_iter();
            let settled = Settled {
                summary: summary.clone(),
                forecast: forecast.clone(),
                cached: cached.map(|(s, part, n)| (s.to_owned(), part, n)).collect(),
                artifacts: stages.filter_map(|stage| named(&stage.name)).collect(),
            };
            let note = store::Settled {
                state,
                commits: self.commits,
                text: serde_json::to_string(&settled).unwrap_or_default(),
            };
            // Best effort: without it the next run looks for itself.
            let _ = store.put_settled(&request_digest(self.project, &self.request), &note);
        }
    }
}

/// Whether what a request finds follows from its targets and bindings alone.
fn is_plain(request: &Request) -> bool {
    request.artifacts.is_empty()
        && request.force.is_empty()
        && request.only.is_none()
        && !request.retry_failed
        && !request.quick
}

/// Digest of everything but the commits and the sources that decides what a run finds.
fn request_digest(project: &Project, request: &Request) -> Digest {
    let mut hasher = KeyHasher::new("pipeline request 1");
    hasher
        .field(project.name.as_bytes())
        .field(project.version.as_bytes());
    // Of two builds of one version one may find what the other does not.
    let program = project.fs.stat(&project.worker.path).ok();
    hasher.count(usize::from(program.is_some()));
    if let Some(stat) = program {
        hasher.field(&store::StatSig::from(&stat).to_bytes());
    }
    let graph = &project.config.graph;
    hasher.count(graph.sources.len());
    for source in &graph.sources {
        hasher.field(source.name.as_bytes());
        let bound = request.bindings.get(&source.name);
        let path = bound.or(source.path.as_ref());
        hasher.count(usize::from(path.is_some()) + usize::from(bound.is_some()));
        if let Some(path) = path {
            hasher.field(path.as_os_str().as_encoded_bytes());
        }
        for globs in [&source.include, &source.exclude] {
            hasher.count(globs.len());
            for glob in globs {
                hasher.field(glob.as_bytes());
            }
        }
        hasher.field(format!("{:?}", source.on_bad).as_bytes());
    }
    hasher.count(graph.stages.len());
    for stage in &graph.stages {
        hasher
            .field(stage.name.as_bytes())
            .field(stage.kind.as_bytes())
            .field(&stage.version.to_le_bytes())
            .field(canonical_json(&stage.params).as_bytes())
            .count(stage.inputs.len());
        for (port, inputs) in &stage.inputs {
            hasher.field(port.as_bytes()).count(inputs.len());
            for input in inputs {
                let (what, index) = match input.node {
                    NodeId::Source(index) => (0, index),
                    NodeId::Stage(index) => (1, index),
                };
                let only = input.only.map_or(0, |only| only + 1);
                hasher.count(what).count(index).count(only);
            }
        }
    }
    hasher.count(request.targets.len());
    for target in &request.targets {
        hasher.field(target.as_bytes());
    }
    hasher.finish()
}
