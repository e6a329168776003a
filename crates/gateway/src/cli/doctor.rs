//! `zapbus doctor`: what is slow, failing, lagging or misconfigured, and what to do about it.

mod findings;

use std::{io::Write, path::PathBuf, time::Instant};

use clap::Args;
use serde_json::{Value, json};

use self::findings::{Finding, Severity};
use super::{
    Exit, Failure,
    client::{Call, Connection},
    output::write_json,
};
use crate::{
    clock,
    config::{Config, Environment, Flags},
};

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The configuration file to look at [default: ./zapbus.toml if it is there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Doctor {
    pub(super) fn run(self, to: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
        let flags = Flags { config: self.config, settings: Vec::new() };
        let loaded = Config::load(&flags, &Environment::of_process());
        let mut found: Vec<Finding> = loaded.mistakes.iter().map(findings::of_mistake).collect();

        let asked = Instant::now();
        let answer = to.ask(Call::get(&["v1", "health"]));
        // Half of the way there and back.
        let now = clock::system()().as_millis();
        let now = now.saturating_sub(i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or(0));
        let unreachable = match answer {
            Ok(health) => {
                found.extend(findings::of_health(&health, now));
                None
            }
            Err(failure) if failure.exit == Exit::Unreachable => {
                found.push(Finding {
                    severity: Severity::Problem,
                    code: "unreachable",
                    what: failure.message,
                    advice: "Start it with `zapbus serve`, or say where it is with --url."
                        .to_owned(),
                });
                Some(Exit::Unreachable)
            }
            Err(failure) => return Err(failure),
        };
        found.sort_by_key(|finding| finding.severity);
        if to.wants_lines() {
            let lines: Vec<Value> = found.iter().map(Finding::json).collect();
            to.lines(&lines, out)?;
        } else if to.wants_json() {
            let all: Vec<Value> = found.iter().map(Finding::json).collect();
            write_json(out, &json!({ "findings": all }))?;
        } else {
            write_findings(out, &found)?;
        }
        let problems = found.iter().filter(|finding| finding.severity != Severity::Note).count();
        match (unreachable, problems) {
            (Some(exit), _) => Err(Failure::silent(exit)),
            (None, 0) => Ok(()),
            (None, _) => Err(Failure::silent(Exit::Failure)),
        }
    }
}

fn write_findings(out: &mut dyn Write, found: &[Finding]) -> std::io::Result<()> {
    for finding in found {
        let style = finding.severity.style();
        writeln!(out, "{style}{}{style:#}  {}", finding.severity.name(), finding.what)?;
        writeln!(out, "         {}", finding.advice)?;
    }
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    match (count(Severity::Problem), count(Severity::Warning)) {
        (0, 0) => writeln!(out, "Nothing is wrong."),
        (problems, warnings) => writeln!(out, "{problems} problems, {warnings} warnings."),
    }
}
