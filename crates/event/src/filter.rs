//! Does this destination or subscription want this event?

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Kind,
    bounds::{MAX_FACET, is_facet},
    nearest::{nearest, shortened},
};

/// A list of patterns, compiled: an event passes when any of them matches.
///
/// A pattern is a type (`message.received`), a family (`message.*`), everything (`*`), or one
/// facet of a type (`call.updated:offer`). An empty list means `*`. `*` does not match the
/// gateway's own `destination.*`, which must be named.
///
/// Two filters are equal when their normalised patterns are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// One bit per [`Kind`] that passes whatever its facet.
    kinds: u64,
    /// The bits among them that were named as such, beside the wildcards.
    exact: u64,
    /// One bit per family in order of first appearance; the highest bit is `*`.
    wildcards: u32,
    /// Facets of kinds that do not pass as a whole, sorted.
    facets: Box<[(Kind, Box<str>)]>,
}

const EVERYTHING: u32 = 1 << 31;

impl Filter {
    /// Compiles patterns; an empty list means `*`.
    ///
    /// # Errors
    /// Names the first pattern that is none, with what was probably meant.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, FilterError> {
        let mut filter = Self { kinds: 0, exact: 0, wildcards: 0, facets: Box::default() };
        let mut facets = Vec::new();
        for pattern in patterns {
            filter.add(pattern.as_ref(), &mut facets)?;
        }
        if patterns.is_empty() {
            filter.wildcards = EVERYTHING;
        }
        filter.normalise(facets);
        Ok(filter)
    }

    /// Whether an event of this type and facet passes.
    pub fn matches(&self, kind: Kind, facet: Option<&str>) -> bool {
        if self.kinds & bit(kind) != 0 {
            return true;
        }
        match facet {
            Some(facet) => self.facets.iter().any(|(of, value)| *of == kind && **value == *facet),
            None => false,
        }
    }

    /// The patterns in normal form: sorted, without repetition, without those that another
    /// covers. Compiling them again gives an equal filter.
    pub fn patterns(&self) -> Vec<String> {
        let mut patterns = Vec::new();
        if self.wildcards & EVERYTHING != 0 {
            patterns.push("*".to_owned());
        }
        for (index, family) in families().enumerate() {
            if self.wildcards & (1 << index) != 0 {
                patterns.push(format!("{family}.*"));
            }
        }
        let named = Kind::ALL.iter().filter(|kind| self.exact & bit(**kind) != 0);
        patterns.extend(named.map(|kind| kind.to_string()));
        patterns.extend(self.facets.iter().map(|(kind, facet)| format!("{kind}:{facet}")));
        patterns.sort();
        patterns
    }

    fn add(
        &mut self,
        pattern: &str,
        facets: &mut Vec<(Kind, Box<str>)>,
    ) -> Result<(), FilterError> {
        let (name, facet) = match pattern.split_once(':') {
            Some((name, facet)) => (name, Some(facet)),
            None => (pattern, None),
        };
        let wildcard = match name {
            "*" => Some(EVERYTHING),
            _ => name.strip_suffix(".*").and_then(family_bit),
        };
        match (wildcard, facet) {
            (Some(wildcard), None) => self.wildcards |= wildcard,
            (Some(_), Some(_)) => {
                return Err(FilterError::FacetOnWildcard { pattern: shortened(pattern) });
            }
            (None, facet) => {
                let kind: Kind = name.parse().map_err(|_| unknown(name, pattern))?;
                match facet {
                    None => self.exact |= bit(kind),
                    Some(facet) => facets.push((kind, checked_facet(kind, facet, pattern)?)),
                }
            }
        }
        Ok(())
    }

    fn normalise(&mut self, mut facets: Vec<(Kind, Box<str>)>) {
        let mut covered = 0;
        if self.wildcards & EVERYTHING != 0 {
            covered |= kinds_where(|kind| !kind.is_operational());
        }
        for (index, family) in families().enumerate() {
            let kinds = kinds_where(|kind| kind.family() == family);
            if kinds & !covered == 0 {
                self.wildcards &= !(1 << index);
            } else if self.wildcards & (1 << index) != 0 {
                covered |= kinds;
            }
        }
        self.exact &= !covered;
        self.kinds = covered | self.exact;
        facets.retain(|(kind, _)| self.kinds & bit(*kind) == 0);
        facets.sort();
        facets.dedup();
        self.facets = facets.into();
    }
}

