//! Requests at the same time, and clients that do not wait for their answer.

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{Client, HOOK, done, refused, start, start_with};
use crate::server::{Receiver, eventually, text_message};

const SET: &str = "/api/events/webhook/shop";

#[tokio::test]
async fn nothing_is_missed_when_two_switch_a_webhook_on_at_once() {
    const ROUNDS: usize = 8;
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    let receiver = Receiver::start().await;
    let on = json!({ "url": receiver.url("/") });
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        client.set(SET, &json!({ "enabled": false })).await;
        // Whatever is accepted after an answer that says `enabled` is sent.
        let both = ["a", "b", "c"].map(|who| {
            let (gateway, client, on) = (&gateway, &client, &on);
            async move {
                let set = client.set(SET, on).await;
                assert_eq!(set["webhook"]["enabled"], true);
                let id = format!("{round}{who}");
                gateway.post_event("shop", &text_message("5511999990001", &id, "Olá")).await;
                id
            }
        });
        said.extend(futures_util::future::join_all(both).await);
        // What waits when it is switched off is called off.
        receiver.wait_for(said.len()).await;
    }
    let got = receiver.wait_for(said.len()).await;
    let mut got: Vec<_> =
        got.iter().map(|it| it.json()["data"]["id"].as_str().unwrap().to_owned()).collect();
    got.sort_unstable();
    said.sort_unstable();
    assert_eq!(got, said);
    gateway.stop().await;
}

#[tokio::test]
async fn the_last_place_for_an_instance_goes_to_one_of_several() {
    let gateway = start_with(|config| config.ryze.max_instances = 3).await;
    let client = Client::of(&gateway).await;
    client.instance("first", json!({})).await;
    let asked = (0..8).map(|n| {
        let client = &client;
        async move { client.post("/api/instance/new", &json!({ "name": format!("n{n}") })).await }
    });
    let mut made = 0;
    for answer in futures_util::future::join_all(asked).await {
        if answer.status() == 201 {
            done(answer, 201).await;
            made += 1;
        } else {
            assert_eq!(refused(answer, 403).await, "Account instance quota exceeded");
        }
    }
    assert_eq!(made, 2);
    // A name that is taken is said also when there is no place.
    let taken = client.post("/api/instance/new", &json!({ "name": "first" })).await;
    assert_eq!(refused(taken, 409).await, "Instance already exists");
    client.delete("/api/instance/delete/first").await;
    client.instance("later", json!({})).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_instance_is_whole_also_when_the_client_has_gone() {
    const CLIENTS: usize = 12;
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let address = gateway.url.trim_start_matches("http://");
    for n in 0..CLIENTS {
        let body = json!({ "name": format!("n{n}"), "webhookURL": HOOK }).to_string();
        let request = format!(
            "POST /api/instance/new HTTP/1.1\r\nhost: {address}\r\ntoken: {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            client.token,
            body.len()
        );
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // Some leave at once, some a little later.
        for _ in 0..n * 20 {
            tokio::task::yield_now().await;
        }
    }
    client.instance("last", json!({ "webhookURL": HOOK })).await;
    eventually("each instance has its webhook", async || {
        let listed = client.read("/api/instance/list").await;
        let instances = listed["instances"].as_array().unwrap().clone();
        let is_whole = |it: &Value| it["webhook"]["enabled"] == true;
        instances.iter().all(is_whole).then_some(())
    })
    .await;
    gateway.stop().await;
}
