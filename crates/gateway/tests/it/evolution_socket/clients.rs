//! With `socket.io-client` itself.

use serde_json::{Value, json};

use super::{
    client::{Clients, options},
    say, set, start, text_of,
};
use crate::server::{Gateway, text_message};

const TRANSPORTS: [&[&str]; 3] = [&["polling"], &["websocket"], &["polling", "websocket"]];

fn url(gateway: &Gateway, namespace: &str) -> String {
    format!("{}{namespace}", gateway.url)
}

/// The texts of so many events.
async fn texts(clients: &mut Clients, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < count {
        texts.push(text_of(&clients.event().await["args"][0]).to_owned());
    }
    texts
}

#[tokio::test]
async fn every_transport_joins_a_namespace_that_never_had_an_event() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, _) = start(|_| {}).await;
    for transports in TRANSPORTS {
        let name = transports.join("+");
        let options = options(&gateway, transports, json!({}));
        clients.join(&name, &url(&gateway, "/shop"), options, false).await;
        // Where there are two, the second takes over, before a namespace is joined or after.
        let (mut connected, mut upgraded) = (false, transports.len() == 1);
        while !connected || !upgraded {
            let next = clients.next().await;
            connected |= next["what"] == "connect";
            upgraded |= next["what"] == "upgrade" && next["transport"] == "websocket";
            assert!(["connect", "upgrade"].iter().any(|what| next["what"] == *what), "{next}");
        }
        for text in ["one", "two", "three"] {
            say(&gateway, "shop", &format!("{name} {text}")).await;
        }
        for text in ["one", "two", "three"] {
            let event = clients.event().await;
            assert_eq!(event["event"], "messages.upsert");
            let args = event["args"].as_array().unwrap();
            // One argument, as upstream sends it, and nothing to acknowledge.
            assert_eq!((args.len(), &event["asked"]), (1, &json!(false)), "{event}");
            assert_eq!(text_of(&args[0]), format!("{name} {text}"));
            assert_eq!(args[0]["instance"], "shop");
        }
        // What Evolution's clients say to its session is nothing here, and does no harm.
        clients.emit(&name, json!(["sendNode", { "instanceId": "shop" }])).await;
        let after = format!("{name} after");
        say(&gateway, "shop", &after).await;
        assert_eq!(texts(&mut clients, 1).await, [after]);
        clients.have(&name, "leave").await;
        assert_eq!(clients.until("disconnect").await["reason"], "io client disconnect");
        say(&gateway, "shop", &format!("{name} left")).await;
        clients.stay_quiet().await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_upgrade_in_the_middle_of_a_stream_loses_and_repeats_nothing() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, _) = start(|_| {}).await;
    let first = say(&gateway, "shop", "first").await;
    let mut said = Vec::new();
    for number in 0..300 {
        let text = format!("n{number}");
        say(&gateway, "shop", &text).await;
        said.push(text);
    }
    // There is much to send from the first moment on.
    let auth = json!({ "last_event_id": first });
    let options = options(&gateway, &["polling", "websocket"], auth);
    clients.join("it", &url(&gateway, "/shop"), options, false).await;
    let (mut got, mut upgraded, mut connected) = (Vec::new(), false, false);
    while got.len() < said.len() || !upgraded {
        let next = clients.next().await;
        match next["what"].as_str().unwrap() {
            "event" => got.push(text_of(&next["args"][0]).to_owned()),
            "upgrade" => upgraded = true,
            "connect" if !connected => connected = true,
            other => panic!("{other}: {next}"),
        }
    }
    assert_eq!(got, said);
    clients.stay_quiet().await;
    gateway.stop().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, token) = start(|_| {}).await;
    gateway.create_instance("other").await;
    let with = |query: Value, auth: Value| {
        json!({
            "query": query, "auth": auth, "transports": ["websocket"], "forceNew": true,
            "reconnection": false,
        })
    };
    for (namespace, query, auth, message) in [
        ("/shop", json!({}), json!({}), "apiKey is required"),
        ("/shop", json!({}), json!({ "apikey": "nobody's" }), "Authentication error"),
        ("/nothing", json!({ "apikey": token }), json!({}), "Invalid namespace"),
        ("/other", json!({ "apikey": token }), json!({}), "Invalid namespace"),
        (
            "/shop",
            json!({ "apikey": token }),
            json!({ "last_event_id": "nonsense" }),
            "last_event_id: expected the id of an event: evt_…",
        ),
        // Refused before there is a connection: the library has its own words for that.
        ("/shop", json!({ "apikey": "nobody's" }), json!({}), "websocket error"),
    ] {
        clients.join("it", &url(&gateway, namespace), with(query, auth), false).await;
        let error = clients.until("connect_error").await;
        assert_eq!(error["message"], message, "{namespace}");
        clients.have("it", "leave").await;
    }
    // With polling the status is seen.
    let options = json!({
        "query": { "apikey": "nobody's" }, "transports": ["polling"], "forceNew": true,
        "reconnection": false,
    });
    clients.join("it", &url(&gateway, "/shop"), options, false).await;
    assert_eq!(clients.until("connect_error").await["code"], 403);
    // A key may come with the namespace only.
    let late = with(json!({}), json!({ "apikey": token }));
    clients.join("late", &url(&gateway, "/shop"), late, false).await;
    clients.until("connect").await;
    say(&gateway, "shop", "hello").await;
    assert_eq!(texts(&mut clients, 1).await, ["hello"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_lost_its_connection_goes_on_where_it_was() {
    let Some(mut clients) = Clients::start().await else { return };
    for transports in [&["polling"][..], &["websocket"][..]] {
        let (gateway, _) = start(|_| {}).await;
        let auth = json!({ "last_event_id": "" });
        let options = options(&gateway, transports, auth);
        clients.join("it", &url(&gateway, "/shop"), options, false).await;
        assert_eq!(clients.until("connect").await["recovered"], false);
        let first = say(&gateway, "shop", "first").await;
        let event = clients.event().await;
        assert_eq!(event["args"][1], first, "the id is the last argument");
        let bound: std::net::SocketAddr =
            gateway.url.trim_start_matches("http://").parse().unwrap();
        // While it is away, and through a restart.
        let gateway = gateway.restart_with(|config| config.listen = bound).await;
        say(&gateway, "shop", "second").await;
        say(&gateway, "shop", "third").await;
        let connect = clients.until("connect").await;
        assert_eq!(connect["recovered"], true, "{connect}");
        assert_eq!(texts(&mut clients, 2).await, ["second", "third"]);
        clients.have("it", "cut").await;
        clients.have("it", "leave").await;
        // A new client with the id that another remembered.
        let options =
            super::client::options(&gateway, transports, json!({ "last_event_id": first }));
        clients.join("new", &url(&gateway, "/shop"), options, false).await;
        assert_eq!(texts(&mut clients, 2).await, ["second", "third"]);
        clients.have("new", "leave").await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn events_wait_for_acknowledgements_of_whoever_asks_for_that() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, _) = start(|config| config.realtime.ack_wait_s = 60.0).await;
    let auth = json!({ "ack": true, "subscriber": "crm" });
    let options = options(&gateway, &["websocket"], auth);
    clients.join("held", &url(&gateway, "/shop"), options.clone(), true).await;
    clients.until("connect").await;
    say(&gateway, "shop", "one").await;
    say(&gateway, "shop", "two").await;
    for text in ["one", "two"] {
        let event = clients.event().await;
        assert_eq!((text_of(&event["args"][0]), &event["asked"]), (text, &json!(true)));
    }
    clients.have("held", "acknowledge").await;
    // What was acknowledged does not come again, what was not does.
    say(&gateway, "shop", "three").await;
    assert_eq!(texts(&mut clients, 1).await, ["three"]);
    clients.have("held", "leave").await;
    clients.until("disconnect").await;
    clients.join("again", &url(&gateway, "/shop"), options, false).await;
    clients.until("connect").await;
    assert_eq!(texts(&mut clients, 1).await, ["three"]);
    clients.stay_quiet().await;
    let subscribers = gateway.read("/v1/subscribers").await;
    assert_eq!(subscribers["data"][0]["name"], "crm", "{subscribers}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_global_mode_brings_the_events_of_all_instances() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, token) = start(|config| config.evolution.websocket.global_events = true).await;
    gateway.create_instance("other").await;
    // What an instance says about its own namespace is nothing to the root.
    set(&gateway, "shop", json!({ "enabled": false, "events": [] })).await;
    let all = options(&gateway, &["websocket"], json!({}));
    clients.join("all", &url(&gateway, "/"), all, false).await;
    clients.until("connect").await;
    for instance in ["shop", "other"] {
        say(&gateway, instance, instance).await;
        let event = clients.event().await;
        assert_eq!(event["args"][0]["instance"], instance);
    }
    clients.have("all", "leave").await;
    clients.until("disconnect").await;
    // An instance's token reaches that instance, here too.
    let own = json!({ "query": { "apikey": token }, "transports": ["websocket"] });
    set(&gateway, "shop", json!({ "enabled": true, "events": [] })).await;
    clients.join("own", &url(&gateway, "/"), own, false).await;
    clients.until("connect").await;
    say(&gateway, "other", "not yours").await;
    say(&gateway, "shop", "yours").await;
    assert_eq!(texts(&mut clients, 1).await, ["yours"]);
    gateway.stop().await;
}

#[tokio::test]
async fn without_the_global_mode_the_root_is_there_and_silent() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, _) = start(|_| {}).await;
    let all = options(&gateway, &["websocket"], json!({}));
    clients.join("all", &url(&gateway, "/"), all, false).await;
    clients.until("connect").await;
    say(&gateway, "shop", "one").await;
    clients.stay_quiet().await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_an_instance_subscribes_to_counts_for_open_connections_at_once() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, _) = start(|_| {}).await;
    set(&gateway, "shop", json!({ "enabled": true, "events": ["CONNECTION_UPDATE"] })).await;
    let all = options(&gateway, &["websocket"], json!({}));
    clients.join("it", &url(&gateway, "/shop"), all, false).await;
    clients.until("connect").await;
    let connected = json!({ "type": "instance.connected", "data": {} });
    say(&gateway, "shop", "not wanted").await;
    gateway.post_event("shop", &connected).await;
    assert_eq!(clients.event().await["event"], "connection.update");
    set(&gateway, "shop", json!({ "enabled": true, "events": ["MESSAGES_UPSERT"] })).await;
    gateway.post_event("shop", &connected).await;
    say(&gateway, "shop", "wanted").await;
    assert_eq!(texts(&mut clients, 1).await, ["wanted"]);
    set(&gateway, "shop", json!({ "enabled": false, "events": [] })).await;
    say(&gateway, "shop", "switched off").await;
    clients.stay_quiet().await;
    set(&gateway, "shop", json!({ "enabled": true, "events": [] })).await;
    say(&gateway, "shop", "all again").await;
    assert_eq!(texts(&mut clients, 1).await, ["all again"]);
    gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_lags_and_misses_nothing() {
    let Some(mut clients) = Clients::start().await else { return };
    let (gateway, _) = start(|_| {}).await;
    let all = options(&gateway, &["websocket"], json!({}));
    clients.join("it", &url(&gateway, "/shop"), all, false).await;
    clients.until("connect").await;
    clients.have("it", "stall").await;
    clients.until("stalled").await;
    // More than sockets on both sides take.
    let filler = "x".repeat(100_000);
    let mut said = Vec::new();
    for number in 0..150 {
        let name = format!("n{number}");
        let message = text_message("5511999990001", &name, &format!("{name} {filler}"));
        gateway.post_event("shop", &message).await;
        said.push(name);
    }
    clients.have("it", "go_on").await;
    let got = texts(&mut clients, said.len()).await;
    let got: Vec<&str> = got.iter().filter_map(|text| text.split(' ').next()).collect();
    assert_eq!(got, said);
    gateway.stop().await;
}
