//! `zapbus instance …`

use std::io::Write;

use clap::{Args, Subcommand, ValueEnum};
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
  zapbus instance create shop
  zapbus instance create shop --source evolution
  zapbus instance create support --own-token @own-token.txt")]
    Create {
        /// Unique in the account.
        name: String,
        /// The product that holds its session: its source, with a secret made for it.
        #[arg(long, value_enum)]
        source: Option<Product>,
        /// A token of your own for it, or @FILE that holds it [default: made and shown].
        #[arg(long, value_name = "TEXT", value_parser = text_or_file)]
        own_token: Option<String>,
    },
    /// Show one.
    #[command(after_help = "\
Examples:
  zapbus instance show shop")]
    Show {
        /// Its id or name.
        instance: String,
    },
    /// Show how one, and its destinations, did in the last hour and day.
    #[command(after_help = "\
Examples:
  zapbus instance statistics shop
  zapbus instance statistics shop --json")]
    Statistics {
        /// Its id or name.
        instance: String,
    },
    /// Rename one, give it a new token, or say what to do about the files of its messages.
    #[command(after_help = "\
Examples:
  zapbus instance update shop --name shop-br
  zapbus instance update shop --rotate-token
  zapbus instance update shop --fetch-media all --wait-for-media 20")]
    Update {
        /// Its id or name.
        instance: String,
        /// The new name.
        #[arg(long)]
        name: Option<String>,
        /// Make a new token; the old one ends at once.
        #[arg(long)]
        rotate_token: bool,
        /// A new token of your own, or @FILE that holds it; the old one ends at once.
        #[arg(long, value_name = "TEXT", value_parser = text_or_file, conflicts_with = "rotate_token")]
        own_token: Option<String>,
        /// Which files are fetched that its events only name: those with an id of Cloud API, or
        /// those at plain URLs too.
        #[arg(long, value_enum)]
        fetch_media: Option<Files>,
        /// Seconds that an event is held for its file: 0 to 300.
        #[arg(long, value_name = "SECONDS")]
        wait_for_media: Option<u32>,
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

/// Which files are fetched that events only name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Files {
    /// None.
    None,
    /// Those with an id of Cloud API.
    Ids,
    /// Those at plain URLs too.
    All,
}

impl Files {
    const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Ids => "ids",
            Self::All => "all",
        }
    }
}

/// A product that holds sessions and posts what happens in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Product {
    /// Evolution API.
    Evolution,
    /// wuzapi.
    Wuzapi,
    /// WAHA.
    Waha,
}

impl Product {
    /// Its source, with this secret or one that is made.
    fn source(self, secret: Option<String>) -> Value {
        let name = match self {
            Self::Evolution => "evolution",
            Self::Wuzapi => "wuzapi",
            Self::Waha => "waha",
        };
        let mut source = json!({ "type": name });
        if let Some(secret) = secret {
            source["secret"] = Value::from(secret);
        }
        source
    }
}

/// Commands on an instance's source.
#[derive(Debug, Subcommand)]
pub(super) enum Source {
    /// Show it, with what to set upstream.
    #[command(after_help = "\
Examples:
  zapbus instance source show shop
  zapbus instance source show shop --json")]
    Show {
        /// The instance's id or name.
        instance: String,
    },
    /// Set it; answers what to set upstream.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop cloud-api --app-secret @secret.txt
  zapbus instance source set shop evolution
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
        /// What opens Meta's Graph API, for the files of messages, or @FILE that holds it.
        #[arg(long, value_parser = text_or_file)]
        access_token: Option<String>,
    },
    /// The webhook of Evolution API.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop evolution
  zapbus instance source set shop evolution --secret @secret.txt")]
    Evolution(Secret),
    /// The webhook of wuzapi.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop wuzapi")]
    Wuzapi(Secret),
    /// The webhook of WAHA.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop waha
  zapbus instance source set shop waha --secret @secret.txt")]
    Waha(Secret),
    /// Only this gateway's own API.
    #[command(after_help = "\
Examples:
  zapbus instance source set shop native")]
    Native,
}

