//! The six event names of `RyzeAPI`, and which canonical events each of them stands for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Filter, Kind, dialect::Fallback};

macro_rules! names {
    ($($variant:ident = $wire:literal, [$($pattern:literal),+]);+ $(;)?) => {
        /// An event name of `RyzeAPI`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Name { $(#[doc = concat!("`", $wire, "`")] $variant),+ }

        impl Name {
            /// Every name, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As it is sent and subscribed to.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire),+ }
            }

            /// The patterns of the canonical events it stands for.
            pub const fn patterns(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($pattern),+]),+ }
            }
        }
    };
}

names! {
    MessageExchange = "message.exchange", [
        "message.received", "message.sent", "message.edited", "message.deleted",
        "message.reaction", "message.vote"
    ];
    MessageStatus = "message.status", ["message.status"];
    CallUpdate = "call.update", ["call.updated"];
    GroupFlow = "group.flow", ["group.participants", "group.updated", "group.lifecycle"];
    InstanceState = "instance.state", [
        "instance.connecting", "instance.connected", "instance.disconnected",
        "instance.logged_out", "instance.banned", "instance.qr", "instance.pair_code",
        "instance.paired", "instance.error", "instance.sync"
    ];
    LabelUpdate = "label.update", ["label.updated", "label.association"];
}

/// The name under which an event goes for which there is none, with `fallback = "native"`.
pub(super) const NATIVE: &str = "gateway.native";

impl Name {
    /// The name with this text.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|known| known.as_str() == name).copied()
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A list of event names as a destination subscribes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Names {
    /// One bit per [`Name`].
    documented: u8,
    /// One bit per canonical type whose extension name is listed.
    extended: u64,
    /// `gateway.native` is listed.
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
    pub const ALL: Self = Self { documented: u8::MAX, extended: u64::MAX, native: true };

    /// No name at all.
    pub const NONE: Self = Self { documented: 0, extended: 0, native: false };

    /// Reads a list of names; an empty one means all. Beside the six there are the canonical types
    /// without a counterpart (`chat.updated`) and `gateway.native`, which only a `fallback` uses.
    ///
    /// # Errors
    /// Names the first that is none.
    pub fn parse<S: AsRef<str>>(list: &[S]) -> Result<Self, NameError> {
        if list.is_empty() {
            return Ok(Self::ALL);
        }
        let mut names = Self::NONE;
        for given in list {
            let given = given.as_ref();
            if let Some(name) = Name::find(given) {
                names.documented |= name.bit();
            } else if let Some(kind) =
                given.parse().ok().filter(|kind: &Kind| !kind.is_operational())
            {
                names.extended |= 1 << kind as u8;
            } else if given == NATIVE {
                names.native = true;
            } else {
                return Err(NameError { name: given.chars().take(64).collect() });
            }
        }
        Ok(names)
    }

    /// The names; of all, `RyzeAPI`'s own only.
    pub fn list(self) -> Vec<&'static str> {
        let own = Name::ALL.iter().filter(|name| self.contains(**name));
        let mut list: Vec<_> = own.map(|name| name.as_str()).collect();
        if self != Self::ALL {
            let extended = Kind::ALL.iter().filter(|kind| self.extended & (1 << **kind as u8) != 0);
            list.extend(extended.map(|kind| kind.as_str()));
            list.extend(self.native.then_some(NATIVE));
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

    /// The canonical events to look at for these names; `None` when there are none.
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
        let passes = |pattern: &&str| {
            pattern.parse().is_ok_and(|kind: Kind| match kind.facet_values() {
                Some(values) => values.iter().all(|facet| filter.matches(kind, Some(facet))),
                None => filter.matches(kind, None),
            })
        };
        let covered = Name::ALL.iter().filter(|name| name.patterns().iter().all(passes));
        covered.copied().collect()
    }
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid event: {name}")]
pub struct NameError {
    /// The name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::subsequence};

    use super::*;

    #[test]
    fn every_pattern_is_a_filter() {
        for name in Name::ALL {
            assert!(Filter::parse(name.patterns()).is_ok(), "{name}");
            assert_eq!(Name::find(name.as_str()), Some(*name));
        }
    }

    #[test]
    fn an_empty_list_is_all_six() {
        assert_eq!(Names::parse::<&str>(&[]), Ok(Names::ALL));
        assert_eq!(Names::ALL.list().len(), 6);
        let all = Names::ALL.filter(Fallback::Skip).unwrap();
        assert!(all.matches(Kind::MessageSent, Some("api")));
        assert!(!all.matches(Kind::InstanceLifecycle, Some("created")));
        assert!(!all.matches(Kind::PresenceChat, Some("typing")));
        assert_eq!(Names::ALL.filter(Fallback::Native), Some(Filter::default()));
        let error = Names::parse(&["message.exchange", "MESSAGES"]).unwrap_err();
        assert_eq!(error.to_string(), "Invalid event: MESSAGES");
        let chats = Names::parse(&["chat.updated"]).unwrap();
        assert_eq!(chats.filter(Fallback::Skip), None);
        assert_eq!(chats.filter(Fallback::Extended).unwrap().patterns(), ["chat.updated"]);
        let native = Names::parse(&[NATIVE]).unwrap();
        assert_eq!(native.filter(Fallback::Native), Some(Filter::default()));
        assert_eq!(native.list(), [NATIVE]);
    }

    proptest! {
        #[test]
        fn a_list_reads_back_and_its_filter_covers_just_it(
            names in subsequence(Name::ALL, 1..Name::ALL.len()),
        ) {
            let given: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            let read = Names::parse(&given).unwrap();
            prop_assert_eq!(read.list(), given);
            prop_assert_eq!(Names::covered_by(&read.filter(Fallback::Skip).unwrap()), names);
        }

        #[test]
        fn any_text_is_a_name_or_an_error(name in ".{0,80}") {
            let _ = Names::parse(&[&name]).map_err(|error| error.to_string());
        }
    }
}
