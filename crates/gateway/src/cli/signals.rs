//! SIGTERM and SIGINT, as they come.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Exit, Failure};

/// Two of them: the first asks, the second insists.
pub(super) struct Signals {
    /// Stop in good order.
    pub(super) first: CancellationToken,
    /// Stop now.
    pub(super) second: CancellationToken,
}

impl Signals {
    /// From now on, signals cancel these tokens and end nothing by themselves.
    pub(super) fn watch() -> Result<Self, Failure> {
        let watch = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Failure, format!("cannot watch for signals: {error}"))
            })
        };
        let mut terminate = watch(SignalKind::terminate())?;
        let mut interrupt = watch(SignalKind::interrupt())?;
        let signals = Self { first: CancellationToken::new(), second: CancellationToken::new() };
        let tokens = [signals.first.clone(), signals.second.clone()];
        tokio::spawn(async move {
            for token in tokens {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}
