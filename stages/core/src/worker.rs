//! Stages served by another process.
//!
//! The engine writes one JSON line per message to the worker's standard input ([`ToWorker`]) and
//! reads one per message from its standard output ([`FromWorker`]). A worker does one job at a
//! time and ends when its input closes; a job under way is then cancelled, so that a training
//! process whose engine was killed saves its state and goes away.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Cancel, Context, DeviceChoice, Event, FailureClass, Input, Inputs, ItemInput, Output, Part,
    Preprocessing, Registry, StageError, Tree,
};

/// Version of this protocol; both sides must agree.
pub const PROTOCOL: u32 = 4;

/// A piece of work. Paths are written as [`crate::text`] says, so that they may be of any bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Kind of the stage.
    pub kind: String,
    /// The kind's version: a worker of another version refuses.
    pub version: u32,
    /// Which part.
    pub part: Part,
    /// All parameters, resolved.
    pub params: Value,
    /// The item, for an item part.
    pub item: Option<ItemInput>,
    /// The inputs by port; for an item part, the artifacts that are read beside the item.
    pub inputs: Inputs,
    /// The empty folder to write to.
    #[serde(with = "crate::text::path")]
    pub out: PathBuf,
    /// See [`Context::scratch`].
    #[serde(default, with = "crate::text::path_option")]
    pub scratch: Option<PathBuf>,
    /// See [`Context::run_dir`].
    #[serde(default, with = "crate::text::path_option")]
    pub run_dir: Option<PathBuf>,
    /// See [`Context::preprocessing`].
    pub preprocessing: Option<Preprocessing>,
    /// See [`Context::previous`].
    pub previous: Option<Input>,
    /// See [`Context::file`].
    #[serde(with = "crate::text::path_map")]
    pub files: BTreeMap<String, PathBuf>,
    /// See [`Context::threads`].
    pub threads: usize,
    /// See [`Context::device`].
    pub device: DeviceChoice,
}

/// Engine to worker. The name of a message stands around it, not in it: to look for it there, a
/// reader would keep all parts of the message first.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker<J = Box<Job>> {
    /// Do this.
    Job(J),
    /// Stop the job under way.
    Cancel,
    /// The interim artifact was taken, or why not.
    Published {
        /// The failure.
        error: Option<String>,
    },
}

/// Worker to engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// Said once at the start.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The machine class of what this worker computes.
        class: String,
        /// Kind → version.
        kinds: BTreeMap<String, u32>,
    },
    /// The stage said something.
    Event {
        /// What.
        event: Event,
    },
    /// An interim artifact lies in `dir`; answered by [`ToWorker::Published`].
    Interim {
        /// Steps done.
        step: u64,
        /// The folder.
        #[serde(with = "crate::text::path")]
        dir: PathBuf,
        /// The artifact.
        tree: Tree,
        /// Which of its files lie in the folder.
        written: Vec<String>,
    },
    /// The job is done; the artifact lies in the job's `out`.
    Done {
        /// The artifact.
        tree: Tree,
        /// Which of its files lie in the folder (the others were linked).
        written: Vec<String>,
    },
    /// The job failed.
    Failed {
        /// What kind of failure.
        class: FailureClass,
        /// The reason, on one line.
        reason: String,
    },
}

impl Job {
    /// Bytes of all that it reads.
    pub fn input_bytes(&self) -> u64 {
        let ports = self.inputs.ports.values().flatten();
        let items = self.item.iter().chain(ports);
        let sizes = items.map(|item| item.input.tree.size());
        sizes.fold(0, u64::saturating_add)
    }

    /// Does the job with the kinds of `registry`; what the worker and the engine's own threads
    /// both call.
    ///
    /// # Errors
    /// The stage's own, or the job does not fit this program.
    pub fn perform(
        &self,
        registry: &Registry,
        cx: &Context,
    ) -> Result<(Tree, Vec<String>), StageError> {
        let entry = registry.get(&self.kind).ok_or_else(|| {
            StageError::Environment(format!("this program has no stage kind `{}`", self.kind))
        })?;
        if entry.version != self.version {
            return Err(StageError::Environment(format!(
                "kind `{}` has version {} here, expected {}: the executables are of different builds",
                self.kind, entry.version, self.version
            )));
        }
        let (stage, _) = entry
            .parse(&self.params)
            .map_err(|e| StageError::Environment(format!("parameters not understood: {e}")))?;
        let mut out = Output::new(&self.out);
        match (self.part, &self.item) {
            (Part::Item, Some(item)) => stage.map(item, &self.inputs, &mut out, cx)?,
            (Part::Item, None) => {
                return Err(StageError::Environment("a map job without an item".into()));
            }
            (Part::Whole, _) => stage.reduce(&self.inputs, &mut out, cx)?,
            (Part::Finish, _) => stage.finish(&self.inputs, &mut out, cx)?,
        }
        out.seal()
    }
}

