//! What a message says, as Baileys writes it.

mod context;
mod interactive;

use serde_json::{Map, Value, json};

use super::{Scene, object, put};
use crate::{
    shape::{
        Address, Body, ContactCard, Contacts, Content, Location, Media, MediaContent, MediaKind,
        MediaState, Order, Poll, Product,
    },
    source::media_keys,
};

/// A message with the name of its only content.
pub(super) struct Said {
    pub(super) message: Map<String, Value>,
    pub(super) kind: String,
    /// `contextInfo`: what it answers, whom it mentions; `null` when there is nothing.
    pub(super) context: Value,
}

/// What Evolution calls the type of a message that has none.
const UNKNOWN: &str = "unknown";

/// The whole message.
pub(super) fn message(scene: &Scene<'_>, content: &Content, chat: &Address) -> Said {
    let context = context::info(content, chat);
    let (kind, mut part) = match &content.body {
        Body::Text(text) => return said("conversation", text.body.clone().into(), context),
        Body::System(system) => {
            return match &system.text {
                Some(text) => said("conversation", text.clone().into(), context),
                None => nothing(UNKNOWN, context),
            };
        }
        Body::Unsupported(it) => {
            // Other products name the members of the same protocol.
            let is_member = it.upstream_type.ends_with("Message");
            return nothing(if is_member { &it.upstream_type } else { UNKNOWN }, context);
        }
        Body::Image(it) => ("imageMessage", media(scene, it)),
        Body::Video(it) => ("videoMessage", media(scene, it)),
        Body::Audio(it) => ("audioMessage", media(scene, it)),
        Body::Document(it) => ("documentMessage", media(scene, it)),
        Body::Sticker(it) => ("stickerMessage", media(scene, it)),
        Body::Location(it) if it.is_live => ("liveLocationMessage", live_location(it)),
        Body::Location(it) => ("locationMessage", location(it)),
        Body::Contacts(it) => contacts(it),
        Body::Poll(it) => ("pollCreationMessageV3", poll(it)),
        Body::Interactive(it) => interactive::offer(it),
        Body::InteractiveReply(it) => interactive::reply(it),
        Body::Order(it) => ("orderMessage", order(it)),
        Body::Product(it) => ("productMessage", product(it)),
        Body::Event(it) => ("eventMessage", event(it)),
        Body::GroupInvite(it) => {
            let mut part = object([
                ("groupJid", it.group.clone().into()),
                ("inviteCode", it.code.clone().into()),
            ]);
            put(&mut part, "inviteExpiration", it.expires_at.map(|at| at.as_secs().to_string()));
            ("groupInviteMessage", part)
        }
    };
    if content.view_once {
        part.insert("viewOnce".to_owned(), true.into());
    }
    if !context.is_null() {
        part.insert("contextInfo".to_owned(), context.clone());
    }
    let mut said = said(kind, part.into(), context);
    if let Some(media) = media_of(&content.body) {
        // A file that lies somewhere, readable, is where consumers of Evolution's storage look.
        let url = media.url.clone().filter(|_| media.state == MediaState::Url);
        put(&mut said.message, "mediaUrl", url);
        put(&mut said.message, "base64", media.base64.clone().filter(|_| scene.options.base64));
    }
    said
}

fn said(kind: &str, part: Value, context: Value) -> Said {
    Said { message: object([(kind, part)]), kind: kind.to_owned(), context }
}

fn nothing(kind: &str, context: Value) -> Said {
    Said { message: Map::new(), kind: kind.to_owned(), context }
}

fn media_of(body: &Body) -> Option<&Media> {
    match body {
        Body::Image(it)
        | Body::Video(it)
        | Body::Audio(it)
        | Body::Document(it)
        | Body::Sticker(it) => Some(&it.media),
        _ => None,
    }
}

