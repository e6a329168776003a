//! Destinations as they are asked for and shown.

mod channel;
mod check;
mod choices;
mod place;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use zapbus_channel as channels;
use zapbus_event::{
    AccountId, DestinationId, Dialect, InstanceId, Position, Timestamp, dialect::Fallback,
};
use zapbus_store::{Activity, Destination, Health, LaneStats, ShardId};

use self::choices::{Choices, EvolutionChoices, RyzeChoices};
pub(in crate::api::native) use self::{
    check::{filter_of, refuse_environment},
    place::Place,
};
use crate::{
    api::error::ApiError,
    lane::LaneStatus,
    spec::{DEFAULT_DISABLE_AFTER_S, DEFAULT_MAX_IN_FLIGHT, Ordering, Retry, Spec},
};

/// A new destination. Only `channel` is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct CreateDestination {
    /// 1 to 64 characters; unique for the instance. `default` when left out.
    #[serde(default)]
    #[schema(example = "default")]
    pub(super) label: Option<String>,
    /// Where to, by `type`.
    #[schema(value_type = channels::Config)]
    channel: Value,
    /// The vocabulary of envelope and event names. `native` when left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "native")]
    dialect: Option<String>,
    /// Which events: types (`message.received`), families (`message.*`), facets
    /// (`call.updated:offer`), everything (`*`). Everything when left out.
    #[serde(default)]
    #[schema(example = json!(["message.*"]))]
    events: Option<Vec<String>>,
    /// Leave out ephemeral events (presence and the like).
    #[serde(default)]
    exclude_ephemeral: bool,
    /// Whether events of one chat wait for each other. `key` when left out.
    #[serde(default)]
    #[schema(inline)]
    ordering: Option<Ordering>,
    /// Where it starts: `now`, `beginning`, an RFC 3339 time, an event id or a position.
    #[serde(default)]
    #[schema(example = "now")]
    start: Option<String>,
    /// Sends under way at one time: 1 to 1000; 64 when left out.
    #[serde(default)]
    max_in_flight: Option<u32>,
    /// Sends per second at most: 0.01 to 10000. Unlimited when left out.
    #[serde(default)]
    rate_limit_per_s: Option<f64>,
    /// When a failed delivery is tried again; the dialect's way when left out.
    #[serde(default)]
    retry: Option<Retry>,
    /// Seconds without any success after which it is disabled: 60 to 31536000; 5 days when left
    /// out.
    #[serde(default)]
    disable_after_s: Option<u64>,
    /// Carry the untouched upstream element.
    #[serde(default)]
    include_raw: bool,
    /// What to do with events the dialect has no name for: `skip`, `extended` or `native`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "skip")]
    fallback: Option<Fallback>,
    /// Let the dialect carry the keys that decrypt media. When left out, `vzaps` does, as its users
    /// expect it.
    #[serde(default)]
    media_key: Option<bool>,
    /// Put the file of a message into the body as base64, where it is here and not over
    /// `media.max_inline_bytes`. A link to it is there in any case.
    #[serde(default)]
    inline_media: bool,
    /// What only RyzeAPI's form lets one choose.
    #[serde(default)]
    ryze: Option<RyzeChoices>,
    /// What only Evolution API's form lets one choose.
    #[serde(default)]
    evolution: Option<EvolutionChoices>,
    /// Seconds that an event, and its chat, is held for a file that is still to be fetched: 0 to
    /// 300. When left out, what the instance says.
    #[serde(default)]
    wait_for_media_s: Option<u32>,
}

