//! Calls, groups, the instance's state, labels.

use serde_json::{Map, Value};

use super::{Scene, bare_chat, jid, object, person, put};
use crate::{
    Data,
    data::{
        CallState, CallUpdated, ConnectionLoss, ErrorStage, GroupLifecycle, GroupParticipants,
        GroupUpdated, InstanceError, LabelAction, LabelAssociation, LabelTarget, LabelUpdated,
        LifecycleAction, ParticipantAction, SyncPhase, Toggled,
    },
    shape::Address,
};

/// The one signal that has a name.
const LATENCY: &str = "latency";

pub(super) fn call(scene: &Scene<'_>, call: &CallUpdated) -> Option<Map<String, Value>> {
    let (kind, instead) = match call.state {
        CallState::Offer => ("offer", None),
        CallState::Notice => ("notification", None),
        CallState::Accepted => ("accepted", None),
        CallState::Rejected => ("rejected", None),
        CallState::Terminated => ("terminated", None),
        // What has no name is an end, with the reason why.
        CallState::Missed | CallState::EndedElsewhere => ("terminated", Some(call.state.as_str())),
        CallState::Signal if call.signal.as_deref() == Some(LATENCY) => (LATENCY, None),
        CallState::Ringing | CallState::Signal => return None,
    };
    let mut data = object([
        ("type", kind.into()),
        ("callId", call.call_id.clone().into()),
        ("from", person(&call.from).into()),
        ("chat", bare_chat(call.chat.as_ref().unwrap_or(&call.from))),
    ]);
    put(&mut data, "groupJid", call.group.as_ref().map(jid));
    data.insert("isGroup".to_owned(), call.is_group.into());
    data.insert("isVideo".to_owned(), call.is_video.into());
    put(&mut data, "reason", instead.map(str::to_owned).or_else(|| call.reason.clone()));
    put(&mut data, "duration", call.duration_s);
    Some(stamped(scene, data))
}

fn group(
    kind: &str,
    group: &Address,
    name: Option<&str>,
    actor: Option<&Address>,
) -> Map<String, Value> {
    let mut data = object([("type", kind.into()), ("groupJid", jid(group).into())]);
    put(&mut data, "groupName", name.or(group.name.as_deref()));
    put(&mut data, "actor", actor.map(person));
    data
}

fn stamped(scene: &Scene<'_>, mut data: Map<String, Value>) -> Map<String, Value> {
    data.insert("timestamp".to_owned(), scene.timestamp());
    data
}

/// One message for each property that changed and has a name.
pub(super) fn group_changes(scene: &Scene<'_>, updated: &GroupUpdated) -> Vec<Map<String, Value>> {
    let link = updated.invite_code.as_ref();
    let picture = updated.picture.as_ref().map(|picture| match picture.removed {
        true => Value::Null,
        false => picture.url.clone().or(picture.id.clone()).into(),
    });
    let changes = [
        ("name", updated.name.clone().map(Value::from)),
        ("topic", updated.description.clone().map(Value::from)),
        ("announce", updated.announce_only.map(Value::from)),
        ("locked", updated.locked.map(Value::from)),
        ("ephemeral", updated.ephemeral_expires_s.map(Value::from)),
        ("link", link.map(|code| format!("https://chat.whatsapp.com/{code}").into())),
        ("membership_approval", updated.join_approval.map(Value::from)),
        ("picture", picture),
    ];
    let name = updated.name.as_deref();
    let named = changes.into_iter().filter_map(|(kind, value)| Some((kind, value?)));
    named
        .map(|(kind, value)| {
            let mut data = group(kind, &updated.group, name, updated.actor.as_ref());
            data.insert("value".to_owned(), value);
            stamped(scene, data)
        })
        .collect()
}

pub(super) fn participants(scene: &Scene<'_>, members: &GroupParticipants) -> Map<String, Value> {
    let (kind, request) = match members.action {
        ParticipantAction::Add => ("joined", None),
        ParticipantAction::Remove => ("left", None),
        ParticipantAction::Promote => ("promoted", None),
        ParticipantAction::Demote => ("demoted", None),
        ParticipantAction::RequestCreated => ("join_request", Some("created")),
        ParticipantAction::RequestApproved => ("join_request", Some("approved")),
        ParticipantAction::RequestRejected => ("join_request", Some("rejected")),
        ParticipantAction::RequestRevoked => ("join_request", Some("revoked")),
    };
    let mut data = group(kind, &members.group, None, members.actor.as_ref());
    let people = members.participants.iter().map(|member| Value::from(person(&member.address)));
    data.insert("participants".to_owned(), people.collect());
    put(&mut data, "value", request);
    stamped(scene, data)
}

/// `None` for what has no name.
pub(super) fn group_lifecycle(
    scene: &Scene<'_>,
    updated: &GroupLifecycle,
) -> Option<Map<String, Value>> {
    let kind = match updated.action {
        LifecycleAction::Created => "created",
        LifecycleAction::Joined => "joined",
        LifecycleAction::Left => "left",
        LifecycleAction::Deleted => "delete",
        LifecycleAction::Unlinked => "unlink",
        LifecycleAction::Suspended | LifecycleAction::Unsuspended | LifecycleAction::Linked => {
            return None;
        }
    };
    let name = updated.metadata.as_ref().and_then(|known| known.name.as_deref());
    let mut data = group(kind, &updated.group, name, updated.actor.as_ref());
    put(&mut data, "reason", updated.reason.clone());
    Some(stamped(scene, data))
}

