//! A channel whose endpoint is a script: for the deterministic simulation.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{Config, Message, Outcome, Report, Scope};

/// What the endpoint makes of one message.
#[derive(Debug, Clone)]
pub struct Answer {
    /// It takes this long; longer than the time-out is no answer at all.
    pub takes: Duration,
    /// What it says.
    pub outcome: Outcome,
    /// With which status.
    pub status: Option<u16>,
}

/// All endpoints there are.
pub trait Endpoints: Send + Sync {
    /// A message arrives. What is returned is dropped when the exchange ends, or is cut off.
    fn arrives(&self, config: &Config, message: &Message) -> (Answer, Box<dyn Exchange>);
}

/// One message on its way.
pub trait Exchange: Send {
    /// The lane gets this to know.
    fn reported(&mut self, outcome: &Outcome);
}

/// [`Endpoints`] that can be shared.
#[derive(Clone)]
pub struct World(pub Arc<dyn Endpoints>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

/// A destination in a simulated world.
#[derive(Debug)]
pub struct Simulated {
    pub(crate) config: Config,
    pub(crate) world: World,
    pub(crate) timeout: Duration,
}

impl Simulated {
    pub(crate) async fn send(&self, batch: &[Message]) -> Vec<Report> {
        let mut reports = Vec::with_capacity(batch.len());
        for message in batch {
            reports.push(self.exchange(message).await);
        }
        reports
    }

    async fn exchange(&self, message: &Message) -> Report {
        let (answer, mut exchange) = self.world.0.arrives(&self.config, message);
        let latency = answer.takes.min(self.timeout);
        if latency.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(latency).await;
        }
        let (outcome, status) = if answer.takes > self.timeout {
            (Outcome::Retry { after: None, scope: Scope::Destination }, None)
        } else {
            (answer.outcome, answer.status)
        };
        exchange.reported(&outcome);
        let accepted = outcome == Outcome::Accepted;
        Report {
            outcome,
            status,
            latency,
            error: (!accepted).then(|| "the simulated endpoint fails".to_owned()),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            excerpt: Bytes::new(),
        }
    }
}
