//! The payload of each type.
//!
//! Optional members are absent when unknown, never `""` or `0`. Lists and flags that are not
//! optional are always written here; a native caller may leave them out, which means empty and
//! false. Members that a shape does not know are ignored.

mod account;
mod call;
mod chat;
mod destination;
mod group;
mod history;
mod message;
mod session;

pub use account::{
    AccountUpdated, BotSession, BotState, EventUnknown, SystemStarted, Template, TemplateAspect,
    TemplateUpdated, UnknownReason,
};
pub use call::{CallDirection, CallState, CallUpdated};
pub use chat::{
    ChatDeleted, ChatRemoval, ChatUpdated, ContactPreference, ContactUpdated, Label, LabelAction,
    LabelAssociation, LabelTarget, LabelUpdated, Picture, PresenceChat, PresenceState,
    PresenceUser, Toggled, TypingState,
};
pub use destination::{DestinationChange, DestinationGap};
pub use group::{
    ChannelMessage, GroupLifecycle, GroupMetadata, GroupParticipants, GroupUpdated,
    LifecycleAction, NewsletterAction, NewsletterUpdated, Participant, ParticipantAction,
    ReactionCount,
};
pub use history::{HistoryCounts, HistoryMessage, HistorySync, SyncType};
pub use message::{
    Conversation, DeletionReason, DeletionScope, Flag, MessageDeleted, MessageEdited,
    MessageFlagged, MessageReaction, MessageReceived, MessageSent, MessageStatus,
    MessageUndecryptable, MessageVote, OptionVotes, Origin, Pricing, Status, UndecryptableReason,
    VoteTarget,
};
pub use session::{
    Account, ConnectionLoss, ErrorStage, InstanceAction, InstanceBanned, InstanceConnected,
    InstanceConnecting, InstanceDisconnected, InstanceError, InstanceLifecycle, InstanceLoggedOut,
    InstancePairCode, InstancePaired, InstanceQr, InstanceSync, LogoutReason, PairCodeState,
    QrFetch, SyncPhase,
};

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use crate::{
    Kind,
    fault::{Fault, read},
};

/// A payload that is not what its type demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {}{}{message}", .path, if .path.is_empty() { "" } else { ": " })]
pub struct DataError {
    /// The type it was read as.
    pub kind: Kind,
    /// The member at fault, for example `content.media.mime`; empty for the whole.
    pub path: String,
    /// What was expected there.
    pub message: String,
}

macro_rules! data {
    ($($variant:ident($shape:ty)),+ $(,)?) => {
        /// A payload with its type.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Data { $(#[doc = concat!("The payload of [`Kind::", stringify!($variant), "`].")] $variant($shape)),+ }

        impl Data {
            /// Its type.
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant),+ }
            }

            /// Reads a payload of this type.
            ///
            /// # Errors
            /// Names the member at fault and what was expected there.
            pub fn parse(kind: Kind, bytes: &[u8]) -> Result<Self, DataError> {
                let data = match kind { $(Kind::$variant => read(bytes).map(Self::$variant)),+ };
                data.map_err(|Fault { path, message }| DataError { kind, path, message })
            }

            /// Its JSON Schema (2020-12) by type.
            pub(crate) fn schema(kind: Kind) -> schemars::Schema {
                match kind { $(Kind::$variant => crate::schema::of::<$shape>()),+ }
            }
        }

        /// The payload's object alone, without its type.
        impl Serialize for Data {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(data) => data.serialize(serializer)),+ }
            }
        }
    };
}

data! {
    MessageReceived(MessageReceived),
    MessageSent(MessageSent),
    MessageEdited(MessageEdited),
    MessageDeleted(MessageDeleted),
    MessageReaction(MessageReaction),
    MessageVote(MessageVote),
    MessageStatus(MessageStatus),
    MessageUndecryptable(MessageUndecryptable),
    MessageFlagged(MessageFlagged),
    PresenceUser(PresenceUser),
    PresenceChat(PresenceChat),
    ChatUpdated(ChatUpdated),
    ChatDeleted(ChatDeleted),
    ContactUpdated(Box<ContactUpdated>),
    GroupUpdated(Box<GroupUpdated>),
    GroupParticipants(GroupParticipants),
    GroupLifecycle(GroupLifecycle),
    NewsletterUpdated(NewsletterUpdated),
    CallUpdated(Box<CallUpdated>),
    LabelUpdated(LabelUpdated),
    LabelAssociation(LabelAssociation),
    HistorySync(HistorySync),
    InstanceConnecting(InstanceConnecting),
    InstanceConnected(InstanceConnected),
    InstanceDisconnected(InstanceDisconnected),
    InstanceLoggedOut(InstanceLoggedOut),
    InstanceBanned(InstanceBanned),
    InstanceQr(InstanceQr),
    InstancePairCode(InstancePairCode),
    InstancePaired(InstancePaired),
    InstanceError(InstanceError),
    InstanceSync(InstanceSync),
    InstanceLifecycle(InstanceLifecycle),
    AccountUpdated(AccountUpdated),
    TemplateUpdated(TemplateUpdated),
    BotSession(BotSession),
    SystemStarted(SystemStarted),
    EventUnknown(EventUnknown),
    DestinationFlowing(DestinationChange),
    DestinationProbing(DestinationChange),
    DestinationPaused(DestinationChange),
    DestinationDisabled(DestinationChange),
    DestinationGap(DestinationGap),
}

