//! Writes the records of commits into the tables.
//!
//! Commits may come in any order, as other processes make them: of two records for one row the
//! one with the greater stamp stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::params;
use stage_core::Digest;

use super::{Result, wrong_json};
use crate::store::record::{
    ActionRecord, InterimRecord, Outcome, PinRecord, Record, RunOutcome, RunRecord, StageSettings,
};
use crate::store::{Ulid, row};

/// Folds commits that are not folded yet; gives the number of records.
pub(super) fn fold_commits(
    tx: &rusqlite::Transaction<'_>,
    commits: &[(Ulid, Vec<Record>)],
) -> Result<usize> {
    // Sorted by key, the rows fill one page after the other.
    let mut actions: Vec<([u8; 20], &ActionRecord)> = Vec::new();
    let mut rows = 0;
    let mut name_it = tx.prepare_cached("INSERT OR IGNORE INTO folded(name) VALUES(?1)")?;
    for (name, records) in commits {
        if name_it.execute([name.to_bytes()])? == 0 {
            continue;
        }
        rows += records.len();
        for (number, record) in records.iter().enumerate() {
            let stamp = row::stamp(*name, number);
            match record {
                Record::Action(action) => actions.push((stamp, action)),
                Record::Run(run) => fold_run(tx, run)?,
                Record::Pin(pin) => fold_pin(tx, &stamp, pin)?,
                Record::Interim(interim) => fold_interim(tx, &stamp, interim)?,
            }
        }
    }
    fold_actions(tx, &mut actions)?;
    Ok(rows)
}

fn fold_actions(
    tx: &rusqlite::Transaction<'_>,
    actions: &mut [([u8; 20], &ActionRecord)],
) -> Result<()> {
    let mut put_settings =
        tx.prepare_cached("INSERT OR IGNORE INTO settings(digest, json) VALUES(?1, ?2)")?;
    let mut put = tx.prepare_cached(
        "INSERT INTO actions(key, stamp, body) VALUES(?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET stamp = excluded.stamp, body = excluded.body
         WHERE excluded.stamp > stamp",
    )?;
    let mut put_latest = tx.prepare_cached(
        "INSERT INTO latest(pipeline, stage, part, item, failed, stamp, key, settings, inputs,
                            reason, seconds, bytes, output, run, at)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
         ON CONFLICT DO UPDATE SET
           stamp = excluded.stamp, key = excluded.key, settings = excluded.settings,
           inputs = excluded.inputs, reason = excluded.reason, seconds = excluded.seconds,
           bytes = excluded.bytes, output = excluded.output, run = excluded.run, at = excluded.at
         WHERE excluded.stamp > stamp",
    )?;
    let mut settings_of: BTreeMap<*const StageSettings, Digest> = BTreeMap::new();
    actions.sort_unstable_by_key(|(stamp, action)| (action.key, *stamp));
    for (stamp, action) in actions.iter() {
        let body = row::write_action(action);
        put.execute(params![action.key.0, stamp, body])?;
    }
    let names = |a: &ActionRecord| {
        let settings = &a.settings;
        (
            a.origin.pipeline.clone(),
            settings.stage.clone(),
            settings.part.name(),
            a.item.clone(),
        )
    };
    actions.sort_by_cached_key(|(stamp, action)| (names(action), *stamp));
    for (stamp, action) in actions.iter() {
        let settings = match settings_of.get(&Arc::as_ptr(&action.settings)) {
            Some(digest) => *digest,
            None => {
                let json = serde_json::to_string(&*action.settings).map_err(wrong_json)?;
                let digest = Digest::of(json.as_bytes());
                put_settings.execute(params![digest.0, json])?;
                settings_of.insert(Arc::as_ptr(&action.settings), digest);
                digest
            }
        };
        let (reason, output) = match &action.outcome {
            Outcome::Done(artifact) => (None, artifact.size()),
            Outcome::Failed { reason, .. } => (Some(reason), 0),
        };
        put_latest.execute(params![
            action.origin.pipeline,
            action.settings.stage,
            action.settings.part.name(),
            action.item,
            reason.is_some(),
            stamp,
            action.key.0,
            settings.0,
            row::write_inputs(&action.inputs),
            reason,
            action.seconds,
            action.bytes.cast_signed(),
            output.cast_signed(),
            action.origin.run.to_bytes(),
            action.at.cast_signed(),
        ])?;
    }
    Ok(())
}

fn fold_run(tx: &rusqlite::Transaction<'_>, run: &RunRecord) -> Result<()> {
    let json = serde_json::to_string(run).map_err(wrong_json)?;
    // That a run began says nothing once its end is known.
    let put = if run.outcome == RunOutcome::Started {
        "INSERT OR IGNORE INTO runs(id, json) VALUES(?1, ?2)"
    } else {
        "INSERT OR REPLACE INTO runs(id, json) VALUES(?1, ?2)"
    };
    tx.prepare_cached(put)?
        .execute(params![run.origin.run.to_bytes(), json])?;
    Ok(())
}

fn fold_pin(tx: &rusqlite::Transaction<'_>, stamp: &[u8; 20], pin: &PinRecord) -> Result<()> {
    let json = serde_json::to_string(pin).map_err(wrong_json)?;
    tx.prepare_cached(
        "INSERT INTO pins(run, stamp, json) VALUES(?1, ?2, ?3)
         ON CONFLICT DO UPDATE SET stamp = excluded.stamp, json = excluded.json
         WHERE excluded.stamp > stamp",
    )?
    .execute(params![pin.run.to_bytes(), stamp, json])?;
    Ok(())
}

fn fold_interim(
    tx: &rusqlite::Transaction<'_>,
    stamp: &[u8; 20],
    interim: &InterimRecord,
) -> Result<()> {
    let origin = serde_json::to_string(&*interim.origin).map_err(wrong_json)?;
    tx.prepare_cached(
        "INSERT OR REPLACE INTO interims(pipeline, stage, stamp, origin, key, step, artifact, tree, at)
         VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        interim.origin.pipeline,
        interim.stage,
        stamp,
        origin,
        interim.key.0,
        interim.step.cast_signed(),
        interim.artifact.digest.0,
        interim.artifact.packed(),
        interim.at.cast_signed(),
    ])?;
    Ok(())
}
