//! Webhooks of Evolution API, wuzapi and WAHA: whose they are, what they say, what they get
//! answered.

mod again;
mod files;
mod links;
mod products;

pub(crate) use self::files::picture;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use zapbus_event::InstanceId;

use self::products::{EVOLUTION, Post, Product, SECRET, WAHA, WUZAPI, connect};
use crate::{
    api::{expect_fault, expect_problem, text},
    api_cloud_api::{put, types},
    command_line::{asked, zapbus},
    server::{Gateway, expect_json},
};

/// Everything of one product, each in an instance of its own; then all of it again.
async fn everything(product: Product) {
    let gateway = Gateway::start(|_| {}).await;
    let expected = product.expected();
    assert!(expected.len() > 20);
    for (index, (file, kinds)) in expected.into_iter().enumerate() {
        let name = format!("shop {index}");
        let id = connect(&gateway, product, &name).await;
        let post = product.post(&file);
        let answer = expect_json(post.send(&gateway, &id).await, 200).await;
        assert_eq!(answer["stored"], kinds.len(), "{file}");
        let page = gateway.read(&format!("/v1/instances/{id}/events?limit=1000")).await;
        let events = page["data"].as_array().unwrap().iter();
        let own = events.filter(|event| event["source"]["kind"] == product.name);
        assert_eq!(own.map(|event| text(event, "type")).collect::<Vec<_>>(), kinds, "{file}");
        // What has no key is news each time: a second logout has the words of the first.
        let news = post.decoded().filter(|draft| draft.keys.is_empty()).count();
        let again = expect_json(post.send(&gateway, &id).await, 200).await;
        assert_eq!(again["stored"], news, "{file}");
    }
}

#[tokio::test]
async fn everything_that_evolution_posts_is_taken_once() {
    everything(EVOLUTION).await;
}

#[tokio::test]
async fn everything_that_wuzapi_posts_is_taken_once() {
    everything(WUZAPI).await;
}

#[tokio::test]
async fn everything_that_waha_posts_is_taken_once() {
    everything(WAHA).await;
}

/// A small text message of each product.
fn message(product: Product) -> Post {
    product.post(match product {
        EVOLUTION => "messages-upsert-text.json",
        _ => "message-text.json",
    })
}

#[tokio::test]
async fn only_what_the_product_sends_is_taken() {
    let gateway = Gateway::start(|_| {}).await;
    for product in [EVOLUTION, WUZAPI, WAHA] {
        let id = connect(&gateway, product, product.name).await;
        let post = message(product);
        for refused in [
            post.clone().unsigned(),
            post.clone()
                .unsigned()
                .with_header("authorization", "Bearer another-secret-0123456789"),
            post.clone().unsigned().with_header("authorization", SECRET),
            post.clone().unsigned().with_query("secret=another-secret-0123456789"),
            post.clone().unsigned().with_query("secret="),
            post.clone().signed_with("another-secret-0123456789-0123456789"),
        ] {
            expect_problem(refused.send(&gateway, &id).await, 401, "wrong_signature").await;
        }
        if let Some(header) = product.header {
            let signature = product.sign(SECRET, b"{}");
            for wrong in [signature.as_str(), "", "00", &signature[1..]] {
                // A signature that does not fit is not made good by a secret.
                let forged = post.clone().unsigned().with_header(header, wrong);
                let forged = forged.with_query(&format!("secret={SECRET}"));
                expect_problem(forged.send(&gateway, &id).await, 401, "wrong_signature").await;
            }
        }
        assert_eq!(types(&gateway, &id).await, Vec::<String>::new(), "{}", product.name);

        for (taken, stored) in [
            (post.clone(), 1),
            (post.clone(), 0),
            (post.clone().unsigned().with_query(&format!("secret={SECRET}")), 0),
            (post.clone().unsigned().with_header("authorization", &format!("Bearer {SECRET}")), 0),
        ] {
            let answer = expect_json(taken.send(&gateway, &id).await, 200).await;
            assert_eq!(answer["stored"], stored, "{}", product.name);
        }
        assert_eq!(types(&gateway, &id).await, ["message.received"]);
        // By name, too.
        expect_json(post.send(&gateway, product.name).await, 200).await;
        for target in ["nobody", "ins_01ARZ3NDEKTSV4RRFFQ69G5FAV", "_account"] {
            expect_problem(post.send(&gateway, target).await, 404, "instance_not_found").await;
        }
    }
    // Each product has its own URL, and none where there is no such source.
    gateway.create_instance("native").await;
    for (product, instance) in [(EVOLUTION, "waha"), (WUZAPI, "evolution"), (WAHA, "native")] {
        let answer = message(product).send(&gateway, instance).await;
        expect_problem(answer, 404, "instance_not_found").await;
    }
    let metrics = gateway.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("source=\"wuzapi\""), "{metrics}");
}

