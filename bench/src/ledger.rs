//! What was sent and what arrived: every event counted once per destination, and in order.

use std::{
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Failure, latency::Latencies};

/// Ordering keys that events are spread over.
pub(crate) const CHATS: u64 = 1_000;

/// How long nothing new may arrive while something is still owed.
const QUIET: Duration = Duration::from_secs(60);

/// In place of a latency: the event was never seen, or seen and refused.
const MISSING: u32 = u32::MAX;
const REFUSED: u32 = u32::MAX - 1;

/// One measurement: events with numbers from 0, sent to the same destinations.
#[derive(Debug)]
pub(crate) struct Run {
    /// Part of every event's id, so that late ones of another run are told apart.
    pub(crate) number: u32,
    epoch: Instant,
    destinations: Range<usize>,
    /// Nanoseconds from the epoch at which each event was to be sent; zero before.
    planned: Box<[AtomicU64]>,
    arrived: AtomicU64,
    tallies: Mutex<Vec<Tally>>,
}

/// Arrivals at one destination.
#[derive(Debug, Clone)]
struct Tally {
    /// Microseconds from the planned time to the first arrival, by event.
    latency_us: Vec<u32>,
    /// Position of the last first arrival, by chat.
    positions: Vec<u64>,
    unique: u64,
    repeats: u64,
    disorder: u64,
    first_ns: u64,
    last_ns: u64,
}

/// One request of a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting {
    pub(crate) at: Instant,
    /// Where the journal has the event.
    pub(crate) position: Option<u64>,
    /// It was answered 2xx.
    pub(crate) accepted: bool,
}

/// What arrived at all destinations of a run.
#[derive(Debug)]
pub(crate) struct Arrivals {
    /// First arrivals.
    pub(crate) unique: u64,
    /// Further arrivals of the same event at the same destination.
    pub(crate) repeats: u64,
    /// From the planned time to the first arrival, for every destination.
    pub(crate) latencies: Latencies,
    /// The same for the last destination of each event.
    pub(crate) to_the_last: Latencies,
    /// When the first and the last of them came.
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

impl Run {
    pub(crate) fn new(number: u32, destinations: Range<usize>, events: u64) -> Self {
        let events = events as usize;
        let tally = Tally {
            latency_us: vec![MISSING; events],
            // Ten thousand subscribers of a few events each do not pay for a thousand chats.
            positions: vec![0; events.min(CHATS as usize)],
            unique: 0,
            repeats: 0,
            disorder: 0,
            first_ns: 0,
            last_ns: 0,
        };
        Self {
            number,
            epoch: Instant::now(),
            planned: (0..events).map(|_| AtomicU64::new(0)).collect(),
            arrived: AtomicU64::new(0),
            tallies: Mutex::new(vec![tally; destinations.len()]),
            destinations,
        }
    }

    fn tallies(&self) -> MutexGuard<'_, Vec<Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Event `number` is to be sent at `at`.
    pub(crate) fn plan(&self, number: u64, at: Instant) {
        let since = at.saturating_duration_since(self.epoch).as_nanos() as u64;
        self.planned[number as usize].store(since.max(1), Ordering::Release);
    }

    /// Event `number` came and was accepted or refused; `position` is where the journal has it, if
    /// it came from there. Order is promised of what comes first, whatever it is answered.
    pub(crate) fn arrive(&self, destination: usize, number: u64, sighting: Sighting) {
        let mut tallies = self.tallies();
        let tally = destination
            .checked_sub(self.destinations.start)
            .and_then(|index| tallies.get_mut(index));
        let Some((tally, planned)) = tally.zip(self.planned.get(number as usize)) else {
            return;
        };
        let slot = &mut tally.latency_us[number as usize];
        if *slot == MISSING
            && let Some(position) = sighting.position
        {
            let last = &mut tally.positions[(number % CHATS) as usize];
            if position < *last {
                tally.disorder += 1;
            }
            *last = position;
        }
        if *slot < REFUSED {
            tally.repeats += 1;
        } else if sighting.accepted {
            let since = sighting.at.saturating_duration_since(self.epoch).as_nanos() as u64;
            let latency = since.saturating_sub(planned.load(Ordering::Acquire)) / 1_000;
            *slot = u32::try_from(latency).unwrap_or(REFUSED - 1).min(REFUSED - 1);
            if tally.unique == 0 {
                tally.first_ns = since;
            }
            tally.unique += 1;
            tally.last_ns = since;
            self.arrived.fetch_add(1, Ordering::Relaxed);
        } else {
            *slot = REFUSED;
        }
    }

