//! Meta's webhook: handshake, signatures, whose a change is.

use futures_util::StreamExt as _;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    api::{expect_fault, expect_problem, text},
    server::{Gateway, expect_json},
};

pub(crate) const TEXT: &str = include_str!("../../../event/fixtures/cloud-api/message-text.json");
pub(crate) const BATCH: &str =
    include_str!("../../../event/fixtures/cloud-api/batch-several-changes.json");

fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// A source with the secret `app-secret`.
pub(crate) fn source(number: Option<&str>) -> Value {
    let mut source =
        json!({ "type": "cloud-api", "app_secret": "app-secret", "verify_token": "verify-me" });
    if let Some(number) = number {
        source["phone_number_id"] = json!(number);
    }
    source
}

pub(crate) async fn put(gateway: &Gateway, path: &str, body: &Value) -> Response {
    gateway.request(Method::PUT, path).json(body).send().await.unwrap()
}

/// An instance with a Cloud API source: its id.
pub(crate) async fn connect(gateway: &Gateway, name: &str, number: Option<&str>) -> String {
    let made = gateway.create_instance(name).await;
    let path = format!("/v1/instances/{name}/source");
    let set = expect_json(put(gateway, &path, &source(number)).await, 200).await;
    let url = format!("{}/sources/cloud-api/{}", gateway.url, text(&made, "id"));
    assert_eq!(text(&set, "url"), url);
    assert_eq!(set["paste"]["callback_url"], url);
    assert_eq!(set["paste"]["verify_token"], "verify-me");
    text(&made, "id")
}

pub(crate) async fn post(gateway: &Gateway, path: &str, secret: &str, body: &str) -> Response {
    let request = gateway.client.post(format!("{}{path}", gateway.url));
    let request = request.header("x-hub-signature-256", sign(secret, body.as_bytes()));
    request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap()
}

/// The types of an instance's events, those of its own life left out.
pub(crate) async fn types(gateway: &Gateway, instance: &str) -> Vec<String> {
    let page = gateway.read(&format!("/v1/instances/{instance}/events?limit=1000")).await;
    let types = page["data"].as_array().unwrap().iter().map(|event| text(event, "type"));
    types.filter(|name| name != "instance.lifecycle" && name != "system.started").collect()
}

#[tokio::test]
async fn the_handshake_is_answered_to_whoever_knows_the_token() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, "shop", Some("900000000000101")).await;
    expect_json(put(&gateway, "/v1/source", &source(None)).await, 200).await;
    let account = text(&gateway.read("/v1/accounts/default").await, "id");
    for path in [
        format!("/sources/cloud-api/{id}"),
        "/sources/cloud-api/shop".to_owned(),
        "/sources/cloud-api".to_owned(),
        format!("/sources/cloud-api/{account}"),
    ] {
        let ask = async |query: &str| {
            gateway.client.get(format!("{}{path}?{query}", gateway.url)).send().await.unwrap()
        };
        let good =
            ask("hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=verify-me").await;
        assert_eq!(good.status(), 200, "{path}");
        assert!(good.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
        assert_eq!(good.text().await.unwrap(), "1158201444");
        for query in [
            "hub.mode=subscribe&hub.challenge=1&hub.verify_token=wrong",
            "hub.mode=subscribe&hub.challenge=1",
            "hub.mode=unsubscribe&hub.challenge=1&hub.verify_token=verify-me",
            "hub.mode=subscribe&hub.verify_token=verify-me",
            "",
        ] {
            expect_problem(ask(query).await, 403, "forbidden").await;
        }
    }
    let nobody = gateway.client.get(format!("{}/sources/cloud-api/nobody", gateway.url));
    expect_problem(nobody.send().await.unwrap(), 404, "instance_not_found").await;
    let unknown = format!("{}/sources/cloud-api/acc_01ARZ3NDEKTSV4RRFFQ69G5FAV", gateway.url);
    expect_problem(gateway.client.get(unknown).send().await.unwrap(), 404, "account_not_found")
        .await;
}

