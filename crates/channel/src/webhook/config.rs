//! What a webhook can be told, and what is wrong with what it is told.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue, header};
use serde::{Deserialize, Deserializer, Serialize, de};
use url::Url;
use utoipa::ToSchema;
use zapbus_event::Timestamp;

use crate::{
    Fault, Hidden, MASK,
    egress::Guard,
    fields::{ClientCertificate, Connecting, is_false},
    pool::Proxy,
    signature::Secret,
};

/// Where and how to post.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookConfig)]
pub struct Config {
    /// Where to post: `http` or `https`, without user and password.
    #[schema(value_type = String, format = "uri", examples("https://example.com/hook"))]
    #[serde(deserialize_with = "url")]
    pub url: Url,
    /// Headers to add. Not: those that HTTP itself needs, `webhook-*` and `zapbus-*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub headers: BTreeMap<String, Hidden>,
    /// Signs each request (Standard Webhooks 1.0.0): `whsec_` and the base64 form of 24 to 64
    /// bytes. Made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub secret: Option<Secret>,
    /// Secrets that sign beside `secret` until they expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous_secrets: Vec<PreviousSecret>,
    /// The value of `authorization`, sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub authorization: Option<Hidden>,
    /// Signs a JSON Web Token for each attempt and sends it as `authorization`, as Evolution API does:
    /// HS256, with the claims `iat`, `exp` (ten minutes later), `app` and `action`. Goes before a
    /// header `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub jwt_key: Option<Hidden>,
    /// Appends the event's name to the path of the URL.
    #[serde(default, skip_serializing_if = "is_false")]
    #[schema(default = false)]
    pub by_events: bool,
    /// Seconds that one whole exchange may take, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 120, default = 15)]
    pub timeout_s: Option<f64>,
    /// Seconds that connecting may take, TLS included: 0.05 to 60, by default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.05, maximum = 60, default = 5)]
    pub connect_timeout_s: Option<f64>,
    /// When to speak HTTP/2.
    #[serde(default, skip_serializing_if = "Http2::is_default")]
    pub http2: Http2,
    /// Shown to a receiver that asks for one (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// A proxy to go through: `http://user:password@host:port` or `socks5://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub proxy: Option<Hidden>,
}

/// A signing secret on its way out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviousSecret {
    /// As it was.
    #[schema(value_type = String, format = Password)]
    pub secret: Secret,
    /// From when on it signs no more.
    #[schema(value_type = String, format = "date-time")]
    pub expires_at: Timestamp,
}

/// When to speak HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http2 {
    /// When the receiver chooses it in the TLS handshake (ALPN).
    #[default]
    Auto,
    /// Always, also without TLS (h2c).
    PriorKnowledge,
    /// Never.
    Never,
}

impl Http2 {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    Url::parse(&text).map_err(|error| {
        de::Error::custom(format!("{error}; expected a URL such as https://example.com/hook"))
    })
}

/// How long connecting may take when the config does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Secrets that sign beside the newest one; each makes every request longer.
const PREVIOUS_LIMIT: usize = 4;

const HEADER_LIMIT: usize = 50;
const HEADER_VALUE_LIMIT: usize = 8 * 1024;

/// Headers that belong to HTTP or to us.
const RESERVED: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "http2-settings",
];

/// Beginnings of the names of headers that are ours.
const RESERVED_BEGINNINGS: [&str; 2] = ["webhook-", "zapbus-"];

/// What the name of a header has in it whose value is a secret: `authorization`, `apikey`,
/// `token`, `cookie`, `proxy-authorization` and whatever is called like them.
const SECRET_WORDS: [&str; 6] = ["secret", "token", "key", "auth", "password", "cookie"];

/// Whether the value of a header must not be shown; `name` in lower case.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// Names and values are checked by [`Config::faults`]; what does not fit is left out here.
pub(super) fn custom_headers(
    headers: &BTreeMap<String, Hidden>,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    headers.iter().filter_map(|(name, value)| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        let mut value = HeaderValue::try_from(value.expose()).ok()?;
        value.set_sensitive(is_secret(name.as_str()));
        Some((name, value))
    })
}

