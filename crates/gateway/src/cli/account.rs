//! `zapbus account …`

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::{
    Failure,
    client::{Call, Connection},
    question::Sure,
};

/// Commands on accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// Show all.
    #[command(after_help = "\
Examples:
  zapbus account list
  zapbus account list --json")]
    List,
    /// Make one.
    #[command(after_help = "\
Examples:
  zapbus account create acme")]
    Create {
        /// Unique for the gateway.
        name: String,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus account show acme")]
    Show {
        /// Its id or name.
        account: String,
    },
    /// Rename one.
    #[command(after_help = "\
Examples:
  zapbus account update acme --name acme-brazil")]
    Update {
        /// Its id or name.
        account: String,
        /// The new name.
        #[arg(long)]
        name: String,
    },
    /// Delete one that has no instances any more.
    #[command(after_help = "\
Examples:
  zapbus account delete acme")]
    Delete {
        /// Its id or name.
        account: String,
        #[command(flatten)]
        sure: Sure,
    },
}

impl Account {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        match self {
            Self::List => to.list(&["v1", "accounts"], &["id", "name", "created_at"], out),
            Self::Create { name } => {
                to.show(Call::post(&["v1", "accounts"], json!({ "name": name })), out)
            }
            Self::Show { account } => to.show(Call::get(&["v1", "accounts", &account]), out),
            Self::Update { account, name } => {
                let call = Call::patch(&["v1", "accounts", &account], json!({ "name": name }));
                to.show(call, out)
            }
            Self::Delete { account, sure } => {
                sure.confirm(&format!("Delete the account {account}, with its credentials?"), err)?;
                to.show(Call::delete(&["v1", "accounts", &account]), out)
            }
        }
    }
}
