//! What becomes of messages and calls.

use serde_json::{Value, json};
use zapbus_event::Kind;

use crate::{NUMBER, contains, one};

#[test]
fn states_of_messages() {
    for (state, rank) in [
        ("sent", json!(1)),
        ("delivered", json!(2)),
        ("read", json!(3)),
        ("played", json!(4)),
        ("failed", Value::Null),
        ("deleted", Value::Null),
        ("warning", Value::Null),
    ] {
        let posted = json!({ "id": "wamid.S", "status": state, "recipient_id": "5511999990001" });
        let (kind, data, routed) = one("messages", "statuses", posted);
        assert_eq!((kind, routed.draft.facet.as_deref()), (Kind::MessageStatus, Some(state)));
        assert_eq!(data["rank"], rank, "{state}");
        assert_eq!(routed.draft.keys, [format!("s|{NUMBER}|wamid.S|{state}|5511999990001|")]);
    }
}

#[test]
fn states_of_messages_to_groups() {
    let table = [
        (
            json!({ "recipient_type": "group", "recipient_participant_id": "5511999990001" }),
            json!({ "id": "5511999990001@s.whatsapp.net", "name": "Ana Exemplo" }),
            "G1|5511999990001",
        ),
        (
            json!({ "recipient_participant_user_id": "BR.2" }),
            json!({ "id": "BR.2@bsuid", "kind": "bsuid" }),
            "G1|BR.2",
        ),
        (json!({ "recipient_type": "group" }), json!({ "id": "G1@g.us" }), "G1|"),
    ];
    for (members, recipient, key) in table {
        let mut posted = json!({ "id": "wamid.S", "status": "read", "recipient_id": "G1" });
        posted.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let (_, data, routed) = one("messages", "statuses", posted);
        assert!(contains(&data["recipient"], &recipient), "{data}\nlacks {recipient}");
        assert_eq!(data["chat"]["id"], "G1@g.us");
        assert_eq!(data["recipient_chat"], data["chat"]);
        assert_eq!(routed.draft.partition, "G1@g.us");
        assert_eq!(routed.draft.keys, [format!("s|{NUMBER}|wamid.S|read|{key}")]);
    }
}

#[test]
fn states_say_what_they_cost_and_why_they_failed() {
    let posted = json!({
        "id": "wamid.S", "status": "failed", "timestamp": 1_767_225_601,
        "recipient_id": "5511999990001", "biz_opaque_callback_data": "order-1",
        "conversation": { "id": "C1", "expiration_timestamp": "1767312001",
            "origin": { "type": "marketing" } },
        "pricing": { "billable": false, "pricing_model": "PMP", "category": "marketing",
            "type": "free_customer_service" },
        "errors": [{ "code": "131049", "title": "Not delivered", "message": "Not delivered",
            "error_data": { "details": "Engagement" }, "href": "https://example.invalid" }],
    });
    let (_, data, _) = one("messages", "statuses", posted);
    let expected = json!({
        "message": { "id": "wamid.S", "chat": "5511999990001@s.whatsapp.net", "from_me": true },
        "sender": { "phone": "5511999990000" },
        "client_ref": "order-1",
        "conversation": { "id": "C1", "category": "marketing",
            "expires_at": "2026-01-02T00:00:01.000Z" },
        "pricing": { "billable": false, "model": "PMP", "category": "marketing",
            "type": "free_customer_service" },
        "errors": [{ "code": 131049, "title": "Not delivered", "message": "Not delivered",
            "details": "Engagement" }],
    });
    assert!(contains(&data, &expected), "{data}\nlacks {expected}");
}

#[test]
fn states_of_payments_are_not_states_of_messages() {
    for posted in [
        json!({ "id": "wamid.S", "status": "pending", "type": "payment", "recipient_id": "55" }),
        json!({ "id": "wamid.S", "status": "captured", "recipient_id": "55" }),
    ] {
        let (kind, data, _) = one("messages", "statuses", posted);
        assert_eq!((kind, &data["reason"]), (Kind::EventUnknown, &json!("unmapped_name")));
    }
}

#[test]
fn calls_by_direction_and_state() {
    let call = |event: &str, direction: &str| {
        json!({ "id": "wacid.1", "event": event, "direction": direction,
            "from": "5511999990001", "to": "5511999990001", "status": ["FAILED"] })
    };
    let table = [
        ("calls", call("connect", "USER_INITIATED"), "offer", "in"),
        ("calls", call("connect", "BUSINESS_INITIATED"), "accepted", "out"),
        ("calls", call("terminate", "BUSINESS_INITIATED"), "terminated", "out"),
        (
            "statuses",
            json!({ "id": "wacid.1", "status": "RINGING", "recipient_id": "55" }),
            "ringing",
            "out",
        ),
        (
            "statuses",
            json!({ "id": "wacid.1", "status": "ACCEPTED", "recipient_id": "55" }),
            "accepted",
            "out",
        ),
        (
            "statuses",
            json!({ "id": "wacid.1", "status": "REJECTED", "recipient_id": "55" }),
            "rejected",
            "out",
        ),
    ];
    for (list, posted, state, direction) in table {
        let (kind, data, routed) = one("calls", list, posted);
        assert_eq!(kind, Kind::CallUpdated);
        assert_eq!((&data["state"], &data["direction"]), (&json!(state), &json!(direction)));
        assert_eq!(routed.draft.partition, "wacid.1");
    }
}
