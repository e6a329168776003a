//! Destinations: making, showing, changing, testing, stopping, rotating, replaying.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{
    api::{Caller, expect_fault, expect_problem, text},
    lane::impatient,
    receiver::{Receiver, Reply},
    server::{Gateway, eventually, expect_json, text_message},
};

const LIST: &str = "/v1/instances/shop/destinations";

async fn start() -> (Gateway, Receiver) {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    (gateway, Receiver::start().await)
}

async fn patch(gateway: &Gateway, id: &str, body: &Value) -> Response {
    let path = format!("/v1/destinations/{id}");
    gateway.request(Method::PATCH, &path).json(body).send().await.unwrap()
}

#[tokio::test]
async fn a_destination_needs_only_a_channel() {
    let (gateway, receiver) = start().await;
    let made = gateway.create_webhook("shop", &receiver.url("/hook"), json!({})).await;
    assert!(text(&made["channel"], "secret").starts_with("whsec_"));
    assert_eq!(made["label"], "default");
    assert_eq!(made["dialect"], "native");
    assert_eq!(made["events"], json!(["*"]));
    assert_eq!(made["ordering"], "key");
    assert_eq!(made["state"], "active");

    let shown = gateway.read(&format!("/v1/destinations/{}", text(&made, "id"))).await;
    assert!(shown["channel"].get("secret").is_none(), "a secret is shown once");
    assert_eq!(shown["status"]["health"], "flowing");
    assert_eq!(shown["status"]["retrying"], 0);
    let again = gateway.post(LIST, &json!({ "channel": made["channel"] })).await;
    expect_problem(again, 409, "already_exists").await;
    let another = json!({ "label": "second" });
    gateway.create_webhook("shop", &receiver.url("/hook"), another).await;
    let list = gateway.read(LIST).await;
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    assert!(!list.to_string().contains("whsec_"));
}

