//! What an SQS destination can be told, and what is wrong with what it is told.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;
use utoipa::ToSchema;

use crate::{
    Fault, Hidden, Message,
    egress::Guard,
    fields::{Connecting, is_true, yes},
    template::{Template, fitted},
};

/// How long connecting may take when the config does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most that the name of a queue takes, `.fifo` included.
const NAME_LIMIT: usize = 80;
/// What the name of a FIFO queue ends with.
pub(super) const FIFO: &str = ".fifo";

/// Which queues to send to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SqsConfig)]
pub struct Config {
    /// The region, which is signed also where `endpoint` is set.
    #[schema(examples("sa-east-1"))]
    pub region: String,
    /// Where the service is, for a service that speaks the same protocol or a VPC endpoint. AWS's
    /// own address in the region when left out.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "url")]
    #[schema(value_type = Option<String>, format = "uri")]
    pub endpoint: Option<Url>,
    /// The id of the access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// The access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub secret_access_key: Option<Hidden>,
    /// The token of temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub session_token: Option<Hidden>,
    /// The names to start from; what else is given here wins.
    #[serde(default, skip_serializing_if = "Preset::is_default")]
    pub preset: Preset,
    /// The name of the queue; may hold `{instance}`, `{event}` and `{event_words}`:
    /// `{instance}-{event}` when left out. What SQS allows in no name becomes `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub queue: Option<Template>,
    /// Whether it is a FIFO queue: `.fifo` is put behind its name. What a chat brings is one message
    /// group, and the event id is the deduplication id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifo: Option<bool>,
    /// What the names of Evolution API's global queues begin with: `global` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Whether to create queues that are not there.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    #[schema(default = true)]
    pub create: bool,
    /// Seconds that one whole exchange may take, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 120, default = 15)]
    pub timeout_s: Option<f64>,
    /// Seconds that connecting may take, TLS included: 0.05 to 60, by default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 60, default = 5)]
    pub connect_timeout_s: Option<f64>,
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

/// Names to start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SqsPreset)]
pub enum Preset {
    /// Standard queues called `{instance}-{event}`.
    #[default]
    Native,
    /// Evolution API, per instance: FIFO queues called `{instance}_{event_words}.fifo`.
    EvolutionInstance,
    /// Evolution API, globally: FIFO queues called `<prefix>_{event_words}.fifo`.
    EvolutionGlobal,
    /// Evolution API, globally and forced into one queue: `<prefix>_singlequeue.fifo`.
    EvolutionSingle,
}

impl Preset {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn is_global(self) -> bool {
        matches!(self, Self::EvolutionGlobal | Self::EvolutionSingle)
    }

    /// Whether its queues are FIFO queues.
    fn is_fifo(self) -> bool {
        self != Self::Native
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let text = Option::<std::borrow::Cow<str>>::deserialize(deserializer)?;
    let read = |text: std::borrow::Cow<str>| {
        Url::parse(&text).map_err(|error| {
            de::Error::custom(format!("{error}; expected a URL such as http://localhost:4566"))
        })
    };
    text.map(read).transpose()
}

/// The names of queues.
#[derive(Debug, Clone)]
pub(super) struct Names {
    template: Template,
    pub(super) fifo: bool,
}

impl Names {
    /// The queue of a message.
    pub(super) fn queue(&self, message: &Message) -> String {
        let name = self.template.render(message);
        let name = name.strip_suffix(FIFO).unwrap_or(&name);
        let fits = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        if self.fifo {
            format!("{}{FIFO}", fitted(name, fits, NAME_LIMIT - FIFO.len()))
        } else {
            fitted(name, fits, NAME_LIMIT)
        }
    }
}

impl Config {
    /// How it connects.
    pub(super) fn connecting(&self) -> Connecting<'_> {
        Connecting {
            timeout_s: self.timeout_s,
            connect_timeout_s: self.connect_timeout_s,
            usual: CONNECT_TIMEOUT,
            client_certificate: None,
            ca_pem: self.ca_pem.as_deref(),
        }
    }

