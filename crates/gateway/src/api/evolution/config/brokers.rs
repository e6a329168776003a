//! `[evolution.rabbitmq]`, `[evolution.sqs]` and `[evolution.pusher]`: the server's own brokers.
//!
//! Each has two uses: instances send to them what `/<broker>/set` asks for, and with `global` one
//! destination of the default account sends the events of all instances.

use serde::{Deserialize, Serialize};
use url::Url;
use zapbus_channel::{
    self as channel, Config as Channel, Hidden, egress::Guard, template::Template,
};
use zapbus_event::dialect::evolution::Names;

use crate::{
    brokers::{Brokers, Missing, PusherServer},
    config::Secret,
};

/// What is wrong, by key below `[evolution]`.
type Wrong = Vec<(&'static str, String)>;

/// `[evolution.rabbitmq]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rabbitmq {
    /// Whether it is used at all.
    pub enabled: bool,
    /// Where it is, and how to log in; unset: there is none.
    pub uri: Option<Secret>,
    /// The exchange that all instances share.
    pub exchange: String,
    /// Put before the names of global queues, with a dot between.
    pub prefix: Option<String>,
    /// Bytes of a frame at most.
    pub frame_max: Option<u32>,
    /// Under which names instances publish.
    pub names: NamesOf,
    /// Whether the events of all instances are published together.
    pub global: bool,
    /// Which of them.
    pub events: Vec<String>,
}

/// `[evolution.sqs]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sqs {
    /// Whether it is used at all.
    pub enabled: bool,
    /// The region; unset: there is none.
    pub region: Option<String>,
    /// Where the service is, unless it is AWS itself.
    pub endpoint: Option<String>,
    /// The id of the access key; unset: what this machine is allowed to do.
    pub access_key_id: Option<String>,
    /// The access key.
    pub secret_access_key: Option<Secret>,
    /// What the queues of instances are called.
    pub names: NamesOf,
    /// Whether the events of all instances are sent together, and those of one alone to none.
    pub global: bool,
    /// Whether there is one queue for all of them.
    pub single_queue: bool,
    /// What the names of global queues begin with.
    pub prefix: String,
    /// Which of them.
    pub events: Vec<String>,
}

/// `[evolution.pusher]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pusher {
    /// Whether it is used at all: instances bring an app of their own.
    pub enabled: bool,
    /// A server of one's own that speaks the protocol, instead of Pusher's clusters.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Whether the events of all instances are triggered in the app below.
    pub global: bool,
    /// The app's id.
    pub app_id: Option<String>,
    /// Its key.
    pub key: Option<String>,
    /// Its secret.
    pub secret: Option<Secret>,
    /// The cluster it lives in.
    pub cluster: Option<String>,
    /// Whether to use TLS.
    pub tls: bool,
    /// Which events.
    pub events: Vec<String>,
}

/// Whose names what an instance sends has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamesOf {
    /// Those that Evolution API uses.
    #[default]
    Evolution,
    /// Those that its documentation shows.
    Documentation,
}

impl Default for Rabbitmq {
    fn default() -> Self {
        Self {
            enabled: true,
            uri: None,
            exchange: "evolution_exchange".to_owned(),
            prefix: None,
            frame_max: None,
            names: NamesOf::default(),
            global: false,
            events: Vec::new(),
        }
    }
}

impl Default for Sqs {
    fn default() -> Self {
        Self {
            enabled: true,
            region: None,
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            names: NamesOf::default(),
            global: false,
            single_queue: false,
            prefix: "global".to_owned(),
            events: Vec::new(),
        }
    }
}

impl Default for Pusher {
    fn default() -> Self {
        Self {
            enabled: true,
            host: None,
            port: None,
            global: false,
            app_id: None,
            key: None,
            secret: None,
            cluster: None,
            tls: true,
            events: Vec::new(),
        }
    }
}

const NO_RABBITMQ: Missing = Missing {
    name: "RabbitMQ",
    remedy: "its operator sets evolution.rabbitmq.uri (RABBITMQ_ENABLED=true and RABBITMQ_URI)",
};
const NO_SQS: Missing = Missing {
    name: "Amazon SQS",
    remedy: "its operator sets evolution.sqs.region and the keys (SQS_ENABLED=true, SQS_REGION, \
             SQS_ACCESS_KEY_ID, SQS_SECRET_ACCESS_KEY)",
};
const GLOBAL_SQS: Missing = Missing {
    name: "Amazon SQS",
    remedy: "it sends the events of all of them together (evolution.sqs.global, SQS_GLOBAL_ENABLED)",
};
const NO_PUSHER: Missing = Missing {
    name: "Pusher",
    remedy: "its operator has switched it off (evolution.pusher.enabled, PUSHER_ENABLED)",
};