impl Config {
    /// Just a URL, everything else as it is by default.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: BTreeMap::new(),
            secret: None,
            previous_secrets: Vec::new(),
            authorization: None,
            jwt_key: None,
            by_events: false,
            timeout_s: None,
            connect_timeout_s: None,
            http2: Http2::default(),
            client_certificate: None,
            ca_pem: None,
            proxy: None,
        }
    }

    /// Whether somebody else may read what is sent when this config takes the place of `stored`.
    pub(crate) fn is_elsewhere(&self, stored: &Self) -> bool {
        let masked = stored.masked().proxy;
        let same_proxy = [&stored.proxy, &masked].contains(&&self.proxy);
        stored.url.origin() != self.url.origin()
            || (self.proxy.is_some() && !same_proxy)
            || self.connecting().trusts_others_than(&stored.connecting())
    }

    /// Makes a signing secret if there is none.
    pub fn with_defaults(mut self) -> Self {
        self.secret.get_or_insert_with(Secret::generate);
        self
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

    /// The proxy, read.
    pub(super) fn proxy(&self) -> Result<Option<Proxy>, Fault> {
        self.proxy
            .as_ref()
            .map(|proxy| proxy.expose().parse().map_err(|error| fault("proxy", &error)))
            .transpose()
    }

    /// Everything that is wrong but what the guard refuses.
    pub(super) fn form_faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !matches!(self.url.scheme(), "http" | "https") {
            faults.push(Fault::new(
                "url",
                format!("has the scheme `{}`; expected http or https", self.url.scheme()),
            ));
        }
        if !self.url.username().is_empty() || self.url.password().is_some() {
            faults.push(Fault::new(
                "url",
                "holds a user or password; put them into `authorization`, for example \
                 `Basic <base64 of user:password>`",
            ));
        }
        self.header_faults(&mut faults);
        if self.previous_secrets.len() > PREVIOUS_LIMIT {
            faults.push(Fault::new(
                "previous_secrets",
                format!("holds more than {PREVIOUS_LIMIT}; leave out those that have expired"),
            ));
        }
        if let Some(authorization) = &self.authorization {
            check_value("authorization".to_owned(), authorization, &mut faults);
        }
        if let Some(key) = &self.jwt_key {
            jwt_key_faults(key, self.authorization.is_some(), &mut faults);
        }
        faults.extend(self.connecting().faults());
        faults.extend(self.proxy().err());
        faults
    }

    /// Everything that is wrong.
    pub(crate) fn faults(&self, guard: &Guard) -> Vec<Fault> {
        let mut faults = self.form_faults();
        if let Err(refusal) = guard.check_literal(&self.url) {
            faults.push(fault("url", &refusal));
        }
        if let Ok(Some(proxy)) = self.proxy()
            && let Err(refusal) = guard.check_literal(proxy.url())
        {
            faults.push(fault("proxy", &refusal));
        }
        faults
    }

    fn header_faults(&self, faults: &mut Vec<Fault>) {
        if self.headers.len() > HEADER_LIMIT {
            faults.push(Fault::new("headers", format!("holds more than {HEADER_LIMIT} headers")));
        }
        let mut seen = std::collections::HashSet::new();
        for (text, value) in &self.headers {
            let path = || format!("headers.{text}");
            let Ok(name) = HeaderName::try_from(text.as_str()) else {
                faults.push(Fault::new(path(), "is not a header name; use letters, digits and -"));
                continue;
            };
            let ours = RESERVED_BEGINNINGS.iter().any(|start| name.as_str().starts_with(start));
            if ours || RESERVED.contains(&name.as_str()) {
                faults.push(Fault::new(path(), "is set by the gateway itself; leave it out"));
            }
            if name == header::AUTHORIZATION && self.authorization.is_some() {
                faults.push(Fault::new(path(), "is also set as `authorization`; keep one of them"));
            }
            if !seen.insert(name) {
                faults.push(Fault::new(path(), "is there twice, in upper and lower case"));
            }
            check_value(path(), value, faults);
        }
    }

    /// For showing: no secret is in it.
    pub fn masked(&self) -> Self {
        let mut shown = self.clone();
        shown.secret = None;
        shown.previous_secrets.clear();
        shown.authorization = self.authorization.as_ref().map(|_| Hidden::mask());
        shown.jwt_key = self.jwt_key.as_ref().map(|_| Hidden::mask());
        for (name, value) in &mut shown.headers {
            if is_secret(&name.to_ascii_lowercase()) {
                *value = Hidden::mask();
            }
        }
        shown.client_certificate = self.client_certificate.as_ref().map(ClientCertificate::masked);
        shown.proxy = self.proxy.as_ref().map(|proxy| match proxy.expose().parse::<Proxy>() {
            Ok(proxy) => proxy.masked().into(),
            Err(_) => Hidden::mask(),
        });
        shown
    }

    /// Takes from `stored` what stands here as [`MASK`], and the signing secrets if there is
    /// none here.
    pub fn with_kept_secrets(mut self, stored: &Self) -> Self {
        if self.secret.is_none() {
            self.secret.clone_from(&stored.secret);
            self.previous_secrets.clone_from(&stored.previous_secrets);
        }
        if let Some(text) = &mut self.authorization {
            text.keep(stored.authorization.as_ref());
        }
        if let Some(key) = &mut self.jwt_key {
            key.keep(stored.jwt_key.as_ref());
        }
        for (name, value) in &mut self.headers {
            value.keep(stored.headers.get(name));
        }
        if let Some(certificate) = &mut self.client_certificate {
            certificate.keep(stored.client_certificate.as_ref());
        }
        if self.proxy.is_some() && self.proxy == stored.masked().proxy {
            self.proxy.clone_from(&stored.proxy);
        }
        self
    }

    /// Puts a new secret in place and returns its text form; see
    /// [`crate::Config::rotate_secret`].
    pub fn rotate_secret(&mut self, now: Timestamp, overlap: Duration) -> String {
        self.previous_secrets.retain(|previous| previous.expires_at > now);
        let new = Secret::generate();
        let text = new.expose();
        if let Some(secret) = self.secret.replace(new) {
            self.previous_secrets.insert(0, PreviousSecret { secret, expires_at: now + overlap });
            self.previous_secrets.truncate(PREVIOUS_LIMIT);
        }
        text
    }
}

