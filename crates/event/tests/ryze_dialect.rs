//! What the `ryze` dialect writes, for events of every product.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::{BRIDGED, CLOUD_API, journal};
use zapbus_event::{
    Data, Draft, Event, Kind, Source, SourceKind,
    data::{
        CallState, GroupLifecycle, InstanceError, LifecycleAction, ParticipantAction, Status,
        SyncPhase,
    },
    dialect::{
        Fallback, Part,
        ryze::{self, Context, MessageContent, Name, Names, Options},
    },
    sample,
    shape::Content,
};

const CONTEXT: Context<'static> =
    Context { instance_name: "shop1", base_url: "https://gw.example.invalid", token: "inst-tok" };

fn encoded(event: &Event, options: &Options) -> Vec<Part> {
    ryze::encode(event, &CONTEXT, options).unwrap()
}

fn value(part: &Part) -> Value {
    serde_json::from_slice(&part.body).unwrap()
}

fn event(data: &Data) -> Event {
    let source = Source {
        kind: SourceKind::Simulator,
        event: data.kind().as_str().to_owned(),
        version: None,
        delivery_id: None,
        index: 0,
    };
    journal(Draft::from_data(data, source))
}

/// The names and payloads of all parts.
fn shown(event: &Event, options: &Options) -> Vec<Value> {
    let parts = encoded(event, options);
    parts
        .iter()
        .map(|part| {
            let body = value(part);
            assert_eq!(body["event"], part.name);
            json!([body["event"], body["data"]])
        })
        .collect()
}

/// The inner value of the only part, or nothing.
fn inner(data: &Data, member: &str) -> Option<String> {
    let parts = shown(&event(data), &Options::default());
    assert!(parts.len() <= 1);
    parts.first().map(|part| part[1][member].as_str().unwrap().to_owned())
}

