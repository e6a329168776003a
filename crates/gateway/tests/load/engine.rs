//! Which engine the gateways of this run keep their events in, as in the stories of `it`.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{LazyLock, Mutex},
};

use tokio::process::Command;

use super::database::Database;

/// The key that all nodes on a database share.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The servers of this process by the folders of their gateways: a gateway that starts again on its
/// folder finds what it had. What outlives the process is removed by each server's watcher.
static SERVERS: LazyLock<Mutex<HashMap<PathBuf, Database>>> = LazyLock::new(Mutex::default);

/// Whether gateways of this run are on PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    match std::env::var("ZAPBUS_TEST_ENGINE").as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("ZAPBUS_TEST_ENGINE={other}: expected sqlite or postgres"),
    }
}

/// Leads a gateway to its database, if it has one.
pub(super) fn configure(command: &mut Command) {
    if !is_postgres() {
        return;
    }
    let folder = command.as_std().get_current_dir().expect("a gateway has a folder").to_owned();
    let mut servers = SERVERS.lock().unwrap();
    let database = servers.entry(folder).or_insert_with(|| {
        Database::start().expect("ZAPBUS_TEST_ENGINE=postgres needs PostgreSQL's programs")
    });
    command
        .env("ZAPBUS_DATABASE_URL", database.url(database.address()))
        .env("ZAPBUS_ENCRYPTION_KEY", KEY);
}