fn fault(path: &str, error: &dyn std::error::Error) -> Fault {
    Fault::new(path, error.to_string())
}

fn check_value(path: String, value: &Hidden, faults: &mut Vec<Fault>) {
    let text = value.expose();
    if text.len() > HEADER_VALUE_LIMIT {
        faults.push(Fault::new(path, format!("is longer than {HEADER_VALUE_LIMIT} bytes")));
    } else if HeaderValue::try_from(text).is_err() {
        faults.push(Fault::new(path, "holds a line break or another control character"));
    } else if value.is_mask()
        && is_secret(&path.trim_start_matches("headers.").to_ascii_lowercase())
    {
        faults.push(Fault::new(path, format!("is `{MASK}`, the mask; give the value itself")));
    }
}

fn jwt_key_faults(key: &Hidden, has_authorization: bool, faults: &mut Vec<Fault>) {
    let text = key.expose();
    if text.is_empty() || text.len() > HEADER_VALUE_LIMIT {
        faults.push(Fault::new("jwt_key", format!("expected 1 to {HEADER_VALUE_LIMIT} bytes")));
    } else if key.is_mask() {
        faults.push(Fault::new("jwt_key", format!("is `{MASK}`, the mask; give the value itself")));
    }
    if has_authorization {
        faults.push(Fault::new("jwt_key", "makes an `authorization` itself; keep one of them"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::egress::Allow;

    fn read(value: serde_json::Value) -> Result<Config, Fault> {
        crate::Config::read(value).map(|config| match config {
            crate::Config::Webhook(config) => config,
            other => panic!("{other:?}"),
        })
    }

    fn full() -> Config {
        read(json!({
            "type": "webhook",
            "url": "https://example.com/hook?a=b",
            "headers": {"X-Tenant": "acme", "X-Api-Key": "k-1"},
            "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "authorization": "Bearer t-1",
            "proxy": "http://me:p-1@proxy.example.com:3128",
            "timeout_s": 2.5,
        }))
        .unwrap()
    }

    #[test]
    fn a_fault_names_its_place_and_the_right_name() {
        let cases = [
            (json!({"url": "https://e.com"}), "type", "expected one of `webhook`"),
            (json!({"type": "webhok", "url": "https://e.com"}), "type", "did you mean `webhook`?"),
            (json!({"type": 1}), "type", "expected one of"),
            (json!([]), "", "expected an object"),
            (json!({"type": "webhook"}), "url", "is missing"),
            (json!({"type": "webhook", "url": "/hook"}), "url", "expected a URL such as"),
            (
                json!({"type": "webhook", "url": "https://e.com", "hedaers": {}}),
                "hedaers",
                "did you mean `headers`?",
            ),
            (
                json!({"type": "webhook", "url": "https://e.com", "headers": {"a": 1}}),
                "headers.a",
                "expected a string",
            ),
            (
                json!({"type": "webhook", "url": "https://e.com", "secret": "whsec_x"}),
                "secret",
                "24 to 64 bytes",
            ),
            (
                json!({"type": "webhook", "url": "https://e.com", "http2": "always"}),
                "http2",
                "unknown variant",
            ),
            (
                json!({"type": "webhook", "url": "https://e.com", "client_certificate": {"cert_pen": ""}}),
                "client_certificate.cert_pen",
                "did you mean `cert_pem`?",
            ),
            (
                json!({"type": "webhook", "url": "https://e.com", "client_certificate": {"cert_pem": ""}}),
                "client_certificate.key_pem",
                "is missing",
            ),
        ];
        for (value, path, message) in cases {
            let fault = read(value.clone()).unwrap_err();
            assert_eq!(fault.path, path, "{value}: {fault}");
            assert!(fault.message.contains(message), "{value}: {fault}");
        }
    }

    #[test]
    fn a_config_reads_back_as_it_was_stored() {
        let config = crate::Config::Webhook(full().with_defaults());
        let stored = serde_json::to_string(&config).unwrap();
        assert!(stored.starts_with(r#"{"type":"webhook","#), "{stored}");
        assert_eq!(serde_json::from_str::<crate::Config>(&stored).unwrap(), config);
    }

    #[test]
    fn what_is_shown_holds_no_secret_and_can_be_sent_back() {
        let config = full();
        let shown = serde_json::to_string(&crate::Config::Webhook(config.masked())).unwrap();
        for secret in ["k-1", "t-1", "p-1", "whsec_"] {
            assert!(!shown.contains(secret), "{shown}");
            assert!(!format!("{config:?}").contains(&format!("{secret}M")), "{config:?}");
        }
        assert!(shown.contains("acme") && shown.contains("proxy.example.com"), "{shown}");
        assert_eq!(config.masked().with_kept_secrets(&config), config);
    }

    #[test]
    fn every_fault_is_found_at_once() {
        let config = read(json!({
            "type": "webhook",
            "url": "ftp://me:pw@10.0.0.5/",
            "headers": {
                "Host": "a", "Content-Length": "1", "webhook-id": "1", "zapbus-event": "x", "a b": "c",
                "x-a": "1\n2", "X-Token": "***", "X-B": "1", "x-b": "2", "Content-Type": "application/cloudevents+json",
            },
            "authorization": "***",
            "timeout_s": 0,
            "connect_timeout_s": 1e300,
            "ca_pem": "no certificate",
            "proxy": "ftp://proxy",
        }))
        .unwrap();
        let faults = config.faults(&Guard::new(Allow::default()));
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "url",
                "url",
                "headers.Content-Length",
                "headers.Host",
                "headers.X-Token",
                "headers.a b",
                "headers.webhook-id",
                "headers.x-a",
                "headers.x-b",
                "headers.zapbus-event",
                "authorization",
                "timeout_s",
                "connect_timeout_s",
                "ca_pem",
                "proxy",
                "url",
            ]
        );
        assert!(faults.iter().all(|fault| !fault.message.contains("pw@")));
    }

    #[test]
    fn a_key_for_tokens_is_hidden_and_checked() {
        let url = "https://e.com";
        let config = |key: &str, more: &str| {
            let value = json!({"type": "webhook", "url": url, "jwt_key": key});
            let mut config = read(value).unwrap();
            config.authorization = (!more.is_empty()).then(|| more.into());
            config
        };
        let good = config("hush", "");
        assert_eq!(good.form_faults(), []);
        assert!(!serde_json::to_string(&good.masked()).unwrap().contains("hush"));
        assert_eq!(good.masked().with_kept_secrets(&good), good);
        for (key, more) in [("", ""), (MASK, ""), ("hush", "Bearer x")] {
            let faults = config(key, more).form_faults();
            assert_eq!(faults.len(), 1, "{key}: {faults:?}");
            assert_eq!(faults[0].path, "jwt_key");
        }
    }

    #[test]
    fn a_literal_address_is_refused_when_it_is_set() {
        let guard = Guard::new(Allow::default());
        let mut config = Config::new(Url::parse("http://10.0.0.5/").unwrap());
        config.proxy = Some("http://192.168.0.1:3128".into());
        let faults = config.faults(&guard);
        assert_eq!(faults.len(), 2);
        assert!(faults[0].message.ends_with("ZAPBUS_EGRESS_ALLOW=10.0.0.5/32"));
        assert!(faults[1].message.ends_with("ZAPBUS_EGRESS_ALLOW=192.168.0.1/32"));
    }

    #[test]
    fn rotation_keeps_the_old_secret_for_a_while() {
        let mut config = full();
        let old = config.secret.clone().unwrap();
        let now = Timestamp::from_millis(1_000_000);
        let new = config.rotate_secret(now, Duration::from_secs(60));
        assert_eq!(config.secret.as_ref().unwrap().expose(), new);
        assert_eq!(config.previous_secrets.len(), 1);
        assert_eq!(config.previous_secrets[0].secret, old);
        assert_eq!(config.previous_secrets[0].expires_at, Timestamp::from_millis(1_060_000));
        config.rotate_secret(Timestamp::from_millis(2_000_000), Duration::from_secs(60));
        assert_eq!(config.previous_secrets.len(), 1, "the first has expired");
        for _ in 0..9 {
            config.rotate_secret(now, Duration::from_secs(60));
        }
        assert_eq!(config.previous_secrets.len(), PREVIOUS_LIMIT);
        assert!(config.faults(&Guard::new(Allow::default())).is_empty());
    }
}
