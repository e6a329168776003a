//! Bodies of the same kinds as the fixtures, in the variations that the bridged products also
//! post.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use zapbus_event::{
    Alias, Draft, Kind,
    source::{Decoded, evolution, waha, wuzapi},
};

const ANA: &str = "5511999990001@s.whatsapp.net";
const BIA: &str = "5511999990002@s.whatsapp.net";
const OWN: &str = "5511999990000@s.whatsapp.net";
const LID: &str = "900000000000011@lid";
const GROUP: &str = "120363000000000001@g.us";

fn drafts(decoded: Decoded) -> Vec<Draft> {
    decoded.events.into_iter().map(|routed| routed.draft).collect()
}

fn one(decoded: Decoded) -> (Draft, Value) {
    let mut drafts = drafts(decoded);
    assert_eq!(drafts.len(), 1);
    let draft = drafts.remove(0);
    let data = serde_json::from_slice(&draft.data).unwrap();
    (draft, data)
}

fn types(decoded: Decoded) -> Vec<String> {
    drafts(decoded)
        .iter()
        .map(|draft| match &draft.facet {
            Some(facet) => format!("{}:{facet}", draft.kind),
            None => draft.kind.to_string(),
        })
        .collect()
}

fn from_evolution(event: &str, data: Value) -> Decoded {
    let body = json!({
        "event": event, "instance": "loja", "data": data,
        "date_time": "2026-01-01T09:00:00.000Z", "sender": OWN,
    });
    evolution::decode(body.to_string().as_bytes(), None)
}

fn row(key: Value, message: Value) -> Value {
    json!({
        "key": key, "pushName": "Ana", "message": message,
        "messageTimestamp": { "low": 1_767_225_601, "high": 0, "unsigned": true },
    })
}

fn from_ana(message: Value) -> Value {
    row(json!({ "remoteJid": ANA, "fromMe": false, "id": "3EB0A" }), message)
}

fn from_wuzapi(name: &str, event: Value) -> Decoded {
    let body = json!({ "type": name, "event": event, "userID": "1", "instanceName": "loja" });
    wuzapi::decode(body.to_string().as_bytes(), Some("application/json"))
}

fn from_waha(event: &str, payload: Value) -> Decoded {
    let body = json!({
        "id": "evt_1", "timestamp": 1_767_225_601_000_i64, "event": event, "session": "default",
        "me": { "id": "5511999990000@c.us", "lid": "900000000000010@lid" }, "payload": payload,
        "environment": { "version": "2026.1.1" },
    });
    waha::decode(body.to_string().as_bytes())
}

#[test]
fn a_person_under_two_addresses_is_known_by_both() {
    let alias = Alias { lid: LID.to_owned(), phone: ANA.to_owned() };
    let by_lid = json!({ "remoteJid": LID, "remoteJidAlt": ANA, "fromMe": false, "id": "3EB0A" });
    let (draft, data) =
        one(from_evolution("messages.upsert", row(by_lid, json!({ "conversation": "oi" }))));
    assert_eq!(draft.aliases, std::slice::from_ref(&alias));
    assert_eq!(data["chat"]["id"], LID);
    assert_eq!(data["chat"]["phone"], "5511999990001");
    // The order of the number is the order of its events.
    assert_eq!(draft.partition, ANA);
    let (plain, _) =
        one(from_evolution("messages.upsert", from_ana(json!({ "conversation": "oi" }))));
    assert!(draft.keys.contains(&plain.keys[0]), "{:?} {:?}", draft.keys, plain.keys);

    let info = json!({
        "Chat": LID, "Sender": "900000000000011:3@lid", "SenderAlt": ANA, "IsFromMe": false,
        "ID": "3EB0A", "Timestamp": "2026-01-01T09:00:01-03:00",
    });
    let event = json!({ "Info": info, "Message": { "conversation": "oi" } });
    let (draft, _) = one(from_wuzapi("Message", event));
    assert_eq!((&draft.aliases, draft.keys.len()), (&vec![alias.clone()], 2));

    let payload = json!({
        "id": format!("false_{LID}_3EB0A"), "from": LID, "fromMe": false, "body": "oi",
        "_data": { "key": { "remoteJidAlt": ANA } },
    });
    let (draft, _) = one(from_waha("message", payload));
    assert_eq!((&draft.aliases, draft.keys.len()), (&vec![alias], 2));
}

