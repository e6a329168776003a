//! The documentation, the dashboard and the alerts speak of metrics that exist, and of all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use saphyr::{LoadableYamlNode as _, YamlOwned};
use serde_json::Value;

use super::{busy, form::ask_promtool, scrape};

/// Labels that Prometheus itself puts on.
const OF_PROMETHEUS: [&str; 2] = ["job", "instance"];

/// Series of Prometheus itself.
const UP: &str = "up";

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[tokio::test]
async fn documentation_dashboard_and_alerts_fit_what_is_shown() {
    let (gateway, _receiver, _down, _) = busy().await;
    let found = scrape(&gateway).await;
    let names = found.names();

    let described = described();
    let shown: BTreeMap<String, String> = found
        .families()
        .into_iter()
        .map(|(name, kind)| {
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        })
        .collect();
    let kinds: BTreeMap<String, String> =
        described.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    assert_eq!(kinds, shown, "docs/operations/metrics.md and /metrics");
    for (name, (_, labels)) in &described {
        let series = names.get(name).or_else(|| names.get(&format!("{name}_count"))).unwrap();
        // A family may have no series yet.
        assert!(series.is_empty() || labels == series, "labels of {name}: {labels:?}, {series:?}");
    }

    let with_labels: BTreeMap<String, BTreeSet<String>> = names
        .into_iter()
        .map(|(name, mut labels)| {
            if labels.is_empty() || (labels.len() == 1 && labels.contains("le")) {
                let family = ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|suffix| name.strip_suffix(suffix))
                    .unwrap_or(&name);
                let described = described.get(family).or_else(|| described.get(&name));
                labels.extend(described.into_iter().flat_map(|(_, labels)| labels.clone()));
            }
            (name, labels)
        })
        .collect();
    check_dashboard(&with_labels);
    check_alerts(&with_labels);
    gateway.stop().await;
}

/// Type and labels of every metric in the tables of the documentation.
fn described() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut found = BTreeMap::new();
    for line in read("docs/operations/metrics.md").lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        assert_eq!(cells.len(), 4, "metric, type, labels, meaning: {line}");
        let labels = cells[2].split(", ").filter(|label| *label != "–");
        let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        let name = cells[0].trim_matches('`').to_owned();
        assert!(cells[3].len() > 20, "{line}");
        let before = found.insert(name, (cells[1].to_owned(), labels));
        assert!(before.is_none(), "described twice: {line}");
    }
    found
}

fn check_dashboard(names: &BTreeMap<String, BTreeSet<String>>) {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/zapbus.json")).unwrap();
    let mut queries = 0;
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let title = panel["title"].as_str().unwrap();
        assert!(!title.is_empty());
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let labels = check_query(query, names);
            for label in target["legendFormat"].as_str().unwrap().split("{{").skip(1) {
                let label = label.split("}}").next().unwrap().trim();
                assert!(labels.contains(label), "{title}: {label} in {query}");
            }
            queries += 1;
        }
    }
    assert!(queries > 15, "{queries} queries");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"].as_str().filter(|query| query.contains('(')) {
            check_query(query, names);
        }
    }
}

fn check_alerts(names: &BTreeMap<String, BTreeSet<String>>) {
    let text = read("deploy/prometheus/alerts.yml");
    let runbook = read("docs/operations/monitoring.md");
    let document = &YamlOwned::load_from_str(&text).unwrap()[0];
    let mut alerts = BTreeSet::new();
    for group in document["groups"].as_vec().unwrap() {
        for rule in group["rules"].as_vec().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(alerts.insert(name.to_owned()), "{name} is there twice");
            check_query(rule["expr"].as_str().unwrap(), names);
            assert!(rule["for"].as_str().is_some(), "{name}: how long");
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(["critical", "warning", "info"].contains(&severity), "{name}: {severity}");
            let annotation = |key: &str| rule["annotations"][key].as_str().unwrap().to_owned();
            assert!(annotation("summary").len() > 15, "{name}");
            assert!(annotation("description").len() > 60, "{name}: what to do about it");
            let place = annotation("runbook");
            assert_eq!(place, format!("docs/operations/monitoring.md#{}", name.to_lowercase()));
            assert!(runbook.contains(&format!("\n### {name}\n")), "{name} is not in the runbook");
        }
    }
    let told: BTreeSet<String> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("### Zapbus"))
        .map(|rest| format!("Zapbus{rest}"))
        .collect();
    assert_eq!(told, alerts, "the runbook and the alerts");
    for (verb, path) in [
        (&["check", "rules"][..], "deploy/prometheus/alerts.yml"),
        (&["check", "config"][..], "deploy/prometheus/prometheus.yml"),
        (&["test", "rules"][..], "deploy/prometheus/alerts_test.yml"),
    ] {
        let path = file(path);
        assert!(path.is_file(), "{}", path.display());
        let arguments: Vec<&str> = verb.iter().copied().chain(path.to_str()).collect();
        ask_promtool(&arguments, None);
    }
}

/// Every metric of a query exists and has the labels that it is asked for. Gives the labels that
/// the answer may have.
fn check_query(query: &str, names: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    let mut metrics = 0;
    let mut grouped: Vec<String> = Vec::new();
    let mut rest = query;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"') {
        rest = &rest[start..];
        if let Some(text) = rest.strip_prefix('"') {
            rest = &text[text.find('"').expect(query) + 1..];
            continue;
        }
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        let is_metric = word == UP || word.starts_with("zapbus_") || word.starts_with("process_");
        if is_metric {
            metrics += 1;
            let mut labels: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
            if word != UP {
                let found = names.get(word).unwrap_or_else(|| panic!("{word} in {query}"));
                labels.extend(found.clone());
            }
            if let Some(matchers) = rest.strip_prefix('{') {
                let (matchers, after) = matchers.split_once('}').expect(query);
                for matcher in matchers.split(',').filter(|matcher| !matcher.trim().is_empty()) {
                    let label = matcher.split(['=', '!']).next().unwrap().trim();
                    assert!(labels.contains(label), "{word} has no {label}: {query}");
                }
                rest = after;
            }
            known.extend(labels);
        } else if ["by", "without", "on", "ignoring", "group_left"].contains(&word) {
            let (labels, after) = rest.trim_start()[1..].split_once(')').expect(query);
            grouped.extend(labels.split(',').map(|label| label.trim().to_owned()));
            rest = after;
        }
    }
    assert!(metrics > 0, "no metric of ours: {query}");
    for label in grouped.iter().filter(|label| !label.is_empty()) {
        assert!(known.contains(label), "no {label} in {query}");
    }
    known
}
