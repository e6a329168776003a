//! What an instance does not take: its owner has said so, and sources bring it all the same.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zapbus_event::{Draft, Kind, shape::AddressKind};

/// Where it stands in an instance's settings.
const MEMBER: &str = "ignored";

/// Events that are left out before they are stored. Nobody ever gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ignored {
    /// Messages of groups, and whatever is done to them.
    pub groups: bool,
    /// The same of the status feed.
    pub status: bool,
    /// The past: chunks of history, and messages that are repeated from it.
    pub history: bool,
}

impl Ignored {
    /// What the settings of an instance say. Those that cannot be read say nothing: an event too
    /// many is better than one too few.
    pub fn of(settings: &Value) -> Self {
        settings.get(MEMBER).and_then(|it| Self::deserialize(it).ok()).unwrap_or_default()
    }

    /// As a part of an instance's settings.
    pub fn settings(self) -> Value {
        json!({ MEMBER: { "groups": self.groups, "status": self.status, "history": self.history } })
    }

    /// Whether an event is to be stored.
    pub fn takes(self, draft: &Draft) -> bool {
        let is_message = draft.kind.as_str().starts_with("message.");
        if self.history && (draft.kind == Kind::HistorySync || is_message && draft.history) {
            return false;
        }
        if !is_message || !(self.groups || self.status) {
            return true;
        }
        match chat_of(&draft.data) {
            Some(AddressKind::Group) => !self.groups,
            Some(AddressKind::Status) => !self.status,
            _ => true,
        }
    }
}

/// What sort of chat a payload is about, as far as it says.
fn chat_of(data: &[u8]) -> Option<AddressKind> {
    #[derive(Deserialize)]
    struct About {
        chat: Chat,
    }
    #[derive(Deserialize)]
    struct Chat {
        kind: AddressKind,
    }
    serde_json::from_slice::<About>(data).ok().map(|about| about.chat.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: &str, chat: &str, history: bool) -> Draft {
        let address = json!({ "id": "1@x", "kind": chat });
        let event = json!({
            "type": kind,
            "history": history,
            "data": {
                "message": { "id": "1", "chat": "1@x", "from_me": false },
                "chat": address,
                "sender": { "id": "2@s.whatsapp.net", "kind": "user" },
                "content": { "kind": "text", "body": "x" },
            },
        });
        Draft::native(event.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_what_is_named_is_left_out() {
        let nothing = Ignored::default();
        let groups = Ignored { groups: true, ..nothing };
        let status = Ignored { status: true, ..nothing };
        let history = Ignored { history: true, ..nothing };
        let [of_group, of_status, of_user] =
            ["group", "status", "user"].map(|kind| message("message.received", kind, false));
        let old = message("message.received", "user", true);
        let table = [
            (&of_group, [true, false, true, true]),
            (&of_status, [true, true, false, true]),
            (&of_user, [true, true, true, true]),
            (&old, [true, true, true, false]),
        ];
        for (draft, expected) in table {
            let found = [nothing, groups, status, history].map(|it| it.takes(draft));
            assert_eq!(found, expected, "{draft:?}");
        }
        let other = br#"{"type": "instance.connected", "data": {}, "history": true}"#;
        let other = Draft::native(other).unwrap();
        assert!(Ignored { groups: true, status: true, history: true }.takes(&other));
    }

    #[test]
    fn settings_read_back() {
        let ignored = Ignored { groups: true, status: false, history: true };
        assert_eq!(Ignored::of(&ignored.settings()), ignored);
        for unreadable in [json!({}), json!(null), json!({ "ignored": 7 })] {
            assert_eq!(Ignored::of(&unreadable), Ignored::default());
        }
    }
}
