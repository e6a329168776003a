//! What a RabbitMQ destination can be told, and what is wrong with what it is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::address::{Address, AddressError};
use crate::{
    Fault, Hidden, MASK, Message,
    egress::Guard,
    fields::{ClientCertificate, Connecting, is_false, is_true, yes},
    template::Template,
};

/// The exchange that native destinations publish to when they do not say.
const EXCHANGE: &str = "zapbus";
/// The same in Evolution API's global mode.
const EVOLUTION_EXCHANGE: &str = "evolution_exchange";
/// How long connecting may take when the config does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// AMQP's limit for names, in bytes.
pub(super) const NAME_LIMIT: usize = 255;

/// Which broker to publish to, and under which names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RabbitmqConfig)]
pub struct Config {
    /// `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS. Its query may hold
    /// `heartbeat` (seconds, 0 to 3600) and `frame_max` (bytes, 4096 to 1048576).
    #[schema(value_type = String, format = "uri", examples("amqps://user:password@broker.example.com/events"))]
    pub uri: Hidden,
    /// The names to start from; what else is given here wins.
    #[serde(default, skip_serializing_if = "Preset::is_default")]
    pub preset: Preset,
    /// The exchange; may hold `{instance}`, `{event}` and `{event_words}`. Empty: the broker's
    /// default exchange, where the routing key is the name of a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub exchange: Option<Template>,
    /// What kind of exchange is declared: `topic` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_type: Option<ExchangeType>,
    /// The routing key, with the same placeholders: `{instance}.{event}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub routing_key: Option<Template>,
    /// A queue to declare and bind with the routing key, with the same placeholders. None when left
    /// out: whoever consumes declares its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub queue: Option<Template>,
    /// What kind of queue is declared: `quorum` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_type: Option<QueueType>,
    /// Put before the name of the queue, with a dot between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether to declare exchange and queue. `false` where the user may only publish.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub declare: bool,
    /// Whether an event that no queue takes is a failure. With `false` the broker drops it, and it
    /// counts as delivered.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub mandatory: bool,
    /// Whether the broker may keep messages in memory only, so that they are gone when it restarts.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub transient: bool,
    /// Seconds until an event must be confirmed, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 120, default = 15)]
    pub timeout_s: Option<f64>,
    /// Seconds that connecting may take, TLS and login included: 0.05 to 60, by default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 60, default = 10)]
    pub connect_timeout_s: Option<f64>,
    /// Shown to a broker that asks for one (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// Names to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RabbitmqPreset)]
pub enum Preset {
    /// The topic exchange `zapbus`, routing key `{instance}.{event}`, no queue.
    #[default]
    Native,
    /// Evolution API, per instance: the topic exchange `{instance}`, routing key `{event}`, a
    /// quorum queue `{instance}.{event}`.
    EvolutionInstance,
    /// Evolution API, globally: the topic exchange `evolution_exchange`, routing key `{event}`, a
    /// quorum queue `{event}`.
    EvolutionGlobal,
    /// Evolution API, as documented: the topic exchange `evolution_exchange`, routing key
    /// `{instance}.{event}`, no queue.
    EvolutionTopic,
}

impl Preset {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Exchange, routing key and queue.
    fn names(self) -> (&'static str, &'static str, Option<&'static str>) {
        match self {
            Self::Native => (EXCHANGE, "{instance}.{event}", None),
            Self::EvolutionInstance => ("{instance}", "{event}", Some("{instance}.{event}")),
            Self::EvolutionGlobal => (EVOLUTION_EXCHANGE, "{event}", Some("{event}")),
            Self::EvolutionTopic => (EVOLUTION_EXCHANGE, "{instance}.{event}", None),
        }
    }
}

/// Kinds of exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeType {
    /// By patterns of the routing key.
    Topic,
    /// By equal routing keys.
    Direct,
    /// To every bound queue.
    Fanout,
    /// By headers.
    Headers,
}

/// Kinds of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// Kept by a majority of the broker's nodes.
    #[default]
    Quorum,
    /// Kept by one node.
    Classic,
}

impl QueueType {
    /// As the broker calls it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// Where one message goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) queue: Option<String>,
}

/// The names of a config, read.
#[derive(Debug, Clone)]
pub(super) struct Names {
    exchange: Template,
    routing_key: Template,
    queue: Option<Template>,
    prefix: Option<String>,
}

impl Names {
    /// Where a message goes; or what about it AMQP cannot carry.
    pub(super) fn place(&self, message: &Message) -> Result<Place, String> {
        let queue = self.queue.as_ref().map(|queue| match &self.prefix {
            Some(prefix) => format!("{prefix}.{}", queue.render(message)),
            None => queue.render(message),
        });
        let place = Place {
            exchange: self.exchange.render(message),
            routing_key: self.routing_key.render(message),
            queue,
        };
        let names = [
            ("exchange", place.exchange.as_str()),
            ("routing key", place.routing_key.as_str()),
            ("queue", place.queue.as_deref().unwrap_or_default()),
            ("event name", message.event_name.as_str()),
            ("message id", message.id.as_str()),
        ];
        for (what, name) in names {
            if name.len() > NAME_LIMIT {
                return Err(format!(
                    "the {what} for this event is {} bytes long and AMQP carries {NAME_LIMIT}; \
                     shorten the template or the name of the instance",
                    name.len()
                ));
            }
        }
        Ok(place)
    }
}

