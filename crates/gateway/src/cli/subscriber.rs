//! `zapbus subscriber …`

use std::io::Write;

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Failure,
    client::{Call, Connection},
    listing::{Listing, Shape},
    question::Sure,
};

const SHAPE: Shape = Shape::table(&["id", "name", "instance", "dialect", "unacked", "used_at"]);

/// Commands on named subscribers.
#[derive(Debug, Subcommand)]
pub(super) enum Subscriber {
    /// Show all, or those of one instance.
    #[command(after_help = "\
Examples:
  zapbus subscriber list
  zapbus subscriber list --instance shop --json")]
    List {
        /// The instance's id or name.
        #[arg(long)]
        instance: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show one, with the events that are dead for it.
    #[command(after_help = "\
Examples:
  zapbus subscriber show sub_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Show {
        /// Its id.
        subscriber: String,
    },
    /// Send it again what is dead for it: all of it, or one event.
    #[command(after_help = "\
Examples:
  zapbus subscriber retry sub_01ARZ3NDEKTSV4RRFFQ69G5FAV
  zapbus subscriber retry sub_01ARZ3NDEKTSV4RRFFQ69G5FAV --event evt_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Retry {
        /// Its id.
        subscriber: String,
        /// Only this event, by its id.
        #[arg(long)]
        event: Option<String>,
    },
    /// Forget one: whoever connects with its name next begins anew.
    #[command(after_help = "\
Examples:
  zapbus subscriber delete sub_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Delete {
        /// Its id.
        subscriber: String,
        #[command(flatten)]
        sure: Sure,
    },
}

impl Subscriber {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match self {
            Self::List { instance, listing } => {
                let call = || match &instance {
                    Some(instance) => {
                        Call::get(&["v1", "subscribers"]).query("instance", instance.as_str())
                    }
                    None => Call::get(&["v1", "subscribers"]),
                };
                listing.show(to, call, &SHAPE, out, err)
            }
            Self::Show { subscriber } => {
                to.show(Call::get(&["v1", "subscribers", &subscriber]), out)
            }
            Self::Retry { subscriber, event } => {
                let body = event.map_or_else(|| json!({}), |id| json!({ "event_id": id }));
                to.show(Call::post(&["v1", "subscribers", &subscriber, "retry"], body), out)
            }
            Self::Delete { subscriber, sure } => {
                sure.confirm(&format!("Forget where the subscriber {subscriber} stands?"), err)?;
                to.show(Call::delete(&["v1", "subscribers", &subscriber]), out)
            }
        }
    }
}

/// Flags of `ticket`.
#[derive(Debug, clap::Args)]
pub(super) struct Ticket {
    /// The only instance it opens, by id or name [default: whatever the token reaches].
    #[arg(long)]
    instance: Option<String>,
}

impl Ticket {
    pub(super) fn run(self, to: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
        let instance = self.instance.map(Value::from);
        let body = instance.map_or_else(|| json!({}), |instance| json!({ "instance": instance }));
        to.show(Call::post(&["v1", "tickets"], body), out)
    }
}
