//! Reading the journal.

mod after;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::header;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use zapbus_event::{
    Event, EventId, Filter, InstanceId,
    dialect::{Context, Options, native},
};
use zapbus_store::{Limit, Reader};

pub(in crate::api) use self::after::{place_after, places_after, places_of_stream};
use super::destinations::document::filter_of;
use crate::{
    api::{
        auth::Caller,
        body::{Path, Query},
        error::{ApiError, Named, What},
        page,
    },
    app::App,
    reading::{Merged, Next, Places},
    realtime::{Waiting, Wants},
};

/// Bytes of events in one page: a caller that asks for many large ones gets several pages.
const PAGE_BYTES: usize = 8 << 20;

/// Which events, and which page of them.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventQuery {
    /// Events after this: an event id, an RFC 3339 time, `next` of an earlier page or, of one
    /// instance, a position. From the oldest when left out.
    after: Option<String>,
    /// Which types, separated by commas: `message.*,call.updated:offer`. All when left out.
    types: Option<String>,
    /// 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// With the untouched upstream element.
    #[serde(default)]
    include_raw: bool,
    /// Seconds to wait for an event when there is none (a long poll); not at all when left out. Go
    /// on with `after` set to the answer's `cursor`.
    #[param(minimum = 0, maximum = 60)]
    wait: Option<u64>,
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventPage {
    /// The events, by position, as the native dialect writes them.
    data: Vec<EventAnswer>,
    /// Give it as `after` to get the next page; `null` when there is nothing more for now.
    next: Option<String>,
    /// Where this page ends, also at the end: give it as `after` to go on later. Opaque.
    cursor: String,
    /// Events between `after` and this page are past their retention.
    #[schema(required = false)]
    gap: bool,
}

/// An event as the native dialect writes it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventAnswer {
    /// Unique for the whole gateway; consumers deduplicate by it.
    #[schema(example = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    id: String,
    /// Its type.
    #[schema(example = "message.received")]
    r#type: String,
    /// Version of the schema of `data`.
    v: u16,
    /// Its instance.
    instance: EventInstance,
    /// Its position: strictly increasing per instance, with holes.
    seq: u64,
    /// When it happened.
    #[schema(format = DateTime)]
    occurred_at: String,
    /// The upstream gave no time: `occurred_at` is `received_at`.
    #[schema(required = false)]
    occurred_at_estimated: bool,
    /// When it was accepted.
    #[schema(format = DateTime)]
    received_at: String,
    /// Where it came from.
    #[schema(value_type = Object)]
    source: (),
    /// The first of its deduplication keys.
    dedup_key: Option<String>,
    /// Events with equal keys are attempted one after another.
    ordering_key: String,
    /// Replayed by the upstream.
    history: bool,
    /// The id its poster gave.
    client_id: Option<String>,
    /// The payload; `/v1/event-types` has its schema.
    #[schema(value_type = Object)]
    data: (),
    /// The untouched upstream element, where it was asked for.
    #[schema(value_type = Option<Object>)]
    raw: (),
    /// The same as base64, where it is no JSON.
    raw_base64: Option<String>,
}

/// The instance of an event.
#[derive(Debug, Serialize, ToSchema)]
struct EventInstance {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
}

/// Reads the events of one instance, oldest first.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/events", tag = "events",
    params(("instance" = String, Path, description = "Id in any form, or name."), EventQuery),
    responses((status = 200, body = EventPage), Named)
)]
pub(super) async fn list_instance_events(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
    Query(query): Query<EventQuery>,
) -> Result<Response, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    list(&app, &caller, Reader::Instance(known.instance.id), query).await
}

