//! Delivery states: one event for each message of a receipt.

use super::{Found, Posted};
use crate::{
    Data,
    data::{MessageStatus, Status},
    shape::{Address, AddressKind, MessageRef},
    source::{
        delivery::{Key, Misfit, Understood},
        members::text,
        people::{aliases, keys, person},
    },
};

pub(super) fn states<'a>(posted: &Posted<'a>) -> Vec<Found<'a>> {
    let listed = posted.event.list("MessageIDs");
    let each = |raw| {
        let id = text(raw).ok_or(Misfit::SHAPE);
        (Some(raw), id.and_then(|id| state(posted, id)))
    };
    listed.into_iter().map(each).collect()
}

fn state(posted: &Posted<'_>, id: String) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let kind = event.text("Type").unwrap_or_default();
    let status = status(&kind, posted.root.text("state").as_deref()).ok_or(Misfit::NAME)?;
    let chat = posted.address("Chat")?;
    let in_group = chat.kind == AddressKind::Group;
    // Who got or read the message.
    let sender = event.text("Sender").ok_or(Misfit::SHAPE)?;
    let reader = person(&sender, &[event.text("SenderAlt")]);
    let by_self = event.is_set("IsFromMe")
        || matches!(status, Status::ReadSelf | Status::PlayedSelf | Status::Sender);
    // What this account reads on another device, others wrote; `sender` is about its own.
    let from_me = !by_self || status == Status::Sender;
    let author = event.text("MessageSender").map(|who| Address::parse(&who));
    let author = match from_me {
        _ if author.is_some() => author,
        true if by_self => Some(reader.clone()),
        true => None,
        false => Some(chat.clone()),
    };
    let author =
        author.unwrap_or_else(|| Address::bare("unknown".to_owned(), AddressKind::Unknown));
    let key = Key::Forms(keys(&chat, Some(&reader), |chat, reader| {
        format!("s|{chat}|{id}|{kind}|{reader}")
    }));
    let learned = aliases([&reader]);
    let participant = (in_group && !from_me).then(|| author.id.clone());
    let data = Data::MessageStatus(MessageStatus {
        message: MessageRef { id, chat: chat.id.clone(), from_me: Some(from_me), participant },
        sender: author,
        status,
        rank: status.rank(),
        recipient: reader,
        recipient_chat: in_group.then(|| chat.clone()),
        chat,
        errors: Vec::new(),
        conversation: None,
        pricing: None,
        client_ref: None,
    });
    Ok(Understood { data, occurred_at: posted.at(), key, history: false, aliases: learned })
}

/// By whatsmeow's `ReceiptType`, else by wuzapi's own word.
fn status(kind: &str, state: Option<&str>) -> Option<Status> {
    Some(match (kind, state) {
        ("", None | Some("Delivered")) | ("delivery", _) => Status::Delivered,
        ("", Some("Read")) | ("read", _) => Status::Read,
        ("", Some("ReadSelf")) | ("read-self", _) => Status::ReadSelf,
        ("played", _) => Status::Played,
        ("played-self", _) => Status::PlayedSelf,
        ("sender", _) => Status::Sender,
        ("retry" | "enc_rekey_retry", _) => Status::Retry,
        ("inactive", _) => Status::Inactive,
        ("server-error", _) => Status::Failed,
        _ => return None,
    })
}
