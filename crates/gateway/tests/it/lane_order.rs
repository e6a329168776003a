//! Who waits for whom: `key`, `strict`, `none`; and what stands outside of every order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    lane::{
        act, change, client_id, expect_chats_in_order, first_arrivals, has, hook, ids, impatient,
        most_at_once, post, post_many, redeliver, start,
    },
    receiver::{Received, Receiver, Reply},
    server::{Gateway, expect_json},
};

const NEVER: f64 = 86_400.0;

/// A receiver that refuses these messages for now.
async fn refusing(bad: &'static [&'static str]) -> Receiver {
    Receiver::scripted(move |request| match bad.contains(&client_id(request).as_str()) {
        true => Reply::status(400),
        false => Reply::ok(),
    })
    .await
}

/// `strict`, with a retry that comes only when somebody asks for it.
async fn strict(gateway: &Gateway, receiver: &Receiver) -> String {
    let more = json!({ "ordering": "strict", "retry": { "waits_s": [NEVER] } });
    hook(gateway, &receiver.url("/"), more).await
}

fn of_chat(received: &[Received], chat: &str) -> Vec<String> {
    ids(received).into_iter().filter(|id| id.starts_with(chat)).collect()
}

async fn delivery_of(gateway: &Gateway, id: &str, status: &str, client: &str) -> Value {
    for found in has(gateway, id, status, 1).await {
        let event = found["event_id"].as_str().unwrap();
        let event = gateway.read(&format!("/v1/events/{event}")).await;
        if event["client_id"] == client {
            return found;
        }
    }
    panic!("{client} is not {status}");
}

#[tokio::test]
async fn key_sends_first_attempts_of_a_chat_one_after_another() {
    let gateway = start().await;
    let a_while = Duration::from_millis(50);
    let receiver = Receiver::scripted(move |_| Reply::ok().after(a_while)).await;
    hook(&gateway, &receiver.url("/"), json!({})).await;
    post_many(&gateway, 5, 100).await;
    let received = receiver.wait_for(100).await;
    expect_chats_in_order(&received, 5, 20);
    for chat in 0..5 {
        let own: Vec<Received> = received
            .iter()
            .filter(|it| client_id(it).starts_with(&format!("{chat}-")))
            .cloned()
            .collect();
        assert_eq!(most_at_once(&own, a_while), 1);
    }
    assert!(most_at_once(&received, a_while) > 1, "different chats go side by side");
    receiver.stays_at(100).await;
}

#[tokio::test]
async fn key_lets_a_chat_go_on_while_one_of_it_is_retried() {
    let gateway = start().await;
    let receiver = refusing(&["a1"]).await;
    let slow = json!({ "retry": { "waits_s": [NEVER] } });
    let id = hook(&gateway, &receiver.url("/"), slow).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(ids(&received), ["a1", "a2", "a3"]);
    has(&gateway, &id, "retrying", 1).await;
    has(&gateway, &id, "delivered", 2).await;
}

#[tokio::test]
async fn none_sends_a_chat_side_by_side() {
    let gateway = start().await;
    let a_while = Duration::from_millis(500);
    let receiver = Receiver::scripted(move |_| Reply::ok().after(a_while)).await;
    hook(&gateway, &receiver.url("/"), json!({ "ordering": "none" })).await;
    post_many(&gateway, 1, 20).await;
    let received = receiver.wait_for(20).await;
    assert!(most_at_once(&received, a_while) > 1);
}

#[tokio::test]
async fn strict_holds_a_chat_until_its_event_is_settled() {
    let gateway = start().await;
    let receiver = refusing(&["a1"]).await;
    let id = strict(&gateway, &receiver).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")]).await;
    receiver.wait_for(3).await;
    has(&gateway, &id, "waiting", 2).await;
    // What comes later waits too.
    post(&gateway, &[("a", "a4"), ("b", "b3")]).await;
    has(&gateway, &id, "waiting", 3).await;
    has(&gateway, &id, "delivered", 3).await;
    receiver.stays_at(4).await;

    receiver.script(|_| Reply::ok());
    redeliver(&gateway, &delivery_of(&gateway, &id, "retrying", "a1").await).await;
    has(&gateway, &id, "delivered", 7).await;
    let received = receiver.received();
    assert_eq!(of_chat(&received, "a"), ["a1", "a1", "a2", "a3", "a4"]);
    assert_eq!(of_chat(&received, "b"), ["b1", "b2", "b3"]);
    post(&gateway, &[("a", "a5")]).await;
    receiver.wait_for(9).await;
}

#[tokio::test]
async fn strict_keeps_the_order_through_many_retries() {
    let gateway = start().await;
    // Every message fails once or twice; no five in a row do.
    let receiver = Receiver::scripted(|request| match request.index % 3 {
        0 => Reply::status(400),
        _ => Reply::ok(),
    })
    .await;
    let id = hook(&gateway, &receiver.url("/"), json!({ "ordering": "strict" })).await;
    post_many(&gateway, 4, 80).await;
    has(&gateway, &id, "delivered", 80).await;
    let received = receiver.received();
    for chat in ["0", "1", "2", "3"] {
        let mut order = of_chat(&received, &format!("{chat}-"));
        order.dedup();
        // Never a later one before an earlier one was through.
        assert_eq!(order, first_arrivals(&received, chat));
    }
    expect_chats_in_order(&received, 4, 20);
}

