//! Events that callers post: what is accepted, what is refused, and what the refusal says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use zapbus_event::{Data, Draft, Kind, NativeError, Raw, Timestamp, sample};

fn posted(kind: Kind) -> Value {
    json!({ "type": kind, "data": serde_json::to_value(sample(kind)).unwrap() })
}

fn with(kind: Kind, name: &str, value: Value) -> Vec<u8> {
    let mut event = posted(kind);
    event[name] = value;
    serde_json::to_vec(&event).unwrap()
}

fn refusal(body: impl AsRef<[u8]>) -> String {
    Draft::native(body.as_ref()).unwrap_err().to_string()
}

#[test]
fn samples_of_all_types_but_our_own_are_accepted() {
    for kind in Kind::ALL {
        let result = Draft::native(&serde_json::to_vec(&posted(*kind)).unwrap());
        assert_eq!(result.is_ok(), !kind.is_operational(), "{kind}");
    }
}

#[test]
fn data_is_kept_as_posted() {
    let data = r#"{"state" :"typing", "chat":{"id":"1@c.us","kind":"user"},"new":[1.50],
        "participant":{"id":"1@c.us","kind":"user"} }"#;
    let draft =
        Draft::native(format!(r#" {{"type":"presence.chat","data":{data}}} "#).as_bytes()).unwrap();
    assert_eq!(draft.data, data.as_bytes());
    assert_eq!(draft.raw, Raw::Data);
    assert_eq!(draft.partition, "1@c.us");
    assert_eq!(draft.facet.as_deref(), Some("typing"));
    assert_eq!(draft.source.event, "presence.chat");
    assert!(draft.ephemeral && draft.keys.is_empty() && !draft.history);
}

#[test]
fn members_beside_data_are_taken() {
    let mut event = posted(Kind::MessageReceived);
    event["id"] = json!("order-1");
    event["dedup_key"] = json!("key-1");
    event["ordering_key"] = json!("queue");
    event["occurred_at"] = json!("2026-01-01T01:00:01+01:00");
    event["history"] = json!(true);
    let draft = Draft::native(&serde_json::to_vec(&event).unwrap()).unwrap();
    assert_eq!(draft.keys, ["d|key-1", "id|order-1"]);
    assert_eq!(draft.client_id.as_deref(), Some("order-1"));
    assert_eq!(draft.partition, "queue");
    assert_eq!(draft.occurred_at, Some(Timestamp::from_millis(1_767_225_601_000)));
    assert!(draft.history);
}

#[test]
fn keys_of_callers_cannot_be_mistaken_for_others() {
    for given in ["id|x", "k|admin|x", "m|900000000000101|wamid.1", "d|x"] {
        let mut draft =
            Draft::native(&with(Kind::SystemStarted, "dedup_key", json!(given))).unwrap();
        assert_eq!(draft.keys, [format!("d|{given}")]);
        draft.idempotency("crd_1", "x", Timestamp::from_millis(0));
        assert_eq!(draft.keys[1..], ["k|crd_1|0|x", "k|crd_1|1|x"]);
        assert_eq!(draft.dedup_key(), Some(&*format!("d|{given}")));
    }
    let mut draft = Draft::native(posted(Kind::SystemStarted).to_string().as_bytes()).unwrap();
    draft.idempotency("admin", "x", Timestamp::from_millis(0));
    assert_eq!((draft.keys.len(), draft.dedup_key()), (2, None));
}

#[test]
fn a_request_is_recognised_for_a_day_and_forgotten_after_two() {
    let keys = |hours: i64| {
        let mut draft = Draft::native(posted(Kind::SystemStarted).to_string().as_bytes()).unwrap();
        draft.idempotency("admin", "x", Timestamp::from_millis(hours * 3_600_000));
        draft.keys
    };
    for start in 0..24 {
        let first = keys(start);
        let known = |later: i64| keys(start + later).iter().any(|key| first.contains(key));
        assert!((0..=24).all(known), "from {start}");
        assert!(!known(48), "from {start}");
    }
}

#[test]
fn null_means_absent() {
    for name in ["id", "dedup_key", "ordering_key", "occurred_at", "history"] {
        let draft = Draft::native(&with(Kind::SystemStarted, name, Value::Null)).unwrap();
        assert!(draft.keys.is_empty() && draft.client_id.is_none(), "{name}");
    }
}

#[test]
fn lists_and_flags_may_be_left_out() {
    let body = json!({
        "type": "message.received",
        "data": {
            "message": { "id": "A1", "chat": "5511999990001@s.whatsapp.net" },
            "chat": { "id": "5511999990001@s.whatsapp.net", "kind": "user" },
            "sender": { "id": "5511999990001@s.whatsapp.net", "kind": "user" },
            "content": { "kind": "text", "body": "Oi" },
        },
    });
    assert!(Draft::native(body.to_string().as_bytes()).is_ok());
}

#[test]
fn keys_have_limits() {
    for name in ["id", "dedup_key", "ordering_key"] {
        for good in ["a".to_owned(), "é".repeat(256)] {
            assert!(Draft::native(&with(Kind::SystemStarted, name, json!(good))).is_ok());
        }
        for bad in ["".to_owned(), "é".repeat(257), "a\nb".to_owned(), "a\0".to_owned()] {
            let expected =
                format!("{name}: expected 1 to 256 characters, none of them control characters");
            assert_eq!(refusal(with(Kind::SystemStarted, name, json!(bad))), expected);
        }
    }
}

#[test]
fn ids_that_order_events_have_the_same_limits() {
    let table = [
        (Kind::MessageReceived, "/data/chat/id", "data.chat.id"),
        (Kind::GroupUpdated, "/data/group/id", "data.group.id"),
        (Kind::CallUpdated, "/data/call_id", "data.call_id"),
        (Kind::PresenceUser, "/data/user/id", "data.user.id"),
        (Kind::ContactUpdated, "/data/contact/id", "data.contact.id"),
        (Kind::NewsletterUpdated, "/data/newsletter/id", "data.newsletter.id"),
        (Kind::AccountUpdated, "/data/topic", "data.topic"),
    ];
    for (kind, place, member) in table {
        for bad in ["".to_owned(), "x".repeat(257), "a\0".to_owned()] {
            let mut event = posted(kind);
            *event.pointer_mut(place).unwrap() = json!(bad);
            let refusal = refusal(event.to_string());
            assert!(refusal.starts_with(&format!("{member}: expected 1 to ")), "{refusal}");
        }
    }
}

#[test]
fn refusals_name_the_member_and_what_was_expected() {
    let table = [
        ("", "not JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", ".: expected one event: an object with type and data"),
        ("{}", "type: missing: an event type, for example message.received"),
        (r#"{"type":5}"#, "type: expected an event type, for example message.received"),
        (r#"{"type":"system.started"}"#, "data: missing: the payload of system.started"),
        (
            r#"{"type":"message.recieved","data":{}}"#,
            "unknown event type \"message.recieved\"; the nearest are message.received, \
             message.deleted, message.edited",
        ),
        (
            r#"{"type":" Message.Received","data":{}}"#,
            "unknown event type \" Message.Received\"; the nearest are message.received, \
             message.deleted, message.edited",
        ),
        (
            r#"{"type":"destination.gap","data":{}}"#,
            "type: destination.gap is the gateway's own and cannot be posted",
        ),
        (
            r#"{"tpye":"system.started","data":{}}"#,
            "tpye: no member of an event; did you mean type? There are type, data, occurred_at, \
             id, dedup_key, ordering_key, history, raw",
        ),
        (r#"{"type":"system.started","type":"system.started","data":{}}"#, "type: given twice"),
        (r#"{"type":"system.started","data":[]}"#, "data: invalid type: list, expected an object"),
        (
            r#"{"type":"system.started","data":{},"occurred_at":"yesterday"}"#,
            "occurred_at: expected an RFC 3339 time with a zone, for example \
             2026-01-01T00:00:00.000Z",
        ),
        (
            r#"{"type":"instance.lifecycle","data":{"action":"born"}}"#,
            "data.action: unknown variant `born`, expected one of `created`, `deleted`, `loaded`, \
             `unloaded`",
        ),
        (
            r#"{"type":"instance.lifecycle","data":{"action":{"created":null}}}"#,
            "data.action: invalid type: object, expected a name",
        ),
        (
            r#"{"type":"presence.user","data":{"user":["1@lid","lid"],"state":"online"}}"#,
            "data.user: invalid type: list, expected an object",
        ),
    ];
    for (body, expected) in table {
        assert_eq!(refusal(body), expected, "{body}");
    }
}

#[test]
fn refusals_speak_of_json_and_are_short() {
    let table = [
        ("message.received", "/edited", json!(1), "boolean"),
        ("message.status", "/errors", json!({}), "invalid type: object, expected a list"),
        ("message.status", "/rank", json!(300), "expected a whole number from 0 to 255"),
        ("chat.updated", "/unread_count", json!(-1), "expected a whole number from 0"),
        ("instance.logged_out", "/code", json!("401"), "expected a whole number"),
        ("instance.sync", "/counts", json!([]), "invalid type: list, expected an object"),
        ("call.updated", "/from", json!("5511999990001"), "expected an object"),
        ("presence.user", "/last_seen", json!("x".repeat(1_000_000)), "expected an RFC 3339"),
        ("instance.lifecycle", "/action", json!("x".repeat(1_000_000)), "unknown variant"),
        ("message.received", "/content", json!("x".repeat(1_000_000)), "invalid type: string"),
        ("message.received", "/content/body", json!(["x".repeat(9_000)]), "invalid type: list"),
    ];
    for (kind, place, value, expected) in table {
        let mut event = posted(kind.parse().unwrap());
        let (parent, name) = place.rsplit_once('/').unwrap();
        event["data"].pointer_mut(parent).unwrap()[name] = value;
        let refusal = refusal(event.to_string());
        let path = format!("data{}: ", place.replace('/', "."));
        assert!(refusal.starts_with(&path) && refusal.contains(expected), "{refusal}");
        assert!(refusal.len() < 1_000 && !refusal.contains("struct"), "{refusal}");
    }
}

#[test]
fn faults_of_content_name_their_own_place() {
    let table = [
        ("/data/content/kind", json!("txt"), "data.content.kind: unknown variant `txt`"),
        ("/data/content/body", json!(5), "data.content.body: invalid type: integer `5`"),
        ("/data/content/mentions", json!([1]), "data.content.mentions[0]: invalid type"),
        ("/data/content/quoted/message/id", Value::Null, "data.content.quoted.message.id: "),
        ("/data/content", json!("text"), "data.content: invalid type: string"),
        ("/data/content", json!({}), "data.content: missing field `kind`"),
        ("/data/chat/kind", json!("person"), "data.chat.kind: unknown variant `person`"),
    ];
    for (place, value, expected) in table {
        let mut event = posted(Kind::MessageReceived);
        *event.pointer_mut(place).unwrap() = value;
        let refusal = refusal(event.to_string());
        assert!(refusal.starts_with(expected), "{refusal}");
    }
}

#[test]
fn nesting_has_a_limit() {
    for (depth, accepted) in [(100, true), (10_000, false)] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = format!(r#"{{"type":"system.started","data":{{"deep":{deep}}}}}"#);
        assert_eq!(Draft::native(body.as_bytes()).is_ok(), accepted, "{depth}");
    }
}

#[test]
fn where_json_breaks_off_is_said() {
    let table = [
        ("", ""),
        ("nonsense", ""),
        ("{} {}", ""),
        (r#"{"type":"system.started","data":{},}"#, ""),
        (r#"{"type":"system.started""#, ""),
        (r#"{"type":nonsense}"#, "type"),
        (r#"{"type":"system.started","data":{"version":}}"#, "data.version"),
        (
            r#"{"data":{"participants":[{"address":{}},{"address":{"id":"x"]}"#,
            "data.participants[1].address",
        ),
    ];
    for (body, expected) in table {
        let Err(NativeError::Json { path, .. }) = Draft::native(body.as_bytes()) else {
            panic!("{body} is taken for JSON");
        };
        assert_eq!(path, expected, "{body}");
    }
    let long = format!(r#"{{"{}":nonsense}}"#, "x".repeat(1_000));
    assert!(refusal(long).len() < 300);
    assert_eq!(
        refusal(r#"{"data":{"version":nonsense}}"#),
        "not JSON: data.version: expected ident at line 1 column 21"
    );
}

#[test]
fn a_delivered_event_is_taken_as_posted() {
    let mut event = posted(Kind::MessageReceived);
    let delivered = json!({
        "id": "evt_01KDVT1E8SPSYFXSBZ3ACN1A8E",
        "v": 1,
        "instance": { "id": "ins_01KDVT1E8SPSYFXSBZ3ACN1A8E", "name": "shop" },
        "seq": 42,
        "occurred_at": "2026-01-01T00:00:01.000Z",
        "occurred_at_estimated": true,
        "received_at": "2026-01-01T00:00:01.250Z",
        "source": { "kind": "cloud-api", "event": "messages", "index": 0 },
        "dedup_key": "m|900000000000101|wamid.1",
        "ordering_key": "ins_01KDVT1E8SPSYFXSBZ3ACN1A8E/5511999990001@s.whatsapp.net",
        "history": false,
        "client_id": "order-1",
        "raw": { "from": "5511999990001", "id": "wamid.1" },
    });
    event.as_object_mut().unwrap().extend(delivered.as_object().unwrap().clone());
    let draft = Draft::native(event.to_string().as_bytes()).unwrap();
    assert_eq!(draft.client_id.as_deref(), Some("evt_01KDVT1E8SPSYFXSBZ3ACN1A8E"));
    assert_eq!(draft.keys, ["d|m|900000000000101|wamid.1", "id|evt_01KDVT1E8SPSYFXSBZ3ACN1A8E"]);
    assert_eq!(draft.partition, "5511999990001@s.whatsapp.net");
    assert_eq!(draft.source.event, "message.received");
    assert_eq!(draft.raw, Raw::Bytes(event["raw"].to_string().into()));
}

#[test]
fn the_upstream_element_may_be_given() {
    let raw = |name: &str, value: Value| Draft::native(&with(Kind::SystemStarted, name, value));
    let data = posted(Kind::SystemStarted)["data"].clone();
    let table = [
        ("raw", json!({ "any": [1.50, null] }), Raw::Bytes(r#"{"any":[1.5,null]}"#.into())),
        ("raw", json!("text"), Raw::Bytes("\"text\"".into())),
        ("raw", data, Raw::Data),
        ("raw", Value::Null, Raw::Data),
        ("raw_base64", json!("//79"), Raw::Bytes(vec![0xff, 0xfe, 0xfd].into())),
    ];
    for (name, value, expected) in table {
        assert_eq!(raw(name, value).unwrap().raw, expected);
    }
    let refused = raw("raw_base64", json!("%")).unwrap_err();
    assert_eq!(refused.to_string(), "raw_base64: expected base64");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let body = format!(r#"{{"type":"system.started","data":{{}},"raw":{deep}}}"#);
    assert_eq!(refusal(body), "raw: nested deeper than 128");
}

#[test]
fn a_code_may_be_a_number() {
    for (given, expected) in
        [(json!(131000), Some("131000")), (json!("stream"), Some("stream")), (Value::Null, None)]
    {
        let bytes = json!({ "stage": "session", "code": given }).to_string();
        let Ok(Data::InstanceError(error)) = Data::parse(Kind::InstanceError, bytes.as_bytes())
        else {
            panic!("{bytes} is refused");
        };
        assert_eq!(error.code.as_deref(), expected);
    }
    let body = json!({ "type": "instance.error", "data": { "stage": "session", "code": [1] } });
    assert_eq!(
        refusal(body.to_string()),
        "data.code: invalid type: list, expected a text or a whole number"
    );
}

#[test]
fn what_is_not_json_is_told_apart() {
    for body in [&b"\xff"[..], b"{", b"{\"type\":\"\xff\"}", b"{} {}"] {
        assert!(matches!(Draft::native(body), Err(NativeError::Json { .. })), "{body:?}");
    }
}
