//! Backups of a running gateway and what becomes of them: `backup`, `restore`, `resume`, `rekey`.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use zapbus_gateway::config::Secret;

use crate::{
    api::expect_problem,
    binary::{self, Said},
    command_line::{asked, zapbus},
    engine::skips_on_postgres,
    server::{ADMIN_TOKEN, Gateway, Receiver, eventually, expect_json, text_message},
};

/// Runs a command that needs no gateway.
async fn local(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut command = binary::command(folder);
    command.args(arguments).envs(variables.iter().copied());
    binary::run(command).await
}

/// A gateway with events, a source and a destination, and a backup of it.
struct Scene {
    folder: tempfile::TempDir,
    gateway: Gateway,
    receiver: Receiver,
    destination: String,
    backup: String,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("backups");
        let gateway = Gateway::start(|config| config.backup.dir = Some(dir)).await;
        let receiver = Receiver::start().await;
        gateway.create_instance("shop").await;
        let source = json!({ "type": "cloud-api", "app_secret": "hush" });
        let put = gateway.request(Method::PUT, "/v1/instances/shop/source").json(&source);
        expect_json(put.send().await.unwrap(), 200).await;
        let made = gateway.create_webhook("shop", &receiver.url("/hook"), json!({})).await;
        let destination = made["id"].as_str().unwrap().to_owned();
        for n in 0..20 {
            let id = format!("before-{n}");
            gateway.post_event("shop", &text_message("5511999990001", &id, "x")).await;
        }
        receiver.wait_for(20).await;
        let backup = asked(&gateway, &["backup", "first"]).await;
        let backup = backup["path"].as_str().unwrap().to_owned();
        Self { folder, gateway, receiver, destination, backup }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The key of the gateway, as it lies in its data folder.
    fn key_file(&self) -> String {
        self.gateway.config.data_dir.join("encryption.key").display().to_string()
    }

    /// Restores into `<folder>/<name>` and starts a gateway on it.
    async fn restore(&self, name: &str, more: &[&str]) -> Gateway {
        let to = self.path(name).display().to_string();
        let arguments = [&["restore", &self.backup, "--data-dir", &to], more].concat();
        let said = local(self.folder.path(), &arguments, &[]).await;
        assert_eq!(said.code, 0, "{said:?}");
        Gateway::start(|config| config.data_dir = self.path(name)).await
    }
}

