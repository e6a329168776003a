//! What holds for any input: nothing panics, nothing is lost, keys are stable, text forms and
//! envelopes read back.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::PathBuf};

use bytes::Bytes;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use zapbus_event::{
    Data, Draft, Event, EventId, Filter, InstanceId, Kind, Position, Raw, Source, SourceKind,
    Timestamp,
    dialect::{Context, Dialect, Options, native, single_line},
    sample,
    source::{Decoded, cloud_api},
};

fn fixtures() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cloud-api");
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// What must hold for any body at all.
fn check(body: &[u8]) -> Decoded {
    let decoded = cloud_api::decode(body);
    assert!((1..=2_001).contains(&decoded.events.len()));
    for (index, routed) in decoded.events.iter().enumerate() {
        let draft = &routed.draft;
        let data = Data::parse(draft.kind, &draft.data).unwrap();
        assert_eq!(data.facet(), draft.facet.as_deref());
        assert_eq!(data.partition(), draft.partition);
        assert_eq!(draft.source.index as usize, index);
        // Only a failure may say the same again and be news.
        assert!(
            draft.keys.len() == 1 || (draft.kind == Kind::InstanceError && draft.keys.is_empty())
        );
        let key = draft.keys.first().map(String::as_str).unwrap_or_default();
        let facet = draft.facet.as_deref().unwrap_or_default();
        for indexed in [key, &draft.partition, &draft.source.event, facet] {
            assert!(!indexed.contains(char::is_control) && indexed.len() < 4_096);
        }
    }
    assert_eq!(decoded, cloud_api::decode(body));
    decoded
}

