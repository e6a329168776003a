//! What becomes of messages and calls.

use serde_json::{Value, json};
use zapbus_event::Kind;

use crate::{NUMBER, one};

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
