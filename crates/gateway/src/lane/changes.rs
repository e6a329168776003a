//! Changes of a destination: from outside, and those a lane decides on itself.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;
use zapbus_event::{DestinationId, Kind, Position, Timestamp};
use zapbus_store::{Activity, Health, NewEvent, Settlement, ShardId, StoreError, Urgency};

use super::announce::Change;
use super::loading::News;
use super::roster::{Command, Mail, Mode, Rest, live};
use super::{STORE_PAUSE, Shared, actor, announce};

impl Shared {
    /// Makes the lane stand still; returns where it truly is in each shard. Nothing, if it is not
    /// run here: then it is where the store says.
    pub(super) async fn hold(&self, id: DestinationId) -> Vec<(ShardId, Position)> {
        let mut unheard = None;
        loop {
            let (asked, answer) = {
                let mut roster = self.roster();
                let Some(entry) = roster.get_mut(id) else { return Vec::new() };
                let (sender, receiver) = oneshot::channel();
                match &entry.mode {
                    Mode::Running(mail)
                        if !is_same(mail, unheard.as_ref()) && mail.tell(Command::Hold(sender)) =>
                    {
                        (Arc::clone(mail), receiver)
                    }
                    _ => {
                        entry.mode = Mode::Held;
                        return entry.cursors.positions();
                    }
                }
            };
            match answer.await {
                Ok(cursors) => return cursors,
                // That lane could not begin. Should another run by now, it is asked.
                Err(_) => unheard = Some(asked),
            }
        }
    }

    /// Lets the lane go on as the store says, after it was held for a change.
    pub(super) async fn release(self: &Arc<Self>, id: DestinationId) {
        self.go_on(id, false).await;
    }

    /// Another node may have changed the destination, its runs or its rows: the lane goes on as the
    /// store says, if it is run here. A change of this node's own is no news.
    pub(super) async fn refresh(self: &Arc<Self>, id: DestinationId) {
        let _one_at_a_time = self.changing.lock().await;
        self.go_on(id, true).await;
    }

    async fn go_on(self: &Arc<Self>, id: DestinationId, is_rumour: bool) {
        let Some(found) = self.insist(|| self.stored_now(id)).await else { return };
        let Some(stored) = found else { return self.drop_lane(id) };
        if !self.roster().holds(stored.home) {
            return;
        }
        let news = if is_rumour {
            let Some(runs) = self.insist(|| self.store.runs_with_rows(id)).await else { return };
            News::Rumour(runs)
        } else {
            News::Changed
        };
        let active = stored.head.active;
        let changed = self.take_in(&mut self.roster(), stored, news);
        if active {
            self.wake(id);
        }
        if changed {
            self.announce_activity(id).await;
        }
    }

