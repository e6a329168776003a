//! A receiver that is down costs nothing: its events wait in the journal and come in order.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use crate::{
    api::text,
    lane::{
        act, arrivals, change, client_id, deliveries, expect_chats_in_order, has, hook, ids,
        impatient, is, most_at_once, post, post_many, shown, shows, start,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, eventually, expect_json, text_message},
};

/// 300 events over 20 chats for an endpoint that is away and one that is there.
async fn sit_out(break_down: impl AsyncFn(&mut Receiver), mend: impl AsyncFn(&mut Receiver)) {
    let gateway = start().await;
    let (mut away, there) = (Receiver::start().await, Receiver::start().await);
    let twice = json!({ "label": "away", "retry": { "max_attempts": 2 } });
    let id = hook(&gateway, &away.url("/"), twice).await;
    hook(&gateway, &there.url("/"), json!({ "label": "there" })).await;
    break_down(&mut away).await;
    post_many(&gateway, 20, 300).await;

    let probing = is(&gateway, &id, "probing").await;
    assert!(probing["status"]["probing_since"].is_string(), "{probing}");
    assert!(probing["status"]["next_probe_at"].is_string(), "{probing}");
    assert!(probing["status"]["oldest_unsettled_at"].is_string(), "{probing}");
    assert!(probing["status"]["last_error"].is_string(), "{probing}");
    let received = there.wait_for(300).await;
    expect_chats_in_order(&received, 20, 15);
    // Probes go on, and cost one event at most.
    let mut last = probing["status"]["next_probe_at"].clone();
    for _ in 0..6 {
        let next = |it: &Value| it["status"]["next_probe_at"] != last;
        last =
            shows(&gateway, &id, "the next probe", next).await["status"]["next_probe_at"].clone();
    }
    let dead = shown(&gateway, &id).await["status"]["dead"].as_u64().unwrap();
    assert!(dead <= 1, "{dead} died in one outage");

    mend(&mut away).await;
    let settled = eventually("everything is settled", async || {
        let found = deliveries(&gateway, &format!("destination={id}")).await;
        let settled =
            found.iter().filter(|it| it["status"] == "delivered" || it["status"] == "dead");
        (settled.count() == 300).then_some(found)
    })
    .await;
    let dead: Vec<&Value> = settled.iter().filter(|it| it["status"] == "dead").collect();
    assert!(dead.len() <= 1, "{dead:#?}");
    is(&gateway, &id, "flowing").await;
}

#[tokio::test]
async fn connections_are_refused() {
    sit_out(async |receiver| receiver.go_down(), async |receiver| receiver.come_back().await).await;
}

#[tokio::test]
async fn it_answers_503() {
    sit_out(
        async |receiver| receiver.script(|_| Reply::status(503)),
        async |receiver| receiver.script(|_| Reply::ok()),
    )
    .await;
}

#[tokio::test]
async fn the_workflow_is_switched_off() {
    sit_out(
        async |receiver| receiver.script(|_| Reply::status(404)),
        async |receiver| receiver.script(|_| Reply::ok()),
    )
    .await;
}

#[tokio::test]
async fn after_an_outage_everything_comes_in_order_and_nothing_is_dead() {
    let gateway = start().await;
    let mut receiver = Receiver::start().await;
    // One at a time, and what failed is due at once: what failed must come before the rest.
    let one = json!({ "max_in_flight": 1, "retry": { "waits_s": [0], "max_attempts": 50 } });
    let id = hook(&gateway, &receiver.url("/"), one).await;
    receiver.go_down();
    post_many(&gateway, 20, 300).await;
    let probing = is(&gateway, &id, "probing").await;
    let next = &probing["status"]["next_probe_at"];
    shows(&gateway, &id, "the next probe", |it| it["status"]["next_probe_at"] != *next).await;
    receiver.come_back().await;
    has(&gateway, &id, "delivered", 300).await;
    let received = receiver.received();
    assert_eq!(received.len(), 300, "each arrived once");
    expect_chats_in_order(&received, 20, 15);
}

#[tokio::test]
async fn a_single_event_is_enough_to_notice_that_it_is_back() {
    let gateway = start().await;
    let mut receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    receiver.go_down();
    post(&gateway, &[("1", "only")]).await;
    is(&gateway, &id, "probing").await;
    let probed = shown(&gateway, &id).await["status"]["next_probe_at"].clone();
    shows(&gateway, &id, "the next probe", |it| it["status"]["next_probe_at"] != probed).await;
    receiver.come_back().await;
    assert_eq!(ids(&receiver.wait_for(1).await), ["only"]);
    is(&gateway, &id, "flowing").await;
}