#[test]
fn evolution_edits_and_revocations_are_told_apart() {
    let key = json!({ "remoteJid": ANA, "fromMe": false, "id": "3EB0A" });
    let table = [
        (json!("MESSAGE_EDIT"), vec!["message.edited"]),
        (json!(14), vec!["message.edited"]),
        (json!("REVOKE"), vec!["message.deleted:everyone"]),
        (json!(0), vec!["message.deleted:everyone"]),
        (json!("EPHEMERAL_SETTING"), vec!["event.unknown:unmapped_name"]),
    ];
    for (kind, expected) in table {
        let data = json!({
            "key": key, "type": kind, "timestampMs": "1767225690000",
            "editedMessage": { "extendedTextMessage": { "text": "novo" } },
        });
        assert_eq!(types(from_evolution("messages.edited", data)), expected);
    }
}

#[test]
fn evolution_updates_say_what_they_are() {
    let update = |more: Value| {
        let mut data = json!({ "keyId": "3EB0A", "remoteJid": ANA, "fromMe": true });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        types(from_evolution("messages.update", data))
    };
    assert_eq!(update(json!({ "status": "PLAYED" })), ["message.status:played"]);
    assert_eq!(update(json!({ "status": "ERROR" })), ["message.status:failed"]);
    assert_eq!(update(json!({ "status": "EDITED" })), ["event.unknown:unmapped_name"]);
    assert_eq!(update(json!({ "pollUpdates": null })), ["event.unknown:schema_mismatch"]);
    let vote = json!({ "pollUpdates": [{
        "pollUpdateMessageKey": { "remoteJid": ANA, "fromMe": false, "id": "V" },
        "vote": { "selectedOptions": ["Sim"] },
    }] });
    assert_eq!(update(vote), ["message.vote:poll"]);
}

#[test]
fn evolution_names_are_found_in_every_form() {
    let data = from_ana(json!({ "conversation": "oi" }));
    for name in ["messages.upsert", "MESSAGES_UPSERT", "messages-upsert"] {
        assert_eq!(types(from_evolution(name, data.clone())), ["message.received:text"]);
    }
    let bare = json!({ "data": data }).to_string();
    let decoded = evolution::decode(bare.as_bytes(), Some("messages-upsert"));
    assert_eq!(types(decoded), ["message.received:text"]);
    assert_eq!(types(evolution::decode(bare.as_bytes(), None)), ["event.unknown:wrong_object"]);
    assert_eq!(types(evolution::decode(b"{", None)), ["event.unknown:not_json"]);
}

#[test]
fn a_body_of_evolution_goes_out_however_odd() {
    use zapbus_event::dialect::evolution::{Context, Form, Options, encode};
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let body = format!(
        r#"{{"event":"chats.delete","event":7,"data":["{ANA}"],"date_time":{deep},"sender":null,
            "isLatest":{deep}}}"#
    );
    let draft = drafts(evolution::decode(body.as_bytes(), None)).remove(0);
    let context = Context {
        instance_name: "loja",
        sender: None,
        server_url: None,
        apikey: None,
        form: Form::Queue,
    };
    let parts = encode(&support::journal(draft), &context, &Options::default()).unwrap();
    let expected = format!(
        r#"{{"isLatest":{deep},"event":"chats.delete","instance":"loja","data":["{ANA}"],"date_time":{deep},"sender":null,"apikey":null}}"#
    );
    assert_eq!(std::str::from_utf8(&parts[0].body).unwrap(), expected);
}

#[test]
fn evolution_lists_hold_an_event_each() {
    let rows = json!([{ "remoteJid": ANA, "pushName": "Ana" }, 5, { "id": BIA, "notify": "Bia" }]);
    let decoded = from_evolution("contacts.upsert", rows);
    let expected = ["contact.updated", "event.unknown:schema_mismatch", "contact.updated"];
    assert_eq!(types(decoded), expected);
    let single = from_evolution("contacts.update", json!({ "remoteJid": ANA, "pushName": "Ana" }));
    assert_eq!(types(single), ["contact.updated"]);
    assert_eq!(types(from_evolution("chats.delete", json!([]))), ["event.unknown:schema_mismatch"]);
}

