//! How a post shows that the product of the source sent it, as each of them can.

use axum::extract::Request;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, header};
use serde::Deserialize;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zapbus_event::{Timestamp, source::signature};

use crate::{
    api::error::ApiError,
    source::{Bridge, Product},
};

/// Why a signature was refused.
pub(super) const DOES_NOT_FIT: &str = "The signature does not fit the body";

/// Evolution signs its token once for all attempts of an event, and goes on trying after the
/// token's ten minutes. This long after its end one is still taken.
const GRACE_S: i64 = 3_600;

/// The longest token that is looked at.
const MAX_TOKEN: usize = 2_048;

/// Why a post is believed.
#[derive(Debug)]
pub(super) enum Proof {
    /// It shows the secret, or something made of it that says nothing about the body.
    Shown,
    /// It says to be signed with the secret: to be checked against the body.
    Signed(String),
}

impl Proof {
    /// What a request shows before its body is read; and what an upstream that appends the event
    /// to the whole URL has put behind the secret.
    pub(super) fn of(
        bridge: &Bridge,
        request: &Request,
        now: Timestamp,
    ) -> Result<(Self, Option<String>), ApiError> {
        let product = bridge.product;
        let is_evolution = product == Product::Evolution;
        let headers = request.headers();
        let header = match product {
            Product::Evolution => None,
            Product::Wuzapi => Some(signature::WUZAPI_HEADER),
            Product::Waha => Some(signature::WAHA_HEADER),
        };
        if let Some(value) = header.and_then(|name| headers.get(name)) {
            let signature = value.to_str().map_err(|_| refusal(product, DOES_NOT_FIT))?;
            return Ok((Self::Signed(signature.to_owned()), None));
        }
        let mut shown = false;
        if let Some(token) = bearer(headers) {
            shown = true;
            let signed = is_evolution && is_signed(&bridge.secret, token, now);
            if signed || same(&bridge.secret, token) {
                return Ok((Self::Shown, None));
            }
        }
        if is_evolution && let Some(key) = headers.get("apikey") {
            shown = true;
            if key.to_str().is_ok_and(|key| same(&bridge.secret, key)) {
                return Ok((Self::Shown, None));
            }
        }
        let query = request.uri().query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name != "secret" && !(is_evolution && name == "key") {
                continue;
            }
            shown = true;
            if same(&bridge.secret, &value) {
                return Ok((Self::Shown, None));
            }
            if is_evolution
                && let Some((secret, event)) = value.rsplit_once('/')
                && same(&bridge.secret, secret)
            {
                return Ok((Self::Shown, Some(event.to_owned())));
            }
        }
        let reason = match (shown, product) {
            (true, _) => "The secret is not that of this source",
            (false, Product::Evolution) => "The secret is missing",
            (false, Product::Wuzapi | Product::Waha) => "Signature and secret are missing",
        };
        Err(refusal(product, reason))
    }
}

/// Not the product's post, as far as anybody can tell.
pub(super) fn refusal(product: Product, reason: &'static str) -> ApiError {
    let expected = match product {
        Product::Evolution => {
            "In Evolution's webhook, set the header `Authorization` to `Bearer <secret>` (or the \
             header `jwt_key` to the secret, or `apikey` to it), or append `?secret=<secret>` to the \
             URL, with the secret of this source."
        }
        Product::Wuzapi => {
            "Configure the secret of this source as wuzapi's HMAC key, which makes it send \
             `x-hmac-signature`, or append `?secret=<secret>` to the URL."
        }
        Product::Waha => {
            "Configure the secret of this source as `hmac.key` of WAHA's webhook, which makes it \
             send `X-Webhook-Hmac`, or append `?secret=<secret>` to the URL."
        }
    };
    ApiError::WrongSignature { reason, expected }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Constant in time.
fn same(secret: &str, given: &str) -> bool {
    secret.as_bytes().ct_eq(given.as_bytes()).into()
}

/// Whether this is a token that Evolution signed with the secret: HS256, with the time of its end.
fn is_signed(secret: &str, token: &str, now: Timestamp) -> bool {
    #[derive(Deserialize)]
    struct Header {
        alg: String,
    }
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    fn read<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    }
    let parts = || {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).ok()?;
        mac.chain_update(signed).verify_slice(&signature).ok()?;
        Some((read::<Header>(header)?, read::<Claims>(claims)?))
    };
    token.len() <= MAX_TOKEN
        && parts().is_some_and(|(header, claims)| {
            header.alg == "HS256" && claims.exp.saturating_add(GRACE_S) > now.as_secs()
        })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const SECRET: &str = "a secret/with a slash";
    const NOW: i64 = 1_767_225_617;

    fn proof(product: Product, uri: &str, authorization: Option<&str>) -> Option<Option<String>> {
        let bridge = Bridge { product, secret: SECRET.to_owned() };
        let mut request = http::Request::post(uri);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(Body::empty()).unwrap();
        let found = Proof::of(&bridge, &request, Timestamp::from_millis(NOW * 1_000)).ok();
        found.map(|(proof, suffix)| {
            assert!(matches!(proof, Proof::Shown));
            suffix
        })
    }

    fn token(secret: &str, header: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&signed);
        format!("Bearer {signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    #[test]
    fn the_secret_may_stand_in_a_header_or_in_the_url() {
        for product in Product::ALL {
            let bearer = format!("bearer {SECRET}");
            assert_eq!(proof(product, "/x", Some(&bearer)), Some(None));
            assert_eq!(proof(product, "/x?a=1&secret=a+secret%2Fwith+a+slash", None), Some(None));
            for (uri, header) in [
                ("/x", None),
                ("/x", Some("Bearer wrong")),
                ("/x", Some(SECRET)),
                ("/x?secret=", None),
                ("/x?secret=a+secret", None),
                ("/x?Secret=a+secret%2Fwith+a+slash", None),
            ] {
                assert_eq!(proof(product, uri, header), None, "{uri} {header:?}");
            }
        }
    }

    #[test]
    fn what_evolution_appends_to_the_whole_url_is_the_event() {
        let uri = "/x?secret=a+secret/with+a+slash/messages-upsert";
        let event = Some("messages-upsert".to_owned());
        assert_eq!(proof(Product::Evolution, uri, None), Some(event));
        assert_eq!(proof(Product::Waha, uri, None), None);
    }

    #[test]
    fn evolution_may_sign_a_token() {
        let header = r#"{"alg":"HS256","typ":"JWT"}"#;
        let ends = |exp: i64| format!(r#"{{"iat":1,"exp":{exp},"app":"evolution"}}"#);
        let shows = |token: &str| proof(Product::Evolution, "/x", Some(token)).is_some();
        assert!(shows(&token(SECRET, header, &ends(NOW + 600))));
        assert!(shows(&token(SECRET, header, &ends(NOW - GRACE_S + 1))), "of a late attempt");
        assert!(!shows(&token(SECRET, header, &ends(NOW - GRACE_S))));
        assert!(!shows(&token("another", header, &ends(NOW + 600))));
        assert!(!shows(&token(SECRET, r#"{"alg":"none"}"#, &ends(NOW + 600))));
        assert!(!shows(&token(SECRET, header, "{}")));
        let signed = token(SECRET, header, &ends(NOW + 600));
        assert!(!shows(signed.trim_end_matches(|c| c != '.')));
        assert_eq!(proof(Product::Waha, "/x", Some(&signed)), None);
    }
}
