//! The life of an instance: connection, pairing, errors.

use std::{collections::BTreeMap, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Visitor};

use crate::{
    closed::closed,
    shape::{Address, or_null},
};

/// The session is opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceConnecting {
    /// Which attempt, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// The number behind an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Account {
    /// Its address.
    pub address: Address,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_url: Option<String>,
    /// The phone's system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// The name of the business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_name: Option<String>,
}

/// The session is usable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceConnected {
    /// The number, when the upstream says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// An earlier session goes on.
    #[serde(default)]
    pub resumed: bool,
}

closed! {
    /// Why a session is down.
    ConnectionLoss {
        Network = "network",
        ServerClose = "server_close",
        /// Another client took the session over.
        Replaced = "replaced",
        /// On request.
        Stopped = "stopped",
        Refused = "refused",
        Unknown = "unknown",
    }
}

/// The session is down, the credentials are still valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceDisconnected {
    /// Why.
    pub reason: ConnectionLoss,
    /// The upstream's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Whether the upstream tries again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub will_reconnect: Option<bool>,
}

closed! {
    /// Why credentials ended.
    LogoutReason {
        /// The device was unlinked.
        Unlinked = "unlinked",
        /// The account was locked.
        Locked = "locked",
        Unknown = "unknown",
    }
}

/// The credentials are no longer valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceLoggedOut {
    /// Why.
    pub reason: LogoutReason,
    /// The upstream's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// What the upstream says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A temporary ban or account lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceBanned {
    /// The upstream's number for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Seconds until it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where to appeal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appeal_url: Option<String>,
    /// It does not end; absent when the upstream does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permanent: Option<bool>,
}

closed! {
    /// How the QR code can be had.
    QrFetch {
        /// It is in the event.
        Inline = "inline",
        /// Only by asking the upstream.
        Upstream = "upstream",
    }
}

/// A new QR code to scan, or none left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceQr {
    /// What the QR code says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The picture, as a `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_data_url: Option<String>,
    /// Seconds until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// Which one, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// There will be no more: start again.
    #[serde(default)]
    pub exhausted: bool,
    /// How the code can be had.
    pub fetch: QrFetch,
}

closed! {
    /// What became of a pairing code.
    PairCodeState {
        Issued = "issued",
        RefreshNeeded = "refresh_needed",
        Failed = "failed",
    }
}

/// A pairing code for a phone number was issued, must be refreshed, or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstancePairCode {
    /// The code: eight characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Seconds until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
    /// What became of it.
    pub state: PairCodeState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A device was linked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstancePaired {
    /// The number, when the upstream says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

closed! {
    /// Where something failed.
    ErrorStage {
        Pairing = "pairing",
        Connection = "connection",
        Protocol = "protocol",
        Sync = "sync",
        UpstreamApi = "upstream_api",
        Session = "session",
    }
}

/// A failure that is none of the other events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceError {
    /// Where.
    pub stage: ErrorStage,
    /// The upstream's name or number for it. A number is taken as text.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "name_or_number")]
    #[schemars(schema_with = "name_or_number_schema")]
    pub code: Option<String>,
    /// A short name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The instance cannot go on without help.
    #[serde(default)]
    pub fatal: bool,
}

fn name_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Code;

    impl<'de> Visitor<'de> for Code {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a whole number")
        }

        fn visit_str<E>(self, name: &str) -> Result<Option<String>, E> {
            Ok(Some(name.to_owned()))
        }

        fn visit_i64<E>(self, number: i64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_u64<E>(self, number: u64) -> Result<Option<String>, E> {
            Ok(Some(number.to_string()))
        }

        fn visit_unit<E>(self) -> Result<Option<String>, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(Code)
}

fn name_or_number_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "integer", "null"] })
}

closed! {
    /// How far a synchronisation has come.
    SyncPhase {
        OfflinePreview = "offline_preview",
        OfflineCompleted = "offline_completed",
        AppStateCompleted = "app_state_completed",
        AppStateFailed = "app_state_failed",
        Dirty = "dirty",
        KeepaliveTimeout = "keepalive_timeout",
        KeepaliveRestored = "keepalive_restored",
    }
}

/// Progress of offline or app-state synchronisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceSync {
    /// How far.
    pub phase: SyncPhase,
    /// How many of what, by the upstream's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_null")]
    #[schemars(with = "Option<BTreeMap<String, u64>>")]
    pub counts: BTreeMap<String, u64>,
}

closed! {
    /// What became of an instance.
    InstanceAction {
        Created = "created",
        Deleted = "deleted",
        Loaded = "loaded",
        Unloaded = "unloaded",
    }
}

/// An instance was created, deleted, loaded or unloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InstanceLifecycle {
    /// What became of it.
    pub action: InstanceAction,
}