#[test]
fn contents_of_the_protocol_are_read() {
    let table = [
        (json!({ "extendedTextMessage": { "text": "oi", "matchedText": "https://x" } }), "text"),
        (
            json!({ "viewOnceMessageV2": { "message": { "imageMessage": { "url": "u" } } } }),
            "image",
        ),
        (json!({ "ephemeralMessage": { "message": { "ptvMessage": { "url": "u" } } } }), "video"),
        (json!({ "audioMessage": { "ptt": true, "seconds": 3 } }), "audio"),
        (
            json!({ "documentWithCaptionMessage": { "message": {
                "documentMessage": { "fileName": "a.pdf", "caption": "c" } } } }),
            "document",
        ),
        (json!({ "stickerMessage": { "isAnimated": true } }), "sticker"),
        (
            json!({ "liveLocationMessage": { "degreesLatitude": 1, "degreesLongitude": 2 } }),
            "location",
        ),
        (json!({ "contactMessage": { "displayName": "Bia", "vcard": "TEL:1" } }), "contacts"),
        (
            json!({ "pollCreationMessageV3": {
                "name": "?", "options": [{ "optionName": "Sim" }], "selectableOptionsCount": 1 } }),
            "poll",
        ),
        (
            json!({ "buttonsResponseMessage": { "selectedButtonId": "1", "type": 1 } }),
            "interactive_reply",
        ),
        (
            json!({ "listMessage": { "title": "t", "sections": [{ "rows": [
                { "rowId": "1", "title": "Um" }] }] } }),
            "interactive",
        ),
        (json!({ "groupInviteMessage": { "groupJid": GROUP, "inviteCode": "c" } }), "group_invite"),
        (json!({ "eventMessage": { "name": "Festa", "startTime": "1767225600" } }), "event"),
        (
            json!({ "productMessage": { "product": { "productId": "1", "priceAmount1000": "1990" } } }),
            "product",
        ),
        (json!({ "messageContextInfo": {}, "futureMessage": { "x": 1 } }), "unsupported"),
        (json!({}), "unsupported"),
    ];
    for (message, kind) in table {
        let (_, data) = one(from_evolution("messages.upsert", from_ana(message.clone())));
        assert_eq!(data["content"]["kind"], kind, "{message}");
        // The same members, as Go writes them.
        let info = json!({ "Chat": ANA, "Sender": ANA, "ID": "3EB0A", "IsFromMe": false });
        let (_, data) = one(from_wuzapi("Message", json!({ "Info": info, "Message": message })));
        assert_eq!(data["content"]["kind"], kind, "{message}");
    }
}

#[test]
fn what_is_answered_is_complete() {
    let message = json!({ "extendedTextMessage": { "text": "sim", "contextInfo": {
        "stanzaID": "3EB0Q", "participant": OWN, "mentionedJID": [BIA],
        "quotedMessage": { "conversation": "vem?" }, "forwardingScore": 5, "isForwarded": true,
    } } });
    let (_, data) = one(from_evolution("messages.upsert", from_ana(message)));
    let content = &data["content"];
    assert_eq!(
        content["quoted"],
        json!({ "message": { "id": "3EB0Q", "chat": ANA, "from_me": true }, "body": "vem?" })
    );
    assert_eq!(content["mentions"], json!([BIA]));
    assert_eq!(content["forwarded"], json!({ "count": 5, "many": true }));
}

#[test]
fn a_group_of_wuzapi_yields_an_event_for_each_change() {
    let event = json!({
        "JID": GROUP, "Sender": ANA, "Timestamp": "2026-01-01T09:03:00-03:00",
        "Name": { "Name": "Novo" }, "Announce": { "IsAnnounce": true },
        "Join": [BIA], "Leave": [ANA], "Promote": [], "Delete": { "Deleted": true },
    });
    let expected = [
        "group.updated",
        "group.participants:add",
        "group.participants:remove",
        "group.lifecycle:deleted",
    ];
    let decoded = from_wuzapi("GroupInfo", event.clone());
    let mut keys: Vec<_> = drafts(decoded.clone()).into_iter().flat_map(|it| it.keys).collect();
    assert_eq!(types(decoded), expected);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
    let nothing = json!({ "JID": GROUP, "Join": null });
    assert_eq!(types(from_wuzapi("GroupInfo", nothing)), ["event.unknown:schema_mismatch"]);
}

