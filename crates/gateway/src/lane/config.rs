//! What the operator may set about lanes.

use serde::{Deserialize, Serialize};

/// A page of what a lane reads.
const LEAST_READ_AHEAD: usize = 64 << 10;
/// A day.
const MOST_S: f64 = 86_400.0;

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

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.max_in_flight == 0 {
            wrong.push(("max_in_flight", "found 0, expected at least 1".to_owned()));
        }
        if self.read_ahead_bytes < LEAST_READ_AHEAD {
            let found = self.read_ahead_bytes;
            let problem = format!("found {found}, expected at least {LEAST_READ_AHEAD}");
            wrong.push(("read_ahead_bytes", problem));
        }
        // No number is an answer too: TOML has `nan` and `inf`.
        for (key, seconds, least) in [
            ("probe_first_s", self.probe_first_s, 0.01),
            ("probe_max_s", self.probe_max_s, self.probe_first_s),
            ("linger_s", self.linger_s, 0.0),
        ] {
            if !(least..=MOST_S).contains(&seconds) {
                let problem = format!("found {seconds}, expected {least} to {MOST_S} seconds");
                wrong.push((key, problem));
            }
        }
        wrong
    }
}
