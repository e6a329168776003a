//! Commands, changes of configuration, and the end of a lane.

use std::collections::BTreeSet;
use std::sync::Arc;

use zapbus_event::Timestamp;
use zapbus_store::{Activity, LIVE, RunState, StoreError};

use super::{Lane, LaneStatus, Phase, STORE_PAUSE, selection};
use crate::lane::roster::{Command, Mode, Rest};
use crate::lane::track::Track;

impl Lane {
    /// Lets go of replays that are over.
    pub(super) async fn close_replays(&mut self) {
        // All of them: the lane may end after this step.
        while let Some(index) = self.tracks.iter().position(Track::is_over) {
            let track = &self.tracks[index];
            let lane = track.lane();
            if self.looking.contains(&lane.run) || self.paging.contains(&lane.run) {
                return;
            }
            if track.is_stopped() {
                self.tracks.remove(index);
                continue;
            }
            let actor = crate::lane::actor();
            match self.shared.store.set_run_state(lane, RunState::Done, &actor).await {
                Ok(_) | Err(StoreError::NotFound { .. } | StoreError::Refused { .. }) => {
                    self.tracks.remove(index);
                }
                Err(error) => return self.store_failed(&error),
            }
        }
    }

    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::Hold(answer) => {
                if self.phase == Phase::Open {
                    self.phase = Phase::Held;
                }
                // Nobody listens any more: then nobody changes anything either.
                if answer.send(self.tracks[0].cursor()).is_err() {
                    self.reload().await;
                }
            }
            Command::Reload { resumed } => {
                if resumed {
                    self.gate.memory = self.gate.memory.resumed();
                } else {
                    self.gate.memory.hurry(self.now());
                }
                self.reload().await;
            }
            Command::LookAt(run) => {
                let now = self.now();
                self.nothing_to_probe = false;
                if let Some(track) = self.track(run) {
                    track.look_again(now);
                }
                if run != LIVE {
                    self.missed_runs.insert(run);
                    self.load_missed_runs().await;
                }
            }
            Command::Status(answer) => {
                if answer.send(self.status()).is_err() {
                    tracing::debug!(event = "lane.status_unheard", destination = %self.id);
                }
            }
            Command::Stop => self.phase = Phase::Closing,
        }
    }

    /// Takes up runs that were made or changed, as soon as the store answers.
    pub(super) async fn load_missed_runs(&mut self) {
        if self.missed_runs.is_empty() || self.store_from.is_some() {
            return;
        }
        let runs = std::mem::take(&mut self.missed_runs);
        if let Err(error) = self.load_runs(&runs).await {
            self.missed_runs.extend(runs);
            self.store_failed(&error);
        }
    }

    /// Goes on as the store now says.
    pub(super) async fn reload(&mut self) {
        let opened = loop {
            match self.shared.open(self.id).await {
                Ok(opened) => break opened,
                Err(_) if self.shared.is_closing() => {
                    self.phase = Phase::Closing;
                    return;
                }
                Err(error) => {
                    self.store_failed(&error);
                    tokio::time::sleep(STORE_PAUSE).await;
                }
            }
        };
        let Some(opened) = opened else {
            self.phase = Phase::Closing;
            return;
        };
        if opened.destination.activity != Activity::Active {
            self.phase = Phase::Closing;
            return;
        }
        let lanes: Vec<_> = self.tracks.iter().map(Track::lane).collect();
        let mut starts = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let Ok(Some(start)) = self.shared.store.lane(lane).await else {
                // It will be woken again, and read afresh then.
                self.phase = Phase::Closing;
                return;
            };
            starts.push(start);
        }
        let now = self.now();
        let spec = Arc::clone(&opened.outlet.spec);
        let patience = self.shared.patience(&spec);
        self.gate.reconfigure(spec.max_in_flight, spec.rate_limit_per_s, patience, now);
        self.label.clone_from(&opened.destination.label);
        self.outlet = opened.outlet;
        self.schedule = opened.schedule;
        let live = selection(&opened.destination, &spec);
        self.tracks[0].move_to(starts[0].cursor);
        for (track, start) in self.tracks.iter_mut().zip(&starts) {
            // A replay keeps its choice of events; what it holds may have been called off.
            let selection = match track.lane().run {
                LIVE => live.clone(),
                _ => track.selection().reordered(spec.ordering),
            };
            track.select(selection, &start.held);
            if !track.is_stopped() {
                track.look_again(now);
            }
        }
        self.tracks.iter_mut().for_each(Track::rewind);
        self.nothing_to_probe = false;
        // A shutdown that came meanwhile is not undone.
        self.phase = if self.shared.is_closing() { Phase::Closing } else { Phase::Open };
    }

    pub(super) fn status(&self) -> LaneStatus {
        LaneStatus {
            health: self.gate.memory.health,
            in_flight: self.gate.in_flight(),
            cursor: self.tracks[0].cursor(),
            last_error: self.last_error.clone(),
        }
    }

    pub(super) fn may_end(&self, now: Timestamp) -> bool {
        let still = self.sends.is_empty()
            && self.writes.is_empty()
            && self.reads.is_empty()
            && self.tracks.iter().all(Track::is_still);
        if !still {
            return false;
        }
        match self.phase {
            Phase::Held => false,
            Phase::Closing => true,
            Phase::Open if self.store_from.is_some() => false,
            Phase::Open if self.gate.is_probing() => {
                !self.gate.probe_due(now) || self.nothing_to_probe
            }
            Phase::Open => {
                self.busy_at.elapsed() >= self.shared.linger()
                    && self
                        .tracks
                        .iter()
                        .all(|track| track.is_quiet() && track.look_at().is_none_or(|at| at > now))
            }
        }
    }

    /// Leaves the roster in order, unless something came up in the last moment.
    pub(super) fn end(&mut self) -> bool {
        let now = self.now();
        let mut roster = self.shared.roster();
        let probing = self.gate.is_probing();
        let rest = Rest {
            memory: self.gate.memory,
            voice: self.voice.clone(),
            last_error: self.last_error.clone(),
        };
        // While it probes, everything may be in rows, which stand still with it: then only the
        // search for a probe tells whether anything is left.
        let nothing_left =
            if probing { self.nothing_to_probe } else { self.tracks.iter().all(Track::is_quiet) };
        let looks = self.tracks.iter().filter_map(Track::look_at).min();
        let wake_at = match (probing, nothing_left) {
            (true, true) => None,
            (true, false) => Some(self.gate.opens_at(now).unwrap_or(now)),
            (false, true) => looks,
            (false, false) => Some(now),
        };
        let Some(entry) = roster.get_mut(self.id) else {
            return true;
        };
        // A stopped destination may still have to say so.
        let wake_at = wake_at.filter(|_| entry.head.active);
        let wake_at = [wake_at, rest.voice.due()].into_iter().flatten().min();
        // Under the roster's lock nobody can ring or write a command: what is there is there.
        if !self.commands.is_empty() || (self.phase == Phase::Open && self.mail.take_ring()) {
            self.nothing_to_probe = false;
            self.tracks.iter_mut().for_each(Track::wake);
            return false;
        }
        let live = &self.tracks[0];
        entry.cursor = live.cursor();
        entry.stored = entry.stored.max(live.stored());
        entry.mode = if nothing_left { Mode::Resting } else { Mode::Waiting };
        entry.rest = Some(Box::new(rest));
        let runs: BTreeSet<u32> = self.tracks[1..].iter().map(|track| track.lane().run).collect();
        entry.runs = (!runs.is_empty()).then(|| Box::new(runs));
        roster.set_wake(self.id, wake_at);
        drop(roster);
        self.shared.timer.notify_one();
        true
    }
}
