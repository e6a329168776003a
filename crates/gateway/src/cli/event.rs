//! `zapbus event …`

use std::io::{Read as _, Write};

use clap::Subcommand;
use serde_json::Value;

use super::{
    Exit, Failure,
    client::{Call, Connection},
    listing::{Listing, Shape},
};

const SHAPE: Shape = Shape::table(&["id", "type", "instance.name", "received_at", "ordering_key"]);

/// Commands on events.
#[derive(Debug, Subcommand)]
pub(super) enum Event {
    /// Show those that are stored, the oldest first.
    #[command(after_help = "\
Examples:
  zapbus event list --instance shop --types 'message.*' --after 2026-01-01T00:00:00Z
  zapbus event list --limit 0 --ndjson")]
    List {
        /// Only those of this instance, by id or name [default: all that the token reaches].
        #[arg(long)]
        instance: Option<String>,
        /// Types, families or facets, for example message.*,call.updated:offer
        #[arg(long, value_delimiter = ',')]
        types: Vec<String>,
        /// With the untouched upstream element, in JSON.
        #[arg(long)]
        include_raw: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one, with the untouched upstream element.
    #[command(after_help = "\
Examples:
  zapbus event show evt_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus event show evt_01ARZ3NDEKTSV4RRFFQ69G5FAV --json")]
    Show {
        /// Its id.
        event: String,
    },
    /// Post one, or an array of them; what is answered for each is on disk.
    #[command(after_help = "\
Examples:
  zapbus event post shop event.json
  cat event.json | zapbus event post shop -")]
    Post {
        /// The instance's id or name.
        instance: String,
        /// A file of JSON; `-` reads it from the input.
        file: String,
    },
    /// Show the types there are.
    #[command(after_help = "\
Examples:
  zapbus event types
  zapbus event types --json")]
    Types,
}

impl Event {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match self {
            Self::List { instance, types, include_raw, listing } => {
                let call = || {
                    let call = match &instance {
                        Some(instance) => Call::get(&["v1", "instances", instance, "events"]),
                        None => Call::get(&["v1", "events"]),
                    };
                    let call = match types.is_empty() {
                        true => call,
                        false => call.query("types", types.join(",")),
                    };
                    if include_raw { call.query("include_raw", "true") } else { call }
                };
                listing.show(to, call, &SHAPE, out, err)
            }
            Self::Show { event } => to.show(Call::get(&["v1", "events", &event]), out),
            Self::Post { instance, file } => post(to, &instance, &file, out),
            Self::Types => {
                to.list(&["v1", "event-types"], &["type", "facet", "ephemeral", "summary"], out)
            }
        }
    }
}

fn post(to: &Connection, instance: &str, file: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let wrong = |reason: String| Failure::new(Exit::Usage, format!("{file}: {reason}"));
    let text = match file {
        "-" => {
            let mut text = String::new();
            std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
        }
        file => std::fs::read_to_string(file),
    };
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let body: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut answer = to.ask(Call::post(&["v1", "instances", instance, "events"], body))?;
    let results = answer["results"].as_array_mut().map(std::mem::take).unwrap_or_default();
    let refused = results.iter().filter(|result| result.get("error").is_some()).count();
    let all = results.len();
    to.rows(results, &["id", "seq", "duplicate", "error.detail"], out)?;
    match refused {
        0 => Ok(()),
        refused if refused == all => Err(Failure::new(Exit::Failure, "none was taken")),
        refused => Err(Failure::new(Exit::Partly, format!("{refused} of {all} were not taken"))),
    }
}
