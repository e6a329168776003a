//! Setting and reading sockets and brokers.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Client, members, start_with, with_brokers};
use crate::server::{Gateway, Receiver, eventually, expect_json, text_message};

const CHANNELS: [&str; 3] = ["websocket", "rabbitmq", "sqs"];

#[tokio::test]
async fn sockets_and_queues_are_set_in_both_forms_and_read_back() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    for channel in CHANNELS {
        let (set, find) = (format!("/{channel}/set/shop"), format!("/{channel}/find/shop"));
        assert_eq!(client.get(&find).await, Value::Null, "{channel}");
        let block = json!({ "enabled": true, "events": ["SEND_MESSAGE", "messages.upsert"] });
        let nested = client.post(&set, &json!({ (channel): block })).await;
        assert_eq!(
            members(&nested),
            ["id", "enabled", "events", "createdAt", "updatedAt", "instanceId"],
        );
        assert_eq!(nested["events"], json!(["MESSAGES_UPSERT", "SEND_MESSAGE"]));
        assert_eq!(client.get(&find).await, nested);
        let flat = client.post(&set, &block).await;
        for kept in ["id", "enabled", "events", "createdAt", "instanceId"] {
            assert_eq!(flat[kept], nested[kept], "{channel}: {kept}");
        }
        let all = client.post(&set, &json!({ (channel): { "enabled": true } })).await;
        assert!(all["events"].as_array().unwrap().len() > 30, "{all}");
        let off = client.post(&set, &json!({ "enabled": false, "events": ["CALL"] })).await;
        assert_eq!((&off["enabled"], &off["events"]), (&json!(false), &json!([])));
    }
    // One does not take the other away.
    for channel in CHANNELS {
        assert_eq!(client.get(&format!("/{channel}/find/shop")).await["enabled"], false);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_changes_nothing() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    for channel in CHANNELS {
        let set = format!("/{channel}/set/shop");
        let requires = format!("instance requires property \"{channel}\"");
        let enabled = format!("{channel} requires property \"enabled\"");
        let boolean = format!("{channel}.enabled is not of a type(s) boolean");
        for (body, said) in [
            (json!({}), requires),
            (json!({ (channel): {} }), enabled),
            (json!({ (channel): { "enabled": "so" } }), boolean),
        ] {
            let found = client.refused(Method::POST, &set, Some(&body), 400).await;
            assert_eq!(found, json!([[said]]), "{body}");
        }
        let body = json!({ (channel): { "enabled": true, "events": ["NOPE"] } });
        let found = client.refused(Method::POST, &set, Some(&body), 400).await;
        let start = format!("{channel}.events[0] is not one of enum values: ");
        assert!(found[0][0].as_str().unwrap().starts_with(&start), "{found}");
        assert_eq!(client.get(&format!("/{channel}/find/shop")).await, Value::Null);
    }
    let body = json!({ "pusher": { "enabled": true, "appId": "1" } });
    let found = client.refused(Method::POST, "/pusher/set/shop", Some(&body), 400).await;
    let missing = |name: &str| format!("pusher requires property \"{name}\"");
    assert_eq!(found, json!([[missing("key"), missing("secret"), missing("cluster")]]));
    gateway.stop().await;
}

#[tokio::test]
async fn changes_at_the_same_time_do_not_undo_each_other() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let block = json!({ "enabled": true, "events": ["CALL"] });
    let set = async |channel: &str| client.post(&format!("/{channel}/set/shop"), &block).await;
    for _ in 0..5 {
        tokio::join!(set("websocket"), set("rabbitmq"), set("sqs"));
        for channel in CHANNELS {
            let row = client.get(&format!("/{channel}/find/shop")).await;
            assert_eq!(row["events"], json!(["CALL"]), "{channel}");
            client.post(&format!("/{channel}/set/shop"), &json!({ "enabled": false })).await;
        }
    }
    gateway.stop().await;
}

/// The destination of an instance with this label, as our own API shows it.
async fn destination(gateway: &Gateway, label: &str) -> Value {
    let page = gateway.read("/v1/instances/shop/destinations").await;
    let all = page["data"].as_array().unwrap();
    let found = all.iter().find(|one| one["label"] == label);
    found.unwrap_or_else(|| panic!("{label}: {page}")).clone()
}

