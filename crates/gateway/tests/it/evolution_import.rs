//! `zapbus import evolution`: from one server that speaks Evolution's API to another.

use serde_json::{Value, json};

use crate::{
    binary::{self, Said},
    receiver::{Receiver, Reply},
    server::{Gateway, expect_json},
};

/// Runs the command against two gateways, of which the first stands for an Evolution API.
async fn import(from: &Gateway, to: &Gateway, more: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("key.txt"), format!("{}\n", from.token())).unwrap();
    let mut command = binary::command(folder.path());
    command.env("ZAPBUS_TOKEN", to.token());
    command.args(["import", "evolution", "--url", &from.url, "--to", &to.url]);
    command.args(["--apikey", "@key.txt"]).args(more);
    binary::run(command).await
}

async fn ask(gateway: &Gateway, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}{path}", gateway.url);
    let (request, status) = match body {
        Some(body) => (gateway.client.post(url).json(&body), 201),
        None => (gateway.client.get(url), 200),
    };
    let answer = request.header("apikey", gateway.token()).send().await.unwrap();
    expect_json(answer, status).await
}

/// What a dry run and a run say of each step.
fn actions(said: &Said) -> Vec<(String, String, String)> {
    let rows: Vec<Value> =
        serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "instance"), text(row, "what"), text(row, "action"))).collect()
}

fn step(instance: &str, what: &str, action: &str) -> (String, String, String) {
    (instance.to_owned(), what.to_owned(), action.to_owned())
}

