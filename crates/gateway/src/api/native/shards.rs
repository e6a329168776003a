//! Destinations of a whole account have a place in each shard of the journal; others in one.

use zapbus_store::{Destination, LIVE, LaneId, LaneStats, Run, ShardId, Store, StoreError};

/// The shards whose events a destination gets, in order.
pub(super) fn shards_of(store: &Store, destination: &Destination) -> Vec<ShardId> {
    match destination.instance {
        Some(instance) => vec![store.shard_of(instance)],
        None => (0..store.shards()).map(ShardId).collect(),
    }
}

/// Whether one position says where a destination stands.
pub(super) fn has_one_cursor(store: &Store, destination: &Destination) -> bool {
    destination.instance.is_some() || store.shards() == 1
}

/// Where live delivery of a destination stands; the cursor is that of its first shard.
pub(super) async fn live_stats(
    store: &Store,
    destination: &Destination,
) -> Result<LaneStats, StoreError> {
    let lane = LaneId { destination: destination.id, run: LIVE };
    let mut whole: Option<LaneStats> = None;
    for shard in shards_of(store, destination) {
        let stats = store.lane_stats_in(lane, shard).await?;
        whole = Some(match whole {
            None => stats,
            Some(whole) => LaneStats {
                oldest_unsettled: [whole.oldest_unsettled, stats.oldest_unsettled]
                    .into_iter()
                    .flatten()
                    .min(),
                ..whole
            },
        });
    }
    Ok(whole.unwrap_or_default())
}

/// A replay as it stands in each shard of its destination.
pub(super) async fn run_in_shards(
    store: &Store,
    destination: &Destination,
    number: u32,
) -> Result<Vec<(ShardId, Run)>, StoreError> {
    let mut found = Vec::new();
    for shard in shards_of(store, destination) {
        let runs = store.runs_in(destination.id, shard).await?;
        found.extend(runs.into_iter().find(|run| run.lane.run == number).map(|run| (shard, run)));
    }
    Ok(found)
}