/// Reads the events of all instances of the account, oldest first. With the admin token: of all
/// accounts, or of that of the header `zapbus-account`.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    params(
        EventQuery,
        ("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name."),
    ),
    responses((status = 200, body = EventPage), Named)
)]
pub(super) async fn list_events(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<EventQuery>,
) -> Result<Response, ApiError> {
    let reader = match (caller.instance, caller.account) {
        (Some(own), _) => Reader::Instance(own),
        (None, Some(account)) => Reader::Account(account),
        (None, None) => Reader::All,
    };
    list(&app, &caller, reader, query).await
}

async fn list(
    app: &App,
    caller: &Caller,
    reader: Reader,
    query: EventQuery,
) -> Result<Response, ApiError> {
    let limit = page::limit(query.limit)?;
    let filter = types_of(query.types.as_deref())?;
    let (after, exact) = places_after(app, caller, reader, query.after.as_deref()).await?;
    let gap = exact && after.has_gap(&app.store, reader).await?;

    let waiting = waiting(app, reader, filter.as_ref(), query.wait)?;
    let until = Instant::now() + Duration::from_secs(query.wait.unwrap_or(0));
    let mut at = after.clone();
    let (found, upto, at_head) = loop {
        let page = collect(app, reader, &at, filter.as_ref(), limit).await?;
        match &waiting {
            Some(waiting) if page.0.is_empty() && page.2 => {
                at.clone_from(&page.1);
                // Nothing came in time, or nobody waits any more: that is an answer too.
                if !tokio::time::timeout_at(until, waiting.rung()).await.unwrap_or(false) {
                    break page;
                }
            }
            _ => break page,
        }
    };
    let page = Written { found: &found, after: &after, upto, more: !at_head, gap };
    let body = page.written(app, query.include_raw).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A bell for a long poll, hung up before the journal is read.
fn waiting(
    app: &App,
    reader: Reader,
    filter: Option<&Filter>,
    wait: Option<u64>,
) -> Result<Option<Waiting>, ApiError> {
    let Some(seconds @ 1..) = wait else { return Ok(None) };
    let most = app.realtime.config().max_wait_s;
    if seconds > most {
        return Err(ApiError::query("wait", format!("expected 0 to {most} seconds")));
    }
    let filter = match filter {
        Some(filter) => filter.clone(),
        None => Filter::parse(&["*", "destination.*"]).map_err(ApiError::internal)?,
    };
    let wants = Wants { filter, exclude_ephemeral: false };
    Ok(Some(app.realtime.wait(reader, wants)))
}

/// A page's events, where it ends, and whether that is the end of the journal.
async fn collect(
    app: &App,
    reader: Reader,
    after: &Places,
    filter: Option<&Filter>,
    limit: usize,
) -> Result<(Vec<Arc<Event>>, Places, bool), ApiError> {
    let mut found: Vec<Arc<Event>> = Vec::new();
    let mut bytes = 0;
    let mut merged = Merged::new(&app.store, reader, after);
    let at_head = loop {
        // One more than fits shows that there is more; of what is filtered, a page is tried.
        let wanted = match filter {
            Some(_) => Limit::default(),
            None => Limit { events: limit + 1 - found.len(), ..Limit::default() },
        };
        let event = match merged.peek(wanted).await? {
            Next::Event(event) => event,
            Next::AtHead => break true,
            Next::CutShort => break false,
        };
        if filter.is_none_or(|it| it.matches(event.kind, event.facet.as_deref())) {
            if found.len() == limit || bytes >= PAGE_BYTES {
                break false;
            }
            bytes += event.weight();
            merged.take(&event);
            found.push(event);
        } else {
            merged.take(&event);
        }
    };
    Ok((found, merged.places(), at_head))
}

/// What a page is made of.
struct Written<'a> {
    found: &'a [Arc<Event>],
    after: &'a Places,
    upto: Places,
    more: bool,
    gap: bool,
}

