//! `zapbus replay …`

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Exit, Failure, ago,
    client::{Call, Connection},
    progress::Progress,
    question::confirm,
};

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const COLUMNS: [&str; 7] = ["run", "state", "from", "cursor", "to", "types", "created_at"];

/// Flags of `replay`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The destination's id.
    #[arg(required = true)]
    destination: Option<String>,
    /// From the first event at or after this time, or so long ago (15m, 2h, 3d).
    #[arg(long, value_name = "TIME", value_parser = ago::time, required_unless_present = "from", conflicts_with = "from")]
    since: Option<String>,
    /// From after this event id or position, or from the beginning.
    #[arg(long, value_name = "PLACE")]
    from: Option<String>,
    /// Only events received before this time, or so long ago [default: up to where live delivery
    /// stands].
    #[arg(long, value_name = "TIME", value_parser = ago::time)]
    until: Option<String>,
    /// Only these types, for example message.* [default: what the destination gets].
    #[arg(long, value_delimiter = ',')]
    types: Vec<String>,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Wait for its end and show how far it is. Ctrl-C leaves it going.
    #[arg(long)]
    follow: bool,
    #[command(subcommand)]
    command: Option<Runs>,
}

/// Commands on the replays of a destination.
#[derive(Debug, Subcommand)]
enum Runs {
    /// Show all of a destination.
    #[command(after_help = "\
Examples:
  zapbus replay list dst_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus replay list dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --json")]
    List {
        /// The destination's id.
        destination: String,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus replay show dst_01ARZ3NDEKTSV4RRFFQ69G5FAV 1")]
    Show {
        /// The destination's id.
        destination: String,
        /// The number of the replay.
        run: u32,
    },
    /// Stop one for now.
    #[command(after_help = "\
Examples:
  zapbus replay pause dst_01ARZ3NDEKTSV4RRFFQ69G5FAV 1")]
    Pause {
        /// The destination's id.
        destination: String,
        /// The number of the replay.
        run: u32,
    },
    /// Let a paused one go on.
    #[command(after_help = "\
Examples:
  zapbus replay resume dst_01ARZ3NDEKTSV4RRFFQ69G5FAV 1
  zapbus replay resume dst_01ARZ3NDEKTSV4RRFFQ69G5FAV 1 --follow")]
    Resume {
        /// The destination's id.
        destination: String,
        /// The number of the replay.
        run: u32,
        /// Wait for its end and show how far it is. Ctrl-C leaves it going.
        #[arg(long = "follow", id = "follow_resumed")]
        follow: bool,
    },
    /// Call one off, for good.
    #[command(after_help = "\
Examples:
  zapbus replay cancel dst_01ARZ3NDEKTSV4RRFFQ69G5FAV 1")]
    Cancel {
        /// The destination's id.
        destination: String,
        /// The number of the replay.
        run: u32,
    },
}

impl Replay {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match (self.command, self.destination) {
            (Some(_), Some(destination)) => Err(Failure::new(
                Exit::Usage,
                format!(
                    "{destination:?} goes behind the command: zapbus replay list {destination}"
                ),
            )),
            (Some(command), None) => command.run(to, out, err),
            (None, None) => Err(Failure::new(Exit::Usage, "which destination? Give its id")),
            (None, Some(destination)) => {
                let mut body = json!({});
                for (name, value) in
                    [("since", self.since), ("from", self.from), ("until", self.until)]
                {
                    if let Some(value) = value {
                        body[name] = Value::from(value);
                    }
                }
                if !self.types.is_empty() {
                    body["types"] = Value::from(self.types);
                }
                let path = ["v1", "destinations", &destination, "replay"];
                let mut counting = body.clone();
                counting["dry_run"] = Value::from(true);
                let count = to.ask(Call::post(&path, counting))?;
                if self.dry_run {
                    return to.say(&count, out);
                }
                let summary = summary(&count);
                writeln!(err, "{summary}.")?;
                if count["events"] == 0 && count["complete"] == true {
                    return to.say(&count, out);
                }
                confirm("Send them again?", self.yes, err)?;
                let run = to.ask(Call::post(&path, body))?;
                if self.follow { follow(to, run, out, err) } else { to.say(&run, out) }
            }
        }
    }
}

