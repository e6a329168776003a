//! People: new numbers, the phone's address book, what they want to receive.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::phone::Phone;
use crate::{
    Data, Timestamp,
    data::{ContactPreference, ContactUpdated},
    shape::Address,
    source::{
        compound::{Object, read},
        delivery::{Key, Misfit, Understood},
        scalar::{Text, Time, filled, instant, owned},
    },
};

#[derive(Deserialize)]
struct Notice<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    wa_id: Text<'a>,
    #[serde(borrow)]
    new_wa_id: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    /// The number before, in older versions of the API.
    #[serde(borrow)]
    customer: Text<'a>,
    #[serde(borrow)]
    previous_user_id: Text<'a>,
}

impl Notice<'_> {
    /// Whom it is about, as known before.
    fn former(&self, phone: &Phone<'_>) -> Option<Address> {
        phone.person(filled(&self.customer), filled(&self.previous_user_id))
    }

    /// The same as known now.
    fn present(&self, phone: &Phone<'_>) -> Option<Address> {
        let wa_id = filled(&self.new_wa_id).or(filled(&self.wa_id));
        phone.person(wa_id, filled(&self.user_id))
    }
}

/// Whom a system message that names no sender is about.
pub(super) fn subject(phone: &Phone<'_>, notice: &RawValue) -> Option<Address> {
    let notice: Notice<'_> = read(notice)?;
    notice.former(phone).or_else(|| notice.present(phone))
}

/// What a system message says about its sender; `None` if it is about something else.
pub(super) fn changed(phone: &Phone<'_>, sender: &Address, notice: &RawValue) -> Option<Data> {
    let notice: Notice<'_> = read(notice)?;
    let updated = match filled(&notice.kind) {
        Some(
            kind @ ("user_changed_number" | "customer_changed_number" | "user_changed_user_id"),
        ) => {
            let changed = if kind == "user_changed_user_id" { "user_id" } else { "number" };
            let mut contact = notice.present(phone)?;
            contact.name = contact.name.or_else(|| sender.name.clone());
            let mut old = sender.clone();
            if filled(&notice.customer).is_some() {
                old = notice.former(phone).unwrap_or(old);
            }
            old.user_id = owned(&notice.previous_user_id).or(old.user_id);
            let mut updated = ContactUpdated::new(contact, changed);
            updated.old_number = Some(old);
            updated
        }
        Some("user_identity_changed" | "customer_identity_changed") => {
            let mut updated = ContactUpdated::new(sender.clone(), "identity");
            updated.identity_changed = Some(true);
            updated
        }
        _ => return None,
    };
    Some(Data::ContactUpdated(Box::new(updated)))
}

#[derive(Deserialize)]
struct StateSync<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    contact: Object<BookEntry<'a>>,
    #[serde(borrow)]
    action: Text<'a>,
    metadata: Object<SyncTime>,
}

#[derive(Deserialize)]
struct BookEntry<'a> {
    #[serde(borrow)]
    full_name: Text<'a>,
    #[serde(borrow)]
    first_name: Text<'a>,
    #[serde(borrow)]
    phone_number: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
}

#[derive(Deserialize)]
struct SyncTime {
    timestamp: Time,
}

/// An element of `state_sync`: an entry of the phone's address book.
pub(super) fn address_book(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let sync: StateSync<'_> = serde_json::from_str(raw.get())?;
    if &*sync.kind != "contact" {
        return Err(Misfit::NAME);
    }
    let entry = sync.contact.0.ok_or(Misfit::SHAPE)?;
    let contact =
        phone.person(filled(&entry.phone_number), filled(&entry.user_id)).ok_or(Misfit::SHAPE)?;
    let mut updated = match filled(&sync.action) {
        Some("add" | "edit") | None => ContactUpdated::new(contact, "name"),
        Some("remove") => ContactUpdated::new(contact, "removed"),
        Some(_) => return Err(Misfit::NAME),
    };
    updated.full_name = owned(&entry.full_name);
    updated.first_name = owned(&entry.first_name);
    Ok(about(updated, sync.metadata.0.and_then(|metadata| instant(metadata.timestamp))))
}

#[derive(Deserialize)]
struct Preference<'a> {
    #[serde(borrow)]
    wa_id: Text<'a>,
    #[serde(borrow)]
    user_id: Text<'a>,
    #[serde(borrow)]
    category: Text<'a>,
    #[serde(borrow)]
    value: Text<'a>,
    #[serde(borrow)]
    detail: Text<'a>,
    timestamp: Time,
}

/// An element of `user_preferences`.
pub(super) fn preference(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted: Preference<'_> = serde_json::from_str(raw.get())?;
    let contact =
        phone.person(filled(&posted.wa_id), filled(&posted.user_id)).ok_or(Misfit::SHAPE)?;
    let mut updated = ContactUpdated::new(contact, "preferences");
    updated.preferences.push(ContactPreference {
        category: owned(&posted.category).ok_or(Misfit::SHAPE)?,
        value: owned(&posted.value).ok_or(Misfit::SHAPE)?,
        details: owned(&posted.detail),
    });
    Ok(about(updated, instant(posted.timestamp)))
}

#[derive(Deserialize)]
struct NewUserId<'a> {
    #[serde(borrow)]
    wa_id: Text<'a>,
    #[serde(borrow)]
    user_id: &'a RawValue,
    timestamp: Time,
}

#[derive(Deserialize)]
struct Replaced<'a> {
    #[serde(borrow)]
    previous: Text<'a>,
    #[serde(borrow)]
    current: Text<'a>,
}

/// An element of `user_id_update`: the id itself, or what it was and is.
pub(super) fn user_id(phone: &Phone<'_>, raw: &RawValue) -> Result<Understood, Misfit> {
    let posted: NewUserId<'_> = serde_json::from_str(raw.get())?;
    let Replaced { previous, current } = match posted.user_id.get().starts_with('{') {
        true => serde_json::from_str(posted.user_id.get())?,
        false => Replaced {
            previous: Text::default(),
            current: serde_json::from_str(posted.user_id.get())?,
        },
    };
    let known_by = |user_id| phone.person(filled(&posted.wa_id), Some(user_id));
    let contact = filled(&current).and_then(known_by).ok_or(Misfit::SHAPE)?;
    let mut updated = ContactUpdated::new(contact, "user_id");
    updated.old_number = filled(&previous).and_then(known_by);
    Ok(about(updated, instant(posted.timestamp)))
}

fn about(updated: ContactUpdated, occurred_at: Option<Timestamp>) -> Understood {
    let data = Data::ContactUpdated(Box::new(updated));
    Understood { data, occurred_at, key: Key::Place, history: false, aliases: Vec::new() }
}
