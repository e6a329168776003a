//! The second level of a filter: one state field per type.

use crate::{
    Kind,
    data::{
        BotState, CallState, ChatRemoval, ConnectionLoss, DeletionScope, ErrorStage, Flag,
        InstanceAction, LabelAction, LifecycleAction, LogoutReason, NewsletterAction, Origin,
        PairCodeState, ParticipantAction, PresenceState, Status, SyncPhase, SyncType,
        TemplateAspect, Toggled, TypingState, UndecryptableReason, UnknownReason, VoteTarget,
    },
    shape::ContentKind,
};

impl Kind {
    /// The member of `data` that a filter can name after a colon (`call.updated:offer`), as a
    /// dotted path; `None` for types without one.
    pub const fn facet_field(self) -> Option<&'static str> {
        Some(match self {
            Self::MessageReceived => "content.kind",
            Self::MessageSent => "origin",
            Self::MessageDeleted => "scope",
            Self::MessageVote => "target_kind",
            Self::MessageStatus => "status",
            Self::MessageFlagged => "flag",
            Self::PresenceUser
            | Self::PresenceChat
            | Self::CallUpdated
            | Self::InstancePairCode
            | Self::BotSession => "state",
            Self::ChatDeleted => "mode",
            Self::GroupParticipants
            | Self::GroupLifecycle
            | Self::NewsletterUpdated
            | Self::LabelUpdated
            | Self::LabelAssociation
            | Self::InstanceLifecycle => "action",
            Self::HistorySync => "sync_type",
            Self::MessageUndecryptable
            | Self::InstanceDisconnected
            | Self::InstanceLoggedOut
            | Self::EventUnknown => "reason",
            Self::InstanceError => "stage",
            Self::InstanceSync => "phase",
            Self::AccountUpdated => "topic",
            Self::TemplateUpdated => "aspect",
            _ => return None,
        })
    }

    /// The values its facet can have; `None` without a facet, and where the set is open
    /// (`account.updated`, whose topics are the upstream's).
    pub const fn facet_values(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::MessageReceived => ContentKind::NAMES,
            Self::MessageSent => Origin::NAMES,
            Self::MessageDeleted => DeletionScope::NAMES,
            Self::MessageVote => VoteTarget::NAMES,
            Self::MessageStatus => Status::NAMES,
            Self::MessageUndecryptable => UndecryptableReason::NAMES,
            Self::MessageFlagged => Flag::NAMES,
            Self::PresenceUser => PresenceState::NAMES,
            Self::PresenceChat => TypingState::NAMES,
            Self::ChatDeleted => ChatRemoval::NAMES,
            Self::GroupParticipants => ParticipantAction::NAMES,
            Self::GroupLifecycle => LifecycleAction::NAMES,
            Self::NewsletterUpdated => NewsletterAction::NAMES,
            Self::CallUpdated => CallState::NAMES,
            Self::LabelUpdated => LabelAction::NAMES,
            Self::LabelAssociation => Toggled::NAMES,
            Self::HistorySync => SyncType::NAMES,
            Self::InstanceDisconnected => ConnectionLoss::NAMES,
            Self::InstanceLoggedOut => LogoutReason::NAMES,
            Self::InstancePairCode => PairCodeState::NAMES,
            Self::InstanceError => ErrorStage::NAMES,
            Self::InstanceSync => SyncPhase::NAMES,
            Self::InstanceLifecycle => InstanceAction::NAMES,
            Self::TemplateUpdated => TemplateAspect::NAMES,
            Self::BotSession => BotState::NAMES,
            Self::EventUnknown => UnknownReason::NAMES,
            _ => return None,
        })
    }
}
