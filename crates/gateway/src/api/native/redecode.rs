//! Decoding again what was kept because no decoder understood it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use zapbus_event::{Event, EventId, Filter, InstanceId, SourceKind, Timestamp, source};
use zapbus_store::{Append, Limit, NewEvent, Reader};

use super::{complete, events, refuse_if_any};
use crate::{
    api::{
        auth::Caller,
        body::Json,
        error::{ApiError, Changing, Fault},
    },
    app::App,
    reading::{Merged, Next},
    source::cloud_api_route,
};

/// How long one request may look; what is left is the next one's.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which events to decode again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RedecodeRequest {
    /// Only those of this instance: id in any form, or name.
    #[serde(default)]
    instance: Option<String>,
    /// Only those after this: an event id, an RFC 3339 time, or `next` of an earlier answer.
    #[serde(default)]
    after: Option<String>,
    /// Only those received before this time.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<String>,
    /// Only those of this kind of source.
    #[serde(default)]
    #[schema(example = "evolution")]
    source: Option<String>,
    /// Only those that were not understood for this reason: `unmapped_name`, `schema_mismatch`,
    /// `not_json` or `wrong_object`.
    #[serde(default)]
    #[schema(example = "unmapped_name")]
    reason: Option<String>,
    /// Only say what they would become.
    #[serde(default)]
    dry_run: bool,
}

/// What became of them.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Redecoded)]
pub(super) struct RedecodedAnswer {
    /// Nothing was stored. Some of `events` may be known already.
    dry_run: bool,
    /// Events that were looked at.
    looked_at: u64,
    /// How many of them are understood now.
    understood: u64,
    /// What they are, by type.
    events: BTreeMap<String, u64>,
    /// How many of these were stored.
    stored: u64,
    /// How many of these were known already.
    known: u64,
    /// How many of these were left out, because their instance does not take their sort.
    ignored: u64,
    /// Events that could not be decoded again or stored.
    failed: u64,
    /// The first of them, at most a hundred, and why.
    failures: Vec<RedecodeFailure>,
    /// Give it as `after` to go on; `null` when all were looked at.
    next: Option<String>,
}

/// An event that could not be decoded again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RedecodeFailure {
    /// The unknown event.
    #[schema(value_type = String)]
    event: EventId,
    /// Why, in words.
    problem: String,
}

/// Failures that are told one by one.
const TOLD: usize = 100;

impl RedecodedAnswer {
    fn failed(&mut self, event: EventId, error: &ApiError) {
        self.failed += 1;
        if self.failures.len() < TOLD {
            self.failures.push(RedecodeFailure { event, problem: error.detail().into_owned() });
        }
    }
}

/// Decodes again what was kept as `event.unknown`, for the day a decoder has learned more. What is
/// understood now is stored under new ids and with `history: true`; the unknown event stays. Doing
/// it again stores nothing twice. Ask with `dry_run` first.
#[utoipa::path(
    post, path = "/v1/redecode", tag = "operations", request_body = RedecodeRequest,
    params(("zapbus-account" = Option<String>, Header, description = "With the admin token: the account to act in, by id or name.")),
    responses((status = 200, body = RedecodedAnswer), Changing)
)]
pub(super) async fn redecode(
    State(app): State<App>,
    caller: Caller,
    body: Json<RedecodeRequest>,
) -> Result<axum::Json<RedecodedAnswer>, ApiError> {
    caller.need_account()?;
    let wanted = Wanted::read(&app, &caller, &body.value).await?;
    let dry_run = body.value.dry_run;
    complete(async move {
        let mut answer = RedecodedAnswer { dry_run, ..RedecodedAnswer::default() };
        wanted.walk(&app, &mut answer).await?;
        Ok(axum::Json(answer))
    })
    .await
}

/// The request, understood.
struct Wanted {
    reader: Reader,
    after: crate::reading::Places,
    until: Option<Timestamp>,
    source: Option<SourceKind>,
    filter: Filter,
}

