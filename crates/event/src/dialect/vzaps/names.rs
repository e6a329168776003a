//! The names that VZaps documents, however they are spelled, and what they select.

use super::naming::documented;
use crate::{Filter, Kind};

/// Selects everything that the dialect can write.
pub const ALL: &str = "All";

/// Every documented name, with the types behind it.
const NAMES: [(&str, &[&str]); 9] = [
    (
        "Message",
        &[
            "message.received",
            "message.sent",
            "message.edited",
            "message.deleted",
            "message.reaction",
            "message.vote",
        ],
    ),
    ("ReadReceipt", &["message.status"]),
    ("Presence", &["presence.user"]),
    ("ChatPresence", &["presence.chat"]),
    ("HistorySync", &["history.sync"]),
    ("Connected", &["instance.connected"]),
    ("Disconnected", &["instance.disconnected", "instance.logged_out"]),
    ("GroupParticipantsAdd", &["group.participants:add"]),
    ("GroupParticipantsRemove", &["group.participants:remove"]),
];

/// A name that VZaps does not document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event {name:?}; there are {}, {ALL}", known())]
pub struct UnknownName {
    /// As it was given, shortened.
    pub name: String,
}

fn known() -> String {
    NAMES.map(|(name, _)| name).join(", ")
}

/// The documented name that is meant: case and underscores do not matter (`read_receipt`,
/// `readreceipt`).
pub fn documented_name(text: &str) -> Option<&'static str> {
    let plain = |text: &str| {
        text.chars().filter(|c| !matches!(c, '_' | '-')).collect::<String>().to_ascii_lowercase()
    };
    let wanted = plain(text.trim());
    let names = NAMES.iter().map(|(name, _)| *name).chain([ALL]);
    names.into_iter().find(|name| name.to_ascii_lowercase() == wanted)
}

/// Names as they are documented, each once and in the documented order; `All` alone if it is among
/// them.
///
/// # Errors
/// The first that is none.
pub fn read<S: AsRef<str>>(given: &[S]) -> Result<Vec<&'static str>, UnknownName> {
    let mut found = Vec::with_capacity(given.len());
    for text in given {
        let name = documented_name(text.as_ref())
            .ok_or_else(|| UnknownName { name: text.as_ref().chars().take(64).collect() })?;
        found.push(name);
    }
    Ok(in_order(&found))
}

/// The documented names among those given; the others are left out.
pub fn known_among<S: AsRef<str>>(given: &[S]) -> Vec<&'static str> {
    let found: Vec<_> = given.iter().filter_map(|text| documented_name(text.as_ref())).collect();
    in_order(&found)
}

fn in_order(found: &[&'static str]) -> Vec<&'static str> {
    if found.contains(&ALL) {
        return vec![ALL];
    }
    NAMES.iter().map(|(name, _)| *name).filter(|name| found.contains(name)).collect()
}

/// What documented names select. `All` and no name at all select everything.
pub fn filter(names: &[&str]) -> Filter {
    let patterns: Vec<&str> = NAMES
        .iter()
        .filter(|(name, _)| names.contains(name))
        .flat_map(|(_, patterns)| patterns.iter().copied())
        .collect();
    if names.contains(&ALL) {
        return Filter::default();
    }
    // Every pattern of the table is one: a test parses them all.
    Filter::parse(&patterns).unwrap_or_default()
}

/// The documented names of what a filter lets through; `All` for one that lets everything through.
pub fn names(filter: &Filter) -> Vec<&'static str> {
    if filter.patterns().iter().any(|pattern| pattern == "*") {
        return vec![ALL];
    }
    NAMES.iter().map(|(name, _)| *name).filter(|name| lets_through(filter, name)).collect()
}

fn lets_through(filter: &Filter, name: &str) -> bool {
    Kind::ALL.iter().any(|kind| {
        let without = documented(*kind, None) == Some(name) && filter.matches(*kind, None);
        let facets = kind.facet_values().unwrap_or_default();
        without
            || facets.iter().any(|facet| {
                documented(*kind, Some(facet)) == Some(name) && filter.matches(*kind, Some(facet))
            })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_name_selects_what_is_written_under_it() {
        for (name, patterns) in NAMES {
            let filter = Filter::parse(patterns).expect(name);
            assert_eq!(names(&filter), [name]);
            for kind in Kind::ALL {
                for facet in kind.facet_values().unwrap_or(&[""]) {
                    let facet = Some(*facet).filter(|facet| !facet.is_empty());
                    if documented(*kind, facet) == Some(name) {
                        assert!(filter.matches(*kind, facet), "{name} {kind} {facet:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for text in ["ReadReceipt", "readreceipt", "read_receipt", "READ_RECEIPT", " readReceipt "]
        {
            assert_eq!(documented_name(text), Some("ReadReceipt"), "{text}");
        }
        for text in ["Receipt", "MessageDelivered", "MessageRead", "", "qr", "unknown"] {
            assert_eq!(documented_name(text), None, "{text}");
        }
        let error = read(&["Message", "Receipt"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown event \"Receipt\"; there are Message, ReadReceipt, Presence, ChatPresence, \
             HistorySync, Connected, Disconnected, GroupParticipantsAdd, \
             GroupParticipantsRemove, All"
        );
        assert_eq!(known_among(&["qr", "connected", "message"]), ["Message", "Connected"]);
        assert_eq!(read(&["Message", "all"]).unwrap(), [ALL]);
    }

    #[test]
    fn a_filter_of_our_own_shows_the_names_it_lets_through() {
        let filter = Filter::parse(&["message.status:read", "group.*", "chat.*"]).unwrap();
        let shown = names(&filter);
        assert_eq!(shown, ["ReadReceipt", "GroupParticipantsAdd", "GroupParticipantsRemove"]);
        // Only acknowledged by the server: nothing of that is sent.
        assert!(names(&Filter::parse(&["message.status:sent"]).unwrap()).is_empty());
    }

    proptest! {
        #[test]
        fn names_come_back_as_they_were_set(chosen in proptest::sample::subsequence(
            NAMES.map(|(name, _)| name).to_vec(), 1..=NAMES.len(),
        )) {
            prop_assert_eq!(names(&filter(&chosen)), chosen);
        }
    }
}
