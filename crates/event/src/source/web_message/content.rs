//! What a message says, by the member that is set.

use super::{
    Opened,
    context::Context,
    interactive,
    media::{File, media},
};
use crate::{
    Timestamp,
    shape::{
        Address, Body, CalendarEvent, ContactCard, ContactPhone, Contacts, Content, GroupInvite,
        Location, MediaContent, MediaKind, Place, Poll, Product, Text, Unsupported,
    },
    source::members::Members,
};

/// Members of a message that say nothing by themselves.
const SILENT: [&str; 7] = [
    "messageContextInfo",
    "senderKeyDistributionMessage",
    "fastRatchetKeySenderKeyDistributionMessage",
    "base64",
    "mediaUrl",
    "speechToText",
    "chatwootMessageId",
];

type Reader = fn(&Members<'_>, &File) -> Option<Body>;

/// A video that was recorded in the chat, as voice notes are.
fn video_note(part: &Members<'_>, file: &File) -> MediaContent {
    let mut note = media(MediaKind::Video, part, file);
    note.media.voice = true;
    note
}

/// Every member that is a content, with its reader.
const READERS: &[(&str, Reader)] = &[
    ("extendedTextMessage", |part, _| text(part)),
    ("imageMessage", |part, file| Some(Body::Image(media(MediaKind::Image, part, file)))),
    ("videoMessage", |part, file| Some(Body::Video(media(MediaKind::Video, part, file)))),
    ("ptvMessage", |part, file| Some(Body::Video(video_note(part, file)))),
    ("audioMessage", |part, file| Some(Body::Audio(media(MediaKind::Audio, part, file)))),
    ("documentMessage", |part, file| Some(Body::Document(media(MediaKind::Document, part, file)))),
    ("stickerMessage", |part, file| Some(Body::Sticker(media(MediaKind::Sticker, part, file)))),
    ("locationMessage", |part, _| location(part, false)),
    ("liveLocationMessage", |part, _| location(part, true)),
    ("contactMessage", |part, _| Some(Body::Contacts(Contacts { contacts: vec![card(part)?] }))),
    ("contactsArrayMessage", |part, _| cards(part)),
    ("pollCreationMessage", |part, _| poll(part)),
    ("pollCreationMessageV2", |part, _| poll(part)),
    ("pollCreationMessageV3", |part, _| poll(part)),
    ("pollCreationMessageV5", |part, _| poll(part)),
    ("buttonsMessage", |part, _| interactive::buttons(part)),
    ("listMessage", |part, _| interactive::list(part)),
    ("templateMessage", |part, _| interactive::template(part)),
    ("interactiveMessage", |part, _| interactive::native(part)),
    ("buttonsResponseMessage", |part, _| interactive::button_reply(part)),
    ("listResponseMessage", |part, _| interactive::list_reply(part)),
    ("templateButtonReplyMessage", |part, _| interactive::template_reply(part)),
    ("interactiveResponseMessage", |part, _| interactive::native_reply(part)),
    ("productMessage", |part, _| product(part)),
    ("eventMessage", |part, _| event(part)),
    ("groupInviteMessage", |part, _| invite(part)),
];

/// The whole content: the body, what it answers, how it got here.
pub(super) fn content(opened: &Opened<'_>, beside: Option<&Members<'_>>, file: &File) -> Content {
    let message = &opened.message;
    let known = READERS
        .iter()
        .find_map(|(name, read)| Some((*name, message.object(name)?, *read)))
        .and_then(|(name, part, read)| Some((name, read(&part, file)?, part)));
    let (body, part) = match (known, message.said("conversation")) {
        (Some((_, body, part)), _) => (body, Some(part)),
        (None, Some(said)) => (plain(said), None),
        (None, None) => (unsupported(message), None),
    };
    let own = part.as_ref().and_then(|part| part.object("contextInfo"));
    let context = own.as_ref().or(beside).map(Context::of).unwrap_or_default();
    let mut content = Content::new(body);
    if let Body::Text(text) = &mut content.body {
        text.mentions = context.mentions;
    }
    content.quoted = context.quoted;
    content.forwarded = context.forwarded;
    content.ephemeral_expires_s = context.expires_s;
    content.ad_referral = context.ad_referral;
    content.view_once =
        opened.view_once || part.as_ref().is_some_and(|part| part.is_set("viewOnce"));
    content
}

fn plain(body: String) -> Body {
    Body::Text(Text { body, preview_url: None, mentions: Vec::new() })
}

fn text(part: &Members<'_>) -> Option<Body> {
    let preview_url = part.text("matchedText").or_else(|| part.text("canonicalUrl"));
    Some(Body::Text(Text { body: part.said("text")?, preview_url, mentions: Vec::new() }))
}

/// What arrived and has no rule, by the name of its member.
fn unsupported(message: &Members<'_>) -> Body {
    let name = message.names().find(|name| !SILENT.contains(name)).unwrap_or("empty");
    Body::Unsupported(Unsupported {
        upstream_type: name.to_owned(),
        reason: None,
        errors: Vec::new(),
    })
}

fn location(part: &Members<'_>, is_live: bool) -> Option<Body> {
    Some(Body::Location(Location {
        latitude: part.number("degreesLatitude")?,
        longitude: part.number("degreesLongitude")?,
        name: part.text_of(&["name", "caption"]),
        address: part.text("address"),
        url: part.text("url"),
        is_live: is_live || part.is_set("isLive"),
        accuracy_m: part.number("accuracyInMeters"),
        speed_mps: part.number("speedInMps"),
        heading_deg: part.number("degreesClockwiseFromMagneticNorth"),
    }))
}

fn cards(part: &Members<'_>) -> Option<Body> {
    let listed = part.list("contacts");
    let contacts = listed.into_iter().map(|raw| card(&Members::of(raw)?)).collect::<Option<_>>()?;
    Some(Body::Contacts(Contacts { contacts }))
}

fn card(part: &Members<'_>) -> Option<ContactCard> {
    let vcard = part.text("vcard");
    let name = part.text("displayName").or_else(|| vcard_line(vcard.as_deref()?, "FN"));
    Some(from_vcard(name?, vcard))
}

/// A card with the numbers that stand in its vCard.
pub(in crate::source) fn from_vcard(display_name: String, vcard: Option<String>) -> ContactCard {
    let phones = vcard.iter().flat_map(|text| text.lines()).filter_map(number).collect();
    ContactCard { display_name, phones, vcard }
}

/// The value of the first line of a vCard with this name.
pub(in crate::source) fn vcard_line(vcard: &str, name: &str) -> Option<String> {
    let value = vcard.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// `item1.TEL;waid=5511999990001:+55 11 99999-0001`
fn number(line: &str) -> Option<ContactPhone> {
    let (labels, phone) = line.split_once(':')?;
    let mut labels = labels.split(';');
    let name = labels.next()?.rsplit('.').next()?;
    if !name.eq_ignore_ascii_case("TEL") {
        return None;
    }
    let wa_id = labels.find_map(|label| label.strip_prefix("waid=")).map(str::to_owned);
    Some(ContactPhone { phone: phone.trim().to_owned(), wa_id })
}

fn poll(part: &Members<'_>) -> Option<Body> {
    let options = part.list("options");
    Some(Body::Poll(Poll {
        name: part.text("name")?,
        options: options
            .into_iter()
            .map(|raw| Members::of(raw)?.text("optionName"))
            .collect::<Option<_>>()?,
        selectable_count: part.count("selectableOptionsCount").unwrap_or(0),
    }))
}

fn product(part: &Members<'_>) -> Option<Body> {
    let shown = part.object("product")?;
    let price = shown.int("priceAmount1000").map(decimal);
    Some(Body::Product(Product {
        product_id: shown.text_of(&["retailerId", "productId"])?,
        catalog_id: None,
        title: shown.text("title"),
        description: shown.text("description"),
        price,
        currency: shown.text("currencyCode"),
        url: shown.text("url"),
        text: part.text("body"),
    }))
}

/// An amount given in thousandths.
fn decimal(thousandths: i64) -> String {
    let sign = if thousandths < 0 { "-" } else { "" };
    let all = thousandths.unsigned_abs();
    let text = format!("{sign}{}.{:03}", all / 1000, all % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn event(part: &Members<'_>) -> Option<Body> {
    let place = part.object("location");
    Some(Body::Event(CalendarEvent {
        name: part.text("name")?,
        description: part.text("description"),
        starts_at: part.time("startTime"),
        ends_at: part.time("endTime"),
        location: place.map(|place| Place {
            name: place.text("name"),
            address: place.text("address"),
            latitude: place.number("degreesLatitude"),
            longitude: place.number("degreesLongitude"),
        }),
    }))
}

fn invite(part: &Members<'_>) -> Option<Body> {
    Some(Body::GroupInvite(GroupInvite {
        group: Address::group(&part.text("groupJid")?).id,
        code: part.text("inviteCode")?,
        expires_at: part.int("inviteExpiration").filter(|at| *at > 0).and_then(|at| {
            // Seconds or milliseconds.
            if at > 100_000_000_000 {
                Some(Timestamp::from_millis(at))
            } else {
                Timestamp::from_secs(at)
            }
        }),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_decimal() {
        let table = [(19_900, "19.9"), (5, "0.005"), (-1_000, "-1"), (0, "0"), (120_000, "120")];
        for (thousandths, expected) in table {
            assert_eq!(decimal(thousandths), expected);
        }
    }

    #[test]
    fn numbers_are_taken_from_a_card() {
        let vcard = "BEGIN:VCARD\nFN:Bia\nitem1.TEL;waid=5511:+55 11\nTEL;type=CELL:12\nNOTE:x";
        let card = from_vcard("Bia".to_owned(), Some(vcard.to_owned()));
        let found: Vec<_> =
            card.phones.iter().map(|p| (p.phone.as_str(), p.wa_id.as_deref())).collect();
        assert_eq!(found, [("+55 11", Some("5511")), ("12", None)]);
        assert_eq!(vcard_line(vcard, "FN").as_deref(), Some("Bia"));
    }
}
