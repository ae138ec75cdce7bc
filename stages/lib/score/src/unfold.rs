//! The order in which measures are played: repeats, endings, da capo, dal segno,
//! coda and fine.
//!
//! Repeats nest: a repeat end answers the innermost open repeat start, or the
//! place after the last finished section where none is open. An ending is
//! played on the passes that it names; after a jump back repeats are not taken
//! and the last ending is played, unless the jump says otherwise
//! (`forward-repeat` of MusicXML). Each jump back is taken once.

use std::collections::{HashMap, HashSet};

use crate::error::{Result, ScoreError};
use crate::limits::{MAX_MEASURES, MAX_PLAYED_MEASURES};
use crate::model::{Measure, Score, Ticks};

/// A stretch of written music played without a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// First written tick.
    pub(crate) start: Ticks,
    /// First written tick no longer played; `Ticks::MAX` in the last run that
    /// reaches the end of the score, so that nothing there is cut off.
    pub(crate) end: Ticks,
    /// Played tick of `start`.
    pub(crate) onset: Ticks,
}

impl Run {
    /// What to add to a written tick to have the played one.
    pub(crate) fn shift(&self) -> Ticks {
        self.onset.saturating_sub(self.start)
    }
}

/// The runs of a score in the order played; one that covers everything where
/// there are no measures.
pub(crate) fn runs(score: &Score) -> Result<Vec<Run>> {
    let whole = Run {
        start: 0,
        end: Ticks::MAX,
        onset: 0,
    };
    if score.measures.is_empty() {
        return Ok(vec![whole]);
    }
    let order = play_order(&score.measures)?;
    let mut runs: Vec<Run> = Vec::new();
    let mut played: Ticks = 0;
    for &index in &order {
        let Some(measure) = score.measures.get(index) else {
            continue;
        };
        let end = measure.onset.saturating_add(measure.length);
        match runs.last_mut() {
            Some(run) if run.end == measure.onset => run.end = end,
            _ => runs.push(Run {
                start: measure.onset,
                end,
                onset: played,
            }),
        }
        played = played.saturating_add(measure.length);
    }
    // Notes of MIDI files may outlast the last barline.
    if order.last() == Some(&(score.measures.len() - 1))
        && let Some(run) = runs.last_mut()
    {
        run.end = Ticks::MAX;
    }
    Ok(runs)
}

/// A repeated section being played.
struct Section {
    start: usize,
    pass: u32,
}

/// Indices of the measures in the order played.
pub(crate) fn play_order(measures: &[Measure]) -> Result<Vec<usize>> {
    let groups = ending_groups(measures);
    let targets = Targets::new(measures);
    let mut order = Vec::with_capacity(measures.len().min(MAX_MEASURES));
    let mut sections: Vec<Section> = Vec::new();
    let mut implicit_start = 0;
    let mut taken: HashSet<usize> = HashSet::new();
    let (mut jumped, mut replay) = (false, true);
    let mut steps = 0_usize;
    let mut index = 0;
    while let Some(measure) = measures.get(index) {
        steps += 1;
        if steps > 2 * MAX_PLAYED_MEASURES || order.len() >= MAX_PLAYED_MEASURES {
            return Err(ScoreError::TooLarge {
                what: "number of measures with repeats",
                place: format!("the piece, at measure `{}`", measure.number),
                got: steps as u64,
                limit: MAX_PLAYED_MEASURES as u64,
            });
        }
        if measure.repeat_start && sections.last().is_none_or(|s| s.start != index) {
            sections.push(Section {
                start: index,
                pass: 1,
            });
        }
        let group = groups.get(index).copied().flatten();
        if let (Some(group), Some(ending)) = (group, &measure.ending) {
            if sections.is_empty() {
                sections.push(Section {
                    start: implicit_start,
                    pass: 1,
                });
            }
            let pass = sections.last().map_or(1, |s| s.pass);
            // A lone first ending is for the first pass: there is a second one.
            let wanted = if replay { pass } else { group.last_pass.max(2) };
            if !ending.numbers.contains(&wanted) {
                if index == group.end {
                    // No ending was for this pass: the section is over all the same.
                    sections.pop();
                    implicit_start = index + 1;
                }
                index += 1;
                continue;
            }
        }
        order.push(index);
        if measure.jumps.fine && jumped {
            break;
        }
        if let Some(label) = &measure.jumps.to_coda
            && jumped
            && let Some(target) = targets.coda(label, index)
        {
            sections.clear();
            implicit_start = target;
            replay = true;
            index = target;
            continue;
        }
        if let Some(times) = measure.repeat_end {
            if replay {
                if sections.is_empty() {
                    sections.push(Section {
                        start: implicit_start,
                        pass: 1,
                    });
                }
                let passes = times.max(group.map_or(1, |g| g.last_pass));
                if let Some(section) = sections.last_mut()
                    && section.pass < passes
                {
                    section.pass += 1;
                    index = section.start;
                    continue;
                }
            }
            sections.pop();
            implicit_start = index + 1;
        } else if group.is_some_and(|g| g.end == index) {
            sections.pop();
            implicit_start = index + 1;
        }
        let back = if measure.jumps.da_capo {
            Some(0)
        } else {
            measure
                .jumps
                .dal_segno
                .as_ref()
                .and_then(|label| targets.segno(label, index))
        };
        if let Some(target) = back
            && taken.insert(index)
        {
            sections.clear();
            implicit_start = target;
            jumped = true;
            replay = measure.jumps.forward_repeat;
            index = target;
            continue;
        }
        index += 1;
    }
    Ok(order)
}

