//! The bodies of requests and answers.
//!
//! Made from the description of the API by clients/generate.py: do not change it by hand.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::open_enum::open_enum;

/// An account: a tenant that owns instances.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Account {
    /// When it was made.
    pub created_at: String,
    /// Its id.
    pub id: String,
    /// Unique for the gateway.
    pub name: String,
    /// The web pages that may open live connections, if the account names any; else those of
    /// `realtime.origins` may. Only where one account is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<String>>,
}

/// A name for an account.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct AccountRequest {
    /// 1 to 120 characters, no control characters, no `/`; unique for the gateway.
    pub name: String,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Attempt {
    /// When it started.
    pub at: String,
    /// Why it failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The HTTP status, when there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u32>,
    /// Milliseconds from start to end.
    pub latency_ms: u32,
    /// Its number, from 1.
    pub number: u32,
    /// Headers as sent, secrets masked; only of failed attempts.
    pub request_headers: Vec<Vec<Value>>,
    /// The start of the answer's body.
    pub response_excerpt: String,
    /// Headers of the answer; only of failed attempts.
    pub response_headers: Vec<Vec<Value>>,
}

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Audit {
    /// In which account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What: `destination.create`, `instance.delete`, …
    pub action: String,
    /// Who: the id of a credential or of an instance (by its token), `admin`, `environment`.
    pub actor: String,
    /// When.
    pub at: String,
    /// What changed; never a secret.
    pub detail: Value,
    /// Its id.
    pub id: String,
    /// On what: an id.
    pub target: String,
}

/// What waits in the journal for a destination.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Backlog {
    /// All of them were counted; else there are at least so many.
    pub complete: bool,
    /// Events that match.
    pub events: u64,
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Backup {
    /// Blob files beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<u64>,
    /// Bytes of its database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Ids of the keys that its secrets need. The keys are not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Vec<String>>,
    /// The version of Zapbus that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was begun.
    pub began_at: String,
    /// Pages of the database copied so far, while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied_pages: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its name, which is that of its folder.
    pub name: String,
    /// Pages in all, while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u64>,
    /// Its folder on the gateway's machine.
    pub path: String,
    /// `running`, `done` or `failed`.
    pub state: String,
}

/// A backup to take.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct BackupRequest {
    /// Letters, digits, `.`, `_` and `-`; the time when left out. Its folder is made in the one
    /// that the operator has configured (`backup.dir`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What to set in Evolution API, wuzapi or WAHA.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct BridgePaste {
    /// The requests that set the product up, in order; what stands in braces is the product's
    /// own.
    pub requests: Vec<UpstreamRequest>,
    /// What the product shows or signs with.
    pub secret: String,
    /// For a product that can be told nothing but a URL: it holds the secret.
    pub url_with_secret: String,
}

/// What to change of an account. What is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ChangeAccount {
    /// A new name. The account `default` keeps its own. Needs the admin token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The web pages that may open live connections, at most 100, or `*`. They count instead of
    /// those of `realtime.origins`; an empty list takes the account's own away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<Vec<String>>,
}

/// What to change of a destination. What is left out stays as it is; `channel` is merged, with
/// `null` taking a member away.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ChangeDestination {
    /// Members of the channel to change. Another `type` replaces the whole.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub channel: Value,
    /// Another vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// 60 to 31536000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_after_s: Option<u64>,
    /// Other events. What waits already is sent by the new choice; a wider one does not look
    /// back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// What only Evolution API's form lets one choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolution: Option<EvolutionChoices>,
    /// Leave out ephemeral events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_ephemeral: Option<bool>,
    /// `skip`, `extended` or `native`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Carry the untouched upstream element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_raw: Option<bool>,
    /// Put the file of a message into the body as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline_media: Option<bool>,
    /// A new label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Let the dialect carry the keys that decrypt media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_key: Option<bool>,
    /// Whether events of one chat wait for each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering: Option<String>,
    /// 0.01 to 10000, or `null` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_s: Option<f64>,
    /// Another schedule, as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What only RyzeAPI's form lets one choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ryze: Option<RyzeChoices>,
    /// 0 to 300, or `null` for what the instance says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_media_s: Option<u32>,
}

/// What to change of an instance.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ChangeInstance {
    /// What to do about files that events only name. What is left out stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<ChangeInstanceMedia>,
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Make a new token and show it. The old one stops working at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_token: Option<bool>,
    /// A new token of your own. The old one stops working at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What to change about the files of an instance.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ChangeInstanceMedia {
    /// Which files are fetched that events only name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<String>,
    /// 0 to 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_media_s: Option<u32>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ClientCertificate {
    /// The certificate and those between it and its authority, in PEM.
    pub cert_pem: String,
    /// Its key in PEM: PKCS #8, PKCS #1 or SEC 1.
    pub key_pem: String,
}

/// The nodes and shards of a store.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Cluster {
    /// `sqlite` (one node) or `postgres`.
    pub engine: String,
    /// The id of the node that answers.
    pub node: String,
    /// All nodes that have not been away for long, the oldest first.
    pub nodes: Vec<ClusterNode>,
    /// All shards of the journal, in order.
    pub shards: Vec<ClusterShard>,
}

