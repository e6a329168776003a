//! Every kind of content, and what may stand around it.

use serde_json::{Map, Value, json};
use zapbus_event::{
    Data, Kind, Timestamp,
    data::{DeletionReason, DeletionScope, VoteTarget},
    sample,
    shape::{
        AdReferral, Body, CalendarEvent, Choice, ContactCard, ContactPhone, Contacts, Content,
        Forwarded, GroupInvite, Interactive, InteractiveKind, InteractiveReply, Json, Location,
        Media, MediaContent, MediaKind, MediaState, MessageRef, Order, OrderItem, Place, Poll,
        Product, Quoted, ReplyKind, System, Text, Unsupported,
    },
};

use super::payload;

fn saying(content: Content) -> Value {
    let Data::MessageReceived(mut received) = sample(Kind::MessageReceived) else { panic!() };
    received.content = content;
    let payload = payload(&Data::MessageReceived(received));
    let mut shown = Map::new();
    for member in ["media_url", "base64", "mime_type", "file_name"] {
        if let Some(value) = payload.get(member) {
            shown.insert(member.to_owned(), value.clone());
        }
    }
    let info = &payload["event"]["info"];
    shown.insert("type".to_owned(), info["type"].clone());
    shown.insert("media_type".to_owned(), info["media_type"].clone());
    shown.insert("message".to_owned(), payload["event"]["message"].clone());
    shown.into()
}

fn media(kind: MediaKind, mime: &str, state: MediaState) -> Media {
    let mut media = Media::new(kind, mime, state);
    media.size_bytes = Some(20_480);
    media.sha256 = Some("3Zf0kq2b5cU0m1b8n9u6xV4p7s2d1g0hJkLmNoPqRsE=".to_owned());
    media
}

fn text(body: &str) -> Text {
    Text { body: body.to_owned(), preview_url: None, mentions: Vec::new() }
}

fn files() -> Vec<(&'static str, Body)> {
    let url = Some("https://media.example/f.jpg".to_owned());
    let of = |media| MediaContent { media, caption: Some("Foto".to_owned()) };
    let image = media(MediaKind::Image, "image/jpeg", MediaState::Url);
    let inline = media(MediaKind::Image, "image/jpeg", MediaState::Inline);
    let encrypted = media(MediaKind::Image, "image/jpeg", MediaState::EncryptedUrl);
    let video = media(MediaKind::Video, "video/mp4", MediaState::IdOnly);
    let audio = media(MediaKind::Audio, "audio/ogg; codecs=opus", MediaState::Url);
    let document = media(MediaKind::Document, "application/pdf", MediaState::Url);
    let sticker = media(MediaKind::Sticker, "image/webp", MediaState::Pending);
    vec![
        (
            "image with a stored file",
            Body::Image(of(Media {
                url: url.clone(),
                height_px: Some(1280),
                width_px: Some(720),
                thumbnail_base64: Some("/9j/".to_owned()),
                ..image
            })),
        ),
        (
            "image that came with the event",
            Body::Image(of(Media {
                base64: Some("/9j/4AAQ".to_owned()),
                file_name: Some("foto.jpg".to_owned()),
                ..inline
            })),
        ),
        ("image on WhatsApp's servers", Body::Image(of(Media { url: url.clone(), ..encrypted }))),
        (
            "video",
            Body::Video(of(Media {
                media_id: Some("900000000000001".to_owned()),
                duration_s: Some(12),
                ..video.clone()
            })),
        ),
        ("gif", Body::Video(of(Media { animated: true, ..video }))),
        (
            "voice",
            Body::Audio(MediaContent {
                media: Media {
                    voice: true,
                    duration_s: Some(3),
                    url: url.clone(),
                    ..audio.clone()
                },
                caption: None,
            }),
        ),
        ("audio", Body::Audio(MediaContent { media: audio, caption: None })),
        (
            "document",
            Body::Document(of(Media {
                file_name: Some("nota.pdf".to_owned()),
                pages: Some(2),
                url,
                ..document
            })),
        ),
        ("sticker", Body::Sticker(of(Media { animated: true, ..sticker }))),
    ]
}

