//! How the whole gateway is, for whoever runs it: facts only. What they mean and what to do about
//! them is said where they are shown.

mod destinations;
mod instances;
mod recent;

pub use self::recent::Recent;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zapbus_event::Timestamp;
use zapbus_store::{Appends, ServerFacts, Store};

use self::{
    destinations::DestinationsHealth,
    instances::{InstancesHealth, Receivers},
};
use crate::{
    api::{
        auth::Caller,
        error::{ApiError, Common},
    },
    app::App,
    backups::BackupState,
    config::WhenFull,
    server::tls::expiry,
};

/// How the gateway is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Health)]
pub(super) struct HealthAnswer {
    /// The gateway's version.
    version: String,
    /// The gateway's clock.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Why no traffic is to be sent to it now, in words.
    not_ready: Option<String>,
    store: StoreAnswer,
    listener: ListenerAnswer,
    encryption: EncryptionAnswer,
    egress: EgressAnswer,
    /// When the last backup was begun that is done; `null` where backups are the server's business.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_backup_at: Option<Timestamp>,
    media: MediaAnswer,
    destinations: DestinationsHealth,
    instances: InstancesHealth,
}

/// Files that events only name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MediaHealth)]
struct MediaAnswer {
    /// The bucket that files are kept in; `null`: the data folder, or the database on a server.
    bucket: Option<String>,
    /// Files that are still to be fetched.
    pending: u64,
    /// Files given up in the last day.
    failed_last_day: u64,
}

/// The store.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoreHealth)]
struct StoreAnswer {
    /// `sqlite` (in the data folder) or `postgres` (on a server).
    #[schema(example = "sqlite")]
    engine: &'static str,
    /// Why it takes no events, in words.
    stopped: Option<String>,
    /// Bytes of the database that hold data.
    used_bytes: u64,
    /// Bytes of the blob folder.
    blob_bytes: u64,
    /// Free bytes of its disk; `null` where that is the server's business.
    free_bytes: Option<u64>,
    /// Free bytes below which it takes no events.
    min_free_bytes: u64,
    /// Bytes that retention allows it.
    max_bytes: u64,
    /// What happens then: `gap` or `refuse`.
    #[schema(value_type = String, example = "gap")]
    when_full: WhenFull,
    /// Seconds for which what a destination still has to get is kept.
    owed_s: u64,
    /// Commits since the start.
    commits: u64,
    /// Of these, failed.
    failed_commits: u64,
    /// Of these, in about the last hour.
    failed_commits_last_hour: u64,
    /// Milliseconds of a commit, its disk sync included, on average.
    commit_ms: f64,
    /// Milliseconds that 99 of 100 commits stay below, as far as it is measured.
    commit_p99_ms: Option<f64>,
    /// Appends refused since the start because too much was waiting for the disk.
    busy: u64,
    /// Of these, in about the last hour.
    busy_last_hour: u64,
    /// Events that were read since the start and whose head cannot be read; counted to a thousand.
    unreadable_events: usize,
    /// What the server promises of what it has confirmed; `null` in a data folder, or when it does
    /// not answer.
    server: Option<ServerAnswer>,
}

/// A database server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServerHealth)]
struct ServerAnswer {
    /// Its version.
    version: String,
    /// Zapbus runs on that version.
    supported: bool,
    /// `fsync`: without it a crash of its machine may damage everything.
    fsync: bool,
    /// `full_page_writes`, likewise.
    full_page_writes: bool,
    /// `synchronous_commit`: `off` confirms what a crash may lose.
    synchronous_commit: String,
    /// `synchronous_standby_names`: empty when a commit waits for no other server.
    synchronous_standby_names: String,
    /// Servers that commits wait for; `null` when that may not be seen.
    synchronous_standbys: Option<u64>,
    /// It takes no writes.
    read_only: bool,
    /// Connections that it allows in all.
    max_connections: u64,
    /// `max_locks_per_transaction`: times the connections, so many locks has it room for.
    max_locks_per_transaction: u64,
    /// Locks that one look into every day of the delivery log takes.
    locks_of_a_look: u64,
}

impl From<ServerFacts> for ServerAnswer {
    fn from(facts: ServerFacts) -> Self {
        Self {
            version: facts.version,
            supported: facts.supported,
            fsync: facts.fsync,
            full_page_writes: facts.full_page_writes,
            synchronous_commit: facts.synchronous_commit,
            synchronous_standby_names: facts.synchronous_standby_names,
            synchronous_standbys: facts.synchronous_standbys,
            read_only: facts.read_only,
            max_connections: facts.max_connections,
            max_locks_per_transaction: facts.max_locks_per_transaction,
            locks_of_a_look: facts.locks_of_a_look,
        }
    }
}

