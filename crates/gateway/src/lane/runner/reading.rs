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

    pub(super) fn read_pages(&mut self, index: usize, now: Timestamp, limit: Option<Limit>) {
        loop {
            let run = self.tracks[index].lane().run;
            if !self.tracks[index].wants_page() || self.paging.contains(&run) {
                return;
            }
            let Some(limit) = limit.or_else(|| self.read_limit()) else { return };
            let track = &mut self.tracks[index];
            let limit = Limit { events: limit.events.min(track.page_room()), ..limit };
            let after = track.ask_page();
            if let Some(page) = self.shared.store.tail_after(self.reader, after, limit) {
                track.offer(&page, now);
                continue;
            }
            if self.store_from.is_some() {
                return;
            }
            self.paging.insert(run);
            let (store, reader) = (self.shared.store.clone(), self.reader);
            self.reads.push(Box::pin(async move {
                Read::Page { run, after, page: store.read_after(reader, after, limit).await }
            }));
            return;
        }
    }

    /// How much may be read ahead at the moment; `None`: nothing more until some of it is sent.
    pub(super) fn read_limit(&mut self) -> Option<Limit> {
        if self.read_ahead.is_none() {
            let room = Arc::clone(&self.shared.read_ahead);
            self.read_ahead = room.try_acquire_many_owned(WIDE_PERMITS).ok();
        }
        let queued: usize = self.tracks.iter().map(Track::queued_bytes).sum();
        let limit = if self.read_ahead.is_some() { WIDE_READ } else { FREE_READ };
        (queued < limit.bytes).then_some(limit)
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
                Read::Held { run: lane.run, start: store.lane(lane).await }
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
            Read::Page { run, after, page } => {
                self.paging.remove(&run);
                match (page, self.track(run)) {
                    (Ok(page), Some(track)) => track.offer_after(after, &page, now),
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
                let is_old = self.track(run).is_none_or(|track| !track.answered().is_empty());
                match rows {
                    Ok(rows) if !is_old => self.probe_rows = Some((run, rows)),
                    Ok(_) => {}
                    Err(error) => failed = Some(error),
                }
            }
            Read::Held { run, start } => {
                self.looking.remove(&run);
                match (start, self.track(run)) {
                    (Ok(Some(start)), Some(track)) => track.recount(&start.held),
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