#[tokio::test]
async fn a_given_secret_signs_and_is_shown_to_its_giver_only() {
    let (gateway, receiver) = start().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let channel = json!({
        "channel": {
            "secret": secret,
            "authorization": "Bearer hush",
            "headers": { "x-api-key": "hush too", "x-tenant": "blue" },
        },
    });
    let made = gateway.create_webhook("shop", &receiver.url("/"), channel).await;
    assert_eq!(made["channel"]["secret"], secret);
    let shown = gateway.read(&format!("/v1/destinations/{}", text(&made, "id"))).await;
    assert_eq!(shown["channel"]["authorization"], "***");
    assert_eq!(shown["channel"]["headers"], json!({ "x-api-key": "***", "x-tenant": "blue" }));
    for answer in [&made, &shown] {
        assert!(!answer.to_string().contains("hush"), "{answer}");
    }

    gateway.post_event("shop", &text_message("1", "m", "x")).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.header("authorization"), Some("Bearer hush"));
    assert_eq!(received.header("x-api-key"), Some("hush too"));
    let mut headers = http::HeaderMap::new();
    for (name, value) in &received.headers {
        let name: http::HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
    }
    standardwebhooks::Webhook::new(secret).unwrap().verify(&received.body, &headers).unwrap();
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once() {
    let (gateway, _) = start().await;
    let hook = json!({ "type": "webhook", "url": "https://example.com/" });
    for (body, at, words) in [
        (json!({}), "", "channel"),
        (json!({ "chanel": hook }), "chanel", "did you mean `channel`?"),
        (json!({ "channel": 5 }), "channel", "object"),
        (json!({ "channel": { "url": "https://example.com/" } }), "channel.type", "missing"),
        (
            json!({ "channel": { "type": "webhok", "url": "https://example.com/" } }),
            "channel.type",
            "webhook",
        ),
        (json!({ "channel": { "type": "webhook" } }), "channel.url", "missing"),
        (
            json!({ "channel": { "type": "webhook", "url": "no url" } }),
            "channel.url",
            "https://example.com/hook",
        ),
        (
            json!({ "channel": { "type": "webhook", "url": "ftp://example.com/" } }),
            "channel.url",
            "http or https",
        ),
        (
            json!({ "channel": { "type": "webhook", "url": "http://10.0.0.1/" } }),
            "channel.url",
            "ZAPBUS_EGRESS_ALLOW=",
        ),
        (
            json!({ "channel": { "type": "webhook", "url": "http://169.254.169.254/" } }),
            "channel.url",
            "ZAPBUS_EGRESS_ALLOW=",
        ),
        (
            json!({ "channel": { "type": "webhook", "url": "https://example.com/", "header": {} } }),
            "channel.header",
            "did you mean `headers`?",
        ),
        (
            json!({ "channel": { "type": "webhook", "url": "https://example.com/", "secret": "short" } }),
            "channel.secret",
            "whsec_",
        ),
        (
            json!({ "channel": { "type": "webhook", "url": "https://example.com/", "timeout_s": 500 } }),
            "channel.timeout_s",
            "120",
        ),
        (
            json!({ "channel": hook, "events": ["mesage.received"] }),
            "events[0]",
            "message.received",
        ),
        (json!({ "channel": hook, "events": ["*", "call.updated:ofer"] }), "events[1]", "offer"),
        (json!({ "channel": hook, "dialect": "klingon" }), "dialect", "native"),
        (json!({ "channel": hook, "ordering": "keys" }), "ordering", "did you mean `key`?"),
        (json!({ "channel": hook, "label": "" }), "label", "1 to 64"),
        (json!({ "channel": hook, "label": "env/webhook" }), "label", "environment"),
        (json!({ "channel": hook, "max_in_flight": 0 }), "max_in_flight", "1 to 1000"),
        (json!({ "channel": hook, "max_in_flight": 1001 }), "max_in_flight", "1 to 1000"),
        (json!({ "channel": hook, "rate_limit_per_s": 0 }), "rate_limit_per_s", "0.01"),
        (json!({ "channel": hook, "disable_after_s": 5 }), "disable_after_s", "60"),
        (json!({ "channel": hook, "start": "yesterday" }), "start", "RFC 3339"),
        (
            json!({ "channel": hook, "retry": { "preset": "nativ" } }),
            "retry.preset",
            "did you mean `native`?",
        ),
        (
            json!({ "channel": hook, "retry": { "max_attempt": 5 } }),
            "retry.max_attempt",
            "did you mean `max_attempts`?",
        ),
        (
            json!({ "channel": hook, "retry": { "max_attempts": 51 } }),
            "retry.max_attempts",
            "1 to 50",
        ),
        (json!({ "channel": hook, "retry": { "timeout_s": 0 } }), "retry.timeout_s", "0.1"),
        (json!({ "channel": hook, "retry": { "waits_s": [] } }), "retry.waits_s", "1 to 50"),
        (
            json!({ "channel": hook, "retry": { "waits_s": [1, 86401] } }),
            "retry.waits_s[1]",
            "86400",
        ),
    ] {
        for path in [LIST, "/v1/destinations"] {
            expect_fault(gateway.post(path, &body).await, 422, "invalid", at, words).await;
        }
    }
    let several = json!({
        "channel": { "type": "webhook", "url": "ftp://example.com/", "timeout_s": 0 },
        "label": "", "events": ["x"], "max_in_flight": 0,
    });
    let problem = expect_problem(gateway.post(LIST, &several).await, 422, "invalid").await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 5, "{problem}");
    assert_eq!(gateway.read("/v1/destinations").await["data"], json!([]));
}

