//! `zapbus destination …`

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    instance::text_or_file,
};

/// Commands on destinations.
#[derive(Debug, Subcommand)]
pub(super) enum Destination {
    /// Show all, or those of one instance.
    List {
        /// The instance's id or name.
        #[arg(long)]
        instance: Option<String>,
    },
    /// Make a webhook; its signing secret is shown only now.
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
    Show {
        /// Its id.
        destination: String,
    },
    /// Change one.
    Update {
        /// Its id.
        destination: String,
        /// The URL to post to from now on.
        #[arg(long, value_name = "URL")]
        webhook: Option<String>,
        #[command(flatten)]
        choices: Choices,
    },
    /// Delete one; what it still had to send is called off.
    Delete {
        /// Its id.
        destination: String,
    },
    /// Send it a sample event and show the answer.
    Test {
        /// Its id.
        destination: String,
        /// The sample's type [default: message.received].
        #[arg(long = "type")]
        kind: Option<String>,
    },
    /// Stop it; events wait.
    Pause {
        /// Its id.
        destination: String,
        /// Shown with the destination.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Let it go on.
    Resume {
        /// Its id.
        #[arg(required_unless_present = "all")]
        destination: Option<String>,
        /// Every paused one the token reaches instead, for example after restoring a backup.
        #[arg(long, conflicts_with = "destination")]
        all: bool,
        /// cursor (where it stopped) or now (what waited is not sent).
        #[arg(long, default_value = "cursor")]
        from: String,
    },
    /// Send a stretch of the past again, beside what is live.
    Replay {
        /// Its id.
        destination: String,
        /// From the first event at or after this time (RFC 3339).
        #[arg(long, required_unless_present = "from", conflicts_with = "from")]
        since: Option<String>,
        /// From after this event id or position, or from the beginning.
        #[arg(long)]
        from: Option<String>,
        /// Only these types, for example message.*
        #[arg(long, value_delimiter = ',')]
        types: Vec<String>,
        /// Only count.
        #[arg(long)]
        dry_run: bool,
    },
    /// Make a new signing secret; the old one goes on beside it for a while.
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
    pub(super) fn run(self, to: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
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
            Self::Update { destination, webhook, choices } => {
                let mut body = Map::new();
                if let Some(url) = webhook {
                    body.insert("channel".to_owned(), json!({ "url": url }));
                }
                choices.put_into(&mut body);
                if body.is_empty() {
                    return Err(Failure::new(Exit::Usage, "nothing to change: give a flag"));
                }
                let call = Call::patch(&["v1", "destinations", &destination], Value::Object(body));
                to.show(call, out)
            }
            Self::Delete { destination } => {
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
            Self::Resume { destination: Some(destination), all: _, from } => {
                to.show(one(&destination, "resume", json!({ "from": from })), out)
            }
            Self::Resume { destination: None, all: _, from } => {
                let mut resumed = 0;
                for destination in to.all(&["v1", "destinations"])? {
                    // Those that failed for too long, or asked for it, are not meant.
                    if destination["state"] != "paused" {
                        continue;
                    }
                    if let Some(id) = destination["id"].as_str() {
                        to.ask(one(id, "resume", json!({ "from": from })))?;
                        resumed += 1;
                    }
                }
                to.say(&json!({ "resumed": resumed }), out)
            }
            Self::Replay { destination, since, from, types, dry_run } => {
                let mut body = json!({ "dry_run": dry_run });
                for (name, value) in [("since", since), ("from", from)] {
                    if let Some(value) = value {
                        body[name] = Value::from(value);
                    }
                }
                if !types.is_empty() {
                    body["types"] = Value::from(types);
                }
                to.show(one(&destination, "replay", body), out)
            }
            Self::RotateSecret { destination, overlap_s } => {
                let body = overlap_s.map_or_else(|| json!({}), |s| json!({ "overlap_s": s }));
                to.show(one(&destination, "rotate-secret", body), out)
            }
        }
    }
}
