//! Large files, in and out.

use std::time::Duration;

use serde_json::{Value, json};

use super::{choose, media, settled, with_url};
use crate::{
    api::text,
    binary::Served,
    bridges::picture,
    engine::skips_on_postgres,
    receiver::{Receiver, Reply},
    server::Gateway,
};

/// More than a few pieces of it in memory would show.
const FILE: usize = 100 << 20;

/// What a gateway may take for passing it on, both ways.
const MOST: u64 = 48 << 20;

#[tokio::test]
async fn every_stretch_of_a_large_file_comes_back_as_it_was() {
    let file = picture(1, (3 << 20) + 17);
    let files = Receiver::start().await;
    let body = file.clone();
    files.script(move |_| Reply::ok().header("content-type", "video/mp4").body(body.clone()));
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    choose(&gateway, "shop", json!({ "fetch": "all", "wait_for_media_s": 60 })).await;
    gateway
        .create_webhook("shop", &receiver.url("/hook"), json!({ "events": ["message.*"] }))
        .await;
    // Twice: the second time it is there.
    for (count, id) in [(1, "A"), (2, "B")] {
        let event = with_url("5511999990001", id, &files.url("/film.mp4"));
        let posted = gateway.post_event("shop", &event).await;
        assert_eq!(settled(&gateway, &text(&posted, "id")).await.bytes, file.len() as u64);
        let got = receiver.wait_for(count).await;
        let link = text(media(&got[count - 1].json()), "url");
        let whole = gateway.client.get(&link).send().await.unwrap();
        assert_eq!(whole.headers()["content-length"], file.len().to_string().as_str());
        assert!(whole.bytes().await.unwrap() == file);
        for (from, to) in
            [(0, 0), (524_287, 524_288), (1_000_000, 2_000_000), (3_145_000, 3_145_744)]
        {
            let range = format!("bytes={from}-{to}");
            let part = gateway.client.get(&link).header("range", &range).send().await.unwrap();
            assert!(part.bytes().await.unwrap() == file[from..=to], "{range}");
        }
    }
    let sizes = gateway.app.store.sizes().await.unwrap();
    assert_eq!(sizes.blobs, file.len() as u64, "it is there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_hundred_megabytes_costs_no_memory() {
    if skips_on_postgres("the process is one with a data folder") {
        return;
    }
    let files = Receiver::forgetful(|_| Reply::ok().body(vec![7; FILE])).await;
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = "an-admin-token-of-this-test";
    let served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ADMIN_TOKEN", token);
    })
    .await;
    let ask = async |method: reqwest::Method, path: &str, body: &Value| {
        let url = format!("{}{path}", served.url);
        let request = reqwest::Client::new().request(method, url).bearer_auth(token);
        let answer = request.json(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    };
    let before = peak_memory(served.pid());
    ask(reqwest::Method::POST, "/v1/instances", &json!({ "name": "shop" })).await;
    let choice = json!({ "media": { "fetch": "all", "wait_for_media_s": 300 } });
    ask(reqwest::Method::PATCH, "/v1/instances/shop", &choice).await;
    let hook = json!({
        "channel": { "type": "webhook", "url": receiver.url("/hook") }, "events": ["message.*"],
        "inline_media": true,
    });
    ask(reqwest::Method::POST, "/v1/instances/shop/destinations", &hook).await;
    let event = with_url("5511999990001", "A", &files.url("/film"));
    ask(reqwest::Method::POST, "/v1/instances/shop/events", &event).await;

    let arrived = tokio::time::timeout(Duration::from_secs(120), receiver.wait_for(1)).await;
    let got = arrived.expect("the file is fetched");
    let body = got[0].json();
    assert_eq!(media(&body)["base64"], Value::Null, "too large for a body");
    assert_eq!(media(&body)["size_bytes"], FILE);
    let mut answer = reqwest::get(text(media(&body), "url")).await.unwrap();
    assert_eq!(answer.headers()["content-length"], FILE.to_string().as_str());
    let mut length = 0;
    while let Some(piece) = answer.chunk().await.unwrap() {
        assert!(piece.iter().all(|byte| *byte == 7));
        length += piece.len();
    }
    assert_eq!(length, FILE);
    let grown = peak_memory(served.pid()) - before;
    assert!(grown < MOST, "{} MiB", grown >> 20);
}

/// The most that a process has had in memory, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib << 10
}