#[tokio::test]
async fn a_backup_is_taken_while_events_come() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let posting = async {
        let mut seqs = Vec::new();
        for n in 0..60 {
            let id = format!("during-{n}");
            let event = text_message("5511999990002", &id, "x");
            seqs.push(scene.gateway.post_event("shop", &event).await["seq"].as_u64().unwrap());
        }
        seqs
    };
    let (said, seqs) = tokio::join!(zapbus(&scene.gateway, &["backup", "under-load"]), posting);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("backup: 100 %"), "{said:?}");
    assert!(said.stderr.contains("encryption key is not in it"), "{said:?}");
    let listed = asked(&scene.gateway, &["backup", "list"]).await;
    let names: Vec<&str> =
        listed.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "under-load"]);
    assert_eq!(listed[1]["state"], "done");
    let page = scene.gateway.read("/v1/backups?limit=1").await;
    assert_eq!(page["data"][0]["name"], "first");
    let next = page["next"].as_str().unwrap();
    let page = scene.gateway.read(&format!("/v1/backups?limit=1&after={next}")).await;
    assert_eq!((&page["data"][0]["name"], &page["next"]), (&json!("under-load"), &Value::Null));

    // What was answered before it began is in it, in order, and nothing is torn.
    let to = scene.path("copy").display().to_string();
    let path = listed[1]["path"].as_str().unwrap();
    let arguments = ["restore", path, "--data-dir", &to, "--key-file", &scene.key_file()];
    let said = local(scene.folder.path(), &arguments, &[]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let copy = Gateway::start(|config| config.data_dir = scene.path("copy")).await;
    let events = copy.read("/v1/instances/shop/events?limit=1000&types=message.*").await;
    let held: Vec<u64> =
        events["data"].as_array().unwrap().iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(held.len() >= 20, "{held:?}");
    let later: Vec<u64> = held[20..].to_vec();
    assert_eq!(later, seqs[..later.len()], "a whole beginning of what came");
    copy.stop().await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn only_the_operator_takes_backups_and_only_by_name() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let made = asked(&scene.gateway, &["credential", "create", "tenant"]).await;
    let secret = made["secret"].as_str().unwrap();
    for (method, path) in [
        (Method::POST, "/v1/backups"),
        (Method::GET, "/v1/backups"),
        (Method::GET, "/v1/backups/first"),
        (Method::POST, "/v1/rekey"),
        (Method::GET, "/v1/health"),
    ] {
        let url = format!("{}{path}", scene.gateway.url);
        let answer = scene.gateway.client.request(method, url).bearer_auth(secret);
        expect_problem(answer.send().await.unwrap(), 403, "forbidden").await;
    }
    let take = async |name: &str| scene.gateway.post("/v1/backups", &json!({ "name": name })).await;
    for bad in ["../outside", "/tmp/x", ".hidden", "x.db", ""] {
        expect_problem(take(bad).await, 422, "invalid").await;
    }
    expect_problem(take("first").await, 409, "already_exists").await;
    let unknown = scene.gateway.get("/v1/backups/..%2F..%2Fetc").await;
    expect_problem(unknown, 404, "backup_not_found").await;
    assert_eq!(zapbus(&scene.gateway, &["backup", "../outside"]).await.code, 1);
    let begun = asked(&scene.gateway, &["backup", "second", "--no-wait"]).await;
    assert_eq!(begun["state"], "running");
    eventually("it is done", async || {
        let backup = scene.gateway.read("/v1/backups/second").await;
        (backup["state"] == "done").then_some(())
    })
    .await;
    let unnamed = asked(&scene.gateway, &["backup"]).await;
    assert!(unnamed["name"].as_str().unwrap().starts_with("20"), "{unnamed}");
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_backup_that_does_not_fit_is_not_begun_and_one_that_breaks_is_told() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("backups");
    // What a killed process left is not a backup, and goes.
    let left = dir.join(".old.part");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("zapbus.db"), "half").unwrap();
    let set = dir.clone();
    let gateway = Gateway::start(move |config| config.backup.dir = Some(set)).await;
    assert!(!left.exists());
    assert_eq!(gateway.read("/v1/backups").await["data"], json!([]));
    // The folder's place is taken by a file.
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::write(&dir, "in the way").unwrap();
    let refused = gateway.post("/v1/backups", &json!({})).await;
    expect_problem(refused, 409, "refused").await;
    assert_eq!(zapbus(&gateway, &["backup"]).await.code, 1);
    let gateway = gateway.restart_with(|config| config.store.min_free_bytes = u64::MAX >> 1).await;
    std::fs::remove_file(&dir).unwrap();
    let refused = gateway.post("/v1/backups", &json!({})).await;
    let problem = expect_problem(refused, 409, "no_space").await;
    assert!(problem["detail"].as_str().unwrap().contains("backup.dir"), "{problem}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_restored_gateway_keeps_still_until_it_is_resumed() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let after = json!({ "name": "later" });
    expect_json(scene.gateway.post("/v1/instances", &after).await, 201).await;
    let event = text_message("5511999990001", "after", "x");
    let lost = scene.gateway.post_event("shop", &event).await;
    scene.receiver.wait_for(21).await;

    let key = scene.key_file();
    let copy = scene.restore("copy", &["--key-file", &key]).await;
    let shown = copy.read(&format!("/v1/destinations/{}", scene.destination)).await;
    assert_eq!(shown["state"], "paused");
    assert!(shown["reason"].as_str().unwrap().contains("restored from a backup"), "{shown}");
    let fresh = text_message("5511999990001", "fresh", "x");
    let new = copy.post_event("shop", &fresh).await;
    let jump = new["seq"].as_u64().unwrap() - lost["seq"].as_u64().unwrap();
    assert!(jump > 1 << 31, "a new generation: {new}");
    // Who had read on in the old gateway goes on at the first event of the new one.
    let path = format!("/v1/instances/shop/events?after={}", lost["id"].as_str().unwrap());
    let page = copy.read(&path).await;
    let first = page["data"][0]["seq"].as_u64().unwrap();
    assert!(first > lost["seq"].as_u64().unwrap() + (1 << 31), "{page}");
    assert_eq!(page["gap"], true, "{page}");
    assert_eq!(scene.receiver.received().len(), 21, "nothing is sent");

    let said = zapbus(&copy, &["resume", "--all"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let received = scene.receiver.wait_for(22).await;
    assert!(received.iter().any(|it| it.json()["id"] == new["id"]), "{received:?}");
    copy.stop().await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_live_restore_delivers_at_once() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let key = std::fs::read_to_string(scene.key_file()).unwrap();
    let to = scene.path("live").display().to_string();
    let arguments = ["restore", &scene.backup, "--data-dir", &to, "--live", "--json"];
    let variables = [("ZAPBUS_ENCRYPTION_KEY", key.trim())];
    let said = local(scene.folder.path(), &arguments, &variables).await;
    assert_eq!(said.code, 0, "{said:?}");
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((&answer["live"], &answer["dropped"]), (&json!(true), &Value::Null));
    assert!(!scene.path("live/encryption.key").exists(), "a key that is given is not kept");
    let copy = Gateway::start(|config| {
        config.data_dir = scene.path("live");
        config.encryption_key = vec![Secret::new(key.trim())];
    })
    .await;
    let fresh = text_message("5511999990001", "fresh", "x");
    let new = copy.post_event("shop", &fresh).await;
    let received = scene.receiver.wait_for(21).await;
    assert_eq!(received[20].json()["id"], new["id"]);
    copy.stop().await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_with_the_one_it_needs() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let shown = asked(&scene.gateway, &["backup", "list"]).await;
    let needed = shown[0]["keys"][0].as_str().unwrap();
    let to = scene.path("copy").display().to_string();
    let restore = ["restore", &scene.backup, "--data-dir", &to];
    let wrong = [("ZAPBUS_ENCRYPTION_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")];
    for variables in [&wrong[..], &[]] {
        let said = local(scene.folder.path(), &restore, variables).await;
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stderr.contains(needed), "{said:?}");
        assert!(said.stderr.contains("--key-file") && said.stderr.contains("--without-secrets"));
        assert!(!scene.path("copy").exists(), "nothing is left behind");
    }
    let said = local(scene.folder.path(), &["restore", "nowhere", "--data-dir", &to], &[]).await;
    assert_eq!(said.code, 3, "{said:?}");
    let full = [&restore[..2], &["--data-dir", &scene.backup], &["--key-file", "nowhere"]].concat();
    assert_eq!(local(scene.folder.path(), &full, &[]).await.code, 2, "no such key file");
    let key = scene.key_file();
    let full = [&restore[..2], &["--data-dir", &scene.backup], &["--key-file", &key]].concat();
    let said = local(scene.folder.path(), &full, &[]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("Nothing is overwritten"), "{said:?}");
    scene.gateway.stop().await;
}

#[tokio::test]
async fn without_secrets_every_destination_says_what_it_lacks() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let copy = scene.restore("bare", &["--without-secrets", "--live"]).await;
    let path = format!("/v1/destinations/{}", scene.destination);
    let listed = copy.read("/v1/destinations").await;
    for shown in [&copy.read(&path).await, &listed["data"][0]] {
        assert_eq!((&shown["state"], &shown["channel"]), (&json!("paused"), &Value::Null));
        assert!(shown["reason"].as_str().unwrap().contains("without its secrets"), "{shown}");
    }
    let source = copy.read("/v1/instances/shop/source").await;
    assert_eq!(source["type"], "native", "{source}");
    // What was sent cannot be told; what became of it can.
    let log = copy.read(&format!("/v1/deliveries?destination={}", scene.destination)).await;
    let delivery = log["data"][0]["id"].as_str().expect("there are deliveries");
    let detail = copy.read(&format!("/v1/deliveries/{delivery}")).await;
    assert_eq!((&detail["request"], &detail["no_request"]), (&Value::Null, &json!("no_channel")));
    for verb in ["resume", "test", "rotate-secret"] {
        let refused = copy.post(&format!("{path}/{verb}"), &json!({})).await;
        expect_problem(refused, 409, "no_channel").await;
    }
    let said = zapbus(&copy, &["resume", "--all"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains(&scene.destination), "{said:?}");

    let url = scene.receiver.url("/new");
    let id = &scene.destination;
    let changed = asked(&copy, &["destination", "update", id, "--webhook", &url]).await;
    let secret = changed["channel"]["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && !secret.contains('*'), "shown now: {changed}");
    assert_eq!(asked(&copy, &["resume", "--all"]).await["resumed"], 1);
    let event = text_message("5511999990001", "fresh", "x");
    let new = copy.post_event("shop", &event).await;
    let received = scene.receiver.wait_for(21).await;
    assert_eq!(received[20].json()["id"], new["id"]);
    assert_eq!(received[20].path, "/new");
    copy.stop().await;
    scene.gateway.stop().await;
}

#[tokio::test]
async fn a_key_is_changed_without_losing_a_secret() {
    if skips_on_postgres("a server has backups of its own") {
        return;
    }
    let scene = Scene::set().await;
    let old = std::fs::read_to_string(scene.key_file()).unwrap();
    let new = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    let gateway = scene
        .gateway
        .restart_with(|config| {
            config.encryption_key = vec![Secret::new(new), Secret::new(old.trim())];
        })
        .await;
    let health = gateway.read("/v1/health").await;
    assert_eq!(health["encryption"]["keys"].as_array().unwrap().len(), 2, "{health}");
    let rekeyed = asked(&gateway, &["rekey"]).await;
    assert!(rekeyed["rewritten"].as_u64().unwrap() >= 4, "{rekeyed}");
    assert_eq!((&rekeyed["unreadable"], rekeyed["keys"].as_array().unwrap().len()), (&json!(0), 1));
    let audit = gateway.read("/v1/audit?limit=1").await;
    assert_eq!(audit["data"][0]["action"], "store.rekey", "{audit}");
    let gateway =
        gateway.restart_with(|config| config.encryption_key = vec![Secret::new(new)]).await;
    let tested = asked(&gateway, &["destination", "test", &scene.destination]).await;
    assert_eq!(tested["ok"], true, "{tested}");
    assert_eq!(gateway.token(), ADMIN_TOKEN);
    gateway.stop().await;
}
