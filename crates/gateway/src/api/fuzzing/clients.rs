//! What clients of live connections and of the dialects say.

use super::text;
use crate::{
    api::{ryze, vzaps},
    realtime::{Said, native},
};

/// Whatever is answered to a message is a JSON document: the frame of a WebSocket.
fn expect_answer(said: &Said) {
    if let Said::Ask(answer) | Said::Nonsense(Some(answer)) = said {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(answer).is_ok());
    }
}

pub(super) const NATIVE_MESSAGE: &[&str] = &[
    r#"{"type":"ack","id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#,
    r#"{"type":"ack","ids":["evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","evt_nobody"]}"#,
    r#"{"type":"ping"}"#,
    r#"{"type":"subscribe"}"#,
];

/// There are no more events acknowledged than ids can stand in the message.
pub(super) fn native_message(bytes: &[u8]) {
    let message = text(bytes);
    let said = native::read(&message);
    expect_answer(&said);
    if let Said::Acks(ids) = said {
        assert!(ids.len() <= message.len() / "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".len());
    }
}

pub(super) const VZAPS_QUERY: &[&str] = &[
    "instance_id=VZ01ARZ3NDEKTSV4RRFFQ69G5FAV&events=Message%2CReadReceipt&access_token=a.b.c",
    "events=message&instance_id=VZ1&events=readreceipt&last_event_id=evt_1&replay=all",
    "client_token=c&instance_token=%20&events=,All,,",
];

/// What is read of it says something, and names of events stand each for itself.
pub(super) fn vzaps_query(bytes: &[u8]) {
    vzaps::read_query(&text(bytes));
}

pub(super) const VZAPS_MESSAGE: &[&str] = &[
    r#"{"type":"ack","event_id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#,
    r#"{"type":"ack","event_id":"","id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#,
    r#"{"type":"ack","eventId":7}"#,
    r#"{"type":"ping"}"#,
];

/// One event is acknowledged at a time, and nothing is ever answered: it would confuse some SDK.
pub(super) fn vzaps_message(bytes: &[u8]) {
    let said = vzaps::read_message(&text(bytes));
    if let Said::Acks(ids) = &said {
        assert!(ids.len() <= 1);
    } else {
        assert!(matches!(said, Said::Nothing | Said::Nonsense(None)), "{said:?}");
    }
}

pub(super) const VZAPS_LOGS: &[&str] = &[
    r#"{"page":1,"size":20,"filter":{"status":["failed","SENT"],"event":"Message"}}"#,
    r#"{"status":"processing","http_status":"503","from":"2026-01-01","to":"2026-01-02T00:00:00Z"}"#,
    r#"{"limit":"100","sort":"attempts","sort_desc":"0","search":"x","event_id":"evt_nobody"}"#,
    "null",
];

/// A page is one that there can be.
pub(super) fn vzaps_logs(bytes: &[u8]) {
    vzaps::read_search(bytes);
}

pub(super) const RYZE_MESSAGE: &[&str] = &["hello", r#"{"type":"ping"}"#];

/// A client has nothing to say here, and may not say it at length.
pub(super) fn ryze_message(bytes: &[u8]) {
    let message = text(bytes);
    for message in [message.to_string(), message.repeat(200)] {
        let said = ryze::read_message(&message);
        assert_eq!(said, if message.len() > 4_096 { Said::TooLong } else { Said::Nothing });
    }
}

pub(super) const RYZE_BODY: &[&str] = &[
    r#"{"enabled":true,"label":"a","url":"https://example.com","events":["message.exchange"]}"#,
    r#"{"name":"shop","websocketEnabled":true,"websocketEvents":["instance.state"]}"#,
    r#"{"enabled":true,"events":[],"blankToken":true,"messageContent":"object"}"#,
    r#"{"ignoreGroupMessages":true,"ignoreStatus":null,"disableHistorySync":false}"#,
];

/// Labels and names that are taken can be kept and found again.
pub(super) fn ryze_body(bytes: &[u8]) {
    ryze::read_body(bytes);
}
