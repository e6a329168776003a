//! Messages of WhatsApp's own protocol as JSON: what Baileys (Evolution API, WAHA) and whatsmeow
//! (wuzapi, WAHA) hand on.
//!
//! The members are those of `Message` in WhatsApp's protocol definition (`WAE2E.proto`).

mod content;
mod context;
mod interactive;
mod media;

pub(super) use content::{from_vcard, vcard_line};
pub(super) use media::{File, keys as media_keys};

use serde_json::value::RawValue;

use super::members::{self, Members};
use crate::{
    data::VoteTarget,
    shape::{Address, Content},
};

/// Envelopes around a message, in which it is the member `message`.
const WRAPPERS: [&str; 8] = [
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "groupMentionedMessage",
    "lottieStickerMessage",
];

/// How many envelopes are opened; real ones are one or two.
const MAX_WRAPPED: usize = 4;

/// `ProtocolMessage.Type` of the two that concern an earlier message.
const REVOKE: i64 = 0;
const MESSAGE_EDIT: i64 = 14;

/// What a message does.
pub(super) enum Deed {
    /// It says something.
    Said(Box<Content>),
    /// It says something else instead.
    Edit {
        target: Target,
        content: Box<Content>,
    },
    Revoke {
        target: Target,
    },
    Reaction {
        target: Target,
        /// Absent when it was taken back.
        emoji: Option<String>,
    },
    Vote {
        target: Target,
        target_kind: VoteTarget,
        /// `None` when the vote is still encrypted.
        selected: Option<Vec<String>>,
    },
}

/// The key of an earlier message, as far as it is given.
pub(super) struct Target {
    pub(super) id: String,
    pub(super) from_me: Option<bool>,
    pub(super) participant: Option<Address>,
}

impl Target {
    /// Reads a `MessageKey`.
    pub(super) fn of(key: &Members<'_>) -> Option<Self> {
        Some(Self {
            id: key.text("id")?,
            from_me: key.flag("fromMe"),
            participant: key.text("participant").map(|who| Address::parse(&who)),
        })
    }
}

/// What a message does. `beside` is the context that stands beside the message rather than in it,
/// `file` what the upstream did with the file it carries. A part that cannot be read makes it a
/// message like any other, whose content is then `unsupported`.
pub(super) fn deed(message: &Members<'_>, beside: Option<&Members<'_>>, file: &File) -> Deed {
    let opened = Opened::of(message);
    let acts = protocol_message(&opened.message).or_else(|| act(&opened.message));
    acts.unwrap_or_else(|| Deed::Said(Box::new(content::content(&opened, beside, file))))
}

/// What a `ProtocolMessage` does to another message; `None` for its other uses.
pub(super) fn protocol(part: &Members<'_>) -> Option<Deed> {
    let target = Target::of(&part.object("key")?)?;
    // Absent is the first value, as always in the protocol.
    let name = part.text("type").unwrap_or_else(|| "REVOKE".to_owned());
    match (name.as_str(), name.parse::<i64>()) {
        ("REVOKE", _) | (_, Ok(REVOKE)) => Some(Deed::Revoke { target }),
        ("MESSAGE_EDIT", _) | (_, Ok(MESSAGE_EDIT)) => {
            let edited = part.object("editedMessage")?;
            let content = content::content(&Opened::of(&edited), None, &File::default());
            Some(Deed::Edit { target, content: Box::new(content) })
        }
        _ => None,
    }
}

/// The names of the options that a decrypted vote chose.
pub(super) fn selected_options(vote: &Members<'_>) -> Option<Vec<String>> {
    let options = vote.raw("selectedOptions")?;
    let listed: Vec<&RawValue> = members::one_or_each(options);
    listed
        .into_iter()
        .map(|option| {
            members::text(option)
                .or_else(|| Members::of(option)?.text_of(&["optionName", "name", "id"]))
        })
        .collect()
}

fn protocol_message(message: &Members<'_>) -> Option<Deed> {
    if let Some(part) = message.object("protocolMessage") {
        return protocol(&part);
    }
    // An edit of a linked device comes in one more envelope.
    let inner = message.object("editedMessage")?.object("message")?;
    protocol(&inner.object("protocolMessage")?)
}

fn act(message: &Members<'_>) -> Option<Deed> {
    if let Some(reaction) = message.object("reactionMessage") {
        let target = Target::of(&reaction.object("key")?)?;
        return Some(Deed::Reaction { target, emoji: reaction.text("text") });
    }
    if let Some(update) = message.object("pollUpdateMessage") {
        let target = Target::of(&update.object("pollCreationMessageKey")?)?;
        let selected = update.object("vote").and_then(|vote| selected_options(&vote));
        return Some(Deed::Vote { target, target_kind: VoteTarget::Poll, selected });
    }
    if let Some(answer) = message.object("encEventResponseMessage") {
        let target = Target::of(&answer.object("eventCreationMessageKey")?)?;
        return Some(Deed::Vote { target, target_kind: VoteTarget::Event, selected: None });
    }
    None
}

/// A message out of its envelopes.
struct Opened<'a> {
    message: Members<'a>,
    view_once: bool,
}

impl<'a> Opened<'a> {
    fn of(message: &Members<'a>) -> Self {
        let mut opened = Self { message: message.clone(), view_once: false };
        for _ in 0..MAX_WRAPPED {
            let found = WRAPPERS.iter().find_map(|name| {
                let inner = opened.message.object(name)?.object("message")?;
                Some((name, inner))
            });
            let Some((name, inner)) = found else { break };
            opened.view_once |= name.starts_with("viewOnce");
            opened.message = inner;
        }
        opened
    }
}
