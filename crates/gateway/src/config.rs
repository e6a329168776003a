//! The configuration: the sum of what each part of the gateway can be told.
//!
//! Built once by [`Config::load`] from defaults, file, environment and flags; nobody reads the
//! environment later. Every key is described in `zapbus.example.toml`.

pub(crate) mod load;

mod database;
mod secret;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, de, ser};
use zapbus_store as store;

pub use self::{
    database::{Cluster, Database},
    load::{Environment, Flags, Loaded, Mistake, Note, Origin, Setting},
    secret::Secret,
};
use crate::{
    api::{evolution, ryze, vzaps},
    backups, lane, media, realtime, server,
    telemetry::{self, logs},
    traces,
};

/// Everything the gateway can be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on.
    #[serde(deserialize_with = "socket_address")]
    pub listen: SocketAddr,
    /// Where the store is.
    pub data_dir: PathBuf,
    /// A database on a PostgreSQL server, for several nodes; unset: SQLite in the data folder.
    pub database_url: Option<Secret>,
    /// How the gateway is reached from outside; unset: `http://<listen>`.
    pub public_url: Option<String>,
    /// The operator's token; unset: made at the first start and printed once.
    pub admin_token: Option<Secret>,
    /// Keys of 32 bytes as base64 or hex; the first encrypts. Empty: made at the first start.
    pub encryption_key: Vec<Secret>,
    /// Networks whose `Forwarded` and `X-Forwarded-*` headers are believed.
    #[serde(serialize_with = "serialize_networks", deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// A credential of the default account.
    pub bootstrap: Bootstrap,
    /// Which private addresses destinations may have.
    pub egress: Egress,
    /// The listener.
    pub http: server::Config,
    /// Certificate and key.
    pub tls: server::tls::Config,
    /// Browsers of other origins.
    pub cors: server::cors::Config,
    /// Limits of what is offered for the journal.
    pub ingest: Ingest,
    /// Limits and choices of the store.
    pub store: Store,
    /// The database on a server.
    pub database: Database,
    /// This node among others on that database.
    pub cluster: Cluster,
    /// How long things are kept.
    pub retention: Retention,
    /// Backups.
    pub backup: backups::Config,
    /// Files of messages.
    pub media: media::Config,
    /// Limits of all lanes together.
    pub lanes: lane::Config,
    /// Live connections.
    pub realtime: realtime::Config,
    /// The API of VZaps.
    pub vzaps: vzaps::Config,
    /// The API of `RyzeAPI`.
    pub ryze: ryze::Config,
    /// The API of Evolution, and what its variables ask for.
    pub evolution: evolution::Config,
    /// Logs.
    pub log: logs::Config,
    /// Metrics.
    pub telemetry: telemetry::Config,
    /// Traces.
    pub traces: traces::Config,
    /// Going down.
    pub shutdown: Shutdown,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            data_dir: PathBuf::from("./zapbus-data"),
            database_url: None,
            public_url: None,
            admin_token: None,
            encryption_key: Vec::new(),
            trusted_proxies: Vec::new(),
            bootstrap: Bootstrap::default(),
            egress: Egress::default(),
            http: server::Config::default(),
            tls: server::tls::Config::default(),
            cors: server::cors::Config::default(),
            ingest: Ingest::default(),
            store: Store::default(),
            database: Database::default(),
            cluster: Cluster::default(),
            retention: Retention::default(),
            backup: backups::Config::default(),
            media: media::Config::default(),
            lanes: lane::Config::default(),
            realtime: realtime::Config::default(),
            vzaps: vzaps::Config::default(),
            ryze: ryze::Config::default(),
            evolution: evolution::Config::default(),
            log: logs::Config::default(),
            telemetry: telemetry::Config::default(),
            traces: traces::Config::default(),
            shutdown: Shutdown::default(),
        }
    }
}

/// `[bootstrap]`: a credential that exists from the first start on.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Its public id.
    pub client_token: Option<String>,
    /// Its secret.
    pub client_secret: Option<Secret>,
}

/// `[egress]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// CIDRs, addresses and host names that destinations may have although they are not public.
    pub allow: Vec<String>,
}

/// `[ingest]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ingest {
    /// One event, and the whole body of a signed source.
    pub max_event_bytes: usize,
    /// The whole body of a native request with several events.
    pub max_body_bytes: usize,
}

impl Default for Ingest {
    fn default() -> Self {
        Self { max_event_bytes: 3 << 20, max_body_bytes: 16 << 20 }
    }
}

