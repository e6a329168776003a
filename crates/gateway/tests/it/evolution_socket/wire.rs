//! The bytes of Engine.IO and Socket.IO, as other clients than the usual one may send them.

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{say, set, start, text_of};
use crate::{
    server::{Gateway, expect_json},
    socket::PATIENCE,
};

const SEPARATOR: char = '\x1e';

/// A session that polls.
pub(super) struct Polls<'a> {
    gateway: &'a Gateway,
    sid: String,
}

impl<'a> Polls<'a> {
    pub(super) async fn open(gateway: &'a Gateway) -> (Self, Value) {
        let path = format!("/socket.io/?EIO=4&transport=polling&apikey={}", gateway.token());
        let answer = gateway.client.get(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=UTF-8");
        let text = answer.text().await.unwrap();
        let open: Value = serde_json::from_str(text.strip_prefix('0').unwrap()).unwrap();
        (Self { gateway, sid: open["sid"].as_str().unwrap().to_owned() }, open)
    }

    fn url(&self) -> String {
        format!("{}/socket.io/?EIO=4&transport=polling&sid={}", self.gateway.url, self.sid)
    }

    pub(super) async fn post(&self, body: &str) {
        let request = self.gateway.client.post(self.url()).body(body.to_owned());
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), &*answer.text().await.unwrap()), (200, "ok"));
    }

    /// The packets of the next answer.
    pub(super) async fn poll(&self) -> Vec<String> {
        let answer = self.gateway.client.get(self.url()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        answer.text().await.unwrap().split(SEPARATOR).map(str::to_owned).collect()
    }
}

/// A WebSocket whose frames are texts.
pub(super) struct Raw(WebSocketStream<TcpStream>);

impl Raw {
    pub(super) async fn open(gateway: &Gateway, query: &str) -> Self {
        let address = gateway.url.trim_start_matches("http://");
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&{query}");
        let stream = TcpStream::connect(address).await.unwrap();
        Self(client_async(url.into_client_request().unwrap(), stream).await.unwrap().0)
    }

