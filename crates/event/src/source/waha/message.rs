//! Messages, and what is done to earlier ones.

use super::Envelope;
use crate::{
    Data,
    data::{MessageUndecryptable, Origin, Status, UndecryptableReason},
    shape::{
        Address, AddressKind, Body, Contacts, Content, Location, Media, MediaContent, MediaKind,
        MediaState, MessageRef, Quoted, Text, Unsupported,
    },
    source::{
        delivery::{Misfit, Understood},
        members::Members,
        people::person,
        placed::{Own, Placed, View},
        web_message::{self, Deed, File, Target},
    },
};

/// `<fromMe>_<chat>_<bare id>[_<participant>]`, or the bare id alone.
pub(super) struct Id {
    pub(super) bare: String,
    pub(super) from_me: Option<bool>,
    pub(super) chat: Option<String>,
    pub(super) participant: Option<String>,
}

impl Id {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '_');
        let from_me = parts.next().and_then(|first| first.parse().ok());
        let (from_me, chat, bare) = match (from_me, parts.next(), parts.next()) {
            (Some(from_me), Some(chat), Some(bare)) if chat.contains('@') => {
                (Some(from_me), Some(chat.to_owned()), bare)
            }
            _ => {
                let bare = Some(text.to_owned()).filter(|bare| !bare.is_empty())?;
                return Some(Self { bare, from_me: None, chat: None, participant: None });
            }
        };
        let participant = parts.next().map(str::to_owned).filter(|who| who.contains('@'));
        Some(Self { bare: bare.to_owned(), from_me, chat, participant })
            .filter(|id| !id.bare.is_empty())
    }
}

/// Which message a payload is about. Only the engine says other forms of addresses.
pub(super) fn place_of(payload: &Members<'_>) -> Result<Placed, Misfit> {
    let id = payload.text("id").as_deref().and_then(Id::parse).ok_or(Misfit::SHAPE)?;
    let from_me = payload.flag("fromMe").or(id.from_me).unwrap_or(false);
    let engine = payload.object("_data").unwrap_or_default();
    let key = engine.object("key").unwrap_or_default();
    let info = engine.object("Info").unwrap_or_default();
    let other = if from_me { payload.text("to") } else { payload.text("from") };
    let chat = id.chat.or(other).ok_or(Misfit::SHAPE)?;
    let alternative = if from_me { "RecipientAlt" } else { "SenderAlt" };
    let in_group = Address::parse(&chat).kind == AddressKind::Group;
    let chat = match in_group {
        true => Address::parse(&chat),
        false => person(&chat, &[key.text("remoteJidAlt"), info.text(alternative)]),
    };
    let participant = payload.text("participant").or(id.participant).filter(|_| in_group);
    let also = [key.text("participantAlt"), info.text("SenderAlt")];
    let participant = participant.map(|who| person(&who, &also));
    Ok(Placed { id: id.bare, chat, from_me, participant })
}

/// The name that the sender gave themselves, which only the engine says.
fn name(payload: &Members<'_>) -> Option<String> {
    let engine = payload.object("_data")?;
    engine.text_of(&["pushName", "notifyName"]).or_else(|| engine.object("Info")?.text("PushName"))
}

fn how(payload: &Members<'_>) -> Own {
    let origin = match payload.text("source").as_deref() {
        Some("api") => Origin::Api,
        Some("app") => Origin::Device,
        _ => Origin::Unknown,
    };
    Own { origin, status: payload.int("ack").and_then(status).unwrap_or(Status::Sent) }
}

/// The state of this number.
pub(super) fn status(ack: i64) -> Option<Status> {
    Some(match ack {
        -1 => Status::Failed,
        0 => Status::Pending,
        1 => Status::Sent,
        2 => Status::Delivered,
        3 => Status::Read,
        4 => Status::Played,
        _ => return None,
    })
}

fn understood(
    envelope: &Envelope<'_>,
    payload: &Members<'_>,
    placed: &Placed,
    deed: Deed,
) -> Understood {
    let sender = placed.sender(&envelope.own, None);
    let named = name(payload).filter(|_| !placed.from_me).or(sender.name.clone());
    let sender = Address { name: named, ..sender };
    let (data, variant) = placed.done(deed, sender, &envelope.own, how(payload), View::Account);
    Understood {
        data,
        occurred_at: payload.time("timestamp").or(envelope.at),
        key: placed.message_keys(&variant),
        history: false,
        aliases: placed.aliases(),
    }
}

