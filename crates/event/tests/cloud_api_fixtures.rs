//! Every posted body of the fixture folder: the types it yields, and all of what is decoded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use zapbus_event::{
    Data, Raw,
    source::{Decoded, cloud_api},
};

#[derive(Deserialize)]
struct Expected {
    file: String,
    types: Vec<String>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cloud-api")
}

fn posted(file: &str) -> Vec<u8> {
    fs::read(folder().join(file)).unwrap()
}

fn expected() -> Vec<Expected> {
    serde_json::from_slice(&posted("expected.json")).unwrap()
}

/// All of a decoded body but the upstream elements, which are compared apart.
fn shown(decoded: &Decoded) -> Value {
    let events = decoded.events.iter().map(|routed| {
        let draft = &routed.draft;
        json!({
            "phone_number_id": routed.phone_number_id,
            "waba_id": routed.waba_id,
            "type": draft.kind,
            "facet": draft.facet,
            "occurred_at": draft.occurred_at,
            "source": draft.source,
            "keys": draft.keys,
            "partition": draft.partition,
            "history": draft.history,
            "ephemeral": draft.ephemeral,
            "data": serde_json::from_slice::<Value>(&draft.data).unwrap(),
        })
    });
    json!({
        "keep_body": decoded.keep_body.map(|_| "sha256 of the body"),
        "events": events.collect::<Vec<_>>(),
    })
}

#[test]
fn the_list_names_every_file() {
    let mut listed: Vec<_> = expected().into_iter().map(|expected| expected.file).collect();
    let mut present: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "expected.json")
        .collect();
    listed.sort();
    present.sort();
    assert_eq!(listed, present);
}

#[test]
fn bodies_yield_the_expected_types_in_order() {
    for Expected { file, types } in expected() {
        let decoded = cloud_api::decode(&posted(&file));
        let found: Vec<_> =
            decoded.events.iter().map(|routed| routed.draft.kind.as_str()).collect();
        assert_eq!(found, types, "{file}");
    }
}

#[test]
fn payloads_are_what_their_types_demand() {
    for Expected { file, .. } in expected() {
        for routed in cloud_api::decode(&posted(&file)).events {
            let draft = routed.draft;
            let data = Data::parse(draft.kind, &draft.data).unwrap();
            assert_eq!(data.facet(), draft.facet.as_deref(), "{file}");
            assert_eq!(data.partition(), draft.partition, "{file}");
            assert_eq!(data.to_bytes(), draft.data, "{file}");
        }
    }
}

#[test]
fn upstream_elements_are_kept_byte_for_byte() {
    for Expected { file, .. } in expected() {
        let body = posted(&file);
        let body = std::str::from_utf8(&body).unwrap();
        for routed in cloud_api::decode(body.as_bytes()).events {
            let Raw::Bytes(raw) = &routed.draft.raw else { panic!("{file}: no element") };
            assert!(body.contains(std::str::from_utf8(raw).unwrap()), "{file}");
        }
    }
}

#[test]
fn a_body_posted_twice_has_the_same_keys() {
    for Expected { file, .. } in expected() {
        let body = posted(&file);
        let decoded = cloud_api::decode(&body);
        assert_eq!(decoded, cloud_api::decode(&body), "{file}");
        let mut keys: Vec<_> =
            decoded.events.iter().flat_map(|routed| &routed.draft.keys).collect();
        let all = keys.len();
        assert_eq!(all, decoded.events.len(), "{file}");
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "{file}");
    }
}

#[test]
fn decoded_bodies_do_not_change_unseen() {
    let mut files: Vec<_> = expected().into_iter().map(|expected| expected.file).collect();
    files.sort();
    for file in files {
        let decoded = cloud_api::decode(&posted(&file));
        insta::assert_json_snapshot!(file.trim_end_matches(".json"), shown(&decoded));
    }
}
