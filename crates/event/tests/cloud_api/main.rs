//! Bodies of the same kinds as the fixtures, in the variations that upstreams also post.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod account;
mod bodies;
mod groups;
mod history;
mod messages;
mod people;
mod states;

use serde_json::{Value, json};
use zapbus_event::{
    Data, Kind,
    source::{Decoded, Routed, cloud_api},
};

const NUMBER: &str = "900000000000101";

/// Decodes a body, whose events must be what their types demand.
fn decode(body: &Value) -> Decoded {
    let decoded = cloud_api::decode(body.to_string().as_bytes());
    for Routed { draft, .. } in &decoded.events {
        let data = Data::parse(draft.kind, &draft.data).unwrap();
        assert_eq!(data.to_bytes(), draft.data);
        assert_eq!(data.facet(), draft.facet.as_deref());
        assert_eq!(data.partition(), draft.partition);
    }
    decoded
}

fn body(field: &str, value: Value) -> Value {
    json!({
        "object": "whatsapp_business_account",
        "entry": [{
            "id": "900000000000001",
            "time": 1_767_225_600,
            "changes": [{ "field": field, "value": value }],
        }],
    })
}

/// A change of a number, with Ana among the people.
fn of_number(field: &str, list: &str, elements: Value) -> Value {
    body(
        field,
        json!({
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "+55 11 99999-0000", "phone_number_id": NUMBER },
            "contacts": [{
                "profile": { "name": "Ana Exemplo" },
                "wa_id": "5511999990001",
                "user_id": "BR.1",
            }],
            list: elements,
        }),
    )
}

fn events(field: &str, list: &str, elements: Value) -> Vec<Routed> {
    decode(&of_number(field, list, elements)).events
}

fn one(field: &str, list: &str, element: Value) -> (Kind, Value, Routed) {
    let mut events = events(field, list, json!([element]));
    assert_eq!(events.len(), 1, "{element}");
    let routed = events.remove(0);
    let data = serde_json::from_slice(&routed.draft.data).unwrap();
    (routed.draft.kind, data, routed)
}

/// A message from Ana with these members beside the usual ones.
fn message(members: Value) -> (Kind, Value, Routed) {
    one("messages", "messages", element(members))
}

fn element(members: Value) -> Value {
    let mut message = json!({
        "from": "5511999990001",
        "id": "wamid.V1",
        "timestamp": "1767225601",
    });
    message.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    message
}

fn text(body: &str) -> Value {
    json!({ "type": "text", "text": { "body": body } })
}

/// Whether `part` is contained in `whole`: all its members, deeply.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, value)| whole.get(name).is_some_and(|known| contains(known, value))),
        _ => whole == part,
    }
}
