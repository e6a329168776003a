//! The Python package, from the wheel that `make wheels` has built, beside VZaps's own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use crate::{
    binary::Served,
    packages::{Packages, missing, output, python},
    server::ADMIN_TOKEN,
};

/// VZaps's own package, with what the programs here need besides.
const PACKAGES: Packages = Packages { name: "zapbus-tests-1", folder: "zapbus" };
const CLIENT_TOKEN: &str = "your-client-token";
const CLIENT_SECRET: &str = "your-client-secret";

/// How long a program may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(220);

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// The newest wheel, unpacked into a folder, or why there is none.
fn unpack(folder: &Path) -> Result<PathBuf, String> {
    let wheels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wheels");
    let newest = |path: &PathBuf| path.metadata().and_then(|it| it.modified()).ok();
    let wheel = std::fs::read_dir(wheels)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .max_by_key(|path| newest(path).unwrap_or(SystemTime::UNIX_EPOCH))
        .ok_or("there is no wheel in target/wheels: make wheel-for-tests")?;
    let place = folder.join("wheel");
    // A wheel is an archive of what is imported.
    output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel).arg(&place))?;
    Ok(place)
}

/// A program's surroundings. `None`, once it is said, where something is missing.
async fn surroundings() -> Option<(TempDir, Vec<PathBuf>)> {
    let folder = tempfile::tempdir().unwrap();
    let wheel = match unpack(folder.path()) {
        Ok(wheel) => wheel,
        Err(reason) => {
            missing(&format!("the Python package zapbus is not to be had: {reason}"));
            return None;
        }
    };
    let packages = PACKAGES.folder().await?;
    Some((folder, vec![wheel, packages, programs().join("vzaps")]))
}

/// Runs a program against a gateway of its own; it fails if the program does.
async fn run(program: &Path) {
    let Some((folder, folders)) = surroundings().await else { return };
    let served = Served::start(folder.path(), |command| {
        command
            .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("ZAPBUS_BOOTSTRAP_CLIENT_TOKEN", CLIENT_TOKEN)
            .env("ZAPBUS_BOOTSTRAP_CLIENT_SECRET", CLIENT_SECRET);
    })
    .await;
    let mut command = python(&folders, program);
    command
        .env("BASE_URL", &served.url)
        .env("ZAPBUS_BINARY", env!("CARGO_BIN_EXE_zapbus"))
        .env("ADMIN_TOKEN", ADMIN_TOKEN)
        .env("CLIENT_TOKEN", CLIENT_TOKEN)
        .env("CLIENT_SECRET", CLIENT_SECRET);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    assert!(
        output.status.success(),
        "{}: {}\n{}\n{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    served.kill().await;
}

/// Runs a program that was written for VZaps's own package, with only its import lines changed.
async fn run_of_vzaps(name: &str) {
    let program = std::fs::read_to_string(programs().join("vzaps").join(name)).unwrap();
    assert!(program.contains("\nfrom vzaps import "), "{name} imports it");
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join(name);
    std::fs::write(&changed, program.replace("\nfrom vzaps", "\nfrom zapbus.vzaps")).unwrap();
    run(&changed).await;
}

async fn run_of_ours(name: &str) {
    run(&programs().join("zapbus").join(name)).await;
}

#[tokio::test]
async fn the_programs_of_vzaps_documentation_run() {
    run_of_ours("pages.py").await;
}

#[tokio::test]
async fn what_is_promised_to_vzaps_subscribers_holds() {
    run_of_vzaps("realtime.py").await;
}

#[tokio::test]
async fn a_subscription_of_vzaps_outlives_restarts() {
    run_of_vzaps("restart.py").await;
}

#[tokio::test]
async fn the_native_api_works_awaited_and_waited_for() {
    run_of_ours("native.py").await;
}

#[tokio::test]
async fn subscriptions_outlive_a_gateway_that_is_killed_again_and_again() {
    run_of_ours("killed.py").await;
}

#[tokio::test]
async fn bad_days_have_a_decided_outcome() {
    run_of_ours("bad_days.py").await;
}

#[tokio::test]
async fn the_official_libraries_say_the_same_of_signatures() {
    run_of_ours("signatures.py").await;
}
