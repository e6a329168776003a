//! What single messages hold.

use super::{random::Random, story::Said, words};
use crate::shape::{
    AdReferral, Body, CalendarEvent, Choice, ContactCard, ContactPhone, Contacts, Content,
    Forwarded, GroupInvite, Interactive, InteractiveKind, InteractiveReply, Location, Media,
    MediaContent, MediaKind, MediaState, Order, OrderItem, Place, Poll, Product, Quoted, ReplyKind,
    System, Unsupported,
};

/// What a person writes or sends: text mostly.
pub(super) fn of_person(text: String, random: &mut Random) -> Content {
    match random.below(100) {
        0..72 => {
            let mut content = Content::text(text);
            if random.chance(0.03) {
                content.forwarded = Some(Forwarded { count: Some(1), many: false });
            }
            if random.chance(0.02) {
                content.ad_referral = Some(Box::new(ad(random)));
            }
            content
        }
        72..79 => Content::new(Body::Image(media(MediaKind::Image, Some(text), random))),
        79..86 => Content::new(Body::Audio(media(MediaKind::Audio, None, random))),
        86..89 => Content::new(Body::Sticker(media(MediaKind::Sticker, None, random))),
        89..91 => Content::new(Body::Video(media(MediaKind::Video, Some(text), random))),
        91..94 => Content::new(Body::Document(media(MediaKind::Document, None, random))),
        94..97 => Content::new(Body::Location(location(random))),
        97..99 => Content::new(Body::Contacts(card(random))),
        _ => Content::new(Body::Unsupported(Unsupported {
            upstream_type: "unsupported".to_owned(),
            reason: Some("unknown message type".to_owned()),
            errors: Vec::new(),
        })),
    }
}

/// With the message that it answers.
pub(super) fn answering(mut content: Content, said: &Said) -> Content {
    content.quoted = Some(Quoted { message: said.message.clone(), body: said.text.clone() });
    content
}

fn media(kind: MediaKind, caption: Option<String>, random: &mut Random) -> MediaContent {
    let (mime, extension) = match kind {
        MediaKind::Image => ("image/jpeg", "jpg"),
        MediaKind::Video => ("video/mp4", "mp4"),
        MediaKind::Audio => ("audio/ogg; codecs=opus", "ogg"),
        MediaKind::Document => ("application/pdf", "pdf"),
        MediaKind::Sticker => ("image/webp", "webp"),
    };
    let id = random.hex(20).to_lowercase();
    let mut media = Media::new(kind, mime, MediaState::Url);
    media.size_bytes = Some(4_000 + random.below(900_000) as u64);
    media.url = Some(format!("https://media.example.com/{id}.{extension}"));
    media.media_id = Some(id);
    match kind {
        MediaKind::Image => (media.width_px, media.height_px) = (Some(1200), Some(1600)),
        MediaKind::Video => media.duration_s = Some(5 + random.below(55) as u32),
        MediaKind::Audio => {
            media.duration_s = Some(2 + random.below(60) as u32);
            media.voice = true;
        }
        MediaKind::Document => {
            media.file_name = Some(format!("pedido-{}.pdf", 1_000 + random.below(9_000)));
            media.pages = Some(1 + random.below(6) as u32);
        }
        MediaKind::Sticker => media.animated = random.chance(0.3),
    }
    MediaContent { media, caption }
}

fn location(random: &mut Random) -> Location {
    // Six decimals, as phones report.
    let coordinate = |value: f64| (value * 1e6).round() / 1e6;
    Location {
        latitude: coordinate(random.between(-23.6, -23.5)),
        longitude: coordinate(random.between(-46.7, -46.6)),
        name: Some("Praça Exemplo".to_owned()),
        address: Some("Rua Fictícia, 100".to_owned()),
        url: None,
        is_live: random.chance(0.2),
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
    }
}

