//! Whole bodies: their bounds, and faults in them.

use serde_json::{Value, json};
use zapbus_event::{Kind, Raw, source::cloud_api};

use crate::{body, decode, element, message, of_number, one, text};

/// One body with `count` elements in one of its lists.
fn many(place: &str, element: &str, count: usize) -> String {
    let list = vec![element; count].join(",");
    let rest = match place {
        "entry" => list,
        "changes" => format!(r#"{{"id":"1","changes":[{list}]}}"#),
        name => format!(
            r#"{{"id":"1","changes":[{{"field":"messages","value":{{"{name}":[{list}]}}}}]}}"#
        ),
    };
    format!(r#"{{"object":"whatsapp_business_account","entry":[{rest}]}}"#)
}

#[test]
fn a_body_yields_a_bounded_number_of_events() {
    let said = r#"{"id":"wamid.1","from":"5511999990001","type":"text","text":{"body":"Oi"}}"#;
    let one_change = format!(r#"{{"field":"messages","value":{{"messages":[{said}]}}}}"#);
    let one_entry = format!(r#"{{"id":"1","changes":[{one_change}]}}"#);
    let table = [
        ("entry", "1"),
        ("entry", &*one_entry),
        ("changes", "1"),
        ("changes", &*one_change),
        ("messages", "1"),
        ("messages", said),
        ("statuses", "{}"),
        ("errors", "{}"),
    ];
    for (place, element) in table {
        for (count, yields) in [(2_000, 2_000), (2_001, 2_001), (5_000, 2_001)] {
            let body = many(place, element, count);
            let decoded = cloud_api::decode(body.as_bytes());
            assert_eq!(decoded.events.len(), yields, "{place} {element}");
            let last = decoded.events.last().unwrap();
            let data: Value = serde_json::from_slice(&last.draft.data).unwrap();
            let is_rest = data["upstream_event"] == "webhook" && last.draft.raw == Raw::Data;
            assert_eq!(is_rest, count > 2_000, "{place} {element}: {data}");
            if is_rest {
                let digest = hex::encode(decoded.keep_body.unwrap());
                assert_eq!(data["body_ref"], format!("sha256:{digest}"));
                assert_eq!(data["reason"], "schema_mismatch");
                assert_eq!((&last.phone_number_id, &last.waba_id), (&None, &None));
            }
        }
    }
}

#[test]
fn long_lists_inside_an_element_are_cut_or_counted() {
    let listed = |members: &str, count: usize| {
        let list = vec!["{}"; count].join(",");
        let message = format!(r#"{{"id":"w","from":"1",{members}[{list}]}}"#);
        let decoded = cloud_api::decode(many("messages", &message, 1).as_bytes());
        serde_json::from_slice::<Value>(&decoded.events[0].draft.data).unwrap()
    };
    let cards = listed(r#""type":"contacts","contacts":"#, 9_000);
    assert!(cards["content"]["contacts"].as_array().unwrap().len() <= 2_001);
    let failures = listed(r#""type":"unsupported","errors":"#, 9_000);
    assert!(failures["content"]["errors"].as_array().unwrap().len() <= 2_001);

    let threads = vec![json!({ "id": "1", "messages": [1, 2, 3] }); 9_000];
    let (_, data, _) = one("history", "history", json!({ "threads": threads }));
    assert_eq!(data["counts"], json!({ "chats": 9_000, "contacts": 0, "messages": 27_000 }));
}

#[test]
fn a_fault_in_one_element_hides_no_other() {
    let posted = json!([
        element(text("primeira")),
        { "id": "wamid.BAD", "type": "text", "text": { "body": "de quem?" } },
        5,
        element(json!({ "id": "wamid.V2", "type": "text", "text": { "body": "segunda" } })),
    ]);
    let body = of_number("messages", "messages", posted);
    let decoded = decode(&body);
    let found: Vec<_> = decoded.events.iter().map(|routed| routed.draft.kind).collect();
    assert_eq!(
        found,
        [Kind::MessageReceived, Kind::EventUnknown, Kind::EventUnknown, Kind::MessageReceived]
    );
    assert_eq!(decoded.events[2].draft.raw, Raw::Bytes("5".into()));
    assert_eq!(decoded.events[1].draft.facet.as_deref(), Some("schema_mismatch"));
    let digest = decoded.keep_body.unwrap();
    let data: Value = serde_json::from_slice(&decoded.events[1].draft.data).unwrap();
    assert_eq!(data["body_ref"], format!("sha256:{}", hex::encode(digest)));
}

#[test]
fn a_fault_in_one_list_hides_no_other() {
    let mut body = of_number("messages", "messages", json!([element(text("Oi"))]));
    body["entry"][0]["changes"][0]["value"]["statuses"] = json!("none");
    body["entry"][0]["changes"][0]["value"]["contacts"] = json!([7]);
    let found: Vec<_> = decode(&body).events.iter().map(|routed| routed.draft.kind).collect();
    assert_eq!(found, [Kind::MessageReceived, Kind::EventUnknown]);
}

#[test]
fn elements_that_nobody_knows_are_kept() {
    let with = |name: &str, value: Value| {
        let mut body = of_number("messages", "messages", json!([element(text("Oi"))]));
        body["entry"][0]["changes"][0]["value"][name] = value;
        let decoded = decode(&body);
        let kinds: Vec<_> = decoded.events.iter().map(|routed| routed.draft.kind).collect();
        (kinds, decoded)
    };
    for (name, value) in [
        ("novelties", json!([{ "id": "1" }])),
        ("calls", json!([{ "id": "wacid.1" }])),
        ("novelties", json!([5])),
    ] {
        let (kinds, decoded) = with(name, value);
        assert_eq!(kinds, [Kind::MessageReceived, Kind::EventUnknown], "{name}");
        let Raw::Bytes(raw) = &decoded.events[1].draft.raw else { panic!("{name} is lost") };
        assert!(std::str::from_utf8(raw).unwrap().contains(&format!("\"{name}\"")));
        assert!(decoded.events[1].phone_number_id.is_some() && decoded.keep_body.is_some());
    }
    for (name, value) in [
        ("novelties", json!([])),
        ("novelty", json!({ "id": "1" })),
        ("novelty", json!(5)),
        ("calls", Value::Null),
    ] {
        assert_eq!(with(name, value).0, [Kind::MessageReceived], "{name}");
    }

    let twice = r#"{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{
        "field":"messages","value":{
            "messages":[{"id":"wamid.1","from":"55","type":"text","text":{"body":"a"}}],
            "messages":[{"id":"wamid.2","from":"55","type":"text","text":{"body":"b"}}]}}]}]}"#;
    let decoded = cloud_api::decode(twice.as_bytes());
    let kinds: Vec<_> = decoded.events.iter().map(|routed| routed.draft.kind).collect();
    assert_eq!(kinds, [Kind::MessageReceived, Kind::EventUnknown]);
}

#[test]
fn ids_that_cannot_be_indexed_are_not_understood() {
    for bad in [json!("wamid.\0"), json!("w".repeat(3_000))] {
        let (kind, data, routed) =
            message(json!({ "id": bad, "type": "text", "text": { "body": "Oi" } }));
        assert_eq!((kind, &data["reason"]), (Kind::EventUnknown, &json!("schema_mismatch")));
        assert!(routed.draft.keys[0].starts_with("t|"));
    }
    let decoded = decode(&body("new\0field", json!({})));
    assert_eq!(decoded.events[0].draft.source.event, "newfield");
}

#[test]
fn nothing_yields_nothing() {
    let object = "whatsapp_business_account";
    let table = [
        (b"".to_vec(), "not_json"),
        (b"\xff\xfe".to_vec(), "not_json"),
        (b"{\"object\":".to_vec(), "not_json"),
        (b"{\"object\":\"\xff\"}".to_vec(), "not_json"),
        (b"5".to_vec(), "wrong_object"),
        (b"[]".to_vec(), "wrong_object"),
        (b"{}".to_vec(), "wrong_object"),
        (b"{\"object\":{}}".to_vec(), "wrong_object"),
        (json!({ "object": object }).to_string().into_bytes(), "schema_mismatch"),
        (json!({ "object": object, "entry": [] }).to_string().into_bytes(), "schema_mismatch"),
        (json!({ "object": object, "entry": 5 }).to_string().into_bytes(), "schema_mismatch"),
        (json!({ "object": object, "entry": [{}] }).to_string().into_bytes(), "schema_mismatch"),
        (
            json!({ "object": object, "entry": [{ "changes": [] }] }).to_string().into_bytes(),
            "schema_mismatch",
        ),
        (
            json!({ "object": object, "entry": [{ "changes": [5] }] }).to_string().into_bytes(),
            "schema_mismatch",
        ),
        (body("messages", json!({})).to_string().into_bytes(), "schema_mismatch"),
        (body("messages", json!({ "messages": [] })).to_string().into_bytes(), "schema_mismatch"),
        (body("messages", json!(5)).to_string().into_bytes(), "schema_mismatch"),
        (body("account_update", json!(5)).to_string().into_bytes(), "schema_mismatch"),
        (body("novelty", json!({})).to_string().into_bytes(), "unmapped_name"),
    ];
    for (body, reason) in table {
        let shown = String::from_utf8_lossy(&body).into_owned();
        let decoded = cloud_api::decode(&body);
        assert_eq!(decoded.events.len(), 1, "{shown}");
        let draft = &decoded.events[0].draft;
        assert_eq!(draft.kind, Kind::EventUnknown, "{shown}");
        assert_eq!(draft.facet.as_deref(), Some(reason), "{shown}");
        assert_eq!(draft.keys.len(), 1);
    }
}
