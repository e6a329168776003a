//! The shards of a reader, read as one journal.

use std::{collections::VecDeque, sync::Arc};

use zapbus_event::{Event, Position};
use zapbus_store::{Limit, Reader, ShardId, Store, StoreError};

use super::places::Places;

/// Stretches of the journal one page may look at before it is cut short, besides one per shard.
const READS: usize = 20;

/// Events of all shards, by the time at which they were received. Order is promised within an
/// instance only: an event that is being stored elsewhere may be found a moment later.
pub(crate) struct Merged {
    store: Store,
    reader: Reader,
    streams: Vec<Stream>,
    reads: usize,
    /// How often something had to be read from the database.
    asked: usize,
}

struct Stream {
    shard: ShardId,
    /// Everything up to here was taken.
    at: Position,
    events: VecDeque<Arc<Event>>,
    /// Where it goes on when `events` are taken.
    upto: Position,
    at_head: bool,
    read: bool,
}

/// What comes next.
pub(crate) enum Next {
    /// This event; the same again until it is taken.
    Event(Arc<Event>),
    /// Nothing: this is all there is.
    AtHead,
    /// Nothing that could be found with so many reads.
    CutShort,
}

impl Merged {
    pub(crate) fn new(store: &Store, reader: Reader, places: &Places) -> Self {
        let stream = |(shard, at): &(ShardId, Position)| Stream {
            shard: *shard,
            at: *at,
            events: VecDeque::new(),
            upto: *at,
            at_head: false,
            read: false,
        };
        let streams: Vec<Stream> = places.0.iter().map(stream).collect();
        Self { store: store.clone(), reader, reads: READS + streams.len(), asked: 0, streams }
    }

    /// The next event. `wanted` says how many more the page may take.
    pub(crate) async fn peek(&mut self, wanted: Limit) -> Result<Next, StoreError> {
        let share = self.streams.len();
        for stream in &mut self.streams {
            while stream.events.is_empty() && !stream.at_head {
                if self.reads == 0 {
                    return Ok(Next::CutShort);
                }
                self.reads -= 1;
                let asked = stream.read(&self.store, self.reader, wanted, share).await?;
                self.asked += usize::from(asked);
            }
        }
        let heads = self.streams.iter().filter_map(|stream| stream.events.front());
        let first = heads.min_by_key(|event| event.received_at);
        Ok(first.map_or(Next::AtHead, |event| Next::Event(event.clone())))
    }

    /// Whether something had to be read from the database: what is in memory was never pruned.
    pub(crate) fn lags(&self) -> bool {
        self.asked > 0
    }

    /// How often it had to be: before each of them something may have been pruned.
    pub(crate) fn asked(&self) -> usize {
        self.asked
    }

    /// Takes the event that [`Merged::peek`] showed.
    pub(crate) fn take(&mut self, event: &Event) {
        let is_it =
            |stream: &&mut Stream| stream.events.front().is_some_and(|front| front.id == event.id);
        if let Some(stream) = self.streams.iter_mut().find(is_it) {
            stream.at = event.seq;
            stream.events.pop_front();
            if stream.events.is_empty() {
                stream.at = stream.upto;
            }
        }
    }

    /// Everything up to here was taken.
    pub(crate) fn places(&self) -> Places {
        Places(self.streams.iter().map(|stream| (stream.shard, stream.at)).collect())
    }
}

impl Stream {
    /// Of several streams each brings its share at first, and what is wanted when that was not
    /// enough: events may all be in one. Whether the database had to be asked.
    async fn read(
        &mut self,
        store: &Store,
        reader: Reader,
        wanted: Limit,
        share: usize,
    ) -> Result<bool, StoreError> {
        let share = if self.read { 1 } else { share };
        self.read = true;
        let limit =
            Limit { events: wanted.events.div_ceil(share), bytes: wanted.bytes.div_ceil(share) };
        let (page, asked) = match store.tail_after_in(self.shard, reader, self.at, limit) {
            Some(page) => (page, false),
            None => (store.read_after_in(self.shard, reader, self.at, limit).await?, true),
        };
        self.upto = page.upto.max(self.at);
        self.at_head = page.at_head;
        self.events = page.events.into();
        if self.events.is_empty() {
            self.at = self.upto;
        }
        Ok(asked)
    }
}
