//! Messages, and what is done to earlier ones.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::Posted;
use crate::{
    Data,
    data::{MessageUndecryptable, Origin, Status, UndecryptableReason},
    shape::{Address, AddressKind, Body, Content, Unsupported},
    source::{
        delivery::{Key, Misfit, Understood},
        members::Members,
        people::{keys, person},
        placed::{Own, Placed, View},
        web_message::{self, Deed, File, Target},
    },
};

/// A message's place, with who sent it: whatsmeow always says so.
struct Sent {
    placed: Placed,
    sender: Address,
}

impl Sent {
    /// Reads whatsmeow's `MessageInfo`.
    fn of(info: &Members<'_>) -> Option<Self> {
        let chat = info.text("Chat")?;
        let from_me = info.is_set("IsFromMe");
        let sender = person(&info.text("Sender")?, &[info.text("SenderAlt")]);
        let in_group = Address::parse(&chat).kind == AddressKind::Group;
        let alternative = if from_me { "RecipientAlt" } else { "SenderAlt" };
        let chat = match in_group {
            true => Address::parse(&chat),
            false => person(&chat, &[info.text(alternative)]),
        };
        let participant = (in_group || chat.kind == AddressKind::Status).then(|| sender.clone());
        let placed = Placed { id: info.text("ID")?, chat, from_me, participant };
        Some(Self { placed, sender })
    }

    fn named(&self, info: &Members<'_>) -> Address {
        let name = info.text("PushName");
        Address { name, ..self.sender.clone() }
    }

    /// `m|chat|sender|id|variant`, in both forms of the addresses.
    fn keys(&self, variant: &str) -> Key {
        let id = &self.placed.id;
        Key::Forms(keys(&self.placed.chat, Some(&self.sender), |chat, sender| {
            format!("m|{chat}|{sender}|{id}|{variant}")
        }))
    }

    fn understood(&self, info: &Members<'_>, data: Data, variant: &str) -> Understood {
        let people = [&self.placed.chat, &self.sender];
        Understood {
            data,
            occurred_at: info.time("Timestamp"),
            key: self.keys(variant),
            history: false,
            aliases: crate::source::people::aliases(people),
        }
    }
}

fn info<'a>(posted: &Posted<'a>) -> Result<(Members<'a>, Sent), Misfit> {
    let info = posted.event.object("Info").ok_or(Misfit::SHAPE)?;
    let sent = Sent::of(&info).ok_or(Misfit::SHAPE)?;
    Ok((info, sent))
}

/// `Message`.
pub(super) fn said(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let (info, sent) = info(posted)?;
    let event = &posted.event;
    let message = event.object("Message").unwrap_or_default();
    let mut deed = web_message::deed(&message, None, &file(posted));
    if let Deed::Said(content) = &mut deed {
        content.view_once |= event.is_set("IsViewOnce") || event.is_set("IsViewOnceV2");
    }
    // The envelope of an edit was taken off before.
    if event.is_set("IsEdit")
        && let Deed::Said(content) = deed
    {
        let meta = info.object("MsgMetaInfo").and_then(|meta| meta.text("TargetID"));
        let bot = info.object("MsgBotInfo").and_then(|bot| bot.text("EditTargetID"));
        let id = meta.or(bot).unwrap_or_else(|| sent.placed.id.clone());
        let target = Target { id, from_me: None, participant: None };
        deed = Deed::Edit { target, content };
    }
    Ok(done(&info, &sent, deed))
}

fn done(info: &Members<'_>, sent: &Sent, deed: Deed) -> Understood {
    let own = match sent.placed.from_me {
        true => sent.sender.clone(),
        false => Address::bare("unknown".to_owned(), AddressKind::Unknown),
    };
    let how = Own { origin: Origin::Device, status: Status::Sent };
    let (data, variant) = sent.placed.done(deed, sent.named(info), &own, how, View::Sender);
    sent.understood(info, data, &variant)
}

/// `FBMessage`: of another application, whose content is of another protocol.
pub(super) fn foreign(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let (info, sent) = info(posted)?;
    let body = Body::Unsupported(Unsupported {
        upstream_type: "FBMessage".to_owned(),
        reason: None,
        errors: Vec::new(),
    });
    Ok(done(&info, &sent, Deed::Said(Box::new(Content::new(body)))))
}

/// `UndecryptableMessage`.
pub(super) fn undecryptable(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let (info, sent) = info(posted)?;
    let event = &posted.event;
    let reason = match event.text("UnavailableType").as_deref() {
        Some("view_once") => UndecryptableReason::ViewOnce,
        Some(kind) if kind.contains("hosted") => UndecryptableReason::Hosted,
        Some(kind) if kind.contains("bot") => UndecryptableReason::Bot,
        Some(kind) if kind.contains("fanout") => UndecryptableReason::Fanout,
        Some(_) => UndecryptableReason::Unknown,
        // It was there and could not be read; the sender is asked for it again.
        None if !event.is_set("IsUnavailable") => UndecryptableReason::NoSession,
        None => UndecryptableReason::Unknown,
    };
    let data = Data::MessageUndecryptable(MessageUndecryptable {
        message: sent.placed.message(),
        chat: sent.placed.chat.clone(),
        sender: sent.named(&info),
        recoverable: reason == UndecryptableReason::NoSession,
        reason,
    });
    // The same id may come again, with its content.
    Ok(sent.understood(&info, data, "undecryptable"))
}

/// `MediaRetry`: the file of a message is gone and was asked for again.
pub(super) fn media_retry(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let chat = posted.address("ChatID")?;
    let from_me = event.is_set("FromMe");
    let sender = event.text("SenderID").map(|who| Address::parse(&who));
    let sender = sender.unwrap_or_else(|| chat.clone());
    let in_group = chat.kind == AddressKind::Group;
    let placed = Placed {
        id: event.text("MessageID").ok_or(Misfit::SHAPE)?,
        participant: in_group.then(|| sender.clone()),
        chat,
        from_me,
    };
    let data = Data::MessageUndecryptable(MessageUndecryptable {
        message: placed.message(),
        chat: placed.chat.clone(),
        sender: sender.clone(),
        reason: UndecryptableReason::Unknown,
        recoverable: event.raw("Error").is_none(),
    });
    let sent = Sent { placed, sender };
    Ok(sent.understood(event, data, "media"))
}

/// What wuzapi did with the file: sent it along, or stored it.
fn file(posted: &Posted<'_>) -> File {
    let (root, attached) = (&posted.root, posted.attached.as_ref());
    let base64 = root.text("base64").map(|text| match text.split_once(";base64,") {
        Some((_, base64)) => base64.to_owned(),
        None => text,
    });
    File {
        base64: base64.or_else(|| attached.map(|file| STANDARD.encode(file.content))),
        url: root.object("s3").and_then(|stored| stored.text("url")),
        mime: root.text("mimeType").or_else(|| attached.and_then(|file| file.mime.clone())),
        name: root.text("fileName").or_else(|| attached.and_then(|file| file.name.clone())),
    }
}