impl Written<'_> {
    /// The page as JSON, the events spliced in as the dialect writes them.
    async fn written(self, app: &App, include_raw: bool) -> Result<Vec<u8>, ApiError> {
        let mut names = Names::default();
        let mut out = b"{\"data\":[".to_vec();
        let (mut upto, mut more) = (self.upto, self.more);
        for (index, event) in self.found.iter().enumerate() {
            // What was put back into the events before may have filled the page.
            if out.len() >= PAGE_BYTES {
                upto = self.after.clone();
                for written in &self.found[..index] {
                    upto.move_to(app.store.shard_of(written.instance), written.seq);
                }
                more = true;
                break;
            }
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&envelope(app, &mut names, event, include_raw).await?);
        }
        let cursor = upto.cursor();
        let next = more.then_some(&cursor);
        out.extend_from_slice(b"],\"next\":");
        serde_json::to_writer(&mut out, &next).map_err(ApiError::internal)?;
        out.extend_from_slice(b",\"cursor\":");
        serde_json::to_writer(&mut out, &cursor).map_err(ApiError::internal)?;
        if self.gap {
            out.extend_from_slice(b",\"gap\":true");
        }
        out.push(b'}');
        Ok(out)
    }
}

/// Names of instances, looked up once for a page.
type Names = HashMap<InstanceId, String>;

/// The native envelope of an event, whole: what was too large for its row is put back.
async fn envelope(
    app: &App,
    names: &mut Names,
    event: &Event,
    include_raw: bool,
) -> Result<Vec<u8>, ApiError> {
    let name = match names.entry(event.instance) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(name_of(app, event.instance).await?),
    };
    let context = Context { instance_name: name, ..Context::default() };
    let options = Options { include_raw, ..Options::default() };
    Ok(match app.store.restored(event).await? {
        Some(whole) => native::envelope(&whole, &context, &options),
        None => native::envelope(event, &context, &options),
    })
}

/// The name of an instance, also of one on its way out.
pub(in crate::api) async fn name_of(app: &App, id: InstanceId) -> Result<String, ApiError> {
    Ok(match app.directory.instance(id).await? {
        Some(known) => known.instance.name.clone(),
        None => app.store.instance(id).await?.map(|it| it.name).unwrap_or_default(),
    })
}

/// The filter of `types=`.
pub(in crate::api) fn types_of(types: Option<&str>) -> Result<Option<Filter>, ApiError> {
    let Some(types) = types else { return Ok(None) };
    let patterns: Vec<String> =
        types.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let mut faults = Vec::new();
    let filter = filter_of(&patterns, "types", &mut faults);
    if faults.is_empty() { Ok(Some(filter)) } else { Err(ApiError::InvalidQuery(faults)) }
}

/// Shows one event, with the untouched upstream element.
#[utoipa::path(
    get, path = "/v1/events/{event}", tag = "events",
    params(("event" = String, Path, description = "Its id.")),
    responses((status = 200, body = EventAnswer), Named)
)]
pub(super) async fn show_event(
    State(app): State<App>,
    caller: Caller,
    Path(event): Path<String>,
) -> Result<Response, ApiError> {
    let event = find(&app, &caller, &event).await?;
    let body = envelope(&app, &mut Names::default(), &event, true).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response())
}

/// The stored event with this id, if the caller sees it.
async fn find(app: &App, caller: &Caller, text: &str) -> Result<Arc<Event>, ApiError> {
    let unknown = ApiError::NotFound(What::Event);
    let Ok(id) = text.parse::<EventId>() else {
        return Err(unknown);
    };
    let Some(event) = app.store.event(id).await? else {
        return Err(unknown);
    };
    if is_seen(app, caller, &event).await? { Ok(event) } else { Err(unknown) }
}

async fn is_seen(app: &App, caller: &Caller, event: &Event) -> Result<bool, ApiError> {
    let account = match app.directory.instance(event.instance).await? {
        Some(known) => known.instance.account,
        // On its way out; its events are still the account's.
        None => match app.store.instance(event.instance).await? {
            Some(instance) => instance.account,
            None => return Ok(false),
        },
    };
    Ok(caller.sees(account, Some(event.instance)))
}