/// One process of the gateway.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ClusterNode {
    /// Its id: another one each time it starts.
    pub id: String,
    /// Seconds for which the oldest event waits that its destinations still have to get; `null`
    /// before it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_s: Option<f64>,
    /// What its operator calls it.
    pub name: String,
    /// Seconds since it was last heard of.
    pub seen_s: f64,
    /// Shards whose lanes it runs.
    pub shards: u64,
    /// Seconds since its start.
    pub up_s: f64,
}

/// A part of the journal.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ClusterShard {
    /// How often it has changed hands.
    pub epoch: u64,
    /// The end of its journal.
    pub head: u64,
    /// When its last event was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
    /// Seconds for which the node has it, unless it is renewed; `null` where there is no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
    /// The id of the node that runs its lanes; `null` while nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its number.
    pub shard: u32,
}

/// What a finished backup holds.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Contents {
    /// Blob files beside it.
    pub blobs: u64,
    /// Bytes of its database.
    pub bytes: u64,
    /// Ids of the keys that its secrets need. The keys are not in it.
    pub keys: Vec<String>,
    /// The version of Zapbus that took it.
    pub version: String,
}

/// A new credential.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct CreateCredential {
    /// For the role `account`: a public id of your own, 1 to 256 visible ASCII characters, unique
    /// for the gateway. Made when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// From when on it is refused; never when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// For the role `instance`: which, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What you call it: 1 to 120 characters.
    pub name: String,
    /// `account` or `instance`; `account` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A new destination. Only `channel` is required.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct CreateDestination {
    /// Where to, by `type`.
    pub channel: ChannelConfig,
    /// The vocabulary of envelope and event names. `native` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Seconds without any success after which it is disabled: 60 to 31536000; 5 days when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disable_after_s: Option<u64>,
    /// Which events: types (`message.received`), families (`message.*`), facets
    /// (`call.updated:offer`), everything (`*`). Everything when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// What only Evolution API's form lets one choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolution: Option<EvolutionChoices>,
    /// Leave out ephemeral events (presence and the like).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude_ephemeral: Option<bool>,
    /// What to do with events the dialect has no name for: `skip`, `extended` or `native`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Carry the untouched upstream element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_raw: Option<bool>,
    /// Put the file of a message into the body as base64, where it is here and not over
    /// `media.max_inline_bytes`. A link to it is there in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline_media: Option<bool>,
    /// 1 to 64 characters; unique for the instance. `default` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Sends under way at one time: 1 to 1000; 64 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// Let the dialect carry the keys that decrypt media. When left out, `vzaps` does, as its
    /// users expect it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_key: Option<bool>,
    /// Whether events of one chat wait for each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering: Option<String>,
    /// Sends per second at most: 0.01 to 10000. Unlimited when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_s: Option<f64>,
    /// When a failed delivery is tried again; the dialect's way when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What only RyzeAPI's form lets one choose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ryze: Option<RyzeChoices>,
    /// Where it starts: `now`, `beginning`, an RFC 3339 time, an event id or a position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Seconds that an event, and its chat, is held for a file that is still to be fetched: 0 to
    /// 300. When left out, what the instance says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_media_s: Option<u32>,
}

/// A new instance.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct CreateInstance {
    /// 1 to 120 characters, no control characters, no `/`; unique in the account.
    pub name: String,
    /// A token of your own: 16 to 256 visible ASCII characters. Made when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What a ticket is for.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct CreateTicket {
    /// The only instance it opens, by id or name; whatever the token reaches when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Credential {
    /// Its account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// A public id that goes with the secret, for dialects that ask for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_token: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// From when on it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Its id.
    pub id: String,
    /// Its instance, for the role `instance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What its owner calls it.
    pub name: String,
    /// `account` (all of the account) or `instance` (events and destinations of one instance).
    pub role: String,
    /// The token; shown only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// An event that is dead for a subscriber.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DeadAnswer {
    /// How often it was sent.
    pub deliveries: u32,
    /// The event; `null` when it is no longer stored, and in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// When it was last sent.
    pub sent_at: String,
    /// Its position.
    pub seq: u64,
}

/// One event for one destination, in one run.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Delivery {
    /// Attempts made so far.
    pub attempts: u32,
    /// When the first attempt had ended.
    pub created_at: String,
    /// Why it is dead: `attempts`, `refused` or `render_failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<String>,
    /// The destination.
    pub destination_id: String,
    /// Error of the last attempt, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The event; `null` when it is no longer stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The event's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// With `expired`: how many events were lost in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_events: Option<u64>,
    /// With `expired`: the last position of the stretch that was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expired_to: Option<u64>,
    /// HTTP status of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u32>,
    /// Its id.
    pub id: String,
    /// The event's instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Milliseconds of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// When the next attempt is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// The start of the last answer's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_excerpt: Option<String>,
    /// The replay it belongs to; `null` for live delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// The event's position.
    pub seq: u64,
    /// `delivered`, `retrying`, `waiting`, `dead`, `cancelled` or `expired`.
    pub status: String,
    /// When it last changed.
    pub updated_at: String,
}

/// A delivery with its attempts and what was sent.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DeliveryDetail {
    /// Its attempts, oldest first. Of one that was accepted at once, only what `delivery` holds.
    pub attempts: Vec<Attempt>,
    /// The delivery.
    pub delivery: Delivery,
    /// Why what was sent cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_request: Option<String>,
    /// What was sent, rendered again from the journal as the destination is set now; `null` when
    /// that cannot be told any more, for the reason in `no_request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RenderedRequest>,
}

