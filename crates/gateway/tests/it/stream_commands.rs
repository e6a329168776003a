//! `zapbus tail` and `zapbus listen` against a running gateway.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{
    api::text,
    binary,
    command_line::zapbus,
    server::{Gateway, Receiver, Reply, eventually},
    socket::PATIENCE,
    stream::{say, say_many},
};

struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(gateway: &Gateway, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command: Command = binary::command(folder.path());
        command.env("ZAPBUS_URL", &gateway.url).env("ZAPBUS_TOKEN", gateway.token());
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, _folder: folder }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        line.expect("a line in time").unwrap().expect("it goes on")
    }

    /// Ctrl-C.
    async fn interrupt(mut self) -> bool {
        let pid = self.child.id().unwrap().to_string();
        Command::new("kill").args(["-s", "INT", &pid]).status().await.unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").unwrap().success()
    }
}

async fn is_connected(gateway: &Gateway, count: usize) {
    let shown = format!("zapbus_realtime_connections{{protocol=\"websocket\"}} {count}\n");
    eventually("it is connected", async || {
        let metrics = gateway.get("/metrics").await.text().await.ok()?;
        metrics.contains(&shown).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tail_shows_what_comes() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    let mut tail = Running::start(&gateway, &["tail", "shop", "--types", "message.*"]);
    is_connected(&gateway, 1).await;
    gateway.post_event("shop", &json!({ "type": "instance.connecting", "data": {} })).await;
    let id = say(&gateway, "shop", "m").await;
    let line = tail.line().await;
    assert!(line.contains("message.received") && line.contains("shop"), "{line}");
    assert!(line.contains(&id) && line.contains("1@s.whatsapp.net  \"x\""), "{line}");
    assert!(tail.interrupt().await);

    let again = ["tail", "--since", "1h", "--types", "message.*", "--count", "1", "--ndjson"];
    let said = zapbus(&gateway, &again).await;
    assert_eq!(said.code, 0, "{said:?}");
    let document: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert_eq!(document["id"], *id);
    assert_eq!(zapbus(&gateway, &["tail", "nowhere"]).await.code, 3);
    assert_eq!(zapbus(&gateway, &["tail", "shop", "--types", "mesage"]).await.code, 1);
    assert_eq!(zapbus(&gateway, &["tail", "--token", "zb_wrong"]).await.code, 4);
    let nowhere = ["tail", "--url", "http://127.0.0.1:1"];
    assert_eq!(zapbus(&gateway, &nowhere).await.code, 6);
}

#[tokio::test]
async fn listen_brings_events_and_acknowledges_what_was_taken() {
    let gateway = Gateway::start(|_| {}).await;
    gateway.create_instance("shop").await;
    // The second one is refused once.
    let receiver = Receiver::scripted(|request| {
        let refused = request.json()["data"]["message"]["id"] == "m1-shop-3" && request.index < 3;
        if refused { Reply::status(500) } else { Reply::ok() }
    })
    .await;
    let url = receiver.url("/hook");
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let arguments =
        ["listen", "shop", "--forward-to", &url, "--types", "message.*", "--secret", secret];
    let mut listen = Running::start(&gateway, &arguments);
    is_connected(&gateway, 1).await;
    let ids = say_many(&gateway, "shop", 3).await;
    for (status, id) in ["200", "500", "200"].iter().zip(&ids) {
        let line = listen.line().await;
        assert!(line.starts_with(status) && line.contains(id), "{line}");
    }
    let requests = receiver.wait_for(3).await;
    let first = &requests[0];
    assert_eq!(first.header("webhook-id"), Some(ids[0].as_str()));
    let webhook = standardwebhooks::Webhook::new(secret).unwrap();
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, first.header(name).unwrap().parse().unwrap());
    }
    webhook.verify(&first.body, &headers).unwrap();
    assert_eq!(text(&first.json(), "id"), ids[0]);
    let open = async |count: u64| {
        eventually("acks are heard", async || {
            let list = gateway.read("/v1/subscribers").await;
            (list["data"][0]["unacked"] == count).then_some(())
        })
        .await;
    };
    open(1).await;
    assert!(listen.interrupt().await);
    // Nobody is there: what comes waits, and what was refused comes again.
    let away = say(&gateway, "shop", "away").await;
    let limited = [&arguments[..], &["--count", "2"]].concat();
    let said = zapbus(&gateway, &limited).await;
    assert_eq!(said.code, 0, "{said:?}");
    let brought: Vec<&str> = said.stdout.lines().collect();
    assert!(brought[0].contains(&ids[1]) && brought[1].contains(&away), "{said:?}");
    open(0).await;
    let wrong = zapbus(&gateway, &["listen", "shop", "--forward-to", "ftp://x"]).await;
    assert_eq!(wrong.code, 2);
}
