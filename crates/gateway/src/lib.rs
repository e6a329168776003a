//! The Zapbus gateway: everything that has a lifetime.
//!
//! [`run`] is the whole server as a function: it opens the store, starts lanes and listener, and
//! returns when everything is put away again. The parts meet only in the store and in wake-ups:
//!
//! - [`config`]: what it can be told; [`app`]: what every handler gets
//! - [`api`] and [`directory`]: the HTTP API and its cached look-ups
//! - [`ingest`]: the door to the journal; [`lane`]: how events leave it again
//! - [`realtime`]: events for whoever is connected
//! - [`backups`]: copies of the running store
//! - [`server`]: connections, TLS, draining; [`telemetry`]: logs, metrics, readiness;
//!   [`traces`]: one event from its source to every destination
//! - [`first_start`], `environment`, [`upkeep`], [`welcome`]: what happens at the start, beside it, and what a
//!   newcomer is told
//! - `simulator` and `demo`: realistic traffic, and a gateway to watch it pass through
//!
//! Nothing is global: two gateways run in one process.

pub mod api;
pub mod app;
pub mod backups;
pub mod brokers;
pub mod cli;
pub mod clock;
pub mod config;
mod demo;
pub mod directory;
mod environment;
pub mod first_start;
pub mod ingest;
pub mod lane;
pub mod media;
mod reading;
pub mod realtime;
mod rendering;
pub mod server;
mod simulator;
pub mod source;
pub mod spec;
pub mod telemetry;
pub mod traces;
pub mod upkeep;
pub mod welcome;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use zapbus_channel as channel;
use zapbus_store::Clock;

use crate::{
    api::{
        Guesses, Recent, Refusals,
        body::Bodies,
        evolution::{self, Reporter},
    },
    app::{App, Inner},
    backups::Backups,
    config::{Config, Secret},
    directory::Directory,
    ingest::Ingest,
    lane::Lanes,
    media::Links,
    realtime::Realtime,
    server::{Front, Server, answers::Answers, tls::Tls},
    telemetry::{Telemetry, readiness::Readiness},
    traces::Exporter,
};

/// Bytes of large request bodies that are read at one time; further ones are answered 503.
const ROOM_FOR_BODIES: usize = 48 << 20;

/// The same for bodies of which it is not known yet who sent them.
const ROOM_FOR_STRANGERS: usize = 24 << 20;

/// Where a gateway takes connections. Bound by the caller: a test binds port 0.
#[derive(Debug)]
pub struct Listeners {
    /// Serves everything.
    pub http: TcpListener,
    /// Somebody keeps it open while we restart: nobody is refused, whoever connects meanwhile waits
    /// for the next process.
    pub inherited: bool,
}

/// What else a gateway takes from whoever runs it.
pub struct Hooks {
    /// What time it is.
    pub clock: Clock,
    /// Where there is a database on a server, events are dated by its clock and not by `clock`, so
    /// that nodes agree. A test that moves time by hand says no.
    pub database_clock: bool,
    /// A data folder that was copied into a database is served again.
    pub take_back: bool,
    /// Told once, when events are taken.
    pub started: Box<dyn FnOnce(Started) + Send>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            clock: clock::system(),
            database_clock: true,
            take_back: false,
            started: Box::new(drop),
        }
    }
}

