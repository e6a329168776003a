//! The closed set of event types.

mod facet;
mod order;

pub use order::OrderedBy;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

use crate::nearest::{nearest, shortened};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// The type of an event (`contracts`: 38 canonical types and the `destination.*` family).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[doc = $doc])+ $variant),+ }

        impl Kind {
            /// Every type, in catalog order.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];

            /// Its name on the wire, for example `message.received`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$variant => $name),+ }
            }

            /// One sentence on when it happens, for catalogs and forms.
            pub fn summary(self) -> &'static str {
                match self { $(Kind::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
        }

        impl FromStr for Kind {
            type Err = UnknownKind;

            fn from_str(name: &str) -> Result<Self, UnknownKind> {
                match name {
                    $($name => Ok(Kind::$variant),)+
                    _ => Err(UnknownKind::new(name)),
                }
            }
        }
    };
}

kinds! {
    /// Message from someone else.
    MessageReceived = "message.received",
    /// Message from this account, whatever device or API sent it.
    MessageSent = "message.sent",
    /// Content of an earlier message replaced.
    MessageEdited = "message.edited",
    /// Message revoked for all, or removed for this account only.
    MessageDeleted = "message.deleted",
    /// Emoji set or removed on a message.
    MessageReaction = "message.reaction",
    /// Answer to a poll or a calendar event.
    MessageVote = "message.vote",
    /// Delivery state of one message for one recipient.
    MessageStatus = "message.status",
    /// A message exists but its content could not be obtained (yet).
    MessageUndecryptable = "message.undecryptable",
    /// Star, pin or keep toggled.
    MessageFlagged = "message.flagged",
    /// A user went online or offline.
    PresenceUser = "presence.user",
    /// Typing, recording or paused in a chat.
    PresenceChat = "presence.chat",
    /// Chat created or its properties changed.
    ChatUpdated = "chat.updated",
    /// Chat deleted or cleared.
    ChatDeleted = "chat.deleted",
    /// Contact created or changed.
    ContactUpdated = "contact.updated",
    /// Group properties changed.
    GroupUpdated = "group.updated",
    /// Members added, removed, promoted, demoted, or a join request.
    GroupParticipants = "group.participants",
    /// This account joined or left, or the group was created, deleted, suspended, linked.
    GroupLifecycle = "group.lifecycle",
    /// Channel joined, left, muted, or live counters changed.
    NewsletterUpdated = "newsletter.updated",
    /// Call state changed.
    CallUpdated = "call.updated",
    /// Label created, changed, deleted.
    LabelUpdated = "label.updated",
    /// Label put on or taken off a chat or message.
    LabelAssociation = "label.association",
    /// One chunk of past chats, messages, contacts.
    HistorySync = "history.sync",
    /// Session is opening.
    InstanceConnecting = "instance.connecting",
    /// Session is usable.
    InstanceConnected = "instance.connected",
    /// Session is down, credentials still valid.
    InstanceDisconnected = "instance.disconnected",
    /// Credentials no longer valid.
    InstanceLoggedOut = "instance.logged_out",
    /// Temporary ban or account lock.
    InstanceBanned = "instance.banned",
    /// New QR to scan, or none left.
    InstanceQr = "instance.qr",
    /// Phone-number pairing code issued, refreshed, failed.
    InstancePairCode = "instance.pair_code",
    /// Device linked.
    InstancePaired = "instance.paired",
    /// Failure in pairing, connection, protocol or upstream API.
    InstanceError = "instance.error",
    /// Progress of offline or app-state sync.
    InstanceSync = "instance.sync",
    /// Instance created, deleted, loaded, unloaded.
    InstanceLifecycle = "instance.lifecycle",
    /// Own profile, privacy, WABA, phone number quality, limits.
    AccountUpdated = "account.updated",
    /// Message template status, quality, category, content.
    TemplateUpdated = "template.updated",
    /// Chatbot session started or changed.
    BotSession = "bot.session",
    /// Upstream or gateway process started.
    SystemStarted = "system.started",
    /// Anything not understood; kept whole.
    EventUnknown = "event.unknown",
    /// A destination delivers again.
    DestinationFlowing = "destination.flowing",
    /// A destination fails as a whole and is probed.
    DestinationProbing = "destination.probing",
    /// A destination was paused.
    DestinationPaused = "destination.paused",
    /// A destination was disabled.
    DestinationDisabled = "destination.disabled",
    /// Events owed to a destination were pruned for want of space.
    DestinationGap = "destination.gap",
}

impl Kind {
    /// The schema version of its `data`. New optional members do not raise it.
    pub const fn version(self) -> u16 {
        1
    }

    /// The part of its name before the dot: `message`, `group`, `destination`…
    pub fn family(self) -> &'static str {
        let name = self.as_str();
        name.split_once('.').map_or(name, |(family, _)| family)
    }

    /// The gateway's own operational family, which `*` does not match.
    pub const fn is_operational(self) -> bool {
        matches!(
            self,
            Self::DestinationFlowing
                | Self::DestinationProbing
                | Self::DestinationPaused
                | Self::DestinationDisabled
                | Self::DestinationGap
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

/// A name outside the catalog, with the names that come closest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event type {name:?}; the nearest are {}", .nearest.join(", "))]
pub struct UnknownKind {
    /// The name that was given.
    pub name: String,
    /// Up to three names of the catalog, nearest first.
    pub nearest: Vec<&'static str>,
}

impl UnknownKind {
    fn new(name: &str) -> Self {
        let nearest = nearest(name, Kind::ALL.iter().map(|kind| kind.as_str()));
        Self { name: shortened(name), nearest }
    }
}
