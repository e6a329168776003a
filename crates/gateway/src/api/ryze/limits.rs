//! How often a token may ask: so many requests in each minute of the clock.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use zapbus_event::Timestamp;

use super::Config;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

const MINUTE_S: i64 = 60;

/// A token, as it is found by.
pub(super) type Key = [u8; 32];

/// What tokens have had of the present minute.
#[derive(Debug)]
pub(super) struct Limits {
    requests: u32,
    creations: u32,
    minute: Mutex<Minute>,
}

/// Only tokens that somebody has are counted, so there are no more entries than those.
#[derive(Debug, Default)]
struct Minute {
    number: i64,
    spent: HashMap<Key, Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    requests: u32,
    creations: u32,
}

/// What a request's token has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowance {
    limit: u32,
    remaining: u32,
    /// When the next minute begins, in Unix seconds.
    reset: i64,
    /// Seconds until then.
    wait: i64,
    /// This request is one too many.
    pub(super) is_over: bool,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            requests: config.requests_per_minute,
            creations: config.creations_per_minute,
            minute: Mutex::default(),
        }
    }

    /// Counts a request of a token, or of nobody who is known; `None` where there is no limit. Each
    /// of `nodes` counts what comes to it, and allows its share.
    pub(super) fn take(
        &self,
        token: Option<Key>,
        creates: bool,
        now: Timestamp,
        nodes: u32,
    ) -> Option<Allowance> {
        let (most, most_made) = (self.requests.div_ceil(nodes), self.creations.div_ceil(nodes));
        let now = now.as_secs();
        let number = now.div_euclid(MINUTE_S);
        let spent = token.map(|token| {
            // Nothing panics while holding it.
            let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
            if minute.number != number {
                *minute = Minute { number, spent: HashMap::new() };
            }
            let spent = minute.spent.entry(token).or_default();
            spent.requests = spent.requests.saturating_add(1);
            spent.creations = spent.creations.saturating_add(u32::from(creates));
            (spent.requests, spent.creations)
        });
        let (requests, creations) = spent.unwrap_or_default();
        let reset = (number + 1) * MINUTE_S;
        let of = |limit: u32, spent: u32| Allowance {
            limit,
            remaining: limit.saturating_sub(spent),
            reset,
            wait: reset - now,
            is_over: spent > limit,
        };
        let all = (most > 0).then(|| of(most, requests));
        let made = (creates && most_made > 0).then(|| of(most_made, creations));
        match (all, made) {
            // The one that is closer to its end is the one that matters.
            (Some(all), Some(made)) => Some(if all.is_over && !made.is_over { all } else { made }),
            (all, made) => made.or(all),
        }
    }
}

impl Allowance {
    /// Tells the caller.
    pub(super) fn put(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit.into());
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, HeaderValue::from(self.reset));
    }

    /// Tells a caller that was refused for it when to come back.
    pub(super) fn put_wait(self, headers: &mut HeaderMap) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(self.wait.max(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn limits(requests_per_minute: u32, creations_per_minute: u32) -> Limits {
        Limits::new(&Config { requests_per_minute, creations_per_minute, ..Config::default() })
    }

    #[test]
    fn each_token_has_its_own_minute() {
        let limits = limits(3, 2);
        let take = |token, now| {
            let taken = limits.take(Some([token; 32]), false, at(now), 1).unwrap();
            (taken.remaining, taken.is_over, taken.reset, taken.wait)
        };
        assert_eq!(take(1, 600), (2, false, 660, 60));
        assert_eq!(take(1, 610), (1, false, 660, 50));
        assert_eq!(take(2, 610), (2, false, 660, 50));
        assert_eq!(take(1, 659), (0, false, 660, 1));
        assert_eq!(take(1, 659), (0, true, 660, 1));
        assert_eq!(take(1, 660), (2, false, 720, 60));
        // A clock that was set back begins anew instead of locking everybody out.
        assert_eq!(take(1, 0), (2, false, 60, 60));
        // Whoever is not known spends nothing.
        for _ in 0..9 {
            assert_eq!(limits.take(None, false, at(1), 1).unwrap().remaining, 3);
        }
    }

    #[test]
    fn making_instances_counts_twice() {
        let both = limits(3, 2);
        let make = || both.take(Some([1; 32]), true, at(0), 1).unwrap();
        assert_eq!((make().limit, make().remaining, make().is_over), (2, 0, true));
        let any = both.take(Some([1; 32]), false, at(0), 1).unwrap();
        assert_eq!((any.limit, any.is_over), (3, true), "those were requests too");
        // Where requests are used up, it says so.
        let many = limits(1, 9);
        let make = || many.take(Some([1; 32]), true, at(0), 1).unwrap();
        assert_eq!((make().limit, make().limit), (9, 1));
    }

    #[test]
    fn nothing_means_no_limit() {
        assert_eq!(limits(0, 0).take(Some([1; 32]), true, at(0), 3), None);
        assert_eq!(limits(0, 5).take(Some([1; 32]), false, at(0), 1), None);
        assert_eq!(limits(5, 0).take(Some([1; 32]), true, at(0), 1).unwrap().limit, 5);
    }

    #[test]
    fn each_node_allows_its_share() {
        let limits = limits(100, 2);
        let limit = |creates, nodes| limits.take(None, creates, at(0), nodes).unwrap().limit;
        assert_eq!([limit(false, 1), limit(false, 2), limit(false, 3)], [100, 50, 34]);
        assert_eq!([limit(true, 1), limit(true, 2), limit(true, 3)], [2, 1, 1]);
    }
}
