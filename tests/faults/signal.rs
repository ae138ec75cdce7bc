//! Signals at random times: SIGKILL, SIGTERM, SIGINT, or SIGSTOP and then SIGKILL, to the process
//! or to its group, while it runs the stages, predicts, repairs damage, collects, verifies or
//! exports; up to three times in a row. `status` answers while the process is stopped.
//!
//! *Passing*: no command hangs or crashes, and everything holds that holds after damage
//! ([`super::damage`]). A second export into the same folder leaves nothing of the first there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use super::case::Row;
use super::harm::Class;
use super::project::{ANOTHER_SEED, Case, Project, State, files};

const ROW: Row = Row {
    name: "signal",
    quick: 6,
    ci: 20,
    nightly: 20_000,
};

/// What is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Command {
    /// The plain run of a project that was never run.
    First,
    /// A run with another seed for the prediction.
    Predict,
    /// A prediction from a model alone, without a pipeline.toml.
    Alone,
    /// The repair of damage.
    Repair,
    Gc,
    Verify,
    Export,
}

const COMMANDS: [Command; 12] = [
    Command::First,
    Command::First,
    Command::First,
    Command::First,
    Command::Predict,
    Command::Alone,
    Command::Repair,
    Command::Repair,
    Command::Gc,
    Command::Verify,
    Command::Export,
    Command::Export,
];

#[test]
fn at_random_times() {
    let project = Project::get();
    let seen = Mutex::new(BTreeMap::new());
    ROW.run(
        |seed| {
            let what = case(project, seed);
            *seen.lock().unwrap().entry(what).or_insert(0) += 1;
        },
        || {
            format!(
                ", interrupted (command, ended by itself): {:?}",
                seen.lock().unwrap()
            )
        },
    );
}

fn case(project: &Project, seed: u64) -> (Command, bool) {
    let mut rng = ROW.rng(seed);
    let command = COMMANDS[rng.random_range(0..COMMANDS.len())];
    let state = match command {
        Command::First | Command::Alone => None,
        Command::Predict => Some(State::Clean),
        _ => Some(State::Whole),
    };
    let mut case = Case::new(project, state);
    if command == Command::Alone {
        return (command, alone(&mut case, &mut rng));
    }
    if command == Command::Repair {
        for _ in 0..rng.random_range(1..4) {
            let class = [Class::Object, Class::Object, Class::Commit][rng.random_range(0..3)];
            case.harm_class(class, &mut rng);
        }
    }
    let exported = case.outside().join("exported");
    let stages = project.stages();
    let stage = stages[rng.random_range(0..stages.len())];
    let export = project.export(stage, exported.to_str().unwrap());
    let (args, usual) = match command {
        Command::First | Command::Alone => (project.plain(), project.whole),
        Command::Predict => {
            let mut args = project.plain();
            args.extend(ANOTHER_SEED);
            (args, project.whole / 4)
        }
        Command::Repair => {
            // To make a model again takes long, most others are made in a moment.
            let share = [2, 10, 10][rng.random_range(0..3)];
            (project.repair(), project.whole / share)
        }
        Command::Gc => (vec!["gc", "--keep-runs", "1", "--min-age", "0"], SHORT),
        Command::Verify => (vec!["verify"], SHORT),
        Command::Export => (export.clone(), SHORT),
    };
    let mut ended = true;
    for _ in 0..[1, 1, 2, 3][rng.random_range(0..4)] {
        ended &= interrupt(&mut case, &args, usual, &mut rng);
    }
    let end = case.recover();
    case.story.push(format!("{end:?}"));
    if command == Command::Export {
        case.run(&export).succeeds("the same export again");
        let fresh = case.outside().join("fresh");
        case.run(&project.export(stage, fresh.to_str().unwrap()))
            .succeeds("another export");
        assert_eq!(
            files(&exported),
            files(&fresh),
            "{} in the same folder",
            export.join(" ")
        );
    }
    (command, ended)
}

/// Interrupts a prediction from a model alone; the next gives the same files.
fn alone(case: &mut Case<'_>, rng: &mut ChaCha8Rng) -> bool {
    let project = case.project;
    if !project.torch {
        return true;
    }
    std::fs::remove_file(case.place().join("pipeline.toml")).unwrap();
    let args = project.predict_alone();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = interrupt(case, &args, project.whole / 4, rng);
    case.run(&args).succeeds("after the signal");
    assert_eq!(files(&case.place().join("out")), project.alone, "out/");
    ended
}

/// How long the commands take that make nothing.
const SHORT: Duration = Duration::from_millis(60);

/// Runs a command and sends it a signal at a random time. Whether it ended by itself before.
fn interrupt(case: &mut Case<'_>, args: &[&str], usual: Duration, rng: &mut ChaCha8Rng) -> bool {
    let group = rng.random();
    let kind = rng.random_range(0..8);
    let running = case.start(args);
    let wait = usual.mul_f64(rng.random_range(0.0..1.1));
    std::thread::sleep(wait);
    let (name, signal) = match kind {
        0..4 => ("SIGKILL", Signal::KILL),
        4 => ("SIGTERM", Signal::TERM),
        5 => ("SIGINT", Signal::INT),
        _ => {
            running.send(Signal::STOP, group);
            if rng.random() {
                // A process that is stopped keeps its locks.
                case.run(&["status"]);
            }
            ("SIGSTOP, SIGKILL", Signal::KILL)
        }
    };
    running.send(signal, group);
    let ran = case.finish(running);
    let whom = if group { "group" } else { "process" };
    case.story.push(format!(
        "{name} to the {whom} of `{}` after {wait:.3?} ({})",
        ran.words, ran.code
    ));
    ran.code == 0
}
