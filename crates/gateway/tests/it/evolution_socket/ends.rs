//! Namespaces that end beside others, and connections that nobody has shown a key for.

use reqwest::Method;

use super::{
    say, start, text_of,
    wire::{Polls, Raw, event},
};
use crate::{
    metrics::scrape,
    server::{Gateway, eventually},
};

/// Namespaces that are joined at the moment.
async fn joined(gateway: &Gateway) -> f64 {
    let series = "zapbus_realtime_connections{protocol=\"socketio\"}";
    scrape(gateway).await.get(series).unwrap_or_default()
}

#[tokio::test]
async fn a_namespace_that_ends_while_something_is_on_its_way_leaves_the_others() {
    let (gateway, _) = start(|config| config.realtime.ping_every_s = 0.2).await;
    gateway.create_instance("other").await;
    let (polls, _) = Polls::open(&gateway).await;
    polls.post("40/shop,\x1e40/other,").await;
    eventually("both are joined", async || (joined(&gateway).await >= 2.0).then_some(())).await;
    say(&gateway, "shop", "one").await;
    // Answered, and not yet asked for more: the message is on its way from here on.
    loop {
        if polls.poll().await.iter().any(|packet| packet.contains("messages.upsert")) {
            break;
        }
    }
    let deleted = gateway.request(Method::DELETE, "/v1/instances/shop").send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    eventually("the namespace has ended", async || (joined(&gateway).await < 2.0).then_some(()))
        .await;
    say(&gateway, "other", "still there").await;
    let mut packets: Vec<String> = Vec::new();
    loop {
        packets.extend(polls.poll().await);
        let told = packets.iter().find(|packet| packet.starts_with("42/other,"));
        if let (Some(told), true) = (told, packets.iter().any(|it| it == "41/shop,")) {
            assert_eq!(text_of(&event(told, "/other")[1]), "still there");
            break;
        }
        polls.post("3").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn whoever_has_shown_no_key_takes_no_place_of_those_who_have() {
    let (gateway, token) = start(|config| config.realtime.max_connections = 2).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        let mut stranger = Raw::open(&gateway, "").await;
        assert!(stranger.text().await.starts_with('0'));
        strangers.push(stranger);
    }
    let mut known = Raw::with_key(&gateway).await;
    known.join("/shop").await;
    let _waits = Raw::with_key(&gateway).await;
    // A key that is shown later counts from then on, and there is no place left.
    let auth = format!(r#"40/shop,{{"apikey":"{token}"}}"#);
    strangers[0].say(&auth).await;
    let refused = strangers[0].text().await;
    assert!(refused.starts_with(r#"44/shop,{"message":""#), "{refused}");
    known.say("1").await;
    assert!(known.next().await.is_err());
    loop {
        strangers[1].say(&auth).await;
        let answer = strangers[1].text().await;
        if answer.starts_with("40/shop,") {
            break;
        }
        assert!(answer.starts_with("44/shop,"), "{answer}");
    }
    gateway.stop().await;
}
