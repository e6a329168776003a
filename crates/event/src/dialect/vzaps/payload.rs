//! What stands under `data`.

use serde_json::{Map, Value};

use super::{history, message, object::Object};
use crate::{
    Data, Event, Timestamp,
    data::{
        Account, ConnectionLoss, GroupParticipants, InstanceConnected, InstanceDisconnected,
        InstanceLoggedOut, MessageStatus, PresenceChat, PresenceState, PresenceUser, Status,
        TypingState,
    },
    dialect::Options,
    shape::{Address, AddressKind},
};

/// The payload of an event that goes out under `name`.
pub(super) fn payload(
    event: &Event,
    data: &Data,
    name: &str,
    options: &Options,
) -> Map<String, Value> {
    let payload = Object::new().put("type", name);
    let payload = match data {
        Data::MessageReceived(_)
        | Data::MessageSent(_)
        | Data::MessageEdited(_)
        | Data::MessageDeleted(_)
        | Data::MessageReaction(_)
        | Data::MessageVote(_) => return message::payload(payload, event, data, options),
        Data::MessageStatus(status) => {
            payload.put("state", receipt_state(status.status)).put("event", receipt(event, status))
        }
        Data::PresenceUser(presence) => {
            payload.put("state", presence.state.as_str()).put("event", presence_event(presence))
        }
        Data::PresenceChat(presence) => payload.put("event", chat_presence(presence)),
        Data::HistorySync(sync) => payload.put("event", history::event(sync)),
        Data::InstanceConnected(connected) => payload.put("event", connected_event(connected)),
        Data::InstanceDisconnected(lost) => {
            payload.put("reason", lost.reason.as_str()).put("event", disconnected(lost))
        }
        Data::InstanceLoggedOut(out) => {
            payload.put("reason", "logged_out").put("event", logged_out(out))
        }
        Data::GroupParticipants(change) => payload.put("event", participants(event, change)),
        // Nobody has seen these of the original: they are ours, and say what we know.
        other => {
            let own = serde_json::from_slice(&other.to_bytes()).unwrap_or(Value::Null);
            payload.put("event", own)
        }
    };
    payload.done()
}

/// Whole seconds, as whatsmeow's times are written.
pub(super) fn seconds(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    }
}

pub(super) fn is_group(chat: &Address) -> bool {
    chat.kind == AddressKind::Group
}

fn receipt_state(status: Status) -> &'static str {
    match status {
        Status::Pending => "Pending",
        Status::Sent => "Sent",
        Status::Delivered => "Delivered",
        Status::Read => "Read",
        Status::Played => "Played",
        Status::Failed => "ServerError",
        Status::Retry => "Retry",
        Status::Inactive => "Inactive",
        Status::Deleted => "Deleted",
        Status::Sender => "Sender",
        Status::ReadSelf => "ReadSelf",
        Status::PlayedSelf => "PlayedSelf",
        Status::Warning => "Warning",
    }
}

/// The stanza's `type`, which WhatsApp leaves empty for a delivery.
fn receipt_type(status: Status) -> &'static str {
    match status {
        Status::Delivered => "",
        Status::ReadSelf => "read-self",
        Status::PlayedSelf => "played-self",
        Status::Failed => "server-error",
        status => status.as_str(),
    }
}

fn receipt(event: &Event, status: &MessageStatus) -> Object {
    let own = matches!(status.status, Status::ReadSelf | Status::PlayedSelf | Status::Sender);
    let ids = vec![Value::from(status.message.id.as_str())];
    let errors = status.errors.iter().map(|error| {
        Object::new()
            .maybe("code", error.code)
            .maybe("title", error.title.as_deref())
            .maybe("message", error.message.as_deref())
            .maybe("details", error.details.as_deref())
            .into()
    });
    let errors: Vec<Value> = errors.collect();
    Object::new()
        .put("chat", status.chat.id.as_str())
        .put("sender", status.recipient.id.as_str())
        .put("is_from_me", own)
        .put("is_group", is_group(&status.chat))
        // As the original spells it, and as anybody would look for it.
        .put("message_i_ds", ids.clone())
        .put("message_ids", ids)
        .put("timestamp", seconds(event.occurred_at))
        .put("type", receipt_type(status.status))
        .maybe("errors", (!errors.is_empty()).then_some(errors))
}

fn presence_event(presence: &PresenceUser) -> Object {
    Object::new()
        .put("from", presence.user.id.as_str())
        .put("unavailable", presence.state == PresenceState::Offline)
        .maybe("last_seen", presence.last_seen.map(seconds))
}

fn chat_presence(presence: &PresenceChat) -> Object {
    let (state, media) = match presence.state {
        TypingState::Typing => ("composing", ""),
        TypingState::Recording => ("composing", "audio"),
        TypingState::Paused => ("paused", ""),
    };
    Object::new()
        .put("chat", presence.chat.id.as_str())
        .put("sender", presence.participant.id.as_str())
        .put("is_from_me", false)
        .put("is_group", is_group(&presence.chat))
        .put("state", state)
        .put("media", media)
}

fn connected_event(connected: &InstanceConnected) -> Object {
    account(connected.account.as_ref()).put("resumed", connected.resumed)
}

fn account(account: Option<&Account>) -> Object {
    let Some(account) = account else {
        return Object::new();
    };
    Object::new()
        .put("jid", account.address.id.as_str())
        .maybe("phone", account.address.phone.as_deref())
        .maybe("push_name", account.name.as_deref())
        .maybe("business_name", account.business_name.as_deref())
        .maybe("platform", account.platform.as_deref())
        .maybe("profile_picture_url", account.picture_url.as_deref())
}

fn disconnected(lost: &InstanceDisconnected) -> Object {
    Object::new()
        .put("reason", ConnectionLoss::as_str(lost.reason))
        .maybe("code", lost.code)
        .maybe("will_reconnect", lost.will_reconnect)
}

fn logged_out(out: &InstanceLoggedOut) -> Object {
    Object::new()
        .put("reason", out.reason.as_str())
        .maybe("code", out.code)
        .maybe("message", out.message.as_deref())
        .put("will_reconnect", false)
}

fn participants(event: &Event, change: &GroupParticipants) -> Object {
    let people = change.participants.iter().map(|one| Value::from(one.address.id.as_str()));
    Object::new()
        .put("jid", change.group.id.as_str())
        .maybe("sender", change.actor.as_ref().map(|actor| actor.id.as_str()))
        .put("timestamp", seconds(event.occurred_at))
        .put("participants", people.collect::<Vec<_>>())
        .maybe("method", change.method.as_deref())
        .put("action", change.action.as_str())
}