impl Rabbitmq {
    /// With names to start from; `None` when there is no broker.
    fn config(&self, preset: channel::rabbitmq::Preset) -> Option<channel::rabbitmq::Config> {
        let uri = self.uri.as_ref().filter(|_| self.enabled)?;
        let uri = cleaned(uri.expose(), self.frame_max);
        let mut config = channel::rabbitmq::Config::new(uri);
        config.preset = preset;
        Some(config)
    }

    /// For instances.
    fn of_instances(&self) -> Option<channel::rabbitmq::Config> {
        match self.names {
            NamesOf::Evolution => self.config(channel::rabbitmq::Preset::EvolutionInstance),
            NamesOf::Documentation => {
                let mut config = self.config(channel::rabbitmq::Preset::EvolutionTopic)?;
                config.exchange = literal(&self.exchange);
                // Who binds a queue to some of the keys does not want the others.
                config.mandatory = false;
                Some(config)
            }
        }
    }

    /// For all instances together.
    fn of_all(&self) -> Option<channel::rabbitmq::Config> {
        let mut config = self.config(channel::rabbitmq::Preset::EvolutionGlobal)?;
        config.exchange = literal(&self.exchange);
        config.prefix.clone_from(&self.prefix);
        Some(config)
    }

    fn check(&self, wrong: &mut Wrong) {
        let mut say = |key, problem: String| wrong.push((key, problem));
        if let Some(config) = self.of_all() {
            let keys = ["rabbitmq.uri", "rabbitmq.exchange", "rabbitmq.prefix"];
            faults(Channel::Rabbitmq(config), keys).into_iter().for_each(|(key, it)| say(key, it));
        }
        if self.frame_max.is_some_and(|bytes| !(4_096..=1_048_576).contains(&bytes)) {
            say("rabbitmq.frame_max", "expected 4096 to 1048576 bytes".to_owned());
        }
        if self.global && self.enabled && self.uri.is_none() {
            say("rabbitmq.uri", "is needed with rabbitmq.global".to_owned());
        }
        if self.global && self.names == NamesOf::Documentation {
            let problem = "with rabbitmq.names = \"documentation\" both publish to one exchange, and \
                           a queue bound to # gets each event twice: leave one out";
            say("rabbitmq.global", problem.to_owned());
        }
        say_names(&self.events, |problem| say("rabbitmq.events", problem));
    }
}

impl Sqs {
    fn config(&self, preset: channel::sqs::Preset) -> Option<channel::sqs::Config> {
        let region = self.region.clone().filter(|_| self.enabled)?;
        Some(channel::sqs::Config {
            region,
            endpoint: self.endpoint.as_deref().and_then(|text| Url::parse(text.trim()).ok()),
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.as_ref().map(hidden),
            session_token: None,
            preset,
            queue: None,
            fifo: None,
            prefix: None,
            create: true,
            timeout_s: None,
            connect_timeout_s: None,
            ca_pem: None,
        })
    }

    fn of_instances(&self) -> Option<channel::sqs::Config> {
        self.config(match self.names {
            NamesOf::Evolution => channel::sqs::Preset::EvolutionInstance,
            NamesOf::Documentation => channel::sqs::Preset::Native,
        })
    }

    fn of_all(&self) -> Option<channel::sqs::Config> {
        let mut config = self.config(match self.single_queue {
            true => channel::sqs::Preset::EvolutionSingle,
            false => channel::sqs::Preset::EvolutionGlobal,
        })?;
        config.prefix = Some(self.prefix.clone());
        Some(config)
    }

    fn check(&self, wrong: &mut Wrong) {
        let mut say = |key, problem: String| wrong.push((key, problem));
        if let Some(config) = self.of_all() {
            let keys = [
                "sqs.region",
                "sqs.endpoint",
                "sqs.access_key_id",
                "sqs.secret_access_key",
                "sqs.prefix",
            ];
            faults(Channel::Sqs(config), keys).into_iter().for_each(|(key, it)| say(key, it));
        }
        if self.endpoint.as_deref().is_some_and(|text| Url::parse(text.trim()).is_err()) {
            say("sqs.endpoint", "expected a URL such as http://localhost:4566".to_owned());
        }
        if self.global && self.enabled && self.region.is_none() {
            say("sqs.region", "is needed with sqs.global".to_owned());
        }
        say_names(&self.events, |problem| say("sqs.events", problem));
    }
}

impl Pusher {
    fn server(&self) -> Option<PusherServer> {
        let host = self.host.clone()?;
        Some(PusherServer { host, port: self.port })
    }

    fn of_all(&self) -> Option<channel::pusher::Config> {
        if !self.enabled {
            return None;
        }
        Some(channel::pusher::Config {
            app_id: self.app_id.clone()?,
            key: self.key.clone()?,
            secret: self.secret.as_ref().map(hidden)?,
            cluster: self.cluster.clone().filter(|_| self.host.is_none()),
            host: self.host.clone(),
            port: self.port,
            path: None,
            tls: Some(self.tls),
            channel: None,
            event: None,
            max_bytes: None,
            oversize: channel::pusher::Oversize::default(),
            timeout_s: None,
            connect_timeout_s: None,
            ca_pem: None,
        })
    }

