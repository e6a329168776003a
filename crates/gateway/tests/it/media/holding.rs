//! Events that are held for their file.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::watch;

use super::{choose, media, with_url};
use crate::{
    api::text,
    receiver::{Receiver, Reply},
    server::{Gateway, eventually, text_message},
};

/// Hands out files once it is told to.
async fn slow_files() -> (Receiver, watch::Sender<bool>) {
    let (open, is_open) = watch::channel(false);
    let is_open = Arc::new(is_open);
    let files = Receiver::scripted(move |_| match *is_open.borrow() {
        true => Reply::ok().body("png"),
        false => Reply::status(503),
    })
    .await;
    (files, open)
}

#[tokio::test]
async fn an_event_and_its_chat_wait_for_the_file_and_nobody_else_does() {
    let (files, open) = slow_files().await;
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    choose(&gateway, "shop", json!({ "fetch": "all", "wait_for_media_s": 300 })).await;
    gateway
        .create_webhook("shop", &receiver.url("/hook"), json!({ "events": ["message.*"] }))
        .await;
    let held = with_url("5511999990001", "A", &files.url("/a"));
    let held = gateway.post_event("shop", &held).await;
    let behind = text_message("5511999990001", "B", "behind it");
    let behind = gateway.post_event("shop", &behind).await;
    let other = gateway.post_event("shop", &text_message("5511999990002", "C", "x")).await;
    let got = receiver.wait_for(1).await;
    assert_eq!(got[0].id(), text(&other, "id"));
    eventually("it was tried", async || (!files.received().is_empty()).then_some(())).await;
    receiver.stays_at(1).await;
    open.send_replace(true);
    gateway.clock.advance(Duration::from_secs(60));
    let got = receiver.wait_for(3).await;
    assert_eq!(got[1].id(), text(&held, "id"));
    assert!(text(media(&got[1].json()), "url").contains("/media/"));
    assert_eq!(got[2].id(), text(&behind, "id"));
}

#[tokio::test]
async fn it_is_not_held_for_longer_than_that() {
    let (files, _open) = slow_files().await;
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    choose(&gateway, "shop", json!({ "fetch": "all", "wait_for_media_s": 300 })).await;
    let more = json!({ "events": ["message.*"], "wait_for_media_s": 100 });
    gateway.create_webhook("shop", &receiver.url("/hook"), more).await;
    let more = json!({ "label": "hasty", "events": ["message.*"], "wait_for_media_s": 0 });
    let hasty = Receiver::start().await;
    gateway.create_webhook("shop", &hasty.url("/hook"), more).await;
    let url = files.url("/a");
    gateway.post_event("shop", &with_url("5511999990001", "A", &url)).await;
    let got = hasty.wait_for(1).await;
    assert_eq!(media(&got[0].json())["url"], url.as_str());
    eventually("it was tried", async || (!files.received().is_empty()).then_some(())).await;
    receiver.stays_at(0).await;
    gateway.clock.advance(Duration::from_secs(101));
    let got = receiver.wait_for(1).await;
    assert_eq!(media(&got[0].json())["url"], url.as_str(), "where it may be had after all");
}

#[tokio::test]
async fn a_lane_that_is_paused_holds_nothing_back_for_good() {
    let (files, open) = slow_files().await;
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    choose(&gateway, "shop", json!({ "fetch": "all", "wait_for_media_s": 300 })).await;
    let only = json!({ "events": ["message.*"] });
    let made = gateway.create_webhook("shop", &receiver.url("/hook"), only).await;
    let posted =
        gateway.post_event("shop", &with_url("5511999990001", "A", &files.url("/a"))).await;
    eventually("it was tried", async || (!files.received().is_empty()).then_some(())).await;
    let path = format!("/v1/destinations/{}", text(&made, "id"));
    for verb in ["pause", "resume"] {
        let answer = gateway.post(&format!("{path}/{verb}"), &json!({})).await;
        assert!(answer.status().is_success(), "{verb}");
    }
    let gateway = gateway.restart().await;
    open.send_replace(true);
    gateway.clock.advance(Duration::from_secs(60));
    let got = receiver.wait_for(1).await;
    assert_eq!(got[0].id(), text(&posted, "id"));
    assert!(text(media(&got[0].json()), "url").contains("/media/"));
}
