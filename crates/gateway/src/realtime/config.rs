//! What the operator may set about live connections.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::subscription::Window;

/// A day.
const MOST_S: f64 = 86_400.0;
/// What a connection may ask for at most, whatever the default is.
pub(crate) const MOST_UNACKED: u32 = 4_096;

/// `[realtime]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Live connections of the whole node.
    pub max_connections: usize,
    /// Live connections of one account, divided among the nodes.
    pub max_connections_per_account: usize,
    /// Bytes of one message of a client.
    pub max_message_bytes: usize,
    /// Seconds between two pings.
    pub ping_every_s: f64,
    /// Seconds within which a ping is answered, or the connection is closed.
    pub pong_within_s: f64,
    /// Seconds for which a connection may take nothing at all before it is closed.
    pub stall_s: f64,
    /// Events that one subscription may have unacknowledged, unless it asks otherwise.
    pub max_unacked: u32,
    /// Bytes of them.
    pub max_unacked_bytes: u64,
    /// Seconds after which an unacknowledged event comes again, unless a subscription asks otherwise.
    pub ack_wait_s: f64,
    /// How often an event is sent before it is dead for a subscriber.
    pub max_deliveries: u32,
    /// Seconds that a long poll may wait.
    pub max_wait_s: u64,
    /// Seconds for which a ticket opens a connection.
    pub ticket_s: u64,
    /// Origins of web pages that may connect. Empty: all, as it is the token that lets in.
    pub origins: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 20_000,
            max_connections_per_account: 10_000,
            max_message_bytes: 64 << 10,
            ping_every_s: 30.0,
            pong_within_s: 15.0,
            stall_s: 300.0,
            max_unacked: 256,
            max_unacked_bytes: 16 << 20,
            ack_wait_s: 30.0,
            max_deliveries: 5,
            max_wait_s: 60,
            ticket_s: 60,
            origins: Vec::new(),
        }
    }
}

/// Whether this may stand in a list of origins: scheme and authority, nothing behind, or `*`.
pub(crate) fn is_origin(text: &str) -> bool {
    let reads = |url: url::Url| url.has_host() && url.origin().ascii_serialization() == text;
    text == "*" || url::Url::parse(text).is_ok_and(reads)
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        for (key, found, least, most) in [
            ("max_connections", self.max_connections as u64, 1, u64::MAX),
            ("max_connections_per_account", self.max_connections_per_account as u64, 1, u64::MAX),
            ("max_message_bytes", self.max_message_bytes as u64, 1_024, 16 << 20),
            ("max_unacked", self.max_unacked.into(), 1, MOST_UNACKED.into()),
            ("max_unacked_bytes", self.max_unacked_bytes, 1_024, u64::MAX),
            ("max_deliveries", self.max_deliveries.into(), 1, 1_000),
            ("max_wait_s", self.max_wait_s, 1, 3_600),
            ("ticket_s", self.ticket_s, 1, 3_600),
        ] {
            if found < least || found > most {
                let upto = if most == u64::MAX { String::new() } else { format!(" to {most}") };
                let expected = if upto.is_empty() { "at least " } else { "" };
                wrong.push((key, format!("found {found}, expected {expected}{least}{upto}")));
            }
        }
        // No number is an answer too: TOML has `nan` and `inf`.
        for (key, seconds, least) in [
            ("ping_every_s", self.ping_every_s, 0.05),
            ("pong_within_s", self.pong_within_s, 0.05),
            ("stall_s", self.stall_s, 0.05),
            ("ack_wait_s", self.ack_wait_s, 0.05),
        ] {
            if !(least..=MOST_S).contains(&seconds) {
                let problem = format!("found {seconds}, expected {least} to {MOST_S} seconds");
                wrong.push((key, problem));
            }
        }
        for origin in &self.origins {
            if !is_origin(origin) {
                wrong.push((
                    "origins",
                    format!(
                        "found {origin:?}, expected * or an origin such as https://app.example.com"
                    ),
                ));
            }
        }
        wrong
    }

    /// Whether a page of this origin may connect. What is no browser names none.
    pub(crate) fn admits(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        self.origins.is_empty() || self.origins.iter().any(|known| known == "*" || known == origin)
    }

    /// The window of a subscription that asks for nothing else.
    pub(crate) fn window(&self) -> Window {
        Window {
            max_unacked: self.max_unacked,
            max_unacked_bytes: self.max_unacked_bytes,
            ack_wait: Duration::from_secs_f64(self.ack_wait_s),
            max_deliveries: self.max_deliveries,
        }
    }

    pub(crate) fn ping_every(&self) -> Duration {
        Duration::from_secs_f64(self.ping_every_s)
    }

    pub(crate) fn pong_within(&self) -> Duration {
        Duration::from_secs_f64(self.pong_within_s)
    }

    pub(crate) fn stall(&self) -> Duration {
        Duration::from_secs_f64(self.stall_s)
    }
}
