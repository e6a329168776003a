//! Changes of a destination: from outside, and those a lane decides on itself.

use std::sync::Arc;

use tokio::sync::oneshot;
use zapbus_event::{DestinationId, Kind, Position, Timestamp};
use zapbus_store::{Activity, Health, NewEvent, Settlement, StoreError, Urgency};

use super::announce::Change;
use super::roster::{Command, Mail, Mode, Rest, live};
use super::{STORE_PAUSE, Shared, actor, announce};

impl Shared {
    /// Makes the lane stand still; returns its true cursor.
    pub(super) async fn hold(&self, id: DestinationId) -> Option<Position> {
        let mut unheard = None;
        loop {
            let (asked, answer) = {
                let mut roster = self.roster();
                let entry = roster.get_mut(id)?;
                let (sender, receiver) = oneshot::channel();
                match &entry.mode {
                    Mode::Running(mail)
                        if !is_same(mail, unheard.as_ref()) && mail.tell(Command::Hold(sender)) =>
                    {
                        (Arc::clone(mail), receiver)
                    }
                    _ => {
                        entry.mode = Mode::Held;
                        return Some(entry.cursor);
                    }
                }
            };
            match answer.await {
                Ok(cursor) => return Some(cursor),
                // That lane could not begin. Should another run by now, it is asked.
                Err(_) => unheard = Some(asked),
            }
        }
    }

    /// Lets the lane go on as the store says.
    pub(super) async fn release(self: &Arc<Self>, id: DestinationId) {
        let found = loop {
            match self.store.destination_head(id).await {
                Ok(found) => break found,
                Err(_) if self.is_closing() => return,
                Err(_) => tokio::time::sleep(STORE_PAUSE).await,
            }
        };
        let Some((head, cursor, health)) = found else {
            if let Some(entry) = self.roster().remove(id)
                && let Mode::Running(mail) = entry.mode
            {
                mail.tell(Command::Stop);
            }
            return;
        };
        let active = head.active;
        let was_active;
        let now = (self.clock)();
        {
            let mut roster = self.roster();
            was_active = roster.get(id).is_some_and(|entry| entry.head.active);
            roster.put(head, cursor, health);
            let Some(entry) = roster.get_mut(id) else { return };
            entry.stored = entry.stored.max(cursor);
            entry.cursor = entry.cursor.max(cursor);
            let resumed = active && !was_active;
            if resumed {
                let rest = entry.rest.get_or_insert_with(|| Box::new(Rest::new(Health::Flowing)));
                rest.memory = rest.memory.resumed();
            } else if let Some(rest) = &mut entry.rest {
                rest.memory.hurry(now);
            }
            let reload = Command::Reload { resumed };
            let reloading = matches!(&entry.mode, Mode::Running(mail) if mail.tell(reload));
            if !reloading {
                entry.mode = Mode::Unasked;
            }
        }
        if active {
            self.wake(id);
        }
        if active != was_active {
            self.announce_activity(id).await;
        }
    }

    /// The destination wants nothing any more, or has failed for too long.
    pub(super) fn disable(self: &Arc<Self>, id: DestinationId, reason: String, now: Timestamp) {
        self.set_activity(id, Activity::Disabled { reason, since: now });
    }

    /// Its configuration cannot be used.
    pub(super) fn suspend(self: &Arc<Self>, id: DestinationId, reason: String) {
        self.set_activity(id, Activity::Paused { reason, since: (self.clock)() });
    }

    pub(super) fn set_activity(self: &Arc<Self>, id: DestinationId, activity: Activity) {
        if let Some(entry) = self.roster().get_mut(id) {
            entry.head.active = false;
        }
        tracing::warn!(event = "lane.stopped", destination = %id, ?activity, "the destination is no longer delivered to");
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                // Not in the middle of somebody's change, which would undo this one unseen.
                let one_at_a_time = shared.changing.lock().await;
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
            shard: zapbus_store::ShardId::default(),
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
