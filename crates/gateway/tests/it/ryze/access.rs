//! Tokens and who may do what with them.

use reqwest::Method;
use serde_json::json;

use super::{Client, refusal, refused, start};
use crate::{server::expect_json, socket::Socket};

const OF_INSTANCE: [(Method, &str); 15] = [
    (Method::POST, "/api/events/webhook/"),
    (Method::GET, "/api/events/webhook/"),
    (Method::GET, "/api/events/getWebhook/"),
    (Method::POST, "/api/events/websocket/"),
    (Method::GET, "/api/events/websocket/"),
    (Method::GET, "/api/events/getWebsocket/"),
    (Method::GET, "/api/events/getWebSocket/"),
    (Method::GET, "/ws/"),
    (Method::GET, "/api/instance/connect/"),
    (Method::POST, "/api/instance/reconnect/"),
    (Method::DELETE, "/api/instance/logout/"),
    (Method::DELETE, "/api/instance/delete/"),
    (Method::GET, "/api/instance/settings/"),
    (Method::POST, "/api/instance/settings/"),
    (Method::GET, "/api/instance/getSettings/"),
];

#[tokio::test]
async fn every_route_refuses_in_the_same_order_and_words() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("mine", json!({})).await;
    client.instance("other", json!({})).await;
    expect_json(gateway.post("/v1/accounts", &json!({ "name": "acme" })).await, 201).await;
    let stranger = Client::of_account(&gateway, "acme").await;
    let (foreign, _) = stranger.instance("foreign", json!({})).await;
    assert_eq!(foreign["instance"]["name"], "foreign");
    for (method, path) in OF_INSTANCE {
        let ask = |client: &Client<'_>, name: &str| {
            client.request(method.clone(), &format!("{path}{name}")).body("{").send()
        };
        let nobody = gateway.client.request(method.clone(), format!("{}{path}mine", gateway.url));
        let missing = match path {
            "/ws/" => "Missing token in header, Authorization header, or query parameter",
            _ => "Missing token in header",
        };
        let name = format!("{method} {path}");
        assert_eq!(refused(nobody.send().await.unwrap(), 401).await, missing, "{name}");
        let wrong = Client::with(&gateway, "nobody-has-this-token");
        assert_eq!(refused(ask(&wrong, "mine").await.unwrap(), 401).await, "Invalid token");
        // Before anything is said of the body, which is none.
        for unknown in ["nobody", "foreign", "_account", "a%2Fb"] {
            let answer = ask(&client, unknown).await.unwrap();
            assert_eq!(refused(answer, 404).await, "Instance not found", "{name}{unknown}");
        }
        let for_accounts = path.ends_with("/delete/");
        let (status, message) = match for_accounts {
            true => (401, "Invalid token"),
            false => (403, "Instance token does not match this instance"),
        };
        let answer = ask(&own, "other").await.unwrap();
        assert_eq!(refused(answer, status).await, message, "{name}");
        if !for_accounts {
            let answer = ask(&own, "nobody").await.unwrap();
            assert_eq!(refused(answer, 404).await, "Instance not found", "{name}");
        }
    }
    assert_eq!(
        refused(own.post("/api/instance/new", &json!({ "name": "x" })).await, 401).await,
        "Invalid token"
    );
    let message = refused(client.delete("/api/events/webhook/mine").await, 405).await;
    assert!(message.contains("method"), "{message}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_comes_in_three_ways_and_the_first_counts() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (_, own) = client.instance("mine", json!({ "websocketEnabled": true })).await;
    let url = format!("{}/api/events/getWebhook/mine", gateway.url);
    let get = || gateway.client.get(&url);
    for token in [&client.token, &own.token] {
        assert_eq!(get().header("token", token).send().await.unwrap().status(), 200);
        assert_eq!(get().bearer_auth(token).send().await.unwrap().status(), 200);
        // `token` counts where both are there.
        let both = get().header("token", token).bearer_auth("wrong");
        assert_eq!(both.send().await.unwrap().status(), 200);
        let both = get().header("token", "wrong").bearer_auth(token);
        assert_eq!(refused(both.send().await.unwrap(), 401).await, "Invalid token");
        // What is empty is not there.
        let empty = get().header("token", " ").bearer_auth(token);
        assert_eq!(empty.send().await.unwrap().status(), 200);
        // URLs are logged: only browsers' sockets have a token there.
        let in_query = gateway.client.get(format!("{url}?token={token}"));
        assert_eq!(refused(in_query.send().await.unwrap(), 401).await, "Missing token in header");

        let connect = async |path: String, headers: &[(&'static str, String)]| {
            Socket::connect(&gateway.url, &path, headers).await
        };
        let query = connect(format!("/ws/mine?token={token}"), &[]).await;
        query.expect("a token in the query").close().await;
        let bearer = [("authorization", format!("Bearer {token}"))];
        connect("/ws/mine".to_owned(), &bearer).await.expect("a bearer").close().await;
        let header = [("token", token.clone())];
        let wrong = "/ws/mine?token=wrong".to_owned();
        connect(wrong, &header).await.expect("the header counts").close().await;
        let Err((status, body)) = connect("/ws/mine?token=wrong".to_owned(), &[]).await else {
            panic!("a wrong token was let in");
        };
        assert_eq!((status, refusal(&body).as_str()), (401, "Invalid token"));
    }
    // The operator's token is one of the default account.
    let operator = get().bearer_auth(gateway.token()).send().await.unwrap();
    assert_eq!(operator.status(), 200);
    gateway.stop().await;
}

#[tokio::test]
async fn an_instance_is_found_by_its_name_and_by_its_id_in_any_form() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let made = gateway.create_instance("shop with a space").await;
    let ids = [&made["id"], &made["ids"]["vzaps"], &made["ids"]["uuid"]];
    for id in ids.map(|id| id.as_str().unwrap()).into_iter().chain(["shop%20with%20a%20space"]) {
        let answer = client.read(&format!("/api/events/getWebhook/{id}")).await;
        assert_eq!(answer["webhooks"], json!([]), "{id}");
    }
    expect_json(gateway.post("/v1/accounts", &json!({ "name": "acme" })).await, 201).await;
    let stranger = Client::of_account(&gateway, "acme").await;
    let id = made["id"].as_str().unwrap();
    let answer = stranger.get(&format!("/api/events/getWebhook/{id}")).await;
    assert_eq!(refused(answer, 404).await, "Instance not found");
    gateway.stop().await;
}

#[tokio::test]
async fn what_an_event_bus_does_not_do_is_said_to_whoever_may_ask() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    for path in ["/api/message/sendText/shop", "/api/chat/list/shop", "/api/proxy/shop"] {
        let nobody = gateway.client.post(format!("{}{path}", gateway.url)).send().await.unwrap();
        assert_eq!(refused(nobody, 401).await, "Missing token in header");
        let message = refused(client.post(path, &json!({})).await, 501).await;
        assert!(message.starts_with("Zapbus delivers events;"), "{message}");
    }
    let gateway = gateway.restart_with(|config| config.ryze.enabled = false).await;
    let gone = gateway.client.get(format!("{}/api/instance/list", gateway.url));
    assert_eq!(gone.send().await.unwrap().status(), 404);
    gateway.stop().await;
}
