//! What a message says, by its type.

mod cards;
mod interactive;
mod order;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::phone::{ApiError, Phone, errors};
use crate::{
    shape::{
        AdReferral, Address, AddressKind, Body, Content, Forwarded, InteractiveReply, Location,
        Media, MediaContent, MediaKind, MediaState, MessageRef, Quoted, ReferredProduct, ReplyKind,
        System, Text as PlainText, Unsupported, UpstreamError,
    },
    source::{
        compound::{List, Object, read_member},
        delivery::Misfit,
        scalar::{Decimal, Flag, Int, Text, Time, filled, owned},
    },
};

/// A message as posted: who and when, and one member per type, of which only the one that
/// `type` names is looked into.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    #[serde(borrow)]
    pub(super) from: Text<'a>,
    #[serde(borrow)]
    pub(super) from_user_id: Text<'a>,
    #[serde(borrow)]
    pub(super) to: Text<'a>,
    #[serde(borrow)]
    pub(super) to_user_id: Text<'a>,
    #[serde(borrow)]
    pub(super) group_id: Text<'a>,
    pub(super) timestamp: Time,
    #[serde(borrow)]
    pub(super) biz_opaque_callback_data: Text<'a>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    referral: Option<&'a RawValue>,
    /// Its state, for messages of the past.
    #[serde(borrow)]
    pub(super) history_context: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    image: Option<&'a RawValue>,
    #[serde(borrow)]
    video: Option<&'a RawValue>,
    #[serde(borrow)]
    audio: Option<&'a RawValue>,
    #[serde(borrow)]
    document: Option<&'a RawValue>,
    #[serde(borrow)]
    sticker: Option<&'a RawValue>,
    #[serde(borrow)]
    location: Option<&'a RawValue>,
    #[serde(borrow)]
    contacts: Option<&'a RawValue>,
    #[serde(borrow)]
    interactive: Option<&'a RawValue>,
    #[serde(borrow)]
    button: Option<&'a RawValue>,
    #[serde(borrow)]
    order: Option<&'a RawValue>,
    #[serde(borrow)]
    unsupported: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) reaction: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) edit: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) revoke: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) system: Option<&'a RawValue>,
}

impl Message<'_> {
    /// What the API reports with it.
    pub(super) fn errors(&self) -> Vec<UpstreamError> {
        read_member::<List<ApiError<'_>>>(self.errors).map_or_else(Vec::new, |list| errors(&list))
    }

    /// The name of its type.
    fn type_name(&self) -> &str {
        filled(&self.kind).unwrap_or("unknown")
    }
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow)]
    from: Text<'a>,
    #[serde(borrow)]
    id: Text<'a>,
    forwarded: Flag,
    frequently_forwarded: Flag,
    #[serde(borrow)]
    referred_product: Object<Product<'a>>,
}

#[derive(Deserialize)]
struct Product<'a> {
    #[serde(borrow)]
    catalog_id: Text<'a>,
    #[serde(borrow)]
    product_retailer_id: Text<'a>,
}

#[derive(Deserialize)]
struct Referral<'a> {
    #[serde(borrow)]
    source_url: Text<'a>,
    #[serde(borrow)]
    source_id: Text<'a>,
    #[serde(borrow)]
    source_type: Text<'a>,
    #[serde(borrow)]
    headline: Text<'a>,
    #[serde(borrow)]
    body: Text<'a>,
    #[serde(borrow)]
    media_type: Text<'a>,
    #[serde(borrow)]
    image_url: Text<'a>,
    #[serde(borrow)]
    video_url: Text<'a>,
    #[serde(borrow)]
    thumbnail_url: Text<'a>,
    #[serde(borrow)]
    ctwa_clid: Text<'a>,
    #[serde(borrow)]
    welcome_message: Object<WelcomeMessage<'a>>,
}

#[derive(Deserialize)]
struct WelcomeMessage<'a> {
    #[serde(borrow)]
    text: Text<'a>,
}

