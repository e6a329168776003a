//! `zapbus copy`: a store moves from one machine to many.

use std::path::Path;

use serde_json::{Value, json};
use zapbus_gateway::config::Secret;

use crate::{
    api::text,
    binary::{self, Served},
    cluster::ids,
    command_line::zapbus,
    engine::{Database, needs_postgres},
    postgres::KEY,
    receiver::Receiver,
    server::{Gateway, text_message},
};

/// A data folder with an instance, a destination and events, whose gateway has been stopped.
async fn left_behind(folder: &Path, receiver: &Receiver) -> (Vec<String>, String) {
    let data_dir = folder.join("data");
    let gateway = Gateway::start_on_sqlite(|config| config.data_dir = data_dir).await;
    gateway.create_instance("shop").await;
    let made = gateway.create_webhook("shop", &receiver.url("/hook"), json!({})).await;
    let mut posted = Vec::new();
    for n in 0..30 {
        let event = text_message("5511999990001", &format!("m-{n}"), "x");
        posted.push(text(&gateway.post_event("shop", &event).await, "id"));
    }
    receiver.wait_for(30).await;
    gateway.stop().await;
    (posted, text(&made, "id"))
}

#[tokio::test]
async fn one_machine_becomes_many() {
    needs_postgres!();
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let (posted, destination) = left_behind(folder.path(), &receiver).await;
    let database = Database::make(false).await;
    let key = std::fs::read_to_string(folder.path().join("data/encryption.key")).unwrap();
    let copy = async |arguments: &[&str]| {
        let mut command = binary::command(folder.path());
        command.args(["copy", "--from", "sqlite://./data"]).args(arguments);
        command.env("ZAPBUS_DATABASE_URL", database.url());
        command.env("ZAPBUS_ENCRYPTION_KEY", key.trim());
        binary::run(command).await
    };
    let said = copy(&["--json"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["resumed"], false);
    let tables = report["tables"].as_array().unwrap();
    assert!(tables.iter().any(|table| table["rows"].as_u64() >= Some(30)), "{report}");
    assert!(!said.stdout.contains(key.trim()) && !said.stderr.contains(key.trim()), "{said:?}");

    // Nothing is copied over what is there.
    let again = copy(&[]).await;
    assert_eq!(again.code, 1, "{again:?}");
    assert!(again.stderr.contains("give an empty database"), "{again:?}");

    let (database_url, key) = (database.url(), key.trim().to_owned());
    let node = Gateway::start_on_sqlite(|config| {
        config.database_url = Some(Secret::new(database_url));
        config.encryption_key = vec![Secret::new(key.clone())];
    })
    .await;
    let page = node.read("/v1/instances/shop/events?types=message.*").await;
    assert_eq!(ids(&page), posted);
    let deliveries = node.read(&format!("/v1/deliveries?destination={destination}")).await;
    assert_eq!(deliveries["data"].as_array().unwrap().len(), 30);
    let shown = node.read(&format!("/v1/destinations/{destination}")).await;
    assert_eq!(shown["state"], "paused", "{shown}");
    node.post_event("shop", &text_message("5511999990001", "m-30", "x")).await;
    assert_eq!(zapbus(&node, &["resume", "--all"]).await.code, 0);
    // What came after the copy goes out, and nothing of what went out before it.
    let received = receiver.wait_for(31).await;
    assert_eq!(received.len(), 31);
    // The old gateway is not started by mistake, beside the nodes that have taken over.
    let mut serve = binary::serve(folder.path());
    serve.env("ZAPBUS_ENCRYPTION_KEY", &key);
    let refused = binary::run(serve).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["was copied to postgres://127.0.0.1/test_", "ZAPBUS_DATABASE_URL", "--take-back"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }

    // A repeat of what the old gateway had is known.
    let repeat = node.post_event("shop", &text_message("5511999990001", "m-7", "x")).await;
    assert_eq!((&repeat["id"], &repeat["duplicate"]), (&json!(posted[7]), &json!(true)));
    node.stop().await;

    // It was a trial after all.
    let mut served = Served::start(folder.path(), |command| {
        command.arg("--take-back").env("ZAPBUS_ENCRYPTION_KEY", &key);
    })
    .await;
    served.signal("TERM").await;
    assert!(served.ended().await.success());
    let again = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ENCRYPTION_KEY", &key);
    });
    again.await.kill().await;
}

#[tokio::test]
async fn a_copy_says_what_is_wrong_with_its_ends() {
    let folder = tempfile::tempdir().unwrap();
    let to = "postgres://zapbus:hunter2@127.0.0.1:1/zapbus";
    for (arguments, code, expected) in [
        (&["--from", "sqlite://./nowhere", "--to", to][..], 3, "nowhere"),
        (&["--from", "./data", "--to", to], 2, "expected sqlite://"),
        (&["--from", "sqlite://./data"], 2, "where to?"),
        (&["--from", "sqlite://./data", "--to", "mysql://db/zapbus"], 2, "expected postgres://"),
    ] {
        let mut command = binary::command(folder.path());
        command.arg("copy").args(arguments).env("ZAPBUS_ENCRYPTION_KEY", KEY);
        let said = binary::run(command).await;
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
        assert!(said.stderr.contains(expected), "{arguments:?}: {said:?}");
        assert!(!said.stderr.contains("hunter2"), "{said:?}");
    }
}