/// What became of deliveries. Replays count too; a probe that was not an attempt of its event
/// does not.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DeliveryFigures {
    /// Of these, accepted by the destination.
    pub accepted: u64,
    /// Attempts that have finished.
    pub attempts: u64,
    /// Deliveries given up.
    pub dead: u64,
    /// Deliveries whose event was too old to be of use, or gone, before it could be sent.
    pub expired: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Half of all attempts took no longer, in milliseconds; up to an eighth too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p50_ms: Option<u64>,
    /// 99 of 100 attempts took no longer, in milliseconds; up to an eighth too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_p99_ms: Option<u64>,
    /// `accepted` as a share of `attempts`, 0 to 1; none without attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<f64>,
}

/// A page of the delivery log, newest first. It may hold few lines and still have a `next`: a
/// search stops after a while, so that it holds up nobody.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DeliveryPage {
    /// With `status=pending`: what waits in the journal and has no line in the log yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// The deliveries.
    pub data: Vec<Delivery>,
    /// Give it as `after` to get the next page; `null` on the last one. Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A destination: a push target of an instance, or of a whole account.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Destination {
    /// Its account.
    pub account: String,
    /// Where to. Secrets are masked; `secret` is shown when it is made. `null` when it went with
    /// the secrets of a restored backup, or cannot be decrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelConfig>,
    /// When it was made.
    pub created_at: String,
    /// The vocabulary.
    pub dialect: String,
    /// Seconds without any success after which it is disabled.
    pub disable_after_s: u64,
    /// Which events, in normal form.
    pub events: Vec<String>,
    /// What only Evolution API's form lets one choose; only of a destination in that form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evolution: Option<EvolutionChoices>,
    /// Ephemeral events are left out.
    pub exclude_ephemeral: bool,
    /// What becomes of events the dialect has no name for.
    pub fallback: String,
    /// Its id.
    pub id: String,
    /// It carries the untouched upstream element.
    pub include_raw: bool,
    /// The file of a message is put into the body as base64.
    pub inline_media: bool,
    /// Its instance; `null` for one of the whole account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Unique for the instance.
    pub label: String,
    /// Sends under way at one time.
    pub max_in_flight: u32,
    /// The dialect carries the keys that decrypt media.
    pub media_key: bool,
    /// Whether events of one chat wait for each other.
    pub ordering: String,
    /// Sends per second at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit_per_s: Option<f64>,
    /// Why it is paused or disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When a failed delivery is tried again.
    pub retry: Retry,
    /// What only RyzeAPI's form lets one choose; only of a destination in that form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ryze: Option<RyzeChoices>,
    /// Since when it is paused or disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// `active`, `paused` or `disabled`.
    pub state: String,
    /// How delivery goes; only where one destination is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<DestinationStatus>,
    /// When it last changed.
    pub updated_at: String,
    /// Seconds that events are held for their files; `null`: what the instance says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_media_s: Option<u32>,
}

/// The last hour and day of a destination.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DestinationStatistics {
    /// The destination.
    pub destination_id: String,
    /// The last day.
    pub last_day: DestinationWindow,
    /// When it last accepted an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
    /// The last hour.
    pub last_hour: DestinationWindow,
    /// How long ago that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_since_last_event: Option<f64>,
}

/// How delivery goes.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DestinationStatus {
    /// Everything up to this position is settled, skipped or held in the log. `null` for a
    /// destination of a whole account where the journal has several shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
    /// Deliveries given up that are still in the log.
    pub dead: u64,
    /// `flowing` or `probing`.
    pub health: String,
    /// Sends under way.
    pub in_flight: u32,
    /// The last failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the next probe is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_probe_at: Option<String>,
    /// When the oldest event was accepted that is neither settled nor skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unsettled_at: Option<String>,
    /// Since when it is probing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probing_since: Option<String>,
    /// Deliveries that will be tried again.
    pub retrying: u64,
    /// Deliveries behind an unsettled one of their chat (`strict` only).
    pub waiting: u64,
}

/// Figures of a destination since a time.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DestinationWindow {
    /// What became of its deliveries.
    pub deliveries: DeliveryFigures,
    /// They begin here: a round five minutes, up to five minutes before the hour or day.
    pub from: String,
}

/// All destinations, and those that need attention.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DestinationsHealth {
    /// Those that need attention, up to 50.
    pub attention: Vec<TroubledDestination>,
    /// Of those looked at, disabled.
    pub disabled: u64,
    /// How many were looked at.
    pub looked_at: u64,
    /// There are more.
    pub more: bool,
    /// Of those looked at, paused by somebody.
    pub paused: u64,
    /// Of those looked at, whose endpoint fails as a whole.
    pub probing: u64,
}

/// What destinations may reach.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct EgressHealth {
    /// The allow-list.
    pub allow: Vec<String>,
    /// This machine is allowed because only it reaches the gateway.
    pub loopback_allowed: bool,
}

/// Encryption of what is secret in the store.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct EncryptionHealth {
    /// The key was made by the gateway and lies in the data folder.
    pub key_in_data_folder: bool,
    /// Ids of the keys that encrypted something, the one that encrypts first.
    pub keys: Vec<String>,
}

