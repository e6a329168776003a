//! Groups.

use serde_json::value::RawValue;

use super::{Found, Posted};
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
        people::person,
    },
};

/// `GroupInfo`: properties that changed, then one event for each list of members that is not
/// empty, then what became of the group.
pub(super) fn info<'a>(posted: &Posted<'a>) -> Vec<Found<'a>> {
    let Ok(group) = posted.address("JID") else { return Vec::new() };
    let mut found = Vec::new();
    let properties = properties(posted, group.clone());
    if !properties.changed.is_empty() {
        let data = Data::GroupUpdated(Box::new(properties));
        found.push((None, Ok(posted.understood(data))));
    }
    let lists = [
        ("Join", ParticipantAction::Add),
        ("Leave", ParticipantAction::Remove),
        ("Promote", ParticipantAction::Promote),
        ("Demote", ParticipantAction::Demote),
        ("MembershipRequestsCreated", ParticipantAction::RequestCreated),
        ("MembershipRequestsRevoked", ParticipantAction::RequestRevoked),
    ];
    for (name, action) in lists {
        let Some(raw) = posted.event.raw(name) else { continue };
        if let Some(outcome) = members(posted, &group, name, action) {
            found.push((Some(raw), outcome));
        }
    }
    let ends = [
        ("Delete", LifecycleAction::Deleted),
        ("Link", LifecycleAction::Linked),
        ("Unlink", LifecycleAction::Unlinked),
    ];
    for (name, action) in ends {
        let Some(raw) = posted.event.raw(name) else { continue };
        let part = Members::of(raw).unwrap_or_default();
        let reason = part.text_of(&["DeleteReason", "UnlinkReason"]);
        found.push((Some(raw), Ok(lifecycle(posted, &group, action, reason))));
    }
    for (name, action) in
        [("Suspended", LifecycleAction::Suspended), ("Unsuspended", LifecycleAction::Unsuspended)]
    {
        if posted.event.is_set(name) {
            found.push((posted.event.raw(name), Ok(lifecycle(posted, &group, action, None))));
        }
    }
    found
}

fn actor(posted: &Posted<'_>) -> Option<Address> {
    let event = &posted.event;
    event.text("Sender").map(|who| person(&who, &[event.text("SenderPN")]))
}

fn properties(posted: &Posted<'_>, group: Address) -> GroupUpdated {
    let event = &posted.event;
    let mut updated = GroupUpdated::new(group);
    updated.actor = actor(posted);
    updated.name = event.object("Name").and_then(|part| part.text("Name"));
    updated.description = event.object("Topic").map(|part| part.said("Topic").unwrap_or_default());
    updated.locked = event.object("Locked").and_then(|part| part.flag("IsLocked"));
    updated.announce_only = event.object("Announce").and_then(|part| part.flag("IsAnnounce"));
    updated.ephemeral_expires_s = event.object("Ephemeral").map(|part| {
        let seconds = part.count("DisappearingTimer").unwrap_or(0);
        if part.flag("IsEphemeral") == Some(false) { 0 } else { seconds }
    });
    updated.join_approval =
        event.object("MembershipApprovalMode").and_then(|part| part.flag("IsJoinApprovalRequired"));
    updated.invite_code = event
        .text("NewInviteLink")
        .map(|link| link.rsplit('/').next().unwrap_or_default().to_owned());
    let changed = [
        ("name", updated.name.is_some()),
        ("description", updated.description.is_some()),
        ("locked", updated.locked.is_some()),
        ("announce_only", updated.announce_only.is_some()),
        ("ephemeral_expires_s", updated.ephemeral_expires_s.is_some()),
        ("join_approval", updated.join_approval.is_some()),
        ("invite_code", updated.invite_code.is_some()),
    ];
    updated.changed =
        changed.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
    updated
}

/// The members of a list; `None` when it is empty.
fn members(
    posted: &Posted<'_>,
    group: &Address,
    name: &str,
    action: ParticipantAction,
) -> Option<Result<Understood, Misfit>> {
    let listed = posted.event.list(name);
    if listed.is_empty() {
        return None;
    }
    let participants: Option<Vec<_>> = listed.into_iter().map(member).collect();
    let outcome = participants.ok_or(Misfit::SHAPE).map(|participants| {
        posted.understood(Data::GroupParticipants(GroupParticipants {
            group: group.clone(),
            actor: actor(posted),
            action,
            participants,
            method: posted.event.text("JoinReason").filter(|_| name == "Join"),
            self_affected: false,
        }))
    });
    Some(outcome)
}

/// An address; requests to join are objects with one.
fn member(raw: &RawValue) -> Option<Participant> {
    let id = text(raw).or_else(|| Members::of(raw)?.text("JID"))?;
    Some(Participant { address: Address::parse(&id), role: None, error: None })
}

fn lifecycle(
    posted: &Posted<'_>,
    group: &Address,
    action: LifecycleAction,
    reason: Option<String>,
) -> Understood {
    posted.understood(Data::GroupLifecycle(GroupLifecycle {
        group: group.clone(),
        actor: actor(posted),
        action,
        metadata: None,
        reason,
    }))
}

/// `JoinedGroup`: this account is in the group from now on, or made it.
pub(super) fn joined(posted: &Posted<'_>) -> Result<Understood, Misfit> {
    let event = &posted.event;
    let group = posted.address("JID")?;
    let count = event.raw("Participants").map(|_| event.list("Participants").len());
    let metadata = GroupMetadata {
        name: event.text("Name"),
        description: event.text("Topic"),
        owner: event.text("OwnerJID").map(|who| person(&who, &[event.text("OwnerPN")])),
        invite_code: None,
        join_approval: event.flag("IsJoinApprovalRequired"),
        size: count.and_then(|count| u32::try_from(count).ok()),
    };
    let action = match event.text("Type").as_deref() {
        Some("new") => LifecycleAction::Created,
        _ => LifecycleAction::Joined,
    };
    let understood = posted.understood(Data::GroupLifecycle(GroupLifecycle {
        group,
        actor: actor(posted),
        action,
        metadata: (metadata != GroupMetadata::default()).then_some(metadata),
        reason: event.text("Reason"),
    }));
    Ok(understood)
}
