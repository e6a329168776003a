//! What lanes report.

use std::time::Duration;

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use zapbus_channel::Outcome;

use super::{AttemptLabels, ChannelLabels, Telemetry, lag::Picture};

/// Counts the attempts of one channel. Looked up once for a lane, not for each attempt.
#[derive(Debug, Clone)]
pub struct Meter {
    accepted: Counter,
    retry: Counter,
    refused: Counter,
    gone: Counter,
    attempt_seconds: Histogram,
    delivery_seconds: Histogram,
}

impl Meter {
    /// Counts a finished attempt.
    pub fn attempted(&self, outcome: &Outcome, took: Duration) {
        let count = match outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Retry { .. } => &self.retry,
            Outcome::Refused => &self.refused,
            Outcome::Gone => &self.gone,
            // It was none.
            Outcome::Withheld => return,
        };
        count.inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    /// Takes the time from an event's acceptance to its delivery.
    pub fn delivered(&self, took: Duration) {
        self.delivery_seconds.observe(took.as_secs_f64());
    }
}

impl Telemetry {
    /// The meter for a channel, by its type.
    pub fn meter(&self, channel: &'static str) -> Meter {
        let count =
            |outcome| self.attempts.get_or_create_owned(&AttemptLabels { channel, outcome });
        Meter {
            accepted: count("accepted"),
            retry: count("retry"),
            refused: count("refused"),
            gone: count("gone"),
            attempt_seconds: self.attempt_seconds.get_or_create_owned(&ChannelLabels { channel }),
            delivery_seconds: self.delivery_seconds.get_or_create_owned(&ChannelLabels { channel }),
        }
    }

    /// Shows how lanes are.
    pub fn set_picture(&self, picture: Picture) {
        self.board.hang(picture);
    }
}
