//! A JSON Web Token (RFC 7519) as `authorization`, signed anew for each attempt, so that one that is
//! sent late is still valid: with the claims that Evolution API has.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use serde::Serialize;
use sha2::Sha256;
use zapbus_event::Timestamp;

/// `{"alg":"HS256","typ":"JWT"}`
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

/// Seconds for which a token is valid.
const LIFETIME_S: i64 = 600;

#[derive(Serialize)]
struct Claims {
    iat: i64,
    exp: i64,
    app: &'static str,
    action: &'static str,
}

/// What `authorization` is, if there is a key that can sign.
pub(super) fn bearer(key: &str, now: Timestamp) -> Option<HeaderValue> {
    let iat = now.as_secs();
    let claims =
        Claims { iat, exp: iat.saturating_add(LIFETIME_S), app: "evolution", action: "webhook" };
    let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).ok()?);
    let signed = format!("{HEADER}.{claims}");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    let mut value = HeaderValue::try_from(format!("Bearer {signed}.{signature}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the library that Evolution uses signs the same.
    #[test]
    fn it_is_what_others_sign() {
        let value = bearer("secret", Timestamp::from_millis(1_760_000_000_999)).unwrap();
        let text = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let [header, claims, signature] = text.split('.').collect::<Vec<_>>()[..] else {
            panic!("three parts: {text}");
        };
        let decode = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert_eq!(decode(header), r#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(
            decode(claims),
            r#"{"iat":1760000000,"exp":1760000600,"app":"evolution","action":"webhook"}"#
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
        mac.update(format!("{header}.{claims}").as_bytes());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        mac.verify_slice(&signature).unwrap();
        assert!(value.is_sensitive());
    }
}
