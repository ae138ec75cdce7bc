//! Threads that gather batches ahead, and the stream that hands them out in order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytemuck::cast_slice_mut;

use super::{Batch, Output, Shape, Shared};
use crate::block::Block;
use crate::error::{Error, Result};
use crate::layout::RowType;

/// What goes round between a thread and the batches it made.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub rows: Block,
    pub reset: Vec<bool>,
    pub lengths: Vec<u32>,
    pub pieces: Vec<u32>,
}

/// Batches in the order of their positions, gathered ahead.
///
/// Ends after its last position, or after the first error. Dropping it stops
/// its threads.
pub struct Stream {
    /// Thread `i` makes every position that is `i` modulo the threads.
    lanes: Vec<Lane>,
    next: u64,
    end: u64,
    /// Lane of `next`.
    turn: usize,
    steps: u64,
    row_type: RowType,
    output: Output,
    waited: Duration,
}

struct Lane {
    batches: Option<Receiver<Result<Buffers>>>,
    home: Sender<Buffers>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, positions: Range<u64>) -> Result<Self> {
        let steps = shared.plan.steps;
        let threads = shared.threads as u64;
        let mut stream = Self {
            lanes: Vec::new(),
            next: positions.start,
            end: positions.end,
            turn: 0,
            steps,
            row_type: shared.row_type,
            output: shared.output,
            waited: Duration::ZERO,
        };
        for i in 0..threads {
            let (send, batches) = sync_channel(shared.prefetch);
            let (home, free) = channel();
            let positions = (positions.start.saturating_add(i)..positions.end)
                .step_by(usize::try_from(threads).unwrap_or(1));
            let shared = shared.clone();
            let thread = std::thread::Builder::new()
                .name(format!("loader-{i}"))
                .spawn(move || gather_all(&shared, positions, &send, &free))
                .map_err(|e| Error::Loader(format!("cannot start a thread: {e}")))?;
            stream.lanes.push(Lane {
                batches: Some(batches),
                home,
                thread: Some(thread),
            });
        }
        Ok(stream)
    }

    /// How long the caller has waited for batches: what the loader costs it.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// The position of the batch that comes next: what a checkpoint stores.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }
}

impl Iterator for Stream {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let lane = self.lanes.get(self.turn)?;
        let began = Instant::now();
        let received = lane.batches.as_ref()?.recv();
        self.waited += began.elapsed();
        let buffers = received.unwrap_or_else(|_| {
            Err(Error::Loader(
                "a thread of the loader ended unexpectedly".to_owned(),
            ))
        });
        let home = lane.home.clone();
        let batch = buffers.map(|buffers| Batch {
            position: self.next,
            epoch: self.next / self.steps,
            step: self.next % self.steps,
            row_type: self.row_type,
            output: self.output,
            buffers,
            home: Some(home),
        });
        match &batch {
            Ok(_) => self.next += 1,
            Err(_) => self.end = self.next,
        }
        self.turn = (self.turn + 1) % self.lanes.len();
        Some(batch)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A thread that waits to send ends when nobody can receive any more.
        for lane in &mut self.lanes {
            lane.batches = None;
        }
        for lane in &mut self.lanes {
            if let Some(thread) = lane.thread.take() {
                // It can only have panicked, which the stream has reported.
                let _ = thread.join();
            }
        }
    }
}

fn gather_all(
    shared: &Shared,
    positions: impl Iterator<Item = u64>,
    send: &SyncSender<Result<Buffers>>,
    free: &Receiver<Buffers>,
) {
    for position in positions {
        // More buffers than `prefetch` and one at work exist only when the
        // caller keeps batches.
        let buffers = free.try_recv().unwrap_or_default();
        let batch = gather(shared, position, buffers);
        let failed = batch.is_err();
        if send.send(batch).is_err() || failed {
            return;
        }
    }
}

fn gather(shared: &Shared, position: u64, mut buffers: Buffers) -> Result<Buffers> {
    let Shape { batch, rows, .. } = shared.shape;
    let place_bytes = rows.saturating_mul(shared.row_bytes);
    let what = "a batch; lower `batch` or the rows of a window";
    buffers
        .rows
        .resize(batch.saturating_mul(place_bytes), what)?;
    buffers.reset.clear();
    buffers.lengths.clear();
    buffers.pieces.clear();
    let places = buffers.rows.bytes_mut().chunks_exact_mut(place_bytes);
    for (unit, place) in shared.plan.batch_at(position).into_iter().zip(places) {
        let Some(unit) = unit else {
            buffers.reset.push(true);
            buffers.lengths.push(0);
            buffers.pieces.push(u32::MAX);
            place.fill(0);
            continue;
        };
        let count = (unit.rows.end - unit.rows.start) as usize;
        buffers.reset.push(unit.first);
        buffers.lengths.push(count as u32);
        buffers.pieces.push(unit.piece);
        let piece = shared.plan.pieces.get(unit.piece as usize);
        let piece = piece.ok_or_else(|| Error::Loader(format!("no piece {}", unit.piece)))?;
        let segment = shared.maps.get(piece.segment)?;
        let (real, padding) = place.split_at_mut(count * shared.row_bytes);
        match shared.output {
            Output::F32 => segment.read_f32(unit.rows, cast_slice_mut(real))?,
            Output::I64 => segment.read_i64(unit.rows, cast_slice_mut(real))?,
            Output::Native => real.copy_from_slice(segment.bytes(unit.rows)?),
        }
        padding.fill(0);
    }
    Ok(buffers)
}