impl Config {
    /// Just a URI, everything else as it is by default.
    pub fn new(uri: impl Into<Hidden>) -> Self {
        Self {
            uri: uri.into(),
            preset: Preset::default(),
            exchange: None,
            exchange_type: None,
            routing_key: None,
            queue: None,
            queue_type: None,
            prefix: None,
            declare: true,
            mandatory: true,
            transient: false,
            timeout_s: None,
            connect_timeout_s: None,
            client_certificate: None,
            ca_pem: None,
        }
    }

    /// How it connects.
    pub(super) fn connecting(&self) -> Connecting<'_> {
        Connecting {
            timeout_s: self.timeout_s,
            connect_timeout_s: self.connect_timeout_s,
            usual: CONNECT_TIMEOUT,
            client_certificate: self.client_certificate.as_ref(),
            ca_pem: self.ca_pem.as_deref(),
        }
    }

    /// The broker's address, read.
    pub(super) fn address(&self) -> Result<Address, Fault> {
        self.uri
            .expose()
            .parse()
            .map_err(|error: AddressError| Fault::new("uri", error.to_string()))
    }

    /// The names, read.
    pub(super) fn names(&self) -> Names {
        let (exchange, routing_key, queue) = self.preset.names();
        // The texts of presets are templates; a test reads them all.
        let preset = |text: &str| text.parse().unwrap_or_else(|_| Template::default());
        Names {
            exchange: self.exchange.clone().unwrap_or_else(|| preset(exchange)),
            routing_key: self.routing_key.clone().unwrap_or_else(|| preset(routing_key)),
            queue: self.queue.clone().or_else(|| queue.map(preset)),
            prefix: self.prefix.clone(),
        }
    }

    /// Everything that is wrong but what the guard refuses.
    pub(super) fn form_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        match self.address() {
            Ok(address) if address.password() == MASK => {
                faults.push(Fault::new(
                    "uri",
                    format!("has {MASK} for its password, the mask; give the password itself"),
                ));
            }
            Ok(address) if !address.is_tls() => {
                for (path, given) in [
                    ("client_certificate", self.client_certificate.is_some()),
                    ("ca_pem", self.ca_pem.is_some()),
                ] {
                    if given {
                        faults.push(Fault::new(path, "is of no use without TLS; set amqps://"));
                    }
                }
            }
            Ok(_) => {}
            Err(fault) => faults.push(fault),
        }
        let names = self.names();
        for (path, template) in [
            ("exchange", &self.exchange),
            ("routing_key", &self.routing_key),
            ("queue", &self.queue),
        ] {
            if template.as_ref().is_some_and(|it| it.as_str().len() > NAME_LIMIT) {
                faults.push(Fault::new(path, format!("is longer than {NAME_LIMIT} bytes")));
            }
        }
        if names.exchange.as_str().starts_with("amq.") && self.declare {
            faults.push(Fault::new(
                "exchange",
                "begins with `amq.`, which brokers do not let anybody declare; set `declare` to false",
            ));
        }
        if names.exchange.is_empty() && names.queue.is_some() {
            faults.push(Fault::new(
                "exchange",
                "is the default exchange, which takes no bindings; leave out `queue`, and set \
                 `routing_key` to the name of the queue",
            ));
        }
        if self.queue.as_ref().is_some_and(Template::is_empty) {
            faults.push(Fault::new("queue", "is empty; leave it out to declare none"));
        }
        if let Some(prefix) = &self.prefix
            && (prefix.is_empty() || prefix.len() > NAME_LIMIT || names.queue.is_none())
        {
            faults.push(Fault::new(
                "prefix",
                format!("expected 1 to {NAME_LIMIT} bytes, and a queue to put it before"),
            ));
        }
        faults.extend(self.connecting().faults());
        faults
    }

    /// Everything that is wrong.
    pub(crate) fn faults(&self, guard: &Guard) -> Vec<Fault> {
        let mut faults = self.form_faults();
        if let Ok(address) = self.address()
            && let Err(refusal) = guard.check_literal_host(&address.host)
        {
            faults.push(Fault::new("uri", refusal.to_string()));
        }
        faults
    }

    /// For showing: no secret is in it.
    pub fn masked(&self) -> Self {
        let mut shown = self.clone();
        shown.uri = match self.address() {
            Ok(address) => address.masked().into(),
            Err(_) => Hidden::mask(),
        };
        shown.client_certificate = self.client_certificate.as_ref().map(ClientCertificate::masked);
        shown
    }

    /// Takes from `stored` what stands here as [`MASK`].
    pub fn with_kept_secrets(mut self, stored: &Self) -> Self {
        if let (Ok(new), Ok(old)) = (self.address(), stored.address())
            && new.password() == MASK
        {
            self.uri = new.with_password_of(&old).into();
        } else if self.uri.is_mask() {
            self.uri.clone_from(&stored.uri);
        }
        if let Some(certificate) = &mut self.client_certificate {
            certificate.keep(stored.client_certificate.as_ref());
        }
        self
    }

    /// Whether somebody else may read what is sent when this config takes the place of `stored`.
    pub(crate) fn is_elsewhere(&self, stored: &Self) -> bool {
        let same_server = match (self.address(), stored.address()) {
            (Ok(new), Ok(old)) => new.is_same_server(&old),
            _ => self.uri.is_mask(),
        };
        !same_server || self.connecting().trusts_others_than(&stored.connecting())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{egress::Allow, tests::message};

    fn read(value: serde_json::Value) -> Result<Config, Fault> {
        crate::fault::read(value)
    }

    #[test]
    fn presets_have_the_names_of_the_contract() {
        let table = [
            ("native", "zapbus", "shop.messages.upsert", None),
            ("evolution_instance", "shop", "messages.upsert", Some("shop.messages.upsert")),
            ("evolution_global", "evolution_exchange", "messages.upsert", Some("messages.upsert")),
            ("evolution_topic", "evolution_exchange", "shop.messages.upsert", None),
        ];
        let mut message = message("shop");
        message.event_name = "messages.upsert".to_owned();
        for (preset, exchange, routing_key, queue) in table {
            let config = read(json!({"uri": "amqp://h", "preset": preset})).unwrap();
            assert_eq!(config.form_faults(), []);
            let expected = Place {
                exchange: exchange.to_owned(),
                routing_key: routing_key.to_owned(),
                queue: queue.map(str::to_owned),
            };
            assert_eq!(config.names().place(&message), Ok(expected), "{preset}");
        }
        let more = json!({"uri": "amqp://h", "preset": "evolution_global", "prefix": "acme",
            "exchange": "own"});
        let place = read(more).unwrap().names().place(&message).unwrap();
        assert_eq!(place.queue.as_deref(), Some("acme.messages.upsert"));
        assert_eq!(
            (place.exchange.as_str(), place.routing_key.as_str()),
            ("own", "messages.upsert")
        );
    }

    #[test]
    fn what_amqp_cannot_carry_is_said() {
        let names = Config::new("amqp://h").names();
        let mut message = message("shop");
        message.instance_name = "é".repeat(120).into();
        assert!(names.place(&message).unwrap_err().contains("the routing key"));
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let config = read(json!({
            "uri": "amqp://me:***@10.0.0.5",
            "exchange": "amq.topic",
            "queue": "",
            "prefix": "",
            "timeout_s": 0,
            "connect_timeout_s": 1e300,
            "ca_pem": "no certificate",
        }))
        .unwrap();
        let faults = config.faults(&Guard::new(Allow::default()));
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        let expected = [
            "uri",
            "exchange",
            "queue",
            "prefix",
            "timeout_s",
            "connect_timeout_s",
            "ca_pem",
            "uri",
        ];
        assert_eq!(paths, expected);
        assert!(faults[7].message.ends_with("ZAPBUS_EGRESS_ALLOW=10.0.0.5/32"));
        let config = read(json!({"uri": "amqp://h", "exchange": "", "queue": "q"})).unwrap();
        assert_eq!(config.form_faults()[0].path, "exchange");
        let config =
            read(json!({"uri": "amqp://h", "client_certificate": {"cert_pem": "", "key_pem": ""}}));
        assert_eq!(config.unwrap().form_faults()[0].path, "client_certificate");
        for (value, path, message) in [
            (json!({"uri": "http://h"}), "uri", "expected amqp://"),
            (
                json!({"uri": "amqp://h", "routing_key": "{instanze}"}),
                "routing_key",
                "did you mean",
            ),
            (json!({"uri": "amqp://h", "preset": "evolution"}), "preset", "unknown variant"),
        ] {
            let fault = match read(value.clone()) {
                Ok(config) => config.form_faults().remove(0),
                Err(fault) => fault,
            };
            assert_eq!(fault.path, path, "{value}");
            assert!(fault.message.contains(message), "{value}: {fault}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_can_be_sent_back() {
        let stored = read(json!({"uri": "amqp://me:p-1%40@h:1/v?heartbeat=5"})).unwrap();
        let shown = stored.masked();
        assert_eq!(shown.uri.expose(), "amqp://me:***@h:1/v?heartbeat=5");
        assert_eq!(shown.clone().with_kept_secrets(&stored), stored);
        assert!(!shown.is_elsewhere(&stored));
        // Another vhost of the same broker keeps the password; another broker does not get it.
        let moved = read(json!({"uri": "amqp://me:***@h:1/w"})).unwrap();
        assert!(!moved.is_elsewhere(&stored));
        assert_eq!(moved.with_kept_secrets(&stored).uri.expose(), "amqp://me:p-1%40@h:1/w");
        for uri in ["amqp://me:***@other:1/v", "amqp://me:***@h:2/v", "amqps://me:***@h:1/v"] {
            let moved = read(json!({"uri": uri})).unwrap();
            assert!(moved.is_elsewhere(&stored), "{uri}");
        }
    }
}
