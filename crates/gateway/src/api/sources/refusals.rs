//! How often the log says that a source refuses what is posted to it.
//!
//! A wrong app secret refuses every post there is, and anybody who has seen a callback URL can post
//! to it: each source has its line, and no more than one a minute.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

/// How long a source is silent after its line.
const SILENT: Duration = Duration::from_secs(60);

/// Sources that are remembered.
const SOURCES: NonZeroUsize = NonZeroUsize::new(1_024).expect("it is not 0");

/// The sources that have refused something of late.
#[derive(Debug)]
pub struct Refusals(Mutex<LruCache<String, Told>>);

#[derive(Debug)]
struct Told {
    at: Instant,
    /// Posts refused since.
    posts: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(SOURCES)))
    }
}

impl Refusals {
    /// A source has refused a post: how many a line should tell of now, if there should be one.
    pub(super) fn tell(&self, source: &str, now: Instant) -> Option<u64> {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = sources.get_mut(source) {
            told.posts += 1;
            if now.saturating_duration_since(told.at) < SILENT {
                return None;
            }
            told.at = now;
            return Some(std::mem::take(&mut told.posts));
        }
        sources.put(source.to_owned(), Told { at: now, posts: 0 });
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_source_has_a_line_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.tell("a", start), Some(1));
        assert_eq!(refusals.tell("b", start), Some(1), "one does not silence another");
        for second in 0..60 {
            assert_eq!(refusals.tell("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(refusals.tell("a", start + SILENT), Some(61), "those that were not told");
        assert_eq!(refusals.tell("a", start + SILENT), None);
    }
}
