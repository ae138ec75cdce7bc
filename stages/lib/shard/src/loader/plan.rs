//! Which rows stand in which place of which batch: arithmetic over the pieces.
//!
//! A *piece* is the part of one segment that belongs to the split. A *unit* is
//! what one place of a batch holds: a window, or a chunk of a piece. Units are
//! counted, never listed: a prefix sum over the pieces finds the piece of a
//! unit, so that 100,000 pieces cost 2 MB and any step is found at once.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::order::{Key, Permutation};
use super::{LoaderOptions, Remainder, Sampling};
use crate::error::{Error, Result};

/// Rows of one segment that belong to the split.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub segment: u32,
    pub rows: Range<u64>,
}

/// What one place of a batch holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub piece: u32,
    /// Rows of the segment; fewer than a whole window only at a padded end.
    pub rows: Range<u64>,
    /// Whether it is the first of its piece.
    pub first: bool,
}

/// The order of all epochs.
#[derive(Debug)]
pub(super) struct Plan {
    pub pieces: Vec<Piece>,
    /// Units before each piece, and at the end the sum of all.
    before: Vec<u64>,
    /// Places in a batch.
    pub batch: u64,
    pub steps: u64,
    sampling: Sampling,
    /// Rows of one step, and of one window (with those that are looked ahead).
    rows: u64,
    window: u64,
    seed: u64,
    /// Orders of pieces drawn lately: workers stand in at most two epochs.
    orders: Mutex<Vec<(u64, Arc<Order>)>>,
}

/// The pieces of one epoch, one after another.
#[derive(Debug)]
struct Order {
    pieces: Vec<u32>,
    before: Vec<u64>,
}

impl Plan {
    pub(super) fn new(pieces: Vec<Piece>, options: &LoaderOptions) -> Result<Self> {
        let (rows, ahead) = (options.rows as u64, options.lookahead as u64);
        let mut plan = Self {
            before: Vec::new(),
            batch: 0,
            steps: 0,
            sampling: options.sampling,
            rows,
            window: rows + ahead,
            seed: options.seed,
            orders: Mutex::new(Vec::new()),
            pieces,
        };
        plan.before = prefix(plan.pieces.iter().map(|piece| plan.units_in(piece)));
        let units = plan.units();
        if units == 0 {
            let longest = plan.pieces.iter().map(|p| p.rows.end - p.rows.start).max();
            return Err(Error::Empty {
                split: options.split.name(),
                needed: match options.sampling {
                    Sampling::Chunks {
                        remainder: Remainder::Pad,
                    } => ahead + 1,
                    _ => plan.window,
                },
                longest: longest.unwrap_or(0),
            });
        }
        plan.batch = (options.batch as u64).min(units);
        plan.steps = match options.sampling {
            Sampling::Chunks {
                remainder: Remainder::Pad,
            } => units.div_ceil(plan.batch),
            _ => units / plan.batch,
        };
        Ok(plan)
    }

    /// Units of one epoch.
    pub(super) fn units(&self) -> u64 {
        self.before.last().copied().unwrap_or(0)
    }

    /// Pieces too short for a single unit.
    pub(super) fn skipped(&self) -> u64 {
        self.pieces
            .iter()
            .filter(|piece| self.units_in(piece) == 0)
            .count() as u64
    }

    /// What the places of the batch at `position` hold; none where there is
    /// nothing left in a padded epoch.
    pub(super) fn batch_at(&self, position: u64) -> Vec<Option<Unit>> {
        let (epoch, step) = (position / self.steps, position % self.steps);
        match self.sampling {
            Sampling::Windows { stride } => self.windows(epoch, step, stride as u64),
            Sampling::Chunks { remainder } => self.chunks(epoch, step, remainder),
        }
    }

