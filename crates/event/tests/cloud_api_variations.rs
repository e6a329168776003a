//! Bodies of the same kinds as the fixtures, in the variations that upstreams also post.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};
use zapbus_event::{
    Kind, Raw, Timestamp,
    source::{Decoded, Routed, cloud_api},
};

const NUMBER: &str = "900000000000101";

fn decode(body: &Value) -> Decoded {
    cloud_api::decode(body.to_string().as_bytes())
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

#[test]
fn contents_of_all_types() {
    let table = [
        (
            json!({ "type": "location", "location": {
                "latitude": -23.5, "longitude": -46.6, "name": "Sé", "address": "Centro" } }),
            json!({ "kind": "location", "latitude": -23.5, "longitude": -46.6, "name": "Sé",
                "address": "Centro", "is_live": false }),
        ),
        (
            json!({ "type": "sticker", "sticker": {
                "id": "8", "mime_type": "image/webp", "sha256": "s", "animated": true } }),
            json!({ "kind": "sticker", "media": {
                "kind": "sticker", "mime": "image/webp", "animated": true, "media_id": "8",
                "state": "id_only" } }),
        ),
        (
            json!({ "type": "video", "video": {
                "id": 8, "mime_type": "video/mp4", "caption": "", "file_size": 12 } }),
            json!({ "kind": "video", "media": {
                "kind": "video", "media_id": "8", "size_bytes": 12, "state": "id_only" } }),
        ),
        (
            json!({ "type": "image", "image": {} }),
            json!({ "kind": "image", "media": {
                "kind": "image", "mime": "application/octet-stream", "state": "unavailable" } }),
        ),
        (
            json!({ "type": "button", "button": { "text": "Sim", "payload": "yes" } }),
            json!({ "kind": "interactive_reply", "sub_kind": "template_button", "title": "Sim",
                "payload": "yes" }),
        ),
        (
            json!({ "type": "interactive", "interactive": {
                "type": "call_permission_reply",
                "call_permission_reply": { "response": "accept", "is_permanent": false } } }),
            json!({ "kind": "interactive_reply", "sub_kind": "call_permission", "id": "accept",
                "response_json": { "response": "accept", "is_permanent": false } }),
        ),
        (
            json!({ "type": "interactive", "interactive": {
                "type": "nfm_reply", "nfm_reply": { "response_json": "not json" } } }),
            json!({ "kind": "interactive_reply", "sub_kind": "flow",
                "response_json": "not json" }),
        ),
        (
            json!({ "type": "interactive", "interactive": {
                "type": "list", "body": { "text": "Escolha" }, "action": { "sections": [
                    { "rows": [{ "id": "a", "title": "A", "description": "um" }] }] } } }),
            json!({ "kind": "interactive", "sub_kind": "list", "body": "Escolha",
                "options": [{ "id": "a", "title": "A", "description": "um" }] }),
        ),
        (
            json!({ "type": "interactive", "interactive": { "type": "novelty" } }),
            json!({ "kind": "unsupported", "upstream_type": "interactive.novelty" }),
        ),
        (
            json!({ "type": "request_welcome" }),
            json!({ "kind": "system", "sub_kind": "request_welcome" }),
        ),
        (
            json!({ "type": "system", "system": { "type": "new_thing", "body": "Olá" } }),
            json!({ "kind": "system", "sub_kind": "new_thing", "text": "Olá" }),
        ),
        (
            json!({ "type": "unsupported" }),
            json!({ "kind": "unsupported", "upstream_type": "unsupported", "errors": [] }),
        ),
        (
            json!({ "type": "contacts", "contacts": [
                { "name": { "first_name": "Bia" }, "phones": [{ "wa_id": "55" }, {}] }, ] }),
            json!({ "kind": "contacts", "contacts": [
                { "display_name": "Bia", "phones": [{ "phone": "55", "wa_id": "55" }] }] }),
        ),
    ];
    for (posted, expected) in table {
        let (kind, data, routed) = message(posted);
        assert_eq!(kind, Kind::MessageReceived);
        assert!(contains(&data["content"], &expected), "{}\nlacks {expected}", data["content"]);
        assert_eq!(routed.draft.keys, [format!("m|{NUMBER}|wamid.V1")]);
        assert_eq!(data["sender"]["user_id"], "BR.1");
    }
}

#[test]
fn context_says_what_is_answered_and_forwarded() {
    let mut posted = text("Esse");
    posted["context"] = json!({
        "from": "5511999990000", "id": "wamid.Q", "frequently_forwarded": true,
        "referred_product": { "catalog_id": "7", "product_retailer_id": "SKU-1" },
    });
    let (_, data, _) = message(posted);
    let content = &data["content"];
    assert_eq!(content["forwarded"], json!({ "many": true }));
    assert_eq!(content["quoted"]["message"]["from_me"], true);
    assert_eq!(content["referred_product"]["product_id"], "SKU-1");

    let mut posted = text("Esse");
    posted["context"] = json!({ "forwarded": true });
    let (_, data, _) = message(posted);
    assert_eq!(data["content"]["forwarded"], json!({ "many": false }));
    assert_eq!(data["content"].get("quoted"), None);

    let mut posted = text("Tem?");
    posted["context"] = json!({ "referred_product": { "product_retailer_id": "SKU-1" } });
    let (_, data, _) = message(posted);
    assert_eq!(data["content"]["referred_product"], json!({ "product_id": "SKU-1" }));
}

#[test]
fn an_odd_member_hides_no_message() {
    let table = [
        (
            json!({ "type": "location", "location": { "latitude": "-23.5", "longitude": -46 } }),
            json!({ "kind": "location", "latitude": -23.5, "longitude": -46.0 }),
        ),
        (
            json!({ "type": "audio", "audio": { "id": "8", "voice": "true", "url": {} } }),
            json!({ "kind": "audio", "media": { "kind": "audio",
                "mime": "application/octet-stream", "voice": true, "media_id": "8",
                "state": "id_only" } }),
        ),
        (
            json!({ "type": "contacts", "contacts": [
                { "name": { "first_name": "Bia" }, "phones": null },
                { "phones": [{ "phone": "+55 11" }, 5] } ] }),
            json!({ "kind": "contacts", "contacts": [
                { "display_name": "Bia", "phones": [] },
                { "display_name": "+55 11", "phones": [{ "phone": "+55 11" }] } ] }),
        ),
        (
            json!({ "type": "order", "order": { "catalog_id": 7, "text": [], "product_items": [
                { "product_retailer_id": "SKU-1", "quantity": 1.0 } ] } }),
            json!({ "kind": "order", "catalog_id": "7", "items": [
                { "product_id": "SKU-1", "quantity": 1 } ] }),
        ),
        (
            json!({ "type": "text", "text": { "body": "Oi" }, "context": 5, "referral": [],
                "errors": {}, "biz_opaque_callback_data": false }),
            json!({ "kind": "text", "body": "Oi" }),
        ),
        (
            json!({ "type": "unsupported", "errors": [{ "title": "Odd" }, 5] }),
            json!({ "kind": "unsupported", "reason": "Odd", "errors": [{ "title": "Odd" }] }),
        ),
    ];
    for (posted, expected) in table {
        let (kind, data, _) = message(posted);
        assert_eq!(kind, Kind::MessageReceived);
        assert!(contains(&data["content"], &expected), "{}\nlacks {expected}", data["content"]);
    }

    let posted = json!({ "id": "wamid.S", "status": "sent", "timestamp": 1_700_000_000.0,
        "recipient_id": "5511999990001", "conversation": 5, "errors": [{ "title": "Odd" }],
        "pricing": { "billable": "true", "category": {} } });
    let (kind, data, routed) = one("messages", "statuses", posted);
    assert_eq!(kind, Kind::MessageStatus);
    assert_eq!(data["pricing"], json!({ "billable": true }));
    assert_eq!(data["errors"], json!([{ "title": "Odd" }]));
    assert_eq!(routed.draft.occurred_at, Timestamp::from_secs(1_700_000_000));
}

#[test]
fn a_message_whose_part_cannot_be_read_still_arrives() {
    let table = [
        (json!({ "type": "text" }), "text"),
        (json!({ "type": "text", "text": { "body": [] } }), "text"),
        (json!({ "type": "image", "image": 5 }), "image"),
        (json!({ "type": "location", "location": { "latitude": 1 } }), "location"),
        (json!({ "type": "contacts", "contacts": {} }), "contacts"),
        (json!({ "type": "interactive", "interactive": { "type": "list_reply" } }), "interactive"),
        (json!({ "type": "order", "order": { "catalog_id": "7", "product_items": [5] } }), "order"),
        (json!({ "type": "reaction", "reaction": { "emoji": "👍" } }), "reaction"),
        (
            json!({ "type": "reaction", "reaction": { "message_id": "wamid.Q", "emoji": [] } }),
            "reaction",
        ),
        (json!({ "type": "edit", "edit": { "original_message_id": "wamid.Q" } }), "edit"),
        (json!({ "type": "revoke", "revoke": {} }), "revoke"),
        (json!({ "type": "system", "system": "changed" }), "system"),
        (json!({ "type": ["text"] }), "unknown"),
        (json!({}), "unknown"),
    ];
    for (posted, name) in table {
        let (kind, data, routed) = message(posted.clone());
        assert_eq!(kind, Kind::MessageReceived, "{posted}");
        assert_eq!(data["content"]["kind"], "unsupported", "{posted}");
        assert_eq!(data["content"]["upstream_type"], name, "{posted}");
        assert_eq!(routed.draft.keys, [format!("m|{NUMBER}|wamid.V1")]);
        assert!(matches!(&routed.draft.raw, Raw::Bytes(raw) if raw.starts_with(b"{")));
    }
}

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
fn a_message_that_is_unavailable_exists() {
    for name in ["unsupported", "unknown"] {
        let (kind, _, routed) =
            message(json!({ "type": name, "errors": [{ "code": "131060" }, null] }));
        assert_eq!(kind, Kind::MessageUndecryptable);
        assert_eq!(routed.draft.keys, [format!("m|{NUMBER}|wamid.V1|unavailable")]);
    }
}

#[test]
fn an_advertisement_is_kept_with_the_message() {
    let mut posted = text("Vi o anúncio");
    posted["referral"] = json!({
        "source_url": "https://ads.example.invalid/1", "source_id": "1", "source_type": "ad",
        "headline": "Promo", "ctwa_clid": "click", "welcome_message": { "text": "Olá" },
    });
    posted["biz_opaque_callback_data"] = json!("campanha-1");
    let (_, data, _) = message(posted);
    assert_eq!(data["business_opaque"], "campanha-1");
    let expected = json!({ "source_id": "1", "ctwa_clid": "click", "welcome_message": "Olá" });
    assert!(contains(&data["content"]["ad_referral"], &expected));
}

#[test]
fn times_are_read_as_text_or_number() {
    let second = Some(Timestamp::from_millis(1_767_225_601_000));
    let table = [
        (json!("1767225601"), second),
        (json!(1_767_225_601), second),
        (json!(1_767_225_601_000_u64), second),
        (json!("soon"), None),
        (json!(""), None),
        (json!("0"), None),
        (Value::Null, None),
    ];
    for (timestamp, expected) in table {
        let mut posted = text("Oi");
        posted["timestamp"] = timestamp.clone();
        let (kind, _, routed) = message(posted);
        assert_eq!(
            (kind, routed.draft.occurred_at),
            (Kind::MessageReceived, expected),
            "{timestamp}"
        );
    }
}

#[test]
fn a_message_without_introductions_or_number_still_arrives() {
    let decoded = decode(&body("messages", json!({ "messages": [element(text("Oi"))] })));
    let routed = &decoded.events[0];
    assert_eq!(routed.draft.kind, Kind::MessageReceived);
    assert_eq!(routed.phone_number_id, None);
    assert_eq!(routed.waba_id.as_deref(), Some("900000000000001"));
    assert_eq!(routed.draft.keys, ["m||wamid.V1"]);
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
fn changes_to_a_message_never_take_its_key() {
    let posted = json!([
        element(text("Oi")),
        element(json!({ "id": "wamid.V2", "type": "edit", "edit": {
            "original_message_id": "wamid.V1", "message": text("Olá") } })),
        element(json!({ "id": "wamid.V3", "type": "revoke", "revoke": {
            "original_message_id": "wamid.V1" } })),
        element(json!({ "id": "wamid.V4", "type": "reaction", "reaction": {
            "message_id": "wamid.V1", "emoji": "👍" } })),
        element(json!({ "id": "wamid.V5", "type": "reaction", "reaction": {
            "message_id": "wamid.V1", "emoji": "" } })),
        element(json!({ "type": "unsupported", "errors": [{ "code": 131060 }] })),
    ]);
    let events = events("messages", "messages", posted);
    let found: Vec<_> =
        events.iter().map(|routed| (routed.draft.kind, routed.draft.keys[0].as_str())).collect();
    assert_eq!(
        found,
        [
            (Kind::MessageReceived, "m|900000000000101|wamid.V1"),
            (Kind::MessageEdited, "m|900000000000101|wamid.V2"),
            (Kind::MessageDeleted, "m|900000000000101|wamid.V3"),
            (Kind::MessageReaction, "m|900000000000101|wamid.V4"),
            (Kind::MessageReaction, "m|900000000000101|wamid.V5"),
            (Kind::MessageUndecryptable, "m|900000000000101|wamid.V1|unavailable"),
        ]
    );
    assert!(events.iter().all(|routed| routed.draft.partition == "5511999990001@s.whatsapp.net"));
}

#[test]
fn echoes_are_sent_by_this_account() {
    let posted = element(json!({
        "from": "5511999990000", "to": "5511999990001", "type": "text", "text": { "body": "Oi" },
    }));
    let (kind, data, routed) = one("smb_message_echoes", "message_echoes", posted);
    assert_eq!((kind, routed.draft.facet.as_deref()), (Kind::MessageSent, Some("device")));
    assert_eq!(data["message"]["from_me"], true);
    assert_eq!(data["chat"]["id"], "5511999990001@s.whatsapp.net");
    assert_eq!(data["status"], "sent");
}

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

#[test]
fn groups_change() {
    let group = |kind: &str, members: Value| {
        let mut group = json!({ "group_id": "G1", "timestamp": "1767225601", "type": kind });
        group.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        group
    };
    let table = [
        (
            "group_settings_update",
            group(
                "group_settings_update",
                json!({
                    "request_id": "R1",
                    "group_subject": { "text": "Novo", "update_successful": true },
                    "group_description": { "text": "x", "update_successful": false },
                    "profile_picture": { "mime_type": "image/jpeg" },
                }),
            ),
            Kind::GroupUpdated,
            json!({ "name": "Novo", "changed": ["name", "picture"], "request_result": "partial" }),
            "g|G1|R1|group_settings_update",
        ),
        (
            "group_lifecycle_update",
            group(
                "group_create",
                json!({
                    "request_id": "R2", "subject": "Clientes",
                    "invite_link": "https://chat.whatsapp.com/CODE",
                    "join_approval_mode": "approval_required",
                }),
            ),
            Kind::GroupLifecycle,
            json!({ "action": "created", "metadata": {
                "name": "Clientes", "invite_code": "CODE", "join_approval": true } }),
            "g|G1|R2|group_create",
        ),
        (
            "group_lifecycle_update",
            group("group_create", json!({ "errors": [{ "code": 131000, "title": "Failed" }] })),
            Kind::InstanceError,
            json!({ "stage": "upstream_api", "code": "131000", "title": "Failed" }),
            "g|G1|1767225601|group_create",
        ),
        (
            "group_lifecycle_update",
            group("group_delete", json!({})),
            Kind::GroupLifecycle,
            json!({ "action": "deleted" }),
            "g|G1|1767225601|group_delete",
        ),
        (
            "group_status_update",
            group("group_suspend", json!({})),
            Kind::GroupLifecycle,
            json!({ "action": "suspended" }),
            "g|G1|1767225601|group_suspend",
        ),
        (
            "group_status_update",
            group("group_suspend_cleared", json!({})),
            Kind::GroupLifecycle,
            json!({ "action": "unsuspended" }),
            "g|G1|1767225601|group_suspend_cleared",
        ),
        (
            "group_participants_update",
            group(
                "group_participants_remove",
                json!({
                    "initiated_by": "business",
                    "removed_participants": [{ "wa_id": "5511999990000" }],
                    "failed_participants": [
                        { "input": "5511999990002", "errors": [{ "code": 1, "title": "No" }] }],
                }),
            ),
            Kind::GroupParticipants,
            json!({ "action": "remove", "self_affected": true }),
            "g|G1|1767225601|group_participants_remove|5511999990000",
        ),
        (
            "group_participants_update",
            group(
                "group_join_request_created",
                json!({
                "join_request_id": "J1", "wa_id": "5511999990001" }),
            ),
            Kind::GroupParticipants,
            json!({ "action": "request_created", "self_affected": false }),
            "g|G1|J1|group_join_request_created",
        ),
    ];
    for (field, posted, kind, expected, key) in table {
        let (found, data, routed) = one(field, "groups", posted);
        assert_eq!(found, kind, "{data}");
        assert!(contains(&data, &expected), "{data}\nlacks {expected}");
        assert_eq!(routed.draft.keys, [key]);
    }
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
            json!({ "changed": ["user_id"], "contact": { "user_id": "BR.2" } }),
        ),
    ];
    for (field, list, posted, expected) in table {
        let (kind, data, routed) = one(field, list, posted);
        assert_eq!(kind, Kind::ContactUpdated, "{data}");
        assert!(contains(&data, &expected), "{data}\nlacks {expected}");
        assert_eq!(routed.draft.partition, "5511999990001@s.whatsapp.net");
    }
}

#[test]
fn the_past_comes_in_chunks() {
    let chunk = json!({
        "metadata": { "phase": 1, "chunk_order": 3, "progress": 40 },
        "threads": [{ "id": "5511999990001", "messages": [
            element(text("Oi")),
            element(json!({ "from": "5511999990000", "id": "wamid.V2", "type": "text",
                "text": { "body": "Olá" }, "history_context": { "status": "READ" } })),
        ] }],
    });
    let (kind, data, routed) = one("history", "history", chunk);
    assert_eq!((kind, routed.draft.facet.as_deref()), (Kind::HistorySync, Some("recent")));
    assert!(routed.draft.history);
    let expected = json!({ "chunk": 3, "progress_pct": 40,
        "counts": { "chats": 1, "contacts": 0, "messages": 2 } });
    assert!(contains(&data, &expected), "{data}");
    assert_eq!(data["messages"][1]["message"]["from_me"], true);
    assert_eq!(data["messages"][1]["status"], "read");

    let refused = json!({ "errors": [{ "code": 2593109, "title": "Declined" }] });
    let (kind, data, _) = one("history", "history", refused);
    assert_eq!((kind, &data["stage"]), (Kind::InstanceError, &json!("sync")));
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
