//! Readers of what comes from outside, each with what must hold of it whatever it is given: the
//! bodies of the fuzz targets in `fuzz/`. The same functions are run by the property tests below.

mod clients;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use zapbus_channel::{egress, signature, webhook};
use zapbus_event::{
    AccountId, Data, DestinationId, Dialect, Draft, Event, EventId, Filter, InstanceId, Kind,
    Position, Raw, Timestamp,
    dialect::{Context, Fallback, Options, Part, evolution as evolution_dialect, native, ryze},
    shape::Address,
    source::{Decoded, cloud_api, evolution, signature as bridge, waha, wuzapi},
};
use zapbus_store::{DeliveryId, Key};

use super::{
    auth, body, idempotency,
    native::{destinations, ingest, source},
    page, sources,
};
use crate::{config::load, server::proxy};

/// A reader: its name, what it is run with, and texts that mean something to it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Also the name of its binary in `fuzz/`.
    pub name: &'static str,
    /// Panics if something does not hold.
    pub run: fn(&[u8]),
    /// What its corpus starts from.
    pub seeds: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "cloud_api", run: decode_cloud_api, seeds: CLOUD_API },
    Target { name: "evolution", run: decode_evolution, seeds: EVOLUTION },
    Target { name: "wuzapi", run: decode_wuzapi, seeds: WUZAPI },
    Target { name: "waha", run: decode_waha, seeds: WAHA },
    Target { name: "bridge_signature", run: read_bridge_signature, seeds: BRIDGE_SIGNATURE },
    Target { name: "native_event", run: read_native_event, seeds: NATIVE_EVENT },
    Target { name: "native_batch", run: split_native_batch, seeds: NATIVE_BATCH },
    Target { name: "native_envelope", run: read_native_envelope, seeds: NATIVE_ENVELOPE },
    Target { name: "event_data", run: read_event_data, seeds: EVENT_DATA },
    Target { name: "filter", run: read_filter, seeds: FILTER },
    Target { name: "address", run: read_address, seeds: ADDRESS },
    Target { name: "ids", run: read_ids, seeds: IDS },
    Target { name: "timestamp", run: read_timestamp, seeds: TIMESTAMP },
    Target { name: "cursor", run: read_cursor, seeds: CURSOR },
    Target { name: "request_headers", run: read_request_headers, seeds: REQUEST_HEADERS },
    Target { name: "forwarded", run: read_forwarded, seeds: FORWARDED },
    Target { name: "hub_signature", run: read_hub_signature, seeds: HUB_SIGNATURE },
    Target { name: "webhook_signature", run: read_webhook_signature, seeds: WEBHOOK_SIGNATURE },
    Target { name: "answer", run: read_answer, seeds: ANSWER },
    Target { name: "channel", run: read_channel, seeds: CHANNEL },
    Target { name: "destination", run: read_destination, seeds: DESTINATION },
    Target { name: "source", run: read_source, seeds: SOURCE },
    Target { name: "egress", run: read_egress, seeds: EGRESS },
    Target { name: "configuration", run: read_configuration, seeds: CONFIGURATION },
    Target { name: "encryption_key", run: read_encryption_key, seeds: ENCRYPTION_KEY },
    Target { name: "socket_io", run: read_socket_io, seeds: SOCKET_IO },
    Target { name: "native_message", run: clients::native_message, seeds: clients::NATIVE_MESSAGE },
    Target { name: "vzaps_query", run: clients::vzaps_query, seeds: clients::VZAPS_QUERY },
    Target { name: "vzaps_message", run: clients::vzaps_message, seeds: clients::VZAPS_MESSAGE },
    Target { name: "vzaps_logs", run: clients::vzaps_logs, seeds: clients::VZAPS_LOGS },
    Target { name: "ryze_message", run: clients::ryze_message, seeds: clients::RYZE_MESSAGE },
    Target { name: "ryze_body", run: clients::ryze_body, seeds: clients::RYZE_BODY },
    Target { name: "trace_headers", run: read_trace_headers, seeds: TRACE_HEADERS },
    #[cfg(feature = "fuzzing")]
    Target { name: "binaries", run: find_binaries, seeds: BINARIES },
];

/// The target of this name; fuzz binaries call it once.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