/// The filter `*`.
impl Default for Filter {
    fn default() -> Self {
        let mut filter = Self { kinds: 0, exact: 0, wildcards: EVERYTHING, facets: Box::default() };
        filter.normalise(Vec::new());
        filter
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.patterns()).finish()
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.patterns().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let patterns = Vec::<Cow<'_, str>>::deserialize(deserializer)?;
        Self::parse(&patterns).map_err(de::Error::custom)
    }
}

fn bit(kind: Kind) -> u64 {
    const { assert!(Kind::ALL.len() <= u64::BITS as usize, "one bit per type") };
    1 << kind as u8
}

fn kinds_where(choose: impl Fn(Kind) -> bool) -> u64 {
    Kind::ALL.iter().filter(|kind| choose(**kind)).fold(0, |mask, kind| mask | bit(*kind))
}

/// Families in catalog order. Types of one family stand together there.
fn families() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    Kind::ALL.iter().map(|kind| kind.family()).filter(move |family| {
        let new = *family != last;
        last = family;
        new
    })
}

fn family_bit(name: &str) -> Option<u32> {
    families().position(|family| family == name).map(|index| 1 << index)
}

fn checked_facet(kind: Kind, facet: &str, pattern: &str) -> Result<Box<str>, FilterError> {
    let Some(field) = kind.facet_field() else {
        return Err(FilterError::NoFacet { pattern: shortened(pattern), kind });
    };
    let known = match kind.facet_values() {
        Some(values) => values.contains(&facet),
        None => is_facet(facet),
    };
    if known {
        return Ok(facet.into());
    }
    let allowed = kind.facet_values().unwrap_or_default();
    Err(FilterError::UnknownFacet { pattern: shortened(pattern), kind, field, allowed })
}

fn unknown(name: &str, pattern: &str) -> FilterError {
    let wildcards = families().map(|family| format!("{family}.*"));
    let kinds = Kind::ALL.iter().map(|kind| kind.to_string());
    FilterError::UnknownName {
        pattern: shortened(pattern),
        nearest: nearest(name, wildcards.chain(kinds)),
    }
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No type and no family has this name.
    #[error("{pattern:?} names no event type; the nearest are {}, and * is everything", .nearest.join(", "))]
    UnknownName {
        /// The pattern given.
        pattern: String,
        /// Up to three names that come closest, nearest first.
        nearest: Vec<String>,
    },
    /// A facet after a wildcard.
    #[error("{pattern:?}: a facet needs one type before the colon, not a wildcard")]
    FacetOnWildcard {
        /// The pattern given.
        pattern: String,
    },
    /// A facet of a type that has none.
    #[error("{pattern:?}: {kind} has no facet; use {kind} alone")]
    NoFacet {
        /// The pattern given.
        pattern: String,
        /// The type it names.
        kind: Kind,
    },
    /// A value that the facet's field cannot have.
    #[error(
        "{pattern:?}: the facet of {kind} is its {field}, {}",
        one_of(.allowed)
    )]
    UnknownFacet {
        /// The pattern given.
        pattern: String,
        /// The type it names.
        kind: Kind,
        /// The member of `data` that is its facet.
        field: &'static str,
        /// What it can be; empty where the set is open (1 to 64 characters, no spaces).
        allowed: &'static [&'static str],
    },
}

