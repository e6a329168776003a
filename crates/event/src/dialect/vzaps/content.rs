//! What a message says, in the shape of WhatsApp's own message structs with snake-case keys.

mod cards;
mod context;

use serde_json::Value;

use self::context::context_info;
use super::{keys::Keys, object::Object};
use crate::shape::{
    Body, Content, Interactive, InteractiveKind, InteractiveReply, Location, Media, MediaContent,
    MediaKind, MediaState, ReplyKind, Text,
};

/// A content as it is written, with what `info` says of it.
pub(super) struct Written {
    /// `info.type`.
    pub(super) kind: &'static str,
    /// `info.media_type`.
    pub(super) media_type: Option<&'static str>,
    /// `event.message`.
    pub(super) message: Value,
}

/// Writes a content.
pub(super) fn write(content: &Content, media_keys: &Keys) -> Written {
    let (kind, media_type) = kind(&content.body);
    let named = |name: &str, inner: Object| {
        Object::new().put(name, inner.maybe("context_info", context_info(content)))
    };
    let message = match &content.body {
        Body::Text(text) => text_message(text, content),
        Body::Image(media)
        | Body::Video(media)
        | Body::Audio(media)
        | Body::Document(media)
        | Body::Sticker(media) => {
            named(media_name(media.media.kind), media_message(media, content, media_keys))
        }
        Body::Location(at) if at.is_live => named("live_location_message", live_location(at)),
        Body::Location(at) => named("location_message", location(at)),
        Body::Contacts(contacts) => {
            let (name, inner) = cards::contacts(contacts);
            named(name, inner)
        }
        Body::Poll(poll) => named("poll_creation_message", cards::poll(poll)),
        Body::Interactive(interactive) => {
            let (name, inner) = offered(interactive);
            named(name, inner)
        }
        Body::InteractiveReply(reply) => {
            let (name, inner) = answered(reply);
            named(name, inner)
        }
        Body::Order(order) => named("order_message", cards::order(order)),
        Body::Product(product) => named("product_message", cards::product(product)),
        Body::Event(event) => named("event_message", cards::event(event)),
        Body::GroupInvite(invite) => named("group_invite_message", cards::invite(invite)),
        // WhatsApp has no message for these: what there is of them is text.
        Body::System(system) => Object::new()
            .maybe("conversation", system.text.as_deref())
            .put("system", system.sub_kind.as_str()),
        Body::Unsupported(unsupported) => Object::new().put(
            "unsupported",
            Object::new()
                .put("type", unsupported.upstream_type.as_str())
                .maybe("reason", unsupported.reason.as_deref()),
        ),
    };
    Written { kind, media_type, message: message.into() }
}

/// The file of a content, if it has one.
pub(super) fn media(content: &Content) -> Option<&Media> {
    match &content.body {
        Body::Image(media)
        | Body::Video(media)
        | Body::Audio(media)
        | Body::Document(media)
        | Body::Sticker(media) => Some(&media.media),
        _ => None,
    }
}

/// Where a file can be fetched as it is: an encrypted one of WhatsApp's own servers cannot.
pub(super) fn stored_url(media: &Media) -> Option<&str> {
    media.url.as_deref().filter(|_| media.state != MediaState::EncryptedUrl)
}

/// `info.type` and `info.media_type`, as whatsmeow tells them.
fn kind(body: &Body) -> (&'static str, Option<&'static str>) {
    match body {
        Body::Text(text) if text.preview_url.is_some() => ("media", Some("url")),
        Body::Text(_) | Body::System(_) | Body::Unsupported(_) | Body::GroupInvite(_) => {
            ("text", None)
        }
        Body::Image(_) => ("media", Some("image")),
        Body::Video(media) if media.media.animated => ("media", Some("gif")),
        Body::Video(_) => ("media", Some("video")),
        Body::Audio(media) if media.media.voice => ("media", Some("ptt")),
        Body::Audio(_) => ("media", Some("audio")),
        Body::Document(_) => ("media", Some("document")),
        Body::Sticker(_) => ("media", Some("sticker")),
        Body::Location(at) if at.is_live => ("media", Some("livelocation")),
        Body::Location(_) => ("media", Some("location")),
        Body::Contacts(contacts) if contacts.contacts.len() == 1 => ("media", Some("vcard")),
        Body::Contacts(_) => ("media", Some("contact_array")),
        Body::Poll(_) => ("poll", None),
        Body::Interactive(interactive) => match interactive.sub_kind {
            InteractiveKind::List => ("media", Some("list")),
            InteractiveKind::Buttons => ("media", Some("button")),
            _ => ("media", Some("interactive")),
        },
        Body::InteractiveReply(reply) => match reply.sub_kind {
            ReplyKind::List => ("media", Some("list_response")),
            ReplyKind::Button | ReplyKind::TemplateButton => ("media", Some("buttons_response")),
            ReplyKind::Flow | ReplyKind::CallPermission => ("media", Some("native_flow_response")),
        },
        Body::Order(_) => ("media", Some("order")),
        Body::Product(_) => ("media", Some("product")),
        Body::Event(_) => ("event", None),
    }
}

fn text_message(text: &Text, content: &Content) -> Object {
    let context = context_info(content);
    if context.is_none() && text.preview_url.is_none() {
        return Object::new().put("conversation", text.body.as_str());
    }
    let extended = Object::new()
        .put("text", text.body.as_str())
        .maybe("matched_text", text.preview_url.as_deref())
        .maybe("context_info", context);
    Object::new().put("extended_text_message", extended)
}

fn media_name(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image_message",
        MediaKind::Video => "video_message",
        MediaKind::Audio => "audio_message",
        MediaKind::Document => "document_message",
        MediaKind::Sticker => "sticker_message",
    }
}