/// Serves jobs until `input` closes.
///
/// `class` is the machine class of this worker's results. A panic in a stage is reported as a
/// failure of the item, and the worker then ends, since its state is unknown.
///
/// # Errors
/// The output cannot be written: the engine is gone. Or no thread can be started.
pub fn serve(
    registry: &Registry,
    class: &str,
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
) -> io::Result<()> {
    let out: Shared = Arc::new(Mutex::new(Box::new(output)));
    let kinds = registry
        .iter()
        .map(|entry| (entry.kind.to_owned(), entry.version))
        .collect();
    let (jobs, job_queue) = channel();
    let (published, published_queue) = channel();
    let published_queue = Arc::new(Mutex::new(published_queue));
    let current: Arc<Mutex<Cancel>> = Arc::default();
    let reader_current = Arc::clone(&current);
    std::thread::Builder::new()
        .spawn(move || read(input, &jobs, &published, &reader_current))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start a thread: {error}")))?;
    send(
        &out,
        &FromWorker::Hello {
            protocol: PROTOCOL,
            class: class.to_owned(),
            kinds,
        },
    )?;
    while let Ok(job) = job_queue.recv() {
        let cancel = {
            let mut slot = current.lock().unwrap_or_else(PoisonError::into_inner);
            // A cancel that arrived before its job was taken up is still set in the slot.
            if slot.is_set() {
                slot.clone()
            } else {
                *slot = Cancel::default();
                slot.clone()
            }
        };
        let cx = context(&job, cancel, &out, &published_queue);
        let result = catch_unwind(AssertUnwindSafe(|| job.perform(registry, &cx)));
        let panicked = result.is_err();
        let reply = match result {
            Ok(Ok((tree, written))) => FromWorker::Done { tree, written },
            Ok(Err(error)) => FromWorker::Failed {
                class: error.class(),
                reason: error.reason(),
            },
            Err(payload) => FromWorker::Failed {
                class: FailureClass::Crashed,
                reason: format!(
                    "the reader of this format panicked: {}",
                    panic_text(&*payload)
                ),
            },
        };
        *current.lock().unwrap_or_else(PoisonError::into_inner) = Cancel::default();
        send(&out, &reply)?;
        if panicked {
            break;
        }
    }
    Ok(())
}

type Shared = Arc<Mutex<Box<dyn Write + Send>>>;

fn send(out: &Shared, message: &FromWorker) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    out.write_all(&line)?;
    out.flush()
}

fn read(
    input: impl BufRead,
    jobs: &Sender<Job>,
    published: &Sender<Option<String>>,
    current: &Mutex<Cancel>,
) {
    let cancel = || {
        current.lock().unwrap_or_else(PoisonError::into_inner).set();
    };
    for line in input.lines() {
        let message = line
            .ok()
            .and_then(|line| serde_json::from_str::<ToWorker>(&line).ok());
        match message {
            Some(ToWorker::Job(job)) => {
                if jobs.send(*job).is_err() {
                    return;
                }
            }
            Some(ToWorker::Cancel) => cancel(),
            Some(ToWorker::Published { error }) => {
                if published.send(error).is_err() {
                    return;
                }
            }
            // The engine is of another build or its pipe broke: nothing sensible can follow.
            None => break,
        }
    }
    cancel();
}

fn context(
    job: &Job,
    cancel: Cancel,
    out: &Shared,
    published: &Arc<Mutex<Receiver<Option<String>>>>,
) -> Context {
    let events = Arc::clone(out);
    let mut cx = Context::new(Arc::new(move |event| {
        // An engine that is gone is noticed when the input closes.
        let _ = send(&events, &FromWorker::Event { event });
    }))
    .with_files(job.files.clone());
    cx.cancel = cancel;
    cx.threads = job.threads;
    cx.device = job.device;
    cx.scratch.clone_from(&job.scratch);
    cx.run_dir.clone_from(&job.run_dir);
    cx.preprocessing.clone_from(&job.preprocessing);
    cx.previous.clone_from(&job.previous);
    let out = Arc::clone(out);
    let published = Arc::clone(published);
    let dir = interim_dir(&job.out);
    cx.with_publisher(
        dir,
        Arc::new(move |interim: Output, step| {
            let dir = interim.dir().to_owned();
            let (tree, written) = interim.seal()?;
            let lost = |_| StageError::Environment("the engine is gone".into());
            let message = FromWorker::Interim {
                step,
                dir,
                tree,
                written,
            };
            send(&out, &message).map_err(lost)?;
            let answer = published
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv()
                .map_err(|_| StageError::Environment("the engine is gone".into()))?;
            match answer {
                None => Ok(()),
                Some(reason) => Err(StageError::Environment(reason)),
            }
        }),
    )
}

/// Where the interim artifacts of a job with the output folder `out` are written: beside it.
fn interim_dir(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".interim");
    out.with_file_name(name)
}

