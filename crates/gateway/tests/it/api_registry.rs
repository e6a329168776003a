//! Accounts, instances, credentials, audit: making, changing, paging, making once.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{Caller, expect_fault, expect_problem, text},
    server::{Gateway, expect_json, text_message},
};

async fn send(gateway: &Gateway, method: Method, path: &str, body: &Value) -> reqwest::Response {
    gateway.request(method, path).json(body).send().await.unwrap()
}

#[tokio::test]
async fn an_account_is_made_renamed_and_deleted_when_it_is_empty() {
    let gateway = Gateway::start(|_| {}).await;
    let made =
        expect_json(gateway.post("/v1/accounts", &json!({ "name": "acme" })).await, 201).await;
    let path = format!("/v1/accounts/{}", text(&made, "id"));
    assert_eq!(gateway.read(&path).await, made);
    assert_eq!(gateway.read("/v1/accounts/acme").await, made);
    let again = gateway.post("/v1/accounts", &json!({ "name": "acme" })).await;
    expect_problem(again, 409, "already_exists").await;

    let renamed = send(&gateway, Method::PATCH, &path, &json!({ "name": "acme gmbh" })).await;
    assert_eq!(text(&expect_json(renamed, 200).await, "name"), "acme gmbh");
    expect_problem(gateway.get("/v1/accounts/acme").await, 404, "account_not_found").await;

    let into = gateway.request(Method::POST, "/v1/instances").header("zapbus-account", "acme gmbh");
    let instance = into.json(&json!({ "name": "shop" })).send().await.unwrap();
    assert_eq!(expect_json(instance, 201).await["account"], made["id"]);
    let full = gateway.request(Method::DELETE, &path).send().await.unwrap();
    expect_problem(full, 409, "refused").await;

    let empty =
        expect_json(gateway.post("/v1/accounts", &json!({ "name": "empty" })).await, 201).await;
    let gone = gateway.request(Method::DELETE, &format!("/v1/accounts/{}", text(&empty, "id")));
    assert_eq!(gone.send().await.unwrap().status(), 204);
    expect_problem(gateway.get("/v1/accounts/empty").await, 404, "account_not_found").await;
}

#[tokio::test]
async fn what_is_wrong_with_a_name_is_said() {
    let gateway = Gateway::start(|_| {}).await;
    for name in ["", " shop", "a/b", "a\nb", &"x".repeat(121)] {
        for path in ["/v1/accounts", "/v1/instances"] {
            let answer = gateway.post(path, &json!({ "name": name })).await;
            expect_fault(answer, 422, "invalid", "name", "1 to 120 characters").await;
        }
    }
    let answer = gateway.post("/v1/instances", &json!({ "name": 5 })).await;
    expect_fault(answer, 422, "invalid", "name", "invalid type").await;
    let answer = gateway.post("/v1/instances", &json!({ "nam": "x" })).await;
    expect_fault(answer, 422, "invalid", "nam", "did you mean `name`?").await;
    let broken = gateway.request(Method::POST, "/v1/instances").body("{\"name\":");
    expect_problem(broken.send().await.unwrap(), 400, "malformed_body").await;
    let short = gateway.post("/v1/instances", &json!({ "name": "x", "token": "short" })).await;
    expect_fault(short, 422, "invalid", "token", "16 to 256").await;
    let reserved = gateway.post("/v1/instances", &json!({ "name": "_account" })).await;
    expect_problem(reserved, 409, "already_exists").await;
}

