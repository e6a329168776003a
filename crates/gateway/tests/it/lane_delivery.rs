//! What becomes of one event: signed, sent, retried, given up; and how much at a time.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    api::text,
    lane::{
        act, client_id, deliveries, has, hook, ids, is, post, post_many, redeliver, sample, shown,
        shows, start,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, expect_json, text_message},
};

const FIXTURE: &str = include_str!("../../../event/fixtures/cloud-api/message-text.json");

fn verify(received: &Received, secret: &str) {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &received.headers {
        let name: http::HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    standardwebhooks::Webhook::new(secret).unwrap().verify(&received.body, &headers).unwrap();
}

async fn post_as_meta(gateway: &Gateway, body: &str) {
    let mac = Hmac::<Sha256>::new_from_slice(b"app-secret").unwrap().chain_update(body);
    let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
    let request = gateway.client.post(format!("{}/sources/cloud-api/shop", gateway.url));
    let request = request.header("x-hub-signature-256", signature).body(body.to_owned());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

async fn connect_meta(gateway: &Gateway) {
    let source = json!({
        "type": "cloud-api", "app_secret": "app-secret", "verify_token": "verify-me",
        "phone_number_id": "900000000000101",
    });
    let request = gateway.request(reqwest::Method::PUT, "/v1/instances/shop/source").json(&source);
    expect_json(request.send().await.unwrap(), 200).await;
}

#[tokio::test]
async fn a_message_from_meta_arrives_once_and_signed() {
    let gateway = start().await;
    connect_meta(&gateway).await;
    let receiver = Receiver::start().await;
    let messages = json!({ "events": ["message.*"] });
    let made = gateway.create_webhook("shop", &receiver.url("/hook"), messages).await;
    // Meta repeats what it is not sure of.
    post_as_meta(&gateway, FIXTURE).await;
    post_as_meta(&gateway, FIXTURE).await;
    let received = receiver.wait_for(1).await.remove(0);
    verify(&received, &text(&made["channel"], "secret"));
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook"));
    assert_eq!(received.header("content-type"), Some("application/json"));
    assert_eq!(received.header("zapbus-event"), Some("message.received"));
    assert_eq!(received.header("zapbus-hops"), Some("1"));
    assert_eq!(received.header("zapbus-replay"), None);

    let mut body = received.json();
    assert_eq!(received.id(), text(&body, "id"));
    for (member, as_it_was) in [("id", "[id]"), ("seq", "[seq]"), ("received_at", "[time]")] {
        assert!(!body[member].is_null(), "{member}");
        body[member] = json!(as_it_was);
    }
    let instance = text(&body["instance"], "id");
    let key = text(&body, "ordering_key").replace(&instance, "[instance]");
    body["ordering_key"] = json!(key);
    body["instance"]["id"] = json!("[instance]");
    insta::assert_json_snapshot!("native_envelope_of_a_text_from_meta", body);
    receiver.stays_at(1).await;
}

#[tokio::test]
async fn raw_goes_with_it_where_wanted() {
    let gateway = start().await;
    connect_meta(&gateway).await;
    let receiver = Receiver::start().await;
    hook(&gateway, &receiver.url("/"), json!({ "include_raw": true })).await;
    post_as_meta(&gateway, FIXTURE).await;
    let received = receiver.wait_for(1).await.remove(0).json();
    let upstream: Value = serde_json::from_str(FIXTURE).unwrap();
    let message = &upstream["entry"][0]["changes"][0]["value"]["messages"][0];
    assert!(received["raw"].to_string().contains(&message.to_string()), "{received}");
}

#[tokio::test]
async fn failures_are_in_the_log_and_the_id_stays() {
    let gateway = start().await;
    let long = "no ".repeat(4_000);
    let failure = Reply::status(500).header("x-why", "tired").body(long.clone());
    let receiver = Receiver::replying([failure.clone(), failure, Reply::ok().body("thanks")]).await;
    let secrets = json!({ "channel": { "authorization": "Bearer hush", "headers": { "x-api-key": "hush" } } });
    let id = hook(&gateway, &receiver.url("/"), secrets).await;
    post(&gateway, &[("1", "m")]).await;
    let received = receiver.wait_for(3).await;
    assert!(received.iter().all(|it| it.id() == received[0].id() && it.body == received[0].body));
    assert!(received.iter().all(|it| it.header("authorization") == Some("Bearer hush")));

    let delivery = has(&gateway, &id, "delivered", 1).await.remove(0);
    assert_eq!((&delivery["attempts"], &delivery["http_status"]), (&json!(3), &json!(200)));
    let detail = gateway.read(&format!("/v1/deliveries/{}", text(&delivery, "id"))).await;
    assert!(!detail.to_string().contains("hush"), "{detail}");
    let attempts = detail["attempts"].as_array().unwrap();
    for (number, attempt) in attempts.iter().take(2).enumerate() {
        assert_eq!(
            (&attempt["number"], &attempt["http_status"]),
            (&json!(number + 1), &json!(500))
        );
        assert_eq!(attempt["response_excerpt"], long[..4_096]);
        assert!(attempt["response_headers"].to_string().contains("tired"));
        let sent = attempt["request_headers"].to_string();
        for header in ["webhook-id", "webhook-signature", "authorization", "x-api-key"] {
            assert!(sent.contains(header), "{header} in {sent}");
        }
    }
    assert!(attempts[0]["error"].is_string());
}

#[tokio::test]
async fn whatever_a_receiver_does_the_event_arrives_in_the_end() {
    let gateway = start().await;
    let seen: Mutex<HashMap<String, usize>> = Mutex::default();
    let receiver = Receiver::scripted(move |request| {
        let mut seen = seen.lock().unwrap();
        let times = seen.entry(request.path.clone()).or_default();
        *times += 1;
        if *times > 2 {
            return Reply::ok();
        }
        match request.path.as_str() {
            "/hang" => Reply::hang(),
            "/reset" => Reply::reset(),
            "/close" => Reply::close(),
            "/cut" => Reply::cut(),
            "/drip" => Reply::ok().drip(Duration::from_millis(500)),
            "/garbage" => Reply::garbage(),
            "/redirect" => Reply::status(307).header("location", "/elsewhere"),
            "/bad" => Reply::status(400),
            other => panic!("nobody is sent to {other}"),
        }
    })
    .await;
    let kinds = ["/hang", "/reset", "/close", "/cut", "/drip", "/garbage", "/redirect", "/bad"];
    let mut destinations = Vec::new();
    for kind in kinds {
        let more = json!({ "label": kind[1..], "retry": { "timeout_s": 0.7 } });
        destinations.push(hook(&gateway, &receiver.url(kind), more).await);
    }
    post(&gateway, &[("1", "m")]).await;
    for (kind, id) in kinds.iter().zip(destinations) {
        let delivery = has(&gateway, &id, "delivered", 1).await.remove(0);
        let sent: Vec<Received> =
            receiver.received().into_iter().filter(|it| it.path == *kind).collect();
        if *kind == "/cut" {
            // It said 200 before it broke off: it has the event.
            assert_eq!((sent.len(), &delivery["attempts"]), (1, &json!(1)), "{delivery}");
            continue;
        }
        // On a connection that was used before, two requests may be one attempt.
        assert_eq!(sent.len(), 3, "{kind}: {delivery}");
        assert!(delivery["attempts"].as_u64().unwrap() >= 2, "{kind}: {delivery}");
        assert!(sent.iter().all(|it| it.id() == text(&delivery, "event_id")), "{kind}");
    }
    assert!(receiver.received().iter().all(|it| it.path != "/elsewhere"));
}

#[tokio::test]
async fn retry_after_is_obeyed_by_the_whole_lane() {
    let gateway = start().await;
    let busy = Reply::status(429).header("retry-after", "2");
    let receiver = Receiver::replying([busy, Reply::ok()]).await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, &[("1", "first")]).await;
    let shown = is(&gateway, &id, "probing").await;
    assert!(shown["status"]["last_error"].to_string().contains("429"), "{shown}");
    post(&gateway, &[("2", "second")]).await;
    let received = receiver.wait_for(3).await;
    // The next attempt is due by the wall clock, which is cut to milliseconds.
    let pause = received[1].at - received[0].at;
    assert!(pause >= Duration::from_millis(1_990), "{pause:?}");
    assert_eq!(ids(&received), ["first", "first", "second"]);
    is(&gateway, &id, "flowing").await;
}

#[tokio::test]
async fn gone_disables_and_resume_goes_on_where_it_stood() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::status(410)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post(&gateway, &[("1", "a"), ("1", "b"), ("2", "c")]).await;
    let shown = shows(&gateway, &id, "disabled", |it| it["state"] == "disabled").await;
    assert!(text(&shown, "reason").contains("410"), "{shown}");
    post(&gateway, &[("1", "d")]).await;
    receiver.stays_at(1).await;

    let gateway = gateway.restart().await;
    receiver.script(|_| Reply::ok());
    receiver.stays_at(1).await;
    act(&gateway, &id, "resume", json!({})).await;
    let mut arrived = ids(&receiver.wait_for(5).await[1..]);
    arrived.sort();
    assert_eq!(arrived, ["a", "b", "c", "d"]);
    has(&gateway, &id, "delivered", 4).await;
    receiver.stays_at(5).await;
}

