//! Contact cards, polls, orders, products, events and invitations.

use serde_json::Value;

use crate::{
    dialect::vzaps::object::Object,
    shape::{CalendarEvent, ContactCard, Contacts, GroupInvite, Order, Poll, Product},
};

/// One card is a message of its own kind.
pub(super) fn contacts(contacts: &Contacts) -> (&'static str, Object) {
    if let [one] = contacts.contacts.as_slice() {
        return ("contact_message", card(one));
    }
    let cards: Vec<Value> = contacts.contacts.iter().map(|one| card(one).into()).collect();
    let title = format!("{} contacts", cards.len());
    let inner = Object::new().put("display_name", title).put("contacts", cards);
    ("contacts_array_message", inner)
}

fn card(card: &ContactCard) -> Object {
    Object::new()
        .put("display_name", card.display_name.as_str())
        .put("vcard", card.vcard.clone().unwrap_or_else(|| vcard(card)))
}

/// A card for an upstream that gives none. WhatsApp reads the number out of `waid`.
fn vcard(card: &ContactCard) -> String {
    let line = |text: &str| text.replace(['\r', '\n'], " ");
    let name = line(&card.display_name);
    let mut text = format!("BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\n");
    for number in &card.phones {
        let phone = line(&number.phone);
        text.push_str(&match &number.wa_id {
            Some(id) => format!("TEL;type=CELL;waid={}:{phone}\n", line(id)),
            None => format!("TEL;type=CELL:{phone}\n"),
        });
    }
    text.push_str("END:VCARD");
    text
}

pub(super) fn poll(poll: &Poll) -> Object {
    let options = poll.options.iter().map(|option| {
        let option = Object::new().put("option_name", option.as_str());
        option.into()
    });
    Object::new()
        .put("name", poll.name.as_str())
        .put("options", options.collect::<Vec<Value>>())
        .put("selectable_options_count", poll.selectable_count)
}

pub(super) fn order(order: &Order) -> Object {
    let items = order.items.iter().map(|item| {
        Object::new()
            .put("product_id", item.product_id.as_str())
            .put("quantity", item.quantity)
            .maybe("price", item.price.as_deref())
            .maybe("currency", item.currency.as_deref())
            .into()
    });
    let items: Vec<Value> = items.collect();
    Object::new()
        .put("catalog_id", order.catalog_id.as_str())
        .put("item_count", items.len())
        .maybe("message", order.text.as_deref())
        .maybe("total_currency_code", order.items.iter().find_map(|item| item.currency.as_deref()))
        .put("items", items)
}

pub(super) fn product(product: &Product) -> Object {
    let snapshot = Object::new()
        .put("product_id", product.product_id.as_str())
        .maybe("title", product.title.as_deref())
        .maybe("description", product.description.as_deref())
        .maybe("currency_code", product.currency.as_deref())
        .maybe("price", product.price.as_deref())
        .maybe("url", product.url.as_deref());
    Object::new()
        .put("product", snapshot)
        .maybe("catalog_id", product.catalog_id.as_deref())
        .maybe("body", product.text.as_deref())
}

pub(super) fn event(event: &CalendarEvent) -> Object {
    let place = event.location.as_ref().map(|place| {
        Object::new()
            .maybe("degrees_latitude", place.latitude)
            .maybe("degrees_longitude", place.longitude)
            .maybe("name", place.name.as_deref())
            .maybe("address", place.address.as_deref())
    });
    Object::new()
        .put("name", event.name.as_str())
        .maybe("description", event.description.as_deref())
        .maybe("location", place)
        .maybe("start_time", event.starts_at.map(crate::Timestamp::as_secs))
        .maybe("end_time", event.ends_at.map(crate::Timestamp::as_secs))
}

pub(super) fn invite(invite: &GroupInvite) -> Object {
    Object::new()
        .put("group_jid", invite.group.as_str())
        .put("invite_code", invite.code.as_str())
        .maybe("invite_expiration", invite.expires_at.map(crate::Timestamp::as_secs))
}
