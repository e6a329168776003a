//! The server's own brokers: instances whose destinations use them do not know how to get in, and what
//! the operator changes of the connection counts for all of them from the next start on.

use zapbus_channel::{self as channel, Config};

/// What the reasons begin with for which such a destination cannot be opened.
const MISSING: &str = "this server has no ";

/// How to reach them, or why they cannot be used.
#[derive(Debug, Clone)]
pub struct Brokers {
    /// Connection and names of what instances publish.
    pub rabbitmq: Result<channel::rabbitmq::Config, Missing>,
    /// Credentials and names of queues of instances.
    pub sqs: Result<channel::sqs::Config, Missing>,
    /// Whether instances may name an app of their own; with the server that it lives on, where that
    /// is not Pusher itself.
    pub pusher: Result<Option<PusherServer>, Missing>,
}

/// A server of one's own that speaks Pusher's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PusherServer {
    /// A host name or an address.
    pub host: String,
    /// Its port; that of the scheme when `None`.
    pub port: Option<u16>,
}

/// A broker that the server does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What it is called.
    pub name: &'static str,
    /// What the operator is to do about it.
    pub remedy: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{MISSING}{} for its instances: {}", self.name, self.remedy)
    }
}

/// Whether a destination was stopped for want of a broker.
pub(crate) fn is_for_want_of_one(reason: &str) -> bool {
    reason.contains(MISSING)
}

/// What stands for a config until it is connected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Connected {
    pub(crate) config: Config,
    /// It leads where the operator says.
    pub(crate) is_operators: bool,
}

impl Default for Brokers {
    fn default() -> Self {
        let missing = |name| Missing { name, remedy: "it is not configured" };
        Self {
            rabbitmq: Err(missing("RabbitMQ")),
            sqs: Err(missing("Amazon SQS")),
            pusher: Err(missing("Pusher")),
        }
    }
}

impl Brokers {
    /// A destination's config with the connection put in that it leaves to the server.
    pub(crate) fn connect(&self, config: &Config) -> Result<Connected, Missing> {
        match config {
            Config::Rabbitmq(_) => {
                let config = Config::Rabbitmq(self.rabbitmq.clone()?);
                Ok(Connected { config, is_operators: true })
            }
            Config::Sqs(_) => {
                let config = Config::Sqs(self.sqs.clone()?);
                Ok(Connected { config, is_operators: true })
            }
            Config::Pusher(app) => Ok(match self.pusher.clone()? {
                None => Connected { config: config.clone(), is_operators: false },
                Some(PusherServer { host, port }) => {
                    let app = channel::pusher::Config {
                        cluster: None,
                        host: Some(host),
                        port,
                        ..app.clone()
                    };
                    Connected { config: Config::Pusher(app), is_operators: true }
                }
            }),
            // There is none that one could be connected to.
            Config::Webhook(_) => Ok(Connected { config: config.clone(), is_operators: false }),
        }
    }
}
