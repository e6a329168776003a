//! The number that a change concerns, and the people it introduces.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    shape::{Address, AddressKind, UpstreamError, is_bsuid},
    source::{
        compound::{List, Object, RawList, read},
        scalar::{Int, Text, filled, owned},
    },
};

/// The names of all lists whose elements are events.
const LISTS: [&str; 10] = [
    "calls",
    "errors",
    "groups",
    "history",
    "message_echoes",
    "messages",
    "state_sync",
    "statuses",
    "user_id_update",
    "user_preferences",
];

/// The value of a change that concerns one number.
#[derive(Default)]
pub(super) struct Value<'a> {
    pub(super) parties: Parties<'a>,
    pub(super) lists: Lists<'a>,
}

/// Which number, and people in connection with it.
pub(super) struct Parties<'a> {
    metadata: Object<Metadata<'a>>,
    contacts: RawList<'a>,
}

impl Default for Parties<'_> {
    fn default() -> Self {
        Self { metadata: Object(None), contacts: RawList::absent() }
    }
}

/// The lists of a value by their names. Their elements stay text, so that a fault in one does not
/// hide its siblings.
#[derive(Default)]
pub(super) struct Lists<'a> {
    known: Vec<(&'static str, RawList<'a>)>,
    /// There are elements in a list that nobody knows.
    more: bool,
}

impl<'a> Lists<'a> {
    /// Takes out the list of this name.
    pub(super) fn take(&mut self, name: &str) -> Option<RawList<'a>> {
        let index = self.known.iter().position(|(known, _)| *known == name)?;
        Some(self.known.swap_remove(index).1)
    }

    /// Whether there are elements that nobody took.
    pub(super) fn hold_more(&self) -> bool {
        self.more || self.known.iter().any(|(_, list)| !list.items.is_empty())
    }

    fn add(&mut self, name: &str, list: RawList<'a>) {
        match LISTS.iter().find(|known| **known == name) {
            Some(name) if self.known.iter().all(|(known, _)| known != name) => {
                self.known.push((name, list));
            }
            _ => self.more |= !list.items.is_empty(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Value<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of a change: an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value<'de>, A::Error> {
                let Value { mut parties, mut lists } = Value::default();
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        "metadata" => parties.metadata = map.next_value()?,
                        "contacts" => parties.contacts = map.next_value()?,
                        name => lists.add(name, map.next_value()?),
                    }
                }
                Ok(Value { parties, lists })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The `phone_number_id` that a value names, whatever else it is.
pub(super) fn number_of(value: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        metadata: Object<Metadata<'a>>,
    }
    let named: Named<'_> = read(value)?;
    owned(&named.metadata.0?.phone_number_id)
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    display_phone_number: Text<'a>,
    #[serde(borrow)]
    phone_number_id: Text<'a>,
}

#[derive(Deserialize)]
struct Contact<'a> {
    #[serde(borrow)]
    wa_id: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    /// The id in a group of linked businesses, under which a business may write to people.
    #[serde(borrow)]
    parent_user_id: Text<'a>,
    #[serde(borrow)]
    profile: Object<Profile<'a>>,
}

#[derive(Deserialize)]
struct Profile<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    username: Text<'a>,
}

/// The number, with the people that the change names.
pub(super) struct Phone<'a> {
    /// Its `phone_number_id`.
    pub(super) id: Option<&'a str>,
    /// Its own address.
    pub(super) own: Address,
    contacts: Vec<Contact<'a>>,
}

impl<'a> Phone<'a> {
    /// Also says whether all that introduces people was understood.
    pub(super) fn of(parties: &'a Parties<'a>) -> (Self, bool) {
        let metadata = parties.metadata.0.as_ref();
        let id = metadata.and_then(|metadata| filled(&metadata.phone_number_id));
        let own = match metadata.and_then(|metadata| filled(&metadata.display_phone_number)) {
            Some(number) => Address::phone(number),
            None => Address::bare(id.unwrap_or("unknown").to_owned(), AddressKind::Unknown),
        };
        let listed = &parties.contacts;
        let contacts: Vec<_> = listed.items.iter().filter_map(|raw| read(raw)).collect();
        let whole = listed.whole && contacts.len() == listed.items.len();
        (Self { id, own, contacts }, whole)
    }

    /// The `phone_number_id` as it stands in keys.
    pub(super) fn key(&self) -> &str {
        self.id.unwrap_or_default()
    }

    /// Whether this is the number itself.
    pub(super) fn is_own(&self, number: &str) -> bool {
        self.own.phone.is_some() && self.own.phone == Address::phone(number).phone
    }

    /// The person with this number or this user id, with whatever the change says about them. A
    /// user id in the place of a number is taken as the user id it is.
    pub(super) fn person(&self, wa_id: Option<&str>, user_id: Option<&str>) -> Option<Address> {
        let (wa_id, user_id) = match wa_id {
            Some(id) if is_bsuid(id) => (None, user_id.or(wa_id)),
            _ => (wa_id, user_id),
        };
        let contact = self.contacts.iter().find(|contact| {
            let same = |known: Option<&str>, asked: Option<&str>| asked.is_some() && known == asked;
            same(filled(&contact.wa_id), wa_id)
                || same(filled(&contact.user_id), user_id)
                || same(filled(&contact.parent_user_id), user_id)
        });
        let wa_id = wa_id.or_else(|| contact.and_then(|contact| filled(&contact.wa_id)));
        let own = contact.and_then(|contact| filled(&contact.user_id));
        let is_parent = contact.is_some_and(|contact| filled(&contact.parent_user_id) == user_id);
        let user_id = if is_parent { own.or(user_id) } else { user_id.or(own) };
        let mut address = match (wa_id, user_id) {
            (Some(wa_id), _) => Address::phone(wa_id),
            (None, Some(user_id)) => Address::bsuid(user_id),
            (None, None) => return None,
        };
        address.user_id = user_id.map(str::to_owned);
        if let Some(profile) = contact.and_then(|contact| contact.profile.0.as_ref()) {
            address.name = owned(&profile.name);
            address.username = owned(&profile.username);
        }
        Some(address)
    }
}

/// A failure as the API reports it.
#[derive(Deserialize)]
pub(super) struct ApiError<'a> {
    code: Int,
    #[serde(borrow)]
    title: Text<'a>,
    #[serde(borrow)]
    message: Text<'a>,
    #[serde(borrow)]
    error_data: Object<ErrorData<'a>>,
}

#[derive(Deserialize)]
struct ErrorData<'a> {
    #[serde(borrow)]
    details: Text<'a>,
}

impl From<&ApiError<'_>> for UpstreamError {
    fn from(error: &ApiError<'_>) -> Self {
        Self {
            code: error.code.0,
            title: owned(&error.title),
            message: owned(&error.message),
            details: error.error_data.0.as_ref().and_then(|data| owned(&data.details)),
        }
    }
}

/// A list of failures.
pub(super) fn errors(list: &List<ApiError<'_>>) -> Vec<UpstreamError> {
    list.items.iter().map(UpstreamError::from).collect()
}
