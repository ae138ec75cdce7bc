//! Collection of what nothing needs any more.
//!
//! Under the closed gate ([`super::gate`]): the leases are read, the records surveyed
//! ([`super::survey`]), the records that go are withdrawn, and the objects that only they named
//! are moved to the trash. In this order: a crash at any step leaves objects that nothing refers
//! to, never a record of what is not there. Then the gate opens, and what is in the trash is
//! unlinked. The next collection finishes what one that was cut short left.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::time::Duration;

use stage_core::Digest;

use super::error::{Result, StoreError, is_read_only};
use super::fold::IfUnreadable;
use super::survey::{ALWAYS, DEAD, Fate, Owner, Roots, StageName, Survey};
use super::{Holder, Inner, Store, Ulid, lease, now_millis, sweep};
use crate::fs::{self, Nanos};

/// How far ahead of the clock a time may lie. What lies further ahead was stamped by a clock that
/// was wrong: it says nothing of an age, and must not keep a thing young for years.
const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// What a collection keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcOptions {
    /// The last so many runs are kept, of each kind: of the same pipeline and the same stages. With
    /// any, the newest result of every stage that takes a whole set is kept as well.
    pub keep_runs: usize,
    /// The oldest runs that are not pinned go until the objects have at most so many bytes.
    pub max_size: Option<u64>,
    /// What is younger is kept.
    pub min_age: Duration,
    /// Whether nothing is changed.
    pub dry_run: bool,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            keep_runs: 10,
            max_size: None,
            min_age: Duration::from_secs(600),
            dry_run: false,
        }
    }
}

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes together.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Objects of one stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageAmount {
    /// Kept.
    pub kept: Amount,
    /// Freed.
    pub freed: Amount,
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Objects by the only stage that made them.
    pub stages: BTreeMap<StageName, StageAmount>,
    /// Objects that several stages made.
    pub shared: StageAmount,
    /// Objects of no stage: files of parameters, lists of runs, what a crash left.
    pub other: StageAmount,
    /// Of what is kept, how much only because it is young.
    pub young: Amount,
    /// Runs whose artifacts are kept.
    pub runs_kept: usize,
    /// Of them, pinned ones.
    pub pinned: usize,
    /// Runs whose artifacts are no longer kept for their sake.
    pub runs_dropped: Vec<Ulid>,
    /// Runs whose list of artifacts is damaged: everything that their pipelines recorded until then
    /// is kept.
    pub runs_unreadable: Vec<Ulid>,
    /// Bytes of what is kept in any case, if that alone exceeds the size that was asked for.
    pub exceeds: Option<u64>,
    /// Records that were withdrawn.
    pub records: u64,
    /// Folders of work that nobody takes up again.
    pub scratch: Amount,
    /// Files in the trash and of dead processes.
    pub litter: Amount,
}

impl GcReport {
    /// All objects together.
    pub fn total(&self) -> StageAmount {
        let mut total = StageAmount::default();
        let all = self.stages.values().chain([&self.shared, &self.other]);
        for amount in all {
            for (sum, part) in [
                (&mut total.kept, amount.kept),
                (&mut total.freed, amount.freed),
            ] {
                sum.count += part.count;
                sum.bytes += part.bytes;
            }
        }
        total
    }
}

/// An object in place.
struct Found {
    digest: Digest,
    size: u64,
    young: bool,
}

/// The times, in milliseconds since 1970, that are less than `age` ago by the machine's clock.
fn young_by_clock(age: Duration) -> Range<u64> {
    if age.is_zero() {
        // Without an age to keep, "now" is old already.
        return 0..0;
    }
    let now = Duration::from_millis(now_millis());
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    millis(now.saturating_sub(age))..millis(now.saturating_add(AHEAD))
}

impl Store {
    /// Frees what nothing needs any more; safe beside every other process.
    ///
    /// # Errors
    /// Another collection is under way ([`StoreError::Collecting`]), the cache is read-only, or a
    /// file cannot be read, written or moved. Nothing that is needed is lost then.
    pub fn gc(&self, options: &GcOptions) -> Result<GcReport> {
        let inner = self.inner();
        if options.dry_run {
            let plan = inner.plan(options, IfUnreadable::Refuse)?;
            return inner.report(options, &plan);
        }
        self.flush()?;
        let path = inner.layout.claims.join(sweep::COLLECTION);
        let mut other = None;
        let mut busy = |holder: Option<&Holder>| {
            other = holder.cloned();
            ControlFlow::Break(())
        };
        let claim = inner.lease()?.claim(&path, &mut busy);
        let _one = claim.map_err(|error| match error {
            StoreError::Cancelled => StoreError::Collecting {
                pid: other.map_or(0, |holder| holder.pid),
            },
            error => error,
        })?;
        let (mut report, moved) = inner.collect(options)?;
        inner.empty_trash(options, &moved, &mut report)?;
        Ok(report)
    }
}