#[tokio::test]
async fn an_instance_is_made_shown_renamed_and_deleted() {
    let gateway = Gateway::start(|_| {}).await;
    let made = gateway.create_instance("shop").await;
    assert!(text(&made, "token").starts_with("zb_"));
    let shown = gateway.read("/v1/instances/shop").await;
    assert!(shown.get("token").is_none(), "a token is shown once");
    assert_eq!(shown["state"]["connection"], "unknown");
    assert_eq!(shown["source"], "native");
    assert!(shown["last_event_at"].is_string(), "its creation is its first event");
    let again = gateway.post("/v1/instances", &json!({ "name": "shop" })).await;
    expect_problem(again, 409, "already_exists").await;

    let connected = json!({
        "type": "instance.connected",
        "data": {
            "account": {
                "address": { "id": "5511999990000@s.whatsapp.net", "kind": "user", "phone": "5511999990000" },
                "name": "Loja",
            },
        },
    });
    gateway.post_event("shop", &connected).await;
    let shown = gateway.read("/v1/instances/shop").await;
    assert_eq!(shown["state"]["connection"], "connected", "{shown}");
    assert_eq!(shown["state"]["phone"], "5511999990000", "{shown}");
    assert_eq!(shown["state"]["name"], "Loja", "{shown}");

    let renamed =
        send(&gateway, Method::PATCH, "/v1/instances/shop", &json!({ "name": "store" })).await;
    assert_eq!(text(&expect_json(renamed, 200).await, "name"), "store");
    expect_problem(gateway.get("/v1/instances/shop").await, 404, "instance_not_found").await;
    let wrong = send(&gateway, Method::PATCH, "/v1/instances/store", &json!({ "nmae": "x" })).await;
    expect_fault(wrong, 422, "invalid", "nmae", "did you mean `name`?").await;
    for change in [
        send(&gateway, Method::PATCH, "/v1/instances/_account", &json!({ "name": "x" })).await,
        gateway.request(Method::DELETE, "/v1/instances/_account").send().await.unwrap(),
    ] {
        expect_problem(change, 409, "reserved_instance").await;
    }

    let gone = gateway.request(Method::DELETE, "/v1/instances/store").send().await.unwrap();
    assert_eq!(gone.status(), 204);
    expect_problem(gateway.get("/v1/instances/store").await, 404, "instance_not_found").await;
    let path = format!("/v1/instances/{}/events", text(&made, "id"));
    let late = gateway.post(&path, &text_message("1", "m", "hi")).await;
    expect_problem(late, 404, "instance_not_found").await;
    let events = gateway.read("/v1/events?types=instance.lifecycle").await;
    let actions: Vec<&str> = events["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["data"]["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["created", "deleted"]);
}

#[tokio::test]
async fn a_repeated_create_makes_one_thing_and_gives_one_answer() {
    let gateway = Gateway::start(|_| {}).await;
    let create = async |path: &str, key: &str, body: &Value| {
        let request = gateway.request(Method::POST, path).header("idempotency-key", key);
        let response = request.json(body).send().await.unwrap();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let status = response.status().as_u16();
        (status, replayed, response.json::<Value>().await.unwrap())
    };
    let credentials = "/v1/accounts/default/credentials";
    let hook = json!({ "channel": { "type": "webhook", "url": "https://example.com/" } });
    for (path, body, other) in [
        ("/v1/accounts", json!({ "name": "acme" }), json!({ "name": "other" })),
        ("/v1/instances", json!({ "name": "shop" }), json!({ "name": "other" })),
        (credentials, json!({ "name": "n8n" }), json!({ "name": "other" })),
        (
            "/v1/instances/shop/destinations",
            hook.clone(),
            json!({ "label": "x", "channel": hook["channel"] }),
        ),
        ("/v1/destinations", hook.clone(), json!({ "label": "x", "channel": hook["channel"] })),
    ] {
        let key = format!("key of {path}");
        let first = create(path, &key, &body).await;
        assert_eq!((first.0, first.1), (201, false), "{path}: {}", first.2);
        let second = create(path, &key, &body).await;
        assert_eq!((second.0, second.1, second.2), (201, true, first.2), "{path}");
        let reused = create(path, &key, &other).await;
        assert_eq!(
            (reused.0, &reused.2["code"]),
            (422, &json!("idempotency_key_reused")),
            "{path}"
        );
    }
    // At the same moment, too.
    let body = json!({ "name": "twice" });
    let (one, two) =
        tokio::join!(create("/v1/instances", "k2", &body), create("/v1/instances", "k2", &body));
    assert_eq!((one.0, two.0), (201, 201), "{} {}", one.2, two.2);
    assert_eq!(one.2, two.2);
    // After a day the key is free again.
    gateway.clock.advance(std::time::Duration::from_secs(24 * 3600 + 60));
    let late = create("/v1/instances", "k2", &json!({ "name": "new" })).await;
    assert_eq!((late.0, late.1), (201, false), "{}", late.2);
    let long =
        gateway.request(Method::POST, "/v1/instances").header("idempotency-key", "x".repeat(256));
    let long = long.json(&json!({ "name": "long" })).send().await.unwrap();
    expect_fault(long, 422, "invalid", "Idempotency-Key", "255").await;
}

