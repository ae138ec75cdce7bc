//! Worker processes: jobs that read foreign bytes or need another executable.
//!
//! A worker is started when first needed and kept for the next job. One that dies, says nothing
//! for too long or is cancelled costs its job alone: it is killed and replaced. If it crashed or
//! hung, its job is to blame ([`StageError::Crashed`]); if somebody else ended it (the system for
//! want of memory, the user), the machine is ([`StageError::Environment`]). Workers are in
//! process groups of their own, so that Ctrl-C at the terminal reaches the engine only; they end
//! when their standard input closes, so that they never outlive it for long.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use stage_core::text::of_name;
use stage_core::worker::{FromWorker, Job, PROTOCOL, ToWorker};
use stage_core::{Cancel, Event, StageError, Tree};

/// How a worker program is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What the engine does with what a job says on its way.
pub(crate) trait Attend {
    /// The stage said something.
    fn event(&mut self, event: Event);
    /// An interim artifact lies ready.
    fn interim(
        &mut self,
        step: u64,
        dir: PathBuf,
        tree: Tree,
        written: Vec<String>,
    ) -> Result<(), String>;
}

/// How patient the engine is with a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// A worker that says nothing for so long is taken for hung.
    pub(crate) silence: Option<Duration>,
    /// How long a cancelled job may take to save its state.
    pub(crate) farewell: Duration,
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    messages: Messages,
    complaints: Arc<Mutex<Vec<u8>>>,
    /// Reads standard error into `complaints` until it is closed.
    listener: Option<JoinHandle<()>>,
    /// The program, for people.
    shown: String,
    /// Whether it said hello.
    greeted: bool,
}

/// What a worker says, read by whoever waits for it: a thread between them would cost more than a
/// small job.
#[derive(Debug)]
struct Messages {
    pipe: ChildStdout,
    /// Bytes that were read and not yet understood, from `begin` on.
    bytes: Vec<u8>,
    begin: usize,
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Silence {
    /// There may be one later.
    Lasts,
    /// The worker has ended, or does not speak our language.
    Final,
}

impl Messages {
    fn new(pipe: ChildStdout) -> Self {
        Self {
            pipe,
            bytes: Vec::new(),
            begin: 0,
        }
    }

    /// The next message; waits for it at most about as long as `patience`.
    fn next(&mut self, patience: Duration) -> Result<FromWorker, Silence> {
        let until = Instant::now() + patience;
        loop {
            while let Some(line) = self.line() {
                // What is no message is somebody's print: libraries do that.
                if let Ok(message) = serde_json::from_slice(line) {
                    return Ok(message);
                }
            }
            if self.bytes.len() > LONGEST {
                return Err(Silence::Final);
            }
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Err(Silence::Lasts),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Silence::Final),
            }
            if !self.read().is_ok_and(|n| n > 0) {
                return Err(Silence::Final);
            }
        }
    }

    /// The next line that has been read whole.
    fn line(&mut self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.begin..)?;
        let length = rest.iter().position(|b| *b == b'\n')?;
        let begin = self.begin;
        self.begin += length + 1;
        self.bytes.get(begin..begin + length)
    }

    /// Reads what has come.
    fn read(&mut self) -> std::io::Result<usize> {
        self.bytes.drain(..self.begin);
        self.begin = 0;
        let before = self.bytes.len();
        self.bytes.resize(before + CHUNK, 0);
        let read = loop {
            match self.pipe.read(&mut self.bytes[before..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let n = read.as_ref().map_or(0, |n| *n);
        self.bytes.truncate(before + n);
        read
    }
}

/// Longest message, in bytes: the tree of an artifact of a hundred thousand files.
const LONGEST: usize = 64 << 20;
/// Bytes that are read at once: as many as a pipe holds.
const CHUNK: usize = 64 * 1024;
/// How often a cancellation is looked for.
const TICK: Duration = Duration::from_millis(50);
/// How long a program may take to say hello. Libtorch with CUDA takes seconds from a cold disk.
const HELLO: Duration = Duration::from_secs(120);
/// How long a thread of GNU's OpenMP spins before it sleeps, if the user does not say: its own
/// 300,000 rounds beside other work take the very cores that the thread waits for.
const SPIN: (&str, &str) = ("GOMP_SPINCOUNT", "2000");
/// What keeps glibc from giving memory back to the system after each job, if the user does not
/// say: taking it again, page by page, took a third of the time of small jobs. More than 16 MiB is
/// given back.
const KEEP: [(&str, &str); 2] = [
    ("MALLOC_TRIM_THRESHOLD_", "16777216"),
    ("MALLOC_MMAP_THRESHOLD_", "16777216"),
];
/// How lines begin that Rust adds to the last words of a process and that explain nothing.
const FOOTNOTES: [&str; 2] = ["skipping backtrace printing", "note: "];
/// How long the rest of a worker's standard error is waited for once it has ended.
const STDERR_PATIENCE: Duration = Duration::from_secs(1);
/// How much of a worker's last words is kept.
const LAST_WORDS: usize = 4096;

impl Patience {
    /// With a reader of foreign bytes: two minutes of silence, and more for large files, at a rate
    /// that the slowest disk keeps.
    pub(crate) fn with_reader(job: &Job) -> Self {
        Self {
            silence: Some(Duration::from_secs(120 + job.input_bytes() / 2_000_000)),
            farewell: Duration::from_millis(300),
        }
    }
}

/// Does `job` in a worker of its own, which ends with it: for commands that read a foreign file
/// outside of a run. `hear` is told what the job says on its way.
///
/// # Errors
/// The job's own; [`StageError::Crashed`] when the worker crashed or hung.
pub fn perform_alone(
    program: &Program,
    job: &Job,
    cancel: &Cancel,
    hear: &mut dyn FnMut(Event),
) -> Result<(), StageError> {
    struct Listener<'a>(&'a mut dyn FnMut(Event));
    impl Attend for Listener<'_> {
        fn event(&mut self, event: Event) {
            (self.0)(event);
        }
        fn interim(&mut self, _: u64, _: PathBuf, _: Tree, _: Vec<String>) -> Result<(), String> {
            Err("no place for interim artifacts".to_owned())
        }
    }
    let mut worker = Worker::start(program)?;
    worker.greet()?;
    let patience = Patience::with_reader(job);
    worker.perform(job, patience, cancel, &mut Listener(hear))?;
    Ok(())
}

