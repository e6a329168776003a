//! What follows from one finished attempt: a pure function.

use std::time::Duration;

use zapbus_channel::{Outcome, Scope};
use zapbus_event::Timestamp;
use zapbus_store::DeadReason;

use super::schedule::Schedule;
use crate::spec::Preset;

/// How long an ephemeral event is worth sending.
pub(crate) const EPHEMERAL_LIFE: Duration = Duration::from_secs(60);

/// One attempt, with all that its verdict depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    /// Attempts counted before this one.
    pub(crate) attempts: u32,
    /// When the event's own schedule wanted an attempt; `None` for a first one.
    pub(crate) due: Option<Timestamp>,
    /// It was a probe of the lane's clock.
    pub(crate) probe: bool,
    /// When the event was accepted, if it is ephemeral.
    pub(crate) ephemeral_since: Option<Timestamp>,
    /// The peer's answer code.
    pub(crate) code: Option<u16>,
    /// A person asked for it.
    pub(crate) manual: bool,
}

/// What the lane knows of the outage it may be in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outage {
    /// The lane is probing.
    pub(crate) probing: bool,
    /// Events that died since the last accepted one.
    pub(crate) deaths: u32,
}

/// What becomes of the event (and of its destination).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Delivered.
    Delivered,
    /// Again at `due`.
    Retry {
        /// When.
        due: Timestamp,
        /// The attempt counts against the event's schedule.
        counted: bool,
    },
    /// Never again.
    Dead(DeadReason),
    /// Too old to be worth another attempt.
    Expired,
    /// The destination wants nothing any more; the event keeps its place.
    Disable,
}

pub(crate) fn judge(
    outcome: &Outcome,
    tried: Tried,
    outage: Outage,
    preset: Preset,
    schedule: &Schedule,
    now: Timestamp,
    random: f64,
) -> Verdict {
    let after = match outcome {
        Outcome::Accepted => return Verdict::Delivered,
        // While the lane probes it may be the outage that speaks, and not the event.
        Outcome::Refused if !outage.probing || outage.deaths == 0 => {
            return Verdict::Dead(DeadReason::Refused);
        }
        Outcome::Refused => None,
        Outcome::Gone => match preset {
            Preset::Native | Preset::Vzaps => return Verdict::Disable,
            Preset::Ryze => return Verdict::Dead(DeadReason::Refused),
            Preset::Evolution => None,
        },
        Outcome::Retry { after, .. } => *after,
        // No attempt was made: whoever may send it goes on where this began.
        Outcome::Withheld => return Verdict::Retry { due: now, counted: false },
    };
    // Only an event that fails while its neighbours succeed may die: in an outage, one at most.
    let may_die = outage.deaths == 0;
    let is_final = tried.code.is_some_and(|code| schedule.is_final(code));
    if is_final && may_die && !outage.probing {
        return Verdict::Dead(DeadReason::Refused);
    }

    let own_time = tried.due.is_none_or(|due| due <= now);
    let verdict = if tried.probe && !own_time {
        Verdict::Retry { due: tried.due.unwrap_or(now), counted: false }
    } else {
        let attempts = match preset {
            // VZaps begins its schedule again for what a person sends again.
            Preset::Vzaps if tried.manual => tried.attempts % schedule.max_attempts() + 1,
            _ => tried.attempts + 1,
        };
        match schedule.wait_after(attempts, random) {
            Some(wait) => {
                Verdict::Retry { due: now + wait.max(after.unwrap_or_default()), counted: true }
            }
            None if may_die => Verdict::Dead(DeadReason::Attempts),
            // The last attempt stays in hand until the endpoint answers somebody.
            None => Verdict::Retry {
                due: now + schedule.jittered(attempts, random).max(after.unwrap_or_default()),
                counted: false,
            },
        }
    };
    match (verdict, tried.ephemeral_since) {
        (Verdict::Retry { due, .. }, Some(since)) if due > since + EPHEMERAL_LIFE => {
            Verdict::Expired
        }
        _ => verdict,
    }
}