#[tokio::test]
async fn while_it_is_probed_retries_stand_still_and_chats_take_turns() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.lanes.probe_first_s = 0.3;
        config.lanes.probe_max_s = 0.3;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::scripted(|_| Reply::status(503)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post_many(&gateway, 10, 50).await;
    is(&gateway, &id, "probing").await;
    let received = &receiver.wait_for(8).await[..8];
    // Five failures, then probes by the lane's clock, though retries are due after 50 ms.
    for pair in received[4..].windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!(pause >= Duration::from_millis(290), "{pause:?}");
    }
    let asked: HashSet<String> = ids(&received[5..]).into_iter().collect();
    assert_eq!(asked.len(), 3, "probes take turns");
}

#[tokio::test]
async fn one_probe_is_under_way_at_a_time_however_long_it_takes() {
    let gateway = start().await;
    let receiver = Receiver::scripted(|_| Reply::status(503)).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "max_in_flight": 1 })).await;
    post_many(&gateway, 10, 50).await;
    is(&gateway, &id, "probing").await;
    // Longer than the lane's clock takes from probe to probe.
    let a_while = Duration::from_millis(400);
    receiver.script(move |_| Reply::status(503).after(a_while));
    let so_far = receiver.received().len();
    let received = receiver.wait_for(so_far + 5).await;
    // The first of them may still have got the quick answer.
    assert_eq!(most_at_once(&received[so_far + 1..], a_while), 1);
}

#[tokio::test]
async fn a_poisonous_chat_does_not_hide_a_healthy_endpoint() {
    let gateway = start().await;
    let poison = |request: &Received| match client_id(request).starts_with("0-") {
        true => Reply::status(500),
        false => Reply::ok(),
    };
    let receiver = Receiver::scripted(poison).await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    // Its poisonous chat alone makes it probe.
    post_many(&gateway, 1, 6).await;
    is(&gateway, &id, "probing").await;
    post(&gateway, &[("1", "1-0000"), ("1", "1-0001"), ("2", "2-0000")]).await;
    receiver
        .wait_until("the healthy chats", |all| {
            let ids = ids(all);
            ["1-0000", "1-0001", "2-0000"].iter().all(|id| ids.iter().any(|it| it == id))
        })
        .await;
    has(&gateway, &id, "delivered", 3).await;
}

#[tokio::test]
async fn what_is_poisonous_now_does_not_hold_up_the_past() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "retry": { "max_attempts": 50 } })).await;
    post_many(&gateway, 2, 10).await;
    has(&gateway, &id, "delivered", 10).await;
    receiver.script(|request| match client_id(request).starts_with("now") {
        true => Reply::status(500),
        false => Reply::ok(),
    });
    // As many chats as probes take turns among, so that live delivery is never without a candidate.
    let now: Vec<(String, String)> =
        (0..8).map(|n| (format!("chat {n}"), format!("now-{n}"))).collect();
    let now: Vec<(&str, &str)> =
        now.iter().map(|(chat, id)| (chat.as_str(), id.as_str())).collect();
    post(&gateway, &now).await;
    is(&gateway, &id, "probing").await;
    let from = json!({ "from": "beginning" });
    expect_json(gateway.post(&format!("/v1/destinations/{id}/replay"), &from).await, 201).await;
    let again = receiver.received().len();
    receiver
        .wait_until("the past comes again", |all| {
            let replayed = all[again..].iter();
            replayed.filter(|it| it.header("zapbus-replay").is_some()).count() == 10
        })
        .await;
    has(&gateway, &id, "delivered", 20).await;
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing() {
    let gateway = start().await;
    let mut receiver = Receiver::start().await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    receiver.go_down();
    post_many(&gateway, 10, 100).await;
    let before = is(&gateway, &id, "probing").await;
    let gateway = gateway.restart().await;
    let after = shown(&gateway, &id).await;
    assert_eq!(after["status"]["health"], "probing");
    assert_eq!(after["status"]["probing_since"], before["status"]["probing_since"]);
    receiver.come_back().await;
    has(&gateway, &id, "delivered", 100).await;
    assert!(arrivals(&receiver.received()).values().all(|times| *times == 1));
}

