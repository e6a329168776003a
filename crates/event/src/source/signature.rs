//! How the bridged products sign what they post: HMAC over the exact bytes, as hexadecimal text.
//!
//! Evolution API signs nothing. Comparisons take constant time.

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};

use super::wuzapi;

/// The header in which wuzapi sends its signature.
pub const WUZAPI_HEADER: &str = "x-hmac-signature";

/// The header in which WAHA sends its signature.
pub const WAHA_HEADER: &str = "x-webhook-hmac";

/// Whether wuzapi signed this body with this key: HMAC-SHA256 over the body or, of a multipart
/// body, over the JSON of its fields.
///
/// Source: `helpers.go` of wuzapi, `generateHmacSignature` and `callHookFileWithHmac`.
pub fn wuzapi(key: &[u8], body: &[u8], content_type: Option<&str>, signature: &str) -> bool {
    match wuzapi::signed(body, content_type) {
        Some(fields) => verifies::<Sha256>(key, &fields, signature),
        None => verifies::<Sha256>(key, body, signature),
    }
}

/// Whether WAHA signed this body with this key: HMAC-SHA512.
///
/// Source: <https://waha.devlike.pro/docs/how-to/webhooks/>.
pub fn waha(key: &[u8], body: &[u8], signature: &str) -> bool {
    verifies::<Sha512>(key, body, signature)
}

fn verifies<D: EagerHash>(key: &[u8], message: &[u8], signature: &str) -> bool {
    let Ok(claimed) = hex::decode(signature.trim()) else { return false };
    <Hmac<D> as KeyInit>::new_from_slice(key)
        .is_ok_and(|mac| mac.chain_update(message).verify_slice(&claimed).is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed<D: EagerHash>(key: &[u8], message: &[u8]) -> String {
        let mac = <Hmac<D> as KeyInit>::new_from_slice(key).unwrap().chain_update(message);
        hex::encode(mac.finalize().into_bytes())
    }

    /// RFC 4231, test case 2.
    #[test]
    fn digests_are_those_of_the_standard() {
        let (key, body) = (b"Jefe", b"what do ya want for nothing?");
        let short = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(super::wuzapi(key, body, Some("application/json"), short));
        let long = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                    9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        assert!(waha(key, body, long));
        assert!(waha(key, body, &format!(" {} ", long.to_uppercase())));
    }

    #[test]
    fn a_multipart_body_is_checked_by_its_fields() {
        let header = Some("multipart/form-data; boundary=B");
        let body = b"--B\r\nContent-Disposition: form-data; name=\"jsonData\"\r\n\r\n{}\r\n--B--";
        let signature = signed::<Sha256>(b"key", br#"{"jsonData":"{}"}"#);
        assert!(super::wuzapi(b"key", body, header, &signature));
        assert!(!super::wuzapi(b"key", body, None, &signature));
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_nothing_else(
            key in prop::collection::vec(any::<u8>(), 0..80),
            body in prop::collection::vec(any::<u8>(), 1..200),
            flip in any::<prop::sample::Index>(),
            text in ".{0,80}",
        ) {
            let (short, long) = (signed::<Sha256>(&key, &body), signed::<Sha512>(&key, &body));
            prop_assert!(super::wuzapi(&key, &body, None, &short) && waha(&key, &body, &long));
            prop_assert!(!super::wuzapi(&key, &body, None, &long) && !waha(&key, &body, &short));
            prop_assert!(!super::wuzapi(&key, &body, None, &text) && !waha(&key, &body, &text));
            // A truncated signature is none.
            prop_assert!(!waha(&key, &body, &long[..64]));
            let mut forged = body.clone();
            forged[flip.index(body.len())] ^= 1;
            prop_assert!(!super::wuzapi(&key, &forged, None, &short));
            prop_assert!(!waha(&key, &forged, &long));
        }
    }
}
