//! What the operator may set about lanes.

use serde::{Deserialize, Serialize};

/// Bounds that all lanes of the node share, and how patient probing is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sends in flight on the whole node.
    pub max_in_flight: u32,
    /// Bytes of events that all lanes together read ahead of what they send.
    pub read_ahead_bytes: usize,
    /// Seconds until the first probe of a failing destination; doubles up to `probe_max_s`.
    pub probe_first_s: f64,
    /// Seconds between probes at most.
    pub probe_max_s: f64,
    /// Seconds a lane with nothing to do stays in memory before it costs nothing.
    pub linger_s: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 4_096,
            read_ahead_bytes: 32 << 20,
            probe_first_s: 5.0,
            probe_max_s: 60.0,
            linger_s: 2.0,
        }
    }
}