#[tokio::test]
async fn gone_is_a_dead_letter_where_the_preset_says_so() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::status(410)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "preset": "ryze" } })).await;
    post(&gateway, &[("1", "a")]).await;
    assert_eq!(has(&gateway, &id, "dead", 1).await[0]["dead_reason"], "refused");
    assert_eq!(shown(&gateway, &id).await["state"], "active");
}

#[tokio::test]
async fn used_up_attempts_make_a_dead_letter_that_can_be_sent_again() {
    let gateway = start().await;
    let poison = |request: &Received| match client_id(request).starts_with("bad") {
        true => Reply::status(400),
        false => Reply::ok(),
    };
    let receiver = Receiver::scripted(poison).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "max_attempts": 3 } })).await;
    // One at a time: without a success between them, one of them would be kept in hand.
    for (dead, bad) in [(1, "bad1"), (2, "bad2")] {
        post(&gateway, &[("1", bad)]).await;
        has(&gateway, &id, "dead", dead).await;
        post(&gateway, &[("2", &format!("good after {bad}"))]).await;
        has(&gateway, &id, "delivered", dead).await;
    }
    let dead = has(&gateway, &id, "dead", 2).await;
    assert!(dead.iter().all(|it| it["attempts"] == 3 && it["dead_reason"] == "attempts"));
    let so_far = receiver.wait_for(8).await.len();
    assert_eq!(so_far, 8, "three attempts for each bad one, one for each good one");

    receiver.script(|_| Reply::ok());
    redeliver(&gateway, &dead[0]).await;
    has(&gateway, &id, "dead", 1).await;
    let filter = json!({ "destination": id, "status": ["dead"], "dry_run": true });
    let counted = expect_json(gateway.post("/v1/deliveries/retry", &filter).await, 200).await;
    assert_eq!((&counted["matched"], &counted["redelivered"]), (&json!(1), &json!(0)));
    receiver.stays_at(9).await;
    let filter = json!({ "destination": id, "status": ["dead"] });
    expect_json(gateway.post("/v1/deliveries/retry", &filter).await, 200).await;
    has(&gateway, &id, "delivered", 4).await;
    receiver.stays_at(10).await;
}

