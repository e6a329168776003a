//! Posted bodies of all products, and events as the journal would make them.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::allow_attributes, reason = "an expectation would fail where all of it is used")]

use std::{fs, path::PathBuf};

use serde::Deserialize;
use zapbus_event::{
    Draft, Event, EventId, InstanceId, Position, Timestamp,
    source::{Decoded, cloud_api, evolution, waha, wuzapi},
};

/// A product whose bodies are decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    /// The folder of its fixtures.
    pub(crate) name: &'static str,
    pub(crate) decode: fn(&[u8]) -> Decoded,
}

pub(crate) const EVOLUTION: Product =
    Product { name: "evolution", decode: |body| evolution::decode(body, None) };
pub(crate) const WUZAPI: Product =
    Product { name: "wuzapi", decode: |body| wuzapi::decode(body, None) };
pub(crate) const WAHA: Product = Product { name: "waha", decode: waha::decode };
pub(crate) const CLOUD_API: Product = Product { name: "cloud-api", decode: cloud_api::decode };

/// The products that hand on what a WhatsApp client of theirs sees.
pub(crate) const BRIDGED: [Product; 3] = [EVOLUTION, WUZAPI, WAHA];

#[derive(Deserialize)]
pub(crate) struct Expected {
    pub(crate) file: String,
    pub(crate) types: Vec<String>,
}

impl Product {
    fn folder(self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(self.name)
    }

    pub(crate) fn posted(self, file: &str) -> Vec<u8> {
        fs::read(self.folder().join(file)).unwrap()
    }

    pub(crate) fn expected(self) -> Vec<Expected> {
        let mut all: Vec<Expected> = serde_json::from_slice(&self.posted("expected.json")).unwrap();
        all.sort_by(|one, other| one.file.cmp(&other.file));
        all
    }

    pub(crate) fn files(self) -> Vec<String> {
        let mut files: Vec<_> = fs::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "expected.json")
            .collect();
        files.sort();
        files
    }

    /// The events of a body, as the journal would make them.
    pub(crate) fn events(self, body: &[u8]) -> Vec<Event> {
        (self.decode)(body).events.into_iter().map(|routed| journal(routed.draft)).collect()
    }
}

pub(crate) fn journal(draft: Draft) -> Event {
    let at = Timestamp::from_millis(1_767_225_700_123);
    Event {
        id: EventId::new(at, 1),
        seq: Position(1),
        instance: InstanceId::new(at, 1),
        kind: draft.kind,
        facet: draft.facet,
        occurred_at: draft.occurred_at.unwrap_or(at),
        occurred_at_estimated: draft.occurred_at.is_none(),
        received_at: at,
        source: draft.source,
        dedup_key: draft.keys.first().cloned(),
        partition: draft.partition,
        history: draft.history,
        ephemeral: draft.ephemeral,
        client_id: draft.client_id,
        hops: draft.hops,
        data: draft.data,
        raw: draft.raw,
    }
}