fn media_message(content: &MediaContent, around: &Content, media_keys: &Keys) -> Object {
    let media = &content.media;
    Object::new()
        .maybe("url", media_keys.url.as_deref().or(media.url.as_deref()))
        .put("mimetype", media.mime.as_str())
        .maybe("caption", content.caption.as_deref())
        .maybe("file_name", media.file_name.as_deref())
        .maybe("file_sha256", media.sha256.as_deref())
        .maybe("file_length", media.size_bytes)
        .maybe("height", media.height_px)
        .maybe("width", media.width_px)
        .maybe("seconds", media.duration_s)
        .maybe("page_count", media.pages)
        .flag("ptt", media.voice)
        .flag("gif_playback", media.animated && media.kind == MediaKind::Video)
        .flag("is_animated", media.animated && media.kind == MediaKind::Sticker)
        .flag("view_once", around.view_once)
        .maybe("media_key", media_keys.media_key.as_deref())
        .maybe("file_enc_sha256", media_keys.file_enc_sha256.as_deref())
        .maybe("direct_path", media_keys.direct_path.as_deref())
        .maybe("jpeg_thumbnail", media.thumbnail_base64.as_deref())
        .maybe("media_id", media.media_id.as_deref())
}

fn location(at: &Location) -> Object {
    Object::new()
        .put("degrees_latitude", at.latitude)
        .put("degrees_longitude", at.longitude)
        .maybe("name", at.name.as_deref())
        .maybe("address", at.address.as_deref())
        .maybe("url", at.url.as_deref())
        .maybe("accuracy_in_meters", at.accuracy_m)
}

fn live_location(at: &Location) -> Object {
    Object::new()
        .put("degrees_latitude", at.latitude)
        .put("degrees_longitude", at.longitude)
        .maybe("accuracy_in_meters", at.accuracy_m)
        .maybe("speed_in_mps", at.speed_mps)
        .maybe("degrees_clockwise_from_magnetic_north", at.heading_deg)
        .maybe("caption", at.name.as_deref())
}

/// A message that offers choices.
fn offered(interactive: &Interactive) -> (&'static str, Object) {
    let (header, body, footer) =
        (interactive.header.as_deref(), interactive.body.as_deref(), interactive.footer.as_deref());
    match interactive.sub_kind {
        InteractiveKind::Buttons => {
            let buttons = interactive.options.iter().map(|choice| {
                Object::new()
                    .put("button_id", choice.id.as_str())
                    .put("button_text", Object::new().put("display_text", choice.title.as_str()))
                    .into()
            });
            let inner = Object::new()
                .maybe("text", header)
                .maybe("content_text", body)
                .maybe("footer_text", footer)
                .put("buttons", buttons.collect::<Vec<Value>>());
            ("buttons_message", inner)
        }
        InteractiveKind::List => {
            let rows = interactive.options.iter().map(|choice| {
                Object::new()
                    .put("row_id", choice.id.as_str())
                    .put("title", choice.title.as_str())
                    .maybe("description", choice.description.as_deref())
                    .into()
            });
            let section = Object::new().put("rows", rows.collect::<Vec<Value>>());
            let inner = Object::new()
                .maybe("title", header)
                .maybe("description", body)
                .maybe("footer_text", footer)
                .put("sections", vec![Value::from(section)]);
            ("list_message", inner)
        }
        InteractiveKind::Flow
        | InteractiveKind::Carousel
        | InteractiveKind::Template
        | InteractiveKind::Cta => {
            let buttons = interactive.options.iter().map(|choice| {
                let parameters = Object::new()
                    .put("id", choice.id.as_str())
                    .put("display_text", choice.title.as_str())
                    .maybe("description", choice.description.as_deref());
                let parameters = String::from_utf8(parameters.into_bytes()).unwrap_or_default();
                Object::new()
                    .put("name", interactive.sub_kind.as_str())
                    .put("button_params_json", parameters)
                    .into()
            });
            let flow = Object::new().put("buttons", buttons.collect::<Vec<Value>>());
            let inner = Object::new()
                .maybe("header", header.map(|text| Object::new().put("title", text)))
                .maybe("body", body.map(|text| Object::new().put("text", text)))
                .maybe("footer", footer.map(|text| Object::new().put("text", text)))
                .put("native_flow_message", flow);
            ("interactive_message", inner)
        }
    }
}

/// A choice that was made.
fn answered(reply: &InteractiveReply) -> (&'static str, Object) {
    let id = reply.id.as_deref().or(reply.payload.as_deref());
    let title = reply.title.as_deref();
    match reply.sub_kind {
        ReplyKind::Button => {
            let inner =
                Object::new().maybe("selected_button_id", id).maybe("selected_display_text", title);
            ("buttons_response_message", inner)
        }
        ReplyKind::TemplateButton => {
            let inner =
                Object::new().maybe("selected_id", id).maybe("selected_display_text", title);
            ("template_button_reply_message", inner)
        }
        ReplyKind::List => {
            let inner = Object::new()
                .maybe("title", title)
                .maybe("description", reply.description.as_deref())
                .put("single_select_reply", Object::new().maybe("selected_row_id", id));
            ("list_response_message", inner)
        }
        ReplyKind::Flow | ReplyKind::CallPermission => {
            let name = match reply.sub_kind {
                ReplyKind::CallPermission => "call_permission_request",
                _ => "flow",
            };
            let parameters = reply.response_json.as_ref().map(|json| json.get().to_owned());
            let flow = Object::new()
                .put("name", name)
                .put("params_json", parameters.unwrap_or_else(|| "{}".to_owned()));
            let inner = Object::new()
                .maybe("body", title.map(|text| Object::new().put("text", text)))
                .put("native_flow_response_message", flow);
            ("interactive_response_message", inner)
        }
    }
}