#[test]
fn every_name_of_wuzapi_has_its_type() {
    let call = json!({ "From": ANA, "CallCreator": ANA, "CallID": "C", "Reason": "timeout" });
    let of = |more: Value| {
        let mut event = json!({ "JID": ANA, "Timestamp": "2026-01-01T09:00:00Z" });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        event
    };
    let table = [
        ("Connected", json!({}), "instance.connected"),
        ("Disconnected", json!({}), "instance.disconnected:server_close"),
        ("StreamReplaced", json!({}), "instance.disconnected:replaced"),
        ("Logged Out", json!({ "Reason": 403 }), "instance.logged_out:locked"),
        ("ConnectFailure", json!({ "Reason": 500 }), "instance.error:connection"),
        ("StreamError", json!({ "Code": "515" }), "instance.error:protocol"),
        ("ClientOutdated", json!({}), "instance.error:protocol"),
        ("PairError", json!({ "Error": "x" }), "instance.error:pairing"),
        ("CATRefreshError", json!({}), "instance.error:session"),
        ("QRScannedWithoutMultidevice", json!({}), "instance.error:pairing"),
        ("QRTimeout", json!("timeout"), "instance.qr"),
        ("KeepAliveTimeout", json!({ "ErrorCount": 2 }), "instance.sync:keepalive_timeout"),
        ("KeepAliveRestored", json!({}), "instance.sync:keepalive_restored"),
        ("AppStateSyncComplete", json!({ "Name": "regular" }), "instance.sync:app_state_completed"),
        ("PushNameSetting", json!({ "Action": { "name": "x" } }), "account.updated:push_name"),
        ("PrivacySettings", json!({}), "account.updated:privacy"),
        (
            "ChatPresence",
            json!({ "Chat": ANA, "State": "composing", "Media": "audio" }),
            "presence.chat:recording",
        ),
        ("CallAccept", call.clone(), "call.updated:accepted"),
        ("CallTerminate", call.clone(), "call.updated:terminated"),
        ("CallOfferNotice", call.clone(), "call.updated:notice"),
        ("CallRelayLatency", call, "call.updated:signal"),
        ("Picture", of(json!({ "Remove": true })), "contact.updated"),
        ("Picture", of(json!({ "JID": GROUP })), "group.updated"),
        ("UserAbout", of(json!({ "Status": "oi" })), "contact.updated"),
        ("IdentityChange", of(json!({})), "contact.updated"),
        ("BlocklistChange", of(json!({ "Action": "block" })), "contact.updated"),
        (
            "JoinedGroup",
            json!({ "JID": GROUP, "Name": "G", "Type": "new" }),
            "group.lifecycle:created",
        ),
        (
            "LabelAssociationMessage",
            of(json!({ "LabelID": "1", "MessageID": "M", "Action": { "labeled": false } })),
            "label.association:removed",
        ),
        (
            "NewsletterMuteChange",
            json!({ "id": "1@newsletter", "mute": "on" }),
            "newsletter.updated:muted",
        ),
        (
            "NewsletterLiveUpdate",
            json!({ "JID": "1@newsletter", "Messages": [] }),
            "newsletter.updated:live",
        ),
        (
            "AppState",
            json!({ "Index": ["archive", ANA], "archiveChatAction": { "archived": true } }),
            "chat.updated",
        ),
        (
            "AppState",
            json!({ "Index": ["star", ANA, "M", "0", "0"], "starAction": { "starred": true } }),
            "message.flagged:star",
        ),
        ("AppState", json!({ "Index": ["deleteChat", ANA] }), "chat.deleted:delete"),
        ("AppState", json!({ "Index": ["quick_reply", "x"] }), "event.unknown:unmapped_name"),
        (
            "MediaRetry",
            json!({ "MessageID": "M", "ChatID": ANA, "SenderID": ANA }),
            "message.undecryptable:unknown",
        ),
    ];
    for (name, event, expected) in table {
        assert_eq!(types(from_wuzapi(name, event)), [expected], "{name}");
    }
    let body =
        json!({ "type": "QR", "event": "code", "qrCodeBase64": "data:image/png;base64,AQID" });
    let (draft, data) = one(wuzapi::decode(body.to_string().as_bytes(), None));
    assert_eq!((draft.kind, draft.keys.len()), (Kind::InstanceQr, 0));
    assert_eq!(data["image_data_url"], "data:image/png;base64,AQID");
}

#[test]
fn keys_inside_a_message_of_wuzapi_are_the_senders() {
    let info = json!({ "Chat": ANA, "Sender": ANA, "ID": "3EB0R", "IsFromMe": false });
    let reaction = |from_me: bool| {
        let key = json!({ "remoteJID": OWN, "fromMe": from_me, "ID": "3EB0A" });
        let message = json!({ "reactionMessage": { "key": key, "text": "👍" } });
        one(from_wuzapi("Message", json!({ "Info": info, "Message": message }))).1
    };
    assert_eq!(reaction(true)["target"]["from_me"], false);
    assert_eq!(reaction(false)["target"]["from_me"], true);
    assert_eq!(reaction(false)["target"]["chat"], ANA);
}