impl Worker {
    /// Starts `program`; [`Worker::greet`] hears its hello.
    pub(crate) fn start(program: &Program) -> Result<Self, StageError> {
        let shown = of_name(&program.path);
        let mut command = Command::new(&program.path);
        if [SPIN.0, "OMP_WAIT_POLICY"].map(std::env::var_os) == [None, None] {
            command.env(SPIN.0, SPIN.1);
        }
        if KEEP.map(|(name, _)| std::env::var_os(name)) == [None, None] {
            command.envs(KEEP);
        }
        let mut child = command
            .args(&program.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| {
                StageError::Environment(if error.kind() == std::io::ErrorKind::NotFound {
                    format!("`{shown}` is not there: build or install it beside `pipeline`")
                } else {
                    format!("`{shown}` cannot be started: {error}")
                })
            })?;
        let missing = || StageError::Environment(format!("`{shown}` has no standard streams"));
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let errors = child.stderr.take().ok_or_else(missing)?;
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let words = Arc::clone(&complaints);
        let mut worker = Self {
            child,
            input,
            messages: Messages::new(output),
            complaints,
            listener: None,
            shown,
            greeted: false,
        };
        // Nobody would read what it says: without the thread the worker ends here.
        let listener = std::thread::Builder::new()
            .spawn(move || listen(errors, &words))
            .map_err(|error| {
                StageError::Environment(format!("cannot start a thread for a worker: {error}"))
            })?;
        worker.listener = Some(listener);
        Ok(worker)
    }

    /// Waits until it has said that it is ready and speaks our language.
    pub(crate) fn greet(&mut self) -> Result<(), StageError> {
        if self.greeted {
            return Ok(());
        }
        let shown = self.shown.clone();
        match self.messages.next(HELLO) {
            Ok(FromWorker::Hello { protocol, .. }) if protocol == PROTOCOL => {
                self.greeted = true;
                Ok(())
            }
            Ok(_) => Err(StageError::Environment(format!(
                "`{shown}` speaks another protocol than {PROTOCOL}: it is of another build"
            ))),
            Err(_) => {
                let ended = self.ended();
                Err(StageError::Environment(format!(
                    "`{shown}` did not start: {}",
                    self.epitaph(&ended)
                )))
            }
        }
    }

