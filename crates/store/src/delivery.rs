//! Lanes' cursors, delivery rows, attempts, runs.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zapbus_event::{
    AccountId, DestinationId, Event, EventId, Filter, InstanceId, Position, Timestamp,
};

use crate::{ShardId, journal::NewEvent, registry::Start};

/// The live run of every destination.
pub const LIVE: u32 = 0;

/// A destination in one of its runs: 0 is live delivery, others are replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId {
    /// The destination.
    pub destination: DestinationId,
    /// The run.
    pub run: u32,
}

/// One event for one destination in one run. Text form: `dlv_<ULID of the destination>_<run>_<seq>`,
/// where the shard is not 0 `…_<run>_<shard>-<seq>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// Whose delivery it is.
    pub lane: LaneId,
    /// In which shard the event is, for a destination of a whole account; else always 0.
    pub shard: ShardId,
    /// Of which event.
    pub seq: Position,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dlv_{}_{}_", self.lane.destination.ulid(), self.lane.run)?;
        if self.shard != ShardId::default() {
            write!(f, "{}-", self.shard)?;
        }
        self.seq.fmt(f)
    }
}

/// Text that is not a delivery id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a delivery id, for example dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17")]
pub struct DeliveryIdError;

impl FromStr for DeliveryId {
    type Err = DeliveryIdError;

    fn from_str(text: &str) -> Result<Self, DeliveryIdError> {
        let mut parts = text.strip_prefix("dlv_").ok_or(DeliveryIdError)?.split('_');
        let (Some(destination), Some(run), Some(seq), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(DeliveryIdError);
        };
        let destination = format!("{}{destination}", DestinationId::PREFIX)
            .parse()
            .map_err(|_| DeliveryIdError)?;
        let run = run.parse().map_err(|_| DeliveryIdError)?;
        let (shard, seq) = seq.split_once('-').unwrap_or(("0", seq));
        let shard = shard.parse().map(ShardId).map_err(|_| DeliveryIdError)?;
        let seq = seq.parse().map(Position).map_err(|_| DeliveryIdError)?;
        Ok(Self { lane: LaneId { destination, run }, shard, seq })
    }
}

/// Why a delivery is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadReason {
    /// Its attempts are used up.
    Attempts,
    /// The destination refused this event for good.
    Refused,
    /// The dialect could not render it.
    RenderFailed,
}

/// State of a delivery row. What is merely ahead of the cursor has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Accepted by the destination.
    Delivered,
    /// Failed so far; tried again at `due`.
    Retrying {
        /// When the next attempt is due.
        due: Timestamp,
    },
    /// Under `strict` only: behind an unsettled event of its key. No attempt yet.
    Waiting,
    /// Given up.
    Dead {
        /// Why.
        reason: DeadReason,
    },
    /// Called off: its destination was deleted or switched off, or the event was erased.
    Cancelled,
    /// A stretch that was pruned before it could be sent, up to and including `to`.
    Expired {
        /// The last position of the stretch.
        to: Position,
        /// How many events of the lane were in it, as far as it can be told.
        count: u64,
    },
}

/// [`State`] without its details, for searching and counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// See [`State::Delivered`].
    Delivered,
    /// See [`State::Retrying`].
    Retrying,
    /// See [`State::Waiting`].
    Waiting,
    /// See [`State::Dead`].
    Dead,
    /// See [`State::Cancelled`].
    Cancelled,
    /// See [`State::Expired`].
    Expired,
}

/// One finished attempt, as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it started.
    pub at: Timestamp,
    /// Its number, from 1.
    pub number: u32,
    /// The peer's answer code (an HTTP status, for a webhook).
    pub code: Option<u16>,
    /// Milliseconds from start to end.
    pub latency_ms: u32,
    /// Why it failed, in words; `None` when accepted.
    pub error: Option<String>,
    /// The start of the answer: 256 bytes when accepted, else 4 KiB.
    pub excerpt: Bytes,
    /// Headers as sent, secrets masked; only of failed attempts.
    pub request_headers: Vec<(String, String)>,
    /// Headers of the answer; only of failed attempts.
    pub response_headers: Vec<(String, String)>,
}

/// A delivery row to write: replaces what stands for (lane, seq).
#[derive(Debug, Clone)]
pub struct Row {
    /// The event's position.
    pub seq: Position,
    /// The state from now on.
    pub state: State,
    /// Attempts made so far.
    pub attempts: u32,
    /// Parts of the event that were accepted already.
    pub parts_done: u16,
    /// Hash of the event's ordering key.
    pub key: u64,
    /// Redelivered by hand: outside every order.
    pub manual: bool,
    /// The attempt that led here, if one did.
    pub attempt: Option<Attempt>,
}

