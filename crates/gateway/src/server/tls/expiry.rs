//! When a certificate expires: the one thing in it that operators must be told in time.

use std::path::Path;

use rustls_pki_types::{CertificateDer, pem::PemObject};
use zapbus_event::Timestamp;

/// When the first certificate of a PEM file expires; `None` when that cannot be read.
pub fn of_file(cert: &Path) -> Option<Timestamp> {
    of_certificate(&CertificateDer::from_pem_file(cert).ok()?)
}

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// RFC 5280: Certificate, TBSCertificate, then version, serial number, signature algorithm and
/// issuer stand before the validity, which ends with the time we want.
fn of_certificate(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = element(certificate, Some(SEQUENCE))?;
    let (mut rest, _) = element(certificate, Some(SEQUENCE))?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest, None)?.1;
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = element(rest, None)?.1;
    }
    let (validity, _) = element(rest, Some(SEQUENCE))?;
    let (_, not_after) = element(validity, None)?;
    let tag = *not_after.first()?;
    let (text, _) = element(not_after, Some(tag))?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The contents of the DER element that `bytes` begins with, and what follows it.
fn element(bytes: &[u8], tag: Option<u8>) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if tag.is_some_and(|tag| tag != *found) {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..0x80 => (usize::from(*first), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.len() > 4 {
                return None;
            }
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}

/// `YYMMDDHHMMSSZ` (of 1950 to 2049) or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    let digits = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => format!("20{digits}"),
        (UTC_TIME, 12) => format!("19{digits}"),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| &digits[from..to];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, expected) in
            [(2031, "2031-03-04T00:00:00.000Z"), (2062, "2062-03-04T00:00:00.000Z")]
        {
            let mut parameters =
                rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 3, 4);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = parameters.self_signed(&key).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("cert.pem");
            std::fs::write(&file, certificate.pem()).unwrap();
            assert_eq!(of_file(&file).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let whole = parameters.self_signed(&key).unwrap().der().to_vec();
        for length in 0..whole.len() {
            // Must not panic; the end may be read before the cut.
            let _ = of_certificate(&whole[..length]);
        }
        assert_eq!(of_certificate(&[]), None);
        assert_eq!(of_certificate(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
