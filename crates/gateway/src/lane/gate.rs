//! Whether a destination may be sent to right now: health, window, rate. Pure; shared by all
//! runs of the destination.

use std::time::Duration;

use zapbus_channel::Scope;
use zapbus_event::Timestamp;
use zapbus_store::Health;

/// Results in a row that are not "accepted" before the endpoint as a whole is doubted.
const FAILURES_TO_PROBE: u32 = 5;

/// What a destination's `Retry-After` may ask for at most.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What a gate must not forget while its lane rests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Memory {
    /// Whether the endpoint is trusted.
    pub(crate) health: Health,
    /// Results in a row that were not "accepted".
    pub(crate) failures: u32,
    /// Events that died since the last accepted one.
    pub(crate) deaths: u32,
    /// How far the window is open; grows with every accepted event up to the destination's limit.
    pub(crate) window: u32,
    /// What of its rate was left, and when: a lane that rests saves up no more than one that runs.
    left: Option<(f64, Timestamp)>,
}

impl Memory {
    pub(crate) fn new(health: Health) -> Self {
        // Whether the outage has had its one death, nobody knows after a restart: as if it had.
        let (window, deaths) = match health {
            Health::Flowing => (u32::MAX, 0),
            Health::Probing { .. } => (1, 1),
        };
        Self { health, failures: 0, deaths, window, left: None }
    }

    /// A person said "go on": at once, but carefully.
    pub(crate) fn resumed(self) -> Self {
        Self { window: 1, left: self.left, ..Self::new(Health::Flowing) }
    }

    /// Something was changed that may have mended it: the next probe need not wait.
    pub(crate) fn hurry(&mut self, now: Timestamp) {
        if let Health::Probing { next, .. } = &mut self.health {
            *next = now.min(*next);
        }
    }
}

/// The lane's clock while it probes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) first: Duration,
    pub(crate) max: Duration,
    pub(crate) disable_after: Duration,
}

/// What a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing.
    None,
    /// The endpoint answers again.
    Flowing,
    /// The endpoint fails as a whole from now on.
    Probing,
    /// It has failed for too long.
    Exhausted,
}

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) memory: Memory,
    max_in_flight: u32,
    in_flight: u32,
    probe_out: bool,
    rate: Option<Rate>,
    patience: Patience,
}

impl Gate {
    pub(crate) fn new(
        memory: Memory,
        max_in_flight: u32,
        rate_per_s: Option<f64>,
        patience: Patience,
        now: Timestamp,
    ) -> Self {
        let rate = rate_per_s.map(|per_s| Rate::new(per_s, memory.left, now));
        Self { memory, max_in_flight, in_flight: 0, probe_out: false, rate, patience }
    }

    /// Takes new limits; what is in flight stays counted.
    pub(crate) fn reconfigure(
        &mut self,
        max_in_flight: u32,
        rate_per_s: Option<f64>,
        patience: Patience,
        now: Timestamp,
    ) {
        self.max_in_flight = max_in_flight;
        self.rate = rate_per_s.map(|per_s| Rate::new(per_s, self.memory.left, now));
        self.patience = patience;
    }

    pub(crate) fn is_probing(&self) -> bool {
        matches!(self.memory.health, Health::Probing { .. })
    }

    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(crate) fn is_full(&self) -> bool {
        self.in_flight >= self.limit()
    }

    /// It recovers from an outage: the window has not reached the destination's limit yet.
    pub(crate) fn is_opening(&self) -> bool {
        self.memory.window < self.max_in_flight
    }

    fn limit(&self) -> u32 {
        self.memory.window.clamp(1, self.max_in_flight)
    }

    /// How many ordinary sends may start now.
    pub(crate) fn room(&mut self, now: Timestamp) -> u32 {
        if self.is_probing() {
            return 0;
        }
        let window = self.limit().saturating_sub(self.in_flight);
        match &mut self.rate {
            Some(rate) => window.min(rate.available(now)),
            None => window,
        }
    }

