//! Spans in the JSON form of OTLP 1: ids in hex, 64-bit numbers as text.

use serde_json::{Value as Json, json};

use super::{Span, Value};

/// One request to a collector.
pub(super) fn request(service_name: &str, spans: &[Span]) -> Json {
    let resource = [
        ("service.name", Value::Text(service_name.to_owned())),
        ("service.version", Value::Text(env!("CARGO_PKG_VERSION").to_owned())),
    ];
    json!({
        "resourceSpans": [{
            "resource": { "attributes": attributes(&resource) },
            "scopeSpans": [{
                "scope": { "name": "zapbus", "version": env!("CARGO_PKG_VERSION") },
                "spans": spans.iter().map(span).collect::<Vec<_>>(),
            }],
        }],
    })
}

fn span(span: &Span) -> Json {
    // Until the year 2262.
    let start = i128::from(span.started.as_millis()) * 1_000_000;
    let end = start + i128::try_from(span.took.as_nanos()).unwrap_or(0);
    let mut json = json!({
        "traceId": hex::encode(span.trace.0),
        "spanId": hex::encode(span.id.0),
        "name": span.name,
        "kind": span.role as u8,
        "startTimeUnixNano": start.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = hex::encode(parent.0).into();
    }
    if let Some(error) = &span.error {
        json["status"] = json!({ "code": 2, "message": error });
    }
    json
}

fn attributes(attributes: &[(&'static str, Value)]) -> Json {
    let one = |(key, value): &(&'static str, Value)| {
        let value = match value {
            Value::Text(text) => json!({ "stringValue": text }),
            Value::Number(number) => json!({ "intValue": number.to_string() }),
        };
        json!({ "key": key, "value": value })
    };
    attributes.iter().map(one).collect()
}
