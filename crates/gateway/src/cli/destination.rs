//! `zapbus destination …`

mod choices;

use std::io::Write;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use self::choices::{Channel, Choices};
use super::{
    Exit, Failure,
    client::{Call, Connection},
    question::Sure,
    resume::Resume,
};

/// Commands on destinations.
#[derive(Debug, Subcommand)]
pub(super) enum Destination {
    /// Show all, or those of one instance.
    #[command(after_help = "\
Examples:
  zapbus destination list
  zapbus destination list --instance shop --json")]
    List {
        /// The instance's id or name.
        #[arg(long)]
        instance: Option<String>,
    },
    /// Make one; its signing secret is shown only now.
    #[command(after_help = "\
Examples:
  zapbus destination create --instance shop --webhook https://example.com/hook --events 'message.*'
  zapbus destination create --webhook https://example.com/all --label everything --start beginning
  zapbus destination create --instance shop --webhook https://example.com/crm --label crm --dialect ryze --ryze-names message.exchange --inline-media
  zapbus destination create --instance shop --webhook https://example.com/n8n --label n8n --header 'x-team: crm' --rate-limit-per-s 5 --retry-waits-s 5,30,120
  zapbus destination create --instance shop --label queue --channel '{\"type\":\"webhook\",\"url\":\"https://example.com/queue\"}'")]
    Create {
        /// The instance's id or name; left out: of the whole account.
        #[arg(long)]
        instance: Option<String>,
        /// Where it starts: now, beginning, a time, an event id [default: now].
        #[arg(long)]
        start: Option<String>,
        #[command(flatten)]
        choices: Box<Choices>,
        #[command(flatten)]
        channel: Box<Channel>,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus destination show dst_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Show {
        /// Its id.
        destination: String,
    },
    /// Show how one did in the last hour and day.
    #[command(after_help = "\
Examples:
  zapbus destination statistics dst_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Statistics {
        /// Its id.
        destination: String,
    },
    /// Change one. What is not given stays as it is.
    #[command(after_help = "\
Examples:
  zapbus destination update dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --webhook https://example.com/new
  zapbus destination update dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --ordering strict --max-in-flight 8
  zapbus destination update dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --header 'x-old:' --header 'x-new: 1'
  zapbus destination update dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --rate-limit-per-s none --retry-max-attempts 5")]
    Update {
        /// Its id.
        destination: String,
        #[command(flatten)]
        choices: Box<Choices>,
        #[command(flatten)]
        channel: Box<Channel>,
    },
    /// Delete one; what it still had to send is called off.
    #[command(after_help = "\
Examples:
  zapbus destination delete dst_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Delete {
        /// Its id.
        destination: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Send it a sample event and show the answer.
    #[command(after_help = "\
Examples:
  zapbus destination test dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --type message.received")]
    Test {
        /// Its id.
        destination: String,
        /// The sample's type [default: message.received].
        #[arg(long = "type")]
        kind: Option<String>,
    },
    /// Stop it; events wait.
    #[command(after_help = "\
Examples:
  zapbus destination pause dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --reason maintenance")]
    Pause {
        /// Its id.
        destination: String,
        /// Shown with the destination.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let it go on.
    #[command(after_help = "\
Examples:
  zapbus destination resume dst_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus destination resume dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --from now")]
    Resume(Resume),
    /// Make a new signing secret; the old one goes on beside it for a while.
    #[command(after_help = "\
Examples:
  zapbus destination rotate-secret dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --overlap-s 3600")]
    RotateSecret {
        /// Its id.
        destination: String,
        /// Seconds for which the old one goes on [default: a day].
        #[arg(long)]
        overlap_s: Option<u64>,
    },
}

impl Destination {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let one =
            |id: &str, verb: &str, body: Value| Call::post(&["v1", "destinations", id, verb], body);
        match self {
            Self::List { instance } => {
                let columns = ["id", "label", "instance", "channel.url", "state"];
                match instance {
                    None => to.list(&["v1", "destinations"], &columns, out),
                    Some(instance) => {
                        to.list(&["v1", "instances", &instance, "destinations"], &columns, out)
                    }
                }
            }
            Self::Create { instance, start, choices, channel } => {
                let Some(channel) = channel.members()? else {
                    let message = "where to? Give --webhook or --channel";
                    return Err(Failure::new(Exit::Usage, message));
                };
                let mut body = Map::new();
                body.insert("channel".to_owned(), Value::Object(channel));
                if let Some(start) = start {
                    body.insert("start".to_owned(), Value::from(start));
                }
                let preset = choices.preset_of_dialect();
                choices.put_into(&mut body, || Ok(preset))?;
                let body = Value::Object(body);
                match instance {
                    None => to.show(Call::post(&["v1", "destinations"], body), out),
                    Some(instance) => {
                        let path = ["v1", "instances", &instance, "destinations"];
                        to.show(Call::post(&path, body), out)
                    }
                }
            }
            Self::Show { destination } => {
                to.show(Call::get(&["v1", "destinations", &destination]), out)
            }
            Self::Statistics { destination } => {
                to.show(Call::get(&["v1", "destinations", &destination, "statistics"]), out)
            }
            Self::Update { destination, choices, channel } => {
                let path = ["v1", "destinations", &destination];
                let mut body = Map::new();
                if let Some(channel) = channel.members()? {
                    body.insert("channel".to_owned(), Value::Object(channel));
                }
                let stored = || to.ask(Call::get(&path)).map(|mut it| it["retry"].take());
                choices.put_into(&mut body, stored)?;
                if body.is_empty() {
                    return Err(Failure::new(Exit::Usage, "nothing to change: give a flag"));
                }
                to.show(Call::patch(&path, Value::Object(body)), out)
            }
            Self::Delete { destination, sure } => {
                sure.confirm(
                    &format!(
                        "Delete the destination {destination}, with what it still has to send?"
                    ),
                    err,
                )?;
                to.show(Call::delete(&["v1", "destinations", &destination]), out)
            }
            Self::Test { destination, kind } => {
                let body = kind.map_or_else(|| json!({}), |kind| json!({ "type": kind }));
                to.show(one(&destination, "test", body), out)
            }
            Self::Pause { destination, reason } => {
                let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
                to.show(one(&destination, "pause", body), out)
            }
            Self::Resume(resume) => resume.run(to, out, err),
            Self::RotateSecret { destination, overlap_s } => {
                let body = overlap_s.map_or_else(|| json!({}), |s| json!({ "overlap_s": s }));
                to.show(one(&destination, "rotate-secret", body), out)
            }
        }
    }
}