#[tokio::test]
async fn only_what_is_signed_is_taken() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, "shop", Some("900000000000101")).await;
    let path = format!("/sources/cloud-api/{id}");
    let url = format!("{}{path}", gateway.url);
    let send = async |signature: Option<&str>| {
        let mut request = gateway.client.post(&url).body(TEXT);
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        request.send().await.unwrap()
    };
    let good = sign("app-secret", TEXT.as_bytes());
    let of_another = sign("app-secret", b"{}");
    for signature in
        [None, Some("sha256="), Some("sha256=00"), Some(of_another.as_str()), Some(&good[7..])]
    {
        expect_problem(send(signature).await, 401, "wrong_signature").await;
    }
    expect_problem(post(&gateway, &path, "another secret", TEXT).await, 401, "wrong_signature")
        .await;
    assert_eq!(types(&gateway, "shop").await, Vec::<String>::new());

    let answer = expect_json(send(Some(&good)).await, 200).await;
    assert_eq!(answer["stored"], 1);
    let again = expect_json(send(Some(&good)).await, 200).await;
    assert_eq!(again["stored"], 0, "Meta's repeats are recognised");
    assert_eq!(types(&gateway, "shop").await, ["message.received"]);
    let page = gateway.read("/v1/instances/shop/events?types=message.*&include_raw=true").await;
    assert_eq!(page["data"][0]["source"]["kind"], "cloud-api");
    let whole: Value = serde_json::from_str(TEXT).unwrap();
    let element = &whole["entry"][0]["changes"][0]["value"]["messages"][0];
    assert_eq!(&page["data"][0]["raw"], element);

    for target in ["nobody", "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV", "_account"] {
        let answer =
            post(&gateway, &format!("/sources/cloud-api/{target}"), "app-secret", TEXT).await;
        expect_problem(answer, 404, "instance_not_found").await;
    }
}

#[tokio::test]
async fn each_change_goes_to_the_instance_of_its_number() {
    let gateway = Gateway::start(|_| {}).await;
    let first = connect(&gateway, "first", Some("900000000000101")).await;
    connect(&gateway, "second", Some("900000000000109")).await;
    let path = format!("/sources/cloud-api/{first}");
    let answer = expect_json(post(&gateway, &path, "app-secret", BATCH).await, 200).await;
    assert_eq!(answer["stored"], 6);
    let of_first = ["message.received", "message.received", "message.status", "message.status"];
    assert_eq!(types(&gateway, "first").await, of_first);
    assert_eq!(types(&gateway, "second").await, ["message.received"]);
    assert_eq!(types(&gateway, "_account").await, ["template.updated"]);
}