fn one_of(allowed: &[&str]) -> String {
    match allowed {
        [] => format!("1 to {MAX_FACET} characters without spaces"),
        values => format!("one of {}", values.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(given: &[&str]) -> Vec<String> {
        Filter::parse(given).unwrap().patterns()
    }

    #[test]
    fn wildcards_match_what_they_name() {
        let table: &[(&[&str], Kind, Option<&str>, bool)] = &[
            (&[], Kind::EventUnknown, Some("not_json"), true),
            (&[], Kind::DestinationPaused, None, false),
            (&["*"], Kind::MessageReceived, Some("text"), true),
            (&["*"], Kind::DestinationGap, None, false),
            (&["destination.*"], Kind::DestinationGap, None, true),
            (&["*", "destination.paused"], Kind::DestinationPaused, None, true),
            (&["message.*"], Kind::MessageStatus, Some("read"), true),
            (&["message.*"], Kind::PresenceChat, Some("typing"), false),
            (&["message.status"], Kind::MessageStatus, Some("sent"), true),
            (&["message.status"], Kind::MessageSent, Some("api"), false),
            (&["call.updated:offer"], Kind::CallUpdated, Some("offer"), true),
            (&["call.updated:offer"], Kind::CallUpdated, Some("signal"), false),
            (&["call.updated:offer"], Kind::CallUpdated, None, false),
            (&["account.updated:flows"], Kind::AccountUpdated, Some("flows"), true),
            (&["instance.*"], Kind::InstanceLifecycle, Some("created"), true),
        ];
        for (given, kind, facet, expected) in table {
            let filter = Filter::parse(given).unwrap();
            assert_eq!(filter.matches(*kind, *facet), *expected, "{given:?} {kind} {facet:?}");
        }
    }

    #[test]
    fn patterns_are_normalised() {
        assert_eq!(patterns(&[]), ["*"]);
        assert_eq!(patterns(&["message.sent", "*", "group.*"]), ["*"]);
        assert_eq!(patterns(&["destination.gap", "*"]), ["*", "destination.gap"]);
        assert_eq!(patterns(&["destination.*", "destination.gap"]), ["destination.*"]);
        assert_eq!(
            patterns(&["message.sent", "chat.*", "chat.updated", "message.sent:api", "bot.*"]),
            ["bot.*", "chat.*", "message.sent"]
        );
        assert_eq!(
            patterns(&["call.updated:offer", "call.updated:missed", "call.updated:offer"]),
            ["call.updated:missed", "call.updated:offer"]
        );
    }

    #[test]
    fn errors_say_what_was_meant() {
        let table = [
            (
                "messages.received",
                "\"messages.received\" names no event type; the nearest are message.received, \
                 message.deleted, message.edited, and * is everything",
            ),
            (
                "message.*:text",
                "\"message.*:text\": a facet needs one type before the colon, not a wildcard",
            ),
            ("*:x", "\"*:x\": a facet needs one type before the colon, not a wildcard"),
            ("instance.qr:x", "\"instance.qr:x\": instance.qr has no facet; use instance.qr alone"),
            (
                "message.flagged:starred",
                "\"message.flagged:starred\": the facet of message.flagged is its flag, one of \
                 star, pin, keep",
            ),
            (
                "account.updated:",
                "\"account.updated:\": the facet of account.updated is its topic, 1 to 64 \
                 characters without spaces",
            ),
        ];
        for (pattern, expected) in table {
            assert_eq!(Filter::parse(&[pattern]).unwrap_err().to_string(), expected);
        }
        assert!(Filter::parse(&[""]).is_err());
        assert!(Filter::parse(&["x".repeat(1_000_000)]).is_err());
    }

    #[test]
    fn a_filter_is_small() {
        assert!(size_of::<Filter>() <= 48);
    }

    #[test]
    fn serde_form_is_the_list() {
        let filter: Filter = serde_json::from_str(r#"["message.*","call.updated:offer"]"#).unwrap();
        assert_eq!(
            serde_json::to_string(&filter).unwrap(),
            r#"["call.updated:offer","message.*"]"#
        );
        let error = serde_json::from_str::<Filter>(r#"["nothing"]"#).unwrap_err();
        assert!(error.to_string().contains("names no event type"), "{error}");
    }
}
