//! The command line against a running gateway: every command, and every exit code.

use serde_json::{Value, json};

use crate::{
    binary::{self, Said},
    server::{Gateway, Receiver},
};

/// Runs `zapbus` against a gateway with its admin token.
pub(crate) async fn zapbus(gateway: &Gateway, arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().unwrap();
    let mut command = binary::command(folder.path());
    command.env("ZAPBUS_URL", &gateway.url).env("ZAPBUS_TOKEN", gateway.token()).args(arguments);
    binary::run(command).await
}

/// The same with `--json`; it must succeed.
pub(crate) async fn asked(gateway: &Gateway, arguments: &[&str]) -> Value {
    let said = zapbus(gateway, &[arguments, &["--json"]].concat()).await;
    assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    serde_json::from_str(&said.stdout).unwrap()
}

#[tokio::test]
async fn accounts_instances_and_destinations_are_managed() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;

    let account = asked(&gateway, &["account", "create", "acme"]).await;
    let account = account["id"].as_str().unwrap();
    asked(&gateway, &["account", "update", account, "--name", "acme2"]).await;
    let listed = zapbus(&gateway, &["account", "list"]).await;
    assert!(listed.stdout.contains("acme2") && listed.stdout.contains("default"), "{listed:?}");
    assert_eq!(zapbus(&gateway, &["account", "delete", account]).await.code, 0);
    assert_eq!(zapbus(&gateway, &["account", "show", account]).await.code, 3);

    let created = asked(&gateway, &["instance", "create", "my shop"]).await;
    assert!(created["token"].as_str().is_some_and(|token| token.len() >= 16), "{created}");
    let source = asked(
        &gateway,
        &[
            "instance",
            "source",
            "set",
            "my shop",
            "cloud-api",
            "--app-secret",
            "hush",
            "--verify-token",
            "verify",
            "--phone-number-id",
            "900000000000101",
        ],
    )
    .await;
    assert!(source["url"].as_str().unwrap().contains("/sources/cloud-api/"), "{source}");
    let renamed = asked(&gateway, &["instance", "update", "my shop", "--name", "shop"]).await;
    assert_eq!(renamed["name"], "shop");
    let listed = asked(&gateway, &["instance", "list"]).await;
    assert!(listed.as_array().unwrap().iter().any(|instance| instance["name"] == "shop"));

    let url = receiver.url("/hook");
    let created = asked(
        &gateway,
        &[
            "destination",
            "create",
            "--instance",
            "shop",
            "--webhook",
            &url,
            "--events",
            "message.*",
        ],
    )
    .await;
    let id = created["id"].as_str().unwrap();
    let secret = created["channel"]["secret"].as_str();
    assert!(secret.is_some_and(|secret| secret.starts_with("whsec_")), "{created}");
    let tested = asked(&gateway, &["destination", "test", id, "--type", "message.sent"]).await;
    assert_eq!(tested["ok"], true, "{tested}");
    assert_eq!(receiver.wait_for(1).await[0].json()["type"], "message.sent");
    asked(&gateway, &["destination", "pause", id, "--reason", "maintenance"]).await;
    asked(&gateway, &["destination", "resume", id]).await;
    asked(&gateway, &["destination", "update", id, "--ordering", "strict"]).await;
    let shown = asked(&gateway, &["destination", "show", id]).await;
    assert_eq!(shown["ordering"], "strict", "{shown}");
    let rotated = asked(&gateway, &["destination", "rotate-secret", id]).await;
    assert_ne!(rotated["channel"]["secret"], created["channel"]["secret"], "{rotated}");
    let listed = zapbus(&gateway, &["destination", "list", "--instance", "shop"]).await;
    assert!(listed.stdout.contains(id), "{listed:?}");
    assert_eq!(zapbus(&gateway, &["destination", "delete", id]).await.code, 0);
    assert_eq!(zapbus(&gateway, &["instance", "delete", "shop"]).await.code, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn exit_codes_say_what_kind_of_failure_it_was() {
    let gateway = Gateway::start(|_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let command = |token: Option<&str>, url: &str| {
        let mut command = binary::command(folder.path());
        command.args(["instance", "show", "nobody", "--url", url]);
        if let Some(token) = token {
            command.env("ZAPBUS_ADMIN_TOKEN", token);
        }
        binary::run(command)
    };
    for (token, url, code, says) in [
        (Some(gateway.token()), gateway.url.as_str(), 3, "not_found"),
        (Some("wrong token of sorts"), &gateway.url, 4, ""),
        (None, &gateway.url, 2, "a token is needed"),
        (Some("token"), "http://127.0.0.1:1", 6, "cannot reach http://127.0.0.1:1"),
        (Some("token"), "bus.example.com", 2, "expected a URL"),
    ] {
        let said = command(token, url).await;
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.stderr.contains(says), "{said:?}");
        assert_eq!(said.stdout, "");
    }
    let said = zapbus(&gateway, &["instance", "create", "a/b"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("name"), "the answer says which member is wrong: {said:?}");
    assert_eq!(zapbus(&gateway, &["instance", "rename"]).await.code, 2);
    gateway.stop().await;
}

#[tokio::test]
async fn all_paused_destinations_are_resumed_at_once() {
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    asked(&gateway, &["instance", "create", "shop"]).await;
    let mut ids = Vec::new();
    // More than one page of them.
    for n in 0..103 {
        let instance = if n % 2 == 0 { "shop" } else { "_account" };
        let label = json!({ "label": format!("d{n}") });
        let created = gateway.create_webhook(instance, &receiver.url("/hook"), label).await;
        ids.push(created["id"].as_str().unwrap().to_owned());
    }
    for id in &ids[2..] {
        let path = format!("/v1/destinations/{id}/pause");
        assert!(gateway.post(&path, &json!({})).await.status().is_success());
    }
    assert_eq!(zapbus(&gateway, &["destination", "resume"]).await.code, 2);
    assert_eq!(zapbus(&gateway, &["destination", "resume", &ids[0], "--all"]).await.code, 2);
    let said = zapbus(&gateway, &["destination", "resume", "--all"]).await;
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!((said.code, lines), (0, vec!["resumed  101", "failed   0"]), "{said:?}");
    let listed = asked(&gateway, &["destination", "list"]).await;
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 103);
    assert!(listed.iter().all(|destination| destination["state"] == "active"), "{listed:?}");
    assert_eq!(asked(&gateway, &["resume", "--all"]).await["resumed"], 0);
    gateway.stop().await;
}

#[tokio::test]
async fn credentials_are_managed_and_data_is_erased() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let made = asked(&gateway, &["credential", "create", "n8n", "--client-token", "n8n"]).await;
    assert_eq!(made["client_token"], "n8n");
    let id = made["id"].as_str().unwrap();
    let panel = asked(&gateway, &["credential", "create", "panel", "--instance", "shop"]).await;
    assert_eq!(panel["role"], "instance");
    let rotated = asked(&gateway, &["credential", "rotate", id, "--overlap-s", "0"]).await;
    assert_ne!(rotated["secret"], made["secret"]);
    let listed = zapbus(&gateway, &["credential", "list"]).await;
    assert!(listed.stdout.contains("n8n") && listed.stdout.contains("panel"), "{listed:?}");
    assert_eq!(zapbus(&gateway, &["credential", "revoke", id]).await.code, 0);
    assert_eq!(zapbus(&gateway, &["credential", "revoke", id]).await.code, 3);

    let post = async |id: &str| {
        let event = crate::server::text_message("5511999990001", id, "x");
        gateway.post_event("shop", &event).await;
    };
    post("a").await;
    let chat = ["erase", "chat", "shop", "+55 11 99999-0001"];
    let counted = asked(&gateway, &[&chat[..], &["--dry-run"]].concat()).await;
    assert_eq!((&counted["dry_run"], &counted["events"]), (&json!(true), &json!(1)));
    // Nobody sits at the terminal; what goes is said all the same.
    let said = zapbus(&gateway, &[&chat[..], &["--json", "--yes"]].concat()).await;
    assert!(said.code == 0 && said.stderr.contains("1 events"), "{said:?}");
    let erased: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(erased["events"], 1);
    post("b").await;
    let erased = asked(&gateway, &["erase", "person", "5511999990001@s.whatsapp.net"]).await;
    assert_eq!(erased["events"], 1);
    post("c").await;
    let erased = asked(&gateway, &["erase", "instance", "shop"]).await;
    assert!(erased["events"].as_u64().unwrap() >= 1, "{erased}");
    gateway.stop().await;
}