#[tokio::test]
async fn everybody_gets_every_event_once_with_their_own_signature() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let mut secrets = HashMap::new();
    for label in ["a", "b", "c"] {
        let path = format!("/{label}");
        let more = json!({ "label": label, "events": ["message.*"] });
        let made = gateway.create_webhook("shop", &receiver.url(&path), more).await;
        secrets.insert(path, text(&made["channel"], "secret"));
    }
    let body = json!({ "channel": { "type": "webhook", "url": receiver.url("/all") }, "events": ["message.*"] });
    let global = expect_json(gateway.post("/v1/destinations", &body).await, 201).await;
    secrets.insert("/all".to_owned(), text(&global["channel"], "secret"));
    gateway.create_instance("other").await;
    post_many(&gateway, 3, 12).await;
    gateway.post_event("other", &text_message("1", "from the other", "x")).await;

    let received = receiver.wait_for(4 * 12 + 1).await;
    for (path, secret) in &secrets {
        let own: Vec<Received> = received.iter().filter(|it| it.path == *path).cloned().collect();
        assert_eq!(own.len(), if path == "/all" { 13 } else { 12 }, "{path}");
        own.iter().for_each(|it| verify(it, secret));
        let mut different: Vec<&str> = own.iter().map(Received::id).collect();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), own.len(), "{path}");
    }
    receiver.stays_at(49).await;
}

