//! `zapbus destination …`

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    instance::text_or_file,
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
    /// Make a webhook; its signing secret is shown only now.
    #[command(after_help = "\
Examples:
  zapbus destination create --instance shop --webhook https://example.com/hook --events 'message.*'
  zapbus destination create --webhook https://example.com/all --label everything --start beginning")]
    Create {
        /// The instance's id or name; left out: of the whole account.
        #[arg(long)]
        instance: Option<String>,
        /// The URL to post to.
        #[arg(long, value_name = "URL")]
        webhook: String,
        /// The signing secret (whsec_…), or @FILE that holds it [default: made and shown].
        #[arg(long, value_parser = text_or_file)]
        secret: Option<String>,
        /// Where it starts: now, beginning, a time, an event id [default: now].
        #[arg(long)]
        start: Option<String>,
        #[command(flatten)]
        choices: Choices,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus destination show dst_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Show {
        /// Its id.
        destination: String,
    },
    /// Change one.
    #[command(after_help = "\
Examples:
  zapbus destination update dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --webhook https://example.com/new
  zapbus destination update dst_01ARZ3NDEKTSV4RRFFQ69G5FAV --ordering strict --max-in-flight 8")]
    Update {
        /// Its id.
        destination: String,
        /// The URL to post to from now on.
        #[arg(long, value_name = "URL")]
        webhook: Option<String>,
        /// The signing secret (whsec_…) from now on, or @FILE that holds it.
        #[arg(long, value_parser = text_or_file)]
        secret: Option<String>,
        #[command(flatten)]
        choices: Choices,
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

/// What can be chosen for a new destination and changed later.
#[derive(Debug, Args)]
pub(super) struct Choices {
    /// Unique for the instance [default: default].
    #[arg(long)]
    label: Option<String>,
    /// The vocabulary of what is sent: native.
    #[arg(long)]
    dialect: Option<String>,
    /// Types, families or facets, for example message.*,call.updated:offer
    #[arg(long, value_delimiter = ',')]
    events: Vec<String>,
    /// none, key or strict.
    #[arg(long)]
    ordering: Option<String>,
    /// Sends under way at one time.
    #[arg(long)]
    max_in_flight: Option<u32>,
}

impl Choices {
    fn put_into(self, body: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        put("label", self.label.map(Value::from));
        put("dialect", self.dialect.map(Value::from));
        put("events", (!self.events.is_empty()).then(|| Value::from(self.events)));
        put("ordering", self.ordering.map(Value::from));
        put("max_in_flight", self.max_in_flight.map(Value::from));
    }
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
            Self::Create { instance, webhook, secret, start, choices } => {
                let mut channel = json!({ "type": "webhook", "url": webhook });
                if let Some(secret) = secret {
                    channel["secret"] = Value::from(secret);
                }
                let mut body = Map::new();
                body.insert("channel".to_owned(), channel);
                if let Some(start) = start {
                    body.insert("start".to_owned(), Value::from(start));
                }
                choices.put_into(&mut body);
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
            Self::Update { destination, webhook, secret, choices } => {
                let mut body = Map::new();
                let mut channel = Map::new();
                for (name, value) in [("url", webhook), ("secret", secret)] {
                    channel.extend(value.map(|value| (name.to_owned(), Value::from(value))));
                }
                if !channel.is_empty() {
                    channel.insert("type".to_owned(), Value::from("webhook"));
                    body.insert("channel".to_owned(), Value::Object(channel));
                }
                choices.put_into(&mut body);
                if body.is_empty() {
                    return Err(Failure::new(Exit::Usage, "nothing to change: give a flag"));
                }
                let call = Call::patch(&["v1", "destinations", &destination], Value::Object(body));
                to.show(call, out)
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