/// The listener.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListenerHealth)]
struct ListenerAnswer {
    /// Where it listens, as configured.
    address: String,
    /// Only this machine reaches it.
    loopback: bool,
    /// It speaks TLS.
    tls: bool,
    /// When its certificate expires.
    #[schema(value_type = Option<String>, format = DateTime)]
    certificate_expires_at: Option<Timestamp>,
    /// How clients outside reach it.
    public_url: String,
    /// `public_url` is configured; else it is made of the address.
    public_url_set: bool,
    /// Proxies in front of it are configured.
    behind_proxy: bool,
}

/// Encryption of what is secret in the store.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EncryptionHealth)]
struct EncryptionAnswer {
    /// The key was made by the gateway and lies in the data folder.
    key_in_data_folder: bool,
    /// Ids of the keys that encrypted something, the one that encrypts first.
    keys: Vec<String>,
}

/// What destinations may reach.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EgressHealth)]
struct EgressAnswer {
    /// The allow-list.
    allow: Vec<String>,
    /// This machine is allowed because only it reaches the gateway.
    loopback_allowed: bool,
}

/// Shows how the gateway is: store, listener, destinations that need attention, instances that are
/// silent. Of very many destinations and instances only the first thousand are looked at. Needs the
/// admin token.
#[utoipa::path(
    get, path = "/v1/health", tag = "operations",
    responses((status = 200, body = HealthAnswer), Common)
)]
pub(super) async fn show_health(
    State(app): State<App>,
    caller: Caller,
) -> Result<axum::Json<HealthAnswer>, ApiError> {
    caller.need_admin()?;
    let config = &app.config;
    let now = (app.clock)();
    let mut receivers = Receivers::default();
    let destinations = DestinationsHealth::look(&app, now, &mut receivers).await?;
    let instances = InstancesHealth::look(&app, now, &receivers).await?;
    let backups = app.backups.clone();
    let backups = tokio::task::spawn_blocking(move || backups.list()).await;
    let backups = backups.map_err(ApiError::internal)?;
    let done = backups.iter().filter(|backup| backup.state == BackupState::Done);
    let fetches = app.store.fetch_counts().await?;
    let cert = config.tls.cert.clone();
    let expires = tokio::task::spawn_blocking(move || cert.as_deref().and_then(expiry::of_file));
    let loopback = config.listen.ip().is_loopback();
    Ok(axum::Json(HealthAnswer {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        at: now,
        not_ready: app.readiness.check().err().map(|not_ready| not_ready.detail),
        store: store(&app).await?,
        media: MediaAnswer {
            bucket: config.media.s3.shown(),
            pending: fetches.pending,
            failed_last_day: fetches.failed,
        },
        listener: ListenerAnswer {
            address: config.listen.to_string(),
            loopback,
            tls: config.tls.is_on(),
            certificate_expires_at: expires.await.map_err(ApiError::internal)?,
            public_url: app.public_url.clone(),
            public_url_set: config.public_url.is_some(),
            behind_proxy: !config.trusted_proxies.is_empty(),
        },
        encryption: EncryptionAnswer {
            key_in_data_folder: config.encryption_key.is_empty(),
            keys: app.store.key_ids().await?,
        },
        egress: EgressAnswer {
            allow: config.egress.allow.clone(),
            loopback_allowed: loopback && config.egress.allow.is_empty(),
        },
        last_backup_at: done.map(|backup| backup.began_at).max(),
        destinations,
        instances,
    }))
}

async fn store(app: &App) -> Result<StoreAnswer, ApiError> {
    let sizes = app.store.sizes().await?;
    let server = match app.config.postgres() {
        Some(postgres) => Store::server_facts(&postgres).await.ok().map(ServerAnswer::from),
        None => None,
    };
    let metrics = app.store.metrics();
    let of_late = app.recent.faults(&metrics, (app.clock)());
    let (count, sum) = metrics.commit_us.total();
    let mut seen = 0;
    let p99 = metrics.commit_us.buckets().find_map(|(bound, in_bucket)| {
        seen += in_bucket;
        (seen * 100 >= count * 99).then_some(bound as f64 / 1_000.0)
    });
    Ok(StoreAnswer {
        engine: if app.store.is_on_server() { "postgres" } else { "sqlite" },
        stopped: match &app.store.health().borrow().appends {
            Appends::Ok => None,
            Appends::Stopped { reason } => Some(reason.clone()),
        },
        used_bytes: sizes.used,
        blob_bytes: sizes.blobs,
        free_bytes: (!app.store.is_on_server()).then_some(sizes.free),
        min_free_bytes: app.config.store.min_free_bytes,
        max_bytes: app.config.retention.max_bytes,
        when_full: app.config.retention.when_full,
        owed_s: app.config.retention.owed_s,
        commits: metrics.commits.get(),
        failed_commits: metrics.failed_commits.get(),
        failed_commits_last_hour: of_late.failed_commits,
        commit_ms: if count == 0 { 0.0 } else { sum as f64 / count as f64 / 1_000.0 },
        commit_p99_ms: p99.filter(|_| count > 0),
        busy: metrics.busy.get(),
        busy_last_hour: of_late.busy,
        unreadable_events: app.store.unreadable_events(),
        server,
    })
}
