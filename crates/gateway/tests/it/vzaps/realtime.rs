//! `/events/ws` on the wire of each SDK.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{CLIENT_TOKEN, Client, start};
use crate::{
    server::{Gateway, eventually, text_message},
    socket::Socket,
};

pub(super) struct Shop {
    pub(super) id: String,
    pub(super) token: String,
    jwt: String,
}

pub(super) async fn shop(gateway: &Gateway) -> Shop {
    let client = Client::of(gateway).await;
    let made = client.instance("shop", json!({})).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Shop { id: text("id"), token: text("token"), jwt: client.jwt }
}

impl Shop {
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        vec![
            ("authorization", format!("Bearer {}", self.jwt)),
            ("x-client-token", CLIENT_TOKEN.to_owned()),
            ("x-instance-token", self.token.clone()),
        ]
    }

    /// As browsers connect: everything in the query.
    pub(super) fn query(&self, more: &str) -> String {
        let Self { id, token, jwt } = self;
        format!(
            "/events/ws?instance_id={id}&access_token={jwt}&client_token={CLIENT_TOKEN}&instance_token={token}{more}"
        )
    }

    /// As Java and .NET connect: credentials in headers.
    pub(super) fn path(&self, more: &str) -> String {
        format!("/events/ws?instance_id={}{more}", self.id)
    }

    async fn open(&self, gateway: &Gateway, path: &str, headers: bool) -> Socket {
        let headers = if headers { self.headers() } else { Vec::new() };
        match Socket::connect(&gateway.url, path, &headers).await {
            Ok(socket) => socket,
            Err((status, body)) => panic!("{path}: {status}: {body}"),
        }
    }
}

async fn say(gateway: &Gateway, id: &str) -> String {
    let said = gateway.post_event("shop", &text_message("5511999990001", id, id)).await;
    said["id"].as_str().unwrap().to_owned()
}

