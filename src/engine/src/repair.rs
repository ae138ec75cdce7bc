//! Repair: what verification finds damaged or missing is made again, and only that.

use std::collections::BTreeSet;

use stage_core::{Cancel, Digest};

use crate::error::EngineError;
use crate::event::Observer;
use crate::session::{Project, Request, Session};
use crate::store::{Scope, User, VerifyOptions, VerifyReport};

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub found: VerifyReport,
    /// Actions that were done again.
    pub executed: u64,
    /// What was not made again, as the pipeline does not describe it any more or it failed: it is
    /// done anew when it is asked for.
    pub forgotten: Vec<User>,
}

/// Verifies the cache, forgets the actions whose results are damaged or missing, moves aside what
/// is damaged, and does those actions again that `request` over the present pipeline reaches.
/// Afterwards the cache is whole.
///
/// The records go first. A repair that is cut short leaves nothing that is named and not there; the
/// next run makes what it wants.
///
/// # Errors
/// The cache cannot be read or written, or a source cannot be read. What is damaged may have been
/// forgotten and moved aside by then.
pub fn repair(
    project: &Project,
    request: Request,
    options: &VerifyOptions<'_>,
    observer: &dyn Observer,
) -> Result<Repair, EngineError> {
    let store = &project.store;
    let mut repair = Repair {
        found: store.verify(options)?,
        ..Repair::default()
    };
    if repair.found.is_clean() && repair.found.strays.is_empty() {
        return Ok(repair);
    }
    let lost = repair.found.lost();
    if lost.is_empty() {
        store.set_aside_damage(&repair.found)?;
        return Ok(repair);
    }
    let makers = store.forget(&lost, Scope::Makers)?.actions;
    store.set_aside_damage(&repair.found)?;
    let keys = makers.keys().copied().collect();
    repair.executed = remake(project, request, keys, observer, options.cancel)?;
    if options.cancel.is_set() {
        return Ok(repair);
    }
    let rest = store.forget(&lost, Scope::All)?;
    let keys: Vec<Digest> = makers.keys().copied().collect();
    let made = store.lookup_many(&keys)?;
    let not_made = makers.values().zip(made).filter(|(_, made)| made.is_none());
    let not_made = not_made.flat_map(|(users, _)| users);
    let mut forgotten = rest.others;
    forgotten.extend(rest.actions.values().flatten().cloned());
    forgotten.extend(not_made.cloned());
    repair.forgotten = forgotten.into_iter().collect();
    Ok(repair)
}

/// Does the actions `keys` again, as far as `request` reaches them; gives their number.
fn remake(
    project: &Project,
    request: Request,
    keys: BTreeSet<Digest>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<u64, EngineError> {
    if keys.is_empty() {
        return Ok(0);
    }
    let request = Request {
        only: Some(keys),
        ..request
    };
    let mut session = Session::prepare(project, request, cancel)?;
    if !session.has_work() {
        return Ok(0);
    }
    let summary = session.execute(observer, cancel)?;
    Ok(summary.stages.iter().map(|stage| stage.executed).sum())
}
