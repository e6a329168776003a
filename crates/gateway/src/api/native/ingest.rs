//! Native ingest: one event, an array of them, or NDJSON.
//!
//! This is the path that is measured: one look-up in memory, one parse, one append, and an
//! answer written by hand.

use std::time::Instant;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use zapbus_event::{Draft, Event, EventId, Kind, NativeError, Position};
use zapbus_store::{Append, AppendError, Appended, NewEvent};

use crate::{
    api::{
        auth::Caller,
        body::Path,
        error::{ApiError, Fault, Ingesting, Problem},
        idempotency,
    },
    app::App,
    directory::Known,
    telemetry::Ingested,
};

/// How many gateways an event has passed.
pub(in crate::api) const HOPS_HEADER: HeaderName = HeaderName::from_static("zapbus-hops");

/// Gateways an event may have passed.
const MAX_HOPS: u8 = 4;

/// Events one request may bring.
const MAX_EVENTS: usize = 10_000;

/// Bytes of events that go into one append: a fraction of what may wait for the disk.
const APPEND_BYTES: usize = 2 << 20;

/// Events that go into one append.
const APPEND_EVENTS: usize = 1_000;

/// An event to store.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "message.received",
    "id": "3EB0C767D26B8F6A41",
    "data": {
        "message": { "id": "3EB0C767D26B8F6A41", "chat": "5511999990001@s.whatsapp.net", "from_me": false },
        "chat": { "id": "5511999990001@s.whatsapp.net", "kind": "user", "phone": "5511999990001" },
        "sender": { "id": "5511999990001@s.whatsapp.net", "kind": "user", "phone": "5511999990001" },
        "content": { "kind": "text", "body": "Olá" },
    },
}))]
#[expect(dead_code, reason = "only describes what the event crate reads")]
pub(super) struct PostEvent {
    /// Its type, one of `/v1/event-types`.
    #[schema(example = "message.received")]
    r#type: String,
    /// The payload; `/v1/event-types` has its schema.
    #[schema(value_type = Object)]
    data: (),
    /// When it happened; now when left out.
    #[schema(format = DateTime)]
    occurred_at: Option<String>,
    /// An id of yours. Posting it again stores nothing and answers with the first event's id.
    #[schema(max_length = 256)]
    id: Option<String>,
    /// Another key by which a repetition is recognised.
    #[schema(max_length = 256)]
    dedup_key: Option<String>,
    /// Events with equal keys are delivered one after another; by default those of one chat.
    #[schema(max_length = 256)]
    ordering_key: Option<String>,
    /// It is old news (history, backlog).
    #[schema(required = false)]
    history: bool,
    /// What the event was made from, as the upstream sent it; `data` when left out. It is kept
    /// untouched and goes to destinations with `include_raw`.
    #[schema(value_type = Option<Object>)]
    raw: Option<()>,
}

/// One event, or an array of them. As `application/x-ndjson`: one per line.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only describes what `post_events` reads")]
pub(super) enum PostEvents {
    /// One event: its error is the status of the answer.
    One(PostEvent),
    /// Several: 200, with a result each.
    Several(Vec<PostEvent>),
}

/// What became of the events, in the order they were posted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IngestAnswer {
    /// One result for each event.
    results: Vec<IngestResult>,
}

/// What became of one event: `id`, `seq` and `duplicate`, or `ignored`, or `error`.
#[derive(Debug, Serialize, ToSchema)]
struct IngestResult {
    /// The event's id, or that of the first event with one of its keys.
    #[schema(value_type = Option<String>)]
    id: Option<EventId>,
    /// Its position.
    #[schema(value_type = Option<u64>)]
    seq: Option<Position>,
    /// It was known already; nothing was stored.
    duplicate: Option<bool>,
    /// The instance does not take events of this sort; nothing was stored.
    ignored: Option<bool>,
    /// Why it was not stored.
    error: Option<Problem>,
}

