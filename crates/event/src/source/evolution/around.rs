//! What surrounds messages: contacts, chats, presence, labels, calls.

use serde_json::value::RawValue;

use super::Envelope;
use crate::{
    Data,
    data::{
        CallDirection, CallState, CallUpdated, ChatDeleted, ChatRemoval, ChatUpdated,
        ContactUpdated, Label, LabelAction, LabelAssociation, LabelTarget, LabelUpdated, Picture,
        PresenceChat, PresenceState, PresenceUser, Toggled, TypingState,
    },
    shape::Address,
    source::{
        delivery::{Key, Misfit, Understood},
        members::{Members, text},
        people::{aliases, is_same, person},
    },
};

fn understood(data: Data, key: Key) -> Understood {
    Understood { data, occurred_at: None, key, history: false, aliases: Vec::new() }
}

/// An element of `contacts.upsert` and `contacts.update`: a row, or what Baileys says.
pub(super) fn contact(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let id = posted.text_of(&["remoteJid", "id"]).ok_or(Misfit::SHAPE)?;
    let mut address = person(&id, &[posted.text("lid"), posted.text("phoneNumber")]);
    let push_name = posted.text_of(&["pushName", "notify"]);
    address.name.clone_from(&push_name);
    let learned = aliases([&address]);
    let mut updated = ContactUpdated::new(address, "name");
    updated.full_name = posted.text("name");
    updated.push_name = push_name;
    updated.verified_name = posted.text("verifiedName");
    updated.about = posted.text("status");
    // `null` is what is not known, too; that a picture is gone is said in a word.
    updated.picture = posted.text_of(&["profilePicUrl", "imgUrl"]).map(|url| match url.as_str() {
        "removed" => Picture { id: None, url: None, removed: true },
        "changed" => Picture { id: None, url: None, removed: false },
        _ => Picture { id: None, url: Some(url), removed: false },
    });
    let named = updated.full_name.is_some() || updated.push_name.is_some();
    let changed = [
        ("name", named),
        ("business", updated.verified_name.is_some()),
        ("about", updated.about.is_some()),
        ("picture", updated.picture.is_some()),
    ];
    updated.changed =
        changed.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
    let data = Data::ContactUpdated(Box::new(updated));
    Ok(Understood { aliases: learned, ..understood(data, envelope.key(raw.get())) })
}

/// An element of `chats.upsert` and `chats.update`.
pub(super) fn chat(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let id = posted.text_of(&["remoteJid", "id"]).ok_or(Misfit::SHAPE)?;
    let mut updated = ChatUpdated::new(Address::parse(&id));
    updated.name = posted.text("name");
    updated.archived = posted.flag("archived").or(posted.flag("archive"));
    // A flag, or when it was pinned.
    updated.pinned = posted.flag("pinned").or(posted.int("pinned").map(|at| at > 0));
    updated.muted_until = posted.time("muteEndTime");
    updated.unread_count = posted.count("unreadMessages").or(posted.count("unreadCount"));
    updated.ephemeral_expires_s = posted.count("ephemeralExpiration");
    let changed = [
        ("name", updated.name.is_some()),
        ("archived", updated.archived.is_some()),
        ("pinned", updated.pinned.is_some()),
        ("muted_until", updated.muted_until.is_some()),
        ("unread_count", updated.unread_count.is_some()),
        ("ephemeral_expires_s", updated.ephemeral_expires_s.is_some()),
    ];
    updated.changed =
        changed.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
    Ok(understood(Data::ChatUpdated(updated), envelope.key(raw.get())))
}

/// An element of `chats.delete`: the chat's id.
pub(super) fn chat_deleted(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let id = text(raw).or_else(|| Members::of(raw)?.text_of(&["remoteJid", "id"]));
    let data = Data::ChatDeleted(ChatDeleted {
        chat: Address::parse(&id.ok_or(Misfit::SHAPE)?),
        mode: ChatRemoval::Delete,
        delete_media: None,
        keep_starred: None,
    });
    Ok(understood(data, envelope.key(raw.get())))
}

/// One participant of `presence.update`. Presence is news each time.
pub(super) fn presence(chat: &str, who: &str, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let state = posted.text("lastKnownPresence").ok_or(Misfit::SHAPE)?;
    let typing = |state| {
        let (chat, participant) = (Address::parse(chat), Address::parse(who));
        Data::PresenceChat(PresenceChat { chat, participant, state })
    };
    let user = |state| {
        let last_seen = posted.time("lastSeen");
        Data::PresenceUser(PresenceUser { user: Address::parse(who), state, last_seen })
    };
    let data = match state.as_str() {
        "available" => user(PresenceState::Online),
        "unavailable" => user(PresenceState::Offline),
        "composing" => typing(TypingState::Typing),
        "recording" => typing(TypingState::Recording),
        "paused" => typing(TypingState::Paused),
        _ => return Err(Misfit::NAME),
    };
    Ok(understood(data, Key::Never))
}

/// `labels.edit`.
pub(super) fn label(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let label = Label {
        id: posted.text("id").ok_or(Misfit::SHAPE)?,
        name: posted.text("name"),
        color: posted.count("color"),
        color_hex: None,
        predefined_id: posted.text("predefinedId"),
    };
    let action = match posted.is_set("deleted") {
        true => LabelAction::Deleted,
        false => LabelAction::Upserted,
    };
    let data = Data::LabelUpdated(LabelUpdated { label, action });
    Ok(understood(data, envelope.key(raw.get())))
}

/// `labels.association`.
pub(super) fn label_association(
    envelope: &Envelope<'_>,
    raw: &RawValue,
) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let action = match posted.text("type").ok_or(Misfit::SHAPE)?.as_str() {
        "add" => Toggled::Added,
        "remove" => Toggled::Removed,
        _ => return Err(Misfit::NAME),
    };
    let data = Data::LabelAssociation(LabelAssociation {
        label_id: posted.text("labelId").ok_or(Misfit::SHAPE)?,
        action,
        target: LabelTarget::Chat,
        chat: Address::parse(&posted.text("chatId").ok_or(Misfit::SHAPE)?),
        message: None,
    });
    Ok(understood(data, envelope.key(raw.get())))
}

/// `call`.
pub(super) fn call(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let status = posted.text("status").ok_or(Misfit::SHAPE)?;
    let state = match status.as_str() {
        "offer" => CallState::Offer,
        "ringing" => CallState::Ringing,
        "timeout" => CallState::Missed,
        "accept" => CallState::Accepted,
        "reject" => CallState::Rejected,
        "terminate" => CallState::Terminated,
        _ => return Err(Misfit::NAME),
    };
    let id = posted.text("id").ok_or(Misfit::SHAPE)?;
    let from = person(
        &posted.text_of(&["from", "chatId"]).ok_or(Misfit::SHAPE)?,
        &[posted.text("callerPn")],
    );
    let learned = aliases([&from]);
    let direction = match is_same(&from, &envelope.own) {
        true => CallDirection::Out,
        false => CallDirection::In,
    };
    let mut updated = CallUpdated::new(&id, state, direction, from);
    updated.chat = posted.text("chatId").map(|chat| Address::parse(&chat));
    updated.is_video = posted.is_set("isVideo");
    updated.is_group = posted.is_set("isGroup");
    updated.group = posted.text("groupJid").map(|group| Address::group(&group));
    Ok(Understood {
        occurred_at: posted.time("date"),
        history: posted.is_set("offline"),
        aliases: learned,
        ..understood(
            Data::CallUpdated(Box::new(updated)),
            Key::Composed(format!("c|{id}|{status}")),
        )
    })
}
