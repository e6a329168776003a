//! Meta's WhatsApp Cloud API: the bodies it posts to a webhook.
//!
//! A body holds entries (one per business account), an entry holds changes, a change has a field
//! (`messages`, `calls`, …) and a value with one or more lists. Each element of a list is one
//! event; changes of the account or of a template are one event each. A body yields a bounded
//! number of events: what is beyond stays in the body, to which one `event.unknown` points.

mod account;
mod call;
mod contact;
mod content;
mod group;
mod history;
mod message;
mod phone;
mod status;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::phone::{Phone, Value};
use super::{
    Decoded,
    delivery::{Delivery, Misfit, Understood},
    scalar::{RawList, Text, Time, filled, instant, owned, read},
};
use crate::{SourceKind, Timestamp, data::UnknownReason};

/// What the body's `object` must be.
const OBJECT: &str = "whatsapp_business_account";

/// The name for a body of which not even the field is known.
const WHOLE: &str = "webhook";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    object: Text<'a>,
    #[serde(borrow)]
    entry: RawList<'a>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    time: Time,
    #[serde(borrow)]
    changes: RawList<'a>,
}

#[derive(Deserialize)]
struct Change<'a> {
    #[serde(borrow)]
    field: Text<'a>,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl Change<'_> {
    fn is_named(&self) -> bool {
        filled(&self.field).is_some()
    }
}

/// Decodes one posted body. Check its signature first, over the same bytes.
pub fn decode(body: &[u8]) -> Decoded {
    let mut delivery = Delivery::new(SourceKind::CloudApi, body);
    match serde_json::from_slice::<Body<'_>>(body) {
        Ok(Body { object, entry }) if &*object == OBJECT => entries(&mut delivery, entry),
        Ok(Body { object, .. }) => {
            let name = owned(&object).unwrap_or_else(|| WHOLE.to_owned());
            delivery.unknown_body(&name, UnknownReason::WrongObject);
        }
        Err(_) if serde_json::from_slice::<&RawValue>(body).is_ok() => {
            delivery.unknown_body(WHOLE, UnknownReason::WrongObject);
        }
        Err(_) => delivery.unknown_body(WHOLE, UnknownReason::NotJson),
    }
    delivery.finish(WHOLE)
}

fn entries(delivery: &mut Delivery<'_>, list: RawList<'_>) {
    for raw in list.items {
        if delivery.is_full() {
            return;
        }
        match read::<Entry<'_>>(raw) {
            Some(entry) if !entry.changes.items.is_empty() => {
                delivery.waba_id = owned(&entry.id);
                let at = instant(entry.time);
                if at.is_some() {
                    delivery.mark_unique();
                }
                for raw in entry.changes.items {
                    if delivery.is_full() {
                        return;
                    }
                    change(delivery, raw, at);
                }
            }
            _ => {
                delivery.phone_number_id = None;
                delivery.waba_id = None;
                delivery.unknown(WHOLE, raw, UnknownReason::SchemaMismatch);
            }
        }
    }
    if delivery.len() == 0 {
        delivery.unknown_body(WHOLE, UnknownReason::SchemaMismatch);
    }
}

fn change(delivery: &mut Delivery<'_>, raw: &RawValue, at: Option<Timestamp>) {
    delivery.phone_number_id = None;
    let Some(Change { field, value }) = read(raw).filter(Change::is_named) else {
        return delivery.unknown(WHOLE, raw, UnknownReason::SchemaMismatch);
    };
    let waba_id = delivery.waba_id.clone().unwrap_or_default();
    let change = account::Change { raw, value, field: &field, waba_id: &waba_id, at };
    match &*field {
        "messages"
        | "smb_message_echoes"
        | "message_echoes"
        | "calls"
        | "history"
        | "smb_app_state_sync"
        | "user_preferences"
        | "user_id_update"
        | "group_lifecycle_update"
        | "group_participants_update"
        | "group_settings_update"
        | "group_status_update" => of_number(delivery, &field, raw, value),
        "account_alerts"
        | "account_review_update"
        | "account_update"
        | "automatic_events"
        | "business_capability_update"
        | "flows"
        | "partner_solutions"
        | "payment_configuration_update"
        | "phone_number_name_update"
        | "phone_number_quality_update"
        | "security"
        | "tracking_events" => delivery.push(&field, raw, account::updated(&change)),
        "message_template_components_update"
        | "message_template_quality_update"
        | "message_template_status_update"
        | "template_category_update" => delivery.push(&field, raw, account::template(&change)),
        _ => delivery.unknown(&field, raw, UnknownReason::UnmappedName),
    }
}

/// A change that concerns one phone number: lists of elements, each an event.
fn of_number(delivery: &mut Delivery<'_>, field: &str, raw: &RawValue, value: &RawValue) {
    let Some(value) = read::<Value<'_>>(value) else {
        return delivery.unknown(field, raw, UnknownReason::SchemaMismatch);
    };
    let before = delivery.len();
    let (phone, mut whole) = Phone::of(&value);
    delivery.phone_number_id = phone.id.map(str::to_owned);

    let mut each = |list: &RawList<'_>, decode: Decoder| {
        // A list that is not whole because it is too long fills the delivery.
        whole &= list.whole;
        for element in &list.items {
            if delivery.is_full() {
                return;
            }
            delivery.push(field, element, decode(&phone, element));
        }
    };
    match field {
        "calls" => {
            each(&value.calls, call::event);
            each(&value.statuses, call::status);
        }
        "history" => {
            each(&value.history, history::chunk);
            each(&value.messages, message::from_history);
        }
        "smb_app_state_sync" => each(&value.state_sync, contact::address_book),
        "user_preferences" => each(&value.user_preferences, contact::preference),
        "user_id_update" => each(&value.user_id_update, contact::user_id),
        "group_lifecycle_update" => each(&value.groups, group::lifecycle),
        "group_participants_update" => each(&value.groups, group::participants),
        "group_settings_update" => each(&value.groups, group::settings),
        "group_status_update" => each(&value.groups, group::status),
        _ => {
            each(&value.messages, message::received);
            each(&value.message_echoes, message::echo);
            each(&value.statuses, status::event);
        }
    }
    each(&value.errors, account::error);

    // Something in it was of another shape, or it holds no list that we know.
    if !whole || delivery.len() == before {
        delivery.unknown(field, raw, UnknownReason::SchemaMismatch);
    }
}

type Decoder = fn(&Phone<'_>, &RawValue) -> Result<Understood, Misfit>;