/// Adjacent endings that belong to one section.
#[derive(Clone, Copy)]
struct Group {
    /// Highest pass of any bracket.
    last_pass: u32,
    /// Index of the last measure.
    end: usize,
}

/// The group of every measure. A bracket whose numbers do not go beyond those
/// before it begins another group: an inner section is over, an outer one ends.
fn ending_groups(measures: &[Measure]) -> Vec<Option<Group>> {
    let mut groups = vec![None; measures.len()];
    let mut begin = 0;
    while begin < measures.len() {
        let mut last_pass = 0;
        let mut end = begin;
        while let Some(ending) = measures.get(end).and_then(|m| m.ending.as_ref()) {
            let lowest = ending.numbers.iter().min().copied().unwrap_or(1);
            if ending.first && end > begin && lowest <= last_pass {
                break;
            }
            last_pass = last_pass.max(ending.numbers.iter().max().copied().unwrap_or(1));
            end += 1;
        }
        for group in groups.iter_mut().take(end).skip(begin) {
            *group = Some(Group {
                last_pass,
                end: end - 1,
            });
        }
        begin = end.max(begin + 1);
    }
    groups
}

/// Where the labels of segno and coda signs are.
struct Targets<'a> {
    segnos: HashMap<&'a str, usize>,
    codas: HashMap<&'a str, usize>,
    all_segnos: Vec<usize>,
    all_codas: Vec<usize>,
}

impl<'a> Targets<'a> {
    fn new(measures: &'a [Measure]) -> Self {
        let mut targets = Self {
            segnos: HashMap::new(),
            codas: HashMap::new(),
            all_segnos: Vec::new(),
            all_codas: Vec::new(),
        };
        for (index, measure) in measures.iter().enumerate() {
            if let Some(label) = &measure.jumps.segno {
                targets.segnos.entry(label).or_insert(index);
                targets.all_segnos.push(index);
            }
            if let Some(label) = &measure.jumps.coda {
                targets.codas.entry(label).or_insert(index);
                targets.all_codas.push(index);
            }
        }
        targets
    }

    /// By label; else the nearest one before, since exporters disagree on labels.
    fn segno(&self, label: &str, from: usize) -> Option<usize> {
        let nearest = || {
            let before = self.all_segnos.partition_point(|&i| i <= from);
            self.all_segnos.get(before.checked_sub(1)?).copied()
        };
        self.segnos.get(label).copied().or_else(nearest)
    }

    /// By label, after the jump; else the nearest one after.
    fn coda(&self, label: &str, from: usize) -> Option<usize> {
        let labelled = self.codas.get(label).copied().filter(|&i| i > from);
        let nearest = || {
            let before = self.all_codas.partition_point(|&i| i <= from);
            self.all_codas.get(before).copied()
        };
        labelled.or_else(nearest)
    }
}
