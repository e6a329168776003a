//! How it is found out that a client has gone.

use std::time::Duration;

use crate::app::App;

/// What the server that clients know has as its defaults.
const EVERY: Duration = Duration::from_secs(25);
const WITHIN: Duration = Duration::from_secs(20);
/// With long polling, a ping waits for a request, and so does its answer.
const POLL: Duration = Duration::from_secs(5);

/// How often a client is pinged, and how soon it is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Pings {
    pub(in super::super) every: Duration,
    pub(in super::super) within: Duration,
}

/// As upstream does it, unless the operator wants to know sooner who is gone.
pub(in super::super) fn ping(app: &App) -> Pings {
    let config = app.realtime.config();
    let within = config.pong_within() + POLL;
    Pings { every: EVERY.min(config.ping_every()), within: WITHIN.min(within) }
}
