//! Programs that consume, with the clients that people use.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Child;

use crate::{packages::Packages, postgres::say};

/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// pika, boto3 and moto.
const PACKAGES: Packages = Packages { name: "brokers-1", folder: "brokers" };

/// Says that a peer is missing, which is a failure where all must be there.
pub(crate) fn missing(reason: &str) {
    let required = std::env::var("ZAPBUS_TEST_PEERS").as_deref() == Ok("require");
    assert!(!required, "{reason}, and ZAPBUS_TEST_PEERS=require");
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
