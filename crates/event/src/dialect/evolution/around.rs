//! What surrounds messages: contacts, chats, groups, presence, labels, calls.

use serde_json::{Map, Value, json};

use super::{Name, Scene, Told, list_of, object, put};
use crate::{
    Data,
    data::{
        CallState, CallUpdated, ChatUpdated, ContactUpdated, GroupLifecycle, GroupParticipants,
        GroupUpdated, LabelAction, LabelUpdated, LifecycleAction, ParticipantAction, PresenceState,
        Toggled, TypingState,
    },
};

pub(super) fn told(scene: &Scene<'_>, data: &Data) -> Option<Told> {
    Some(match data {
        Data::PresenceUser(presence) => {
            let (state, at) = match presence.state {
                PresenceState::Online => ("available", None),
                PresenceState::Offline => ("unavailable", presence.last_seen),
            };
            let mut shown = object([("lastKnownPresence", state.into())]);
            put(&mut shown, "lastSeen", at.map(|at| at.as_secs()));
            presences(&presence.user.id, &presence.user.id, shown)
        }
        Data::PresenceChat(presence) => {
            let state = match presence.state {
                TypingState::Typing => "composing",
                TypingState::Recording => "recording",
                TypingState::Paused => "paused",
            };
            let shown = object([("lastKnownPresence", state.into())]);
            presences(&presence.chat.id, &presence.participant.id, shown)
        }
        Data::ChatUpdated(chat) => Told::new(Name::ChatsUpdate, list_of(chat_row(scene, chat))),
        Data::ChatDeleted(chat) => Told::new(Name::ChatsDelete, json!([chat.chat.id])),
        Data::ContactUpdated(contact) => {
            Told::new(Name::ContactsUpdate, list_of(contact_row(scene, contact)))
        }
        Data::GroupUpdated(group) => Told::new(Name::GroupUpdate, list_of(group_change(group)?)),
        Data::GroupParticipants(members) => participants(scene, members)?,
        Data::GroupLifecycle(group) => {
            let name = match group.action {
                LifecycleAction::Created | LifecycleAction::Joined => Name::GroupsUpsert,
                _ => Name::GroupUpdate,
            };
            Told::new(name, list_of(group_metadata(group, name)))
        }
        Data::CallUpdated(call) => Told::new(Name::Call, call_row(scene, call)?.into()),
        Data::LabelUpdated(label) => Told::new(Name::LabelsEdit, label_row(scene, label).into()),
        Data::LabelAssociation(label) => {
            let kind = match label.action {
                Toggled::Added => "add",
                Toggled::Removed => "remove",
            };
            let data = json!({
                "instance": scene.context.instance_name,
                "type": kind,
                "chatId": label.chat.id,
                "labelId": label.label_id,
            });
            Told::new(Name::LabelsAssociation, data)
        }
        _ => return None,
    })
}

fn presences(chat: &str, who: &str, shown: Map<String, Value>) -> Told {
    let presences = object([(who, shown.into())]);
    Told::new(Name::PresenceUpdate, json!({ "id": chat, "presences": presences }))
}

fn chat_row(scene: &Scene<'_>, chat: &ChatUpdated) -> Map<String, Value> {
    let mut row = object([
        ("remoteJid", chat.chat.id.clone().into()),
        ("instanceId", scene.instance_id().into()),
    ]);
    put(&mut row, "name", chat.name.clone());
    put(&mut row, "unreadMessages", chat.unread_count);
    put(&mut row, "archived", chat.archived);
    put(&mut row, "pinned", chat.pinned);
    put(&mut row, "muteEndTime", chat.muted_until.map(|at| at.as_millis()));
    put(&mut row, "ephemeralExpiration", chat.ephemeral_expires_s);
    row
}

fn contact_row(scene: &Scene<'_>, contact: &ContactUpdated) -> Map<String, Value> {
    let names =
        [&contact.push_name, &contact.contact.name, &contact.full_name, &contact.verified_name];
    let name = names.into_iter().flatten().next().cloned();
    let picture = contact.picture.as_ref().and_then(|picture| picture.url.clone());
    object([
        ("remoteJid", contact.contact.id.clone().into()),
        ("pushName", name.into()),
        ("profilePicUrl", picture.into()),
        ("instanceId", scene.instance_id().into()),
    ])
}

