//! What follows from a finished attempt, for the event and for the lane.

use tokio::time::Instant;
use zapbus_channel::Outcome;
use zapbus_event::{Kind, Position, Timestamp};
use zapbus_store::{Attempt, DeadReason, LIVE, Row, State};

use super::{Lane, Phase, verdict};
use crate::lane::announce::Change;
use crate::lane::gate::Turn;
use crate::lane::send::{Sent, Tried};
use crate::lane::track::{Origin, Place, Task, Track};
use crate::lane::verdict::{Outage, Verdict, judge, scope_of};

impl Lane {
    pub(super) fn finish(&mut self, sent: Sent) {
        let now = self.now();
        self.busy_at = Instant::now();
        let Sent { run, key, task, probe, started, parts_done, tried } = sent;
        let (origin, place) = (task.origin, task.place);
        let Place { seq, shard } = place;
        let (state, attempts, attempt) = match tried {
            Tried::Reported(report) => {
                let verdict = self.judge(&report, &task, probe, now);
                self.learn(&report, probe, verdict, now);
                if verdict == Verdict::Delivered && run == LIVE && origin != Origin::Manual {
                    self.outlet.meter.delivered(now.since(task.event.received_at));
                }
                let counted = !matches!(verdict, Verdict::Retry { counted: false, .. });
                let attempts = task.attempts + u32::from(counted);
                // A probe out of the event's own turn leaves no line in its log.
                let attempt = counted.then(|| attempt_of(report, started, attempts));
                (state_of(verdict, seq, now), attempts, attempt)
            }
            Tried::Nothing => {
                self.shared.telemetry.skipped.inc();
                if probe {
                    self.gate.probe_returned();
                }
                if origin == Origin::First {
                    self.pass_over(run, place, key);
                    return;
                }
                (State::Cancelled, task.attempts, None)
            }
            Tried::Withheld => return self.recall(run, task, probe, now),
            Tried::RenderFailed(error) => {
                tracing::error!(event = "lane.render_failed", destination = %self.id, %seq, %error, "an event could not be rendered");
                if probe {
                    self.gate.probe_returned();
                }
                self.shared.telemetry.dead.inc();
                let attempt = render_failure(error, started, task.attempts + 1);
                (State::Dead { reason: DeadReason::RenderFailed }, task.attempts + 1, Some(attempt))
            }
        };
        let row = Row {
            seq,
            state,
            attempts,
            parts_done,
            key,
            manual: origin == Origin::Manual,
            attempt,
        };
        self.nothing_to_probe = false;
        if let Some(track) = self.track(run) {
            track.closed(shard, row, origin);
        }
    }

    /// The dialect has no word for it: nothing is written, the cursor passes.
    fn pass_over(&mut self, run: u32, place: Place, key: u64) {
        if let Some(track) = self.track(run) {
            track.passed_over(place, key);
        }
        self.settled(1);
    }

    /// It was not certain any more that this node may send it: it has its place again.
    fn recall(&mut self, run: u32, task: Task, probe: bool, now: Timestamp) {
        if probe {
            self.gate.probe_returned();
        }
        self.nothing_to_probe = false;
        if let Some(track) = self.track(run) {
            track.recall(task, now);
        }
        self.settled(1);
    }

    pub(super) fn judge(
        &self,
        report: &zapbus_channel::Report,
        task: &Task,
        probe: bool,
        now: Timestamp,
    ) -> Verdict {
        let tried = verdict::Tried {
            attempts: task.attempts,
            due: task.due,
            probe,
            ephemeral_since: task.event.ephemeral.then_some(task.event.received_at),
            code: report.status,
            manual: task.origin == Origin::Manual,
        };
        let outage = Outage { probing: self.gate.is_probing(), deaths: self.gate.memory.deaths };
        let preset = self.outlet.spec.retry.preset;
        let random = self.shared.random();
        judge(&report.outcome, tried, outage, preset, &self.schedule, now, random)
    }

    /// Draws the conclusions for the lane.
    pub(super) fn learn(
        &mut self,
        report: &zapbus_channel::Report,
        probe: bool,
        verdict: Verdict,
        now: Timestamp,
    ) {
        self.outlet.meter.attempted(&report.outcome, report.latency);
        let turn = match scope_of(&report.outcome) {
            None => self.gate.accepted(probe),
            Some((scope, after)) => {
                self.last_error.clone_from(&report.error);
                self.gate.failed(probe, scope, after, now)
            }
        };
        if let Verdict::Dead(_) = verdict {
            self.gate.memory.deaths += 1;
            self.shared.telemetry.dead.inc();
        }
        match turn {
            Turn::None => {}
            Turn::Flowing => {
                self.probe_rows = None;
                self.say(Kind::DestinationFlowing, None, now);
                tracing::info!(event = "lane.flowing", destination = %self.id, "the destination answers again");
            }
            Turn::Probing => {
                // What was read ahead is memory that others can use, and so is what is being read.
                self.era += 1;
                self.tracks.iter_mut().for_each(Track::rewind);
                self.read_ahead = None;
                self.say(Kind::DestinationProbing, report.error.clone(), now);
                tracing::warn!(
                    event = "lane.probing",
                    destination = %self.id,
                    error = report.error.as_deref().unwrap_or_default(),
                    "the destination fails; everything waits while it is probed"
                );
            }
            Turn::Exhausted => self.disable("it failed for too long without a single success", now),
        }
        if verdict == Verdict::Disable {
            self.disable("the destination answered 410 Gone", now);
        }
    }

    pub(super) fn say(&mut self, kind: Kind, reason: Option<String>, now: Timestamp) {
        self.voice.changed(Change { kind, reason, since: now });
    }

    /// Ends deliveries until a person resumes the destination; rows and cursor stay.
    pub(super) fn disable(&mut self, reason: &str, now: Timestamp) {
        if std::mem::replace(&mut self.phase, Phase::Closing) == Phase::Closing {
            return;
        }
        self.shared.disable(self.id, reason.to_owned(), now);
    }
}

fn state_of(verdict: Verdict, seq: Position, now: Timestamp) -> State {
    match verdict {
        Verdict::Delivered => State::Delivered,
        Verdict::Retry { due, .. } => State::Retrying { due },
        Verdict::Dead(reason) => State::Dead { reason },
        Verdict::Expired => State::Expired { to: seq, count: 1 },
        Verdict::Disable => State::Retrying { due: now },
    }
}

fn attempt_of(report: zapbus_channel::Report, started: Timestamp, number: u32) -> Attempt {
    let accepted = report.outcome == Outcome::Accepted;
    Attempt {
        at: started,
        number,
        code: report.status,
        latency_ms: u32::try_from(report.latency.as_millis()).unwrap_or(u32::MAX),
        error: if accepted { None } else { Some(report.error.unwrap_or_default()) },
        excerpt: report.excerpt,
        request_headers: report.request_headers,
        response_headers: report.response_headers,
    }
}

fn render_failure(error: String, started: Timestamp, number: u32) -> Attempt {
    Attempt {
        at: started,
        number,
        code: None,
        latency_ms: 0,
        error: Some(error),
        excerpt: bytes::Bytes::new(),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    }
}