/// `[store]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Appends waiting for the disk; more is answered 503.
    pub queue_bytes: usize,
    /// Newest events kept in memory.
    pub tail_bytes: usize,
    /// Free disk below which nothing more is taken.
    pub min_free_bytes: u64,
    /// Events per commit.
    pub batch_events: usize,
    /// Bytes per commit.
    pub batch_bytes: usize,
    /// How long a settlement may wait for an append to share its disk sync.
    pub ride_ms: u64,
    /// Base64 strings above this go to the blob folder.
    pub inline_bytes: usize,
    /// How long a repeated event is recognised.
    pub dedup_window_s: u64,
    /// Connections for reading.
    pub readers: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            queue_bytes: 16 << 20,
            tail_bytes: 16 << 20,
            min_free_bytes: 256 << 20,
            batch_events: 1_000,
            batch_bytes: 4 << 20,
            ride_ms: 10,
            inline_bytes: 64 << 10,
            dedup_window_s: 30 * DAY_S,
            readers: 2,
        }
    }
}

const DAY_S: u64 = 24 * 3_600;

/// `[retention]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Events.
    pub journal_s: u64,
    /// Events that a destination has not had yet.
    pub owed_s: u64,
    /// All events together; gives way to nothing.
    pub max_bytes: u64,
    /// The delivery log.
    pub log_s: u64,
    /// Dead letters and their events.
    pub dead_s: u64,
    /// Ephemeral events (presence and the like).
    pub ephemeral_s: u64,
    /// The audit log.
    pub audit_s: u64,
    /// What happens when `max_bytes` is reached and everything is owed.
    pub when_full: WhenFull,
    /// How often it is looked after.
    pub every_s: u64,
}

/// What gives way when the journal is full of what is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// The oldest events; their destinations get `destination.gap`.
    Gap,
    /// New events: sources get 503.
    Refuse,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            journal_s: 7 * DAY_S,
            owed_s: 30 * DAY_S,
            max_bytes: 50_000_000_000,
            log_s: 7 * DAY_S,
            dead_s: 30 * DAY_S,
            ephemeral_s: 3_600,
            audit_s: 365 * DAY_S,
            when_full: WhenFull::Gap,
            every_s: 10,
        }
    }
}

/// `[shutdown]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long what is in flight may take to finish.
    pub deadline_s: u64,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline_s: 8 }
    }
}

impl Store {
    fn options(&self) -> store::Options {
        store::Options {
            queue_bytes: self.queue_bytes,
            tail_bytes: self.tail_bytes,
            min_free_bytes: self.min_free_bytes,
            batch: store::Limit { events: self.batch_events, bytes: self.batch_bytes },
            ride: Duration::from_millis(self.ride_ms),
            inline_limit: self.inline_bytes,
            dedup_window: Duration::from_secs(self.dedup_window_s),
            readers: self.readers,
            ..store::Options::default()
        }
    }
}

impl Retention {
    /// What pruning goes by.
    pub fn policy(&self) -> store::RetentionPolicy {
        store::RetentionPolicy {
            journal: Duration::from_secs(self.journal_s),
            owed: Duration::from_secs(self.owed_s),
            dead: Duration::from_secs(self.dead_s),
            ephemeral: Duration::from_secs(self.ephemeral_s),
            log: Duration::from_secs(self.log_s),
            audit: Duration::from_secs(self.audit_s),
            max_bytes: self.max_bytes,
            when_full: match self.when_full {
                WhenFull::Gap => store::WhenFull::Gap,
                WhenFull::Refuse => store::WhenFull::Refuse,
            },
            ..store::RetentionPolicy::default()
        }
    }
}

impl Config {
    /// The keys given, read; empty when the store is to make its own.
    pub fn encryption_keys(&self) -> Result<Vec<store::Key>, store::OpenError> {
        self.encryption_key.iter().map(|key| store::Key::parse(key.expose())).collect()
    }