/// What to erase. Names of instances and destinations, and their settings, stay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct EraseRequest {
    /// The address of a person, or a phone number with its country code. Other addresses known to
    /// be the same person count too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The address of a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    /// Only count the events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Id in any form, or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// `chat` (with `instance` and `chat`), `person` (with `address`) or `instance` (with
    /// `instance`).
    #[serde(rename = "type")]
    pub kind: String,
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Erased {
    /// Files that held large binaries.
    pub blobs: u64,
    /// Whole upstream bodies.
    pub bodies: u64,
    /// Lines of the delivery log; what was still to be sent of them is called off.
    pub deliveries: u64,
    /// Nothing was erased: only the events were counted.
    pub dry_run: bool,
    /// Events.
    pub events: u64,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct EventPage {
    /// Where this page ends, also at the end: give it as `after` to go on later. Opaque.
    pub cursor: String,
    /// The events, by position, as the native dialect writes them.
    pub data: Vec<crate::Event>,
    /// Events between `after` and this page are past their retention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<bool>,
    /// Give it as `after` to get the next page; `null` when there is nothing more for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An event type.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct EventType {
    /// Worth little after seconds, always or for some facets: short retention, no late retries.
    pub ephemeral: bool,
    /// The member of `data` that a filter can name after a colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facet: Option<String>,
    /// The values it can have; `null` when any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facet_values: Option<Vec<String>>,
    /// About destinations themselves: `*` does not match it.
    pub operational: bool,
    /// A sample as each dialect writes it: the messages, in order.
    pub samples: Value,
    /// The JSON Schema (2020-12) of `data`.
    pub schema: Value,
    /// What it tells.
    pub summary: String,
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
}

/// Every event type.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct EventTypes {
    /// In the order of the catalog.
    pub data: Vec<EventType>,
    /// Always `null`: the list is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What only `dialect: "evolution"` lets a destination choose. What is left out of a change stays
/// as it is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct EvolutionChoices {
    /// Write what Evolution API Lite writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lite: Option<bool>,
    /// Of what `events` lets through, only what goes out under these names of Evolution API. All,
    /// when the list is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Show the instance's token, as `apikey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub show_key: Option<bool>,
}

/// One message and the answer to it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Exchange {
    /// Why it failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The start of the answer's body.
    pub excerpt: String,
    /// Milliseconds from the first byte sent to the last byte read.
    pub latency_ms: u64,
    /// `accepted`, `retry`, `refused`, `gone` or `not_sent`.
    pub outcome: String,
    /// Headers as sent, secrets masked.
    pub request_headers: Vec<Vec<Value>>,
    /// Headers of the answer.
    pub response_headers: Vec<Vec<Value>>,
    /// The HTTP status, when there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
}

open_enum! {
    /// Kinds of exchanges.
    ExchangeType { Topic = "topic", Direct = "direct", Fanout = "fanout", Headers = "headers" }
}

/// When a credential ends.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ExpireCredential {
    /// From when on it is refused; now when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

open_enum! {
    /// Which files are fetched that events only name.
    Files { None = "none", Ids = "ids", All = "all" }
}

/// How the gateway is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// The gateway's clock.
    pub at: String,
    /// All destinations, and those that need attention.
    pub destinations: DestinationsHealth,
    /// What destinations may reach.
    pub egress: EgressHealth,
    /// Encryption of what is secret in the store.
    pub encryption: EncryptionHealth,
    /// All instances, and those that need attention.
    pub instances: InstancesHealth,
    /// When the last backup was begun that is done; `null` where backups are the server's
    /// business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup_at: Option<String>,
    /// The listener.
    pub listener: ListenerHealth,
    /// Files that events only name.
    pub media: MediaHealth,
    /// Why no traffic is to be sent to it now, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// The store.
    pub store: StoreHealth,
    /// The gateway's version.
    pub version: String,
}

open_enum! {
    /// When to speak HTTP/2.
    Http2 { Auto = "auto", PriorKnowledge = "prior_knowledge", Never = "never" }
}

/// An instance: one WhatsApp number or session.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Instance {
    /// Its account.
    pub account: String,
    /// When it was made.
    pub created_at: String,
    /// Its id.
    pub id: String,
    /// The same id as other products write it.
    pub ids: InstanceIds,
    /// When its last event was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
    /// What it chooses about the files of messages.
    pub media: InstanceMedia,
    /// Unique in the account.
    pub name: String,
    /// The `type` of its source.
    pub source: String,
    /// What its events say about it.
    pub state: InstanceState,
    /// Its token; shown only when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// An instance's id in the forms of other products.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InstanceIds {
    /// As Evolution API writes it.
    pub uuid: String,
    /// As VZaps writes it.
    pub vzaps: String,
}

/// What an instance chooses about files.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InstanceMedia {
    /// Which files are fetched that events only name: `none`, `ids` (of Cloud API; needs the
    /// source's `access_token`) or `all` (those at plain URLs too).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetch: Option<Files>,
    /// Seconds that an event, and its chat, is held for its file: 0 to 300. A destination may say
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_media_s: Option<u32>,
}

/// The last known state of an instance, as its events told it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InstanceState {
    /// `connecting`, `connected`, `disconnected`, `logged_out`, `banned` or `unknown`.
    pub connection: String,
    /// Its profile name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A pairing code that waits to be typed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_code: Option<PairCode>,
    /// Its number, digits only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Where its picture is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture_url: Option<String>,
    /// The kind of phone or client it is linked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// A QR code that waits to be scanned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr: Option<Qr>,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
}