/// What a bridged product shows or signs with.
#[derive(Debug, Args)]
pub(super) struct Secret {
    /// The secret, or @FILE that holds it [default: the one it has, else made and shown].
    #[arg(long, value_parser = text_or_file)]
    secret: Option<String>,
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
            Self::Create { name, source, own_token } => {
                let mut body = json!({ "name": name });
                if let Some(token) = own_token {
                    body["token"] = Value::from(token);
                }
                let mut made = to.ask(Call::post(&path, body))?;
                let Some(product) = source else { return to.say(&made, out) };
                let id = made["id"].as_str().unwrap_or(&name).to_owned();
                let set = Call::put(&["v1", "instances", &id, "source"], product.source(None));
                match to.ask(set) {
                    Ok(mut set) => {
                        for (here, there) in
                            [("source", "type"), ("url", "url"), ("paste", "paste")]
                        {
                            made[here] = set[there].take();
                        }
                        show_source(to, made, out)
                    }
                    Err(failure) => {
                        // It is there, and its token is not shown again.
                        to.say(&made, out)?;
                        Err(failure)
                    }
                }
            }
            Self::Show { instance } => to.show(Call::get(&["v1", "instances", &instance]), out),
            Self::Statistics { instance } => {
                to.show(Call::get(&["v1", "instances", &instance, "statistics"]), out)
            }
            Self::Update {
                instance,
                name,
                rotate_token,
                own_token,
                fetch_media,
                wait_for_media,
            } => {
                let mut change = Map::new();
                for (member, value) in [("name", name), ("token", own_token)] {
                    change.extend(value.map(|value| (member.to_owned(), Value::from(value))));
                }
                if rotate_token {
                    change.insert("rotate_token".to_owned(), Value::from(true));
                }
                let mut media = Map::new();
                if let Some(files) = fetch_media {
                    media.insert("fetch".to_owned(), Value::from(files.as_str()));
                }
                if let Some(seconds) = wait_for_media {
                    media.insert("wait_for_media_s".to_owned(), Value::from(seconds));
                }
                if !media.is_empty() {
                    change.insert("media".to_owned(), Value::Object(media));
                }
                if change.is_empty() {
                    let message = "nothing to change: give --name, --rotate-token, --own-token, \
                                   --fetch-media or --wait-for-media";
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
            Self::Source(Source::Show { instance }) => {
                let path = ["v1", "instances", &instance, "source"];
                show_source(to, to.ask(Call::get(&path))?, out)
            }
            Self::Source(Source::Set { instance, kind }) => {
                let source = match kind {
                    Kind::CloudApi { app_secret, verify_token, phone_number_id, access_token } => {
                        let mut source = cloud_api(app_secret, verify_token, phone_number_id);
                        if let Some(token) = access_token {
                            source["access_token"] = Value::from(token);
                        }
                        source
                    }
                    Kind::Evolution(it) => Product::Evolution.source(it.secret),
                    Kind::Wuzapi(it) => Product::Wuzapi.source(it.secret),
                    Kind::Waha(it) => Product::Waha.source(it.secret),
                    Kind::Native => json!({ "type": "native" }),
                };
                let path = ["v1", "instances", &instance, "source"];
                show_source(to, to.ask(Call::put(&path, source))?, out)
            }
        }
    }
}

/// A Cloud API source, with what is given.
pub(super) fn cloud_api(
    app_secret: String,
    verify_token: Option<String>,
    phone_number_id: Option<String>,
) -> Value {
    let mut source = json!({ "type": "cloud-api", "app_secret": app_secret });
    for (name, value) in [("verify_token", verify_token), ("phone_number_id", phone_number_id)] {
        if let Some(value) = value {
            source[name] = Value::from(value);
        }
    }
    source
}

/// Shows a source, with the requests to make upstream as they are to be made.
fn show_source(to: &Connection, mut source: Value, out: &mut dyn Write) -> Result<(), Failure> {
    if to.wants_json() {
        return to.say(&source, out);
    }
    let requests = source["paste"].as_object_mut().and_then(|paste| paste.remove("requests"));
    to.say(&source, out)?;
    for request in requests.iter().filter_map(Value::as_array).flatten() {
        let what = request["request"].as_str().unwrap_or_default();
        writeln!(out, "\nupstream: {what}\n{:#}", request["body"])?;
    }
    Ok(())
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
