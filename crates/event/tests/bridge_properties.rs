//! What holds for any body of the bridged products: nothing panics, nothing is lost, keys are
//! stable, and every dialect writes what was decoded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use support::{BRIDGED, Product, journal};
use zapbus_event::{
    Data, Kind,
    dialect::{Fallback, evolution, ryze},
    source::{Decoded, wuzapi},
};

const EVOLUTION: evolution::Context<'static> = evolution::Context {
    instance_name: "shop",
    sender: None,
    server_url: None,
    apikey: Some("token"),
    form: evolution::Form::Queue,
};
const RYZE: ryze::Context<'static> =
    ryze::Context { instance_name: "shop", base_url: "https://x.invalid", token: "token" };

/// What must hold for any body at all.
fn check(product: Product, body: &[u8]) -> Decoded {
    let decoded = (product.decode)(body);
    assert!((1..=2_001).contains(&decoded.events.len()));
    for (index, routed) in decoded.events.iter().enumerate() {
        let draft = &routed.draft;
        let data = Data::parse(draft.kind, &draft.data).unwrap();
        assert_eq!(data.facet(), draft.facet.as_deref());
        assert_eq!(data.partition(), draft.partition);
        assert_eq!(draft.source.index as usize, index);
        assert!(draft.keys.len() <= 2);
        let facet = draft.facet.as_deref().unwrap_or_default();
        let indexed = draft.keys.iter().map(String::as_str);
        for text in indexed.chain([&*draft.partition, &*draft.source.event, facet]) {
            assert!(!text.contains(char::is_control) && text.len() < 4_096);
        }
        encode(routed.draft.clone());
    }
    assert_eq!(decoded, (product.decode)(body));
    decoded
}

/// Every dialect has a form for it, or none; a fallback always has one.
fn encode(draft: zapbus_event::Draft) {
    let event = journal(draft);
    for fallback in [Fallback::Skip, Fallback::Extended, Fallback::Native] {
        let options = evolution::Options { fallback, ..evolution::Options::default() };
        let keyless = evolution::Options { media_key: false, lite: true, ..options };
        let mut parts = evolution::encode(&event, &EVOLUTION, &options).unwrap();
        // Keys are not looked for at any depth.
        parts.extend(evolution::encode(&event, &EVOLUTION, &keyless).unwrap_or_default());
        let options = ryze::Options { fallback, ..ryze::Options::default() };
        parts.extend(ryze::encode(&event, &RYZE, &options).unwrap());
        for part in parts {
            assert!(serde_json::from_slice::<Box<serde_json::value::RawValue>>(&part.body).is_ok());
        }
    }
}

fn any_product() -> impl Strategy<Value = Product> {
    select(&BRIDGED[..])
}

