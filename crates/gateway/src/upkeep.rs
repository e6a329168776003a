//! What must be done now and then: pruning, writing figures, putting deleted instances away.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zapbus_store::{
    Actor, Budget, DestinationScope, Instance, LIVE, LaneId, Limit, Reader, StoreError,
};

use crate::{app::App, reading::MAX_POSITION};

/// How old figures may be that another node is asked for, and how much of them a killed process
/// takes with it.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// How often files are looked after that nothing refers to any more.
const TIDY_EVERY: Duration = Duration::from_secs(300);

/// Between two steps of pruning: everybody else gets their turn.
const BREATH: Duration = Duration::from_millis(5);

/// How long pruning goes on at a time. Of many shards there may be something to do for as long as
/// anything comes in, and the rest of upkeep gets its turn too.
const PRUNING: Duration = Duration::from_secs(5);

/// How long lanes may take to deliver what a deleted instance still had.
const DELETED_FOR_AT_MOST: Duration = Duration::from_secs(600);

/// Destinations looked at in one read.
const PAGE: usize = 500;

/// Goes round until `stop`.
pub async fn run(app: App, stop: CancellationToken) {
    tokio::join!(put_in_order(&app, &stop), tell_others(&app, &stop), tidy_files(&app, &stop));
}

async fn put_in_order(app: &App, stop: &CancellationToken) {
    let every = Duration::from_secs(app.config.retention.every_s);
    while waited(every, stop).await {
        if let Err(error) = prune(app, stop).await {
            tracing::warn!(event = "upkeep.prune_failed", %error, "pruning goes on later");
        }
        if let Err(error) = put_away_deleted(app).await {
            tracing::warn!(event = "upkeep.delete_failed", %error, "deleting goes on later");
        }
    }
}

/// Deletes files that nothing refers to any more, and forgets those that were fetched for events
/// that are gone.
async fn tidy_files(app: &App, stop: &CancellationToken) {
    while waited(TIDY_EVERY, stop).await {
        if let Err(error) = tidy(app).await {
            tracing::warn!(event = "upkeep.files_failed", %error, "files are tidied up later");
        }
    }
}

/// What [`run`] does about files each round.
///
/// # Errors
///
/// When the store cannot be read or written: the rest is for the next round.
pub async fn tidy(app: &App) -> Result<(), StoreError> {
    app.store.forget_fetches().await?;
    while app.store.tidy_files().await? > 0 {
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}

/// Writes what only this node has counted. Pruning, which may take long, does not hold it up.
async fn tell_others(app: &App, stop: &CancellationToken) {
    while waited(TOLD_EVERY, stop).await {
        app.recent.look(&app.store.metrics(), (app.clock)());
        if let Some(lag) = app.telemetry.worst_lag() {
            app.store.report_lag(lag);
        }
        if let Err(error) = app.store.write_statistics().await {
            tracing::warn!(event = "upkeep.statistics_failed", %error, "figures are written later");
        }
    }
}

/// False when it is to stop.
async fn waited(time: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        () = stop.cancelled() => false,
    }
}

async fn prune(app: &App, stop: &CancellationToken) -> Result<(), StoreError> {
    let policy = app.config.retention.policy();
    let (mut events, mut deliveries, mut gaps) = (0, 0, 0);
    let until = Instant::now() + PRUNING;
    while !stop.is_cancelled() && Instant::now() < until {
        let pruned = app.store.prune(&policy, Budget::default()).await?;
        events += pruned.events;
        deliveries += pruned.deliveries;
        gaps += pruned.gaps;
        if !pruned.more {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    if gaps > 0 {
        tracing::warn!(
            event = "upkeep.gap",
            events,
            gaps,
            "no space: events that were owed are gone"
        );
    } else if events + deliveries > 0 {
        tracing::debug!(event = "upkeep.pruned", events, deliveries, "pruned");
    }
    Ok(())
}

/// Drops the instances whose last event has gone out, or that have had their time: what [`run`] does
/// each round.
///
/// # Errors
///
/// When the store cannot be read or written: the rest is for the next round.
pub async fn put_away_deleted(app: &App) -> Result<(), StoreError> {
    for instance in app.store.deleted_instances().await? {
        let Some(deleted_at) = instance.deleted_at else {
            continue;
        };
        // One node does it: the one that runs the instance's lanes.
        if !app.store.leases().borrow().contains_key(&app.store.shard_of(instance.id)) {
            continue;
        }
        let overdue = (app.clock)().since(deleted_at) >= DELETED_FOR_AT_MOST;
        if overdue || is_drained(app, &instance).await? {
            drop_instance(app, &instance).await?;
        }
    }
    Ok(())
}

/// Whether every active lane has settled the instance's last event.
async fn is_drained(app: &App, instance: &Instance) -> Result<bool, StoreError> {
    let newest = app
        .store
        .read_before(
            Reader::Instance(instance.id),
            MAX_POSITION,
            Limit { events: 1, bytes: usize::MAX },
        )
        .await?;
    let Some(last) = newest.events.first().map(|event| event.seq) else {
        return Ok(true);
    };
    let shard = app.store.shard_of(instance.id);
    for scope in [DestinationScope::Instance(instance.id), DestinationScope::Global] {
        let mut after = None;
        loop {
            let page = app.store.destinations(Some(instance.account), scope, after, PAGE).await?;
            for destination in &page {
                let lane = LaneId { destination: destination.id, run: LIVE };
                let stats = app.store.lane_stats_in(lane, shard).await?;
                let own_rows =
                    scope != DestinationScope::Global && stats.retrying + stats.waiting > 0;
                if stats.cursor < last || own_rows {
                    return Ok(false);
                }
            }
            match page.last() {
                Some(destination) if page.len() == PAGE => after = Some(destination.id),
                _ => break,
            }
        }
    }
    Ok(true)
}

async fn drop_instance(app: &App, instance: &Instance) -> Result<(), StoreError> {
    let actor = Actor("upkeep".to_owned());
    loop {
        // Each deletion takes its destination off the first page.
        let scope = DestinationScope::Instance(instance.id);
        let page = app.store.destinations(Some(instance.account), scope, None, PAGE).await?;
        if page.is_empty() {
            break;
        }
        for destination in page {
            let (store, actor) = (app.store.clone(), actor.clone());
            app.lanes
                .reconfigure(destination.id, move |_| async move {
                    store.delete_destination(destination.id, &actor).await
                })
                .await?;
        }
    }
    let dropped = app.store.drop_instance(instance.id).await;
    // Destinations of the whole account may have read some of its events, and not sent them.
    app.lanes.erased();
    dropped?;
    app.directory.forget_instance(instance);
    tracing::info!(event = "instance.dropped", instance = %instance.id, "a deleted instance is gone");
    Ok(())
}
