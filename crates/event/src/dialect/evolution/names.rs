//! The event names of Evolution API, and which canonical events each of them stands for.
//!
//! Source: `src/api/integrations/event/event.controller.ts` and `src/api/types/wa.types.ts` of
//! Evolution API 2.2 to 2.4.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Filter, Kind, dialect::Fallback};

macro_rules! names {
    ($($variant:ident = $wire:literal, $subscription:literal, [$($pattern:literal),+]);+ $(;)?) => {
        /// An event name of Evolution API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Name { $(#[doc = concat!("`", $wire, "`")] $variant),+ }

        impl Name {
            /// Every name, in the order of Evolution's documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it is sent: `messages.upsert`.
            pub const fn wire(self) -> &'static str {
                match self { $(Self::$variant => $wire),+ }
            }

            /// As it is subscribed to: `MESSAGES_UPSERT`.
            pub const fn subscription(self) -> &'static str {
                match self { $(Self::$variant => $subscription),+ }
            }

            /// The patterns of the canonical events it stands for.
            pub const fn patterns(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($pattern),+]),+ }
            }
        }
    };
}

names! {
    ApplicationStartup = "application.startup", "APPLICATION_STARTUP", ["system.started"];
    InstanceCreate = "instance.create", "INSTANCE_CREATE", ["instance.lifecycle:created"];
    InstanceDelete = "instance.delete", "INSTANCE_DELETE", ["instance.lifecycle:deleted"];
    RemoveInstance = "remove.instance", "REMOVE_INSTANCE", [
        "instance.lifecycle:unloaded", "instance.lifecycle:deleted"
    ];
    LogoutInstance = "logout.instance", "LOGOUT_INSTANCE", ["instance.logged_out"];
    StatusInstance = "status.instance", "STATUS_INSTANCE", ["instance.disconnected"];
    QrcodeUpdated = "qrcode.updated", "QRCODE_UPDATED", ["instance.qr", "instance.pair_code"];
    ConnectionUpdate = "connection.update", "CONNECTION_UPDATE", [
        "instance.connecting", "instance.connected", "instance.disconnected",
        "instance.logged_out", "instance.banned"
    ];
    MessagesSet = "messages.set", "MESSAGES_SET", ["history.sync"];
    MessagesUpsert = "messages.upsert", "MESSAGES_UPSERT", [
        "message.received", "message.sent:device", "message.sent:unknown", "message.reaction",
        // Upstream's own bodies keep their name, whatever they are to us.
        "message.vote", "message.edited", "message.deleted"
    ];
    MessagesEdited = "messages.edited", "MESSAGES_EDITED", ["message.edited", "message.deleted"];
    MessagesUpdate = "messages.update", "MESSAGES_UPDATE", ["message.status", "message.vote"];
    MessagesDelete = "messages.delete", "MESSAGES_DELETE", ["message.deleted"];
    SendMessage = "send.message", "SEND_MESSAGE", ["message.sent:api"];
    SendMessageUpdate = "send.message.update", "SEND_MESSAGE_UPDATE", ["message.edited"];
    ContactsSet = "contacts.set", "CONTACTS_SET", ["history.sync"];
    ContactsUpsert = "contacts.upsert", "CONTACTS_UPSERT", ["contact.updated"];
    ContactsUpdate = "contacts.update", "CONTACTS_UPDATE", ["contact.updated"];
    PresenceUpdate = "presence.update", "PRESENCE_UPDATE", ["presence.user", "presence.chat"];
    ChatsSet = "chats.set", "CHATS_SET", ["history.sync"];
    ChatsUpsert = "chats.upsert", "CHATS_UPSERT", ["chat.updated"];
    ChatsUpdate = "chats.update", "CHATS_UPDATE", ["chat.updated"];
    ChatsDelete = "chats.delete", "CHATS_DELETE", ["chat.deleted"];
    GroupsUpsert = "groups.upsert", "GROUPS_UPSERT", [
        "group.lifecycle:created", "group.lifecycle:joined"
    ];
    // Upstream's lists hold GROUP_UPDATE, which its own conversion of the wire name never gives.
    GroupUpdate = "groups.update", "GROUP_UPDATE", [
        "group.updated", "group.lifecycle:left", "group.lifecycle:deleted",
        "group.lifecycle:suspended", "group.lifecycle:unsuspended", "group.lifecycle:linked",
        "group.lifecycle:unlinked"
    ];
    GroupParticipantsUpdate = "group-participants.update", "GROUP_PARTICIPANTS_UPDATE", [
        "group.participants:add", "group.participants:remove", "group.participants:promote",
        "group.participants:demote"
    ];
    LabelsEdit = "labels.edit", "LABELS_EDIT", ["label.updated"];
    LabelsAssociation = "labels.association", "LABELS_ASSOCIATION", ["label.association"];
    Call = "call", "CALL", [
        "call.updated:offer", "call.updated:notice", "call.updated:ringing",
        "call.updated:accepted", "call.updated:rejected", "call.updated:terminated",
        "call.updated:missed", "call.updated:ended_elsewhere"
    ];
    TypebotStart = "typebot.start", "TYPEBOT_START", ["bot.session:started"];
    TypebotChangeStatus = "typebot.change-status", "TYPEBOT_CHANGE_STATUS", [
        "bot.session:opened", "bot.session:paused", "bot.session:closed", "bot.session:unknown"
    ];
    MessagingHistorySet = "messaging-history.set", "MESSAGING_HISTORY_SET", ["history.sync"];
}

