//! What the operator may set about Evolution's API, and what its environment asks for.

mod brokers;

use serde::{Deserialize, Serialize};
use url::Url;
use zapbus_channel::{self as channel, signature};
use zapbus_event::dialect::evolution::Names;

pub use self::brokers::{NamesOf, Pusher, Rabbitmq, Sqs};
use crate::{
    brokers::Brokers,
    config::Secret,
    spec::{Preset, Retry},
};

/// `[evolution]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether the API of Evolution is served.
    pub enabled: bool,
    /// The operator's key, which means the default account.
    pub api_key: Option<Secret>,
    /// Whether bodies carry the instance's token as `apikey`, and lists of instances show it;
    /// unset: only the latter.
    pub expose_api_key: Option<bool>,
    /// The server's name, where bodies carry it.
    pub server_name: String,
    /// Whether `/metrics` shows Evolution's series of instances, with their names.
    pub metrics: bool,
    /// The webhook for all instances, and when webhooks are tried again.
    pub webhook: Webhook,
    /// Sockets.
    pub websocket: Websocket,
    /// The server's RabbitMQ.
    pub rabbitmq: Rabbitmq,
    /// The server's queues at Amazon SQS.
    pub sqs: Sqs,
    /// Pusher.
    pub pusher: Pusher,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            api_key: None,
            expose_api_key: None,
            server_name: "evolution".to_owned(),
            metrics: false,
            webhook: Webhook::default(),
            websocket: Websocket::default(),
            rabbitmq: Rabbitmq::default(),
            sqs: Sqs::default(),
            pusher: Pusher::default(),
        }
    }
}

/// `[evolution.webhook]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Whether every instance's events are posted to `url`.
    pub enabled: bool,
    /// Where to.
    pub url: Option<String>,
    /// The event's name is appended to the path.
    pub by_events: bool,
    /// Names of the events.
    pub events: Vec<String>,
    /// What signs the requests; unset: made, and kept.
    pub secret: Option<Secret>,
    /// Where failed requests to Evolution's API are told.
    pub errors_url: Option<String>,
    /// Milliseconds one attempt may take.
    pub timeout_ms: u64,
    /// Attempts in all.
    pub max_attempts: u32,
    /// Seconds before the second attempt.
    pub initial_delay_s: f64,
    /// Each wait is twice the one before it.
    pub exponential: bool,
    /// Seconds between attempts at most.
    pub max_delay_s: f64,
    /// The share by which a wait is stretched or shortened at most.
    pub jitter: f64,
    /// Answers after which an event is not tried again while others are taken.
    pub final_statuses: Vec<u16>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            enabled: false,
            url: None,
            by_events: false,
            events: Vec::new(),
            secret: None,
            errors_url: None,
            timeout_ms: 30_000,
            max_attempts: 10,
            initial_delay_s: 5.0,
            exponential: true,
            max_delay_s: 300.0,
            jitter: 0.2,
            final_statuses: vec![400, 401, 403, 404, 422],
        }
    }
}

/// `[evolution.websocket]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Websocket {
    /// Whether sockets are served.
    pub enabled: bool,
    /// Whether the events of all instances are offered together.
    pub global_events: bool,
    /// Addresses and networks that need no key.
    pub allow_anonymous_from: Vec<String>,
}

impl Default for Websocket {
    fn default() -> Self {
        Self { enabled: true, global_events: false, allow_anonymous_from: Vec::new() }
    }
}

impl Websocket {
    /// Whether whoever is on this machine needs no key.
    pub(crate) fn lets_neighbours_in(&self) -> bool {
        self.allow_anonymous_from.iter().any(|text| {
            let address = text.split('/').next().unwrap_or_default().parse::<std::net::IpAddr>();
            text == "*"
                || address.is_ok_and(|it| it.to_canonical().is_loopback() || it.is_unspecified())
        })
    }
}

impl Config {
    /// What is wrong with it, by key.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let key = self.api_key.as_ref().map(Secret::expose);
        let fits = |key: &str| {
            (1..=256).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !key.is_none_or(fits) {
            wrong.push(("api_key", "expected 1 to 256 visible ASCII characters".to_owned()));
        }
        if self.server_name.is_empty() || self.server_name.chars().any(char::is_control) {
            wrong.push(("server_name", "expected a name without control characters".to_owned()));
        }
        self.webhook.check(&mut wrong);
        for text in &self.websocket.allow_anonymous_from {
            let is_network = text.parse::<ipnet::IpNet>().is_ok();
            if text != "*" && !is_network && text.parse::<std::net::IpAddr>().is_err() {
                let problem =
                    format!("found {text:?}, expected networks or addresses such as 10.0.0.0/8");
                wrong.push(("websocket.allow_anonymous_from", problem));
            }
        }
        wrong.extend(brokers::check(&self.rabbitmq, &self.sqs, &self.pusher));
        wrong
    }

    /// How instances reach the server's brokers.
    pub fn brokers(&self) -> Brokers {
        brokers::of_instances(&self.rabbitmq, &self.sqs, &self.pusher)
    }

    /// The brokers that get the events of all instances, with the names that each wants.
    pub(crate) fn global_brokers(&self) -> Vec<(channel::Config, Names)> {
        brokers::of_all(&self.rabbitmq, &self.sqs, &self.pusher)
    }
}

