//! Messages and what happens to them: `event.info` and `event.message`.

use serde_json::{Map, Value};

use super::{
    content::{self, Written},
    keys::{self, Keys},
    object::Object,
    payload::{is_group, seconds},
    snake::snaked,
};
use crate::{
    Data, Event, SourceKind,
    data::{
        DeletionReason, DeletionScope, MessageDeleted, MessageEdited, MessageReaction, MessageVote,
        VoteTarget,
    },
    dialect::Options,
    shape::{Address, AddressKind, Content, MessageRef},
};

/// Numbers of WhatsApp's `ProtocolMessage.Type`.
const REVOKE: u8 = 0;
const MESSAGE_EDIT: u8 = 14;

/// The payload of a message event.
pub(super) fn payload(
    payload: Object,
    event: &Event,
    data: &Data,
    options: &Options,
) -> Map<String, Value> {
    let (message, chat, sender) = match data {
        Data::MessageReceived(data) => (&data.message, &data.chat, &data.sender),
        Data::MessageSent(data) => (&data.message, &data.chat, &data.sender),
        Data::MessageEdited(data) => (&data.message, &data.chat, &data.sender),
        Data::MessageDeleted(data) => (&data.message, &data.chat, &data.sender),
        Data::MessageReaction(data) => (&data.message, &data.chat, &data.sender),
        Data::MessageVote(data) => (&data.message, &data.chat, &data.sender),
        _ => return payload.done(),
    };
    let media_keys = if options.media_key { keys::of(event) } else { Keys::default() };
    let what = written(data, &media_keys);
    let from_me = match data {
        Data::MessageSent(_) => true,
        _ => message.from_me.unwrap_or(false),
    };
    let info = Object::new()
        .put("id", what.id.unwrap_or(&message.id))
        .put("chat", chat.id.as_str())
        .put("sender", sender.id.as_str())
        .maybe("sender_alt", alternative(sender))
        .maybe("recipient_alt", Some(chat).filter(|_| from_me).and_then(alternative))
        .put("is_from_me", from_me)
        .put("is_group", is_group(chat))
        .maybe("push_name", sender.name.as_deref())
        .put("timestamp", seconds(event.occurred_at))
        .put("type", what.kind)
        .maybe("media_type", what.media_type)
        .maybe("edit", what.edit);
    let inner = match upstreams_own(event, options) {
        Some(own) => own,
        None => Object::new()
            .put("info", info)
            .put("message", what.message)
            .put("is_edit", matches!(data, Data::MessageEdited(_)))
            .put("is_ephemeral", what.is_ephemeral)
            .put("is_view_once", what.is_view_once)
            .maybe("scope", what.scope)
            .done(),
    };
    let payload = payload.put("event", inner);
    match data {
        Data::MessageReceived(data) => with_files(payload, &data.content),
        Data::MessageSent(data) => with_files(payload, &data.content),
        Data::MessageEdited(data) => with_files(payload, &data.content),
        _ => payload,
    }
    .done()
}

/// The event itself where it came in the shape that VZaps's descends from: nothing is lost then.
fn upstreams_own(event: &Event, options: &Options) -> Option<Map<String, Value>> {
    if event.source.kind != SourceKind::Wuzapi {
        return None;
    }
    let body: Map<String, Value> = serde_json::from_slice(event.raw_bytes()).ok()?;
    let own = match body.get("event") {
        Some(Value::Object(own)) => own.clone(),
        _ => body,
    };
    if !matches!((own.get("Info"), own.get("Message")), (Some(Value::Object(_)), Some(_))) {
        return None;
    }
    let Value::Object(mut own) = snaked(own.into()) else {
        return None;
    };
    // The same message before it was unwrapped.
    own.shift_remove("raw_message");
    if !options.media_key {
        keys::remove(&mut own);
    }
    Some(own)
}

/// What differs from one message event to the other.
struct What<'a> {
    id: Option<&'a str>,
    kind: &'static str,
    media_type: Option<&'static str>,
    edit: Option<&'static str>,
    message: Value,
    is_ephemeral: bool,
    is_view_once: bool,
    scope: Option<&'static str>,
}

