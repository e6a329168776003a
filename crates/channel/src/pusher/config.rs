//! What a Pusher destination can be told, and what is wrong with what it is told.

use std::time::Duration;

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

use crate::{Fault, Hidden, egress::Guard, fields::Connecting, template::Template};

/// How long connecting may take when the config does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What Pusher takes as the data of one event, in bytes.
const MAX_BYTES: usize = 10 * 1024;
/// What an operator of a server of their own may set.
const MAX_BYTES_RANGE: std::ops::RangeInclusive<usize> = 1024..=4 << 20;

/// Which app to trigger events in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PusherConfig)]
pub struct Config {
    /// The app's id.
    #[schema(examples("1234567"))]
    pub app_id: String,
    /// The app's key.
    pub key: String,
    /// The app's secret. Signs each request, and is not sent.
    #[schema(value_type = String, format = Password)]
    pub secret: Hidden,
    /// The cluster the app lives in, at Pusher: `mt1`, `eu`, `sa1` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(examples("sa1"))]
    pub cluster: Option<String>,
    /// The host of a server of one's own that speaks the same protocol, instead of `cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its port: 443, or 80 without TLS, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// What stands before `/apps` in its paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether to use TLS: `true` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(default = true)]
    pub tls: Option<bool>,
    /// The channel; may hold `{instance}`, `{event}` and `{event_words}`: `{instance}` when left
    /// out. What Pusher allows in no name becomes `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, default = "{instance}")]
    pub channel: Option<Template>,
    /// The name of the event, with the same placeholders: `{event}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, default = "{event}")]
    pub event: Option<Template>,
    /// The most that the data of one event may take: 1024 to 4194304 bytes, by default 10240.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1024, maximum = 4194304, default = 10240)]
    pub max_bytes: Option<usize>,
    /// What becomes of an event that is larger.
    #[serde(default, skip_serializing_if = "Oversize::is_default")]
    pub oversize: Oversize,
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

/// What becomes of an event that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = PusherOversize)]
pub enum Oversize {
    /// A small event goes in its place, with its id and the URL to fetch it.
    #[default]
    Pointer,
    /// It is dead, with the reason in the log.
    Refuse,
}

impl Oversize {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Config {
    /// The host to connect to.
    fn host_name(&self) -> Result<String, Fault> {
        match (&self.cluster, &self.host) {
            (Some(cluster), None) => {
                let fits = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
                if cluster.is_empty() || cluster.len() > 32 || !cluster.bytes().all(fits) {
                    return Err(Fault::new("cluster", "expected a name such as mt1, eu or sa1"));
                }
                Ok(format!("api-{cluster}.pusher.com"))
            }
            (None, Some(host)) => Ok(host.clone()),
            (Some(_), Some(_)) => Err(Fault::new("host", "is also set as `cluster`; keep one")),
            (None, None) => Err(Fault::new(
                "cluster",
                "is missing; set it to the app's cluster, or `host` to a server of your own",
            )),
        }
    }

    /// Where requests go: scheme, host and port.
    pub(super) fn url(&self) -> Result<Url, Fault> {
        let name = self.host_name()?;
        let unfit = || Fault::new("host", "expected a host name or an address, without a scheme");
        let host = Host::parse(&name).map_err(|_| unfit())?;
        let (scheme, default) =
            if self.tls.unwrap_or(true) { ("https", 443) } else { ("http", 80) };
        let port = self.port.unwrap_or(default);
        Url::parse(&format!("{scheme}://{host}:{port}/")).map_err(|_| unfit())
    }

    /// The path of the app.
    pub(super) fn app_path(&self) -> Result<String, Fault> {
        if self.app_id.is_empty()
            || !self.app_id.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it))
        {
            return Err(Fault::new("app_id", "expected the app's id: letters, digits, - and _"));
        }
        let before = self.path.as_deref().unwrap_or_default();
        let path = format!("{}/apps/{}", before.trim_end_matches('/'), self.app_id);
        let is_path = before.is_empty() || before.starts_with('/');
        if !is_path || before.contains(['?', '#']) || PathAndQuery::try_from(&path).is_err() {
            return Err(Fault::new("path", "expected a path such as /pusher"));
        }
        Ok(path)
    }

    pub(super) fn names(&self) -> (Template, Template) {
        // These texts are templates; a test reads them.
        let or = |given: &Option<Template>, text: &str| {
            given.clone().or_else(|| text.parse().ok()).unwrap_or_default()
        };
        (or(&self.channel, "{instance}"), or(&self.event, "{event}"))
    }

    pub(super) fn limit(&self) -> usize {
        self.max_bytes.unwrap_or(MAX_BYTES)
    }

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

