//! Who may do what, and that nobody learns of others.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{Caller, Tenant, expect_problem, text},
    receiver::Receiver,
    server::{Gateway, expect_json, text_message},
};

#[tokio::test]
async fn a_request_without_a_good_token_is_refused() {
    let gateway = Gateway::start(|_| {}).await;
    let url = format!("{}/v1/instances", gateway.url);
    let ask = || gateway.client.get(&url);

    let none = ask().send().await.unwrap();
    assert!(none.headers().contains_key("www-authenticate"));
    expect_problem(none, 401, "unauthenticated").await;
    expect_problem(ask().bearer_auth("zb_nobody").send().await.unwrap(), 401, "unauthenticated")
        .await;
    let basic = ask().basic_auth("admin", Some(gateway.token())).send().await.unwrap();
    expect_problem(basic, 401, "unauthenticated").await;
    // Not in the query: URLs end up in logs.
    let query =
        gateway.client.get(format!("{url}?token={}", gateway.token())).send().await.unwrap();
    expect_problem(query, 401, "unauthenticated").await;
    assert_eq!(gateway.get("/v1/instances").await.status(), 200);
}

#[tokio::test]
async fn a_revoked_an_expired_and_a_replaced_token_are_refused_at_once() {
    let gateway = Gateway::start(|_| {}).await;
    let path = "/v1/accounts/default/credentials";
    let make = async |body: Value| expect_json(gateway.post(path, &body).await, 201).await;
    let ok =
        async |token: &str| Caller::new(&gateway, token).get("/v1/instances").await.status() == 200;

    let revoked = make(json!({ "name": "a" })).await;
    assert!(ok(&text(&revoked, "secret")).await);
    let one = format!("{path}/{}", text(&revoked, "id"));
    let answer = gateway.request(Method::DELETE, &one).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert!(!ok(&text(&revoked, "secret")).await);

    let later = gateway.clock.now() + Duration::from_secs(60);
    let ending = make(json!({ "name": "b", "expires_at": later.to_string() })).await;
    assert!(ok(&text(&ending, "secret")).await);
    gateway.clock.advance(Duration::from_secs(61));
    assert!(!ok(&text(&ending, "secret")).await);

    let expired = make(json!({ "name": "c" })).await;
    assert!(ok(&text(&expired, "secret")).await);
    let one = format!("{path}/{}/expire", text(&expired, "id"));
    expect_json(gateway.post(&one, &json!({})).await, 200).await;
    assert!(!ok(&text(&expired, "secret")).await);

    let turned = make(json!({ "name": "d" })).await;
    let one = format!("{path}/{}/rotate", text(&turned, "id"));
    let new = expect_json(gateway.post(&one, &json!({ "overlap_s": 60 })).await, 200).await;
    assert!(ok(&text(&turned, "secret")).await, "the old one works during the overlap");
    assert!(ok(&text(&new, "secret")).await);
    gateway.clock.advance(Duration::from_secs(61));
    assert!(!ok(&text(&turned, "secret")).await);
    assert!(ok(&text(&new, "secret")).await);

    let instance = gateway.create_instance("shop").await;
    assert!(ok(&text(&instance, "token")).await);
    let rotate = gateway.request(Method::PATCH, "/v1/instances/shop");
    let rotated = rotate.json(&json!({ "rotate_token": true })).send().await.unwrap();
    let rotated = expect_json(rotated, 200).await;
    assert!(!ok(&text(&instance, "token")).await);
    assert!(ok(&text(&rotated, "token")).await);
    let gone = gateway.request(Method::DELETE, "/v1/instances/shop").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    assert!(!ok(&text(&rotated, "token")).await);
}

