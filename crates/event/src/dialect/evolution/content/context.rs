//! What surrounds a content: what it answers, whom it mentions, how it got here.

use serde_json::{Map, Value, json};

use super::super::{object, put};
use crate::shape::{AdReferral, Address, Body, Content, Quoted};

/// `contextInfo`; `null` when there is nothing to say.
pub(super) fn info(content: &Content, chat: &Address) -> Value {
    let mut info = Map::new();
    if let Some(quoted) = &content.quoted {
        answered(&mut info, quoted, chat);
    }
    if let Body::Text(text) = &content.body
        && !text.mentions.is_empty()
    {
        put(&mut info, "mentionedJid", Some(text.mentions.clone()));
    }
    if let Some(forwarded) = &content.forwarded {
        // From five on, clients write "forwarded many times".
        let score = forwarded.count.unwrap_or(if forwarded.many { 5 } else { 1 });
        put(&mut info, "forwardingScore", Some(score));
        put(&mut info, "isForwarded", Some(true));
    }
    put(&mut info, "expiration", content.ephemeral_expires_s);
    if let Some(referral) = &content.ad_referral {
        put(&mut info, "externalAdReply", Some(ad(referral)));
    }
    if let Some(product) = &content.referred_product {
        let mut shown = object([("productId", product.product_id.clone().into())]);
        put(&mut shown, "catalogId", product.catalog_id.clone());
        put(&mut info, "referredProduct", Some(shown));
    }
    if info.is_empty() { Value::Null } else { info.into() }
}

fn answered(info: &mut Map<String, Value>, quoted: &Quoted, chat: &Address) {
    put(info, "stanzaId", Some(quoted.message.id.clone()));
    // In a chat of two, whose words they are follows from who wrote them.
    let other = (quoted.message.from_me == Some(false)).then(|| chat.id.clone());
    put(info, "participant", quoted.message.participant.clone().or(other));
    let body = quoted.body.as_ref();
    put(info, "quotedMessage", body.map(|body| json!({ "conversation": body })));
}

fn ad(referral: &AdReferral) -> Map<String, Value> {
    let mut shown = Map::new();
    put(&mut shown, "title", referral.headline.clone());
    put(&mut shown, "body", referral.body.clone());
    put(&mut shown, "mediaType", referral.media_type.as_ref().map(|kind| kind.to_uppercase()));
    put(&mut shown, "thumbnailUrl", referral.thumbnail_url.clone());
    put(&mut shown, "originalImageUrl", referral.image_url.clone());
    put(&mut shown, "mediaUrl", referral.video_url.clone());
    put(&mut shown, "sourceType", referral.source_type.clone());
    put(&mut shown, "sourceId", referral.source_id.clone());
    put(&mut shown, "sourceUrl", referral.source_url.clone());
    put(&mut shown, "ctwaClid", referral.ctwa_clid.clone());
    put(&mut shown, "greetingMessageBody", referral.welcome_message.clone());
    shown
}