#[tokio::test]
async fn a_new_secret_ends_the_old_one() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, WAHA, "shop").await;
    let path = format!("/v1/instances/{id}/source");
    // What is left out stays; only `null` asks for another.
    let set = expect_json(put(&gateway, &path, &json!({ "type": "waha" })).await, 200).await;
    assert_eq!(text(&set["paste"], "secret"), SECRET);
    let anew = json!({ "type": "waha", "secret": null });
    let set = expect_json(put(&gateway, &path, &anew).await, 200).await;
    let secret = text(&set["paste"], "secret");
    assert!(secret.len() > 32 && secret != SECRET);
    let post = message(WAHA);
    expect_problem(post.send(&gateway, &id).await, 401, "wrong_signature").await;
    expect_json(post.signed_with(&secret).send(&gateway, &id).await, 200).await;
}

#[tokio::test]
async fn what_to_set_upstream_is_shown() {
    let gateway = Gateway::start(|_| {}).await;
    for product in [EVOLUTION, WUZAPI, WAHA] {
        let made = gateway.create_instance(product.name).await;
        let path = format!("/v1/instances/{}/source", product.name);
        let set = put(&gateway, &path, &json!({ "type": product.name })).await;
        let set = expect_json(set, 200).await;
        let id = text(&made, "id");
        let url = format!("{}/sources/{}/{id}", gateway.url, product.name);
        assert_eq!((text(&set, "type"), text(&set, "url")), (product.name.to_owned(), url.clone()));
        let secret = text(&set["paste"], "secret");
        let requests = set["paste"]["requests"].to_string();
        assert!(requests.contains(&url) && requests.contains(&secret), "{requests}");
        assert_eq!(text(&set["paste"], "url_with_secret"), format!("{url}?secret={secret}"));
        assert_eq!(gateway.read(&path).await, set, "it can be looked up again");
        // As it is to be pasted, it works.
        let post = message(product).signed_with(&secret);
        expect_json(post.send(&gateway, &id).await, 200).await;
        // An instance's own token shows where, and not with what.
        let own = gateway.client.get(format!("{}{path}", gateway.url));
        let own = own.bearer_auth(text(&made, "token")).send().await.unwrap();
        let own = expect_json(own, 200).await;
        assert_eq!(own, json!({ "type": product.name, "url": url }));
        assert_eq!(gateway.read(&format!("/v1/instances/{id}")).await["source"], product.name);
    }
    let path = "/v1/instances/waha/source";
    for (body, at, words) in [
        (json!({ "type": "waha", "secret": "short" }), "secret", "16 to 256"),
        (json!({ "type": "wuzapi", "secret": "0123456789abcdef" }), "secret", "32 to 256"),
        (json!({ "type": "evolution", "secret": "with a blank 0123456789" }), "secret", "visible"),
        (json!({ "type": "waha", "secrt": "x" }), "secrt", "did you mean `secret`?"),
        (json!({ "type": "evolutin" }), "type", "did you mean `evolution`?"),
    ] {
        expect_fault(put(&gateway, path, &body).await, 422, "invalid", at, words).await;
    }
    let app = put(&gateway, "/v1/source", &json!({ "type": "waha" })).await;
    expect_fault(app, 422, "invalid", "type", "belongs to one instance").await;
}

