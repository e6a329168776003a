//! Every posted body of the bridged products: the types it yields, and all of what is decoded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use serde_json::{Value, json};
use support::{BRIDGED, Expected};
use zapbus_event::{Data, Raw, source::Decoded};

/// All of a decoded body but the upstream elements, which are compared apart.
fn shown(decoded: &Decoded) -> Value {
    let events = decoded.events.iter().map(|routed| {
        let draft = &routed.draft;
        let aliases: Vec<_> =
            draft.aliases.iter().map(|alias| [&alias.lid, &alias.phone]).collect();
        json!({
            "type": draft.kind,
            "facet": draft.facet,
            "occurred_at": draft.occurred_at,
            "source": draft.source,
            "keys": draft.keys,
            "partition": draft.partition,
            "history": draft.history,
            "ephemeral": draft.ephemeral,
            "aliases": aliases,
            "data": serde_json::from_slice::<Value>(&draft.data).unwrap(),
        })
    });
    json!({
        "keep_body": decoded.keep_body.map(|_| "sha256 of the body"),
        "events": events.collect::<Vec<_>>(),
    })
}

#[test]
fn the_lists_name_every_file() {
    for product in BRIDGED {
        let listed: Vec<_> = product.expected().into_iter().map(|it| it.file).collect();
        assert_eq!(listed, product.files(), "{}", product.name);
    }
}

#[test]
fn bodies_yield_the_expected_types_in_order() {
    for product in BRIDGED {
        for Expected { file, types } in product.expected() {
            let decoded = (product.decode)(&product.posted(&file));
            let found: Vec<_> =
                decoded.events.iter().map(|routed| routed.draft.kind.as_str()).collect();
            assert_eq!(found, types, "{}/{file}", product.name);
        }
    }
}

#[test]
fn payloads_are_what_their_types_demand() {
    for product in BRIDGED {
        for file in product.files() {
            for routed in (product.decode)(&product.posted(&file)).events {
                let draft = routed.draft;
                let data = Data::parse(draft.kind, &draft.data).unwrap();
                assert_eq!(data.facet(), draft.facet.as_deref(), "{file}");
                assert_eq!(data.partition(), draft.partition, "{file}");
                assert_eq!(data.to_bytes(), draft.data, "{file}");
            }
        }
    }
}

#[test]
fn what_is_posted_twice_has_the_same_keys() {
    for product in BRIDGED {
        for file in product.files() {
            let body = product.posted(&file);
            let decoded = (product.decode)(&body);
            assert_eq!(decoded, (product.decode)(&body), "{file}");
            let mut keys: Vec<_> =
                decoded.events.iter().flat_map(|routed| &routed.draft.keys).collect();
            let all = keys.len();
            keys.sort();
            keys.dedup();
            assert_eq!(keys.len(), all, "{file}");
        }
    }
}

#[test]
fn decoded_bodies_do_not_change_unseen() {
    for product in BRIDGED {
        for file in product.files() {
            let decoded = (product.decode)(&product.posted(&file));
            for routed in &decoded.events {
                let Raw::Bytes(raw) = &routed.draft.raw else { panic!("{file}: no element") };
                assert!(serde_json::from_slice::<Value>(raw).is_ok(), "{file}");
            }
            let name = format!("{}__{}", product.name, file.trim_end_matches(".json"));
            insta::assert_json_snapshot!(name, shown(&decoded));
        }
    }
}
