//! What a lane shows the outside while it works: counters that anyone may read at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::units::DeviceId;

/// Seconds: nobody is sent away for longer.
const MOST_PATIENCE: f64 = 60.0;

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
    /// By lane, microseconds of work that a finished job took it, smoothed; 0 before the first.
    work_per_job: Vec<AtomicU64>,
}

impl Board {
    pub fn new(models: usize) -> Self {
        Self {
            cells: (0..models).map(|_| Cell::default()).collect(),
            waiting: AtomicUsize::new(0),
            // A lane has a model at least.
            work_per_job: (0..models).map(|_| AtomicU64::new(0)).collect(),
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

    /// How many wait when there is no place left in a queue of `limit`.
    pub fn full(&self, limit: usize) -> Option<usize> {
        Some(self.waiting.load(Relaxed)).filter(|waiting| *waiting >= limit)
    }

    /// `jobs` of a lane ended after it had worked for `seconds` since the last ones did. Rest is not work: after a quiet
    /// night the first crowd is not to be sent away for hours.
    pub fn finished(&self, lane: DeviceId, jobs: usize, seconds: f64) {
        let Some(cell) = self.work_per_job.get(lane.index()).filter(|_| jobs > 0) else {
            return;
        };
        let each = (seconds * 1e6 / jobs as f64).max(1.0);
        let kept = f64::powi(15.0 / 16.0, jobs.min(1_000) as i32);
        let _ = cell.fetch_update(Relaxed, Relaxed, |old| match old {
            0 => Some(each as u64),
            old => Some((old as f64 * kept + each * (1.0 - kept)) as u64),
        });
    }

    /// How long the present queue takes to drain, as far as the recent past tells; at most a minute.
    pub fn time_to_drain(&self) -> Duration {
        let rate = |cell: &AtomicU64| match cell.load(Relaxed) {
            0 => 0.0,
            micros => 1e6 / micros as f64,
        };
        let jobs_a_second: f64 = self.work_per_job.iter().map(rate).sum();
        if jobs_a_second == 0.0 {
            // Nobody has finished yet.
            return Duration::from_secs(1);
        }
        let waiting = self.waiting.load(Relaxed) as f64;
        Duration::from_secs_f64((waiting / jobs_a_second).min(MOST_PATIENCE))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(board: &Arc<Board>, jobs: usize) -> Vec<QueuePlace> {
        (0..jobs).map(|_| board.enter_queue(0, jobs).unwrap()).collect()
    }

    #[test]
    fn the_queue_drains_as_fast_as_work_was_done() {
        let board = Arc::new(Board::new(2));
        assert_eq!((board.full(0), board.full(1)), (Some(0), None));
        let places = queue(&board, 10);
        assert_eq!(board.full(10), Some(10));
        assert_eq!(board.enter_queue(0, 10).err(), Some(10));
        for _ in 0..200 {
            // Four rows of a batch end together after 0.4 s of work: a tenth of a second each.
            board.finished(DeviceId(0), 4, 0.4);
        }
        let alone = board.time_to_drain();
        assert!((alone.as_secs_f64() - 1.0).abs() < 0.01, "{alone:?}");
        // Another lane as fast halves it.
        board.finished(DeviceId(1), 1, 0.1);
        let both = board.time_to_drain();
        assert!((both.as_secs_f64() - 0.5).abs() < 0.01, "{both:?}");
        board.finished(DeviceId(0), 1, 1e6);
        board.finished(DeviceId(1), 1, 1e6);
        assert_eq!(board.time_to_drain(), Duration::from_secs(60));
        drop(places);
        assert_eq!((board.full(1), board.time_to_drain()), (None, Duration::ZERO));
    }
}
