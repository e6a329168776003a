//! How much work a stranger can cause at the URL that all apps share.
//!
//! Whose secret signed a body is found by trying secrets, and each costs a hash of the whole body.
//! Nearly every post names a number or a business account that we know, and its account's secret
//! is tried first. Only posts that name nobody we know go through all secrets, and all of them
//! together only so fast.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::Deserialize;

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

/// Whom a body speaks of, as far as it says. Not to be believed: it is read before it is known who
/// sent it, to choose the secrets to begin with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) numbers: Vec<String>,
    pub(super) businesses: Vec<String>,
}

impl Names {
    pub(super) fn of(body: &[u8]) -> Self {
        let mut names = Self::default();
        let Ok(claim) = serde_json::from_slice::<Claim>(body) else { return names };
        for entry in claim.entry {
            add(&mut names.businesses, entry.id);
            for change in entry.changes {
                add(&mut names.numbers, change.value.metadata.phone_number_id);
            }
        }
        names
    }
}

fn add(names: &mut Vec<String>, name: Option<String>) {
    if let Some(name) = name
        && names.len() < NAMES
        && !names.contains(&name)
    {
        names.push(name);
    }
}

#[derive(Deserialize)]
struct Claim {
    #[serde(default)]
    entry: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    value: Value,
}

#[derive(Default, Deserialize)]
struct Value {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    phone_number_id: Option<String>,
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
}
