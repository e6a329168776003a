//! Messages, what happens to them, and lists of them.

use serde_json::{Map, Value, json};

use super::{Name, Payload, Scene, Told, content, object, put};
use crate::{
    Data, SourceKind, Timestamp,
    data::{HistorySync, MessageStatus, MessageVote, Origin, Status},
    shape::{Address, AddressKind, Content, MessageRef},
};

/// The name for what this account wrote and has no name of its own.
const OWN_NAME: &str = "Você";

pub(super) fn told(scene: &Scene<'_>, data: &Data) -> Option<Told> {
    let told = match data {
        Data::MessageReceived(said) => {
            let row = Row::new(scene, &said.message, &said.chat, &said.sender, &said.content);
            Told::new(Name::MessagesUpsert, row.with_content(scene))
        }
        Data::MessageSent(said) => {
            let mut row = Row::new(scene, &said.message, &said.chat, &said.sender, &said.content);
            row.status = state(said.status).unwrap_or("SERVER_ACK");
            let name = match said.origin {
                Origin::Api => Name::SendMessage,
                Origin::Device | Origin::Unknown => Name::MessagesUpsert,
            };
            Told::new(name, row.with_content(scene))
        }
        Data::MessageReaction(reaction) => {
            let part = object([
                ("key", key(&reaction.target, &reaction.chat, None).into()),
                ("text", reaction.emoji.clone().unwrap_or_default().into()),
                ("senderTimestampMs", scene.event.occurred_at.as_millis().to_string().into()),
            ]);
            let nothing = Content::text("");
            let row =
                Row::new(scene, &reaction.message, &reaction.chat, &reaction.sender, &nothing);
            let message = object([("reactionMessage", part.into())]);
            Told::new(
                Name::MessagesUpsert,
                row.with(scene, message, "reactionMessage", Value::Null),
            )
        }
        Data::MessageEdited(edited) => {
            let said = content::message(scene, &edited.content, &edited.chat);
            let name = match edited.origin {
                Some(Origin::Api) if !scene.options.lite => Name::SendMessageUpdate,
                _ => Name::MessagesEdited,
            };
            let data = json!({
                "key": key(&edited.message, &edited.chat, Some(&edited.sender)),
                "type": "MESSAGE_EDIT",
                "editedMessage": said.message,
                "timestampMs": scene.event.occurred_at.as_millis().to_string(),
            });
            Told::new(name, data)
        }
        Data::MessageDeleted(deleted) => {
            let data = key(&deleted.message, &deleted.chat, Some(&deleted.sender));
            Told::new(Name::MessagesDelete, data.into())
        }
        Data::MessageStatus(status) => Told::new(Name::MessagesUpdate, updated(scene, status)?),
        Data::MessageVote(vote) => Told::new(Name::MessagesUpdate, voted(scene, vote)),
        _ => return None,
    };
    Some(told)
}

/// A message's key as Baileys has it.
fn key(message: &MessageRef, chat: &Address, sender: Option<&Address>) -> Map<String, Value> {
    let from_me = message.from_me.unwrap_or(false);
    let mut key = object([
        ("remoteJid", message.chat.clone().into()),
        ("fromMe", from_me.into()),
        ("id", message.id.clone().into()),
    ]);
    let is_shared = is_shared(chat);
    let sender = sender.filter(|_| is_shared && !from_me);
    let participant = message.participant.as_ref().or(sender.map(|sender| &sender.id));
    put(&mut key, "participant", participant.filter(|_| is_shared).cloned());
    if chat.id == message.chat && !is_shared {
        alternative(&mut key, "remoteJidAlt", chat);
    } else if let Some(sender) = sender {
        alternative(&mut key, "participantAlt", sender);
    }
    key
}

/// Whether several people write there, so that a key has to name one.
fn is_shared(chat: &Address) -> bool {
    matches!(chat.kind, AddressKind::Group | AddressKind::Status | AddressKind::Broadcast)
}

/// The other form of an address, when both are known.
fn alternative(key: &mut Map<String, Value>, name: &str, address: &Address) {
    let (mode, other) = match address.kind {
        AddressKind::Lid => ("lid", address.phone_id()),
        AddressKind::User => ("pn", address.lid.clone()),
        _ => return,
    };
    if let Some(other) = other {
        key.insert(name.to_owned(), other.into());
        key.insert("addressingMode".to_owned(), mode.into());
    }
}

/// A message as Evolution stores and sends it.
struct Row<'a> {
    message: &'a MessageRef,
    chat: &'a Address,
    sender: &'a Address,
    content: &'a Content,
    status: &'static str,
    at: Timestamp,
}

impl<'a> Row<'a> {
    fn new(
        scene: &Scene<'_>,
        message: &'a MessageRef,
        chat: &'a Address,
        sender: &'a Address,
        content: &'a Content,
    ) -> Self {
        // What is here has been delivered to this account.
        let status = "DELIVERY_ACK";
        Self { message, chat, sender, content, status, at: scene.event.occurred_at }
    }

    fn with_content(&self, scene: &Scene<'_>) -> Value {
        let said = content::message(scene, self.content, self.chat);
        self.with(scene, said.message, &said.kind, said.context)
    }

    fn with(
        &self,
        scene: &Scene<'_>,
        message: Map<String, Value>,
        kind: &str,
        context: Value,
    ) -> Value {
        json!({
            "key": key(self.message, self.chat, Some(self.sender)),
            "pushName": self.push_name(),
            "status": self.status,
            "message": message,
            "contextInfo": context,
            "messageType": kind,
            "messageTimestamp": self.at.as_secs(),
            "instanceId": scene.instance_id(),
            "source": self.device(scene),
        })
    }

