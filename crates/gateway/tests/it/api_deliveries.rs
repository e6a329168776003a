//! The delivery log: searching, looking closely, sending again.

use serde_json::{Value, json};

use crate::{
    api::{expect_fault, expect_problem, text},
    receiver::{Receiver, Reply},
    server::{Gateway, eventually, expect_json, text_message},
};

/// One delivered (`ok`), one dead by 422 (`bad`): (gateway, receiver, destination).
async fn with_a_dead_letter() -> (Gateway, Receiver, String) {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::scripted(|request| {
        if request.json()["client_id"] == "bad" {
            Reply::status(422).header("x-why", "no").body("cannot use this")
        } else {
            Reply::ok().body("thanks")
        }
    })
    .await;
    let one_attempt = json!({ "events": ["message.*"], "retry": { "max_attempts": 1 } });
    let made = gateway.create_webhook("shop", &receiver.url("/"), one_attempt).await;
    for id in ["ok", "bad"] {
        gateway.post_event("shop", &text_message("1", id, "x")).await;
    }
    eventually("both are in the log", async || {
        let page = gateway.read("/v1/deliveries").await;
        (page["data"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    (gateway, receiver, text(&made, "id"))
}

async fn statuses(gateway: &Gateway, query: &str) -> Vec<String> {
    let page = gateway.read(&format!("/v1/deliveries?{query}")).await;
    page["data"].as_array().unwrap().iter().map(|it| text(it, "status")).collect()
}

#[tokio::test]
async fn the_log_is_searched_by_everything() {
    let (gateway, _receiver, destination) = with_a_dead_letter().await;
    let whole = gateway.read("/v1/deliveries").await;
    let of = |status: &str| {
        let found = whole["data"].as_array().unwrap().iter().find(|it| it["status"] == status);
        found.unwrap_or_else(|| panic!("{whole}")).clone()
    };
    let (delivered, dead) = (of("delivered"), of("dead"));
    assert_eq!((&delivered["attempts"], &delivered["http_status"]), (&json!(1), &json!(200)));
    assert_eq!((&dead["attempts"], &dead["http_status"]), (&json!(1), &json!(422)));
    assert_eq!(dead["dead_reason"], "attempts");
    assert_eq!(dead["destination_id"], json!(destination));
    assert_eq!(dead["event_type"], "message.received");
    assert_eq!(dead["response_excerpt"], "cannot use this");
    assert!(dead["latency_ms"].is_u64() && dead["error"].is_string());

    let event = text(&dead, "event_id");
    let now = gateway.clock.now();
    let hour = std::time::Duration::from_secs(3600);
    for (query, expected) in [
        ("status=dead".to_owned(), &["dead"][..]),
        ("status=delivered,dead".to_owned(), &["dead", "delivered"]),
        ("status=retrying".to_owned(), &[]),
        ("instance=shop".to_owned(), &["dead", "delivered"]),
        (format!("destination={destination}&status=dead"), &["dead"]),
        ("event_type=message.received".to_owned(), &["dead", "delivered"]),
        ("event_type=call.*".to_owned(), &[]),
        (format!("event_id={event}"), &["dead"]),
        ("http_status=200".to_owned(), &["delivered"]),
        ("http_status=500".to_owned(), &[]),
        (format!("from={}", now - hour), &["dead", "delivered"]),
        (format!("from={}", now + hour), &[]),
        (format!("to={}", now + hour), &["dead", "delivered"]),
        (format!("to={}", now - hour), &[]),
    ] {
        let mut found = statuses(&gateway, &query).await;
        found.sort();
        assert_eq!(found, expected, "{query}");
    }
    let first = gateway.read("/v1/deliveries?limit=1").await;
    let rest =
        gateway.read(&format!("/v1/deliveries?limit=1&after={}", text(&first, "next"))).await;
    assert_ne!(first["data"][0]["id"], rest["data"][0]["id"]);
    for (query, at) in [
        ("status=ded", "status"),
        ("event_type=message.*,x", "event_type[1]"),
        ("event_id=x", "event_id"),
        ("http_status=x", "http_status"),
        ("from=x", "from"),
        ("to=x", "to"),
        ("after=x", "after"),
        ("limit=0", "limit"),
        ("stauts=dead", "stauts"),
    ] {
        let answer = gateway.get(&format!("/v1/deliveries?{query}")).await;
        expect_fault(answer, 400, "invalid_query", at, "").await;
    }
    for (query, code) in
        [("instance=x", "instance_not_found"), ("destination=x", "destination_not_found")]
    {
        expect_problem(gateway.get(&format!("/v1/deliveries?{query}")).await, 404, code).await;
    }
}

#[tokio::test]
async fn a_delivery_shows_its_attempts_and_what_was_sent() {
    let (gateway, receiver, _) = with_a_dead_letter().await;
    let dead = gateway.read("/v1/deliveries?status=dead").await["data"][0].clone();
    let detail = gateway.read(&format!("/v1/deliveries/{}", text(&dead, "id"))).await;
    assert_eq!(detail["delivery"], dead);
    let attempt = &detail["attempts"][0];
    assert_eq!((&attempt["number"], &attempt["http_status"]), (&json!(1), &json!(422)));
    assert_eq!(attempt["response_excerpt"], "cannot use this");
    assert!(attempt["request_headers"].to_string().contains("webhook-id"));
    assert!(attempt["response_headers"].to_string().contains("x-why"));
    assert_eq!(detail["request"]["rendered_again"], true);
    assert_eq!(detail["no_request"], Value::Null);
    let sent = receiver.received().into_iter().find(|it| it.json()["client_id"] == "bad").unwrap();
    assert_eq!(detail["request"]["parts"][0]["body"], sent.json());
    for id in ["dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_1", "nonsense"] {
        let unknown = gateway.get(&format!("/v1/deliveries/{id}")).await;
        expect_problem(unknown, 404, "delivery_not_found").await;
    }
}

#[tokio::test]
async fn one_delivery_is_sent_again() {
    let (gateway, receiver, _) = with_a_dead_letter().await;
    receiver.script(|_| Reply::ok());
    let dead = text(&gateway.read("/v1/deliveries?status=dead").await["data"][0], "id");
    let retried = gateway.post(&format!("/v1/deliveries/{dead}/retry"), &json!({})).await;
    expect_json(retried, 202).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(received[2].json()["client_id"], "bad");
    eventually("it is delivered", async || {
        let detail = gateway.read(&format!("/v1/deliveries/{dead}")).await;
        (detail["delivery"]["status"] == "delivered").then_some(())
    })
    .await;
    // A delivered one, too.
    let retried = gateway.post(&format!("/v1/deliveries/{dead}/retry"), &json!({})).await;
    expect_json(retried, 202).await;
    receiver.wait_for(4).await;
    let unknown = "/v1/deliveries/dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_1/retry";
    expect_problem(gateway.post(unknown, &json!({})).await, 404, "delivery_not_found").await;
}

#[tokio::test]
async fn many_are_counted_then_sent_again() {
    let (gateway, receiver, destination) = with_a_dead_letter().await;
    receiver.script(|_| Reply::ok());
    let path = "/v1/deliveries/retry";
    let dry = json!({ "destination": destination, "dry_run": true });
    let counted = expect_json(gateway.post(path, &dry).await, 200).await;
    assert_eq!((&counted["matched"], &counted["redelivered"]), (&json!(1), &json!(0)));
    receiver.stays_at(2).await;
    let done =
        expect_json(gateway.post(path, &json!({ "destination": destination })).await, 200).await;
    assert_eq!((&done["redelivered"], &done["more"]), (&json!(1), &json!(false)));
    let received = receiver.wait_for(3).await;
    assert_eq!(received[2].json()["client_id"], "bad");
    let all = json!({ "instance": "shop", "status": ["delivered"], "event_type": ["message.*"], "limit": 10 });
    eventually("both are delivered", async || {
        let mut dry = all.clone();
        dry["dry_run"] = json!(true);
        let counted = expect_json(gateway.post(path, &dry).await, 200).await;
        (counted["matched"] == 2).then_some(())
    })
    .await;
    expect_json(gateway.post(path, &all).await, 200).await;
    receiver.wait_for(5).await;
    for (body, at) in [
        (json!({}), ""),
        (json!({ "dry_run": true }), ""),
        (json!({ "status": ["pending"] }), "status"),
        (json!({ "status": ["dead"], "limit": 0 }), "limit"),
        (json!({ "status": ["dead"], "limit": 10_001 }), "limit"),
        (json!({ "stauts": ["dead"] }), "stauts"),
        (json!({ "status": ["ded"] }), "status"),
        (json!({ "event_type": ["message.*", "x"] }), "event_type[1]"),
        (json!({ "event_id": "x" }), "event_id"),
        (json!({ "from": "x" }), "from"),
        (json!({ "to": "x" }), "to"),
        (json!({ "status": ["dead"], "after": "x" }), "after"),
    ] {
        expect_fault(gateway.post(path, &body).await, 422, "invalid", at, "").await;
    }
}

#[tokio::test]
async fn an_event_that_is_gone_cannot_be_sent_again() {
    let (gateway, _receiver, _) = with_a_dead_letter().await;
    let delivered = gateway.read("/v1/deliveries?status=delivered").await["data"][0].clone();
    let erase = json!({ "type": "chat", "instance": "shop", "chat": "1@s.whatsapp.net" });
    expect_json(gateway.post("/v1/erasures", &erase).await, 200).await;
    let path = format!("/v1/deliveries/{}", text(&delivered, "id"));
    expect_problem(gateway.post(&format!("{path}/retry"), &json!({})).await, 409, "event_expired")
        .await;
    let detail = gateway.read(&path).await;
    assert_eq!((&detail["request"], &detail["delivery"]["event_id"]), (&Value::Null, &Value::Null));
    assert_eq!(detail["no_request"], "event_expired");
}

#[tokio::test]
async fn an_instance_does_not_see_deliveries_of_a_deleted_destination_of_the_account() {
    let gateway = Gateway::start(|_| {}).await;
    let shop = gateway.create_instance("shop").await;
    let receiver = Receiver::start().await;
    let body = json!({ "channel": { "type": "webhook", "url": receiver.url("/") } });
    let global = expect_json(gateway.post("/v1/destinations", &body).await, 201).await;
    gateway.post_event("shop", &text_message("1", "m", "x")).await;
    let delivery = eventually("it is in the log", async || {
        let page = gateway.read("/v1/deliveries?event_type=message.*").await;
        page["data"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let path = format!("/v1/deliveries/{delivery}");
    let own = crate::api::Caller::new(&gateway, text(&shop, "token"));
    expect_problem(own.get(&path).await, 404, "delivery_not_found").await;
    let destination = format!("/v1/destinations/{}", text(&global, "id"));
    let deleted = gateway.request(reqwest::Method::DELETE, &destination).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    expect_problem(own.get(&path).await, 404, "delivery_not_found").await;
    gateway.stop().await;
}