pub(super) fn label(scene: &Scene<'_>, updated: &LabelUpdated) -> Map<String, Value> {
    let deleted = updated.action == LabelAction::Deleted;
    let mut data = object([
        ("type", "edit".into()),
        ("labelId", updated.label.id.clone().into()),
        ("action", if deleted { "deleted" } else { "updated" }.into()),
    ]);
    put(&mut data, "name", updated.label.name.clone());
    put(&mut data, "color", updated.label.color);
    data.insert("deleted".to_owned(), deleted.into());
    stamped(scene, data)
}

pub(super) fn label_association(scene: &Scene<'_>, label: &LabelAssociation) -> Map<String, Value> {
    let labeled = label.action == Toggled::Added;
    let kind = match label.target {
        LabelTarget::Chat => "chat",
        LabelTarget::Message => "message",
    };
    let mut data = object([
        ("type", kind.into()),
        ("labelId", label.label_id.clone().into()),
        ("action", if labeled { "add" } else { "remove" }.into()),
        ("chatJid", jid(&label.chat).into()),
        ("labeled", labeled.into()),
    ]);
    put(&mut data, "messageId", label.message.as_ref().map(|message| message.id.clone()));
    stamped(scene, data)
}

/// `data` of `instance.state`; `None` for what has no name.
pub(super) fn instance(scene: &Scene<'_>, data: &Data) -> Option<Map<String, Value>> {
    let mut more = Map::new();
    let state = match data {
        Data::InstanceConnecting(_) => "connecting",
        Data::InstanceConnected(connected) => {
            let account = connected.account.as_ref();
            put(&mut more, "jid", account.map(|account| jid(&account.address)));
            "connected"
        }
        Data::InstanceDisconnected(lost) => {
            put(&mut more, "reason", Some(lost.reason.as_str()));
            put(&mut more, "code", lost.code);
            match lost.reason {
                ConnectionLoss::Replaced => "stream_replaced",
                _ => "disconnected",
            }
        }
        Data::InstanceLoggedOut(out) => {
            let reason = out.message.as_deref().unwrap_or(out.reason.as_str());
            put(&mut more, "reason", Some(reason));
            put(&mut more, "code", out.code);
            "logged_out"
        }
        Data::InstanceBanned(banned) => {
            put(&mut more, "reason", banned.reason.clone());
            put(&mut more, "code", banned.code);
            let ends = banned.expires_in_s.map(|seconds| {
                let ends = scene.event.occurred_at + std::time::Duration::from_secs(seconds);
                ends.to_string()
            });
            put(&mut more, "expiresAt", ends);
            "temp_banned"
        }
        Data::InstanceQr(qr) if !qr.exhausted => {
            let codes: Vec<_> = qr.code.iter().cloned().collect();
            put(&mut more, "codes", Some(codes));
            "qr_ready"
        }
        Data::InstancePaired(paired) => {
            let account = paired.account.as_ref();
            put(&mut more, "jid", account.map(|account| jid(&account.address)));
            "pair_success"
        }
        Data::InstanceError(error) => {
            let text = error.message.clone().or_else(|| error.title.clone());
            put(&mut more, "reason", text);
            put(&mut more, "code", error.code.clone());
            failure(error)?
        }
        Data::InstanceSync(sync) => match sync.phase {
            SyncPhase::KeepaliveTimeout => "keepalive_timeout",
            SyncPhase::KeepaliveRestored => "keepalive_restored",
            _ => return None,
        },
        _ => return None,
    };
    let mut data =
        object([("state", state.into()), ("instance", scene.context.instance_name.into())]);
    data.append(&mut more);
    Some(stamped(scene, data))
}

/// The states of failures, which are also codes of ours.
const FAILURES: [&str; 6] = [
    "pair_error",
    "connect_failure",
    "stream_error",
    "client_outdated",
    "cat_refresh_error",
    "qr_scanned_no_multidevice",
];

/// By its code, else by where it happened.
fn failure(error: &InstanceError) -> Option<&'static str> {
    let code = error.code.as_deref().unwrap_or_default();
    let named = FAILURES.iter().find(|name| **name == code).copied();
    named.or(match error.stage {
        ErrorStage::Pairing => Some("pair_error"),
        ErrorStage::Connection => Some("connect_failure"),
        ErrorStage::Protocol => Some("stream_error"),
        ErrorStage::Sync | ErrorStage::UpstreamApi | ErrorStage::Session => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_state_of_their_code_or_stage() {
        let error = |stage, code: &str| InstanceError {
            stage,
            code: Some(code.to_owned()),
            title: None,
            message: None,
            fatal: false,
        };
        for name in FAILURES {
            assert_eq!(failure(&error(ErrorStage::Session, name)), Some(name));
        }
        assert_eq!(failure(&error(ErrorStage::Protocol, "515")), Some("stream_error"));
        assert_eq!(failure(&error(ErrorStage::UpstreamApi, "131000")), None);
    }
}
