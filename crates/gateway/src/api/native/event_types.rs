//! The catalog: every event type with its schema, and how each dialect writes it.

use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use zapbus_event::{
    Data, Dialect, Draft, Event, EventId, InstanceId, Kind, Position, SourceKind, Timestamp,
    dialect::{Context, Options},
    json_schema, sample,
};

use crate::api::{
    auth::Caller,
    error::{ApiError, Common},
};

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventType {
    /// Its name.
    #[schema(value_type = String, example = "message.received")]
    r#type: Kind,
    /// What it tells.
    #[schema(value_type = String, example = "Message from someone else.")]
    summary: &'static str,
    /// The member of `data` that a filter can name after a colon.
    #[schema(value_type = Option<String>, example = "content.kind")]
    facet: Option<&'static str>,
    /// The values it can have; `null` when any.
    #[schema(value_type = Option<Vec<String>>)]
    facet_values: Option<&'static [&'static str]>,
    /// Worth little after seconds, always or for some facets: short retention, no late retries.
    ephemeral: bool,
    /// About destinations themselves: `*` does not match it.
    operational: bool,
    /// The JSON Schema (2020-12) of `data`.
    #[schema(value_type = Object)]
    schema: serde_json::Value,
    /// A sample as each dialect writes it: the messages, in order.
    #[schema(value_type = Object)]
    samples: std::collections::BTreeMap<&'static str, Vec<SampleMessage>>,
}

/// One message of a sample.
#[derive(Debug, Serialize, ToSchema)]
struct SampleMessage {
    /// The event's name in the dialect.
    name: String,
    /// The body.
    #[schema(value_type = Object)]
    body: Box<RawValue>,
}

/// Every event type.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventTypes {
    /// In the order of the catalog.
    data: Vec<EventType>,
    /// Always `null`: the list is whole.
    #[schema(value_type = Option<String>)]
    next: (),
}

/// Lists every event type with its schema and a sample per dialect.
#[utoipa::path(
    get, path = "/v1/event-types", tag = "events",
    responses((status = 200, body = EventTypes), Common)
)]
pub(super) async fn list_event_types(_: Caller) -> Result<impl IntoResponse, ApiError> {
    let data = Kind::ALL.iter().map(|kind| describe(*kind)).collect::<Result<_, ApiError>>()?;
    Ok(axum::Json(EventTypes { data, next: () }))
}

fn describe(kind: Kind) -> Result<EventType, ApiError> {
    let event = sample_event(
        kind,
        EventId::from_bytes(1_u128.to_be_bytes()),
        Position(1),
        InstanceId::from_bytes(1_u128.to_be_bytes()),
        Timestamp::from_millis(1_767_225_600_000),
    );
    let context = Context { instance_name: "shop", ..Context::default() };
    let mut samples = std::collections::BTreeMap::new();
    for dialect in Dialect::ALL {
        let parts = dialect
            .encode(&event, &context, &Options::default())
            .map_err(ApiError::internal)?
            .into_iter()
            .map(|part| {
                let body = serde_json::from_slice(&part.body).map_err(ApiError::internal)?;
                Ok(SampleMessage { name: part.name, body })
            })
            .collect::<Result<_, ApiError>>()?;
        samples.insert(dialect.as_str(), parts);
    }
    let facets = kind.facet_values();
    let ephemeral = kind.is_ephemeral(None)
        || facets.unwrap_or_default().iter().any(|facet| kind.is_ephemeral(Some(facet)));
    Ok(EventType {
        r#type: kind,
        summary: kind.summary(),
        facet: kind.facet_field(),
        facet_values: facets,
        ephemeral,
        operational: kind.is_operational(),
        schema: json_schema(kind),
        samples,
    })
}

/// The sample of a type, as if it had been posted natively.
pub(super) fn sample_event(
    kind: Kind,
    id: EventId,
    seq: Position,
    instance: InstanceId,
    at: Timestamp,
) -> Event {
    let data: Data = sample(kind);
    let source = zapbus_event::Source {
        kind: if kind.is_operational() { SourceKind::Gateway } else { SourceKind::Native },
        event: kind.to_string(),
        version: None,
        delivery_id: None,
        index: 0,
    };
    let draft = Draft::from_data(&data, source);
    Event {
        id,
        seq,
        instance,
        kind: draft.kind,
        facet: draft.facet,
        occurred_at: at,
        occurred_at_estimated: draft.occurred_at.is_none(),
        received_at: at,
        source: draft.source,
        dedup_key: None,
        partition: draft.partition,
        history: draft.history,
        ephemeral: draft.ephemeral,
        client_id: None,
        hops: 0,
        data: draft.data,
        raw: draft.raw,
    }
}
