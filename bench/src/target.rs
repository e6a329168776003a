//! What was promised, and whether the figures keep it.

use crate::report::{Record, written};

/// One promise. `first` is the goal to hold, `second` where it should be.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) first: f64,
    pub(crate) second: Option<f64>,
    pub(crate) more_is_better: bool,
    pub(crate) measured: Option<f64>,
}

impl Target {
    pub(crate) fn verdict(&self) -> &'static str {
        let Some(measured) = self.measured else {
            return "not measured";
        };
        let keeps = |bound: f64| {
            if self.more_is_better { measured >= bound } else { measured <= bound }
        };
        match self.second {
            Some(second) if keeps(second) => "second met",
            _ if keeps(self.first) => "met",
            _ => "not met",
        }
    }
}

/// Where a figure is found: scenario, what was varied (its beginning), name.
type Place = (&'static str, &'static str, &'static str);

/// What, unit, first and second bound, whether more is better, place.
type Row = (&'static str, &'static str, f64, Option<f64>, bool, Place);

const ROWS: [Row; 20] = [
    (
        "generator straight at the receiver, 64 connections",
        "requests/s",
        100_000.0,
        None,
        true,
        ("path", "64 connections", "bare_per_s"),
    ),
    (
        "durable webhook path, 64 connections: share of the bare rate",
        "%",
        12.0,
        Some(25.0),
        true,
        ("path", "64 connections", "share_percent"),
    ),
    (
        "CPU-seconds of the gateway per 1,000 deliveries",
        "s",
        0.07,
        Some(0.03),
        false,
        ("path", "64 connections", "cpu_s_per_1000"),
    ),
    (
        "added at 200/s, POST to arrival, p50",
        "ms",
        1.0,
        Some(0.5),
        false,
        ("steady", "200/s", "added_p50_ms"),
    ),
    (
        "added at 200/s, POST to arrival, p99",
        "ms",
        4.0,
        Some(2.0),
        false,
        ("steady", "200/s", "added_p99_ms"),
    ),
    (
        "resident memory at rest",
        "MiB",
        40.0,
        Some(25.0),
        false,
        ("path", "64 connections", "rest_mib"),
    ),
    (
        "resident memory after a burst",
        "MiB",
        80.0,
        Some(50.0),
        false,
        ("path", "64 connections", "after_mib"),
    ),
    (
        "memory for a destination with all events waiting",
        "MiB",
        100.0,
        Some(30.0),
        false,
        ("outage", "waiting", "added_mib"),
    ),
    (
        "drain of what waited, against live traffic",
        "ratio",
        1.0,
        None,
        true,
        ("outage", "draining", "of_live"),
    ),
    (
        "start with many events in the store",
        "s",
        1.0,
        Some(0.3),
        false,
        ("start", "events", "ready_s"),
    ),
    (
        "start with many idle destinations",
        "s",
        1.0,
        Some(0.3),
        false,
        ("start", "destinations", "ready_s"),
    ),
    (
        "growth of CPU per delivery with rows in the store",
        "ratio",
        1.3,
        None,
        false,
        ("growth", "ratio", "cpu_ratio"),
    ),
    (
        "growth of allocations per delivery with rows in the store",
        "ratio",
        1.3,
        None,
        false,
        ("growth", "ratio", "allocations_ratio"),
    ),
    (
        "the same of CPU on PostgreSQL, the database's included",
        "ratio",
        1.3,
        None,
        false,
        ("cluster", "ratio", "cpu_ratio"),
    ),
    (
        "an idle WebSocket subscription",
        "KiB",
        11.0,
        Some(7.0),
        false,
        ("streams", "idle", "each_kib"),
    ),
    (
        "one event to 1,000 subscribers, to the last, against a server without a store",
        "times",
        2.0,
        Some(1.2),
        false,
        ("streams", "one event to 1000 subscribers", "of_bare"),
    ),
    (
        "one event to 10,000 subscribers, to the last, against a server without a store",
        "times",
        2.0,
        Some(1.2),
        false,
        ("streams", "one event to 10000 subscribers", "of_bare"),
    ),
    (
        "messages to RabbitMQ, as a share of what its client library sends by itself",
        "%",
        60.0,
        None,
        true,
        ("rabbitmq", "256 unconfirmed", "share_percent"),
    ),
    (
        "messages to SQS, as a share of what its client library sends by itself",
        "%",
        60.0,
        None,
        true,
        ("sqs", "256 unconfirmed", "share_percent"),
    ),
    (
        "messages to Pusher, as a share of what its client library sends by itself",
        "%",
        60.0,
        None,
        true,
        ("pusher", "256 unconfirmed", "share_percent"),
    ),
];

/// Every promise with the median of what was measured for it.
pub(crate) fn all(records: &[Record]) -> Vec<Target> {
    ROWS.iter()
        .map(|&(what, unit, first, second, more_is_better, (scenario, varied, name))| {
            let mut values: Vec<f64> = records
                .iter()
                .filter(|record| record.scenario == scenario && record.what.starts_with(varied))
                .filter_map(|record| record.figure(name))
                .collect();
            values.sort_unstable_by(f64::total_cmp);
            let measured = values.get(values.len() / 2).copied();
            Target { what, unit, first, second, more_is_better, measured }
        })
        .collect()
}

/// The table for the README.
pub(crate) fn table(records: &[Record]) -> String {
    let mut text =
        "| what | goal | further goal | measured | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for target in all(records) {
        let sign = if target.more_is_better { "≥" } else { "≤" };
        let bound = |value: f64| format!("{sign} {} {}", plain(value), target.unit);
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} |\n",
            target.what,
            bound(target.first),
            target.second.map_or_else(String::new, bound),
            target.measured.map_or_else(String::new, |value| format!(
                "{} {}",
                written(value),
                target.unit
            )),
            target.verdict(),
        ));
    }
    text
}

/// A bound as it was written.
fn plain(value: f64) -> String {
    format!("{value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Weather;

    #[test]
    fn the_median_decides() {
        let weather = Weather { load: 0.1, sync_ms: 0.1 };
        let records: Vec<Record> = [11.0, 26.0, 13.0]
            .into_iter()
            .map(|share| Record {
                scenario: "path",
                what: "64 connections, pass".to_owned(),
                figures: vec![("share_percent", share)],
                before: weather,
                after: weather,
            })
            .collect();
        let share = |records: &[Record]| all(records).remove(1);
        assert_eq!((share(&records).measured, share(&records).verdict()), (Some(13.0), "met"));
        assert_eq!(share(&records[..1]).verdict(), "not met");
        assert_eq!(share(&records[1..2]).verdict(), "second met");
        assert_eq!(share(&[]).verdict(), "not measured");
    }
}