/// What is there, and what is to go.
pub(super) struct Plan {
    survey: Survey,
    found: Vec<Found>,
    /// Everything above this level goes.
    cut: u32,
    exceeds: Option<u64>,
}

impl Plan {
    fn level(&self, object: &Found) -> u32 {
        let mark = self.survey.objects.get(&object.digest);
        let level = mark.map_or(DEAD, |mark| mark.level);
        if self.survey.holds(object.digest) {
            ALWAYS
        } else {
            level
        }
    }

    fn goes(&self, object: &Found) -> bool {
        !object.young && self.level(object) > self.cut
    }
}

impl Inner {
    /// Decides under the closed gate; gives the names of what was moved to the trash.
    fn collect(&self, options: &GcOptions) -> Result<(GcReport, HashSet<String>)> {
        let closed = self.close()?;
        let plan = self.plan(options, IfUnreadable::Refuse)?;
        let mut report = self.report(options, &plan)?;
        let rewritten =
            self.rewrite(&closed, IfUnreadable::Refuse, &mut |at, record| match plan
                .survey
                .fate(at, &record, plan.cut)
            {
                Fate::Keep => Some(record),
                Fate::Change(record) => Some(record),
                Fate::Drop => None,
            })?;
        report.records = rewritten.dropped;
        let mut moved = HashSet::new();
        for object in plan.found.iter().filter(|object| plan.goes(object)) {
            moved.extend(self.objects.set_aside(object.digest)?);
        }
        self.drop_scratch(&plan, options, &mut report)?;
        drop(closed);
        if rewritten.removed > 0 {
            self.refold()?;
        }
        Ok((report, moved))
    }

    pub(super) fn plan(&self, options: &GcOptions, unreadable: IfUnreadable) -> Result<Plan> {
        let leases = lease::living(&*self.fs, &self.layout)?;
        let held = leases.into_iter().flat_map(|lease| lease.digests);
        let roots = Roots {
            keep_runs: options.keep_runs,
            young: young_by_clock(options.min_age),
            held: held.collect(),
        };
        let survey = self.survey(roots, unreadable)?;
        let found = self.find_objects(options.min_age)?;
        let mut plan = Plan {
            survey,
            found,
            cut: DEAD - 1,
            exceeds: None,
        };
        if let Some(most) = options.max_size {
            self.fit(&mut plan, most);
        }
        Ok(plan)
    }

    /// Lowers the cut until what is kept fits into `most` bytes.
    fn fit(&self, plan: &mut Plan, most: u64) {
        let mut sizes = vec![0_u64; plan.survey.ranked.len()];
        for object in &plan.found {
            let level = if object.young {
                ALWAYS
            } else {
                plan.level(object)
            };
            if let Some(size) = sizes.get_mut(level as usize) {
                *size += object.size;
            }
        }
        let mut sum = 0;
        for (level, size) in sizes.into_iter().enumerate() {
            sum += size;
            if sum > most {
                let level = u32::try_from(level).unwrap_or(DEAD);
                plan.exceeds = (level == ALWAYS).then_some(sum);
                plan.cut = level.saturating_sub(1);
                return;
            }
        }
    }

    /// All objects in place.
    fn find_objects(&self, min_age: Duration) -> Result<Vec<Found>> {
        let young = self.young(min_age)?;
        let mut found = Vec::new();
        for digest in self.objects.list()? {
            let path = self.objects.path(digest);
            let stat = match self.fs.lstat(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                stat => stat.map_err(StoreError::io("read", &path))?,
            };
            found.push(Found {
                digest,
                size: stat.size,
                young: young.contains(&stat.ctime),
            });
        }
        Ok(found)
    }