fn ids(documents: &[Value]) -> Vec<&str> {
    documents.iter().map(|document| document["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_frame_has_five_members_and_nothing_else_comes() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let mut socket = shop.open(&gateway, &shop.query("&events=Message%2CReadReceipt"), false).await;
    let id = say(&gateway, "one").await;
    let frame = socket.document().await;
    let members: Vec<_> = frame.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["id", "type", "instance_id", "created_at", "data"]);
    assert_eq!((&frame["id"], &frame["type"]), (&json!(id), &json!("Message")));
    assert_eq!(frame["instance_id"], shop.id);
    assert!(frame["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(frame["data"]["event"]["message"]["conversation"], "one");
    // Not asked for; nonsense, foreign types and unknown ids are passed over.
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    for message in [json!([]), json!({ "type": "hello" }), json!({ "type": "ack", "id": "x" })] {
        socket.say(&message).await;
    }
    socket.stays_quiet().await;
    let next = say(&gateway, "two").await;
    assert_eq!(socket.document().await["id"], next);
    gateway.stop().await;
}

#[tokio::test]
async fn headers_alone_and_repeated_lower_case_names_are_enough() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let path = shop.path("&events=message&events=connected&events=qr");
    let mut socket = shop.open(&gateway, &path, true).await;
    let first = say(&gateway, "one").await;
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    let got = [socket.document().await, socket.document().await];
    assert_eq!((&got[0]["id"], &got[1]["type"]), (&json!(first), &json!("Connected")));
    // Acknowledged with `id`, as they do, it does not come again, whatever the cursor says.
    for document in &got {
        socket.say(&json!({ "type": "ack", "id": document["id"] })).await;
    }
    let late = say(&gateway, "late").await;
    assert_eq!(socket.document().await["id"], late);
    socket.close().await;
    let path = format!("{path}&last_event_id={first}");
    let mut socket = shop.open(&gateway, &path, true).await;
    assert_eq!(socket.document().await["id"], late);
    gateway.stop().await;
}

#[tokio::test]
async fn a_cursor_that_never_advances_repeats_only_what_was_not_acknowledged() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let first = say(&gateway, "one").await;
    let path = shop.query(&format!("&events=Message&last_event_id={first}"));
    let ids_said = [say(&gateway, "two").await, say(&gateway, "three").await];
    let mut socket = shop.open(&gateway, &path, false).await;
    let got = [socket.document().await, socket.document().await];
    assert_eq!(ids(&got), ids_said);
    // Out of order, and one of them not at all.
    socket.say(&json!({ "type": "ack", "event_id": ids_said[1] })).await;
    let four = say(&gateway, "four").await;
    assert_eq!(socket.document().await["id"], four);
    socket.say(&json!({ "type": "ack", "eventId": four })).await;
    socket.close().await;
    let mut socket = shop.open(&gateway, &path, false).await;
    assert_eq!(socket.document().await["id"], ids_said[0]);
    socket.stays_quiet().await;
    // Our own extension: everything behind the cursor, acknowledged or not.
    let mut all = shop.open(&gateway, &format!("{path}&replay=all"), false).await;
    let again = [all.document().await, all.document().await, all.document().await];
    assert_eq!(ids(&again), [&ids_said[0], &ids_said[1], &four]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_cursor_that_is_none_is_no_reason_to_fail() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    say(&gateway, "before").await;
    let unknown = "evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    for cursor in ["nonsense", unknown] {
        let path = shop.query(&format!("&events=Message&last_event_id={cursor}&replay=all"));
        let mut socket = shop.open(&gateway, &path, false).await;
        let next = say(&gateway, cursor).await;
        assert_eq!(socket.document().await["id"], next, "{cursor}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_refused_is_refused_before_the_upgrade() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let refused = async |path: String, headers: Vec<(&'static str, String)>| match Socket::connect(
        &gateway.url,
        &path,
        &headers,
    )
    .await
    {
        Ok(_) => panic!("{path} was let in"),
        Err((status, body)) => {
            assert_eq!(body["error"], body["message"], "{path}: {body}");
            (status, body["code"].as_str().unwrap_or_default().to_owned())
        }
    };
    let Shop { id, token, jwt } = &shop;
    let headers = shop.headers();
    for (path, with_headers, status, code) in [
        ("/events/ws".to_owned(), true, 400, "invalid"),
        (shop.path("&events=Receipt,qr"), true, 400, "unknown_event"),
        (shop.path(""), false, 401, "unauthorized"),
        (format!("/events/ws?instance_id={id}&access_token={jwt}"), false, 401, "unauthorized"),
        (
            format!("/events/ws?instance_id={id}&access_token=a.b.c&instance_token={token}"),
            false,
            401,
            "unauthorized",
        ),
        (
            format!("/events/ws?instance_id={id}&access_token={jwt}&instance_token=x"),
            false,
            401,
            "unauthorized",
        ),
        (
            "/events/ws?instance_id=VZ01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
            true,
            404,
            "instance_not_found",
        ),
    ] {
        let headers = if with_headers { headers.clone() } else { Vec::new() };
        assert_eq!(refused(path.clone(), headers).await, (status, code.to_owned()), "{path}");
    }
    // Without an access token, the client's and the instance's are enough.
    let both =
        format!("/events/ws?instance_id={id}&client_token={CLIENT_TOKEN}&instance_token={token}");
    shop.open(&gateway, &both, false).await.close().await;
    // What is no upgrade is told so.
    let url = format!("{}{}", gateway.url, shop.query(""));
    assert_eq!(gateway.client.get(url).send().await.unwrap().status(), 426);
    gateway.stop().await;
}

#[tokio::test]
async fn without_names_the_subscription_of_the_instance_counts() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = client.instance("shop", json!({ "events_subscribe": ["Connected"] })).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let shop = Shop { id: text("id"), token: text("token"), jwt: client.jwt.clone() };
    let mut socket = shop.open(&gateway, &shop.path(""), true).await;
    let mut all = shop.open(&gateway, &shop.path("&events=All"), true).await;
    say(&gateway, "one").await;
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    assert_eq!(socket.document().await["type"], "Connected");
    assert_eq!(all.document().await["type"], "Message");
    assert_eq!(all.document().await["type"], "Connected");
    gateway.stop().await;
}

/// Whatever the form of the request: the event that a handler failed for is where the cursor of PHP,
/// Java and .NET stands when they come again.
#[tokio::test]
async fn a_cursor_at_an_event_that_failed_brings_it_again() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let php = shop.query("&events=Message%2CReadReceipt");
    let java = shop.path("&events=message&events=readreceipt");
    let net = shop.path("&events=Message,ReadReceipt");
    for (client, path, headers, name) in
        [("php", php, false, "event_id"), ("java", java, true, "id"), (".net", net, true, "id")]
    {
        let ack = |id: &str| json!({ "type": "ack", name: id });
        let mut socket = shop.open(&gateway, &path, headers).await;
        let said = [
            say(&gateway, &format!("{client} one")).await,
            say(&gateway, &format!("{client} bad")).await,
        ];
        let got = [socket.document().await, socket.document().await];
        assert_eq!(ids(&got), said, "{client}");
        socket.say(&ack(&said[0])).await;
        // They drop the socket on which a handler has failed.
        socket.close().await;
        let later = say(&gateway, &format!("{client} later")).await;
        let again = format!("{path}&last_event_id={}", said[1]);
        let mut socket = shop.open(&gateway, &again, headers).await;
        let got = [socket.document().await, socket.document().await];
        assert_eq!(ids(&got), [&said[1], &later], "{client}");
        socket.say(&ack(&said[1])).await;
        socket.say(&ack(&later)).await;
        socket.close().await;
        // Now it is behind the cursor.
        let mut socket = shop.open(&gateway, &again, headers).await;
        socket.stays_quiet().await;
        socket.close().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn headers_with_names_between_commas_are_enough() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let path = shop.path("&events=Message,Connected,Unknown");
    let mut socket = shop.open(&gateway, &path, true).await;
    let first = say(&gateway, "one").await;
    let unwanted = json!({ "type": "instance.disconnected", "data": { "reason": "network" } });
    gateway.post_event("shop", &unwanted).await;
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    let got = [socket.document().await, socket.document().await];
    assert_eq!((&got[0]["id"], &got[1]["type"]), (&json!(first), &json!("Connected")));
    socket.say(&json!({ "type": "ack", "id": first })).await;
    socket.close().await;
    let mut socket = shop.open(&gateway, &path, true).await;
    assert_eq!(socket.document().await["id"], got[1]["id"]);
    gateway.stop().await;
}

#[tokio::test]
async fn what_clients_say_in_vain_is_counted() {
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let foreign = gateway.create_instance("other").await["name"].as_str().unwrap().to_owned();
    let theirs = gateway.post_event(&foreign, &text_message("5511999990001", "m", "x")).await;
    let own = say(&gateway, "known").await;
    let unknown = "evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ";
    for cursor in ["nonsense", unknown, theirs["id"].as_str().unwrap(), &own] {
        let path = shop.query(&format!("&events=Message&last_event_id={cursor}"));
        shop.open(&gateway, &path, false).await.close().await;
    }
    let mut socket = shop.open(&gateway, &shop.query("&events=Message"), false).await;
    let id = say(&gateway, "one").await;
    assert_eq!(socket.document().await["id"], id);
    for message in [
        json!([]),
        json!({ "type": "hello" }),
        json!({ "type": "ack", "event_id": "x" }),
        json!({ "type": "ack", "event_id": unknown }),
        json!({ "type": "ack", "event_id": id }),
        // A second time it settles nothing.
        json!({ "type": "ack", "event_id": id }),
    ] {
        socket.say(&message).await;
    }
    let metrics = eventually("all is counted", async || {
        let metrics = gateway.get("/metrics").await.text().await.unwrap();
        let ignored = "zapbus_realtime_ignored_messages_total{protocol=\"vzaps\"} 5\n";
        metrics.contains(ignored).then_some(metrics)
    })
    .await;
    let cursors = "zapbus_realtime_unknown_cursors_total{protocol=\"vzaps\"} 3\n";
    assert!(metrics.contains(cursors), "{metrics}");
    gateway.stop().await;
}

/// Longer than a busy machine takes for a ping that is due after four seconds, and shorter than the
/// 25 seconds after which everybody else gets one.
const PHPS_PATIENCE: Duration = Duration::from_secs(15);

/// One frame of a server, which is never masked.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let head = stream.read_u16().await.unwrap();
    let length = match head & 0x7f {
        126 => usize::from(stream.read_u16().await.unwrap()),
        127 => usize::try_from(stream.read_u64().await.unwrap()).unwrap(),
        short => usize::from(short),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    ((head >> 8) as u8 & 0x0f, body)
}

#[tokio::test]
async fn phps_library_is_pinged_in_time_and_may_answer_without_a_mask() {
    const PING: u8 = 9;
    let gateway = start().await;
    let shop = shop(&gateway).await;
    let address = gateway.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let key = STANDARD.encode([7; 16]);
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         User-Agent: websocket-client-php\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\n\r\n",
        shop.query("&events=Message")
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    // It would give up after five seconds without one; the test has more patience, but not so much
    // that the pings of all others would do.
    let idle = tokio::time::timeout(PHPS_PATIENCE, frame(&mut stream));
    let (kind, body) = idle.await.expect("a ping in time");
    assert_eq!(kind, PING);
    let mut pong = vec![0x8a, u8::try_from(body.len()).unwrap()];
    pong.extend(body);
    stream.write_all(&pong).await.unwrap();
    let id = say(&gateway, "one").await;
    let document = loop {
        let (kind, body) = frame(&mut stream).await;
        if kind != PING {
            break serde_json::from_slice::<Value>(&body).unwrap();
        }
    };
    assert_eq!(document["id"], id);
    gateway.stop().await;
}