#[tokio::test]
async fn the_command_line_says_what_to_set_upstream() {
    let gateway = Gateway::start(|_| {}).await;
    let made = asked(&gateway, &["instance", "create", "shop", "--source", "evolution"]).await;
    assert_eq!(made["source"], "evolution");
    assert!(made["token"].is_string() && made["paste"]["secret"].is_string(), "{made}");
    let shown = zapbus(&gateway, &["instance", "source", "show", "shop"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    let secret = text(&made["paste"], "secret");
    for part in ["upstream: POST /webhook/set/{instance}", &secret, "\"byEvents\": false"] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
    let set = ["instance", "source", "set", "shop", "wuzapi", "--secret", SECRET];
    assert_eq!(asked(&gateway, &set).await["paste"]["secret"], SECRET);
    let set = ["instance", "source", "set", "shop", "waha", "--secret", "short"];
    let refused = zapbus(&gateway, &set).await;
    assert!(refused.code == 1 && refused.stderr.contains("16 to 256"), "{refused:?}");
}

#[tokio::test]
async fn evolution_may_post_each_event_to_an_url_of_its_own() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let post = message(EVOLUTION);
    let mut body: Value = serde_json::from_slice(&post.body).unwrap();
    let segment = |name: &str| format!("{id}/{name}");
    expect_json(post.send(&gateway, &segment("messages-upsert")).await, 200).await;
    // The name in the body goes before that of the URL, which stands in where there is none.
    body["data"]["key"]["id"] = json!("second");
    let second = post.clone().with_body(&body);
    expect_json(second.send(&gateway, &segment("chats-delete")).await, 200).await;
    body["data"]["key"]["id"] = json!("third");
    body.as_object_mut().unwrap().shift_remove("event");
    let third = post.clone().with_body(&body);
    expect_json(third.send(&gateway, &segment("messages-upsert")).await, 200).await;
    // Evolution appends to all of an URL, a query string included.
    body["data"]["key"]["id"] = json!("fourth");
    let fourth = post.clone().with_body(&body).unsigned();
    let fourth = fourth.with_query(&format!("secret={SECRET}/messages-upsert"));
    expect_json(fourth.send(&gateway, &id).await, 200).await;
    assert_eq!(types(&gateway, "shop").await, ["message.received"; 4]);
}

#[tokio::test]
async fn evolution_may_sign_a_token_that_outlives_its_retries() {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let token = |secret: &str| {
        let end = gateway.clock.now().as_secs() + 600;
        let claims =
            json!({ "iat": end - 600, "exp": end, "app": "evolution", "action": "webhook" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(&json!({ "alg": "HS256", "typ": "JWT" }));
        let signed = format!("{head}.{}", part(&claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        let mac = mac.chain_update(&signed).finalize().into_bytes();
        format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    };
    let send = async |token: &str| {
        message(EVOLUTION).unsigned().with_header("authorization", token).send(&gateway, &id).await
    };
    let good = token(SECRET);
    expect_json(send(&good).await, 200).await;
    expect_problem(send(&token("another-secret-0123456789")).await, 401, "wrong_signature").await;
    // The last attempt comes half an hour later, with the token of the first.
    gateway.clock.advance(std::time::Duration::from_secs(1_800));
    expect_json(send(&good).await, 200).await;
    gateway.clock.advance(std::time::Duration::from_secs(7_200));
    expect_problem(send(&good).await, 401, "wrong_signature").await;
}

#[tokio::test]
async fn nothing_that_passes_is_answered_so_that_evolution_gives_up() {
    if crate::engine::skips_on_postgres(
        "the disk is the server's; a story of the cluster tells of it",
    ) {
        return;
    }
    // So little is free that nothing is taken.
    let gateway = Gateway::start(|config| config.store.min_free_bytes = u64::MAX / 2).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let answer = message(EVOLUTION).send(&gateway, &id).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

#[tokio::test]
async fn two_names_of_one_waha_message_are_one_event() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, WAHA, "shop").await;
    for (file, stored) in [("message-text.json", 1), ("message-any-same-text.json", 0)] {
        let answer = WAHA.post(file).send(&gateway, &id).await;
        assert_eq!(expect_json(answer, 200).await["stored"], stored, "{file}");
    }
}

#[tokio::test]
async fn what_is_authentic_and_not_understood_is_kept() {
    let gateway = Gateway::start(|config| {
        config.ingest.max_event_bytes = 100_000;
        config.ingest.max_body_bytes = 300_000;
        config.store.inline_bytes = 10_000;
    })
    .await;
    for product in [EVOLUTION, WUZAPI, WAHA] {
        let id = connect(&gateway, product, product.name).await;
        let post = message(product);
        for body in ["not json at all", "[]", "{\"type\":\"NewThing\",\"event\":\"new.thing\"}"] {
            let answer = post.clone().with_bytes(body.as_bytes()).send(&gateway, &id).await;
            assert_eq!(expect_json(answer, 200).await["stored"], 1, "{body}");
        }
        assert_eq!(types(&gateway, &id).await, ["event.unknown"; 3], "{}", product.name);
        // Longer than an event may be, with nothing in it that could go to a file.
        let large = format!("{{\"event\":\"{}\"}}", "x ".repeat(60_000));
        let answer = post.clone().with_bytes(large.as_bytes()).send(&gateway, &id).await;
        expect_problem(answer, 413, "too_large").await;
        let file = format!("{{\"event\":\"new.thing\",\"file\":\"{}\"}}", "A".repeat(200_000));
        let answer = post.clone().with_bytes(file.as_bytes()).send(&gateway, &id).await;
        expect_json(answer, 200).await;
        let huge = " ".repeat(300_001);
        let answer = post.clone().with_bytes(huge.as_bytes()).send(&gateway, &id).await;
        expect_problem(answer, 413, "too_large").await;
        assert_eq!(types(&gateway, &id).await.len(), 4, "{}", product.name);
    }
}

#[tokio::test]
async fn events_tell_the_state_of_the_instance() {
    let gateway = Gateway::start(|_| {}).await;
    for (product, file, connection) in [
        (EVOLUTION, "connection-update-open.json", "connected"),
        (EVOLUTION, "connection-update-close.json", "disconnected"),
        (EVOLUTION, "logout-instance.json", "logged_out"),
        (WUZAPI, "logged-out.json", "logged_out"),
        (WUZAPI, "temporary-ban.json", "banned"),
        (WAHA, "session-status-working.json", "connected"),
        (WAHA, "session-status-stopped.json", "disconnected"),
    ] {
        let id = connect(&gateway, product, file).await;
        expect_json(product.post(file).send(&gateway, &id).await, 200).await;
        let shown = gateway.read(&format!("/v1/instances/{id}")).await;
        assert_eq!(shown["state"]["connection"], connection, "{file}");
        if connection == "connected" {
            assert_eq!(shown["state"]["phone"], "5511999990000", "{file}: {shown}");
        }
    }
    let id = connect(&gateway, EVOLUTION, "waiting").await;
    let post = EVOLUTION.post("qrcode-updated-pairing-code.json");
    expect_json(post.send(&gateway, &id).await, 200).await;
    let shown = gateway.read(&format!("/v1/instances/{id}")).await;
    assert!(shown["state"]["qr"]["code"].is_string(), "{shown}");
    assert!(shown["state"]["pair_code"]["code"].is_string(), "{shown}");
}

#[tokio::test]
async fn one_person_under_two_addresses_is_one_person() {
    const PHONE: &str = "5511999990001@s.whatsapp.net";
    const LID: &str = "900000000000011@lid";
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, EVOLUTION, "shop").await;
    let post = |key: Value| {
        let data = json!({ "key": key, "message": { "conversation": "oi" }, "messageTimestamp": 1_767_225_601 });
        let body = json!({ "event": "messages.upsert", "instance": "x", "data": data, "date_time": key.to_string() });
        message(EVOLUTION).with_body(&body)
    };
    let both = json!({ "remoteJid": LID, "remoteJidAlt": PHONE, "fromMe": false, "id": "A" });
    expect_json(post(both).send(&gateway, &id).await, 200).await;
    let instance: InstanceId = id.parse().unwrap();
    assert_eq!(gateway.app.store.aliases(instance, PHONE).await.unwrap(), [LID]);
    assert_eq!(gateway.app.store.aliases(instance, LID).await.unwrap(), [PHONE]);
    // The same message under the other address, and under that alone.
    let phone = json!({ "remoteJid": PHONE, "fromMe": false, "id": "A" });
    let again = expect_json(post(phone).send(&gateway, &id).await, 200).await;
    assert_eq!(again["stored"], 0);
}

#[tokio::test]
async fn a_circle_of_gateways_is_broken() {
    let gateway = Gateway::start(|_| {}).await;
    let id = connect(&gateway, WAHA, "shop").await;
    let send =
        async |hops: &str| message(WAHA).with_header("zapbus-hops", hops).send(&gateway, &id).await;
    expect_problem(send("5").await, 508, "too_many_hops").await;
    expect_json(send("4").await, 200).await;
}
