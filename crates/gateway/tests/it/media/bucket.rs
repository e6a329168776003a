//! Files in a bucket, of a server that speaks S3 (moto).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::process::Child;
use zapbus_gateway::{
    config::{Config, Secret},
    upkeep,
};

use super::{choose, media, settled, with_url};
use crate::{
    api::text,
    brokers::peers::Python,
    postgres::free_port,
    receiver::{Receiver, Reply},
    server::{Gateway, eventually, expect_json, text_message},
};

/// A bucket of its own.
pub(super) struct S3 {
    endpoint: String,
    client: reqwest::Client,
    _moto: Child,
}

impl S3 {
    /// Nothing, once it is said, where there is no such server.
    pub(super) async fn start() -> Option<Self> {
        let python = Python::find().await?;
        let port = free_port();
        let moto = python.start("serve_sqs.py", &[("PORT", &port.to_string())]).await;
        let client = reqwest::Client::new();
        let this = Self { endpoint: format!("http://127.0.0.1:{port}"), client, _moto: moto };
        eventually("the bucket is made", async || {
            let made = this.client.put(format!("{}/files", this.endpoint)).send().await.ok()?;
            made.status().is_success().then_some(())
        })
        .await;
        Some(this)
    }

    pub(super) fn configure(&self, config: &mut Config) {
        let s3 = &mut config.media.s3;
        s3.endpoint = Some(self.endpoint.clone());
        s3.bucket = Some("files".to_owned());
        s3.prefix = Some("zapbus".to_owned());
        s3.access_key_id = Some("AKIAEXAMPLE".to_owned());
        s3.secret_access_key = Some(Secret::new("secret"));
    }

    /// The names in it.
    pub(super) async fn names(&self) -> Vec<String> {
        let list = self.client.get(format!("{}/files?list-type=2", self.endpoint)).send().await;
        let list = list.unwrap().text().await.unwrap();
        let keys = list.split("<Key>").skip(1);
        keys.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    }
}

/// A message with a file in it, as native ingest takes it.
fn with_file(id: &str, file: &[u8]) -> Value {
    let mut event = text_message("5511999990001", id, "");
    event["data"]["content"] = json!({
        "kind": "image",
        "media": {
            "kind": "image", "mime": "image/png", "state": "inline",
            "base64": STANDARD.encode(file),
        },
    });
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_to_the_bucket_once_and_go_with_their_events() {
    let Some(s3) = S3::start().await else { return };
    let gateway = Gateway::start(|config| s3.configure(config)).await;
    let receiver = Receiver::start().await;
    gateway.create_instance("shop").await;
    let only = json!({ "events": ["message.*"] });
    gateway.create_webhook("shop", &receiver.url("/hook"), only).await;
    let (one, other) = (vec![7; 100_000], vec![8; 100_000]);
    for (id, file) in [("A", &one), ("B", &one), ("C", &other)] {
        gateway.post_event("shop", &with_file(id, file)).await;
    }
    let names = s3.names().await;
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("zapbus/")), "{names:?}");
    let got = receiver.wait_for(3).await;
    for (received, file) in got.iter().zip([&one, &one, &other]) {
        let link = text(media(&received.json()), "url");
        let whole = gateway.client.get(&link).send().await.unwrap();
        assert_eq!(whole.headers()["content-length"], "100000");
        assert!(whole.bytes().await.unwrap() == file[..]);
        let part = gateway.client.get(&link).header("range", "bytes=99990-").send().await.unwrap();
        assert_eq!(part.status(), 206);
        assert_eq!(part.bytes().await.unwrap(), file[99_990..]);
    }
    // Byte for byte, and after a restart.
    let gateway = gateway.restart().await;
    let page = gateway.read("/v1/instances/shop/events?types=message.*").await;
    assert!(media(&page["data"][0])["base64"] == STANDARD.encode(&one));
    let health = gateway.read("/v1/health").await;
    assert!(text(&health["media"], "bucket").starts_with("s3://files/zapbus/"), "{health}");

    let erase = json!({ "type": "instance", "instance": "shop" });
    let erased = gateway.post("/v1/erasures", &erase).await;
    assert!(erased.status().is_success(), "{}", erased.text().await.unwrap());
    gateway.clock.advance(Duration::from_secs(2 * 3_600));
    upkeep::tidy(&gateway.app).await.unwrap();
    assert_eq!(s3.names().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_goes_there_too() {
    let Some(s3) = S3::start().await else { return };
    let files = Receiver::scripted(|_| Reply::ok().body(vec![9; 20 << 20])).await;
    let gateway = Gateway::start(|config| s3.configure(config)).await;
    gateway.create_instance("shop").await;
    choose(&gateway, "shop", json!({ "fetch": "all" })).await;
    let posted =
        gateway.post_event("shop", &with_url("5511999990001", "A", &files.url("/a"))).await;
    let fetched = settled(&gateway, &text(&posted, "id")).await;
    assert_eq!(fetched.bytes, 20 << 20);
    assert_eq!(s3.names().await.len(), 1);
    let id = text(&posted, "id").parse().unwrap();
    let file = gateway.app.store.fetched_file(id).await.unwrap().unwrap();
    assert!(file.whole().await.unwrap() == vec![9; 20 << 20]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bucket_is_away_nothing_is_acknowledged() {
    let Some(mut s3) = S3::start().await else { return };
    let gateway = Gateway::start(|config| s3.configure(config)).await;
    gateway.create_instance("shop").await;
    gateway.post_event("shop", &with_file("A", &[7; 100_000])).await;
    s3._moto.kill().await.unwrap();
    // What has no file goes on; and what is known to be there needs no bucket.
    gateway.post_event("shop", &text_message("5511999990001", "B", "x")).await;
    gateway.post_event("shop", &with_file("C", &[7; 100_000])).await;
    let refused = gateway.post("/v1/instances/shop/events", &with_file("D", &[8; 100_000])).await;
    expect_json(refused, 503).await;
}
