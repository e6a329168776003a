//! Which engine the gateways of this run keep their events in: SQLite, or PostgreSQL when
//! `ZAPBUS_TEST_ENGINE=postgres`.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use zapbus_gateway::config::{Config, Secret};
use zapbus_store::{Key, Options, Postgres};

use crate::postgres::{self, KEY, Server};

/// Whether gateways of this run are on PostgreSQL.
pub(crate) fn is_postgres() -> bool {
    match std::env::var("ZAPBUS_TEST_ENGINE").as_deref() {
        Err(_) | Ok("" | "sqlite") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("ZAPBUS_TEST_ENGINE={other}: expected sqlite or postgres"),
    }
}

/// Leaves a test of what only several nodes have, where gateways are not on PostgreSQL.
macro_rules! needs_postgres {
    () => {
        if !crate::engine::is_postgres() {
            crate::postgres::say("skipped: ZAPBUS_TEST_ENGINE is not postgres");
            return;
        }
    };
}
pub(crate) use needs_postgres;

/// For tests of what only SQLite has, such as its files: whether to skip this one, which is said
/// with the reason.
pub(crate) fn skips_on_postgres(reason: &str) -> bool {
    let skips = is_postgres();
    if skips {
        postgres::say(&format!("skipped on PostgreSQL: {reason}"));
    }
    skips
}

/// A database of its own for a test; gone with the last gateway on it.
#[derive(Clone)]
pub(crate) struct Database(Arc<Inner>);

struct Inner {
    server: &'static Server,
    name: String,
}

impl Database {
    /// A copy of a store that was opened once, with [`KEY`]; or nothing at all.
    pub(crate) async fn make(with_schema: bool) -> Self {
        let server = postgres::shared().await;
        Self(Arc::new(Inner { server, name: server.database(with_schema).await }))
    }

    pub(crate) fn url(&self) -> String {
        self.0.server.url(&self.0.name)
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// [`Database::url`], by way of somebody who passes everything on.
    pub(crate) fn url_by_way_of(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/{}", self.name())
    }

    /// Where its server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.server.port).into()
    }

    /// A connection of somebody else's.
    pub(crate) async fn connect(&self) -> tokio_postgres::Client {
        self.0.server.connect(&self.0.name).await
    }

    /// A connection to the same server, and to another database.
    pub(crate) async fn connect_beside(&self) -> tokio_postgres::Client {
        self.0.server.connect("postgres").await
    }

    /// Leads a gateway to it.
    pub(crate) fn configure(&self, config: &mut Config) {
        config.database_url = Some(Secret::new(self.url()));
        if config.encryption_key.is_empty() {
            config.encryption_key = vec![Secret::new(KEY)];
        }
        // Some tests have several nodes, and a server takes so many connections.
        config.database.connections = 6;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.server.forget(&self.name);
    }
}

/// How the store is opened that others are copies of.
pub(crate) fn template_options(url: &str) -> Options {
    let mut options = Options::new("unused");
    options.keys = vec![Key::parse(KEY).expect("a key of the tests")];
    options.postgres = Some(Postgres::new(url));
    options
}
