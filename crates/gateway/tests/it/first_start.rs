//! A newcomer's first minute: start it, paste what it prints, see an event arrive.

use std::{process::Stdio, time::Duration};

use serde_json::json;
use tokio::process::Command;
use zapbus_gateway::config::Secret;

use crate::{
    binary::Served,
    server::{Gateway, expect_json},
};

/// Its line of the output, without the label.
fn printed(served: &Served, label: &str) -> Option<String> {
    let stdout = served.stdout();
    let line = stdout.lines().find_map(|line| line.trim().strip_prefix(label))?;
    Some(line.trim().to_owned())
}

async fn wait_for_line(served: &Served, part: &str) {
    crate::server::eventually(part, async || served.stdout().contains(part).then_some(())).await;
}

#[tokio::test]
async fn the_printed_example_works_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), |_| {}).await;
    wait_for_line(&served, "(stop the receiver with").await;
    let stdout = served.stdout();
    let example = &stdout[stdout.find("# 1.").expect("there is an example")..];

    // A receiver that is slow to start is tried again after some seconds.
    let arrived = "for n in {1..150}; do grep -q arrived: said && break; sleep 0.1; done";
    let script = format!("exec > said\n{example}\n{arrived}\nkill %1\n");
    let output = Command::new("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(30), output).await.unwrap().unwrap();
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    assert!(
        said.contains("arrived:") && said.contains("Hello from Zapbus"),
        "{script}\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!said.contains("\"code\""), "nothing was refused: {said}");
    served.kill().await;
}

#[tokio::test]
async fn the_admin_token_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = Served::start(folder.path(), |_| {}).await;
    wait_for_line(&served, "(stop the receiver with").await;
    let token = printed(&served, "admin token").expect("it is printed");
    assert!(token.starts_with("zb_admin_") && token.len() >= 40, "{token}");
    served.signal("TERM").await;
    assert_eq!(served.ended().await.code(), Some(0));

    let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap();
    assert!(!log.contains(&token), "not in the logs");
    for file in walk(&folder.path().join("data")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(token.len()).any(|window| window == token.as_bytes());
        assert!(!found, "only its hash is kept, but it is in {}", file.display());
    }

    let served = Served::start(folder.path(), |_| {}).await;
    let client = reqwest::Client::new();
    let accounts = client.get(format!("{}/v1/accounts", served.url)).bearer_auth(&token);
    expect_json(accounts.send().await.unwrap(), 200).await;
    assert_eq!(printed(&served, "admin token"), None);
    let hint = printed(&served, "admin ").expect("it says what to do about a lost one");
    assert!(hint.contains("ZAPBUS_ADMIN_TOKEN"), "{hint}");
    assert!(!served.stdout().contains("# 1."), "the example is for the first start");
    served.kill().await;
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[tokio::test]
async fn a_token_that_was_given_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let token = "zb_admin_given_by_the_operator";
    let served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ADMIN_TOKEN", token);
    })
    .await;
    wait_for_line(&served, "(stop the receiver with").await;
    assert!(!served.stdout().contains(token), "{}", served.stdout());
    served.kill().await;
}

#[tokio::test]
async fn a_made_token_stays_valid_and_a_configured_one_replaces_it() {
    let gateway = Gateway::start(|config| config.admin_token = None).await;
    let made = gateway.token().to_owned();
    let gateway = gateway.restart().await;
    gateway.read("/v1/accounts").await;
    let gateway = gateway
        .restart_with(|config| config.admin_token = Some(Secret::new("another admin token")))
        .await;
    gateway.read("/v1/accounts").await;
    let url = format!("{}/v1/accounts", gateway.url);
    let refused = gateway.client.get(url).bearer_auth(&made).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    gateway.stop().await;
}

#[tokio::test]
async fn the_bootstrap_credential_follows_the_environment() {
    let bootstrap = |secret: &'static str| {
        move |config: &mut zapbus_gateway::config::Config| {
            config.bootstrap.client_token = Some("client".to_owned());
            config.bootstrap.client_secret = Some(Secret::new(secret));
        }
    };
    let status = async |gateway: &Gateway, secret: &str| {
        let url = format!("{}/v1/instances", gateway.url);
        gateway.client.get(url).bearer_auth(secret).send().await.unwrap().status().as_u16()
    };
    let gateway = Gateway::start(bootstrap("the first secret")).await;
    assert_eq!(status(&gateway, "the first secret").await, 200);
    let gateway = gateway.restart().await;
    assert_eq!(status(&gateway, "the first secret").await, 200);
    let credentials = gateway.app.store.credentials(None).await.unwrap();
    assert_eq!(credentials.len(), 1, "it is made once: {credentials:?}");
    let gateway = gateway.restart_with(bootstrap("the second secret")).await;
    assert_eq!(status(&gateway, "the second secret").await, 200);
    assert_eq!(status(&gateway, "the first secret").await, 401);
    gateway.stop().await;
}

#[tokio::test]
async fn every_start_is_an_event_of_the_default_account() {
    let gateway = Gateway::start(|config| {
        config.public_url = Some("https://bus.example.com/".to_owned());
    })
    .await;
    let gateway = gateway.restart().await;
    let page = gateway.read("/v1/events?types=system.started").await;
    let started = page["data"].as_array().unwrap();
    assert_eq!(started.len(), 2, "{page}");
    assert_eq!(
        started[0]["data"],
        json!({ "version": env!("CARGO_PKG_VERSION"), "server_url": "https://bus.example.com" })
    );
    gateway.stop().await;
}

#[tokio::test]
async fn the_printed_example_works_where_a_local_receiver_would_be_refused() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_EGRESS_ALLOW", "10.0.0.0/8");
    })
    .await;
    wait_for_line(&served, "ZAPBUS_EGRESS_ALLOW=10.0.0.0/8,127.0.0.1").await;
    let stdout = served.stdout();
    let example = &stdout[stdout.find("# 1.").expect("there is an example")..];
    let mut command = Command::new("bash");
    command.arg("-c").arg(example).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    let output = output.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\"type\":\"message.received\""), "{example}\n{said}");
    assert!(said.contains("Hello from Zapbus"), "{said}");
    assert!(!said.contains("\"code\""), "nothing was refused: {said}");
    served.kill().await;
}