#[tokio::test]
async fn a_change_merges_and_what_waits_is_sent_by_it() {
    // However long the changes take, it is tried again soon after the last one.
    let gateway = Gateway::start(impatient).await;
    gateway.create_instance("shop").await;
    let mut receiver = Receiver::start().await;
    let channel = json!({
        "channel": { "headers": { "x-a": "1", "x-b": "2" }, "authorization": "Bearer hush" },
        "retry": { "waits_s": [1], "max_attempts": 50 },
    });
    let made = gateway.create_webhook("shop", &receiver.url("/old"), channel).await;
    let id = text(&made, "id");
    receiver.go_down();
    gateway.post_event("shop", &text_message("1", "m", "x")).await;
    eventually("it fails", async || {
        let shown = gateway.read(&format!("/v1/destinations/{id}")).await;
        shown["status"]["last_error"].is_string().then_some(())
    })
    .await;

    let change = json!({
        "label": "renamed",
        "channel": { "url": receiver.url("/new"), "headers": { "x-a": null, "x-c": "3" } },
        "events": ["message.*", "message.received"],
        "ordering": "strict",
        "max_in_flight": 7,
        "rate_limit_per_s": 50,
        "include_raw": true,
    });
    let changed = expect_json(patch(&gateway, &id, &change).await, 200).await;
    assert_eq!(changed["label"], "renamed");
    assert_eq!(changed["channel"]["headers"], json!({ "x-b": "2", "x-c": "3" }));
    assert_eq!(changed["events"], json!(["message.*"]));
    assert_eq!(changed["ordering"], "strict");
    assert_eq!(changed["rate_limit_per_s"], 50.0);
    assert!(changed["channel"].get("secret").is_none());
    let reset =
        expect_json(patch(&gateway, &id, &json!({ "rate_limit_per_s": null })).await, 200).await;
    assert_eq!(reset["rate_limit_per_s"], Value::Null);
    assert_eq!(reset["max_in_flight"], 7, "what is left out stays");

    receiver.come_back().await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.path, "/new");
    assert_eq!(received.header("x-a"), None);
    assert_eq!(received.header("x-c"), Some("3"));
    assert_eq!(received.header("authorization"), Some("Bearer hush"), "it was not given again");
    assert!(received.json()["raw"].is_object());
    // Another host does not get the old host's secret unasked.
    // Neither does a proxy, or whoever an authority of somebody else's vouches for.
    let authority = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem();
    for elsewhere in [
        json!({ "url": "https://example.com/" }),
        json!({ "proxy": "http://127.0.0.1:9" }),
        json!({ "ca_pem": authority }),
    ] {
        let answer = patch(&gateway, &id, &json!({ "channel": elsewhere })).await;
        expect_fault(answer, 422, "invalid", "channel.authorization", "give the value itself")
            .await;
    }
    // Given again, it is the owner who asks.
    let given = json!({ "proxy": "http://user:word@127.0.0.1:9", "authorization": "Bearer hush" });
    let proxied = expect_json(patch(&gateway, &id, &json!({ "channel": given })).await, 200).await;
    // Shown and sent back as it is shown, it is the same proxy.
    let same = json!({ "channel": { "proxy": proxied["channel"]["proxy"] } });
    expect_json(patch(&gateway, &id, &same).await, 200).await;
    let without = json!({ "channel": { "proxy": null } });
    expect_json(patch(&gateway, &id, &without).await, 200).await;

    for (body, at, words) in [
        (json!({ "lable": "x" }), "lable", "did you mean `label`?"),
        (json!({ "channel": { "url": "nothing" } }), "channel.url", "https://"),
        (json!({ "channel": { "urll": "x" } }), "channel.urll", "did you mean `url`?"),
        (json!({ "events": ["x"] }), "events[0]", ""),
        (json!({ "max_in_flight": 0 }), "max_in_flight", "1 to 1000"),
        (json!({ "start": "now" }), "start", "unknown field"),
    ] {
        expect_fault(patch(&gateway, &id, &body).await, 422, "invalid", at, words).await;
    }
    let other =
        gateway.create_webhook("shop", &receiver.url("/"), json!({ "label": "taken" })).await;
    let taken = patch(&gateway, &text(&other, "id"), &json!({ "label": "renamed" })).await;
    expect_problem(taken, 409, "already_exists").await;
}

