//! Native ingest: one event, arrays, NDJSON, keys, limits, hops.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    api::{expect_fault, expect_problem, text},
    server::{Gateway, expect_json, text_message},
};

const PATH: &str = "/v1/instances/shop/events";

async fn start() -> Gateway {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    gateway
}

async fn post_raw(gateway: &Gateway, kind: &str, body: impl Into<reqwest::Body>) -> Response {
    let request = gateway.request(Method::POST, PATH).header("content-type", kind);
    request.body(body).send().await.unwrap()
}

async fn stored(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.read(&format!("{PATH}?types=message.*&limit=1000")).await;
    page["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn one_event_is_stored_and_read_back() {
    let gateway = start().await;
    let mut event = text_message("5511999990001", "m1", "olá");
    event["occurred_at"] = json!("2026-01-02T03:04:05.678Z");
    event["dedup_key"] = json!("mine");
    event["ordering_key"] = json!("lane 1");
    let result = gateway.post_event("shop", &event).await;
    assert_eq!(result["duplicate"], false);
    let path = format!("/v1/events/{}", text(&result, "id"));
    let read = gateway.read(&path).await;
    assert_eq!(read["data"], event["data"]);
    assert_eq!(read["raw"], event["data"]);
    assert_eq!(read["seq"], result["seq"]);
    assert_eq!(read["type"], "message.received");
    assert_eq!(read["occurred_at"], "2026-01-02T03:04:05.678Z");
    assert_eq!(read["dedup_key"], "mine");
    assert_eq!(read["client_id"], "m1");
    assert!(text(&read, "ordering_key").ends_with("/lane 1"));
    assert_eq!(read["instance"]["name"], "shop");
    assert_eq!(read["source"]["kind"], "native");
}

#[tokio::test]
async fn what_is_wrong_with_one_event_is_the_status() {
    let gateway = start().await;
    let unknown = gateway.post(PATH, &json!({ "type": "message.recieved", "data": {} })).await;
    expect_fault(unknown, 422, "unknown_event_type", "type", "message.received").await;
    for (body, at, words) in [
        (json!({ "data": {} }), "type", "missing"),
        (json!({ "type": 5, "data": {} }), "type", "expected"),
        (json!({ "type": "message.received" }), "data", "missing"),
        (json!({ "type": "destination.paused", "data": {} }), "type", "gateway's own"),
        (json!({ "type": "system.started", "data": {}, "dta": 1 }), "dta", "data"),
        (json!({ "type": "system.started", "data": {}, "id": "" }), "id", "1 to 256"),
        (
            json!({ "type": "system.started", "data": {}, "occurred_at": "now" }),
            "occurred_at",
            "RFC 3339",
        ),
    ] {
        let answer = gateway.post(PATH, &body).await;
        expect_fault(answer, 400, "malformed_body", at, words).await;
    }
    let mut event = text_message("1", "m", "x");
    event["data"]["content"]["body"] = json!(7);
    let problem = expect_problem(gateway.post(PATH, &event).await, 400, "malformed_body").await;
    let at = problem["errors"][0]["path"].as_str().unwrap();
    assert!(at.starts_with("data.content"), "{problem}");
    for body in ["", "{", "5", "\"x\"", "{} {}"] {
        expect_problem(post_raw(&gateway, "application/json", body).await, 400, "malformed_body")
            .await;
    }
    assert_eq!(stored(&gateway).await.len(), 0);
}

#[tokio::test]
async fn an_array_has_a_result_for_each() {
    let gateway = start().await;
    let batch = json!([
        text_message("1", "a", "x"),
        { "type": "message.nonsense", "data": {} },
        text_message("1", "a", "again"),
        5,
        text_message("2", "b", "y"),
    ]);
    let answer = expect_json(gateway.post(PATH, &batch).await, 200).await;
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 5);
    assert_eq!(results[0]["duplicate"], false);
    assert_eq!(results[1]["error"]["code"], "unknown_event_type");
    assert_eq!(results[1]["error"]["status"], 422);
    assert_eq!((&results[2]["id"], &results[2]["duplicate"]), (&results[0]["id"], &json!(true)));
    assert_eq!(results[3]["error"]["code"], "malformed_body");
    assert!(results[4]["seq"].as_u64() > results[0]["seq"].as_u64());
    assert_eq!(stored(&gateway).await.len(), 2);

    // All of them failing is still 200; none of them is, too.
    let answer = expect_json(gateway.post(PATH, &json!([{}, 1])).await, 200).await;
    assert!(answer["results"].as_array().unwrap().iter().all(|it| it["error"].is_object()));
    assert_eq!(expect_json(gateway.post(PATH, &json!([])).await, 200).await["results"], json!([]));
    // A malformed array stores nothing.
    let good = text_message("3", "c", "z").to_string();
    let broken = post_raw(&gateway, "application/json", format!("[{good},")).await;
    expect_problem(broken, 400, "malformed_body").await;
    assert_eq!(stored(&gateway).await.len(), 2);
}

