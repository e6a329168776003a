//! The native envelope, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::borrow::Cow;

use bytes::Bytes;
use zapbus_event::{
    Dialect, Draft, Event, EventId, InstanceId, Kind, Position, Raw, Source, SourceKind, Timestamp,
    dialect::{Context, Options, native, single_line},
    sample,
};

fn event() -> Event {
    let at = Timestamp::from_millis(1_767_225_601_000);
    Event {
        id: EventId::new(at, 1),
        seq: Position(7),
        instance: InstanceId::new(at, 2),
        kind: Kind::InstanceLifecycle,
        facet: Some("created".to_owned()),
        occurred_at: at,
        occurred_at_estimated: false,
        received_at: Timestamp::from_millis(1_767_225_602_500),
        source: Source {
            kind: SourceKind::CloudApi,
            event: "a \"name\"".to_owned(),
            version: None,
            delivery_id: None,
            index: 0,
        },
        dedup_key: None,
        partition: "_instance".to_owned(),
        history: false,
        ephemeral: false,
        client_id: None,
        hops: 0,
        data: Bytes::from_static(b"{ \"action\":\n\"created\" }"),
        raw: Raw::Data,
    }
}

fn written(event: &Event, include_raw: bool) -> String {
    let options = Options { include_raw, ..Options::default() };
    let context = Context { instance_name: "loja", ..Context::default() };
    let mut parts = Dialect::Native.encode(event, &context, &options).unwrap();
    assert_eq!(parts.len(), 1);
    let part = parts.remove(0);
    assert_eq!(part.name, "instance.lifecycle");
    String::from_utf8(part.body.to_vec()).unwrap()
}

#[test]
fn members_stand_in_the_documented_order() {
    assert_eq!(
        written(&event(), false),
        concat!(
            r#"{"id":"evt_01KDVDNAZ80000000000000001","type":"instance.lifecycle","v":1,"#,
            r#""instance":{"id":"ins_01KDVDNAZ80000000000000002","name":"loja"},"seq":7,"#,
            r#""occurred_at":"2026-01-01T00:00:01.000Z","#,
            r#""received_at":"2026-01-01T00:00:02.500Z","#,
            r#""source":{"kind":"cloud-api","event":"a \"name\"","index":0},"#,
            r#""ordering_key":"ins_01KDVDNAZ80000000000000002/_instance","history":false,"#,
            "\"data\":{ \"action\":\n\"created\" }}",
        )
    );
}

#[test]
fn optional_members_stand_where_they_belong() {
    let mut event = event();
    event.occurred_at_estimated = true;
    event.dedup_key = Some("key".to_owned());
    event.client_id = Some("mine".to_owned());
    event.raw = Raw::Bytes(Bytes::from_static(b"null"));
    let text = written(&event, true);
    for part in [
        r#".000Z","occurred_at_estimated":true,"received_at":"#,
        r#""index":0},"dedup_key":"key","ordering_key":"#,
        r#""history":false,"client_id":"mine","data":{"#,
        r#"},"raw":null}"#,
    ] {
        assert!(text.contains(part), "{text}\nlacks {part}");
    }
    assert_eq!(native::parse(text.as_bytes()).unwrap(), event);
}

#[test]
fn callers_see_the_key_they_gave() {
    let table = [
        (SourceKind::Native, "d|mine", Some("mine")),
        (SourceKind::Native, "d|id|mine", Some("id|mine")),
        (SourceKind::Native, "d|k|mine", Some("k|mine")),
        (SourceKind::Native, "id|order-1", Some("id|order-1")),
        (SourceKind::Native, "k|admin|mine", None),
        (SourceKind::CloudApi, "d|mine", Some("d|mine")),
    ];
    for (kind, key, shown) in table {
        let mut event = event();
        event.source.kind = kind;
        event.dedup_key = Some(key.to_owned());
        event.client_id = Some("order-1".to_owned());
        let text = written(&event, false);
        let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope.get("dedup_key").and_then(|key| key.as_str()), shown);
        let read = native::parse(text.as_bytes()).unwrap();
        assert_eq!(read.dedup_key.as_deref(), shown.map(|_| key));
    }
}

#[test]
fn an_upstream_element_that_is_not_json_is_given_as_base64() {
    for raw in [&b"\xff\xfe"[..], b"{", b"\"\xff\"", b""] {
        let mut event = event();
        event.raw = Raw::Bytes(Bytes::copy_from_slice(raw));
        let text = written(&event, true);
        assert!(text.contains(",\"raw_base64\":\""), "{text}");
        assert_eq!(native::parse(text.as_bytes()).unwrap(), event);
    }
}

#[test]
fn a_single_line_says_the_same() {
    let text = written(&event(), false);
    let line = single_line(text.as_bytes());
    assert!(!line.contains(&b'\n'));
    let same = |json: &[u8]| serde_json::from_slice::<serde_json::Value>(json).unwrap();
    assert_eq!(same(&line), same(text.as_bytes()));
    assert!(matches!(single_line(b"{}"), Cow::Borrowed(_)));
}

#[test]
fn dialects_have_names() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.as_str().parse(), Ok(*dialect));
        let json = serde_json::to_string(dialect).unwrap();
        assert_eq!(json, format!("\"{dialect}\""));
    }
    let error = "french".parse::<Dialect>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown dialect \"french\"; there are native, vzaps, evolution, ryze"
    );
}

#[test]
fn an_envelope_can_be_posted_to_another_gateway() {
    let posted = Kind::ALL.iter().filter(|kind| !kind.is_operational());
    for kind in posted {
        let data = sample(*kind);
        let event = Event {
            kind: *kind,
            facet: data.facet().map(str::to_owned),
            partition: data.partition().into_owned(),
            data: data.to_bytes(),
            raw: Raw::Bytes(Bytes::from_static(b"{ \"upstream\": 1 }")),
            dedup_key: Some("m|1|2".to_owned()),
            ..event()
        };
        let options = Options { include_raw: true, ..Options::default() };
        let envelope = native::envelope(
            &event,
            &Context { instance_name: "loja", ..Context::default() },
            &options,
        );
        let draft = Draft::native(&envelope).unwrap();
        assert_eq!((draft.kind, &draft.facet), (event.kind, &event.facet));
        assert_eq!((&draft.data, &draft.raw), (&event.data, &event.raw), "{kind}");
        assert_eq!(draft.partition, event.partition, "{kind}");
        assert_eq!(draft.occurred_at, Some(event.occurred_at));
        assert_eq!(draft.keys, ["d|m|1|2".to_owned(), format!("id|{}", event.id)]);
    }
}