#[test]
fn every_name_of_waha_has_its_type() {
    let id = format!("false_{ANA}_3EB0A");
    let group = json!({ "group": { "id": GROUP, "subject": "G" } });
    let members = |kind: &str| json!({ "group": { "id": GROUP }, "type": kind, "participants": [{ "id": "5511@c.us" }] });
    let vote = json!({
        "vote": { "id": id, "selectedOptions": ["Sim"] },
        "poll": { "id": format!("true_{ANA}_3EB0P"), "fromMe": true },
    });
    let table = [
        (
            "message.any",
            json!({ "id": format!("true_{ANA}_X"), "fromMe": true, "source": "api", "body": "x" }),
            "message.sent:api",
        ),
        ("message.waiting", json!({ "id": id }), "message.undecryptable:unknown"),
        (
            "message.ack.group",
            json!({ "id": format!("true_{GROUP}_X_{BIA}"), "ack": 2 }),
            "message.status:delivered",
        ),
        ("poll.vote", vote.clone(), "message.vote:poll"),
        ("poll.vote.failed", vote, "message.vote:poll"),
        (
            "event.response",
            json!({ "id": id, "eventCreationKey": { "id": "E" }, "eventResponse": { "response": "GOING" } }),
            "message.vote:event",
        ),
        ("group.v2.update", group.clone(), "group.updated"),
        ("group.v2.leave", group, "group.lifecycle:left"),
        ("group.v2.participants", members("promote"), "group.participants:promote"),
        ("group.v2.participants", members("leave"), "group.participants:remove"),
        (
            "group.v2.participants.join_request",
            members("created"),
            "group.participants:request_created",
        ),
        (
            "group.join",
            json!({ "chatId": GROUP, "recipientIds": ["5511@c.us"] }),
            "group.participants:add",
        ),
        (
            "group.leave",
            json!({ "chatId": GROUP, "recipientIds": ["5511@c.us"] }),
            "group.participants:remove",
        ),
        ("call.accepted", json!({ "id": "C", "from": ANA }), "call.updated:accepted"),
        ("label.deleted", json!({ "id": "1" }), "label.updated:deleted"),
        (
            "label.chat.deleted",
            json!({ "labelId": "1", "chatId": ANA }),
            "label.association:removed",
        ),
        ("session.status", json!({ "status": "STARTING" }), "instance.connecting"),
        ("session.status", json!({ "status": "NEW" }), "event.unknown:unmapped_name"),
        ("state.change", json!({ "state": "TIMEOUT" }), "instance.sync:keepalive_timeout"),
        ("engine.event", json!({}), "event.unknown:unmapped_name"),
        ("message", json!({}), "event.unknown:schema_mismatch"),
    ];
    for (event, payload, expected) in table {
        assert_eq!(types(from_waha(event, payload)), [expected], "{event}");
    }
}

#[test]
fn contents_of_waha_are_read_from_its_own_members() {
    let payload = |more: Value| {
        let mut payload = json!({ "id": format!("false_{ANA}_3EB0A"), "fromMe": false });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        one(from_waha("message", payload)).1["content"].clone()
    };
    let voice = json!({ "hasMedia": true, "media": { "url": "u", "mimetype": "audio/ogg" }, "_data": { "type": "ptt" } });
    assert_eq!(payload(voice)["media"]["voice"], true);
    let sticker = json!({ "hasMedia": true, "media": { "url": "u", "mimetype": "image/webp" } });
    assert_eq!(payload(sticker)["kind"], "sticker");
    let place =
        json!({ "location": { "latitude": "-23.5", "longitude": "-46.6", "description": "Sé" } });
    assert_eq!(payload(place)["latitude"], -23.5);
    let cards = json!({ "vCards": ["BEGIN:VCARD\nFN:Bia\nTEL;waid=55:+55\nEND:VCARD"] });
    assert_eq!(payload(cards)["contacts"][0]["display_name"], "Bia");
    let poll = json!({ "body": "", "_data": { "message": { "pollCreationMessage": { "name": "?", "options": [] } } } });
    assert_eq!(payload(poll)["kind"], "poll");
    let answer =
        json!({ "body": "sim", "replyTo": { "id": format!("true_{ANA}_3EB0Q"), "body": "vem?" } });
    assert_eq!(payload(answer)["quoted"]["message"]["from_me"], true);
    assert_eq!(
        payload(json!({ "_data": { "type": "ciphertext" } }))["upstream_type"],
        "ciphertext"
    );
}
