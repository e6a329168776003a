//! The official Python SDK against the real binary.

use std::time::Duration;

use super::{CLIENT_SECRET, CLIENT_TOKEN, peers::program};
use crate::{binary::Served, server::ADMIN_TOKEN};

/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a program of `tests/sdk/vzaps` against a gateway of its own; it fails if the program does.
async fn run(name: &str) {
    let Some(mut program) = program(name).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), |command| {
        command
            .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("ZAPBUS_BOOTSTRAP_CLIENT_TOKEN", CLIENT_TOKEN)
            .env("ZAPBUS_BOOTSTRAP_CLIENT_SECRET", CLIENT_SECRET);
    })
    .await;
    program
        .env("BASE_URL", &served.url)
        .env("ZAPBUS_BINARY", env!("CARGO_BIN_EXE_zapbus"))
        .env("ADMIN_TOKEN", ADMIN_TOKEN)
        .env("CLIENT_TOKEN", CLIENT_TOKEN)
        .env("CLIENT_SECRET", CLIENT_SECRET);
    let output = tokio::time::timeout(PATIENCE, program.output()).await.expect("it ends").unwrap();
    assert!(
        output.status.success(),
        "{name}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    served.kill().await;
}

#[tokio::test]
async fn every_method_that_has_to_do_with_events_works_synchronously() {
    run("rest.py").await;
}

#[tokio::test]
async fn every_method_that_has_to_do_with_events_works_asynchronously() {
    run("rest_async.py").await;
}

#[tokio::test]
async fn the_realtime_programs_of_the_documentation_work_as_they_stand() {
    run("realtime.py").await;
}

#[tokio::test]
async fn a_subscription_outlives_restarts() {
    run("restart.py").await;
}
