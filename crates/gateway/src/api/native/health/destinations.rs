//! Which destinations do not deliver as they should.

use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::{AccountId, DestinationId, InstanceId, Timestamp};
use zapbus_store::{Activity, DeliveryQuery, Destination, DestinationScope, Health, Status};

use super::{
    super::{
        deliveries::search::{Backlog, backlog},
        shards::live_stats,
    },
    instances::Receivers,
};
use crate::{api::error::ApiError, app::App};

/// Destinations looked at.
pub(super) const LOOKED_AT: usize = 1_000;
/// Destinations that are described.
const DESCRIBED: usize = 50;
/// Behind by more than this is lagging.
const LAG_MS: i64 = 60_000;
/// Dead letters of the last hour are counted up to this.
const RECENT: usize = 100;
const HOUR_MS: i64 = 3_600_000;

/// All destinations, and those that need attention.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct DestinationsHealth {
    /// How many were looked at.
    looked_at: usize,
    /// There are more.
    more: bool,
    /// Of those looked at, paused by somebody.
    paused: usize,
    /// Of those looked at, disabled.
    disabled: usize,
    /// Of those looked at, whose endpoint fails as a whole.
    probing: usize,
    /// Those that need attention, up to 50.
    attention: Vec<Troubled>,
}

/// A destination that needs attention.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TroubledDestination)]
struct Troubled {
    /// Its id.
    #[schema(value_type = String)]
    id: DestinationId,
    /// Its label.
    label: String,
    /// Its account.
    #[schema(value_type = String)]
    account: AccountId,
    /// Its instance; `null` for one of the whole account.
    #[schema(value_type = Option<String>)]
    instance: Option<InstanceId>,
    /// `active`, `paused` or `disabled`.
    state: &'static str,
    /// Why it is paused or disabled.
    reason: Option<String>,
    /// Since when it is paused, disabled or probing.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Its endpoint fails as a whole.
    probing: bool,
    /// When the oldest event was accepted that it still has to get.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_unsettled_at: Option<Timestamp>,
    /// What waits for it in the journal.
    backlog: Option<Backlog>,
    /// Deliveries that will be tried again.
    retrying: u64,
    /// Deliveries given up.
    dead: u64,
    /// Of these, in the last hour; counted up to 100.
    dead_last_hour: usize,
    /// The last failure, in words.
    last_error: Option<String>,
}

impl DestinationsHealth {
    pub(super) async fn look(
        app: &App,
        now: Timestamp,
        receivers: &mut Receivers,
    ) -> Result<Self, ApiError> {
        let mut found =
            app.store.destinations(None, DestinationScope::All, None, LOOKED_AT + 1).await?;
        let more = found.len() > LOOKED_AT;
        found.truncate(LOOKED_AT);
        let mut health = Self { looked_at: found.len(), more, ..Self::default() };
        for destination in found {
            receivers.add(&destination);
            match destination.activity {
                Activity::Active => {}
                Activity::Paused { .. } => health.paused += 1,
                Activity::Disabled { .. } => health.disabled += 1,
            }
            if let Some(troubled) = troubled(app, &destination, now).await? {
                health.probing += usize::from(troubled.probing);
                if health.attention.len() < DESCRIBED {
                    let described = describe(app, &destination, now, troubled).await?;
                    health.attention.push(described);
                }
            }
        }
        receivers.all_known = !more;
        Ok(health)
    }
}

/// What is wrong with a destination, if anything is; without what costs more to find out.
async fn troubled(
    app: &App,
    destination: &Destination,
    now: Timestamp,
) -> Result<Option<Troubled>, ApiError> {
    let stats = live_stats(&app.store, destination).await?;
    let live = app.lanes.status(destination.id).await;
    let probing_since = live.as_ref().and_then(|live| match live.health {
        Health::Probing { since, .. } => Some(since),
        Health::Flowing => None,
    });
    let (state, reason, since) = match &destination.activity {
        Activity::Active => ("active", None, probing_since),
        Activity::Paused { reason, since } => ("paused", Some(reason.clone()), Some(*since)),
        Activity::Disabled { reason, since } => ("disabled", Some(reason.clone()), Some(*since)),
    };
    let lags = stats
        .oldest_unsettled
        .is_some_and(|oldest| now.as_millis().saturating_sub(oldest.as_millis()) > LAG_MS);
    if state == "active" && probing_since.is_none() && !lags && stats.dead == 0 {
        return Ok(None);
    }
    Ok(Some(Troubled {
        id: destination.id,
        label: destination.label.clone(),
        account: destination.account,
        instance: destination.instance,
        state,
        reason,
        since,
        probing: state == "active" && probing_since.is_some(),
        oldest_unsettled_at: stats.oldest_unsettled,
        backlog: None,
        retrying: stats.retrying,
        dead: stats.dead,
        dead_last_hour: 0,
        last_error: live.and_then(|live| live.last_error),
    }))
}

async fn describe(
    app: &App,
    destination: &Destination,
    now: Timestamp,
    troubled: Troubled,
) -> Result<Troubled, ApiError> {
    let backlog = match troubled.oldest_unsettled_at {
        Some(_) => Some(backlog(app, destination, &DeliveryQuery::default()).await?),
        None => None,
    };
    let dead_last_hour = if troubled.dead == 0 {
        0
    } else {
        let query = DeliveryQuery {
            destination: Some(destination.id),
            status: vec![Status::Dead],
            from: Some(Timestamp::from_millis(now.as_millis() - HOUR_MS)),
            ..DeliveryQuery::default()
        };
        app.store.search(query, None, RECENT).await?.deliveries.len()
    };
    Ok(Troubled { backlog, dead_last_hour, ..troubled })
}
