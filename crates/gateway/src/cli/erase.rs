//! `zapbus erase …`

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::{
    Failure,
    client::{Call, Connection},
};

/// Commands that erase: from journal, delivery log and files, for good.
#[derive(Debug, Subcommand)]
pub(super) enum Erase {
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
    pub(super) fn run(self, to: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
        let body = match self {
            Self::Chat { instance, chat } => {
                json!({ "type": "chat", "instance": instance, "chat": chat })
            }
            Self::Person { address } => json!({ "type": "person", "address": address }),
            Self::Instance { instance } => json!({ "type": "instance", "instance": instance }),
        };
        to.show(Call::post(&["v1", "erasures"], body), out)
    }
}
