//! Every value that the documentation of `RyzeAPI` lists within its six types, as it is written for
//! a canonical event: one golden file for each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::journal;
use zapbus_event::{
    Data, Draft, Kind, Source, SourceKind,
    dialect::ryze::{self, Context, Options},
    sample,
};

const CONTEXT: Context<'static> =
    Context { instance_name: "shop1", base_url: "https://gw.example.invalid", token: "inst-tok" };

/// The sample of a type with other members (RFC 7396).
fn with(kind: Kind, patch: Value) -> Data {
    let mut value = serde_json::to_value(sample(kind)).unwrap();
    merge(&mut value, patch);
    Data::parse(kind, value.to_string().as_bytes())
        .unwrap_or_else(|error| panic!("{kind}: {error}"))
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let members = into.as_object_mut().unwrap();
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => merge(members.entry(name).or_insert(Value::Null), value),
        }
    }
}

/// What is sent for it: `event` and `data` of each message.
fn sent(data: &Data) -> Vec<Value> {
    let source = Source {
        kind: SourceKind::Simulator,
        event: data.kind().as_str().to_owned(),
        version: None,
        delivery_id: None,
        index: 0,
    };
    let event = journal(Draft::from_data(data, source));
    let options = Options { media_base64: true, ..Options::default() };
    let parts = ryze::encode(&event, &CONTEXT, &options).unwrap();
    let read = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
    parts.iter().map(|part| read(&part.body)).map(|it| json!([it["event"], it["data"]])).collect()
}

/// Each value, where it stands, and the event that gives it. Files are `<type>__<value>`.
fn check(name: &str, place: &str, table: Vec<(&str, Kind, Value)>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (value, kind, patch) in table {
        let parts = sent(&with(kind, patch));
        assert_eq!(parts.len(), 1, "{value}: {parts:?}");
        assert_eq!(parts[0][0], name, "{value}");
        let found = parts[0][1].pointer(place).and_then(Value::as_str);
        let bare = value.split('.').next();
        assert_eq!(found, bare, "{value}: {}", parts[0]);
        insta::assert_json_snapshot!(format!("{name}__{value}"), parts[0]);
        seen.extend(bare.map(str::to_owned));
    }
    seen
}