fn choices() -> Vec<Choice> {
    vec![
        Choice { id: "1".to_owned(), title: "Sim".to_owned(), description: None },
        Choice {
            id: "2".to_owned(),
            title: "Não".to_owned(),
            description: Some("agora não".to_owned()),
        },
    ]
}

fn interactive(sub_kind: InteractiveKind) -> Body {
    Body::Interactive(Interactive {
        sub_kind,
        header: Some("Pedido".to_owned()),
        body: Some("Confirma?".to_owned()),
        footer: Some("Loja".to_owned()),
        options: choices(),
    })
}

fn reply(sub_kind: ReplyKind) -> Body {
    Body::InteractiveReply(InteractiveReply {
        sub_kind,
        id: Some("1".to_owned()),
        title: Some("Sim".to_owned()),
        description: Some("claro".to_owned()),
        payload: None,
        response_json: Json::parse(r#"{"flow_token":"t","answer":1}"#),
    })
}

fn location(is_live: bool) -> Body {
    Body::Location(Location {
        latitude: -23.5,
        longitude: -46.6,
        name: Some("Loja".to_owned()),
        address: Some("Rua 1".to_owned()),
        url: None,
        is_live,
        accuracy_m: Some(5.0),
        speed_mps: Some(1.5),
        heading_deg: Some(90.0),
    })
}

fn card(name: &str, vcard: Option<&str>) -> ContactCard {
    ContactCard {
        display_name: name.to_owned(),
        phones: vec![ContactPhone {
            phone: "+55 11 99999-0001".to_owned(),
            wa_id: Some("5511999990001".to_owned()),
        }],
        vcard: vcard.map(str::to_owned),
    }
}

fn others() -> Vec<(&'static str, Body)> {
    let order = Order {
        catalog_id: "c1".to_owned(),
        items: vec![OrderItem {
            product_id: "p1".to_owned(),
            quantity: 2,
            price: Some("9.90".to_owned()),
            currency: Some("BRL".to_owned()),
        }],
        text: Some("Por favor".to_owned()),
    };
    let product = Product {
        product_id: "p1".to_owned(),
        catalog_id: Some("c1".to_owned()),
        title: Some("Caneca".to_owned()),
        description: None,
        price: Some("9.90".to_owned()),
        currency: Some("BRL".to_owned()),
        url: None,
        text: Some("Veja".to_owned()),
    };
    let at = Timestamp::from_secs(1_767_312_000);
    let event = CalendarEvent {
        name: "Feira".to_owned(),
        description: None,
        starts_at: at,
        ends_at: at,
        location: Some(Place {
            name: Some("Praça".to_owned()),
            address: None,
            latitude: Some(-23.5),
            longitude: Some(-46.6),
        }),
    };
    vec![
        ("text", Body::Text(text("Olá"))),
        (
            "text with a link",
            Body::Text(Text {
                preview_url: Some("https://example.com".to_owned()),
                ..text("https://example.com")
            }),
        ),
        (
            "text with a mention",
            Body::Text(Text {
                mentions: vec!["5511999990002@s.whatsapp.net".to_owned()],
                ..text("@5511999990002")
            }),
        ),
        ("location", location(false)),
        ("live location", location(true)),
        ("one contact", Body::Contacts(Contacts { contacts: vec![card("Ana\nX", None)] })),
        (
            "two contacts",
            Body::Contacts(Contacts {
                contacts: vec![card("Ana", Some("BEGIN:VCARD")), card("Bia", None)],
            }),
        ),
        (
            "poll",
            Body::Poll(Poll {
                name: "Quando?".to_owned(),
                options: vec!["Terça".to_owned(), "Quarta".to_owned()],
                selectable_count: 1,
            }),
        ),
        ("buttons", interactive(InteractiveKind::Buttons)),
        ("list", interactive(InteractiveKind::List)),
        ("flow", interactive(InteractiveKind::Flow)),
        ("button reply", reply(ReplyKind::Button)),
        ("list reply", reply(ReplyKind::List)),
        ("template reply", reply(ReplyKind::TemplateButton)),
        ("flow reply", reply(ReplyKind::Flow)),
        ("call permission reply", reply(ReplyKind::CallPermission)),
        ("order", Body::Order(order)),
        ("product", Body::Product(product)),
        ("event", Body::Event(event)),
        (
            "group invitation",
            Body::GroupInvite(GroupInvite {
                group: "120363000000000001@g.us".to_owned(),
                code: "abc".to_owned(),
                expires_at: at,
            }),
        ),
        ("system", Body::System(System { sub_kind: "e2e".to_owned(), text: Some("…".to_owned()) })),
        (
            "unsupported",
            Body::Unsupported(Unsupported {
                upstream_type: "hologram".to_owned(),
                reason: None,
                errors: Vec::new(),
            }),
        ),
    ]
}

#[test]
fn every_content() {
    let written: Map<String, Value> = files()
        .into_iter()
        .chain(others())
        .map(|(name, body)| (name.to_owned(), saying(Content::new(body))))
        .collect();
    insta::assert_json_snapshot!(written);
}

#[test]
fn what_stands_around_a_content() {
    let mut content = Content::text("Olá");
    content.quoted = Some(Quoted {
        message: MessageRef {
            id: "3EB0".to_owned(),
            chat: "120363000000000001@g.us".to_owned(),
            from_me: Some(false),
            participant: Some("5511999990002@s.whatsapp.net".to_owned()),
        },
        body: Some("Oi".to_owned()),
    });
    content.forwarded = Some(Forwarded { count: None, many: true });
    content.ephemeral_expires_s = Some(86_400);
    content.ad_referral = Some(Box::new(AdReferral {
        source_url: Some("https://fb.example/1".to_owned()),
        source_id: Some("1".to_owned()),
        source_type: Some("ad".to_owned()),
        headline: Some("Oferta".to_owned()),
        body: None,
        media_type: Some("image".to_owned()),
        image_url: Some("https://fb.example/1.jpg".to_owned()),
        video_url: None,
        thumbnail_url: None,
        ctwa_clid: Some("clid".to_owned()),
        welcome_message: None,
    }));
    insta::assert_json_snapshot!(saying(content));
}

#[test]
fn a_revocation_says_by_whom_and_for_whom() {
    let Data::MessageDeleted(mut deleted) = sample(Kind::MessageDeleted) else { panic!() };
    for (scope, reason, edit) in [
        (DeletionScope::Everyone, None, json!("7")),
        (DeletionScope::Everyone, Some(DeletionReason::Sender), json!("7")),
        (DeletionScope::Everyone, Some(DeletionReason::Admin), json!("8")),
        (DeletionScope::Me, None, Value::Null),
    ] {
        deleted.scope = scope;
        deleted.reason = reason;
        let event = payload(&Data::MessageDeleted(deleted.clone()))["event"].clone();
        assert_eq!(event["info"]["edit"], edit);
        assert_eq!(event["scope"], scope.as_str());
        let protocol = &event["message"]["protocol_message"];
        assert_eq!(
            (&protocol["type"], &protocol["key"]["id"]),
            (&json!(0), &json!(deleted.message.id))
        );
    }
}

#[test]
fn a_reaction_taken_back_is_an_empty_one() {
    let Data::MessageReaction(mut reaction) = sample(Kind::MessageReaction) else { panic!() };
    let shown = |reaction: &_| {
        let payload = payload(&Data::MessageReaction(Clone::clone(reaction)));
        payload["event"]["message"]["reaction_message"]["text"].clone()
    };
    assert_eq!(shown(&reaction), "👍");
    reaction.removed = true;
    assert_eq!(shown(&reaction), "");
}

#[test]
fn an_answer_to_a_calendar_event_is_no_vote_in_a_poll() {
    let Data::MessageVote(mut vote) = sample(Kind::MessageVote) else { panic!() };
    vote.target_kind = VoteTarget::Event;
    vote.decrypt_failed = true;
    insta::assert_json_snapshot!(payload(&Data::MessageVote(vote)));
}