/// The last hour and day of an instance.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InstanceStatistics {
    /// The instance.
    pub instance_id: String,
    /// The last day.
    pub last_day: InstanceWindow,
    /// When its newest event was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
    /// The last hour.
    pub last_hour: InstanceWindow,
    /// How long ago that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_since_last_event: Option<f64>,
}

/// Figures of an instance since a time.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InstanceWindow {
    /// What became of the deliveries of its own destinations; those of the whole account do not
    /// count.
    pub deliveries: DeliveryFigures,
    /// Events accepted from its source; repeats do not count.
    pub events: u64,
    /// They begin here: a round five minutes, up to five minutes before the hour or day.
    pub from: String,
}

/// All instances, and those that need attention.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct InstancesHealth {
    /// Those that need attention, up to 50.
    pub attention: Vec<QuietInstance>,
    /// How many were looked at.
    pub looked_at: u64,
    /// There are more.
    pub more: bool,
    /// Of those looked at, that have a source whose upstream must reach this gateway.
    pub with_source: u64,
}

/// The listener.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ListenerHealth {
    /// Where it listens, as configured.
    pub address: String,
    /// Proxies in front of it are configured.
    pub behind_proxy: bool,
    /// When its certificate expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_expires_at: Option<String>,
    /// Only this machine reaches it.
    pub loopback: bool,
    /// How clients outside reach it.
    pub public_url: String,
    /// `public_url` is configured; else it is made of the address.
    pub public_url_set: bool,
    /// It speaks TLS.
    pub tls: bool,
}

/// Files that events only name.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct MediaHealth {
    /// The bucket that files are kept in; `null`: the data folder, or the database on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Files given up in the last day.
    pub failed_last_day: u64,
    /// Files that are still to be fetched.
    pub pending: u64,
}

/// What to enter under WhatsApp → Configuration → Webhook in Meta's app dashboard.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct MetaPaste {
    /// "Callback URL".
    pub callback_url: String,
    /// The fields to subscribe to; others are taken too.
    pub fields: Vec<String>,
    /// "Verify token".
    pub verify_token: String,
}

/// A pairing code that waits to be typed.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct PairCode {
    /// The code.
    pub code: String,
    /// When it stops working, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Why a destination is stopped.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct PauseRequest {
    /// Shown with the destination, at most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

open_enum! {
    /// Whose retry schedule and reading of answers to use.
    Preset { Native = "native", Vzaps = "vzaps", Ryze = "ryze", Evolution = "evolution" }
}

/// A signing secret on its way out.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct PreviousSecret {
    /// From when on it signs no more.
    pub expires_at: String,
    /// As it was.
    pub secret: String,
}

open_enum! {
    /// What becomes of an event that is too large.
    PusherOversize { Pointer = "pointer", Refuse = "refuse" }
}

/// A QR code that waits to be scanned.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Qr {
    /// The text behind the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it stops working, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// The picture as a `data:` URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

open_enum! {
    /// Kinds of queues.
    QueueType { Quorum = "quorum", Classic = "classic" }
}

/// An instance that needs attention.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct QuietInstance {
    /// Its account.
    pub account: String,
    /// Its id.
    pub id: String,
    /// When the last event came in from outside, as far as it is still stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<String>,
    /// Its name.
    pub name: String,
    /// No destination gets its events.
    pub no_destination: bool,
    /// It has had no event for a day, or never.
    pub silent: bool,
    /// The `type` of its source.
    pub source: String,
}

open_enum! {
    /// Names to start from.
    RabbitmqPreset { Native = "native", EvolutionInstance = "evolution_instance", EvolutionGlobal = "evolution_global", EvolutionTopic = "evolution_topic" }
}

/// An event that could not be decoded again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RedecodeFailure {
    /// The unknown event.
    pub event: String,
    /// Why, in words.
    pub problem: String,
}

/// Which events to decode again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RedecodeRequest {
    /// Only those after this: an event id, an RFC 3339 time, or `next` of an earlier answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only say what they would become.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Only those of this instance: id in any form, or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Only those that were not understood for this reason: `unmapped_name`, `schema_mismatch`,
    /// `not_json` or `wrong_object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only those of this kind of source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Only those received before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What became of them.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Redecoded {
    /// Nothing was stored. Some of `events` may be known already.
    pub dry_run: bool,
    /// What they are, by type.
    pub events: BTreeMap<String, u64>,
    /// Events that could not be decoded again or stored.
    pub failed: u64,
    /// The first of them, at most a hundred, and why.
    pub failures: Vec<RedecodeFailure>,
    /// How many of these were left out, because their instance does not take their sort.
    pub ignored: u64,
    /// How many of these were known already.
    pub known: u64,
    /// Events that were looked at.
    pub looked_at: u64,
    /// Give it as `after` to go on; `null` when all were looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many of these were stored.
    pub stored: u64,
    /// How many of them are understood now.
    pub understood: u64,
}

/// What rekeying came to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RekeyAnswer {
    /// Ids of the keys that are still needed, the one that encrypts first.
    pub keys: Vec<String>,
    /// Secrets that were encrypted anew.
    pub rewritten: u64,
    /// Secrets that no key given decrypts; they stay as they are.
    pub unreadable: u64,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RenderedPart {
    /// The body.
    pub body: Value,
    /// The event's name in the destination's dialect.
    pub name: String,
}