    /// Asks the store until it answers; `None`: the gateway closes.
    async fn insist<T, F>(&self, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(_) if self.is_closing() => return None,
                Err(_) => tokio::time::sleep(STORE_PAUSE).await,
            }
        }
    }

    /// The destination wants nothing any more, or has failed for too long.
    pub(super) fn disable(self: &Arc<Self>, id: DestinationId, reason: String, now: Timestamp) {
        self.set_activity(id, Activity::Disabled { reason, since: now });
    }

    /// Its configuration, as it was `seen`, cannot be used. If it is another by now, that stands.
    pub(super) fn suspend(self: &Arc<Self>, id: DestinationId, reason: String, seen: Value) {
        let paused = Activity::Paused { reason, since: (self.clock)() };
        self.set_activity_of(id, paused, Some(seen));
    }

    pub(super) fn set_activity(self: &Arc<Self>, id: DestinationId, activity: Activity) {
        self.set_activity_of(id, activity, None);
    }

    fn set_activity_of(
        self: &Arc<Self>,
        id: DestinationId,
        activity: Activity,
        seen: Option<Value>,
    ) {
        if let Some(entry) = self.roster().get_mut(id) {
            entry.head.active = false;
        }
        tracing::warn!(event = "lane.stopped", destination = %id, ?activity, "the destination is no longer delivered to");
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                // Not in the middle of somebody's change, which would undo this one unseen.
                let one_at_a_time = shared.changing.lock().await;
                if let Some(seen) = &seen
                    && let Ok(Some(stored)) = shared.store.destination_to_replace(id).await
                    && stored.spec != *seen
                {
                    return shared.go_on(id, false).await;
                }
                match shared.store.set_activity(id, &activity, &actor()).await {
                    Ok(()) | Err(StoreError::NotFound { .. }) => {
                        // A change before this one may have let the lane go on.
                        shared.silence(id);
                        break;
                    }
                    Err(_) if shared.closing.is_cancelled() => return,
                    Err(_) => {}
                }
                drop(one_at_a_time);
                tokio::time::sleep(STORE_PAUSE).await;
            }
            shared.announce_activity(id).await;
        });
    }

    /// Nothing wakes the lane any more; if it runs, it reads in the store that it is to stop.
    fn silence(&self, id: DestinationId) {
        let mut roster = self.roster();
        let Some(entry) = roster.get_mut(id) else { return };
        entry.head.active = false;
        if let Mode::Running(mail) = &entry.mode {
            mail.tell(Command::Reload { resumed: false });
        }
    }

    /// Tells of a pause, a disabling or a resumption, unless something was told less than a
    /// minute ago: then a timer does.
    pub(super) async fn announce_activity(&self, id: DestinationId) {
        let Ok(Some(destination)) = self.store.destination(id).await else { return };
        let now = (self.clock)();
        let (kind, reason, since) = match destination.activity {
            Activity::Active => (Kind::DestinationFlowing, None, now),
            Activity::Paused { reason, since } => (Kind::DestinationPaused, Some(reason), since),
            Activity::Disabled { reason, since } => {
                (Kind::DestinationDisabled, Some(reason), since)
            }
        };
        {
            let mut roster = self.roster();
            let Some(entry) = roster.get_mut(id) else { return };
            let rest = entry.rest.get_or_insert_with(|| Box::new(Rest::new(Health::Flowing)));
            rest.voice.changed(Change { kind, reason, since });
        }
        self.announce_due(id, now).await;
    }

    /// Says what a lane without a task has to say, if its time has come.
    pub(super) async fn announce_due(&self, id: DestinationId, now: Timestamp) {
        let change = {
            let mut roster = self.roster();
            let Some(entry) = roster.get_mut(id) else { return };
            let Some(rest) = &mut entry.rest else { return };
            let change = rest.voice.take(now);
            // A lane that runs says it itself; for any other the timer does.
            if let Some(due) = rest.voice.due()
                && !matches!(entry.mode, Mode::Running(_))
            {
                roster.set_wake_earlier(id, due);
                self.timer.notify_one();
            }
            change
        };
        let Some(change) = change else { return };
        if !self.tell(id, change.clone()).await {
            // Nobody was told: it is said again when the lane speaks next.
            let mut roster = self.roster();
            if let Some(rest) = roster.get_mut(id).and_then(|entry| entry.rest.as_mut()) {
                rest.voice.unsaid(change);
            }
        }
    }

    /// Writes the event that tells of a change; whether it is written, or nobody is left to tell.
    async fn tell(&self, id: DestinationId, change: Change) -> bool {
        let destination = match self.store.destination(id).await {
            Ok(Some(destination)) => destination,
            Ok(None) => return true,
            Err(_) => return false,
        };
        let instance = match destination.instance {
            Some(instance) => instance,
            None => match self.reserved_instance(destination.account).await {
                Ok(instance) => instance,
                Err(_) => return false,
            },
        };
        let draft = announce::draft(id, &destination.label, change);
        let settlement = Settlement {
            lane: live(id),
            // No lane's word: whoever holds the shard may tell of its destinations.
            epoch: None,
            // Events find theirs by themselves.
            shard: ShardId::default(),
            cursor: None,
            health: None,
            rows: Vec::new(),
            events: vec![NewEvent { instance, draft }],
        };
        let written = self.store.settle(vec![settlement], Urgency::CanRide).await;
        if let Err(error) = &written {
            tracing::warn!(event = "lane.announce", destination = %id, %error, "a change of state could not be told");
        }
        written.is_ok()
    }
}

fn is_same(mail: &Arc<Mail>, other: Option<&Arc<Mail>>) -> bool {
    other.is_some_and(|other| Arc::ptr_eq(mail, other))
}
