//! What a lane reads: pages of the journal, due rows, waiting rows.

use std::{future::Future, sync::Arc};

use tokio::time::Instant;
use zapbus_event::Timestamp;
use zapbus_store::{Limit, StoreError};

use super::{Asked, FREE_READ, Lane, Phase, Read, STORE_PAUSE, WIDE_PERMITS, WIDE_READ};
use crate::lane::track::Track;

impl Lane {
    /// Reads what the tracks want: from memory at once, else in the background.
    pub(super) fn read(&mut self, now: Timestamp) {
        for index in 0..self.tracks.len() {
            self.read_rows(index, now);
            self.read_pages(index, now, None);
        }
        if self.queued_bytes() <= FREE_READ.bytes && self.paging.is_empty() {
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
            if !wants || self.paging.contains_key(&(run, shard)) {
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
            self.paging.insert((run, shard), limit.bytes);
            let (store, reader) = (self.shared.store.clone(), self.reader);
            self.ask(async move {
                let page = store.read_after_in(shard, reader, after, limit).await;
                Read::Page { run, shard, after, page }
            });
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
        // As if as much were at hand, or on its way, of every shard.
        let own = reaches[reach].queued_bytes() * reaches.len();
        let run = self.tracks[index].lane().run;
        let coming = self.paging.iter().filter(|((other, _), _)| *other != run);
        let coming: usize = coming.map(|(_, bytes)| bytes).sum();
        let bytes = limit.bytes.saturating_sub(others + own + coming);
        (bytes > 0).then_some(Limit { bytes, ..limit })
    }

    /// Asks what a track holds in rows, if it has to know and can be told: whether it was asked.
    pub(super) fn recount(&mut self, index: usize) -> bool {
        let track = &mut self.tracks[index];
        let lane = track.lane();
        if self.looking.contains(&lane.run) || !track.wants_recount() {
            return false;
        }
        let store = self.shared.store.clone();
        track.ask();
        self.looking.insert(lane.run);
        self.ask(
            async move { Read::Held { run: lane.run, starts: store.lane_starts(lane).await } },
        );
        true
    }

    pub(super) fn read_rows(&mut self, index: usize, now: Timestamp) {
        if self.store_from.is_some() || self.recount(index) {
            return;
        }
        let track = &mut self.tracks[index];
        let lane = track.lane();
        if self.looking.contains(&lane.run) {
            return;
        }
        let store = self.shared.store.clone();
        if track.wants_due(now) {
            let limit = track.begin_look();
            self.looking.insert(lane.run);
            self.ask(async move {
                let rows = store.due(lane, Timestamp::from_millis(i64::MAX), limit).await;
                Read::Due { run: lane.run, limit, rows }
            });
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
        self.ask(async move {
            Read::Waiting { run: lane.run, key, rows: store.waiting(lane, key, 1).await }
        });
    }

    /// Asks the store something in the background.
    pub(super) fn ask(&mut self, question: impl Future<Output = Read> + Send + 'static) {
        let era = self.era;
        self.reads.push(Box::pin(async move { Asked { era, read: question.await } }));
    }

    /// An answer that tells of what may be gone by now: it is asked again.
    fn discard(&mut self, read: &Read, now: Timestamp) {
        let run = match read {
            Read::Page { run, shard, .. } => {
                self.paging.remove(&(*run, *shard));
                return;
            }
            Read::Due { run, .. }
            | Read::Probe { run, .. }
            | Read::Held { run, .. }
            | Read::Waiting { run, .. } => *run,
        };
        self.looking.remove(&run);
        if let Some(track) = self.track(run) {
            track.answered();
            if matches!(read, Read::Due { .. }) && !track.is_stopped() {
                track.look_again(now);
            }
        }
    }

    pub(super) fn take(&mut self, Asked { era, read }: Asked) {
        let now = self.now();
        if era != self.era {
            return self.discard(&read, now);
        }
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
                    Ok(rows) if !is_old => {
                        // There are no rows at all, due or not: a replay that has read everything
                        // may be over.
                        if rows.is_empty()
                            && let Some(track) = self.track(run)
                        {
                            track.begin_look();
                            track.offer_due(Vec::new(), true, now);
                        }
                        self.probe_rows = Some((run, rows));
                    }
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            }
            Read::Held { run, starts } => {
                self.looking.remove(&run);
                match starts {
                    Ok(Some(starts)) => {
                        if let Some(track) = self.track(run) {
                            track.recount(&starts);
                        }
                    }
                    // It is gone; should it not be, it will be woken again, and read afresh then.
                    Ok(None) if self.phase == Phase::Open => self.phase = Phase::Closing,
                    Ok(None) => {}
                    Err(error) => failed = Some(error),
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