impl Wanted {
    async fn read(app: &App, caller: &Caller, request: &RedecodeRequest) -> Result<Self, ApiError> {
        let reader = match &request.instance {
            Some(instance) => Reader::Instance(caller.instance(app, instance).await?.instance.id),
            None => Reader::Account(caller.acting_account(app).await?),
        };
        let mut faults = Vec::new();
        let until = request.until.as_ref().and_then(|text| {
            let time = text.parse::<Timestamp>().ok();
            if time.is_none() {
                faults.push(Fault::new("until", "expected an RFC 3339 time"));
            }
            time
        });
        let source = request.source.as_ref().and_then(|name| {
            let kind = serde_json::from_value::<SourceKind>(Value::from(name.as_str())).ok();
            if kind.is_none() {
                let kinds = "expected `cloud-api`, `evolution`, `wuzapi` or `waha`";
                faults.push(Fault::new("source", kinds));
            }
            kind
        });
        let pattern = match &request.reason {
            Some(reason) => format!("event.unknown:{reason}"),
            None => "event.unknown".to_owned(),
        };
        let filter = Filter::parse(&[pattern]);
        if filter.is_err() {
            let reasons =
                "expected `unmapped_name`, `schema_mismatch`, `not_json` or `wrong_object`";
            faults.push(Fault::new("reason", reasons));
        }
        refuse_if_any(faults)?;
        let filter = filter.map_err(ApiError::internal)?;
        let after = request.after.as_deref();
        let (after, _) = events::places_after(app, caller, reader, after).await?;
        Ok(Self { reader, after, until, source, filter })
    }

    fn wants(&self, event: &Event) -> bool {
        self.filter.matches(event.kind, event.facet.as_deref())
            && self.source.is_none_or(|kind| kind == event.source.kind)
    }

    async fn walk(&self, app: &App, answer: &mut RedecodedAnswer) -> Result<(), ApiError> {
        let began = Instant::now();
        let mut merged = Merged::new(&app.store, self.reader, &self.after);
        loop {
            if began.elapsed() >= PATIENCE {
                answer.next = Some(merged.places().cursor());
                return Ok(());
            }
            let event = match merged.peek(Limit::default()).await? {
                Next::Event(event) => event,
                Next::AtHead => return Ok(()),
                Next::CutShort => {
                    answer.next = Some(merged.places().cursor());
                    return Ok(());
                }
            };
            if self.until.is_some_and(|until| event.received_at >= until) {
                return Ok(());
            }
            if self.wants(&event) {
                match decode(app, &event, answer).await {
                    Ok(()) => {}
                    // It is the same for all of them.
                    Err(error) if error.status() == StatusCode::SERVICE_UNAVAILABLE => {
                        return Err(error);
                    }
                    Err(error) => answer.failed(event.id, &error),
                }
            }
            merged.take(&event);
        }
    }
}

/// Decodes one event again, and stores what it is.
async fn decode(app: &App, event: &Event, answer: &mut RedecodedAnswer) -> Result<(), ApiError> {
    answer.looked_at += 1;
    let whole = app.store.restored(event).await?;
    let event = whole.as_ref().unwrap_or(event);
    let body = match digest(event) {
        Some(digest) => app.store.body(digest).await?,
        None => None,
    };
    let found = source::again(event, body.as_ref());
    if found.is_empty() {
        return Ok(());
    }
    answer.understood += 1;
    let mut events = Vec::with_capacity(found.len());
    for routed in found {
        *answer.events.entry(routed.draft.kind.to_string()).or_default() += 1;
        let instance = instance(app, event, routed.phone_number_id.as_deref()).await?;
        let known = app.directory.instance(instance).await?;
        if known.is_some_and(|known| !known.ignored.takes(&routed.draft)) {
            answer.ignored += 1;
        } else {
            events.push(NewEvent { instance, draft: routed.draft });
        }
    }
    if answer.dry_run {
        return Ok(());
    }
    let append = Append { events, body: None };
    for appended in app.ingest.append_all_since(Instant::now(), append).await? {
        *(if appended.duplicate { &mut answer.known } else { &mut answer.stored }) += 1;
    }
    Ok(())
}

/// The whole body that an unknown event is a part of.
fn digest(event: &Event) -> Option<[u8; 32]> {
    let data: Value = serde_json::from_slice(&event.data).ok()?;
    let hex = data.get("body_ref")?.as_str()?.strip_prefix("sha256:")?;
    let mut digest = [0; 32];
    hex::decode_to_slice(hex, &mut digest).ok()?;
    Some(digest)
}

/// Whose the event is, now that it may say a number.
async fn instance(app: &App, event: &Event, number: Option<&str>) -> Result<InstanceId, ApiError> {
    let Some(number) = number else { return Ok(event.instance) };
    let Some(known) = app.directory.instance(event.instance).await? else {
        return Ok(event.instance);
    };
    let accounts = [known.instance.account];
    let routed = app.directory.instance_routed(&accounts, &cloud_api_route(number)).await?;
    Ok(routed.map_or(event.instance, |routed| routed.instance.id))
}