const CLOUD_API: &[&str] = &[
    r#"{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"messaging_product":"whatsapp","metadata":{"display_phone_number":"5511","phone_number_id":"9"},"contacts":[{"profile":{"name":"Ana"},"wa_id":"5511"}],"messages":[{"from":"5511","id":"wamid.x","timestamp":"1767225617","type":"text","text":{"body":"hi"}}]}}]}]}"#,
    r#"{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"9"},"statuses":[{"id":"wamid.x","status":"read","timestamp":"1","recipient_id":"2"}]}}]}]}"#,
];

/// Any body is at least one event, each of which is whole and reads back in the native dialect.
fn decode_cloud_api(bytes: &[u8]) {
    expect_decoded(bytes, cloud_api::decode);
}

fn expect_decoded(bytes: &[u8], decode: impl Fn(&[u8]) -> Decoded) {
    let decoded = decode(bytes);
    assert!(!decoded.events.is_empty());
    assert_eq!(decoded, decode(bytes));
    for routed in decoded.events {
        expect_whole(routed.draft);
    }
}

const EVOLUTION: &[&str] = &[
    r#"{"event":"messages.upsert","data":{"key":{"remoteJid":"5511@s.whatsapp.net","fromMe":false,"id":"A"},"message":{"viewOnceMessage":{"message":{"imageMessage":{"url":"u","fileSha256":{"0":1},"contextInfo":{"stanzaId":"B","quotedMessage":{"conversation":"x"}}}}}},"messageTimestamp":{"low":1767225601,"high":0}},"date_time":"x","sender":"55@s.whatsapp.net"}"#,
    r#"{"event":"contacts.upsert","data":[{"remoteJid":"5511@s.whatsapp.net","pushName":"Ana"},{"id":"9@lid"}],"date_time":"x"}"#,
    r#"{"event":"messages.update","data":{"keyId":"A","remoteJid":"1@g.us","fromMe":true,"pollUpdates":[{"name":"a","voters":["5@s.whatsapp.net"]}]}}"#,
    r#"{"event":"presence.update","data":{"id":"5@s.whatsapp.net","presences":{"5@s.whatsapp.net":{"lastKnownPresence":"composing"}}}}"#,
];

fn decode_evolution(bytes: &[u8]) {
    expect_decoded(bytes, |bytes| evolution::decode(bytes, None));
}

const SOCKET_IO: &[&str] = &[
    r#"40/shop,{"apikey":"k","last_event_id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#,
    "2probe\u{1e}3\u{1e}43/shop,12[]\u{1e}bAQID",
    r#"451-/shop,7["sendNode",{"_placeholder":true,"num":0}]"#,
    "41/shop,",
];

fn read_socket_io(bytes: &[u8]) {
    super::evolution::socket::read_packets(&text(bytes));
}

const WUZAPI: &[&str] = &[
    r#"{"type":"Message","event":{"Info":{"Chat":"5511@s.whatsapp.net","Sender":"5511:2@s.whatsapp.net","SenderAlt":"9@lid","ID":"A","IsFromMe":false,"Timestamp":"2026-01-01T09:00:00Z"},"Message":{"reactionMessage":{"key":{"remoteJID":"5@s.whatsapp.net","fromMe":true,"ID":"B"},"text":"x"}}},"base64":"AQID"}"#,
    r#"{"type":"GroupInfo","event":{"JID":"1@g.us","Timestamp":"2026-01-01T09:00:00Z","Name":{"Name":"x"},"Join":["5@s.whatsapp.net"],"Delete":{"Deleted":true}}}"#,
    "userID=1&jsonData=%7B%22type%22%3A%22ReadReceipt%22%2C%22event%22%3A%7B%22Chat%22%3A%225%40s.whatsapp.net%22%2C%22Sender%22%3A%225%40s.whatsapp.net%22%2C%22MessageIDs%22%3A%5B%22A%22%5D%7D%7D",
    "--B\r\nContent-Disposition: form-data; name=\"jsonData\"\r\n\r\n{\"type\":\"Connected\",\"event\":{}}\r\n--B--\r\n",
];

fn decode_wuzapi(bytes: &[u8]) {
    for header in [None, Some("multipart/form-data; boundary=B")] {
        expect_decoded(bytes, |bytes| wuzapi::decode(bytes, header));
    }
}

