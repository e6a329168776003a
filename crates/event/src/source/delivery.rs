//! One upstream body while it is being decoded.

use std::cell::OnceCell;

use bytes::Bytes;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Decoded, Routed};
use crate::{
    Alias, Data, Draft, Raw, Source, SourceKind, Timestamp,
    bounds::{self, is_composed, is_key},
    data::{EventUnknown, UnknownReason},
};

/// The most events that one body yields, beside the one that stands for its rest. An upstream
/// posts some at a time; without a bound, a small body could become very many events.
pub(super) const MAX_EVENTS: usize = 2_000;

/// Gathers what a body yields, in order, and knows what its elements have in common.
pub(super) struct Delivery<'a> {
    kind: SourceKind,
    body: &'a [u8],
    digest: OnceCell<[u8; 32]>,
    keep_body: bool,
    events: Vec<Routed>,
    /// Something in the body tells it from the same words on another day.
    is_unique: bool,
    /// Places of events that have no key unless the body is unique.
    timeless: Vec<usize>,
    is_full: bool,
    /// What was not understood has no key unless the body is unique: this upstream's words have
    /// nothing that tells two days apart.
    pub(super) unknown_is_news: bool,
    /// The upstream's version and its id of this delivery, when it says them.
    pub(super) version: Option<String>,
    pub(super) delivery_id: Option<String>,
    /// Whose the next elements are.
    pub(super) phone_number_id: Option<String>,
    pub(super) waba_id: Option<String>,
}

/// An element that was understood.
pub(super) struct Understood {
    pub(super) data: Data,
    pub(super) occurred_at: Option<Timestamp>,
    pub(super) key: Key,
    pub(super) history: bool,
    /// Pairs of addresses of one person that it shows.
    pub(super) aliases: Vec<Alias>,
}

/// By what a repetition of an element is recognised.
pub(super) enum Key {
    /// Ids of its own.
    Composed(String),
    /// The same, once for each form of the addresses in it; the first as reported.
    Forms(Vec<String>),
    /// Its place in the body, which recognises the same body only.
    Place,
    /// Its place, if anything in the body has an id or a time. Otherwise nothing: the same words
    /// on another day are news.
    Timeless,
    /// Nothing: a state that is reported twice was twice the case.
    Never,
}

/// An element that was not.
pub(super) struct Misfit(pub(super) UnknownReason);

impl Misfit {
    pub(super) const SHAPE: Self = Self(UnknownReason::SchemaMismatch);
    pub(super) const NAME: Self = Self(UnknownReason::UnmappedName);
}

impl From<serde_json::Error> for Misfit {
    fn from(_: serde_json::Error) -> Self {
        Self::SHAPE
    }
}

impl<'a> Delivery<'a> {
    pub(super) fn new(kind: SourceKind, body: &'a [u8]) -> Self {
        Self {
            kind,
            body,
            digest: OnceCell::new(),
            keep_body: false,
            events: Vec::new(),
            is_unique: false,
            timeless: Vec::new(),
            is_full: false,
            unknown_is_news: false,
            version: None,
            delivery_id: None,
            phone_number_id: None,
            waba_id: None,
        }
    }

    /// How many events there are so far.
    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether no more is taken: what else the body holds is summed up at the end.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Something with an id or a time was seen.
    pub(super) fn mark_unique(&mut self) {
        self.is_unique = true;
    }

    /// Adds what an element of this name turned out to be.
    pub(super) fn push(&mut self, name: &str, raw: &RawValue, outcome: Result<Understood, Misfit>) {
        if self.is_closed() {
            return;
        }
        match outcome {
            Ok(understood) => self.understood(name, raw, understood),
            Err(Misfit(reason)) => self.unknown(name, raw, reason),
        }
    }

