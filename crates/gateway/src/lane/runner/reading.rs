//! What a lane reads: pages of the journal, due rows, waiting rows.

use std::sync::Arc;

use tokio::time::Instant;
use zapbus_event::Timestamp;
use zapbus_store::{Limit, StoreError};

use super::{FREE_READ, Lane, Read, STORE_PAUSE, WIDE_PERMITS, WIDE_READ};
use crate::lane::track::Track;

impl Lane {
    /// Reads what the tracks want: from memory at once, else in the background.
    pub(super) fn read(&mut self, now: Timestamp) {
        for index in 0..self.tracks.len() {
            self.read_rows(index, now);
            self.read_pages(index, now, None);
        }
        let queued: usize = self.tracks.iter().map(Track::queued_bytes).sum();
        if queued <= FREE_READ.bytes && self.paging.is_empty() {
            self.read_ahead = None;
        }
    }

    /// Asks for what a track wants of the journal. `limit`: no more than that, whatever room there is.
    pub(super) fn read_pages(&mut self, index: usize, now: Timestamp, limit: Option<Limit>) {
        for reach in 0..self.tracks[index].reaches().len() {
            self.read_reach(index, reach, now, limit);
        }
    }

    fn read_reach(&mut self, index: usize, at: usize, now: Timestamp, limit: Option<Limit>) {
        loop {
            let track = &self.tracks[index];
            let (run, shard) = (track.lane().run, track.reaches()[at].shard());
            let wants = !track.is_stopped() && track.reaches()[at].wants_page();
            if !wants || self.paging.contains(&(run, shard)) {
                return;
            }
            let Some(limit) = limit.or_else(|| self.read_limit(index, at)) else { return };
            let track = &mut self.tracks[index];
            // Each shard has its share, so that what is at hand of one keeps none from being read.
            let shards = track.reaches().len();
            let reach = &mut track.reaches_mut()[at];
            let limit = Limit {
                events: (limit.events / shards).clamp(1, reach.page_room().max(1)),
                bytes: limit.bytes / shards,
            };
            let after = reach.ask_page();
            if let Some(page) = self.shared.store.tail_after_in(shard, self.reader, after, limit) {
                track.offer(shard, &page, now);
                continue;
            }
            if self.store_from.is_some() {
                return;
            }
            self.paging.insert((run, shard));
            let (store, reader) = (self.shared.store.clone(), self.reader);
            self.reads.push(Box::pin(async move {
                let page = store.read_after_in(shard, reader, after, limit).await;
                Read::Page { run, shard, after, page }
            }));
            return;
        }
    }

    /// How much may be read ahead in a shard at the moment; `None`: nothing more until some of it is
    /// sent.
    fn read_limit(&mut self, index: usize, reach: usize) -> Option<Limit> {
        if self.read_ahead.is_none() {
            let room = Arc::clone(&self.shared.read_ahead);
            self.read_ahead = room.try_acquire_many_owned(WIDE_PERMITS).ok();
        }
        let limit = if self.read_ahead.is_some() { WIDE_READ } else { FREE_READ };
        let others = self.tracks.iter().enumerate().filter(|(other, _)| *other != index);
        let others: usize = others.map(|(_, track)| track.queued_bytes()).sum();
        let reaches = self.tracks[index].reaches();
        // As if as much were at hand of every shard.
        let own = reaches[reach].queued_bytes() * reaches.len();
        (others + own < limit.bytes).then_some(limit)
    }

    pub(super) fn read_rows(&mut self, index: usize, now: Timestamp) {
        if self.store_from.is_some() {
            return;
        }
        let track = &mut self.tracks[index];
        let lane = track.lane();
        if self.looking.contains(&lane.run) {
            return;
        }
        let store = self.shared.store.clone();
        if track.wants_recount() {
            track.ask();
            self.looking.insert(lane.run);
            self.reads.push(Box::pin(async move {
                Read::Held { run: lane.run, starts: store.lane_starts(lane).await }
            }));
        } else if track.wants_due(now) {
            let limit = track.begin_look();
            self.looking.insert(lane.run);
            self.reads.push(Box::pin(async move {
                let rows = store.due(lane, Timestamp::from_millis(i64::MAX), limit).await;
                Read::Due { run: lane.run, limit, rows }
            }));
        } else if let Some(key) = track.wants_waiting() {
            self.look_for_waiting(index, key);
        }
    }

    /// Asks for the next waiting row of a key.
    pub(super) fn look_for_waiting(&mut self, index: usize, key: u64) {
        let track = &mut self.tracks[index];
        let (lane, store) = (track.lane(), self.shared.store.clone());
        track.ask();
        self.looking.insert(lane.run);
        self.reads.push(Box::pin(async move {
            Read::Waiting { run: lane.run, key, rows: store.waiting(lane, key, 1).await }
        }));
    }

    pub(super) async fn take(&mut self, read: Read) {
        let now = self.now();
        let mut failed = None;
        match read {
            Read::Page { run, shard, after, page } => {
                self.paging.remove(&(run, shard));
                match (page, self.track(run)) {
                    (Ok(page), Some(track)) => track.offer_after(shard, after, &page, now),
                    (Err(error), _) => failed = Some(error),
                    (Ok(_), None) => {}
                }
            }
            Read::Due { run, limit, rows } => {
                self.looking.remove(&run);
                match (rows, self.track(run)) {
                    (Ok(rows), Some(track)) => {
                        let complete = rows.len() < limit;
                        track.offer_due(rows, complete, now);
                    }
                    (Err(error), track) => {
                        if let Some(track) = track {
                            track.answered();
                            track.look_again(now);
                        }
                        failed = Some(error);
                    }
                    (Ok(_), None) => {}
                }
            }
            Read::Probe { run, rows } => {
                self.looking.remove(&run);
                let is_old = self.track(run).is_none_or(Track::answered);
                match rows {
                    Ok(rows) if !is_old => self.probe_rows = Some((run, rows)),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            }
            Read::Held { run, starts } => {
                self.looking.remove(&run);
                match (starts, self.track(run)) {
                    (Ok(Some(starts)), Some(track)) => track.recount(&starts),
                    (Err(error), _) => failed = Some(error),
                    (Ok(_), _) => {}
                }
            }
            Read::Waiting { run, key, rows } => {
                self.looking.remove(&run);
                match (rows, self.track(run)) {
                    (Ok(rows), Some(track)) => track.offer_waiting(key, rows.into_iter().next()),
                    (Err(error), _) => failed = Some(error),
                    (Ok(_), None) => {}
                }
            }
        }
        if let Some(error) = failed {
            self.store_failed(&error);
        }
    }

    pub(super) fn store_failed(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.store_troubled, true) {
            tracing::warn!(event = "lane.store", destination = %self.id, %error, "the store did not answer; trying again");
        }
        self.store_from = Some(Instant::now() + STORE_PAUSE);
    }
}