fn any_kind() -> impl Strategy<Value = Kind> {
    select(Kind::ALL)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        select(vec!["messages", "text", "edit", "system", "5511999990001", "group", ""])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{1,8}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Every place of a JSON value.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                places(inner, format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                places(inner, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

fn any_pattern() -> impl Strategy<Value = String> {
    let facets: Vec<String> = Kind::ALL
        .iter()
        .flat_map(|kind| {
            let values = kind.facet_values().unwrap_or_default();
            values.iter().map(move |value| format!("{kind}:{value}"))
        })
        .chain(["account.updated:flows".to_owned()])
        .collect();
    prop_oneof![
        1 => Just("*".to_owned()),
        3 => any_kind().prop_map(|kind| format!("{}.*", kind.family())),
        6 => any_kind().prop_map(|kind| kind.to_string()),
        6 => select(facets),
    ]
}

/// What one pattern says, without compiling it.
fn says(pattern: &str, kind: Kind, facet: Option<&str>) -> bool {
    match pattern.split_once(':') {
        Some((name, wanted)) => name == kind.as_str() && facet == Some(wanted),
        None if pattern == "*" => !kind.is_operational(),
        None => match pattern.strip_suffix(".*") {
            Some(family) => family == kind.family(),
            None => pattern == kind.as_str(),
        },
    }
}

prop_compose! {
    fn any_event()(
        kind in any_kind(),
        (id, received) in (any::<u128>(), 0..253_402_300_799_999_i64),
        (occurred, occurred_at_estimated) in (any::<i64>(), any::<bool>()),
        (seq, index) in (0..1_u64 << 53, any::<u32>()),
        partition in prop::option::of("[^/]{1,40}/?.{0,5}"),
        (dedup_key, client_id) in (prop::option::of(".{1,40}"), prop::option::of(".{1,40}")),
        history in any::<bool>(),
        (event, version) in (".{0,20}", prop::option::of(".{0,8}")),
        raw in prop::option::of(prop::collection::vec(any::<u8>(), 0..60)),
    ) -> Event {
        let data = sample(kind);
        let facet = data.facet().map(str::to_owned);
        let received_at = Timestamp::from_millis(received);
        Event {
            id: EventId::new(received_at, id),
            seq: Position(seq),
            instance: InstanceId::new(received_at, id),
            kind,
            ephemeral: kind.is_ephemeral(facet.as_deref()),
            facet,
            occurred_at: Timestamp::from_millis(occurred),
            occurred_at_estimated,
            received_at,
            source: Source {
                kind: SourceKind::Simulator,
                event,
                version,
                delivery_id: None,
                index,
            },
            dedup_key,
            partition: partition.unwrap_or_else(|| data.partition().into_owned()),
            history,
            client_id,
            hops: 0,
            data: data.to_bytes(),
            raw: raw.map_or(Raw::Data, |raw| Raw::Bytes(raw.into())),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded(body in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&body);
        let _ = Draft::native(&body);
        let _ = native::parse(&body);
    }

    #[test]
    fn fixtures_with_flipped_bytes_are_decoded(
        fixture in select(fixtures()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut body = fixture;
        for (at, byte) in flips {
            let at = at.index(body.len());
            body[at] = byte;
        }
        check(&body);
    }

    #[test]
    fn fixtures_with_replaced_values_are_decoded(
        fixture in select(fixtures()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..4),
    ) {
        let mut body: Value = serde_json::from_slice(&fixture).unwrap();
        for (at, value) in changes {
            let mut found = Vec::new();
            places(&body, String::new(), &mut found);
            let place = &found[at.index(found.len())];
            *body.pointer_mut(place).unwrap() = value;
        }
        check(body.to_string().as_bytes());
    }

    #[test]
    fn posted_events_with_replaced_values_are_kept_or_refused(
        kind in any_kind(),
        at in any::<prop::sample::Index>(),
        value in any_json(),
    ) {
        let mut event = json!({ "type": kind, "data": serde_json::to_value(sample(kind)).unwrap() });
        let mut found = Vec::new();
        places(&event, String::new(), &mut found);
        *event.pointer_mut(&found[at.index(found.len())]).unwrap() = value;
        let body = event.to_string();
        if let Ok(draft) = Draft::native(body.as_bytes()) {
            prop_assert!(body.contains(std::str::from_utf8(&draft.data).unwrap()));
            let data = Data::parse(draft.kind, &draft.data).unwrap();
            // What is read and written again is what a strict reader of the schema sees.
            let again = Data::parse(draft.kind, &data.to_bytes()).unwrap();
            prop_assert_eq!(data, again);
        }
    }

    #[test]
    fn the_order_of_siblings_does_not_alter_their_keys(seed in any::<u64>()) {
        let fixture = fixtures().into_iter().find(|body| body.windows(8).any(|w| w == b"FIXTURE0")
            && serde_json::from_slice::<Value>(body).unwrap()["entry"].as_array().unwrap().len() > 1);
        let mut body: Value = serde_json::from_slice(&fixture.unwrap()).unwrap();
        let keys = |body: &Value| {
            let decoded = cloud_api::decode(body.to_string().as_bytes());
            let mut keys: Vec<_> =
                decoded.events.into_iter().flat_map(|routed| routed.draft.keys).collect();
            keys.sort();
            keys
        };
        let before = keys(&body);
        reorder(&mut body, &mut seed.clone());
        prop_assert_eq!(keys(&body), before);
    }

    #[test]
    fn envelopes_read_back(event in any_event(), include_raw in any::<bool>(), name in ".{0,20}") {
        let options = Options { include_raw, ..Options::default() };
        let context = Context { instance_name: &name, ..Context::default() };
        let parts = Dialect::Native.encode(&event, &context, &options).unwrap();
        prop_assert_eq!(parts.len(), 1);
        prop_assert_eq!(&parts[0].name, event.kind.as_str());
        prop_assert_eq!(&parts[0].body, &native::envelope(&event, &context, &options));
        let _: Value = serde_json::from_slice(&single_line(&parts[0].body)).unwrap();

        let mut expected = event;
        match &expected.raw {
            // Bytes that are JSON come back without the space around it.
            Raw::Bytes(raw) if include_raw => {
                expected.raw = Raw::Bytes(match serde_json::from_slice::<Value>(raw) {
                    Ok(_) => Bytes::copy_from_slice(raw.trim_ascii()),
                    Err(_) => raw.clone(),
                });
            }
            _ => expected.raw = Raw::Data,
        }
        prop_assert_eq!(native::parse(&parts[0].body).unwrap(), expected);
    }

    #[test]
    fn a_filter_matches_what_its_patterns_say(
        patterns in prop::collection::vec(any_pattern(), 1..8),
    ) {
        let filter = Filter::parse(&patterns).unwrap();
        let again = Filter::parse(&filter.patterns()).unwrap();
        prop_assert_eq!(&again, &filter);
        prop_assert_eq!(again.patterns(), filter.patterns());
        prop_assert!(filter.patterns().len() <= patterns.len());
        for kind in Kind::ALL {
            let values = kind.facet_values().unwrap_or(&["flows", "security"]);
            for facet in values.iter().copied().map(Some).chain([None]) {
                let expected = patterns.iter().any(|pattern| says(pattern, *kind, facet));
                prop_assert_eq!(filter.matches(*kind, facet), expected, "{} {:?}", kind, facet);
            }
        }
    }

    #[test]
    fn any_text_is_a_filter_or_an_error(pattern in ".{0,40}") {
        let _ = Filter::parse(&[pattern]).map_err(|error| error.to_string());
    }

    #[test]
    fn ids_read_back(at in 0..1_i64 << 47, random in any::<u128>()) {
        let at = Timestamp::from_millis(at);
        let id = EventId::new(at, random);
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(EventId::from_bytes(id.to_bytes()), id);
        prop_assert_eq!(id.timestamp(), at);
        let instance = InstanceId::new(at, random);
        for text in [instance.to_string(), instance.to_vzaps(), instance.to_uuid()] {
            prop_assert_eq!(text.parse(), Ok(instance));
        }
    }

    #[test]
    fn times_read_back(millis in any::<i64>(), text in ".{0,30}") {
        let time = Timestamp::from_millis(millis);
        prop_assert_eq!(time.to_string().parse(), Ok(time));
        let _ = text.parse::<Timestamp>();
        let _ = text.parse::<InstanceId>();
        let _ = text.parse::<Kind>();
    }
}

/// How long a very long list is.
const LONG: usize = 100_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn fixtures_with_a_very_long_list_yield_a_bounded_number(
        fixture in select(fixtures()),
        at in any::<prop::sample::Index>(),
        element in prop::option::of(any_json()),
    ) {
        let mut body: Value = serde_json::from_slice(&fixture).unwrap();
        let mut found = Vec::new();
        places(&body, String::new(), &mut found);
        found.retain(|place| body.pointer(place).unwrap().is_array());
        if found.is_empty() {
            return Ok(());
        }
        let list = body.pointer_mut(&found[at.index(found.len())]).unwrap();
        let element = element.unwrap_or_else(|| list[0].clone());
        *list = json!("LIST");
        let long = format!("[{}]", vec![element.to_string(); LONG].join(","));
        check(body.to_string().replace("\"LIST\"", &long).as_bytes());
    }
}

/// Turns every list round by an amount that the seed decides.
fn reorder(value: &mut Value, seed: &mut u64) {
    match value {
        Value::Array(items) => {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let by = (*seed >> 33) as usize % items.len().max(1);
            items.rotate_left(by);
            items.iter_mut().for_each(|item| reorder(item, seed));
        }
        Value::Object(members) => members.values_mut().for_each(|inner| reorder(inner, seed)),
        _ => {}
    }
}
