//! What surrounds a content: what it answers, how it got here.

use crate::{
    shape::{AdReferral, Address, Forwarded, MessageRef, Quoted},
    source::members::Members,
};

/// The members of a `ContextInfo` that concern any content.
#[derive(Default)]
pub(super) struct Context {
    pub(super) quoted: Option<Quoted>,
    pub(super) forwarded: Option<Forwarded>,
    pub(super) expires_s: Option<u64>,
    pub(super) ad_referral: Option<Box<AdReferral>>,
    pub(super) mentions: Vec<String>,
}

impl Context {
    pub(super) fn of(info: &Members<'_>) -> Self {
        let many = info.count::<u32>("forwardingScore").unwrap_or(0);
        Self {
            quoted: quoted(info),
            // WhatsApp's clients write "forwarded many times" from five on.
            forwarded: (info.is_set("isForwarded") || many > 0)
                .then(|| Forwarded { count: (many > 0).then_some(many), many: many > 4 }),
            expires_s: info.size("expiration"),
            ad_referral: info
                .object("externalAdReply")
                .map(|ad| Box::new(ad_referral(&ad)))
                .filter(|referral| **referral != AdReferral::default()),
            mentions: info
                .texts("mentionedJid")
                .iter()
                .map(|mentioned| Address::parse(mentioned).id)
                .collect(),
        }
    }
}

fn quoted(info: &Members<'_>) -> Option<Quoted> {
    let message = MessageRef {
        id: info.text("stanzaId")?,
        // Absent: of the same chat, which the caller knows.
        chat: info.text("remoteJid").map(|chat| Address::parse(&chat).id).unwrap_or_default(),
        from_me: None,
        participant: info.text("participant").map(|who| Address::parse(&who).id),
    };
    let body = info.object("quotedMessage").and_then(|message| summary(&message));
    Some(Quoted { message, body })
}

/// The text of a message, or the caption of what it shows.
fn summary(message: &Members<'_>) -> Option<String> {
    message.text("conversation").or_else(|| {
        let names: Vec<_> = message.names().map(str::to_owned).collect();
        names.iter().find_map(|name| {
            message.object(name)?.text_of(&["text", "caption", "contentText", "name"])
        })
    })
}

fn ad_referral(ad: &Members<'_>) -> AdReferral {
    AdReferral {
        source_url: ad.text("sourceUrl"),
        source_id: ad.text("sourceId"),
        source_type: ad.text("sourceType"),
        headline: ad.text("title"),
        body: ad.text("body"),
        media_type: ad.text("mediaType").and_then(|kind| match kind.as_str() {
            "1" | "IMAGE" => Some("image".to_owned()),
            "2" | "VIDEO" => Some("video".to_owned()),
            _ => None,
        }),
        image_url: ad.text("originalImageUrl"),
        video_url: ad.text("mediaUrl"),
        thumbnail_url: ad.text("thumbnailUrl"),
        ctwa_clid: ad.text("ctwaClid"),
        welcome_message: ad.text("greetingMessageBody"),
    }
}
