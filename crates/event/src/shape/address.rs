//! Who and where: people, groups, channels.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::closed::closed;

closed! {
    /// What an address names.
    AddressKind {
        /// A person by phone number.
        User = "user",
        /// A person by a privacy id.
        Lid = "lid",
        Group = "group",
        /// A channel.
        Newsletter = "newsletter",
        /// A broadcast list.
        Broadcast = "broadcast",
        /// The status feed.
        Status = "status",
        Bot = "bot",
        /// A person by a business-scoped user id.
        Bsuid = "bsuid",
        Unknown = "unknown",
    }
}

/// A person, group or channel, as reported with one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// `user@server`, without a device part.
    pub id: String,
    /// What it names.
    pub kind: AddressKind,
    /// Phone number as reported: digits only, no `+`, never repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// `…@lid`, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lid: Option<String>,
    /// Business-scoped user id (Cloud API).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Public user name (Cloud API).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The device part that was removed from the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
    /// Push name or profile name as reported with this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Address {
    /// Normalises `user[.agent][:device]@server`: `@c.us` becomes `@s.whatsapp.net`, agent and
    /// device are removed. Text without a server stays as it is, of kind `unknown`.
    pub fn parse(text: &str) -> Self {
        let Some((user, server)) = text.rsplit_once('@') else {
            return Self::bare(text.to_owned(), AddressKind::Unknown);
        };
        let server = if server == "c.us" { "s.whatsapp.net" } else { server };
        let kind = match (user, server) {
            (_, "s.whatsapp.net" | "hosted") => AddressKind::User,
            (_, "lid" | "hosted.lid") => AddressKind::Lid,
            (_, "g.us") => AddressKind::Group,
            (_, "newsletter") => AddressKind::Newsletter,
            ("status", "broadcast") => AddressKind::Status,
            (_, "broadcast") => AddressKind::Broadcast,
            (_, "bot") => AddressKind::Bot,
            (_, "bsuid") => AddressKind::Bsuid,
            _ => AddressKind::Unknown,
        };
        let (user, device) = match kind {
            AddressKind::User | AddressKind::Lid | AddressKind::Bot => without_device(user),
            _ => (user, None),
        };
        let mut address = Self::bare(format!("{user}@{server}"), kind);
        address.device = device;
        match kind {
            AddressKind::User if is_digits(user) => address.phone = Some(user.to_owned()),
            AddressKind::Lid => address.lid = Some(address.id.clone()),
            AddressKind::Bsuid => address.user_id = Some(user.to_owned()),
            _ => {}
        }
        address
    }

    /// A person by phone number, in whatever form (`+55 11 …`): only the digits count. Text
    /// that already has a server is taken as [`Self::parse`] does. Text with letters is no number:
    /// a business-scoped user id if it looks like one, otherwise of kind `unknown`.
    pub fn phone(number: &str) -> Self {
        if number.contains('@') {
            return Self::parse(number);
        }
        if number.contains(char::is_alphabetic) {
            return match is_bsuid(number) {
                true => Self::bsuid(number),
                false => Self::bare(number.to_owned(), AddressKind::Unknown),
            };
        }
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        if digits.is_empty() {
            return Self::bare(number.to_owned(), AddressKind::Unknown);
        }
        let mut address = Self::bare(format!("{digits}@s.whatsapp.net"), AddressKind::User);
        address.phone = Some(digits);
        address
    }

    /// A group; `@g.us` is added only if there is no server.
    pub fn group(id: &str) -> Self {
        if id.contains('@') {
            return Self::parse(id);
        }
        Self::bare(format!("{id}@g.us"), AddressKind::Group)
    }

    /// A person known only by a business-scoped user id.
    pub fn bsuid(user_id: &str) -> Self {
        let mut address = Self::bare(format!("{user_id}@bsuid"), AddressKind::Bsuid);
        address.user_id = Some(user_id.to_owned());
        address
    }

    /// With the name reported beside it.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The form by phone number, `…@s.whatsapp.net`, as far as the number is known.
    pub fn phone_id(&self) -> Option<String> {
        self.phone.as_ref().map(|phone| format!("{phone}@s.whatsapp.net"))
    }

    /// Under which its events are kept in order: a person named by a privacy id whose number is
    /// known shares the order of that number.
    pub fn ordering_id(&self) -> Cow<'_, str> {
        match self.phone_id() {
            Some(phone) if self.kind == AddressKind::Lid => phone.into(),
            _ => Cow::Borrowed(&self.id),
        }
    }

    /// Taken literally: nothing is derived from the id.
    pub fn bare(id: String, kind: AddressKind) -> Self {
        Self {
            id,
            kind,
            phone: None,
            lid: None,
            user_id: None,
            username: None,
            device: None,
            name: None,
        }
    }
}

