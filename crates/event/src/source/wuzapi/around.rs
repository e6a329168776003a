//! What surrounds messages: presence, contacts, chats, labels, channels.

use serde_json::value::RawValue;

use super::Posted;
use crate::{
    Data,
    data::{
        ChannelMessage, ChatDeleted, ChatRemoval, ChatUpdated, ContactUpdated, Flag, GroupUpdated,
        Label, LabelAction, LabelAssociation, LabelTarget, LabelUpdated, MessageFlagged,
        NewsletterAction, NewsletterUpdated, Picture, PresenceChat, PresenceState, PresenceUser,
        ReactionCount, Toggled, TypingState,
    },
    shape::{Address, AddressKind, MessageRef},
    source::{
        delivery::{Key, Misfit, Understood},
        members::{Members, text},
        people::person,
    },
};

/// `Presence`. It is news each time.
pub(super) fn presence(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let gone = event
        .flag("Unavailable")
        .or_else(|| posted.root.text("state").map(|state| state == "offline"));
    let state = match gone.ok_or(Misfit::SHAPE)? {
        true => PresenceState::Offline,
        false => PresenceState::Online,
    };
    let last_seen = event.time("LastSeen");
    let data = Data::PresenceUser(PresenceUser { user: posted.address("From")?, state, last_seen });
    Ok(posted.understood(data))
}

/// `ChatPresence`.
pub(super) fn typing(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let state = event.text("State").ok_or(Misfit::SHAPE)?;
    let state = match (state.as_str(), event.text("Media").as_deref()) {
        ("composing", Some("audio")) => TypingState::Recording,
        ("composing", _) => TypingState::Typing,
        ("paused", _) => TypingState::Paused,
        _ => return Err(Misfit::NAME),
    };
    let chat = posted.address("Chat")?;
    let participant = event.text("Sender").map(|who| person(&who, &[event.text("SenderAlt")]));
    let participant = participant.unwrap_or_else(|| chat.clone());
    Ok(posted.understood(Data::PresenceChat(PresenceChat { chat, participant, state })))
}

/// `Picture`: of a person or of a group.
pub(super) fn picture(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let removed = event.is_set("Remove");
    let id = event.text("PictureID").filter(|_| !removed);
    let picture = Some(Picture { id, url: None, removed });
    let of = posted.address("JID")?;
    let data = if of.kind == AddressKind::Group {
        let mut updated = GroupUpdated::new(of);
        updated.actor = event.text("Author").map(|who| Address::parse(&who));
        updated.changed.push("picture".to_owned());
        updated.picture = picture;
        Data::GroupUpdated(Box::new(updated))
    } else {
        let mut updated = ContactUpdated::new(of, "picture");
        updated.picture = picture;
        Data::ContactUpdated(Box::new(updated))
    };
    Ok(posted.understood(data))
}

/// `UserAbout`.
pub(super) fn about(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let mut updated = ContactUpdated::new(posted.address("JID")?, "about");
    updated.about = Some(posted.event.said("Status").ok_or(Misfit::SHAPE)?);
    Ok(posted.understood(Data::ContactUpdated(Box::new(updated))))
}

/// `IdentityChange`.
pub(super) fn identity(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let mut updated = ContactUpdated::new(posted.address("JID")?, "identity");
    updated.identity_changed = Some(true);
    Ok(posted.understood(Data::ContactUpdated(Box::new(updated))))
}

/// `BlocklistChange`.
pub(super) fn blocked(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let mut updated = ContactUpdated::new(posted.address("JID")?, "block");
    updated.blocked = Some(match posted.event.text("Action").as_deref() {
        Some("block") => true,
        Some("unblock") => false,
        _ => return Err(Misfit::NAME),
    });
    Ok(posted.understood(Data::ContactUpdated(Box::new(updated))))
}

/// `AppState`: what other devices of this account did to a chat or a message.
pub(super) fn app_state(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let index = event.texts("Index");
    let part = |number: usize| index.get(number).ok_or(Misfit::SHAPE);
    let chat = || part(1).map(|id| Address::parse(id));
    let action = |name: &str| {
        let value = event.object("SyncActionValue").unwrap_or_else(|| event.clone());
        value.object(name).ok_or(Misfit::SHAPE)
    };
    let data = match part(0)?.as_str() {
        "archive" => {
            let mut updated = changed(chat()?, "archived");
            updated.archived = Some(action("archiveChatAction")?.is_set("archived"));
            Data::ChatUpdated(updated)
        }
        "pin_v1" => {
            let mut updated = changed(chat()?, "pinned");
            updated.pinned = Some(action("pinAction")?.is_set("pinned"));
            Data::ChatUpdated(updated)
        }
        "mute" => {
            let mute = action("muteAction")?;
            let mut updated = changed(chat()?, "muted_until");
            // Absent: no longer, or for ever.
            updated.muted_until = mute.time("muteEndTimestamp").filter(|_| mute.is_set("muted"));
            Data::ChatUpdated(updated)
        }
        "markChatAsRead" => {
            let mut updated = changed(chat()?, "read");
            updated.read = Some(action("markChatAsReadAction")?.is_set("read"));
            Data::ChatUpdated(updated)
        }
        "deleteChat" => Data::ChatDeleted(removed(chat()?, ChatRemoval::Delete)),
        "clearChat" => Data::ChatDeleted(removed(chat()?, ChatRemoval::Clear)),
        "star" => starred(chat()?, &index, action("starAction")?.is_set("starred"))?,
        _ => return Err(Misfit::NAME),
    };
    Ok(posted.understood(data))
}

