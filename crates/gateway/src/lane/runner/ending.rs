//! Commands, changes of configuration, and the end of a lane.

use std::collections::BTreeSet;
use std::sync::Arc;

use zapbus_event::Timestamp;
use zapbus_store::{Activity, LIVE, RunState, StoreError};

use super::{Lane, LaneStatus, Phase, STORE_PAUSE, beginning::selection};
use crate::lane::roster::{Command, Mode, Rest, Ring};
use crate::lane::track::Track;

impl Lane {
    /// Lets go of replays that are over.
    pub(super) async fn close_replays(&mut self) {
        // All of them: the lane may end after this step.
        while let Some(index) = self.tracks.iter().position(Track::is_over) {
            let track = &self.tracks[index];
            let lane = track.lane();
            if self.looking.contains(&lane.run) || self.is_paging(lane.run) {
                return;
            }
            if track.is_stopped() {
                self.tracks.remove(index);
                continue;
            }
            let actor = crate::lane::actor();
            let store = self.shared.store.clone();
            let done = async move { store.set_run_state(lane, RunState::Done, &actor).await };
            match self.meanwhile(done).await {
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
                if answer.send(self.tracks[0].cursors()).is_err() {
                    self.reload().await;
                }
            }
            Command::Reload { resumed } => self.begin_anew(resumed).await,
            Command::Refresh { resumed, runs } => {
                if resumed || !self.is_as_configured().await {
                    self.begin_anew(resumed).await;
                }
                let now = self.now();
                self.nothing_to_probe = false;
                for track in self.tracks.iter_mut().filter(|track| !track.is_stopped()) {
                    track.look_again(now);
                }
                // The live run stands for whatever may be new: replays are looked at either way.
                self.missed_runs.extend(runs.into_iter().chain([LIVE]));
                self.load_missed_runs().await;
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
            Command::Forget => self.forget(),
            Command::Status(answer) => {
                if answer.send(self.status()).is_err() {
                    tracing::debug!(event = "lane.status_unheard", destination = %self.id);
                }
            }
            Command::IsSending(id, answer) => {
                let track = self.track(id.lane.run);
                let sending = track.is_some_and(|track| track.is_sending(id.seq, id.shard));
                // Who has gone does not want to know any more.
                let _ = answer.send(sending);
            }
            Command::Stop => {
                if self.phase != Phase::Lost {
                    self.phase = Phase::Closing;
                }
            }
            Command::Lost => self.phase = Phase::Lost,
        }
    }

    /// Its configuration was changed.
    async fn begin_anew(&mut self, resumed: bool) {
        if resumed {
            self.gate.memory = self.gate.memory.resumed();
        } else {
            self.gate.memory.hurry(self.now());
        }
        self.reload().await;
    }

    /// Whether the store has the configuration that the lane goes by, as far as it can be asked.
    async fn is_as_configured(&mut self) -> bool {
        let (store, id) = (self.shared.store.clone(), self.id);
        match self.meanwhile(async move { store.destination(id).await }).await {
            Ok(Some(stored)) => {
                stored.updated_at == self.configured_at && stored.activity == Activity::Active
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Lets go of everything that was read and not sent, and of what is being read at the moment:
    /// when those answers come, they are asked for again. Not before, or questions would pile up
    /// while somebody erases much, and a lane whose store is slow would never hear an answer.
    fn forget(&mut self) {
        let now = self.now();
        self.era += 1;
        // Among what is held may be what was erased.
        self.unpark(now);
        self.probe_rows = None;
        self.nothing_to_probe = false;
        for track in &mut self.tracks {
            // What held a chat may be gone.
            if !track.is_stopped() {
                track.look_again(now);
            }
            track.rewind();
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
            let (shared, id, tenure) = (Arc::clone(&self.shared), self.id, self.tenure);
            match self.meanwhile(async move { shared.open(id, tenure).await }).await {
                Ok(opened) => break opened,
                Err(_) if self.shared.is_closing() => {
                    self.phase = Phase::Closing;
                    return;
                }
                Err(error) => {
                    self.store_failed(&error);
                    self.meanwhile(tokio::time::sleep(STORE_PAUSE)).await;
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
            let store = self.shared.store.clone();
            let starts_of = self.meanwhile(async move { store.lane_starts(lane).await });
            let Ok(Some(found)) = starts_of.await else {
                // It will be woken again, and read afresh then.
                self.phase = Phase::Closing;
                return;
            };
            starts.push(found);
        }
        let now = self.now();
        let spec = Arc::clone(&opened.outlet.spec);
        let patience = self.shared.patience(&spec);
        self.gate.reconfigure(spec.max_in_flight, spec.rate_limit_per_s, patience, now);
        self.configured_at = opened.destination.updated_at;
        self.label.clone_from(&opened.destination.label);
        self.outlet = opened.outlet;
        self.schedule = opened.schedule;
        let live = selection(&opened.destination, &spec);
        self.tracks[0].move_to(&starts[0]);
        for (track, starts) in self.tracks.iter_mut().zip(&starts) {
            // A replay keeps its choice of events; what it holds may have been called off.
            let selection = match track.lane().run {
                LIVE => live.clone(),
                _ => track.selection().reordered(spec.ordering),
            };
            track.select(selection, starts);
            if !track.is_stopped() {
                track.look_again(now);
            }
        }
        self.tracks.iter_mut().for_each(Track::rewind);
        self.nothing_to_probe = false;
        // A shutdown that came meanwhile is not undone, nor that the lane goes to another node.
        let stays = self.shared.roster().tenure(self.tenure.home) == Some(self.tenure);
        let ends = self.shared.is_closing() || !stays;
        self.phase = if ends { Phase::Closing } else { Phase::Open };
    }

    pub(super) fn status(&self) -> LaneStatus {
        LaneStatus {
            health: self.gate.memory.health,
            in_flight: self.gate.in_flight(),
            cursors: self.tracks[0].cursors(),
            last_error: self.last_error.clone(),
        }
    }

    pub(super) fn may_end(&self, now: Timestamp) -> bool {
        let still = self.sends.is_empty()
            && self.finished.is_empty()
            && self.writes_under_way() == 0
            && self.reads.is_empty()
            && self.answers.is_empty()
            && self.tracks.iter().all(Track::is_still);
        if !still {
            return false;
        }
        match self.phase {
            Phase::Held => false,
            Phase::Closing | Phase::Lost => true,
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
            configured_at: Some(self.configured_at),
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
        let Some(entry) = roster.get_mut(self.id).filter(|entry| entry.leads_to(&self.mail)) else {
            return true;
        };
        // A stopped destination may still have to say so.
        let wake_at = wake_at.filter(|_| entry.head.active);
        let wake_at = [wake_at, rest.voice.due()].into_iter().flatten().min();
        // Under the roster's lock nobody can ring or write a command: what is there is there.
        let rung = self.phase == Phase::Open && self.mail.take_ring().is_some();
        if rung || !self.commands.is_empty() {
            drop(roster);
            self.wake_tracks(Ring::ALL);
            return false;
        }
        for reach in self.tracks[0].reaches() {
            entry.cursors.pass(reach.shard(), reach.cursor());
            entry.cursors.written(reach.shard(), reach.stored());
        }
        entry.mode = if nothing_left { Mode::Resting } else { Mode::Waiting };
        entry.rest = Some(Box::new(rest));
        let runs: BTreeSet<u32> = self.tracks[1..].iter().map(|track| track.lane().run).collect();
        entry.runs = (!runs.is_empty()).then(|| Box::new(runs));
        roster.set_wake(self.id, wake_at);
        drop(roster);
        self.shared.timer.notify_one();
        true
    }

    /// Ends as it is: whatever was on its way is another node's to send again.
    pub(super) fn let_go(self) {
        self.shared.telemetry.in_flight.dec_by(i64::from(self.gate.in_flight()));
        let mut roster = self.shared.roster();
        // Unless it was taken off the roster already, which is soon.
        if let Some(entry) = roster.get_mut(self.id).filter(|entry| entry.leads_to(&self.mail)) {
            entry.mode = Mode::Waiting;
            roster.set_wake(self.id, Some(self.now() + STORE_PAUSE));
            drop(roster);
            self.shared.timer.notify_one();
        }
    }
}
