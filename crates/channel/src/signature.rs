//! Signatures as Standard Webhooks 1.0.0 describes them.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.
//! Only the symmetric form (`v1`, HMAC-SHA256) is written and read.

use std::{fmt, str::FromStr};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use serde::{Deserialize, Serialize, de};
use sha2::Sha256;
use zapbus_event::Timestamp;

/// What the text form of a secret begins with.
pub const PREFIX: &str = "whsec_";

/// How far a signed time may lie from the reader's clock, in seconds; the value that the
/// official libraries use.
pub const TOLERANCE_S: i64 = 5 * 60;

/// The sizes of a secret that Standard Webhooks allows, in bytes.
const SIZES: std::ops::RangeInclusive<usize> = 24..=64;

/// Secrets are pasted by people, who lose the `=` at the end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A shared key for signing: 24 to 64 bytes. Text form: `whsec_` and base64.
///
/// `Debug` hides it; [`Self::expose`] does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Makes one of 32 bytes from the operating system's random source.
    ///
    /// # Panics
    ///
    /// When the operating system has no random bytes to give; nothing can be signed then.
    pub fn generate() -> Self {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).expect("the operating system gives random bytes");
        Self(key)
    }

    /// The text form, to be stored or shown to the destination's owner.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// Prepares the key, so that signing does not start from its bytes each time.
    pub fn signer(&self) -> Signer {
        // HMAC takes keys of every length (RFC 2104 §2).
        Signer(Hmac::new_from_slice(&self.0).expect("HMAC takes keys of every length"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}***")
    }
}

/// Text that is not a signing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a signing secret: expected `whsec_` and the base64 form of 24 to 64 bytes; leave it \
     out to have one made"
)]
pub struct SecretError;

impl FromStr for Secret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let key = LENIENT.decode(encoded).map_err(|_| SecretError)?;
        if SIZES.contains(&key.len()) { Ok(Self(key)) } else { Err(SecretError) }
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A [`Secret`] ready to sign.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(***)")
    }
}

impl Signer {
    /// The digest state after `id.timestamp.body`.
    fn digest(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(id);
        mac.update(b".");
        mac.update(timestamp);
        mac.update(b".");
        mac.update(body);
        mac
    }
}

/// Writes `webhook-signature`: one `v1,<base64>` for each signer, separated by spaces.
///
/// `timestamp` is the text of `webhook-timestamp`: seconds since the Unix epoch.
pub fn sign<'a>(
    signers: impl IntoIterator<Item = &'a Signer>,
    id: &[u8],
    timestamp: &[u8],
    body: &[u8],
) -> String {
    // `v1,` and 44 characters of base64.
    let mut header = String::with_capacity(48);
    for signer in signers {
        if !header.is_empty() {
            header.push(' ');
        }
        header.push_str("v1,");
        let digest = signer.digest(id, timestamp, body).finalize().into_bytes();
        STANDARD.encode_string(digest, &mut header);
    }
    header
}

/// The three headers of a signed webhook, as received.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: &'a HeaderValue,
    /// `webhook-timestamp`: seconds since the Unix epoch.
    pub timestamp: &'a HeaderValue,
    /// `webhook-signature`.
    pub signature: &'a HeaderValue,
}

/// Why a signature is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// `webhook-timestamp` holds something else than seconds.
    #[error("webhook-timestamp is not a number of seconds since 1970")]
    Timestamp,
    /// Signed more than [`TOLERANCE_S`] away from now.
    #[error("signed more than five minutes from now; check both clocks")]
    Expired,
    /// No `v1` signature fits.
    #[error("no v1 signature in webhook-signature fits the secret and the body")]
    Mismatch,
}

