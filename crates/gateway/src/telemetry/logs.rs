//! What the process writes to its standard error.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, filter::filter_fn, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// One JSON object per line, or text for people.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,zapbus_gateway=debug`.
    /// More than `info` is told by our own crates only, whatever stands here: others log what
    /// passes through them.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        match EnvFilter::builder().parse(&self.level) {
            Ok(_) => Vec::new(),
            Err(_) => vec![(
                "level",
                format!(
                    "found {:?}, expected error, warn, info, debug, trace, or a filter such as info,zapbus_gateway=debug",
                    self.level
                ),
            )],
        }
    }
}

/// Whether a line may be written at all. A database's driver tells every statement with its
/// parameters at `debug`, and those are messages and telephone numbers; an HTTP library tells
/// headers. What the library for AMQP calls an error is the outcome of a send, and told as such.
fn may_be_told(metadata: &tracing::Metadata<'_>) -> bool {
    let target = metadata.target();
    (*metadata.level() <= tracing::Level::INFO && crate_of(target) != "lapin") || is_ours(target)
}

/// The crate that a line comes from.
fn crate_of(target: &str) -> &str {
    target.split("::").next().unwrap_or(target)
}

fn is_ours(target: &str) -> bool {
    let name = crate_of(target);
    name == "zapbus" || name.starts_with("zapbus_")
}

/// Starts logging for the whole process: for `main` only.
pub fn start(config: &Config) {
    // Checked when the configuration was read.
    let filter = EnvFilter::builder().parse_lossy(&config.level);
    let registry = tracing_subscriber::registry().with(filter).with(filter_fn(may_be_told));
    match config.format {
        Format::Text => {
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
            registry.with(layer.with_ansi(colours)).init();
        }
        Format::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_writer(std::io::stderr),
            )
            .init(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_crates_are_ours() {
        for ours in ["zapbus", "zapbus_gateway", "zapbus_store::postgres::pool"] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["tokio_postgres::prepare", "log", "h2", "zapbusy", "hyper::zapbus", ""] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
