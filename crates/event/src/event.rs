//! An event before and after the journal has taken it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{EventId, InstanceId, Kind, Timestamp};

/// A place in the journal: strictly increasing per instance, with holes. Below 2^53, so that
/// every JSON reader keeps it exact.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before the first event.
    pub const START: Self = Self(0);
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A live WhatsApp Web session.
    WhatsappWeb,
    /// Meta's Cloud API webhook.
    CloudApi,
    /// A bridged Evolution API.
    Evolution,
    /// A bridged wuzapi.
    Wuzapi,
    /// A bridged WAHA.
    Waha,
    /// Posted to our own API in canonical form.
    Native,
    /// The built-in simulator.
    Simulator,
    /// The gateway itself.
    Gateway,
}

impl SourceKind {
    /// Its name on the wire, for example `cloud-api`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WhatsappWeb => "whatsapp-web",
            Self::CloudApi => "cloud-api",
            Self::Evolution => "evolution",
            Self::Wuzapi => "wuzapi",
            Self::Waha => "waha",
            Self::Native => "native",
            Self::Simulator => "simulator",
            Self::Gateway => "gateway",
        }
    }
}

/// What the upstream called it and where it stood in the upstream's delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The product it came from.
    pub kind: SourceKind,
    /// The upstream's own name for it.
    pub event: String,
    /// The upstream's version, when it says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The upstream's id of the delivery that carried it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<String>,
    /// Position inside that delivery.
    pub index: u32,
}

/// The untouched upstream element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    /// The element is the event's `data`, byte for byte (native ingest, the gateway's own).
    Data,
    /// The element as received: JSON, except for `event.unknown` with reason `not_json`.
    Bytes(Bytes),
}

/// Two addresses of one person, seen together in one upstream element.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Alias {
    /// The `…@lid` form.
    pub lid: String,
    /// The phone form, `…@s.whatsapp.net`.
    pub phone: String,
}

/// An event as a source hands it over: everything but what the journal assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Its type.
    pub kind: Kind,
    /// The value of its facet field, which filters can name (`call.updated:offer`).
    pub facet: Option<String>,
    /// The payload: a JSON object of the shape its type demands.
    pub data: Bytes,
    /// The upstream element.
    pub raw: Raw,
    /// When it happened, if the upstream says so.
    pub occurred_at: Option<Timestamp>,
    /// Its origin.
    pub source: Source,
    /// Deduplication keys, each unique within the instance; any match means "already known".
    /// The first one that [`Self::dedup_key`] finds is shown. Empty: always new.
    pub keys: Vec<String>,
    /// The second half of the ordering key (`<instance id>/<partition>`), usually the chat.
    pub partition: String,
    /// Replayed by the upstream (history sync, offline drain, redecode).
    pub history: bool,
    /// Worth little after seconds: short retention, no late retries.
    pub ephemeral: bool,
    /// The id a native caller gave.
    pub client_id: Option<String>,
    /// How many gateways it has passed (header `zapbus-hops`).
    pub hops: u8,
    /// Address pairs learned from it.
    pub aliases: Vec<Alias>,
}

/// An event in the journal. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Unique for the whole gateway; its ULID carries `received_at`.
    pub id: EventId,
    /// Its position in the journal.
    pub seq: Position,
    /// The instance it belongs to.
    pub instance: InstanceId,
    /// Its type.
    pub kind: Kind,
    /// The value of its facet field.
    pub facet: Option<String>,
    /// When it happened; equals `received_at` when `occurred_at_estimated`.
    pub occurred_at: Timestamp,
    /// The upstream gave no time.
    pub occurred_at_estimated: bool,
    /// When the gateway accepted it; never decreases along the journal.
    pub received_at: Timestamp,
    /// Its origin.
    pub source: Source,
    /// What [`Draft::dedup_key`] was. Of an event that was posted natively it is the key with its
    /// namespace; the native dialect shows what the caller gave.
    pub dedup_key: Option<String>,
    /// The second half of the ordering key.
    pub partition: String,
    /// Replayed by the upstream.
    pub history: bool,
    /// Worth little after seconds.
    pub ephemeral: bool,
    /// The id a native caller gave.
    pub client_id: Option<String>,
    /// How many gateways it has passed.
    pub hops: u8,
    /// The payload: a JSON object.
    pub data: Bytes,
    /// The upstream element.
    pub raw: Raw,
}

impl Event {
    /// `<instance id>/<partition>`: events with equal keys are attempted one after another.
    pub fn ordering_key(&self) -> String {
        format!("{}/{}", self.instance, self.partition)
    }

    /// The upstream element's bytes.
    pub fn raw_bytes(&self) -> &Bytes {
        match &self.raw {
            Raw::Data => &self.data,
            Raw::Bytes(bytes) => bytes,
        }
    }

    /// Bytes it occupies in memory, for the bounds that are counted in bytes.
    pub fn weight(&self) -> usize {
        let raw = match &self.raw {
            Raw::Data => 0,
            Raw::Bytes(bytes) => bytes.len(),
        };
        self.data.len() + raw + self.partition.len() + size_of::<Self>()
    }
}
