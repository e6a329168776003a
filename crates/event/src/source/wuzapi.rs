//! wuzapi: the bodies its webhooks post, for a user that is connected there.
//!
//! A body is one event of whatsmeow, `{type, event, …}`: as JSON, or as JSON in the field `jsonData`
//! of a form, or of a multipart body beside a file. Where a body yields several events, the first
//! has the whole JSON as its upstream element and the others their own part of it.
//!
//! Source: `wmiau.go` of wuzapi, `types/events/` of whatsmeow.

mod around;
mod call;
mod form;
mod group;
mod history;
mod message;
mod receipt;
mod session;

pub(super) use form::signed;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    Decoded,
    delivery::{Delivery, Key, Misfit, Understood},
    members::Members,
};
use crate::{Data, SourceKind, Timestamp, data::UnknownReason, shape::Address};

/// The name for a body that has none.
const WHOLE: &str = "webhook";

/// What a body says.
struct Posted<'a> {
    /// Its `type`.
    name: &'a str,
    /// Everything beside the event: the file, a QR code.
    root: Members<'a>,
    /// whatsmeow's event.
    event: Members<'a>,
    /// The event as text, for keys of what has no id.
    words: &'a str,
    /// The file beside the JSON.
    attached: Option<form::Attached<'a>>,
}

/// An event with the part of the body that it is about; `None` is all of it.
type Found<'a> = (Option<&'a RawValue>, Result<Understood, Misfit>);

/// Decodes one posted body. Check its signature first ([`super::signature`]), over the same bytes.
/// `content_type` is the request's header, which says how a body that is not JSON is built.
pub fn decode(body: &[u8], content_type: Option<&str>) -> Decoded {
    let mut delivery = Delivery::new(SourceKind::Wuzapi, body);
    // States come twice in the same words, days apart.
    delivery.unknown_is_news = true;
    let unwrapped = form::json(body, content_type);
    let json = unwrapped.as_deref().unwrap_or(body);
    let Ok(mut whole) = serde_json::from_slice::<&RawValue>(json) else {
        delivery.unknown_body(WHOLE, UnknownReason::NotJson);
        return delivery.finish(WHOLE);
    };
    // The fields of a form, written as JSON.
    let inner = Members::of(whole).filter(|fields| fields.raw("type").is_none());
    let inner = inner.and_then(|fields| fields.text("jsonData")).unwrap_or_default();
    if let Ok(raw) = serde_json::from_str(&inner) {
        whole = raw;
    }
    let root = Members::of(whole);
    let name = root.as_ref().and_then(|root| root.text("type"));
    let Some((root, name)) = root.zip(name) else {
        delivery.unknown_body(WHOLE, UnknownReason::WrongObject);
        return delivery.finish(WHOLE);
    };
    let event = root.raw("event");
    let posted = Posted {
        name: &name,
        event: event.and_then(Members::of).unwrap_or_default(),
        words: event.map_or("null", RawValue::get),
        attached: form::file(body, content_type),
        root,
    };
    let found = events(&posted);
    if found.is_empty() {
        delivery.unknown(&name, whole, UnknownReason::SchemaMismatch);
    }
    for (place, (part, outcome)) in found.into_iter().enumerate() {
        if delivery.is_full() {
            break;
        }
        let raw = part.filter(|_| place > 0).unwrap_or(whole);
        delivery.push(&name, raw, outcome);
    }
    delivery.finish(&name)
}

fn events<'a>(posted: &Posted<'a>) -> Vec<Found<'a>> {
    let one = |outcome| vec![(None, outcome)];
    match posted.name {
        "Message" => one(message::said(posted)),
        "FBMessage" => one(message::foreign(posted)),
        "UndecryptableMessage" => one(message::undecryptable(posted)),
        "MediaRetry" => one(message::media_retry(posted)),
        "ReadReceipt" | "Receipt" => receipt::states(posted),
        "Presence" => one(around::presence(posted)),
        "ChatPresence" => one(around::typing(posted)),
        "HistorySync" => one(history::chunk(posted)),
        "GroupInfo" => group::info(posted),
        "JoinedGroup" => one(group::joined(posted)),
        "Picture" => one(around::picture(posted)),
        "UserAbout" => one(around::about(posted)),
        "IdentityChange" => one(around::identity(posted)),
        "BlocklistChange" => one(around::blocked(posted)),
        "AppState" => one(around::app_state(posted)),
        "LabelEdit" => one(around::label(posted)),
        "LabelAssociationChat" | "LabelAssociationMessage" => one(around::labeled(posted)),
        "NewsletterJoin" | "NewsletterLeave" | "NewsletterMuteChange" | "NewsletterLiveUpdate" => {
            one(around::newsletter(posted))
        }
        "CallOffer" | "CallOfferNotice" | "CallPreAccept" | "CallAccept" | "CallReject"
        | "CallTerminate" | "CallRelayLatency" | "CallTransport" => one(call::updated(posted)),
        _ => one(session::changed(posted)),
    }
}

impl Posted<'_> {
    fn at(&self) -> Option<Timestamp> {
        self.event.time("Timestamp")
    }

    fn address(&self, name: &str) -> Result<Address, Misfit> {
        self.event.text(name).map(|id| Address::parse(&id)).ok_or(Misfit::SHAPE)
    }

    /// The key of what has no id: its words, if they hold a time. Otherwise the same words on
    /// another day are news.
    fn key(&self, part: &str) -> Key {
        if self.at().is_none() {
            return Key::Never;
        }
        let hash = hex::encode(&Sha256::digest(self.words)[..16]);
        Key::Composed(format!("e|{}|{part}|{hash}", self.name))
    }

    fn understood(&self, data: Data) -> Understood {
        Understood {
            key: self.key(data.facet().unwrap_or_default()),
            data,
            occurred_at: self.at(),
            history: self.event.is_set("FromFullSync"),
            aliases: Vec::new(),
        }
    }
}