#[tokio::test]
async fn a_broken_line_of_ndjson_is_that_lines_result() {
    let gateway = start().await;
    let lines = format!(
        "{}\n\n{{\"type\":\r\n  {}  \r\n{{\"type\":\"x.y\",\"data\":{{}}}}",
        text_message("1", "a", "x"),
        text_message("1", "b", "y"),
    );
    for kind in ["application/x-ndjson", "application/x-ndjson; charset=utf-8"] {
        let answer = expect_json(post_raw(&gateway, kind, lines.clone()).await, 200).await;
        let results = answer["results"].as_array().unwrap();
        assert_eq!(results.len(), 4, "{answer}");
        assert!(results[0]["id"].is_string());
        assert_eq!(results[1]["error"]["code"], "malformed_body");
        assert!(results[2]["id"].is_string());
        assert_eq!(results[3]["error"]["code"], "unknown_event_type");
    }
    assert_eq!(stored(&gateway).await.len(), 2);
}

#[tokio::test]
async fn keys_make_repeats_harmless() {
    let gateway = start().await;
    let send = async |key: &str, body: &Value| {
        let request = gateway.request(Method::POST, PATH).header("idempotency-key", key);
        expect_json(request.json(body).send().await.unwrap(), 200).await["results"].clone()
    };
    let keyless = |text: &str| {
        let mut event = text_message("1", "m", text);
        event.as_object_mut().unwrap().remove("id");
        event
    };
    let first = send("k", &keyless("a")).await;
    let again = send("k", &keyless("a")).await;
    assert_eq!((&again[0]["id"], &again[0]["duplicate"]), (&first[0]["id"], &json!(true)));

    let batch = json!([keyless("b"), keyless("c")]);
    let first = send("batch", &batch).await;
    assert_ne!(first[0]["id"], first[1]["id"]);
    let again = send("batch", &batch).await;
    for index in 0..2 {
        assert_eq!(again[index]["id"], first[index]["id"]);
        assert_eq!(again[index]["duplicate"], true);
    }
    // The key of the n-th event, as it may be sent alone later.
    let alone = send("batch#1", &keyless("c")).await;
    assert_eq!(alone[0]["id"], first[1]["id"]);
    // Keys belong to the instance.
    gateway.create_instance("other").await;
    let request = gateway.request(Method::POST, "/v1/instances/other/events");
    let other = request.header("idempotency-key", "k").json(&keyless("a")).send().await.unwrap();
    assert_eq!(expect_json(other, 200).await["results"][0]["duplicate"], false);
    // Without keys, everything is new.
    assert_ne!(
        gateway.post_event("shop", &keyless("z")).await["id"],
        gateway.post_event("shop", &keyless("z")).await["id"]
    );
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_rest_taken() {
    let gateway = Gateway::start(|config| {
        config.ingest.max_event_bytes = 20_000;
        config.ingest.max_body_bytes = 100_000;
        config.store.queue_bytes = 1 << 20;
    })
    .await;
    gateway.create_instance("shop").await;
    let large = text_message("1", "large", &"x".repeat(20_000));
    expect_problem(gateway.post(PATH, &large).await, 413, "too_large").await;
    let batch = json!([text_message("1", "small", "x"), large]);
    let answer = expect_json(gateway.post(PATH, &batch).await, 200).await;
    assert!(answer["results"][0]["id"].is_string());
    assert_eq!(answer["results"][1]["error"]["code"], "too_large");
    assert_eq!(answer["results"][1]["error"]["status"], 413);
    let whole: Vec<Value> =
        (0..10).map(|n| text_message("1", &format!("{n}"), &"x".repeat(15_000))).collect();
    expect_problem(gateway.post(PATH, &json!(whole)).await, 413, "too_large").await;
    // Also when the length is not announced.
    let piece = || hyper::body::Frame::data(bytes::Bytes::from(vec![b' '; 10_000]));
    let pieces = futures_util::stream::iter((0..20).map(move |_| Ok::<_, std::io::Error>(piece())));
    let pieces = reqwest::Body::wrap(http_body_util::StreamBody::new(pieces));
    let unannounced = post_raw(&gateway, "application/json", pieces).await;
    expect_problem(unannounced, 413, "too_large").await;
    let many = vec![Value::Null; 10_001];
    expect_problem(gateway.post(PATH, &json!(many)).await, 413, "too_many_events").await;
    assert_eq!(stored(&gateway).await.len(), 1);
}

#[tokio::test]
async fn an_event_that_goes_in_circles_is_stopped() {
    let gateway = start().await;
    let send = async |hops: &str, id: &str| {
        let request = gateway.request(Method::POST, PATH).header("zapbus-hops", hops);
        request.json(&text_message("1", id, "x")).send().await.unwrap()
    };
    assert_eq!(send("4", "a").await.status(), 200);
    expect_problem(send("5", "b").await, 508, "too_many_hops").await;
    expect_problem(send("255", "b").await, 508, "too_many_hops").await;
    expect_fault(send("x", "c").await, 422, "invalid", "zapbus-hops", "whole number").await;
    let events = stored(&gateway).await;
    assert_eq!(events.len(), 1);
    let event = gateway.app.store.event(text(&events[0], "id").parse().unwrap()).await.unwrap();
    assert_eq!(event.unwrap().hops, 5);
}

#[tokio::test]
async fn a_store_that_cannot_write_is_503_with_retry_after() {
    if crate::engine::skips_on_postgres(
        "the disk is the server's; a story of the cluster tells of it",
    ) {
        return;
    }
    let gateway = Gateway::start(|config| config.store.min_free_bytes = u64::MAX >> 1).await;
    // Configuration goes on below the limit.
    gateway.create_instance("shop").await;
    let answer = crate::server::eventually("appends stop", async || {
        let answer = gateway.post(PATH, &text_message("1", "m", "x")).await;
        (answer.status() == 503).then_some(answer)
    })
    .await;
    expect_problem(answer, 503, "unavailable").await;
    let batch = gateway.post(PATH, &json!([text_message("1", "m", "x")])).await;
    expect_problem(batch, 503, "unavailable").await;
    assert_eq!(gateway.get("/readyz").await.status(), 503);
}

#[tokio::test]
async fn any_content_type_but_ndjson_is_read_as_json() {
    let gateway = start().await;
    let body = text_message("1", "m", "x").to_string();
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json"] {
        expect_json(post_raw(&gateway, kind, body.clone()).await, 200).await;
    }
    assert_eq!(stored(&gateway).await.len(), 1);
}

