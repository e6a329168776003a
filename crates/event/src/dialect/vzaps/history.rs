//! Chunks of the past, in the shape of WhatsApp's own history blobs.

use serde_json::Value;

use super::{content, keys::Keys, message::key, object::Object};
use crate::{
    data::{HistoryMessage, HistorySync, SyncType},
    shape::Address,
};

/// The `event` of a history chunk.
pub(super) fn event(sync: &HistorySync) -> Object {
    let conversations: Vec<Value> =
        sync.chats.iter().map(|chat| conversation(chat, sync)).collect();
    // Messages of chats that the chunk does not list are not left out.
    let others: Vec<Value> = sync
        .messages
        .iter()
        .filter(|message| sync.chats.iter().all(|chat| chat.id != message.chat.id))
        .map(|message| Object::new().put("message", one(message)).into())
        .collect();
    let people = sync.contacts.iter().map(|contact| {
        Object::new()
            .put("id", contact.id.as_str())
            .maybe("pushname", contact.name.as_deref())
            .into()
    });
    let data = Object::new()
        .maybe("sync_type", number(sync.sync_type))
        .put("sync_name", sync.sync_type.as_str())
        .maybe("chunk_order", sync.chunk)
        .maybe("progress", sync.progress_pct)
        .put("conversations", conversations)
        .maybe("messages", (!others.is_empty()).then_some(others))
        .put("pushnames", people.collect::<Vec<Value>>())
        .put(
            "counts",
            Object::new()
                .put("chats", sync.counts.chats)
                .put("contacts", sync.counts.contacts)
                .put("messages", sync.counts.messages),
        )
        .maybe("items_ref", sync.items_ref.as_deref());
    Object::new().put("data", data)
}

/// Numbers of WhatsApp's `HistorySync.HistorySyncType`.
fn number(sync_type: SyncType) -> Option<u8> {
    match sync_type {
        SyncType::Initial => Some(0),
        SyncType::Status => Some(1),
        SyncType::Full => Some(2),
        SyncType::Recent => Some(3),
        SyncType::PushName => Some(4),
        SyncType::NonBlocking => Some(5),
        SyncType::OnDemand => Some(6),
        SyncType::Chats | SyncType::Contacts | SyncType::Messages | SyncType::Unknown => None,
    }
}

fn conversation(chat: &Address, sync: &HistorySync) -> Value {
    let messages = sync.messages.iter().filter(|message| message.chat.id == chat.id);
    let messages = messages.map(|message| Object::new().put("message", one(message)).into());
    Object::new()
        .put("id", chat.id.as_str())
        .maybe("name", chat.name.as_deref())
        .put("messages", messages.collect::<Vec<Value>>())
        .into()
}

fn one(message: &HistoryMessage) -> Object {
    Object::new()
        .put("key", key(&message.message))
        .put("message", content::write(&message.content, &Keys::default()).message)
        .maybe("message_timestamp", message.occurred_at.map(crate::Timestamp::as_secs))
        .maybe("push_name", message.sender.name.as_deref())
        .maybe("status", message.status.map(crate::data::Status::as_str))
}
