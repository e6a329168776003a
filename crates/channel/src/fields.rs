//! What the configs of all channels have in common: times, whom to trust, and secrets.
//!
//! Each config spells these members out: a struct that is flattened into another refuses no unknown key,
//! and its errors have no place. What they mean, and what is wrong with them, is here, once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Fault, Hidden, MASK, pool::Identity};

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if asks for it")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if asks for it")]
pub(crate) fn is_true(value: &bool) -> bool {
    *value
}

/// For what is on unless it is turned off.
pub(crate) fn yes() -> bool {
    true
}

/// The longest that one exchange may take, in seconds.
const MOST: f64 = 120.0;
/// The longest that connecting may take, in seconds.
const MOST_TO_CONNECT: f64 = 60.0;

/// How a channel connects, as its config says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Connecting<'a> {
    pub(crate) timeout_s: Option<f64>,
    pub(crate) connect_timeout_s: Option<f64>,
    /// How long connecting may take when that is left out.
    pub(crate) usual: Duration,
    pub(crate) client_certificate: Option<&'a ClientCertificate>,
    pub(crate) ca_pem: Option<&'a str>,
}

impl Connecting<'_> {
    /// How long one exchange may take, if the config says.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout_s.and_then(duration)
    }

    /// How long connecting may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout_s.and_then(duration).unwrap_or(self.usual)
    }

    /// Client certificate and authorities, read.
    pub(crate) fn identity(&self) -> Result<Identity, Fault> {
        let certificate = self
            .client_certificate
            .map(|certificate| (certificate.cert_pem.as_str(), certificate.key_pem.expose()));
        Identity::read(certificate, self.ca_pem)
            .map_err(|error| Fault::new(error.path(), error.to_string()))
    }

    /// Everything that is wrong.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        faults.extend(seconds_fault("timeout_s", self.timeout_s, MOST));
        faults.extend(seconds_fault("connect_timeout_s", self.connect_timeout_s, MOST_TO_CONNECT));
        faults.extend(self.identity().err());
        faults
    }

    /// Whether it trusts an authority that `stored` does not.
    pub(crate) fn trusts_others_than(&self, stored: &Self) -> bool {
        self.ca_pem.is_some() && self.ca_pem != stored.ca_pem
    }
}

/// `None` for what no duration can be.
fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// What is wrong with a time, if it is given.
fn seconds_fault(path: &str, value: Option<f64>, most: f64) -> Option<Fault> {
    let wrong = value.is_some_and(|value| !(0.05..=most).contains(&value));
    wrong.then(|| Fault::new(path, format!("expected seconds between 0.05 and {most}")))
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority, in PEM.
    pub cert_pem: String,
    /// Its key in PEM: PKCS #8, PKCS #1 or SEC 1.
    #[schema(value_type = String, format = Password)]
    pub key_pem: Hidden,
}

impl ClientCertificate {
    /// For showing.
    pub(crate) fn masked(&self) -> Self {
        Self { key_pem: Hidden::mask(), ..self.clone() }
    }

    /// Takes the key from `stored` if here is its mask.
    pub(crate) fn keep(&mut self, stored: Option<&Self>) {
        self.key_pem.keep(stored.map(|stored| &stored.key_pem));
    }
}

impl Hidden {
    /// Takes the text from `stored` if here is its mask.
    pub(crate) fn keep(&mut self, stored: Option<&Self>) {
        if let (true, Some(stored)) = (self.is_mask(), stored) {
            self.clone_from(stored);
        }
    }

    /// What is wrong with a secret that must not be empty.
    pub(crate) fn fault(&self, path: &str, what: &str) -> Option<Fault> {
        let message = if self.is_mask() {
            format!("is `{MASK}`, the mask; give the value itself")
        } else if self.expose().is_empty() {
            format!("is empty; expected {what}")
        } else {
            return None;
        };
        Some(Fault::new(path, message))
    }
}