/// The text of a caught panic.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::BufReader;

    use super::*;
    use crate::{Digest, Kind, KindEntry, Port, PortTakes, Stage};

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Upper {
        panic: bool,
    }

    impl Kind for Upper {
        const KIND: &'static str = "upper";
        const VERSION: u32 = 1;
        const ABOUT: &'static str = "upper-cases a text";
    }

    impl Stage for Upper {
        fn parts(&self) -> &'static [Part] {
            &[Part::Item]
        }
        fn gives(&self, _: Part) -> &'static str {
            "text"
        }

        fn ports(&self) -> &'static [Port] {
            &[Port {
                name: "items",
                takes: PortTakes::Items,
                of: &["text"],
                required: true,
                about: "",
            }]
        }
        fn map(
            &self,
            item: &ItemInput,
            _: &Inputs,
            out: &mut Output,
            cx: &Context,
        ) -> Result<(), StageError> {
            assert!(!self.panic, "as asked");
            cx.info("working");
            let text = item.input.read("file", 100)?;
            out.write("text", &text.to_ascii_uppercase())
        }
    }

    fn serve_lines(lines: &str) -> Vec<FromWorker> {
        #[derive(Clone, Default)]
        struct Tap(Arc<Mutex<Vec<u8>>>);
        impl Write for Tap {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let tap = Tap::default();
        let registry = Registry::new([KindEntry::of::<Upper>()]);
        let input = BufReader::new(io::Cursor::new(lines.to_owned().into_bytes()));
        serve(&registry, "test", input, tap.clone()).unwrap();
        let bytes = tap.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn job(dir: &std::path::Path, params: Value) -> String {
        let file = dir.join("x");
        fs::write(&file, b"abc").unwrap();
        let out = dir.join("out");
        fs::create_dir_all(&out).unwrap();
        let job = Job {
            kind: "upper".into(),
            version: 1,
            part: Part::Item,
            params,
            item: Some(ItemInput {
                source: Digest::of(b"abc"),
                label: None,
                input: Input {
                    tree: Tree::single("file", Digest::of(b"abc"), 3),
                    paths: BTreeMap::from([("file".into(), file)]),
                    file_id: None,
                },
            }),
            inputs: Inputs::default(),
            out,
            scratch: None,
            run_dir: None,
            preprocessing: None,
            previous: None,
            files: BTreeMap::new(),
            threads: 1,
            device: DeviceChoice::Auto,
        };
        serde_json::to_string(&ToWorker::Job(job)).unwrap() + "\n"
    }

    #[test]
    fn a_job_is_done_and_its_events_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let replies = serve_lines(&job(dir.path(), serde_json::json!({})));
        assert!(matches!(
            replies[0],
            FromWorker::Hello {
                protocol: PROTOCOL,
                ..
            }
        ));
        assert!(matches!(replies[1], FromWorker::Event { .. }));
        let FromWorker::Done { tree, .. } = &replies[2] else {
            panic!("{replies:?}");
        };
        assert_eq!(tree.get("text").unwrap().digest, Digest::of(b"ABC"));
    }

    #[test]
    fn a_panic_fails_the_item_and_ends_the_worker() {
        let dir = tempfile::tempdir().unwrap();
        let two = job(dir.path(), serde_json::json!({"panic": true})).repeat(2);
        let replies = serve_lines(&two);
        assert_eq!(replies.len(), 2, "{replies:?}");
        assert!(
            matches!(&replies[1], FromWorker::Failed { class: FailureClass::Crashed, reason } if reason.contains("as asked"))
        );
    }

    #[test]
    fn paths_of_any_bytes_pass_unchanged() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        for name in [&b"caf\xE9"[..], b"caf\\xE9", b"a\nb\"", "é".as_bytes()] {
            let odd = dir.path().join(OsStr::from_bytes(name));
            fs::create_dir(&odd).unwrap();
            let line = job(&odd, serde_json::json!({}));
            let ToWorker::Job(mut job) = serde_json::from_str::<ToWorker>(&line).unwrap() else {
                panic!("{line}");
            };
            assert_eq!(job.out, odd.join("out"));
            job.scratch = Some(odd.clone());
            job.run_dir = Some(odd.clone());
            job.files = BTreeMap::from([("csv".into(), odd.clone())]);
            let line = serde_json::to_string(&ToWorker::Job(&job)).unwrap();
            assert!(!line.contains('\n'), "{line}");
            let ToWorker::Job(again) = serde_json::from_str::<ToWorker>(&line).unwrap() else {
                panic!("{line}");
            };
            assert_eq!(again.scratch, job.scratch);
            assert_eq!(again.run_dir, job.run_dir);
            assert_eq!(again.files, job.files);
            let replies = serve_lines(&(line + "\n"));
            assert!(
                matches!(&replies[2], FromWorker::Done { .. }),
                "{replies:?}"
            );
        }
    }

    #[test]
    fn unknown_parameters_and_garbage_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let replies = serve_lines(&job(dir.path(), serde_json::json!({"nope": 1})));
        assert!(matches!(
            &replies[1],
            FromWorker::Failed {
                class: FailureClass::Environment,
                ..
            }
        ));
        assert_eq!(serve_lines("garbage\n").len(), 1);
    }
}