#[tokio::test]
async fn a_destination_is_paused_and_goes_on_where_it_stopped_or_now() {
    let (gateway, receiver) = start().await;
    let made = gateway.create_webhook("shop", &receiver.url("/"), json!({})).await;
    let path = format!("/v1/destinations/{}", text(&made, "id"));
    let act = async |verb: &str, body: Value| {
        expect_json(gateway.post(&format!("{path}/{verb}"), &body).await, 200).await
    };
    gateway.post_event("shop", &text_message("1", "a", "x")).await;
    receiver.wait_for(1).await;
    let paused = act("pause", json!({ "reason": "maintenance" })).await;
    assert_eq!((&paused["state"], &paused["reason"]), (&json!("paused"), &json!("maintenance")));
    assert!(paused["since"].is_string());
    gateway.post_event("shop", &text_message("1", "b", "x")).await;
    receiver.stays_at(1).await;
    let backlog = gateway
        .read(&format!("/v1/deliveries?destination={}&status=pending", text(&made, "id")))
        .await;
    assert_eq!(backlog["backlog"], json!({ "events": 1, "complete": true }));
    assert_eq!(act("resume", json!({})).await["state"], "active");
    receiver.wait_for(2).await;

    // Without a body, too.
    let bare = gateway.request(Method::POST, &format!("{path}/pause")).send().await.unwrap();
    expect_json(bare, 200).await;
    gateway.post_event("shop", &text_message("1", "c", "x")).await;
    act("resume", json!({ "from": "now" })).await;
    gateway.post_event("shop", &text_message("1", "d", "x")).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(received[2].json()["client_id"], "d", "what waited is not sent");
    let wrong = gateway.post(&format!("{path}/resume"), &json!({ "from": "then" })).await;
    expect_fault(wrong, 422, "invalid", "from", "unknown variant").await;
    let pending = gateway.get("/v1/deliveries?status=pending").await;
    expect_fault(pending, 400, "invalid_query", "status", "destination").await;
}

#[tokio::test]
async fn a_test_says_what_the_endpoint_answered() {
    let (gateway, receiver) = start().await;
    let made = gateway.create_webhook("shop", &receiver.url("/"), json!({})).await;
    let path = format!("/v1/destinations/{}/test", text(&made, "id"));
    let good =
        expect_json(gateway.post(&path, &json!({ "type": "call.updated" })).await, 200).await;
    assert_eq!((&good["ok"], &good["messages"][0]["status"]), (&json!(true), &json!(200)));
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.json()["type"], "call.updated");

    receiver.script(|_| Reply::status(500).header("x-why", "broken").body("no\n"));
    let bad = gateway.request(Method::POST, &path).send().await.unwrap();
    let bad = expect_json(bad, 200).await;
    assert_eq!((&bad["ok"], &bad["type"]), (&json!(false), &json!("message.received")));
    let message = &bad["messages"][0];
    assert_eq!((&message["status"], &message["excerpt"]), (&json!(500), &json!("no\n")));
    assert!(message["error"].is_string() && message["latency_ms"].is_u64());
    assert!(message["response_headers"].to_string().contains("broken"));
    let unknown = gateway.post(&path, &json!({ "type": "call.update" })).await;
    expect_fault(unknown, 422, "unknown_event_type", "type", "call.updated").await;
    // Journal and log know nothing of it.
    assert_eq!(gateway.read("/v1/deliveries").await["data"], json!([]));
    let events = gateway.read("/v1/events?types=call.*,message.*").await;
    assert_eq!(events["data"], json!([]));
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_old_one_for_a_while() {
    let (gateway, receiver) = start().await;
    let made = gateway.create_webhook("shop", &receiver.url("/"), json!({})).await;
    let path = format!("/v1/destinations/{}/rotate-secret", text(&made, "id"));
    let rotated = expect_json(gateway.post(&path, &json!({ "overlap_s": 60 })).await, 200).await;
    let (old, new) = (text(&made["channel"], "secret"), text(&rotated["channel"], "secret"));
    assert_ne!(old, new);
    gateway.post_event("shop", &text_message("1", "a", "x")).await;
    let received = receiver.wait_for(1).await.remove(0);
    assert_eq!(received.header("webhook-signature").unwrap().split(' ').count(), 2);
    gateway.clock.advance(std::time::Duration::from_secs(61));
    gateway.post_event("shop", &text_message("1", "b", "x")).await;
    let received = receiver.wait_for(2).await.remove(1);
    assert_eq!(received.header("webhook-signature").unwrap().split(' ').count(), 1);
    let wrong = gateway.post(&path, &json!({ "overlap_s": 2_592_001 })).await;
    expect_fault(wrong, 422, "invalid", "overlap_s", "2592000").await;
}

