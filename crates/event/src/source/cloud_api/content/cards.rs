//! Address cards.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read;
use crate::{
    shape::{ContactCard, ContactPhone, Contacts},
    source::{
        compound::{List, Object},
        delivery::Misfit,
        scalar::{Text, filled, owned},
    },
};

pub(super) fn contacts(part: Option<&RawValue>) -> Result<Contacts, Misfit> {
    #[derive(Deserialize)]
    struct Card<'a> {
        #[serde(borrow)]
        name: Object<Name<'a>>,
        #[serde(borrow)]
        phones: List<Number<'a>>,
        #[serde(borrow)]
        vcard: Text<'a>,
    }
    #[derive(Deserialize, Default)]
    struct Name<'a> {
        #[serde(borrow)]
        formatted_name: Text<'a>,
        #[serde(borrow)]
        first_name: Text<'a>,
    }
    #[derive(Deserialize)]
    struct Number<'a> {
        #[serde(borrow)]
        phone: Text<'a>,
        #[serde(borrow)]
        wa_id: Text<'a>,
    }
    let cards: List<Card<'_>> = read(part)?;
    if cards.items.is_empty() && !cards.whole {
        return Err(Misfit::SHAPE);
    }
    let contacts = cards.items.into_iter().map(|card| {
        let phones: Vec<_> = card
            .phones
            .items
            .iter()
            .filter_map(|number| {
                let phone = filled(&number.phone).or(filled(&number.wa_id))?.to_owned();
                Some(ContactPhone { phone, wa_id: owned(&number.wa_id) })
            })
            .collect();
        let name = card.name.0.unwrap_or_default();
        let display_name = owned(&name.formatted_name)
            .or_else(|| owned(&name.first_name))
            .or_else(|| phones.first().map(|number| number.phone.clone()))
            .unwrap_or_default();
        ContactCard { display_name, phones, vcard: owned(&card.vcard) }
    });
    Ok(Contacts { contacts: contacts.collect() })
}
