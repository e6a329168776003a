//! How much work a stranger can cause at the URL that all apps share.
//!
//! Whose secret signed a body is found by trying secrets, and each costs a hash of the whole body.
//! Nearly every post names a number or a business account that we know, and its account's secret
//! is tried first. Only posts that name nobody we know go through all secrets, and all of them
//! together only so fast.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Secrets that any post may try; with so few there is nothing to save.
pub(super) const FREE: usize = 4;

/// Numbers, and business accounts, of one body that are looked up.
const NAMES: usize = 2;

/// Bytes hashed for posts that name nobody, per second, and at once: a few hundredths of a core.
const PER_SECOND: f64 = (32 << 20) as f64;
const AT_ONCE: f64 = (64 << 20) as f64;

/// A bucket of bytes that may be hashed on a guess. It may be overdrawn once, so that no body is
/// too large for it.
#[derive(Debug)]
pub struct Guesses(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Default for Guesses {
    fn default() -> Self {
        Self(Mutex::new(Bucket { left: AT_ONCE, at: Instant::now() }))
    }
}

impl Guesses {
    /// Whether so many bytes may be hashed now.
    pub(super) fn allow(&self, bytes: usize, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + passed * PER_SECOND).min(AT_ONCE);
        bucket.at = bucket.at.max(now);
        if bucket.left <= 0.0 {
            return false;
        }
        bucket.left -= bytes as f64;
        true
    }
}

/// Bytes of a body in which names are looked for. Meta writes them first; whoever hides them behind
/// more than that is treated like somebody who names nobody.
const LOOKED_AT: usize = 64 << 10;

/// Whom a body speaks of, as far as it says. Not to be believed: it is read before it is known who
/// sent it, to choose the secrets to begin with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) numbers: Vec<String>,
    pub(super) businesses: Vec<String>,
}

impl Names {
    /// Looks no further than it must: a stranger's body may be large, and of any shape. Nothing
    /// but the names is kept of it.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut names = Self::default();
        let looked_at = body.get(..LOOKED_AT).unwrap_or(body);
        let mut json = serde_json::Deserializer::from_slice(looked_at);
        // How it ends is nothing: it is broken off once there are names enough, and where it is
        // no body of Meta's, what was read of it until then does no harm.
        let _ = Walk { names: &mut names, place: Place::Body }.deserialize(&mut json);
        names
    }

    fn are_enough(&self) -> bool {
        self.numbers.len() >= NAMES && self.businesses.len() >= NAMES
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    if names.len() < NAMES && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// A place in a body on the way to a name.
#[derive(Clone, Copy)]
enum Place {
    Body,
    Entries,
    Entry,
    Business,
    Changes,
    Change,
    Value,
    Metadata,
    Number,
}

impl Place {
    /// Where a member leads.
    fn member(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::Body, "entry") => Some(Self::Entries),
            (Self::Entry, "id") => Some(Self::Business),
            (Self::Entry, "changes") => Some(Self::Changes),
            (Self::Change, "value") => Some(Self::Value),
            (Self::Value, "metadata") => Some(Self::Metadata),
            (Self::Metadata, "phone_number_id") => Some(Self::Number),
            _ => None,
        }
    }

    /// What the elements of an array are.
    fn element(self) -> Option<Self> {
        match self {
            Self::Entries => Some(Self::Entry),
            Self::Changes => Some(Self::Change),
            _ => None,
        }
    }
}

/// Walks through a body and takes down its names.
struct Walk<'a> {
    names: &'a mut Names,
    place: Place,
}

impl Walk<'_> {
    fn at(&mut self, place: Place) -> Walk<'_> {
        Walk { names: self.names, place }
    }

    fn go_on<E: Error>(&self) -> Result<(), E> {
        if self.names.are_enough() { Err(E::custom("enough")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a body of Meta's")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            match self.place.member(&name) {
                Some(place) => map.next_value_seed(self.at(place))?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
            self.go_on()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let Some(element) = self.place.element() else {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        while seq.next_element_seed(self.at(element))?.is_some() {
            self.go_on()?;
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.place {
            Place::Business => add(&mut self.names.businesses, text),
            Place::Number => add(&mut self.names.numbers, text),
            _ => {}
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn strangers_are_tried_only_so_fast() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        let hashed = |seconds: u64| {
            let now = start + Duration::from_secs(seconds);
            (0..10_000).filter(|_| guesses.allow(1 << 20, now)).count()
        };
        assert!((64..=66).contains(&hashed(0)));
        assert_eq!(hashed(0), 0);
        assert!((31..=33).contains(&hashed(1)));
        assert!((63..=66).contains(&hashed(3_600)), "nothing is saved up");
    }

    #[test]
    fn no_body_is_too_large() {
        let (guesses, start) = (Guesses::default(), Instant::now());
        assert!(guesses.allow(3 << 30, start));
        assert!(!guesses.allow(1, start + Duration::from_secs(60)));
        assert!(guesses.allow(1, start + Duration::from_secs(97)));
    }

    #[test]
    fn a_body_names_whom_it_speaks_of() {
        let body = br#"{"object":"x","entry":[
            {"id":"1","time":5,"changes":[{"value":{"metadata":{"phone_number_id":"9","x":[]}}}]},
            {"id":"1","changes":[{"field":"y","value":{}},{"value":{"metadata":{"phone_number_id":"8"}}}]},
            {"id":"2","changes":[{"value":{"metadata":{"phone_number_id":"7"}}}]},
            {"id":"3"}]}"#;
        let expected = Names {
            numbers: vec!["9".to_owned(), "8".to_owned()],
            businesses: vec!["1".to_owned(), "2".to_owned()],
        };
        assert_eq!(Names::of(body), expected);
        for other in [&b"{}"[..], b"", b"[1]", br#"{"entry":{}}"#, br#"{"entry":[{"id":5}]}"#] {
            assert_eq!(Names::of(other), Names::default());
        }
    }

    #[test]
    fn no_more_of_a_body_is_read_than_it_takes() {
        let one = r#"{"id":"1","changes":[{"value":{"metadata":{"phone_number_id":"9"}}}]}"#;
        // What follows is not even JSON.
        let broken = format!(
            r#"{{"entry":[{one},{{"id":"2","changes":[{{"value":{{"metadata":{{"phone_number_id":"8"}}}}}}]}}, nonsense"#
        );
        let names = Names::of(broken.as_bytes());
        assert_eq!(
            (names.numbers, names.businesses),
            (vec!["9".to_owned(), "8".to_owned()], vec!["1".to_owned(), "2".to_owned()])
        );
        let late = |bytes: usize| format!(r#"{{"x":"{}","entry":[{one}]}}"#, "x".repeat(bytes));
        assert_eq!(Names::of(late(1_000).as_bytes()).numbers, ["9"]);
        assert_eq!(Names::of(late(LOOKED_AT).as_bytes()), Names::default());
        // The head of a large body says enough.
        let large = format!(r#"{{"entry":[{{"id":"1","text":"{}"}}]}}"#, "x".repeat(LOOKED_AT));
        assert_eq!(Names::of(large.as_bytes()).businesses, ["1"]);
    }
}
