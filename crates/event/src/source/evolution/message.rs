//! Messages, and what is done to earlier ones.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Envelope;
use crate::{
    Alias, Data,
    data::{
        DeletionReason, DeletionScope, HistoryMessage, MessageDeleted, MessageEdited,
        MessageReaction, MessageReceived, MessageSent, MessageVote, Origin, Status,
    },
    dialect::evolution::Name,
    shape::{Address, AddressKind, Content, MessageRef},
    source::{
        delivery::{Key, Misfit, Understood},
        members::Members,
        people::{aliases, is_same, keys, person},
        web_message::{self, Deed, File, Target},
    },
};

/// A message's key: which message, in which chat, by whom.
pub(super) struct Placed {
    pub(super) id: String,
    pub(super) chat: Address,
    pub(super) from_me: bool,
    /// In a group, who sent it.
    pub(super) participant: Option<Address>,
}

impl Placed {
    /// Reads a key of Baileys: in version 7 with the other form of each address beside it.
    pub(super) fn of(key: &Members<'_>) -> Option<Self> {
        let also = ["remoteJidAlt", "previousRemoteJid", "senderPn", "senderLid"];
        let chat = person(&key.text("remoteJid")?, &also.map(|name| key.text(name)));
        let also = ["participantAlt", "participantPn", "participantLid"].map(|name| key.text(name));
        let participant = key.text("participant").map(|who| person(&who, &also));
        Some(Self {
            id: key.text_of(&["id", "keyId"])?,
            from_me: key.is_set("fromMe"),
            participant: participant.filter(|who| who.id != chat.id),
            chat,
        })
    }

    pub(super) fn message(&self) -> MessageRef {
        MessageRef {
            id: self.id.clone(),
            chat: self.chat.id.clone(),
            from_me: Some(self.from_me),
            participant: self.participant.as_ref().map(|who| who.id.clone()),
        }
    }

    pub(super) fn sender(&self, own: &Address, name: Option<String>) -> Address {
        let mut sender = match &self.participant {
            Some(participant) => participant.clone(),
            None if self.from_me => own.clone(),
            None => self.chat.clone(),
        };
        // What is said for a message of one's own is no name ("Você").
        sender.name = name.filter(|_| !self.from_me);
        sender
    }

    /// Keys of something about this message.
    pub(super) fn keys(&self, family: &str, variant: &str) -> Key {
        let (from_me, id) = (self.from_me, &self.id);
        Key::Forms(keys(&self.chat, self.participant.as_ref(), |chat, participant| match family {
            "s" => format!("s|{chat}|{from_me}|{id}|{variant}|{participant}"),
            _ => format!("{family}|{chat}|{from_me}|{id}|{participant}|{variant}"),
        }))
    }

    pub(super) fn aliases(&self) -> Vec<Alias> {
        aliases([&self.chat].into_iter().chain(&self.participant))
    }

    /// The message that this one speaks of. Baileys writes keys inside messages from this
    /// account's point of view.
    fn reference(&self, target: Target) -> MessageRef {
        let in_group = self.chat.kind == AddressKind::Group;
        MessageRef {
            id: target.id,
            chat: self.chat.id.clone(),
            from_me: target.from_me,
            participant: target.participant.filter(|_| in_group).map(|who| who.id),
        }
    }
}

/// `messages.upsert`, `send.message`: one message.
pub(super) fn upsert(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let placed = posted.object("key").and_then(|key| Placed::of(&key)).ok_or(Misfit::SHAPE)?;
    let deed = deed(&posted);
    let sender = placed.sender(&envelope.own, posted.text("pushName"));
    let origin = match envelope.name {
        Name::SendMessage => Origin::Api,
        _ => Origin::Device,
    };
    let (data, variant) = match deed {
        Deed::Said(mut content) => {
            fill_quoted(&mut content, &placed.chat, &envelope.own);
            (said(&placed, sender, *content, origin, &posted), "new".to_owned())
        }
        Deed::Reaction { target, emoji } => {
            let variant = format!("react:{}", placed.id);
            (reaction(&placed, sender, placed.reference(target), emoji), variant)
        }
        Deed::Vote { target, target_kind, selected } => {
            let data = Data::MessageVote(MessageVote {
                message: placed.message(),
                target: placed.reference(target),
                target_kind,
                decrypt_failed: selected.is_none(),
                selected: selected.unwrap_or_default(),
                aggregate: None,
                chat: placed.chat.clone(),
                sender,
            });
            (data, "new".to_owned())
        }
        Deed::Edit { target, content } => {
            let data = Data::MessageEdited(MessageEdited {
                message: MessageRef { id: target.id, ..placed.message() },
                content: *content,
                edit_message_id: Some(placed.id.clone()),
                origin: placed.from_me.then_some(origin),
                previous: None,
                chat: placed.chat.clone(),
                sender,
            });
            (data, format!("edit:{}", placed.id))
        }
        Deed::Revoke { target } => {
            let data = Data::MessageDeleted(MessageDeleted {
                message: placed.reference(target),
                scope: DeletionScope::Everyone,
                deleted_by: sender.clone(),
                carrier_message_id: Some(placed.id.clone()),
                reason: None,
                chat: placed.chat.clone(),
                sender,
            });
            (data, format!("revoke:{}", placed.id))
        }
    };
    Ok(Understood {
        data,
        occurred_at: posted.time("messageTimestamp"),
        key: placed.keys("m", &variant),
        history: false,
        aliases: placed.aliases(),
    })
}

