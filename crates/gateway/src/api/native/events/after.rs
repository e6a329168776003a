//! Where `after=` points to.

use std::time::Duration;

use zapbus_event::{EventId, Position, Timestamp};
use zapbus_store::{Limit, Reader, ShardId};

use super::is_seen;
use crate::{
    api::{auth::Caller, error::ApiError},
    app::App,
    reading::{Places, positions_of},
};

/// How an event that comes from another shard than the one that `after` names may be older than it:
/// by as much as a commit may take.
const LATE: Duration = Duration::from_secs(10);

const EXPECTED: &str = "expected an event id, a position, an RFC 3339 time such as \
                        2026-01-01T00:00:00Z, or the `next` of an earlier page";

/// Where `after=` points to, and whether it names a place (not a time), so that what is missing
/// behind it is a gap.
pub(in crate::api) async fn places_after(
    app: &App,
    caller: &Caller,
    reader: Reader,
    after: Option<&str>,
) -> Result<(Places, bool), ApiError> {
    let mut places = Places::beginning(&app.store, reader);
    let Some(text) = after else {
        return Ok((places, false));
    };
    if let Some(positions) = positions_of(text) {
        if !places.set(&positions) {
            let message = match positions[..] {
                [_] => {
                    "a position belongs to an instance, and here are several: give an event id, a \
                     time, or the `next` of an earlier page"
                }
                _ => "expected the `next` of an earlier page of this list",
            };
            return Err(ApiError::query("after", message));
        }
        return Ok((places, true));
    }
    if let Ok(id) = text.parse::<EventId>() {
        let is_stored = app.store.locate(id).await?.is_some();
        for (shard, position) in &mut places.0 {
            *position = place_after(app, caller, *shard, id).await?;
            if !is_stored {
                *position = before_what_is_missing(app, reader, *shard, *position).await?;
            }
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

/// Where a stream goes on behind an event, a place or a time, and whether that names a place. Of
/// several shards some events may come again; none is missing.
pub(in crate::api) async fn places_of_stream(
    app: &App,
    caller: &Caller,
    reader: Reader,
    after: &str,
) -> Result<(Places, bool), ApiError> {
    let (mut places, exact) = places_after(app, caller, reader, Some(after)).await?;
    // What another shard has stored a little later may be a little older.
    if places.0.len() > 1
        && let Ok(id) = after.parse::<EventId>()
    {
        let home = app.store.locate(id).await?.map(|(shard, _)| shard);
        for (shard, position) in &mut places.0 {
            if Some(*shard) != home {
                let before = app.store.position_at_in(*shard, id.timestamp() - LATE).await?;
                *position = before.min(*position);
            }
        }
    }
    Ok((places, exact))
}

/// An id that is older than all that is stored was resolved to the beginning of that: where its
/// reader stands it has missed what was pruned in between, and it must be told.
async fn before_what_is_missing(
    app: &App,
    reader: Reader,
    shard: ShardId,
    resolved: Position,
) -> Result<Position, ApiError> {
    let first = Limit { events: 1, bytes: 1 };
    let page = app.store.read_after_in(shard, Reader::All, Position::START, first).await?;
    if page.events.first().is_some_and(|first| first.seq <= resolved) {
        return Ok(resolved);
    }
    let pruned = app.store.first_position_in(shard, reader).await?;
    Ok(if pruned > Position::START { resolved.min(Position(pruned.0 - 1)) } else { resolved })
}

/// Where a caller goes on in a shard that has seen this event. One that it does not see is as good
/// as one that is no longer stored.
pub(in crate::api) async fn place_after(
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
