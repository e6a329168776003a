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

/// An element of `groups.upsert`: a group that this account is in from now on.
pub(super) fn upsert(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let listed = posted.raw("participants").map(|_| posted.list("participants").len());
    let metadata = GroupMetadata {
        name: posted.text("subject"),
        description: posted.text("desc"),
        owner: posted.text("owner").map(|who| person(&who, &[posted.text("ownerPn")])),
        invite_code: posted.text("inviteCode"),
        join_approval: posted.flag("joinApprovalMode"),
        size: posted.count("size").or(listed.and_then(|count| u32::try_from(count).ok())),
    };
    let data = Data::GroupLifecycle(GroupLifecycle {
        group: group(&posted)?,
        actor: author(&posted),
        action: LifecycleAction::Joined,
        metadata: (metadata != GroupMetadata::default()).then_some(metadata),
        reason: None,
    });
    Ok(of(envelope, raw, data))
}

/// An element of `groups.update`: the members that changed.
pub(super) fn updated(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let mut updated = GroupUpdated::new(group(&posted)?);
    updated.actor = author(&posted);
    updated.name = posted.text("subject");
    updated.description = posted.said("desc");
    updated.announce_only = posted.flag("announce");
    updated.locked = posted.flag("restrict");
    updated.ephemeral_expires_s = posted.count("ephemeralDuration");
    updated.invite_code = posted.text("inviteCode");
    updated.join_approval = posted.flag("joinApprovalMode");
    updated.member_add_mode = posted.flag("memberAddMode").map(|all| {
        let mode = if all { "all_member_add" } else { "admin_add" };
        mode.to_owned()
    });
    updated.addressing_mode = posted.text("addressingMode");
    let changed = [
        ("name", updated.name.is_some()),
        ("description", updated.description.is_some()),
        ("announce_only", updated.announce_only.is_some()),
        ("locked", updated.locked.is_some()),
        ("ephemeral_expires_s", updated.ephemeral_expires_s.is_some()),
        ("invite_code", updated.invite_code.is_some()),
        ("join_approval", updated.join_approval.is_some()),
        ("member_add_mode", updated.member_add_mode.is_some()),
        ("addressing_mode", updated.addressing_mode.is_some()),
    ];
    updated.changed =
        changed.iter().filter(|(_, is)| *is).map(|(name, _)| (*name).to_owned()).collect();
    Ok(of(envelope, raw, Data::GroupUpdated(Box::new(updated))))
}

/// `group-participants.update`.
pub(super) fn participants(envelope: &Envelope<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted = Members::of(raw).ok_or(Misfit::SHAPE)?;
    let action = match posted.text("action").ok_or(Misfit::SHAPE)?.as_str() {
        "add" => ParticipantAction::Add,
        "remove" => ParticipantAction::Remove,
        "promote" => ParticipantAction::Promote,
        "demote" => ParticipantAction::Demote,
        _ => return Err(Misfit::NAME),
    };
    let more: Vec<_> =
        posted.list("participantsData").into_iter().filter_map(Members::of).collect();
    let participants = posted
        .list("participants")
        .into_iter()
        .map(|raw| participant(raw, &more))
        .collect::<Option<Vec<_>>>()
        .filter(|all| !all.is_empty())
        .ok_or(Misfit::SHAPE)?;
    let people = participants.iter().map(|participant| &participant.address);
    let self_affected = people.clone().any(|address| is_same(address, &envelope.own));
    let learned = aliases(people);
    let data = Data::GroupParticipants(GroupParticipants {
        group: group(&posted)?,
        actor: author(&posted),
        action,
        self_affected,
        participants,
        method: None,
    });
    Ok(Understood { aliases: learned, ..of(envelope, raw, data) })
}

/// An address, or an object with several forms of it; `participantsData` says more about some.
fn participant(raw: &RawValue, more: &[Members<'_>]) -> Option<Participant> {
    let own = Members::of(raw);
    let jid = match &own {
        Some(own) => own.text_of(&["id", "jid"])?,
        None => text(raw)?,
    };
    let entry = more.iter().find(|entry| entry.text("jid").as_deref() == Some(&jid));
    let mut also = Vec::new();
    for members in own.iter().chain(entry) {
        let number = members.text("phoneNumber").map(|number| Address::phone(&number).id);
        also.extend([number, members.text("lid")]);
    }
    let mut address = person(&jid, &also);
    address.name = own.iter().chain(entry).find_map(|it| it.text_of(&["name", "notify"]));
    let role = own.and_then(|own| own.text("admin"));
    Some(Participant { address, role, error: None })
}

fn group(posted: &Members<'_>) -> Result<Address, Misfit> {
    posted.text_of(&["id", "remoteJid"]).map(|id| Address::group(&id)).ok_or(Misfit::SHAPE)
}

fn author(posted: &Members<'_>) -> Option<Address> {
    posted.text("author").map(|who| person(&who, &[posted.text("authorPn")]))
}

fn of(envelope: &Envelope<'_>, raw: &RawValue, data: Data) -> Understood {
    Understood {
        data,
        occurred_at: None,
        key: envelope.key(raw.get()),
        history: false,
        aliases: Vec::new(),
    }
}
