//! A process of its own that works on a toy project: this test's executable, started once more.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use engine::store::{StoreError, StoreOptions, VerifyOptions};
use engine::{Request, Session};
use serde::{Deserialize, Serialize};
use stage_core::{Cancel, Digest};

use super::oracle::PROMPT;
use super::scenario::collect;
use super::toy::{coded, open, try_run};

const VARIABLE: &str = "PIPELINE_BATTERY_CHILD";

/// What a process does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// Everything whose sources are bound.
    Run,
    /// The same with a prompt, as for a prediction.
    Predict,
    /// Says what is stale.
    Status,
    /// Reads and hashes everything.
    Verify,
    /// Collects what so many last runs do not need.
    Gc(usize),
}

/// A process' orders.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Folder of the project.
    pub(crate) dir: PathBuf,
    pub(crate) op: Op,
    pub(crate) settings: Vec<String>,
    pub(crate) jobs: usize,
    /// Where it says what it did.
    pub(crate) report: PathBuf,
}

/// What a process did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) executed: Vec<String>,
    pub(crate) failed: Vec<String>,
    /// Digest of everything that the run gave.
    pub(crate) everything: Option<Digest>,
    pub(crate) warnings: Vec<String>,
    /// From the opening of the store to the answer.
    pub(crate) seconds: f64,
}

/// Starts a process, as the first of a group of its own.
pub(crate) fn start(orders: &Orders) -> Child {
    start_in(orders, &[], "022")
}

/// The same with these variables and this umask.
pub(crate) fn start_in(orders: &Orders, variables: &[(&str, &str)], umask: &str) -> Child {
    use std::os::unix::process::CommandExt;
    Command::new("/bin/sh")
        .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child::serve", "--nocapture"])
        .env(VARIABLE, serde_json::to_string(orders).unwrap())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// The report of a process that has ended well.
pub(crate) fn report(orders: &Orders) -> Report {
    serde_json::from_slice(&std::fs::read(&orders.report).unwrap()).unwrap()
}

/// A digest of every file of every artifact.
pub(crate) fn digest(everything: &std::collections::BTreeMap<String, Vec<u8>>) -> Digest {
    let mut hasher = stage_core::KeyHasher::new("battery everything");
    for (name, bytes) in everything {
        hasher.field(name.as_bytes()).field(bytes);
    }
    hasher.finish()
}

/// Does nothing, unless this process was started by [`start`].
#[test]
fn serve() {
    let Ok(orders) = std::env::var(VARIABLE) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let report = perform(&orders);
    let bytes = serde_json::to_vec(&report).unwrap();
    std::fs::write(&orders.report, bytes).unwrap();
}

fn perform(orders: &Orders) -> Report {
    let warnings: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let heard = warnings.clone();
    let options = StoreOptions::new(move |w| heard.lock().unwrap().push(w.to_string()));
    let settings: Vec<&str> = orders.settings.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let cache: &Path = &orders.dir.join("cache");
    let project = open(&orders.dir, &coded(), cache, options, &settings).unwrap();
    let mut request = Request {
        jobs: orders.jobs,
        ..Request::default()
    };
    if orders.op == Op::Predict {
        let prompt = orders.dir.join(PROMPT);
        request.bindings.insert("prompt".into(), prompt);
    }
    let mut report = Report::default();
    match orders.op {
        Op::Gc(keep) => match project.store.gc(&collect(keep)) {
            // One at a time is enough.
            Ok(_) | Err(StoreError::Collecting { .. }) => {}
            Err(error) => panic!("{}", engine::chain(&error)),
        },
        Op::Verify => {
            let options = VerifyOptions {
                subset: None,
                cancel: &Cancel::default(),
                on_bytes: &|_| (),
            };
            let found = project.store.verify(&options).unwrap();
            assert_eq!((found.damage, found.commits), (vec![], vec![]));
        }
        Op::Status => {
            let session = Session::prepare(&project, request, &Cancel::default()).unwrap();
            session.why().unwrap();
        }
        Op::Run | Op::Predict => {
            let run = try_run(&project, request).unwrap();
            report.executed = run.executed;
            report.failed = run.failed;
            report.everything = Some(digest(&run.everything));
        }
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report.warnings = warnings.lock().unwrap().clone();
    report
}
