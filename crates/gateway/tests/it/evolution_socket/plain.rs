//! `new WebSocket("ws://host:port")`, as the documentation shows it.

use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{client_async, tungstenite::client::IntoClientRequest as _};

use super::{say, set, start, text_of};
use crate::{server::Gateway, socket::Socket};

async fn open(gateway: &Gateway, path: &str, headers: &[(&'static str, String)]) -> Socket {
    match Socket::connect(&gateway.url, path, headers).await {
        Ok(socket) => socket,
        Err((status, body)) => panic!("{path}: {status}: {body}"),
    }
}

async fn refusal(gateway: &Gateway, path: &str) -> (u16, serde_json::Value) {
    match Socket::connect(&gateway.url, path, &[]).await {
        Ok(_) => panic!("{path} was let in"),
        Err(refused) => refused,
    }
}

#[tokio::test]
async fn a_frame_is_a_body_of_all_instances_or_of_one() {
    let (gateway, token) = start(|_| {}).await;
    gateway.create_instance("other").await;
    let admin = gateway.token().to_owned();
    let mut all = open(&gateway, &format!("/?apikey={admin}"), &[]).await;
    let mut one = open(&gateway, "/shop", &[("apikey", token.clone())]).await;
    // An instance's token reaches its instance, at the root too.
    let mut own = open(&gateway, &format!("/?token={token}"), &[]).await;
    say(&gateway, "other", "one").await;
    say(&gateway, "shop", "two").await;
    let body = all.document().await;
    let members: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["event", "instance", "data", "server_url", "date_time", "apikey"]);
    assert_eq!((&body["instance"], text_of(&body)), (&json!("other"), "one"));
    assert_eq!(text_of(&all.document().await), "two");
    assert_eq!(text_of(&one.document().await), "two");
    assert_eq!(text_of(&own.document().await), "two");
    // What clients say is nothing here.
    one.say(&json!({ "type": "hello" })).await;
    one.stays_quiet().await;
    gateway.stop().await;
}

#[tokio::test]
async fn without_a_key_nobody_is_let_in() {
    let (gateway, token) = start(|_| {}).await;
    gateway.create_instance("other").await;
    for path in ["/", "/shop", "/nothing", "/?apikey=nobodys", "/shop?token="] {
        let (status, body) = refusal(&gateway, path).await;
        assert_eq!(status, 401, "{path}");
        let unauthorized = json!({
            "status": 401, "error": "Unauthorized", "response": { "message": "Unauthorized" },
        });
        assert_eq!(body, unauthorized, "{path}");
    }
    for name in ["nothing", "other", "_account"] {
        let (status, body) = refusal(&gateway, &format!("/{name}?apikey={token}")).await;
        assert_eq!(status, 404, "{name}");
        let message = format!("The \"{name}\" instance does not exist");
        assert_eq!(body["response"]["message"], json!([message]));
    }
    // What is no upgrade is as before.
    let answer = gateway.client.get(format!("{}/shop", gateway.url)).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    gateway.stop().await;
}

#[tokio::test]
async fn networks_that_are_named_need_no_key() {
    let (gateway, _) = start(|config| {
        let allowed = &mut config.evolution.websocket.allow_anonymous_from;
        allowed.push("::ffff:127.0.0.1".to_owned());
        allowed.push("10.0.0.0/8".to_owned());
    })
    .await;
    let mut all = open(&gateway, "/", &[]).await;
    say(&gateway, "shop", "one").await;
    assert_eq!(text_of(&all.document().await), "one");
    // A wrong key is not the same as none.
    assert_eq!(refusal(&gateway, "/?apikey=nobodys").await.0, 401);
    // Behind a proxy that nobody vouches for, everybody comes from there.
    for (name, value) in [("x-forwarded-for", "198.51.100.7"), ("forwarded", "for=198.51.100.7")] {
        let headers = [(name, value.to_owned())];
        let refused = Socket::connect(&gateway.url, "/", &headers).await;
        assert_eq!(refused.err().map(|(status, _)| status), Some(401), "{name}");
    }
    gateway.stop().await;
    let (gateway, _) = start(|config| {
        config.evolution.websocket.allow_anonymous_from = vec!["10.0.0.0/8".to_owned()];
    })
    .await;
    assert_eq!(refusal(&gateway, "/").await.0, 401);
    gateway.stop().await;
}

#[tokio::test]
async fn a_browser_sends_its_key_as_a_sub_protocol() {
    let (gateway, token) = start(|_| {}).await;
    let address = gateway.url.trim_start_matches("http://").to_owned();
    for (offered, selected) in
        [(token.clone(), token.clone()), (format!("apikey, {token}"), "apikey".to_owned())]
    {
        let mut request = format!("ws://{address}/shop").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        let stream = TcpStream::connect(&address).await.unwrap();
        let (_, answer) = client_async(request, stream).await.unwrap();
        assert_eq!(answer.headers()["sec-websocket-protocol"], selected);
    }
    let mut request = format!("ws://{address}/shop").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "apikey, nobodys".parse().unwrap());
    let stream = TcpStream::connect(&address).await.unwrap();
    assert!(client_async(request, stream).await.is_err());
    gateway.stop().await;
}

#[tokio::test]
async fn what_an_instance_subscribes_to_counts_here_too_and_a_name_goes_on_where_it_was() {
    let (gateway, token) = start(|_| {}).await;
    set(&gateway, "shop", json!({ "enabled": true, "events": ["MESSAGES_UPSERT"] })).await;
    let path = format!("/shop?apikey={token}&subscriber=board");
    let mut socket = open(&gateway, &path, &[]).await;
    gateway.post_event("shop", &json!({ "type": "instance.connected", "data": {} })).await;
    let first = say(&gateway, "shop", "one").await;
    assert_eq!(text_of(&socket.document().await), "one");
    socket.close().await;
    say(&gateway, "shop", "two").await;
    let mut socket = open(&gateway, &path, &[]).await;
    assert_eq!(text_of(&socket.document().await), "two");
    // Or behind an event that was seen elsewhere.
    let behind = format!("/shop?apikey={token}&last_event_id={first}");
    let mut behind = open(&gateway, &behind, &[]).await;
    assert_eq!(text_of(&behind.document().await), "two");
    let (status, body) = refusal(&gateway, &format!("/shop?apikey={token}&last_event_id=x")).await;
    assert_eq!(status, 400, "{body}");
    gateway.stop().await;
}