/// Destinations that hear of others: one by `destination.*`, one by `*`.
async fn witnesses(gateway: &Gateway, receiver: &Receiver) {
    let witness = json!({ "label": "witness", "events": ["destination.*"] });
    hook(gateway, &receiver.url("/witness"), witness).await;
    hook(gateway, &receiver.url("/all"), json!({ "label": "all", "events": ["*"] })).await;
}

fn told(received: &[Received]) -> Vec<(String, String)> {
    let own = received.iter().filter(|it| text(&it.json(), "type").starts_with("destination."));
    own.map(|it| (text(&it.json(), "type"), text(&it.json()["data"], "label"))).collect()
}

#[tokio::test]
async fn who_asks_is_told_at_most_once_a_minute_and_never_of_himself() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    witnesses(&gateway, &receiver).await;
    let both = json!({ "label": "ill", "events": ["message.*", "destination.*"] });
    let mut ill = Receiver::start().await;
    let id = hook(&gateway, &ill.url("/"), both).await;
    let probing = || ("destination.probing".to_owned(), "ill".to_owned());
    let flowing = || ("destination.flowing".to_owned(), "ill".to_owned());
    ill.go_down();
    post(&gateway, &[("1", "a")]).await;
    receiver.wait_until("it is told", |all| told(all) == [probing()]).await;
    ill.come_back().await;
    is(&gateway, &id, "flowing").await;
    // Down and back once more: the minute is not over, and in the end it is as it was.
    ill.go_down();
    post(&gateway, &[("1", "b")]).await;
    is(&gateway, &id, "probing").await;
    ill.come_back().await;
    is(&gateway, &id, "flowing").await;
    has(&gateway, &id, "delivered", 2).await;
    assert_eq!(told(&receiver.received()), [probing()]);

    gateway.clock.advance(Duration::from_secs(61));
    // Something has to happen for the moved clock to be looked at.
    post(&gateway, &[("1", "c")]).await;
    let received =
        receiver.wait_until("the end is told", |all| told(all) == [probing(), flowing()]).await;
    assert!(
        received
            .iter()
            .filter(|it| it.path == "/all")
            .all(|it| { !text(&it.json(), "type").starts_with("destination.") })
    );
    assert!(told(&ill.received()).is_empty(), "never of itself");
}

#[tokio::test]
async fn after_failing_for_too_long_it_is_disabled_and_says_so() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    witnesses(&gateway, &receiver).await;
    let ill = Receiver::scripted(|_| Reply::status(503)).await;
    let id = hook(&gateway, &ill.url("/"), json!({ "label": "ill", "disable_after_s": 60 })).await;
    post(&gateway, &[("1", "a"), ("2", "b")]).await;
    is(&gateway, &id, "probing").await;
    gateway.clock.advance(Duration::from_secs(61));
    let disabled = shows(&gateway, &id, "disabled", |it| it["state"] == "disabled").await;
    assert!(text(&disabled, "reason").contains("too long"), "{disabled}");
    receiver
        .wait_until("it is told", |all| {
            told(all).last().is_some_and(|(kind, _)| kind == "destination.disabled")
        })
        .await;
    let so_far = ill.received().len();
    ill.stays_at(so_far).await;
    // Resumed too early it is given its time again.
    act(&gateway, &id, "resume", json!({})).await;
    let probed = so_far + 8;
    ill.wait_for(probed).await;
    let again = is(&gateway, &id, "probing").await;
    assert_eq!(again["state"], "active");
    // Rows and cursor stayed.
    ill.script(|_| Reply::ok());
    has(&gateway, &id, "delivered", 2).await;
}

#[tokio::test]
async fn a_pause_and_a_resumption_are_told_too() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    witnesses(&gateway, &receiver).await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "label": "stopped" })).await;
    post(&gateway, &[("1", "a")]).await;
    has(&gateway, &id, "delivered", 1).await;
    act(&gateway, &id, "pause", json!({ "reason": "maintenance" })).await;
    let stopped = |kind: &str| (format!("destination.{kind}"), "stopped".to_owned());
    let received = receiver.wait_until("the pause", |all| told(all) == [stopped("paused")]).await;
    let paused = received.iter().find(|it| it.path == "/witness").unwrap().json();
    assert_eq!(paused["data"]["reason"], "maintenance");
    act(&gateway, &id, "resume", json!({})).await;
    gateway.clock.advance(Duration::from_secs(61));
    post(&gateway, &[("1", "b")]).await;
    let all = [stopped("paused"), stopped("flowing")];
    receiver.wait_until("the resumption", |received| told(received) == all).await;
}

