//! `zapbus credential …`

use std::io::Write;

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::{
    Exit, Failure,
    client::{Call, Connection},
    question::Sure,
};

/// Commands on the credentials of an account: that of `--in-account`, or the default account.
#[derive(Debug, Subcommand)]
pub(super) enum Credential {
    /// Show all, without their secrets.
    #[command(after_help = "\
Examples:
  zapbus credential list
  zapbus credential list --in-account acme")]
    List,
    /// Make one; its secret is shown only now.
    #[command(after_help = "\
Examples:
  zapbus credential create n8n
  zapbus credential create panel --instance shop --expires-at 2030-01-01T00:00:00Z")]
    Create {
        /// What you call it.
        name: String,
        /// Reach only this instance, by id or name [default: all of the account].
        #[arg(long)]
        instance: Option<String>,
        /// A public id of your own that goes with the secret [default: made].
        #[arg(long)]
        client_token: Option<String>,
        /// From when on it is refused, for example 2027-01-01T00:00:00Z [default: never].
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Show one, without its secret.
    #[command(after_help = "\
Examples:
  zapbus credential show crd_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Show {
        /// Its id.
        credential: String,
    },
    /// Refuse one from a time on; it stays in the list.
    #[command(after_help = "\
Examples:
  zapbus credential expire crd_01ARZ3NDEKTSV4RRFFQ69G5FAV --at 2030-01-01T00:00:00Z
  zapbus credential expire crd_01ARZ3NDEKTSV4RRFFQ69G5FAV --yes")]
    Expire {
        /// Its id.
        credential: String,
        /// From when on [default: now].
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        #[command(flatten)]
        sure: Sure,
    },
    /// Refuse one from now on, and forget it.
    #[command(after_help = "\
Examples:
  zapbus credential revoke crd_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    Revoke {
        /// Its id.
        credential: String,
        #[command(flatten)]
        sure: Sure,
    },
    /// Make a new secret for one and show it; the old one works beside it for a while.
    #[command(after_help = "\
Examples:
  zapbus credential rotate crd_01ARZ3NDEKTSV4RRFFQ69G5FAV --overlap-s 3600")]
    Rotate {
        /// Its id.
        credential: String,
        /// Seconds for which the old secret works too [default: 86400].
        #[arg(long, value_name = "SECONDS")]
        overlap_s: Option<u64>,
    },
}

impl Credential {
    pub(super) fn run(
        self,
        to: &Connection,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let account = to.account_or_default();
        let all = ["v1", "accounts", account, "credentials"];
        match self {
            Self::List => to.list(&all, &["id", "name", "role", "client_token", "expires_at"], out),
            Self::Create { name, instance, client_token, expires_at } => {
                let mut body = Map::new();
                body.insert("name".to_owned(), Value::from(name));
                if instance.is_some() {
                    body.insert("role".to_owned(), Value::from("instance"));
                }
                for (member, value) in [
                    ("instance", instance),
                    ("client_token", client_token),
                    ("expires_at", expires_at),
                ] {
                    body.extend(value.map(|value| (member.to_owned(), Value::from(value))));
                }
                to.show(Call::post(&all, Value::Object(body)), out)
            }
            Self::Show { credential } => {
                let found = to.all(&all)?.into_iter().find(|it| it["id"] == *credential);
                let found = found.ok_or_else(|| {
                    let message = format!("the account {account} has no credential {credential}");
                    Failure::new(Exit::NotFound, message)
                })?;
                to.say(&found, out)
            }
            Self::Expire { credential, at, sure } => {
                if at.is_none() {
                    sure.confirm(&format!("Refuse the credential {credential} from now on?"), err)?;
                }
                let path = [&all[..], &[&credential, "expire"]].concat();
                let body = at.map_or(json!({}), |at| json!({ "at": at }));
                to.show(Call::post(&path, body), out)
            }
            Self::Revoke { credential, sure } => {
                sure.confirm(
                    &format!("Revoke the credential {credential}? Whoever uses it is refused."),
                    err,
                )?;
                let path = [&all[..], &[&credential]].concat();
                to.show(Call::delete(&path), out)
            }
            Self::Rotate { credential, overlap_s } => {
                let path = [&all[..], &[&credential, "rotate"]].concat();
                let body = overlap_s.map_or(json!({}), |seconds| json!({ "overlap_s": seconds }));
                to.show(Call::post(&path, body), out)
            }
        }
    }
}
