//! What goes out in VZaps's vocabulary: every type, every content, every state.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contents;
mod limits;
mod sources;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use zapbus_event::{
    Data, Dialect, Event, EventId, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
    data::{Participant, ParticipantAction, Status, TypingState},
    dialect::{Context, Fallback, Options, Part},
    sample,
    shape::Address,
};

/// An event with this payload, at a fixed moment.
fn event(data: &Data) -> Event {
    let at = Timestamp::from_millis(1_767_225_601_000);
    let facet = data.facet().map(str::to_owned);
    Event {
        id: EventId::new(at, 1),
        seq: Position(7),
        instance: InstanceId::new(at, 2),
        kind: data.kind(),
        ephemeral: data.kind().is_ephemeral(facet.as_deref()),
        facet,
        occurred_at: at,
        occurred_at_estimated: false,
        received_at: Timestamp::from_millis(1_767_225_602_500),
        source: Source {
            kind: SourceKind::Native,
            event: data.kind().to_string(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        dedup_key: None,
        partition: data.partition().into_owned(),
        history: false,
        client_id: None,
        hops: 0,
        data: data.to_bytes(),
        raw: Raw::Data,
    }
}

fn posted() -> Options {
    Options { media_key: true, ..Options::default() }
}

fn live() -> Options {
    Options { live: true, ..posted() }
}

fn parts(event: &Event, options: &Options) -> Vec<Part> {
    Dialect::Vzaps
        .encode(event, &Context { instance_name: "loja", ..Context::default() }, options)
        .unwrap()
}

/// The only message an event becomes, as JSON.
fn written(event: &Event, options: &Options) -> Value {
    let parts = parts(event, options);
    assert_eq!(parts.len(), 1);
    let body: Value = serde_json::from_slice(&parts[0].body).unwrap();
    assert_eq!(body["type"], parts[0].name.as_str());
    body
}

/// What stands under `data` of it.
fn payload(data: &Data) -> Value {
    written(&event(data), &live())["data"].clone()
}

fn by_type(options: &Options) -> BTreeMap<&'static str, Value> {
    let kinds = Kind::ALL.iter().map(|kind| {
        let parts = parts(&event(&sample(*kind)), options);
        let body = |part: &Part| serde_json::from_slice::<Value>(&part.body).unwrap();
        let bodies = parts.iter().map(body);
        (kind.as_str(), bodies.collect())
    });
    kinds.collect()
}

#[test]
fn every_type_as_it_is_posted() {
    insta::assert_json_snapshot!(by_type(&posted()));
}

#[test]
fn every_type_as_a_frame_with_extensions() {
    insta::assert_json_snapshot!(by_type(&Options { fallback: Fallback::Extended, ..live() }));
}

#[test]
fn a_body_is_the_frame_with_the_payload_at_the_top_besides() {
    for kind in Kind::ALL {
        let event = event(&sample(*kind));
        let (posted, live) = (parts(&event, &posted()), parts(&event, &live()));
        assert_eq!(posted.len(), live.len());
        for (posted, live) in posted.iter().zip(&live) {
            let posted: Value = serde_json::from_slice(&posted.body).unwrap();
            let live: Value = serde_json::from_slice(&live.body).unwrap();
            let frame: Vec<_> = live.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(frame, ["id", "type", "instance_id", "created_at", "data"]);
            for (member, value) in live.as_object().unwrap() {
                assert_eq!(&posted[member], value);
            }
            for (member, value) in live["data"].as_object().unwrap() {
                assert_eq!(&posted[member], value, "{kind}");
            }
            assert_eq!(live["data"]["type"], live["type"]);
            assert_eq!(live["created_at"], "2026-01-01T00:00:02.500Z");
            assert!(live["instance_id"].as_str().unwrap().starts_with("VZ"));
        }
    }
}

#[test]
fn names_are_those_of_the_table() {
    let skipped = |data: &Data| parts(&event(data), &posted()).is_empty();
    let name = |data: &Data, fallback| {
        let parts = parts(&event(data), &Options { fallback, ..posted() });
        parts.first().map(|part| part.name.clone()).unwrap_or_default()
    };
    let expected = [
        (Kind::MessageReceived, "Message", "Message"),
        (Kind::MessageSent, "Message", "Message"),
        (Kind::MessageEdited, "Message", "Message"),
        (Kind::MessageDeleted, "Message", "Message"),
        (Kind::MessageReaction, "Message", "Message"),
        (Kind::MessageVote, "Message", "Message"),
        (Kind::MessageStatus, "ReadReceipt", "ReadReceipt"),
        (Kind::MessageUndecryptable, "", "UndecryptableMessage"),
        (Kind::MessageFlagged, "", "MessageFlagged"),
        (Kind::PresenceUser, "Presence", "Presence"),
        (Kind::PresenceChat, "ChatPresence", "ChatPresence"),
        (Kind::ChatUpdated, "", "ChatUpdated"),
        (Kind::ChatDeleted, "", "ChatDeleted"),
        (Kind::ContactUpdated, "", "ContactUpdated"),
        (Kind::GroupUpdated, "", "GroupInfo"),
        (Kind::GroupParticipants, "GroupParticipantsAdd", "GroupParticipantsAdd"),
        (Kind::GroupLifecycle, "", "JoinedGroup"),
        (Kind::NewsletterUpdated, "", "NewsletterLiveUpdate"),
        (Kind::CallUpdated, "", "CallOffer"),
        (Kind::LabelUpdated, "", "LabelEdit"),
        (Kind::LabelAssociation, "", "LabelAssociationChat"),
        (Kind::HistorySync, "HistorySync", "HistorySync"),
        (Kind::InstanceConnecting, "", "InstanceConnecting"),
        (Kind::InstanceConnected, "Connected", "Connected"),
        (Kind::InstanceDisconnected, "Disconnected", "Disconnected"),
        (Kind::InstanceLoggedOut, "Disconnected", "LoggedOut"),
        (Kind::InstanceBanned, "", "TemporaryBan"),
        (Kind::InstanceQr, "", "QR"),
        (Kind::InstancePairCode, "", "InstancePairCode"),
        (Kind::InstancePaired, "", "PairSuccess"),
        (Kind::InstanceError, "", "InstanceError"),
        (Kind::InstanceSync, "", "OfflineSyncCompleted"),
        (Kind::InstanceLifecycle, "", "InstanceLifecycle"),
        (Kind::AccountUpdated, "", "AccountUpdated"),
        (Kind::TemplateUpdated, "", "TemplateUpdated"),
        (Kind::BotSession, "", "BotSession"),
        (Kind::SystemStarted, "", "SystemStarted"),
        (Kind::EventUnknown, "", "EventUnknown"),
        (Kind::DestinationFlowing, "", "DestinationFlowing"),
        (Kind::DestinationProbing, "", "DestinationProbing"),
        (Kind::DestinationPaused, "", "DestinationPaused"),
        (Kind::DestinationDisabled, "", "DestinationDisabled"),
        (Kind::DestinationGap, "", "DestinationGap"),
    ];
    assert_eq!(expected.map(|(kind, ..)| kind), Kind::ALL);
    for (kind, documented, extended) in expected {
        let data = sample(kind);
        assert_eq!(name(&data, Fallback::Skip), documented, "{kind}");
        assert_eq!(skipped(&data), documented.is_empty(), "{kind}");
        assert_eq!(name(&data, Fallback::Extended), extended, "{kind}");
        let native = if documented.is_empty() { "GatewayNative" } else { documented };
        assert_eq!(name(&data, Fallback::Native), native, "{kind}");
    }
}

#[test]
fn what_the_dialect_cannot_say_travels_whole_when_asked_for() {
    let event = event(&sample(Kind::ChatUpdated));
    let body = written(&event, &Options { fallback: Fallback::Native, ..posted() });
    assert_eq!(body["data"]["type"], "chat.updated");
    assert_eq!(body["data"]["id"], body["id"]);
    assert!(body.get("seq").is_none(), "{body}");
}

#[test]
fn receipts_say_which_state_and_of_which_message() {
    let Data::MessageStatus(mut status) = sample(Kind::MessageStatus) else { panic!() };
    let table = [
        (Status::Pending, None, ""),
        (Status::Sent, None, ""),
        (Status::Delivered, Some("Delivered"), ""),
        (Status::Read, Some("Read"), "read"),
        (Status::Played, Some("Played"), "played"),
        (Status::Failed, Some("ServerError"), "server-error"),
        (Status::Retry, Some("Retry"), "retry"),
        (Status::Inactive, Some("Inactive"), "inactive"),
        (Status::Deleted, Some("Deleted"), "deleted"),
        (Status::Sender, Some("Sender"), "sender"),
        (Status::ReadSelf, Some("ReadSelf"), "read-self"),
        (Status::PlayedSelf, Some("PlayedSelf"), "played-self"),
        (Status::Warning, Some("Warning"), "warning"),
    ];
    for (state, shown, kind) in table {
        status.status = state;
        status.rank = state.rank();
        let event = event(&Data::MessageStatus(status.clone()));
        let parts = parts(&event, &posted());
        let Some(shown) = shown else {
            assert!(parts.is_empty(), "{state:?}");
            continue;
        };
        let body = written(&event, &posted());
        assert_eq!(body["state"], shown);
        assert_eq!(body["event"]["type"], kind);
        assert_eq!(body["event"]["message_i_ds"], json!([status.message.id]));
        assert_eq!(body["event"]["message_ids"], body["event"]["message_i_ds"]);
        let own = matches!(state, Status::ReadSelf | Status::PlayedSelf | Status::Sender);
        assert_eq!(body["event"]["is_from_me"], own);
    }
}

#[test]
fn typing_and_recording_are_told_apart_by_media() {
    let Data::PresenceChat(mut presence) = sample(Kind::PresenceChat) else { panic!() };
    for (state, shown, media) in [
        (TypingState::Typing, "composing", ""),
        (TypingState::Recording, "composing", "audio"),
        (TypingState::Paused, "paused", ""),
    ] {
        presence.state = state;
        let payload = payload(&Data::PresenceChat(presence.clone()));
        assert_eq!(
            (&payload["event"]["state"], &payload["event"]["media"]),
            (&json!(shown), &json!(media))
        );
    }
}

#[test]
fn only_members_who_came_or_went_have_a_documented_name() {
    let Data::GroupParticipants(mut change) = sample(Kind::GroupParticipants) else { panic!() };
    change.participants.push(Participant {
        address: Address::parse("9@lid"),
        role: None,
        error: None,
    });
    for (action, name, extended) in [
        (ParticipantAction::Add, Some("GroupParticipantsAdd"), "GroupParticipantsAdd"),
        (ParticipantAction::Remove, Some("GroupParticipantsRemove"), "GroupParticipantsRemove"),
        (ParticipantAction::Promote, None, "GroupParticipantsPromote"),
        (ParticipantAction::Demote, None, "GroupParticipantsDemote"),
        (ParticipantAction::RequestCreated, None, "GroupInfo"),
    ] {
        change.action = action;
        let event = event(&Data::GroupParticipants(change.clone()));
        assert_eq!(parts(&event, &posted()).first().map(|part| part.name.as_str()), name);
        let body = written(&event, &Options { fallback: Fallback::Extended, ..posted() });
        assert_eq!(body["type"], extended);
        assert_eq!(body["event"]["jid"], change.group.id);
        assert_eq!(body["event"]["participants"], json!(["5511999990002@s.whatsapp.net", "9@lid"]));
    }
}

#[test]
fn a_logout_is_a_disconnection_that_says_so() {
    let payload = payload(&sample(Kind::InstanceLoggedOut));
    assert_eq!(
        (&payload["type"], &payload["reason"]),
        (&json!("Disconnected"), &json!("logged_out"))
    );
}

#[test]
fn a_payload_that_its_type_does_not_allow_is_an_error_and_no_panic() {
    let mut event = event(&sample(Kind::MessageReceived));
    event.data = Bytes::from_static(b"{}");
    let error = Dialect::Vzaps
        .encode(&event, &Context { instance_name: "", ..Context::default() }, &posted())
        .unwrap_err();
    assert!(error.to_string().contains("message.received"), "{error}");
}
