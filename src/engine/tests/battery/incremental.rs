//! Incremental equals clean (Shake's idea): after each step of a random script of edits, a run
//! over the cache of all earlier steps.
//!
//! *Passing*: what is told is what an oracle computes without the engine; the executed actions are
//! exactly the oracle's minimum, each once, with early cut-off, reverts, renames, duplicates, bad
//! files and parameters that some part does not read; every file of every artifact equals that of
//! a clean build into an empty cache, byte for byte; and a run that is known to find nothing to do
//! would have found nothing.

use std::collections::{BTreeMap, BTreeSet};

use engine::Request;
use engine::store::StoreOptions;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::case::Row;
use super::oracle::{PROMPT, World};
use super::toy::{Toy, run_project};

const ROW: Row = Row {
    name: "incremental",
    quick: 25,
    ci: 1_000,
    nightly: 50_000,
};

/// Most steps of a script.
const STEPS: usize = 20;

#[test]
fn random_scripts() {
    ROW.run(script, || "");
}

fn script(seed: u64) {
    let mut rng = ROW.rng(seed);
    let mut world = World::new(&[]);
    for _ in 0..rng.random_range(0..5) {
        add(&mut world, &mut rng);
    }
    // Each step begins from a note that nothing was to do, if states can vouch for that.
    let toy = Toy {
        old: true,
        ..Toy::coded(&[])
    };
    world.put(&toy, &World::new(&[]));
    let mut known = BTreeSet::new();
    let mut past = vec![world.clone()];
    let steps = rng.random_range(2..=STEPS);
    for step in 0..steps {
        let said = check(&toy, &world, &mut known, &mut rng, step + 1 == steps);
        if let Err(text) = said {
            panic!("step {step}: {text}\n{world:#?}");
        }
        let before = world.clone();
        for _ in 0..rng.random_range(1..3) {
            edit(&mut world, &past, &mut rng);
        }
        toy.tick();
        world.put(&toy, &before);
        past.push(world.clone());
    }
}

fn check(
    toy: &Toy,
    world: &World,
    known: &mut BTreeSet<String>,
    rng: &mut ChaCha8Rng,
    last: bool,
) -> Result<(), String> {
    let expected = world.expect(known);
    let settings = world.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let request = |jobs| Request {
        jobs,
        bindings: match world.prompt {
            Some(_) => BTreeMap::from([("prompt".to_owned(), toy.dir.path().join(PROMPT))]),
            None => BTreeMap::new(),
        },
        ..Request::default()
    };
    let jobs = rng.random_range(1..5);
    let run = toy.run_with(&settings, request(jobs));
    world.check_work(&run.executed, &expected.work);
    let told = expected.told.unwrap_or_default();
    // Without the telling, the sum is what the run shows.
    if !told.is_empty() && run.result != told {
        return Err(format!("told {:?}, expected {told:?}", run.result));
    }
    let again = toy.run_with(&settings, request(jobs));
    if !again.executed.is_empty() || again.everything != run.everything {
        return Err(format!("once more: {:?}", again.executed));
    }
    if !toy.is_settled(&settings, &request(jobs)) {
        return Err("nothing was noted of a run that had nothing to do".to_owned());
    }
    if last || rng.random_range(0..4) == 0 {
        let cache = toy.dir.path().join("clean");
        let options = StoreOptions::new(|warning| panic!("{warning}"));
        let project = toy.open(&cache, options, &settings).unwrap();
        let clean = run_project(&project, request(1));
        drop(project);
        std::fs::remove_dir_all(&cache).unwrap();
        if clean.everything != run.everything {
            return Err("other bytes than a clean build".to_owned());
        }
    }
    Ok(())
}

const NAMES: [&str; 8] = [
    "a.txt",
    "b.txt",
    "c.txt",
    "d/a.txt",
    "d/b.txt",
    "e/f/g.txt",
    "z.txt",
    "é.txt",
];

fn text(rng: &mut ChaCha8Rng) -> String {
    const WORDS: [&str; 6] = ["do", "re", "mi", "fa", "sol la", ""];
    let tag = match rng.random_range(0..4) {
        0 => format!("# tag {}\n", rng.random_range(0..3)),
        _ => String::new(),
    };
    let bad = if rng.random_range(0..25) == 0 {
        "bad "
    } else {
        ""
    };
    let words = (0..rng.random_range(0..4)).map(|_| WORDS[rng.random_range(0..WORDS.len())]);
    let words: Vec<_> = words.collect();
    format!("{tag}{bad}{}", words.join(" "))
}

fn add(world: &mut World, rng: &mut ChaCha8Rng) {
    let name = NAMES[rng.random_range(0..NAMES.len())].to_owned();
    let text = text(rng);
    world.files.insert(name, text);
}

/// One edit, as a user would make it.
fn edit(world: &mut World, past: &[World], rng: &mut ChaCha8Rng) {
    let names: Vec<String> = world.files.keys().cloned().collect();
    let some = |rng: &mut ChaCha8Rng| match names.len() {
        0 => None,
        n => Some(names[rng.random_range(0..n)].clone()),
    };
    match rng.random_range(0..14) {
        0 | 1 => add(world, rng),
        2 => {
            if let Some(name) = some(rng) {
                world.files.remove(&name);
            }
        }
        // Rename, perhaps over another.
        3 => {
            if let Some(name) = some(rng) {
                let text = world.files.remove(&name).unwrap();
                let to = NAMES[rng.random_range(0..NAMES.len())];
                world.files.insert(to.to_owned(), text);
            }
        }
        // Duplicate.
        4 => {
            if let Some(name) = some(rng) {
                let text = world.files[&name].clone();
                let to = NAMES[rng.random_range(0..NAMES.len())];
                world.files.insert(to.to_owned(), text);
            }
        }
        5 | 6 => {
            if let Some(name) = some(rng) {
                world.files.insert(name, text(rng));
            }
        }
        // Another tag on the same body.
        7 => {
            if let Some(name) = some(rng) {
                let text = format!("# {}\n{}", rng.random_range(0..9), world.files[&name]);
                world.files.insert(name, text);
            }
        }
        // Back to an earlier state, files or parameters or all of it.
        8 => *world = past[rng.random_range(0..past.len())].clone(),
        9 => {
            let then = &past[rng.random_range(0..past.len())];
            world.files = then.files.clone();
        }
        10 => {
            world.prompt = match rng.random_range(0..2) {
                0 => None,
                _ => Some(text(rng)),
            }
        }
        11 => match rng.random_range(0..2) {
            0 => world.upper ^= true,
            _ => world.limit = rng.random_range(0..3),
        },
        12 => match rng.random_range(0..5) {
            0 => world.letters ^= true,
            3 => world.reverse ^= true,
            4 => world.between = [" ", "-"][rng.random_range(0..2)].to_owned(),
            1 => world.folders ^= true,
            _ => world.unit = ["", "notes"][rng.random_range(0..2)].to_owned(),
        },
        _ => match rng.random_range(0..2) {
            0 => world.times = rng.random_range(1..3),
            _ => world.mark = ["!", "?"][rng.random_range(0..2)].to_owned(),
        },
    }
}