#[tokio::test]
async fn a_broker_that_the_server_does_not_have_is_refused_and_named() {
    let gateway = start_with(|config| config.evolution.pusher.enabled = false).await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    for (broker, block, names) in [
        ("rabbitmq", json!({ "enabled": true, "events": [] }), "RABBITMQ_URI"),
        ("sqs", json!({ "enabled": true, "events": [] }), "SQS_REGION"),
        (
            "pusher",
            json!({ "enabled": true, "appId": "1", "key": "k", "secret": "s", "cluster": "eu",
                "useTLS": true, "events": [] }),
            "PUSHER_ENABLED",
        ),
    ] {
        let body = json!({ (broker): block });
        let path = format!("/{broker}/set/shop");
        let said = client.refused(Method::POST, &path, Some(&body), 400).await;
        let line = said[0].as_str().unwrap();
        assert!(line.contains("this server has no") && line.contains(names), "{broker}: {said}");
        assert_eq!(client.get(&format!("/{broker}/find/shop")).await, Value::Null);
        // What is switched off needs none.
        let off = client.post(&path, &json!({ (broker): { "enabled": false } })).await;
        assert_eq!((&off["enabled"], &off["events"]), (&json!(false), &json!([])), "{broker}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_servers_brokers_are_its_own_secret() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    let made = client.create("shop", json!({})).await;
    for (broker, label) in [("rabbitmq", "evolution/rabbitmq"), ("sqs", "evolution/sqs")] {
        let on = json!({ (broker): { "enabled": true, "events": ["CALL"] } });
        client.post(&format!("/{broker}/set/shop"), &on).await;
        let shown = destination(&gateway, label).await;
        let text = shown.to_string();
        assert!(!text.contains("hush") && !text.contains("127.0.0.1"), "{shown}");
        assert_eq!((&shown["dialect"], &shown["state"]), (&json!("evolution"), &json!("active")));
        // Nobody is let in elsewhere with what stands in for it.
        let path = format!("/v1/destinations/{}", shown["id"].as_str().unwrap());
        for change in [json!({ "exchange": "others" }), json!({ "queue": "others" }), json!({})] {
            let change = gateway.request(Method::PATCH, &path).json(&json!({ "channel": change }));
            assert_eq!(change.send().await.unwrap().status(), 422, "{broker}");
        }
        // What is no matter of the connection may be changed.
        let change = gateway.request(Method::PATCH, &path).json(&json!({ "max_in_flight": 3 }));
        expect_json(change.send().await.unwrap(), 200).await;
        client.post(&format!("/{broker}/set/shop"), &on).await;
        assert_eq!(destination(&gateway, label).await["max_in_flight"], 3);
    }
    // They are for the account that the operator's key means.
    let other = gateway.post("/v1/accounts", &json!({ "name": "other" })).await;
    expect_json(other, 201).await;
    let set = |path: &str, body: Value| {
        let request = gateway.client.post(format!("{}{path}", gateway.url)).json(&body);
        request.header("apikey", gateway.token()).header("zapbus-account", "other")
    };
    let made_there = set("/instance/create", json!({ "instanceName": "shop" }));
    expect_json(made_there.send().await.unwrap(), 201).await;
    let on = json!({ "rabbitmq": { "enabled": true, "events": [] } });
    let refused = set("/rabbitmq/set/shop", on).send().await.unwrap();
    let said = expect_json(refused, 400).await["response"]["message"].clone();
    assert!(said[0].as_str().unwrap().contains("account `default`"), "{said}");
    // An instance's own key sets its brokers too.
    let own = Client::with(&gateway, made["hash"].as_str().unwrap());
    own.post("/sqs/set/shop", &json!({ "sqs": { "enabled": false } })).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_taken_away_stops_its_destinations_until_it_is_set_again() {
    let gateway = start_with(with_brokers).await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let on = json!({ "rabbitmq": { "enabled": true, "events": ["MESSAGES_UPSERT"] } });
    client.post("/rabbitmq/set/shop", &on).await;
    let gateway = gateway.restart_with(|config| config.evolution.rabbitmq.uri = None).await;
    gateway.post_event("shop", &text_message("5511999990001", "one", "one")).await;
    let stopped = eventually("it stands still", async || {
        let shown = destination(&gateway, "evolution/rabbitmq").await;
        (shown["state"] == "paused").then_some(shown)
    })
    .await;
    let reason = stopped["reason"].as_str().unwrap();
    assert!(reason.contains("this server has no RabbitMQ"), "{reason}");
    let gateway = gateway.restart_with(with_brokers).await;
    let client = Client::of(&gateway);
    assert_eq!(destination(&gateway, "evolution/rabbitmq").await["state"], "paused");
    client.post("/rabbitmq/set/shop", &on).await;
    assert_eq!(destination(&gateway, "evolution/rabbitmq").await["state"], "active");
    gateway.stop().await;
}

#[tokio::test]
async fn an_app_at_pusher_is_triggered_and_its_secret_is_not_shown_again() {
    let receiver = Receiver::start().await;
    let url = receiver.url("");
    let port: u16 = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let gateway = start_with(|config| {
        let pusher = &mut config.evolution.pusher;
        pusher.host = Some("127.0.0.1".to_owned());
        pusher.port = Some(port);
        pusher.tls = false;
        pusher.global = true;
        pusher.app_id = Some("99".to_owned());
        pusher.key = Some("global".to_owned());
        pusher.secret = Some(zapbus_gateway::config::Secret::new("hush"));
        pusher.events = vec!["MESSAGES_UPSERT".to_owned()];
    })
    .await;
    let client = Client::of(&gateway);
    client.create("shop", json!({})).await;
    let app = json!({
        "enabled": true, "appId": "1234", "key": "key1", "secret": "hunter2", "cluster": "sa1",
        "useTLS": false, "events": ["MESSAGES_UPSERT"],
    });
    let row = client.post("/pusher/set/shop", &app).await;
    assert_eq!(
        members(&row),
        [
            "id",
            "enabled",
            "events",
            "createdAt",
            "updatedAt",
            "instanceId",
            "appId",
            "key",
            "secret",
            "cluster",
            "useTLS",
        ]
    );
    assert_eq!((&row["secret"], &row["key"]), (&json!("***"), &json!("key1")));
    assert!(!destination(&gateway, "evolution/pusher").await.to_string().contains("hunter2"));
    // What is read may be written back.
    assert_eq!(client.post("/pusher/set/shop", &json!({ "pusher": row })).await["secret"], "***");

    gateway.post_event("shop", &text_message("5511999990001", "one", "Olá")).await;
    let of_app = |app: &str| {
        let path = format!("/apps/{app}/");
        let requests = receiver.received().into_iter().filter(move |it| it.path.starts_with(&path));
        requests.map(|it| (it.path.clone(), it.json())).collect::<Vec<_>>()
    };
    for (app, key) in [("1234", "key1"), ("99", "global")] {
        let (path, mut event) =
            eventually("the app is triggered", async || of_app(app).into_iter().next()).await;
        if let Some(batch) = event.get("batch") {
            event = batch[0].clone();
        }
        assert!(path.contains(&format!("auth_key={key}")), "{path}");
        assert_eq!(
            (&event["name"], &event["channel"]),
            (&json!("messages.upsert"), &json!("shop"))
        );
        let body: Value = serde_json::from_str(event["data"].as_str().unwrap()).unwrap();
        assert_eq!(
            members(&body),
            ["event", "instance", "data", "destination", "date_time", "server_url", "apikey"]
        );
        assert_eq!((&body["destination"], &body["instance"]), (&json!(app), &json!("shop")));
    }
    // An id that Pusher could not have is said at once, and nothing is changed.
    let wrong = json!({ "pusher": {
        "enabled": true, "appId": "a/b", "key": "key1", "secret": "***", "cluster": "sa1",
        "useTLS": false, "events": [],
    } });
    let said = client.refused(Method::POST, "/pusher/set/shop", Some(&wrong), 400).await;
    assert!(said[0][0].as_str().unwrap().starts_with("pusher.appId expected"), "{said}");
    assert_eq!(client.get("/pusher/find/shop").await["appId"], "1234");
    gateway.stop().await;
}