/// Whether text has the form of a business-scoped user id: `BR.…`, `US.ENT.…`.
pub(crate) fn is_bsuid(text: &str) -> bool {
    match text.as_bytes() {
        [first, second, b'.', _, ..] => {
            first.is_ascii_uppercase() && second.is_ascii_uppercase() && !text.contains('@')
        }
        _ => false,
    }
}

/// Splits `user[.agent][:device]`. Only digits count as agent and device.
fn without_device(user: &str) -> (&str, Option<u32>) {
    let (user, device) = match user.split_once(':') {
        Some((user, device)) => match device.parse() {
            Ok(device) => (user, Some(device)),
            Err(_) => (user, None),
        },
        None => (user, None),
    };
    match user.split_once('.') {
        Some((name, agent)) if is_digits(name) && is_digits(agent) => (name, device),
        _ => (user, device),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_normalised() {
        use AddressKind::*;
        let table = [
            ("5511999990001@s.whatsapp.net", "5511999990001@s.whatsapp.net", User, None),
            ("5511999990001@c.us", "5511999990001@s.whatsapp.net", User, None),
            ("5511999990001:12@s.whatsapp.net", "5511999990001@s.whatsapp.net", User, Some(12)),
            ("5511999990001.0:52@c.us", "5511999990001@s.whatsapp.net", User, Some(52)),
            ("90000000000001:3@lid", "90000000000001@lid", Lid, Some(3)),
            ("5511999990001-1600000000@g.us", "5511999990001-1600000000@g.us", Group, None),
            ("120363000000000001@newsletter", "120363000000000001@newsletter", Newsletter, None),
            ("status@broadcast", "status@broadcast", Status, None),
            ("1600000000@broadcast", "1600000000@broadcast", Broadcast, None),
            ("13135550002@bot", "13135550002@bot", Bot, None),
            ("BR.90000000000000001@bsuid", "BR.90000000000000001@bsuid", Bsuid, None),
            ("someone@elsewhere", "someone@elsewhere", Unknown, None),
            ("no server", "no server", Unknown, None),
            ("", "", Unknown, None),
        ];
        for (given, id, kind, device) in table {
            let address = Address::parse(given);
            assert_eq!((address.id.as_str(), address.kind, address.device), (id, kind, device));
        }
    }

    #[test]
    fn a_phone_number_is_its_digits() {
        let address = Address::phone("+55 11 99999-0001");
        assert_eq!(address.id, "5511999990001@s.whatsapp.net");
        assert_eq!(address.phone.as_deref(), Some("5511999990001"));
    }

    #[test]
    fn letters_are_no_phone_number() {
        use AddressKind::*;
        let table = [
            ("US.13491208655302741918", "US.13491208655302741918@bsuid", Bsuid),
            ("US.ENT.11815799212886844830", "US.ENT.11815799212886844830@bsuid", Bsuid),
            ("us.1", "us.1", Unknown),
            ("US.", "US.", Unknown),
            ("ramal 5", "ramal 5", Unknown),
        ];
        for (given, id, kind) in table {
            let address = Address::phone(given);
            assert_eq!((address.id.as_str(), address.kind), (id, kind));
            assert_eq!(address.phone, None);
        }
    }

    #[test]
    fn a_group_gets_its_server_once() {
        assert_eq!(Address::group("G1"), Address::group("G1@g.us"));
    }

    #[test]
    fn parsing_twice_changes_nothing() {
        for text in ["5511999990001.0:52@c.us", "9.1:2@lid", "a:b@bot", "x@y@c.us"] {
            let once = Address::parse(text);
            assert_eq!(Address::parse(&once.id).id, once.id, "{text}");
        }
    }
}
