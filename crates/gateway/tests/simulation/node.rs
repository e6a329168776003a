//! One life of a gateway on the simulated clock: everything but sockets.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::Value;
use tokio::{io::DuplexStream, time::Instant};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{self, client::IntoClientRequest as _},
};
use tower::ServiceExt;
use zapbus_channel::{Opening, egress::Guard, simulation::World as ChannelWorld};
use zapbus_event::Timestamp;
use zapbus_gateway::{
    api::{self, Guesses, Recent, Refusals, body::Bodies, evolution},
    app::{App, Inner},
    backups::Backups,
    config::Config,
    directory::{Directory, token_hash},
    ingest::Ingest,
    lane::{self, Lanes},
    media::Links,
    realtime::{self, Realtime},
    telemetry::{Telemetry, readiness::Readiness},
};
use zapbus_store::{Clock, Store, simulation::Simulation};

use crate::{endpoints::Outside, world::World};

const TOKEN: &str = "zb_admin_of_the_simulation_0123456789";

/// 2026-01-01.
const BEGINNING_MS: i64 = 1_767_225_600_000;

/// The wall clock: goes with virtual time, and jumps.
#[derive(Clone)]
pub(crate) struct WallClock(Arc<AtomicI64>);

impl WallClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(BEGINNING_MS)))
    }

    pub(crate) fn jump(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// The clock of a life that begins now.
    fn clock(&self, started: Instant) -> Clock {
        let at = Arc::clone(&self.0);
        Arc::new(move || {
            let since = started.elapsed().as_millis() as i64;
            Timestamp::from_millis(at.load(Ordering::Relaxed) + since)
        })
    }

    /// A life that began at `started` ends: its time has passed.
    pub(crate) fn end(&self, started: Instant) {
        self.jump(started.elapsed().as_millis() as i64);
    }
}

/// Bounds that differ from seed to seed.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) lanes: lane::Config,
    pub(crate) queue_bytes: usize,
    pub(crate) tail_bytes: usize,
    pub(crate) batch_events: usize,
}

/// A client's end of a WebSocket.
pub(crate) type Socket = WebSocketStream<DuplexStream>;

/// A gateway that runs.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) app: App,
    router: Router,
    pub(crate) started: Instant,
}

impl Node {
    pub(crate) async fn start(
        folder: &Path,
        wall: &WallClock,
        simulation: Simulation,
        world: &Arc<World>,
        bounds: &Bounds,
        seed: u64,
    ) -> Self {
        let started = Instant::now();
        let wall = wall.clock(started);
        let clock = zapbus_gateway::clock::steady(wall.clone());
        let mut config = Config { data_dir: folder.to_owned(), ..Config::default() };
        config.lanes = bounds.lanes.clone();
        config.store.queue_bytes = bounds.queue_bytes;
        config.store.tail_bytes = bounds.tail_bytes;
        config.store.batch_events = bounds.batch_events;
        config.store.min_free_bytes = 0;
        // Days pass in a life: taking figures all the time would be most of what it does.
        config.telemetry.measure_every_s = 3_600.0;
        let mut options = config.store_options(clock.clone()).expect("there are no keys");
        options.simulation = Some(simulation);
        let store = Store::open(options).await.expect("the store opens").store;
        let telemetry = Arc::new(Telemetry::new(&store));
        let readiness = Readiness::starting(store.health());
        let egress = Arc::new(Guard::new(config.allow_list().expect("an empty list")));
        let channels = ChannelWorld(Arc::new(Outside(Arc::clone(world))));
        let opening = Arc::new(Opening::new(egress.clone()).with_world(channels));
        let ingest = Ingest::new(store.clone(), telemetry.clone(), config.store.queue_bytes);
        let links = Arc::new(Links::new(&store, "", config.media.clone()));
        let lanes = Lanes::start(lane::Parts {
            store: store.clone(),
            opening: opening.clone(),
            evolution: lane::Evolution::default(),
            server_url: String::new(),
            links: links.clone(),
            arrivals: Arc::default(),
            clock: clock.clone(),
            wall,
            config: config.lanes.clone(),
            telemetry: telemetry.clone(),
            watching: config.telemetry,
            tracer: None,
            seed,
        })
        .await
        .expect("the roster can be read");
        let backups = Backups::new(
            store.clone(),
            clock.clone(),
            folder.join("backups"),
            config.store.min_free_bytes,
        );
        let directory = Directory::new(store.clone());
        let realtime = Realtime::start(realtime::Parts {
            store: store.clone(),
            directory: directory.clone(),
            lanes: &lanes,
            telemetry: telemetry.clone(),
            clock: clock.clone(),
            config: config.realtime.clone(),
        });
        let app = App::new(Inner {
            backups,
            realtime,
            started: std::time::Instant::now(),
            guesses: Guesses::default(),
            recent: Recent::default(),
            refusals: Refusals::default(),
            evolution: evolution::State::default(),
            public_url: "http://simulation.example".to_owned(),
            directory,
            bodies: Bodies::new(48 << 20, 24 << 20, config.http.body_patience()),
            admin_token_hash: token_hash(TOKEN),
            clock,
            config,
            store,
            ingest,
            lanes,
            telemetry,
            egress,
            links,
            opening,
            readiness,
        });
        app.readiness.set_ready();
        Self { router: api::router(app.clone()), app, started }
    }

    /// Stops as an operator stops it; whether everything was put away.
    pub(crate) async fn stop(self) -> bool {
        let drained = self.app.lanes.drain(Duration::from_secs(60)).await;
        self.app.realtime.freeze().await;
        self.app.store.close().await;
        self.app.realtime.close().await;
        drained
    }

    /// A WebSocket of a client whose pipe holds `pipe` bytes each way; else the status of the refusal.
    pub(crate) async fn socket(&self, path: &str, pipe: usize) -> Result<Socket, u16> {
        let (ours, theirs) = tokio::io::duplex(pipe);
        let service = TowerToHyperService::new(self.router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(theirs), service)
            .with_upgrades();
        tokio::task::spawn_local(async move {
            // A client that leaves in the middle ends it with an error.
            let _ = connection.await;
        });
        let mut request =
            format!("ws://simulation.example{path}").into_client_request().expect("a request");
        let token = format!("Bearer {TOKEN}").parse().expect("a header");
        request.headers_mut().insert(header::AUTHORIZATION, token);
        request.headers_mut().insert("zapbus-account", HeaderValue::from_static("default"));
        match client_async(request, ours).await {
            Ok((socket, _)) => Ok(socket),
            Err(tungstenite::Error::Http(refused)) => Err(refused.status().as_u16()),
            Err(_) => Err(0),
        }
    }

    /// What an HTTP client would get.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header("zapbus-account", "default")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .expect("a request");
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}
