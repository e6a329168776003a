//! Evolution's public Python client against the real binary.

use std::time::Duration;

use super::KEY;
use crate::{binary::Served, packages::Packages, server::ADMIN_TOKEN};

/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::test]
async fn every_method_of_the_client_that_has_to_do_with_events_works() {
    let packages = Packages { name: "evolutionapi-0.1.2", folder: "evolution" };
    let Some(mut program) = packages.program("rest.py").await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(folder.path(), |command| {
        command.env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN).env("AUTHENTICATION_API_KEY", KEY);
    })
    .await;
    program.env("BASE_URL", &served.url).env("KEY", KEY).env("ADMIN_TOKEN", ADMIN_TOKEN);
    let output = tokio::time::timeout(PATIENCE, program.output()).await.expect("it ends").unwrap();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    served.kill().await;
}
