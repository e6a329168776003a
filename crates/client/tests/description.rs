//! What is made from the description of the API is what the description says.

use std::{path::Path, process::Command};

#[test]
fn types_and_methods_are_those_of_the_description() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/generate.py");
    let made = Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn what_is_written_by_hand_has_the_fields_of_the_description() {
    let snapshot = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../gateway/tests/it/snapshots/it__api_description__openapi.snap");
    let text = std::fs::read_to_string(snapshot).unwrap();
    let (_, document) = text.split_once("\n---\n").unwrap();
    let document: serde_json::Value = serde_json::from_str(document).unwrap();
    let fields = |schema: &str| -> Vec<String> {
        let schema = &document["components"]["schemas"][schema]["properties"];
        schema.as_object().unwrap().keys().cloned().collect()
    };
    let required = |schema: &str| document["components"]["schemas"][schema]["required"].clone();

    let mut new = zapbus_client::NewEvent::new("x", serde_json::json!({}));
    let text = || Some("x".to_owned());
    (new.id, new.occurred_at, new.dedup_key) = (text(), text(), text());
    (new.ordering_key, new.history, new.raw) = (text(), true, Some(serde_json::json!(1)));
    let new = serde_json::to_value(new).unwrap();
    let mut written: Vec<_> = new.as_object().unwrap().keys().cloned().collect();
    let mut described = fields("PostEvent");
    written.sort();
    described.sort();
    assert_eq!(written, described);

    // Everything that is always there has a field; what is not is in `other`.
    let event: serde_json::Map<_, _> = required("Event")
        .as_array()
        .unwrap()
        .iter()
        .map(|name| {
            let name = name.as_str().unwrap().to_owned();
            let value = match name.as_str() {
                "v" | "seq" => serde_json::json!(1),
                "history" => serde_json::json!(false),
                "instance" => serde_json::json!({ "id": "ins_1", "name": "shop" }),
                "data" | "source" => serde_json::json!({}),
                _ => serde_json::json!("x"),
            };
            (name, value)
        })
        .collect();
    let read: zapbus_client::Event = serde_json::from_value(event.into()).unwrap();
    assert!(read.other.is_empty(), "{:?}", read.other.keys());
}