/// Checks a received webhook; passes when any of its signatures fits any of the signers.
///
/// # Errors
///
/// See [`VerifyError`]. The comparison of digests takes constant time.
pub fn verify<'a>(
    signers: impl IntoIterator<Item = &'a Signer>,
    signed: Signed<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), VerifyError> {
    let timestamp = signed.timestamp.as_bytes();
    let seconds: i64 = str::from_utf8(timestamp)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(VerifyError::Timestamp)?;
    if now.as_secs().abs_diff(seconds) > TOLERANCE_S.unsigned_abs() {
        return Err(VerifyError::Expired);
    }
    let claimed: Vec<Vec<u8>> = signed
        .signature
        .as_bytes()
        .split(|byte| *byte == b' ')
        .filter_map(|one| STANDARD.decode(one.strip_prefix(b"v1,")?).ok())
        .collect();
    let fits = signers.into_iter().any(|signer| {
        let digest = signer.digest(signed.id.as_bytes(), timestamp, body);
        claimed.iter().any(|claim| digest.clone().verify_slice(claim).is_ok())
    });
    if fits { Ok(()) } else { Err(VerifyError::Mismatch) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn signs_as_the_reference_libraries_do() {
        let signer = SECRET.parse::<Secret>().unwrap().signer();
        let header = sign(
            [&signer],
            b"msg_p5jXN8AQM9LWM0D4loKWxJek",
            b"1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(header, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn text_that_is_no_secret_is_refused() {
        for text in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", "whsec_%%"]
        {
            assert_eq!(text.parse::<Secret>(), Err(SecretError), "{text}");
        }
        let long = format!("{PREFIX}{}", STANDARD.encode([7; 65]));
        assert_eq!(long.parse::<Secret>(), Err(SecretError));
    }

    #[test]
    fn a_lost_padding_is_forgiven() {
        let secret = Secret::generate();
        assert_eq!(secret.expose().trim_end_matches('=').parse(), Ok(secret));
    }

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?}", Secret::generate()), "whsec_***");
    }

    #[test]
    fn an_old_signature_is_refused() {
        let signer = Secret::generate().signer();
        let signature = HeaderValue::try_from(sign([&signer], b"a", b"1000", b"")).unwrap();
        let signed = Signed {
            id: &HeaderValue::from_static("a"),
            timestamp: &HeaderValue::from_static("1000"),
            signature: &signature,
        };
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        assert_eq!(verify([&signer], signed, b"", at(1300)), Ok(()));
        assert_eq!(verify([&signer], signed, b"", at(1301)), Err(VerifyError::Expired));
        assert_eq!(verify([&signer], signed, b"", at(600)), Err(VerifyError::Expired));
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_nothing_else(
            id in "[a-zA-Z0-9_.]{1,40}",
            body in proptest::collection::vec(any::<u8>(), 0..300),
            seconds in 0..4_000_000_000_i64,
            flip in any::<prop::sample::Index>(),
        ) {
            let (old, new) = (Secret::generate().signer(), Secret::generate().signer());
            let timestamp = seconds.to_string();
            let signature = HeaderValue::try_from(sign([&new, &old], id.as_bytes(), timestamp.as_bytes(), &body)).unwrap();
            let id = HeaderValue::try_from(id).unwrap();
            let timestamp = HeaderValue::try_from(timestamp).unwrap();
            let signed = Signed { id: &id, timestamp: &timestamp, signature: &signature };
            let now = Timestamp::from_millis(seconds * 1000);
            prop_assert_eq!(verify([&old], signed, &body, now), Ok(()));
            prop_assert_eq!(verify([&new], signed, &body, now), Ok(()));
            let stranger = Secret::generate().signer();
            prop_assert_eq!(verify([&stranger], signed, &body, now), Err(VerifyError::Mismatch));
            if !body.is_empty() {
                let mut forged = body.clone();
                forged[flip.index(body.len())] ^= 1;
                prop_assert_eq!(verify([&new], signed, &forged, now), Err(VerifyError::Mismatch));
            }
        }

        #[test]
        fn no_header_makes_it_panic(
            signature in proptest::collection::vec(0x20..0x7f_u8, 0..200),
            timestamp in proptest::collection::vec(0x20..0x7f_u8, 0..30),
            text in ".{0,120}",
        ) {
            let signer = Secret::generate().signer();
            let signature = HeaderValue::from_bytes(&signature).unwrap();
            let timestamp = HeaderValue::from_bytes(&timestamp).unwrap();
            let id = HeaderValue::from_static("a");
            let signed = Signed { id: &id, timestamp: &timestamp, signature: &signature };
            prop_assert!(verify([&signer], signed, b"", Timestamp::from_millis(0)).is_err());
            let _ = text.parse::<Secret>();
        }
    }
}