/// "1204 events, received from … to …"
fn summary(count: &Value) -> String {
    let at_least = if count["complete"] == true { "" } else { "at least " };
    let mut text = format!("{at_least}{} events", count["events"]);
    if let (Some(first), Some(last)) = (count["first"].as_str(), count["last"].as_str()) {
        text.push_str(&format!(", received from {first} to {last}"));
    }
    text
}

impl Runs {
    fn run(self, to: &Connection, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
        let change = |destination: &str, run: u32, verb: &str| {
            let path = ["v1", "destinations", destination, "runs", &run.to_string(), verb];
            to.ask(Call::post(&path, json!({})))
        };
        match self {
            Self::List { destination } => {
                to.list(&["v1", "destinations", &destination, "runs"], &COLUMNS, out)
            }
            Self::Show { destination, run } => {
                let path = ["v1", "destinations", &destination, "runs", &run.to_string()];
                to.show(Call::get(&path), out)
            }
            Self::Pause { destination, run } => to.say(&change(&destination, run, "pause")?, out),
            Self::Cancel { destination, run } => to.say(&change(&destination, run, "cancel")?, out),
            Self::Resume { destination, run, follow: followed } => {
                let run = change(&destination, run, "resume")?;
                if followed { follow(to, run, out, err) } else { to.say(&run, out) }
            }
        }
    }
}

/// Waits for the end of a run, or for Ctrl-C, which leaves it going.
fn follow(
    to: &Connection,
    run: Value,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let destination = run["destination"].as_str().unwrap_or_default().to_owned();
    let number = run["run"].to_string();
    let ended = {
        let mut progress = Progress::new(err, "replay");
        let following = async {
            let mut run = run;
            loop {
                tell(&run, &mut progress);
                if !matches!(run["state"].as_str(), Some("running" | "paused")) {
                    return Ok::<Value, Failure>(run);
                }
                tokio::time::sleep(LOOK_EVERY).await;
                let path = ["v1", "destinations", &destination, "runs", &number];
                run = to.answer(Call::get(&path)).await?;
            }
        };
        super::runtime()?.block_on(async {
            // Before anything is shown: who reads that may press Ctrl-C.
            let mut interrupt = signal(SignalKind::interrupt())?;
            tokio::select! {
                ended = following => ended.map(Some),
                _ = interrupt.recv() => Ok(None),
            }
        })?
    };
    let Some(ended) = ended else {
        writeln!(
            err,
            "The replay goes on without you.\n  \
             see it      zapbus replay list {destination}\n  \
             stop it     zapbus replay pause {destination} {number}\n  \
             go on       zapbus replay resume {destination} {number} --follow\n  \
             call it off zapbus replay cancel {destination} {number}"
        )?;
        return Ok(());
    };
    to.say(&ended, out)?;
    if ended["state"] == "done" {
        Ok(())
    } else {
        Err(Failure::new(Exit::Failure, "the replay was called off before its end"))
    }
}

fn tell(run: &Value, progress: &mut Progress<'_>) {
    // Of several shards the sums say how far it is.
    let place = |name: &str| match run["shards"].as_array() {
        Some(shards) => shards.iter().filter_map(|shard| shard[name].as_u64()).sum(),
        None => run[name].as_u64().unwrap_or(0),
    };
    let (from, cursor, to): (u64, u64, u64) = (place("from"), place("cursor"), place("to"));
    let done = if run["state"] == "done" { to } else { cursor };
    let state = run["state"].as_str().unwrap_or_default();
    let note = format!("{state}, position {done} of {to}");
    // A stretch without positions is over before it began.
    progress.show(
        done.saturating_sub(from).max(u64::from(to == from)),
        (to - from.min(to)).max(1),
        &note,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_said_in_words() {
        let count = json!({"events": 3, "first": "a", "last": "b", "complete": true});
        assert_eq!(summary(&count), "3 events, received from a to b");
        let count = json!({"events": 200_000, "first": null, "last": null, "complete": false});
        assert_eq!(summary(&count), "at least 200000 events");
    }
}