impl Webhook {
    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        for (key, url) in [("webhook.url", &self.url), ("webhook.errors_url", &self.errors_url)] {
            if url.as_deref().is_some_and(|url| read_url(url).is_none()) {
                // The rest of it may be a secret.
                wrong.push((key, "expected an absolute http or https URL".to_owned()));
            }
        }
        if self.enabled && self.url.is_none() {
            wrong.push(("webhook.url", "is needed with webhook.enabled".to_owned()));
        }
        if !self.events.is_empty()
            && let Err(error) = Names::parse(&self.events)
        {
            wrong.push(("webhook.events", error.to_string()));
        }
        if let Some(secret) = &self.secret
            && let Err(error) = secret.expose().parse::<signature::Secret>()
        {
            wrong.push(("webhook.secret", error.to_string()));
        }
        let mut range = |key, fits: bool, expected: &str| {
            if !fits {
                wrong.push((key, format!("expected {expected}")));
            }
        };
        let seconds = 0.0..=86_400.0;
        range("webhook.timeout_ms", (100..=600_000).contains(&self.timeout_ms), "100 to 600000");
        range("webhook.max_attempts", (1..=50).contains(&self.max_attempts), "1 to 50");
        range("webhook.initial_delay_s", seconds.contains(&self.initial_delay_s), "0 to 86400");
        range("webhook.max_delay_s", seconds.contains(&self.max_delay_s), "0 to 86400");
        range("webhook.jitter", (0.0..=1.0).contains(&self.jitter), "0 to 1");
        let are_statuses = self.final_statuses.iter().all(|status| (300..=599).contains(status));
        range("webhook.final_statuses", are_statuses, "answers from 300 to 599");
    }

    /// Where to, if the environment asks for it at all: without a name of an event it does not.
    pub(crate) fn target(&self) -> Option<(Url, Names)> {
        if !self.enabled || self.events.is_empty() {
            return None;
        }
        Some((read_url(self.url.as_deref()?)?, Names::parse(&self.events).ok()?))
    }

    /// The URL as the operator writes it.
    pub(crate) fn written_url(&self) -> Option<&str> {
        self.url.as_deref().map(str::trim)
    }

    /// What signs the requests, if the operator says.
    pub(crate) fn secret(&self) -> Option<signature::Secret> {
        self.secret.as_ref()?.expose().parse().ok()
    }

    /// Where failed requests are told.
    pub(crate) fn errors_target(&self) -> Option<Url> {
        read_url(self.errors_url.as_deref()?)
    }

    /// When a webhook with Evolution's preset is tried again.
    pub(crate) fn retry(&self) -> Retry {
        let waits = (1..self.max_attempts.max(2)).scan(self.initial_delay_s, |next, _| {
            let wait = *next;
            if self.exponential {
                *next = (wait * 2.0).min(self.max_delay_s);
            }
            Some(wait)
        });
        Retry {
            preset: Preset::Evolution,
            waits_s: Some(waits.collect()),
            max_attempts: Some(self.max_attempts),
            timeout_s: Some(std::time::Duration::from_millis(self.timeout_ms).as_secs_f64()),
            jitter: Some(if self.exponential { self.jitter } else { 0.0 }),
            final_statuses: Some(self.final_statuses.clone()),
        }
    }
}

/// An absolute http or https URL.
fn read_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_that_of_the_variables() {
        let waits = |webhook: &Webhook| webhook.retry().waits_s.unwrap();
        let default = Webhook::default();
        assert_eq!(waits(&default), [5., 10., 20., 40., 80., 160., 300., 300., 300.]);
        let retry = default.retry();
        assert_eq!((retry.timeout_s, retry.jitter), (Some(30.0), Some(0.2)));
        let constant = Webhook { exponential: false, max_attempts: 3, ..default.clone() };
        assert_eq!(waits(&constant), [5., 5.]);
        assert_eq!(constant.retry().jitter, Some(0.0));
        let once = Webhook { max_attempts: 1, ..default };
        assert_eq!(once.retry().max_attempts, Some(1));
    }

    #[test]
    fn what_is_wrong_is_found_and_not_repeated_where_it_may_be_a_secret() {
        let wrong = Config {
            webhook: Webhook {
                enabled: true,
                url: Some("ftp://hunter2@example.com".to_owned()),
                events: vec!["MESSAGES_UPSERT".to_owned(), "NOPE".to_owned()],
                jitter: f64::NAN,
                timeout_ms: 0,
                final_statuses: vec![200],
                secret: Some(Secret::new("hunter2")),
                ..Webhook::default()
            },
            websocket: Websocket {
                allow_anonymous_from: vec!["10.0.0.0/8".to_owned(), "here".to_owned()],
                ..Websocket::default()
            },
            server_name: String::new(),
            ..Config::default()
        };
        let said = wrong.check();
        let keys: Vec<_> = said.iter().map(|(key, _)| *key).collect();
        assert_eq!(
            keys,
            [
                "server_name",
                "webhook.url",
                "webhook.events",
                "webhook.secret",
                "webhook.timeout_ms",
                "webhook.jitter",
                "webhook.final_statuses",
                "websocket.allow_anonymous_from",
            ]
        );
        assert!(!format!("{said:?}").contains("hunter2"));
        assert!(Config::default().check().is_empty());
    }

    #[test]
    fn without_a_url_or_an_event_nothing_is_posted() {
        let mut webhook = Webhook { enabled: true, ..Webhook::default() };
        webhook.events = vec!["CALL".to_owned()];
        assert!(webhook.target().is_none());
        webhook.url = Some("https://example.com/hook".to_owned());
        assert!(webhook.target().is_some());
        webhook.events.clear();
        assert!(webhook.target().is_none());
    }
}
