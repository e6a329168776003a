//! What the `evolution` dialect writes, for events of every product.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::{BRIDGED, CLOUD_API, EVOLUTION, journal};
use zapbus_event::{
    Draft, Event, Kind, Source, SourceKind,
    dialect::{
        Fallback, Part,
        evolution::{self, Context, Form, Name, Names, Options},
    },
    sample,
};

const CONTEXT: Context<'static> = Context {
    instance_name: "loja-exemplo",
    sender: Some("5511999990000@s.whatsapp.net"),
    server_url: Some("https://gateway.example.invalid"),
    apikey: None,
    form: Form::Webhook { destination: "https://crm.example.invalid/wh" },
};

fn encoded(event: &Event, options: &Options) -> Vec<Part> {
    evolution::encode(event, &CONTEXT, options).unwrap()
}

fn value(part: &Part) -> Value {
    serde_json::from_slice(&part.body).unwrap()
}

fn sampled(kind: Kind) -> Event {
    let source = Source {
        kind: SourceKind::Simulator,
        event: kind.as_str().to_owned(),
        version: None,
        delivery_id: None,
        index: 0,
    };
    journal(Draft::from_data(&sample(kind), source))
}

/// The parts of all events of a body, by the names they go under.
fn all_parts(events: &[Event], options: &Options) -> Vec<Value> {
    let parts = events.iter().flat_map(|event| encoded(event, options));
    parts
        .map(|part| {
            let body = value(&part);
            assert_eq!(body["event"], part.name);
            body
        })
        .collect()
}

#[test]
fn what_came_from_evolution_goes_out_as_it_came() {
    for file in EVOLUTION.files() {
        let posted = EVOLUTION.posted(&file);
        let parts = all_parts(&EVOLUTION.events(&posted), &Options::default());
        let mut expected: Value = serde_json::from_slice(&posted).unwrap();
        if file == "unknown-event.json" {
            assert!(parts.is_empty());
            continue;
        }
        // These are ours, the rest is the upstream's.
        expected["destination"] = json!("https://crm.example.invalid/wh");
        expected["server_url"] = json!("https://gateway.example.invalid");
        expected["apikey"] = Value::Null;
        assert_eq!(parts, [expected], "{file}");
    }
}

