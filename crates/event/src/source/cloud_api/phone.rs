//! The number that a change concerns, and the people it introduces.

use crate::{
    shape::{Address, AddressKind, UpstreamError, is_bsuid},
    source::scalar::{Int, List, Object, RawList, Text, filled, owned, read},
};
use serde::Deserialize;

/// The value of a change that concerns one number. Lists are read element by element, so that a
/// fault in one does not hide its siblings.
#[derive(Deserialize)]
pub(super) struct Value<'a> {
    #[serde(borrow)]
    metadata: Object<Metadata<'a>>,
    #[serde(borrow)]
    contacts: RawList<'a>,
    #[serde(borrow)]
    pub(super) messages: RawList<'a>,
    #[serde(borrow)]
    pub(super) message_echoes: RawList<'a>,
    #[serde(borrow)]
    pub(super) statuses: RawList<'a>,
    #[serde(borrow)]
    pub(super) errors: RawList<'a>,
    #[serde(borrow)]
    pub(super) calls: RawList<'a>,
    #[serde(borrow)]
    pub(super) groups: RawList<'a>,
    #[serde(borrow)]
    pub(super) history: RawList<'a>,
    #[serde(borrow)]
    pub(super) state_sync: RawList<'a>,
    #[serde(borrow)]
    pub(super) user_preferences: RawList<'a>,
    #[serde(borrow)]
    pub(super) user_id_update: RawList<'a>,
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
    pub(super) fn of(value: &'a Value<'a>) -> (Self, bool) {
        let metadata = value.metadata.0.as_ref();
        let id = metadata.and_then(|metadata| filled(&metadata.phone_number_id));
        let own = match metadata.and_then(|metadata| filled(&metadata.display_phone_number)) {
            Some(number) => Address::phone(number),
            None => Address::bare(id.unwrap_or("unknown").to_owned(), AddressKind::Unknown),
        };
        let listed = &value.contacts;
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
            same(filled(&contact.wa_id), wa_id) || same(filled(&contact.user_id), user_id)
        });
        let wa_id = wa_id.or_else(|| contact.and_then(|contact| filled(&contact.wa_id)));
        let user_id = user_id.or_else(|| contact.and_then(|contact| filled(&contact.user_id)));
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
