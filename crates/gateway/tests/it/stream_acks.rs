//! Acknowledgements, named subscribers, what comes again, what is given up.

use serde_json::{Value, json};

use crate::{
    api::text,
    server::{Gateway, eventually, expect_json},
    socket::{Frame, Socket},
    stream::{say, say_many},
};

const NAMED: &str = "/v1/instances/shop/stream?types=message.*&subscriber=crm&ack=explicit";

async fn open(gateway: &Gateway, path: &str) -> Socket {
    let mut socket = Socket::open(gateway, path).await;
    assert_eq!(socket.document().await["type"], "stream.opened");
    socket
}

/// The one subscriber there is.
async fn subscriber(gateway: &Gateway) -> Value {
    let list = gateway.read("/v1/subscribers?instance=shop").await;
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    gateway.read(&format!("/v1/subscribers/{}", text(&list["data"][0], "id"))).await
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_at_the_next_connection() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut socket = open(&gateway, NAMED).await;
    let ids = say_many(&gateway, "shop", 5).await;
    assert_eq!(socket.events(5).await, ids);
    // In any order, twice, of nothing: no harm.
    for id in [&ids[3], &ids[0], &ids[3], &"evt_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned()] {
        socket.ack(id).await;
    }
    eventually("two acks are heard", async || {
        (subscriber(&gateway).await["unacked"] == 3).then_some(())
    })
    .await;
    socket.cut();
    let late = say(&gateway, "shop", "late").await;
    let mut socket = open(&gateway, NAMED).await;
    let expected = [&ids[1], &ids[2], &ids[4], &late].map(Clone::clone);
    assert_eq!(socket.events(4).await, expected);
    socket.say(&json!({ "type": "ack", "ids": expected })).await;
    eventually("all is acknowledged", async || {
        (subscriber(&gateway).await["unacked"] == 0).then_some(())
    })
    .await;
    socket.close().await;
    // Also after a restart.
    let gateway = gateway.restart().await;
    let mut socket = open(&gateway, NAMED).await;
    socket.stays_quiet().await;
    let next = say(&gateway, "shop", "next").await;
    assert_eq!(socket.events(1).await, [next]);
}

#[tokio::test]
async fn a_name_goes_on_where_it_stood_without_acks_too() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let path = "/v1/instances/shop/stream?types=message.*&subscriber=crm";
    let mut socket = open(&gateway, path).await;
    let ids = say_many(&gateway, "shop", 3).await;
    assert_eq!(socket.events(3).await, ids);
    socket.close().await;
    let away = say_many(&gateway, "shop", 4).await;
    let mut socket = open(&gateway, path).await;
    assert_eq!(socket.events(4).await, away);
    // Another filter is another subscriber, and so is another token.
    let mut other = open(&gateway, &path.replace("message.*", "*")).await;
    other.stays_quiet().await;
    let list = gateway.read("/v1/subscribers").await;
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let all: Vec<&Value> = list["data"].as_array().unwrap().iter().collect();
    assert!(all.iter().all(|it| it["name"] == "crm" && it["owner"] == "admin"), "{list}");
}

#[tokio::test]
async fn a_full_window_waits_and_what_waits_too_long_comes_again() {
    let gateway = Gateway::start(|config| {
        config.realtime.max_deliveries = 2;
    })
    .await;
    gateway.create_instance("shop").await;
    let mut socket = open(&gateway, &format!("{NAMED}&max_unacked=2&ack_wait=1")).await;
    let ids = say_many(&gateway, "shop", 3).await;
    assert_eq!(socket.events(2).await, ids[..2]);
    socket.ack(&ids[1]).await;
    // There is room for the third. The first waits for a second, comes again, and is dead after
    // another, however busy the machine is.
    let (mut first, mut third) = (1, 0);
    let dead = loop {
        let document = socket.document().await;
        match document["id"].as_str() {
            Some(id) if document["type"] == "message.received" && id == ids[2] => {
                third += 1;
                socket.ack(id).await;
            }
            Some(id) if document["type"] == "message.received" && id == ids[0] => first += 1,
            _ => break document,
        }
    };
    assert_eq!(dead, json!({ "type": "stream.dead", "id": ids[0], "deliveries": 2 }));
    assert_eq!((first, third), (2, 1));
    let shown = subscriber(&gateway).await;
    assert_eq!((&shown["unacked"], &shown["dead"][0]["event_id"]), (&json!(0), &json!(ids[0])));
    assert_eq!(shown["dead"][0]["deliveries"], 2);
    // Late, and not harmful.
    socket.ack(&ids[0]).await;
    let next = say(&gateway, "shop", "next").await;
    assert_eq!(socket.events(1).await, [next]);
    // It does not come at the next connection either.
    socket.cut();
    let mut socket = open(&gateway, &format!("{NAMED}&max_unacked=2&ack_wait=1")).await;
    assert_eq!(socket.event().await["id"].as_str().unwrap().len(), 30);
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("zapbus_realtime_dead_total{protocol=\"websocket\"} 1"), "{metrics}");
}

