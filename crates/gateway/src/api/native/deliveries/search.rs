//! Searching the delivery log.

use std::collections::HashMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zapbus_event::{DestinationId, EventId, Timestamp};
use zapbus_store::{Delivery, DeliveryQuery, Destination, LIVE, LaneId, Limit, Reader, Status};

use super::{super::destinations::document::filter_of, DeliveryAnswer};
use crate::{
    api::{
        auth::Caller,
        body::Query,
        error::{ApiError, Fault, Named},
        page,
    },
    app::App,
};

/// Stretches of the journal that counting a backlog may look at.
const BACKLOG_READS: usize = 10;

/// Which deliveries, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api::native) struct DeliveriesQuery {
    /// Of events of this instance: id in any form, or name.
    instance: Option<String>,
    /// Of this destination.
    destination: Option<String>,
    /// In one of these states, separated by commas: `delivered`, `retrying`, `waiting`, `dead`,
    /// `cancelled`, `expired`; or `pending`: what is still to be sent, with the count of what
    /// waits in the journal (needs `destination`).
    status: Option<String>,
    /// Of these event types, separated by commas: `message.*,call.updated:offer`.
    event_type: Option<String>,
    /// Of this event.
    event_id: Option<String>,
    /// Whose last attempt was answered with this HTTP status.
    http_status: Option<u16>,
    /// Written at or after this RFC 3339 time.
    from: Option<String>,
    /// Written before this RFC 3339 time.
    to: Option<String>,
    /// `next` of an earlier page.
    after: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A page of the delivery log, newest first. It may hold few lines and still have a `next`: a
/// search stops after a while, so that it holds up nobody.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::native) struct DeliveryPage {
    /// The deliveries.
    data: Vec<DeliveryAnswer>,
    /// Give it as `after` to get the next page; `null` on the last one. Opaque.
    next: Option<String>,
    /// With `status=pending`: what waits in the journal and has no line in the log yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<Backlog>,
}

/// What waits in the journal for a destination.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api::native) struct Backlog {
    /// Events that match.
    events: u64,
    /// All of them were counted; else there are at least so many.
    complete: bool,
}

/// What `status=` asks for.
pub(super) struct Wanted {
    pub(super) status: Vec<Status>,
    pub(super) pending: bool,
}

const STATUSES: [(&str, Status); 6] = [
    ("delivered", Status::Delivered),
    ("retrying", Status::Retrying),
    ("waiting", Status::Waiting),
    ("dead", Status::Dead),
    ("cancelled", Status::Cancelled),
    ("expired", Status::Expired),
];

/// Where filters stand: what is wrong with them is said of that place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given {
    Query,
    Body,
}

impl Given {
    pub(super) fn wrong(self, faults: Vec<Fault>) -> ApiError {
        match self {
            Self::Query => ApiError::InvalidQuery(faults),
            Self::Body => ApiError::Invalid(faults),
        }
    }

    fn fault(self, path: &str, message: impl Into<String>) -> ApiError {
        self.wrong(vec![Fault::new(path, message)])
    }

    fn time(self, name: &str, text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
        text.map(|text| text.parse::<Timestamp>())
            .transpose()
            .map_err(|error| self.fault(name, error.to_string()))
    }
}

impl Wanted {
    pub(super) fn read<'a>(
        given: Given,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, ApiError> {
        let mut wanted = Self { status: Vec::new(), pending: false };
        for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
            match STATUSES.iter().find(|(known, _)| *known == name) {
                Some((_, status)) => wanted.status.push(*status),
                None if name == "pending" => {
                    wanted.pending = true;
                    wanted.status.extend([Status::Retrying, Status::Waiting]);
                }
                None => {
                    let names: Vec<&str> = STATUSES.iter().map(|(known, _)| *known).collect();
                    return Err(given.fault(
                        "status",
                        format!("expected pending or some of {}", names.join(", ")),
                    ));
                }
            }
        }
        Ok(wanted)
    }
}

/// What a search or a bulk retry is restricted to, as the caller names it.
pub(super) struct Filters<'a> {
    pub(super) given: Given,
    pub(super) instance: Option<&'a str>,
    pub(super) destination: Option<&'a str>,
    pub(super) status: Wanted,
    pub(super) event_type: Option<Vec<String>>,
    pub(super) event_id: Option<&'a str>,
    pub(super) http_status: Option<u16>,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
}

