//! The account, its templates, and failures.

use serde_json::{Value, json};
use zapbus_event::{Kind, Timestamp, source::cloud_api};

use crate::{NUMBER, body, contains, decode, element, one, text};

#[test]
fn templates_and_accounts() {
    let template = |members: Value| {
        let mut value = json!({ "message_template_id": 6, "message_template_name": "promo" });
        value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        value
    };
    let table = [
        (
            "message_template_quality_update",
            template(json!({ "previous_quality_score": "GREEN", "new_quality_score": "RED" })),
            json!({ "aspect": "quality", "old": "GREEN", "new": "RED" }),
        ),
        (
            "template_category_update",
            template(json!({ "previous_category": "UTILITY", "new_category": "MARKETING" })),
            json!({ "aspect": "category", "old": "UTILITY", "new": "MARKETING" }),
        ),
        (
            "template_category_update",
            template(json!({ "new_category": "UTILITY", "correct_category": "MARKETING" })),
            json!({ "aspect": "category", "old": "UTILITY", "new": "MARKETING",
                "reason": "scheduled" }),
        ),
        (
            "template_category_update",
            template(json!({ "correct_category": "MARKETING" })),
            json!({ "aspect": "category", "new": "MARKETING", "reason": "scheduled" }),
        ),
        (
            "message_template_components_update",
            template(json!({ "message_template_element": "Oi" })),
            json!({ "aspect": "components", "new": { "message_template_element": "Oi" } }),
        ),
        (
            "account_alerts",
            json!({ "entity_type": "BUSINESS", "alert_info": { "alert_type": "OBA_APPROVED" } }),
            json!({ "topic": "account_alerts", "event": "OBA_APPROVED" }),
        ),
        (
            "phone_number_name_update",
            json!({ "decision": "REJECTED", "rejection_reason": null }),
            json!({ "topic": "phone_number_name_update", "event": "REJECTED",
                "details": { "rejection_reason": null } }),
        ),
        (
            "business_capability_update",
            json!({ "max_phone_numbers_per_business": 2 }),
            json!({ "topic": "business_capability_update",
                "details": { "max_phone_numbers_per_business": 2 } }),
        ),
        (
            "security",
            json!({ "event": "PIN_CHANGED", "requester": 1 }),
            json!({ "topic": "security", "event": "PIN_CHANGED" }),
        ),
        (
            "message_template_status_update",
            template(json!({ "event": "PAUSED", "reason": "NONE",
                "message_template_language": "en" })),
            json!({ "aspect": "status", "new": "PAUSED",
                "template": { "id": "6", "name": "promo", "language": "en" } }),
        ),
        (
            "account_review_update",
            json!({ "decision": "APPROVED" }),
            json!({ "topic": "account_review_update", "event": "APPROVED",
                "details": { "decision": "APPROVED" } }),
        ),
    ];
    for (field, value, expected) in table {
        let decoded = decode(&body(field, value));
        let draft = &decoded.events[0].draft;
        let data: Value = serde_json::from_slice(&draft.data).unwrap();
        assert!(contains(&data, &expected), "{data}\nlacks {expected}");
        assert_eq!(draft.occurred_at, Timestamp::from_secs(1_767_225_600));
        assert!(draft.keys[0].starts_with("h|900000000000001|"), "{:?}", draft.keys);
        assert!(draft.keys[0].ends_with("|1767225600"), "{:?}", draft.keys);
    }
}

#[test]
fn failures_beside_messages_are_errors_of_the_instance() {
    let (kind, data, _) = one(
        "messages",
        "errors",
        json!({ "code": 131000, "title": "Wrong", "error_data": { "details": "More" } }),
    );
    assert_eq!(kind, Kind::InstanceError);
    let expected = json!({ "stage": "upstream_api", "code": "131000", "title": "Wrong",
        "message": "More", "fatal": false });
    assert_eq!(data, expected);
}

#[test]
fn a_failure_has_the_message_it_came_with() {
    let failure = json!({ "code": "131000", "title": "Wrong", "message": "Something is",
        "error_data": { "details": "More" } });
    let (_, data, _) = one("messages", "errors", failure);
    assert_eq!(data["message"], "Something is");
    assert_eq!(data["code"], "131000");
}

#[test]
fn a_change_that_names_a_number_is_of_that_number() {
    let metadata = json!({ "display_phone_number": "5511999990000", "phone_number_id": NUMBER });
    let table = [
        ("automatic_events", json!({ "metadata": metadata, "automatic_events": [{ "id": "1" }] })),
        ("tracking_events", json!({ "metadata": metadata, "events": [] })),
        ("novelty", json!({ "metadata": metadata, "novelties": [{ "id": "1" }] })),
        ("messages", json!({ "metadata": metadata, "messages": 5 })),
    ];
    for (field, value) in table {
        let routed = &decode(&body(field, value)).events[0];
        assert_eq!(routed.phone_number_id.as_deref(), Some(NUMBER), "{field}");
        assert_eq!(routed.waba_id.as_deref(), Some("900000000000001"), "{field}");
    }
    for value in [json!({ "metadata": 5 }), json!({}), json!([{ "metadata": metadata }]), json!(5)]
    {
        for field in ["novelty", "security"] {
            let routed = &decode(&body(field, value.clone())).events[0];
            assert_eq!(routed.phone_number_id, None, "{field} {value}");
        }
    }
}

#[test]
fn a_change_nested_too_deep_is_not_understood() {
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for (depth, padding, kind) in [
        (100, 0, Kind::AccountUpdated),
        (200, 0, Kind::EventUnknown),
        // Beyond the length up to which the members of a change are sorted for its key.
        (200, 100_000, Kind::EventUnknown),
    ] {
        let value = format!(r#"{{"pad":"{}","deep":{}}}"#, "x".repeat(padding), deep(depth));
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"1","changes":[
                {{"field":"flows","value":{value}}}]}}]}}"#
        );
        let decoded = cloud_api::decode(body.as_bytes());
        assert_eq!(decoded.events[0].draft.kind, kind, "{depth} {padding}");
    }
}

#[test]
fn failures_are_recognised_only_by_an_id_or_a_time_beside_them() {
    let keys = |time: Value, value: Value| {
        let mut body = body("messages", value);
        body["entry"][0]["time"] = time;
        let decoded = decode(&body);
        let last = &decoded.events.last().unwrap().draft;
        assert_eq!(last.kind, Kind::InstanceError);
        last.keys.clone()
    };
    let failure = json!([{ "code": 131000, "title": "Wrong" }]);
    assert!(keys(Value::Null, json!({ "errors": failure })).is_empty());
    assert!(keys(json!("0"), json!({ "errors": failure })).is_empty());
    let dated = keys(json!(1_767_225_600), json!({ "errors": failure }));
    assert!(dated[0].starts_with("t|") && dated[0].ends_with("|0"), "{dated:?}");
    let message = json!([element(text("Oi"))]);
    let beside = keys(Value::Null, json!({ "errors": failure, "messages": message }));
    assert!(beside[0].starts_with("t|") && beside[0].ends_with("|1"), "{beside:?}");
}
