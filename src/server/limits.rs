//! What one client may cost the others: sizes, and how long it is waited for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies up to this size are read without asking for room.
const SMALL_BODY: usize = 64 << 10;
/// So many of the largest bodies may be read at once.
const LARGEST_BODIES: usize = 16;
/// Room for bodies is counted in pieces of this size.
const PIECE: usize = 64 << 10;

/// The bounds of a server. Copies share the room for bodies.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The longest body that is read, in bytes.
    pub most_body: usize,
    /// A client that has not sent its request's head by then is not going to. Also how long an idle connection is kept.
    pub head_patience: Duration,
    /// A client that has not sent its body by then is not going to.
    pub body_patience: Duration,
    /// A client that has taken nothing of what it is sent for so long is gone.
    pub write_patience: Duration,
    /// How long a drain waits for streams to finish before it lets them go.
    pub drain_patience: Duration,
    room: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(16 << 20)
    }
}

impl Limits {
    /// `most_body`: the longest body that is read, in bytes.
    pub fn new(most_body: usize) -> Self {
        let pieces = LARGEST_BODIES * most_body.max(SMALL_BODY).div_ceil(PIECE);
        Self {
            most_body,
            head_patience: Duration::from_secs(10),
            body_patience: Duration::from_secs(30),
            write_patience: Duration::from_secs(60),
            drain_patience: Duration::from_secs(120),
            room: Arc::new(Semaphore::new(pieces.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Room for one body that is being read.
    pub(super) fn room(&self) -> Room {
        Room {
            pieces: self.room.clone(),
            taken: None,
        }
    }
}

/// Memory that a body may take. What it took is free again when it is dropped.
pub(super) struct Room {
    pieces: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for `bytes` in all; false when the bodies of others have taken it.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let has = self.taken.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wants = bytes.saturating_sub(SMALL_BODY).div_ceil(PIECE);
        let Some(more) = wants.checked_sub(has).filter(|more| *more > 0) else {
            return true;
        };
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let Ok(got) = self.pieces.clone().try_acquire_many_owned(more) else {
            return false;
        };
        match &mut self.taken {
            Some(taken) => taken.merge(got),
            none => *none = Some(got),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_always_have_room_and_large_ones_give_theirs_back() {
        let limits = Limits::new(1 << 20);
        let mut large: Vec<Room> = Vec::new();
        loop {
            let mut room = limits.room();
            // It grows as it is read.
            if !(room.hold(1 << 19) && room.hold(1 << 20)) {
                break;
            }
            assert!(room.hold(1 << 20), "what is held is not asked for again");
            large.push(room);
        }
        assert_eq!(
            large.len(),
            LARGEST_BODIES + 1,
            "the first 64 KiB of each are free"
        );
        assert!(limits.room().hold(SMALL_BODY));
        assert!(!limits.room().hold(1 << 20));
        large.pop();
        assert!(limits.room().hold(1 << 20));
    }
}