    /// The times at which files are younger than `min_age`, by the clock that stamps them.
    fn young(&self, min_age: Duration) -> Result<Range<Nanos>> {
        if min_age.is_zero() {
            return Ok(0..0);
        }
        let nanos = |time: Duration| Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX);
        let trash = &self.layout.trash;
        let now = match self.fs.now(trash) {
            Err(error) if is_read_only(&error) => {
                let now = Nanos::try_from(now_millis()).unwrap_or(0);
                now.saturating_mul(1_000_000)
            }
            now => now.map_err(StoreError::io("ask for the time in", trash))?,
        };
        Ok(now.saturating_sub(nanos(min_age))..now.saturating_add(nanos(AHEAD)))
    }

    pub(super) fn report(&self, options: &GcOptions, plan: &Plan) -> Result<GcReport> {
        let survey = &plan.survey;
        let mut report = GcReport {
            exceeds: plan.exceeds,
            runs_unreadable: survey.unreadable.clone(),
            ..GcReport::default()
        };
        for (id, run) in &survey.runs {
            let kept = survey.run_levels.get(id).is_some_and(|l| *l <= plan.cut);
            let pinned = survey.pins.get(id).is_some_and(|pin| pin.pinned);
            if kept {
                report.runs_kept += 1;
                report.pinned += usize::from(pinned);
            } else if !run.collected {
                report.runs_dropped.push(*id);
            }
        }
        let mut stages: HashMap<u32, StageAmount> = HashMap::new();
        for object in &plan.found {
            let mark = survey.objects.get(&object.digest);
            let amount = match mark.map_or(Owner::None, |mark| mark.owner) {
                Owner::None => &mut report.other,
                Owner::Several => &mut report.shared,
                Owner::Stage(number) => stages.entry(number).or_default(),
            };
            if plan.goes(object) {
                amount.freed.add(object.size);
            } else {
                amount.kept.add(object.size);
                if plan.level(object) > plan.cut {
                    report.young.add(object.size);
                }
            }
        }
        let named = stages.into_iter().filter_map(|(number, amount)| {
            let name = survey.stages.get(number as usize)?;
            Some((name.clone(), amount))
        });
        report.stages = named.collect();
        if options.dry_run {
            self.each_record(IfUnreadable::PassOver, &mut |at, record| {
                let fate = survey.fate(at, &record, plan.cut);
                report.records += u64::from(fate == Fate::Drop);
                Ok(())
            })?;
            for (_, bytes) in self.idle_scratch(plan, options)? {
                report.scratch.add(bytes);
            }
        }
        Ok(report)
    }

    fn drop_scratch(&self, plan: &Plan, options: &GcOptions, report: &mut GcReport) -> Result<()> {
        for (name, bytes) in self.idle_scratch(plan, options)? {
            let claim = self.layout.claims.join(format!("{name}.scratch"));
            let mut busy = |_: Option<&Holder>| ControlFlow::Break(());
            let _claim = match self.lease()?.claim(&claim, &mut busy) {
                Err(StoreError::Cancelled) => continue,
                claim => claim?,
            };
            let path = self.layout.scratch.join(&name);
            fs::remove_dir_all(&*self.fs, &path).map_err(StoreError::io("remove", &path))?;
            let owner = self.layout.scratch.join(format!("{name}.owner"));
            fs::gone_is_fine(self.fs.remove_file(&owner))
                .map_err(StoreError::io("remove", &owner))?;
            report.scratch.add(bytes);
        }
        Ok(())
    }

    /// Folders of work that no kept run used last, with their bytes.
    fn idle_scratch(&self, plan: &Plan, options: &GcOptions) -> Result<Vec<(String, u64)>> {
        let dir = &self.layout.scratch;
        let young = self.young(options.min_age)?;
        let entries = sweep::entries(&*self.fs, dir)?;
        let mut idle = Vec::new();
        for entry in entries.iter().filter(|entry| sweep::is_scratch(entry)) {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            let path = dir.join(name);
            let extent = fs::extent(&*self.fs, &path).map_err(StoreError::io("read", &path))?;
            let owner = dir.join(format!("{name}.owner"));
            let owner = fs::read(&*self.fs, &owner, 64 * 1024).unwrap_or_default();
            let owner: Holder = serde_json::from_slice(&owner).unwrap_or_default();
            let kept = match owner.run {
                Some(run) => plan.survey.level_of_run(run) <= plan.cut,
                None => plan
                    .survey
                    .has_kept_since(&owner.pipeline, plan.cut, extent.touched),
            };
            if !kept && !young.contains(&extent.touched) {
                idle.push((name.to_owned(), extent.bytes));
            }
        }
        idle.sort_unstable();
        Ok(idle)
    }

    /// Unlinks what was moved to the trash, now or long ago, and what dead processes left.
    fn empty_trash(
        &self,
        options: &GcOptions,
        moved: &HashSet<String>,
        report: &mut GcReport,
    ) -> Result<()> {
        sweep::tmp(&*self.fs, &self.layout)?;
        sweep::claims(&*self.fs, &self.layout)?;
        let young = self.young(options.min_age)?;
        let dir = &self.layout.trash;
        let entries = sweep::entries(&*self.fs, dir)?;
        for entry in entries.into_iter().filter(sweep::is_trash) {
            let path = dir.join(&entry.name);
            let ours = entry.name.to_str().is_some_and(|name| moved.contains(name));
            let Ok(stat) = self.fs.lstat(&path) else {
                continue;
            };
            if !ours && young.contains(&stat.ctime) {
                continue;
            }
            fs::gone_is_fine(self.fs.remove_file(&path))
                .map_err(StoreError::io("remove", &path))?;
            if !ours {
                report.litter.add(stat.size);
            }
        }
        Ok(())
    }
}
