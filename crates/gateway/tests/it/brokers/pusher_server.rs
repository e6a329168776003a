//! Servers that speak Pusher's HTTP API and its protocol for pages, with the app `1234`.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{
        Path, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{StatusCode, Uri},
    response::Response,
    routing::{get, post},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::broadcast::{self, Receiver, Sender, error::RecvError},
    task::JoinSet,
};

use super::peers::missing_slow;
use crate::packages::{cache, free_port};

/// How long a server may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "hunter2";
/// Triggers that pages may be behind.
const BEHIND: usize = 10_000;
const MAX_BYTES: usize = 10 * 1024;

/// A server; it ends when it is dropped.
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) port: u16,
    _kept: Kept,
}

#[expect(dead_code, reason = "they are held, not read")]
enum Kept {
    Tasks(JoinSet<()>),
    Process(Box<Child>, TempDir),
}

impl Server {
    /// How a destination reaches it.
    pub(super) fn channel(&self) -> Value {
        json!({
            "type": "pusher", "app_id": "1234", "key": "key1", "secret": SECRET,
            "host": "127.0.0.1", "port": self.port, "tls": false,
        })
    }

    /// A stand-in that checks requests as the official server libraries make them.
    pub(super) async fn stand_in() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (triggers, _) = broadcast::channel(BEHIND);
        let routes = Router::new()
            .route("/apps/1234/{endpoint}", post(trigger))
            .route("/app/{key}", get(connect))
            .with_state(triggers);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { name: "the stand-in", port, _kept: Kept::Tasks(tasks) }
    }

    /// Sockudo; nothing, once it is said, where it was not built.
    pub(super) async fn sockudo() -> Option<Self> {
        let program = sockudo_program();
        if !program.exists() {
            missing_slow(&format!("Sockudo is not here ({}): make peers", program.display()));
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let config = folder.path().join("config.toml");
        std::fs::write(&config, SOCKUDO_CONFIG.replace("PORT", &port.to_string())).unwrap();
        let process = Command::new(program)
            .arg("--config")
            .arg(&config)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let started = Instant::now();
        let ask = || reqwest::get(format!("http://127.0.0.1:{port}/live"));
        while !ask().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(started.elapsed() < PATIENCE, "Sockudo does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(Self { name: "Sockudo", port, _kept: Kept::Process(Box::new(process), folder) })
    }
}

/// Where `make peers` puts it.
fn sockudo_program() -> PathBuf {
    cache().join("sockudo-5.2.0/bin/sockudo")
}

const SOCKUDO_CONFIG: &str = r#"
host = "127.0.0.1"
port = PORT
shutdown_grace_period = 1
[adapter]
driver = "local"
[cache]
driver = "memory"
[queue]
driver = "memory"
[rate_limiter]
enabled = false
driver = "memory"
[metrics]
enabled = false
[app_manager]
driver = "memory"
[[app_manager.array.apps]]
id = "1234"
key = "key1"
secret = "hunter2"
enabled = true
max_connections = 100
enable_client_messages = false
max_client_events_per_second = 1000
max_event_payload_in_kb = 10
max_event_batch_size = 10
"#;

/// An event for the pages that listen to its channel.
#[derive(Debug, Clone)]
struct Trigger(Arc<Value>);

async fn trigger(
    State(triggers): State<Sender<Trigger>>,
    uri: Uri,
    Path(endpoint): Path<String>,
    body: Bytes,
) -> (StatusCode, String) {
    if let Err(reason) = check(uri.path(), uri.query().unwrap_or_default(), &body) {
        return (StatusCode::UNAUTHORIZED, reason.to_owned());
    }
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "no JSON".to_owned());
    };
    let events = match (endpoint.as_str(), &body["batch"]) {
        ("events", _) => vec![body],
        ("batch_events", Value::Array(batch)) if batch.len() <= 10 => batch.clone(),
        _ => return (StatusCode::BAD_REQUEST, "no batch of up to ten".to_owned()),
    };
    for event in &events {
        match event["data"].as_str() {
            Some(data) if data.len() <= MAX_BYTES => {}
            Some(_) => return (StatusCode::PAYLOAD_TOO_LARGE, "too large".to_owned()),
            None => return (StatusCode::BAD_REQUEST, "the data is no text".to_owned()),
        }
    }
    for event in events {
        // Nobody may be listening.
        triggers.send(Trigger(Arc::new(event))).ok();
    }
    (StatusCode::OK, "{}".to_owned())
}

/// What a server checks before it looks at a request.
fn check(path: &str, query: &str, body: &[u8]) -> Result<(), &'static str> {
    let mut parameters: Vec<(&str, &str)> =
        query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let at = parameters.iter().position(|(name, _)| *name == "auth_signature");
    let (_, signature) = parameters.remove(at.ok_or("no signature")?);
    parameters.sort_unstable();
    let sorted: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("POST\n{path}\n{}", sorted.join("&")).as_bytes());
    if hex::encode(mac.finalize().into_bytes()) != signature {
        return Err("the signature is wrong");
    }
    let of = |name: &str| parameters.iter().find(|(it, _)| *it == name).map(|(_, value)| *value);
    if of("auth_key") != Some("key1") || of("auth_version") != Some("1.0") {
        return Err("the key or the version is wrong");
    }
    if of("body_md5") != Some(hex::encode(Md5::digest(body)).as_str()) {
        return Err("the digest of the body is wrong");
    }
    Ok(())
}

async fn connect(State(triggers): State<Sender<Trigger>>, upgrade: WebSocketUpgrade) -> Response {
    let triggers = triggers.subscribe();
    upgrade.on_upgrade(|socket| async move {
        // The page may go at any time.
        serve(socket, triggers).await.ok();
    })
}

async fn serve(mut socket: WebSocket, mut triggers: Receiver<Trigger>) -> Result<(), axum::Error> {
    let established = json!({ "socket_id": "1.1", "activity_timeout": 120 }).to_string();
    let established = json!({ "event": "pusher:connection_established", "data": established });
    say(&mut socket, &established).await?;
    let mut channels: Vec<Value> = Vec::new();
    loop {
        tokio::select! {
            said = socket.recv() => {
                let Some(Ok(said)) = said else { return Ok(()) };
                let Message::Text(text) = said else { continue };
                let Ok(said) = serde_json::from_str::<Value>(&text) else { continue };
                let answer = match said["event"].as_str() {
                    Some("pusher:subscribe") => {
                        let channel = said["data"]["channel"].clone();
                        channels.push(channel.clone());
                        json!({
                            "event": "pusher_internal:subscription_succeeded", "channel": channel,
                            "data": "{}",
                        })
                    }
                    Some("pusher:ping") => json!({ "event": "pusher:pong", "data": "{}" }),
                    _ => continue,
                };
                say(&mut socket, &answer).await?;
            }
            triggered = triggers.recv() => {
                let Trigger(event) = match triggered {
                    Ok(trigger) => trigger,
                    Err(RecvError::Lagged(missed)) => panic!("a page is {missed} events behind"),
                    Err(RecvError::Closed) => return Ok(()),
                };
                if channels.contains(&event["channel"]) {
                    let told = json!({
                        "event": event["name"], "channel": event["channel"], "data": event["data"],
                    });
                    say(&mut socket, &told).await?;
                }
            }
        }
    }
}

async fn say(socket: &mut WebSocket, what: &Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(what.to_string().into())).await
}