/// `message`, `message.any`.
pub(super) fn said(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let placed = place_of(payload)?;
    Ok(understood(envelope, payload, &placed, deed(payload)))
}

/// `message.waiting`: it exists, its content is to come.
pub(super) fn waiting(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let placed = place_of(payload)?;
    let data = Data::MessageUndecryptable(MessageUndecryptable {
        message: placed.message(),
        sender: placed.sender(&envelope.own, name(payload)),
        reason: UndecryptableReason::Unknown,
        recoverable: true,
        chat: placed.chat.clone(),
    });
    Ok(Understood {
        data,
        occurred_at: payload.time("timestamp").or(envelope.at),
        // The same id comes again, with its content.
        key: placed.message_keys("waiting"),
        history: false,
        aliases: placed.aliases(),
    })
}

/// `message.reaction`.
pub(super) fn reaction(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let placed = place_of(payload)?;
    let reaction = payload.object("reaction").ok_or(Misfit::SHAPE)?;
    let target = reaction.text("messageId").as_deref().and_then(target).ok_or(Misfit::SHAPE)?;
    let deed = Deed::Reaction { target, emoji: reaction.text("text") };
    Ok(understood(envelope, payload, &placed, deed))
}

/// `message.revoked`: what was there before is often not known.
pub(super) fn revoked(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let (before, after) = (payload.object("before"), payload.object("after"));
    let carrier = after.as_ref().or(before.as_ref()).ok_or(Misfit::SHAPE)?;
    let placed = place_of(carrier)?;
    let before = before.as_ref().and_then(|before| before.text("id"));
    let named = payload.text("revokedMessageId").or(before).or_else(|| carrier.text("id"));
    let target = named.as_deref().and_then(target).ok_or(Misfit::SHAPE)?;
    Ok(understood(envelope, carrier, &placed, Deed::Revoke { target }))
}

/// `message.edited`: a message with what it says now, and the id of the one it replaces.
pub(super) fn edited(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let placed = place_of(payload)?;
    let named = payload.text("editedMessageId").unwrap_or_else(|| placed.id.clone());
    let target = target(&named).ok_or(Misfit::SHAPE)?;
    let content = match deed(payload) {
        Deed::Said(content) | Deed::Edit { content, .. } => content,
        _ => Box::new(plain(payload, &file(payload))),
    };
    Ok(understood(envelope, payload, &placed, Deed::Edit { target, content }))
}

/// An earlier message by its id.
pub(super) fn target(id: &str) -> Option<Target> {
    let id = Id::parse(id)?;
    Some(Target {
        id: id.bare,
        from_me: id.from_me,
        participant: id.participant.map(|who| Address::parse(&who)),
    })
}

/// What a payload says: as the engine has it, where that is of the protocol's shape, else by
/// WAHA's own members.
fn deed(payload: &Members<'_>) -> Deed {
    let file = file(payload);
    let engine = payload.object("_data").and_then(|engine| engine.object("message"));
    let told = engine.map(|message| web_message::deed(&message, None, &file));
    match told {
        Some(Deed::Said(content)) if matches!(content.body, Body::Unsupported(_)) => {
            let plain = plain(payload, &file);
            // The engine's name says more than nothing.
            match plain.body {
                Body::Unsupported(_) => Deed::Said(content),
                _ => Deed::Said(Box::new(plain)),
            }
        }
        Some(Deed::Said(mut content)) => {
            content.quoted = content.quoted.or_else(|| quoted(payload));
            Deed::Said(content)
        }
        Some(deed) => deed,
        None => Deed::Said(Box::new(plain(payload, &file))),
    }
}

fn file(payload: &Members<'_>) -> File {
    let media = payload.object("media").unwrap_or_default();
    File {
        base64: media.text("data"),
        url: media.text("url").or_else(|| payload.text("mediaUrl")),
        mime: media.text("mimetype"),
        name: media.text("filename"),
    }
}

fn plain(payload: &Members<'_>, file: &File) -> Content {
    let mut content = Content::new(body(payload, file));
    if let Body::Text(text) = &mut content.body {
        let mentioned = payload.texts("mentionedIds");
        text.mentions = mentioned.iter().map(|id| Address::parse(id).id).collect();
    }
    content.quoted = quoted(payload);
    content
}

