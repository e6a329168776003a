//! How far destinations are behind, measured now and then, so that a scrape costs nothing.
//!
//! Only the destinations whose cursors are furthest behind are measured, and of what waits for
//! them only what was not counted the time before.

use std::{collections::HashMap, sync::Arc};

use zapbus_event::{DestinationId, Position, Timestamp};
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
    known.retain(|id, _| survey.laggards.iter().any(|laggard| laggard.id == *id));
    let mut room = COUNTED_AT_ONCE;
    let mut lags = Vec::new();
    for laggard in survey.laggards.into_sorted_vec() {
        let before = known.get(&laggard.id).copied();
        let counted = count(shared, &laggard, head, before, &mut room).await?;
        known.insert(laggard.id, counted);
        let behind = match shared.store.behind(live(laggard.id), laggard.cursor).await {
            // Deleted since the survey.
            Err(StoreError::NotFound { .. }) => continue,
            behind => behind?,
        };
        // An event that came after the clock was read is not older than nothing.
        let age = behind.oldest.map(|oldest: Timestamp| now.since(oldest));
        let events = counted.events + behind.held;
        if let Some(age) = age.filter(|_| events > 0) {
            lags.push(Lag {
                destination: laggard.id,
                standing: laggard.standing.as_str(),
                age,
                events,
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