/// Stores events. They are durable when the answer comes.
///
/// One event (an object) is answered with its own status. An array, and NDJSON with
/// `Content-Type: application/x-ndjson`, are answered 200 with a result for each event. With an
/// `Idempotency-Key`, repeating the request stores nothing twice.
///
/// An event as another gateway delivers it in the native dialect is taken too, so that a webhook
/// can lead here: what only that gateway can say of it (`seq`, `received_at`, `source`, …) is
/// passed over.
#[utoipa::path(
    post, path = "/v1/instances/{instance}/events", tag = "events",
    request_body(content((PostEvents = "application/json"), (String = "application/x-ndjson"))),
    params(
        ("instance" = String, Path, description = "Id in any form, or name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes repeats harmless for at least 24 hours, and less than 48. The same key with another event (another `id`, `dedup_key`, `type` or `data`) is refused. In a batch it counts for each event by its place."),
        ("zapbus-hops" = Option<u8>, Header, description = "How many gateways the events have passed; more than 4 is refused."),
    ),
    responses(
        (status = 200, body = IngestAnswer),
        Ingesting,
    )
)]
pub(super) async fn post_events(
    State(app): State<App>,
    caller: Caller,
    Path(instance): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let known = caller.instance(&app, &instance).await?;
    let headers = Headers::read(request.headers(), &caller)?;
    let result = post(&app, &known, &headers, request).await;
    if let Err(error) = &result
        && error.status().is_client_error()
    {
        app.telemetry.ingested(zapbus_event::SourceKind::Native, Ingested::Refused, 1);
    }
    result
}

async fn post(
    app: &App,
    instance: &Known,
    headers: &Headers,
    request: Request,
) -> Result<Response, ApiError> {
    let limits = &app.config.ingest;
    let read = app.bodies.read(request, limits.max_body_bytes, "The body").await?;
    let body = &read.bytes;
    let results = if headers.ndjson {
        several(app, instance, headers, &lines_of(body)).await?
    } else if body.trim_ascii_start().first() == Some(&b'[') {
        several(app, instance, headers, &items_of(body)?).await?
    } else {
        if body.len() > limits.max_event_bytes {
            return Err(ApiError::TooLarge { what: "An event", limit: limits.max_event_bytes });
        }
        vec![Ok(one(app, instance, headers, body).await?)]
    };
    Ok(([(header::CONTENT_TYPE, JSON)], written(&results)).into_response())
}

/// The lines of NDJSON that hold something; one too many at most.
pub(in crate::api) fn lines_of(body: &[u8]) -> Vec<&[u8]> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.is_empty()).take(MAX_EVENTS + 1).collect()
}

/// The elements of an array of events, as text. Reading stops at one too many, so that a body
/// of nothing but commas takes no more memory than another.
pub(in crate::api) fn items_of(body: &[u8]) -> Result<Vec<&[u8]>, ApiError> {
    let mut items = Items(Vec::new());
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = (&mut items).deserialize(&mut json).and_then(|()| json.end());
    match read {
        _ if items.0.len() > MAX_EVENTS => Err(ApiError::TooManyEvents { limit: MAX_EVENTS }),
        Ok(()) => Ok(items.0),
        Err(error) => {
            let path = format!("[{}]", items.0.len());
            Err(ApiError::Malformed(vec![Fault::new(path, error.to_string())]))
        }
    }
}

struct Items<'a>(Vec<&'a [u8]>);

impl<'de> DeserializeSeed<'de> for &mut Items<'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for &mut Items<'de> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while self.0.len() <= MAX_EVENTS {
            match seq.next_element::<&RawValue>()? {
                Some(item) => self.0.push(item.get().as_bytes()),
                None => break,
            }
        }
        Ok(())
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What the headers say about the events.
struct Headers {
    ndjson: bool,
    hops: u8,
    key: Option<Key>,
}

/// An `Idempotency-Key`, in the namespace of whoever sent it.
struct Key {
    caller: String,
    key: String,
}

impl Headers {
    fn read(headers: &HeaderMap, caller: &Caller) -> Result<Self, ApiError> {
        let ndjson = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .map(|value| value.split(';').next().unwrap_or("").trim())
            .is_some_and(|kind| {
                ["application/x-ndjson", "application/ndjson", "application/jsonl"]
                    .iter()
                    .any(|ndjson| kind.eq_ignore_ascii_case(ndjson))
            });
        Ok(Self {
            ndjson,
            hops: hops(headers)?,
            key: idempotency::key(headers)?
                .map(|key| Key { caller: caller.actor().0, key: key.to_owned() }),
        })
    }
}

/// How many gateways the events have passed when they are stored here.
pub(in crate::api) fn hops(headers: &HeaderMap) -> Result<u8, ApiError> {
    let Some(value) = headers.get(&HOPS_HEADER) else {
        return Ok(0);
    };
    let passed: u8 = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| ApiError::invalid("zapbus-hops", "expected a whole number"))?;
    if passed > MAX_HOPS {
        return Err(ApiError::TooManyHops { hops: passed });
    }
    Ok(passed.saturating_add(1))
}

