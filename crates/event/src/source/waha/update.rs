//! Delivery states and votes.

use super::{
    Envelope,
    message::{place_of, status, target},
};
use crate::{
    Data,
    data::{MessageStatus, MessageVote, VoteTarget},
    shape::{AddressKind, MessageRef},
    source::{
        delivery::{Misfit, Understood},
        members::Members,
    },
};

/// `message.ack`, `message.ack.group`.
pub(super) fn ack(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let mut placed = place_of(payload)?;
    let ack = payload.int("ack").ok_or(Misfit::SHAPE)?;
    let status = status(ack).ok_or(Misfit::NAME)?;
    let is_group = placed.chat.kind == AddressKind::Group;
    let recipient = match &placed.participant {
        Some(participant) => participant.clone(),
        None if placed.from_me || is_group => placed.chat.clone(),
        None => envelope.own.clone(),
    };
    let id = placed.id.clone();
    let key = placed.keys(|chat, who| format!("s|{chat}|{id}|{ack}|{who}"));
    let aliases = placed.aliases();
    // Here the participant is who got the message, not who sent it.
    placed.participant = None;
    let data = Data::MessageStatus(MessageStatus {
        message: placed.message(),
        sender: placed.sender(&envelope.own, envelope.own.name.clone().filter(|_| placed.from_me)),
        status,
        rank: status.rank(),
        recipient,
        recipient_chat: is_group.then(|| placed.chat.clone()),
        chat: placed.chat,
        errors: Vec::new(),
        conversation: None,
        pricing: None,
        client_ref: None,
    });
    Ok(Understood { data, occurred_at: envelope.at, key, history: false, aliases })
}

/// `poll.vote`, `poll.vote.failed`.
pub(super) fn vote(envelope: &Envelope<'_>, failed: bool) -> Result<Understood, Misfit> {
    let vote = envelope.payload.object("vote").ok_or(Misfit::SHAPE)?;
    let poll = envelope.payload.object("poll").ok_or(Misfit::SHAPE)?;
    let selected = vote.texts("selectedOptions");
    voted(envelope, &vote, &poll, VoteTarget::Poll, selected, failed)
}

/// `event.response`, `event.response.failed`.
pub(super) fn response(envelope: &Envelope<'_>, failed: bool) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let event = payload.object("eventCreationKey").ok_or(Misfit::SHAPE)?;
    let answer = payload.object("eventResponse").and_then(|answer| answer.text("response"));
    let failed = failed || answer.is_none();
    let selected = answer.into_iter().map(|answer| answer.to_lowercase()).collect();
    voted(envelope, payload, &event, VoteTarget::Event, selected, failed)
}

fn voted(
    envelope: &Envelope<'_>,
    vote: &Members<'_>,
    asked: &Members<'_>,
    target_kind: VoteTarget,
    selected: Vec<String>,
    decrypt_failed: bool,
) -> Result<Understood, Misfit> {
    let placed = place_of(vote)?;
    let asked_id = asked.text("id").as_deref().and_then(target).ok_or(Misfit::SHAPE)?;
    let participant = asked_id.participant.map(|who| who.id);
    let target = MessageRef {
        id: asked_id.id,
        chat: placed.chat.id.clone(),
        from_me: asked.flag("fromMe").or(asked_id.from_me),
        participant: participant.filter(|_| placed.chat.kind == AddressKind::Group),
    };
    // Whoever failed to be read may be read later, with the same id.
    let variant = if decrypt_failed { "failed" } else { "new" };
    Ok(Understood {
        key: placed.message_keys(variant),
        aliases: placed.aliases(),
        data: Data::MessageVote(MessageVote {
            message: placed.message(),
            sender: placed.sender(&envelope.own, None),
            target,
            target_kind,
            selected,
            aggregate: None,
            decrypt_failed,
            chat: placed.chat,
        }),
        occurred_at: vote.time("timestamp").or(envelope.at),
        history: false,
    })
}