    /// Everything that is wrong but what the guard refuses.
    pub(super) fn form_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(self.app_path().err());
        let fits = |letter: u8| letter.is_ascii_alphanumeric() || b"-_".contains(&letter);
        if self.key.is_empty() || !self.key.bytes().all(fits) {
            faults.push(Fault::new("key", "expected the app's key: letters, digits, - and _"));
        }
        faults.extend(self.secret.fault("secret", "the app's secret"));
        faults.extend(self.url().err());
        if self.host.is_none() {
            for (path, given) in [("port", self.port.is_some()), ("path", self.path.is_some())] {
                if given {
                    faults.push(Fault::new(path, "belongs to a server of your own; set `host`"));
                }
            }
        }
        if self.port == Some(0) {
            faults.push(Fault::new("port", "expected 1 to 65535"));
        }
        for (path, template) in [("channel", &self.channel), ("event", &self.event)] {
            if template.as_ref().is_some_and(Template::is_empty) {
                faults.push(Fault::new(path, "is empty; leave it out for the usual name"));
            }
        }
        if self.max_bytes.is_some_and(|bytes| !MAX_BYTES_RANGE.contains(&bytes)) {
            let (least, most) = (MAX_BYTES_RANGE.start(), MAX_BYTES_RANGE.end());
            faults.push(Fault::new("max_bytes", format!("expected {least} to {most}")));
        }
        faults.extend(self.connecting().faults());
        faults
    }

    /// Everything that is wrong.
    pub(crate) fn faults(&self, guard: &Guard) -> Vec<Fault> {
        let mut faults = self.form_faults();
        if let Ok(url) = self.url()
            && let Err(refusal) = guard.check_literal(&url)
        {
            faults.push(Fault::new("host", refusal.to_string()));
        }
        faults
    }

    /// For showing: no secret is in it.
    pub fn masked(&self) -> Self {
        Self { secret: Hidden::mask(), ..self.clone() }
    }

    /// Takes from `stored` what stands here as [`MASK`].
    pub fn with_kept_secrets(mut self, stored: &Self) -> Self {
        self.secret.keep(Some(&stored.secret));
        self
    }

    /// Whether somebody else may read what is sent when this config takes the place of `stored`.
    pub(crate) fn is_elsewhere(&self, stored: &Self) -> bool {
        self.url().ok() != stored.url().ok()
            || self.connecting().trusts_others_than(&stored.connecting())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::egress::Allow;

    fn read(more: serde_json::Value) -> Config {
        let mut value = json!({"app_id": "1234", "key": "key1", "secret": "hunter2"});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        crate::fault::read(value).unwrap()
    }

    #[test]
    fn the_host_follows_from_what_is_given() {
        let table = [
            (json!({"cluster": "sa1"}), "https://api-sa1.pusher.com/", "/apps/1234"),
            (json!({"host": "ws.example.com"}), "https://ws.example.com/", "/apps/1234"),
            (json!({"host": "::1", "port": 6001, "tls": false}), "host", ""),
            (
                json!({"host": "[::1]", "port": 6001, "tls": false, "path": "/p/"}),
                "http://[::1]:6001/",
                "/p/apps/1234",
            ),
        ];
        for (more, url, path) in table {
            let config = read(more);
            match config.url() {
                Ok(found) => {
                    assert_eq!(found.as_str(), url);
                    assert_eq!(config.app_path().unwrap(), path);
                    assert_eq!(config.form_faults(), []);
                }
                Err(fault) => assert_eq!(fault.path, url),
            }
        }
        let (channel, event) = read(json!({"cluster": "eu"})).names();
        assert_eq!((channel.as_str(), event.as_str()), ("{instance}", "{event}"));
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let config = read(json!({
            "app_id": "a/b", "key": "k&", "secret": "***", "cluster": "e u", "port": 0,
            "path": "p", "channel": "", "max_bytes": 7, "timeout_s": 0, "ca_pem": "no",
        }));
        let paths: Vec<String> = config.form_faults().into_iter().map(|fault| fault.path).collect();
        let expected = [
            "app_id",
            "key",
            "secret",
            "cluster",
            "port",
            "path",
            "port",
            "channel",
            "max_bytes",
            "timeout_s",
            "ca_pem",
        ];
        assert_eq!(paths, expected);
        for (more, path) in [
            (json!({}), "cluster"),
            (json!({"cluster": "eu", "host": "h"}), "host"),
            (json!({"host": "https://h"}), "host"),
            (json!({"host": "h", "path": "p"}), "path"),
        ] {
            assert_eq!(read(more).form_faults()[0].path, path);
        }
        let inside = read(json!({"host": "10.0.0.5"}));
        let faults = inside.faults(&Guard::new(Allow::default()));
        assert!(faults[0].message.ends_with("ZAPBUS_EGRESS_ALLOW=10.0.0.5/32"));
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_can_be_sent_back() {
        let stored = read(json!({"cluster": "eu"}));
        let shown = stored.masked();
        assert!(!serde_json::to_string(&shown).unwrap().contains("hunter2"));
        assert!(!shown.is_elsewhere(&stored));
        assert_eq!(shown.with_kept_secrets(&stored), stored);
        assert!(read(json!({"cluster": "sa1"})).is_elsewhere(&stored));
    }
}