fn all(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

fn content(kind: &str, more: Value) -> Value {
    // What the sample says as a text goes.
    let mut content = json!({ "kind": kind, "body": null, "mentions": null, "quoted": null });
    merge(&mut content, more);
    json!({ "content": content })
}

fn file(kind: &str, mime: &str, more: Value) -> Value {
    let media = json!({
        "kind": kind, "mime": mime, "state": "inline", "base64": "AQID", "file_name": "a.bin",
    });
    let mut part = json!({ "media": media });
    merge(&mut part, more);
    content(kind, part)
}

#[test]
fn every_kind_of_message() {
    use Kind::{MessageDeleted, MessageEdited, MessageReaction, MessageReceived, MessageVote};
    let reply = |sub_kind: &str| {
        let members = json!({ "sub_kind": sub_kind, "id": "id-1", "title": "One" });
        content("interactive_reply", members)
    };
    let place = json!({
        "latitude": -23.5, "longitude": -46.6, "name": "Praça", "address": "Centro",
    });
    let card = json!({
        "display_name": "Bia", "phones": [{ "phone": "+55 11 99999-0002" }], "vcard": "BEGIN:VCARD",
    });
    let poll = json!({ "name": "When?", "options": ["Mon", "Tue"], "selectable_count": 1 });
    let captioned = json!({ "caption": "see this" });
    let voice = json!({ "media": { "voice": true } });
    let linked = json!({
        "media": { "state": "url", "url": "https://m.example.invalid/x", "base64": null },
    });
    let seen = check(
        "message.exchange",
        "/message/type",
        vec![
            ("text", MessageReceived, json!({})),
            ("text.sent", Kind::MessageSent, json!({})),
            ("image", MessageReceived, file("image", "image/jpeg", captioned)),
            ("image.url", MessageReceived, file("image", "image/jpeg", linked)),
            ("video", MessageReceived, file("video", "video/mp4", json!({}))),
            ("audio", MessageReceived, file("audio", "audio/ogg", json!({}))),
            ("audio.voice", MessageReceived, file("audio", "audio/ogg", voice)),
            ("document", MessageReceived, file("document", "application/pdf", json!({}))),
            ("sticker", MessageReceived, file("sticker", "image/webp", json!({}))),
            ("location", MessageReceived, content("location", place)),
            ("contact", MessageReceived, content("contacts", json!({ "contacts": [card] }))),
            ("buttons_response", MessageReceived, reply("button")),
            ("buttons_response.template", MessageReceived, reply("template_button")),
            ("list_response", MessageReceived, reply("list")),
            ("reaction", MessageReaction, json!({})),
            ("poll", MessageReceived, content("poll", poll)),
            ("poll.vote", MessageVote, json!({})),
            ("message_edit", MessageEdited, json!({})),
            ("message_revoke", MessageDeleted, json!({})),
        ],
    );
    let documented = all(&[
        "text",
        "image",
        "video",
        "audio",
        "document",
        "sticker",
        "location",
        "contact",
        "buttons_response",
        "list_response",
        "reaction",
        "poll",
        "message_edit",
        "message_revoke",
    ]);
    assert_eq!(seen, documented);
}

#[test]
fn every_type_of_media_and_of_chat() {
    let media = |kind: &str, more: Value| {
        let data = with(Kind::MessageReceived, file(kind, "a/b", more));
        sent(&data)[0][1]["message"]["media"]["type"].as_str().unwrap().to_owned()
    };
    for kind in ["image", "video", "audio", "document", "sticker"] {
        assert_eq!(media(kind, json!({})), kind);
    }
    assert_eq!(media("audio", json!({ "media": { "voice": true } })), "ptt");
    assert_eq!(media("video", json!({ "media": { "voice": true } })), "ptv");
    for (id, kind, expected) in [
        ("5511999990001@s.whatsapp.net", "user", "private"),
        ("120363000000000001@g.us", "group", "group"),
        ("120363000000000002@newsletter", "newsletter", "newsletter"),
    ] {
        let chat = json!({ "chat": { "id": id, "kind": kind }, "message": { "chat": id } });
        let parts = sent(&with(Kind::MessageReceived, chat));
        assert_eq!(parts[0][1]["chat"]["type"], expected);
        assert_eq!(parts[0][1]["message"]["chat"]["type"], expected);
    }
}

#[test]
fn every_delivery_state() {
    let state = |status: &str| json!({ "status": status });
    let group = json!({
        "status": "read",
        "chat": { "id": "120363000000000001@g.us", "kind": "group" },
        "message": { "chat": "120363000000000001@g.us" },
    });
    let seen = check(
        "message.status",
        "/status",
        vec![
            ("delivered", Kind::MessageStatus, state("delivered")),
            ("read", Kind::MessageStatus, state("read")),
            ("read.group", Kind::MessageStatus, group),
            ("played", Kind::MessageStatus, state("played")),
            ("sender", Kind::MessageStatus, state("sender")),
            ("read_self", Kind::MessageStatus, state("read_self")),
            ("played_self", Kind::MessageStatus, state("played_self")),
            ("retry", Kind::MessageStatus, state("retry")),
            ("inactive", Kind::MessageStatus, state("inactive")),
            ("server_error", Kind::MessageStatus, state("failed")),
        ],
    );
    // `peer_msg` and `history_sync` are no delivery states of anything that is canonical.
    assert_eq!(seen.len(), 9);
}

#[test]
fn every_step_of_a_call() {
    let state = |state: &str| json!({ "state": state });
    let latency = json!({ "state": "signal", "signal": "latency" });
    let group = json!({
        "state": "offer", "is_group": true, "is_video": true,
        "group": { "id": "120363000000000001@g.us", "kind": "group" },
    });
    let seen = check(
        "call.update",
        "/type",
        vec![
            ("offer", Kind::CallUpdated, state("offer")),
            ("offer.group", Kind::CallUpdated, group),
            ("accepted", Kind::CallUpdated, state("accepted")),
            ("rejected", Kind::CallUpdated, state("rejected")),
            ("terminated", Kind::CallUpdated, state("terminated")),
            ("terminated.missed", Kind::CallUpdated, state("missed")),
            ("terminated.elsewhere", Kind::CallUpdated, state("ended_elsewhere")),
            ("notification", Kind::CallUpdated, state("notice")),
            ("latency", Kind::CallUpdated, latency),
        ],
    );
    let documented =
        all(&["offer", "accepted", "rejected", "terminated", "notification", "latency"]);
    assert_eq!(seen, documented);
}

#[test]
fn every_change_of_a_group() {
    use Kind::{GroupLifecycle, GroupParticipants, GroupUpdated};
    let action = |action: &str| json!({ "action": action });
    // The sample's own change would be a message of its own.
    let only = |name: &str, value: Value| {
        let mut patch = json!({ "name": null, "changed": [name] });
        patch[name] = value;
        patch
    };
    let removed = json!({ "id": null, "url": null, "removed": true });
    let seen = check(
        "group.flow",
        "/type",
        vec![
            ("joined", GroupParticipants, action("add")),
            ("left", GroupParticipants, action("remove")),
            ("promoted", GroupParticipants, action("promote")),
            ("demoted", GroupParticipants, action("demote")),
            ("join_request.created", GroupParticipants, action("request_created")),
            ("join_request.approved", GroupParticipants, action("request_approved")),
            ("join_request.rejected", GroupParticipants, action("request_rejected")),
            ("join_request.revoked", GroupParticipants, action("request_revoked")),
            ("name", GroupUpdated, only("name", json!("Team"))),
            ("topic", GroupUpdated, only("description", json!("About us"))),
            ("announce", GroupUpdated, only("announce_only", json!(true))),
            ("locked", GroupUpdated, only("locked", json!(true))),
            ("ephemeral", GroupUpdated, only("ephemeral_expires_s", json!(86_400))),
            ("link", GroupUpdated, only("invite_code", json!("CODE"))),
            ("membership_approval", GroupUpdated, only("join_approval", json!(true))),
            ("picture", GroupUpdated, only("picture", json!({ "id": "1", "removed": false }))),
            ("picture.removed", GroupUpdated, only("picture", removed)),
            ("created", GroupLifecycle, action("created")),
            ("joined.self", GroupLifecycle, action("joined")),
            ("left.self", GroupLifecycle, action("left")),
            ("delete", GroupLifecycle, action("deleted")),
            ("unlink", GroupLifecycle, action("unlinked")),
        ],
    );
    let documented = [
        "joined",
        "left",
        "promoted",
        "demoted",
        "name",
        "topic",
        "announce",
        "link",
        "delete",
        "locked",
        "ephemeral",
        "unlink",
        "membership_approval",
        "created",
        "picture",
    ];
    assert!(documented.iter().all(|value| seen.contains(*value)), "{seen:?}");
}

#[test]
fn every_state_of_a_session() {
    use Kind::{InstanceDisconnected, InstanceError, InstanceSync};
    let reason = |reason: &str| json!({ "reason": reason });
    let code = |code: &str| json!({ "code": code });
    let phase = |phase: &str| json!({ "phase": phase });
    let seen = check(
        "instance.state",
        "/state",
        vec![
            ("connecting", Kind::InstanceConnecting, json!({})),
            ("connected", Kind::InstanceConnected, json!({})),
            ("disconnected", InstanceDisconnected, reason("network")),
            ("stream_replaced", InstanceDisconnected, reason("replaced")),
            ("logged_out", Kind::InstanceLoggedOut, json!({})),
            ("temp_banned", Kind::InstanceBanned, json!({ "expires_in_s": 3_600 })),
            ("client_outdated", InstanceError, code("client_outdated")),
            ("connect_failure", InstanceError, code("connect_failure")),
            ("stream_error", InstanceError, code("stream_error")),
            ("cat_refresh_error", InstanceError, code("cat_refresh_error")),
            ("pair_error", InstanceError, code("pair_error")),
            ("qr_scanned_no_multidevice", InstanceError, code("qr_scanned_no_multidevice")),
            ("keepalive_timeout", InstanceSync, phase("keepalive_timeout")),
            ("keepalive_restored", InstanceSync, phase("keepalive_restored")),
            ("qr_ready", Kind::InstanceQr, json!({ "code": "2@aaa", "exhausted": false })),
            ("pair_success", Kind::InstancePaired, json!({})),
        ],
    );
    // All but `manual_reconnect`: nobody asks us to connect.
    assert_eq!(seen.len(), 16);
}

#[test]
fn every_change_of_a_label() {
    let message = json!({ "id": "3EB0A1", "chat": "5511999990001@s.whatsapp.net" });
    let seen = check(
        "label.update",
        "/type",
        vec![
            ("edit", Kind::LabelUpdated, json!({ "action": "upserted" })),
            ("edit.deleted", Kind::LabelUpdated, json!({ "action": "deleted" })),
            (
                "chat",
                Kind::LabelAssociation,
                json!({ "target": "chat", "action": "added", "message": null }),
            ),
            (
                "chat.removed",
                Kind::LabelAssociation,
                json!({ "target": "chat", "action": "removed", "message": null }),
            ),
            (
                "message",
                Kind::LabelAssociation,
                json!({ "target": "message", "action": "added", "message": message }),
            ),
        ],
    );
    assert_eq!(seen, all(&["edit", "chat", "message"]));
}
