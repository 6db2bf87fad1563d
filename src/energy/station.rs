//! A meter on its way to the books: read when its ticks say so, its readings kept back while it is on trial. Time is
//! passed in, so that tests drive in virtual time what the energy thread drives by the clock.

use super::accounting::{Entry, Opening};
use super::meter::Meter;
use super::sampling::TickClock;
use super::settings::LaneDevice;
use crate::units::{Microjoules, Moment};

/// A trial of some seconds takes fewer readings than this.
const MOST_KEPT_BACK: usize = 8_192;
/// A meter on trial that fails for so long is told of as any other.
const TRIAL_PATIENCE: f64 = 0.5;

pub(super) struct Station {
    pub(super) lane: LaneDevice,
    pub(super) meter: Box<dyn Meter>,
    pub(super) ticks: TickClock,
    pub(super) reads: u64,
    pub(super) last_read: Option<Moment>,
    last_counter: Option<Microjoules>,
    /// Readings of a meter on trial: booked once it passes, forgotten if it fails.
    kept_back: Vec<Entry>,
    failing_since: Option<Moment>,
}

/// What the books may learn of a reading.
pub(super) struct Sifted {
    /// In order; nothing while the meter is on trial.
    pub(super) entries: Vec<Entry>,
    /// The meter is no longer what the device's books rest on, and the reading is of another one.
    pub(super) is_another_meter: bool,
}

impl Station {
    pub(super) fn new(meter: Box<dyn Meter>, lane: &LaneDevice) -> Self {
        Self {
            lane: lane.clone(),
            ticks: TickClock::new(!meter.reads_are_instant()),
            meter,
            reads: 0,
            last_read: None,
            last_counter: None,
            kept_back: Vec::new(),
            failing_since: None,
        }
    }

    pub(super) fn read(&mut self, at: Moment) -> Entry {
        let read = self.meter.read(at);
        self.reads += 1;
        let counter = read.as_ref().ok().map(|r| r.counter);
        let edge = self.ticks.observed(
            at,
            counter.map(|c| self.last_counter.is_some_and(|last| last != c)),
        );
        self.last_counter = counter.or(self.last_counter);
        self.last_read = Some(at);
        Entry::Reading {
            device: self.lane.device,
            at,
            read,
            edge,
            period: self.ticks.period(),
        }
    }

    /// Keeps the reading back or gives it free, with those kept back before. `opening` is what the books rest on.
    pub(super) fn sift(&mut self, at: Moment, entry: Entry, opening: &Opening) -> Sifted {
        let is_another_meter = !opening.fits(self.meter.as_ref());
        let failed = matches!(&entry, Entry::Reading { read: Err(_), .. });
        let since = *self.failing_since.get_or_insert(at);
        if !failed {
            self.failing_since = None;
        }
        let is_away = failed && at.seconds_since(since) > TRIAL_PATIENCE;
        let has_room = self.kept_back.len() < MOST_KEPT_BACK;
        if !is_another_meter && self.meter.is_on_trial() && !is_away && has_room {
            self.kept_back.push(entry);
            return Sifted {
                entries: Vec::new(),
                is_another_meter,
            };
        }
        let mut entries = std::mem::take(&mut self.kept_back);
        // A trial that ends with an error failed: what it read is worth nothing, but its time is a gap.
        if let Entry::Reading { read: Err(why), .. } = &entry {
            entries.truncate(1);
            for first in &mut entries {
                if let Entry::Reading { read, .. } = first {
                    *read = Err(why.clone());
                }
            }
        }
        if is_another_meter {
            self.begin_anew();
        } else {
            entries.push(entry);
        }
        Sifted {
            entries,
            is_another_meter,
        }
    }

    /// The meter became another one; what was read of it before says nothing of what comes.
    fn begin_anew(&mut self) {
        self.ticks = TickClock::new(!self.meter.reads_are_instant());
        (self.last_read, self.last_counter) = (None, None);
    }
}