/// What a row of messages says.
pub(super) fn deed(posted: &Members<'_>) -> Deed {
    let message = posted.object("message").unwrap_or_default();
    let file = File {
        base64: message.text("base64").or_else(|| posted.text("base64")),
        url: message.text("mediaUrl").or_else(|| posted.text("mediaUrl")),
        ..File::default()
    };
    web_message::deed(&message, posted.object("contextInfo").as_ref(), &file)
}

/// Completes the reference to the message that is answered.
pub(super) fn fill_quoted(content: &mut Content, chat: &Address, own: &Address) {
    let Some(quoted) = &mut content.quoted else { return };
    let message = &mut quoted.message;
    if message.chat.is_empty() {
        message.chat.clone_from(&chat.id);
    }
    if let Some(participant) = &message.participant {
        message.from_me = Some(is_same(&Address::parse(participant), own));
        // Whoever writes in a chat of two needs no naming.
        if chat.kind != AddressKind::Group && message.chat == chat.id {
            message.participant = None;
        }
    }
}

fn said(
    placed: &Placed,
    sender: Address,
    content: Content,
    origin: Origin,
    posted: &Members<'_>,
) -> Data {
    let (message, chat) = (placed.message(), placed.chat.clone());
    let ephemeral_expires_s = content.ephemeral_expires_s;
    if !placed.from_me {
        return Data::MessageReceived(MessageReceived {
            message,
            chat,
            sender,
            content,
            edited: false,
            business_opaque: None,
            ephemeral_expires_s,
        });
    }
    Data::MessageSent(MessageSent {
        message,
        chat,
        sender,
        content,
        edited: false,
        business_opaque: None,
        ephemeral_expires_s,
        origin,
        client_ref: None,
        status: posted.text("status").and_then(|name| status(&name)).unwrap_or(Status::Sent),
    })
}

fn reaction(placed: &Placed, sender: Address, target: MessageRef, emoji: Option<String>) -> Data {
    Data::MessageReaction(MessageReaction {
        message: placed.message(),
        target,
        removed: emoji.is_none(),
        emoji,
        reaction_id: Some(placed.id.clone()),
        chat: placed.chat.clone(),
        sender,
    })
}

/// `messages.edited`, `send.message.update`: a protocol message, which edits another or, in the
/// first, revokes it. Its own id is not told.
pub(super) fn protocol(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let placed = posted.object("key").and_then(|key| Placed::of(&key)).ok_or(Misfit::SHAPE)?;
    let at = posted.time("timestampMs");
    // Without a carrier: when it was made, or what it says.
    let mark = match at {
        Some(at) => at.as_millis().to_string(),
        None => hex::encode(&Sha256::digest(raw.get())[..8]),
    };
    let sender = placed.sender(&envelope.own, None);
    let (data, variant) = match web_message::protocol(&posted).ok_or(Misfit::NAME)? {
        Deed::Edit { content, .. } => {
            let api = envelope.name == Name::SendMessageUpdate;
            let origin = if api { Origin::Api } else { Origin::Device };
            let data = Data::MessageEdited(MessageEdited {
                message: placed.message(),
                content: *content,
                edit_message_id: None,
                origin: placed.from_me.then_some(origin),
                previous: None,
                chat: placed.chat.clone(),
                sender,
            });
            (data, format!("edit:{mark}"))
        }
        Deed::Revoke { .. } => (revoked(&placed, sender), format!("revoke:{mark}")),
        // A protocol message does nothing else.
        _ => return Err(Misfit::NAME),
    };
    Ok(Understood {
        data,
        occurred_at: at,
        key: placed.keys("m", &variant),
        history: false,
        aliases: placed.aliases(),
    })
}

/// `messages.delete`: the message's key, or its row with the key in it.
pub(super) fn deleted(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let key = posted.object("key").unwrap_or_else(|| posted.clone());
    let placed = Placed::of(&key).ok_or(Misfit::SHAPE)?;
    let sender = placed.sender(&envelope.own, posted.text("pushName"));
    Ok(Understood {
        data: revoked(&placed, sender),
        // The row's time is that of the message, not of its end.
        occurred_at: None,
        key: placed.keys("m", "revoke"),
        history: false,
        aliases: placed.aliases(),
    })
}

fn revoked(placed: &Placed, sender: Address) -> Data {
    Data::MessageDeleted(MessageDeleted {
        message: placed.message(),
        scope: DeletionScope::Everyone,
        // Who it was besides the sender, upstream does not say.
        deleted_by: sender.clone(),
        carrier_message_id: None,
        reason: Some(DeletionReason::Unknown),
        chat: placed.chat.clone(),
        sender,
    })
}

/// The state of this name; `EDITED` is none.
pub(super) fn status(name: &str) -> Option<Status> {
    Some(match name {
        "ERROR" => Status::Failed,
        "PENDING" => Status::Pending,
        "SERVER_ACK" => Status::Sent,
        "DELIVERY_ACK" => Status::Delivered,
        "READ" => Status::Read,
        "PLAYED" => Status::Played,
        "DELETED" => Status::Deleted,
        _ => return None,
    })
}

/// A message of the past, for lists of them; `None` for what only does something to another.
pub(super) fn past(envelope: &Envelope<'_>, raw: &RawValue) -> Option<HistoryMessage> {
    let posted = Members::of(raw)?;
    let placed = Placed::of(&posted.object("key")?)?;
    let Deed::Said(mut content) = deed(&posted) else { return None };
    fill_quoted(&mut content, &placed.chat, &envelope.own);
    Some(HistoryMessage {
        message: placed.message(),
        sender: placed.sender(&envelope.own, posted.text("pushName")),
        chat: placed.chat,
        content: *content,
        occurred_at: posted.time("messageTimestamp"),
        status: posted.text("status").and_then(|name| status(&name)),
    })
}
