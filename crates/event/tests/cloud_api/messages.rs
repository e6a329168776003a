//! Messages of all types, echoes, and what is done to earlier messages.

use serde_json::{Value, json};
use zapbus_event::{Kind, Raw, Timestamp};

use crate::{NUMBER, body, contains, decode, element, events, message, one, text};

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
            json!({ "type": "interactive", "interactive": {
                "type": "product",
                "product": { "catalog_id": "7", "product_retailer_id": "SKU-1" } } }),
            json!({ "kind": "product", "product_id": "SKU-1", "catalog_id": "7" }),
        ),
        (
            json!({ "type": "interactive", "interactive": {
                "type": "product", "body": { "text": "Olha" },
                "action": { "catalog_id": "7", "product_retailer_id": "SKU-1" } } }),
            json!({ "kind": "product", "product_id": "SKU-1", "text": "Olha" }),
        ),
        (
            json!({ "type": "interactive", "interactive": {
                "type": "nfm_reply", "nfm_reply": {
                    "name": "address_message", "body": "Rua",
                    "response_json": "{\"values\":{\"city\":\"São Paulo\"}}" } } }),
            json!({ "kind": "interactive_reply", "sub_kind": "flow", "id": "address_message",
                "response_json": { "values": { "city": "São Paulo" } } }),
        ),
        (
            json!({ "type": "image", "image": {
                "id": "8", "mime_type": "image/png", "url": "https://media.example.invalid/8" } }),
            json!({ "kind": "image", "media": {
                "media_id": "8", "url": "https://media.example.invalid/8", "state": "id_only" } }),
        ),
        (
            json!({ "type": "document", "document": {
                "url": "https://media.example.invalid/8", "mime_type": "application/pdf" } }),
            json!({ "kind": "document", "media": {
                "url": "https://media.example.invalid/8", "state": "url" } }),
        ),
        (
            json!({ "type": "contacts", "origin": "contact_request", "contacts": [
                { "vcard": "BEGIN:VCARD\nEND:VCARD", "phones": [{ "phone": "+55 11" }] }] }),
            json!({ "kind": "contacts", "contacts": [{
                "display_name": "+55 11", "phones": [{ "phone": "+55 11" }],
                "vcard": "BEGIN:VCARD\nEND:VCARD" }] }),
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
