//! Live connections to several gateways on one database. Only where the gateways of this run are on
//! PostgreSQL.

use serde_json::json;

use crate::{
    api::text,
    engine::is_postgres,
    server::{Gateway, eventually, expect_json},
    socket::Socket,
    stream::{say, say_many},
};

const NAMED: &str = "/v1/instances/shop/stream?types=message.*&subscriber=crm&ack=explicit";

/// Leaves the test where gateways are not on PostgreSQL.
macro_rules! needs_postgres {
    () => {
        if !is_postgres() {
            crate::postgres::say("skipped: ZAPBUS_TEST_ENGINE is not postgres");
            return;
        }
    };
}

async fn open(gateway: &Gateway, path: &str) -> Socket {
    let mut socket = Socket::open(gateway, path).await;
    assert_eq!(socket.document().await["type"], "stream.opened");
    socket
}

async fn unacked(gateway: &Gateway, count: u64) {
    eventually("the acks are heard", async || {
        let list = gateway.read("/v1/subscribers?instance=shop").await;
        (list["data"][0]["unacked"] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn any_node_serves_any_instance_and_any_subscriber() {
    needs_postgres!();
    let first = Gateway::start(|_| {}).await;
    let second = first.start_node(|_| {}).await;
    for name in ["shop", "help", "bar", "pub"] {
        first.create_instance(name).await;
    }
    let mut all = open(&second, "/v1/stream?types=message.*").await;
    let mut expected = Vec::new();
    for name in ["shop", "help", "bar", "pub"] {
        expected.push(say(&first, name, "m").await);
    }
    let mut found = all.events(4).await;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    // What was left on one node comes again on another.
    let mut socket = open(&first, NAMED).await;
    let ids = say_many(&second, "shop", 3).await;
    assert_eq!(socket.events(3).await, ids);
    socket.ack(&ids[1]).await;
    unacked(&first, 2).await;
    socket.close().await;
    eventually("it has left", async || {
        let metrics = first.get("/metrics").await.text().await.ok()?;
        metrics.contains("zapbus_realtime_connections{protocol=\"websocket\"} 0").then_some(())
    })
    .await;
    first.read("/v1/subscribers").await;
    let mut socket = open(&second, NAMED).await;
    assert_eq!(socket.events(2).await, [ids[0].clone(), ids[2].clone()]);
    let next = say(&first, "shop", "next").await;
    assert_eq!(socket.events(1).await, [next]);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn one_ack_settles_it_on_all_nodes() {
    needs_postgres!();
    let first = Gateway::start(|_| {}).await;
    let second = first.start_node(|_| {}).await;
    first.create_instance("shop").await;
    let path = format!("{NAMED}&max_unacked=2");
    let (mut one, mut other) = (open(&first, &path).await, open(&second, &path).await);
    let ids = say_many(&first, "shop", 4).await;
    assert_eq!(one.events(2).await, ids[..2]);
    assert_eq!(other.events(2).await, ids[..2]);
    one.ack(&ids[0]).await;
    one.ack(&ids[1]).await;
    assert_eq!(one.events(2).await, ids[2..]);
    // Its window was full, and has room as soon as it hears of it.
    assert_eq!(other.events(2).await, ids[2..]);
    other.ack(&ids[2]).await;
    one.ack(&ids[3]).await;
    unacked(&second, 0).await;
    drop((one, other));
    let mut again = open(&first, &path).await;
    again.stays_quiet().await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn what_is_sent_again_comes_on_whichever_node_the_subscriber_is() {
    needs_postgres!();
    let first = Gateway::start(|config| config.realtime.max_deliveries = 1).await;
    let second = first.start_node(|_| {}).await;
    first.create_instance("shop").await;
    let mut socket = open(&second, &format!("{NAMED}&ack_wait=1")).await;
    let ids = say_many(&first, "shop", 1).await;
    assert_eq!(socket.events(1).await, ids);
    let found = eventually("it is dead", async || {
        let list = second.read("/v1/subscribers").await;
        let found = list["data"][0].clone();
        (found["dead"].as_array()?.len() == 1).then_some(found)
    })
    .await;
    socket.close().await;
    let mut socket = open(&second, NAMED).await;
    let path = format!("/v1/subscribers/{}/retry", text(&found, "id"));
    let answer = expect_json(first.post(&path, &json!({})).await, 200).await;
    assert_eq!(answer["retried"], 1);
    assert_eq!(socket.events(1).await, ids);
    socket.ack(&ids[0]).await;
    unacked(&first, 0).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_ticket_is_good_on_any_node_and_once() {
    needs_postgres!();
    let first = Gateway::start(|_| {}).await;
    let second = first.start_node(|_| {}).await;
    first.create_instance("shop").await;
    let made = first.post("/v1/tickets", &json!({ "instance": "shop" })).await;
    let ticket = text(&expect_json(made, 201).await, "ticket");
    let path = format!("/v1/instances/shop/stream?ticket={ticket}");
    assert!(Socket::connect(&second.url, &path, &[]).await.is_ok());
    assert_eq!(Socket::connect(&first.url, &path, &[]).await.err().unwrap().0, 401);
    second.stop().await;
    first.stop().await;
}