/// Names that only the lists of version 1 hold. Nothing is ever sent under them.
const RETIRED: [&str; 3] = ["NEW_JWT_TOKEN", "NEW_TOKEN", "CHAMA_AI_ACTION"];

/// The name under which an event goes that Evolution has no name for, with `fallback = "native"`.
pub(super) const NATIVE: &str = "gateway.native";

/// A name in the form of subscriptions: `group-participants.update` is
/// `GROUP_PARTICIPANTS_UPDATE`.
pub fn subscription_form(name: &str) -> String {
    name.replace(['.', '-'], "_").to_uppercase()
}

/// A name as the last segment of a URL, where each event has its own (`byEvents`):
/// `messages.upsert` is `messages-upsert`.
pub fn segment(wire: &str) -> String {
    wire.replace(['.', '_'], "-").to_lowercase()
}

impl Name {
    /// The name in any of its forms: of the wire, of subscriptions, of URLs.
    pub fn find(name: &str) -> Option<Self> {
        // Longer than any of them; the copies below stay small.
        if name.len() > 64 {
            return None;
        }
        let form = subscription_form(name);
        // Both spellings of the one name that upstream itself spells in two ways.
        let form = if form == "GROUPS_UPDATE" { "GROUP_UPDATE" } else { &form };
        Self::ALL.iter().find(|known| known.subscription() == form).copied()
    }

    const fn bit(self) -> u64 {
        1 << self as u8
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wire())
    }
}

/// A list of event names as a destination subscribes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Names {
    /// One bit per [`Name`].
    documented: u64,
    /// One bit per canonical type whose extension name is listed.
    extended: u64,
    /// `GATEWAY_NATIVE` is listed.
    native: bool,
}

/// All of them.
impl Default for Names {
    fn default() -> Self {
        Self::ALL
    }
}

impl Names {
    /// What an empty list means.
    pub const ALL: Self = Self { documented: u64::MAX, extended: u64::MAX, native: true };

    /// No name at all.
    pub const NONE: Self = Self { documented: 0, extended: 0, native: false };

