//! Open segments, at most so many at once.
//!
//! Linux allows 65,530 mappings in a process, and each costs page tables; a
//! corpus may have more pieces. The least lately used give way (by the clock
//! algorithm, Corbató 1968, which needs no list to be kept in order).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::manifest::{SegmentEntry, SegmentId};
use crate::segment::{Checked, Segment};

/// Where the file of a segment lies.
pub(super) type Resolve = Box<dyn Fn(&SegmentId) -> PathBuf + Send + Sync>;

pub(super) struct Maps {
    known: Vec<Known>,
    layout: Layout,
    resolve: Resolve,
    clock: Mutex<Clock>,
}

struct Known {
    entry: SegmentEntry,
    /// Chunks found whole; outlives the mapping.
    checked: OnceLock<Arc<Checked>>,
}

#[derive(Default)]
struct Clock {
    limit: usize,
    slots: Vec<Slot>,
    places: HashMap<u32, usize>,
    hand: usize,
}

struct Slot {
    index: u32,
    segment: Arc<Segment>,
    used: bool,
}

impl Maps {
    /// At most `limit` segments stay open.
    pub(super) fn new(
        entries: Vec<SegmentEntry>,
        layout: Layout,
        resolve: Resolve,
        limit: usize,
    ) -> Self {
        let known = entries
            .into_iter()
            .map(|entry| Known {
                entry,
                checked: OnceLock::new(),
            })
            .collect();
        let clock = Clock {
            limit: limit.max(1),
            ..Clock::default()
        };
        Self {
            known,
            layout,
            resolve,
            clock: Mutex::new(clock),
        }
    }

    /// The segment `index`, opened if need be.
    pub(super) fn get(&self, index: u32) -> Result<Arc<Segment>> {
        if let Some(segment) = self.lock().get(index) {
            return Ok(segment);
        }
        // Opened without the lock, so that the others go on gathering.
        let segment = Arc::new(self.open(index)?);
        Ok(self.lock().insert(index, segment))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, index: u32) -> Result<Segment> {
        let known = self.known.get(index as usize);
        let known = known.ok_or_else(|| Error::Loader(format!("no segment {index}")))?;
        let path = (self.resolve)(&known.entry.digest);
        let segment = match known.checked.get() {
            Some(checked) => Segment::open_again(&path, checked.clone())?,
            None => Segment::open(&path)?,
        };
        let entry = &known.entry;
        // The root covers everything in the file, rows, layout and metadata.
        segment.expect_root(entry.root)?;
        if segment.rows() != entry.rows {
            return Err(Error::format(
                &path.display().to_string(),
                "segment",
                format!(
                    "it has {} rows, the manifest says {}",
                    segment.rows(),
                    entry.rows
                ),
            ));
        }
        if segment.layout() != &self.layout {
            return Err(Error::format(
                &path.display().to_string(),
                "segment",
                "its rows are not laid out as the manifest says",
            ));
        }
        known.checked.get_or_init(|| segment.checked().clone());
        Ok(segment)
    }
}

impl Clock {
    fn get(&mut self, index: u32) -> Option<Arc<Segment>> {
        let slot = self.slots.get_mut(*self.places.get(&index)?)?;
        slot.used = true;
        Some(slot.segment.clone())
    }

    /// Keeps `segment`, or the one that another thread was faster to open.
    fn insert(&mut self, index: u32, segment: Arc<Segment>) -> Arc<Segment> {
        if let Some(open) = self.get(index) {
            return open;
        }
        let slot = Slot {
            index,
            segment: segment.clone(),
            used: true,
        };
        if self.slots.len() < self.limit {
            self.places.insert(index, self.slots.len());
            self.slots.push(slot);
            return segment;
        }
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len().max(1);
            let Some(old) = self.slots.get_mut(place) else {
                return segment;
            };
            if std::mem::take(&mut old.used) {
                continue;
            }
            self.places.remove(&old.index);
            self.places.insert(index, place);
            *old = slot;
            return segment;
        }
    }
}