#[tokio::test]
async fn an_app_level_source_serves_all_numbers_of_its_account() {
    let gateway = Gateway::start(|_| {}).await;
    let set = expect_json(put(&gateway, "/v1/source", &source(None)).await, 200).await;
    let account = text(&gateway.read("/v1/accounts/default").await, "id");
    assert_eq!(text(&set, "url"), format!("{}/sources/cloud-api/{account}", gateway.url));
    connect(&gateway, "first", Some("900000000000101")).await;

    // Another account with another app; and the same number, too.
    expect_json(gateway.post("/v1/accounts", &json!({ "name": "other" })).await, 201).await;
    let other =
        |method, path: &str| gateway.request(method, path).header("zapbus-account", "other");
    let made = other(Method::POST, "/v1/instances").json(&json!({ "name": "theirs" })).send().await;
    let made = expect_json(made.unwrap(), 201).await;
    let their_path = format!("/v1/instances/{}/source", text(&made, "id"));
    let their_source = json!({ "type": "cloud-api", "app_secret": "their-secret", "phone_number_id": "900000000000101" });
    expect_json(put(&gateway, &their_path, &their_source).await, 200).await;
    let app = json!({ "type": "cloud-api", "app_secret": "their-secret", "verify_token": "x" });
    let set = other(Method::PUT, "/v1/source").json(&app).send().await.unwrap();
    expect_json(set, 200).await;

    expect_json(post(&gateway, "/sources/cloud-api", "app-secret", BATCH).await, 200).await;
    assert_eq!(types(&gateway, "first").await.len(), 4);
    // The second number is nobody's.
    let reserved = gateway.request(Method::GET, "/v1/instances/_account/events");
    let reserved = reserved.header("zapbus-account", "default").send().await.unwrap();
    let reserved = expect_json(reserved, 200).await;
    let kinds: Vec<String> =
        reserved["data"].as_array().unwrap().iter().map(|it| text(it, "type")).collect();
    assert!(
        kinds.ends_with(&["message.received".to_owned(), "template.updated".to_owned()]),
        "{kinds:?}"
    );
    assert_eq!(types(&gateway, &text(&made, "id")).await.len(), 0);

    expect_json(post(&gateway, "/sources/cloud-api", "their-secret", TEXT).await, 200).await;
    assert_eq!(types(&gateway, &text(&made, "id")).await, ["message.received"]);
    expect_problem(
        post(&gateway, "/sources/cloud-api", "nobodys", TEXT).await,
        401,
        "wrong_signature",
    )
    .await;
    // At one account's own URL only its own secret counts.
    let own = format!("/sources/cloud-api/{account}");
    expect_problem(post(&gateway, &own, "their-secret", TEXT).await, 401, "wrong_signature").await;

    // Taken away again.
    expect_json(put(&gateway, "/v1/source", &json!({ "type": "native" })).await, 200).await;
    expect_problem(post(&gateway, &own, "app-secret", TEXT).await, 404, "account_not_found").await;
    expect_problem(
        post(&gateway, "/sources/cloud-api", "app-secret", TEXT).await,
        401,
        "wrong_signature",
    )
    .await;
}

#[tokio::test]
async fn a_source_without_a_number_takes_what_nobody_else_claims() {
    let gateway = Gateway::start(|_| {}).await;
    let only = connect(&gateway, "only", None).await;
    connect(&gateway, "claims", Some("900000000000109")).await;
    let path = format!("/sources/cloud-api/{only}");
    expect_json(post(&gateway, &path, "app-secret", BATCH).await, 200).await;
    assert_eq!(types(&gateway, "only").await.len(), 4);
    assert_eq!(types(&gateway, "claims").await, ["message.received"]);
    assert_eq!(types(&gateway, "_account").await, ["template.updated"]);
}

#[tokio::test]
async fn what_is_signed_but_not_understood_is_kept() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, "shop", Some("900000000000101")).await;
    let path = format!("/sources/cloud-api/{id}");
    for body in ["not json at all", "{\"object\":\"page\"}", "[]"] {
        let answer = expect_json(post(&gateway, &path, "app-secret", body).await, 200).await;
        assert_eq!(answer["stored"], 1, "{body}");
    }
    assert_eq!(types(&gateway, "shop").await, ["event.unknown"; 3]);
    let large = format!("{{\"object\":\"{}\"}}", "x".repeat(3 << 20));
    expect_problem(post(&gateway, &path, "app-secret", &large).await, 413, "too_large").await;
    assert_eq!(types(&gateway, "shop").await.len(), 3);
}

