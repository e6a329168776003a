//! Delivery states of messages.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::phone::{ApiError, Phone, errors};
use crate::{
    Data,
    data::{Conversation, MessageStatus, Pricing, Status},
    shape::{Address, AddressKind, MessageRef},
    source::{
        compound::{List, Object},
        delivery::{Key, Misfit, Understood},
        scalar::{Flag, Text, Time, filled, instant, owned},
    },
};

#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    status: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    timestamp: Time,
    #[serde(borrow)]
    recipient_id: Text<'a>,
    #[serde(borrow)]
    recipient_user_id: Text<'a>,
    #[serde(borrow)]
    recipient_type: Text<'a>,
    #[serde(borrow)]
    recipient_participant_id: Text<'a>,
    #[serde(borrow)]
    recipient_participant_user_id: Text<'a>,
    #[serde(borrow)]
    biz_opaque_callback_data: Text<'a>,
    #[serde(borrow)]
    conversation: Object<PostedConversation<'a>>,
    #[serde(borrow)]
    pricing: Object<PostedPricing<'a>>,
    #[serde(borrow)]
    errors: List<ApiError<'a>>,
}

#[derive(Deserialize)]
struct PostedConversation<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    expiration_timestamp: Time,
    #[serde(borrow)]
    origin: Object<ConversationOrigin<'a>>,
}

#[derive(Deserialize)]
struct ConversationOrigin<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

#[derive(Deserialize)]
struct PostedPricing<'a> {
    billable: Flag,
    #[serde(borrow)]
    pricing_model: Text<'a>,
    #[serde(borrow)]
    category: Text<'a>,
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

/// An element of `statuses`.
pub(super) fn event(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted: Posted<'_> = serde_json::from_str(raw.get())?;
    // States of payments come in the same list, and `pending` means something else there.
    if filled(&posted.kind).is_some_and(|kind| kind != "message") {
        return Err(Misfit::NAME);
    }
    let status = state(&posted.status).ok_or(Misfit::NAME)?;
    let id = filled(&posted.id).ok_or(Misfit::SHAPE)?;
    let participant = phone.person(
        filled(&posted.recipient_participant_id),
        filled(&posted.recipient_participant_user_id),
    );
    let is_group = filled(&posted.recipient_type) == Some("group") || participant.is_some();
    let (recipient, chat) = if is_group {
        let group = Address::group(filled(&posted.recipient_id).ok_or(Misfit::SHAPE)?);
        (participant.unwrap_or_else(|| group.clone()), group)
    } else {
        let recipient = phone
            .person(filled(&posted.recipient_id), filled(&posted.recipient_user_id))
            .ok_or(Misfit::SHAPE)?;
        (recipient.clone(), recipient)
    };
    let key = format!(
        "s|{}|{}|{}|{}|{}",
        phone.key(),
        id,
        &*posted.status,
        filled(&posted.recipient_id).or(filled(&posted.recipient_user_id)).unwrap_or_default(),
        filled(&posted.recipient_participant_id)
            .or(filled(&posted.recipient_participant_user_id))
            .unwrap_or_default(),
    );
    let data = Data::MessageStatus(MessageStatus {
        message: MessageRef {
            id: id.to_owned(),
            chat: chat.id.clone(),
            from_me: Some(true),
            participant: None,
        },
        sender: phone.own.clone(),
        status,
        rank: status.rank(),
        recipient,
        recipient_chat: (chat.kind == AddressKind::Group).then(|| chat.clone()),
        chat,
        errors: errors(&posted.errors),
        conversation: posted.conversation.0.as_ref().and_then(conversation),
        pricing: posted.pricing.0.as_ref().map(|pricing| Pricing {
            billable: pricing.billable.0,
            model: owned(&pricing.pricing_model),
            category: owned(&pricing.category),
            kind: owned(&pricing.kind),
        }),
        client_ref: owned(&posted.biz_opaque_callback_data),
    });
    let occurred_at = instant(posted.timestamp);
    Ok(Understood {
        data,
        occurred_at,
        key: Key::Composed(key),
        history: false,
        aliases: Vec::new(),
    })
}

/// The state that a message of the API's own words has.
pub(super) fn state(name: &str) -> Option<Status> {
    Some(match name {
        "sent" => Status::Sent,
        "delivered" => Status::Delivered,
        "read" => Status::Read,
        "played" => Status::Played,
        "failed" => Status::Failed,
        "deleted" => Status::Deleted,
        "warning" => Status::Warning,
        _ => return None,
    })
}

fn conversation(posted: &PostedConversation<'_>) -> Option<Conversation> {
    Some(Conversation {
        id: owned(&posted.id)?,
        category: posted.origin.0.as_ref().and_then(|origin| owned(&origin.kind)),
        expires_at: instant(posted.expiration_timestamp),
    })
}
