//! What a subscription reads: from memory at the head of the journal, in pages behind it.

use std::{sync::Arc, time::Duration};

use zapbus_event::{Event, Position, Timestamp};
use zapbus_store::{Limit, Reader, ShardId, Store, StoreError};

use super::hub::Wants;
use crate::reading::{Merged, Next, Places};

/// What is read at a time: what a connection that takes nothing keeps in memory at most, besides
/// what is on its way.
const PAGE: Limit = Limit { events: 128, bytes: 64 << 10 };

/// A sign of typing that is older than this says nothing any more.
const EPHEMERAL_LIFE: Duration = Duration::from_secs(60);

/// A cursor with what is read beyond it.
pub(super) struct Feed {
    reader: Reader,
    wants: Wants,
    places: Places,
    page: Option<Box<Page>>,
    /// Everything that is committed was read.
    caught_up: bool,
    /// Something was committed since the page was read.
    stale: bool,
    /// Gaps that were told of, by shard: what was pruned up to there.
    told: Vec<(ShardId, Position)>,
}

struct Page {
    merged: Merged,
    /// How many of its reads are known to have nothing missing before them that nobody was told of.
    checked: usize,
}

/// What comes next.
pub(super) enum Step {
    /// This event; the same again until it is taken.
    Event(Arc<Event>),
    /// Events before what comes next are missing that were there.
    Gap { after: Places, first: Option<Position>, resumes: Places },
    /// Nothing for now.
    AtHead,
}

impl Feed {
    /// One that begins behind `places`.
    pub(super) fn new(reader: Reader, wants: Wants, places: Places) -> Self {
        Self { reader, wants, places, page: None, caught_up: false, stale: false, told: Vec::new() }
    }

    /// Nothing that is missing by now is a gap: it begins at a time, not behind an event.
    pub(super) async fn forgive(&mut self, store: &Store) -> Result<(), StoreError> {
        for (shard, _) in &self.places.0 {
            let first = store.first_position_in(*shard, self.reader).await?;
            self.told.push((*shard, first));
        }
        Ok(())
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// What is read comes from the database: hardly anybody else reads the same now.
    pub(super) fn lags(&self) -> bool {
        self.page.as_ref().is_some_and(|page| page.merged.lags())
    }

    /// Takes in what the bell says: something was committed, or nothing that is wanted.
    pub(super) fn heed(&mut self, rung: bool, quiet: &[(ShardId, Position)]) {
        if self.caught_up {
            quiet.iter().for_each(|(shard, position)| self.places.move_to(*shard, *position));
        }
        self.caught_up &= !rung;
        self.stale |= rung;
    }

    /// Whether something was read and not taken.
    pub(super) fn holds(&self) -> bool {
        self.page.is_some()
    }

    /// Lets go of what was read and not taken: it is read again.
    pub(super) fn rest(&mut self) {
        if let Some(page) = self.page.take() {
            self.places = page.merged.places();
        }
    }

    /// What comes next.
    pub(super) async fn next(&mut self, store: &Store, now: Timestamp) -> Result<Step, StoreError> {
        if self.caught_up {
            return Ok(Step::AtHead);
        }
        loop {
            let page = match &mut self.page {
                Some(page) => page,
                none => {
                    self.stale = false;
                    let merged = Merged::new(store, self.reader, &self.places);
                    none.insert(Box::new(Page { merged, checked: 0 }))
                }
            };
            let next = page.merged.peek(PAGE).await?;
            if page.checked < page.merged.asked() {
                page.checked = page.merged.asked();
                let first = match &next {
                    Next::Event(event) => Some(event.seq),
                    Next::AtHead | Next::CutShort => None,
                };
                if let Some(gap) = self.gap(store, first).await? {
                    return Ok(gap);
                }
                continue;
            }
            match next {
                Next::Event(event) if self.is_wanted(&event, now) => return Ok(Step::Event(event)),
                Next::Event(event) => self.take(store, &event),
                Next::AtHead => {
                    self.rest();
                    // The head of then is not the head of now.
                    if self.stale {
                        continue;
                    }
                    self.caught_up = true;
                    return Ok(Step::AtHead);
                }
                Next::CutShort => self.rest(),
            }
        }
    }

    /// Takes the event that [`Feed::next`] showed.
    pub(super) fn take(&mut self, store: &Store, event: &Event) {
        if let Some(page) = &mut self.page {
            page.merged.take(event);
        }
        self.places.move_to(store.shard_of(event.instance), event.seq);
    }

    fn is_wanted(&self, event: &Event, now: Timestamp) -> bool {
        let is_stale = event.ephemeral && now.since(event.received_at) > EPHEMERAL_LIFE;
        !is_stale && self.wants.matches(event)
    }

    /// Looked for after reading: what is pruned between the two is at worst told of in vain.
    async fn gap(
        &mut self,
        store: &Store,
        next: Option<Position>,
    ) -> Result<Option<Step>, StoreError> {
        let mut resumes = self.places.clone();
        let mut found = false;
        for (shard, at) in &self.places.0 {
            if !store.gap_after_in(*shard, self.reader, *at).await? {
                continue;
            }
            let first = store.first_position_in(*shard, self.reader).await?;
            match self.told.iter_mut().find(|(known, _)| known == shard) {
                Some((_, told)) if *told >= first => continue,
                Some((_, told)) => *told = first,
                None => self.told.push((*shard, first)),
            }
            resumes.move_to(*shard, first);
            found = true;
        }
        let first = next.filter(|_| matches!(self.reader, Reader::Instance(_)));
        Ok(found.then(|| Step::Gap { after: self.places.clone(), first, resumes }))
    }
}
