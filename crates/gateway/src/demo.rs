//! The demo: a gateway of its own, realistic traffic into it, a receiver that sometimes fails
//! behind it, and a view of what goes in, out, and is retried.
//!
//! Everything is real but the people: the gateway is the same program in a process of its own,
//! over a temporary folder; events enter by native ingest and leave as signed webhooks. The
//! [`ledger`] compares what was accepted with what arrived.

mod api;
mod drive;
mod ledger;
mod process;
mod receiver;
mod scene;
mod stage;
mod terminal;
mod view;
mod watch;

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

pub(crate) use self::process::{COMMAND as GATEWAY_COMMAND, gateway};
use self::stage::Demo;

/// What went wrong with the demo itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The gateway's process did not do its part.
    #[error("the demo's gateway: {0}")]
    Gateway(String),
    /// The gateway's process did not start.
    #[error(transparent)]
    Run(#[from] crate::RunError),
    /// The gateway answered something unexpected.
    #[error("the demo's gateway answered unexpectedly: {0}")]
    Api(String),
    /// The simulator cannot go on.
    #[error("the simulator: {0}")]
    Simulator(String),
}

impl DemoError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// How the demo is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    /// The whole terminal, with or without colours.
    Screen { colours: bool },
    /// A line per second.
    Lines,
    /// A JSON object per second.
    Json,
}

/// How the demo runs.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Reproduces the traffic.
    pub(crate) seed: u64,
    /// Events per second.
    pub(crate) rate_per_s: f64,
    /// Virtual seconds in a real one.
    pub(crate) speed: f64,
    /// How long events come in; for ever when absent.
    pub(crate) duration: Option<Duration>,
    /// Kill the gateway so often.
    pub(crate) kill_every: Option<Duration>,
    /// Leave the folder behind.
    pub(crate) keep: bool,
    /// How it is shown.
    pub(crate) show: Show,
}

/// How it ended.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Outcome {
    /// Reproduces the traffic.
    pub(crate) seed: u64,
    /// Events accepted, each once.
    pub(crate) accepted: u64,
    /// Deliveries that arrived.
    pub(crate) arrived: u64,
    /// Deliveries that did not.
    pub(crate) missing: u64,
    /// Deliveries that arrived again.
    pub(crate) duplicates: u64,
    /// How often the gateway was killed.
    pub(crate) kills: u32,
    /// The folder, if it was kept.
    pub(crate) folder: Option<PathBuf>,
}

/// Runs the demo until its end, `q`, or `stop`; `insist` ends it without waiting.
///
/// # Errors
/// When a part of the demo does not work. That events are missing is no error but an outcome.
pub(crate) async fn run(
    options: Options,
    stop: CancellationToken,
    insist: CancellationToken,
    out: &mut dyn Write,
) -> Result<Outcome, DemoError> {
    let folder = tempfile::Builder::new()
        .prefix("zapbus-demo-")
        .tempdir()
        .map_err(DemoError::io("make a temporary folder"))?;
    let mut demo = Demo::start(&options, folder.path().to_owned(), stop).await?;
    let ended = demo.go(&options, &insist, out).await;
    if let Some(gateway) = demo.gateway.take() {
        gateway.stop().await;
    }
    ended?;
    let totals = demo.ledger().totals();
    let folder = options.keep.then(|| folder.keep());
    Ok(Outcome {
        seed: options.seed,
        accepted: demo.ledger().accepted,
        arrived: totals.arrived,
        missing: totals.owed,
        duplicates: totals.duplicates,
        kills: demo.scene.kills,
        folder,
    })
}