#[tokio::test]
async fn every_list_comes_in_pages() {
    let gateway = Gateway::start(|_| {}).await;
    let hook = |label: &str| {
        json!({
            "label": label,
            "channel": { "type": "webhook", "url": "https://example.com/" },
            "events": ["call.*"],
        })
    };
    gateway.create_instance("shop").await;
    for index in 0..5 {
        let name = format!("n{index}");
        gateway.create_instance(&name).await;
        for (path, body) in [
            ("/v1/accounts", json!({ "name": name })),
            ("/v1/accounts/default/credentials", json!({ "name": name })),
            ("/v1/instances/shop/destinations", hook(&name)),
        ] {
            expect_json(gateway.post(path, &body).await, 201).await;
        }
        gateway.post_event("shop", &text_message("1", &name, "hi")).await;
    }
    for path in [
        "/v1/accounts",
        "/v1/instances",
        "/v1/accounts/default/credentials",
        "/v1/instances/shop/destinations",
        "/v1/destinations",
        "/v1/audit",
        "/v1/instances/shop/events",
        "/v1/events",
    ] {
        let whole = gateway.read(&format!("{path}?limit=1000")).await;
        let whole = whole["data"].as_array().unwrap().clone();
        assert!(whole.len() >= 5, "{path}");
        let mut pieces = Vec::new();
        let mut after = String::new();
        loop {
            let page = gateway.read(&format!("{path}?limit=2{after}")).await;
            let data = page["data"].as_array().unwrap();
            assert!(data.len() <= 2, "{path}");
            pieces.extend(data.iter().cloned());
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
            assert!(pieces.len() <= whole.len(), "{path} does not end");
        }
        assert_eq!(pieces, whole, "{path}");
        for (query, at) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("lmit=1", "lmit"),
            ("after=%25", "after"),
        ] {
            let answer = gateway.get(&format!("{path}?{query}")).await;
            expect_fault(answer, 400, "invalid_query", at, "").await;
        }
    }
}

#[tokio::test]
async fn the_audit_log_says_who_changed_what_and_no_secret() {
    let gateway = Gateway::start(|_| {}).await;
    let credential = json!({ "name": "n8n" });
    let made = gateway.post("/v1/accounts/default/credentials", &credential).await;
    let made = expect_json(made, 201).await;
    let caller = Caller::new(&gateway, text(&made, "secret"));
    let instance = caller.made("/v1/instances", &json!({ "name": "shop" }), 201).await;
    let hook = json!({ "channel": { "type": "webhook", "url": "https://example.com/", "authorization": "Bearer hush" } });
    let destination = caller.made("/v1/instances/shop/destinations", &hook, 201).await;
    let source =
        json!({ "type": "cloud-api", "app_secret": "hush-hush", "verify_token": "hush-too" });
    let set = caller.send(Method::PUT, "/v1/instances/shop/source", &source).await;
    expect_json(set, 200).await;

    let page = expect_json(caller.get("/v1/audit").await, 200).await;
    let text_of_page = page.to_string();
    for secret in [
        "hush",
        text(&made, "secret").as_str(),
        text(&instance, "token").as_str(),
        text(&destination["channel"], "secret").as_str(),
    ] {
        assert!(!text_of_page.contains(secret), "{secret} is in the audit log");
    }
    let lines = page["data"].as_array().unwrap();
    let by_us: Vec<&Value> = lines.iter().filter(|line| line["actor"] == made["id"]).collect();
    assert_eq!(by_us.len(), 3, "{page}");
    assert!(lines.iter().any(|line| line["target"] == destination["id"]));
}

#[tokio::test]
async fn a_credential_of_one_instance_reaches_only_it() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    gateway.create_instance("other").await;
    let path = "/v1/accounts/default/credentials";
    let body = json!({ "name": "n8n", "role": "instance", "instance": "shop" });
    let made = expect_json(gateway.post(path, &body).await, 201).await;
    assert_eq!(made["role"], "instance");
    let caller = Caller::new(&gateway, text(&made, "secret"));
    assert_eq!(caller.get("/v1/instances/shop").await.status(), 200);
    expect_problem(caller.get("/v1/instances/other").await, 404, "instance_not_found").await;

    let none = gateway.post(path, &json!({ "name": "x", "role": "instance" })).await;
    expect_fault(none, 422, "invalid", "instance", "needed").await;
    let many = gateway.post(path, &json!({ "name": "x", "instance": "shop" })).await;
    expect_fault(many, 422, "invalid", "instance", "role").await;
    let odd = gateway.post(path, &json!({ "name": "x", "role": "instanc" })).await;
    expect_fault(odd, 422, "invalid", "role", "did you mean `instance`?").await;
    let past =
        gateway.post(path, &json!({ "name": "x", "expires_at": "2020-01-01T00:00:00Z" })).await;
    expect_fault(past, 422, "invalid", "expires_at", "time to come").await;
    let list = gateway.read(path).await;
    assert!(!list.to_string().contains(&text(&made, "secret")));
}