fn body(payload: &Members<'_>, file: &File) -> Body {
    let kind = payload.object("_data").and_then(|engine| engine.text("type"));
    if payload.is_set("hasMedia") || file.url.is_some() || file.base64.is_some() {
        return media(payload, file, kind.as_deref());
    }
    if let Some(place) = payload.object("location").as_ref().and_then(location) {
        return Body::Location(place);
    }
    let cards: Vec<_> = payload
        .texts("vCards")
        .into_iter()
        .map(|vcard| {
            let name = web_message::vcard_line(&vcard, "FN").unwrap_or_default();
            web_message::from_vcard(name, Some(vcard))
        })
        .collect();
    if !cards.is_empty() {
        return Body::Contacts(Contacts { contacts: cards });
    }
    let is_text = matches!(kind.as_deref(), None | Some("chat"));
    match payload.said("body") {
        Some(body) if is_text || !body.is_empty() => {
            Body::Text(Text { body, preview_url: None, mentions: Vec::new() })
        }
        _ => Body::Unsupported(Unsupported {
            upstream_type: kind.unwrap_or_else(|| "empty".to_owned()),
            reason: None,
            errors: Vec::new(),
        }),
    }
}

fn media(payload: &Members<'_>, file: &File, kind: Option<&str>) -> Body {
    let mime = file.mime.clone().unwrap_or_else(|| "application/octet-stream".to_owned());
    let family = mime.split('/').next().unwrap_or_default();
    let kind_of = match (kind, family) {
        (Some("sticker"), _) => MediaKind::Sticker,
        (Some("document"), _) => MediaKind::Document,
        (_, "image") if mime.starts_with("image/webp") => MediaKind::Sticker,
        (Some("image"), _) | (_, "image") => MediaKind::Image,
        (Some("video"), _) | (_, "video") => MediaKind::Video,
        (Some("ptt" | "audio"), _) | (_, "audio") => MediaKind::Audio,
        _ => MediaKind::Document,
    };
    let state = match (&file.base64, &file.url) {
        (Some(_), _) => MediaState::Inline,
        (None, Some(_)) => MediaState::Url,
        // It may be asked for later.
        (None, None) => MediaState::Unavailable,
    };
    let mut media = Media::new(kind_of, mime, state);
    media.base64.clone_from(&file.base64);
    media.url.clone_from(&file.url);
    media.file_name.clone_from(&file.name);
    media.voice = kind == Some("ptt");
    let content = MediaContent { media, caption: payload.text("body") };
    match kind_of {
        MediaKind::Image => Body::Image(content),
        MediaKind::Video => Body::Video(content),
        MediaKind::Audio => Body::Audio(content),
        MediaKind::Document => Body::Document(content),
        MediaKind::Sticker => Body::Sticker(content),
    }
}

fn location(place: &Members<'_>) -> Option<Location> {
    Some(Location {
        latitude: place.number("latitude")?,
        longitude: place.number("longitude")?,
        name: place.text_of(&["name", "title", "description"]),
        address: place.text("address"),
        url: place.text("url"),
        is_live: place.is_set("live"),
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
    })
}

fn quoted(payload: &Members<'_>) -> Option<Quoted> {
    let reply = payload.object("replyTo")?;
    let id = Id::parse(&reply.text("id")?)?;
    let participant = reply.text("participant").or(id.participant);
    let message = MessageRef {
        id: id.bare,
        chat: id.chat.map(|chat| Address::parse(&chat).id).unwrap_or_default(),
        from_me: id.from_me,
        participant: participant.map(|who| Address::parse(&who).id),
    };
    Some(Quoted { message, body: reply.text("body") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_apart() {
        let table = [
            ("false_5511@c.us_3EB0", ("3EB0", Some(false), Some("5511@c.us"), None)),
            ("true_1@g.us_3EB0_55@c.us", ("3EB0", Some(true), Some("1@g.us"), Some("55@c.us"))),
            ("3EB0", ("3EB0", None, None, None)),
            ("true_x_y", ("true_x_y", None, None, None)),
            ("false_5511@c.us_3EB0_out", ("3EB0", Some(false), Some("5511@c.us"), None)),
        ];
        for (text, expected) in table {
            let id = Id::parse(text).unwrap();
            let found =
                (id.bare.as_str(), id.from_me, id.chat.as_deref(), id.participant.as_deref());
            assert_eq!(found, expected, "{text}");
        }
        assert!(Id::parse("").is_none() && Id::parse("true_5511@c.us_").is_none());
    }
}