/// Every route that names something: (method, path, body). `{account}` and so on stand for ids.
fn named_routes() -> Vec<(Method, &'static str, Value)> {
    let hook = json!({ "channel": { "type": "webhook", "url": "https://example.com/" } });
    let native = json!({ "type": "native" });
    vec![
        (Method::GET, "/v1/accounts/{account}", Value::Null),
        (Method::PATCH, "/v1/accounts/{account}", json!({ "name": "mine" })),
        (Method::DELETE, "/v1/accounts/{account}", Value::Null),
        (Method::GET, "/v1/accounts/{account}/credentials", Value::Null),
        (Method::POST, "/v1/accounts/{account}/credentials", json!({ "name": "x" })),
        (Method::DELETE, "/v1/accounts/{account}/credentials/{credential}", Value::Null),
        (Method::POST, "/v1/accounts/{account}/credentials/{credential}/expire", json!({})),
        (Method::POST, "/v1/accounts/{account}/credentials/{credential}/rotate", json!({})),
        (Method::DELETE, "/v1/accounts/{own}/credentials/{credential}", Value::Null),
        (Method::POST, "/v1/accounts/{own}/credentials/{credential}/rotate", json!({})),
        (Method::GET, "/v1/instances/{instance}", Value::Null),
        (Method::PATCH, "/v1/instances/{instance}", json!({ "rotate_token": true })),
        (Method::DELETE, "/v1/instances/{instance}", Value::Null),
        (Method::GET, "/v1/instances/{instance}/source", Value::Null),
        (Method::PUT, "/v1/instances/{instance}/source", native),
        (Method::GET, "/v1/instances/{instance}/events", Value::Null),
        (Method::POST, "/v1/instances/{instance}/events", text_message("1", "m", "hi")),
        (Method::GET, "/v1/instances/{instance}/destinations", Value::Null),
        (Method::POST, "/v1/instances/{instance}/destinations", hook),
        (Method::GET, "/v1/events/{event}", Value::Null),
        (Method::GET, "/v1/destinations?instance={instance}", Value::Null),
        (Method::GET, "/v1/destinations/{destination}", Value::Null),
        (Method::PATCH, "/v1/destinations/{destination}", json!({ "label": "mine" })),
        (Method::DELETE, "/v1/destinations/{destination}", Value::Null),
        (Method::POST, "/v1/destinations/{destination}/test", json!({})),
        (Method::POST, "/v1/destinations/{destination}/pause", json!({})),
        (Method::POST, "/v1/destinations/{destination}/resume", json!({})),
        (Method::POST, "/v1/destinations/{destination}/rotate-secret", json!({})),
        (Method::POST, "/v1/destinations/{destination}/replay", json!({ "from": "beginning" })),
        (Method::GET, "/v1/destinations/{destination}/runs", Value::Null),
        (Method::POST, "/v1/destinations/{destination}/runs/1/pause", Value::Null),
        (Method::POST, "/v1/destinations/{destination}/runs/1/resume", Value::Null),
        (Method::POST, "/v1/destinations/{destination}/runs/1/cancel", Value::Null),
        (Method::GET, "/v1/destinations/{global}", Value::Null),
        (Method::DELETE, "/v1/destinations/{global}", Value::Null),
        (Method::GET, "/v1/deliveries?instance={instance}", Value::Null),
        (Method::GET, "/v1/deliveries?destination={destination}", Value::Null),
        (Method::GET, "/v1/deliveries/{delivery}", Value::Null),
        (Method::POST, "/v1/deliveries/{delivery}/retry", Value::Null),
        (Method::POST, "/v1/deliveries/retry", json!({ "destination": "{destination}" })),
        (Method::POST, "/v1/deliveries/retry", json!({ "instance": "{instance}" })),
        (Method::POST, "/v1/erasures", json!({ "type": "instance", "instance": "{instance}" })),
        (
            Method::POST,
            "/v1/erasures",
            json!({ "type": "chat", "instance": "{instance}", "chat": "1@s.whatsapp.net" }),
        ),
    ]
}

/// Ids to put into a route.
struct Ids<'a> {
    own: &'a str,
    account: &'a str,
    credential: &'a str,
    instance: &'a str,
    destination: &'a str,
    global: &'a str,
    event: &'a str,
    delivery: &'a str,
}

impl Ids<'_> {
    fn put_into(&self, template: &str) -> String {
        template
            .replace("{own}", self.own)
            .replace("{account}", self.account)
            .replace("{credential}", self.credential)
            .replace("{instance}", self.instance)
            .replace("{destination}", self.destination)
            .replace("{global}", self.global)
            .replace("{event}", self.event)
            .replace("{delivery}", self.delivery)
    }
}

