//! What lanes report.

use std::time::Duration;

use zapbus_channel::Outcome;

use super::{AttemptLabels, HealthLabels, Telemetry};

impl Telemetry {
    /// Counts a finished attempt.
    pub fn attempted(&self, outcome: &Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Accepted => "accepted",
            Outcome::Retry { .. } => "retry",
            Outcome::Refused => "refused",
            Outcome::Gone => "gone",
        };
        self.attempts.get_or_create(&AttemptLabels { outcome }).inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    /// Sets how many lanes deliver, probe, and stand still (paused or disabled).
    pub fn set_lanes(&self, flowing: i64, probing: i64, stopped: i64) {
        for (health, count) in [("flowing", flowing), ("probing", probing), ("stopped", stopped)] {
            self.lanes.get_or_create(&HealthLabels { health }).set(count);
        }
    }
}