fn card(random: &mut Random) -> Contacts {
    let digits = format!("551199999{:04}", random.below(10_000));
    Contacts {
        contacts: vec![ContactCard {
            display_name: "Contato Exemplo".to_owned(),
            phones: vec![ContactPhone { phone: format!("+{digits}"), wa_id: Some(digits) }],
            vcard: None,
        }],
    }
}

fn ad(random: &mut Random) -> AdReferral {
    AdReferral {
        source_url: Some("https://ads.example.com/1".to_owned()),
        source_id: Some((100_000 + random.below(900_000)).to_string()),
        source_type: Some("ad".to_owned()),
        headline: Some("Semana de ofertas".to_owned()),
        ..AdReferral::default()
    }
}

/// The shop's offer of a few choices.
pub(super) fn choices(random: &mut Random) -> Interactive {
    let kind = *random.pick(&[InteractiveKind::Buttons, InteractiveKind::List]);
    let choice = |id: &str, title: &str| Choice {
        id: id.to_owned(),
        title: title.to_owned(),
        description: None,
    };
    Interactive {
        sub_kind: kind,
        header: None,
        body: Some("Como prefere receber?".to_owned()),
        footer: Some("Loja Exemplo".to_owned()),
        options: vec![
            choice("delivery", "Entrega"),
            choice("pickup", "Retirar na loja"),
            choice("later", "Decidir depois"),
        ],
    }
}

/// What somebody chose of them.
pub(super) fn choice(of: &Interactive, random: &mut Random) -> Content {
    let chosen = random.pick(&of.options);
    Content::new(Body::InteractiveReply(InteractiveReply {
        sub_kind: match of.sub_kind {
            InteractiveKind::List => ReplyKind::List,
            _ => ReplyKind::Button,
        },
        id: Some(chosen.id.clone()),
        title: Some(chosen.title.clone()),
        description: None,
        payload: None,
        response_json: None,
    }))
}

pub(super) fn order(random: &mut Random) -> Content {
    let items = (0..1 + random.below(3))
        .map(|_| OrderItem {
            product_id: format!("SKU-{}", 100 + random.below(900)),
            quantity: 1 + random.below(3) as u64,
            price: Some(words::price(random)),
            currency: Some("BRL".to_owned()),
        })
        .collect();
    let text = random.chance(0.4).then(|| "Pode embrulhar para presente?".to_owned());
    Content::new(Body::Order(Order { catalog_id: "700000000000001".to_owned(), items, text }))
}

pub(super) fn product(random: &mut Random) -> Content {
    Content::new(Body::Product(Product {
        product_id: format!("SKU-{}", 100 + random.below(900)),
        catalog_id: Some("700000000000001".to_owned()),
        title: Some(words::item(random).to_owned()),
        description: None,
        price: Some(words::price(random)),
        currency: Some("BRL".to_owned()),
        url: None,
        text: None,
    }))
}

pub(super) fn poll() -> Poll {
    Poll {
        name: "Qual dia fica melhor?".to_owned(),
        options: ["Terça", "Quarta", "Quinta"].map(str::to_owned).to_vec(),
        selectable_count: 1,
    }
}

pub(super) fn calendar_event() -> Content {
    Content::new(Body::Event(CalendarEvent {
        name: "Inventário da loja".to_owned(),
        description: Some("Começamos cedo".to_owned()),
        starts_at: None,
        ends_at: None,
        location: Some(Place {
            name: Some("Depósito".to_owned()),
            address: None,
            latitude: None,
            longitude: None,
        }),
    }))
}

pub(super) fn invite(group: &str, random: &mut Random) -> Content {
    let code = random.hex(16);
    Content::new(Body::GroupInvite(GroupInvite { group: group.to_owned(), code, expires_at: None }))
}

pub(super) fn notice() -> Content {
    Content::new(Body::System(System {
        sub_kind: "disappearing_mode".to_owned(),
        text: Some("As mensagens temporárias foram ativadas.".to_owned()),
    }))
}