#[tokio::test]
async fn a_destination_of_the_account_gets_the_events_of_all_instances() {
    let (gateway, receiver) = start().await;
    gateway.create_instance("other").await;
    let body = json!({ "channel": { "type": "webhook", "url": receiver.url("/") }, "events": ["message.*"] });
    let made = expect_json(gateway.post("/v1/destinations", &body).await, 201).await;
    assert_eq!(made["instance"], Value::Null);
    gateway.post_event("shop", &text_message("1", "a", "x")).await;
    gateway.post_event("other", &text_message("1", "b", "x")).await;
    let mut names: Vec<String> =
        receiver.wait_for(2).await.iter().map(|it| text(&it.json()["instance"], "name")).collect();
    names.sort();
    assert_eq!(names, ["other", "shop"]);
    let global = gateway.read("/v1/destinations?global=true").await;
    assert_eq!(global["data"].as_array().unwrap().len(), 1);
    assert_eq!(gateway.read("/v1/destinations?global=false").await["data"], json!([]));
    assert_eq!(gateway.read("/v1/destinations?instance=shop").await["data"], json!([]));
    let both = gateway.get("/v1/destinations?instance=shop&global=true").await;
    expect_fault(both, 400, "invalid_query", "global", "").await;

    let path = format!("/v1/destinations/{}", text(&made, "id"));
    assert_eq!(gateway.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    expect_problem(gateway.get(&path).await, 404, "destination_not_found").await;
    gateway.post_event("shop", &text_message("1", "c", "x")).await;
    receiver.stays_at(2).await;
}

#[tokio::test]
async fn the_past_is_counted_then_sent_again() {
    let (gateway, receiver) = start().await;
    let made = gateway
        .create_webhook("shop", &receiver.url("/"), json!({ "events": ["message.*"] }))
        .await;
    let path = format!("/v1/destinations/{}", text(&made, "id"));
    let mut posted = Vec::new();
    for id in ["a", "b", "c"] {
        gateway.clock.advance(std::time::Duration::from_secs(10));
        posted.push(gateway.post_event("shop", &text_message("1", id, "x")).await);
    }
    receiver.wait_for(3).await;
    let replay = format!("{path}/replay");
    let after_first = json!({ "from": posted[0]["id"], "dry_run": true });
    let count = eventually("the cursor has passed them", async || {
        let count = expect_json(gateway.post(&replay, &after_first).await, 200).await;
        (count["events"] == 2).then_some(count)
    })
    .await;
    assert_eq!((&count["dry_run"], &count["complete"]), (&json!(true), &json!(true)));
    receiver.stays_at(3).await;

    let run =
        expect_json(gateway.post(&replay, &json!({ "from": posted[0]["id"] })).await, 201).await;
    assert_eq!(run["run"], 1);
    let received = receiver.wait_for(5).await;
    let again: Vec<Value> = received[3..].iter().map(|it| it.json()["client_id"].clone()).collect();
    assert_eq!(again, [json!("b"), json!("c")]);
    assert!(received[3].header("zapbus-replay").is_some());
    assert_eq!(received[3].id(), text(&posted[1], "id"), "a replay keeps the id");
    eventually("the run is done", async || {
        let runs = gateway.read(&format!("{path}/runs")).await;
        (runs["data"][0]["state"] == "done").then_some(())
    })
    .await;
    let ended = gateway.post(&format!("{path}/runs/1/pause"), &json!({})).await;
    expect_problem(ended, 409, "run_ended").await;

    let third = gateway.read(&format!("/v1/events/{}", text(&posted[2], "id"))).await;
    let since = json!({ "since": third["received_at"], "dry_run": true });
    let count = expect_json(gateway.post(&replay, &since).await, 200).await;
    assert_eq!(count["events"], 1);
    let none = json!({ "from": "beginning", "types": ["call.*"], "dry_run": true });
    assert_eq!(expect_json(gateway.post(&replay, &none).await, 200).await["events"], 0);
    for (body, at) in [
        (json!({}), "since"),
        (json!({ "since": "2026-01-01T00:00:00Z", "from": "1" }), "from"),
        (json!({ "from": "now" }), "from"),
        (json!({ "since": "x" }), "since"),
        (json!({ "from": "1", "types": ["x"] }), "types[0]"),
        (json!({ "form": "1" }), "form"),
    ] {
        expect_fault(gateway.post(&replay, &body).await, 422, "invalid", at, "").await;
    }
    for run in ["0", "2", "x"] {
        let unknown = gateway.post(&format!("{path}/runs/{run}/cancel"), &json!({})).await;
        expect_problem(unknown, 404, "run_not_found").await;
    }
}

#[tokio::test]
async fn a_replay_is_paused_resumed_and_called_off() {
    let (gateway, receiver) = start().await;
    // What is replayed takes its time: there is some left to pause and to call off.
    receiver.script(|request| match request.header("zapbus-replay") {
        Some(_) => Reply::ok().after(std::time::Duration::from_millis(150)),
        None => Reply::ok(),
    });
    let slow = json!({ "events": ["message.*"], "max_in_flight": 1 });
    let made = gateway.create_webhook("shop", &receiver.url("/"), slow).await;
    let path = format!("/v1/destinations/{}", text(&made, "id"));
    let batch: Vec<Value> = (0..40).map(|n| text_message("1", &format!("m{n}"), "x")).collect();
    expect_json(gateway.post("/v1/instances/shop/events", &json!(batch)).await, 200).await;
    receiver.wait_for(40).await;
    let replay = json!({ "from": "beginning" });
    let run = eventually("the cursor has passed them", async || {
        let mut counted = replay.clone();
        counted["dry_run"] = json!(true);
        let count = expect_json(gateway.post(&format!("{path}/replay"), &counted).await, 200).await;
        (count["events"] == 40).then_some(())
    });
    run.await;
    let run = expect_json(gateway.post(&format!("{path}/replay"), &replay).await, 201).await;
    assert_eq!(run["state"], "running");
    let act = async |verb: &str| {
        let path = format!("{path}/runs/1/{verb}");
        expect_json(gateway.post(&path, &json!({})).await, 200).await["state"].clone()
    };
    receiver.wait_for(42).await;
    assert_eq!(act("pause").await, "paused");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let so_far = receiver.received().len();
    receiver.stays_at(so_far).await;
    assert_eq!(act("resume").await, "running");
    receiver.wait_for(so_far + 2).await;
    assert_eq!(act("cancel").await, "cancelled");
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let so_far = receiver.received().len();
    receiver.stays_at(so_far).await;
    assert!(so_far < 80);
}

#[tokio::test]
async fn an_instance_token_manages_its_own_destinations() {
    let (gateway, receiver) = start().await;
    let made = gateway.create_instance("mine").await;
    let caller = Caller::new(&gateway, text(&made, "token"));
    let body = json!({ "channel": { "type": "webhook", "url": receiver.url("/") } });
    let destination = caller.made("/v1/instances/mine/destinations", &body, 201).await;
    let path = format!("/v1/destinations/{}", text(&destination, "id"));
    let change = caller.send(Method::PATCH, &path, &json!({ "events": ["call.*"] })).await;
    assert_eq!(expect_json(change, 200).await["events"], json!(["call.*"]));
    let gone = caller.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let foreign = caller.post(LIST, &body).await;
    expect_problem(foreign, 404, "instance_not_found").await;
}

#[tokio::test]
async fn a_repeated_replay_is_one_replay() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let made = gateway.create_webhook("shop", "http://127.0.0.1:1/", json!({})).await;
    let path = format!("/v1/destinations/{}", text(&made, "id"));
    let replay = async |from: &str| {
        let request = gateway.request(Method::POST, &format!("{path}/replay"));
        let request = request.header("idempotency-key", "k").json(&json!({ "from": from }));
        request.send().await.unwrap()
    };
    let (first, second) = tokio::join!(replay("beginning"), replay("beginning"));
    let (first, second) = (expect_json(first, 201).await, expect_json(second, 201).await);
    assert_eq!(first, second);
    let third = replay("beginning").await;
    assert!(third.headers().contains_key("idempotency-replayed"));
    assert_eq!(expect_json(third, 201).await, first);
    expect_problem(replay("17").await, 422, "idempotency_key_reused").await;
    let runs = gateway.read(&format!("{path}/runs")).await;
    assert_eq!(runs["data"].as_array().unwrap().len(), 1);
    gateway.stop().await;
}