const WAHA: &[&str] = &[
    r#"{"id":"evt_1","timestamp":1767225601000,"event":"message","me":{"id":"55@c.us"},"payload":{"id":"false_5511@c.us_A","fromMe":false,"body":"x","hasMedia":true,"media":{"url":"u","mimetype":"audio/ogg"},"replyTo":{"id":"true_5511@c.us_B"},"_data":{"message":{"conversation":"x"}}}}"#,
    r#"{"event":"presence.update","payload":{"id":"1@g.us","presences":[{"participant":"5@c.us","lastKnownPresence":"typing"}]}}"#,
    r#"{"id":"evt_2","event":"message.ack","payload":{"id":"true_1@g.us_A_5@c.us","ack":3,"fromMe":true}}"#,
];

fn decode_waha(bytes: &[u8]) {
    expect_decoded(bytes, waha::decode);
}

const BRIDGE_SIGNATURE: &[&str] = &[
    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843\nmultipart/form-data; boundary=B\n--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n<\r\n--B--",
    "\n\n",
];

/// Signature, content type and body, one a line. Nobody guesses a signature.
fn read_bridge_signature(bytes: &[u8]) {
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (signature, header, body) = (text(next()), text(next()), next());
    assert!(!bridge::wuzapi(b"a key that nobody has", body, Some(&header), &signature));
    assert!(!bridge::waha(b"a key that nobody has", body, &signature));
}

fn expect_whole(draft: Draft) {
    let data = Data::parse(draft.kind, &draft.data).expect("a draft's data reads back");
    assert_eq!(data.facet(), draft.facet.as_deref());
    let raw = matches!(draft.raw, Raw::Bytes(_));
    let at = Timestamp::from_millis(1_767_225_617_000);
    let event = Event {
        id: EventId::new(at, 1),
        seq: Position(1),
        instance: InstanceId::new(at, 1),
        kind: draft.kind,
        facet: draft.facet,
        received_at: at,
        occurred_at: draft.occurred_at.unwrap_or(at),
        occurred_at_estimated: draft.occurred_at.is_none(),
        partition: draft.partition,
        dedup_key: draft.keys.first().cloned(),
        client_id: draft.client_id,
        ephemeral: draft.ephemeral,
        history: draft.history,
        hops: draft.hops,
        source: draft.source,
        data: draft.data,
        raw: draft.raw,
    };
    let context = Context { instance_name: "shop", ..Context::default() };
    let options = Options { include_raw: raw, ..Options::default() };
    let envelope = native::envelope(&event, &context, &options);
    native::parse(&envelope).expect("an envelope reads back");
    let mut parts = foreign_parts(&event);
    for dialect in Dialect::ALL {
        for fallback in [Fallback::Skip, Fallback::Extended, Fallback::Native] {
            for live in [false, true] {
                let options = Options { fallback, live, media_key: live, ..options };
                parts.extend(dialect.encode(&event, &context, &options).expect("it has a form"));
            }
        }
    }
    for part in parts {
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&part.body).is_ok());
    }
}

/// The same event in the words of other products.
fn foreign_parts(event: &Event) -> Vec<Part> {
    let (instance_name, token) = ("shop", "token");
    let context = evolution_dialect::Context {
        instance_name,
        sender: None,
        server_url: None,
        apikey: Some(token),
        form: evolution_dialect::Form::Queue,
    };
    let encoded =
        evolution_dialect::encode(event, &context, &evolution_dialect::Options::default());
    let mut parts = encoded.expect("it has a form");
    let context = ryze::Context { instance_name, base_url: "https://x.invalid", token };
    let encoded = ryze::encode(event, &context, &ryze::Options::default());
    parts.extend(encoded.expect("it has a form"));
    parts
}

const NATIVE_EVENT: &[&str] = &[
    r#"{"type":"message.received","id":"m1","data":{"message":{"id":"m1","chat":"5511@s.whatsapp.net","from_me":false},"chat":{"id":"5511@s.whatsapp.net","kind":"user"},"sender":{"id":"5511@s.whatsapp.net","kind":"user"},"content":{"kind":"text","body":"hi"}}}"#,
    r#"{"type":"event.unknown","data":{},"occurred_at":"2026-01-01T00:00:00Z","dedup_key":"k","ordering_key":"o"}"#,
];