    /// Has `job` done. On an error for which [`Worker::is_usable`] no longer holds, drop it.
    pub(crate) fn perform(
        &mut self,
        job: &Job,
        patience: Patience,
        cancel: &Cancel,
        attend: &mut dyn Attend,
    ) -> Result<(Tree, Vec<String>), StageError> {
        self.send(&ToWorker::Job(job))?;
        let mut heard = Instant::now();
        let mut cancelled: Option<Instant> = None;
        loop {
            match self.messages.next(TICK) {
                Ok(FromWorker::Done { tree, written }) => return Ok((tree, written)),
                Ok(FromWorker::Failed { class, reason }) => {
                    use stage_core::FailureClass as Class;
                    return Err(match class {
                        Class::Content => StageError::Content(reason),
                        Class::Crashed => StageError::Crashed(reason),
                        Class::Environment => StageError::Environment(reason),
                        Class::Damaged => StageError::Damaged(reason),
                        Class::Cancelled => StageError::Cancelled,
                        Class::Paused => StageError::Paused(reason),
                    });
                }
                Ok(FromWorker::Event { event }) => attend.event(event),
                Ok(FromWorker::Interim {
                    step,
                    dir,
                    tree,
                    written,
                }) => {
                    let error = attend.interim(step, dir, tree, written).err();
                    self.send(&ToWorker::Published { error })?;
                }
                Ok(FromWorker::Hello { .. }) => {}
                Err(Silence::Lasts) => {
                    if let Some(silence) = patience.silence
                        && heard.elapsed() > silence
                    {
                        self.kill();
                        return Err(StageError::Crashed(format!(
                            "no sign of life for {} s: its reader was stopped",
                            silence.as_secs()
                        )));
                    }
                    if cancel.is_set() && cancelled.is_none() {
                        cancelled = Some(Instant::now());
                        self.send(&ToWorker::Cancel)?;
                    }
                    if cancelled.is_some_and(|since| since.elapsed() > patience.farewell) {
                        self.kill();
                        return Err(StageError::Cancelled);
                    }
                    continue;
                }
                Err(Silence::Final) => return Err(self.loss()),
            }
            heard = Instant::now();
        }
    }