/// Stores one event; what is wrong with it is the answer to the request.
async fn one(app: &App, instance: &Known, headers: &Headers, body: &Bytes) -> Outcome {
    let began = Instant::now();
    let (draft, asked) = draft(app, body, headers, None)?;
    if !instance.ignored.takes(&draft) {
        return Ok(ignored(app));
    }
    let instance = instance.instance.id;
    let append = Append { events: vec![NewEvent { instance, draft }], body: None };
    let appended = app.ingest.append_all_since(began, append).await?;
    let first = appended.first().copied();
    let first = first.ok_or_else(|| ApiError::internal("an append gave no result"))?;
    the_same(app, first, asked).await
}

/// An event that is not to be stored.
fn ignored(app: &App) -> Taken {
    app.telemetry.ingested(zapbus_event::SourceKind::Native, Ingested::Ignored, 1);
    Taken::Ignored
}

/// What an event that came with an `Idempotency-Key` must be, to be the one that was posted with
/// that key.
struct Asked {
    kind: Kind,
    data: Bytes,
    client_id: Option<String>,
    dedup_key: Option<String>,
}

impl Asked {
    fn of(draft: &Draft) -> Self {
        Self {
            kind: draft.kind,
            data: draft.data.clone(),
            client_id: draft.client_id.clone(),
            dedup_key: draft.dedup_key().map(str::to_owned),
        }
    }

    fn is(&self, first: &Event) -> bool {
        self.kind == first.kind
            && self.data == first.data
            && self.client_id == first.client_id
            && self.dedup_key == first.dedup_key
    }
}

/// Refuses an `Idempotency-Key` that came before with another event: to answer with the first
/// one's id would lose this one. The first event being past its retention, that can no longer be
/// told.
async fn the_same(app: &App, appended: Appended, asked: Option<Asked>) -> Outcome {
    let stored = Ok(Taken::Stored(appended));
    let Some(asked) = asked.filter(|_| appended.duplicate) else {
        return stored;
    };
    let Some(first) = app.store.event(appended.id).await? else {
        return stored;
    };
    let whole = app.store.restored(&first).await?;
    let first = whole.as_ref().unwrap_or(&first);
    if asked.is(first) { stored } else { Err(ApiError::IdempotencyKeyReused) }
}

/// What became of an event that nothing is wrong with.
enum Taken {
    Stored(Appended),
    Ignored,
}

type Outcome = Result<Taken, ApiError>;

/// Stores several events in order; each has a result of its own.
async fn several(
    app: &App,
    instance: &Known,
    headers: &Headers,
    items: &[&[u8]],
) -> Result<Vec<Outcome>, ApiError> {
    if items.len() > MAX_EVENTS {
        return Err(ApiError::TooManyEvents { limit: MAX_EVENTS });
    }
    let mut results: Vec<Option<Outcome>> = Vec::with_capacity(items.len());
    results.resize_with(items.len(), || None);
    let mut stretch = Stretch::default();
    let mut stored = false;
    for (index, item) in items.iter().enumerate() {
        match item_draft(app, headers, index, item) {
            Ok((draft, _)) if !instance.ignored.takes(&draft) => {
                results[index] = Some(Ok(ignored(app)));
            }
            Ok((draft, asked)) => {
                let instance = instance.instance.id;
                stretch.push(index, NewEvent { instance, draft }, asked, item.len());
            }
            Err(error) => {
                app.telemetry.ingested(zapbus_event::SourceKind::Native, Ingested::Refused, 1);
                results[index] = Some(Err(error));
            }
        }
        if !stretch.is_full() && index + 1 < items.len() {
            continue;
        }
        for (index, outcome) in std::mem::take(&mut stretch).append(app, stored).await? {
            stored |= outcome.is_ok();
            results[index] = Some(outcome);
        }
    }
    let missing = || Err(ApiError::internal("an append gave no result"));
    Ok(results.into_iter().map(|result| result.unwrap_or_else(missing)).collect())
}

fn item_draft(
    app: &App,
    headers: &Headers,
    index: usize,
    item: &[u8],
) -> Result<(Draft, Option<Asked>), ApiError> {
    let limit = app.config.ingest.max_event_bytes;
    if item.len() > limit {
        return Err(ApiError::TooLarge { what: "An event", limit });
    }
    draft(app, item, headers, Some(index))
}

