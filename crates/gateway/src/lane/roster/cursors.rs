//! Where a destination's live run stands.

use zapbus_event::Position;
use zapbus_store::ShardId;

/// How far a run has come in one shard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    /// Everything at or below is settled, skipped or held in rows.
    pub(crate) at: Position,
    /// The same as the store has it.
    pub(crate) stored: Position,
}

impl Cursor {
    fn is_unwritten(self) -> bool {
        self.at > self.stored
    }
}

/// A destination of one instance has one cursor, and most destinations are of that kind; one of a
/// whole account has a cursor in each shard.
#[derive(Debug, Clone)]
pub(crate) enum Cursors {
    One(ShardId, Cursor),
    Each(Box<[(ShardId, Cursor)]>),
}

impl Cursors {
    /// As the store has them.
    pub(crate) fn new(stored: &[(ShardId, Position)]) -> Self {
        let cursor = |(shard, at): &(ShardId, Position)| (*shard, Cursor { at: *at, stored: *at });
        match stored {
            [one] => {
                let (shard, cursor) = cursor(one);
                Self::One(shard, cursor)
            }
            all => Self::Each(all.iter().map(cursor).collect()),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ShardId, Cursor)> + '_ {
        let (one, each) = match self {
            Self::One(shard, cursor) => (Some((*shard, *cursor)), [].as_slice()),
            Self::Each(all) => (None, &all[..]),
        };
        one.into_iter().chain(each.iter().copied())
    }

    /// How far it has truly come.
    pub(crate) fn positions(&self) -> Vec<(ShardId, Position)> {
        self.iter().map(|(shard, cursor)| (shard, cursor.at)).collect()
    }

    /// What the store does not know yet.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = (ShardId, Position)> + '_ {
        self.iter()
            .filter(|(_, cursor)| cursor.is_unwritten())
            .map(|(shard, cursor)| (shard, cursor.at))
    }

    fn get_mut(&mut self, shard: ShardId) -> Option<&mut Cursor> {
        match self {
            Self::One(own, cursor) => (*own == shard).then_some(cursor),
            // All shards, in order.
            Self::Each(all) => all.get_mut(usize::from(shard.0)).map(|(_, cursor)| cursor),
        }
    }

    /// It has come further in a shard. Never back.
    pub(crate) fn pass(&mut self, shard: ShardId, to: Position) {
        if let Some(cursor) = self.get_mut(shard) {
            cursor.at = cursor.at.max(to);
        }
    }

    /// The store knows by now.
    pub(crate) fn written(&mut self, shard: ShardId, upto: Position) {
        if let Some(cursor) = self.get_mut(shard) {
            cursor.stored = cursor.stored.max(upto);
        }
    }

    /// The store has it so: it may have been moved on there.
    pub(crate) fn adopt(&mut self, stored: &[(ShardId, Position)]) {
        for (shard, at) in stored {
            self.written(*shard, *at);
            self.pass(*shard, *at);
        }
    }
}