#[tokio::test]
async fn what_is_answered_503_is_not_stored_and_the_rest_is() {
    // Room for one append at a time.
    let gateway = Gateway::start(|config| config.store.queue_bytes = 4).await;
    gateway.create_instance("shop").await;
    let mut accepted = Vec::new();
    let mut refused = 0;
    for round in 0..50 {
        let posts = (0..40).map(|n| {
            let event = text_message("1", &format!("{round}-{n}"), "x");
            let gateway = &gateway;
            async move { (event["id"].clone(), gateway.post(PATH, &event).await) }
        });
        for (id, answer) in futures_util::future::join_all(posts).await {
            if answer.status() == 503 {
                expect_problem(answer, 503, "busy").await;
                refused += 1;
            } else {
                expect_json(answer, 200).await;
                accepted.push(id);
            }
        }
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "the queue was never full");
    let mut found: Vec<Value> =
        stored(&gateway).await.iter().map(|event| event["client_id"].clone()).collect();
    found.sort_by_key(Value::to_string);
    accepted.sort_by_key(Value::to_string);
    assert_eq!(found, accepted);
}

/// A message without an id: only the `Idempotency-Key` says that it came before.
fn unnamed(text: &str) -> Value {
    let mut event = text_message("5511999990001", "m1", text);
    event.as_object_mut().unwrap().remove("id");
    event
}