    /// A probe may start now. What was sent before the outage may still be on its way: a probe has
    /// its place in the destination's window like any other send.
    pub(crate) fn probe_due(&self, now: Timestamp) -> bool {
        match self.memory.health {
            Health::Probing { next, .. } => {
                self.probe_at(next, now) <= now
                    && !self.probe_out
                    && self.in_flight < self.max_in_flight
            }
            Health::Flowing => false,
        }
    }

    /// When the next probe may go: a probe is a send, and counts against the rate.
    fn probe_at(&self, next: Timestamp, now: Timestamp) -> Timestamp {
        let next = self.sane(next, now);
        let rated = self.rate.as_ref().and_then(|rate| rate.next(now));
        rated.map_or(next, |rated| rated.max(next))
    }

    /// No probe is further away than the longest wait there is, unless the clock went back.
    fn sane(&self, next: Timestamp, now: Timestamp) -> Timestamp {
        if next > now + self.patience.max.max(LONGEST_WAIT) { now } else { next }
    }

    /// Which probe comes next, counted from 0.
    pub(crate) fn probe_number(&self) -> u32 {
        match self.memory.health {
            Health::Probing { probes, .. } => probes,
            Health::Flowing => 0,
        }
    }

    /// When the gate opens by itself, if time is what keeps it shut.
    pub(crate) fn opens_at(&self, now: Timestamp) -> Option<Timestamp> {
        match (self.memory.health, &self.rate) {
            (Health::Probing { next, .. }, _) => {
                (!self.probe_out).then_some(self.probe_at(next, now))
            }
            (Health::Flowing, Some(rate)) if !self.is_full() => rate.next(now),
            (Health::Flowing, _) => None,
        }
    }

    /// Something takes its place in the window without being sent, until its settlement is durable.
    pub(crate) fn passed(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn sent(&mut self, probe: bool, now: Timestamp) {
        self.in_flight += 1;
        self.probe_out |= probe;
        if let Some(rate) = &mut self.rate {
            // First: what is saved up is capped, and what is taken must come off that.
            rate.refill(now);
            rate.take();
            self.memory.left = Some((rate.tokens, rate.at));
        }
    }

    /// `count` settlements are durable.
    pub(crate) fn settled(&mut self, count: u32) {
        self.in_flight = self.in_flight.saturating_sub(count);
    }

    /// Nothing could be learned from a probe (its event was skipped or is gone): try another.
    pub(crate) fn probe_returned(&mut self) {
        self.probe_out = false;
    }

    pub(crate) fn accepted(&mut self, probe: bool) -> Turn {
        self.probe_out &= !probe;
        self.memory.failures = 0;
        self.memory.deaths = 0;
        if self.is_probing() {
            self.memory.health = Health::Flowing;
            self.memory.window = 1;
            return Turn::Flowing;
        }
        self.memory.window = self.memory.window.saturating_add(1);
        Turn::None
    }

    pub(crate) fn failed(
        &mut self,
        probe: bool,
        scope: Scope,
        after: Option<Duration>,
        now: Timestamp,
    ) -> Turn {
        self.probe_out &= !probe;
        self.memory.failures = self.memory.failures.saturating_add(1);
        match self.memory.health {
            Health::Flowing => {
                let asked_to_wait = scope == Scope::Destination && after.is_some();
                if self.memory.failures < FAILURES_TO_PROBE && !asked_to_wait {
                    return Turn::None;
                }
                let next = now + after.unwrap_or(self.patience.first);
                self.memory.health = Health::Probing { since: now, probes: 0, next };
                self.memory.window = 1;
                Turn::Probing
            }
            Health::Probing { since, probes, next } => {
                let health = if probe {
                    let probes = probes.saturating_add(1);
                    let wait = after.unwrap_or_else(|| self.backoff(probes));
                    Health::Probing { since, probes, next: now + wait }
                } else {
                    // An older send came back late: it may ask for more time, never for less.
                    let asked = after.map_or(next, |after| now + after);
                    Health::Probing { since, probes, next: next.max(asked) }
                };
                self.memory.health = health;
                if probe && now.since(since) >= self.patience.disable_after {
                    Turn::Exhausted
                } else {
                    Turn::None
                }
            }
        }
    }

    fn backoff(&self, probes: u32) -> Duration {
        let factor = 2_f64.powi(probes.min(32) as i32);
        self.patience.first.mul_f64(factor).min(self.patience.max)
    }
}

/// A token bucket that never saves up more than a hundredth of a second's worth (or one).
#[derive(Debug)]
struct Rate {
    per_ms: f64,
    burst: f64,
    tokens: f64,
    at: Timestamp,
}

impl Rate {
    /// Goes on from what was `left` at some time; nothing was sent yet if that is `None`.
    fn new(per_s: f64, left: Option<(f64, Timestamp)>, now: Timestamp) -> Self {
        let burst = (per_s / 100.0).max(1.0);
        let (tokens, at) = left.unwrap_or((burst, now));
        Self { per_ms: per_s / 1000.0, burst, tokens: tokens.min(burst), at }
    }