    /// Whether it can take another job.
    pub(crate) fn is_usable(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn send(&mut self, message: &ToWorker<&Job>) -> Result<(), StageError> {
        let mut line = serde_json::to_vec(message)
            .map_err(|e| StageError::Environment(format!("a job cannot be written: {e}")))?;
        line.push(b'\n');
        let sent = self
            .input
            .write_all(&line)
            .and_then(|()| self.input.flush());
        sent.map_err(|_| self.loss())
    }

    fn kill(&mut self) {
        // It may have ended by itself meanwhile.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The failure of the job at which it was lost. Waits for it to end.
    fn loss(&mut self) -> StageError {
        let ended = self.ended();
        let reason = self.epitaph(&ended);
        match ended {
            Ok(status) if has_crashed(status) => StageError::Crashed(reason),
            _ => StageError::Environment(reason),
        }
    }

    /// How it ended. Waits for that.
    fn ended(&mut self) -> std::io::Result<ExitStatus> {
        self.kill_after(Duration::from_secs(2));
        self.child.wait()
    }

    /// How it ended, for people, with what it said last.
    fn epitaph(&self, ended: &std::io::Result<ExitStatus>) -> String {
        let cause = match ended {
            Ok(status) => describe(*status),
            Err(error) => format!("its end is unknown: {error}"),
        };
        // The process has ended, its last words may still be on their way. A process that it started
        // could hold its standard error open, so the wait has an end.
        let until = Instant::now() + STDERR_PATIENCE;
        while self.listener.as_ref().is_some_and(|l| !l.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let words = self
            .complaints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let words = String::from_utf8_lossy(&words);
        let says = |line: &&str| {
            let line = line.trim();
            !line.is_empty() && !FOOTNOTES.iter().any(|note| line.starts_with(note))
        };
        match words.lines().rev().find(says) {
            Some(line) => format!("its reader {cause}; it said: {}", line.trim()),
            None => format!("its reader {cause}"),
        }
    }

    fn kill_after(&mut self, grace: Duration) {
        let until = Instant::now() + grace;
        while Instant::now() < until {
            if !self.is_usable() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Signals that a process brings upon itself by what it does: SIGILL, SIGTRAP, SIGABRT, SIGFPE and
/// SIGSEGV have these numbers on Linux and macOS. SIGBUS is not among them: a disk that fails under
/// a memory map raises it too.
const ITS_OWN: [i32; 5] = [4, 5, ABORTED, 8, 11];
/// SIGABRT: what Rust's allocator raises when the limit refuses memory.
const ABORTED: i32 = 6;

/// Whether a process crashed by itself. Any other signal comes from somebody else: the system that
/// needs the memory, the user, a limit of time.
fn has_crashed(status: ExitStatus) -> bool {
    status
        .signal()
        .is_some_and(|signal| ITS_OWN.contains(&signal))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (_, Some(ABORTED)) => "gave up (out of memory, or an internal error)".to_owned(),
        (_, Some(9)) => "was killed (by the system for memory, or by hand)".to_owned(),
        (_, Some(signal)) => format!("crashed with signal {signal}"),
        (Some(0), None) => "ended".to_owned(),
        (Some(code), None) => format!("ended with code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn listen(mut errors: impl Read, words: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(n) = errors.read(&mut buffer) {
        if n == 0 {
            return;
        }
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&buffer[..n]);
        if words.len() > 2 * LAST_WORDS {
            let cut = words.len() - LAST_WORDS;
            words.drain(..cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use stage_core::{DeviceChoice, FailureClass, Inputs, Part};

    use super::*;

    struct Deaf;

    impl Attend for Deaf {
        fn event(&mut self, _: Event) {}
        fn interim(&mut self, _: u64, _: PathBuf, _: Tree, _: Vec<String>) -> Result<(), String> {
            Ok(())
        }
    }

    fn job() -> Job {
        Job {
            kind: "read".into(),
            version: 1,
            part: Part::Item,
            params: serde_json::json!({}),
            item: None,
            inputs: Inputs::default(),
            out: "out".into(),
            scratch: None,
            run_dir: None,
            preprocessing: None,
            previous: None,
            files: BTreeMap::new(),
            threads: 1,
            device: DeviceChoice::Auto,
        }
    }

    /// The failure of a job whose worker, a shell, does `ending` when it has heard of it.
    fn failure(ending: &str) -> StageError {
        let script = format!(
            "echo '{{\"hello\":{{\"protocol\":{PROTOCOL},\"class\":\"\",\"kinds\":{{}}}}}}'; read job; {ending}"
        );
        let mut worker = Worker::start(&Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script],
        })
        .unwrap();
        worker.greet().unwrap();
        let patience = Patience {
            silence: Some(Duration::from_secs(1)),
            farewell: Duration::from_secs(1),
        };
        worker
            .perform(&job(), patience, &Cancel::default(), &mut Deaf)
            .unwrap_err()
    }

    #[test]
    fn a_job_is_to_blame_for_what_its_reader_does_and_the_machine_for_the_rest() {
        use FailureClass::{Content, Crashed, Environment};
        let rows = [
            // It hangs.
            ("exec sleep 600", Crashed, "no sign of life"),
            // It crashes.
            ("kill -SEGV $$", Crashed, "crashed with signal 11"),
            ("kill -FPE $$", Crashed, "crashed with signal 8"),
            (
                "echo memory allocation of 9 bytes failed >&2; echo skipping backtrace printing to avoid potential recursion >&2; kill -ABRT $$",
                Crashed,
                "gave up (out of memory, or an internal error); it said: memory allocation",
            ),
            // Somebody else ends it.
            (
                "kill -KILL $$",
                Environment,
                "was killed (by the system for memory, or by hand)",
            ),
            ("kill -TERM $$", Environment, "signal 15"),
            ("kill -BUS $$", Environment, "crashed with signal"),
            ("exit 1", Environment, "ended with code 1"),
            // It says what is wrong.
            (
                "echo '{\"failed\":{\"class\":\"content\",\"reason\":\"no\"}}'; read end",
                Content,
                "no",
            ),
            (
                "echo '{\"failed\":{\"class\":\"crashed\",\"reason\":\"panicked\"}}'; read end",
                Crashed,
                "panicked",
            ),
        ];
        for (ending, class, words) in rows {
            let error = failure(ending);
            assert_eq!(error.class(), class, "{ending}: {error}");
            assert!(error.reason().contains(words), "{ending}: {error}");
        }
    }
}
