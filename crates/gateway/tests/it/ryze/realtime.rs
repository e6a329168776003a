//! `GET /ws/{instance}`.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use super::{Client, refusal, start, start_with};
use crate::{
    server::{Gateway, Receiver, eventually, text_message},
    socket::Socket,
};

const SET: &str = "/api/events/websocket/shop";

async fn say(gateway: &Gateway, id: &str) -> String {
    let said = gateway.post_event("shop", &text_message("5511999990001", id, id)).await;
    said["id"].as_str().unwrap().to_owned()
}

async fn heard(socket: &mut Socket) -> String {
    socket.document().await["data"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_webhook_and_several_sockets_get_the_same_body() {
    let gateway = start().await;
    let receiver = Receiver::start().await;
    let client = Client::of(&gateway).await;
    let both = json!({ "webhookURL": receiver.url("/"), "websocketEnabled": true });
    let (_, own) = client.instance("shop", both).await;
    let mut sockets = Vec::new();
    for client in [&client, &own, &own] {
        sockets.push(client.socket("/ws/shop").await);
    }
    for n in 0..20 {
        say(&gateway, &format!("m{n}")).await;
    }
    let posted: Vec<Value> = receiver.wait_for(20).await.iter().map(|it| it.json()).collect();
    for socket in &mut sockets {
        for (n, posted) in posted.iter().enumerate() {
            let frame = socket.document().await;
            assert_eq!(frame, *posted);
            assert_eq!(frame["data"]["id"], format!("m{n}"));
        }
        // No hello, no end, no pings of its own.
        socket.stays_quiet().await;
    }
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("zapbus_realtime_connections{protocol=\"ryze\"} 3"), "{metrics}");
    gateway.stop().await;
}

#[tokio::test]
async fn it_must_be_enabled_and_those_who_are_there_stay() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({})).await;
    const NOT_ENABLED: &str = "WebSocket is not enabled for this instance. Configure it first using \
                               POST /api/events/websocket/shop";
    let is_refused = async || {
        let Err((status, body)) = client.connect("/ws/shop").await else { panic!("let in") };
        assert_eq!((status, refusal(&body).as_str()), (400, NOT_ENABLED));
    };
    is_refused().await;
    client.set(SET, &json!({ "enabled": true, "events": ["message.exchange"] })).await;
    let mut socket = client.socket("/ws/shop").await;
    // What is no upgrade is told so.
    let plain = client.get("/ws/shop").await;
    assert_eq!(plain.status(), 426);
    client.set(SET, &json!({ "enabled": false })).await;
    is_refused().await;
    // It goes on as it was for it: switching off clears the names that others would get.
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    say(&gateway, "one").await;
    assert_eq!(heard(&mut socket).await, "one");
    socket.close().await;
    is_refused().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_change_counts_from_the_next_event_on() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({ "websocketEnabled": true })).await;
    let mut socket = own.socket("/ws/shop").await;
    say(&gateway, "one").await;
    let frame = socket.document().await;
    assert_eq!(frame["instanceData"]["token"], own.token);
    let only = json!({ "enabled": true, "events": ["instance.state"], "blankToken": true });
    own.set(SET, &only).await;
    say(&gateway, "two").await;
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    let frame = socket.document().await;
    assert_eq!(
        (&frame["event"], &frame["data"]["state"]),
        (&json!("instance.state"), &json!("connected"))
    );
    assert_eq!(frame["instanceData"]["token"], "");
    own.set(SET, &json!({ "enabled": true, "messageContent": "object" })).await;
    say(&gateway, "three").await;
    let frame = socket.document().await;
    assert_eq!(frame["data"]["message"]["content"], json!({ "text": "three" }));
    gateway.stop().await;
}