    fn units_in(&self, piece: &Piece) -> u64 {
        let rows = piece.rows.end - piece.rows.start;
        let ahead = self.window - self.rows;
        match self.sampling {
            Sampling::Windows { stride } => rows
                .checked_sub(self.window)
                .map_or(0, |spare| spare / stride as u64 + 1),
            Sampling::Chunks {
                remainder: Remainder::Drop,
            } => rows.saturating_sub(ahead) / self.rows,
            Sampling::Chunks {
                remainder: Remainder::Pad,
            } => rows.saturating_sub(ahead).div_ceil(self.rows),
        }
    }

    fn windows(&self, epoch: u64, step: u64, stride: u64) -> Vec<Option<Unit>> {
        let order = Permutation::new(self.units(), Key::new(self.seed, epoch, "windows"));
        let offsets = Key::new(self.seed, epoch, "offsets");
        let places = step * self.batch..(step + 1) * self.batch;
        places
            .map(|place| {
                let unit = order.at(place);
                let piece = find(&self.before, unit);
                let rows = &self.pieces.get(piece)?.rows;
                let spare = (rows.end - rows.start - self.window) % stride;
                let index = unit - self.before.get(piece)?;
                let offset = offsets.draw(piece as u64, spare);
                let start = rows.start + offset + index * stride;
                Some(Unit {
                    piece: piece as u32,
                    rows: start..start + self.window,
                    first: true,
                })
            })
            .collect()
    }

    fn chunks(&self, epoch: u64, step: u64, remainder: Remainder) -> Vec<Option<Unit>> {
        let order = self.order(epoch, remainder);
        let offsets = Key::new(self.seed, epoch, "offsets");
        let lanes = 0..self.batch;
        lanes
            .map(|lane| {
                let unit = lane * self.steps + step;
                if unit >= self.units() {
                    return None;
                }
                let place = find(&order.before, unit);
                let index = unit - order.before.get(place)?;
                let piece = *order.pieces.get(place)?;
                let rows = &self.pieces.get(piece as usize)?.rows;
                let offset = match remainder {
                    Remainder::Pad => 0,
                    Remainder::Drop => {
                        let ahead = self.window - self.rows;
                        let spare = (rows.end - rows.start - ahead) % self.rows;
                        offsets.draw(u64::from(piece), spare)
                    }
                };
                let start = rows.start + offset + index * self.rows;
                let end = (start + self.window).min(rows.end);
                Some(Unit {
                    piece,
                    rows: start..end,
                    first: index == 0 || step == 0,
                })
            })
            .collect()
    }

    /// The order of the pieces in `epoch`; as they stand where every row is
    /// wanted once, for then the order says nothing.
    fn order(&self, epoch: u64, remainder: Remainder) -> Arc<Order> {
        let epoch = if remainder == Remainder::Pad {
            0
        } else {
            epoch
        };
        // A poisoned lock means that a worker died in here; what it holds is whole.
        let mut orders = self
            .orders
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, order)) = orders.iter().find(|(of, _)| *of == epoch) {
            return order.clone();
        }
        let count = self.pieces.len() as u64;
        let permutation = Permutation::new(count, Key::new(self.seed, epoch, "pieces"));
        let pieces: Vec<u32> = match remainder {
            Remainder::Pad => (0..count as u32).collect(),
            Remainder::Drop => (0..count).map(|i| permutation.at(i) as u32).collect(),
        };
        let units = pieces.iter().filter_map(|&p| self.pieces.get(p as usize));
        let before = prefix(units.map(|piece| self.units_in(piece)));
        let order = Arc::new(Order { pieces, before });
        if orders.len() >= 2 {
            orders.remove(0);
        }
        orders.push((epoch, order.clone()));
        order
    }
}

fn prefix(counts: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sum = 0u64;
    let mut before = vec![0];
    before.extend(counts.map(|count| {
        sum = sum.saturating_add(count);
        sum
    }));
    before
}

/// The last place whose prefix is at most `unit`; places of no units are passed
/// over.
fn find(before: &[u64], unit: u64) -> usize {
    before.partition_point(|&sum| sum <= unit).saturating_sub(1)
}
