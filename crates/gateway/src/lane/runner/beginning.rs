//! How a lane begins: what it needs is read, and which runs it takes up.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use tokio::time::Instant;
use zapbus_event::InstanceId;
use zapbus_store::{Destination, RunState, StoreError};

use super::{Lane, Phase, Shown};
use crate::{
    lane::{
        Shared,
        gate::Gate,
        roster::{live, reader_of},
        schedule::Schedule,
        send::Outlet,
        track::{Selection, Track},
        waking::Waking,
    },
    spec::Spec,
};

/// What a destination needs to be delivered to.
pub(in crate::lane) struct Opened {
    pub(in crate::lane) destination: Destination,
    pub(in crate::lane) outlet: Outlet,
    pub(in crate::lane) schedule: Schedule,
    /// Where events about the destination belong.
    pub(in crate::lane) notice_instance: InstanceId,
}

impl Lane {
    /// Reads what the lane needs and makes it ready to run.
    pub(in crate::lane) async fn wake(
        shared: Arc<Shared>,
        opened: Opened,
        waking: Waking,
    ) -> Result<Option<Self>, StoreError> {
        let Opened { destination, outlet, schedule, notice_instance } = opened;
        let Waking { id, tenure, cursors, mut rest, runs, mail, commands } = waking;
        let lane = live(id);
        let Some(starts) = shared.store.lane_starts(lane).await? else {
            return Ok(None);
        };
        let now = (shared.clock)();
        let spec = &outlet.spec;
        let configured_at = destination.updated_at;
        if rest.configured_at.is_some_and(|known| known != configured_at) {
            // Another node was told to change it, which may be the cure.
            rest.memory.hurry(now);
        }
        let gate = Gate::new(
            rest.memory,
            spec.max_in_flight,
            spec.rate_limit_per_s,
            shared.patience(spec),
            now,
        );
        let read_ahead_shown = Shown::new(shared.telemetry.read_ahead.clone());
        let mut lane = Self {
            reader: reader_of(destination.account, destination.instance),
            label: destination.label.clone(),
            tracks: vec![Track::new(lane, selection(&destination, spec), &starts, &cursors)],
            tenure,
            configured_at,
            shared,
            id,
            mail,
            commands,
            schedule,
            gate,
            stored_health: starts.first().map(|start| start.start.health),
            notice_instance,
            notices: Vec::new(),
            voice: rest.voice,
            last_error: rest.last_error,
            outlet,
            sends: FuturesUnordered::new(),
            reads: FuturesUnordered::new(),
            finished: VecDeque::new(),
            answers: VecDeque::new(),
            written: VecDeque::new(),
            era: 0,
            missed_runs: HashSet::new(),
            paging: HashMap::new(),
            looking: HashSet::new(),
            writes: FuturesOrdered::new(),
            unsure: false,
            store_from: None,
            store_troubled: false,
            probe_rows: None,
            nothing_to_probe: false,
            read_ahead: None,
            read_ahead_shown,
            parked: HashMap::new(),
            arriving: FuturesUnordered::new(),
            come: VecDeque::new(),
            let_through: HashSet::new(),
            permit: None,
            permit_wait: None,
            phase: Phase::Open,
            sent_count: 0,
            flushed_at: Instant::now(),
            busy_at: Instant::now(),
        };
        lane.load_runs(&runs).await?;
        Ok(Some(lane))
    }

    /// Takes up replays that are running, and ended ones that still have rows to send.
    pub(super) async fn load_runs(&mut self, also: &HashSet<u32>) -> Result<(), StoreError> {
        let now = self.now();
        let (store, id) = (self.shared.store.clone(), self.id);
        for run in self.meanwhile(async move { store.runs(id).await }).await? {
            let number = run.lane.run;
            let known = self.tracks.iter_mut().find(|track| track.lane() == run.lane);
            if let Some(track) = known {
                match run.state {
                    // One that has come to its end may still have rows to send.
                    RunState::Running | RunState::Done => track.go_on(now),
                    RunState::Paused | RunState::Cancelled => track.stop(),
                }
                continue;
            }
            let wanted = run.state == RunState::Running
                || (run.state == RunState::Done && also.contains(&number));
            if !wanted {
                continue;
            }
            let (store, lane) = (self.shared.store.clone(), run.lane);
            let starts = self.meanwhile(async move { store.lane_starts(lane).await }).await?;
            let Some(starts) = starts else { continue };
            let selection = Selection {
                filter: run.filter.clone(),
                exclude_ephemeral: false,
                ordering: self.outlet.spec.ordering,
            };
            self.tracks.push(Track::new(run.lane, selection, &starts, &[]));
        }
        Ok(())
    }
}

/// Which events a destination takes.
pub(super) fn selection(destination: &Destination, spec: &Spec) -> Selection {
    Selection {
        filter: destination.filter.clone(),
        exclude_ephemeral: destination.exclude_ephemeral,
        ordering: spec.ordering,
    }
}