#[tokio::test]
async fn death_frees_the_chat() {
    let gateway = start().await;
    let receiver = refusing(&["a1"]).await;
    let more = json!({ "ordering": "strict", "retry": { "max_attempts": 2 } });
    let id = hook(&gateway, &receiver.url("/"), more).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    let received = receiver.wait_for(4).await;
    assert_eq!(ids(&received), ["a1", "a1", "a2", "a3"]);
    has(&gateway, &id, "dead", 1).await;
    has(&gateway, &id, "delivered", 2).await;
}

#[tokio::test]
async fn a_last_attempt_kept_in_hand_holds_its_chat_and_then_frees_it() {
    let gateway = start().await;
    let receiver = refusing(&["a1", "b1", "c1"]).await;
    let more = json!({ "ordering": "strict", "max_in_flight": 1, "retry": { "max_attempts": 1 } });
    let id = hook(&gateway, &receiver.url("/"), more).await;
    let all = [("a", "a1"), ("b", "b1"), ("c", "c1"), ("b", "b2"), ("c", "c2")];
    // One of them dies; the others must not while nobody has succeeded.
    post(&gateway, &all).await;
    has(&gateway, &id, "dead", 1).await;
    is_probing(&gateway, &id).await;
    receiver.script(|_| Reply::ok());
    has(&gateway, &id, "delivered", 4).await;
    let received = receiver.received();
    for chat in ["b", "c"] {
        let mut order = of_chat(&received, chat);
        order.dedup();
        assert_eq!(order, [format!("{chat}1"), format!("{chat}2")]);
    }
    has(&gateway, &id, "dead", 1).await;
}

async fn is_probing(gateway: &Gateway, id: &str) {
    crate::lane::is(gateway, id, "probing").await;
}

#[tokio::test]
async fn strict_survives_a_restart_with_waiting_rows() {
    let gateway = start().await;
    let receiver = refusing(&["a1"]).await;
    let id = strict(&gateway, &receiver).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("b", "b1")]).await;
    has(&gateway, &id, "waiting", 1).await;
    has(&gateway, &id, "delivered", 1).await;
    let gateway = gateway.restart().await;
    post(&gateway, &[("a", "a3"), ("b", "b2")]).await;
    has(&gateway, &id, "waiting", 2).await;
    has(&gateway, &id, "delivered", 2).await;
    receiver.stays_at(3).await;
    receiver.script(|_| Reply::ok());
    gateway.clock.advance(Duration::from_secs(2 * 86_400));
    // The clock was moved behind the back of the timers.
    let gateway = gateway.restart().await;
    has(&gateway, &id, "delivered", 5).await;
    assert_eq!(of_chat(&receiver.received(), "a"), ["a1", "a1", "a2", "a3"]);
}

#[tokio::test]
async fn what_waited_goes_first_when_strict_is_given_up() {
    let gateway = start().await;
    let receiver = refusing(&["a1"]).await;
    let id = strict(&gateway, &receiver).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    has(&gateway, &id, "waiting", 2).await;
    act(&gateway, &id, "pause", json!({})).await;
    post(&gateway, &[("a", "a4"), ("a", "a5")]).await;
    change(&gateway, &id, json!({ "ordering": "key" })).await;
    receiver.stays_at(1).await;
    act(&gateway, &id, "resume", json!({})).await;
    let received = receiver.wait_for(5).await;
    assert_eq!(ids(&received), ["a1", "a2", "a3", "a4", "a5"]);
    has(&gateway, &id, "retrying", 1).await;
    has(&gateway, &id, "waiting", 0).await;
    has(&gateway, &id, "delivered", 4).await;
}

#[tokio::test]
async fn strict_can_be_taken_up_while_something_is_retried() {
    let gateway = start().await;
    let receiver = refusing(&["a1"]).await;
    let slow = json!({ "retry": { "waits_s": [NEVER] } });
    let id = hook(&gateway, &receiver.url("/"), slow).await;
    post(&gateway, &[("a", "a1"), ("a", "a2")]).await;
    has(&gateway, &id, "delivered", 1).await;
    has(&gateway, &id, "retrying", 1).await;
    change(&gateway, &id, json!({ "ordering": "strict" })).await;
    post(&gateway, &[("a", "a3"), ("b", "b1")]).await;
    has(&gateway, &id, "waiting", 1).await;
    receiver.wait_for(3).await;
    receiver.stays_at(3).await;
    receiver.script(|_| Reply::ok());
    redeliver(&gateway, &delivery_of(&gateway, &id, "retrying", "a1").await).await;
    has(&gateway, &id, "delivered", 4).await;
    assert_eq!(of_chat(&receiver.received(), "a"), ["a1", "a2", "a1", "a3"]);
}