    fn refill(&mut self, now: Timestamp) {
        let elapsed = now.since(self.at).as_millis() as f64;
        self.tokens = (self.tokens + elapsed * self.per_ms).min(self.burst);
        // A clock that went back must not stop the lane until it has caught up.
        self.at = now;
    }

    fn available(&mut self, now: Timestamp) -> u32 {
        self.refill(now);
        self.tokens as u32
    }

    fn take(&mut self) {
        self.tokens -= 1.0;
    }

    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let elapsed = now.since(self.at).as_millis() as f64;
        let missing = 1.0 - (self.tokens + elapsed * self.per_ms);
        (missing > 0.0)
            .then(|| now + Duration::from_millis((missing / self.per_ms).ceil().max(1.0) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000 + millis)
    }

    fn gate(max_in_flight: u32, rate: Option<f64>) -> Gate {
        let patience = Patience {
            first: Duration::from_secs(5),
            max: Duration::from_secs(60),
            disable_after: Duration::from_secs(3600),
        };
        Gate::new(Memory::new(Health::Flowing), max_in_flight, rate, patience, at(0))
    }

    fn fail(gate: &mut Gate, probe: bool, now: Timestamp) -> Turn {
        gate.failed(probe, Scope::Destination, None, now)
    }

    #[test]
    fn five_failures_in_a_row_make_it_probe_whatever_their_kind() {
        let mut gate = gate(64, None);
        for _ in 0..4 {
            assert_eq!(gate.failed(false, Scope::Event, None, at(0)), Turn::None);
        }
        assert_eq!(gate.accepted(false), Turn::None);
        for _ in 0..4 {
            assert_eq!(gate.failed(false, Scope::Event, None, at(0)), Turn::None);
        }
        assert_eq!(gate.failed(false, Scope::Event, None, at(0)), Turn::Probing);
        assert_eq!(gate.room(at(0)), 0);
        assert!(!gate.probe_due(at(4_999)));
        assert!(gate.probe_due(at(5_000)));
    }

    #[test]
    fn one_answer_with_retry_after_is_enough_and_sets_the_clock() {
        let mut gate = gate(64, None);
        let after = Some(Duration::from_secs(90));
        assert_eq!(gate.failed(false, Scope::Destination, after, at(0)), Turn::Probing);
        assert_eq!(gate.opens_at(at(0)), Some(at(90_000)));
    }

    #[test]
    fn probes_go_out_one_at_a_time_five_seconds_doubling_to_sixty() {
        let mut gate = gate(64, None);
        (0..5).for_each(|_| {
            fail(&mut gate, false, at(0));
        });
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..6 {
            let next = gate.opens_at(now).unwrap();
            waits.push(next.since(now).as_secs());
            now = next;
            gate.sent(true, now);
            assert!(!gate.probe_due(now + Duration::from_secs(3600)), "one at a time");
            assert_eq!(fail(&mut gate, true, now), Turn::None);
            gate.settled(1);
        }
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
    }

