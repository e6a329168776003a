//! `zapbus deliveries …`

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure, ago,
    client::{Call, Connection},
    listing::{Listing, Shape},
    output::{heading, write_fields, write_json},
    progress::Progress,
    question::confirm,
};

/// Deliveries counted by one call at most.
const COUNTED: usize = 10_000;
/// Deliveries sent again by one call, so that one sees it move.
const STEP: usize = 500;
/// Characters of an error in a table.
const ERROR: usize = 60;

const COLUMNS: [&str; 9] = [
    "created_at",
    "id",
    "event_type",
    "destination_id",
    "status",
    "attempts",
    "http_status",
    "latency_ms",
    "error",
];

/// Flags of `deliveries`.
#[derive(Debug, Args)]
pub(super) struct Deliveries {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    listing: Listing,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Which deliveries.
#[derive(Debug, Default, Args)]
struct Filters {
    /// Of events of this instance: id or name.
    #[arg(long)]
    instance: Option<String>,
    /// To this destination.
    #[arg(long)]
    destination: Option<String>,
    /// delivered, retrying, waiting, dead, cancelled, expired; pending needs --destination.
    #[arg(long, value_delimiter = ',')]
    status: Vec<String>,
    /// Of these event types, for example message.*,call.updated:offer
    #[arg(long, value_delimiter = ',', value_name = "TYPE")]
    event_type: Vec<String>,
    /// Of this event.
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// Whose last attempt was answered with this HTTP status.
    #[arg(long, value_name = "CODE")]
    http_status: Option<u16>,
    /// Written at or after this time, or so long ago (15m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = ago::time)]
    from: Option<String>,
    /// Written before this time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = ago::time)]
    to: Option<String>,
}

/// Commands on deliveries.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show one with every attempt: what was sent and what was answered.
    #[command(after_help = "\
Examples:
  zapbus deliveries show dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17
  zapbus deliveries show dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17 --json")]
    Show {
        /// Its id.
        delivery: String,
    },
    /// Send again: those named, or all that match.
    #[command(after_help = "\
Examples:
  zapbus deliveries retry dlv_01ARZ3NDEKTSV4RRFFQ69G5FAV_0_17
  zapbus deliveries retry --destination dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --status dead --dry-run
  zapbus deliveries retry --status dead --http-status 500 --from 1d --yes

Without --status, those that are dead. All that match are counted first.")]
    Retry(Retry),
}

/// Flags of `deliveries retry`.
#[derive(Debug, Args)]
struct Retry {
    /// Their ids.
    #[arg(conflicts_with_all = ["instance", "destination", "status", "event_type", "event_id", "http_status", "from", "to", "dry_run"])]
    deliveries: Vec<String>,
    #[command(flatten)]
    filters: Filters,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Filters {
    fn is_empty(&self) -> bool {
        self.body().is_empty()
    }

    /// As the API's body takes them.
    fn body(&self) -> Map<String, Value> {
        let list = |values: &Vec<String>| (!values.is_empty()).then(|| json!(values));
        let mut body = Map::new();
        for (name, value) in [
            ("instance", self.instance.as_ref().map(|value| json!(value))),
            ("destination", self.destination.as_ref().map(|value| json!(value))),
            ("status", list(&self.status)),
            ("event_type", list(&self.event_type)),
            ("event_id", self.event_id.as_ref().map(|value| json!(value))),
            ("http_status", self.http_status.map(|value| json!(value))),
            ("from", self.from.as_ref().map(|value| json!(value))),
            ("to", self.to.as_ref().map(|value| json!(value))),
        ] {
            body.extend(value.map(|value| (name.to_owned(), value)));
        }
        body
    }

    /// As the API's query takes them.
    fn query(&self, mut call: Call) -> Call {
        let list = |values: &Vec<String>| (!values.is_empty()).then(|| values.join(","));
        for (name, value) in [
            ("instance", self.instance.clone()),
            ("destination", self.destination.clone()),
            ("status", list(&self.status)),
            ("event_type", list(&self.event_type)),
            ("event_id", self.event_id.clone()),
            ("http_status", self.http_status.map(|code| code.to_string())),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ] {
            if let Some(value) = value {
                call = call.query(name, value);
            }
        }
        call
    }
}

impl Deliveries {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match self.command {
            Some(_) if !self.filters.is_empty() || self.listing.after.is_some() => {
                Err(Failure::new(
                    Exit::Usage,
                    "filters go behind the command: zapbus deliveries retry --status dead",
                ))
            }
            Some(Command::Show { delivery }) => show(to, &delivery, out),
            Some(Command::Retry(retry)) => retry.run(to, out, err),
            None => self.search(to, out, err),
        }
    }

    fn search(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let shape = Shape { columns: &COLUMNS, remark: backlog, shorten };
        let Self { filters, listing, .. } = self;
        let call = || filters.query(Call::get(&["v1", "deliveries"]));
        listing.show(to, call, &shape, out, err)
    }
}

/// What waits, and is in no line.
fn backlog(page: &Value) -> Option<String> {
    let events = page["backlog"]["events"].as_u64()?;
    let more = if page["backlog"]["complete"] == true { "" } else { "at least " };
    Some(format!("{more}{events} events wait in the journal and have no line yet"))
}