/// What to change of a destination. What is left out stays as it is; `channel` is merged, with
/// `null` taking a member away.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api::native) struct ChangeDestination {
    /// A new label.
    #[serde(default)]
    label: Option<String>,
    /// Members of the channel to change. Another `type` replaces the whole.
    #[serde(default)]
    #[schema(value_type = Option<Object>, example = json!({"url": "https://example.com/new"}))]
    channel: Option<Map<String, Value>>,
    /// Another vocabulary.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    dialect: Option<String>,
    /// Other events. What waits already is sent by the new choice; a wider one does not look
    /// back.
    #[serde(default)]
    events: Option<Vec<String>>,
    /// Leave out ephemeral events.
    #[serde(default)]
    exclude_ephemeral: Option<bool>,
    /// Another order.
    #[serde(default)]
    #[schema(inline)]
    ordering: Option<Ordering>,
    /// 1 to 1000.
    #[serde(default)]
    max_in_flight: Option<u32>,
    /// 0.01 to 10000, or `null` for no limit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<f64>)]
    rate_limit_per_s: Option<Option<f64>>,
    /// Another schedule, as a whole.
    #[serde(default)]
    retry: Option<Retry>,
    /// 60 to 31536000.
    #[serde(default)]
    disable_after_s: Option<u64>,
    /// Carry the untouched upstream element.
    #[serde(default)]
    include_raw: Option<bool>,
    /// `skip`, `extended` or `native`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    fallback: Option<Fallback>,
    /// Let the dialect carry the keys that decrypt media.
    #[serde(default)]
    media_key: Option<bool>,
    /// Put the file of a message into the body as base64.
    #[serde(default)]
    inline_media: Option<bool>,
    /// What only RyzeAPI's form lets one choose.
    #[serde(default)]
    ryze: Option<RyzeChoices>,
    /// What only Evolution API's form lets one choose.
    #[serde(default)]
    evolution: Option<EvolutionChoices>,
    /// 0 to 300, or `null` for what the instance says.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u32>)]
    wait_for_media_s: Option<Option<u32>>,
}

