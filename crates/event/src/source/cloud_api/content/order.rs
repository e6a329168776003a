//! Orders. Prices are money: they keep the digits that were posted.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read;
use crate::{
    shape::{Order, OrderItem},
    source::{
        compound::List,
        delivery::Misfit,
        scalar::{Int, Text, owned},
    },
};

#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    catalog_id: Text<'a>,
    #[serde(borrow)]
    text: Text<'a>,
    #[serde(borrow)]
    product_items: List<Line<'a>>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    product_retailer_id: Text<'a>,
    quantity: Int,
    #[serde(borrow)]
    item_price: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Text<'a>,
}

pub(super) fn order(part: Option<&RawValue>) -> Result<Order, Misfit> {
    let posted: Posted<'_> = read(part)?;
    // A line less would be another order.
    if !posted.product_items.whole {
        return Err(Misfit::SHAPE);
    }
    let items: Result<Vec<_>, Misfit> = posted.product_items.items.iter().map(item).collect();
    Ok(Order {
        catalog_id: owned(&posted.catalog_id).ok_or(Misfit::SHAPE)?,
        items: items?,
        text: owned(&posted.text),
    })
}

fn item(line: &Line<'_>) -> Result<OrderItem, Misfit> {
    Ok(OrderItem {
        product_id: owned(&line.product_retailer_id).ok_or(Misfit::SHAPE)?,
        quantity: line.quantity.positive().ok_or(Misfit::SHAPE)?,
        price: line.item_price.and_then(|price| decimal(price.get())),
        currency: owned(&line.currency),
    })
}

/// A JSON number, or text that is one, as a plain decimal.
fn decimal(json: &str) -> Option<String> {
    let text = match json.starts_with('"') {
        true => serde_json::from_str(json).ok()?,
        false => json.to_owned(),
    };
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-'));
    Some(if plain { text } else { number.to_string() })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn a_price_keeps_its_digits() {
        let table = [
            ("19.9", Some("19.9")),
            ("19.90", Some("19.90")),
            ("0.1", Some("0.1")),
            ("1234567890123456789.01", Some("1234567890123456789.01")),
            ("\"7.50\"", Some("7.50")),
            ("1.5e2", Some("150")),
            ("\"cheap\"", None),
            ("\"NaN\"", None),
            ("{}", None),
            ("null", None),
        ];
        for (json, expected) in table {
            assert_eq!(decimal(json).as_deref(), expected, "{json}");
        }
    }
}
