//! Repair: what verification finds damaged or missing is made again, and only that.

use std::collections::BTreeSet;

use stage_core::{Cancel, Digest};

use crate::error::EngineError;
use crate::event::Observer;
use crate::session::{Project, Request, Session};
use crate::store::{User, VerifyOptions, VerifyReport};

/// What a repair found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repair {
    /// What was wrong.
    pub found: VerifyReport,
    /// Actions that were done again.
    pub executed: u64,
    /// What could not be made again, as the pipeline does not describe it any more or it failed:
    /// nobody is served it, and it is done anew when it is asked for.
    pub forgotten: Vec<User>,
}

/// Verifies the cache, moves aside what is damaged, does the actions again whose results are gone,
/// and forgets those that `request` over the present pipeline does not reach. Afterwards the cache
/// is whole.
///
/// # Errors
/// The cache cannot be read or written, or a source cannot be read. What is damaged may have been
/// moved aside by then; repair again.
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
    store.set_aside_damage(&repair.found)?;
    let lost = repair.found.lost();
    if lost.is_empty() {
        return Ok(repair);
    }
    repair.executed = remake(project, request, lost.clone(), observer, options.cancel)?;
    if !options.cancel.is_set() {
        repair.forgotten = store.forget(&lost)?;
    }
    Ok(repair)
}

/// Does the actions again that made the objects `lost`; gives their number.
fn remake(
    project: &Project,
    request: Request,
    lost: BTreeSet<Digest>,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<u64, EngineError> {
    let request = Request {
        remake: lost,
        ..request
    };
    let mut session = Session::prepare(project, request, cancel)?;
    if !session.remakes() {
        return Ok(0);
    }
    let summary = session.execute(observer, cancel)?;
    Ok(summary.stages.iter().map(|stage| stage.executed).sum())
}
