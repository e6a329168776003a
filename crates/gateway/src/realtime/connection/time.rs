//! When a connection has to do something by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, End};
use crate::realtime::{STALLED, protocol::Protocol};

/// A connection that takes nothing, because it does not read or its window is full, keeps what was
/// read ahead for no longer: it may be erased meanwhile, or pruned behind it.
const HOLD: Duration = Duration::from_secs(1);
/// No sleep is longer: the clock may jump.
const LONGEST: Duration = Duration::from_secs(30);

impl<P: Protocol> Connection<P> {
    /// What is due by now.
    pub(super) fn pass(&mut self, now: Instant) -> Option<End> {
        if self.state.retry_at.is_some_and(|at| at <= now) {
            self.state.retry_at = None;
            self.state.work = true;
        }
        if self.subscription.due().is_some_and(|due| due <= self.realtime.now()) {
            self.state.work = true;
        }
        if self.feed.holds() && self.state.produced_at.is_none_or(|at| now >= at + HOLD) {
            self.feed.rest();
        }
        let config = &self.realtime.inner.config;
        if self.state.flushing {
            let since = *self.state.flushing_since.get_or_insert(now);
            if now >= since + config.stall() {
                return Some(End::Close(1008, STALLED));
            }
        } else if let Some(pinged) = self.state.pinged_at
            && now >= pinged + self.pong_within()
        {
            return Some(End::Close(1008, "a ping was not answered"));
        }
        None
    }

    /// While something is on its way, that shows whether the other side lives.
    pub(super) fn ping(&mut self, now: Instant) {
        if self.state.flushing {
            return;
        }
        if let Some(frame) = self.protocol.heartbeat() {
            self.state.flushing = self.wire.push(frame);
        } else if self.wire.ping() {
            self.state.flushing = true;
        }
        if self.wire.answers() {
            self.state.pinged_at.get_or_insert(now);
        }
    }

    pub(super) fn ping_every(&self) -> Duration {
        self.protocol.ping_every().unwrap_or_else(|| self.realtime.inner.config.ping_every())
    }

    fn pong_within(&self) -> Duration {
        self.protocol.pong_within().unwrap_or_else(|| self.realtime.inner.config.pong_within())
    }

    pub(super) fn deadline(&self, ping_at: Instant) -> Instant {
        let now = Instant::now();
        let config = &self.realtime.inner.config;
        let mut deadline = ping_at.min(now + LONGEST);
        if let Some(at) = self.state.retry_at {
            deadline = deadline.min(at);
        }
        if self.feed.holds() {
            deadline = deadline.min(self.state.produced_at.unwrap_or(now) + HOLD);
        }
        if self.state.flushing {
            let since = self.state.flushing_since.unwrap_or(now);
            let hold = if now < since + HOLD { HOLD } else { config.stall() };
            deadline = deadline.min(since + hold);
        } else {
            if let Some(pinged) = self.state.pinged_at {
                deadline = deadline.min(pinged + self.pong_within());
            }
            let can_send = self.state.retry_at.is_none() && !self.realtime.is_frozen();
            if let Some(due) = self.subscription.due().filter(|_| can_send) {
                deadline = deadline.min(now + due.since(self.realtime.now()));
            }
        }
        deadline
    }
}