    /// Where clients outside reach the gateway, without a slash at the end.
    pub fn public_url(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                let scheme = if self.tls.is_on() { "https" } else { "http" };
                format!("{scheme}://{bound}")
            }
        }
    }

    /// How long a clean stop may take.
    pub fn shutdown_deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown.deadline_s)
    }

    /// What single values cannot show to be wrong: key and problem.
    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let mut say = |key: &str, problem: String| wrong.push((key.to_owned(), problem));
        for (key, problem) in
            database::check(self.database_url.as_ref(), &self.database, &self.cluster)
        {
            say(key, problem);
        }
        if self.database_url.is_some() && self.encryption_key.is_empty() {
            say(
                "encryption_key",
                "is needed with database_url, the same on every node: 32 random bytes as base64, \
                 for example from `openssl rand -base64 32`"
                    .to_owned(),
            );
        }
        if let Some(url) = &self.public_url
            && let Err(problem) = check_public_url(url)
        {
            // It may hold a password.
            let found = if url.contains('@') { String::new() } else { format!("found {url:?}, ") };
            say("public_url", format!("{found}expected {problem}"));
        }
        if let Some(token) = &self.admin_token
            && (token.expose().len() < 16 || !token.expose().bytes().all(|b| b.is_ascii_graphic()))
        {
            say("admin_token", "expected at least 16 visible ASCII characters".to_owned());
        }
        for (index, key) in self.encryption_key.iter().enumerate() {
            if let Err(error) = store::Key::parse(key.expose()) {
                say("encryption_key", format!("key {}: {error}", index + 1));
            }
        }
        match (&self.bootstrap.client_token, &self.bootstrap.client_secret) {
            (Some(_), None) => {
                say("bootstrap.client_secret", "is needed with bootstrap.client_token".to_owned());
            }
            (None, Some(_)) => {
                say("bootstrap.client_token", "is needed with bootstrap.client_secret".to_owned());
            }
            _ => {}
        }
        for (key, text, least) in [
            ("bootstrap.client_token", self.bootstrap.client_token.as_deref(), 1),
            (
                "bootstrap.client_secret",
                self.bootstrap.client_secret.as_ref().map(Secret::expose),
                16,
            ),
        ] {
            let fits = |text: &str| {
                (least..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
            };
            if text.is_some_and(|text| !fits(text)) {
                say(key, format!("expected {least} to 256 visible ASCII characters"));
            }
        }
        if let Err(error) = self.allow_list() {
            say("egress.allow", error.to_string());
        }
        for (key, folder) in
            [("data_dir", Some(&self.data_dir)), ("backup.dir", self.backup.dir.as_ref())]
        {
            if let Some(folder) = folder.filter(|folder| folder.exists() && !folder.is_dir()) {
                say(key, format!("{} is a file, expected a folder", folder.display()));
            }
        }
        if self.store.readers == 0 || self.store.readers > 64 {
            say("store.readers", format!("found {}, expected 1 to 64", self.store.readers));
        }
        for (key, value, least) in [
            ("store.batch_events", self.store.batch_events, 1),
            ("store.batch_bytes", self.store.batch_bytes, 4_096),
            ("store.queue_bytes", self.store.queue_bytes, self.ingest.max_event_bytes),
            ("store.inline_bytes", self.store.inline_bytes, 1_024),
            ("ingest.max_event_bytes", self.ingest.max_event_bytes, 1_024),
            ("ingest.max_body_bytes", self.ingest.max_body_bytes, self.ingest.max_event_bytes),
        ] {
            if value < least {
                say(key, format!("found {value}, expected at least {least}"));
            }
        }
        for (key, value) in [
            ("retention.journal_s", self.retention.journal_s),
            ("retention.owed_s", self.retention.owed_s),
            ("retention.log_s", self.retention.log_s),
            ("retention.ephemeral_s", self.retention.ephemeral_s),
            ("retention.dead_s", self.retention.dead_s),
            ("retention.audit_s", self.retention.audit_s),
            ("retention.every_s", self.retention.every_s),
            ("shutdown.deadline_s", self.shutdown.deadline_s),
        ] {
            if value == 0 {
                say(key, "found 0, expected at least 1 second".to_owned());
            }
        }
        for (section, problems) in [
            ("http", self.http.check()),
            ("tls", self.tls.check()),
            ("cors", self.cors.check()),
            ("media", self.media.check()),
            ("lanes", self.lanes.check()),
            ("realtime", self.realtime.check()),
            ("vzaps", self.vzaps.check()),
            ("ryze", self.ryze.check()),
            ("evolution", self.evolution.check()),
            ("log", self.log.check()),
            ("telemetry", self.telemetry.check()),
            ("traces", self.traces.check()),
        ] {
            for (key, problem) in problems {
                wrong.push((format!("{section}.{key}"), problem));
            }
        }
        wrong
    }

    /// The egress allow-list, read.
    pub fn allow_list(
        &self,
    ) -> Result<zapbus_channel::egress::Allow, zapbus_channel::egress::AllowError> {
        self.egress.allow.join(",").parse()
    }
}

fn check_public_url(text: &str) -> Result<(), &'static str> {
    let url: url::Url = text.parse().map_err(|_| "a URL such as https://bus.example.com")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("an http:// or https:// URL");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL without ? and #");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL without user and password");
    }
    Ok(())
}

fn socket_address<'de, D: de::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format_args!(
            "found {text:?}, expected an IP address and a port, for example 127.0.0.1:8080 or 0.0.0.0:8080"
        ))
    })
}

fn serialize_networks<S: ser::Serializer>(
    networks: &[IpNet],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(networks.iter().map(ToString::to_string))
}

fn networks<'de, D: de::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Vec::<String>::deserialize(deserializer)?
        .iter()
        .map(|text| {
            text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(
                |_| {
                    de::Error::custom(format_args!(
                        "found {text:?}, expected networks or addresses, for example 10.0.0.0/8"
                    ))
                },
            )
        })
        .collect()
}