/// The subscriber's dead events, once there are so many.
async fn dead(gateway: &Gateway, count: usize) -> Vec<Value> {
    eventually("so many are dead", async || {
        let dead = subscriber(gateway).await["dead"].as_array().unwrap().clone();
        (dead.len() == count).then_some(dead)
    })
    .await
}

/// Stays until it is too late to acknowledge what came.
async fn let_die(gateway: &Gateway, mut socket: Socket, ids: &[String]) {
    assert_eq!(socket.events(ids.len()).await, ids);
    dead(gateway, ids.len()).await;
    socket.close().await;
}

#[tokio::test]
async fn what_is_dead_for_a_subscriber_is_sent_again_when_somebody_asks_for_it() {
    let gateway = Gateway::start(|config| config.realtime.max_deliveries = 1).await;
    gateway.create_instance("shop").await;
    let hasty = format!("{NAMED}&ack_wait=1");
    let socket = open(&gateway, &hasty).await;
    let ids = say_many(&gateway, "shop", 3).await;
    let_die(&gateway, socket, &ids).await;
    let id = text(&subscriber(&gateway).await, "id");
    let retry = async |gateway: &Gateway, body: Value, status: u16| {
        let path = format!("/v1/subscribers/{id}/retry");
        expect_json(gateway.post(&path, &body).await, status).await
    };
    // One of them, to whoever is connected.
    let mut socket = open(&gateway, NAMED).await;
    let answer = retry(&gateway, json!({ "event_id": ids[1] }), 200).await;
    assert_eq!(answer, json!({ "retried": 1 }));
    assert_eq!(socket.events(1).await, ids[1..2]);
    socket.ack(&ids[1]).await;
    dead(&gateway, 2).await;
    eventually("it is done", async || (subscriber(&gateway).await["unacked"] == 0).then_some(()))
        .await;
    for unknown in [ids[1].as_str(), "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"] {
        let problem = retry(&gateway, json!({ "event_id": unknown }), 404).await;
        assert_eq!(problem["code"], "event_not_found");
    }
    // All of them, to whoever comes next, also after a restart.
    socket.close().await;
    assert_eq!(retry(&gateway, json!({}), 200).await, json!({ "retried": 2 }));
    assert_eq!(subscriber(&gateway).await["unacked"], 2);
    let gateway = gateway.restart().await;
    let rest = [ids[0].clone(), ids[2].clone()];
    // Not acknowledged, they are dead once more.
    let_die(&gateway, open(&gateway, &hasty).await, &rest).await;
    let mut socket = open(&gateway, NAMED).await;
    assert_eq!(retry(&gateway, json!({}), 200).await, json!({ "retried": 2 }));
    assert_eq!(socket.events(2).await, rest);
    socket.say(&json!({ "type": "ack", "ids": rest })).await;
    eventually("all is done", async || {
        let shown = subscriber(&gateway).await;
        (shown["unacked"] == 0 && shown["dead"] == json!([])).then_some(())
    })
    .await;
    assert_eq!(retry(&gateway, json!({}), 200).await, json!({ "retried": 0 }));
}

#[tokio::test]
async fn without_a_name_acks_count_for_the_connection() {
    let gateway = Gateway::start(|config| config.realtime.max_deliveries = 1).await;
    gateway.create_instance("shop").await;
    let path = "/v1/instances/shop/stream?types=message.*&ack=explicit&ack_wait=1";
    let mut socket = open(&gateway, path).await;
    let ids = say_many(&gateway, "shop", 2).await;
    assert_eq!(socket.events(2).await, ids);
    socket.ack(&ids[1]).await;
    let dead = socket.document().await;
    assert_eq!((&dead["type"], &dead["id"]), (&json!("stream.dead"), &json!(ids[0])));
    let list = gateway.read("/v1/subscribers").await;
    assert_eq!(list["data"], json!([]), "it leaves nothing behind");
}

