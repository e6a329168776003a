//! Groups.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    account,
    phone::{ApiError, Phone, errors},
};
use crate::{
    Data,
    data::{
        ErrorStage, GroupLifecycle, GroupMetadata, GroupParticipants, GroupUpdated,
        LifecycleAction, Participant, ParticipantAction, Picture,
    },
    shape::Address,
    source::{
        compound::{List, Object},
        delivery::{Key, Misfit, Understood},
        scalar::{Flag, Text, Time, filled, instant, owned},
    },
};

/// An element of `groups`, whatever the field.
#[derive(Deserialize)]
struct Group<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    group_id: Text<'a>,
    #[serde(borrow)]
    request_id: Text<'a>,
    #[serde(borrow)]
    join_request_id: Text<'a>,
    timestamp: Time,
    #[serde(borrow)]
    reason: Text<'a>,
    #[serde(borrow)]
    initiated_by: Text<'a>,
    #[serde(borrow)]
    subject: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
    #[serde(borrow)]
    invite_link: Text<'a>,
    #[serde(borrow)]
    join_approval_mode: Text<'a>,
    #[serde(borrow)]
    wa_id: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    #[serde(borrow)]
    username: Text<'a>,
    #[serde(borrow)]
    added_participants: List<Member<'a>>,
    #[serde(borrow)]
    removed_participants: List<Member<'a>>,
    #[serde(borrow)]
    failed_participants: List<Member<'a>>,
    #[serde(borrow)]
    group_subject: Object<Setting<'a>>,
    #[serde(borrow)]
    group_description: Object<Setting<'a>>,
    #[serde(borrow)]
    profile_picture: Object<Setting<'a>>,
    #[serde(borrow)]
    errors: List<ApiError<'a>>,
}

#[derive(Deserialize)]
struct Member<'a> {
    #[serde(borrow)]
    wa_id: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    #[serde(borrow)]
    username: Text<'a>,
    /// What the API's caller gave to name the member.
    #[serde(borrow)]
    input: Text<'a>,
    #[serde(borrow)]
    errors: List<ApiError<'a>>,
}

#[derive(Deserialize)]
struct Setting<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    update_successful: Flag,
}

impl Group<'_> {
    fn address(&self) -> Result<Address, Misfit> {
        filled(&self.group_id).map(Address::group).ok_or(Misfit::SHAPE)
    }

    fn understood(&self, data: Data) -> Understood {
        let request = filled(&self.request_id).or(filled(&self.join_request_id));
        let occurred_at = instant(self.timestamp);
        let group = filled(&self.group_id).unwrap_or_default();
        let key = match (request, occurred_at) {
            (Some(request), _) => Key::Composed(format!("g|{group}|{request}|{}", &*self.kind)),
            (None, Some(at)) => Key::Composed(self.key_at(group, at.as_secs())),
            (None, None) => Key::Place,
        };
        Understood { data, occurred_at, key, history: false, aliases: Vec::new() }
    }

    /// Two people who come by the same link in the same second are two events: who they are is
    /// part of the key.
    fn key_at(&self, group: &str, seconds: i64) -> String {
        let mut key = format!("g|{group}|{seconds}|{}", &*self.kind);
        let members = [&self.added_participants, &self.removed_participants];
        for member in members.into_iter().flat_map(|list| &list.items) {
            if let Some(name) = member.name() {
                key.push('|');
                key.push_str(name);
            }
        }
        for name in [filled(&self.wa_id), filled(&self.user_id)].into_iter().flatten() {
            key.push('|');
            key.push_str(name);
        }
        key
    }
}

impl Member<'_> {
    fn name(&self) -> Option<&str> {
        filled(&self.wa_id).or(filled(&self.user_id)).or(filled(&self.input))
    }

    fn participant(&self, phone: &Phone<'_>) -> Result<Participant, Misfit> {
        let wa_id = filled(&self.wa_id).or(filled(&self.input));
        let mut address = phone.person(wa_id, filled(&self.user_id)).ok_or(Misfit::SHAPE)?;
        address.username = owned(&self.username).or(address.username);
        let error =
            errors(&self.errors).into_iter().find_map(|error| error.title.or(error.message));
        Ok(Participant { address, role: None, error })
    }
}

