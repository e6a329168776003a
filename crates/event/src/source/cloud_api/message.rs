//! Messages, echoes of messages sent from the phone, and what is done to earlier messages.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    contact,
    content::{Message, content},
    phone::Phone,
};
use crate::{
    Data,
    data::{
        DeletionReason, DeletionScope, MessageDeleted, MessageEdited, MessageReaction,
        MessageReceived, MessageSent, MessageUndecryptable, Origin, Status, UndecryptableReason,
    },
    shape::{Address, MessageRef},
    source::{
        compound::{Object, read_member},
        delivery::{Key, Misfit, Understood},
        scalar::{Text, filled, instant, owned},
    },
};

/// "This message is currently unavailable": it exists, and its content was not handed over.
const UNAVAILABLE: i64 = 131_060;

/// An element of `messages`: from someone else.
pub(super) fn received(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let message: Message<'_> = serde_json::from_str(raw.get())?;
    Ok(Placed::incoming(phone, &message)?.decode(phone, &message))
}

/// An element of `message_echoes`: sent by this account from a phone or linked device.
pub(super) fn echo(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let message: Message<'_> = serde_json::from_str(raw.get())?;
    Ok(Placed::outgoing(phone, &message)?.decode(phone, &message))
}

/// An element of `messages` under the field `history`: of the past, of either side.
pub(super) fn from_history(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let message: Message<'_> = serde_json::from_str(raw.get())?;
    let own = filled(&message.from).is_some_and(|from| phone.is_own(from));
    let placed = match own {
        true => Placed::outgoing(phone, &message)?,
        false => Placed::incoming(phone, &message)?,
    };
    Ok(Understood { history: true, ..placed.decode(phone, &message) })
}

/// A message with its place: its id, who sent it, in which chat.
struct Placed<'m> {
    id: &'m str,
    sender: Address,
    chat: Address,
    from_me: bool,
}

/// What a message is.
enum Deed<'a> {
    /// It says something.
    Said,
    /// It exists.
    Unavailable,
    /// Its sender's account changed.
    Changed(Box<Data>),
    Reaction {
        target: Text<'a>,
        emoji: Option<Cow<'a, str>>,
    },
    Edit {
        target: Text<'a>,
        message: Box<Message<'a>>,
    },
    Revoke {
        target: Text<'a>,
    },
}

#[derive(Deserialize)]
struct Reaction<'a> {
    #[serde(borrow)]
    message_id: Text<'a>,
    #[serde(borrow)]
    emoji: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Edit<'a> {
    #[serde(borrow)]
    original_message_id: Text<'a>,
    #[serde(borrow)]
    message: Object<Message<'a>>,
}

#[derive(Deserialize)]
struct Revoke<'a> {
    #[serde(borrow)]
    original_message_id: Text<'a>,
}

impl<'a> Deed<'a> {
    /// A part that cannot be read makes it a message like any other, whose content is then
    /// `unsupported`: its chat still sees that something arrived.
    fn of(message: &Message<'a>, phone: &Phone<'_>, sender: &Address) -> Self {
        let deed = match &*message.kind {
            "reaction" => Self::reaction(message),
            "edit" => Self::edit(message),
            "revoke" => Self::revoke(message),
            "unsupported" | "unknown" if is_unavailable(message) => Some(Self::Unavailable),
            "system" => message
                .system
                .and_then(|notice| contact::changed(phone, sender, notice))
                .map(|changed| Self::Changed(Box::new(changed))),
            _ => None,
        };
        deed.unwrap_or(Self::Said)
    }

    fn reaction(message: &Message<'a>) -> Option<Self> {
        let Reaction { message_id: target, emoji } = read_member(message.reaction)?;
        // Without one it is taken back; one of another shape says neither.
        let emoji = match emoji {
            Some(raw) => serde_json::from_str(raw.get()).ok()?,
            None => None,
        };
        filled(&target)?;
        Some(Self::Reaction { target, emoji })
    }

    fn edit(message: &Message<'a>) -> Option<Self> {
        let edit: Edit<'a> = read_member(message.edit)?;
        filled(&edit.original_message_id)?;
        Some(Self::Edit { target: edit.original_message_id, message: Box::new(edit.message.0?) })
    }

    fn revoke(message: &Message<'a>) -> Option<Self> {
        let revoke: Revoke<'a> = read_member(message.revoke)?;
        filled(&revoke.original_message_id)?;
        Some(Self::Revoke { target: revoke.original_message_id })
    }
}

impl<'m> Placed<'m> {
    fn incoming(phone: &Phone<'_>, message: &'m Message<'_>) -> Result<Self, Misfit> {
        let sender = phone
            .person(filled(&message.from), filled(&message.from_user_id))
            .or_else(|| contact::subject(phone, message.system?))
            .ok_or(Misfit::SHAPE)?;
        let chat = match filled(&message.group_id) {
            Some(group) => Address::group(group),
            None => sender.clone(),
        };
        Ok(Self { id: id(message)?, sender, chat, from_me: false })
    }

