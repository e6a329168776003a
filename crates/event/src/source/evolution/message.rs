//! Messages, and what is done to earlier ones.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::Envelope;
use crate::{
    Data,
    data::{
        DeletionReason, DeletionScope, HistoryMessage, MessageDeleted, MessageEdited, Origin,
        Status,
    },
    dialect::evolution::Name,
    shape::Address,
    source::{
        delivery::{Misfit, Understood},
        members::Members,
        people::person,
        placed::{Own, Placed, View},
        web_message::{self, Deed, File},
    },
};

/// Reads a key of Baileys: in version 7 with the other form of each address beside it.
pub(super) fn place_of(key: &Members<'_>) -> Option<Placed> {
    let also = ["remoteJidAlt", "previousRemoteJid", "senderPn", "senderLid"];
    let chat = person(&key.text("remoteJid")?, &also.map(|name| key.text(name)));
    let also = ["participantAlt", "participantPn", "participantLid"].map(|name| key.text(name));
    let participant = key.text("participant").map(|who| person(&who, &also));
    Some(Placed {
        id: key.text_of(&["id", "keyId"])?,
        from_me: key.is_set("fromMe"),
        participant: participant.filter(|who| who.id != chat.id),
        chat,
    })
}

/// What is said for a message of one's own is no name ("Você").
fn name(placed: &Placed, posted: &Members<'_>) -> Option<String> {
    posted.text("pushName").filter(|_| !placed.from_me)
}

/// `messages.upsert`, `send.message`: one message.
pub(super) fn upsert(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let placed = posted.object("key").and_then(|key| place_of(&key)).ok_or(Misfit::SHAPE)?;
    let sender = placed.sender(&envelope.own, name(&placed, &posted));
    let origin = match envelope.name {
        Name::SendMessage => Origin::Api,
        _ => Origin::Device,
    };
    let status = posted.text("status").and_then(|name| status(&name)).unwrap_or(Status::Sent);
    // Baileys writes keys inside messages from this account's point of view.
    let how = Own { origin, status };
    let (data, variant) = placed.done(deed(&posted), sender, &envelope.own, how, View::Account);
    Ok(Understood {
        data,
        occurred_at: posted.time("messageTimestamp"),
        key: placed.message_keys(&variant),
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

/// `messages.edited`, `send.message.update`: a protocol message, which edits another or, in the
/// first, revokes it. Its own id is not told.
pub(super) fn protocol(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let placed = posted.object("key").and_then(|key| place_of(&key)).ok_or(Misfit::SHAPE)?;
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
        key: placed.message_keys(&variant),
        history: false,
        aliases: placed.aliases(),
    })
}

/// `messages.delete`: the message's key, or its row with the key in it.
pub(super) fn deleted(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let key = posted.object("key").unwrap_or_else(|| posted.clone());
    let placed = place_of(&key).ok_or(Misfit::SHAPE)?;
    let sender = placed.sender(&envelope.own, name(&placed, &posted));
    Ok(Understood {
        data: revoked(&placed, sender),
        // The row's time is that of the message, not of its end.
        occurred_at: None,
        key: placed.message_keys("revoke"),
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
    let placed = place_of(&posted.object("key")?)?;
    let Deed::Said(mut content) = deed(&posted) else { return None };
    placed.complete(&mut content, &envelope.own);
    Some(HistoryMessage {
        message: placed.message(),
        sender: placed.sender(&envelope.own, name(&placed, &posted)),
        chat: placed.chat,
        content: *content,
        occurred_at: posted.time("messageTimestamp"),
        status: posted.text("status").and_then(|name| status(&name)),
    })
}