#[tokio::test]
async fn every_connection_of_a_name_gets_everything_and_one_ack_settles_it() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let path = format!("{NAMED}&max_unacked=2");
    let mut one = open(&gateway, &path).await;
    let mut other = open(&gateway, &path).await;
    let ids = say_many(&gateway, "shop", 4).await;
    assert_eq!(one.events(2).await, ids[..2]);
    assert_eq!(other.events(2).await, ids[..2]);
    // Both windows are full, and acks on one make room on both.
    one.ack(&ids[0]).await;
    one.ack(&ids[1]).await;
    assert_eq!(one.events(2).await, ids[2..]);
    assert_eq!(other.events(2).await, ids[2..]);
    other.ack(&ids[2]).await;
    eventually("one is left", async || (subscriber(&gateway).await["unacked"] == 1).then_some(()))
        .await;
    one.cut();
    other.cut();
    let mut again = open(&gateway, &path).await;
    assert_eq!(again.events(1).await, ids[3..]);
    again.stays_quiet().await;
}

#[tokio::test]
async fn a_subscriber_can_be_forgotten() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut socket = open(&gateway, NAMED).await;
    say_many(&gateway, "shop", 2).await;
    socket.events(2).await;
    let id = text(&subscriber(&gateway).await, "id");
    let path = format!("/v1/subscribers/{id}");
    let gone = gateway.request(reqwest::Method::DELETE, &path).send().await.unwrap();
    assert_eq!(gone.status(), 204);
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1008, "the subscriber was deleted"));
    let problem = expect_json(gateway.get(&path).await, 404).await;
    assert_eq!(problem["code"], "subscriber_not_found");
    let mut anew = open(&gateway, NAMED).await;
    anew.stays_quiet().await;
    assert_eq!(subscriber(&gateway).await["unacked"], 0);
}

#[tokio::test]
async fn sockets_stay_until_everything_is_put_away_and_then_come_again() {
    let mut gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut socket = open(&gateway, NAMED).await;
    let ids = say_many(&gateway, "shop", 3).await;
    assert_eq!(socket.events(3).await, ids);
    socket.ack(&ids[1]).await;
    let mut events = crate::socket::Events::open(&gateway, "/v1/instances/shop/stream", None).await;
    assert_eq!(events.next().await.unwrap().event, "stream.opened");
    eventually("the ack is heard", async || {
        (subscriber(&gateway).await["unacked"] == 2).then_some(())
    })
    .await;
    let stopping = gateway.begin_stop();
    let (code, reason) = socket.closed().await;
    assert_eq!((code, reason.as_str()), (1001, "the gateway restarts: connect again"));
    assert_eq!(events.next().await, None);
    // Nothing is left to wait for when a socket hears of it.
    let gateway_task = tokio::time::timeout(std::time::Duration::from_secs(10), stopping);
    gateway_task.await.unwrap().unwrap().unwrap();
    let gateway = gateway.restart_stopped().await;
    let mut socket = open(&gateway, NAMED).await;
    assert_eq!(socket.events(2).await, [ids[0].clone(), ids[2].clone()]);
    assert!(!matches!(
        tokio::time::timeout(std::time::Duration::from_millis(200), socket.next()).await,
        Ok(Frame::Document(_))
    ));
}

#[tokio::test]
async fn a_client_hands_an_event_back_keeps_it_or_rejects_it() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    // By itself nothing comes again here.
    let mut socket = open(&gateway, &format!("{NAMED}&ack_wait=3600")).await;
    let ids = say_many(&gateway, "shop", 3).await;
    assert_eq!(socket.events(3).await, ids);
    socket.say(&json!({ "type": "nack", "id": ids[1], "after": 600 })).await;
    socket.say(&json!({ "type": "in_progress", "ids": ids })).await;
    socket.say(&json!({ "type": "reject", "id": ids[2] })).await;
    socket.say(&json!({ "type": "nack", "id": ids[0] })).await;
    assert_eq!(socket.events(1).await, ids[..1]);
    socket.ack(&ids[0]).await;
    eventually("one is done, one is dead", async || {
        let shown = subscriber(&gateway).await;
        (shown["unacked"] == 1 && shown["dead"][0]["event_id"] == ids[2]).then_some(())
    })
    .await;
    // It is kept until the time that is said last.
    socket.say(&json!({ "type": "nack", "id": ids[1], "after": 0.05 })).await;
    assert_eq!(socket.events(1).await, ids[1..2]);
    socket.say(&json!({ "type": "nack", "id": ids[1], "after": -1 })).await;
    assert_eq!(socket.document().await["type"], "stream.error");
    // What was rejected does not come at the next connection.
    socket.cut();
    let mut socket = open(&gateway, &format!("{NAMED}&ack_wait=3600")).await;
    assert_eq!(socket.events(1).await, ids[1..2]);
    socket.stays_quiet().await;
}