/// What is taken is whole.
fn read_native_event(bytes: &[u8]) {
    if let Ok(draft) = Draft::native(bytes) {
        expect_whole(draft);
    }
}

const NATIVE_BATCH: &[&str] =
    &[r#"[{"type":"event.unknown","data":{}},{}]"#, "{\"type\":\"event.unknown\"}\n\n[1]\n", "[,]"];

/// Every element and every line lies in the body.
fn split_native_batch(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    if let Ok(items) = ingest::items_of(&body) {
        assert!(
            items.iter().all(|item| serde_json::from_slice::<serde::de::IgnoredAny>(item).is_ok())
        );
    }
    assert!(ingest::lines_of(&body).iter().all(|line| !line.is_empty() && !line.contains(&b'\n')));
}

const NATIVE_ENVELOPE: &[&str] = &[
    r#"{"id":"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV","seq":1,"type":"event.unknown","instance":{"id":"ins_01ARZ3NDEKTSV4RRFFQ69G5FAV","name":"shop"},"received_at":"2026-01-01T00:00:00.000Z","data":{}}"#,
];

/// What is read is written and read the same.
fn read_native_envelope(bytes: &[u8]) {
    let Ok(event) = native::parse(bytes) else { return };
    let context = Context { instance_name: "shop", ..Context::default() };
    let options = Options { include_raw: true, ..Options::default() };
    let written = native::envelope(&event, &context, &options);
    let again = native::parse(&written).expect("an envelope reads back");
    assert_eq!((again.id, again.seq, again.kind), (event.id, event.seq, event.kind));
    assert_eq!(again.data, event.data);
}

const EVENT_DATA: &[&str] = &[
    r#" {"account":{"name":"Shop"}}"#,
    r#"!{"chat":{"id":"5511@s.whatsapp.net","kind":"user"},"state":"typing"}"#,
];

/// The first byte chooses the type. What is read is written and read the same.
fn read_event_data(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let kind = Kind::ALL[usize::from(*first) % Kind::ALL.len()];
    if let Ok(data) = Data::parse(kind, rest) {
        let written = serde_json::to_vec(&data).expect("data can be written");
        assert_eq!(Data::parse(kind, &written).as_ref(), Ok(&data));
    }
}

const FILTER: &[&str] =
    &["*", "message.*\ncall.updated:offer", "account.updated:flows", "message.recieved"];

/// One pattern a line. What is read is written and read the same.
fn read_filter(bytes: &[u8]) {
    let all = text(bytes);
    let patterns: Vec<&str> = all.lines().collect();
    let Ok(filter) = Filter::parse(&patterns) else { return };
    assert_eq!(Filter::parse(&filter.patterns()).as_ref(), Ok(&filter));
    for kind in Kind::ALL {
        filter.matches(*kind, patterns.first().copied());
    }
}

const ADDRESS: &[&str] =
    &["5511999990000.0:12@c.us", "status@broadcast", "123-456@g.us", "a@b@lid", "@", ":@"];

/// An address stays as it is once it was normalised.
fn read_address(bytes: &[u8]) {
    let address = Address::parse(&text(bytes));
    assert_eq!(Address::parse(&address.id).id, address.id);
}

const IDS: &[&str] = &[
    "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "VZ01ARZ3NDEKTSV4RRFFQ69G5FAV",
    "01563e3a-b5d3-d676-4c61-efb99302bd5b",
    "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17",
    "message.received",
    "native",
];

/// Every id that is read is written and read the same.
fn read_ids(bytes: &[u8]) {
    fn round<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
        if let Ok(id) = text.parse::<T>() {
            let again = id.to_string().parse::<T>().ok();
            assert_eq!(again, Some(id));
        }
    }
    let text = text(bytes);
    round::<AccountId>(&text);
    round::<InstanceId>(&text);
    round::<DestinationId>(&text);
    round::<EventId>(&text);
    round::<DeliveryId>(&text);
    if let Ok(kind) = text.parse::<Kind>() {
        assert_eq!(kind.as_str(), text);
    }
    drop(text.parse::<Dialect>());
}

const TIMESTAMP: &[&str] =
    &["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456+03:00", "9999-12-31T23:59:59.999Z"];

