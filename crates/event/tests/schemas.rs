//! The published schemas describe what is really sent.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{fs, path::PathBuf};

use serde_json::{Map, Value, json};
use zapbus_event::{Kind, json_schema, sample, source::cloud_api};

/// What `schema` finds wrong with `value`; covers the keywords that our schemas use.
fn fault(schema: &Value, value: &Value, root: &Value) -> Option<String> {
    let schema = match schema {
        Value::Bool(true) => return None,
        Value::Object(schema) => schema,
        other => return Some(format!("not a schema: {other}")),
    };
    let known = [
        "$defs",
        "$ref",
        "$schema",
        "anyOf",
        "const",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maximum",
        "minimum",
        "oneOf",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "additionalProperties",
        "propertyNames",
    ];
    if let Some(keyword) = schema.keys().find(|keyword| !known.contains(&keyword.as_str())) {
        return Some(format!("the test does not know {keyword}"));
    }
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let Some(target) = root.pointer(reference.trim_start_matches('#')) else {
            return Some(format!("{reference} leads nowhere"));
        };
        if let Some(fault) = fault(target, value, root) {
            return Some(fault);
        }
    }
    let wrong = schema.get("type").is_some_and(|types| !is_of(types, value))
        || schema.get("const").is_some_and(|only| only != value)
        || schema.get("enum").is_some_and(|any| !any.as_array().unwrap().contains(value));
    if wrong {
        return Some(format!("{value} is not {schema:?}"));
    }
    for (keyword, one) in [("anyOf", false), ("oneOf", true)] {
        let Some(branches) = schema.get(keyword) else {
            continue;
        };
        let branches = branches.as_array().unwrap().iter();
        let fitting = branches.filter(|branch| fault(branch, value, root).is_none()).count();
        if fitting == 0 || (one && fitting > 1) {
            return Some(format!("{value} fits {fitting} of {keyword}"));
        }
    }
    match value {
        Value::Object(members) => of_members(schema, members, root),
        Value::Array(items) => {
            let schema = schema.get("items")?;
            items.iter().find_map(|item| fault(schema, item, root))
        }
        _ => None,
    }
}

fn of_members(
    schema: &Map<String, Value>,
    members: &Map<String, Value>,
    root: &Value,
) -> Option<String> {
    let required = schema.get("required").and_then(Value::as_array);
    let mut required = required.into_iter().flatten().filter_map(Value::as_str);
    if let Some(missing) = required.find(|name| !members.contains_key(*name)) {
        return Some(format!("{missing} is missing"));
    }
    let properties = schema.get("properties")?.as_object()?;
    members.iter().find_map(|(name, value)| {
        let fault = fault(properties.get(name)?, value, root)?;
        Some(format!("{name}: {fault}"))
    })
}

fn is_of(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("null") => value.is_null(),
        _ => false,
    };
    match types {
        Value::Array(names) => names.iter().any(is),
        name => is(name),
    }
}

/// Names of members that a schema describes, at its first level.
fn described(schema: &Value) -> Vec<&str> {
    let properties = schema["properties"].as_object();
    properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn every_type_has_a_schema_that_fits_its_sample() {
    for kind in Kind::ALL {
        let schema = json_schema(*kind);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let value = serde_json::to_value(sample(*kind)).unwrap();
        assert_eq!(fault(&schema, &value, &schema), None, "{kind}");
        let described = described(&schema);
        for name in value.as_object().unwrap().keys() {
            assert!(described.contains(&name.as_str()), "{kind}: {name} is not described");
        }
    }
}

#[test]
fn schemas_fit_what_is_decoded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/cloud-api");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for routed in cloud_api::decode(&fs::read(&path).unwrap()).events {
            let schema = json_schema(routed.draft.kind);
            let value = serde_json::from_slice(&routed.draft.data).unwrap();
            assert_eq!(fault(&schema, &value, &schema), None, "{}", path.display());
        }
    }
}

#[test]
fn schemas_refuse_what_is_refused() {
    for kind in Kind::ALL {
        let schema = json_schema(*kind);
        let value = serde_json::to_value(sample(*kind)).unwrap();
        for name in schema["required"].as_array().into_iter().flatten() {
            let mut lacking = value.clone();
            lacking.as_object_mut().unwrap().remove(name.as_str().unwrap());
            assert!(fault(&schema, &lacking, &schema).is_some(), "{kind} without {name}");
            let bytes = serde_json::to_vec(&lacking).unwrap();
            assert!(zapbus_event::Data::parse(*kind, &bytes).is_err(), "{kind} without {name}");
        }
    }
}

#[test]
fn null_is_taken_where_the_schemas_say_so() {
    for kind in Kind::ALL {
        let schema = json_schema(*kind);
        let sample = serde_json::to_value(sample(*kind)).unwrap();
        for name in described(&schema) {
            let mut value = sample.clone();
            value[name] = Value::Null;
            let bytes = serde_json::to_vec(&value).unwrap();
            assert_eq!(
                zapbus_event::Data::parse(*kind, &bytes).is_ok(),
                fault(&schema, &value, &schema).is_none(),
                "{kind}: {name}"
            );
        }
    }
}

#[test]
fn optional_members_may_be_null() {
    let table = [
        (Kind::HistorySync, "/chats"),
        (Kind::HistorySync, "/contacts"),
        (Kind::HistorySync, "/messages"),
        (Kind::InstanceSync, "/counts"),
        (Kind::NewsletterUpdated, "/messages"),
        (Kind::ContactUpdated, "/devices"),
        (Kind::ContactUpdated, "/preferences"),
        (Kind::MessageReceived, "/content/view_once"),
        (Kind::MessageReceived, "/content/media/voice"),
        (Kind::MessageReceived, "/content/media/animated"),
    ];
    for (kind, place) in table {
        let schema = json_schema(kind);
        let mut value = serde_json::to_value(sample(kind)).unwrap();
        if place.starts_with("/content/media") {
            value["content"] = json!({ "kind": "audio", "media": {
                "kind": "audio", "mime": "audio/ogg", "state": "id_only" } });
        }
        let (parent, name) = place.rsplit_once('/').unwrap();
        value.pointer_mut(parent).unwrap()[name] = Value::Null;
        assert_eq!(fault(&schema, &value, &schema), None, "{place}");
        let bytes = serde_json::to_vec(&value).unwrap();
        assert!(zapbus_event::Data::parse(kind, &bytes).is_ok(), "{place}");
    }
}

#[test]
fn facets_are_in_the_schemas() {
    for kind in Kind::ALL {
        let (Some(field), Some(values)) = (kind.facet_field(), kind.facet_values()) else {
            continue;
        };
        if field.contains('.') {
            continue;
        }
        let schema = json_schema(*kind);
        assert_eq!(schema["properties"][field]["enum"], serde_json::json!(values), "{kind}");
    }
}