/// So that a row fits on a screen.
fn shorten(row: &mut Value) {
    if let Some(error) = row["error"].as_str()
        && error.chars().count() > ERROR
    {
        let short: String = error.chars().take(ERROR).collect();
        row["error"] = Value::from(short + "…");
    }
}

fn show(to: &Connection, delivery: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let answer = to.ask(Call::get(&["v1", "deliveries", delivery]))?;
    if to.wants_json() {
        return to.say(&answer, out);
    }
    heading(out, "Delivery")?;
    write_fields(out, &answer["delivery"])?;
    for attempt in answer["attempts"].as_array().into_iter().flatten() {
        writeln!(out)?;
        heading(out, &format!("Attempt {}", attempt["number"]))?;
        let mut bare = attempt.clone();
        for name in ["number", "request_headers", "response_headers"] {
            bare.as_object_mut().map(|bare| bare.shift_remove(name));
        }
        write_fields(out, &bare)?;
        write_headers(out, "request", &attempt["request_headers"])?;
        write_headers(out, "response", &attempt["response_headers"])?;
    }
    let parts = answer["request"]["parts"].as_array();
    for part in parts.into_iter().flatten() {
        writeln!(out)?;
        let name = part["name"].as_str().unwrap_or_default();
        heading(out, &format!("Body ({name}), rendered as the destination is set now"))?;
        write_json(out, &part["body"])?;
    }
    if parts.is_none() {
        writeln!(
            out,
            "\nIts event or its destination is no longer stored: there is no body to show."
        )?;
    }
    Ok(())
}

fn write_headers(out: &mut dyn Write, whose: &str, headers: &Value) -> Result<(), Failure> {
    for header in headers.as_array().into_iter().flatten() {
        let text =
            |at: usize| header[at].as_str().unwrap_or_default().replace(char::is_control, " ");
        writeln!(out, "{whose}  {}: {}", text(0), text(1))?;
    }
    Ok(())
}

impl Retry {
    fn run(self, to: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        if !self.deliveries.is_empty() {
            return retry_named(to, &self.deliveries, out, err);
        }
        if self.filters.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                "which deliveries? Give their ids, or a filter such as --status dead --from 1d",
            ));
        }
        let mut body = self.filters.body();
        // What is written from now on was not counted.
        body.entry("to").or_insert_with(|| Value::from(crate::clock::system()().to_string()));
        let mut counting = body.clone();
        counting.insert("dry_run".to_owned(), Value::from(true));
        counting.insert("limit".to_owned(), Value::from(COUNTED));
        let path = ["v1", "deliveries", "retry"];
        let count = to.ask(Call::post(&path, Value::Object(counting)))?;
        if self.dry_run {
            return to.say(&count, out);
        }
        let matched = count["matched"].as_u64().unwrap_or(0);
        let or_more = if count["more"] == true { " or more" } else { "" };
        let gone = count["expired"].as_u64().unwrap_or(0);
        writeln!(
            err,
            "{matched}{or_more} deliveries match; the events of {gone} of them are gone."
        )?;
        if matched == 0 {
            return to.say(&count, out);
        }
        confirm("Send them again?", self.yes, err)?;
        let done = retry_all(to, body, matched, err)?;
        to.say(&done, out)?;
        if done["expired"].as_u64() > Some(0) {
            let message = "some could not be sent again: their events are no longer stored";
            return Err(Failure::new(Exit::Partly, message));
        }
        Ok(())
    }
}

/// In steps, each behind the one before, so that none is sent twice.
fn retry_all(
    to: &Connection,
    mut body: Map<String, Value>,
    total: u64,
    err: &mut dyn Write,
) -> Result<Value, Failure> {
    let mut progress = Progress::new(err, "retry");
    let [mut matched, mut redelivered, mut expired] = [0; 3];
    body.insert("limit".to_owned(), Value::from(STEP));
    loop {
        let path = ["v1", "deliveries", "retry"];
        let step = to.ask(Call::post(&path, Value::Object(body.clone())))?;
        let count = |name: &str| step[name].as_u64().unwrap_or(0);
        matched += count("matched");
        redelivered += count("redelivered");
        expired += count("expired");
        progress.show(matched, total.max(matched), &format!("{redelivered} are due now"));
        match step["next"].as_str() {
            Some(next) => body.insert("after".to_owned(), Value::from(next)),
            None => break,
        };
    }
    Ok(json!({ "matched": matched, "redelivered": redelivered, "expired": expired }))
}

fn retry_named(
    to: &Connection,
    deliveries: &[String],
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let mut answers = Vec::new();
    let mut failed = Vec::new();
    for delivery in deliveries {
        match to.ask(Call::post(&["v1", "deliveries", delivery, "retry"], json!({}))) {
            Ok(answer) => answers.push(answer),
            Err(failure) => failed.push((delivery, failure)),
        }
    }
    if let ([answer], []) = (answers.as_slice(), failed.as_slice()) {
        return to.say(answer, out);
    }
    if !answers.is_empty() {
        to.rows(answers.clone(), &COLUMNS, out)?;
    }
    for (delivery, failure) in &failed {
        writeln!(err, "{delivery}: {}", failure.message)?;
    }
    match failed.into_iter().next() {
        None => Ok(()),
        Some((_, first)) if answers.is_empty() => Err(Failure::silent(first.exit)),
        Some(_) => Err(Failure::new(Exit::Partly, "some were not sent again")),
    }
}