    fn outgoing(phone: &Phone<'_>, message: &'m Message<'_>) -> Result<Self, Misfit> {
        let chat = match filled(&message.group_id) {
            Some(group) => Some(Address::group(group)),
            None => phone.person(filled(&message.to), filled(&message.to_user_id)),
        };
        let sender = match filled(&message.from) {
            Some(from) => Address::phone(from),
            None => phone.own.clone(),
        };
        Ok(Self { id: id(message)?, sender, chat: chat.ok_or(Misfit::SHAPE)?, from_me: true })
    }

    fn decode(self, phone: &Phone<'_>, message: &Message<'_>) -> Understood {
        let deed = Deed::of(message, phone, &self.sender);
        // What is done to a message comes as a message with an id of its own.
        let mut key = format!("m|{}|{}", phone.key(), self.id);
        let data = match deed {
            Deed::Said => self.said(phone, message),
            Deed::Unavailable => {
                // The same id may come again, with its content.
                key.push_str("|unavailable");
                self.undecryptable()
            }
            Deed::Changed(data) => *data,
            Deed::Reaction { target, emoji } => self.reaction(&target, emoji),
            Deed::Edit { target, message } => self.edited(phone, &target, &message),
            Deed::Revoke { target } => self.deleted(&target),
        };
        Understood {
            data,
            occurred_at: instant(message.timestamp),
            key: Key::Composed(key),
            history: false,
            aliases: Vec::new(),
        }
    }

    fn said(self, phone: &Phone<'_>, upstream: &Message<'_>) -> Data {
        let message = self.message(self.id, Some(self.from_me));
        let content = content(phone, upstream, &self.chat);
        let Self { chat, sender, .. } = self;
        let business_opaque = owned(&upstream.biz_opaque_callback_data);
        if !self.from_me {
            return Data::MessageReceived(MessageReceived {
                message,
                chat,
                sender,
                content,
                edited: false,
                business_opaque,
                ephemeral_expires_s: None,
            });
        }
        Data::MessageSent(MessageSent {
            message,
            chat,
            sender,
            content,
            edited: false,
            business_opaque,
            ephemeral_expires_s: None,
            origin: Origin::Device,
            client_ref: None,
            status: Status::Sent,
        })
    }

    fn reaction(self, target: &str, emoji: Option<Cow<'_, str>>) -> Data {
        let emoji = emoji.filter(|emoji| !emoji.is_empty()).map(Cow::into_owned);
        let mut target = self.message(target, None);
        target.participant = None;
        Data::MessageReaction(MessageReaction {
            message: self.message(self.id, Some(self.from_me)),
            target,
            removed: emoji.is_none(),
            emoji,
            reaction_id: Some(self.id.to_owned()),
            chat: self.chat,
            sender: self.sender,
        })
    }

    fn edited(self, phone: &Phone<'_>, target: &str, edited: &Message<'_>) -> Data {
        Data::MessageEdited(MessageEdited {
            message: self.message(target, Some(self.from_me)),
            content: content(phone, edited, &self.chat),
            edit_message_id: Some(self.id.to_owned()),
            origin: self.from_me.then_some(Origin::Device),
            previous: None,
            chat: self.chat,
            sender: self.sender,
        })
    }

    fn deleted(self, target: &str) -> Data {
        Data::MessageDeleted(MessageDeleted {
            message: self.message(target, Some(self.from_me)),
            scope: DeletionScope::Everyone,
            deleted_by: self.sender.clone(),
            carrier_message_id: Some(self.id.to_owned()),
            reason: Some(DeletionReason::Sender),
            chat: self.chat,
            sender: self.sender,
        })
    }

    fn undecryptable(self) -> Data {
        Data::MessageUndecryptable(MessageUndecryptable {
            message: self.message(self.id, Some(self.from_me)),
            reason: UndecryptableReason::Unknown,
            recoverable: false,
            chat: self.chat,
            sender: self.sender,
        })
    }

    /// A message of the same chat and sender.
    fn message(&self, id: &str, from_me: Option<bool>) -> MessageRef {
        let in_group = self.chat.id != self.sender.id && !self.from_me;
        MessageRef {
            id: id.to_owned(),
            chat: self.chat.id.clone(),
            from_me,
            participant: in_group.then(|| self.sender.id.clone()),
        }
    }
}

fn id<'m>(message: &'m Message<'_>) -> Result<&'m str, Misfit> {
    filled(&message.id).ok_or(Misfit::SHAPE)
}

fn is_unavailable(message: &Message<'_>) -> bool {
    message.errors().iter().any(|error| error.code == Some(UNAVAILABLE))
}