/// A time that is read is written and read the same, and can be reckoned with.
fn read_timestamp(bytes: &[u8]) {
    if let Ok(at) = text(bytes).parse::<Timestamp>() {
        assert_eq!(at.to_string().parse::<Timestamp>().ok(), Some(at));
        at.since(Timestamp::from_millis(0));
        Timestamp::from_millis(0).since(at);
    }
}

const CURSOR: &[&str] = &["now", "beginning", "17", "2026-01-01T00:00:00Z", "seq_17"];

/// Places in the journal and in lists.
fn read_cursor(bytes: &[u8]) {
    let text = text(bytes);
    let known = ["now", "beginning"].contains(&&*text) || text.parse::<u64>().is_ok();
    assert!(destinations::is_place(&text) || !known);
    drop(page::after::<DestinationId>(Some(&text)));
    drop(page::after::<DeliveryId>(Some(&text)));
    drop(page::limit(text.parse().ok()));
}

/// A request with these headers, one `name: value` a line. What no client can send is left out.
fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = parts.next().and_then(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        let value = parts.next().and_then(|value| HeaderValue::from_bytes(value.trim_ascii()).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

const REQUEST_HEADERS: &[&str] = &[
    "authorization: Bearer abc\nidempotency-key: k\nzapbus-hops: 3",
    "zapbus-hops: 255",
    "authorization: bearer",
];

fn read_request_headers(bytes: &[u8]) {
    let headers = headers(bytes);
    if let Ok(token) = auth::bearer(&headers) {
        assert!(!token.is_empty());
    }
    if let Ok(Some(key)) = idempotency::key(&headers) {
        assert!((1..=255).contains(&key.len()));
    }
    if let Ok(hops) = super::native::hops(&headers) {
        assert!(hops <= 5);
    }
}

const FORWARDED: &[&str] = &[
    "x-forwarded-for: 192.0.2.1, 10.0.0.2\nx-forwarded-proto: https",
    "forwarded: for=\"[2001:db8::1]:80\";proto=https, for=10.0.0.2",
    "forwarded: for=unknown",
];

/// Only addresses that trusted proxies vouch for are believed.
fn read_forwarded(bytes: &[u8]) {
    let (ours, stranger) = ([10, 0, 0, 1].into(), [192, 0, 2, 99].into());
    let headers = headers(bytes);
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    proxy::peer_of(ours, false, &headers, &trusted);
    for trusted in [&[][..], &trusted] {
        let peer = proxy::peer_of(stranger, true, &headers, trusted);
        assert_eq!((peer.address, peer.https), (stranger, true));
    }
}

const HUB_SIGNATURE: &[&str] = &[
    "x-hub-signature-256: sha256=b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad",
    "x-hub-signature-256: sha1=00",
];

fn read_hub_signature(bytes: &[u8]) {
    drop(sources::cloud_api::signature(&headers(bytes)));
}

const WEBHOOK_SIGNATURE: &[&str] = &[
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nmsg_1\n1767225617\nv1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=\nbody",
    "whsec_\n\n\nv1,\n",
];

/// Secret, id, time, signature and body, one a line. What we sign verifies; nothing else does.
fn read_webhook_signature(bytes: &[u8]) {
    let mut lines = bytes.splitn(5, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (secret, id, timestamp, signature, body) = (next(), next(), next(), next(), next());
    let Ok(secret) = text(secret).parse::<signature::Secret>() else { return };
    assert_eq!(secret.expose().parse::<signature::Secret>().ok().as_ref(), Some(&secret));
    let header = |value: &[u8]| HeaderValue::from_bytes(value).ok();
    let (Some(id), Some(timestamp), Some(claimed)) =
        (header(id), header(timestamp), header(signature))
    else {
        return;
    };
    let signers = [secret.signer()];
    let now = Timestamp::from_millis(1_767_225_617_000);
    let ours = signature::sign(&signers, id.as_bytes(), timestamp.as_bytes(), body);
    let verify = |signature: &HeaderValue| {
        let signed = signature::Signed { id: &id, timestamp: &timestamp, signature };
        signature::verify(&signers, signed, body, now)
    };
    let ours_value = HeaderValue::from_str(&ours).expect("a signature is a header");
    let in_time = !matches!(
        verify(&ours_value),
        Err(signature::VerifyError::Timestamp | signature::VerifyError::Expired)
    );
    assert_eq!(verify(&ours_value).is_ok(), in_time);
    let names_ours =
        claimed.as_bytes().split(|byte| *byte == b' ').any(|one| one == ours.as_bytes());
    assert!(verify(&claimed).is_err() || names_ours);
}

const ANSWER: &[&str] =
    &["503 120", "429 Fri, 31 Dec 1999 23:59:59 GMT", "200 ", "410 99999999999"];

/// A status and `Retry-After`: no answer makes a lane wait for longer than an hour.
fn read_answer(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b' ');
    let status = StatusCode::from_bytes(parts.next().unwrap_or_default());
    let value = HeaderValue::from_bytes(parts.next().unwrap_or_default());
    let (Ok(status), Ok(value)) = (status, value) else { return };
    let now = Timestamp::from_millis(1_767_225_617_000);
    let outcome = webhook::classify(status, Some(&value), now);
    assert_eq!(outcome == zapbus_channel::Outcome::Accepted, status.is_success());
    if let Some(wait) = webhook::retry_after(&value, now) {
        assert!(wait.as_secs() <= 3_600);
    }
}

const CHANNEL: &[&str] = &[
    r#"{"type":"webhook","url":"https://example.com/hook?x=1","headers":{"x-a":"b"},"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw","timeout_s":5}"#,
    r#"{"type":"webhook","url":"http://[::1]:1/"}"#,
];

/// What is taken is written and read the same.
fn read_channel(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    if let Ok(config) = zapbus_channel::Config::read(value) {
        let written = serde_json::to_value(&config).expect("a channel can be written");
        let again = zapbus_channel::Config::read(written.clone()).expect("it reads back");
        assert_eq!(serde_json::to_value(&again).ok(), Some(written));
    }
}

const DESTINATION: &[&str] = &[
    r#"{"label":"default","channel":{"type":"webhook","url":"https://example.com"},"events":["message.*"],"ordering":"key","start":"now","retry":{"waits_s":[1],"max_attempts":3}}"#,
];

fn read_destination(bytes: &[u8]) {
    destinations::read_bodies(bytes);
    drop(body::parse::<serde_json::Value>(bytes));
}

const SOURCE: &[&str] = &[
    r#"{"type":"cloud-api","app_secret":"s","verify_token":"v","phone_number_id":"9"}"#,
    r#"{"type":"clod-api"}"#,
];

/// What is taken is kept and found again.
fn read_source(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    for app_level in [false, true] {
        if let Ok(source) = source::read(value.clone(), app_level, &crate::source::Source::Native) {
            let kept = crate::source::Source::from_document(&source.to_document());
            assert_eq!(kept.ok(), Some(source));
        }
    }
}

const EGRESS: &[&str] = &["10.0.0.0/8, n8n, *.internal", "::1", "[::1]\nhttp://[::ffff:10.0.0.1]/"];

/// An allow-list on the first line, a URL on the second. A loopback address is refused unless
/// something allows it.
fn read_egress(bytes: &[u8]) {
    let all = text(bytes);
    let (list, url) = all.split_once('\n').unwrap_or((&all, "http://[::ffff:127.0.0.1]/"));
    let nothing = egress::Guard::new(egress::Allow::default());
    if let Ok(url) = url.parse::<url::Url>() {
        let local = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.to_canonical().is_loopback(),
            _ => false,
        };
        assert!(nothing.check_literal(&url).is_err() || !local);
        if let Ok(allow) = list.parse::<egress::Allow>() {
            drop(egress::Guard::new(allow).check_literal(&url));
        }
    }
}

const CONFIGURATION: &[&str] = &[
    "listen = \"127.0.0.1:0\"\n[retention]\njournal_s = 60\nwhen_full = \"refuse\"\n",
    "[egress]\nallow = [\"10.0.0.0/8\"]\n[http]\nmax_conections = 5\n",
    "a.b.c = 1979-05-27T07:32:00Z",
];

/// A mistake is told, never taken.
fn read_configuration(bytes: &[u8]) {
    let loaded = load::load_text(&text(bytes));
    assert!(!loaded.settings.is_empty() || !loaded.mistakes.is_empty());
}

const ENCRYPTION_KEY: &[&str] = &[
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "short",
];

/// A key that is read is written and read the same.
fn read_encryption_key(bytes: &[u8]) {
    if let Ok(key) = Key::parse(&text(bytes)) {
        assert_eq!(Key::parse(&key.expose()).as_ref().ok(), Some(&key));
    }
}

const TRACE_HEADERS: &[&str] =
    &["x-key=a=b", "authorization=Basic%20dXNlcjpwYXNz", "no value", "x-\u{e9}=1", "a=1\nb=2"];

/// One header of those that a collector is sent, a line. Who is told of a mistake is not shown what
/// may be a secret.
fn read_trace_headers(bytes: &[u8]) {
    let all = text(bytes);
    let headers = all.lines().map(crate::config::Secret::new).collect();
    let config = crate::traces::Config { headers, ..crate::traces::Config::default() };
    let wrong = config.check();
    let is_safe =
        |told: &str| told.starts_with("header ") && told.ends_with(": expected name=value");
    assert!(wrong.iter().all(|(key, told)| *key == "headers" && is_safe(told)), "{wrong:?}");
}

#[cfg(feature = "fuzzing")]
const BINARIES: &[&str] =
    &[r#"{"a":"QUJDREVGR0hJSktMTU5PUFFSU1RVVg==","b":"data:image/png;base64,QUJDREVGR0hJSktM"}"#];

/// What would leave the text lies in it, in order, and is longer than the limit.
#[cfg(feature = "fuzzing")]
fn find_binaries(bytes: &[u8]) {
    let mut end = 0;
    for span in zapbus_store::fuzzing::long_base64(bytes, 8) {
        assert!(span.start >= end && span.len() > 8 && span.end <= bytes.len());
        end = span.end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    /// A seed with some bytes changed, cut out, or put in.
    fn mutated(seeds: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
        let edit = (any::<Index>(), any::<Index>(), prop::collection::vec(any::<u8>(), 0..4));
        let odd = prop::sample::select(vec![
            &b"\""[..],
            b"{",
            b"}",
            b"[",
            b",",
            b":",
            b"\\u0000",
            b"\n",
            b" ",
            b"-1",
            b"1e999",
            b"null",
            b"\xff",
            "é".as_bytes(),
            b"18446744073709551616",
            b"@",
            b";",
            b"=",
            b"%00",
        ]);
        let splice = (any::<Index>(), odd);
        (
            prop::sample::select(seeds),
            prop::collection::vec(edit, 0..3),
            prop::collection::vec(splice, 0..4),
        )
            .prop_map(|(seed, edits, splices)| {
                let mut bytes = seed.as_bytes().to_vec();
                for (from, to, new) in edits {
                    let (from, to) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
                    let range = from.min(to)..from.max(to).min(from.min(to) + 8);
                    bytes.splice(range, new);
                }
                for (at, odd) in splices {
                    let at = at.index(bytes.len() + 1);
                    bytes.splice(at..at, odd.iter().copied());
                }
                bytes
            })
    }

    /// Names the target and shows the input that breaks it.
    fn run(target: &Target, bytes: &[u8]) {
        let input = bytes.to_vec();
        let ran = std::panic::catch_unwind(|| (target.run)(bytes));
        assert!(ran.is_ok(), "{} fails for {:?}", target.name, text(&input));
    }

    #[test]
    fn every_reader_takes_anything() {
        for target in TARGETS {
            for seed in target.seeds {
                run(target, seed.as_bytes());
            }
            let mut runner = proptest::test_runner::TestRunner::default();
            let anything = prop_oneof![
                1 => prop::collection::vec(any::<u8>(), 0..200),
                1 => ".{0,100}".prop_map(String::into_bytes),
                6 => mutated(target.seeds),
            ];
            let tried = runner.run(&anything, |bytes| {
                run(target, &bytes);
                Ok(())
            });
            tried.unwrap_or_else(|error| panic!("{}: {error}", target.name));
        }
    }

    #[test]
    fn every_target_has_a_fuzz_binary() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        for Target { name, seeds, .. } in TARGETS {
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            assert!(!seeds.is_empty(), "{name}");
        }
    }
}