#[tokio::test]
async fn instances_with_their_tokens_and_what_is_set_for_them_come_over() {
    let from = Gateway::start(|_| {}).await;
    let to = Gateway::start(|_| {}).await;
    let webhook = json!({
        "enabled": true, "url": "http://127.0.0.1:9/hook", "events": ["MESSAGES_UPSERT", "CALL"],
        "byEvents": true, "headers": { "x-shop": "1", "jwt_key": "hush" },
    });
    let made =
        json!({ "instanceName": "my shop", "token": "TOKEN-OF-THE-SHOP", "webhook": webhook });
    ask(&from, "/instance/create", Some(made)).await;
    let events = json!({ "websocket": { "enabled": true, "events": ["CALL"] } });
    ask(&from, "/websocket/set/my%20shop", Some(events)).await;
    ask(&from, "/instance/create", Some(json!({ "instanceName": "other" }))).await;
    let off = json!({ "websocket": { "enabled": false, "events": [] } });
    ask(&from, "/websocket/set/other", Some(off)).await;

    let dry = import(&from, &to, &["--dry-run", "--json"]).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(!dry.stdout.contains("hush") && !dry.stdout.contains("TOKEN-OF"), "{dry:?}");
    let planned = [
        step("my shop", "instance", "make"),
        step("my shop", "webhook", "set"),
        step("my shop", "websocket", "set"),
        step("other", "instance", "make"),
        step("other", "websocket", "set"),
    ];
    let mut found = actions(&dry);
    found.sort();
    assert_eq!(found, planned);
    assert_eq!(ask(&to, "/instance/fetchInstances", None).await, json!([]), "nothing is done");

    let run = import(&from, &to, &["--json"]).await;
    assert_eq!(run.code, 0, "{run:?}");
    let list = ask(&to, "/instance/fetchInstances", None).await;
    let shop = list.as_array().unwrap().iter().find(|row| row["name"] == "my shop").unwrap();
    assert_eq!(shop["token"], "TOKEN-OF-THE-SHOP");
    for path in ["/webhook/find/my%20shop", "/websocket/find/my%20shop", "/websocket/find/other"] {
        let (there, here) = (ask(&from, path, None).await, ask(&to, path, None).await);
        for member in ["enabled", "events", "url", "headers", "webhookByEvents", "webhookBase64"] {
            assert_eq!(there[member], here[member], "{path} {member}");
        }
    }
    // Again: what is there is kept, and nothing is refused.
    let again = import(&from, &to, &["--json", "--instance", "my shop"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    let kept = [
        step("my shop", "instance", "keep"),
        step("my shop", "webhook", "done"),
        step("my shop", "websocket", "done"),
    ];
    assert_eq!(actions(&again), kept);
    from.stop().await;
    to.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_said_and_nothing_is_done() {
    let from = Gateway::start(|_| {}).await;
    let to = Gateway::start(|_| {}).await;
    let missing = import(&from, &to, &["--instance", "nothing"]).await;
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stderr.contains("has no instance \"nothing\""), "{missing:?}");
    let denied = import(&from, &to, &["--token", "wrong-token-0123456789"]).await;
    assert_eq!(denied.code, 4, "{denied:?}");
    let url = from.url.clone();
    from.stop().await;
    let mut command = binary::command(std::env::temp_dir().as_path());
    command.env("ZAPBUS_TOKEN", to.token());
    command.args(["import", "evolution", "--url", &url, "--apikey", "key", "--to", &to.url]);
    let gone = binary::run(command).await;
    assert_eq!(gone.code, 6, "{gone:?}");
    assert!(gone.stderr.contains("--url"), "{gone:?}");
    to.stop().await;
}

#[tokio::test]
async fn one_step_that_is_refused_stops_no_other() {
    let from = Gateway::start(|_| {}).await;
    let to = Gateway::start(|_| {}).await;
    for (name, token) in [("one", "TOKEN-OF-ONE-0123"), ("two", "TOKEN-OF-TWO-0123")] {
        let made = json!({ "instanceName": name, "token": token });
        ask(&from, "/instance/create", Some(made)).await;
        let on = json!({ "websocket": { "enabled": true, "events": [] } });
        ask(&from, &format!("/websocket/set/{name}"), Some(on)).await;
    }
    // Somebody has the token of one of them already.
    let taken = json!({ "instanceName": "three", "token": "TOKEN-OF-ONE-0123" });
    ask(&to, "/instance/create", Some(taken)).await;
    let run = import(&from, &to, &["--json"]).await;
    assert_eq!(run.code, 5, "{run:?}");
    let mut found = actions(&run);
    found.sort();
    let expected = [
        step("one", "instance", "failed"),
        step("one", "websocket", "failed"),
        step("two", "instance", "made"),
        step("two", "websocket", "done"),
    ];
    assert_eq!(found, expected);
    from.stop().await;
    to.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_of_one_channel_stops_no_other() {
    let from = Receiver::start().await;
    let to = Gateway::start(|_| {}).await;
    from.script(|request| {
        let body = match request.path.as_str() {
            "/instance/fetchInstances" => r#"[{"name":"shop","token":"TOKEN-OF-THE-SHOP"}]"#,
            "/webhook/find/shop" => {
                r#"{"enabled":true,"url":"http://127.0.0.1:9/hook","events":["CALL"]}"#
            }
            // Switched on there, and there is none here.
            "/rabbitmq/find/shop" => r#"{"enabled":true,"events":["CALL"]}"#,
            "/pusher/find/shop" => {
                r#"{"enabled":true,"events":[],"appId":"1234","key":"key1","secret":"hush",
                "cluster":"sa1","useTLS":true}"#
            }
            "/sqs/find/shop" => return Reply::status(500),
            _ => "",
        };
        Reply::ok().body(body)
    });
    let folder = tempfile::tempdir().unwrap();
    let url = from.url("");
    let mut command = binary::command(folder.path());
    command.env("ZAPBUS_TOKEN", to.token());
    command.args(["import", "evolution", "--url", &url, "--to", &to.url, "--json", "--yes"]);
    command.args(["--apikey", "key"]);
    let run = binary::run(command).await;
    assert_eq!(run.code, 5, "{run:?}");
    let expected = [
        step("shop", "instance", "made"),
        step("shop", "webhook", "done"),
        step("shop", "rabbitmq", "failed"),
        step("shop", "sqs", "failed"),
        step("shop", "pusher", "done"),
    ];
    assert_eq!(actions(&run), expected);
    assert!(run.stdout.contains("RABBITMQ_URI"), "it says what is missing: {run:?}");
    assert!(!run.stdout.contains("hush") && !run.stderr.contains("hush"), "{run:?}");
    let app = ask(&to, "/pusher/find/shop", None).await;
    assert_eq!((&app["appId"], &app["secret"]), (&json!("1234"), &json!("***")));
    to.stop().await;
}
