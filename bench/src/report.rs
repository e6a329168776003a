//! The report: a Markdown table per scenario for people, one JSON document for machines.

use serde_json::{Map, Value, json};

use crate::{machine::Weather, target};

/// One measurement with its figures, by name.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) scenario: &'static str,
    /// What was varied, for example `64 connections, pass 2`.
    pub(crate) what: String,
    pub(crate) figures: Vec<(&'static str, f64)>,
    pub(crate) before: Weather,
    pub(crate) after: Weather,
}

impl Record {
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// Tables with a row per record. A record without any figure of the one before begins another.
pub(crate) fn tables(records: &[Record]) -> String {
    let alike = |one: &Record, other: &Record| {
        one.figures.iter().any(|(name, _)| other.figure(name).is_some())
    };
    let tables: Vec<String> = records.chunk_by(alike).map(table).collect();
    tables.join("\n")
}

/// Columns are the figures of all of them.
fn table(records: &[Record]) -> String {
    let mut columns: Vec<&str> = Vec::new();
    for (name, _) in records.iter().flat_map(|record| &record.figures) {
        if !columns.contains(name) {
            columns.push(name);
        }
    }
    let mut text = format!("| what | {} | load | sync ms |\n", columns.join(" | "));
    text.push_str(&"| --- ".repeat(columns.len() + 3));
    text.push_str("|\n");
    for record in records {
        let cells: Vec<String> = columns
            .iter()
            .map(|name| record.figure(name).map_or_else(|| "–".to_owned(), written))
            .collect();
        text.push_str(&format!(
            "| {} | {} | {:.1} → {:.1} | {:.2} → {:.2} |\n",
            record.what,
            cells.join(" | "),
            record.before.load,
            record.after.load,
            record.before.sync_ms,
            record.after.sync_ms,
        ));
    }
    text
}

/// With as many decimals as it takes to tell it from its neighbours.
pub(crate) fn written(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// The whole report.
pub(crate) fn document(machine: Value, sizes: &str, records: &[Record]) -> Value {
    let weather =
        |weather: &Weather| json!({ "load": weather.load, "sync_ms": rounded(weather.sync_ms) });
    let measured: Vec<Value> = records
        .iter()
        .map(|record| {
            let figures: Map<String, Value> = record
                .figures
                .iter()
                .map(|(name, value)| ((*name).to_owned(), json!(rounded(*value))))
                .collect();
            json!({
                "scenario": record.scenario,
                "what": record.what,
                "figures": figures,
                "before": weather(&record.before),
                "after": weather(&record.after),
            })
        })
        .collect();
    let targets: Vec<Value> = target::all(records)
        .into_iter()
        .map(|target| {
            json!({
                "what": target.what,
                "unit": target.unit,
                "first": target.first,
                "second": target.second,
                "measured": target.measured.map(rounded),
                "verdict": target.verdict(),
            })
        })
        .collect();
    json!({ "machine": machine, "sizes": sizes, "targets": targets, "measured": measured })
}

/// Four significant digits: what lies beyond is noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10_f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_far_as_they_mean_something() {
        assert_eq!(
            ["19532", "4.57", "0.0512", "0"],
            [written(19_532.4), written(4.567), written(0.051_23), written(0.0)]
        );
        assert_eq!([rounded(19_532.4), rounded(0.051_236)], [19_530.0, 0.051_24]);
    }

    #[test]
    fn what_is_alike_shares_a_table_and_a_missing_figure_is_a_dash() {
        let weather = Weather { load: 0.5, sync_ms: 0.2 };
        let record = |what: &str, figures| Record {
            scenario: "path",
            what: what.to_owned(),
            figures,
            before: weather,
            after: weather,
        };
        let tables = tables(&[
            record("a", vec![("x", 1.0)]),
            record("b", vec![("x", 2.0), ("y", 200.0)]),
            record("c", vec![("z", 3.0)]),
        ]);
        assert_eq!(
            tables,
            "| what | x | y | load | sync ms |\n| --- | --- | --- | --- | --- |\n\
             | a | 1.00 | – | 0.5 → 0.5 | 0.20 → 0.20 |\n\
             | b | 2.00 | 200 | 0.5 → 0.5 | 0.20 → 0.20 |\n\
             \n| what | z | load | sync ms |\n| --- | --- | --- | --- |\n\
             | c | 3.00 | 0.5 → 0.5 | 0.20 → 0.20 |\n"
        );
    }
}
