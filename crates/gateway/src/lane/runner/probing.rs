//! One probe at a time, by the lane's own clock.

use zapbus_event::Timestamp;

use super::{FREE_READ, Lane, PROBE_KEYS, PROBE_ROWS, Read};
use crate::lane::track::Track;

impl Lane {
    /// One probe at a time, by the lane's own clock.
    pub(super) fn probe(&mut self, now: Timestamp) {
        if !self.gate.probe_due(now) || self.store_from.is_some() || self.nothing_to_probe {
            return;
        }
        // A row on its way into the store could not be found: there would seem to be nothing.
        if self.writes_under_way() > 0 || self.tracks.iter().any(Track::is_dirty) {
            return;
        }
        // Runs take turns too: what is poisonous in one must not hide an endpoint that takes what
        // the others have.
        let (number, count) = (self.gate.probe_number() as usize, self.tracks.len());
        let mut order = (0..count).map(|n| (number + n) % count);
        let asked = self.probe_rows.as_ref().map(|(run, _)| *run);
        if let Some(at) =
            order.clone().position(|index| Some(self.tracks[index].lane().run) == asked)
            && at > 0
        {
            // Those before it had nothing to offer when they were asked a moment ago.
            order.nth(at - 1);
        }
        for index in order {
            let lane = self.tracks[index].lane();
            if self.looking.contains(&lane.run) || self.is_paging(lane.run) {
                return;
            }
            if self.tracks[index].is_recounting() {
                // An event that must wait for another could be taken for the oldest of its chat.
                self.recount(index);
                return;
            }
            let rows = match self.probe_rows.take() {
                Some((run, rows)) if run == lane.run => rows,
                _ => {
                    self.looking.insert(lane.run);
                    self.tracks[index].ask();
                    let store = self.shared.store.clone();
                    self.ask(async move {
                        let rows =
                            store.due(lane, Timestamp::from_millis(i64::MAX), PROBE_ROWS).await;
                        Read::Probe { run: lane.run, rows }
                    });
                    return;
                }
            };
            self.read_pages(index, now, Some(FREE_READ));
            if self.is_paging(lane.run) {
                self.probe_rows = Some((lane.run, rows));
                return;
            }
            let candidates = self.tracks[index].probe_candidates(&rows, PROBE_KEYS);
            if candidates.is_empty() {
                // `strict`: what is left may only wait, the event that it waited for being dead.
                if let Some(key) = self.tracks[index].wants_waiting() {
                    self.probe_rows = Some((lane.run, rows));
                    self.look_for_waiting(index, key);
                    return;
                }
                continue;
            }
            if !self.take_permit() {
                self.probe_rows = Some((lane.run, rows));
                return;
            }
            let turn = number / count % candidates.len();
            if let Some(sending) = self.tracks[index].probe(candidates[turn], rows) {
                self.start(lane.run, sending, true);
            }
            return;
        }
        self.nothing_to_probe = true;
    }
}
