//! How an event is written for whoever gets it: one vocabulary of envelope and names per dialect.

pub mod evolution;
pub mod native;
pub mod ryze;
pub mod vzaps;

use std::{borrow::Cow, fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Event;

/// A vocabulary of envelope and event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// Our own: the canonical envelope.
    #[default]
    Native,
    /// That of VZaps: `Message`, `ReadReceipt`, and bodies in the shape of whatsmeow's events.
    Vzaps,
    /// That of Evolution API: `messages.upsert`, and bodies in the shape of Baileys' events.
    Evolution,
    /// That of `RyzeAPI`: `message.exchange` and five more.
    Ryze,
}

/// What is known beside the event. What is not known is empty.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The name of the event's instance.
    pub instance_name: &'a str,
    /// Its token, for dialects whose bodies hold it.
    pub instance_token: &'a str,
    /// The number's own address, once it has been connected.
    pub own_address: Option<&'a str>,
    /// Where this server is reached, without a slash at its end.
    pub server_url: &'a str,
    /// For what kind of destination, where the dialect makes a difference.
    pub form: evolution::Form<'a>,
}

/// What a destination or subscription asks of its rendering. Part of the key under which an
/// encoded body may be shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Add the upstream's element as received.
    pub include_raw: bool,
    /// What becomes of an event for which the dialect has no name.
    pub fallback: Fallback,
    /// Put the keys that decrypt media into the message body, where the dialect has a place for
    /// them.
    pub media_key: bool,
    /// Written for a live connection instead of being posted, where the dialect makes a
    /// difference.
    pub live: bool,
    /// Put a file that is there into the body, where the dialect has a place for it.
    pub inline_media: bool,
    /// What only Evolution's form lets one choose.
    pub evolution: evolution::Choice,
    /// What only Ryze's form lets one choose.
    pub ryze: ryze::Choice,
}

/// What becomes of an event for which a dialect has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// It is not sent; it stays in the journal.
    #[default]
    Skip,
    /// Under the dialect's extension name.
    Extended,
    /// The native envelope, in the dialect's own.
    Native,
}

/// One message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The event's name in the dialect.
    pub name: String,
    /// What is sent: JSON.
    pub body: Bytes,
}

/// An event that could not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {event} in this dialect: {message}")]
pub struct RenderError {
    /// The event's id.
    pub event: String,
    /// What stood in the way.
    pub message: String,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: &'static [Self] = &[Self::Native, Self::Vzaps, Self::Evolution, Self::Ryze];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Vzaps => "vzaps",
            Self::Evolution => "evolution",
            Self::Ryze => "ryze",
        }
    }

    /// Writes an event as the messages to send, in order; none when the dialect has no name for
    /// it and the options say to skip it.
    ///
    /// # Errors
    /// Only when the stored payload is not what its type demands.
    pub fn encode(
        self,
        event: &Event,
        context: &Context<'_>,
        options: &Options,
    ) -> Result<Vec<Part>, RenderError> {
        match self {
            Self::Native => Ok(vec![native::encode(event, context, options)]),
            Self::Vzaps => Ok(vzaps::encode(event, context, options)?.into_iter().collect()),
            Self::Evolution => {
                let key = Some(context.instance_token).filter(|it| !it.is_empty());
                let apikey = key.filter(|_| options.evolution.show_key);
                let context = evolution::Context { apikey, ..context.into() };
                evolution::encode(event, &context, &options.into())
            }
            Self::Ryze => ryze::encode(event, &context.into(), &options.into()),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Text that names no dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown dialect {name:?}; there are {}", known())]
pub struct DialectError {
    /// The name that was given.
    pub name: String,
}

fn known() -> String {
    Dialect::ALL.iter().map(|dialect| dialect.as_str()).collect::<Vec<_>>().join(", ")
}

impl FromStr for Dialect {
    type Err = DialectError;

    fn from_str(name: &str) -> Result<Self, DialectError> {
        Self::ALL
            .iter()
            .find(|dialect| dialect.as_str() == name)
            .copied()
            .ok_or_else(|| DialectError { name: name.chars().take(64).collect() })
    }
}

/// The same JSON without line breaks, for framings that end at one (server-sent events, NDJSON).
/// Payloads and upstream elements are kept as posted and may hold them between tokens.
pub fn single_line(json: &[u8]) -> Cow<'_, [u8]> {
    if !json.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(json);
    }
    // Inside a JSON string a line break can only be escaped, so each of these is insignificant.
    Cow::Owned(json.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect())
}