#[tokio::test]
async fn what_is_sent_again_by_hand_is_outside_the_order() {
    let gateway = start().await;
    let receiver = refusing(&["a2"]).await;
    let id = strict(&gateway, &receiver).await;
    post(&gateway, &[("a", "a1")]).await;
    let delivered = delivery_of(&gateway, &id, "delivered", "a1").await;
    post(&gateway, &[("a", "a2"), ("a", "a3"), ("a", "a4")]).await;
    has(&gateway, &id, "waiting", 2).await;
    // Its chat is held, and it comes nevertheless; the chat stays held.
    redeliver(&gateway, &delivered).await;
    let received = receiver.wait_for(3).await;
    assert_eq!(ids(&received), ["a1", "a2", "a1"]);
    has(&gateway, &id, "waiting", 2).await;
    // One that waits can be taken out of the order by hand.
    let waiting = has(&gateway, &id, "waiting", 2).await;
    let last = waiting.iter().max_by_key(|it| it["seq"].as_u64()).unwrap();
    redeliver(&gateway, last).await;
    let received = receiver.wait_for(4).await;
    assert_eq!(client_id(&received[3]), "a4");
    receiver.stays_at(4).await;
    receiver.script(|_| Reply::ok());
    redeliver(&gateway, &delivery_of(&gateway, &id, "retrying", "a2").await).await;
    has(&gateway, &id, "delivered", 4).await;
    assert_eq!(ids(&receiver.received())[4..], ["a2", "a3"]);
}

#[tokio::test]
async fn a_chat_is_not_held_by_what_was_erased() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        // It stays awake and must find out by itself.
        config.lanes.linger_s = 3_600.0;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver = refusing(&["a1"]).await;
    let more = json!({ "ordering": "strict", "retry": { "waits_s": [2] } });
    let id = hook(&gateway, &receiver.url("/"), more).await;
    post(&gateway, &[("a", "a1"), ("a", "a2")]).await;
    has(&gateway, &id, "waiting", 1).await;
    let erase = json!({ "type": "chat", "instance": "shop", "chat": "a@s.whatsapp.net" });
    expect_json(gateway.post("/v1/erasures", &erase).await, 200).await;
    post(&gateway, &[("a", "a3")]).await;
    let received =
        receiver.wait_until("the chat goes on", |all| ids(all).contains(&"a3".to_owned())).await;
    assert!(!ids(&received).contains(&"a2".to_owned()), "{received:?}");
}

#[tokio::test]
async fn sent_again_while_it_is_under_way_is_sent_once() {
    let gateway = start().await;
    let receiver = Receiver::replying([
        Reply::status(400),
        Reply::ok().after(Duration::from_secs(4)),
        Reply::ok(),
    ])
    .await;
    let id = hook(&gateway, &receiver.url("/"), json!({})).await;
    post(&gateway, &[("a", "a1")]).await;
    let retrying = delivery_of(&gateway, &id, "retrying", "a1").await;
    receiver.wait_for(2).await;
    redeliver(&gateway, &retrying).await;
    has(&gateway, &id, "delivered", 1).await;
    receiver.stays_at(2).await;
}

#[tokio::test]
async fn a_chat_whose_blocking_event_died_in_an_outage_goes_on_after_it() {
    let gateway = start().await;
    let receiver = Receiver::replying([Reply::status(500)]).await;
    // The fifth failure ends the event and begins the probing: what is left only waits.
    let retry = json!({ "waits_s": [0.02], "max_attempts": 5 });
    let more = json!({ "ordering": "strict", "retry": retry });
    let id = hook(&gateway, &receiver.url("/"), more).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    has(&gateway, &id, "dead", 1).await;
    receiver.script(|_| Reply::ok());
    has(&gateway, &id, "delivered", 2).await;
    let arrived = of_chat(&receiver.received(), "a");
    assert_eq!(arrived[arrived.len() - 2..], ["a2", "a3"]);
}

#[tokio::test]
async fn what_waits_for_nothing_any_more_is_sent_after_a_restart() {
    let gateway = Gateway::start(|config| {
        impatient(config);
        config.shutdown.deadline_s = 1;
    })
    .await;
    gateway.create_instance("shop").await;
    let receiver =
        Receiver::scripted(|request| match (client_id(request).as_str(), request.index) {
            ("a1", 0) => Reply::status(400),
            ("a2", _) => Reply::hang(),
            _ => Reply::ok(),
        })
        .await;
    let more = json!({ "ordering": "strict" });
    let id = hook(&gateway, &receiver.url("/"), more).await;
    post(&gateway, &[("a", "a1"), ("a", "a2"), ("a", "a3")]).await;
    has(&gateway, &id, "delivered", 1).await;
    has(&gateway, &id, "waiting", 2).await;
    // a2 hangs; nothing of the chat is being retried when the gateway stops.
    receiver.wait_until("a2 is under way", |all| all.iter().any(|it| client_id(it) == "a2")).await;
    let gateway = gateway.restart().await;
    receiver.script(|_| Reply::ok());
    has(&gateway, &id, "delivered", 3).await;
    let arrived = of_chat(&receiver.received(), "a");
    assert_eq!(arrived[arrived.len() - 2..], ["a2", "a3"]);
}
