//! Under which name an event goes out.

use std::borrow::Cow;

use crate::{
    Data, Kind,
    data::{
        CallState, ErrorStage, LabelTarget, LifecycleAction, NewsletterAction, ParticipantAction,
        SyncPhase,
    },
    dialect::Fallback,
};

/// The documented name of a type, if it has one.
pub(super) fn documented(kind: Kind, facet: Option<&str>) -> Option<&'static str> {
    Some(match (kind, facet) {
        (
            Kind::MessageReceived
            | Kind::MessageSent
            | Kind::MessageEdited
            | Kind::MessageDeleted
            | Kind::MessageReaction
            | Kind::MessageVote,
            _,
        ) => "Message",
        // That the server has it is no receipt of anybody's.
        (Kind::MessageStatus, Some("pending" | "sent")) => return None,
        (Kind::MessageStatus, _) => "ReadReceipt",
        (Kind::PresenceUser, _) => "Presence",
        (Kind::PresenceChat, _) => "ChatPresence",
        (Kind::HistorySync, _) => "HistorySync",
        (Kind::InstanceConnected, _) => "Connected",
        (Kind::InstanceDisconnected | Kind::InstanceLoggedOut, _) => "Disconnected",
        (Kind::GroupParticipants, Some("add")) => "GroupParticipantsAdd",
        (Kind::GroupParticipants, Some("remove")) => "GroupParticipantsRemove",
        _ => return None,
    })
}

/// The name it goes out under: the documented one, or else an extension.
pub(super) fn name(
    data: &Data,
    documented: Option<&'static str>,
    fallback: Fallback,
) -> Cow<'static, str> {
    match documented {
        Some("Disconnected")
            if fallback == Fallback::Extended && data.kind() == Kind::InstanceLoggedOut =>
        {
            "LoggedOut".into()
        }
        Some(name) => name.into(),
        None => extension(data),
    }
}

/// Names of whatsmeow's own events where there is one that means the same, else the type's name in
/// Pascal case.
fn extension(data: &Data) -> Cow<'static, str> {
    let known = match data {
        Data::MessageStatus(_) => "ReadReceipt",
        Data::MessageUndecryptable(_) => "UndecryptableMessage",
        Data::ContactUpdated(data) if data.picture.is_some() => "Picture",
        Data::ContactUpdated(data) if data.push_name.is_some() => "PushName",
        Data::GroupUpdated(_) => "GroupInfo",
        Data::GroupParticipants(data) => match data.action {
            ParticipantAction::Promote => "GroupParticipantsPromote",
            ParticipantAction::Demote => "GroupParticipantsDemote",
            _ => "GroupInfo",
        },
        Data::GroupLifecycle(data) => match data.action {
            LifecycleAction::Created | LifecycleAction::Joined => "JoinedGroup",
            _ => "GroupInfo",
        },
        Data::NewsletterUpdated(data) => match data.action {
            NewsletterAction::Joined => "NewsletterJoin",
            NewsletterAction::Left => "NewsletterLeave",
            NewsletterAction::Muted | NewsletterAction::Unmuted => "NewsletterMuteChange",
            NewsletterAction::Live => "NewsletterLiveUpdate",
            NewsletterAction::Metadata => return derived(Kind::NewsletterUpdated),
        },
        Data::CallUpdated(call) => match call.state {
            CallState::Offer => "CallOffer",
            CallState::Notice => "CallOfferNotice",
            CallState::Ringing => "CallPreAccept",
            CallState::Accepted => "CallAccept",
            CallState::Rejected => "CallReject",
            CallState::Terminated | CallState::Missed | CallState::EndedElsewhere => {
                "CallTerminate"
            }
            CallState::Signal if call.signal.as_deref() == Some("latency") => "CallRelayLatency",
            CallState::Signal => return derived(data.kind()),
        },
        Data::LabelUpdated(_) => "LabelEdit",
        Data::LabelAssociation(data) => match data.target {
            LabelTarget::Chat => "LabelAssociationChat",
            LabelTarget::Message => "LabelAssociationMessage",
        },
        Data::InstanceBanned(_) => "TemporaryBan",
        Data::InstanceQr(data) if data.exhausted => "QRTimeout",
        Data::InstanceQr(_) => "QR",
        Data::InstancePaired(_) => "PairSuccess",
        Data::InstanceError(error) => match (error.code.as_deref(), error.stage) {
            (Some("client_outdated"), _) => "ClientOutdated",
            (_, ErrorStage::Pairing) => "PairError",
            (_, ErrorStage::Connection) => "ConnectFailure",
            (_, ErrorStage::Protocol) => "StreamError",
            _ => return derived(data.kind()),
        },
        Data::InstanceSync(sync) => match sync.phase {
            SyncPhase::OfflinePreview => "OfflineSyncPreview",
            SyncPhase::OfflineCompleted => "OfflineSyncCompleted",
            SyncPhase::AppStateCompleted => "AppStateSyncComplete",
            SyncPhase::KeepaliveTimeout => "KeepAliveTimeout",
            SyncPhase::KeepaliveRestored => "KeepAliveRestored",
            SyncPhase::AppStateFailed | SyncPhase::Dirty => return derived(data.kind()),
        },
        _ => return derived(data.kind()),
    };
    known.into()
}

/// `chat.updated` is `ChatUpdated`.
fn derived(kind: Kind) -> Cow<'static, str> {
    let mut name = String::new();
    for word in kind.as_str().split(['.', '_']) {
        let mut letters = word.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(letters.as_str());
    }
    name.into()
}
