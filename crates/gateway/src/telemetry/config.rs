//! What the operator may set about metrics.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `[telemetry]`
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Destinations with series of their own in `/metrics`: those that are furthest behind.
    pub destination_series: usize,
    /// Seconds between two measurements of how far destinations are behind.
    pub measure_every_s: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { destination_series: 100, measure_every_s: 10.0 }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.destination_series > 10_000 {
            let found = self.destination_series;
            wrong.push(("destination_series", format!("found {found}, expected at most 10000")));
        }
        if !(0.05..=3_600.0).contains(&self.measure_every_s) {
            let found = self.measure_every_s;
            wrong.push(("measure_every_s", format!("found {found}, expected 0.05 to 3600")));
        }
        wrong
    }

    /// Between two measurements.
    pub fn every(&self) -> Duration {
        Duration::from_secs_f64(self.measure_every_s)
    }
}
