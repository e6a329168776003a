//! Which instances there are, in memory: every append and every account-wide read asks.

use std::{collections::HashMap, time::Duration};

use zapbus_event::{AccountId, InstanceId};

/// What is known of an instance without asking the database.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) account: AccountId,
    pub(crate) deleted: bool,
    /// Its own retention, from `settings.retention_s`.
    pub(crate) retention: Option<Duration>,
}

/// All instances.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    entries: HashMap<InstanceId, Entry>,
}

impl Directory {
    pub(crate) fn of(entries: impl IntoIterator<Item = (InstanceId, Entry)>) -> Self {
        Self { entries: entries.into_iter().collect() }
    }

    /// Whether the instance takes events.
    pub(crate) fn takes(&self, instance: InstanceId) -> bool {
        self.entries.get(&instance).is_some_and(|entry| !entry.deleted)
    }

    pub(crate) fn get(&self, instance: InstanceId) -> Option<Entry> {
        self.entries.get(&instance).copied()
    }

    pub(crate) fn account_of(&self, instance: InstanceId) -> Option<AccountId> {
        self.entries.get(&instance).map(|entry| entry.account)
    }

    /// All instances of an account.
    pub(crate) fn of_account(&self, account: AccountId) -> impl Iterator<Item = InstanceId> + '_ {
        self.entries.iter().filter(move |(_, entry)| entry.account == account).map(|(id, _)| *id)
    }

    /// Instances with a retention of their own.
    pub(crate) fn retentions(&self) -> impl Iterator<Item = (InstanceId, Duration)> + '_ {
        self.entries.iter().filter_map(|(id, entry)| Some((*id, entry.retention?)))
    }

    pub(crate) fn insert(&mut self, instance: InstanceId, entry: Entry) {
        self.entries.insert(instance, entry);
    }

    pub(crate) fn change(&mut self, instance: InstanceId, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.get_mut(&instance) {
            change(entry);
        }
    }

    pub(crate) fn remove(&mut self, instance: InstanceId) {
        self.entries.remove(&instance);
    }
}

/// Stored settings. Those of one instance that nobody can read must not keep the store from being
/// opened: it goes by the defaults.
pub(crate) fn read_settings(instance: InstanceId, stored: &[u8]) -> serde_json::Value {
    serde_json::from_slice(stored).unwrap_or_else(|error| {
        tracing::warn!(event = "instance.settings_unreadable", %instance, %error, "the settings of an instance cannot be read");
        serde_json::Value::Object(serde_json::Map::new())
    })
}

/// An instance's own retention, if its settings name one.
pub(crate) fn retention(settings: &serde_json::Value) -> Option<Duration> {
    settings.get("retention_s")?.as_u64().map(Duration::from_secs)
}
