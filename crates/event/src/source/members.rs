//! One level of an upstream's object, read on demand.
//!
//! Bridged products hand on structures of WhatsApp's own protocol, whose member names differ in
//! case from one library to the next (`remoteJid`, `remoteJID`). Members are therefore found by
//! name whatever their case, and nothing is parsed before it is asked for. As with the scalars,
//! what has another shape than asked for counts as absent.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    compound::{RawList, read},
    scalar::{Decimal, Flag, Int, Text, Time, filled, instant},
};
use crate::Timestamp;

/// The most members of one object that are kept; protocols have far fewer.
const MAX_MEMBERS: usize = 512;

/// The longest list of bytes that is taken for bytes: hashes and thumbnails are small.
const MAX_BYTES: usize = 64 * 1024;

/// The members of an object, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Those of a value, if it is an object.
    pub(crate) fn of(raw: &'a RawValue) -> Option<Self> {
        read(raw)
    }

    /// A member, also one that is `null`.
    pub(crate) fn given(&self, name: &str) -> Option<&'a RawValue> {
        let exact = self.0.iter().find(|(known, _)| known == name);
        let any_case = || self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        exact.or_else(any_case).map(|(_, raw)| *raw)
    }

    /// A member; `null` counts as absent.
    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.given(name).filter(|raw| raw.get() != "null")
    }

    /// The names of all members that are not `null`, as posted.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, raw)| raw.get() != "null").map(|(name, _)| &**name)
    }

    pub(super) fn object(&self, name: &str) -> Option<Members<'a>> {
        Self::of(self.raw(name)?)
    }

    /// A text, or a whole number taken as text; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        text(self.raw(name)?)
    }

    /// The first of these members that is such a text.
    pub(super) fn text_of(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.text(name))
    }

    /// A text, also an empty one.
    pub(super) fn said(&self, name: &str) -> Option<String> {
        read::<Text<'_>>(self.raw(name)?)?.given().map(str::to_owned)
    }

    /// A whole number, also in two halves, as protocol libraries write those of 64 bits.
    pub(super) fn int(&self, name: &str) -> Option<i64> {
        int(self.raw(name)?)
    }

    /// A whole number that is not negative and fits.
    pub(super) fn count<N: TryFrom<i64>>(&self, name: &str) -> Option<N> {
        self.int(name).filter(|number| *number >= 0).and_then(|number| N::try_from(number).ok())
    }

    /// [`Self::count`], where 0 means that the upstream does not know.
    pub(super) fn size<N: TryFrom<i64>>(&self, name: &str) -> Option<N> {
        self.int(name).filter(|number| *number > 0).and_then(|number| N::try_from(number).ok())
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        read::<Decimal>(self.raw(name)?)?.0
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        read::<Flag>(self.raw(name)?)?.0
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.flag(name).unwrap_or(false)
    }

    /// A time: seconds or milliseconds since the epoch in any form, or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        time(self.raw(name)?)
    }

    /// The elements of a list; none when it is none.
    pub(super) fn list(&self, name: &str) -> Vec<&'a RawValue> {
        self.raw(name).map(elements).unwrap_or_default()
    }

    /// The texts of a list.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).into_iter().filter_map(text).collect()
    }

    /// Bytes as base64: written so, as a `Buffer`, or as an object of numbered bytes.
    pub(super) fn bytes(&self, name: &str) -> Option<String> {
        bytes(self.raw(name)?)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;

        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while members.len() < MAX_MEMBERS {
                    let Some(Name(name)) = map.next_key()? else { return Ok(Members(members)) };
                    members.push((name, map.next_value()?));
                }
                IgnoredAny.visit_map(map)?;
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(All)
    }
}

/// The elements of a list, or the one value that stands in its place.
pub(super) fn one_or_each(raw: &RawValue) -> Vec<&RawValue> {
    if raw.get().starts_with('[') { elements(raw) } else { vec![raw] }
}

