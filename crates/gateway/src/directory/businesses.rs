//! Which business accounts an account has numbers of, as its posts told.

use std::collections::BTreeMap;

use serde_json::Value;
use zapbus_event::{AccountId, Timestamp};
use zapbus_store::{Store, StoreError};

/// Kept for one account at most; those seen first go first. More than anybody has numbers of.
const MOST: usize = 1_000;

/// Business accounts, and when a number of each was first seen.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Businesses(pub(super) BTreeMap<String, Timestamp>);

impl Businesses {
    /// Those of an account. What cannot be read is as good as nothing: posts tell it again.
    pub(super) async fn load(store: &Store, account: AccountId) -> Result<Self, StoreError> {
        let kept = store.setting(&name(account)).await?;
        let members = kept.as_ref().and_then(Value::as_object).into_iter().flatten();
        let read = |(waba, at): (&String, &Value)| {
            Some((waba.clone(), Timestamp::from_millis(at.as_i64()?)))
        };
        Ok(Self(members.filter_map(read).collect()))
    }

    pub(super) fn note(&mut self, waba: &str, at: Timestamp) {
        self.0.insert(waba.to_owned(), at);
        while self.0.len() > MOST {
            let oldest = self.0.iter().min_by_key(|(_, at)| **at).map(|(waba, _)| waba.clone());
            self.0.remove(&oldest.unwrap_or_default());
        }
    }

    pub(super) async fn keep(&self, store: &Store, account: AccountId) -> Result<(), StoreError> {
        let members = self.0.iter().map(|(waba, at)| (waba.clone(), Value::from(at.as_millis())));
        store.set_setting(&name(account), Value::Object(members.collect())).await
    }
}

fn name(account: AccountId) -> String {
    format!("cloud-api/businesses/{account}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many() {
        let mut seen = Businesses::default();
        for n in 0..1_500_i64 {
            seen.note(&format!("{n}"), Timestamp::from_millis(n));
        }
        assert_eq!(seen.0.len(), MOST);
        assert!(seen.0.contains_key("1499") && seen.0.contains_key("500"));
        assert!(!seen.0.contains_key("499"));
    }
}