/// The whole content: the body, what it answers, how it got here. A body that is not what its
/// type demands still tells the chat that something arrived.
pub(super) fn content(phone: &Phone<'_>, message: &Message<'_>, chat: &Address) -> Content {
    let body = body(message).unwrap_or_else(|_| unsupported(message.type_name(), message));
    let mut content = Content::new(body);
    if let Some(context) = read_member::<Context<'_>>(message.context) {
        content.quoted = quoted(phone, &context, chat);
        content.referred_product = context.referred_product.0.as_ref().and_then(referred);
        let many = context.frequently_forwarded.is_set();
        if many || context.forwarded.is_set() {
            content.forwarded = Some(Forwarded { count: None, many });
        }
    }
    content.ad_referral = read_member::<Referral<'_>>(message.referral)
        .map(|referral| Box::new(AdReferral::from(&referral)))
        .filter(|referral| **referral != AdReferral::default());
    content
}

fn body(message: &Message<'_>) -> Result<Body, Misfit> {
    Ok(match &*message.kind {
        "text" => text(message.text)?,
        "image" => Body::Image(media(MediaKind::Image, message.image)?),
        "video" => Body::Video(media(MediaKind::Video, message.video)?),
        "audio" => Body::Audio(media(MediaKind::Audio, message.audio)?),
        "document" => Body::Document(media(MediaKind::Document, message.document)?),
        "sticker" => Body::Sticker(media(MediaKind::Sticker, message.sticker)?),
        "location" => Body::Location(location(message.location)?),
        "contacts" => Body::Contacts(cards::contacts(message.contacts)?),
        "interactive" => interactive::body(read(message.interactive)?, message)?,
        "button" => button(message.button)?,
        "order" => Body::Order(order::order(message.order)?),
        "system" => system(message.system)?,
        "request_welcome" => {
            Body::System(System { sub_kind: "request_welcome".to_owned(), text: None })
        }
        "unsupported" => {
            let named = read_member::<Kind<'_>>(message.unsupported);
            let name = named.as_ref().and_then(|named| filled(&named.kind));
            unsupported(name.unwrap_or("unsupported"), message)
        }
        // A type from the future.
        _ => unsupported(message.type_name(), message),
    })
}

fn unsupported(name: &str, message: &Message<'_>) -> Body {
    let errors = message.errors();
    let reason = errors.first().and_then(|error| error.title.clone());
    Body::Unsupported(Unsupported { upstream_type: name.to_owned(), reason, errors })
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
}

fn text(part: Option<&RawValue>) -> Result<Body, Misfit> {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        body: Text<'a>,
    }
    let said: Said<'_> = read(part)?;
    Ok(Body::Text(PlainText {
        body: said.body.given().ok_or(Misfit::SHAPE)?.to_owned(),
        preview_url: None,
        mentions: Vec::new(),
    }))
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    mime_type: Text<'a>,
    #[serde(borrow)]
    sha256: Text<'a>,
    #[serde(borrow)]
    filename: Text<'a>,
    #[serde(borrow)]
    caption: Text<'a>,
    #[serde(borrow)]
    url: Text<'a>,
    file_size: Int,
    voice: Flag,
    animated: Flag,
}

fn media(kind: MediaKind, part: Option<&RawValue>) -> Result<MediaContent, Misfit> {
    let file: File<'_> = read(part)?;
    // The URL beside an id needs the number's token and ends after some minutes.
    let state = match (filled(&file.id), filled(&file.url)) {
        (Some(_), _) => MediaState::IdOnly,
        (None, Some(_)) => MediaState::Url,
        (None, None) => MediaState::Unavailable,
    };
    let mime = filled(&file.mime_type).unwrap_or("application/octet-stream");
    let mut media = Media::new(kind, mime, state);
    media.media_id = owned(&file.id);
    media.sha256 = owned(&file.sha256);
    media.file_name = owned(&file.filename);
    media.url = owned(&file.url);
    media.size_bytes = file.file_size.positive();
    media.voice = file.voice.is_set();
    media.animated = file.animated.is_set();
    Ok(MediaContent { media, caption: owned(&file.caption) })
}