    pub(super) async fn say(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next text; none at the end, with the code.
    pub(super) async fn next(&mut self) -> Result<String, Option<u16>> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time");
            match next {
                Some(Ok(Message::Text(text))) => return Ok(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|frame| frame.code.into()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    pub(super) async fn text(&mut self) -> String {
        self.next().await.expect("a text")
    }

    /// Opened, with the first packet taken.
    pub(super) async fn with_key(gateway: &Gateway) -> Self {
        let mut socket = Self::open(gateway, &format!("apikey={}", gateway.token())).await;
        let open = socket.text().await;
        assert!(open.starts_with(r#"0{"sid":""#) && open.contains(r#""upgrades":[]"#), "{open}");
        socket
    }

    pub(super) async fn join(&mut self, namespace: &str) {
        self.say(&format!("40{namespace},")).await;
        let joined = self.text().await;
        assert!(joined.starts_with(&format!("40{namespace},{{\"sid\":\"")), "{joined}");
    }
}

/// The name and the arguments of an event in a namespace.
pub(super) fn event(packet: &str, namespace: &str) -> Vec<Value> {
    let rest =
        packet.strip_prefix(&format!("42{namespace},")).unwrap_or_else(|| panic!("{packet}"));
    serde_json::from_str(rest).unwrap_or_else(|error| panic!("{packet}: {error}"))
}

#[tokio::test]
async fn what_is_no_request_of_the_protocol_is_answered_as_clients_know_it() {
    let (gateway, _) = start(|_| {}).await;
    let key = gateway.token().to_owned();
    for (method, query, status, code, message) in [
        (Method::GET, "EIO=4", 400, 0, "Transport unknown"),
        (Method::GET, "EIO=4&transport=carrier", 400, 0, "Transport unknown"),
        (Method::GET, "EIO=4&transport=polling&sid=x", 400, 1, "Session ID unknown"),
        (Method::POST, "EIO=4&transport=polling&sid=x", 400, 1, "Session ID unknown"),
        (Method::POST, "EIO=4&transport=polling", 400, 2, "Bad handshake method"),
        (Method::GET, "EIO=4&transport=websocket", 400, 3, "Bad request"),
        (Method::GET, "EIO=4&transport=polling&apikey=x", 403, 4, "Authentication error"),
        (Method::GET, "EIO=3&transport=polling", 400, 5, "Unsupported protocol version"),
        (Method::GET, "transport=polling", 400, 5, "Unsupported protocol version"),
    ] {
        for path in ["/socket.io/", "/socket.io"] {
            let url = format!("{}{path}?{query}", gateway.url);
            let answer = gateway.client.request(method.clone(), url).send().await.unwrap();
            let body = expect_json(answer, status).await;
            assert_eq!(body, json!({ "code": code, "message": message }), "{query}");
        }
    }
    let (polls, open) = Polls::open(&gateway).await;
    assert_eq!(open["upgrades"], json!(["websocket"]));
    assert_eq!((&open["pingInterval"], &open["pingTimeout"]), (&json!(25000), &json!(20000)));
    assert_eq!(open["maxPayload"], 65_536);
    let answer = gateway.client.put(polls.url()).send().await.unwrap();
    assert_eq!(expect_json(answer, 400).await["code"], 3);
    let large = "x".repeat(65_537);
    let answer = gateway.client.post(polls.url()).body(large).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    // The key may be in the header that Evolution's clients use, too.
    let url = format!("{}/socket.io/?EIO=4&transport=polling", gateway.url);
    let answer = gateway.client.get(url).header("apikey", key).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn a_body_has_the_members_of_a_queue_in_their_order() {
    let (gateway, token) = start(|config| {
        config.public_url = Some("https://bus.example.com".to_owned());
        config.evolution.expose_api_key = Some(true);
    })
    .await;
    let (polls, _) = Polls::open(&gateway).await;
    polls.post("40/shop,").await;
    let joined = polls.poll().await;
    assert!(joined[0].starts_with(r#"40/shop,{"sid":""#), "{joined:?}");
    say(&gateway, "shop", "one").await;
    let packets = polls.poll().await;
    let event = event(&packets[0], "/shop");
    assert_eq!((event.len(), &event[0]), (2, &json!("messages.upsert")));
    let members: Vec<_> = event[1].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["event", "instance", "data", "server_url", "date_time", "apikey"]);
    assert_eq!(event[1]["server_url"], "https://bus.example.com");
    assert_eq!(event[1]["apikey"], token);
    // Left, with more than one packet in a body.
    polls.post("41/shop,\x1e40/nothing,\x1enonsense\x1e3").await;
    assert_eq!(polls.poll().await, [r#"44/nothing,{"message":"Invalid namespace"}"#]);
    gateway.stop().await;
}

#[tokio::test]
async fn several_namespaces_share_a_connection() {
    let (gateway, _) = start(|_| {}).await;
    gateway.create_instance("my shop").await;
    let mut socket = Raw::with_key(&gateway).await;
    socket.join("/shop").await;
    // As URLs write it; the answers repeat that.
    socket.join("/my%20shop").await;
    // A namespace is joined once.
    socket.say("40/shop,").await;
    for (instance, namespace) in [("shop", "/shop"), ("my shop", "/my%20shop")] {
        say(&gateway, instance, "hello").await;
        let event = event(&socket.text().await, namespace);
        assert_eq!(event[1]["instance"], instance);
    }
    socket.say("41/shop,").await;
    // What is left is quiet, the other is not.
    socket.say("40/nothing,").await;
    assert_eq!(socket.text().await, r#"44/nothing,{"message":"Invalid namespace"}"#);
    say(&gateway, "shop", "to nobody").await;
    say(&gateway, "my shop", "there").await;
    assert_eq!(text_of(&event(&socket.text().await, "/my%20shop")[1]), "there");
    // And joined again.
    socket.join("/shop").await;
    say(&gateway, "shop", "again").await;
    assert_eq!(text_of(&event(&socket.text().await, "/shop")[1]), "again");
    gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_takes_over_and_what_waited_comes_on_it() {
    let (gateway, _) = start(|_| {}).await;
    let (polls, _) = Polls::open(&gateway).await;
    polls.post("40/shop,").await;
    polls.poll().await;
    let mut socket = Raw::open(&gateway, &format!("sid={}", polls.sid)).await;
    // Nobody takes over without asking.
    socket.say("5").await;
    socket.say("2probe").await;
    // The poll that waits ends, so that the client can go over.
    let (waiting, probe) = tokio::join!(polls.poll(), socket.text());
    assert_eq!((&*probe, &waiting[..]), ("3probe", &["6".to_owned()][..]));
    say(&gateway, "shop", "between").await;
    assert_eq!(polls.poll().await, ["6"], "everything waits for the other transport");
    socket.say("5").await;
    assert_eq!(text_of(&event(&socket.text().await, "/shop")[1]), "between");
    say(&gateway, "shop", "after").await;
    assert_eq!(text_of(&event(&socket.text().await, "/shop")[1]), "after");
    gateway.stop().await;
}

#[tokio::test]
async fn a_websocket_that_gives_up_leaves_everything_to_the_polls() {
    let (gateway, _) = start(|_| {}).await;
    let (polls, _) = Polls::open(&gateway).await;
    polls.post("40/shop,").await;
    polls.poll().await;
    let mut socket = Raw::open(&gateway, &format!("sid={}", polls.sid)).await;
    socket.say("2probe").await;
    assert_eq!(socket.text().await, "3probe");
    say(&gateway, "shop", "one").await;
    drop(socket);
    loop {
        let packets = polls.poll().await;
        if packets != ["6"] {
            assert_eq!(text_of(&event(&packets[0], "/shop")[1]), "one");
            break;
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn two_polls_at_once_end_a_session() {
    let (gateway, _) = start(|_| {}).await;
    let (polls, _) = Polls::open(&gateway).await;
    let url = polls.url();
    let ask = || gateway.client.get(&url).send();
    let (one, two) = tokio::join!(ask(), ask());
    let mut statuses = [one.unwrap().status().as_u16(), two.unwrap().status().as_u16()];
    statuses.sort_unstable();
    // Whoever waited is told that it is over.
    assert_eq!(statuses, [200, 400]);
    let answer = gateway.client.get(&url).send().await.unwrap();
    assert_eq!(expect_json(answer, 400).await["message"], "Session ID unknown");
    gateway.stop().await;
}

#[tokio::test]
async fn whoever_does_not_answer_a_ping_is_gone() {
    let (gateway, _) = start(|config| {
        config.realtime.ping_every_s = 0.2;
        config.realtime.pong_within_s = 0.05;
    })
    .await;
    let polls = Polls::open(&gateway).await.0;
    polls.post("40/shop,").await;
    let mut silent = Raw::with_key(&gateway).await;
    silent.join("/shop").await;
    let mut lively = Raw::with_key(&gateway).await;
    lively.join("/shop").await;
    let mut pings = 0;
    let end = loop {
        // Whoever answers stays, whoever is not there any more does not.
        tokio::select! {
            text = lively.next() => {
                assert_eq!(text.unwrap(), "2");
                pings += 1;
                lively.say("3").await;
            }
            end = silent.next() => match end {
                Ok(ping) => assert_eq!(ping, "2"),
                Err(end) => break end,
            },
        }
    };
    assert_eq!(end, Some(1008));
    assert!(pings > 1, "{pings}");
    say(&gateway, "shop", "still there").await;
    loop {
        match lively.text().await.as_str() {
            "2" => lively.say("3").await,
            packet => {
                assert_eq!(text_of(&event(packet, "/shop")[1]), "still there");
                break;
            }
        }
    }
    let answer = gateway.client.get(polls.url()).send().await.unwrap();
    assert_eq!(expect_json(answer, 400).await["code"], 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_restart_tells_every_transport_to_come_again() {
    let (mut gateway, _) = start(|_| {}).await;
    let mut socket = Raw::with_key(&gateway).await;
    socket.join("/shop").await;
    let (polls, _) = Polls::open(&gateway).await;
    let url = polls.url();
    let waiting = tokio::spawn(gateway.client.get(url).send());
    // It waits: the next question would end the session.
    polls.post("40/shop,").await;
    let joined = waiting.await.unwrap().unwrap().text().await.unwrap();
    assert!(joined.starts_with("40/shop,"), "{joined}");
    let mut waiting = tokio::spawn(gateway.client.get(polls.url()).send());
    let quiet = std::time::Duration::from_millis(300);
    assert!(tokio::time::timeout(quiet, &mut waiting).await.is_err(), "it waits");
    let stopped = gateway.begin_stop();
    let closed = waiting.await.unwrap().unwrap().text().await.unwrap();
    assert_eq!(closed, "1");
    assert_eq!(socket.next().await, Err(Some(1001)));
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_instance_that_is_deleted_ends_its_namespace_and_no_other() {
    let (gateway, _) = start(|config| config.realtime.ping_every_s = 0.2).await;
    gateway.create_instance("other").await;
    let mut socket = Raw::with_key(&gateway).await;
    socket.join("/shop").await;
    socket.join("/other").await;
    let deleted = gateway.request(Method::DELETE, "/v1/instances/shop").send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let mut last = Vec::new();
    loop {
        match socket.text().await.as_str() {
            "2" => socket.say("3").await,
            packet if packet.starts_with("42/shop,") => {
                last.push(event(packet, "/shop")[0].as_str().unwrap().to_owned());
            }
            packet => {
                assert_eq!(packet, "41/shop,");
                break;
            }
        }
    }
    last.sort();
    assert_eq!(last, ["instance.delete", "remove.instance"], "the last that there is to say of it");
    say(&gateway, "other", "still there").await;
    loop {
        match socket.text().await.as_str() {
            "2" => socket.say("3").await,
            packet => {
                assert_eq!(text_of(&event(packet, "/other")[1]), "still there");
                break;
            }
        }
    }
    gateway.stop().await;
}

#[tokio::test]
async fn nonsense_ends_a_connection_in_the_end_and_bytes_do_not() {
    let (gateway, _) = start(|_| {}).await;
    let mut socket = Raw::with_key(&gateway).await;
    socket.join("/shop").await;
    socket.say(r#"451-/shop,["x",{"_placeholder":true,"num":0}]"#).await;
    socket.0.send(Message::binary(vec![0, 159, 146, 150])).await.unwrap();
    for _ in 0..100 {
        socket.say("9").await;
    }
    say(&gateway, "shop", "one").await;
    assert_eq!(text_of(&event(&socket.text().await, "/shop")[1]), "one");
    socket.say("9").await;
    assert_eq!(socket.next().await, Err(Some(1008)));
    gateway.stop().await;
}

#[tokio::test]
async fn places_are_counted_and_given_back() {
    let (gateway, token) = start(|config| {
        config.realtime.max_connections = 2;
        config.realtime.max_connections_per_account = 1;
    })
    .await;
    let mut first = Raw::open(&gateway, &format!("apikey={token}")).await;
    first.text().await;
    first.join("/shop").await;
    // One of the account is taken, and of the node there is one left.
    let mut second = Raw::open(&gateway, &format!("apikey={token}")).await;
    second.text().await;
    second.say("40/shop,").await;
    let refused = second.text().await;
    assert!(refused.starts_with(r#"44/shop,{"message":""#), "{refused}");
    let url = format!("{}/socket.io/?EIO=4&transport=polling&apikey={token}", gateway.url);
    assert_eq!(gateway.client.get(url).send().await.unwrap().status(), 503);
    first.say("1").await;
    assert!(first.next().await.is_err());
    loop {
        second.say("40/shop,").await;
        let answer = second.text().await;
        if answer.starts_with("40/shop,") {
            break;
        }
        assert!(answer.starts_with("44/shop,"), "{answer}");
        tokio::task::yield_now().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_event_of_two_parts_waits_for_both_acknowledgements() {
    let (gateway, _) = start(|config| config.realtime.ack_wait_s = 60.0).await;
    let query = format!("apikey={}&ack=true&subscriber=crm&event_ids=true", gateway.token());
    let mut socket = Raw::open(&gateway, &query).await;
    socket.text().await;
    socket.join("/shop").await;
    let logged_out = json!({ "type": "instance.logged_out", "data": { "reason": "unknown" } });
    let said = gateway.post_event("shop", &logged_out).await;
    let id = said["id"].as_str().unwrap();
    let (first, second) = (socket.text().await, socket.text().await);
    assert!(first.starts_with(r#"42/shop,0["logout.instance","#), "{first}");
    assert!(second.starts_with(r#"42/shop,1["connection.update","#), "{second}");
    // The id stands with the last part: whoever has that has all of it.
    assert!(!first.contains(id) && second.ends_with(&format!("\"{id}\"]")), "{first} {second}");
    socket.say("43/shop,1[]").await;
    socket.say("1").await;
    assert!(socket.next().await.is_err());
    let mut socket = Raw::open(&gateway, &query).await;
    socket.text().await;
    socket.join("/shop").await;
    assert!(socket.text().await.starts_with(r#"42/shop,0["logout.instance","#));
    socket.text().await;
    for number in [0, 1] {
        socket.say(&format!("43/shop,{number}[]")).await;
    }
    say(&gateway, "shop", "next").await;
    assert!(socket.text().await.starts_with(r#"42/shop,2["messages.upsert","#));
    socket.say("1").await;
    assert!(socket.next().await.is_err());
    let mut socket = Raw::open(&gateway, &query).await;
    socket.text().await;
    socket.join("/shop").await;
    assert!(socket.text().await.starts_with(r#"42/shop,0["messages.upsert","#));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let (gateway, _) = start(|config| config.evolution.websocket.enabled = false).await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", gateway.url);
    assert_eq!(gateway.client.get(url).send().await.unwrap().status(), 404);
    set(&gateway, "shop", json!({ "enabled": true, "events": [] })).await;
    let refused = crate::socket::Socket::connect(&gateway.url, "/shop", &[]).await;
    assert_eq!(refused.err().map(|(status, _)| status), Some(404));
    gateway.stop().await;
}
