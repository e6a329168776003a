//! For those who receive webhooks: signatures as Standard Webhooks 1.0.0 describes them.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use sha2::Sha256;

use crate::Error;

const PREFIX: &str = "whsec_";
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;
const ID: &str = "webhook-id";
const TIMESTAMP: &str = "webhook-timestamp";
const SIGNATURE: &str = "webhook-signature";

/// Secrets are pasted by people, who lose the `=` at the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a request is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A header is missing.
    #[error("the header {0} is missing: the request is not signed, or a proxy removed it")]
    MissingHeader(&'static str),
    /// A header cannot be read.
    #[error("the header {0} cannot be read")]
    UnreadableHeader(&'static str),
    /// It was signed too long ago.
    #[error("signed {0} seconds ago: an old request is repeated, or a clock is off")]
    TooOld(i64),
    /// It is signed with a time that has not come.
    #[error("signed {0} seconds in the future: a clock is off")]
    TooNew(i64),
    /// No signature fits.
    #[error(
        "no signature fits: another secret, or the body was changed (verify the raw bytes, not \
         JSON that was written anew)"
    )]
    WrongSignature,
    /// It is to be trusted, and its body has another shape than the one asked for.
    #[error("the body is of another shape: {0}")]
    UnreadableBody(String),
}

/// Where headers are looked up. Names are in lower case.
pub trait Headers {
    /// The first value of a header.
    fn header(&self, name: &str) -> Option<&str>;
}