/// Whom a failure concerns, or `None` when it was none.
pub(crate) fn scope_of(outcome: &Outcome) -> Option<(Scope, Option<Duration>)> {
    match outcome {
        Outcome::Accepted | Outcome::Withheld => None,
        Outcome::Retry { after, scope } => Some((*scope, *after)),
        Outcome::Refused => Some((Scope::Event, None)),
        Outcome::Gone => Some((Scope::Destination, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Retry;

    const NOW: i64 = 1_767_225_600_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(NOW + seconds * 1000)
    }

    fn tried(attempts: u32) -> Tried {
        let due = (attempts > 0).then(|| at(0));
        Tried { attempts, due, probe: false, ephemeral_since: None, code: Some(500), manual: false }
    }

    fn retry(after_s: Option<u64>) -> Outcome {
        Outcome::Retry { after: after_s.map(Duration::from_secs), scope: Scope::Event }
    }

    fn verdict(outcome: &Outcome, tried: Tried, outage: Outage, preset: Preset) -> Verdict {
        let schedule = Schedule::of(&Retry { preset, ..Retry::default() });
        judge(outcome, tried, outage, preset, &schedule, at(0), 0.5)
    }

    const CALM: Outage = Outage { probing: false, deaths: 0 };

    #[test]
    fn a_failure_waits_for_the_schedule_or_longer_if_the_receiver_says_so() {
        let next = |after| verdict(&retry(after), tried(0), CALM, Preset::Native);
        assert_eq!(next(None), Verdict::Retry { due: at(5), counted: true });
        assert_eq!(next(Some(2)), Verdict::Retry { due: at(5), counted: true });
        assert_eq!(next(Some(90)), Verdict::Retry { due: at(90), counted: true });
    }

    #[test]
    fn the_last_attempt_is_death_but_only_once_per_outage() {
        let last = |deaths| {
            verdict(&retry(None), tried(10), Outage { probing: true, deaths }, Preset::Native)
        };
        assert_eq!(last(0), Verdict::Dead(DeadReason::Attempts));
        assert_eq!(last(1), Verdict::Retry { due: at(43_200), counted: false });
    }

    #[test]
    fn what_is_refused_dies_at_once_but_only_once_while_the_lane_probes() {
        let refused = |probing, deaths| {
            let outage = Outage { probing, deaths };
            verdict(&Outcome::Refused, tried(0), outage, Preset::Native)
        };
        let dead = Verdict::Dead(DeadReason::Refused);
        assert_eq!(refused(false, 0), dead);
        assert_eq!(refused(false, 3), dead);
        assert_eq!(refused(true, 0), dead);
        assert_eq!(refused(true, 1), Verdict::Retry { due: at(5), counted: true });
    }

    #[test]
    fn a_probe_before_the_events_own_time_costs_it_nothing() {
        let early = Tried { due: Some(at(60)), probe: true, ..tried(3) };
        let outage = Outage { probing: true, deaths: 0 };
        assert_eq!(
            verdict(&retry(None), early, outage, Preset::Native),
            Verdict::Retry { due: at(60), counted: false }
        );
    }

    #[test]
    fn gone_is_read_as_the_preset_reads_it() {
        let gone = |preset| verdict(&Outcome::Gone, tried(0), CALM, preset);
        assert_eq!(gone(Preset::Native), Verdict::Disable);
        assert_eq!(gone(Preset::Vzaps), Verdict::Disable);
        assert_eq!(gone(Preset::Ryze), Verdict::Dead(DeadReason::Refused));
        assert_eq!(gone(Preset::Evolution), Verdict::Retry { due: at(5), counted: true });
    }

    #[test]
    fn what_a_person_sends_again_has_vzapss_whole_schedule_before_it() {
        let after = |attempts, manual, preset| {
            verdict(&retry(None), Tried { manual, ..tried(attempts) }, CALM, preset)
        };
        let dead = Verdict::Dead(DeadReason::Attempts);
        let first = Verdict::Retry { due: at(1), counted: true };
        assert_eq!(after(10, true, Preset::Vzaps), first);
        assert_eq!(after(19, true, Preset::Vzaps), dead);
        assert_eq!(after(20, true, Preset::Vzaps), first);
        assert_eq!(after(10, false, Preset::Vzaps), dead);
        assert_eq!(after(11, true, Preset::Native), dead);
    }

    #[test]
    fn evolutions_final_statuses_end_one_event_while_its_neighbours_succeed() {
        let not_found = Tried { code: Some(404), ..tried(0) };
        let ask = |outage| verdict(&retry(None), not_found, outage, Preset::Evolution);
        assert_eq!(ask(CALM), Verdict::Dead(DeadReason::Refused));
        let again = Verdict::Retry { due: at(5), counted: true };
        assert_eq!(ask(Outage { probing: false, deaths: 1 }), again);
        assert_eq!(ask(Outage { probing: true, deaths: 0 }), again);
    }

    #[test]
    fn an_ephemeral_event_is_not_retried_after_a_minute() {
        let typing = |since| Tried { ephemeral_since: Some(since), ..tried(0) };
        let ask = |since| verdict(&retry(None), typing(since), CALM, Preset::Native);
        assert_eq!(ask(at(-50)), Verdict::Retry { due: at(5), counted: true });
        assert_eq!(ask(at(-56)), Verdict::Expired);
    }
}