impl Filters<'_> {
    /// As the store takes it, with the destination it names.
    pub(super) async fn query(
        &self,
        app: &App,
        caller: &Caller,
    ) -> Result<(DeliveryQuery, Option<Destination>), ApiError> {
        let destination = match self.destination {
            Some(text) => Some(caller.destination(app, text).await?),
            None => None,
        };
        let instance = match self.instance {
            Some(text) => Some(caller.instance(app, text).await?.instance.id),
            None => caller.instance,
        };
        let event = self
            .event_id
            .map(|text| text.parse::<EventId>())
            .transpose()
            .map_err(|error| self.given.fault("event_id", error.to_string()))?;
        let mut faults = Vec::new();
        let types =
            self.event_type.as_ref().map(|patterns| filter_of(patterns, "event_type", &mut faults));
        if !faults.is_empty() {
            return Err(self.given.wrong(faults));
        }
        let query = DeliveryQuery {
            account: caller.account,
            instance,
            destination: destination.as_ref().map(|destination| destination.id),
            status: self.status.status.clone(),
            types,
            event,
            code: self.http_status,
            from: self.given.time("from", self.from)?,
            to: self.given.time("to", self.to)?,
        };
        Ok((query, destination))
    }
}

/// Searches the delivery log, newest first.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", params(DeliveriesQuery),
    responses((status = 200, body = DeliveryPage), Named)
)]
pub(in crate::api::native) async fn list_deliveries(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<DeliveriesQuery>,
) -> Result<axum::Json<DeliveryPage>, ApiError> {
    let limit = page::limit(query.limit)?;
    // What the store numbers its rows with is signed.
    let after = page::after::<i64>(query.after.as_deref())?.map(i64::unsigned_abs);
    let patterns = |types: &str| {
        let patterns = types.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        patterns.map(str::to_owned).collect()
    };
    let filters = Filters {
        given: Given::Query,
        instance: query.instance.as_deref(),
        destination: query.destination.as_deref(),
        status: Wanted::read(Given::Query, query.status.as_deref().unwrap_or("").split(','))?,
        event_type: query.event_type.as_deref().map(patterns),
        event_id: query.event_id.as_deref(),
        http_status: query.http_status,
        from: query.from.as_deref(),
        to: query.to.as_deref(),
    };
    let (wanted, destination) = filters.query(&app, &caller).await?;
    let backlog = match (&destination, filters.status.pending) {
        (Some(destination), true) => Some(backlog(&app, destination, &wanted).await?),
        (None, true) => {
            return Err(ApiError::query("status", "pending needs `destination`"));
        }
        (_, false) => None,
    };
    let page = app.store.search(wanted, after, limit).await?;
    let mut data = page.deliveries;
    if caller.instance.is_some() {
        data = own_destinations(&app, &caller, data).await?;
    }
    Ok(axum::Json(DeliveryPage {
        data: data.into_iter().map(DeliveryAnswer::from).collect(),
        next: page.next.map(|next| next.to_string()),
        backlog,
    }))
}

/// An instance token sees deliveries of its instance's destinations, not those of the account's.
async fn own_destinations(
    app: &App,
    caller: &Caller,
    deliveries: Vec<Delivery>,
) -> Result<Vec<Delivery>, ApiError> {
    let mut seen: HashMap<DestinationId, bool> = HashMap::new();
    let mut own = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let id = delivery.id.lane.destination;
        let visible = match seen.get(&id) {
            Some(visible) => *visible,
            None => {
                let found = app.store.destination(id).await?;
                let visible = found.is_some_and(|it| caller.sees(it.account, it.instance));
                seen.insert(id, visible);
                visible
            }
        };
        if visible {
            own.push(delivery);
        }
    }
    Ok(own)
}

/// What waits behind the cursor of a destination, counted as far as is cheap.
pub(in crate::api::native) async fn backlog(
    app: &App,
    destination: &Destination,
    wanted: &DeliveryQuery,
) -> Result<Backlog, ApiError> {
    let store = &app.store;
    // What the lane knows is newer than what the store has of it.
    let mut cursors = match app.lanes.status(destination.id).await {
        Some(live) => live.cursors,
        None => store.cursors(LaneId { destination: destination.id, run: LIVE }).await?,
    };
    if let Some(instance) = wanted.instance {
        cursors.retain(|(shard, _)| *shard == store.shard_of(instance));
    }
    let reader = match (destination.instance, wanted.instance) {
        (Some(instance), _) | (None, Some(instance)) => Reader::Instance(instance),
        (None, None) => Reader::Account(destination.account),
    };
    let mut counted = Backlog { events: 0, complete: true };
    let mut reads = BACKLOG_READS + cursors.len();
    for (shard, mut cursor) in cursors {
        loop {
            if reads == 0 {
                return Ok(Backlog { complete: false, ..counted });
            }
            reads -= 1;
            let page = store.read_after_in(shard, reader, cursor, Limit::default()).await?;
            let matching = page.events.iter().filter(|event| {
                let facet = event.facet.as_deref();
                destination.filter.matches(event.kind, facet)
                    && !(destination.exclude_ephemeral && event.ephemeral)
                    && wanted.types.as_ref().is_none_or(|types| types.matches(event.kind, facet))
            });
            counted.events += matching.count() as u64;
            cursor = page.upto;
            if page.at_head {
                break;
            }
        }
    }
    Ok(counted)
}
