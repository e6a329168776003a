//! What is known of services, for longer than a destination is at work: a lane that has come to rest
//! asks for no credentials and looks up no queue again when the next event comes.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
};
use tokio::{sync::OnceCell, time::Instant};

use super::{config::Config, connector::Connector, queues::Queues};
use crate::Opening;

/// How long a service that no destination uses is kept.
const KEPT: Duration = Duration::from_secs(15 * 60);

/// What two destinations have in common that share a service.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    /// The address of the guard, which the service keeps alive.
    guard: usize,
    region: String,
    endpoint: Option<String>,
    /// Id, secret and token.
    credentials: Option<(String, String, Option<String>)>,
    ca_pem: Option<String>,
    create: bool,
    timeout: Duration,
    connect_timeout: Duration,
}

/// All services of a node.
#[derive(Default)]
pub(crate) struct Services(Mutex<Register>);

#[derive(Default)]
struct Register {
    services: HashMap<Key, Kept>,
    /// At this size, those nobody uses any more are looked for.
    sweep_at: usize,
}

struct Kept {
    service: Arc<Service>,
    opened: Instant,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Services")
    }
}

/// An AWS account in a region (or a service that speaks the same protocol), and how to ask it.
pub(super) struct Service {
    region: Region,
    endpoint: Option<String>,
    credentials: Option<Credentials>,
    connector: Connector,
    /// Made with the first request: where the credentials come from may have to be found out.
    client: OnceCell<Client>,
    pub(super) queues: Queues,
    /// For one whole exchange.
    pub(super) timeout: Duration,
}

impl Services {
    /// The service that a config without faults leads to.
    pub(super) fn service(&self, config: &Config, opening: &Opening) -> Arc<Service> {
        let secret = config.secret_access_key.as_ref();
        let credentials = config.access_key_id.as_ref().zip(secret).map(|(id, secret)| {
            let token = config.session_token.as_ref().map(|token| token.expose().to_owned());
            (id.clone(), secret.expose().to_owned(), token)
        });
        let connecting = config.connecting();
        let key = Key {
            guard: Arc::as_ptr(&opening.guard).addr(),
            region: config.region.clone(),
            endpoint: config
                .endpoint
                .as_ref()
                .map(|url| url.as_str().trim_end_matches('/').to_owned()),
            credentials,
            ca_pem: config.ca_pem.clone(),
            create: config.create,
            timeout: connecting.timeout().unwrap_or(opening.timeout),
            connect_timeout: connecting.connect_timeout(),
        };
        let now = Instant::now();
        let mut register = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = register.services.get_mut(&key) {
            kept.opened = now;
            return Arc::clone(&kept.service);
        }
        if register.services.len() >= register.sweep_at {
            register
                .services
                .retain(|_, kept| Arc::strong_count(&kept.service) > 1 || now - kept.opened < KEPT);
            register.sweep_at = 64.max(register.services.len() * 2);
        }
        let service = Arc::new(Service::new(&key, opening));
        register.services.insert(key, Kept { service: Arc::clone(&service), opened: now });
        service
    }
}

impl Service {
    fn new(key: &Key, opening: &Opening) -> Self {
        Self {
            region: Region::new(key.region.clone()),
            endpoint: key.endpoint.clone(),
            credentials: key.credentials.as_ref().map(|(id, secret, token)| {
                Credentials::new(id, secret, token.clone(), None, "zapbus")
            }),
            connector: Connector::new(
                Arc::clone(&opening.guard),
                Arc::clone(&opening.pools),
                key.ca_pem.clone(),
                key.timeout,
                key.connect_timeout,
            ),
            client: OnceCell::new(),
            queues: Queues::new(key.create),
            timeout: key.timeout,
        }
    }

    pub(super) async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let mut config = aws_sdk_sqs::Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(self.region.clone())
                    .http_client(self.connector.clone())
                    // Trying again is the lane's business, and times are the connector's.
                    .retry_config(RetryConfig::disabled())
                    .timeout_config(TimeoutConfig::disabled());
                config.set_endpoint_url(self.endpoint.clone());
                match &self.credentials {
                    Some(credentials) => config = config.credentials_provider(credentials.clone()),
                    None => {
                        let found = aws_config::defaults(aws_config::BehaviorVersion::latest())
                            .http_client(self.connector.clone())
                            .region(self.region.clone())
                            .load()
                            .await;
                        config.set_credentials_provider(found.credentials_provider());
                    }
                }
                Client::from_conf(config.build())
            })
            .await
    }
}
