//! Sends messages to one place and says what happened.
//!
//! A channel never sleeps, never retries, never reads the store and never drops: it turns a
//! batch of [`Message`]s into one [`Report`] each. When and how often to send is the lane's
//! business.
//!
//! A new channel is a module with its `Config`, a variant in [`Config`] and one in [`Channel`],
//! the match arms that the compiler then asks for, and one line in `tests/contract`.
//!
//! - [`webhook`]: HTTP, signed as Standard Webhooks describes.
//! - [`rabbitmq`]: AMQP 0-9-1, with publisher confirms.
//! - [`pusher`]: the HTTP API of Pusher, and of servers that speak it.
//! - [`sqs`]: Amazon SQS, and services that speak its protocol.
//! - [`signature`]: a webhook's signatures.
//! - [`template`]: names made of an event.
//! - [`egress`]: which addresses a URL given by a user may reach.

pub mod egress;
mod exchange;
mod fault;
mod fields;
mod gather;
mod hidden;
mod pool;
pub mod pusher;
pub mod rabbitmq;
pub mod signature;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod sqs;
pub mod template;
mod warrant;
pub mod webhook;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize, de};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema},
};
use zapbus_event::Timestamp;

pub use fault::Fault;
pub use hidden::{Hidden, MASK};
pub use warrant::Warrant;

/// One rendered event (or one part of it) on its way to one destination.
#[derive(Debug, Clone)]
pub struct Message {
    /// The event id, with `.<n>` behind it for part n > 0. Goes out as `webhook-id`.
    pub id: String,
    /// The event's name in the destination's dialect.
    pub event_name: String,
    /// The name of the event's instance.
    pub instance_name: Arc<str>,
    /// That name as the last segment of a URL, where the dialect has another form of it there.
    pub segment: Option<String>,
    /// The rendered body.
    pub body: Bytes,
    /// What the dialect's own product says in headers, besides ours.
    pub headers: Vec<(HeaderName, String)>,
    /// Whether these win over headers of the destination's own, as they do there.
    pub headers_win: bool,
    /// Messages with equal keys must not overtake each other.
    pub ordering_key: String,
    /// When this attempt starts; signed.
    pub timestamp: Timestamp,
    /// How many gateways the event has passed, this one included (`zapbus-hops`).
    pub hops: u8,
    /// The replay it belongs to (`zapbus-replay`), if any.
    pub replay: Option<String>,
    /// Where a receiver's own spans belong (`traceparent`), if the event is traced.
    pub traceparent: Option<String>,
    /// The sender's right to send it; for ever when there is none.
    pub warrant: Option<Warrant>,
}

impl Message {
    /// The event's id, of whichever part this is.
    pub(crate) fn event_id(&self) -> &str {
        self.id.split_once('.').map_or(self.id.as_str(), |(event, _)| event)
    }

    /// Whether it may still be sent.
    pub(crate) fn may_go(&self) -> bool {
        self.warrant.as_ref().is_none_or(Warrant::holds)
    }
}

/// What a failure says about the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Only this event is concerned.
    Event,
    /// The destination as a whole does not answer as it should.
    Destination,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has taken it.
    Accepted,
    /// Try again.
    Retry {
        /// Not before this much time has passed, says the destination.
        after: Option<Duration>,
        /// Whom the failure concerns.
        scope: Scope,
    },
    /// This event, never again.
    Refused,
    /// This destination, never again.
    Gone,
    /// The sender's right to send it had ended ([`Message::warrant`]): nothing can be learned from it.
    Withheld,
}

/// An [`Outcome`] with what the delivery log keeps of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// What became of the message.
    pub outcome: Outcome,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// From the first byte sent to the last byte read.
    pub latency: Duration,
    /// Why it failed, in words for the destination's owner. Never a secret.
    pub error: Option<String>,
    /// Headers as sent, secrets masked. Empty when accepted: the log does not keep them then.
    pub request_headers: Vec<(String, String)>,
    /// Headers of the answer. Empty when accepted.
    pub response_headers: Vec<(String, String)>,
    /// The first 4 KiB of the answer's body; when accepted, the first 256 bytes.
    pub excerpt: Bytes,
}

