//! `zapbus erase …`

use std::io::Write;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Failure,
    client::{Call, Connection},
    question::confirm,
};

/// Flags of `erase`.
#[derive(Debug, Args)]
pub(super) struct Erase {
    #[command(subcommand)]
    what: What,
    /// Only count.
    #[arg(long, global = true)]
    dry_run: bool,
    /// Erase them without asking.
    #[arg(long, short = 'y', global = true)]
    yes: bool,
}

/// Commands that erase: from journal, delivery log and files, for good.
#[derive(Debug, Subcommand)]
enum What {
    /// Every event of an instance that concerns a chat.
    #[command(after_help = "\
Examples:
  zapbus erase chat shop 5511999990001@s.whatsapp.net")]
    Chat {
        /// The instance's id or name.
        instance: String,
        /// The chat's address or phone number.
        chat: String,
    },
    /// Every event of the account that names a person.
    #[command(after_help = "\
Examples:
  zapbus erase person '+55 11 99999-0001'")]
    Person {
        /// The person's address or phone number.
        address: String,
    },
    /// Every event of an instance; the instance stays.
    #[command(after_help = "\
Examples:
  zapbus erase instance shop")]
    Instance {
        /// Its id or name.
        instance: String,
    },
}

impl Erase {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let body = match self.what {
            What::Chat { instance, chat } => {
                json!({ "type": "chat", "instance": instance, "chat": chat })
            }
            What::Person { address } => json!({ "type": "person", "address": address }),
            What::Instance { instance } => json!({ "type": "instance", "instance": instance }),
        };
        let path = ["v1", "erasures"];
        let mut counting = body.clone();
        counting["dry_run"] = Value::from(true);
        // A large journal is looked through to its end.
        let count = to.ask(Call::post(&path, counting).patient())?;
        if self.dry_run {
            return to.say(&count, out);
        }
        // What names somebody besides events, such as a body that brought none, goes too.
        writeln!(err, "{} events, and what else there is of it, go for good.", count["events"])?;
        confirm("Erase them?", self.yes, err)?;
        to.show(Call::post(&path, body).patient(), out)
    }
}