/// A text, or a whole number taken as text.
pub(super) fn text(raw: &RawValue) -> Option<String> {
    filled(&read::<Text<'_>>(raw)?).map(str::to_owned)
}

fn elements(raw: &RawValue) -> Vec<&RawValue> {
    read::<RawList<'_>>(raw).map(|list| list.items).unwrap_or_default()
}

fn int(raw: &RawValue) -> Option<i64> {
    if !raw.get().starts_with('{') {
        return read::<Int>(raw)?.0;
    }
    let halves = Members::of(raw)?;
    let low = read::<Int>(halves.raw("low")?)?.0?;
    let high = read::<Int>(halves.raw("high")?)?.0?;
    // Either half is written as signed or unsigned; only its 32 bits count.
    Some((high << 32) | (low & 0xffff_ffff))
}

fn time(raw: &RawValue) -> Option<Timestamp> {
    if raw.get().starts_with('{') {
        let number = int(raw).filter(|number| *number > 0)?;
        return Timestamp::from_secs(number).or_else(|| Some(Timestamp::from_millis(number)));
    }
    read::<Time>(raw).and_then(instant).or_else(|| {
        // Go writes the year 1 for a time that was never set.
        text(raw)?.parse().ok().filter(|at: &Timestamp| at.as_millis() > 0)
    })
}

fn bytes(raw: &RawValue) -> Option<String> {
    match raw.get().as_bytes().first()? {
        b'"' => text(raw),
        b'[' => encoded(&elements(raw)),
        b'{' => {
            let members = Members::of(raw)?;
            if let Some(data) = members.raw("data") {
                return bytes(data);
            }
            let mut numbered: Vec<(usize, &RawValue)> = members
                .0
                .iter()
                .map(|(name, raw)| name.parse().ok().map(|at| (at, *raw)))
                .collect::<Option<_>>()?;
            numbered.sort_unstable_by_key(|(at, _)| *at);
            let in_order: Vec<_> = numbered.into_iter().map(|(_, raw)| raw).collect();
            encoded(&in_order)
        }
        _ => None,
    }
}

fn encoded(numbers: &[&RawValue]) -> Option<String> {
    if numbers.is_empty() || numbers.len() > MAX_BYTES {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        numbers.iter().map(|number| u8::try_from(read::<Int>(number)?.0?).ok()).collect();
    bytes.map(|bytes| STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(json: &str, see: impl FnOnce(&Members<'_>) -> T) -> T {
        see(&serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}")))
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        with(r#"{"remoteJID":"a","RemoteJid":"b","ID":7,"none":null}"#, |members| {
            assert_eq!(members.text("RemoteJid").as_deref(), Some("b"));
            assert_eq!(members.text("remotejid").as_deref(), Some("a"));
            assert_eq!(members.text("id").as_deref(), Some("7"));
            assert_eq!(members.text_of(&["none", "id"]).as_deref(), Some("7"));
            assert!(members.raw("none").is_none() && members.raw("else").is_none());
        });
    }

    #[test]
    fn wide_objects_are_cut() {
        let wide: Vec<_> = (0..2_000).map(|at| format!("\"{at}\":{at}")).collect();
        with(&format!("{{{}}}", wide.join(",")), |members| {
            assert_eq!(members.names().count(), MAX_MEMBERS);
        });
    }

    #[test]
    fn numbers_in_two_halves_are_whole() {
        let json = r#"{"a":{"low":-1,"high":0,"unsigned":true},"b":{"low":1,"high":1},"c":{},
            "at":{"low":1767225601,"high":0},"go":"0001-01-01T00:00:00Z",
            "zone":"2026-01-01T09:00:01-03:00","ms":1767225601000}"#;
        with(json, |members| {
            assert_eq!(members.int("a"), Some(0xffff_ffff));
            assert_eq!(members.int("b"), Some(0x1_0000_0001));
            assert_eq!(members.int("c"), None);
            let at = |name| members.time(name).map(Timestamp::as_millis);
            assert_eq!(at("at"), Some(1_767_225_601_000));
            assert_eq!(at("ms"), Some(1_767_225_601_000));
            assert_eq!(at("zone"), Some(1_767_268_801_000));
            assert_eq!(at("go"), None);
        });
    }

    #[test]
    fn bytes_are_base64_however_written() {
        let json = r#"{"a":"AQID","b":{"type":"Buffer","data":[1,2,3]},"c":{"0":1,"2":3,"1":2},
            "d":{"type":"Buffer","data":"AQID"},"e":[1,2,3],"f":[1,999],"g":{"x":1},"h":[]}"#;
        with(json, |members| {
            for name in ["a", "b", "c", "d", "e"] {
                assert_eq!(members.bytes(name).as_deref(), Some("AQID"), "{name}");
            }
            for name in ["f", "g", "h"] {
                assert_eq!(members.bytes(name), None, "{name}");
            }
        });
    }
}