#[tokio::test]
async fn the_default_account_keeps_its_name() {
    let gateway = Gateway::start(|_| {}).await;
    let path = "/v1/accounts/default";
    let renamed = send(&gateway, Method::PATCH, path, &json!({ "name": "main" })).await;
    expect_problem(renamed, 409, "reserved_account").await;
    let same = send(&gateway, Method::PATCH, path, &json!({ "name": "default" })).await;
    expect_json(same, 200).await;
    gateway.create_instance("shop").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_page_of_instances_is_full_although_some_are_not_shown() {
    let gateway = Gateway::start(|_| {}).await;
    for index in 0..6 {
        gateway.create_instance(&format!("i{index}")).await;
    }
    for name in ["i0", "i1", "i3"] {
        let path = format!("/v1/instances/{name}");
        gateway.request(Method::DELETE, &path).send().await.unwrap();
    }
    let names = |page: &Value| -> Vec<String> {
        page["data"].as_array().unwrap().iter().map(|it| text(it, "name")).collect()
    };
    let first = gateway.read("/v1/instances?limit=2").await;
    assert_eq!(names(&first), ["i2", "i4"]);
    let path = format!("/v1/instances?limit=2&after={}", text(&first, "next"));
    let second = gateway.read(&path).await;
    assert_eq!(names(&second), ["i5"]);
    assert_eq!(second["next"], Value::Null);
    gateway.stop().await;
}

#[tokio::test]
async fn a_credential_has_a_public_id() {
    let gateway = Gateway::start(|_| {}).await;
    let path = "/v1/accounts/default/credentials";
    let made = expect_json(gateway.post(path, &json!({ "name": "a" })).await, 201).await;
    assert!(text(&made, "client_token").starts_with("zbc_"), "{made}");
    let own = json!({ "name": "b", "client_token": "panel" });
    let made = expect_json(gateway.post(path, &own).await, 201).await;
    assert_eq!(made["client_token"], "panel");
    expect_problem(gateway.post(path, &own).await, 409, "already_exists").await;
    gateway.create_instance("shop").await;
    let of_instance =
        json!({ "name": "c", "role": "instance", "instance": "shop", "client_token": "c" });
    let refused = gateway.post(path, &of_instance).await;
    expect_fault(refused, 422, "invalid", "client_token", "account").await;
    let faulty = json!({ "name": "d", "client_token": "a b" });
    expect_fault(gateway.post(path, &faulty).await, 422, "invalid", "client_token", "ASCII").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_repeat_by_another_way_of_writing_the_url_is_a_repeat() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let gateway = Gateway::start(|_| {}).await;
    let create = async |host: &str| {
        let address = gateway.url.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let body = r#"{"name":"shop"}"#;
        // With a host in it, as HTTP/2 and proxies write it.
        let request = format!(
            "POST {host}/v1/instances HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
             idempotency-key: k\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            gateway.token(),
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let first = create("").await;
    assert!(first.starts_with("HTTP/1.1 201"), "{first}");
    let again = create("http://bus.example.com").await;
    assert!(again.starts_with("HTTP/1.1 201") && again.contains("idempotency-replayed"), "{again}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_that_somebody_has_is_refused() {
    let gateway = Gateway::start(|_| {}).await;
    let token = "a-token-of-my-own-0123456789";
    let shop = json!({ "name": "shop", "token": token });
    let made = expect_json(gateway.post("/v1/instances", &shop).await, 201).await;
    expect_json(gateway.post("/v1/accounts", &json!({ "name": "other" })).await, 201).await;
    let other = |method, path: &str, body: Value| {
        gateway.request(method, path).header("zapbus-account", "other").json(&body).send()
    };
    let refused = other(Method::POST, "/v1/instances", shop).await.unwrap();
    expect_problem(refused, 409, "token_taken").await;
    let theirs = json!({ "name": "theirs", "token": "another-token-0123456789" });
    let theirs = other(Method::POST, "/v1/instances", theirs).await.unwrap();
    let theirs = text(&expect_json(theirs, 201).await, "id");
    let path = format!("/v1/instances/{theirs}");
    let refused = other(Method::PATCH, &path, json!({ "token": token })).await.unwrap();
    expect_problem(refused, 409, "token_taken").await;
    // It still acts for the first, and for the first only.
    let asked = gateway.client.get(format!("{}/v1/instances", gateway.url)).bearer_auth(token);
    let listed = expect_json(asked.send().await.unwrap(), 200).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(listed["data"][0]["id"], made["id"]);
    gateway.stop().await;
}
