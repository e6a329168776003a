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
    compound::{RawList, read},
    delivery::{Delivery, Misfit, Understood},
    scalar::{Text, Time, filled, instant, owned},
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
        _ => of_account(delivery, &field, raw, value, at),
    }
}

/// A change that is one event as a whole: of the account, of a template, or not known at all.
fn of_account(
    delivery: &mut Delivery<'_>,
    field: &str,
    raw: &RawValue,
    value: &RawValue,
    at: Option<Timestamp>,
) {
    delivery.phone_number_id = phone::number_of(value);
    let waba_id = delivery.waba_id.clone().unwrap_or_default();
    let change = account::Change { raw, value, field, waba_id: &waba_id, at };
    let outcome = match field {
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
        | "tracking_events" => account::updated(&change),
        "message_template_components_update"
        | "message_template_quality_update"
        | "message_template_status_update"
        | "template_category_update" => account::template(&change),
        _ => Err(Misfit::NAME),
    };
    delivery.push(field, raw, outcome);
}

/// A change that concerns one phone number: lists of elements, each an event.
fn of_number(delivery: &mut Delivery<'_>, field: &str, raw: &RawValue, value: &RawValue) {
    let Some(Value { parties, lists: mut posted }) = read(value) else {
        return delivery.unknown(field, raw, UnknownReason::SchemaMismatch);
    };
    let known: &[(&str, Decoder)] = match field {
        "calls" => &[("calls", call::event), ("statuses", call::status)],
        "history" => &[("history", history::chunk), ("messages", message::from_history)],
        "smb_app_state_sync" => &[("state_sync", contact::address_book)],
        "user_preferences" => &[("user_preferences", contact::preference)],
        "user_id_update" => &[("user_id_update", contact::user_id)],
        "group_lifecycle_update" => &[("groups", group::lifecycle)],
        "group_participants_update" => &[("groups", group::participants)],
        "group_settings_update" => &[("groups", group::settings)],
        "group_status_update" => &[("groups", group::status)],
        _ => &[
            ("messages", message::received),
            ("message_echoes", message::echo),
            ("statuses", status::event),
        ],
    };
    let before = delivery.len();
    let (phone, mut whole) = Phone::of(&parties);
    delivery.phone_number_id = phone.id.map(str::to_owned);
    for (name, decode) in known.iter().chain(&[("errors", account::error as Decoder)]) {
        let Some(list) = posted.take(name) else { continue };
        // A list that is not whole because it is too long fills the delivery.
        whole &= list.whole;
        for element in list.items {
            if delivery.is_full() {
                return;
            }
            delivery.push(field, element, decode(&phone, element));
        }
    }
    // Something in it was of another shape, or it holds lists that nobody knows, or none.
    if !whole || posted.hold_more() || delivery.len() == before {
        delivery.unknown(field, raw, UnknownReason::SchemaMismatch);
    }
}

type Decoder = fn(&Phone<'_>, &RawValue) -> Result<Understood, Misfit>;