#[tokio::test]
async fn an_idempotency_key_with_another_event_is_refused() {
    let gateway = start().await;
    let post = async |body: &Value| {
        let request = gateway.request(Method::POST, PATH).header("idempotency-key", "k1");
        request.json(body).send().await.unwrap()
    };
    let first = expect_json(post(&unnamed("one")).await, 200).await;
    let again = expect_json(post(&unnamed("one")).await, 200).await;
    assert_eq!(again["results"][0]["duplicate"], true);
    assert_eq!(again["results"][0]["id"], first["results"][0]["id"]);
    expect_problem(post(&unnamed("two")).await, 422, "idempotency_key_reused").await;

    let batch = |second: &str| json!([unnamed("one"), unnamed(second)]);
    expect_json(post(&batch("two")).await, 200).await;
    let mixed = expect_json(post(&batch("three")).await, 200).await;
    assert_eq!(mixed["results"][0]["duplicate"], true);
    assert_eq!(mixed["results"][1]["error"]["code"], "idempotency_key_reused");
    assert_eq!(stored(&gateway).await.len(), 3);

    // Neither does an id of its own make another event the first one.
    let named = |id, text| text_message("5511999990001", id, text);
    expect_problem(post(&named("named", "x")).await, 422, "idempotency_key_reused").await;
    assert_eq!(stored(&gateway).await.len(), 3, "what was refused is not stored");
    gateway.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_never_swallows_an_event_with_an_id_of_its_own() {
    let gateway = start().await;
    let post = async |key: &str, body: &Value| {
        let request = gateway.request(Method::POST, PATH).header("idempotency-key", key);
        request.json(body).send().await.unwrap()
    };
    let named = |id: &str, text: &str| text_message("5511999990001", id, text);
    let first = expect_json(post("k", &named("a", "x")).await, 200).await;
    let again = expect_json(post("k", &named("a", "x")).await, 200).await;
    assert_eq!(again["results"][0]["duplicate"], true);
    assert_eq!(again["results"][0]["id"], first["results"][0]["id"]);
    // The same words under another id are another event, and so are other words under this one.
    for other in [named("b", "x"), named("b", "y"), named("a", "y")] {
        expect_problem(post("k", &other).await, 422, "idempotency_key_reused").await;
    }
    for (member, value) in [("dedup_key", "d"), ("id", "b")] {
        let mut renamed = named("a", "x");
        renamed[member] = json!(value);
        expect_problem(post("k", &renamed).await, 422, "idempotency_key_reused").await;
    }
    let batch =
        expect_json(post("k2", &json!([named("c", "x"), named("d", "x")])).await, 200).await;
    let swapped = json!([named("c", "x"), named("e", "x")]);
    let mixed = expect_json(post("k2", &swapped).await, 200).await;
    assert_eq!(mixed["results"][0]["id"], batch["results"][0]["id"]);
    assert_eq!(mixed["results"][1]["error"]["code"], "idempotency_key_reused");
    // With a new key it is taken.
    let taken = expect_json(post("k3", &named("b", "x")).await, 200).await;
    assert_eq!(taken["results"][0]["duplicate"], false);
    assert_eq!(stored(&gateway).await.len(), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn a_large_event_is_compared_whole() {
    let gateway = start().await;
    let large = |last: &str| {
        let mut event = unnamed("x");
        event["data"]["content"]["extra"] = json!(format!("{}{last}", "QUJD".repeat(40_000)));
        event
    };
    let post = async |body: &Value| {
        let request = gateway.request(Method::POST, PATH).header("idempotency-key", "k1");
        request.json(body).send().await.unwrap()
    };
    expect_json(post(&large("AAAA")).await, 200).await;
    let again = expect_json(post(&large("AAAA")).await, 200).await;
    assert_eq!(again["results"][0]["duplicate"], true);
    expect_problem(post(&large("BBBB")).await, 422, "idempotency_key_reused").await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_idempotency_key_is_its_callers_own_and_no_key_of_the_event() {
    let gateway = start().await;
    let token = text(
        &expect_json(
            gateway.post("/v1/accounts/default/credentials", &json!({ "name": "x" })).await,
            201,
        )
        .await,
        "secret",
    );
    let post = async |token: &str, key: &str, body: &Value| {
        let request = gateway.client.post(format!("{}{PATH}", gateway.url)).bearer_auth(token);
        let request = request.header("idempotency-key", key).json(body);
        expect_json(request.send().await.unwrap(), 200).await["results"][0]["duplicate"].clone()
    };
    assert_eq!(post(gateway.token(), "k1", &unnamed("one")).await, false);
    assert_eq!(post(&token, "k1", &unnamed("two")).await, false, "another caller's key");
    let mut keyed = unnamed("three");
    keyed["dedup_key"] = json!("k1");
    let result = gateway.post_event("shop", &keyed).await;
    assert_eq!(result["duplicate"], false, "a dedup_key is no Idempotency-Key");
    gateway.stop().await;
}

#[tokio::test]
async fn a_broken_array_says_which_element() {
    let gateway = start().await;
    let good = unnamed("x").to_string();
    for (body, path) in [
        (format!("[{good},{{\"a\":}},{good}]"), "[1]"),
        (format!("[{good},{good}"), "[2]"),
        ("[".to_owned(), "[0]"),
    ] {
        let answer = post_raw(&gateway, "application/json", body).await;
        expect_fault(answer, 400, "malformed_body", path, "").await;
    }
    gateway.stop().await;
}