fn changed(chat: Address, name: &str) -> ChatUpdated {
    let mut updated = ChatUpdated::new(chat);
    updated.changed.push(name.to_owned());
    updated
}

fn removed(chat: Address, mode: ChatRemoval) -> ChatDeleted {
    ChatDeleted { chat, mode, delete_media: None, keep_starred: None }
}

/// `["star", chat, id, from me, participant]`
fn starred(chat: Address, index: &[String], value: bool) -> Result<Data, Misfit> {
    let id = index.get(2).ok_or(Misfit::SHAPE)?.clone();
    let from_me = index.get(3).map(|flag| flag == "1");
    let participant = index.get(4).filter(|who| who.contains('@')).map(|who| Address::parse(who));
    let sender = match (from_me, &participant) {
        (Some(true), _) => Address::bare("unknown".to_owned(), AddressKind::Unknown),
        (_, Some(participant)) => participant.clone(),
        (_, None) => chat.clone(),
    };
    Ok(Data::MessageFlagged(MessageFlagged {
        message: MessageRef {
            id,
            chat: chat.id.clone(),
            from_me,
            participant: participant.map(|who| who.id),
        },
        chat,
        sender,
        flag: Flag::Star,
        value,
        expires_s: None,
    }))
}

/// `LabelEdit`.
pub(super) fn label(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let edit = event.object("Action").ok_or(Misfit::SHAPE)?;
    let label = Label {
        id: event.text("LabelID").ok_or(Misfit::SHAPE)?,
        name: edit.text("name"),
        color: edit.count("color"),
        color_hex: None,
        predefined_id: edit.text("predefinedId"),
    };
    let action = match edit.is_set("deleted") {
        true => LabelAction::Deleted,
        false => LabelAction::Upserted,
    };
    Ok(posted.understood(Data::LabelUpdated(LabelUpdated { label, action })))
}

/// `LabelAssociationChat`, `LabelAssociationMessage`.
pub(super) fn labeled(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let chat = posted.address("JID")?;
    let labeled = event.object("Action").and_then(|action| action.flag("labeled"));
    let message = match posted.name {
        "LabelAssociationMessage" => Some(MessageRef {
            id: event.text("MessageID").ok_or(Misfit::SHAPE)?,
            chat: chat.id.clone(),
            from_me: None,
            participant: None,
        }),
        _ => None,
    };
    let data = Data::LabelAssociation(LabelAssociation {
        label_id: event.text("LabelID").ok_or(Misfit::SHAPE)?,
        action: match labeled.ok_or(Misfit::SHAPE)? {
            true => Toggled::Added,
            false => Toggled::Removed,
        },
        target: if message.is_some() { LabelTarget::Message } else { LabelTarget::Chat },
        chat,
        message,
    });
    Ok(posted.understood(data))
}

/// `NewsletterJoin` and its like.
pub(super) fn newsletter(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let action = match (posted.name, event.text("mute").as_deref()) {
        ("NewsletterJoin", _) => NewsletterAction::Joined,
        ("NewsletterLeave", _) => NewsletterAction::Left,
        ("NewsletterLiveUpdate", _) => NewsletterAction::Live,
        (_, Some("on")) => NewsletterAction::Muted,
        (_, Some("off")) => NewsletterAction::Unmuted,
        _ => return Err(Misfit::SHAPE),
    };
    let id = event.text_of(&["id", "JID"]).ok_or(Misfit::SHAPE)?;
    let data = Data::NewsletterUpdated(NewsletterUpdated {
        newsletter: Address::parse(&id),
        action,
        messages: event.list("Messages").into_iter().filter_map(counted).collect(),
    });
    let understood = posted.understood(data);
    Ok(Understood {
        key: if event.time("Time").is_some() { understood.key } else { Key::Never },
        occurred_at: event.time("Time"),
        ..understood
    })
}

fn counted(raw: &RawValue) -> Option<ChannelMessage> {
    let posted = Members::of(raw)?;
    let counts = posted.object("ReactionCounts").unwrap_or_default();
    let reactions = counts
        .names()
        .filter_map(|emoji| {
            let count = text(counts.raw(emoji)?)?.parse().ok()?;
            Some(ReactionCount { emoji: emoji.to_owned(), count })
        })
        .collect();
    Some(ChannelMessage { server_id: posted.text("MessageServerID")?, reactions })
}
