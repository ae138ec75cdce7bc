//! Damage to a cache and to `out/` at rest.
//!
//! One to four files or folders are harmed: a bit flipped (the time put back), cut, emptied,
//! zeroed, filled with garbage, extended, deleted, replaced by a folder, a link or a named pipe,
//! made unreadable, swapped with another of its class, put back from an earlier state, or given
//! something foreign beside it.
//!
//! *Passing*: no command hangs, crashes or gives wrong bytes. The plain run succeeds and `out/`
//! is as in the clean build. An export gives the right bytes, or refuses what is damaged or missing;
//! then the next plain run makes it again, and every export is right. After `repair`, `verify` finds
//! nothing, and the plain run does nothing. Commits record of every action of the clean build just what it gave there. What
//! is not the program's stays as it is. Where the user has to clear something away (a folder in
//! place of a lock, a damaged `format`), the command names it, and all this holds once it is gone.

use std::collections::BTreeMap;
use std::sync::Mutex;

use rand::RngExt;

use super::case::Row;
use super::project::{Case, Project, State};

const ROW: Row = Row {
    name: "damage",
    quick: 6,
    ci: 20,
    nightly: 20_000,
};

#[test]
fn to_a_cache_at_rest() {
    let project = Project::get();
    let ends = Mutex::new(BTreeMap::new());
    ROW.run(
        |seed| {
            let mut rng = ROW.rng(seed);
            let mut case = Case::new(project, Some(State::Whole));
            if rng.random() {
                // Then the index vouches for this very copy.
                case.run(&project.plain()).succeeds("undamaged");
                case.story.push("run".to_owned());
            }
            let more = rng.random_range(0..10) >= 7;
            for _ in 0..if more { rng.random_range(2..5) } else { 1 } {
                case.harm(&mut rng);
            }
            // Others may come upon the damage first. They may say so, too.
            let first: &[&[&str]] = &[&["status"], &["verify"], &["repair"], &["gc"], &["cache"]];
            if let Some(args) = first.get(rng.random_range(0..10)) {
                let ran = case.run(args);
                case.story.push(format!("{} ({})", ran.words, ran.code));
            }
            let end = case.recover();
            *ends.lock().unwrap().entry(end).or_insert(0) += 1;
        },
        || format!(": {:?}", ends.lock().unwrap()),
    );
}
