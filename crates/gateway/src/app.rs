//! What every request handler gets.

use std::{ops::Deref, sync::Arc, time::Instant};

use zapbus_channel as channel;
use zapbus_store::{Clock, Store};

use crate::{
    api::{Guesses, Recent, Refusals, body::Bodies, evolution},
    backups::Backups,
    config::Config,
    directory::Directory,
    ingest::Ingest,
    lane::Lanes,
    media::Links,
    realtime::Realtime,
    telemetry::{Telemetry, readiness::Readiness},
};

/// The parts of one gateway. Cheap to clone; clones are the same gateway.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

/// What an [`App`] gives access to.
pub struct Inner {
    /// The whole configuration, already checked.
    pub config: Config,
    /// Copies of it.
    pub backups: Backups,
    /// The durable state.
    pub store: Store,
    /// The door to the journal.
    pub ingest: Ingest,
    /// All lanes of this node.
    pub lanes: Lanes,
    /// All live connections of this node.
    pub realtime: Realtime,
    /// Cached look-ups of instances and credentials.
    pub directory: Directory,
    /// The clock.
    pub clock: Clock,
    /// Metrics.
    pub telemetry: Arc<Telemetry>,
    /// What destinations may reach.
    pub egress: Arc<channel::egress::Guard>,
    /// Makes and checks links to files.
    pub links: Arc<Links>,
    /// What channels share.
    pub opening: Arc<channel::Opening>,
    /// Reads request bodies.
    pub bodies: Bodies,
    /// What strangers may cost at the URL that all apps share.
    pub guesses: Guesses,
    /// When sources were last said to refuse something.
    pub refusals: Refusals,
    /// What requests to Evolution's API share.
    pub evolution: evolution::State,
    /// What went wrong of late.
    pub recent: Recent,
    /// Whether traffic is taken.
    pub readiness: Readiness,
    /// SHA-256 of the operator's token.
    pub admin_token_hash: [u8; 32],
    /// When it was started.
    pub started: Instant,
    /// How clients reach us, without a slash at the end.
    pub public_url: String,
}

impl App {
    /// Shares the parts.
    pub fn new(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }
}

impl Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("public_url", &self.public_url).finish_non_exhaustive()
    }
}
