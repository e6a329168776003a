//! Who is there: accounts, instances, destinations, credentials, and who changed what.
//!
//! What the store need not understand (channel configs, source secrets) is an opaque document,
//! encrypted at rest.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zapbus_event::{
    AccountId, AuditId, CredentialId, DestinationId, Filter, InstanceId, InstanceState, Position,
    Timestamp,
};

use crate::StoreError;

/// A tenant.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Unique for the gateway.
    pub name: String,
    /// Its app-level source (app secret, verify token), sealed at rest.
    pub source: Option<Value>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The name of the instance of an account that takes events of no number.
pub const RESERVED_INSTANCE: &str = "_account";

/// The account that exists from the first start.
pub const DEFAULT_ACCOUNT: &str = "default";

/// A WhatsApp number or session.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Whose.
    pub account: AccountId,
    /// Unique in the account.
    pub name: String,
    /// Its token, sealed at rest because dialects echo it.
    pub token: String,
    /// Its source, sealed at rest.
    pub source: Option<Value>,
    /// What app-level sources find it by, for example `cloud-api:<phone_number_id>`. Unique in
    /// the account.
    pub route: Option<String>,
    /// Anything else the gateway keeps with it (not secret).
    pub settings: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// Set while it is being deleted: it takes no events any more.
    pub deleted_at: Option<Timestamp>,
}

/// An instance as its events describe it.
#[derive(Debug, Clone, Default)]
pub struct InstanceStatus {
    /// Connection, QR, phone, name.
    pub state: InstanceState,
    /// Time of its last event.
    pub last_event_at: Option<Timestamp>,
}

/// Whether a destination delivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Activity {
    /// It does.
    Active,
    /// A person (or an unreadable config) stopped it.
    Paused {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
    /// The destination asked for it (410) or failed for too long.
    Disabled {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
}

/// A push target.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its id.
    pub id: DestinationId,
    /// Whose.
    pub account: AccountId,
    /// Of which instance; `None`: of all of the account.
    pub instance: Option<InstanceId>,
    /// Unique for the instance (or among the account's global ones).
    pub label: String,
    /// Which events it wants.
    pub filter: Filter,
    /// Leave out ephemeral events.
    pub exclude_ephemeral: bool,
    /// Whether it delivers.
    pub activity: Activity,
    /// Everything else (channel, dialect, order, limits, schedule), sealed at rest.
    pub spec: Value,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What is kept in memory of every destination.
#[derive(Debug, Clone)]
pub struct DestinationHead {
    /// Its id.
    pub id: DestinationId,
    /// Whose.
    pub account: AccountId,
    /// Of which instance; `None`: of all of the account.
    pub instance: Option<InstanceId>,
    /// Which events it wants.
    pub filter: Filter,
    /// Leave out ephemeral events.
    pub exclude_ephemeral: bool,
    /// It is neither paused nor disabled.
    pub active: bool,
}

/// Where a new destination starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the head, in the commit that creates it.
    Now,
    /// At the first event still stored.
    Beginning,
    /// At the first event received at or after.
    Time(Timestamp),
    /// After this position.
    After(Position),
}

/// What a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The operator: everything, in every account.
    Admin,
    /// Everything in one account.
    Account,
    /// Events and destinations of one instance.
    Instance,
}

/// A credential. Its secret is known only to its owner.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its id.
    pub id: CredentialId,
    /// What it may do.
    pub role: Role,
    /// In which account (none for an admin).
    pub account: Option<AccountId>,
    /// On which instance, for [`Role::Instance`].
    pub instance: Option<InstanceId>,
    /// What its owner calls it.
    pub name: String,
    /// A public id that goes with the secret where a dialect has one (VZaps `client_token`).
    pub public_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// A line of the audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Its id.
    pub id: AuditId,
    /// When.
    pub at: Timestamp,
    /// In which account.
    pub account: Option<AccountId>,
    /// Who: a credential's id, `admin`, `cli`, `environment`.
    pub actor: String,
    /// What: `destination.create`, `instance.delete`, …
    pub action: String,
    /// On what: an id.
    pub target: String,
    /// What changed; never a secret.
    pub detail: Value,
}

/// Who does something, for the audit log.
#[derive(Debug, Clone)]
pub struct Actor(pub String);

/// The answer to a create, kept for 24 hours under its `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct Remember {
    /// Who asked: keys are the caller's own.
    pub caller: String,
    /// The key.
    pub key: String,
    /// SHA-256 of what was asked for.
    pub request: [u8; 32],
    /// The answer, sealed at rest.
    pub answer: Value,
}

/// What changes on an instance; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct InstancePatch {
    /// Its name.
    pub name: Option<String>,
    /// Its token.
    pub token: Option<String>,
    /// Its source; `Some(None)` takes it away.
    pub source: Option<Option<Value>>,
    /// Its route; `Some(None)` takes it away.
    pub route: Option<Option<String>>,
    /// Its settings, as a whole.
    pub settings: Option<Value>,
    /// Members to merge into its settings as the commit finds them (RFC 7396): two who change
    /// different ones at the same time do not undo each other.
    pub merge_settings: Option<Value>,
}

impl InstancePatch {
    /// The settings after this patch, if it says anything of them.
    pub(crate) fn settings_of(&self, stored: impl FnOnce() -> Value) -> Option<Value> {
        let patch = match (&self.settings, &self.merge_settings) {
            (whole, None) => return whole.clone(),
            (_, Some(patch)) => patch,
        };
        let mut settings = self.settings.clone().unwrap_or_else(stored);
        merge(&mut settings, patch);
        Some(settings)
    }
}

/// RFC 7396: objects member by member, `null` takes one away.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// How many destinations of one kind an instance may have. Looked at in the commit that makes or
/// changes one: two at the same time do not both get the last place.
#[derive(Debug, Clone)]
pub struct Quota {
    /// The kind: how their labels begin.
    pub labels: String,
    /// So many may be on.
    pub on: usize,
    /// So many may there be, on or off.
    pub all: usize,
    /// One that is paused for this reason is off.
    pub off: String,
    /// What the one that is changed was when it was decided how. When it is something else by now,
    /// another node was faster, and nothing is changed.
    pub seen: Option<Activity>,
}

impl Quota {
    /// Whether there is a place for `new` among those that the instance has `stored`, of whatever
    /// label. One that keeps the place it had is let in, however many there are.
    pub(crate) fn admit(
        &self,
        new: &Destination,
        stored: impl IntoIterator<Item = (DestinationId, String, Activity)>,
    ) -> Result<(), StoreError> {
        let is_on = |activity: &Activity| !matches!(activity, Activity::Paused { reason, .. } if *reason == self.off);
        let (mut on, mut all) = (0, 0);
        let (mut was_on, mut was_there) = (false, false);
        for (id, label, activity) in stored {
            if !label.starts_with(&self.labels) {
                continue;
            }
            if id == new.id {
                if self.seen.as_ref().is_some_and(|seen| *seen != activity) {
                    return Err(StoreError::ChangedMeanwhile);
                }
                (was_on, was_there) = (is_on(&activity), true);
            } else {
                all += 1;
                on += usize::from(is_on(&activity));
            }
        }
        if is_on(&new.activity) && !was_on && on >= self.on {
            return Err(StoreError::TooMany { on: true, most: self.on });
        }
        if !was_there && all >= self.all {
            return Err(StoreError::TooMany { on: false, most: self.all });
        }
        Ok(())
    }
}

/// Which destinations to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DestinationScope {
    /// All of them.
    #[default]
    All,
    /// Those of an instance (not the account's global ones).
    Instance(InstanceId),
    /// The global ones.
    Global,
}