/// Whether the lane trusts its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// Deliveries go out.
    #[default]
    Flowing,
    /// The endpoint fails as a whole: one probe at a time.
    Probing {
        /// When that began.
        since: Timestamp,
        /// Probes sent since, without success.
        probes: u32,
        /// When the next one is due.
        next: Timestamp,
    },
}

/// What a lane writes, in one commit.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Whose.
    pub lane: LaneId,
    /// The lease of its home shard that the lane was started under (see [`crate::Lease::epoch`]): a
    /// settlement is refused with [`crate::StoreError::LeaseLost`] if the shard was lost since, even
    /// if this node has it again. `None`: it says nothing of a lane that runs, so that any lease of
    /// this node will do. Of no meaning on SQLite, where there is one for ever.
    pub epoch: Option<u64>,
    /// In which shard its positions are, for a destination of a whole account. A destination of one
    /// instance has no choice, and the store finds it by itself.
    pub shard: ShardId,
    /// The cursor from now on, if it moved. Never goes back.
    pub cursor: Option<Position>,
    /// Health from now on, if it changed.
    pub health: Option<Health>,
    /// Rows.
    pub rows: Vec<Row>,
    /// Events about the lane itself (`destination.*`).
    pub events: Vec<NewEvent>,
}

/// How long a settlement may wait for an append to share a disk sync with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Up to 10 ms.
    CanRide,
    /// Not at all: the lane's window is full.
    Now,
}

/// What a lane finds when it starts.
#[derive(Debug, Clone)]
pub struct LaneStart {
    /// Everything at or below is settled, skipped or held in a row.
    pub cursor: Position,
    /// Last known health.
    pub health: Health,
    /// Positions beyond the cursor that have a row already.
    pub beyond: Vec<Position>,
    /// Ordering keys (hashes) that have `retrying` or `waiting` rows that count for the order
    /// (not `manual`), with the lowest such position and the number of rows.
    pub held: Vec<HeldKey>,
    /// The earliest due time among its `retrying` rows.
    pub next_due: Option<Timestamp>,
}

/// A lane in one of the shards that its destination's events are in.
#[derive(Debug, Clone)]
pub struct ShardStart {
    /// Which.
    pub shard: ShardId,
    /// Where the run ends there; live delivery does not.
    pub end: Option<Position>,
    /// Cursor and rows there. `health` and `next_due` are those of the lane as a whole.
    pub start: LaneStart,
}

/// See [`LaneStart::held`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldKey {
    /// Hash of the ordering key.
    pub key: u64,
    /// Lowest position held.
    pub first: Position,
    /// Rows held, whatever their state.
    pub rows: u64,
    /// How many of them are `waiting`.
    pub waiting: u64,
}

/// A row whose time has come (or that a probe may take), with its event.
#[derive(Debug, Clone)]
pub struct DueRow {
    /// The event, or `None` when it is no longer stored.
    pub event: Option<Arc<Event>>,
    /// In which shard it is, for a destination of a whole account; else always 0.
    pub shard: ShardId,
    /// Its position.
    pub seq: Position,
    /// When it is, or was, due; for `waiting` rows the time they were written.
    pub due: Timestamp,
    /// Attempts made so far.
    pub attempts: u32,
    /// Parts accepted already.
    pub parts_done: u16,
    /// Hash of its ordering key.
    pub key: u64,
    /// Redelivered by hand.
    pub manual: bool,
}

/// Which stretch of the past a replay sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where it starts.
    pub from: Start,
    /// Only what was received before; everything up to the live cursor when there is none.
    pub until: Option<Timestamp>,
}

impl From<Start> for Stretch {
    fn from(from: Start) -> Self {
        Self { from, until: None }
    }
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It sends.
    Running,
    /// A person stopped it for now.
    Paused,
    /// All of it is settled or held in rows.
    Done,
    /// A person called it off.
    Cancelled,
}