impl What<'_> {
    fn new(kind: &'static str, message: impl Into<Value>) -> Self {
        Self {
            id: None,
            kind,
            media_type: None,
            edit: None,
            message: message.into(),
            is_ephemeral: false,
            is_view_once: false,
            scope: None,
        }
    }

    fn says(content: &Content, media_keys: &Keys) -> Self {
        let Written { kind, media_type, message } = content::write(content, media_keys);
        Self {
            media_type,
            is_ephemeral: content.ephemeral_expires_s.is_some(),
            is_view_once: content.view_once,
            ..Self::new(kind, message)
        }
    }
}

fn written<'a>(data: &'a Data, media_keys: &Keys) -> What<'a> {
    match data {
        Data::MessageReceived(data) => What {
            is_ephemeral: data.ephemeral_expires_s.is_some()
                || data.content.ephemeral_expires_s.is_some(),
            ..What::says(&data.content, media_keys)
        },
        Data::MessageSent(data) => What {
            is_ephemeral: data.ephemeral_expires_s.is_some()
                || data.content.ephemeral_expires_s.is_some(),
            ..What::says(&data.content, media_keys)
        },
        Data::MessageEdited(data) => edited(data, media_keys),
        Data::MessageDeleted(data) => deleted(data),
        Data::MessageReaction(data) => What::new("reaction", reaction(data)),
        Data::MessageVote(data) => What::new("poll", vote(data)),
        _ => What::new("text", Object::new()),
    }
}

fn edited<'a>(data: &'a MessageEdited, media_keys: &Keys) -> What<'a> {
    let Written { kind, media_type, message } = content::write(&data.content, media_keys);
    let protocol = Object::new()
        .put("key", key(&data.message))
        .put("type", MESSAGE_EDIT)
        .put("edited_message", message);
    What {
        id: data.edit_message_id.as_deref(),
        edit: Some("1"),
        media_type,
        ..What::new(kind, Object::new().put("protocol_message", protocol))
    }
}

fn deleted(data: &MessageDeleted) -> What<'_> {
    let protocol = Object::new().put("key", key(&data.message)).put("type", REVOKE);
    What {
        id: data.carrier_message_id.as_deref(),
        edit: match (data.scope, data.reason) {
            (DeletionScope::Me, _) => None,
            (DeletionScope::Everyone, Some(DeletionReason::Admin)) => Some("8"),
            (DeletionScope::Everyone, _) => Some("7"),
        },
        scope: Some(data.scope.as_str()),
        ..What::new("text", Object::new().put("protocol_message", protocol))
    }
}

fn reaction(data: &MessageReaction) -> Object {
    let emoji = data.emoji.as_deref().filter(|_| !data.removed).unwrap_or_default();
    let reaction = Object::new().put("key", key(&data.target)).put("text", emoji);
    Object::new().put("reaction_message", reaction)
}

fn vote(data: &MessageVote) -> Object {
    let selected = data.selected.clone();
    match data.target_kind {
        VoteTarget::Poll => {
            let vote = Object::new().put("selected_options", selected);
            let update = Object::new()
                .put("poll_creation_message_key", key(&data.target))
                .put("vote", vote)
                .flag("decrypt_failed", data.decrypt_failed);
            Object::new().put("poll_update_message", update)
        }
        VoteTarget::Event => {
            let response = Object::new()
                .put("event_creation_message_key", key(&data.target))
                .put("selected_options", selected)
                .flag("decrypt_failed", data.decrypt_failed);
            Object::new().put("event_response_message", response)
        }
    }
}

/// A message's key as WhatsApp writes it inside messages.
pub(super) fn key(message: &MessageRef) -> Object {
    Object::new()
        .put("remote_jid", message.chat.as_str())
        .maybe("from_me", message.from_me)
        .put("id", message.id.as_str())
        .maybe("participant", message.participant.as_deref())
}

/// The other address of the same person.
fn alternative(address: &Address) -> Option<String> {
    match address.kind {
        AddressKind::Lid => address.phone.as_deref().map(|phone| format!("{phone}@s.whatsapp.net")),
        AddressKind::User => address.lid.clone(),
        _ => None,
    }
}

/// Where the file is, and the file itself where it came with the event.
fn with_files(payload: Object, content: &Content) -> Object {
    let Some(media) = content::media(content) else {
        return payload;
    };
    let payload = payload.maybe("media_url", content::stored_url(media));
    match &media.base64 {
        Some(base64) => payload
            .put("base64", base64.as_str())
            .put("mime_type", media.mime.as_str())
            .maybe("file_name", media.file_name.as_deref()),
        None => payload,
    }
}