    pub(super) fn names(&self) -> Names {
        let prefix = self.prefix.as_deref().unwrap_or("global");
        let prefix = prefix.replace('{', "{{").replace('}', "}}");
        let text = match self.preset {
            Preset::Native => "{instance}-{event}".to_owned(),
            Preset::EvolutionInstance => "{instance}_{event_words}".to_owned(),
            Preset::EvolutionGlobal => format!("{prefix}_{{event_words}}"),
            Preset::EvolutionSingle => format!("{prefix}_singlequeue"),
        };
        let template = self.queue.clone().or_else(|| text.parse().ok()).unwrap_or_default();
        let says_fifo = template.as_str().ends_with(FIFO);
        Names { fifo: self.fifo.unwrap_or(says_fifo || self.preset.is_fifo()), template }
    }

    /// Everything that is wrong but what the guard refuses.
    pub(super) fn form_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let fits = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        if self.region.is_empty() || self.region.len() > 64 || !self.region.bytes().all(fits) {
            faults.push(Fault::new("region", "expected a region such as sa-east-1"));
        }
        if let Some(endpoint) = &self.endpoint
            && (!matches!(endpoint.scheme(), "http" | "https")
                || !endpoint.username().is_empty()
                || endpoint.password().is_some()
                || endpoint.fragment().is_some()
                || endpoint.query().is_some())
        {
            faults.push(Fault::new("endpoint", "expected a URL such as http://localhost:4566"));
        }
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(_)) if id.is_empty() => {
                faults.push(Fault::new("access_key_id", "is empty"));
            }
            (Some(_), None) => {
                faults.push(Fault::new("secret_access_key", "is missing beside `access_key_id`"))
            }
            (None, Some(_)) => {
                faults.push(Fault::new("access_key_id", "is missing beside `secret_access_key`"))
            }
            (None, None) if self.session_token.is_some() => faults.push(Fault::new(
                "session_token",
                "belongs to an `access_key_id` and a `secret_access_key`",
            )),
            _ => {}
        }
        for (path, secret) in
            [("secret_access_key", &self.secret_access_key), ("session_token", &self.session_token)]
        {
            faults
                .extend(secret.as_ref().and_then(|secret| secret.fault(path, "it as AWS gave it")));
        }
        if let Some(queue) = &self.queue {
            if queue.is_empty() {
                faults.push(Fault::new("queue", "is empty; leave it out for the usual name"));
            } else if queue.as_str().ends_with(FIFO) && self.fifo == Some(false) {
                faults.push(Fault::new(
                    "fifo",
                    "is false, but the name of the queue ends with .fifo",
                ));
            }
        }
        if self.prefix.is_some() && (!self.preset.is_global() || self.queue.is_some()) {
            faults.push(Fault::new(
                "prefix",
                "belongs to the presets evolution_global and evolution_single, without `queue`",
            ));
        }
        faults.extend(self.connecting().faults());
        faults
    }

    /// Everything that is wrong.
    pub(crate) fn faults(&self, guard: &Guard) -> Vec<Fault> {
        let mut faults = self.form_faults();
        faults.extend(self.credentials_fault(guard));
        if let Some(endpoint) = &self.endpoint
            && let Err(refusal) = guard.check_literal(endpoint)
        {
            faults.push(Fault::new("endpoint", refusal.to_string()));
        }
        faults
    }

    /// Only the operator's own destinations use what this machine is allowed to do.
    pub(super) fn credentials_fault(&self, guard: &Guard) -> Option<Fault> {
        let missing = self.access_key_id.is_none() && self.secret_access_key.is_none();
        (missing && !guard.is_trusted()).then(|| {
            Fault::new(
                "access_key_id",
                "is missing: the credentials of the machine itself are only for destinations that \
                 its operator configures; give `access_key_id` and `secret_access_key`",
            )
        })
    }

    /// For showing: no secret is in it.
    pub fn masked(&self) -> Self {
        let mask = |secret: &Option<Hidden>| secret.as_ref().map(|_| Hidden::mask());
        Self {
            secret_access_key: mask(&self.secret_access_key),
            session_token: mask(&self.session_token),
            ..self.clone()
        }
    }

    /// Takes from `stored` what stands here as [`MASK`].
    pub fn with_kept_secrets(mut self, stored: &Self) -> Self {
        for (secret, stored) in [
            (&mut self.secret_access_key, &stored.secret_access_key),
            (&mut self.session_token, &stored.session_token),
        ] {
            if let Some(secret) = secret {
                secret.keep(stored.as_ref());
            }
        }
        self
    }

    /// Whether somebody else may read what is sent when this config takes the place of `stored`.
    pub(crate) fn is_elsewhere(&self, stored: &Self) -> bool {
        let origin = |config: &Self| config.endpoint.as_ref().map(Url::origin);
        origin(self) != origin(stored)
            || self.region != stored.region
            || self.connecting().trusts_others_than(&stored.connecting())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{egress::Allow, tests::message};

    fn read(more: serde_json::Value) -> Config {
        let mut value = json!({
            "region": "sa-east-1", "access_key_id": "AKIA", "secret_access_key": "hunter2",
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        crate::fault::read(value).unwrap()
    }

    #[test]
    fn queues_have_the_names_of_the_contract() {
        let table = [
            (json!({}), "shop-group-participants_update", false),
            (json!({"fifo": true}), "shop-group-participants_update.fifo", true),
            (json!({"queue": "{event}.fifo"}), "group-participants_update.fifo", true),
            (json!({"preset": "evolution_instance"}), "shop_group_participants_update.fifo", true),
            (json!({"preset": "evolution_global"}), "global_group_participants_update.fifo", true),
            (
                json!({"preset": "evolution_global", "prefix": "{acme}"}),
                "_acme__group_participants_update.fifo",
                true,
            ),
            (
                json!({"preset": "evolution_single", "prefix": "acme"}),
                "acme_singlequeue.fifo",
                true,
            ),
            (
                json!({"preset": "evolution_instance", "fifo": false}),
                "shop_group_participants_update",
                false,
            ),
        ];
        let mut message = message("shop");
        message.event_name = "group-participants.update".to_owned();
        for (more, queue, fifo) in table {
            let config = read(more.clone());
            assert_eq!(config.form_faults(), [], "{more}");
            let names = config.names();
            assert_eq!((names.queue(&message).as_str(), names.fifo), (queue, fifo), "{more}");
        }
        message.instance_name = "x".repeat(100).into();
        assert_eq!(read(json!({})).names().queue(&message).len(), 80);
        let fifo = read(json!({"fifo": true})).names().queue(&message);
        assert!(fifo.len() == 80 && fifo.ends_with(".fifo"), "{fifo}");
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let guard = Guard::new(Allow::default());
        let config = read(json!({
            "region": "", "endpoint": "ftp://10.0.0.5", "secret_access_key": "***", "queue": "a.fifo",
            "fifo": false, "prefix": "p", "timeout_s": 0, "ca_pem": "no",
        }));
        let paths: Vec<String> = config.faults(&guard).into_iter().map(|it| it.path).collect();
        let expected = [
            "region",
            "endpoint",
            "secret_access_key",
            "fifo",
            "prefix",
            "timeout_s",
            "ca_pem",
            "endpoint",
        ];
        assert_eq!(paths, expected);
        for (more, path) in [
            (json!({"secret_access_key": null}), "secret_access_key"),
            (json!({"access_key_id": null}), "access_key_id"),
            (json!({"access_key_id": null, "secret_access_key": null}), "access_key_id"),
            (json!({"endpoint": "http://10.0.0.5"}), "endpoint"),
        ] {
            assert_eq!(read(more.clone()).faults(&guard)[0].path, path, "{more}");
        }
        // What the operator configures uses what the machine may do.
        let own = read(json!({"access_key_id": null, "secret_access_key": null}));
        assert_eq!(own.faults(&Guard::trusted()), []);
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_can_be_sent_back() {
        let stored = read(json!({"session_token": "hunter2"}));
        let shown = stored.masked();
        assert!(!serde_json::to_string(&shown).unwrap().contains("hunter2"));
        assert!(!shown.is_elsewhere(&stored));
        assert_eq!(shown.with_kept_secrets(&stored), stored);
        assert!(read(json!({"endpoint": "http://other"})).is_elsewhere(&stored));
    }
}
