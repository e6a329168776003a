//! How far destinations are behind, measured now and then, so that a scrape costs nothing.
//!
//! Only the destinations whose cursors are furthest behind are measured, and of what waits for
//! them only what was not counted the time before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use zapbus_event::{DestinationId, Position};
use zapbus_store::{Behind, Reader, ShardId, StoreError};

use super::{
    Shared,
    roster::{Laggard, Standing, live},
};
use crate::telemetry::{
    self,
    lag::{Lag, Picture},
};

/// Entries of the journal's index that one round looks at, whoever they are counted for.
const COUNTED_AT_ONCE: usize = 200_000;

/// What has been counted for a destination in one shard.
#[derive(Debug, Clone, Copy)]
struct Known {
    from: Position,
    upto: Position,
    events: u64,
}

/// Measures, again and again.
pub(super) async fn watch(shared: Arc<Shared>, config: telemetry::Config) {
    let mut known = HashMap::new();
    loop {
        match measure(&shared, &config, &mut known).await {
            Ok(picture) => shared.telemetry.set_picture(picture),
            // The last picture stays: the next round is soon.
            Err(error) => {
                tracing::debug!(event = "lane.lag_unknown", %error, "destinations were not measured");
            }
        }
        tokio::time::sleep(config.every()).await;
    }
}

/// What was counted the time before.
type Counts = HashMap<(DestinationId, ShardId), Known>;

async fn measure(
    shared: &Shared,
    config: &telemetry::Config,
    known: &mut Counts,
) -> Result<Picture, StoreError> {
    let heads = shared.heads();
    let survey = shared.roster().survey(config.destination_series, &heads);
    let now = (shared.clock)();
    let laggards = survey.laggards;
    let measured: HashSet<DestinationId> = laggards.iter().map(|laggard| laggard.id).collect();
    known.retain(|(id, _), _| measured.contains(id));
    let mut room = COUNTED_AT_ONCE;
    let stretches: usize = laggards.iter().map(|laggard| laggard.cursors.len()).sum();
    // A small backlog is not kept from being counted by a large one before it.
    let share = (COUNTED_AT_ONCE / 2 / stretches.max(1)).max(1);
    for limit in [share, COUNTED_AT_ONCE] {
        for laggard in &laggards {
            for (shard, cursor) in &laggard.cursors {
                let head = heads.get(usize::from(shard.0)).copied().unwrap_or_default();
                let may = room.min(limit);
                let mut left = may;
                let before = known.get(&(laggard.id, *shard)).copied();
                let stretch = (laggard.reader, *cursor, head);
                let counted = count(shared, stretch, before, &mut left).await?;
                room -= may - left;
                known.insert((laggard.id, *shard), counted);
            }
        }
    }
    let mut lags = Vec::new();
    for laggard in laggards {
        let Some(behind) = behind(shared, &laggard).await? else { continue };
        let counted = |(shard, _): &(ShardId, Position)| known.get(&(laggard.id, *shard));
        let counted: u64 =
            laggard.cursors.iter().filter_map(counted).map(|known| known.events).sum();
        if let Some(oldest) = behind.oldest {
            lags.push(Lag {
                destination: laggard.id,
                standing: laggard.standing.as_str(),
                age: now.since(oldest),
                // There is one, counted by now or not.
                events: (counted + behind.held).max(1),
            });
        }
    }
    lags.sort_unstable_by_key(|lag| std::cmp::Reverse(lag.age));
    let read_ahead = shared.config.read_ahead_bytes >> 10;
    let free = shared.read_ahead.available_permits();
    Ok(Picture {
        lanes: Standing::ALL.map(|standing| (standing.as_str(), survey.lanes[standing as usize])),
        awake: survey.awake,
        lags,
        read_ahead_bytes: (read_ahead.saturating_sub(free) as u64) << 10,
        outbound: shared.opening.connections(),
        holdings: shared.store.holdings().await?,
        head: Position(heads.iter().map(|head| head.0).sum()),
    })
}

/// How far a destination is behind in all of its shards; `None`: it was deleted since the survey.
async fn behind(shared: &Shared, laggard: &Laggard) -> Result<Option<Behind>, StoreError> {
    let mut sum = Behind::default();
    for (shard, cursor) in &laggard.cursors {
        let behind = match shared.store.behind_in(live(laggard.id), *shard, *cursor).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            behind => behind?,
        };
        sum.oldest = [sum.oldest, behind.oldest].into_iter().flatten().min();
        sum.held += behind.held;
    }
    Ok(Some(sum))
}

/// Counts what lies between a cursor and the head: what the cursor has passed is taken away, what
/// is new is added. When `room` is used up, the rest is counted the next time.
async fn count(
    shared: &Shared,
    (reader, cursor, head): (Reader, Position, Position),
    known: Option<Known>,
    room: &mut usize,
) -> Result<Known, StoreError> {
    let fresh = Known { from: cursor, upto: cursor, events: 0 };
    let mut known = match known {
        Some(known) if known.from <= cursor && cursor < known.upto => known,
        _ => fresh,
    };
    if known.from < cursor {
        let passed = shared.store.count_between(reader, known.from, cursor, *room).await?;
        *room = room.saturating_sub(usize::try_from(passed.events).unwrap_or(usize::MAX));
        known.events = known.events.saturating_sub(passed.events);
        known.from = passed.upto;
    }
    if known.upto < head && *room > 0 {
        let more = shared.store.count_between(reader, known.upto, head, *room).await?;
        *room = room.saturating_sub(usize::try_from(more.events).unwrap_or(usize::MAX));
        known.events += more.events;
        known.upto = more.upto;
    }
    Ok(known)
}
