//! `zapbus instance …`

use std::io::Write;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    question::Sure,
};

/// Commands on instances.
#[derive(Debug, Subcommand)]
pub(super) enum Instance {
    /// Show all.
    #[command(after_help = "\
Examples:
  zapbus instance list
  zapbus instance list --ndjson")]
    List,
    /// Make one; its token is shown only now.
    #[command(after_help = "\
Examples:
  zapbus instance create shop")]
    Create {
        /// Unique in the account.
        name: String,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus instance show shop")]
    Show {
        /// Its id or name.
        instance: String,
    },
    /// Rename one or give it a new token.
    #[command(after_help = "\
Examples:
  zapbus instance update shop --name shop-br
  zapbus instance update shop --rotate-token")]
    Update {
        /// Its id or name.
        instance: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// Make a new token; the old one ends at once.
        #[arg(long)]
        rotate_token: bool,
    },
    /// Delete one: it takes no events any more, and goes when its last event has gone out.
    #[command(after_help = "\
Examples:
  zapbus instance delete shop")]
    Delete {
        /// Its id or name.
        instance: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Where its events come from.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop cloud-api --app-secret @secret.txt")]
    #[command(subcommand)]
    Source(Source),
}

/// Commands on an instance's source.
#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Set it.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop cloud-api --app-secret @secret.txt
  zapbus instance source set shop native")]
    Set {
        /// The instance's id or name.
        instance: String,
        #[command(subcommand)]
        kind: Kind,
    },
}

/// The kinds of sources.
#[derive(Debug, Subcommand)]
pub(super) enum Kind {
    /// Meta's Cloud API webhook; answers the URL to paste there.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop cloud-api --app-secret @secret.txt --phone-number-id 1234567890")]
    CloudApi {
        /// The app's secret, or @FILE that holds it.
        #[arg(long, value_parser = text_or_file)]
        app_secret: String,
        /// The verify token to paste at Meta too, or @FILE [default: made and shown].
        #[arg(long, value_parser = text_or_file)]
        verify_token: Option<String>,
        /// The number whose changes are this instance's.
        #[arg(long)]
        phone_number_id: Option<String>,
    },
    /// Only this gateway's own API.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop native")]
    Native,
}

impl Instance {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let path = ["v1", "instances"];
        match self {
            Self::List => {
                let columns = ["id", "name", "source", "state.connection", "last_event_at"];
                to.list(&path, &columns, out)
            }
            Self::Create { name } => to.show(Call::post(&path, json!({ "name": name })), out),
            Self::Show { instance } => to.show(Call::get(&["v1", "instances", &instance]), out),
            Self::Update { instance, name, rotate_token } => {
                let mut change = Map::new();
                if let Some(name) = name {
                    change.insert("name".to_owned(), Value::from(name));
                }
                if rotate_token {
                    change.insert("rotate_token".to_owned(), Value::from(true));
                }
                if change.is_empty() {
                    let message = "nothing to change: give --name or --rotate-token";
                    return Err(Failure::new(Exit::Usage, message));
                }
                to.show(Call::patch(&["v1", "instances", &instance], Value::Object(change)), out)
            }
            Self::Delete { instance, sure } => {
                sure.confirm(
                    &format!(
                        "Delete the instance {instance}, with all its destinations and events?"
                    ),
                    err,
                )?;
                to.show(Call::delete(&["v1", "instances", &instance]), out)
            }
            Self::Source(Source::Set { instance, kind }) => {
                let source = match kind {
                    Kind::CloudApi { app_secret, verify_token, phone_number_id } => {
                        let mut source = json!({ "type": "cloud-api", "app_secret": app_secret });
                        for (name, value) in
                            [("verify_token", verify_token), ("phone_number_id", phone_number_id)]
                        {
                            if let Some(value) = value {
                                source[name] = Value::from(value);
                            }
                        }
                        source
                    }
                    Kind::Native => json!({ "type": "native" }),
                };
                to.show(Call::put(&["v1", "instances", &instance, "source"], source), out)
            }
        }
    }
}

/// Secrets on a command line are seen by everyone on the machine: `@file` keeps them off it.
pub(in crate::cli) fn text_or_file(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end().to_owned())
            .map_err(|error| format!("{path}: {error}")),
    }
}