/// What was sent, as it would be sent now.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RenderedRequest {
    /// The messages, in order.
    pub parts: Vec<RenderedPart>,
    /// Always `true`: bodies are not kept, they are rendered again.
    pub rendered_again: bool,
}

/// How many events a replay would send.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ReplayCount {
    /// All of the stretch was counted; else there are at least so many.
    pub complete: bool,
    /// Always `true`: nothing was sent.
    pub dry_run: bool,
    /// Events that match.
    pub events: u64,
    /// When the first of them was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// When the last of them was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// Which stretch of the past to send again. One of `since` and `from` is required.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ReplayRequest {
    /// Only count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Events after this position or event id, or `beginning`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Events received at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Which of them; the destination's own choice when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// Only events received before this time; up to where live delivery stands when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct ResumeRequest {
    /// `cursor`: where it stopped. `now`: at the head; what waited is not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// When a failed delivery is tried again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct Retry {
    /// Answers (300 to 599) after which an event is not tried again while others are taken: at
    /// most 50. Those of the preset when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_statuses: Option<Vec<u32>>,
    /// The share by which a wait is stretched or shortened at most: 0 to 1; 0.2 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<f64>,
    /// Attempts in all, the first included: 1 to 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The schedule to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Seconds one attempt may take: 0.1 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Seconds to wait before the second, third, … attempt; the last one repeats. 1 to 50 values
    /// of 0 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_s: Option<Vec<f64>>,
}

/// What a bulk retry came to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RetryAnswer {
    /// Nothing was sent: it was only counted.
    pub dry_run: bool,
    /// Of these, whose event is no longer stored.
    pub expired: u64,
    /// Deliveries that match.
    pub matched: u64,
    /// The limit was reached: there are more.
    pub more: bool,
    /// Give it as `after` to go on; `null` when there is no more. Opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Of these, due now.
    pub redelivered: u64,
}

/// Which deliveries to send again. At least one filter is required.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RetryRequest {
    /// `next` of an earlier answer to the same question: goes on behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Of this destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Only count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Of this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Of these event types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<Vec<String>>,
    /// Written at or after this RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whose last attempt was answered with this HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u32>,
    /// Of events of this instance: id in any form, or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How many at most: 1 to 10000; 1000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// In one of these states; `dead` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Vec<String>>,
    /// Written before this RFC 3339 time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What to send a subscriber again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RetrySubscriber {
    /// The only event; everything that is dead for it when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// How long the old secret goes on working.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RotateCredential {
    /// Seconds for which the old secret works beside the new one: 0 to 2592000; 86400 when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u64>,
}

/// How long the old secret goes on signing.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RotateSecretRequest {
    /// Seconds for which the old secret signs beside the new one: 0 to 2592000; 86400 when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u64>,
}

/// A replay.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// When it was made.
    pub created_at: String,
    /// How far it is; `null` where there are `shards`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<u64>,
    /// Its destination.
    pub destination: String,
    /// Events after this position; `null` where there are `shards`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Its number, from 1. Its sends carry `zapbus-replay` with this number.
    pub run: u32,
    /// The same in each shard, of a destination of a whole account where the journal has several;
    /// when one replay is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shards: Option<Vec<RunShard>>,
    /// `running`, `paused`, `done` or `cancelled`.
    pub state: String,
    /// Events up to this position: the destination's cursor when the replay was made, or the last
    /// one before `until`; `null` where there are `shards`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// Which events.
    pub types: Vec<String>,
}

/// How far a replay is in one shard of the journal.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct RunShard {
    /// How far it is.
    pub cursor: u64,
    /// Events after this position.
    pub from: u64,
    /// Which shard.
    pub shard: u32,
    /// Events up to this position.
    pub to: u64,
}

/// What only `dialect: "ryze"` lets a destination choose. What is left out of a change stays as
/// it is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RyzeChoices {
    /// Leave `instanceData.token` empty: whoever gets the body may not act for the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blank_token: Option<bool>,
    /// Add `id` and `timestamp` beside `event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_envelope: Option<bool>,
    /// The shape of `message.content`: `text`, as RyzeAPI sends it, or `object`, as it documents
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_content: Option<String>,
    /// Of what `events` lets through, only what goes out under these names of RyzeAPI. All, when
    /// the list is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// A database server.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ServerHealth {
    /// `fsync`: without it a crash of its machine may damage everything.
    pub fsync: bool,
    /// `full_page_writes`, likewise.
    pub full_page_writes: bool,
    /// Locks that one look into every day of the delivery log takes.
    pub locks_of_a_look: u64,
    /// Connections that it allows in all.
    pub max_connections: u64,
    /// `max_locks_per_transaction`: times the connections, so many locks has it room for.
    pub max_locks_per_transaction: u64,
    /// It takes no writes.
    pub read_only: bool,
    /// Zapbus runs on that version.
    pub supported: bool,
    /// `synchronous_commit`: `off` confirms what a crash may lose.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`: empty when a commit waits for no other server.
    pub synchronous_standby_names: String,
    /// Servers that commits wait for; `null` when that may not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronous_standbys: Option<u64>,
    /// Its version.
    pub version: String,
}

