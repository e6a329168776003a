//! How drafts are made: from a payload of ours, or from an event a native caller posts.

mod native;

pub use native::NativeError;
pub(crate) use native::{GIVEN, ID, REQUEST};

use bytes::Bytes;

use crate::{Data, Draft, Kind, Raw, Source, SourceKind, Timestamp};

impl Draft {
    /// A draft of this payload, serialised once: facet, partition and class follow from it. No
    /// time, no keys; the payload is its own upstream element.
    pub fn from_data(data: &Data, source: Source) -> Self {
        Self::assembled(data, data.to_bytes(), source)
    }

    /// A draft of an event that the gateway itself emits, which happened at `at`.
    pub fn of_gateway(data: &Data, at: Timestamp) -> Self {
        let source = Source {
            kind: SourceKind::Gateway,
            event: data.kind().as_str().to_owned(),
            // One version for the whole workspace.
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            delivery_id: None,
            index: 0,
        };
        Self { occurred_at: Some(at), ..Self::from_data(data, source) }
    }

    /// Makes the draft recognisable by the `Idempotency-Key` of the request that carries it, among
    /// those of the same caller (a credential's id or a role, without `|`), for at least 24 hours
    /// and less than 48 from `now`. Such a key is never shown.
    pub fn idempotency(&mut self, caller: &str, key: &str, now: Timestamp) {
        // Two days' keys: whatever comes within 24 hours shares one of them, whatever comes two
        // days later none.
        let today = now.as_secs().div_euclid(24 * 3600);
        for day in [today, today + 1] {
            self.keys.push(format!("{REQUEST}{caller}|{day}|{key}"));
        }
    }

    /// The key that is shown with the event: the first that does not stand for a request.
    pub fn dedup_key(&self) -> Option<&str> {
        self.keys.iter().map(String::as_str).find(|key| !key.starts_with(REQUEST))
    }

    /// The same, where the bytes that hold the payload are there already.
    pub(crate) fn assembled(data: &Data, bytes: Bytes, source: Source) -> Self {
        let kind: Kind = data.kind();
        let facet = data.facet();
        Self {
            kind,
            ephemeral: kind.is_ephemeral(facet),
            facet: facet.map(str::to_owned),
            data: bytes,
            raw: Raw::Data,
            occurred_at: None,
            source,
            keys: Vec::new(),
            partition: data.partition().into_owned(),
            history: false,
            client_id: None,
            hops: 0,
            aliases: Vec::new(),
        }
    }
}
