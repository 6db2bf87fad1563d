//! How many requests of one key may be under way, and when who is refused may come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::auth::AuthError;

/// The seats of a key. Copies share them.
#[derive(Clone)]
pub(super) struct Seats(Arc<Row>);

struct Row {
    free: Arc<Semaphore>,
    most: usize,
    /// Microseconds that a request held its seat, smoothed; 0 before the first has ended.
    held: AtomicU64,
}

/// One of them, taken. Dropping it frees it.
pub(super) struct Seat {
    row: Arc<Row>,
    since: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Row {
            free: Arc::new(Semaphore::new(most)),
            most,
            held: AtomicU64::new(0),
        }))
    }

    /// A free seat, or when one will be: as late as requests of this key took, shared by its seats.
    pub fn take(&self) -> Result<Seat, AuthError> {
        match self.0.free.clone().try_acquire_owned() {
            Ok(permit) => Ok(Seat {
                row: self.0.clone(),
                since: Instant::now(),
                _permit: permit,
            }),
            Err(_) => Err(AuthError::Busy {
                retry_after: self.0.next_free(),
            }),
        }
    }
}

impl Row {
    fn next_free(&self) -> Duration {
        match self.held.load(Relaxed) {
            0 => Duration::from_secs(1),
            micros => Duration::from_micros(micros / self.most.max(1) as u64),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let held = (self.since.elapsed().as_micros() as u64).max(1);
        let smoothed = |old: u64| if old == 0 { held } else { (old * 7 + held) / 8 };
        let _ = self
            .row
            .held
            .fetch_update(Relaxed, Relaxed, |old| Some(smoothed(old)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_hears_how_long_seats_were_held() {
        let seats = Seats::new(2);
        let wait = || match seats.take() {
            Err(AuthError::Busy { retry_after }) => retry_after,
            _ => panic!("no seat is free"),
        };
        let taken = [seats.take().unwrap(), seats.take().unwrap()];
        assert_eq!(wait(), Duration::from_secs(1), "nothing is known yet");
        std::thread::sleep(Duration::from_millis(20));
        drop(taken);
        let taken = [seats.take().unwrap(), seats.take().unwrap()];
        let told = wait();
        assert!(
            told >= Duration::from_millis(10) && told < Duration::from_secs(10),
            "{told:?}"
        );
        drop(taken);
        assert!(seats.take().is_ok());
    }
}