/// Reads an event, the `index`th of a batch; and what the first one must be if it came with an
/// `Idempotency-Key` that is known.
fn draft(
    app: &App,
    item: &[u8],
    headers: &Headers,
    index: Option<usize>,
) -> Result<(Draft, Option<Asked>), ApiError> {
    let mut draft = Draft::native(item)?;
    draft.hops = headers.hops;
    let Some(Key { caller, key }) = &headers.key else {
        return Ok((draft, None));
    };
    let asked = Asked::of(&draft);
    let place = index.map(|index| format!("#{index}")).unwrap_or_default();
    draft.idempotency(caller, &format!("{key}{place}"), (app.clock)());
    Ok((draft, Some(asked)))
}

impl From<NativeError> for ApiError {
    fn from(error: NativeError) -> Self {
        match error {
            NativeError::Json { path, message } | NativeError::Invalid { path, message } => {
                let path = if path == "." { String::new() } else { path };
                Self::Malformed(vec![Fault::new(path, message)])
            }
            NativeError::UnknownType(unknown) => {
                Self::UnknownEventType { path: "type".to_owned(), unknown }
            }
        }
    }
}

/// Events of a batch that go into one append, with their places in the request.
#[derive(Default)]
struct Stretch {
    places: Vec<(usize, Option<Asked>)>,
    events: Vec<NewEvent>,
    bytes: usize,
}

impl Stretch {
    fn push(&mut self, place: usize, event: NewEvent, asked: Option<Asked>, bytes: usize) {
        self.places.push((place, asked));
        self.events.push(event);
        self.bytes += bytes;
    }

    fn is_full(&self) -> bool {
        self.events.len() >= APPEND_EVENTS || self.bytes >= APPEND_BYTES
    }

    /// Appends the events. Nothing of the request being stored yet, a store that is busy or away
    /// is the answer to the whole request; later it is the result of those that are left.
    async fn append(self, app: &App, stored: bool) -> Result<Vec<(usize, Outcome)>, ApiError> {
        if self.events.is_empty() {
            return Ok(Vec::new());
        }
        let culprit_possible = self.events.len() > 1;
        let append = Append { events: self.events.clone(), body: None };
        let mut outcomes = Vec::with_capacity(self.places.len());
        match app.ingest.append_all_since(Instant::now(), append).await {
            Ok(appended) => {
                for ((place, asked), appended) in self.places.into_iter().zip(appended) {
                    outcomes.push((place, the_same(app, appended, asked).await));
                }
                Ok(outcomes)
            }
            // Somebody's data is refused: each alone, so that only that one is.
            Err(AppendError::Data { .. }) if culprit_possible => {
                for ((place, asked), event) in self.places.into_iter().zip(self.events) {
                    let append = Append { events: vec![event], body: None };
                    let outcome = match app.ingest.append_all_since(Instant::now(), append).await {
                        Ok(appended) => match appended.first() {
                            Some(appended) => the_same(app, *appended, asked).await,
                            None => Err(ApiError::internal("an append gave no result")),
                        },
                        Err(error) => Err(error.into()),
                    };
                    outcomes.push((place, outcome));
                }
                Ok(outcomes)
            }
            Err(error) => {
                let error = ApiError::from(error);
                if stored || matches!(error, ApiError::Invalid(_)) {
                    let places = self.places.into_iter();
                    Ok(places.map(|(place, _)| (place, Err(error.clone()))).collect())
                } else {
                    Err(error)
                }
            }
        }
    }
}

/// `{"results":[…]}`.
fn written(results: &[Outcome]) -> Vec<u8> {
    use std::io::Write;

    let mut out = Vec::with_capacity(16 + results.len() * 80);
    out.extend_from_slice(b"{\"results\":[");
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        // Writing to a vector cannot fail, and neither can a problem's text.
        let _ = match result {
            Ok(Taken::Ignored) => out.write_all(b"{\"ignored\":true}"),
            Ok(Taken::Stored(Appended { id, seq, duplicate, .. })) => {
                write!(out, "{{\"id\":\"{id}\",\"seq\":{seq},\"duplicate\":{duplicate}}}")
            }
            Err(error) => {
                out.extend_from_slice(b"{\"error\":");
                let _ = serde_json::to_writer(&mut out, &error.problem());
                out.write_all(b"}")
            }
        };
    }
    out.extend_from_slice(b"]}");
    out
}
