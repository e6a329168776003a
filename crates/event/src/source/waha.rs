//! WAHA: the bodies its webhooks post, for a session that runs there.
//!
//! A body is one event in an envelope: `id`, `event`, `session`, `me`, `payload` and more. The
//! event keeps the whole body as its upstream element; where it yields several (presence), the
//! others keep their own elements.
//!
//! Source: `src/structures/` of WAHA. What is inside `_data` depends on its engine.

mod around;
mod group;
mod message;
mod update;

use serde_json::value::RawValue;

use super::{
    Decoded,
    delivery::{Delivery, Key, Misfit, Understood},
    members::Members,
    people::person,
};
use crate::{
    Data, SourceKind, Timestamp,
    data::UnknownReason,
    shape::{Address, AddressKind},
};

/// The name for a body that has none.
const WHOLE: &str = "webhook";

/// What the envelope says for all of a body.
struct Envelope<'a> {
    /// The upstream's id of the delivery.
    id: Option<String>,
    at: Option<Timestamp>,
    /// The session's own address, and its name.
    own: Address,
    payload: Members<'a>,
}

type Decoder = fn(&Envelope<'_>) -> Result<Understood, Misfit>;

/// Decodes one posted body. Check its signature first ([`super::signature`]), over the same
/// bytes.
pub fn decode(body: &[u8]) -> Decoded {
    let mut delivery = Delivery::new(SourceKind::Waha, body);
    let Ok(whole) = serde_json::from_slice::<&RawValue>(body) else {
        delivery.unknown_body(WHOLE, UnknownReason::NotJson);
        return delivery.finish(WHOLE);
    };
    let named = Members::of(whole).and_then(|members| Some((members.text("event")?, members)));
    let Some((event, members)) = named else {
        delivery.unknown_body(WHOLE, UnknownReason::WrongObject);
        return delivery.finish(WHOLE);
    };
    let id = members.text("id");
    delivery.delivery_id.clone_from(&id);
    delivery.version = members.object("environment").and_then(|it| it.text("version"));
    let Some(decode) = decoder(&event) else {
        delivery.unknown_body(&event, UnknownReason::UnmappedName);
        return delivery.finish(WHOLE);
    };
    let envelope = Envelope {
        id,
        at: members.time("timestamp"),
        own: own(members.object("me")),
        payload: members.object("payload").unwrap_or_default(),
    };
    match decode {
        Shape::One(decode) => delivery.push(&event, whole, decode(&envelope)),
        Shape::Presences => presences(&mut delivery, &envelope, &event, whole),
    }
    delivery.finish(&event)
}

enum Shape {
    One(Decoder),
    /// One event per participant.
    Presences,
}

fn decoder(event: &str) -> Option<Shape> {
    let decode: Decoder = match event {
        "message" | "message.any" => message::said,
        "message.waiting" => message::waiting,
        "message.reaction" => message::reaction,
        "message.revoked" => message::revoked,
        "message.edited" => message::edited,
        "message.ack" | "message.ack.group" => update::ack,
        "poll.vote" => |envelope| update::vote(envelope, false),
        "poll.vote.failed" => |envelope| update::vote(envelope, true),
        "event.response" => |envelope| update::response(envelope, false),
        "event.response.failed" => |envelope| update::response(envelope, true),
        "presence.update" => return Some(Shape::Presences),
        "chat.archive" => around::archived,
        "group.v2.update" => group::updated,
        "group.v2.participants" => group::participants,
        "group.v2.participants.join_request" => group::join_request,
        "group.v2.join" => group::joined,
        "group.v2.leave" => group::left,
        "group.join" => group::notified_join,
        "group.leave" => group::notified_leave,
        "call.received" => |envelope| around::call(envelope, crate::data::CallState::Offer),
        "call.accepted" => |envelope| around::call(envelope, crate::data::CallState::Accepted),
        "call.rejected" => |envelope| around::call(envelope, crate::data::CallState::Rejected),
        "label.upsert" => |envelope| around::label(envelope, crate::data::LabelAction::Upserted),
        "label.deleted" => |envelope| around::label(envelope, crate::data::LabelAction::Deleted),
        "label.chat.added" => |envelope| around::labeled(envelope, crate::data::Toggled::Added),
        "label.chat.deleted" => |envelope| around::labeled(envelope, crate::data::Toggled::Removed),
        "session.status" => around::status,
        "state.change" => around::engine_state,
        _ => return None,
    };
    Some(Shape::One(decode))
}

fn own(me: Option<Members<'_>>) -> Address {
    let id = me.as_ref().and_then(|me| me.text("id"));
    let Some((me, id)) = me.zip(id) else {
        return Address::bare("unknown".to_owned(), AddressKind::Unknown);
    };
    let mut own = person(&id, &[me.text("lid")]);
    own.name = me.text("pushName");
    own
}

fn presences(delivery: &mut Delivery<'_>, envelope: &Envelope<'_>, event: &str, whole: &RawValue) {
    let chat = envelope.payload.text("id");
    let listed = envelope.payload.list("presences");
    let Some(chat) = chat.filter(|_| !listed.is_empty()) else {
        return delivery.unknown(event, whole, UnknownReason::SchemaMismatch);
    };
    for (place, element) in listed.into_iter().enumerate() {
        if delivery.is_full() {
            return;
        }
        let raw = if place == 0 { whole } else { element };
        delivery.push(event, raw, around::presence(envelope, &chat, element));
    }
}

impl Envelope<'_> {
    /// What is recognised by the envelope's id.
    fn understood(&self, data: Data) -> Understood {
        Understood {
            key: match &self.id {
                Some(id) => Key::Composed(format!("w|{id}")),
                None => Key::Never,
            },
            data,
            occurred_at: self.payload.time("timestamp").or(self.at),
            history: false,
            aliases: Vec::new(),
        }
    }
}
