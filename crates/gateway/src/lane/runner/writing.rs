//! Settlements: what gathers while one is being written goes with the next.

use tokio::time::Instant;
use zapbus_event::Timestamp;
use zapbus_store::{LIVE, NewEvent, Settlement, StoreError, Urgency};

use super::{
    FLUSH_AFTER, FLUSH_EVERY, Lane, MAX_WRITES, Phase, WORTH_A_WRITE, Write, WritePart, announce,
};
use crate::lane::track::{Reach, Track};

impl Lane {
    /// Writes what has gathered, unless it is better to let more gather.
    pub(super) fn write(&mut self, now: Timestamp) {
        if self.store_from.is_some() || self.phase == Phase::Lost || !self.may_write() {
            return;
        }
        let health = self.gate.memory.health;
        if let Some(change) = self.voice.take(now) {
            let draft = announce::draft(self.id, &self.label, change);
            self.notices.push(NewEvent { instance: self.notice_instance, draft });
        }
        let mut settlements = Vec::new();
        let mut parts = Vec::new();
        let flush = self.flushed_at.elapsed() >= FLUSH_EVERY || self.phase != Phase::Open;
        for track in &mut self.tracks {
            let lane = track.lane();
            let live = lane.run == LIVE;
            // Both are the lane's as a whole: they go with the first shard that has something.
            let mut health = (live && Some(health) != self.stored_health).then_some(health);
            let mut events = if live { std::mem::take(&mut self.notices) } else { Vec::new() };
            for reach in track.reaches_mut() {
                let skips = reach.unwritten_skips();
                let due = skips >= FLUSH_AFTER || (flush && skips > 0);
                if !reach.is_dirty() && health.is_none() && events.is_empty() && !due {
                    continue;
                }
                let shard = reach.shard();
                let (rows, cursor) = reach.take_outbox();
                let events = std::mem::take(&mut events);
                let settlement = Settlement {
                    lane,
                    epoch: Some(self.tenure.epoch),
                    shard,
                    cursor,
                    health: health.take(),
                    rows: rows.clone(),
                    events: events.clone(),
                };
                settlements.push(settlement);
                parts.push(WritePart { run: lane.run, shard, rows, cursor, events });
            }
        }
        if settlements.is_empty() {
            return;
        }
        if flush {
            self.flushed_at = Instant::now();
        }
        self.stored_health = Some(health);
        let urgency = if self.gate.is_full() || self.phase != Phase::Open {
            Urgency::Now
        } else {
            Urgency::CanRide
        };
        let store = self.shared.store.clone();
        self.writes.push_back(Box::pin(async move {
            let result = store.settle(settlements, urgency).await;
            Write { parts, result }
        }));
    }

    /// One write at a time, until the window is full: then sending waits for the store, and an
    /// outcome should not miss the next commit because an earlier one is in this one.
    fn may_write(&self) -> bool {
        let reaches = || self.tracks.iter().flat_map(Track::reaches);
        let rows = || reaches().map(Reach::unwritten_rows).sum::<usize>();
        let under_way = self.writes_under_way();
        under_way == 0 || (self.gate.is_full() && under_way < MAX_WRITES && WORTH_A_WRITE <= rows())
    }

    /// Writes whose end the lane has not taken note of yet.
    pub(super) fn writes_under_way(&self) -> usize {
        self.writes.len() + self.written.len()
    }

    pub(super) fn wrote(&mut self, write: Write) {
        match write.result {
            Ok(()) => {
                self.store_troubled = false;
                // There may be rows now that were not there when probes were looked for, and those
                // that were chosen from may have changed.
                self.nothing_to_probe = false;
                self.probe_rows = None;
                for part in write.parts {
                    if let Some(track) = self.track(part.run) {
                        let settled = track.written(part.shard, part.cursor);
                        self.settled(settled);
                    }
                }
            }
            Err(StoreError::LeaseLost { .. }) => self.phase = Phase::Lost,
            Err(error) => {
                // The store knows nothing of it: the outcomes stay here and are written later.
                for part in write.parts {
                    if let Some(track) = self.track(part.run) {
                        track.not_written(part.shard, part.rows);
                    }
                    self.notices.extend(part.events);
                }
                self.stored_health = None;
                self.store_failed(&error);
            }
        }
    }

    pub(super) fn settled(&mut self, count: u32) {
        self.gate.settled(count);
        self.shared.telemetry.in_flight.dec_by(i64::from(count));
    }
}