async fn answer(
    caller: &Caller<'_>,
    route: &(Method, &str, Value),
    ids: &Ids<'_>,
) -> (u16, String) {
    let (method, path, body) = route;
    let mut request = caller.request(method.clone(), &ids.put_into(path));
    if !body.is_null() {
        request = request
            .header("content-type", "application/json")
            .body(ids.put_into(&body.to_string()));
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn what_belongs_to_others_answers_like_what_does_not_exist() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    let mine = Tenant::create(&gateway, "mine", &receiver.url("/")).await;
    let theirs = Tenant::create(&gateway, "theirs", &receiver.url("/")).await;
    let path = format!("/v1/instances/{}/events", theirs.instance);
    let posted = theirs.caller.made(&path, &text_message("1", "m", "hi"), 200).await;
    let event = text(&posted["results"][0], "id");
    receiver.wait_for(2).await;
    let delivery = crate::server::eventually("the delivery is logged", async || {
        let path = format!("/v1/deliveries?event_id={event}");
        let page = expect_json(theirs.caller.get(&path).await, 200).await;
        page["data"][0]["id"].as_str().map(str::to_owned)
    })
    .await;

    let foreign = Ids {
        own: &mine.account,
        account: &theirs.account,
        credential: &theirs.credential,
        instance: &theirs.instance,
        destination: &theirs.destination,
        global: &theirs.global,
        event: &event,
        delivery: &delivery,
    };
    let unknown = Ids {
        own: &mine.account,
        account: "acc_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        credential: "crd_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        instance: "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        destination: "dst_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        global: "dst_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        event: "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV",
        delivery: "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_1",
    };
    let instance_token = Caller::new(&gateway, mine.instance_token.clone());
    for route in named_routes() {
        for caller in [&mine.caller, &instance_token] {
            let (status, body) = answer(caller, &route, &foreign).await;
            let expected = answer(caller, &route, &unknown).await;
            assert_eq!((status, &body), (expected.0, &expected.1), "{} {}", route.0, route.1);
            assert!(
                status == 404 || status == 403,
                "{} {} answered {status}: {body}",
                route.0,
                route.1
            );
        }
    }
    // And nothing of it happened.
    let shown = theirs.caller.get(&format!("/v1/destinations/{}", theirs.destination)).await;
    let shown = expect_json(shown, 200).await;
    assert_eq!(
        (shown["state"].clone(), shown["label"].clone()),
        (json!("active"), json!("default"))
    );
    assert_eq!(receiver.received().len(), 2);

    // Lists hold only one's own.
    for path in ["/v1/instances", "/v1/destinations", "/v1/events", "/v1/deliveries", "/v1/audit"] {
        let page = mine.caller.get(path).await.text().await.unwrap();
        for id in [&theirs.account, &theirs.instance, &theirs.destination, &event, &delivery] {
            assert!(!page.contains(id.as_str()), "{path} holds {id}");
        }
    }
    // The header names only one's own account.
    for account in [theirs.account.as_str(), "theirs", "nobody"] {
        let request = mine.caller.request(Method::GET, "/v1/instances");
        let response = request.header("zapbus-account", account).send().await.unwrap();
        expect_problem(response, 404, "account_not_found").await;
    }
}

#[tokio::test]
async fn each_role_reaches_as_far_as_it_should() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    let tenant = Tenant::create(&gateway, "mine", &receiver.url("/")).await;
    let other = tenant.caller.made("/v1/instances", &json!({ "name": "other" }), 201).await;
    let instance = Caller::new(&gateway, tenant.instance_token.clone());
    let admin = Caller::new(&gateway, gateway.token());
    let own = format!("/v1/instances/{}", tenant.instance);
    let destination = format!("/v1/destinations/{}", tenant.destination);
    let hook =
        json!({ "label": "more", "channel": { "type": "webhook", "url": receiver.url("/") } });
    let post = text_message("1", "m", "hi");

    // (method, path, body, [admin, account, instance])
    let table = [
        (Method::GET, "/v1/accounts".to_owned(), Value::Null, [200, 200, 403]),
        (Method::POST, "/v1/accounts".to_owned(), json!({ "name": "" }), [422, 403, 403]),
        (
            Method::PATCH,
            format!("/v1/accounts/{}", tenant.account),
            json!({ "name": "" }),
            [422, 403, 403],
        ),
        (Method::DELETE, format!("/v1/accounts/{}", tenant.account), Value::Null, [409, 403, 403]),
        (
            Method::GET,
            format!("/v1/accounts/{}/credentials", tenant.account),
            Value::Null,
            [200, 200, 403],
        ),
        (Method::POST, "/v1/instances".to_owned(), json!({ "name": "" }), [422, 422, 403]),
        (Method::GET, "/v1/instances".to_owned(), Value::Null, [200, 200, 200]),
        (Method::GET, own.clone(), Value::Null, [200, 200, 200]),
        (Method::PATCH, own.clone(), json!({}), [200, 200, 403]),
        (Method::GET, format!("{own}/source"), Value::Null, [200, 200, 200]),
        (Method::PUT, format!("{own}/source"), json!({ "type": "native" }), [200, 200, 403]),
        (Method::GET, "/v1/source".to_owned(), Value::Null, [200, 200, 403]),
        (Method::PUT, "/v1/source".to_owned(), json!({ "type": "native" }), [200, 200, 403]),
        (Method::GET, format!("{own}/events"), Value::Null, [200, 200, 200]),
        (Method::POST, format!("{own}/events"), post, [200, 200, 200]),
        (Method::GET, "/v1/events".to_owned(), Value::Null, [200, 200, 200]),
        (Method::GET, "/v1/event-types".to_owned(), Value::Null, [200, 200, 200]),
        (Method::GET, format!("{own}/destinations"), Value::Null, [200, 200, 200]),
        (Method::POST, format!("{own}/destinations"), hook.clone(), [201, 409, 409]),
        (Method::POST, "/v1/destinations".to_owned(), json!({ "channel": {} }), [422, 422, 403]),
        (Method::GET, destination.clone(), Value::Null, [200, 200, 200]),
        (Method::POST, format!("{destination}/pause"), json!({}), [200, 200, 200]),
        (Method::POST, format!("{destination}/resume"), json!({}), [200, 200, 200]),
        (Method::GET, format!("/v1/destinations/{}", tenant.global), Value::Null, [200, 200, 404]),
        (
            Method::GET,
            format!("/v1/instances/{}", text(&other, "id")),
            Value::Null,
            [200, 200, 404],
        ),
        (Method::GET, "/v1/deliveries".to_owned(), Value::Null, [200, 200, 200]),
        (
            Method::POST,
            "/v1/deliveries/retry".to_owned(),
            json!({ "status": ["dead"], "dry_run": true }),
            [200, 200, 422],
        ),
        (Method::GET, "/v1/audit".to_owned(), Value::Null, [200, 200, 403]),
        (
            Method::POST,
            "/v1/erasures".to_owned(),
            json!({ "type": "person", "address": "9@s.whatsapp.net" }),
            [200, 200, 403],
        ),
    ];
    for (method, path, body, expected) in table {
        for (caller, expected) in [&admin, &tenant.caller, &instance].into_iter().zip(expected) {
            let mut request = caller.request(method.clone(), &path);
            if !body.is_null() {
                request = request.json(&body);
            }
            let response = request.send().await.unwrap();
            let status = response.status();
            let text = response.text().await.unwrap();
            assert_eq!(status, expected, "{method} {path} {body}: {text}");
        }
    }
    // An instance token's lists hold what is its instance's.
    let page = expect_json(instance.get("/v1/destinations").await, 200).await;
    assert!(!page.to_string().contains(&tenant.global));
    let page = expect_json(instance.get("/v1/instances").await, 200).await;
    assert_eq!(page["data"].as_array().unwrap().len(), 1);
    let page = expect_json(instance.get("/v1/deliveries").await, 200).await;
    assert!(!page.to_string().contains(&tenant.global));
}

#[tokio::test]
async fn a_name_that_two_accounts_use_needs_the_account() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    let one = Tenant::create(&gateway, "one", &receiver.url("/")).await;
    assert_eq!(gateway.get("/v1/instances/shop").await.status(), 200);
    let _two = Tenant::create(&gateway, "two", &receiver.url("/")).await;

    expect_problem(gateway.get("/v1/instances/shop").await, 409, "ambiguous_instance").await;
    let request = gateway.request(Method::GET, "/v1/instances/shop");
    let found = request.header("zapbus-account", "one").send().await.unwrap();
    assert_eq!(text(&expect_json(found, 200).await, "id"), one.instance);
    let found = expect_json(one.caller.get("/v1/instances/shop").await, 200).await;
    assert_eq!(text(&found, "id"), one.instance);
    // Every form of the id is the same instance.
    for form in [&found["ids"]["vzaps"], &found["ids"]["uuid"], &found["id"]] {
        let path = format!("/v1/instances/{}", form.as_str().unwrap());
        assert_eq!(text(&gateway.read(&path).await, "id"), one.instance);
    }
    expect_problem(gateway.get("/v1/instances/nobody").await, 404, "instance_not_found").await;
}