#[tokio::test]
async fn a_destination_starts_now_or_in_the_past() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    post(&gateway, &[("1", "a")]).await;
    gateway.clock.advance(Duration::from_secs(60));
    let later = gateway.clock.now();
    gateway.clock.advance(Duration::from_secs(60));
    post(&gateway, &[("1", "b")]).await;
    for (label, since) in
        [("now", json!("now")), ("all", json!("beginning")), ("some", json!(later))]
    {
        let more = json!({ "label": label, "start": since });
        hook(&gateway, &receiver.url(&format!("/{label}")), more).await;
    }
    post(&gateway, &[("1", "c")]).await;
    let received = receiver.wait_for(6).await;
    for (path, expected) in
        [("/now", &["c"][..]), ("/all", &["a", "b", "c"]), ("/some", &["b", "c"])]
    {
        let own: Vec<Received> = received.iter().filter(|it| it.path == path).cloned().collect();
        assert_eq!(ids(&own), expected, "{path}");
    }
    receiver.stays_at(6).await;
}

#[tokio::test]
async fn a_filter_names_facets_and_may_leave_out_what_is_ephemeral() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let types = |events: Value, more: bool| json!({ "label": events.to_string(), "events": events, "exclude_ephemeral": more });
    let texts = types(json!(["message.received:text"]), false);
    hook(&gateway, &receiver.url("/texts"), texts).await;
    let images = types(json!(["message.received:image"]), false);
    hook(&gateway, &receiver.url("/images"), images).await;
    hook(&gateway, &receiver.url("/all"), types(json!(["presence.*", "message.*"]), false)).await;
    let lasting = types(json!(["message.*", "presence.*"]), true);
    hook(&gateway, &receiver.url("/lasting"), lasting).await;
    let typing = sample(&gateway, "presence.chat").await;
    gateway.post_event("shop", &typing).await;
    post(&gateway, &[("1", "m")]).await;
    let received = receiver.wait_for(4).await;
    let mut paths: Vec<(&str, String)> =
        received.iter().map(|it| (it.path.as_str(), text(&it.json(), "type"))).collect();
    paths.sort();
    let message = || "message.received".to_owned();
    let expected = [
        ("/all", message()),
        ("/all", "presence.chat".to_owned()),
        ("/lasting", message()),
        ("/texts", message()),
    ];
    assert_eq!(paths, expected);
    receiver.stays_at(4).await;
}

#[tokio::test]
async fn what_is_ephemeral_is_not_sent_when_it_is_old() {
    let gateway = start().await;
    let receiver = Receiver::replying([Reply::status(500), Reply::ok()]).await;
    let types = json!({ "events": ["*"], "retry": { "waits_s": [50] } });
    let id = hook(&gateway, &receiver.url("/"), types).await;
    let typing = sample(&gateway, "presence.chat").await;
    gateway.post_event("shop", &typing).await;
    has(&gateway, &id, "retrying", 1).await;
    act(&gateway, &id, "pause", json!({})).await;
    gateway.post_event("shop", &typing).await;
    post(&gateway, &[("1", "m")]).await;
    gateway.clock.advance(Duration::from_secs(61));
    act(&gateway, &id, "resume", json!({})).await;
    let received = receiver.wait_for(2).await;
    assert_eq!(client_id(&received[1]), "m");
    // The one that had failed says so; the other was passed over like one that is filtered out.
    has(&gateway, &id, "expired", 1).await;
    has(&gateway, &id, "delivered", 1).await;
    assert_eq!(deliveries(&gateway, &format!("destination={id}")).await.len(), 2);
    receiver.stays_at(2).await;
}

#[tokio::test]
async fn what_grows_old_while_it_waits_for_its_turn_is_not_sent() {
    let gateway = start().await;
    let receiver = Receiver::replying([Reply::hang(), Reply::ok()]).await;
    let one = json!({
        "events": ["*"],
        "max_in_flight": 1,
        "retry": { "waits_s": [0.05], "timeout_s": 1 },
    });
    let id = hook(&gateway, &receiver.url("/"), one).await;
    // In one request, so that they are read together.
    let typing = sample(&gateway, "presence.chat").await;
    let batch = json!([text_message("1", "m", "x"), typing, text_message("2", "n", "x")]);
    expect_json(gateway.post("/v1/instances/shop/events", &batch).await, 200).await;
    receiver.wait_for(1).await;
    gateway.clock.advance(Duration::from_secs(61));
    has(&gateway, &id, "delivered", 2).await;
    has(&gateway, &id, "expired", 1).await;
    let came = ids(&receiver.received());
    assert!(came.iter().all(|it| it == "m" || it == "n"), "{came:?}");
}