#[tokio::test]
async fn what_is_wrong_with_a_source_is_said() {
    let gateway = Gateway::start(|_| {}).await;
    connect(&gateway, "shop", Some("900000000000101")).await;
    gateway.create_instance("other").await;
    let path = "/v1/instances/other/source";
    for (body, at, words) in [
        (json!({}), "type", "cloud-api"),
        (json!([]), "", "object"),
        (json!({ "type": "cloud_api" }), "type", "did you mean `cloud-api`?"),
        (json!({ "type": "cloud-api" }), "app_secret", "visible"),
        (json!({ "type": "cloud-api", "app_secret": "" }), "app_secret", "visible"),
        (
            json!({ "type": "cloud-api", "app_secret": "x", "verify_tokn": "y" }),
            "verify_tokn",
            "did you mean `verify_token`?",
        ),
        (json!({ "type": "native", "secret": "x" }), "secret", "unknown field"),
    ] {
        expect_fault(put(&gateway, path, &body).await, 422, "invalid", at, words).await;
    }
    let taken = put(&gateway, path, &source(Some("900000000000101"))).await;
    expect_problem(taken, 409, "phone_number_id_taken").await;
    let reserved = put(&gateway, "/v1/instances/_account/source", &source(None)).await;
    expect_problem(reserved, 409, "reserved_instance").await;
    let app = put(&gateway, "/v1/source", &source(Some("1"))).await;
    expect_fault(app, 422, "invalid", "phone_number_id", "all numbers").await;

    let shown = gateway.read("/v1/instances/shop/source").await;
    assert_eq!(shown["phone_number_id"], "900000000000101");
    assert!(!shown.to_string().contains("secret\"") && !shown.to_string().contains("verify-me"));
    let native = expect_json(put(&gateway, path, &json!({ "type": "native" })).await, 200).await;
    assert!(text(&native, "url").ends_with("/events"));
}

/// Somebody else's account with the same Meta app, or another.
pub(crate) async fn tenant(
    gateway: &Gateway,
    name: &str,
    secret: &str,
    number: Option<&str>,
) -> String {
    let made = expect_json(gateway.post("/v1/accounts", &json!({ "name": name })).await, 201).await;
    let request = |method, path: &str| {
        gateway.request(method, path).header("zapbus-account", text(&made, "id"))
    };
    let source = json!({ "type": "cloud-api", "app_secret": secret, "verify_token": name });
    let set = request(Method::PUT, "/v1/source").json(&source).send().await.unwrap();
    expect_json(set, 200).await;
    if let Some(number) = number {
        let body = json!({ "name": format!("of {name}") });
        let shop = request(Method::POST, "/v1/instances").json(&body).send().await.unwrap();
        let path = format!("/v1/instances/{}/source", text(&expect_json(shop, 201).await, "id"));
        let mut source = source;
        source["phone_number_id"] = json!(number);
        let set = request(Method::PUT, &path).json(&source).send().await.unwrap();
        expect_json(set, 200).await;
    }
    text(&made, "id")
}

/// The types of the events of an account's own instance.
pub(crate) async fn reserved(gateway: &Gateway, account: &str) -> Vec<String> {
    let path = "/v1/instances/_account/events?limit=1000";
    let request = gateway.request(Method::GET, path).header("zapbus-account", account);
    let page = expect_json(request.send().await.unwrap(), 200).await;
    page["data"].as_array().unwrap().iter().map(|event| text(event, "type")).collect()
}

#[tokio::test]
async fn accounts_that_share_an_app_get_each_their_own() {
    let gateway = Gateway::start(|_| {}).await;
    let first = tenant(&gateway, "first", "shared", None).await;
    let second = tenant(&gateway, "second", "shared", Some("900000000000101")).await;
    let third = tenant(&gateway, "third", "shared", Some("900000000000109")).await;
    let url = "/sources/cloud-api";
    let batch = BATCH.replace("900000000000002", "900000000000001");
    expect_json(post(&gateway, url, "shared", &batch).await, 200).await;
    assert_eq!(types(&gateway, "of second").await.len(), 4);
    assert_eq!(types(&gateway, "of third").await, ["message.received"]);
    assert_eq!(reserved(&gateway, &first).await, Vec::<String>::new());
    // What concerns the business account goes where its number is.
    let owners = [reserved(&gateway, &second).await, reserved(&gateway, &third).await].concat();
    assert_eq!(owners, ["template.updated"]);

    // A number that none of them has.
    let unknown = TEXT.replace("900000000000101", "900000000000777").replace("wamid.", "wamid.X");
    expect_json(post(&gateway, url, "shared", &unknown).await, 200).await;
    assert_eq!(types(&gateway, "of second").await.len(), 4);
    gateway.stop().await;
}