/// What changed, as far as Baileys has names for it.
fn group_change(group: &GroupUpdated) -> Option<Map<String, Value>> {
    let mut row = object([("id", group.group.id.clone().into())]);
    put(&mut row, "subject", group.name.clone());
    put(&mut row, "desc", group.description.clone());
    put(&mut row, "announce", group.announce_only);
    put(&mut row, "restrict", group.locked);
    put(&mut row, "ephemeralDuration", group.ephemeral_expires_s);
    put(&mut row, "inviteCode", group.invite_code.clone());
    put(&mut row, "joinApprovalMode", group.join_approval);
    put(&mut row, "memberAddMode", group.member_add_mode.as_ref().map(|m| m == "all_member_add"));
    put(&mut row, "addressingMode", group.addressing_mode.clone());
    if row.len() == 1 {
        return None;
    }
    put(&mut row, "author", group.actor.as_ref().map(|actor| actor.id.clone()));
    Some(row)
}

fn group_metadata(group: &GroupLifecycle, name: Name) -> Map<String, Value> {
    let known = group.metadata.clone().unwrap_or_default();
    let mut row = object([("id", group.group.id.clone().into())]);
    put(&mut row, "subject", known.name);
    put(&mut row, "owner", known.owner.map(|owner| owner.id));
    put(&mut row, "size", known.size);
    put(&mut row, "desc", known.description);
    put(&mut row, "inviteCode", known.invite_code);
    put(&mut row, "joinApprovalMode", known.join_approval);
    put(&mut row, "author", group.actor.as_ref().map(|actor| actor.id.clone()));
    if name == Name::GroupsUpsert {
        put(&mut row, "participants", Some(Vec::<Value>::new()));
    }
    row
}

fn participants(scene: &Scene<'_>, members: &GroupParticipants) -> Option<Told> {
    let action = match members.action {
        ParticipantAction::Add => "add",
        ParticipantAction::Remove => "remove",
        ParticipantAction::Promote => "promote",
        ParticipantAction::Demote => "demote",
        ParticipantAction::RequestCreated
        | ParticipantAction::RequestApproved
        | ParticipantAction::RequestRejected
        | ParticipantAction::RequestRevoked => return None,
    };
    let mut row = object([("id", members.group.id.clone().into())]);
    put(&mut row, "author", members.actor.as_ref().map(|actor| actor.id.clone()));
    let people = members.participants.iter().map(|member| &member.address);
    row.insert("participants".to_owned(), people.clone().map(|who| who.id.clone()).collect());
    row.insert("action".to_owned(), action.into());
    if !scene.options.lite {
        let more = people.map(|who| {
            let mut entry = object([("jid", who.id.clone().into())]);
            put(&mut entry, "phoneNumber", who.phone_id());
            put(&mut entry, "name", who.name.clone());
            Value::from(entry)
        });
        row.insert("participantsData".to_owned(), more.collect());
    }
    Some(Told::new(Name::GroupParticipantsUpdate, row.into()))
}

fn call_row(scene: &Scene<'_>, call: &CallUpdated) -> Option<Map<String, Value>> {
    let status = match call.state {
        CallState::Offer | CallState::Notice => "offer",
        CallState::Ringing => "ringing",
        CallState::Missed => "timeout",
        CallState::Accepted => "accept",
        CallState::Rejected => "reject",
        CallState::Terminated | CallState::EndedElsewhere => "terminate",
        CallState::Signal => return None,
    };
    let chat = call.chat.as_ref().unwrap_or(&call.from);
    let mut row = object([
        ("chatId", chat.id.clone().into()),
        ("from", call.from.id.clone().into()),
        ("id", call.call_id.clone().into()),
        ("date", scene.event.occurred_at.to_string().into()),
        ("status", status.into()),
        ("isVideo", call.is_video.into()),
        ("isGroup", call.is_group.into()),
    ]);
    put(&mut row, "groupJid", call.group.as_ref().map(|group| group.id.clone()));
    row.insert("offline".to_owned(), scene.event.history.into());
    Some(row)
}

fn label_row(scene: &Scene<'_>, updated: &LabelUpdated) -> Map<String, Value> {
    let label = &updated.label;
    let mut row = object([("id", label.id.clone().into())]);
    put(&mut row, "name", label.name.clone());
    put(&mut row, "color", label.color);
    row.insert("deleted".to_owned(), (updated.action == LabelAction::Deleted).into());
    put(&mut row, "predefinedId", label.predefined_id.clone());
    row.insert("instance".to_owned(), scene.context.instance_name.into());
    row
}