#[tokio::test]
async fn what_was_told_before_a_restart_is_not_forgotten() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    witnesses(&gateway, &receiver).await;
    let ill = Receiver::scripted(|_| Reply::status(503)).await;
    hook(&gateway, &ill.url("/"), json!({ "label": "ill" })).await;
    let stopped = hook(&gateway, &receiver.url("/"), json!({ "label": "stopped" })).await;
    act(&gateway, &stopped, "pause", json!({})).await;
    post(&gateway, &[("1", "a")]).await;
    receiver.wait_until("both are told", |all| told(all).len() == 2).await;
    let gateway = gateway.restart().await;
    gateway.clock.advance(Duration::from_secs(61));
    ill.script(|_| Reply::ok());
    act(&gateway, &stopped, "resume", json!({})).await;
    let received = receiver.wait_until("both go on", |all| told(all).len() == 4).await;
    let mut last = told(&received)[2..].to_vec();
    last.sort();
    let flowing = |label: &str| ("destination.flowing".to_owned(), label.to_owned());
    assert_eq!(last, [flowing("ill"), flowing("stopped")]);
}

#[tokio::test]
async fn a_global_destination_is_told_of_by_the_account() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let witness = json!({
        "label": "witness", "events": ["destination.*"],
        "channel": { "type": "webhook", "url": receiver.url("/witness") },
    });
    expect_json(gateway.post("/v1/destinations", &witness).await, 201).await;
    let gone = Receiver::scripted(|_| Reply::status(410)).await;
    let all = json!({
        "label": "all", "events": ["message.*"],
        "channel": { "type": "webhook", "url": gone.url("/") },
    });
    expect_json(gateway.post("/v1/destinations", &all).await, 201).await;
    post(&gateway, &[("1", "a")]).await;
    let received = receiver.wait_for(1).await.remove(0).json();
    assert_eq!(
        (&received["type"], &received["data"]["label"]),
        (&json!("destination.disabled"), &json!("all"))
    );
    assert_eq!(received["instance"]["name"], "_account");
}

#[tokio::test]
async fn a_mended_url_is_tried_at_once() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.lanes.probe_first_s = 3_600.0;
        config.lanes.probe_max_s = 3_600.0;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = Receiver::scripted(|request| match request.path.as_str() {
        "/wrong" => Reply::status(404),
        _ => Reply::ok(),
    })
    .await;
    let id = hook(&gateway, &receiver.url("/wrong"), json!({})).await;
    post_many(&gateway, 3, 12).await;
    is(&gateway, &id, "probing").await;
    change(&gateway, &id, json!({ "channel": { "url": receiver.url("/right") } })).await;
    has(&gateway, &id, "delivered", 12).await;
}

#[tokio::test]
async fn a_global_destination_sits_out_an_outage_of_two_instances() {
    let gateway = start().await;
    gateway.create_instance("other").await;
    let mut receiver = Receiver::start().await;
    let all = json!({
        "events": ["message.*"], "retry": { "waits_s": [0.05], "max_attempts": 30 },
        "channel": { "type": "webhook", "url": receiver.url("/") },
    });
    let made = expect_json(gateway.post("/v1/destinations", &all).await, 201).await;
    let id = text(&made, "id");
    receiver.go_down();
    for n in 0..20 {
        post(&gateway, &[("0", &format!("0-{n:04}"))]).await;
        let event = text_message("1", &format!("1-{n:04}"), "x");
        gateway.post_event("other", &event).await;
    }
    is(&gateway, &id, "probing").await;
    let gateway = gateway.restart().await;
    receiver.come_back().await;
    has(&gateway, &id, "delivered", 40).await;
    let mut instances: Vec<String> =
        receiver.received().iter().map(|it| text(&it.json()["instance"], "name")).collect();
    instances.sort();
    assert_eq!(instances.iter().filter(|it| *it == "other").count(), 20);
    let gateway = gateway.restart().await;
    receiver.stays_at(40).await;
    gateway.stop().await;
}