/// A product with one of its fixtures.
fn any_fixture() -> impl Strategy<Value = (Product, Vec<u8>)> {
    any_product().prop_flat_map(|product| {
        let files = product.files();
        select(files).prop_map(move |file| (product, product.posted(&file)))
    })
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = vec![
        "messages.upsert",
        "message",
        "Message",
        "conversation",
        "key",
        "5511999990001@c.us",
        "90@lid",
        "120363000000000001@g.us",
        "status@broadcast",
        "close",
        "add",
        "READ",
        "",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        select(words).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let names = select(vec![
            "key",
            "id",
            "message",
            "data",
            "low",
            "high",
            "remoteJid",
            "contextInfo",
            "protocolMessage",
            "imageMessage",
            "viewOnceMessage",
            "name",
            "0",
            "1",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.prop_map(str::to_owned), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Every place of a JSON value.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                places(
                    inner,
                    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")),
                    found,
                );
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

proptest! {
    #[test]
    fn any_bytes_are_decoded(
        product in any_product(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        header in ".{0,60}",
    ) {
        check(product, &body);
        wuzapi::decode(&body, Some(&header));
        let header = format!("multipart/form-data; boundary={header}");
        wuzapi::decode(&body, Some(&header));
    }

    #[test]
    fn fixtures_with_flipped_bytes_are_decoded(
        (product, fixture) in any_fixture(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut body = fixture;
        for (at, byte) in flips {
            let at = at.index(body.len());
            body[at] = byte;
        }
        check(product, &body);
    }

    #[test]
    fn fixtures_with_replaced_values_are_decoded(
        (product, fixture) in any_fixture(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..4),
    ) {
        let mut body: Value = serde_json::from_slice(&fixture).unwrap();
        for (at, value) in changes {
            let mut found = Vec::new();
            places(&body, String::new(), &mut found);
            let place = &found[at.index(found.len())];
            *body.pointer_mut(place).unwrap() = value;
        }
        check(product, body.to_string().as_bytes());
    }

    /// A form around a body changes nothing but the keys that are made of all its bytes.
    #[test]
    fn a_form_says_the_same(file in select(support::WUZAPI.files()), at in any::<prop::sample::Index>()) {
        let posted: Value = serde_json::from_slice(&support::WUZAPI.posted(&file)).unwrap();
        if posted.get("type").is_none() {
            return Ok(());
        }
        let json = posted.to_string();
        let escaped: String = json.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let form = format!("userID=1&jsonData={escaped}&instanceName=x");
        let boundary = format!("b{}", at.index(1_000_000));
        let multipart = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"jsonData\"\r\n\r\n{json}\r\n--{boundary}--\r\n"
        );
        let header = format!("multipart/form-data; boundary={boundary}");
        let plain = wuzapi::decode(json.as_bytes(), Some("application/json"));
        let as_form =
            wuzapi::decode(form.as_bytes(), Some("application/x-www-form-urlencoded"));
        let as_parts = wuzapi::decode(multipart.as_bytes(), Some(&header));
        for other in [as_form, as_parts] {
            prop_assert_eq!(plain.events.len(), other.events.len());
            for (one, other) in plain.events.iter().zip(&other.events) {
                // What was not understood points at the body around it.
                if one.draft.kind != Kind::EventUnknown {
                    prop_assert_eq!(&one.draft, &other.draft);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn fixtures_with_a_very_long_list_yield_a_bounded_number(
        (product, fixture) in any_fixture(),
        at in any::<prop::sample::Index>(),
        element in prop::option::of(any_json()),
    ) {
        let mut body: Value = serde_json::from_slice(&fixture).unwrap();
        let mut found = Vec::new();
        places(&body, String::new(), &mut found);
        found.retain(|place| body.pointer(place).is_some_and(Value::is_array));
        if found.is_empty() {
            return Ok(());
        }
        let list = body.pointer_mut(&found[at.index(found.len())]).unwrap();
        let element = element.unwrap_or_else(|| list.get(0).cloned().unwrap_or_else(|| json!({})));
        *list = json!("LIST");
        let long = format!("[{}]", vec![element.to_string(); 20_000].join(","));
        let body = body.to_string().replace("\"LIST\"", &long);
        let decoded = (product.decode)(body.as_bytes());
        prop_assert!((1..=2_001).contains(&decoded.events.len()));
    }
}

#[test]
fn deep_bodies_end_nobody() {
    for (open, close) in
        [("[", "]"), (r#"{"message":"#, "}"), (r#"{"viewOnceMessage":{"message":"#, "}}")]
    {
        let deep = format!("{}0{}", open.repeat(50_000), close.repeat(50_000));
        for product in BRIDGED {
            for (event, member) in [
                ("messages.upsert", "data"),
                ("message", "payload"),
                ("Message", "event"),
                ("PrivacySettings", "event"),
                ("typebot.start", "data"),
            ] {
                let body = format!(
                    r#"{{"event":"{event}","type":"{event}","{member}":{{"key":{{"id":"1","remoteJid":"5@c.us"}},"remoteJid":"5@c.us","message":{deep},"variables":{deep},"a":{deep}}}}}"#
                );
                let decoded = (product.decode)(body.as_bytes());
                for routed in decoded.events {
                    assert!(Data::parse(routed.draft.kind, &routed.draft.data).is_ok());
                    encode(routed.draft);
                }
            }
        }
    }
}