    /// First arrivals so far, at all destinations.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// From the planned time to the first arrival, at one destination.
    pub(crate) fn latencies_of(&self, destination: usize) -> Latencies {
        let tallies = self.tallies();
        let index = destination.checked_sub(self.destinations.start);
        let tally = index.and_then(|index| tallies.get(index));
        let arrived = tally.into_iter().flat_map(|tally| &tally.latency_us);
        Latencies::from_micros(arrived.copied().filter(|micros| *micros < REFUSED).collect())
    }

    /// How many first arrivals make it whole.
    pub(crate) fn owed(&self) -> u64 {
        self.planned.len() as u64 * self.destinations.len() as u64
    }

    /// Waits until every event has arrived at every destination.
    ///
    /// # Errors
    ///
    /// Something is missing, or came out of order: that is no figure.
    pub(crate) fn wait(&self) -> Result<Arrivals, Failure> {
        let (mut seen, mut since) = (self.arrived(), Instant::now());
        while seen < self.owed() {
            std::thread::sleep(Duration::from_millis(2));
            let now = self.arrived();
            if now > seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > QUIET {
                return Err(format!(
                    "only {seen} of {} deliveries arrived, and nothing more for {} s",
                    self.owed(),
                    QUIET.as_secs()
                )
                .into());
            }
        }
        let tallies = self.tallies();
        let disorder: u64 = tallies.iter().map(|tally| tally.disorder).sum();
        if disorder > 0 {
            return Err(format!("{disorder} first arrivals were out of order in their chat").into());
        }
        let firsts = tallies.iter().flat_map(|tally| tally.latency_us.iter().copied());
        let slowest = (0..self.planned.len())
            .map(|event| tallies.iter().map(|tally| tally.latency_us[event]).max().unwrap_or(0));
        let at = |ns: u64| self.epoch + Duration::from_nanos(ns);
        Ok(Arrivals {
            unique: tallies.iter().map(|tally| tally.unique).sum(),
            repeats: tallies.iter().map(|tally| tally.repeats).sum(),
            latencies: Latencies::from_micros(firsts.collect()),
            to_the_last: Latencies::from_micros(slowest.collect()),
            first: at(tallies.iter().map(|tally| tally.first_ns).min().unwrap_or(0)),
            last: at(tallies.iter().map(|tally| tally.last_ns).max().unwrap_or(0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(position: u64) -> Sighting {
        Sighting { at: Instant::now(), position: Some(position), accepted: true }
    }

    #[test]
    fn repeats_refusals_and_strangers_are_told_apart() {
        let run = Run::new(1, 3..5, 2 * CHATS);
        run.arrive(3, 7, Sighting { accepted: false, ..seen(8) });
        for number in 0..2 * CHATS {
            run.plan(number, Instant::now());
            run.arrive(3, number, seen(number + 1));
            run.arrive(4, number, seen(number + 1));
        }
        run.arrive(3, 7, seen(8));
        run.arrive(5, 7, seen(8));
        run.arrive(3, 2 * CHATS, seen(8));
        let arrivals = run.wait().unwrap();
        assert_eq!((arrivals.unique, arrivals.repeats), (4 * CHATS, 1));
    }

    #[test]
    fn what_comes_first_comes_in_order() {
        let run = Run::new(2, 0..1, CHATS + 1);
        for number in 0..=CHATS {
            run.arrive(0, number, seen(CHATS * 2 - number));
        }
        assert!(run.wait().unwrap_err().to_string().contains("out of order"));

        // Refused at first, overtaken then: that is no disorder.
        let run = Run::new(3, 0..1, CHATS + 1);
        run.arrive(0, 0, Sighting { accepted: false, ..seen(1) });
        for number in (0..=CHATS).rev() {
            run.arrive(0, number, seen(number + 1));
        }
        assert_eq!(run.wait().unwrap().unique, CHATS + 1);
    }
}