/// Tells `null` from absent.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// A destination: a push target of an instance, or of a whole account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Destination)]
pub(in crate::api::native) struct DestinationAnswer {
    /// Its id.
    #[schema(value_type = String, example = "dst_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    pub(super) id: DestinationId,
    /// Its account.
    #[schema(value_type = String)]
    account: AccountId,
    /// Its instance; `null` for one of the whole account.
    #[schema(value_type = Option<String>)]
    instance: Option<InstanceId>,
    /// Unique for the instance.
    label: String,
    /// Where to. Secrets are masked; `secret` is shown when it is made. `null` when it went with
    /// the secrets of a restored backup, or cannot be decrypted.
    #[schema(value_type = Option<channels::Config>)]
    channel: Value,
    /// The vocabulary.
    #[schema(value_type = String)]
    dialect: Dialect,
    /// Which events, in normal form.
    events: Vec<String>,
    /// Ephemeral events are left out.
    exclude_ephemeral: bool,
    /// Whether events of one chat wait for each other.
    #[schema(inline)]
    ordering: Ordering,
    /// Sends under way at one time.
    max_in_flight: u32,
    /// Sends per second at most.
    rate_limit_per_s: Option<f64>,
    /// When a failed delivery is tried again.
    retry: Retry,
    /// Seconds without any success after which it is disabled.
    disable_after_s: u64,
    /// It carries the untouched upstream element.
    include_raw: bool,
    /// What becomes of events the dialect has no name for.
    #[schema(value_type = String)]
    fallback: Fallback,
    /// The dialect carries the keys that decrypt media.
    media_key: bool,
    /// The file of a message is put into the body as base64.
    inline_media: bool,
    /// What only RyzeAPI's form lets one choose; only of a destination in that form.
    #[serde(skip_serializing_if = "Option::is_none")]
    ryze: Option<RyzeChoices>,
    /// What only Evolution API's form lets one choose; only of a destination in that form.
    #[serde(skip_serializing_if = "Option::is_none")]
    evolution: Option<EvolutionChoices>,
    /// Seconds that events are held for their files; `null`: what the instance says.
    wait_for_media_s: Option<u32>,
    /// `active`, `paused` or `disabled`.
    #[schema(value_type = String, example = "active")]
    state: &'static str,
    /// Why it is paused or disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Since when it is paused or disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// How delivery goes; only where one destination is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<StatusAnswer>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// How delivery goes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DestinationStatus)]
pub(super) struct StatusAnswer {
    /// `flowing` or `probing`.
    #[schema(value_type = String, example = "flowing")]
    health: &'static str,
    /// Since when it is probing.
    #[schema(value_type = Option<String>, format = DateTime)]
    probing_since: Option<Timestamp>,
    /// When the next probe is due.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_probe_at: Option<Timestamp>,
    /// Everything up to this position is settled, skipped or held in the log. `null` for a
    /// destination of a whole account where the journal has several shards.
    #[schema(value_type = Option<u64>)]
    cursor: Option<Position>,
    /// Sends under way.
    in_flight: u32,
    /// Deliveries that will be tried again.
    retrying: u64,
    /// Deliveries behind an unsettled one of their chat (`strict` only).
    waiting: u64,
    /// Deliveries given up that are still in the log.
    dead: u64,
    /// When the oldest event was accepted that is neither settled nor skipped.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_unsettled_at: Option<Timestamp>,
    /// The last failure, in words.
    last_error: Option<String>,
}

impl StatusAnswer {
    pub(super) fn new(stats: &LaneStats, live: Option<LaneStatus>, one_cursor: bool) -> Self {
        let live = live.unwrap_or(LaneStatus {
            health: Health::Flowing,
            in_flight: 0,
            cursors: vec![(ShardId::default(), stats.cursor)],
            last_error: None,
        });
        let (health, probing_since, next_probe_at) = match live.health {
            Health::Flowing => ("flowing", None, None),
            Health::Probing { since, next, .. } => ("probing", Some(since), Some(next)),
        };
        Self {
            health,
            probing_since,
            next_probe_at,
            cursor: live.cursors.first().filter(|_| one_cursor).map(|(_, cursor)| *cursor),
            in_flight: live.in_flight,
            retrying: stats.retrying,
            waiting: stats.waiting,
            dead: stats.dead,
            oldest_unsettled_at: stats.oldest_unsettled,
            last_error: live.last_error,
        }
    }
}

impl DestinationAnswer {
    /// As everybody who may see it sees it.
    pub(super) fn new(destination: &Destination) -> Result<Self, ApiError> {
        let spec = known_spec(destination)?;
        let spec = spec.as_ref();
        let channel = spec.map(|spec| serde_json::to_value(spec.channel.masked())).transpose();
        let (state, reason, since) = match &destination.activity {
            Activity::Active => ("active", None, None),
            Activity::Paused { reason, since } => ("paused", Some(reason.clone()), Some(*since)),
            Activity::Disabled { reason, since } => {
                ("disabled", Some(reason.clone()), Some(*since))
            }
        };
        let Choices { ryze, evolution } = spec.map(Choices::of).unwrap_or_default();
        Ok(Self {
            id: destination.id,
            account: destination.account,
            instance: destination.instance,
            label: destination.label.clone(),
            channel: channel.map_err(ApiError::internal)?.unwrap_or_default(),
            dialect: spec.map(|spec| spec.dialect).unwrap_or_default(),
            events: destination.filter.patterns(),
            exclude_ephemeral: destination.exclude_ephemeral,
            ordering: spec.map(|spec| spec.ordering).unwrap_or_default(),
            max_in_flight: spec.map_or(DEFAULT_MAX_IN_FLIGHT, |spec| spec.max_in_flight),
            rate_limit_per_s: spec.and_then(|spec| spec.rate_limit_per_s),
            retry: spec.map(|spec| spec.retry.clone()).unwrap_or_default(),
            disable_after_s: spec.map_or(DEFAULT_DISABLE_AFTER_S, |spec| spec.disable_after_s),
            include_raw: spec.is_some_and(|spec| spec.include_raw),
            fallback: spec.map(|spec| spec.fallback).unwrap_or_default(),
            media_key: spec.is_some_and(|spec| spec.media_key),
            inline_media: spec.is_some_and(|spec| spec.inline_media),
            ryze,
            evolution,
            wait_for_media_s: spec.and_then(|spec| spec.wait_for_media_s),
            state,
            reason,
            since,
            status: None,
            created_at: destination.created_at,
            updated_at: destination.updated_at,
        })
    }

    /// It gets the events of all instances of its account.
    pub(super) fn is_global(&self) -> bool {
        self.instance.is_none()
    }

    /// With the signing secret, for whoever has just made it.
    pub(super) fn with_secret(mut self, secret: Option<String>) -> Self {
        if let Some(secret) = secret {
            self.channel["secret"] = Value::from(secret);
        }
        self
    }
}

/// How a stored destination delivers.
pub(in crate::api) fn spec_of(destination: &Destination) -> Result<Spec, ApiError> {
    known_spec(destination)?.ok_or_else(|| ApiError::Conflict {
        code: "no_channel",
        reason: "This destination was restored without its secrets: set its `channel` first."
            .to_owned(),
    })
}

/// [`spec_of`]; `None` when it went with the secrets of a restored backup.
pub(in crate::api) fn known_spec(destination: &Destination) -> Result<Option<Spec>, ApiError> {
    serde_json::from_value(destination.spec.clone())
        .map_err(|error| ApiError::internal(format!("{} cannot be read: {error}", destination.id)))
}

/// What the store keeps of how a destination delivers.
pub(in crate::api) fn document_of(spec: &Spec) -> Result<Value, ApiError> {
    serde_json::to_value(spec).map_err(ApiError::internal)
}
