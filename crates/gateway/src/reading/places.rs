//! Where a reader of the journal stands: a position in each shard that it reads.

use zapbus_event::Position;
use zapbus_store::{Reader, ShardId, Store, StoreError};

/// What precedes the positions in a cursor.
const CURSOR: &str = "pos_";
/// What stands between them, where there are several shards.
const BETWEEN: char = '.';

/// The largest position: every JSON reader keeps it exact.
pub(crate) const MAX_POSITION: Position = Position((1 << 53) - 1);

/// A position in each shard of a reader, in the order of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places(pub(crate) Vec<(ShardId, Position)>);

impl Places {
    /// Before everything.
    pub(crate) fn beginning(store: &Store, reader: Reader) -> Self {
        let shards = match reader {
            Reader::Instance(instance) => vec![store.shard_of(instance)],
            Reader::Account(_) | Reader::All => (0..store.shards()).map(ShardId).collect(),
        };
        Self(shards.into_iter().map(|shard| (shard, Position::START)).collect())
    }

    /// Behind everything that is stored.
    pub(crate) fn head(store: &Store, reader: Reader) -> Self {
        let mut places = Self::beginning(store, reader);
        for (shard, position) in &mut places.0 {
            *position = *store.head_in(*shard).borrow();
        }
        places
    }

    /// Moves to positions that [`positions_of`] read; those of another number of shards mean
    /// nothing here.
    pub(crate) fn set(&mut self, positions: &[Position]) -> bool {
        if positions.len() != self.0.len() {
            return false;
        }
        for ((_, place), position) in self.0.iter_mut().zip(positions) {
            *place = *position;
        }
        true
    }

    /// Moves on in one shard, never back.
    pub(crate) fn move_to(&mut self, shard: ShardId, position: Position) {
        if let Some((_, place)) = self.0.iter_mut().find(|(known, _)| *known == shard) {
            *place = (*place).max(position);
        }
    }

    /// Whether events are missing behind it that were there.
    pub(crate) async fn has_gap(&self, store: &Store, reader: Reader) -> Result<bool, StoreError> {
        for (shard, position) in &self.0 {
            if store.gap_after_in(*shard, reader, *position).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The text that `after=` reads back.
    pub(crate) fn cursor(&self) -> String {
        let positions: Vec<String> =
            self.0.iter().map(|(_, position)| position.to_string()).collect();
        format!("{CURSOR}{}", positions.join(&BETWEEN.to_string()))
    }
}

/// One or more positions, as a caller or [`Places::cursor`] writes them.
pub(crate) fn positions_of(text: &str) -> Option<Vec<Position>> {
    match text.strip_prefix(CURSOR) {
        Some(cursor) => cursor.split(BETWEEN).map(position_of).collect(),
        None => position_of(text).map(|position| vec![position]),
    }
}

/// A position as text; one beyond all positions is the last one.
pub(crate) fn position_of(text: &str) -> Option<Position> {
    text.parse::<u64>().ok().map(|position| Position(position).min(MAX_POSITION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(positions: &[u64]) -> Places {
        let numbered = positions.iter().zip(0..);
        Places(numbered.map(|(at, shard)| (ShardId(shard), Position(*at))).collect())
    }

    #[test]
    fn a_cursor_reads_back_whatever_the_number_of_shards() {
        for places in [at(&[17]), at(&[0, 4_294_967_296, 3])] {
            let mut read = at(&vec![0; places.0.len()]);
            assert!(read.set(&positions_of(&places.cursor()).unwrap()));
            assert_eq!(read, places);
        }
    }

    #[test]
    fn one_position_means_nothing_in_several_shards() {
        let mut places = at(&[0, 0]);
        for text in ["17", "pos_17", "pos_1.2.3"] {
            assert!(!places.set(&positions_of(text).unwrap()), "{text}");
        }
        for text in ["pos_", "pos_1.", "pos_x", "1.2"] {
            assert_eq!(positions_of(text), None, "{text}");
        }
    }
}
