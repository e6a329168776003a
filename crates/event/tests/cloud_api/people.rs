//! People: how they are named, and what changes about them.

use serde_json::{Value, json};
use zapbus_event::Kind;

use crate::{NUMBER, contains, decode, element, message, of_number, one, text};

#[test]
fn a_user_id_in_the_place_of_a_number_is_no_number() {
    let (_, data, _) = message(json!({ "from": "US.13491208655302741918", "type": "text",
        "text": { "body": "Oi" } }));
    let expected = json!({ "id": "US.13491208655302741918@bsuid", "kind": "bsuid",
        "user_id": "US.13491208655302741918" });
    assert_eq!(data["sender"], expected);

    let (_, data, _) = message(json!({ "from": "BR.1", "type": "text", "text": { "body": "Oi" } }));
    assert_eq!(data["sender"]["phone"], "5511999990001");
}

#[test]
fn a_person_behind_a_user_id_has_the_number_that_is_known() {
    let mut posted = element(text("Oi"));
    posted.as_object_mut().unwrap().remove("from");
    posted["from_user_id"] = json!("BR.1");
    let (_, data, _) = one("messages", "messages", posted);
    assert_eq!(data["chat"]["id"], "5511999990001@s.whatsapp.net");
    assert_eq!(data["chat"]["user_id"], "BR.1");
}

#[test]
fn a_person_is_also_known_by_the_id_of_linked_businesses() {
    let mut body = of_number(
        "messages",
        "statuses",
        json!([{ "id": "wamid.S", "status": "read", "recipient_user_id": "BR.ENT.1" }]),
    );
    let person = &mut body["entry"][0]["changes"][0]["value"]["contacts"][0];
    person["parent_user_id"] = json!("BR.ENT.1");
    person.as_object_mut().unwrap().remove("wa_id");
    let decoded = decode(&body);
    let data: Value = serde_json::from_slice(&decoded.events[0].draft.data).unwrap();
    let expected = json!({ "id": "BR.1@bsuid", "kind": "bsuid", "user_id": "BR.1",
        "name": "Ana Exemplo" });
    assert_eq!(data["recipient"], expected);
}

#[test]
fn a_person_gets_another_number_or_id() {
    let system = |system: Value| json!({ "type": "system", "system": system });
    let unsigned = |members: Value| {
        let mut element = element(system(members));
        element.as_object_mut().unwrap().remove("from");
        element
    };
    let table = [
        (
            element(system(json!({ "type": "user_changed_number", "wa_id": "5511999990003" }))),
            json!({ "changed": ["number"], "contact": { "phone": "5511999990003" },
                "old_number": { "phone": "5511999990001", "user_id": "BR.1" } }),
        ),
        (
            element(system(json!({ "type": "user_changed_number", "wa_id": "5511999990003",
                "user_id": "BR.3", "previous_user_id": "BR.1" }))),
            json!({ "changed": ["number"],
                "contact": { "id": "5511999990003@s.whatsapp.net", "user_id": "BR.3" },
                "old_number": { "id": "5511999990001@s.whatsapp.net", "user_id": "BR.1" } }),
        ),
        (
            element(system(
                json!({ "type": "customer_changed_number", "customer": "5511999990002",
                "new_wa_id": "5511999990003", "wa_id": "5511999990003" }),
            )),
            json!({ "contact": { "phone": "5511999990003" },
                "old_number": { "phone": "5511999990002" } }),
        ),
        (
            unsigned(json!({ "type": "user_changed_user_id", "previous_user_id": "BR.2",
                "user_id": "BR.3" })),
            json!({ "changed": ["user_id"], "contact": { "id": "BR.3@bsuid" },
                "old_number": { "id": "BR.2@bsuid", "kind": "bsuid" } }),
        ),
        (
            element(system(json!({ "type": "user_changed_user_id", "user_id": "BR.3" }))),
            json!({ "changed": ["user_id"], "contact": { "id": "BR.3@bsuid" },
                "old_number": { "phone": "5511999990001" } }),
        ),
    ];
    for (posted, expected) in table {
        let (kind, data, routed) = one("messages", "messages", posted);
        assert_eq!(kind, Kind::ContactUpdated, "{data}");
        assert!(contains(&data, &expected), "{data}\nlacks {expected}");
        assert_eq!(data["contact"]["id"], routed.draft.partition);
        assert_eq!(routed.draft.keys, [format!("m|{NUMBER}|wamid.V1")]);
    }
    let (kind, ..) = one("messages", "messages", unsigned(json!({ "body": "Who?" })));
    assert_eq!(kind, Kind::EventUnknown);
}

#[test]
fn people_change() {
    let table = [
        (
            "messages",
            "messages",
            element(json!({ "type": "system", "system": {
                "type": "customer_identity_changed", "identity": "x" } })),
            json!({ "changed": ["identity"], "identity_changed": true }),
        ),
        (
            "smb_app_state_sync",
            "state_sync",
            json!({ "type": "contact", "action": "add", "metadata": { "timestamp": "1767225601" },
                "contact": { "full_name": "Ana E.", "first_name": "Ana",
                    "phone_number": "5511999990001" } }),
            json!({ "changed": ["name"], "full_name": "Ana E.", "first_name": "Ana" }),
        ),
        (
            "smb_app_state_sync",
            "state_sync",
            json!({ "type": "contact", "action": "remove",
                "contact": { "phone_number": "5511999990001" } }),
            json!({ "changed": ["removed"] }),
        ),
        (
            "user_preferences",
            "user_preferences",
            json!({ "wa_id": "5511999990001", "category": "marketing_messages", "value": "stop",
                "detail": "User requested to stop", "timestamp": 1_767_225_601 }),
            json!({ "changed": ["preferences"], "preferences": [{
                "category": "marketing_messages", "value": "stop",
                "details": "User requested to stop" }] }),
        ),
        (
            "user_id_update",
            "user_id_update",
            json!({ "wa_id": "5511999990001",
                "user_id": { "previous": "BR.1", "current": "BR.2" } }),
            json!({ "changed": ["user_id"],
                "contact": { "phone": "5511999990001", "user_id": "BR.2" },
                "old_number": { "phone": "5511999990001", "user_id": "BR.1" } }),
        ),
    ];
    for (field, list, posted, expected) in table {
        let (kind, data, routed) = one(field, list, posted);
        assert_eq!(kind, Kind::ContactUpdated, "{data}");
        assert!(contains(&data, &expected), "{data}\nlacks {expected}");
        assert_eq!(routed.draft.partition, "5511999990001@s.whatsapp.net");
    }
}
