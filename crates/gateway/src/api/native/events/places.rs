//! Where a reader of the journal stands: a position in each shard that it reads.

use zapbus_event::{EventId, Position, Timestamp};
use zapbus_store::{Reader, ShardId, Store};

use super::{is_seen, position_of};
use crate::{
    api::{auth::Caller, error::ApiError},
    app::App,
};

/// What precedes the positions in a cursor of a page.
const CURSOR: &str = "pos_";
/// What stands between them, where there are several shards.
const BETWEEN: char = '.';

const EXPECTED: &str = "expected an event id, a position, an RFC 3339 time such as \
                        2026-01-01T00:00:00Z, or the `next` of an earlier page";

/// A position in each shard of a reader, in the order of shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places(pub(super) Vec<(ShardId, Position)>);

impl Places {
    /// Before everything.
    fn beginning(store: &Store, reader: Reader) -> Self {
        let shards = match reader {
            Reader::Instance(instance) => vec![store.shard_of(instance)],
            Reader::Account(_) | Reader::All => (0..store.shards()).map(ShardId).collect(),
        };
        Self(shards.into_iter().map(|shard| (shard, Position::START)).collect())
    }

    /// Where `after=` points to, and whether it names a place (not a time), so that what is missing
    /// behind it is a gap.
    pub(super) async fn after(
        app: &App,
        caller: &Caller,
        reader: Reader,
        after: Option<&str>,
    ) -> Result<(Self, bool), ApiError> {
        let mut places = Self::beginning(&app.store, reader);
        let Some(text) = after else {
            return Ok((places, false));
        };
        if let Some(positions) = positions_of(text) {
            places.set(&positions)?;
            return Ok((places, true));
        }
        if let Ok(id) = text.parse::<EventId>() {
            for (shard, position) in &mut places.0 {
                *position = place_after(app, caller, *shard, id).await?;
            }
            return Ok((places, true));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            for (shard, position) in &mut places.0 {
                *position = app.store.position_at_in(*shard, time).await?;
            }
            return Ok((places, false));
        }
        Err(ApiError::query("after", EXPECTED))
    }

    fn set(&mut self, positions: &[Position]) -> Result<(), ApiError> {
        if positions.len() != self.0.len() {
            let message = match positions {
                [_] => {
                    "a position belongs to an instance, and here are several: give an event id, a \
                     time, or the `next` of an earlier page"
                }
                _ => "expected the `next` of an earlier page of this list",
            };
            return Err(ApiError::query("after", message));
        }
        for ((_, place), position) in self.0.iter_mut().zip(positions) {
            *place = *position;
        }
        Ok(())
    }

    /// Moves on in one shard.
    pub(super) fn move_to(&mut self, shard: ShardId, position: Position) {
        if let Some((_, place)) = self.0.iter_mut().find(|(known, _)| *known == shard) {
            *place = (*place).max(position);
        }
    }

    /// Whether events are missing behind it that were there.
    pub(super) async fn has_gap(&self, store: &Store, reader: Reader) -> Result<bool, ApiError> {
        for (shard, position) in &self.0 {
            if store.gap_after_in(*shard, reader, *position).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The text that [`Places::after`] reads back.
    pub(super) fn cursor(&self) -> String {
        let positions: Vec<String> =
            self.0.iter().map(|(_, position)| position.to_string()).collect();
        format!("{CURSOR}{}", positions.join(&BETWEEN.to_string()))
    }
}

/// One or more positions, as a caller or [`Places::cursor`] writes them.
fn positions_of(text: &str) -> Option<Vec<Position>> {
    match text.strip_prefix(CURSOR) {
        Some(cursor) => cursor.split(BETWEEN).map(position_of).collect(),
        None => position_of(text).map(|position| vec![position]),
    }
}

/// Where a caller goes on in a shard that has seen this event. One that it does not see is as good
/// as one that is no longer stored.
pub(in crate::api::native) async fn place_after(
    app: &App,
    caller: &Caller,
    shard: ShardId,
    id: EventId,
) -> Result<Position, ApiError> {
    Ok(match app.store.event(id).await? {
        Some(event) if !is_seen(app, caller, &event).await? => {
            app.store.position_at_in(shard, id.timestamp()).await?
        }
        _ => app.store.resolve_after_in(shard, id).await?,
    })
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
            read.set(&positions_of(&places.cursor()).unwrap()).unwrap();
            assert_eq!(read, places);
        }
    }

    #[test]
    fn one_position_means_nothing_in_several_shards() {
        let mut places = at(&[0, 0]);
        for text in ["17", "pos_17", "pos_1.2.3"] {
            assert!(places.set(&positions_of(text).unwrap()).is_err(), "{text}");
        }
        for text in ["pos_", "pos_1.", "pos_x", "1.2"] {
            assert_eq!(positions_of(text), None, "{text}");
        }
    }
}
