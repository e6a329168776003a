//! The `socket.io-client` of npm, pinned: installed once into a cache outside the checkout.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
};

use crate::{packages::Modules, server::Gateway, socket::PATIENCE};

const CLIENT: Modules = Modules { name: "socket.io-client-4.8.4", folder: "evolution" };

/// Real clients, in a process of their own.
pub(super) struct Clients {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Clients {
    /// Starts it; nothing, once it is said, where the client cannot be had.
    pub(super) async fn start() -> Option<Self> {
        let mut process = CLIENT
            .program("socket.mjs")
            .await?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        Some(Self { _process: process, input, output })
    }

    async fn tell(&mut self, told: &Value) {
        self.input.write_all(format!("{told}\n").as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }

    /// Joins a namespace under a name.
    pub(super) async fn join(&mut self, name: &str, url: &str, options: Value, hold: bool) {
        self.tell(&json!({
            "do": "join", "name": name, "url": url, "options": options, "hold": hold,
        }))
        .await;
    }

    /// Has a client do something.
    pub(super) async fn have(&mut self, name: &str, what: &str) {
        self.tell(&json!({ "do": what, "name": name })).await;
    }

    /// Has a client say something.
    pub(super) async fn emit(&mut self, name: &str, args: Value) {
        self.tell(&json!({ "do": "say", "name": name, "args": args })).await;
    }

    /// What happens next.
    pub(super) async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
        let line = line.expect("something happens in time").unwrap().expect("it runs");
        serde_json::from_str(&line).unwrap()
    }

    /// The next thing of this kind, past others.
    pub(super) async fn until(&mut self, what: &str) -> Value {
        loop {
            let next = self.next().await;
            if next["what"] == what {
                return next;
            }
        }
    }

    /// The next event.
    pub(super) async fn event(&mut self) -> Value {
        self.until("event").await
    }

    /// That nothing is told for a moment.
    pub(super) async fn stay_quiet(&mut self) {
        let quiet = std::time::Duration::from_millis(300);
        let quiet = tokio::time::timeout(quiet, self.output.next_line()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}

/// Options of a client with the admin's token in the query.
pub(super) fn options(gateway: &Gateway, transports: &[&str], auth: Value) -> Value {
    json!({
        "query": { "apikey": gateway.token() },
        "auth": auth,
        "transports": transports,
        "forceNew": true,
    })
}
