//! The journal and the rows in the store, as far as one lane can tell.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use zapbus_event::{
    DestinationId, Event, EventId, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
};
use zapbus_store::{
    DueRow, Health, HeldKey, LIVE, LaneId, LaneStart, Page, Row, ShardId, ShardStart, State,
};

use super::{Place, key_of};

const NOW: i64 = 1_767_225_600_000;

pub(super) fn now() -> Timestamp {
    Timestamp::from_millis(NOW)
}

pub(super) fn lane() -> LaneId {
    LaneId { destination: DestinationId::new(now(), 1), run: LIVE }
}

pub(super) fn event(seq: u64, chat: u8) -> Arc<Event> {
    Arc::new(Event {
        id: EventId::new(now(), u128::from(seq)),
        seq: Position(seq),
        instance: InstanceId::new(now(), 1),
        kind: Kind::MessageReceived,
        facet: None,
        occurred_at: now(),
        occurred_at_estimated: false,
        received_at: now(),
        source: Source {
            kind: SourceKind::Native,
            event: "message.received".to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        dedup_key: None,
        partition: format!("chat-{chat}"),
        history: false,
        ephemeral: false,
        client_id: None,
        hops: 0,
        data: Bytes::from_static(b"{}"),
        raw: Raw::Data,
    })
}

/// One shard.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) journal: Vec<Arc<Event>>,
    pub(super) rows: BTreeMap<Position, Row>,
    pub(super) cursor: Position,
}

impl Part {
    fn held(&self) -> Vec<HeldKey> {
        let mut held: HashMap<u64, HeldKey> = HashMap::new();
        for row in self.rows.values() {
            let waiting = row.state == State::Waiting;
            if !waiting && !matches!(row.state, State::Retrying { .. }) {
                continue;
            }
            let key = held.entry(row.key).or_insert(HeldKey {
                key: row.key,
                first: row.seq,
                rows: 0,
                waiting: 0,
            });
            key.rows += 1;
            key.waiting += u64::from(waiting);
        }
        held.into_values().collect()
    }

    pub(super) fn head(&self) -> Position {
        self.journal.last().map_or(Position::START, |event| event.seq)
    }

    pub(super) fn page(&self, after: Position, events: usize) -> Page {
        let rest = self.journal.iter().filter(|event| event.seq > after);
        let events: Vec<_> = rest.take(events.max(1)).cloned().collect();
        let upto = events.last().map_or(self.head().max(after), |event| event.seq);
        Page { at_head: upto >= self.head(), upto, events }
    }
}

/// All shards that the lane reads. A chat is always in the same one.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) parts: Vec<Part>,
}

impl Model {
    pub(super) fn new(shards: usize) -> Self {
        Self { parts: (0..shards).map(|_| Part::default()).collect() }
    }

    pub(super) fn part(&mut self, shard: ShardId) -> &mut Part {
        &mut self.parts[usize::from(shard.0)]
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = (ShardId, &Part)> {
        (0..).map(ShardId).zip(&self.parts)
    }

    pub(super) fn commit(&mut self, chat: u8) -> ShardId {
        let shard = ShardId(u16::from(chat) % self.parts.len() as u16);
        let part = self.part(shard);
        part.journal.push(event(part.head().0 + 2, chat));
        shard
    }

    /// Everything that was ever accepted.
    pub(super) fn events(&self) -> impl Iterator<Item = (Place, &Arc<Event>)> {
        self.shards().flat_map(|(shard, part)| {
            part.journal.iter().map(move |event| (Place { seq: event.seq, shard }, event))
        })
    }

    pub(super) fn row(&self, place: Place) -> Option<&Row> {
        self.parts.get(usize::from(place.shard.0))?.rows.get(&place.seq)
    }

    pub(super) fn is_settled(&self, place: Place) -> bool {
        let state = self.row(place).map(|row| row.state);
        matches!(state, Some(State::Delivered | State::Dead { .. }))
    }

    pub(super) fn starts(&self) -> Vec<ShardStart> {
        let next_due = self.due(usize::MAX).first().map(|row| row.due);
        self.shards()
            .map(|(shard, part)| ShardStart {
                shard,
                end: None,
                start: LaneStart {
                    cursor: part.cursor,
                    health: Health::Flowing,
                    beyond: part.rows.keys().copied().filter(|seq| *seq > part.cursor).collect(),
                    held: part.held(),
                    next_due,
                },
            })
            .collect()
    }

    fn due_row(&self, shard: ShardId, row: &Row, due: Timestamp) -> DueRow {
        let journal = &self.parts[usize::from(shard.0)].journal;
        DueRow {
            shard,
            event: journal.iter().find(|event| event.seq == row.seq).cloned(),
            seq: row.seq,
            due,
            attempts: row.attempts,
            parts_done: row.parts_done,
            key: row.key,
            manual: row.manual,
        }
    }

    pub(super) fn due(&self, limit: usize) -> Vec<DueRow> {
        let mut rows = Vec::new();
        for (shard, part) in self.shards() {
            for row in part.rows.values() {
                if let State::Retrying { due } = row.state {
                    rows.push(self.due_row(shard, row, due));
                }
            }
        }
        rows.sort_by_key(|row| (row.due, row.seq));
        rows.truncate(limit);
        rows
    }

    pub(super) fn waiting(&self, key: u64) -> Option<DueRow> {
        self.shards().find_map(|(shard, part)| {
            let mut rows = part.rows.values();
            let row = rows.find(|row| row.key == key && row.state == State::Waiting)?;
            Some(self.due_row(shard, row, now()))
        })
    }

    /// Each event at or below the cursor is accounted for by a row.
    pub(super) fn check_cursors(&self) {
        for (place, _) in self.events() {
            let passed = place.seq <= self.parts[usize::from(place.shard.0)].cursor;
            assert!(!passed || self.row(place).is_some(), "{place:?} was passed without a row");
        }
    }

    /// The first event of a key before `place` that `is_closed` does not know to be settled.
    pub(super) fn open_before(
        &self,
        place: Place,
        key: u64,
        is_closed: impl Fn(Place) -> bool,
    ) -> Option<Place> {
        let own = self.events().filter(|(other, event)| {
            other.shard == place.shard && other.seq < place.seq && key_of(event) == key
        });
        own.map(|(other, _)| other).find(|other| !is_closed(*other))
    }
}