    /// Reads a list in any form of the names; an empty one means all. Names that Evolution had
    /// once are taken and mean nothing. Beside its own names there are the extension names of
    /// canonical types (`INSTANCE_PAIRED`) and `GATEWAY_NATIVE`, which only a `fallback` uses.
    ///
    /// # Errors
    /// The place of the first name that is none.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Self, NameError> {
        if list.is_empty() {
            return Ok(Self::ALL);
        }
        let mut names = Self::NONE;
        for (place, given) in list.iter().enumerate() {
            let given = given.as_ref();
            if let Some(name) = Name::find(given) {
                names.documented |= name.bit();
            } else if let Some(kind) = extension(given) {
                names.extended |= 1 << kind as u8;
            } else if given.len() <= 64 && subscription_form(given) == subscription_form(NATIVE) {
                names.native = true;
            } else if !RETIRED.contains(&given) {
                return Err(NameError { place });
            }
        }
        Ok(names)
    }

    /// The names in the form of subscriptions; of all, Evolution's own only.
    pub fn list(self) -> Vec<String> {
        let own = Name::ALL.iter().filter(|name| self.contains(**name));
        let mut list: Vec<_> = own.map(|name| name.subscription().to_owned()).collect();
        if self != Self::ALL {
            let extended = Kind::ALL.iter().filter(|kind| self.extended & (1 << **kind as u8) != 0);
            list.extend(extended.map(|kind| subscription_form(kind.as_str())));
            list.extend(self.native.then(|| subscription_form(NATIVE)));
        }
        list
    }

    /// Whether this name is among them.
    pub const fn contains(self, name: Name) -> bool {
        self.documented & name.bit() != 0
    }

    /// Whether what has this name on the wire is wanted.
    pub(super) fn want(self, wire: &str) -> bool {
        match Name::find(wire) {
            Some(name) => self.contains(name),
            None if wire == NATIVE => self.native,
            None => match wire.parse::<Kind>() {
                Ok(kind) => self.extended & (1 << kind as u8) != 0,
                Err(_) => self == Self::ALL,
            },
        }
    }

    /// The canonical events to look at for these names; `None` when there are none. Several names
    /// may stand for one canonical type: what is encoded has one of them, and
    /// [`super::encode`] leaves out what is not listed.
    pub fn filter(self, fallback: Fallback) -> Option<Filter> {
        let has_fallback = fallback != Fallback::Skip;
        if has_fallback && (self.native && fallback == Fallback::Native || self == Self::ALL) {
            return Some(Filter::default());
        }
        let own = Name::ALL.iter().filter(|name| self.contains(**name));
        let mut patterns: Vec<&str> = own.flat_map(|name| name.patterns()).copied().collect();
        if has_fallback {
            let extended = Kind::ALL.iter().filter(|kind| self.extended & (1 << **kind as u8) != 0);
            patterns.extend(extended.map(|kind| kind.as_str()));
        }
        // An empty list of patterns would mean everything.
        let filter = (!patterns.is_empty()).then(|| Filter::parse(&patterns))?;
        Some(filter.expect("the table has patterns that are filters, as a test checks"))
    }

    /// The names of which a filter passes every event, in the order of [`Name::ALL`].
    pub fn covered_by(filter: &Filter) -> Vec<Name> {
        let passes = |pattern: &&str| match pattern.split_once(':') {
            Some((kind, facet)) => kind.parse().is_ok_and(|kind| filter.matches(kind, Some(facet))),
            None => pattern.parse().is_ok_and(|kind: Kind| match kind.facet_values() {
                Some(values) => values.iter().all(|facet| filter.matches(kind, Some(facet))),
                None => filter.matches(kind, None),
            }),
        };
        let covered = Name::ALL.iter().filter(|name| name.patterns().iter().all(passes));
        covered.copied().collect()
    }
}

/// The canonical type whose extension name this is.
fn extension(name: &str) -> Option<Kind> {
    if name.len() > 64 {
        return None;
    }
    let form = subscription_form(name);
    Kind::ALL
        .iter()
        .find(|kind| !kind.is_operational() && subscription_form(kind.as_str()) == form)
        .copied()
}

/// As a list; all of them as `null`, since the list may also be of names that mean nothing.
impl Serialize for Names {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (*self != Self::ALL).then(|| self.list()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Option::<Vec<String>>::deserialize(deserializer)? {
            None => Ok(Self::ALL),
            Some(list) if list.is_empty() => Ok(Self::NONE),
            Some(list) => Self::parse(&list).map_err(de::Error::custom),
        }
    }
}

/// A list with a name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events[{place}] is not one of enum values: {}", known())]
pub struct NameError {
    /// The place of the name, counted from 0.
    pub place: usize,
}

