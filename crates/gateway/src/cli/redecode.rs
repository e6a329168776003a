//! `zapbus redecode …`

use std::{collections::BTreeMap, io::Write};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Failure, ago,
    client::{Call, Connection},
    question::confirm,
};

/// Flags of `redecode`.
#[derive(Debug, Args)]
pub(super) struct Redecode {
    /// Only of this instance: its id or name [default: all of the account].
    instance: Option<String>,
    /// Only what came from this kind of source: cloud-api, evolution, wuzapi or waha.
    #[arg(long)]
    source: Option<String>,
    /// Only what was not understood for this reason: `unmapped_name`, `schema_mismatch`,
    /// `not_json` or `wrong_object`.
    #[arg(long)]
    reason: Option<String>,
    /// Only what was received after this time, or so long ago (15m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = ago::time)]
    since: Option<String>,
    /// Only what was received before this time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = ago::time)]
    until: Option<String>,
    /// Only say what it would become.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Redecode {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut body = json!({});
        for (name, value) in [
            ("instance", self.instance),
            ("source", self.source),
            ("reason", self.reason),
            ("after", self.since),
            ("until", self.until),
        ] {
            if let Some(value) = value {
                body[name] = Value::from(value);
            }
        }
        let found = all(to, body.clone(), true)?;
        if self.dry_run {
            return to.say(&found, out);
        }
        let (looked_at, understood) = (&found["looked_at"], &found["understood"]);
        writeln!(err, "{looked_at} events were not understood; {understood} of them are now.")?;
        if found["understood"] == 0 {
            return to.say(&found, out);
        }
        confirm("Store what they are?", self.yes, err)?;
        to.say(&all(to, body, false)?, out)
    }
}

/// What is added up.
const COUNTS: [&str; 6] = ["looked_at", "understood", "stored", "known", "ignored", "failed"];

/// Asks until everything was looked at, and adds up.
fn all(to: &Connection, mut body: Value, dry_run: bool) -> Result<Value, Failure> {
    body["dry_run"] = Value::from(dry_run);
    let mut sums = BTreeMap::from(COUNTS.map(|it| (it, 0)));
    let mut failures: Vec<Value> = Vec::new();
    let mut events: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let mut answer = to.ask(Call::post(&["v1", "redecode"], body.clone()))?;
        for (name, sum) in &mut sums {
            *sum += answer[*name].as_u64().unwrap_or(0);
        }
        for (name, count) in answer["events"].as_object().into_iter().flatten() {
            *events.entry(name.clone()).or_default() += count.as_u64().unwrap_or(0);
        }
        failures.extend(answer["failures"].as_array().into_iter().flatten().cloned());
        match answer["next"].take() {
            Value::Null => break,
            next => body["after"] = next,
        }
    }
    Ok(json!({
        "dry_run": dry_run,
        "looked_at": sums["looked_at"],
        "understood": sums["understood"],
        "events": events,
        "stored": sums["stored"],
        "known": sums["known"],
        "ignored": sums["ignored"],
        "failed": sums["failed"],
        "failures": failures,
    }))
}