/// A replay: a stretch of the past sent again beside live delivery.
#[derive(Debug, Clone)]
pub struct Run {
    /// Destination and number; numbers start at 1.
    pub lane: LaneId,
    /// Events after this position.
    pub from: Position,
    /// Events up to this position: the live cursor when the run was made.
    pub to: Position,
    /// Which of them.
    pub filter: Filter,
    /// Its cursor.
    pub cursor: Position,
    /// Where it stands.
    pub state: RunState,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Which deliveries to find. Unset fields do not restrict.
#[derive(Debug, Clone, Default)]
pub struct DeliveryQuery {
    /// Of destinations of this account.
    pub account: Option<AccountId>,
    /// Of events of this instance.
    pub instance: Option<InstanceId>,
    /// Of this destination.
    pub destination: Option<DestinationId>,
    /// In one of these states; empty: any.
    pub status: Vec<Status>,
    /// Of events that match.
    pub types: Option<Filter>,
    /// Of this event.
    pub event: Option<EventId>,
    /// Whose last attempt was answered with this code.
    pub code: Option<u16>,
    /// Written at or after.
    pub from: Option<Timestamp>,
    /// Written before.
    pub to: Option<Timestamp>,
}

/// A delivery as the log shows it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Which.
    pub id: DeliveryId,
    /// The event's id, type and instance; `None` when it is no longer stored.
    pub event: Option<EventSummary>,
    /// Its state.
    pub state: State,
    /// Attempts made so far.
    pub attempts: u32,
    /// Code of the last attempt.
    pub code: Option<u16>,
    /// Milliseconds of the last attempt.
    pub latency_ms: Option<u32>,
    /// When the row was first written.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Error of the last attempt.
    pub error: Option<String>,
    /// Start of the last answer.
    pub excerpt: Bytes,
}

/// Just enough of an event to show a line of the log.
#[derive(Debug, Clone)]
pub struct EventSummary {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub kind: zapbus_event::Kind,
    /// Its instance.
    pub instance: InstanceId,
}

/// A page of the log, newest first.
#[derive(Debug, Clone)]
pub struct DeliveryPage {
    /// The deliveries that match.
    pub deliveries: Vec<Delivery>,
    /// Where the next page starts, opaque to callers; `None` at the end. May be set on a page with
    /// few or no matches: the search stops after a while so that it never holds up anybody.
    pub next: Option<u64>,
}

/// What a replay would send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunCount {
    /// Events that match.
    pub events: u64,
    /// When the first of them was received.
    pub first: Option<Timestamp>,
    /// When the last of them was received.
    pub last: Option<Timestamp>,
    /// All of the stretch was counted; else there are at least so many.
    pub complete: bool,
}

/// What became of one delivery that was to be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redelivery {
    /// It is due now.
    Due,
    /// Its event is no longer stored.
    Expired,
    /// It belongs to a replay that was called off: nothing of that is sent any more.
    CalledOff,
    /// There is no such delivery (any more), or it is about to be sent anyway.
    None,
}

/// What [`crate::Store::redeliver_where`] did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkRedelivery {
    /// Deliveries that match.
    pub matched: u64,
    /// Of these, set to be sent again now.
    pub redelivered: u64,
    /// Of these, whose event is no longer stored.
    pub expired: u64,
    /// The limit was reached: there are more.
    pub more: bool,
    /// Where they begin, for a further call; unknown when one event alone has more deliveries
    /// than the limit.
    pub next: Option<u64>,
    /// The lanes that have something to send now.
    pub lanes: Vec<LaneId>,
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LaneStats {
    /// Everything at or below is settled, skipped or held in a row.
    pub cursor: Position,
    /// Rows of each state; counted up to [`LaneStats::CAP`].
    pub retrying: u64,
    /// See [`State::Waiting`].
    pub waiting: u64,
    /// See [`State::Dead`].
    pub dead: u64,
    /// When the oldest event was received that is neither settled nor skipped.
    pub oldest_unsettled: Option<Timestamp>,
}

impl LaneStats {
    /// Where counting stops.
    pub const CAP: u64 = 10_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_id_reads_back() {
        let id = DeliveryId {
            lane: LaneId {
                destination: DestinationId::new(Timestamp::from_millis(1_767_225_601_000), 7),
                run: 3,
            },
            shard: ShardId(0),
            seq: Position(42),
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().ends_with("_3_42"));
        let elsewhere = DeliveryId { shard: ShardId(11), ..id };
        assert_eq!(elsewhere.to_string().parse(), Ok(elsewhere));
        for wrong in ["", "dlv_", "dlv_1_2_3", "dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_1_2"] {
            assert_eq!(wrong.parse::<DeliveryId>(), Err(DeliveryIdError), "{wrong}");
        }
    }
}