fn location(part: Option<&RawValue>) -> Result<Location, Misfit> {
    #[derive(Deserialize)]
    struct Spot<'a> {
        latitude: Decimal,
        longitude: Decimal,
        #[serde(borrow)]
        name: Text<'a>,
        #[serde(borrow)]
        address: Text<'a>,
        #[serde(borrow)]
        url: Text<'a>,
    }
    let spot: Spot<'_> = read(part)?;
    Ok(Location {
        latitude: spot.latitude.0.ok_or(Misfit::SHAPE)?,
        longitude: spot.longitude.0.ok_or(Misfit::SHAPE)?,
        name: owned(&spot.name),
        address: owned(&spot.address),
        url: owned(&spot.url),
        is_live: false,
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
    })
}

/// A tap on a button of a template.
fn button(part: Option<&RawValue>) -> Result<Body, Misfit> {
    #[derive(Deserialize)]
    struct Button<'a> {
        #[serde(borrow)]
        text: Text<'a>,
        #[serde(borrow)]
        payload: Text<'a>,
    }
    let button: Button<'_> = read(part)?;
    Ok(Body::InteractiveReply(InteractiveReply {
        sub_kind: ReplyKind::TemplateButton,
        id: None,
        title: owned(&button.text),
        description: None,
        payload: owned(&button.payload),
        response_json: None,
    }))
}

fn system(part: Option<&RawValue>) -> Result<Body, Misfit> {
    #[derive(Deserialize)]
    struct Notice<'a> {
        #[serde(borrow)]
        body: Text<'a>,
        #[serde(borrow, rename = "type")]
        kind: Text<'a>,
    }
    let notice: Notice<'_> = read(part)?;
    let sub_kind = filled(&notice.kind).unwrap_or("system").to_owned();
    Ok(Body::System(System { sub_kind, text: owned(&notice.body) }))
}

fn quoted(phone: &Phone<'_>, context: &Context<'_>, chat: &Address) -> Option<Quoted> {
    let id = filled(&context.id)?.to_owned();
    let from = filled(&context.from);
    let message = MessageRef {
        id,
        chat: chat.id.clone(),
        from_me: from.filter(|_| phone.own.phone.is_some()).map(|from| phone.is_own(from)),
        participant: from
            .filter(|_| chat.kind == AddressKind::Group)
            .map(|from| Address::phone(from).id),
    };
    Some(Quoted { message, body: None })
}

fn referred(product: &Product<'_>) -> Option<ReferredProduct> {
    Some(ReferredProduct {
        catalog_id: owned(&product.catalog_id),
        product_id: owned(&product.product_retailer_id)?,
    })
}

impl From<&Referral<'_>> for AdReferral {
    fn from(referral: &Referral<'_>) -> Self {
        Self {
            source_url: owned(&referral.source_url),
            source_id: owned(&referral.source_id),
            source_type: owned(&referral.source_type),
            headline: owned(&referral.headline),
            body: owned(&referral.body),
            media_type: owned(&referral.media_type),
            image_url: owned(&referral.image_url),
            video_url: owned(&referral.video_url),
            thumbnail_url: owned(&referral.thumbnail_url),
            ctwa_clid: owned(&referral.ctwa_clid),
            welcome_message: referral
                .welcome_message
                .0
                .as_ref()
                .and_then(|welcome| owned(&welcome.text)),
        }
    }
}

/// The member that the type names; without it the message is not what it says.
fn read<'a, T: Deserialize<'a>>(part: Option<&'a RawValue>) -> Result<T, Misfit> {
    Ok(serde_json::from_str(part.ok_or(Misfit::SHAPE)?.get())?)
}