#[tokio::test]
async fn who_asks_goes_on_where_it_was_and_nobody_else_is_disturbed() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({ "websocketEnabled": true })).await;
    let first = say(&gateway, "one").await;
    say(&gateway, "two").await;
    // As documented: from now on.
    let mut live = own.socket("/ws/shop").await;
    let mut after = own.socket(&format!("/ws/shop?last_event_id={first}")).await;
    assert_eq!(heard(&mut after).await, "two");
    let mut named = own.socket("/ws/shop?subscriber=panel").await;
    let three = say(&gateway, "three").await;
    for socket in [&mut live, &mut after, &mut named] {
        assert_eq!(heard(socket).await, "three");
    }
    named.close().await;
    say(&gateway, "four").await;
    assert_eq!(heard(&mut live).await, "four");
    // Other names of events are no other subscriber.
    own.set(SET, &json!({ "enabled": true, "events": ["message.exchange"] })).await;
    let mut named = own.socket("/ws/shop?subscriber=panel&envelope=extended").await;
    let frame = named.document().await;
    assert_eq!(frame["data"]["id"], "four");
    assert!(frame["id"].as_str().unwrap().starts_with("evt_"), "{frame}");
    let members: Vec<_> = frame.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["event", "data", "instanceData", "id", "timestamp"]);
    let subscribers = gateway.read("/v1/subscribers?instance=shop").await;
    assert_eq!(subscribers["data"].as_array().unwrap().len(), 1, "{subscribers}");
    let mut again = own.socket(&format!("/ws/shop?last_event_id={three}")).await;
    let frame = again.document().await;
    assert_eq!(frame["data"]["id"], "four");
    assert!(frame.get("id").is_none(), "{frame}");
    for (query, message) in [
        ("last_event_id=nonsense", "last_event_id: "),
        ("subscriber=a%00b", "subscriber: "),
        ("envelope=large", "envelope: "),
    ] {
        let Err((status, body)) = own.connect(&format!("/ws/shop?{query}")).await else {
            panic!("{query} was let in");
        };
        let found = refusal(&body);
        assert!(status == 400 && found.starts_with(message), "{status}: {found}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn who_does_not_read_for_a_while_gets_every_event_and_holds_nobody_up() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({ "websocketEnabled": true })).await;
    let mut slow = client.socket("/ws/shop").await;
    let mut quick = client.socket("/ws/shop").await;
    // Far beyond 256, and beyond what the buffers of a connection hold.
    let long = "x".repeat(16 << 10);
    let count = 600;
    let mut sent = 0;
    while sent < count {
        let batch: Vec<Value> = (sent..sent + 50)
            .map(|n| text_message("5511999990001", &format!("m{n}"), &long))
            .collect();
        let answer = gateway.post("/v1/instances/shop/events", &json!(batch)).await;
        assert_eq!(answer.status(), 200);
        sent += 50;
        for n in sent - 50..sent {
            assert_eq!(heard(&mut quick).await, format!("m{n}"));
        }
    }
    for n in 0..count {
        assert_eq!(heard(&mut slow).await, format!("m{n}"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_a_client_says_means_nothing_and_must_be_short() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({ "websocketEnabled": true })).await;
    let mut socket = client.socket("/ws/shop").await;
    for n in 0..200 {
        socket.say(&json!({ "nonsense": n })).await;
    }
    socket.say(&json!("x".repeat(4_000))).await;
    say(&gateway, "one").await;
    assert_eq!(heard(&mut socket).await, "one");
    for length in [5_000, 100_000] {
        let mut loud = client.socket("/ws/shop").await;
        loud.say(&json!("x".repeat(length))).await;
        assert_eq!(loud.closed().await.0, 1009, "{length}");
    }
    say(&gateway, "two").await;
    assert_eq!(heard(&mut socket).await, "two");
    gateway.stop().await;
}

#[tokio::test]
async fn pings_go_out_and_whoever_does_not_answer_in_time_is_let_go() {
    let gateway = start_with(|config| {
        config.ryze.ping_every_s = 0.3;
        config.ryze.pong_within_s = 0.6;
        // Those of other endpoints are not asked.
        config.realtime.ping_every_s = 3_000.0;
        config.realtime.pong_within_s = 3_000.0;
    })
    .await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({ "websocketEnabled": true })).await;
    let address = gateway.url.trim_start_matches("http://");
    let url = format!("ws://{address}/ws/shop?token={}", own.token);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut alive, _) = client_async(url.into_client_request().unwrap(), stream).await.unwrap();
    let silent = own.socket("/ws/shop").await;
    let open = async |count: usize| {
        eventually("so many are open", async || {
            let metrics = gateway.get("/metrics").await.text().await.unwrap();
            let shown = format!("zapbus_realtime_connections{{protocol=\"ryze\"}} {count}\n");
            metrics.contains(&shown).then_some(())
        })
        .await;
    };
    // The one that reads answers by itself: it sees pings, and stays.
    let mut pings = 0;
    while pings < 5 {
        let frame = tokio::time::timeout(crate::socket::PATIENCE, alive.next()).await;
        match frame.expect("a ping in time").expect("it stays open").unwrap() {
            Message::Ping(_) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    let reading = tokio::spawn(async move {
        while let Some(Ok(frame)) = alive.next().await {
            if let Message::Close(frame) = frame {
                return frame.map(|frame| u16::from(frame.code));
            }
        }
        None
    });
    open(1).await;
    drop(silent);
    // A token that is nobody's any more ends what it opened.
    client.delete("/api/instance/delete/shop").await;
    let ended = tokio::time::timeout(crate::socket::PATIENCE, reading).await.unwrap().unwrap();
    assert_eq!(ended, Some(1008));
    gateway.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_before_the_upgrade() {
    let gateway = start_with(|config| {
        config.realtime.origins = vec!["https://panel.example.com".to_owned()];
    })
    .await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({ "websocketEnabled": true })).await;
    let connect = async |origin: &str| {
        let headers = [("token", client.token.clone()), ("origin", origin.to_owned())];
        Socket::connect(&gateway.url, "/ws/shop", &headers).await
    };
    connect("https://panel.example.com").await.expect("it is let in").close().await;
    let Err((status, body)) = connect("https://evil.example.com").await else { panic!("let in") };
    assert_eq!((status, refusal(&body).as_str()), (403, "Origin not allowed"));
    client.socket("/ws/shop").await.close().await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_account_names_the_pages_that_may_connect() {
    let gateway = start_with(|config| {
        config.realtime.origins = vec!["https://panel.example.com".to_owned()];
    })
    .await;
    let client = Client::of(&gateway).await;
    client.instance("shop", json!({ "websocketEnabled": true })).await;
    let connect = async |origin: &str| {
        let headers = [("token", client.token.clone()), ("origin", origin.to_owned())];
        Socket::connect(&gateway.url, "/ws/shop", &headers).await.map_err(|(status, _)| status)
    };
    let name = async |origins: Value| {
        let answer = gateway.client.patch(format!("{}/v1/accounts/default", gateway.url));
        let answer = answer.bearer_auth(&client.token).json(&json!({ "origins": origins }));
        let answer = answer.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, account) = name(json!(["https://app.example.com"])).await;
    assert_eq!((status, &account["origins"]), (200, &json!(["https://app.example.com"])));
    assert_eq!(gateway.read("/v1/accounts/default").await["origins"], account["origins"]);
    connect("https://app.example.com").await.expect("the account's own").close().await;
    assert_eq!(connect("https://panel.example.com").await.err(), Some(403));
    let (status, problem) = name(json!(["app.example.com"])).await;
    assert_eq!((status, &problem["errors"][0]["path"]), (422, &json!("origins[0]")));
    // Without its own, the operator's count.
    assert_eq!(name(json!([])).await.0, 200);
    connect("https://panel.example.com").await.expect("the operator's").close().await;
    assert_eq!(connect("https://app.example.com").await.err(), Some(403));
    gateway.stop().await;
}

#[tokio::test]
async fn a_restart_says_so_and_a_subscriber_misses_nothing() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("shop", json!({ "websocketEnabled": true })).await;
    let mut socket = own.socket("/ws/shop?subscriber=panel").await;
    say(&gateway, "one").await;
    assert_eq!(heard(&mut socket).await, "one");
    let reading = tokio::spawn(async move { socket.closed().await });
    let token = own.token.clone();
    let gateway = gateway.restart().await;
    assert_eq!(reading.await.unwrap().0, 1001);
    say(&gateway, "two").await;
    let own = Client::with(&gateway, &token);
    let mut socket = own.socket("/ws/shop?subscriber=panel").await;
    // What was written last may come again, but nothing is missing.
    let mut next = heard(&mut socket).await;
    if next == "one" {
        next = heard(&mut socket).await;
    }
    assert_eq!(next, "two");
    tokio::time::timeout(Duration::from_secs(1), gateway.stop()).await.ok();
}