/// A source as it is set, and what to do upstream.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Source {
    /// Whether files of messages can be fetched with a token; of `cloud-api`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_access_token: Option<bool>,
    /// What to enter upstream. Of Meta's webhook only in the answer that sets it; of a bridged
    /// product for whoever may set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paste: Option<Paste>,
    /// The number whose changes are this instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_id: Option<String>,
    /// `cloud-api`, `evolution`, `wuzapi`, `waha` or `native`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where upstream posts to: paste it there.
    pub url: String,
}

/// Where events enter. `native` needs nothing else, nor do `evolution`, `wuzapi` and `waha`;
/// `cloud-api` needs the app secret.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct SourceRequest {
    /// Opens Meta's Graph API, for the files of messages. Left out: it stays; `null` takes it
    /// away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<String>,
    /// Meta's app secret: it signs what Meta posts. Left out: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_secret: Option<String>,
    /// The number whose changes are this instance's. Left out: whatever no other instance of the
    /// account claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone_number_id: Option<String>,
    /// Of a bridged product: what it shows, or signs with. Left out: it stays, or is made if
    /// there is none; `null`: a new one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// `cloud-api`, `evolution`, `wuzapi`, `waha` or `native`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The token Meta repeats when the callback URL is set. Left out: it stays, or is made if
    /// there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify_token: Option<String>,
}

open_enum! {
    /// Names to start from.
    SqsPreset { Native = "native", EvolutionInstance = "evolution_instance", EvolutionGlobal = "evolution_global", EvolutionSingle = "evolution_single" }
}

/// The store.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Bytes of the blob folder.
    pub blob_bytes: u64,
    /// Appends refused since the start because too much was waiting for the disk.
    pub busy: u64,
    /// Of these, in about the last hour.
    pub busy_last_hour: u64,
    /// Milliseconds of a commit, its disk sync included, on average.
    pub commit_ms: f64,
    /// Milliseconds that 99 of 100 commits stay below, as far as it is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_p99_ms: Option<f64>,
    /// Commits since the start.
    pub commits: u64,
    /// `sqlite` (in the data folder) or `postgres` (on a server).
    pub engine: String,
    /// Of these, failed.
    pub failed_commits: u64,
    /// Of these, in about the last hour.
    pub failed_commits_last_hour: u64,
    /// Free bytes of its disk; `null` where that is the server's business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Bytes that retention allows it.
    pub max_bytes: u64,
    /// Free bytes below which it takes no events.
    pub min_free_bytes: u64,
    /// Seconds for which what a destination still has to get is kept.
    pub owed_s: u64,
    /// What the server promises of what it has confirmed; `null` in a data folder, or when it
    /// does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerHealth>,
    /// Why it takes no events, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Events that were read since the start and whose head cannot be read; counted to a
    /// thousand.
    pub unreadable_events: u64,
    /// Bytes of the database that hold data.
    pub used_bytes: u64,
    /// What happens then: `gap` or `refuse`.
    pub when_full: String,
}

/// A subscriber.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Subscriber {
    /// Its account; `null`: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// When it first connected.
    pub created_at: String,
    /// It was sent everything up to here: `after` takes it.
    pub cursor: String,
    /// Events that it did not acknowledge however often they were sent.
    pub dead: Vec<DeadAnswer>,
    /// The dialect it reads.
    pub dialect: String,
    /// Its id.
    pub id: String,
    /// Its instance; `null`: all of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What it calls itself.
    pub name: String,
    /// The credential it connects with.
    pub owner: String,
    /// The types it asks for.
    pub types: Vec<String>,
    /// Events it was sent and has not acknowledged.
    pub unacked: u64,
    /// When it last moved.
    pub used_at: String,
}

/// What is sent again.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct SubscriberRetry {
    /// So many events.
    pub retried: u64,
}

/// Which sample to send.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct TestRequest {
    /// An event type. `message.received` when left out.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What became of a sample.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct TestResult {
    /// The messages it became in the destination's dialect, in order; none when the dialect has
    /// no name for the type.
    pub messages: Vec<Exchange>,
    /// Something was sent, and all of it was accepted.
    pub ok: bool,
    /// The type of the sample.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A ticket.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Ticket {
    /// From when on it is refused.
    pub expires_at: String,
    /// Give it as `ticket` in the query of a stream.
    pub ticket: String,
}

/// A destination that needs attention.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct TroubledDestination {
    /// Its account.
    pub account: String,
    /// What waits for it in the journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
    /// Deliveries given up.
    pub dead: u64,
    /// Of these, in the last hour; counted up to 100.
    pub dead_last_hour: u64,
    /// Its id.
    pub id: String,
    /// Its instance; `null` for one of the whole account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its label.
    pub label: String,
    /// The last failure, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the oldest event was accepted that it still has to get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unsettled_at: Option<String>,
    /// Its endpoint fails as a whole.
    pub probing: bool,
    /// Why it is paused or disabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Deliveries that will be tried again.
    pub retrying: u64,
    /// Since when it is paused, disabled or probing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// `active`, `paused` or `disabled`.
    pub state: String,
}

/// A request to the API of a bridged product.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[non_exhaustive]
pub struct UpstreamRequest {
    /// Its JSON body.
    pub body: Value,
    /// Method and path.
    pub request: String,
}