/// The partition of what concerns the instance as a whole.
const INSTANCE: &str = "_instance";

impl Data {
    /// The payload as it is stored and sent.
    pub fn to_bytes(&self) -> Bytes {
        // No shape here has a map with keys that are not text, the one thing that can fail.
        serde_json::to_vec(self).unwrap_or_else(|_| b"{}".to_vec()).into()
    }

    /// The value of its facet field ([`Kind::facet_field`]).
    pub fn facet(&self) -> Option<&str> {
        Some(match self {
            Self::MessageReceived(data) => data.content.kind().as_str(),
            Self::MessageSent(data) => data.origin.as_str(),
            Self::MessageDeleted(data) => data.scope.as_str(),
            Self::MessageVote(data) => data.target_kind.as_str(),
            Self::MessageStatus(data) => data.status.as_str(),
            Self::MessageUndecryptable(data) => data.reason.as_str(),
            Self::MessageFlagged(data) => data.flag.as_str(),
            Self::PresenceUser(data) => data.state.as_str(),
            Self::PresenceChat(data) => data.state.as_str(),
            Self::ChatDeleted(data) => data.mode.as_str(),
            Self::GroupParticipants(data) => data.action.as_str(),
            Self::GroupLifecycle(data) => data.action.as_str(),
            Self::NewsletterUpdated(data) => data.action.as_str(),
            Self::CallUpdated(data) => data.state.as_str(),
            Self::LabelUpdated(data) => data.action.as_str(),
            Self::LabelAssociation(data) => data.action.as_str(),
            Self::HistorySync(data) => data.sync_type.as_str(),
            Self::InstanceDisconnected(data) => data.reason.as_str(),
            Self::InstanceLoggedOut(data) => data.reason.as_str(),
            Self::InstancePairCode(data) => data.state.as_str(),
            Self::InstanceError(data) => data.stage.as_str(),
            Self::InstanceSync(data) => data.phase.as_str(),
            Self::InstanceLifecycle(data) => data.action.as_str(),
            Self::AccountUpdated(data) => &data.topic,
            Self::TemplateUpdated(data) => data.aspect.as_str(),
            Self::BotSession(data) => data.state.as_str(),
            Self::EventUnknown(data) => data.reason.as_str(),
            Self::MessageEdited(_)
            | Self::MessageReaction(_)
            | Self::ChatUpdated(_)
            | Self::ContactUpdated(_)
            | Self::GroupUpdated(_)
            | Self::InstanceConnecting(_)
            | Self::InstanceConnected(_)
            | Self::InstanceBanned(_)
            | Self::InstanceQr(_)
            | Self::InstancePaired(_)
            | Self::SystemStarted(_)
            | Self::DestinationFlowing(_)
            | Self::DestinationProbing(_)
            | Self::DestinationPaused(_)
            | Self::DestinationDisabled(_)
            | Self::DestinationGap(_) => return None,
        })
    }

    /// The second half of its ordering key ([`Kind::ordered_by`]).
    pub fn partition(&self) -> Cow<'_, str> {
        let address = match self {
            Self::MessageReceived(data) => &data.chat,
            Self::MessageSent(data) => &data.chat,
            Self::MessageEdited(data) => &data.chat,
            Self::MessageDeleted(data) => &data.chat,
            Self::MessageReaction(data) => &data.chat,
            Self::MessageVote(data) => &data.chat,
            Self::MessageStatus(data) => &data.chat,
            Self::MessageUndecryptable(data) => &data.chat,
            Self::MessageFlagged(data) => &data.chat,
            Self::PresenceUser(data) => &data.user,
            Self::PresenceChat(data) => &data.chat,
            Self::ChatUpdated(data) => &data.chat,
            Self::ChatDeleted(data) => &data.chat,
            Self::ContactUpdated(data) => &data.contact,
            Self::GroupUpdated(data) => &data.group,
            Self::GroupParticipants(data) => &data.group,
            Self::GroupLifecycle(data) => &data.group,
            Self::NewsletterUpdated(data) => &data.newsletter,
            Self::CallUpdated(data) => return Cow::Borrowed(&data.call_id),
            Self::LabelAssociation(data) => &data.chat,
            Self::BotSession(data) => match &data.chat {
                Some(chat) => chat,
                None => return INSTANCE.into(),
            },
            Self::LabelUpdated(_)
            | Self::HistorySync(_)
            | Self::InstanceConnecting(_)
            | Self::InstanceConnected(_)
            | Self::InstanceDisconnected(_)
            | Self::InstanceLoggedOut(_)
            | Self::InstanceBanned(_)
            | Self::InstanceQr(_)
            | Self::InstancePairCode(_)
            | Self::InstancePaired(_)
            | Self::InstanceError(_)
            | Self::InstanceSync(_)
            | Self::InstanceLifecycle(_)
            | Self::AccountUpdated(_)
            | Self::TemplateUpdated(_)
            | Self::SystemStarted(_)
            | Self::EventUnknown(_) => return INSTANCE.into(),
            Self::DestinationFlowing(data)
            | Self::DestinationProbing(data)
            | Self::DestinationPaused(data)
            | Self::DestinationDisabled(data) => {
                return format!("_destination/{}", data.destination).into();
            }
            Self::DestinationGap(data) => {
                return format!("_destination/{}", data.destination).into();
            }
        };
        address.ordering_id()
    }
}
