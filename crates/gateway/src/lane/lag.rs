//! How far destinations are behind, measured now and then, so that a scrape costs nothing.
//!
//! Only the destinations whose cursors are furthest behind are measured, and of what waits for
//! them only what was not counted the time before.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use zapbus_event::{DestinationId, Position};
use zapbus_store::StoreError;

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

/// What has been counted for a destination.
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

async fn measure(
    shared: &Shared,
    config: &telemetry::Config,
    known: &mut HashMap<DestinationId, Known>,
) -> Result<Picture, StoreError> {
    let survey = shared.roster().survey(config.destination_series);
    let head = *shared.store.head().borrow();
    let now = (shared.clock)();
    let measured: HashSet<DestinationId> =
        survey.laggards.iter().map(|laggard| laggard.id).collect();
    known.retain(|id, _| measured.contains(id));
    let laggards = survey.laggards.into_sorted_vec();
    let mut room = COUNTED_AT_ONCE;
    // A small backlog is not kept from being counted by a large one before it.
    let share = (COUNTED_AT_ONCE / 2 / laggards.len().max(1)).max(1);
    for limit in [share, COUNTED_AT_ONCE] {
        for laggard in &laggards {
            let may = room.min(limit);
            let mut left = may;
            let before = known.get(&laggard.id).copied();
            let counted = count(shared, laggard, head, before, &mut left).await?;
            room -= may - left;
            known.insert(laggard.id, counted);
        }
    }
    let mut lags = Vec::new();
    for laggard in laggards {
        let behind = match shared.store.behind(live(laggard.id), laggard.cursor).await {
            // Deleted since the survey.
            Err(StoreError::NotFound { .. }) => continue,
            behind => behind?,
        };
        let counted = known.get(&laggard.id).map_or(0, |known| known.events);
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
        head,
    })
}

/// Counts what lies between a cursor and the head: what the cursor has passed is taken away, what
/// is new is added. When `room` is used up, the rest is counted the next time.
async fn count(
    shared: &Shared,
    laggard: &Laggard,
    head: Position,
    known: Option<Known>,
    room: &mut usize,
) -> Result<Known, StoreError> {
    let Laggard { cursor, reader, .. } = *laggard;
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
