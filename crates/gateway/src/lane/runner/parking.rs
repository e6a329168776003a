//! Events that are held for their file, and with them their chat.
//!
//! Such an event has its turn and is on its way, as far as its track knows, but it takes no place in
//! the window: nothing is sent. When its time has come it is as if it had never been taken.

use std::{sync::Arc, time::Duration};

use zapbus_event::{Event, Timestamp};

use super::{Lane, Phase};
use crate::{
    lane::{
        Shared,
        track::{Origin, Place, Sending, Task},
    },
    media::{self, Named},
};

/// Events that a lane holds at most.
const MOST: usize = 1_000;

/// An event of some run, by its place.
pub(super) type Held = (u32, Place);

impl Lane {
    /// What is to be sent, unless it is to be held.
    pub(super) fn unless_held(
        &mut self,
        run: u32,
        sending: Sending,
        now: Timestamp,
    ) -> Option<Sending> {
        let Sending::Task(task) = sending else { return Some(sending) };
        let held = (run, task.place);
        let is_first = matches!(task.origin, Origin::First | Origin::Waited);
        if !is_first || self.let_through.remove(&held) || self.parked.len() >= MOST {
            return Some(Sending::Task(task));
        }
        let own = self.outlet.spec.wait_for_media_s;
        let most = Duration::from_secs(media::LONGEST_WAIT_S.into());
        if own == Some(0) || now.since(task.event.received_at) >= most {
            return Some(Sending::Task(task));
        }
        let Some(named) = Named::of(task.event.kind, &task.event.data) else {
            return Some(Sending::Task(task));
        };
        let (shared, event) = (Arc::clone(&self.shared), Arc::clone(&task.event));
        self.parked.insert(held, task);
        self.arriving.push(Box::pin(async move {
            wait(&shared, &event, &named, own).await;
            held
        }));
        None
    }

    /// It has its file, or its time is over.
    pub(super) fn arrived(&mut self, held: Held, now: Timestamp) {
        let Some(task) = self.parked.remove(&held) else { return };
        self.let_through.insert(held);
        self.give_back(held.0, task, now);
    }

    /// Nothing is held any more: what was is looked at again if it is still wanted.
    pub(super) fn unpark(&mut self, now: Timestamp) {
        self.arriving.clear();
        self.let_through.clear();
        for ((run, _), task) in std::mem::take(&mut self.parked) {
            self.give_back(run, task, now);
        }
    }

    fn give_back(&mut self, run: u32, task: Task, now: Timestamp) {
        if let Some(track) = self.track(run) {
            track.recall(task, now);
        }
    }

    /// Lets go of what is held when the lane does not deliver.
    pub(super) fn unpark_unless_open(&mut self, now: Timestamp) {
        if self.phase != Phase::Open && !self.parked.is_empty() {
            self.unpark(now);
        }
    }

    /// Bytes of events that are held.
    pub(super) fn parked_bytes(&self) -> usize {
        self.parked.values().map(|task| task.event.weight()).sum()
    }
}

/// Waits as long as the destination wants to, or the instance.
async fn wait(shared: &Shared, event: &Event, named: &Named, own: Option<u32>) {
    // Who it is cannot be told at the moment: then it is not held up by that too.
    let Ok(identity) = shared.rendering.identity(event.instance).await else { return };
    let wait = media::wait_of(identity.media, named, own);
    let about = (event.id, event.received_at);
    shared.arrivals.wait(&shared.store, &shared.clock, about, wait).await;
}