    fn check(&self, wrong: &mut Wrong) {
        let mut say = |key, problem: String| wrong.push((key, problem));
        if let Some(config) = self.of_all() {
            let keys = [
                "pusher.app_id",
                "pusher.key",
                "pusher.secret",
                "pusher.cluster",
                "pusher.host",
                "pusher.port",
            ];
            faults(Channel::Pusher(config), keys).into_iter().for_each(|(key, it)| say(key, it));
        }
        if self.global && self.enabled {
            for (key, is_there) in [
                ("pusher.app_id", self.app_id.is_some()),
                ("pusher.key", self.key.is_some()),
                ("pusher.secret", self.secret.is_some()),
            ] {
                if !is_there {
                    say(key, "is needed with pusher.global".to_owned());
                }
            }
        }
        if self.port.is_some() && self.host.is_none() {
            say("pusher.port", "belongs to a server of your own; set pusher.host".to_owned());
        }
        say_names(&self.events, |problem| say("pusher.events", problem));
    }
}

/// What is wrong with any of them.
pub(super) fn check(rabbitmq: &Rabbitmq, sqs: &Sqs, pusher: &Pusher) -> Wrong {
    let mut wrong = Vec::new();
    rabbitmq.check(&mut wrong);
    sqs.check(&mut wrong);
    pusher.check(&mut wrong);
    wrong
}

/// How instances reach them.
pub(super) fn of_instances(rabbitmq: &Rabbitmq, sqs: &Sqs, pusher: &Pusher) -> Brokers {
    Brokers {
        rabbitmq: rabbitmq.of_instances().ok_or(NO_RABBITMQ),
        sqs: match sqs.global {
            true if sqs.enabled => Err(GLOBAL_SQS),
            _ => sqs.of_instances().ok_or(NO_SQS),
        },
        pusher: if pusher.enabled { Ok(pusher.server()) } else { Err(NO_PUSHER) },
    }
}

/// The channels of the default account that get the events of all instances, with the names they
/// want.
pub(super) fn of_all(rabbitmq: &Rabbitmq, sqs: &Sqs, pusher: &Pusher) -> Vec<(Channel, Names)> {
    let names = |list: &[String]| match list {
        // Without a name of an event the operator asks for none.
        [] => None,
        list => Names::parse(list).ok(),
    };
    let rabbitmq = rabbitmq.of_all().filter(|_| rabbitmq.global).zip(names(&rabbitmq.events));
    let sqs = sqs.of_all().filter(|_| sqs.global).zip(names(&sqs.events));
    let pusher = pusher.of_all().filter(|_| pusher.global).zip(names(&pusher.events));
    [
        rabbitmq.map(|(config, names)| (Channel::Rabbitmq(config), names)),
        sqs.map(|(config, names)| (Channel::Sqs(config), names)),
        pusher.map(|(config, names)| (Channel::Pusher(config), names)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn hidden(secret: &Secret) -> Hidden {
    secret.expose().into()
}

/// A name as it is, whatever braces are in it.
fn literal(name: &str) -> Option<Template> {
    name.replace('{', "{{").replace('}', "}}").parse().ok()
}

/// What the channel would not take, by the key of these that its place belongs to; the first of them
/// where there is none.
fn faults<const N: usize>(channel: Channel, keys: [&'static str; N]) -> Wrong {
    let found = channel.validate(&Guard::trusted()).err().unwrap_or_default();
    let key = |path: &str| {
        let own = |key: &&'static str| key.split_once('.').is_some_and(|(_, name)| name == path);
        keys.into_iter().find(own).or(keys.first().copied()).unwrap_or_default()
    };
    found.into_iter().map(|fault| (key(&fault.path), fault.message)).collect()
}

fn say_names(events: &[String], say: impl FnOnce(String)) {
    if !events.is_empty()
        && let Err(error) = Names::parse(events)
    {
        say(error.to_string());
    }
}

/// A broker's URI with nothing behind the question mark but what is understood: upstream drops all of
/// it.
fn cleaned(uri: &str, frame_max: Option<u32>) -> String {
    let Ok(mut url) = Url::parse(uri.trim()) else {
        return uri.to_owned();
    };
    let mut kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| matches!(&**name, "heartbeat" | "frame_max"))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    if let Some(bytes) = frame_max {
        kept.retain(|(name, _)| name != "frame_max");
        kept.push(("frame_max".to_owned(), bytes.to_string()));
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(kept);
    }
    url.into()
}

#[cfg(test)]
mod tests;