/// Which channel, and how to use it. Stored with the destination as JSON, tagged by `type`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Config {
    /// Posts to a URL.
    Webhook(webhook::Config),
    /// Publishes to an exchange.
    Rabbitmq(rabbitmq::Config),
    /// Sends to queues of Amazon SQS.
    Sqs(sqs::Config),
    /// Triggers events in an app.
    Pusher(pusher::Config),
}

/// The values of `type`.
const TYPES: [&str; 4] = ["webhook", "rabbitmq", "sqs", "pusher"];

impl Config {
    /// Reads a config from JSON: first `type`, then what that type takes, so that a fault names
    /// its place and the nearest right name of an unknown key.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit. [`Self::validate`] finds what the types cannot.
    pub fn read(value: Value) -> Result<Self, Fault> {
        let Value::Object(mut fields) = value else {
            return Err(Fault::new(
                "",
                "expected an object such as {\"type\":\"webhook\",\"url\":\"https://example.com/hook\"}",
            ));
        };
        let expected = TYPES.map(|name| format!("`{name}`")).join(", ");
        let kind = match fields.shift_remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(Fault::new("type", format!("expected one of {expected}"))),
            None => {
                return Err(Fault::new("type", format!("is missing; expected one of {expected}")));
            }
        };
        match kind.as_str() {
            "webhook" => fault::read(Value::Object(fields)).map(Self::Webhook),
            "rabbitmq" => fault::read(Value::Object(fields)).map(Self::Rabbitmq),
            "sqs" => fault::read(Value::Object(fields)).map(Self::Sqs),
            "pusher" => fault::read(Value::Object(fields)).map(Self::Pusher),
            unknown => {
                let hint = match fault::nearest(unknown, TYPES) {
                    Some(name) => format!("; did you mean `{name}`?"),
                    None => String::new(),
                };
                Err(Fault::new(
                    "type",
                    format!("unknown channel `{unknown}`, expected one of {expected}{hint}"),
                ))
            }
        }
    }

    /// The value of `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Rabbitmq(_) => "rabbitmq",
            Self::Sqs(_) => "sqs",
            Self::Pusher(_) => "pusher",
        }
    }

    /// The config of a webhook, if it is one.
    pub fn webhook(&self) -> Option<&webhook::Config> {
        match self {
            Self::Webhook(config) => Some(config),
            Self::Rabbitmq(_) | Self::Sqs(_) | Self::Pusher(_) => None,
        }
    }

    /// Fills in what is made when it is not given: a webhook's signing secret.
    pub fn with_defaults(self) -> Self {
        match self {
            Self::Webhook(config) => Self::Webhook(config.with_defaults()),
            other @ (Self::Rabbitmq(_) | Self::Sqs(_) | Self::Pusher(_)) => other,
        }
    }

    /// Finds everything that is wrong with a config that could be read. Literal addresses are
    /// checked against the guard; names are not, they are checked when connecting.
    ///
    /// # Errors
    ///
    /// All faults found.
    pub fn validate(&self, guard: &egress::Guard) -> Result<(), Vec<Fault>> {
        let faults = match self {
            Self::Webhook(config) => config.faults(guard),
            Self::Rabbitmq(config) => config.faults(guard),
            Self::Sqs(config) => config.faults(guard),
            Self::Pusher(config) => config.faults(guard),
        };
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// For showing: every secret is [`MASK`]. The signing secret is left out; whoever creates
    /// or rotates it is shown [`Self::signing_secret`] that once.
    pub fn masked(&self) -> Self {
        match self {
            Self::Webhook(config) => Self::Webhook(config.masked()),
            Self::Rabbitmq(config) => Self::Rabbitmq(config.masked()),
            Self::Sqs(config) => Self::Sqs(config.masked()),
            Self::Pusher(config) => Self::Pusher(config.masked()),
        }
    }

    /// Puts the stored secrets back where somebody sent [`Self::masked`] back with changes:
    /// each [`MASK`], and a signing secret that is left out.
    pub fn with_kept_secrets(self, stored: &Self) -> Self {
        match (self, stored) {
            (Self::Webhook(config), Self::Webhook(stored)) => {
                Self::Webhook(config.with_kept_secrets(stored))
            }
            (Self::Rabbitmq(config), Self::Rabbitmq(stored)) => {
                Self::Rabbitmq(config.with_kept_secrets(stored))
            }
            (Self::Sqs(config), Self::Sqs(stored)) => Self::Sqs(config.with_kept_secrets(stored)),
            (Self::Pusher(config), Self::Pusher(stored)) => {
                Self::Pusher(config.with_kept_secrets(stored))
            }
            // What another channel was told in confidence is nothing for this one.
            (config, _) => config,
        }
    }

    /// Whether somebody else may read what is sent when this config takes the place of `stored`: it
    /// goes to another host or port, passes another proxy, or trusts another authority to say who
    /// the host is. To go without is nowhere else.
    pub fn is_elsewhere(&self, stored: &Self) -> bool {
        match (self, stored) {
            (Self::Webhook(config), Self::Webhook(stored)) => config.is_elsewhere(stored),
            (Self::Rabbitmq(config), Self::Rabbitmq(stored)) => config.is_elsewhere(stored),
            (Self::Sqs(config), Self::Sqs(stored)) => config.is_elsewhere(stored),
            (Self::Pusher(config), Self::Pusher(stored)) => config.is_elsewhere(stored),
            _ => true,
        }
    }

    /// The signing secret in its text form (`whsec_…`), if this channel signs.
    pub fn signing_secret(&self) -> Option<String> {
        match self {
            Self::Webhook(config) => config.secret.as_ref().map(signature::Secret::expose),
            Self::Rabbitmq(_) | Self::Sqs(_) | Self::Pusher(_) => None,
        }
    }

    /// Puts a new signing secret in place and returns its text form; the old one goes on signing
    /// beside it until `now + overlap`. `None` when this channel does not sign.
    pub fn rotate_secret(&mut self, now: Timestamp, overlap: Duration) -> Option<String> {
        match self {
            Self::Webhook(config) => Some(config.rotate_secret(now, overlap)),
            Self::Rabbitmq(_) | Self::Sqs(_) | Self::Pusher(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Written by hand: utoipa puts a tag beside a struct that refuses unknown keys, and then no
/// object fits both.
impl PartialSchema for Config {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new()
            .description(Some("Which channel, and how to use it."))
            .item(tagged("webhook", webhook::Config::schema()))
            .item(tagged("rabbitmq", rabbitmq::Config::schema()))
            .item(tagged("sqs", sqs::Config::schema()))
            .item(tagged("pusher", pusher::Config::schema()))
            .into()
    }
}

impl ToSchema for Config {
    fn name() -> std::borrow::Cow<'static, str> {
        "ChannelConfig".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        webhook::Config::schemas(schemas);
        rabbitmq::Config::schemas(schemas);
        sqs::Config::schemas(schemas);
        pusher::Config::schemas(schemas);
    }
}

/// The schema of a channel's config with its `type`.
fn tagged(kind: &str, schema: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = schema else {
        return schema;
    };
    let tag = ObjectBuilder::new()
        .schema_type(utoipa::openapi::Type::String)
        .enum_values(Some([kind]))
        .build();
    object.properties.insert("type".to_owned(), tag.into());
    object.required.insert(0, "type".to_owned());
    RefOr::T(Schema::Object(object))
}

/// How long one exchange may take when neither the config nor the opening says.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

/// What all channels of a node share. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Opening {
    guard: Arc<egress::Guard>,
    pools: Arc<pool::Pools>,
    links: Arc<rabbitmq::Links>,
    services: Arc<sqs::Services>,
    timeout: Duration,
    user_agent: HeaderValue,
    public_url: Option<Arc<str>>,
    #[cfg(feature = "simulation")]
    world: Option<simulation::World>,
}

impl Opening {
    /// With no connections yet, [`DEFAULT_TIMEOUT`], and `zapbus/<version>` as user agent.
    pub fn new(guard: Arc<egress::Guard>) -> Self {
        Self {
            guard,
            pools: Arc::default(),
            links: Arc::default(),
            services: Arc::default(),
            public_url: None,
            timeout: DEFAULT_TIMEOUT,
            user_agent: HeaderValue::from_static(concat!("zapbus/", env!("CARGO_PKG_VERSION"))),
            #[cfg(feature = "simulation")]
            world: None,
        }
    }

    /// Another guard over the same connection pools: [`egress::Guard::trusted`] for targets of
    /// the operator's own file. Connections opened under different guards are never mixed.
    pub fn with_guard(mut self, guard: Arc<egress::Guard>) -> Self {
        self.guard = guard;
        self
    }

    /// How long one exchange may take when the config does not say: the preset's time-out.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What goes out as `user-agent`.
    pub fn with_user_agent(mut self, user_agent: HeaderValue) -> Self {
        self.user_agent = user_agent;
        self
    }

    /// Where this gateway is reached, without a slash at the end: events that are too large for a
    /// peer can be fetched there.
    pub fn with_public_url(mut self, url: impl Into<Arc<str>>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// Connections to receivers that are open now, and how many of them wait to be used again.
    pub fn connections(&self) -> (usize, usize) {
        self.pools.connections()
    }

    /// Every destination leads into this world.
    #[cfg(feature = "simulation")]
    pub fn with_world(mut self, world: simulation::World) -> Self {
        self.world = Some(world);
        self
    }

    /// The guard that connections pass.
    pub fn guard(&self) -> &Arc<egress::Guard> {
        &self.guard
    }
}

/// A config that cannot be opened. A stored config that once validated opens, unless the rules
/// have become stricter since.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this destination cannot be opened: {}", .faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; "))]
pub struct OpenError {
    /// Everything that is wrong; never empty.
    pub faults: Vec<Fault>,
}

/// A destination ready to be sent to.
#[derive(Debug)]
pub enum Channel {
    /// Posts to a URL.
    Webhook(Box<webhook::Webhook>),
    /// Publishes to an exchange.
    Rabbitmq(Box<rabbitmq::Rabbitmq>),
    /// Sends to queues of Amazon SQS.
    Sqs(sqs::Sqs),
    /// Triggers events in an app.
    Pusher(pusher::Pusher),
    /// Leads into a simulated world.
    #[cfg(feature = "simulation")]
    Simulated(Box<simulation::Simulated>),
}

impl Channel {
    /// Prepares for sending. Connects to nothing and starts no task.
    ///
    /// # Errors
    ///
    /// When the config has faults; what the egress guard refuses is none here, but the outcome
    /// of sending, since the operator may allow it at any time.
    pub fn open(config: &Config, opening: &Opening) -> Result<Self, OpenError> {
        #[cfg(feature = "simulation")]
        if let Some(world) = opening.world.clone() {
            let (config, timeout) = (config.clone(), opening.timeout);
            let simulated = simulation::Simulated { config, world, timeout };
            return Ok(Self::Simulated(Box::new(simulated)));
        }
        match config {
            Config::Webhook(config) => webhook::Webhook::open(config, opening)
                .map(|webhook| Self::Webhook(Box::new(webhook))),
            Config::Rabbitmq(config) => rabbitmq::Rabbitmq::open(config, opening)
                .map(|rabbitmq| Self::Rabbitmq(Box::new(rabbitmq))),
            Config::Sqs(config) => sqs::Sqs::open(config, opening).map(Self::Sqs),
            Config::Pusher(config) => pusher::Pusher::open(config, opening).map(Self::Pusher),
        }
        .map_err(|faults| OpenError { faults })
    }

    /// Sends a batch: one report for each message, in the order of the messages.
    pub async fn send(&self, batch: &[Message]) -> Vec<Report> {
        match self {
            Self::Webhook(webhook) => webhook.send(batch).await,
            Self::Rabbitmq(rabbitmq) => rabbitmq.send(batch).await,
            Self::Sqs(sqs) => sqs.send(batch).await,
            Self::Pusher(pusher) => pusher.send(batch).await,
            #[cfg(feature = "simulation")]
            Self::Simulated(simulated) => simulated.send(batch).await,
        }
    }

    /// Makes what messages of these names would need at the peer, exchanges and queues, so that whoever
    /// consumes finds it before the first one is sent.
    ///
    /// # Errors
    ///
    /// What could not be made, in words for the destination's owner. It is made with the first
    /// message then.
    pub async fn prepare(&self, messages: &[Message]) -> Result<(), String> {
        match self {
            Self::Rabbitmq(rabbitmq) => rabbitmq.prepare(messages).await,
            Self::Sqs(sqs) => sqs.prepare(messages).await,
            Self::Webhook(_) | Self::Pusher(_) => Ok(()),
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => Ok(()),
        }
    }

    /// How many messages one [`Self::send`] should get at most: one. What is sent at the same time
    /// is put together by the channels themselves, where their peers take several at once.
    pub fn batch_limit(&self) -> usize {
        1
    }

    /// Whether a batch may hold several messages with one key: they are sent one after another,
    /// each after the answer to the one before.
    pub fn keeps_order_in_batch(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A message of an instance, for the tests of what is made of messages.
    pub(crate) fn message(instance: &str) -> Message {
        Message {
            id: "evt_1".to_owned(),
            event_name: "message.received".to_owned(),
            segment: None,
            instance_name: instance.into(),
            body: Bytes::from_static(b"{}"),
            headers: Vec::new(),
            headers_win: false,
            ordering_key: "chat".to_owned(),
            timestamp: Timestamp::from_millis(1_767_225_600_000),
            hops: 1,
            replay: None,
            traceparent: None,
            warrant: None,
        }
    }

    #[test]
    fn every_part_belongs_to_its_event() {
        let mut message = message("shop");
        assert_eq!(message.event_id(), "evt_1");
        message.id = "evt_1.2".to_owned();
        assert_eq!(message.event_id(), "evt_1");
    }

    #[test]
    fn the_schema_has_the_tag_and_all_keys() {
        let schema = serde_json::to_value(Config::schema()).unwrap();
        let webhook = &schema["oneOf"][0];
        assert_eq!(webhook["properties"]["type"]["enum"], json!(["webhook"]));
        assert_eq!(webhook["required"], json!(["type", "url"]));
        assert_eq!(webhook["additionalProperties"], json!(false));
        let kinds: Vec<&Value> = schema["oneOf"].as_array().unwrap().iter().collect();
        let tags: Vec<&str> = kinds
            .iter()
            .map(|kind| kind["properties"]["type"]["enum"][0].as_str().unwrap())
            .collect();
        assert_eq!(tags, TYPES);
        // Every reference leads somewhere.
        let mut named = Vec::new();
        Config::schemas(&mut named);
        for (_, reference) in
            schema.to_string().match_indices("#/components/schemas/").map(|(start, prefix)| {
                let rest = &schema.to_string()[start + prefix.len()..];
                (start, rest.split('"').next().unwrap().to_owned())
            })
        {
            assert!(named.iter().any(|(name, _)| *name == reference), "{reference}");
        }
    }

    /// What a form needs: a text for each key, and to know which of them it must not show.
    #[test]
    fn forms_can_be_made_of_the_schema() {
        const SECRETS: [&str; 6] =
            ["secret", "authorization", "jwt_key", "secret_access_key", "session_token", "key_pem"];
        let mut named = Vec::new();
        Config::schemas(&mut named);
        let named: Vec<(String, Value)> = named
            .into_iter()
            .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap()))
            .collect();
        let channels = serde_json::to_value(Config::schema()).unwrap()["oneOf"].clone();
        let channels = channels.as_array().unwrap().iter().cloned();
        let objects = channels
            .map(|channel| (channel["properties"]["type"]["enum"][0].to_string(), channel))
            .chain(named);
        let mut secrets = 0;
        for (name, object) in objects {
            let Some(properties) = object["properties"].as_object() else { continue };
            for (key, property) in properties {
                let at = format!("{name}.{key}: {property}");
                // Of what is a type of its own, the text stands beside the reference.
                let reference = &property["oneOf"][0];
                let is_described =
                    [property, reference].iter().any(|it| it["description"].is_string());
                assert!(is_described || key == "type", "{at}");
                let is_secret = SECRETS.contains(&key.as_str());
                assert_eq!(property["format"] == "password", is_secret, "{at}");
                secrets += u32::from(is_secret);
                if key.ends_with("timeout_s") {
                    assert!(property["default"].is_number(), "{at}");
                    assert!(property["maximum"].is_number(), "{at}");
                }
                if property["type"] == "boolean" {
                    assert!(property["default"].is_boolean(), "{at}");
                }
            }
        }
        assert!(secrets >= 7, "{secrets}");
    }
}
