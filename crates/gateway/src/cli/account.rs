//! `zapbus account …`

use std::io::Write;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    instance::{cloud_api, text_or_file},
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
    /// Rename one, or say which web pages may open its live connections.
    #[command(after_help = "\
Examples:
  zapbus account update acme --name acme-brazil
  zapbus account update acme --origin https://app.acme.example --origin https://panel.acme.example
  zapbus account update acme --no-origins")]
    Update {
        /// Its id or name.
        account: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// The origin of a page that may connect; those named are all.
        #[arg(long = "origin", value_name = "ORIGIN")]
        origins: Vec<String>,
        /// Go by what the operator has configured.
        #[arg(long, conflicts_with = "origins")]
        no_origins: bool,
    },
    /// The source that serves all numbers of its Meta app: of `--in-account`, or the default account.
    #[command(after_help = "\
Examples:
  zapbus account source set cloud-api --app-secret @secret.txt --in-account acme")]
    #[command(subcommand)]
    Source(Source),
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

/// Commands on an account's source.
#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Show it.
    #[command(after_help = "\
Examples:
  zapbus account source show
  zapbus account source show --in-account acme --json")]
    Show,
    /// Set it; answers what to paste at Meta.
    #[command(after_help = "\
Examples:
  zapbus account source set cloud-api --app-secret @secret.txt
  zapbus account source set native")]
    Set {
        #[command(subcommand)]
        kind: Kind,
    },
}

/// The kinds of sources of an account.
#[derive(Debug, Subcommand)]
pub(super) enum Kind {
    /// Meta's Cloud API webhook, of an app with several numbers.
    #[command(after_help = "\
Examples:
  zapbus account source set cloud-api --app-secret @secret.txt --verify-token @verify.txt")]
    CloudApi {
        /// The app's secret, or @FILE that holds it.
        #[arg(long, value_parser = text_or_file)]
        app_secret: String,
        /// The verify token to paste at Meta too, or @FILE [default: made and shown].
        #[arg(long, value_parser = text_or_file)]
        verify_token: Option<String>,
    },
    /// None: each instance has its own.
    #[command(after_help = "\
Examples:
  zapbus account source set native")]
    Native,
}

impl Source {
    fn run(self, to: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
        let path = ["v1", "source"];
        match self {
            Self::Show => to.show(Call::get(&path), out),
            Self::Set { kind } => {
                let source = match kind {
                    Kind::CloudApi { app_secret, verify_token } => {
                        cloud_api(app_secret, verify_token, None)
                    }
                    Kind::Native => json!({ "type": "native" }),
                };
                to.show(Call::put(&path, source), out)
            }
        }
    }
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
            Self::Update { account, name, origins, no_origins } => {
                let mut change = Map::new();
                change.extend(name.map(|name| ("name".to_owned(), Value::from(name))));
                if no_origins || !origins.is_empty() {
                    change.insert("origins".to_owned(), Value::from(origins));
                }
                if change.is_empty() {
                    let message = "nothing to change: give --name, --origin or --no-origins";
                    return Err(Failure::new(Exit::Usage, message));
                }
                to.show(Call::patch(&["v1", "accounts", &account], Value::Object(change)), out)
            }
            Self::Source(source) => source.run(to, out),
            Self::Delete { account, sure } => {
                sure.confirm(&format!("Delete the account {account}, with its credentials?"), err)?;
                to.show(Call::delete(&["v1", "accounts", &account]), out)
            }
        }
    }
}
