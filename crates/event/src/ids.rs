//! Identifiers: 128 bits each, a ULID behind a prefix that says what it names.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};
use ulid::Ulid;

use crate::Timestamp;

/// Text that is not an identifier of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, for example {expected}01ARZ3NDEKTSV4RRFFQ69G5FAV")]
pub struct IdError {
    /// The prefix that the text should have had.
    pub expected: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What its text form begins with.
            pub const PREFIX: &'static str = $prefix;

            /// Builds the id that carries `at`; the low 80 bits of `random` make it unique.
            pub fn new(at: Timestamp, random: u128) -> Self {
                Self(Ulid::from_parts(at.as_millis().max(0) as u64, random).0)
            }

            /// The 128 bits, as stored.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// The inverse of [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }

            /// The millisecond the id was made in.
            pub fn timestamp(self) -> Timestamp {
                Timestamp::from_millis(Ulid(self.0).timestamp_ms() as i64)
            }

            /// The bare ULID, without the prefix: 26 characters.
            pub fn ulid(self) -> String {
                Ulid(self.0).to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), Ulid(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// Parses `<prefix><ULID>`.
macro_rules! parse_prefixed {
    ($name:ident) => {
        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix(Self::PREFIX)
                    .and_then(parse_ulid)
                    .map(Self)
                    .ok_or(IdError { expected: Self::PREFIX })
            }
        }
    };
}

id!(
    /// One event, for the whole gateway. Consumers deduplicate by it.
    EventId, "evt_"
);
id!(
    /// A tenant.
    AccountId, "acc_"
);
id!(
    /// One WhatsApp number or session. The same 128 bits have a text form per dialect
    /// (`ins_…` here, `VZ…` for VZaps, a UUID for Evolution) and every form is understood.
    InstanceId, "ins_"
);
id!(
    /// A push target.
    DestinationId, "dst_"
);
id!(
    /// A credential (not its secret).
    CredentialId, "crd_"
);
id!(
    /// One line of the audit log.
    AuditId, "aud_"
);
id!(
    /// A named subscriber. Not made of a time but of whose it is, its name and what it asks for:
    /// who asks for the same again is the same subscriber.
    SubscriberId, "sub_"
);

parse_prefixed!(EventId);
parse_prefixed!(AccountId);
parse_prefixed!(DestinationId);
parse_prefixed!(CredentialId);
parse_prefixed!(AuditId);
parse_prefixed!(SubscriberId);

impl InstanceId {
    /// The form VZaps clients expect.
    pub fn to_vzaps(self) -> String {
        format!("VZ{}", self.ulid())
    }

    /// The form Evolution clients expect: a hyphenated lower-case UUID.
    pub fn to_uuid(self) -> String {
        let hex = hex::encode(self.to_bytes());
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl FromStr for InstanceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bits = match text.strip_prefix(Self::PREFIX).or_else(|| text.strip_prefix("VZ")) {
            Some(ulid) => parse_ulid(ulid),
            None if text.len() == 36 => parse_uuid(text),
            None => parse_ulid(text),
        };
        bits.map(Self).ok_or(IdError { expected: Self::PREFIX })
    }
}

fn parse_ulid(text: &str) -> Option<u128> {
    Ulid::from_string(text).ok().map(|ulid| ulid.0)
}

fn parse_uuid(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    if [8, 13, 18, 23].iter().any(|&at| bytes.get(at) != Some(&b'-')) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_instance_id_is_the_same_instance() {
        let id = InstanceId::new(Timestamp::from_millis(1_767_225_601_000), 42);
        for text in [id.to_string(), id.to_vzaps(), id.to_uuid(), id.ulid()] {
            assert_eq!(text.parse(), Ok(id), "{text}");
        }
    }

    #[test]
    fn an_id_carries_its_millisecond() {
        let at = Timestamp::from_millis(1_767_225_601_123);
        assert_eq!(EventId::new(at, u128::MAX).timestamp(), at);
    }

    #[test]
    fn another_prefix_is_refused() {
        let id = AccountId::new(Timestamp::from_millis(1), 1).to_string();
        assert_eq!(id.parse::<EventId>(), Err(IdError { expected: "evt_" }));
    }
}