#[tokio::test]
async fn a_number_of_an_account_with_another_app_is_not_theirs() {
    let gateway = Gateway::start(|_| {}).await;
    tenant(&gateway, "stranger", "another", Some("900000000000101")).await;
    tenant(&gateway, "first", "shared", None).await;
    tenant(&gateway, "second", "shared", Some("900000000000101")).await;
    expect_json(post(&gateway, "/sources/cloud-api", "shared", TEXT).await, 200).await;
    assert_eq!(types(&gateway, "of stranger").await, Vec::<String>::new());
    assert_eq!(types(&gateway, "of second").await, ["message.received"]);
    gateway.stop().await;
}

#[tokio::test]
async fn more_apps_than_one_can_count_are_served() {
    let gateway = Gateway::start(|_| {}).await;
    for index in 0..40 {
        let number = (index == 39).then_some("900000000000101");
        tenant(
            &gateway,
            &format!("t{index}"),
            &format!("secret {index}").replace(' ', "-"),
            number,
        )
        .await;
    }
    expect_json(post(&gateway, "/sources/cloud-api", "secret-39", TEXT).await, 200).await;
    assert_eq!(types(&gateway, "of t39").await, ["message.received"]);
    let padded = format!("{TEXT}{}", " ".repeat(200_000));
    let again = expect_json(post(&gateway, "/sources/cloud-api", "secret-39", &padded).await, 200);
    assert_eq!(again.await["stored"], 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_source_is_an_event() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, "shop", Some("900000000000101")).await;
    let path = format!("/v1/instances/{id}/source");
    // The same again is no change.
    expect_json(put(&gateway, &path, &source(Some("900000000000101"))).await, 200).await;
    expect_json(put(&gateway, &path, &source(None)).await, 200).await;
    let events = format!("/v1/instances/{id}/events?types=instance.lifecycle");
    let page = gateway.read(&events).await;
    let actions: Vec<String> =
        page["data"].as_array().unwrap().iter().map(|it| text(&it["data"], "action")).collect();
    assert_eq!(actions, ["created", "loaded", "loaded"]);
    gateway.stop().await;
}

#[tokio::test]
async fn there_is_an_end_to_the_apps_that_are_tried() {
    let gateway = Gateway::start(|_| {}).await;
    let actor = zapbus_store::Actor("test".to_owned());
    let now = gateway.clock.now();
    let made = (0..1_000_u32).map(|index| {
        let account = zapbus_store::Account {
            id: zapbus_event::AccountId::new(now, index.into()),
            name: format!("t{index}"),
            source: None,
            created_at: now,
        };
        let source = json!({
            "type": "cloud-api", "app_secret": format!("s{index}"), "verify_token": "v",
        });
        let (store, actor) = (&gateway.app.store, &actor);
        async move {
            let id = account.id;
            store.create_account(account, actor, None).await.unwrap();
            store.set_account_source(id, Some(source), actor).await.unwrap();
        }
    });
    // A store on a server has a few connections, and nobody waits long for one.
    futures_util::stream::iter(made).buffer_unordered(4).collect::<Vec<()>>().await;
    let set = async |secret: &str| {
        let source = json!({ "type": "cloud-api", "app_secret": secret, "verify_token": "v" });
        put(&gateway, "/v1/source", &source).await
    };
    expect_problem(set("one more").await, 422, "invalid").await;
    expect_problem(set("one-more").await, 409, "too_many_sources").await;
    expect_json(set("s7").await, 200).await;
    expect_json(post(&gateway, "/sources/cloud-api", "s999", TEXT).await, 200).await;
    gateway.stop().await;
}