/// Under `group_participants_update`.
pub(super) fn participants(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let group: Group<'_> = serde_json::from_str(raw.get())?;
    let (added, removed) = (&group.added_participants, &group.removed_participants);
    let (action, members) = match &*group.kind {
        "group_participants_add" => (ParticipantAction::Add, &added.items[..]),
        "group_participants_remove" => (ParticipantAction::Remove, &removed.items[..]),
        "group_join_request_created" => (ParticipantAction::RequestCreated, &[][..]),
        "group_join_request_revoked" => (ParticipantAction::RequestRevoked, &[][..]),
        _ => return Err(Misfit::NAME),
    };
    let failed = &group.failed_participants;
    // Someone less would be another change.
    if ![added, removed, failed].iter().all(|list| list.whole) {
        return Err(Misfit::SHAPE);
    }
    let listed = members.iter().chain(&failed.items);
    let mut participants: Vec<_> =
        listed.map(|member| member.participant(phone)).collect::<Result<_, _>>()?;
    if let Some(mut address) = phone.person(filled(&group.wa_id), filled(&group.user_id)) {
        address.username = owned(&group.username).or(address.username);
        participants.push(Participant { address, role: None, error: None });
    }
    let own = phone.own.phone.as_deref();
    let self_affected = participants
        .iter()
        .any(|participant| own.is_some() && participant.address.phone.as_deref() == own);
    let actor = match (filled(&group.initiated_by), &participants[..]) {
        (Some("business"), _) => Some(phone.own.clone()),
        (Some("participant"), [alone]) => Some(alone.address.clone()),
        _ => None,
    };
    Ok(group.understood(Data::GroupParticipants(GroupParticipants {
        group: group.address()?,
        actor,
        action,
        participants,
        method: owned(&group.reason),
        self_affected,
    })))
}

/// Under `group_lifecycle_update`. A request that failed changed no group: that is an error.
pub(super) fn lifecycle(_: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let group: Group<'_> = serde_json::from_str(raw.get())?;
    let action = match &*group.kind {
        "group_create" => LifecycleAction::Created,
        "group_delete" => LifecycleAction::Deleted,
        _ => return Err(Misfit::NAME),
    };
    if let Some(error) = errors(&group.errors).into_iter().next() {
        return Ok(group.understood(account::failure(ErrorStage::UpstreamApi, error)));
    }
    let metadata = GroupMetadata {
        name: owned(&group.subject),
        description: owned(&group.description),
        invite_code: filled(&group.invite_link).and_then(invite_code),
        join_approval: filled(&group.join_approval_mode).map(|mode| mode != "auto_approve"),
        ..GroupMetadata::default()
    };
    Ok(group.understood(Data::GroupLifecycle(GroupLifecycle {
        group: group.address()?,
        actor: None,
        action,
        metadata: (metadata != GroupMetadata::default()).then_some(metadata),
        reason: owned(&group.reason),
    })))
}

/// Under `group_status_update`.
pub(super) fn status(_: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let group: Group<'_> = serde_json::from_str(raw.get())?;
    let action = match &*group.kind {
        "group_suspend" => LifecycleAction::Suspended,
        "group_suspend_cleared" => LifecycleAction::Unsuspended,
        _ => return Err(Misfit::NAME),
    };
    Ok(group.understood(Data::GroupLifecycle(GroupLifecycle {
        group: group.address()?,
        actor: None,
        action,
        metadata: None,
        reason: owned(&group.reason),
    })))
}

/// Under `group_settings_update`: the outcome of a request to change several things at once.
pub(super) fn settings(_: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let group: Group<'_> = serde_json::from_str(raw.get())?;
    if &*group.kind != "group_settings_update" {
        return Err(Misfit::NAME);
    }
    let mut updated = GroupUpdated::new(group.address()?);
    let mut asked = 0;
    let mut changed = |name: &str, setting: &Object<Setting<'_>>| {
        let setting = setting.0.as_ref()?;
        asked += 1;
        if setting.update_successful.0 == Some(false) {
            return None;
        }
        updated.changed.push(name.to_owned());
        Some(owned(&setting.text))
    };
    updated.name = changed("name", &group.group_subject).flatten();
    updated.description = changed("description", &group.group_description).flatten();
    updated.picture = changed("picture", &group.profile_picture).map(|_| Picture {
        id: None,
        url: None,
        removed: false,
    });
    let result = match updated.changed.len() {
        0 => "failed",
        done if done < asked => "partial",
        _ => "succeeded",
    };
    updated.request_result = Some(result.to_owned());
    Ok(group.understood(Data::GroupUpdated(Box::new(updated))))
}

fn invite_code(link: &str) -> Option<String> {
    let code = link.trim_end_matches('/').rsplit('/').next()?;
    (!code.is_empty()).then(|| code.to_owned())
}