    /// What Evolution falls back to: a word for oneself, the number of a group's member.
    fn push_name(&self) -> Option<String> {
        if let Some(name) = &self.sender.name {
            return Some(name.clone());
        }
        if self.message.from_me == Some(true) {
            return Some(OWN_NAME.to_owned());
        }
        let user = self.sender.id.split('@').next().map(str::to_owned);
        user.filter(|_| self.chat.kind == AddressKind::Group)
    }

    fn device(&self, scene: &Scene<'_>) -> &'static str {
        match scene.event.source.kind {
            SourceKind::Wuzapi | SourceKind::Waha | SourceKind::WhatsappWeb => {
                device(&self.message.id)
            }
            _ => "unknown",
        }
    }
}

/// Which client chose a message's id, by its form: `getDevice` of Baileys.
fn device(id: &str) -> &'static str {
    match (id.len(), id) {
        (20, id) if id.starts_with("3A") => "ios",
        (22, id) if id.starts_with("3E") => "web",
        (21 | 32, _) => "android",
        (18, _) => "desktop",
        (2, "3F") => "desktop",
        _ => "unknown",
    }
}

/// Evolution's name of a state; states beside the line of delivery have none.
pub(super) fn state(status: Status) -> Option<&'static str> {
    Some(match status {
        Status::Failed => "ERROR",
        Status::Pending => "PENDING",
        Status::Sent => "SERVER_ACK",
        Status::Delivered => "DELIVERY_ACK",
        Status::Read => "READ",
        Status::Played => "PLAYED",
        Status::Deleted => "DELETED",
        Status::Retry
        | Status::Inactive
        | Status::Sender
        | Status::ReadSelf
        | Status::PlayedSelf
        | Status::Warning => return None,
    })
}

fn update(message: &MessageRef, participant: Option<&str>) -> Map<String, Value> {
    let mut update = object([
        ("keyId", message.id.clone().into()),
        ("remoteJid", message.chat.clone().into()),
        ("fromMe", message.from_me.unwrap_or(true).into()),
    ]);
    put(&mut update, "participant", participant);
    update
}

fn updated(scene: &Scene<'_>, status: &MessageStatus) -> Option<Value> {
    let one_of_many = is_shared(&status.chat) && status.recipient.id != status.chat.id;
    let participant = one_of_many.then_some(status.recipient.id.as_str());
    let mut update = update(&status.message, participant);
    put(&mut update, "status", Some(state(status.status)?));
    put(&mut update, "instanceId", Some(scene.instance_id()));
    Some(update.into())
}

fn voted(scene: &Scene<'_>, vote: &MessageVote) -> Value {
    let options: Vec<Value> = match &vote.aggregate {
        Some(all) => all
            .iter()
            .map(|option| json!({ "name": option.option, "voters": option.voters }))
            .collect(),
        None => vote
            .selected
            .iter()
            .map(|name| json!({ "name": name, "voters": [vote.sender.id] }))
            .collect(),
    };
    let mut update = update(&vote.target, vote.target.participant.as_deref());
    put(&mut update, "pollUpdates", Some(options));
    put(&mut update, "instanceId", Some(scene.instance_id()));
    update.into()
}

/// A chunk of the past: one message for each list that has something.
pub(super) fn history(scene: &Scene<'_>, sync: &HistorySync) -> Vec<Told> {
    let mut parts = Vec::new();
    if !sync.messages.is_empty() {
        let rows: Vec<_> = sync
            .messages
            .iter()
            .map(|past| {
                let mut row =
                    Row::new(scene, &past.message, &past.chat, &past.sender, &past.content);
                row.at = past.occurred_at.unwrap_or(row.at);
                row.status = past.status.and_then(state).unwrap_or(row.status);
                row.with_content(scene)
            })
            .collect();
        let mut told = Told::new(Name::MessagesSet, rows.into());
        if !scene.options.lite {
            let progress = sync.progress_pct.map(|percent| Payload::Told(percent.into()));
            told.before.extend(progress.map(|progress| ("progress", progress)));
        }
        parts.push(told);
    }
    if !sync.chats.is_empty() {
        let rows = sync.chats.iter().map(|chat| {
            let mut row = object([
                ("remoteJid", chat.id.clone().into()),
                ("instanceId", scene.instance_id().into()),
            ]);
            put(&mut row, "name", chat.name.clone());
            Value::from(row)
        });
        parts.push(Told::new(Name::ChatsSet, rows.collect()));
    }
    if !sync.contacts.is_empty() {
        let rows = sync.contacts.iter().map(|contact| {
            json!({
                "remoteJid": contact.id,
                "pushName": contact.name,
                "profilePicUrl": null,
                "instanceId": scene.instance_id(),
            })
        });
        parts.push(Told::new(Name::ContactsSet, rows.collect()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_the_client_that_chose_them() {
        let table = [
            ("3A0123456789ABCDEF01", "ios"),
            ("3EB0123456789ABCDEF012", "web"),
            ("0123456789ABCDEF0123456789ABCDEF", "android"),
            ("0123456789ABCDEF01", "desktop"),
            ("3F", "desktop"),
            ("wamid.x", "unknown"),
        ];
        for (id, expected) in table {
            assert_eq!(device(id), expected, "{id}");
        }
    }
}
