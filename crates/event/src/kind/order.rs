//! What events of a type are ordered by.

use crate::Kind;

/// The partition rule of a type: events of one instance with equal partitions keep their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderedBy {
    /// The chat's address.
    Chat,
    /// The group's address, which is also its chat's.
    Group,
    /// The call's id.
    Call,
    /// The user's address.
    User,
    /// The channel's address.
    Newsletter,
    /// The instance as a whole: the partition `_instance`.
    Instance,
    /// The destination: the partition `_destination/<id>`.
    Destination,
}

impl Kind {
    /// What its events are ordered by. `bot.session` without a chat falls back to the instance.
    pub const fn ordered_by(self) -> OrderedBy {
        match self {
            Self::MessageReceived
            | Self::MessageSent
            | Self::MessageEdited
            | Self::MessageDeleted
            | Self::MessageReaction
            | Self::MessageVote
            | Self::MessageStatus
            | Self::MessageUndecryptable
            | Self::MessageFlagged
            | Self::PresenceChat
            | Self::ChatUpdated
            | Self::ChatDeleted
            | Self::LabelAssociation
            | Self::BotSession => OrderedBy::Chat,
            Self::GroupUpdated | Self::GroupParticipants | Self::GroupLifecycle => OrderedBy::Group,
            Self::CallUpdated => OrderedBy::Call,
            Self::ContactUpdated | Self::PresenceUser => OrderedBy::User,
            Self::NewsletterUpdated => OrderedBy::Newsletter,
            Self::LabelUpdated
            | Self::HistorySync
            | Self::InstanceConnecting
            | Self::InstanceConnected
            | Self::InstanceDisconnected
            | Self::InstanceLoggedOut
            | Self::InstanceBanned
            | Self::InstanceQr
            | Self::InstancePairCode
            | Self::InstancePaired
            | Self::InstanceError
            | Self::InstanceSync
            | Self::InstanceLifecycle
            | Self::AccountUpdated
            | Self::TemplateUpdated
            | Self::SystemStarted
            | Self::EventUnknown => OrderedBy::Instance,
            Self::DestinationFlowing
            | Self::DestinationProbing
            | Self::DestinationPaused
            | Self::DestinationDisabled
            | Self::DestinationGap => OrderedBy::Destination,
        }
    }

    /// Whether an event of this type and facet is worth little after seconds: presence, and
    /// signals inside a call.
    pub fn is_ephemeral(self, facet: Option<&str>) -> bool {
        match self {
            Self::PresenceUser | Self::PresenceChat => true,
            Self::CallUpdated => facet == Some("signal"),
            _ => false,
        }
    }
}
