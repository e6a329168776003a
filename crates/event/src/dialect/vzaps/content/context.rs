//! What a message refers to, and what else may stand around its content.

use serde_json::Value;

use crate::{
    dialect::vzaps::object::Object,
    shape::{AdReferral, Body, Content},
};

/// From this number on WhatsApp says that a message was forwarded many times.
const MANY: u32 = 5;

/// `context_info` of a content; nothing when there is none.
pub(super) fn context_info(content: &Content) -> Option<Value> {
    let quoted = content.quoted.as_ref();
    let quoted_message = quoted
        .and_then(|quoted| quoted.body.as_deref())
        .map(|text| Object::new().put("conversation", text));
    let mentions = match &content.body {
        Body::Text(text) => text.mentions.as_slice(),
        _ => &[],
    };
    let forwarded = content.forwarded.as_ref();
    let score = forwarded.and_then(|forwarded| {
        let least = if forwarded.many { Some(MANY) } else { None };
        forwarded.count.max(least)
    });
    Object::new()
        .maybe("stanza_id", quoted.map(|quoted| quoted.message.id.as_str()))
        .maybe("participant", quoted.and_then(|quoted| quoted.message.participant.as_deref()))
        .maybe("quoted_message", quoted_message)
        .maybe("mentioned_jid", (!mentions.is_empty()).then(|| mentions.to_vec()))
        .maybe("is_forwarded", forwarded.map(|_| true))
        .maybe("forwarding_score", score)
        .maybe("expiration", content.ephemeral_expires_s)
        .maybe("external_ad_reply", content.ad_referral.as_deref().map(advertisement))
        .maybe(
            "referred_product",
            content.referred_product.as_ref().map(|product| {
                Object::new()
                    .maybe("catalog_id", product.catalog_id.as_deref())
                    .put("product_id", product.product_id.as_str())
            }),
        )
        .unless_empty()
}

fn advertisement(ad: &AdReferral) -> Object {
    Object::new()
        .maybe("title", ad.headline.as_deref())
        .maybe("body", ad.body.as_deref())
        .maybe("media_type", ad.media_type.as_deref())
        .maybe("media_url", ad.video_url.as_deref().or(ad.image_url.as_deref()))
        .maybe("thumbnail_url", ad.thumbnail_url.as_deref())
        .maybe("source_type", ad.source_type.as_deref())
        .maybe("source_id", ad.source_id.as_deref())
        .maybe("source_url", ad.source_url.as_deref())
        .maybe("ctwa_clid", ad.ctwa_clid.as_deref())
        .maybe("greeting_message_body", ad.welcome_message.as_deref())
}
