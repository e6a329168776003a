//! Groups.

use serde_json::value::RawValue;

use super::Envelope;
use crate::{
    Data,
    data::{
        GroupLifecycle, GroupMetadata, GroupParticipants, GroupUpdated, LifecycleAction,
        Participant, ParticipantAction,
    },
    shape::Address,
    source::{
        delivery::{Misfit, Understood},
        members::{Members, text},
        people::{aliases, is_same, person},
    },
};

fn group<'a>(envelope: &Envelope<'a>) -> Result<(Address, Members<'a>), Misfit> {
    let members = envelope.payload.object("group").ok_or(Misfit::SHAPE)?;
    let id = members.text("id").ok_or(Misfit::SHAPE)?;
    let mut group = Address::group(&id);
    group.name = members.text_of(&["subject", "name"]);
    Ok((group, members))
}

fn actor(envelope: &Envelope<'_>) -> Option<Address> {
    envelope.payload.text("author").map(|who| Address::parse(&who))
}

/// `group.v2.update`: the group as far as it changed.
pub(super) fn updated(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let (group, members) = group(envelope)?;
    let mut updated = GroupUpdated::new(group);
    updated.actor = actor(envelope);
    updated.name = members.text_of(&["subject", "name"]);
    updated.description = members.said("description").or_else(|| members.said("desc"));
    updated.announce_only = members.flag("membersCanSendMessages").map(|all| !all);
    updated.locked = members.flag("membersCanEditInfo").map(|all| !all);
    updated.join_approval = members.flag("newMembersApprovalRequired");
    updated.invite_code = members.text_of(&["inviteCode", "invite"]);
    updated.ephemeral_expires_s = members.count("ephemeralDuration");
    updated.member_add_mode = members.flag("membersCanAddNewMember").map(|all| {
        let mode = if all { "all_member_add" } else { "admin_add" };
        mode.to_owned()
    });
    let changed = [
        ("name", updated.name.is_some()),
        ("description", updated.description.is_some()),
        ("announce_only", updated.announce_only.is_some()),
        ("locked", updated.locked.is_some()),
        ("join_approval", updated.join_approval.is_some()),
        ("invite_code", updated.invite_code.is_some()),
        ("ephemeral_expires_s", updated.ephemeral_expires_s.is_some()),
        ("member_add_mode", updated.member_add_mode.is_some()),
    ];
    updated.changed =
        changed.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
    Ok(envelope.understood(Data::GroupUpdated(Box::new(updated))))
}

/// `group.v2.participants`.
pub(super) fn participants(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let action = match envelope.payload.text("type").ok_or(Misfit::SHAPE)?.as_str() {
        "join" | "add" => ParticipantAction::Add,
        "leave" | "remove" => ParticipantAction::Remove,
        "promote" => ParticipantAction::Promote,
        "demote" => ParticipantAction::Demote,
        _ => return Err(Misfit::NAME),
    };
    let (group, _) = group(envelope)?;
    of_members(envelope, group, action, &envelope.payload.list("participants"))
}

/// `group.v2.participants.join_request`: somebody asks to join, or what became of it.
pub(super) fn join_request(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let action = match payload.text_of(&["action", "type"]).as_deref() {
        Some("approved" | "approve") => ParticipantAction::RequestApproved,
        Some("rejected" | "reject") => ParticipantAction::RequestRejected,
        Some("revoked" | "revoke" | "cancelled") => ParticipantAction::RequestRevoked,
        _ => ParticipantAction::RequestCreated,
    };
    let (group, _) = group(envelope)?;
    let listed = payload.list("participants");
    let one = payload.raw("participant");
    let listed = if listed.is_empty() { one.into_iter().collect() } else { listed };
    of_members(envelope, group, action, &listed)
}

fn of_members(
    envelope: &Envelope<'_>,
    group: Address,
    action: ParticipantAction,
    listed: &[&RawValue],
) -> Result<Understood, Misfit> {
    let participants: Vec<_> = listed
        .iter()
        .map(|raw| member(raw))
        .collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty())
        .ok_or(Misfit::SHAPE)?;
    let people = participants.iter().map(|participant| &participant.address);
    let self_affected = people.clone().any(|who| is_same(who, &envelope.own));
    let learned = aliases(people);
    let data = Data::GroupParticipants(GroupParticipants {
        group,
        actor: actor(envelope),
        action,
        participants,
        method: None,
        self_affected,
    });
    Ok(Understood { aliases: learned, ..envelope.understood(data) })
}

/// An id, or an object with the role beside it.
fn member(raw: &RawValue) -> Option<Participant> {
    let Some(members) = Members::of(raw) else {
        return Some(Participant { address: Address::parse(&text(raw)?), role: None, error: None });
    };
    let also = [members.text("pn"), members.text("lid"), members.text("phoneNumber")];
    let role = members.text("role").map(|role| match role.as_str() {
        // Its own word for an ordinary member.
        "participant" => "member".to_owned(),
        _ => role,
    });
    Some(Participant { address: person(&members.text("id")?, &also), role, error: None })
}

fn lifecycle(envelope: &Envelope<'_>, action: LifecycleAction) -> Result<Understood, Misfit> {
    let (group, members) = group(envelope)?;
    let count = members.raw("participants").map(|_| members.list("participants").len());
    let metadata = GroupMetadata {
        name: members.text_of(&["subject", "name"]),
        description: members.text_of(&["description", "desc"]),
        owner: members.text("owner").map(|who| Address::parse(&who)),
        invite_code: members.text_of(&["inviteCode", "invite"]),
        join_approval: members.flag("newMembersApprovalRequired"),
        size: count.and_then(|count| u32::try_from(count).ok()),
    };
    let data = Data::GroupLifecycle(GroupLifecycle {
        group,
        actor: actor(envelope),
        action,
        metadata: (metadata != GroupMetadata::default()).then_some(metadata),
        reason: None,
    });
    Ok(envelope.understood(data))
}

/// `group.v2.join`: this account is in the group from now on.
pub(super) fn joined(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    lifecycle(envelope, LifecycleAction::Joined)
}

/// `group.v2.leave`.
pub(super) fn left(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    lifecycle(envelope, LifecycleAction::Left)
}

/// The older form of both: a notification in the chat.
fn notified(envelope: &Envelope<'_>, action: ParticipantAction) -> Result<Understood, Misfit> {
    let payload = &envelope.payload;
    let id = payload.object("id");
    let chat = payload.text("chatId").or_else(|| id?.text("remote")).ok_or(Misfit::SHAPE)?;
    let listed = payload.list("recipientIds");
    of_members(envelope, Address::group(&chat), action, &listed)
}

/// `group.join`.
pub(super) fn notified_join(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    notified(envelope, ParticipantAction::Add)
}

/// `group.leave`.
pub(super) fn notified_leave(envelope: &Envelope<'_>) -> Result<Understood, Misfit> {
    notified(envelope, ParticipantAction::Remove)
}
