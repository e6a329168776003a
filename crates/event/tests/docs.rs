//! The catalog in `docs/events.md` is the catalog in the code.

use zapbus_event::{Kind, json_schema, sample};

const DOCS: &str = include_str!("../../../docs/events.md");

fn line(kind: &Kind) -> String {
    let facet = kind.facet_field().map(|field| format!("`{field}`")).unwrap_or_default();
    format!("| `{kind}` | {} | {facet} |", kind.summary())
}

#[test]
fn every_type_stands_in_the_docs_as_the_code_has_it() {
    let missing: Vec<String> =
        Kind::ALL.iter().map(line).filter(|line| !DOCS.contains(line.as_str())).collect();
    assert!(missing.is_empty(), "docs/events.md lacks:\n{}", missing.join("\n"));
    let (_, types) = DOCS.split_once("## Types").unwrap();
    let rows = types.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, Kind::ALL.len(), "docs/events.md has a type that the code has not");
}

#[test]
fn every_type_has_a_sample_that_fits_its_schema() {
    for kind in Kind::ALL {
        let data: serde_json::Value = serde_json::from_slice(&sample(*kind).to_bytes()).unwrap();
        let schema = json_schema(*kind);
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for name in required.iter().filter_map(serde_json::Value::as_str) {
            assert!(data.get(name).is_some(), "{kind}: the sample lacks {name}");
        }
        for name in data.as_object().unwrap().keys() {
            assert!(
                schema["properties"].get(name).is_some(),
                "{kind}: the schema does not know {name}"
            );
        }
    }
}