fn media(scene: &Scene<'_>, content: &MediaContent) -> Map<String, Value> {
    let media = &content.media;
    let mut part = Map::new();
    put(&mut part, "id", media.media_id.clone());
    put(&mut part, "url", media.url.clone());
    put(&mut part, "mimetype", Some(media.mime.clone()));
    put(&mut part, "caption", content.caption.clone());
    put(&mut part, "fileSha256", media.sha256.clone());
    put(&mut part, "fileLength", media.size_bytes.map(|size| size.to_string()));
    put(&mut part, "height", media.height_px);
    put(&mut part, "width", media.width_px);
    put(&mut part, "seconds", media.duration_s);
    match media.kind {
        MediaKind::Audio => put(&mut part, "ptt", Some(media.voice)),
        MediaKind::Sticker => put(&mut part, "isAnimated", Some(media.animated)),
        MediaKind::Video => put(&mut part, "gifPlayback", media.animated.then_some(true)),
        MediaKind::Document => {
            put(&mut part, "title", media.file_name.clone());
            put(&mut part, "fileName", media.file_name.clone());
            put(&mut part, "pageCount", media.pages);
        }
        MediaKind::Image => {}
    }
    if scene.options.media_key {
        let keys = media_keys(scene.event.source.kind, scene.event.raw_bytes());
        part.extend(keys.into_iter().map(|(name, key)| (name.to_owned(), key.into())));
    }
    put(&mut part, "jpegThumbnail", media.thumbnail_base64.clone());
    part
}

fn location(place: &Location) -> Map<String, Value> {
    let mut part = object([
        ("degreesLatitude", place.latitude.into()),
        ("degreesLongitude", place.longitude.into()),
    ]);
    put(&mut part, "name", place.name.clone());
    put(&mut part, "address", place.address.clone());
    put(&mut part, "url", place.url.clone());
    part
}

fn live_location(place: &Location) -> Map<String, Value> {
    let mut part = object([
        ("degreesLatitude", place.latitude.into()),
        ("degreesLongitude", place.longitude.into()),
    ]);
    put(&mut part, "accuracyInMeters", place.accuracy_m);
    put(&mut part, "speedInMps", place.speed_mps);
    put(&mut part, "degreesClockwiseFromMagneticNorth", place.heading_deg);
    put(&mut part, "caption", place.name.clone());
    part
}

fn contacts(all: &Contacts) -> (&'static str, Map<String, Value>) {
    let mut cards: Vec<_> = all.contacts.iter().map(card).collect();
    if cards.len() == 1 {
        return ("contactMessage", cards.remove(0));
    }
    let name = format!("{} contatos", cards.len());
    let part = object([("displayName", name.into()), ("contacts", cards.into())]);
    ("contactsArrayMessage", part)
}

fn card(card: &ContactCard) -> Map<String, Value> {
    let vcard = card.vcard.clone().unwrap_or_else(|| vcard(card));
    object([("displayName", card.display_name.clone().into()), ("vcard", vcard.into())])
}

/// A card in the form in which WhatsApp's clients write theirs.
fn vcard(card: &ContactCard) -> String {
    let escaped = |text: &str| text.replace(['\r', '\n'], " ").replace(';', "\\;");
    let name = escaped(&card.display_name);
    let mut text = format!("BEGIN:VCARD\nVERSION:3.0\nN:;{name};;;\nFN:{name}\n");
    for (number, phone) in card.phones.iter().enumerate() {
        let waid = phone.wa_id.as_ref().map(|id| format!(";waid={}", escaped(id)));
        let (waid, number) = (waid.unwrap_or_default(), number + 1);
        text.push_str(&format!("item{number}.TEL{waid}:{}\n", escaped(&phone.phone)));
        text.push_str(&format!("item{number}.X-ABLabel:Celular\n"));
    }
    text.push_str("END:VCARD");
    text
}

fn poll(poll: &Poll) -> Map<String, Value> {
    let options = poll.options.iter().map(|option| json!({ "optionName": option }));
    object([
        ("name", poll.name.clone().into()),
        ("options", options.collect()),
        ("selectableOptionsCount", poll.selectable_count.into()),
    ])
}

