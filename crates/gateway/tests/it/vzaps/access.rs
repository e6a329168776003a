//! Tokens and who may do what with them.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::{
    CLIENT_SECRET, CLIENT_TOKEN, Client, credential, expect_failure, start, start_with, token,
};
use crate::server::expect_json;

#[tokio::test]
async fn an_id_and_a_secret_are_exchanged_for_a_token_without_an_envelope() {
    let gateway = start().await;
    let body = json!({ "client_token": CLIENT_TOKEN, "client_secret": CLIENT_SECRET });
    let answer = expect_json(token(&gateway, &body).await, 200).await;
    let members: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["access_token", "expires_in", "token_type"]);
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(3600), &json!("Bearer")));
    assert_eq!(answer["access_token"].as_str().unwrap().split('.').count(), 3);

    // As an old README has it, in the other spelling.
    let url = format!("{}/auth/token", gateway.url);
    let body = json!({ "clientToken": CLIENT_TOKEN, "clientSecret": CLIENT_SECRET });
    let again = gateway.client.post(url).json(&body).send().await.unwrap();
    expect_json(again, 200).await;

    for (body, status, code) in [
        (json!({ "client_token": CLIENT_TOKEN, "client_secret": "wrong" }), 401, "unauthorized"),
        (json!({ "client_token": "nobody", "client_secret": CLIENT_SECRET }), 401, "unauthorized"),
        (json!({ "client_token": CLIENT_TOKEN }), 400, "invalid"),
        (json!({ "client_token": 7, "client_secret": "x" }), 400, "invalid"),
        (json!({}), 400, "invalid"),
    ] {
        expect_failure(token(&gateway, &body).await, status, code).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_json_objects_are_refused() {
    let gateway = start().await;
    let send = |kind: &'static str, body: &'static str| {
        let request = gateway.client.post(format!("{}/token", gateway.url));
        request.header("Content-Type", kind).body(body).send()
    };
    for (kind, body, status, code) in [
        ("application/json", "{", 400, "malformed_body"),
        ("application/json", "[]", 400, "malformed_body"),
        ("text/plain", "client_token=1", 415, "not_json"),
    ] {
        expect_failure(send(kind, body).await.unwrap(), status, code).await;
    }
    let large = "x".repeat(2 << 20);
    let request = gateway.client.post(format!("{}/token", gateway.url)).body(large);
    expect_failure(request.send().await.unwrap(), 413, "too_large").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_with_its_credential() {
    let gateway = start_with(|config| config.vzaps.token_ttl_s = 120).await;
    let made = credential(&gateway, "default").await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let client = Client::with(&gateway, &text("client_token"), &text("secret")).await;
    let nothing = json!({});
    let list = || client.send(Method::POST, "/instances/list", &nothing);
    expect_json(list().await, 200).await;

    gateway.clock.advance(Duration::from_secs(121));
    expect_failure(list().await, 401, "unauthorized").await;

    let client = Client::with(&gateway, &text("client_token"), &text("secret")).await;
    let path = format!("/v1/accounts/default/credentials/{}", text("id"));
    gateway.request(Method::DELETE, &path).send().await.unwrap();
    let answer = client.send(Method::POST, "/instances/list", &json!({})).await;
    expect_failure(answer, 401, "unauthorized").await;
    gateway.stop().await;
}

#[tokio::test]
async fn who_may_do_what() {
    let gateway = start().await;
    let client = Client::of(&gateway).await;
    let (shop, other) =
        (client.instance("shop", json!({})).await, client.instance("x", json!({})).await);
    let path = format!("/instances/{}/session/status", shop["id"].as_str().unwrap());
    let url = format!("{}{path}", gateway.url);
    let (own, foreign) = (shop["token"].as_str().unwrap(), other["token"].as_str().unwrap());
    let tampered = format!("{}x", client.jwt);
    let ask = |jwt: Option<&str>, client_token: Option<&str>, instance: Option<&str>| {
        let mut request = gateway.client.get(&url);
        if let Some(jwt) = jwt {
            request = request.bearer_auth(jwt);
        }
        for (name, value) in [("X-Client-Token", client_token), ("X-Instance-Token", instance)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        request.send()
    };
    let (jwt, id) = (Some(client.jwt.as_str()), Some(CLIENT_TOKEN));
    for (jwt, client_token, instance, status) in [
        (jwt, id, Some(own), 200),
        (jwt, id, None, 200),
        (jwt, None, None, 200),
        (None, id, Some(own), 200),
        (Some(gateway.token()), None, None, 200),
        (Some(gateway.token()), id, Some(own), 200),
        (jwt, Some("somebody-else"), None, 401),
        (jwt, id, Some(foreign), 401),
        (jwt, id, Some("nonsense"), 401),
        (Some(tampered.as_str()), id, Some(own), 401),
        (Some("a.b.c"), id, Some(own), 401),
        (Some("nonsense"), id, Some(own), 401),
        // An instance's token is no access token.
        (Some(own), id, None, 401),
        (None, id, Some(foreign), 401),
        (None, Some("somebody-else"), Some(own), 401),
        (None, id, None, 401),
        (None, None, Some(own), 401),
        (None, None, None, 401),
    ] {
        let answer = ask(jwt, client_token, instance).await.unwrap();
        let case = (jwt, client_token, instance);
        assert_eq!(answer.status().as_u16(), status, "{case:?}");
        if status == 401 {
            expect_failure(answer, 401, "unauthorized").await;
        }
    }

    // What belongs to the account needs the account.
    for (method, path) in [(Method::PUT, "/instances/create"), (Method::POST, "/instances/list")] {
        let request = gateway.client.request(method, format!("{}{path}", gateway.url));
        let request = request.header("X-Client-Token", CLIENT_TOKEN);
        let request = request.header("X-Instance-Token", own).json(&json!({ "name": "y" }));
        expect_failure(request.send().await.unwrap(), 401, "unauthorized").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn another_accounts_instance_is_forbidden_and_an_unknown_one_not_found() {
    let gateway = start().await;
    let mine = Client::of(&gateway).await.instance("shop", json!({})).await;
    expect_json(gateway.post("/v1/accounts", &json!({ "name": "acme" })).await, 201).await;
    let made = credential(&gateway, "acme").await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let other = Client::with(&gateway, &text("client_token"), &text("secret")).await;
    let path = |id: &str| format!("/instances/{id}/webhook");
    let id = mine["id"].as_str().unwrap();
    expect_failure(other.get(&path(id)).await, 403, "forbidden").await;
    // Names are looked for at home.
    expect_failure(other.get(&path("shop")).await, 404, "instance_not_found").await;
    let unknown = "VZ01ARZ3NDEKTSV4RRFFQ69G5FAV";
    expect_failure(other.get(&path(unknown)).await, 404, "instance_not_found").await;
    expect_failure(other.get(&path("_account")).await, 404, "instance_not_found").await;

    let client = Client::of(&gateway).await;
    let ids = &gateway.read(&format!("/v1/instances/{id}")).await["ids"];
    for form in ["shop", id, ids["uuid"].as_str().unwrap()] {
        client.read(&path(form)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn every_answer_has_a_request_id() {
    let gateway = start().await;
    let ask = |given: Option<&str>| {
        let mut request = gateway.client.get(format!("{}/instances/x/webhook", gateway.url));
        if let Some(given) = given {
            request = request.header("X-Request-Id", given);
        }
        request.send()
    };
    let id =
        |answer: reqwest::Response| answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert_eq!(id(ask(Some("abc-123")).await.unwrap()), "abc-123");
    let (one, two) = (id(ask(None).await.unwrap()), id(ask(None).await.unwrap()));
    assert!(one.starts_with("req_") && one != two);
    assert!(id(ask(Some(&"x".repeat(129))).await.unwrap()).starts_with("req_"));
    let wrong = gateway.client.put(format!("{}/token", gateway.url)).send().await.unwrap();
    expect_failure(wrong, 405, "method_not_allowed").await;
    gateway.stop().await;
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let gateway = start_with(|config| config.vzaps.enabled = false).await;
    let body = json!({ "client_token": CLIENT_TOKEN, "client_secret": CLIENT_SECRET });
    let answer = token(&gateway, &body).await;
    assert_eq!(expect_json(answer, 404).await["code"], "route_not_found");
    gateway.stop().await;
}
