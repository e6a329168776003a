//! Programs that consume, with the clients that people use.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::packages::{Modules, Packages, say};

/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// pika, boto3 and moto.
const PACKAGES: Packages = Packages { name: "brokers-1", folder: "brokers" };
const PUSHER_JS: Modules = Modules { name: "pusher-js-8.6.0", folder: "brokers" };

/// Says that a peer is missing that takes long to build. That is no failure, unless those too must be
/// there.
pub(super) fn missing_slow(reason: &str) {
    let required = std::env::var("ZAPBUS_TEST_SLOW_PEERS").as_deref() == Ok("require");
    assert!(!required, "{reason}, and ZAPBUS_TEST_SLOW_PEERS=require");
    say(&format!("skipped: {reason}"));
}

/// Python with pika, boto3 and moto in reach.
pub(crate) struct Python;

impl Python {
    /// Nothing, once it is said, where they cannot be had.
    pub(crate) async fn find() -> Option<Self> {
        PACKAGES.program("consume_rabbitmq.py").await.map(|_| Self)
    }

    /// Runs a program of `tests/sdk/brokers` to its end, and reads the lines that it prints.
    pub(crate) async fn run(&self, program: &str, env: &[(&str, &str)]) -> Vec<Value> {
        let mut command = PACKAGES.program(program).await.expect("they were there");
        command.envs(env.iter().copied());
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{program} takes too long")).unwrap();
        let (said, failed) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{program}: {}\n{failed}", output.status);
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Starts one in the background; it ends when it is dropped.
    pub(crate) async fn start(&self, program: &str, env: &[(&str, &str)]) -> Child {
        let mut command = PACKAGES.program(program).await.expect("they were there");
        command.envs(env.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

/// A page that listens to a channel, with `pusher-js`. It ends when it is dropped.
pub(super) struct Page {
    _process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Page {
    /// Subscribed; nothing, once it is said, where the client cannot be had.
    pub(super) async fn open(port: u16, channel: &str) -> Option<Self> {
        let mut process = PUSHER_JS
            .program("subscribe_pusher.mjs")
            .await?
            .envs([("PORT", port.to_string().as_str()), ("CHANNEL", channel)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut page = Self { _process: process, lines };
        assert_eq!(page.next().await["what"], "subscribed");
        Some(page)
    }

    /// What comes next: name and data of an event.
    pub(super) async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.expect("something comes in time").unwrap().expect("the page is open");
        serde_json::from_str(&line).unwrap()
    }
}