fn known() -> String {
    Name::ALL.iter().map(|name| name.subscription()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::subsequence};

    use super::*;

    #[test]
    fn every_pattern_is_a_filter_and_every_name_finds_itself() {
        for name in Name::ALL {
            assert!(Filter::parse(name.patterns()).is_ok(), "{name}");
            for form in
                [name.wire().to_owned(), name.subscription().to_owned(), segment(name.wire())]
            {
                assert_eq!(Name::find(&form), Some(*name), "{form}");
            }
            // Upstream's conversion gives the subscription, but for the one it misspells.
            let form = subscription_form(name.wire());
            assert!(form == name.subscription() || *name == Name::GroupUpdate);
        }
        assert_eq!(Name::find("GROUPS_UPDATE"), Some(Name::GroupUpdate));
        assert_eq!(Name::find("starlink.update"), None);
    }

    #[test]
    fn segments_are_those_of_upstream() {
        let table = [
            ("messages.upsert", "messages-upsert"),
            ("group-participants.update", "group-participants-update"),
            ("groups.update", "groups-update"),
            ("typebot.change-status", "typebot-change-status"),
            ("send.message.update", "send-message-update"),
            ("call", "call"),
        ];
        for (wire, expected) in table {
            assert_eq!(segment(wire), expected);
        }
    }

    #[test]
    fn an_empty_list_is_all_and_retired_names_are_nothing() {
        assert_eq!(Names::parse::<&str>(&[]), Ok(Names::ALL));
        assert_eq!(Names::ALL.list().len(), Name::ALL.len());
        let retired = Names::parse(&RETIRED).unwrap();
        assert_eq!((retired.list(), retired.filter(Fallback::Skip)), (Vec::new(), None));
        assert_eq!(Names::parse(&["CALL", "NOPE"]), Err(NameError { place: 1 }));
        let error = Names::parse(&["x"]).unwrap_err().to_string();
        assert!(error.starts_with("events[0] is not one of enum values: APPLICATION_STARTUP,"));
    }

    #[test]
    fn all_means_the_documented_names_unless_something_else_may_be_sent() {
        let skip = Names::ALL.filter(Fallback::Skip).unwrap();
        assert!(!skip.matches(Kind::EventUnknown, Some("not_json")));
        assert!(!skip.matches(Kind::CallUpdated, Some("signal")));
        assert!(skip.matches(Kind::MessageSent, Some("unknown")));
        assert_eq!(Names::ALL.filter(Fallback::Extended), Some(Filter::default()));
        let paired = Names::parse(&["INSTANCE_PAIRED"]).unwrap();
        assert_eq!(paired.filter(Fallback::Skip), None);
        let filter = paired.filter(Fallback::Extended).unwrap();
        assert_eq!(filter.patterns(), ["instance.paired"]);
        let native = Names::parse(&["GATEWAY_NATIVE"]).unwrap();
        assert_eq!(native.filter(Fallback::Native), Some(Filter::default()));
        assert_eq!(native.list(), ["GATEWAY_NATIVE"]);
    }

    proptest! {
        #[test]
        fn a_list_reads_back_and_its_filter_covers_it(
            names in subsequence(Name::ALL, 1..Name::ALL.len()),
        ) {
            let given: Vec<_> = names.iter().map(|name| name.subscription()).collect();
            let read = Names::parse(&given).unwrap();
            prop_assert_eq!(read.list(), given);
            let filter = read.filter(Fallback::Skip).unwrap();
            let covered = Names::covered_by(&filter);
            prop_assert!(names.iter().all(|name| covered.contains(name)));
            // Nothing is looked at for which no name stands.
            let again: Vec<_> = covered.iter().map(|name| name.wire()).collect();
            prop_assert_eq!(Names::parse(&again).unwrap().filter(Fallback::Skip), Some(filter));
        }

        #[test]
        fn any_text_is_a_name_or_an_error(name in ".{0,80}") {
            let _ = Names::parse(&[&name]).map_err(|error| error.to_string());
            let _ = Name::find(&name);
        }
    }
}
