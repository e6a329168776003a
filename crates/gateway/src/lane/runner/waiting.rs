//! What a lane waits for, and for how long.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::OptionFuture};
use tokio::time::Instant;
use zapbus_event::Timestamp;

use super::{FLUSH_EVERY, Lane, Phase, STORE_PAUSE};
use crate::lane::track::Track;

/// No sleep is longer: the wall clock may jump, and due times are wall-clock times.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

impl Lane {
    /// Waits for something in the middle of a step, and sees to it that what is under way gets on:
    /// a send that renders, a read or a write may have the place in the store that is waited for.
    /// What comes of it is looked at when the step is over.
    pub(super) async fn meanwhile<T>(&mut self, something: impl Future<Output = T>) -> T {
        let mut something = pin!(something);
        loop {
            tokio::select! {
                biased;
                result = &mut something => return result,
                Some(sent) = self.sends.next(), if !self.sends.is_empty() => {
                    self.finished.push_back(sent);
                }
                Some(write) = self.writes.next(), if !self.writes.is_empty() => {
                    self.written.push_back(write);
                }
                Some(read) = self.reads.next(), if !self.reads.is_empty() => {
                    self.answers.push_back(read);
                }
                Some(held) = self.arriving.next(), if !self.arriving.is_empty() => {
                    self.come.push_back(held);
                }
            }
        }
    }

    pub(super) async fn wait(&mut self, now: Timestamp) {
        let is_behind = !self.finished.is_empty()
            || !self.written.is_empty()
            || !self.answers.is_empty()
            || !self.come.is_empty();
        if is_behind {
            while let Some(sent) = self.finished.pop_front() {
                self.finish(sent);
            }
            while let Some(write) = self.written.pop_front() {
                self.wrote(write);
            }
            while let Some(read) = self.answers.pop_front() {
                self.take(read);
            }
            while let Some(held) = self.come.pop_front() {
                self.arrived(held, now);
            }
            return;
        }
        let sleep = self.sleep(now);
        let mail = Arc::clone(&self.mail);
        tokio::select! {
            biased;
            Some(command) = self.commands.recv() => self.obey(command).await,
            Some(sent) = self.sends.next(), if !self.sends.is_empty() => {
                self.finish(sent);
                // Outcomes that came together are settled together.
                while let Some(Some(sent)) = self.sends.next().now_or_never() {
                    self.finish(sent);
                }
            }
            Some(write) = self.writes.next(), if !self.writes.is_empty() => self.wrote(write),
            Some(read) = self.reads.next(), if !self.reads.is_empty() => self.take(read),
            Some(held) = self.arriving.next(), if !self.arriving.is_empty() => {
                let now = self.now();
                self.arrived(held, now);
            }
            Some(permit) = OptionFuture::from(self.permit_wait.as_mut()) => {
                self.permit_wait = None;
                self.permit = permit;
            }
            () = mail.rung() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }

    /// How long nothing will happen by itself.
    fn sleep(&self, now: Timestamp) -> Duration {
        let until = |at: Timestamp| at.since(now);
        let mut sleep = LONGEST_SLEEP.min(FLUSH_EVERY);
        if self.phase == Phase::Open {
            // Once it has lingered, it ends as soon as nothing is left: no time brings that about.
            let lingers = self.shared.linger().saturating_sub(self.busy_at.elapsed());
            if !lingers.is_zero() {
                sleep = sleep.min(lingers);
            }
            if let Some(at) = self.gate.opens_at(now).filter(|at| *at > now) {
                sleep = sleep.min(until(at));
            }
            if !self.gate.is_probing() {
                for at in self.tracks.iter().filter_map(Track::look_at) {
                    // A look that is under way, or waits for rows to be sent, wakes us itself.
                    if at > now {
                        sleep = sleep.min(until(at));
                    }
                }
            }
        }
        if let Some(at) = self.voice.due().filter(|at| *at > now) {
            sleep = sleep.min(until(at));
        }
        if self.unsure {
            sleep = sleep.min(STORE_PAUSE);
        }
        if let Some(from) = self.store_from {
            sleep = sleep.min(from.saturating_duration_since(Instant::now()));
        }
        // Wall-clock times have millisecond steps: round up, or the last one is spun away.
        sleep + Duration::from_millis(1)
    }
}
