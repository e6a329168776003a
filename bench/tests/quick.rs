//! The benchmark works: a small run against the gateway of this build, and what it reports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// The gateway beside our own binary: a run of the whole workspace has built it already.
fn gateway() -> PathBuf {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_zapbus-bench")).with_file_name("zapbus");
    if !binary.exists() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "zapbus", "--bin", "zapbus"])
            .status()
            .unwrap();
        assert!(built.success(), "the gateway does not build");
    }
    binary
}

#[test]
fn a_quick_run_delivers_everything_and_reports_it() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_zapbus-bench"))
        .args(["--quick", "--only", "path", "--connections", "16", "--binary"])
        .arg(gateway())
        .arg("--folder")
        .arg(folder.path())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("| 16 connections, pass 1 |"), "{said}");

    let text = std::fs::read_to_string(json).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let [measured] = &report["measured"].as_array().unwrap()[..] else {
        panic!("one measurement was asked for: {text}");
    };
    for figure in ["bare_per_s", "deliveries_per_s", "cpu_s_per_1000", "after_mib"] {
        assert!(measured["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {text}");
    }
    assert!(measured["before"]["sync_ms"].as_f64().unwrap() > 0.0, "{text}");
    assert_eq!(report["sizes"], "quick");
    let verdicts: Vec<_> =
        report["targets"].as_array().unwrap().iter().map(|target| &target["verdict"]).collect();
    assert!(verdicts.iter().all(|verdict| *verdict == "not measured"), "{text}");
    assert!(!text.contains(folder.path().to_str().unwrap()), "the report names a folder: {text}");
}

#[test]
fn a_quick_run_measures_clusters() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_zapbus-bench"))
        .args(["--quick", "--only", "cluster", "--binary"])
        .arg(gateway())
        .arg("--folder")
        .arg(folder.path())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let (said, noted) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{noted}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let measured = report["measured"].as_array().unwrap();
    if noted.contains("cluster: skipped: there is no PostgreSQL") {
        assert!(std::env::var("ZAPBUS_TEST_PEERS").as_deref() != Ok("require"), "{noted}");
        assert!(said.contains("not measured"), "{said}");
        assert!(measured.is_empty(), "{report}");
        return;
    }
    let figure = |what: &str, figure: &str| {
        let record = measured.iter().find(|record| record["what"] == what);
        let value =
            record.unwrap_or_else(|| panic!("{what}: {report}"))["figures"][figure].as_f64();
        value.unwrap_or_else(|| panic!("{what}: no {figure}: {report}"))
    };
    for what in ["SQLite", "PostgreSQL, 1 node", "PostgreSQL, 3 nodes"] {
        assert!(figure(what, "deliveries_per_s") > 0.0, "{report}");
    }
    let database = figure("PostgreSQL, 3 nodes", "database_cpu_s_per_1000");
    assert!(database > 0.0 && database < figure("PostgreSQL, 3 nodes", "cpu_s_per_1000"));
    assert!(figure("PostgreSQL with 1 node to SQLite", "cpu_ratio") > 0.0);
    assert!(figure("PostgreSQL, 20000 rows", "drained_per_s") > 0.0);
    assert!(figure("ratio of 20000 to 2000 rows", "cpu_ratio") > 0.0);
}

#[test]
fn a_quick_run_measures_streams() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    // A limit under which some of it fits and some does not: what is left out is told.
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 1000; exec \"$0\" --quick --only streams \"$@\""])
        .arg(env!("CARGO_BIN_EXE_zapbus-bench"))
        .arg("--binary")
        .arg(gateway())
        .arg("--folder")
        .arg(folder.path())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let (said, noted) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{noted}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let figure = |what: &str, figure: &str| {
        let measured = report["measured"].as_array().unwrap();
        let record = measured.iter().find(|record| record["what"] == what);
        let value =
            record.unwrap_or_else(|| panic!("{what}: {report}"))["figures"][figure].as_f64();
        value.unwrap_or_else(|| panic!("{what}: no {figure}: {report}"))
    };
    let idle = "idle: 500 connections";
    assert!(figure(idle, "now_mib") > figure(idle, "rest_mib"), "{report}");
    assert!(figure(idle, "each_kib") > 0.0 && figure(idle, "bare_each_kib") > 0.0, "{report}");
    let single = "one event to 100 subscribers";
    assert!(figure(single, "to_the_last_p50_ms") >= figure(single, "arrival_p50_ms"), "{report}");
    let ratio = figure(single, "to_the_last_p50_ms") / figure(single, "bare_to_the_last_p50_ms");
    assert!((ratio / figure(single, "of_bare") - 1.0).abs() < 0.01, "{report}");
    for subscribers in [1, 100] {
        let sustained = format!("sustained to {subscribers} subscribers");
        assert!(figure(&sustained, "deliveries_per_s") > 0.0, "{report}");
        assert!(figure(&sustained, "bare_deliveries_per_s") > 0.0, "{report}");
    }
    let behind = "catching up: 10000 events behind";
    assert!(figure(behind, "caught_up_per_s") > 0.0, "{report}");
    assert!(figure(behind, "meanwhile_p50_ms") > 0.0, "{report}");

    let left_out = "left out: 1000 connections, for want of open files";
    assert_eq!(figure(left_out, "files_allowed"), 1_000.0);
    assert!(figure(left_out, "files_needed") > 1_000.0, "{report}");
    assert!(noted.contains("1000 connections are left out"), "{noted}");
    let verdict = |what: &str| {
        let targets = report["targets"].as_array().unwrap();
        let target = targets.iter().find(|target| target["what"].as_str().unwrap().contains(what));
        target.unwrap_or_else(|| panic!("{what}: {report}"))["verdict"].clone()
    };
    assert_ne!(verdict("idle WebSocket subscription"), "not measured");
    assert_eq!(verdict("one event to 1,000 subscribers"), "not measured");
}

#[test]
fn a_quick_run_measures_channels() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_zapbus-bench"))
        .args(["--quick", "--only", "sqs,pusher", "--binary"])
        .arg(gateway())
        .arg("--folder")
        .arg(folder.path())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let (said, noted) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{noted}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let measured = report["measured"].as_array().unwrap();
    for scenario in ["sqs", "pusher"] {
        for window in [64, 256] {
            let what = format!("{window} unconfirmed, pass 1");
            let record = measured
                .iter()
                .find(|it| it["scenario"] == scenario && it["what"] == what.as_str());
            let record = record.unwrap_or_else(|| panic!("{scenario}, {what}: {report}"));
            for figure in ["direct_per_s", "channel_per_s", "share_percent"] {
                assert!(record["figures"][figure].as_f64().unwrap() > 0.0, "{figure}: {report}");
            }
        }
    }
}