    fn understood(&mut self, name: &str, raw: &RawValue, element: Understood) {
        let partition = element.data.partition();
        let fit = is_key(&partition)
            && match &element.key {
                Key::Composed(key) => is_composed(key),
                Key::Forms(keys) => keys.iter().all(|key| is_composed(key)),
                Key::Place | Key::Timeless | Key::Never => true,
            };
        // Ids that cannot be indexed are not ids: the element is kept, and not understood.
        if !fit {
            return self.unknown(name, raw, UnknownReason::SchemaMismatch);
        }
        self.is_unique |= element.occurred_at.is_some()
            || matches!(element.key, Key::Composed(_) | Key::Forms(_));
        let keys = match element.key {
            Key::Composed(key) => vec![key],
            Key::Forms(keys) => keys,
            Key::Place => vec![self.transport_key(self.events.len())],
            Key::Timeless => {
                self.timeless.push(self.events.len());
                Vec::new()
            }
            Key::Never => Vec::new(),
        };
        let mut draft = Draft::from_data(&element.data, self.source(name));
        draft.raw = Raw::Bytes(Bytes::copy_from_slice(raw.get().as_bytes()));
        draft.occurred_at = element.occurred_at;
        draft.history = element.history;
        draft.keys = keys;
        draft.aliases = element.aliases;
        self.add(draft);
    }

    /// Adds a part of the body that was not understood.
    pub(super) fn unknown(&mut self, name: &str, raw: &RawValue, reason: UnknownReason) {
        if self.is_closed() {
            return;
        }
        let bytes = raw.get().as_bytes();
        let part = bytes.len() < self.body.trim_ascii().len();
        self.keep_body |= part;
        let body_ref = part.then(|| self.body_ref());
        let raw = Raw::Bytes(Bytes::copy_from_slice(bytes));
        let draft = self.unknown_draft(name, raw, reason, body_ref);
        self.add_unknown(draft);
    }

    /// Adds the whole body as not understood.
    pub(super) fn unknown_body(&mut self, name: &str, reason: UnknownReason) {
        let raw = Raw::Bytes(Bytes::copy_from_slice(self.body));
        let draft = self.unknown_draft(name, raw, reason, None);
        self.add_unknown(draft);
    }

    fn add_unknown(&mut self, mut draft: Draft) {
        if self.unknown_is_news {
            draft.keys.clear();
            self.timeless.push(self.events.len());
        }
        self.add(draft);
    }

    /// Ends the body; its rest, if not all was taken, is known by this name.
    pub(super) fn finish(mut self, rest: &str) -> Decoded {
        if self.is_unique {
            for place in std::mem::take(&mut self.timeless) {
                let key = self.transport_key(place);
                self.events[place].draft.keys.push(key);
            }
        }
        if self.is_full {
            self.keep_body = true;
            // Whose the rest is, nobody has looked.
            self.phone_number_id = None;
            self.waba_id = None;
            let body_ref = Some(self.body_ref());
            let reason = UnknownReason::SchemaMismatch;
            let draft = self.unknown_draft(rest, Raw::Data, reason, body_ref);
            self.add(draft);
        }
        let keep_body = self.keep_body.then(|| self.digest());
        Decoded { events: self.events, keep_body }
    }

    fn body_ref(&self) -> String {
        format!("sha256:{}", hex::encode(self.digest()))
    }

    fn unknown_draft(
        &self,
        name: &str,
        raw: Raw,
        reason: UnknownReason,
        body_ref: Option<String>,
    ) -> Draft {
        let upstream_event = bounds::name(name);
        let data = Data::EventUnknown(EventUnknown { upstream_event, reason, body_ref });
        let mut draft = Draft::from_data(&data, self.source(name));
        draft.raw = raw;
        draft.keys.push(self.transport_key(self.events.len()));
        draft
    }

    /// Whether what comes now is one too many.
    fn is_closed(&mut self) -> bool {
        self.is_full |= self.events.len() == MAX_EVENTS;
        self.is_full
    }

    fn add(&mut self, draft: Draft) {
        self.events.push(Routed {
            phone_number_id: self.phone_number_id.clone(),
            waba_id: self.waba_id.clone(),
            draft,
        });
    }

    fn source(&self, name: &str) -> Source {
        Source {
            kind: self.kind,
            event: bounds::name(name),
            version: self.version.as_deref().map(bounds::name),
            delivery_id: self.delivery_id.as_deref().map(bounds::name),
            index: self.index(),
        }
    }

    fn transport_key(&self, place: usize) -> String {
        format!("t|{}|{place}", hex::encode(self.digest()))
    }

    fn index(&self) -> u32 {
        u32::try_from(self.events.len()).unwrap_or(u32::MAX)
    }

    fn digest(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| Sha256::digest(self.body).into())
    }
}