fn order(order: &Order) -> Map<String, Value> {
    let items = order.items.iter().map(|item| {
        let mut line = object([("retailerId", item.product_id.clone().into())]);
        put(&mut line, "quantity", Some(item.quantity));
        put(&mut line, "priceAmount1000", item.price.as_deref().and_then(thousandths));
        put(&mut line, "currencyCode", item.currency.clone());
        Value::from(line)
    });
    let quantities = order.items.iter().map(|item| item.quantity);
    let count = quantities.fold(0_u64, u64::saturating_add);
    let mut part = object([
        ("catalogId", order.catalog_id.clone().into()),
        ("itemCount", count.into()),
        ("status", "INQUIRY".into()),
        ("surface", "CATALOG".into()),
    ]);
    put(&mut part, "message", order.text.clone());
    put(&mut part, "totalAmount1000", total(order).map(|total| total.to_string()));
    let currency = order.items.iter().find_map(|item| item.currency.clone());
    put(&mut part, "totalCurrencyCode", currency);
    part.insert("items".to_owned(), items.collect());
    part
}

/// The sum of an order whose prices are all known, in thousandths.
fn total(order: &Order) -> Option<i64> {
    order.items.iter().try_fold(0_i64, |total, item| {
        let price = thousandths(item.price.as_deref()?)?;
        total.checked_add(price.checked_mul(i64::try_from(item.quantity).ok()?)?)
    })
}

/// A decimal number as Baileys has amounts: in thousandths. `None` for more than three decimals.
fn thousandths(price: &str) -> Option<i64> {
    let (whole, fraction) = price.split_once('.').unwrap_or((price, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part: i64 = format!("{fraction:0<3}").parse().ok()?;
    let whole_part: i64 = whole.parse().ok()?;
    let part = if whole.starts_with('-') { -part } else { part };
    whole_part.checked_mul(1000)?.checked_add(part)
}

fn product(product: &Product) -> Map<String, Value> {
    let mut shown = object([("productId", product.product_id.clone().into())]);
    put(&mut shown, "title", product.title.clone());
    put(&mut shown, "description", product.description.clone());
    put(&mut shown, "currencyCode", product.currency.clone());
    let price = product.price.as_deref().and_then(thousandths);
    put(&mut shown, "priceAmount1000", price.map(|price| price.to_string()));
    put(&mut shown, "retailerId", Some(product.product_id.clone()));
    put(&mut shown, "url", product.url.clone());
    let mut part = object([("product", shown.into())]);
    put(&mut part, "catalogId", product.catalog_id.clone());
    put(&mut part, "body", product.text.clone());
    part
}

fn event(event: &crate::shape::CalendarEvent) -> Map<String, Value> {
    let mut part = object([("name", event.name.clone().into())]);
    put(&mut part, "description", event.description.clone());
    put(&mut part, "startTime", event.starts_at.map(|at| at.as_secs().to_string()));
    put(&mut part, "endTime", event.ends_at.map(|at| at.as_secs().to_string()));
    if let Some(place) = &event.location {
        let mut shown = Map::new();
        put(&mut shown, "degreesLatitude", place.latitude);
        put(&mut shown, "degreesLongitude", place.longitude);
        put(&mut shown, "name", place.name.clone());
        put(&mut shown, "address", place.address.clone());
        part.insert("location".to_owned(), shown.into());
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::ContactPhone;

    #[test]
    fn prices_are_thousandths() {
        let table = [
            ("19.9", Some(19_900)),
            ("19", Some(19_000)),
            ("-0.5", Some(-500)),
            ("0.005", Some(5)),
            ("1.2345", None),
            ("", None),
            ("1e3", None),
            ("9223372036854775807", None),
        ];
        for (price, expected) in table {
            assert_eq!(thousandths(price), expected, "{price}");
        }
    }

    #[test]
    fn a_card_without_a_vcard_gets_one_in_which_nothing_can_be_slipped() {
        let phone =
            ContactPhone { phone: "+55 11\nEND:VCARD".to_owned(), wa_id: Some("5511".to_owned()) };
        let made = vcard(&ContactCard {
            display_name: "Bia; Exemplo".to_owned(),
            phones: vec![phone],
            vcard: None,
        });
        insta::assert_snapshot!(made, @r"
        BEGIN:VCARD
        VERSION:3.0
        N:;Bia\; Exemplo;;;
        FN:Bia\; Exemplo
        item1.TEL;waid=5511:+55 11 END:VCARD
        item1.X-ABLabel:Celular
        END:VCARD
        ");
    }
}
