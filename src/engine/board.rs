//! What a lane shows the outside while it works: counters that anyone may read at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Requests of one model on the lane right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// In the batch.
    pub running: u32,
    /// In the queue.
    pub waiting: u32,
}

/// KV pages of one model right now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageUse {
    /// Held by requests.
    pub used: u32,
    /// Held by the prefix cache alone: whoever needs the memory gets it.
    pub cached: u32,
    /// Have memory, hold nothing.
    pub free: u32,
    /// Requests sent back to the queue for want of pages, since the start.
    pub preemptions: u64,
}

#[derive(Default)]
struct Cell {
    running: AtomicU32,
    waiting: AtomicU32,
    pages_used: AtomicU32,
    pages_cached: AtomicU32,
    pages_free: AtomicU32,
    preemptions: AtomicU64,
}

/// A place in the queue, carried with the job; dropping it frees the place.
pub struct QueuePlace {
    board: Arc<Board>,
    model: usize,
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.board.waiting.fetch_sub(1, Relaxed);
        self.board.cells[self.model].waiting.fetch_sub(1, Relaxed);
    }
}

/// One cell a model, and what the queue looks like as a whole.
pub struct Board {
    cells: Vec<Cell>,
    waiting: AtomicUsize,
    /// Microseconds between two finished jobs, smoothed.
    finish_gap: AtomicU64,
}

impl Board {
    pub fn new(models: usize) -> Self {
        Self {
            cells: (0..models).map(|_| Cell::default()).collect(),
            waiting: AtomicUsize::new(0),
            finish_gap: AtomicU64::new(0),
        }
    }

    /// Takes a place in the queue of `limit` places; the number that wait already when there is none.
    pub fn enter_queue(self: &Arc<Self>, model: usize, limit: usize) -> Result<QueuePlace, usize> {
        self.waiting
            .fetch_update(Relaxed, Relaxed, |n| (n < limit).then_some(n + 1))?;
        self.cells[model].waiting.fetch_add(1, Relaxed);
        Ok(QueuePlace {
            board: self.clone(),
            model,
        })
    }

    pub fn set_running(&self, model: usize, running: usize) {
        self.cells[model].running.store(running as u32, Relaxed);
    }

    pub fn set_pages(&self, model: usize, pages: PageUse) {
        let cell = &self.cells[model];
        cell.pages_used.store(pages.used, Relaxed);
        cell.pages_cached.store(pages.cached, Relaxed);
        cell.pages_free.store(pages.free, Relaxed);
        cell.preemptions.store(pages.preemptions, Relaxed);
    }

    pub fn finished_after(&self, seconds: f64) {
        let gap = (seconds * 1e6) as u64;
        let _ = self.finish_gap.fetch_update(Relaxed, Relaxed, |old| {
            Some(if old == 0 { gap } else { (old * 15 + gap) / 16 })
        });
    }

    /// Seconds until the present queue will have drained, as far as the recent past tells; 1 to 60.
    pub fn seconds_to_drain(&self) -> u32 {
        let micros = self.finish_gap.load(Relaxed) * self.waiting.load(Relaxed) as u64;
        micros.div_ceil(1_000_000).clamp(1, 60) as u32
    }

    pub fn occupancy(&self, model: usize) -> Occupancy {
        let cell = &self.cells[model];
        Occupancy {
            running: cell.running.load(Relaxed),
            waiting: cell.waiting.load(Relaxed),
        }
    }

    pub fn pages(&self, model: usize) -> PageUse {
        let cell = &self.cells[model];
        PageUse {
            used: cell.pages_used.load(Relaxed),
            cached: cell.pages_cached.load(Relaxed),
            free: cell.pages_free.load(Relaxed),
            preemptions: cell.preemptions.load(Relaxed),
        }
    }
}