#[test]
fn the_envelope_is_that_of_the_documentation() {
    let event = event(&sample(Kind::InstanceConnecting));
    let body = |options: &Options| {
        let part = encoded(&event, options).remove(0);
        String::from_utf8(part.body.to_vec()).unwrap()
    };
    let data =
        r#"{"state":"connecting","instance":"shop1","timestamp":"2026-01-01T00:01:40.123Z"}"#;
    let head = format!(r#"{{"event":"instance.state","data":{data},"instanceData":"#);
    let ours = r#"{"baseUrl":"https://gw.example.invalid","instance":"shop1","token":""#;
    assert_eq!(body(&Options::default()), format!(r#"{head}{ours}inst-tok"}}}}"#));
    let blank = Options { blank_token: true, ..Options::default() };
    assert_eq!(body(&blank), format!(r#"{head}{ours}"}}}}"#));
    let extended = Options { extended_envelope: true, ..Options::default() };
    let id = event.id;
    assert_eq!(
        body(&extended),
        format!(r#"{head}{ours}inst-tok"}},"id":"{id}","timestamp":"2026-01-01T00:01:40.123Z"}}"#)
    );
}

#[test]
fn samples_of_every_type_do_not_change_unseen() {
    for kind in Kind::ALL {
        let options = Options { media_base64: true, ..Options::default() };
        let parts = shown(&event(&sample(*kind)), &options);
        insta::assert_json_snapshot!(format!("sample__{kind}"), parts);
    }
}

#[test]
fn events_of_every_product_do_not_change_unseen() {
    for product in BRIDGED.into_iter().chain([CLOUD_API]) {
        for file in product.files() {
            let events = product.events(&product.posted(&file));
            let parts: Vec<_> =
                events.iter().flat_map(|event| shown(event, &Options::default())).collect();
            let name = format!("{}__{}", product.name, file.trim_end_matches(".json"));
            insta::assert_json_snapshot!(name, parts);
        }
    }
}

#[test]
fn content_is_a_text_or_an_object() {
    let event = event(&sample(Kind::MessageReceived));
    let message = |content| {
        let options = Options { content, ..Options::default() };
        value(&encoded(&event, &options)[0])["data"]["message"].clone()
    };
    let text = message(MessageContent::Text);
    let object = message(MessageContent::Object);
    assert_eq!(text["content"], "Olá, quero saber o preço");
    assert_eq!(object["content"], json!({ "text": "Olá, quero saber o preço" }));
    for message in [text, object] {
        assert_eq!(message["text"], "Olá, quero saber o preço");
        assert_eq!(message["body"]["text"], "Olá, quero saber o preço");
    }
}

#[test]
fn files_are_in_the_message_only_on_request() {
    let Data::MessageReceived(mut received) = sample(Kind::MessageReceived) else { panic!() };
    let image = json!({
        "kind": "image",
        "media": {
            "kind": "image", "mime": "image/png", "state": "inline", "base64": "AQID"
        },
    });
    received.content = serde_json::from_value::<Content>(image).unwrap();
    let event = event(&Data::MessageReceived(received));
    let media = |media_base64| {
        let options = Options { media_base64, ..Options::default() };
        value(&encoded(&event, &options)[0])["data"]["message"]["media"].clone()
    };
    assert_eq!(media(true)["base64"], "AQID");
    assert_eq!(media(false).get("base64"), None);
}

#[test]
fn every_inner_value_has_its_name() {
    let Data::MessageStatus(status) = sample(Kind::MessageStatus) else { panic!() };
    let table = [
        (Status::Pending, None),
        (Status::Sent, None),
        (Status::Delivered, Some("delivered")),
        (Status::Read, Some("read")),
        (Status::Played, Some("played")),
        (Status::Failed, Some("server_error")),
        (Status::Retry, Some("retry")),
        (Status::Inactive, Some("inactive")),
        (Status::Deleted, None),
        (Status::Sender, Some("sender")),
        (Status::ReadSelf, Some("read_self")),
        (Status::PlayedSelf, Some("played_self")),
        (Status::Warning, None),
    ];
    for (state, expected) in table {
        let data = Data::MessageStatus(zapbus_event::data::MessageStatus {
            status: state,
            ..status.clone()
        });
        assert_eq!(inner(&data, "status").as_deref(), expected);
    }

    let Data::CallUpdated(call) = sample(Kind::CallUpdated) else { panic!() };
    let table = [
        (CallState::Offer, None, Some("offer")),
        (CallState::Notice, None, Some("notification")),
        (CallState::Ringing, None, None),
        (CallState::Accepted, None, Some("accepted")),
        (CallState::Rejected, None, Some("rejected")),
        (CallState::Terminated, None, Some("terminated")),
        (CallState::Missed, None, Some("terminated")),
        (CallState::EndedElsewhere, None, Some("terminated")),
        (CallState::Signal, Some("latency"), Some("latency")),
        (CallState::Signal, Some("transport"), None),
    ];
    for (state, signal, expected) in table {
        let mut call = call.clone();
        call.state = state;
        call.signal = signal.map(str::to_owned);
        let data = Data::CallUpdated(call);
        assert_eq!(inner(&data, "type").as_deref(), expected, "{state:?}");
        if matches!(state, CallState::Missed | CallState::EndedElsewhere) {
            assert_eq!(inner(&data, "reason").as_deref(), Some(state.as_str()));
        }
    }

    let Data::GroupParticipants(members) = sample(Kind::GroupParticipants) else { panic!() };
    let table = [
        (ParticipantAction::Add, "joined"),
        (ParticipantAction::Remove, "left"),
        (ParticipantAction::Promote, "promoted"),
        (ParticipantAction::Demote, "demoted"),
        (ParticipantAction::RequestCreated, "join_request"),
        (ParticipantAction::RequestRevoked, "join_request"),
    ];
    for (action, expected) in table {
        let mut members = members.clone();
        members.action = action;
        assert_eq!(inner(&Data::GroupParticipants(members), "type").as_deref(), Some(expected));
    }

    let Data::GroupLifecycle(group) = sample(Kind::GroupLifecycle) else { panic!() };
    let table = [
        (LifecycleAction::Created, Some("created")),
        (LifecycleAction::Joined, Some("joined")),
        (LifecycleAction::Left, Some("left")),
        (LifecycleAction::Deleted, Some("delete")),
        (LifecycleAction::Suspended, None),
        (LifecycleAction::Linked, None),
        (LifecycleAction::Unlinked, Some("unlink")),
    ];
    for (action, expected) in table {
        let data = Data::GroupLifecycle(GroupLifecycle { action, ..group.clone() });
        assert_eq!(inner(&data, "type").as_deref(), expected);
    }

    let Data::InstanceSync(sync) = sample(Kind::InstanceSync) else { panic!() };
    let table = [
        (SyncPhase::KeepaliveTimeout, Some("keepalive_timeout")),
        (SyncPhase::KeepaliveRestored, Some("keepalive_restored")),
        (SyncPhase::OfflineCompleted, None),
    ];
    for (phase, expected) in table {
        let mut sync = sync.clone();
        sync.phase = phase;
        assert_eq!(inner(&Data::InstanceSync(sync), "state").as_deref(), expected);
    }

    let Data::InstanceError(error) = sample(Kind::InstanceError) else { panic!() };
    for code in ["pair_error", "client_outdated", "cat_refresh_error", "connect_failure"] {
        let data =
            Data::InstanceError(InstanceError { code: Some(code.to_owned()), ..error.clone() });
        assert_eq!(inner(&data, "state").as_deref(), Some(code));
    }
}

#[test]
fn several_changes_of_a_group_are_a_message_each() {
    let Data::GroupUpdated(mut group) = sample(Kind::GroupUpdated) else { panic!() };
    group.name = Some("Novo".to_owned());
    group.description = Some("Sobre".to_owned());
    group.announce_only = Some(true);
    group.invite_code = Some("CODE".to_owned());
    group.member_add_mode = Some("admin_add".to_owned());
    let parts = shown(&event(&Data::GroupUpdated(group)), &Options::default());
    let found: Vec<_> =
        parts.iter().map(|part| (part[1]["type"].as_str().unwrap(), &part[1]["value"])).collect();
    let link = json!("https://chat.whatsapp.com/CODE");
    let expected = [
        ("name", &json!("Novo")),
        ("topic", &json!("Sobre")),
        ("announce", &json!(true)),
        ("link", &link),
    ];
    assert_eq!(found, expected);
}

#[test]
fn only_what_is_subscribed_is_sent() {
    for kind in Kind::ALL {
        let event = event(&sample(*kind));
        for part in encoded(&event, &Options::default()) {
            let name = Name::find(&part.name).unwrap();
            for other in Name::ALL {
                let names = Names::parse(&[other.as_str()]).unwrap();
                let sent = encoded(&event, &Options { names, ..Options::default() });
                assert_eq!(sent.is_empty(), *other != name, "{kind} {other}");
            }
            let filter = Names::parse(&[name.as_str()]).unwrap().filter(Fallback::Skip).unwrap();
            assert!(filter.matches(event.kind, event.facet.as_deref()), "{kind} {name}");
        }
    }
}

#[test]
fn a_fallback_has_the_canonical_name_or_the_native_envelope() {
    let flagged = event(&sample(Kind::MessageFlagged));
    assert!(encoded(&flagged, &Options::default()).is_empty());
    let extended = Options { fallback: Fallback::Extended, ..Options::default() };
    let data: Value = serde_json::from_slice(&flagged.data).unwrap();
    assert_eq!(shown(&flagged, &extended), [json!(["message.flagged", data])]);
    let native = Options { fallback: Fallback::Native, ..Options::default() };
    let part = value(&encoded(&flagged, &native)[0]);
    assert_eq!((&part["event"], &part["data"]["data"]), (&json!("gateway.native"), &data));
    let raw = Options { include_raw: true, ..native };
    assert_eq!(value(&encoded(&flagged, &raw)[0])["data"]["raw"], data);

    // A documented name never has another shape.
    let Data::MessageStatus(mut status) = sample(Kind::MessageStatus) else { panic!() };
    status.status = Status::Sent;
    let pending = event(&Data::MessageStatus(status));
    assert!(encoded(&pending, &extended).is_empty());
    assert_eq!(encoded(&pending, &native).len(), 1);
}