impl Headers for http::HeaderMap {
    fn header(&self, name: &str) -> Option<&str> {
        self.get(name)?.to_str().ok()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Headers for [(K, V)] {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.iter().find(|(known, _)| known.as_ref().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> Headers for [(K, V); N] {
    fn header(&self, name: &str) -> Option<&str> {
        self.as_slice().header(name)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> Headers for Vec<(K, V)> {
    fn header(&self, name: &str) -> Option<&str> {
        self.as_slice().header(name)
    }
}

impl Headers for HashMap<String, String> {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Headers for BTreeMap<String, String> {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What the signature of a request says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Signed {
    /// The event's id (with `.1`, `.2` … behind it where an event is several requests), to
    /// deduplicate by.
    pub id: String,
    /// When this attempt was made, in seconds since 1970.
    pub timestamp: i64,
}

/// Verifies webhooks, and signs them for tests.
///
/// ```
/// use zapbus_client::WebhookVerifier;
///
/// let verifier = WebhookVerifier::new(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
/// let body = br#"{"id":"evt_1","type":"message.received"}"#;
/// let headers = verifier.sign("evt_1", 1_700_000_000, body);
/// let signed = verifier.verify_at(body, &headers, 1_700_000_060).expect("it is ours");
/// assert_eq!(signed.id, "evt_1");
/// assert!(verifier.verify_at(b"{}", &headers, 1_700_000_060).is_err());
/// # Ok::<(), zapbus_client::Error>(())
/// ```
#[derive(Clone)]
pub struct WebhookVerifier {
    keys: Vec<Hmac<Sha256>>,
    tolerance: Duration,
}

impl std::fmt::Debug for WebhookVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookVerifier")
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

impl WebhookVerifier {
    /// One that trusts these secrets: one, or two while a secret is changed. The first one signs.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when there is none, or one is no signing secret.
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Result<Self, Error> {
        let keys: Vec<_> =
            secrets.into_iter().map(|secret| key(secret.as_ref())).collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(Error::usage("at least one signing secret is needed"));
        }
        Ok(Self { keys, tolerance: Duration::from_secs(5 * 60) })
    }

    /// How far the signed time may be from ours; five minutes, if not said.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Whether a request is from whoever has the secret. `body` is what came, byte for byte.
    ///
    /// # Errors
    ///
    /// Why it is not to be trusted: answer it with 401.
    pub fn verify(&self, body: &[u8], headers: &impl Headers) -> Result<Signed, VerifyError> {
        self.verify_at(body, headers, Timestamp::now().as_second())
    }

    /// [`verify`](Self::verify) at a time of your own, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify).
    pub fn verify_at(
        &self,
        body: &[u8],
        headers: &impl Headers,
        now: i64,
    ) -> Result<Signed, VerifyError> {
        let header =
            |name: &'static str| headers.header(name).ok_or(VerifyError::MissingHeader(name));
        let (id, time, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
        let timestamp: i64 = time.parse().map_err(|_| VerifyError::UnreadableHeader(TIMESTAMP))?;
        let fits = signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .filter_map(|signature| LENIENT.decode(signature).ok())
            .any(|signature| {
                let known = |key: &Hmac<Sha256>| {
                    digest(key, id, time, body).verify_slice(&signature).is_ok()
                };
                self.keys.iter().any(known)
            });
        if !fits {
            return Err(VerifyError::WrongSignature);
        }
        let tolerance = i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX);
        let age = now.saturating_sub(timestamp);
        if age > tolerance {
            return Err(VerifyError::TooOld(age));
        }
        if age.saturating_neg() > tolerance {
            return Err(VerifyError::TooNew(age.saturating_neg()));
        }
        Ok(Signed { id: id.to_owned(), timestamp })
    }

    /// Verifies a request, and reads its body: as an [`Event`](crate::Event) where the destination
    /// speaks the native dialect, else as a type of your own.
    ///
    /// # Errors
    ///
    /// As for [`verify`](Self::verify), and [`VerifyError::UnreadableBody`].
    pub fn unwrap<T: DeserializeOwned>(
        &self,
        body: &[u8],
        headers: &impl Headers,
    ) -> Result<T, VerifyError> {
        self.verify(body, headers)?;
        serde_json::from_slice(body).map_err(|error| VerifyError::UnreadableBody(error.to_string()))
    }

    /// The headers of a request with this body: for tests, and for those who send.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> [(&'static str, String); 3] {
        let time = timestamp.to_string();
        // There is at least one.
        let signatures: Vec<String> = self.keys[..1]
            .iter()
            .map(|key| digest(key, id, &time, body).finalize().into_bytes())
            .map(|signature| format!("v1,{}", STANDARD.encode(signature)))
            .collect();
        [(ID, id.to_owned()), (TIMESTAMP, time), (SIGNATURE, signatures.concat())]
    }
}

fn key(secret: &str) -> Result<Hmac<Sha256>, Error> {
    let wrong = || {
        Error::usage("not a signing secret: expected whsec_ and the base64 form of 24 to 64 bytes")
    };
    let secret = secret.trim();
    let encoded = secret.strip_prefix(PREFIX).ok_or_else(wrong)?;
    let bytes = LENIENT.decode(encoded).map_err(|_| wrong())?;
    if !SIZES.contains(&bytes.len()) {
        return Err(wrong());
    }
    Hmac::new_from_slice(&bytes).map_err(|_| wrong())
}

fn digest(key: &Hmac<Sha256>, id: &str, time: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [id.as_bytes(), b".", time.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const NOW: i64 = 1_700_000_000;
    const BODY: &[u8] = br#"{"x":1}"#;

    fn verifier(secrets: &[&str]) -> WebhookVerifier {
        WebhookVerifier::new(secrets).unwrap()
    }

    #[test]
    fn the_official_library_says_the_same() {
        let official = standardwebhooks::Webhook::new(SECRET).unwrap();
        let ours = verifier(&[SECRET]);
        let theirs = official.sign("msg_1", NOW, BODY).unwrap();
        let headers = ours.sign("msg_1", NOW, BODY);
        assert_eq!(headers[2].1, theirs);
        let now = Timestamp::now().as_second();
        let signed: http::HeaderMap = ours
            .sign("msg_1", now, BODY)
            .into_iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        official.verify(BODY, &signed).unwrap();
        assert_eq!(ours.verify(BODY, &signed).unwrap().id, "msg_1");
    }

    #[test]
    fn two_secrets_while_one_is_changed() {
        let headers = verifier(&[OTHER]).sign("m", NOW, BODY);
        assert!(verifier(&[SECRET, OTHER]).verify_at(BODY, &headers, NOW).is_ok());
        let wrong = verifier(&[SECRET]).verify_at(BODY, &headers, NOW);
        assert_eq!(wrong, Err(VerifyError::WrongSignature));
        // A sender that signs with both.
        let [_, _, (_, mine)] = verifier(&[SECRET]).sign("m", NOW, BODY);
        let both = format!("v1a,xx v1,AAAA {} {mine}", headers[2].1);
        let headers = [(ID, "m".to_owned()), (TIMESTAMP, NOW.to_string()), (SIGNATURE, both)];
        assert!(verifier(&[SECRET]).verify_at(BODY, &headers, NOW).is_ok());
    }

    #[test]
    fn a_clock_that_is_off_is_told_apart_from_a_wrong_secret() {
        let verifier = verifier(&[SECRET]);
        let headers = verifier.sign("m", NOW, BODY);
        for (now, expected) in [
            (NOW + 300, None),
            (NOW - 300, None),
            (NOW + 301, Some(VerifyError::TooOld(301))),
            (NOW - 301, Some(VerifyError::TooNew(301))),
            (i64::MIN, Some(VerifyError::TooNew(i64::MAX))),
        ] {
            assert_eq!(verifier.verify_at(BODY, &headers, now).err(), expected, "{now}");
        }
        let wide = verifier.tolerance(Duration::from_secs(3600));
        assert!(wide.verify_at(BODY, &headers, NOW + 3000).is_ok());
    }

    #[test]
    fn what_is_not_signed_says_so() {
        let verifier = verifier(&[SECRET]);
        let none: [(&str, &str); 0] = [];
        assert_eq!(verifier.verify(BODY, &none), Err(VerifyError::MissingHeader(ID)));
        let headers = [(ID, "m"), (TIMESTAMP, "soon"), (SIGNATURE, "v1,x")];
        let unreadable = Err(VerifyError::UnreadableHeader(TIMESTAMP));
        assert_eq!(verifier.verify(BODY, &headers), unreadable);
        for secret in ["", "whsec_", "whsec_!!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAA"] {
            assert!(WebhookVerifier::new([secret]).is_err(), "{secret}");
        }
        assert!(WebhookVerifier::new([] as [&str; 0]).is_err());
    }
}