    #[test]
    fn probes_keep_the_rate() {
        let mut gate = gate(64, Some(0.05));
        (0..5).for_each(|_| {
            fail(&mut gate, false, at(0));
        });
        gate.sent(true, at(0));
        fail(&mut gate, true, at(5_000));
        assert_eq!(gate.opens_at(at(5_000)), Some(at(20_000)));
        assert!(!gate.probe_due(at(19_999)));
        assert!(gate.probe_due(at(20_000)));
    }

    #[test]
    fn what_follows_a_probe_keeps_the_rate() {
        let mut gate = gate(64, Some(20.0));
        gate.sent(false, at(0));
        let after = Some(Duration::from_secs(1_000));
        gate.failed(false, Scope::Destination, after, at(0));
        gate.sent(true, at(1_000_000));
        gate.accepted(true);
        gate.settled(2);
        assert_eq!(gate.room(at(1_000_008)), 0);
        assert_eq!(gate.room(at(1_000_060)), 1);
    }

    #[test]
    fn after_an_outage_the_window_doubles_with_every_round() {
        let mut gate = gate(8, None);
        (0..5).for_each(|_| {
            fail(&mut gate, false, at(0));
        });
        gate.sent(true, at(0));
        assert_eq!(gate.accepted(true), Turn::Flowing);
        gate.settled(1);
        let mut rounds = Vec::new();
        for _ in 0..5 {
            let room = gate.room(at(0));
            rounds.push(room);
            (0..room).for_each(|_| gate.sent(false, at(0)));
            (0..room).for_each(|_| {
                gate.accepted(false);
            });
            gate.settled(room);
        }
        assert_eq!(rounds, [1, 2, 4, 8, 8]);
    }

    #[test]
    fn an_event_counts_against_the_window_until_its_settlement_is_durable() {
        let mut gate = gate(2, None);
        gate.sent(false, at(0));
        gate.sent(false, at(0));
        gate.accepted(false);
        assert_eq!(gate.room(at(0)), 0);
        gate.settled(1);
        assert_eq!(gate.room(at(0)), 1);
    }

    #[test]
    fn probing_for_too_long_is_the_end() {
        let mut gate = gate(64, None);
        (0..5).for_each(|_| {
            fail(&mut gate, false, at(0));
        });
        gate.sent(true, at(0));
        assert_eq!(fail(&mut gate, true, at(3_600_000)), Turn::Exhausted);
    }

    #[test]
    fn a_rate_spaces_sends_evenly() {
        let mut gate = gate(64, Some(10.0));
        let mut sent = Vec::new();
        for millis in 0..1000 {
            for _ in 0..gate.room(at(millis)) {
                gate.sent(false, at(millis));
                gate.settled(1);
                sent.push(millis);
            }
        }
        assert_eq!(sent, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
        assert_eq!(gate.opens_at(at(999)), Some(at(1_000)));
    }

    #[test]
    fn a_lane_that_rests_between_two_sends_keeps_its_rate() {
        let mut memory = Memory::new(Health::Flowing);
        let mut sent = Vec::new();
        for millis in (0..5_000).step_by(50) {
            let patience = gate(64, None).patience;
            let mut gate = Gate::new(memory, 64, Some(1.0), patience, at(millis));
            for _ in 0..gate.room(at(millis)) {
                gate.sent(false, at(millis));
                sent.push(millis);
            }
            memory = gate.memory.resumed();
        }
        assert_eq!(sent, [0, 1_000, 2_000, 3_000, 4_000]);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_stop_probing() {
        let mut gate = gate(64, None);
        (0..5).for_each(|_| {
            fail(&mut gate, false, at(0));
        });
        assert!(gate.probe_due(at(-86_400_000)));
    }

    #[test]
    fn a_clock_that_goes_back_does_not_stop_a_rated_lane() {
        let mut gate = gate(64, Some(10.0));
        gate.sent(false, at(0));
        assert_eq!(gate.room(at(-3_600_000)), 0);
        assert_eq!(gate.room(at(-3_599_900)), 1);
    }
}
