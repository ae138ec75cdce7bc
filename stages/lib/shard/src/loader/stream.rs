//! Threads that gather batches ahead, and the stream that hands them out in order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use half::f16;

use super::plan::Unit;
use super::{Batch, Data, Output, Shape, Shared};
use crate::error::{Error, Result};
use crate::layout::RowType;
use crate::segment::Segment;

/// What goes round between a thread and the batches it made.
#[derive(Debug)]
pub(super) struct Buffers {
    pub data: Data,
    pub reset: Vec<bool>,
    pub lengths: Vec<u32>,
    pub pieces: Vec<u32>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            data: Data::F32(Vec::new()),
            reset: Vec::new(),
            lengths: Vec::new(),
            pieces: Vec::new(),
        }
    }
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
    let units = shared.plan.batch_at(position);
    prepare(shared, &mut buffers)?;
    for (place, unit) in units.iter().enumerate() {
        let Some(unit) = unit else {
            buffers.reset[place] = true;
            buffers.lengths[place] = 0;
            buffers.pieces[place] = u32::MAX;
            zero(shared, &mut buffers.data, place, 0);
            continue;
        };
        let rows = (unit.rows.end - unit.rows.start) as usize;
        buffers.reset[place] = unit.first;
        buffers.lengths[place] = rows as u32;
        buffers.pieces[place] = unit.piece;
        let segment = shared
            .plan
            .pieces
            .get(unit.piece as usize)
            .map(|piece| piece.segment);
        let segment = segment.ok_or_else(|| Error::Loader(format!("no piece {}", unit.piece)))?;
        copy(
            shared,
            &*shared.maps.get(segment)?,
            unit,
            &mut buffers.data,
            place,
        )?;
        if rows < shared.shape.rows {
            zero(shared, &mut buffers.data, place, rows);
        }
    }
    Ok(buffers)
}

/// Brings the buffers to the size of a batch; does nothing the second time.
fn prepare(shared: &Shared, buffers: &mut Buffers) -> Result<()> {
    let Shape { batch, rows, width } = shared.shape;
    let floats = batch.saturating_mul(rows).saturating_mul(width);
    match (shared.output, shared.row_type, &mut buffers.data) {
        (Output::F32, _, Data::F32(values)) | (_, RowType::F32, Data::F32(values)) => {
            resize(values, floats)?;
        }
        (Output::Native, RowType::F16, Data::F16(values)) => resize(values, floats)?,
        (Output::Native, RowType::U16, Data::U16(values)) => resize(values, floats)?,
        (Output::Native, RowType::Bit, Data::Bit(bytes)) => {
            resize(
                bytes,
                batch.saturating_mul(rows).saturating_mul(shared.row_bytes),
            )?;
        }
        (output, row_type, data) => {
            *data = match (output, row_type) {
                (Output::F32, _) | (_, RowType::F32) => Data::F32(Vec::new()),
                (_, RowType::F16) => Data::F16(Vec::new()),
                (_, RowType::U16) => Data::U16(Vec::new()),
                (_, RowType::Bit) => Data::Bit(Vec::new()),
            };
            return prepare(shared, buffers);
        }
    }
    resize(&mut buffers.reset, batch)?;
    resize(&mut buffers.lengths, batch)?;
    resize(&mut buffers.pieces, batch)
}

fn resize<T: Clone + Default>(vec: &mut Vec<T>, len: usize) -> Result<()> {
    if vec.len() != len {
        vec.clear();
        vec.try_reserve_exact(len).map_err(|_| Error::Memory {
            bytes: (len as u64).saturating_mul(size_of::<T>() as u64),
            what: "a batch; lower `batch` or the rows of a window".to_owned(),
        })?;
        vec.resize(len, T::default());
    }
    Ok(())
}

/// Copies the rows of `unit` to the beginning of `place`.
fn copy(
    shared: &Shared,
    segment: &Segment,
    unit: &Unit,
    data: &mut Data,
    place: usize,
) -> Result<()> {
    let Shape { rows, width, .. } = shared.shape;
    let count = (unit.rows.end - unit.rows.start) as usize;
    let span = |width: usize| place * rows * width..(place * rows + count) * width;
    match data {
        Data::F32(out) => segment.read_f32(unit.rows.clone(), &mut out[span(width)])?,
        Data::F16(out) => {
            let values: &[f16] = segment.f16(unit.rows.clone())?;
            out[span(width)].copy_from_slice(values);
        }
        Data::U16(out) => out[span(width)].copy_from_slice(segment.u16(unit.rows.clone())?),
        Data::Bit(out) => {
            out[span(shared.row_bytes)].copy_from_slice(segment.bytes(unit.rows.clone())?);
        }
    }
    Ok(())
}

/// Clears the rows of `place` from row `from` on.
fn zero(shared: &Shared, data: &mut Data, place: usize, from: usize) {
    let Shape { rows, width, .. } = shared.shape;
    let span = |width: usize| (place * rows + from) * width..(place + 1) * rows * width;
    match data {
        Data::F32(out) => out[span(width)].fill(0.0),
        Data::F16(out) => out[span(width)].fill(f16::ZERO),
        Data::U16(out) => out[span(width)].fill(0),
        Data::Bit(out) => out[span(shared.row_bytes)].fill(0),
    }
}