/// A gateway that takes events.
#[derive(Debug)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where its store is, for people: a folder, or a database without secrets.
    pub store: String,
    /// There was no store before.
    pub first_start: bool,
    /// The operator's token, if it was made just now: nobody will be told again.
    pub new_admin_token: Option<Secret>,
    /// Webhooks to this machine are allowed because the listener is reachable only from it.
    pub loopback_targets: bool,
    /// Its parts.
    pub app: App,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] zapbus_store::OpenError),
    /// The store was opened and then failed.
    #[error("cannot start: {0}")]
    Store(#[from] zapbus_store::StoreError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] server::tls::TlsError),
    /// An entry of the egress allow-list cannot be read.
    #[error("egress.allow: {0}")]
    Egress(#[from] channel::egress::AllowError),
    /// Traces cannot be sent.
    #[error("traces: {0}")]
    Traces(String),
    /// What the environment asks for cannot be made.
    #[error("a destination of the environment: {0}")]
    Environment(String),
    /// The system has no randomness.
    #[error("cannot make a token: {0}")]
    Random(#[from] getrandom::Error),
    /// The listener is not what it should be.
    #[error("the listener cannot be used: {0}")]
    Listener(#[from] std::io::Error),
}

/// Runs a gateway until `shutdown`, then puts it away: what is in flight finishes within
/// `shutdown.deadline_s`, and what does not is sent again at the next start.
pub async fn run(
    config: Config,
    listeners: Listeners,
    hooks: Hooks,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    #[cfg(feature = "fault-injection")]
    tracing::error!(
        event = "gateway.faulty",
        "this build answers before it stores: it is for one test only"
    );
    let tls = Tls::load(&config.tls)?;
    let clock = clock::steady(hooks.clock.clone());
    let mut options = config.store_options(clock.clone())?;
    options.take_back = hooks.take_back;
    if let Some(postgres) = &mut options.postgres {
        postgres.database_clock = hooks.database_clock;
    }
    let opened = zapbus_store::Store::open(options).await?;
    for migration in opened.migrated.iter().filter(|_| !opened.first_start) {
        tracing::info!(event = "store.migrated", migration = migration.as_str(), "schema changed");
    }
    if opened.restored {
        tracing::warn!(
            event = "store.restored",
            paused = opened.paused,
            "this store was restored from a backup: destinations that were paused for that wait until `zapbus resume --all`"
        );
    }
    let store = opened.store.clone();
    let result = match Running::start(config, listeners, hooks, clock, opened, tls).await {
        Ok(running) => {
            shutdown.await;
            Ok(running.stop().await)
        }
        Err(error) => Err(error),
    };
    store.close().await;
    // Whoever is connected is told to come again when there is nothing left to wait for.
    result?.leave().await;
    Ok(())
}

/// How long connections may take to close when nothing is being answered on them any more.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// How long a body that is on its way may take to arrive when the gateway goes down.
const BODY_GRACE: Duration = Duration::from_secs(2);

/// A gateway between its start and its stop.
struct Running {
    app: App,
    server: Server,
    inherited: bool,
    stopping: CancellationToken,
    upkeep: JoinHandle<()>,
    fetching: JoinHandle<()>,
    exporter: Option<Exporter>,
}

impl Running {
    async fn start(
        config: Config,
        listeners: Listeners,
        hooks: Hooks,
        clock: Clock,
        opened: zapbus_store::Opened,
        tls: Option<Tls>,
    ) -> Result<Self, RunError> {
        let store = opened.store;
        let address = listeners.http.local_addr()?;
        let telemetry = Arc::new(Telemetry::new(&store));
        let readiness = Readiness::starting(store.health());
        let admin = first_start::admin_token(&store, config.admin_token.as_ref()).await?;
        first_start::bootstrap(&store, &config.bootstrap, clock()).await?;
        environment::apply(&store, &config.evolution, clock()).await?;

        let (egress, loopback_targets) = egress_guard(&config, address)?;
        let opening = channel::Opening::new(egress.clone());
        let opening = Arc::new(opening.with_public_url(config.public_url(address)));
        let mut ingest = Ingest::new(store.clone(), telemetry.clone(), config.store.queue_bytes);
        let (tracer, exporter) =
            Exporter::start(&config.traces, &telemetry.spans).map_err(RunError::Traces)?.unzip();
        if let Some(tracer) = &tracer {
            ingest = ingest.traced(tracer.clone(), hooks.clock.clone());
        }
        let links = Arc::new(Links::new(&store, &config.public_url(address), config.media.clone()));
        let arrivals = Arc::new(media::Arrivals::default());
        let lanes = Lanes::start(lane::Parts {
            store: store.clone(),
            opening: opening.clone(),
            server_url: config.public_url(address),
            links: links.clone(),
            arrivals: arrivals.clone(),
            evolution: lane::Evolution {
                retry: config.evolution.webhook.retry(),
                show_key: config.evolution.expose_api_key == Some(true),
                server_name: config.evolution.server_name.clone(),
                brokers: config.evolution.brokers(),
            },
            clock: clock.clone(),
            wall: hooks.clock,
            config: config.lanes.clone(),
            telemetry: telemetry.clone(),
            watching: config.telemetry,
            tracer,
            seed: lane::random_seed(),
        })
        .await?;
        environment::prepare(&store, &config.evolution, &lanes).await?;
        let backups = Backups::new(
            store.clone(),
            clock.clone(),
            config.backup.dir.clone().unwrap_or_else(|| config.data_dir.join("backups")),
            config.store.min_free_bytes,
        );
        let inherited = listeners.inherited;
        let stopping = CancellationToken::new();
        // Before anything is kept in it.
        let changes = store.changes();
        let directory = Directory::new(store.clone());
        let fetcher = media::Fetcher::new(media::Parts {
            store: store.clone(),
            directory: directory.clone(),
            telemetry: telemetry.clone(),
            clock: clock.clone(),
            config: config.media.fetch.clone(),
            guard: egress.clone(),
            arrivals,
        })?;
        let ingest = ingest.heeding(directory.clone()).fetching(fetcher.clone());
        let fetching = tokio::spawn(fetcher.run(stopping.clone()));
        let checked = store.clone();
        tokio::spawn(async move {
            if let Err(error) = checked.check_bucket().await {
                tracing::error!(event = "media.bucket_unusable", %error, "events with files are refused until the bucket takes them");
            }
        });
        tokio::spawn(directory.clone().follow(changes, stopping.clone()));
        let realtime = Realtime::start(realtime::Parts {
            store: store.clone(),
            directory: directory.clone(),
            lanes: &lanes,
            telemetry: telemetry.clone(),
            clock: clock.clone(),
            config: config.realtime.clone(),
        });
        let errors = error_webhook(&config, &opening, address, &clock)?;
        let app = App::new(Inner {
            started: Instant::now(),
            public_url: config.public_url(address),
            directory,
            bodies: Bodies::new(
                ROOM_FOR_BODIES.max(config.ingest.max_body_bytes),
                ROOM_FOR_STRANGERS.max(config.ingest.max_body_bytes),
                config.http.body_patience(),
            ),
            admin_token_hash: admin.hash,
            clock,
            config,
            backups,
            store,
            ingest,
            lanes,
            realtime,
            telemetry,
            egress,
            links,
            opening,
            guesses: Guesses::default(),
            refusals: Refusals::default(),
            evolution: evolution::State::new(errors),
            recent: Recent::default(),
            readiness,
        });

        let front = front(&app, inherited);
        let server = Server::start(listeners.http, front, &app.config.http, tls);
        app.readiness.set_ready();
        tracing::info!(
            event = "gateway.started",
            %address,
            store = app.config.store_place(),
            version = env!("CARGO_PKG_VERSION"),
            "taking events"
        );
        first_start::announce(&app).await;
        let upkeep = tokio::spawn(upkeep::run(app.clone(), stopping.clone()));
        (hooks.started)(Started {
            address,
            store: app.config.store_place(),
            first_start: opened.first_start,
            new_admin_token: admin.made,
            loopback_targets,
            app: app.clone(),
        });
        Ok(Self { app, server, inherited, stopping, upkeep, fetching, exporter })
    }

    /// Nothing more is taken; what is being answered and what is being sent finishes; then the
    /// rest. Live connections stay.
    async fn stop(self) -> Leaving {
        let deadline = Instant::now() + self.app.config.shutdown_deadline();
        tracing::info!(event = "gateway.stopping", "nothing more is taken");
        self.app.readiness.set_draining();
        self.stopping.cancel();
        self.app.realtime.release();
        if self.inherited {
            self.server.close();
        }
        // One slow request does not use up the time that sends have to finish.
        let (answered, sent) = tokio::join!(
            self.finish_requests(deadline),
            self.app.lanes.drain(deadline.saturating_duration_since(Instant::now())),
        );
        if !answered {
            tracing::warn!(event = "gateway.requests_cut", "requests were still being answered");
        }
        if !sent {
            tracing::warn!(
                event = "gateway.sends_cut",
                "sends were cut off; they are repeated at the next start"
            );
        }
        self.app.realtime.freeze().await;
        self.server.close();
        if let Some(exporter) = self.exporter {
            exporter.stop().await;
        }
        if let Err(error) = self.upkeep.await {
            tracing::error!(event = "upkeep.failed", %error, "upkeep ended early");
        }
        if let Err(error) = self.fetching.await {
            tracing::error!(event = "media.stopped", %error, "fetching files ended early");
        }
        Leaving { server: self.server, realtime: self.app.realtime.clone() }
    }
}

/// What is left when the store is closed: connections.
struct Leaving {
    server: Server,
    realtime: Realtime,
}

impl Leaving {
    async fn leave(self) {
        self.realtime.close().await;
        // Every request is answered or cut off by now: this is for the last bytes of answers.
        if !self.server.closed(Instant::now() + LAST_BYTES).await {
            tracing::warn!(event = "gateway.connections_cut", "connections were still open");
        }
        tracing::info!(event = "gateway.stopped", "everything accepted is in the store");
    }
}

impl Running {
    /// Waits for the answers to what was asked. A body that has not arrived after a short while
    /// is waited for no longer.
    async fn finish_requests(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.server.finish_requests(Instant::now() + BODY_GRACE.min(left / 2)).await {
            return true;
        }
        self.app.bodies.give_up();
        self.server.finish_requests(deadline).await
    }
}

fn front(app: &App, inherited: bool) -> Front {
    let routes = api::router(app.clone()).merge(telemetry::routes::router(app.clone()));
    let answers = Answers::new(app.config.http.answer_patience());
    let mut router = server::counted(routes, app.telemetry.clone(), answers);
    if let Some(cors) = app.config.cors.layer() {
        router = router.layer(cors);
    }
    Front {
        router,
        trusted_proxies: app.config.trusted_proxies.clone().into(),
        readiness: app.readiness.clone(),
        refuses: !inherited,
        telemetry: app.telemetry.clone(),
    }
}

/// Who is told of failed requests to Evolution's API.
fn error_webhook(
    config: &Config,
    opening: &channel::Opening,
    address: SocketAddr,
    clock: &Clock,
) -> Result<Option<Reporter>, RunError> {
    let webhook = &config.evolution.webhook;
    let Some(url) = webhook.errors_target() else { return Ok(None) };
    let opening = opening.clone().with_guard(Arc::new(channel::egress::Guard::trusted()));
    let server_url = config.public_url(address);
    Reporter::open(url, webhook.secret(), opening, &server_url, clock.clone())
        .map(Some)
        .map_err(|error| RunError::Environment(error.to_string()))
}

/// While only this machine can reach us, a newcomer's first webhook to this machine works.
fn egress_guard(
    config: &Config,
    address: SocketAddr,
) -> Result<(Arc<channel::egress::Guard>, bool), RunError> {
    let allow = config.allow_list()?;
    let loopback = allow.is_empty() && address.ip().is_loopback();
    if loopback {
        tracing::info!(
            event = "egress.loopback_allowed",
            "webhooks to this machine are allowed while only this machine can reach the gateway; set egress.allow to decide yourself"
        );
    }
    Ok((Arc::new(channel::egress::Guard::new(allow.with_loopback(loopback))), loopback))
}