#[test]
fn members_stand_in_the_order_of_upstream() {
    let event = sampled(Kind::InstanceConnecting);
    let data = r#"{"instance":"loja-exemplo","state":"connecting","statusReason":200}"#;
    let at = r#""date_time":"2026-01-01T00:01:40.123Z","sender":"5511999990000@s.whatsapp.net""#;
    let url = r#""server_url":"https://gateway.example.invalid""#;
    let head = r#"{"event":"connection.update","instance":"loja-exemplo""#;
    let table = [
        (
            Form::Webhook { destination: "https://x.invalid" },
            format!(
                r#"{head},"data":{data},"destination":"https://x.invalid",{at},{url},"apikey":"k"}}"#
            ),
        ),
        (Form::Queue, format!(r#"{head},"data":{data},{url},{at},"apikey":"k"}}"#)),
        (
            Form::Sqs { server: "evolution" },
            format!(
                r#"{head},"dataType":"json","data":{data},"server":"evolution",{url},{at},"apikey":"k"}}"#
            ),
        ),
    ];
    for (form, expected) in table {
        let context = Context { apikey: Some("k"), form, ..CONTEXT };
        let parts = evolution::encode(&event, &context, &Options::default()).unwrap();
        assert_eq!(std::str::from_utf8(&parts[0].body).unwrap(), expected);
    }
    // That of all instances names the instance's own URL, or where each event of it would go.
    for (own, base, expected) in [
        (Some("https://own.invalid/hook"), "https://all.invalid/", "https://own.invalid/hook"),
        (None, "https://all.invalid/", "https://all.invalid/connection-update"),
        (None, "https://all.invalid/x?a=b", "https://all.invalid/x/connection-update?a=b"),
    ] {
        let context = Context { form: Form::Everyone { own, base }, ..CONTEXT };
        let parts = evolution::encode(&event, &context, &Options::default()).unwrap();
        let expected = format!(
            r#"{head},"data":{data},"destination":"{expected}",{at},{url},"apikey":null}}"#
        );
        assert_eq!(std::str::from_utf8(&parts[0].body).unwrap(), expected);
    }
    let bare = Context { sender: None, server_url: None, form: Form::Queue, ..CONTEXT };
    let parts = evolution::encode(&event, &bare, &Options::default()).unwrap();
    let expected =
        format!(r#"{head},"data":{data},"date_time":"2026-01-01T00:01:40.123Z","apikey":null}}"#);
    assert_eq!(std::str::from_utf8(&parts[0].body).unwrap(), expected);
}

#[test]
fn samples_of_every_type_do_not_change_unseen() {
    for kind in Kind::ALL {
        let event = sampled(*kind);
        let parts = all_parts(&[event], &Options { base64: true, ..Options::default() });
        let data: Vec<_> = parts.iter().map(|part| json!([part["event"], part["data"]])).collect();
        insta::assert_json_snapshot!(format!("sample__{kind}"), data);
    }
}

#[test]
fn messages_of_every_product_do_not_change_unseen() {
    for product in BRIDGED.into_iter().chain([CLOUD_API]) {
        for file in product.files() {
            let mut events = product.events(&product.posted(&file));
            // What came from Evolution is handed on; here it must be rendered.
            for event in &mut events {
                if event.source.kind == SourceKind::Evolution {
                    event.source.kind = SourceKind::Simulator;
                }
            }
            let parts = all_parts(&events, &Options::default());
            let data: Vec<_> =
                parts.iter().map(|part| json!([part["event"], part["data"]])).collect();
            let name = format!("{}__{}", product.name, file.trim_end_matches(".json"));
            insta::assert_json_snapshot!(name, data);
        }
    }
}

#[test]
fn what_is_rendered_is_decoded_to_the_same() {
    for product in BRIDGED.into_iter().chain([CLOUD_API]) {
        for file in product.files() {
            let mut events = product.events(&product.posted(&file));
            events.retain(|event| matches!(event.kind, Kind::MessageReceived | Kind::MessageSent));
            for event in &mut events {
                event.source.kind = SourceKind::Simulator;
                let [part] = &encoded(event, &Options::default())[..] else { panic!("{file}") };
                let again = EVOLUTION.events(&part.body).remove(0);
                assert_eq!(again.kind, event.kind, "{file}");
                let before: Value = serde_json::from_slice(&event.data).unwrap();
                let after: Value = serde_json::from_slice(&again.data).unwrap();
                assert_eq!(before["message"], after["message"], "{file}");
                // For what has no name there is a word there: oneself, the number.
                if event.kind == Kind::MessageReceived && before["sender"]["name"].is_string() {
                    assert_eq!(before["sender"]["name"], after["sender"]["name"], "{file}");
                }
                // Types that Evolution has no form for have only a name left.
                let kind = &before["content"]["kind"];
                if kind != "unsupported" && kind != "order" {
                    assert_eq!(kind, &after["content"]["kind"], "{file}");
                    for member in ["body", "caption", "title", "id", "latitude", "contacts"] {
                        if before["content"][member].is_string() {
                            let (old, new) = (&before["content"], &after["content"]);
                            assert_eq!(old[member], new[member], "{file}: {member}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_sample_of_every_name_is_sent_and_only_what_is_subscribed() {
    for kind in Kind::ALL {
        let event = sampled(*kind);
        let all = encoded(&event, &Options::default());
        for part in &all {
            let name = Name::find(&part.name).unwrap();
            let only = Options {
                names: Names::parse(&[name.subscription()]).unwrap(),
                ..Options::default()
            };
            assert_eq!(encoded(&event, &only), std::slice::from_ref(part));
            // Its events are looked at for this name.
            let filter = only.names.filter(Fallback::Skip).unwrap();
            assert!(filter.matches(event.kind, event.facet.as_deref()), "{kind} {name}");
        }
        let none = Options { names: Names::NONE, ..Options::default() };
        assert!(encoded(&event, &none).is_empty(), "{kind}");
    }
}

#[test]
fn a_fallback_has_the_canonical_name_or_the_native_envelope() {
    let event = sampled(Kind::MessageFlagged);
    assert!(encoded(&event, &Options::default()).is_empty());
    let extended = Options { fallback: Fallback::Extended, ..Options::default() };
    let part = value(&encoded(&event, &extended)[0]);
    let data: Value = serde_json::from_slice(&event.data).unwrap();
    assert_eq!((&part["event"], &part["data"]), (&json!("message.flagged"), &data));
    let native = Options { fallback: Fallback::Native, ..Options::default() };
    let part = value(&encoded(&event, &native)[0]);
    assert_eq!(part["event"], "gateway.native");
    assert_eq!(part["data"]["type"], "message.flagged");
    assert_eq!(part["data"]["data"], data);
    assert_eq!(part["data"].get("raw"), None);
    let raw = Options { include_raw: true, ..native };
    assert_eq!(value(&encoded(&event, &raw)[0])["data"]["raw"], data);
}

#[test]
fn lite_writes_what_lite_writes() {
    let lite = Options { lite: true, ..Options::default() };
    let mut event = sampled(Kind::MessageEdited);
    let text = String::from_utf8(event.data.to_vec()).unwrap();
    event.data = text.replacen('{', r#"{"origin":"api","#, 1).into();
    assert_eq!(encoded(&event, &Options::default())[0].name, "send.message.update");
    assert_eq!(encoded(&event, &lite)[0].name, "messages.edited");
    let members = value(&encoded(&sampled(Kind::GroupParticipants), &lite)[0]);
    assert!(members["data"].get("participantsData").is_none());
}

#[test]
fn keys_of_media_can_be_left_out() {
    let posted = EVOLUTION.posted("messages-upsert-image.json");
    let events = EVOLUTION.events(&posted);
    let options = Options { media_key: false, ..Options::default() };
    let part = &all_parts(&events, &options)[0];
    let image = &part["data"]["message"]["imageMessage"];
    assert_eq!((image.get("mediaKey"), image.get("directPath")), (None, None));
    assert_eq!(image["caption"], "Foto");
}

#[test]
fn the_status_of_an_instance_is_told_where_nobody_connects_again() {
    let told = |will_reconnect: Value| {
        let mut event = sampled(Kind::InstanceDisconnected);
        let data = json!({ "reason": "network", "code": 408, "will_reconnect": will_reconnect });
        event.data = data.to_string().into();
        all_parts(&[event], &Options::default())
    };
    let parts = told(json!(false));
    assert_eq!(parts[0]["event"], "status.instance");
    let expected = json!({
        "instance": "loja-exemplo", "status": "closed",
        "disconnectionAt": parts[0]["data"]["disconnectionAt"], "disconnectionReasonCode": 408,
        "disconnectionObject": "{\"reason\":\"network\"}",
    });
    assert_eq!(parts[0]["data"], expected);
    assert!(parts[0]["data"]["disconnectionAt"].is_string());
    assert_eq!((parts.len(), &parts[1]["event"]), (2, &json!("connection.update")));
    let again = told(json!(true));
    assert_eq!((again.len(), &again[0]["event"]), (1, &json!("connection.update")));
}

#[test]
fn every_name_is_told_of_some_event() {
    let mut told: Vec<Name> = Vec::new();
    let mut tell = |event: &Event| {
        let parts = encoded(event, &Options::default());
        told.extend(parts.iter().filter_map(|part| Name::find(&part.name)));
    };
    Kind::ALL.iter().for_each(|kind| tell(&sampled(*kind)));
    let mut deleted = sampled(Kind::InstanceLifecycle);
    deleted.data = json!({ "action": "deleted" }).to_string().into();
    tell(&deleted);
    for product in BRIDGED.into_iter().chain([CLOUD_API]) {
        for file in product.files() {
            for event in product.events(&product.posted(&file)) {
                tell(&event);
            }
        }
    }
    let missing: Vec<_> = Name::ALL.iter().filter(|name| !told.contains(name)).collect();
    // What only version 2.4 says: a history is told as its messages, chats and contacts.
    assert_eq!(missing, [&Name::MessagingHistorySet]);
}

#[test]
fn a_deletion_is_told_as_the_end_of_the_session_too() {
    let source = Source {
        kind: SourceKind::Simulator,
        event: "deleted".to_owned(),
        version: None,
        delivery_id: None,
        index: 0,
    };
    let data = zapbus_event::data::InstanceLifecycle {
        action: zapbus_event::data::InstanceAction::Deleted,
    };
    let data = zapbus_event::Data::InstanceLifecycle(data);
    let event = journal(Draft::from_data(&data, source));
    let names = |list: &[&str]| -> Vec<String> {
        let options = Options { names: Names::parse(list).unwrap(), ..Options::default() };
        encoded(&event, &options).into_iter().map(|part| part.name).collect()
    };
    assert_eq!(names(&[]), ["instance.delete", "remove.instance"]);
    assert_eq!(names(&["REMOVE_INSTANCE"]), ["remove.instance"]);
}
