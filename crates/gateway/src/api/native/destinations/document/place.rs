//! Places in the journal, as callers name them.

use zapbus_event::{EventId, InstanceId, Timestamp};
use zapbus_store::{ShardId, Start};

use crate::{
    api::{auth::Caller, error::ApiError, native::events::place_after},
    app::App,
    reading::position_of,
};

/// A place in the journal as a caller names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api::native) enum Place {
    /// One the store knows how to find.
    Start(Start),
    /// After this event.
    Event(EventId),
}

impl Place {
    /// Reads `now`, `beginning`, an RFC 3339 time, an event id or a position.
    pub(in crate::api::native) fn read(path: &str, text: &str) -> Result<Self, ApiError> {
        Ok(Self::Start(match text {
            "now" => Start::Now,
            "beginning" => Start::Beginning,
            text => {
                if let Ok(id) = text.parse::<EventId>() {
                    return Ok(Self::Event(id));
                } else if let Some(position) = position_of(text) {
                    Start::After(position)
                } else if let Ok(time) = text.parse::<Timestamp>() {
                    Start::Time(time)
                } else {
                    return Err(ApiError::invalid(
                        path,
                        "expected `now`, `beginning`, an RFC 3339 time such as \
                         2026-01-01T00:00:00Z, an event id or a position",
                    ));
                }
            }
        }))
    }

    /// As the store takes it, for a destination of this instance or of a whole account. `path` is
    /// what the caller calls it.
    pub(in crate::api::native) async fn start(
        self,
        path: &str,
        app: &App,
        caller: &Caller,
        instance: Option<InstanceId>,
    ) -> Result<Start, ApiError> {
        let shard = match instance {
            Some(instance) => Some(app.store.shard_of(instance)),
            None => (app.store.shards() == 1).then(ShardId::default),
        };
        Ok(match (self, shard) {
            (Self::Event(id), Some(shard)) => {
                Start::After(place_after(app, caller, shard, id).await?)
            }
            // In the other shards there is only the time to go by: what was received in the same
            // millisecond may come again, and nothing is missed.
            (Self::Event(id), None) => Start::Time(id.timestamp()),
            (Self::Start(Start::After(_)), None) => {
                return Err(ApiError::invalid(
                    path,
                    "a position belongs to an instance, and this destination has those of a whole \
                     account: expected an event id, an RFC 3339 time or `beginning`",
                ));
            }
            (Self::Start(start), _) => start,
        })
    }
}

#[cfg(test)]
mod tests {
    use zapbus_event::Position;

    use super::*;

    #[test]
    fn a_place_in_the_journal_is_read_in_every_form() {
        let id: EventId = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        for (text, expected) in [
            ("now", Place::Start(Start::Now)),
            ("beginning", Place::Start(Start::Beginning)),
            ("17", Place::Start(Start::After(Position(17)))),
            (
                "2026-01-01T00:00:00Z",
                Place::Start(Start::Time("2026-01-01T00:00:00Z".parse().unwrap())),
            ),
            ("evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", Place::Event(id)),
        ] {
            assert_eq!(Place::read("start", text).unwrap(), expected, "{text}");
        }
        assert!(Place::read("start", "yesterday").is_err());
    }
}