/// Where and how to post.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct WebhookChannel {
    /// The value of `authorization`, sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<String>,
    /// Appends the event's name to the path of the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_events: Option<bool>,
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Shown to a receiver that asks for one (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Seconds that connecting may take, TLS included: 0.05 to 60, by default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<f64>,
    /// Headers to add. Not: those that HTTP itself needs, `webhook-*` and `zapbus-*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// When to speak HTTP/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http2: Option<Http2>,
    /// Signs a JSON Web Token for each attempt and sends it as `authorization`, as Evolution API
    /// does: HS256, with the claims `iat`, `exp` (ten minutes later), `app` and `action`. Goes
    /// before a header `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt_key: Option<String>,
    /// Secrets that sign beside `secret` until they expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_secrets: Option<Vec<PreviousSecret>>,
    /// A proxy to go through: `http://user:password@host:port` or `socks5://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Signs each request (Standard Webhooks 1.0.0): `whsec_` and the base64 form of 24 to 64
    /// bytes. Made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Seconds that one whole exchange may take, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Where to post: `http` or `https`, without user and password.
    pub url: String,
}

/// Which broker to publish to, and under which names.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct RabbitmqChannel {
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Shown to a broker that asks for one (mutual TLS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// Seconds that connecting may take, TLS and login included: 0.05 to 60, by default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<f64>,
    /// Whether to declare exchange and queue. `false` where the user may only publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declare: Option<bool>,
    /// The exchange; may hold `{instance}`, `{event}` and `{event_words}`. Empty: the broker's
    /// default exchange, where the routing key is the name of a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// What kind of exchange is declared: `topic` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange_type: Option<ExchangeType>,
    /// Whether an event that no queue takes is a failure. With `false` the broker drops it, and
    /// it counts as delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandatory: Option<bool>,
    /// Put before the name of the queue, with a dot between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The names to start from; what else is given here wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<RabbitmqPreset>,
    /// A queue to declare and bind with the routing key, with the same placeholders. None when
    /// left out: whoever consumes declares its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// What kind of queue is declared: `quorum` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_type: Option<QueueType>,
    /// The routing key, with the same placeholders: `{instance}.{event}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// Seconds until an event must be confirmed, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Whether the broker may keep messages in memory only, so that they are gone when it
    /// restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transient: Option<bool>,
    /// `amqp://user:password@host:5672/vhost`, or `amqps://` for TLS. Its query may hold
    /// `heartbeat` (seconds, 0 to 3600) and `frame_max` (bytes, 4096 to 1048576).
    pub uri: String,
}

/// Which queues to send to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct SqsChannel {
    /// The id of the access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Seconds that connecting may take, TLS included: 0.05 to 60, by default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<f64>,
    /// Whether to create queues that are not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<bool>,
    /// Where the service is, for a service that speaks the same protocol or a VPC endpoint. AWS's
    /// own address in the region when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Whether it is a FIFO queue: `.fifo` is put behind its name. What a chat brings is one
    /// message group, and the event id is the deduplication id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifo: Option<bool>,
    /// What the names of Evolution API's global queues begin with: `global` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The names to start from; what else is given here wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<SqsPreset>,
    /// The name of the queue; may hold `{instance}`, `{event}` and `{event_words}`:
    /// `{instance}-{event}` when left out. What SQS allows in no name becomes `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The region, which is signed also where `endpoint` is set.
    pub region: String,
    /// The access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<String>,
    /// The token of temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// Seconds that one whole exchange may take, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
}

/// Which app to trigger events in.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, Default)]
pub struct PusherChannel {
    /// The app's id.
    pub app_id: String,
    /// Certificates of further authorities to trust, beside the machine's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// The channel; may hold `{instance}`, `{event}` and `{event_words}`: `{instance}` when left
    /// out. What Pusher allows in no name becomes `_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The cluster the app lives in, at Pusher: `mt1`, `eu`, `sa1` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Seconds that connecting may take, TLS included: 0.05 to 60, by default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout_s: Option<f64>,
    /// The name of the event, with the same placeholders: `{event}` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The host of a server of one's own that speaks the same protocol, instead of `cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The app's key.
    pub key: String,
    /// The most that the data of one event may take: 1024 to 4194304 bytes, by default 10240.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<i64>,
    /// What becomes of an event that is larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oversize: Option<PusherOversize>,
    /// What stands before `/apps` in its paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its port: 443, or 80 without TLS, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// The app's secret. Signs each request, and is not sent.
    pub secret: String,
    /// Seconds that one whole exchange may take, connecting included: 0.05 to 120.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<f64>,
    /// Whether to use TLS: `true` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
}

/// Where a destination sends to.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChannelConfig {
    /// A webhook destination.
    Webhook(WebhookChannel),
    /// A rabbitmq destination.
    Rabbitmq(RabbitmqChannel),
    /// A sqs destination.
    Sqs(SqsChannel),
    /// A pusher destination.
    Pusher(PusherChannel),
    /// One that this version does not know.
    #[serde(untagged)]
    Other(Value),
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self::Webhook(WebhookChannel::default())
    }
}

/// What to enter upstream.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Paste {
    /// In Meta's app dashboard.
    Meta(MetaPaste),
    /// In a bridged product.
    Bridge(BridgePaste),
}

/// What a replay answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Replay {
    /// It has begun.
    Begun(Run),
    /// What it would send: a dry run.
    Counted(ReplayCount),
}
