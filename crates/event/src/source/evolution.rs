//! Evolution API: the bodies its webhooks post, for an instance that runs there.
//!
//! A body is one event in an envelope: `event`, `instance`, `data`, `date_time`, `sender` and
//! more. `data` is an object, or for some events a list whose elements are an event each. The first
//! event of a body keeps the whole body as its upstream element, so that the `evolution` dialect can
//! hand it on as it came; its siblings keep their own elements.
//!
//! `date_time` is the server's local time written as if it were UTC, so it tells deliveries apart
//! but is not taken for a time.

mod around;
mod group;
mod history;
mod message;
mod session;
mod update;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{
    Decoded,
    delivery::{Delivery, Key, Misfit, Understood},
    members::{Members, one_or_each},
};
use crate::{
    Data, SourceKind,
    data::UnknownReason,
    dialect::evolution::Name,
    shape::{Address, AddressKind},
};

/// The name for a body that has none.
const WHOLE: &str = "webhook";

/// What the envelope says for all of a body.
struct Envelope<'a> {
    members: Members<'a>,
    name: Name,
    /// The instance's own address.
    own: Address,
    /// Tells this delivery from others with the same words.
    date_time: Option<String>,
}

/// Decodes one posted body. Evolution signs nothing: check the secret of the URL or the header
/// first. `segment` is the last segment of the URL where each event has its own (`byEvents`); the
/// body's own `event` goes before it.
pub fn decode(body: &[u8], segment: Option<&str>) -> Decoded {
    let mut delivery = Delivery::new(SourceKind::Evolution, body);
    let Ok(whole) = serde_json::from_slice::<&RawValue>(body) else {
        delivery.unknown_body(segment.unwrap_or(WHOLE), UnknownReason::NotJson);
        return delivery.finish(WHOLE);
    };
    let Some(members) = Members::of(whole) else {
        delivery.unknown_body(segment.unwrap_or(WHOLE), UnknownReason::WrongObject);
        return delivery.finish(WHOLE);
    };
    let event = members.text("event").or_else(|| segment.map(str::to_owned));
    let Some(event) = event else {
        delivery.unknown_body(WHOLE, UnknownReason::WrongObject);
        return delivery.finish(WHOLE);
    };
    let Some(name) = Name::find(&event) else {
        delivery.unknown_body(&event, UnknownReason::UnmappedName);
        return delivery.finish(WHOLE);
    };
    let own = match members.text("sender") {
        Some(sender) => Address::parse(&sender),
        None => Address::bare("unknown".to_owned(), AddressKind::Unknown),
    };
    let date_time = members.text("date_time");
    let envelope = Envelope { members, name, own, date_time };
    events(&mut delivery, &envelope, &event, whole);
    delivery.finish(&event)
}

type Decoder = fn(&Envelope<'_>, &RawValue) -> Result<Understood, Misfit>;

fn events(delivery: &mut Delivery<'_>, envelope: &Envelope<'_>, event: &str, whole: &RawValue) {
    let decode: Decoder = match envelope.name {
        Name::MessagesUpsert | Name::SendMessage => message::upsert,
        Name::MessagesEdited | Name::SendMessageUpdate => message::protocol,
        Name::MessagesDelete => message::deleted,
        Name::MessagesUpdate => update::updated,
        Name::ContactsUpsert | Name::ContactsUpdate => around::contact,
        Name::ChatsUpsert | Name::ChatsUpdate => around::chat,
        Name::ChatsDelete => around::chat_deleted,
        Name::GroupsUpsert => group::upsert,
        Name::GroupUpdate => group::updated,
        Name::GroupParticipantsUpdate => group::participants,
        Name::LabelsEdit => around::label,
        Name::LabelsAssociation => around::label_association,
        Name::Call => around::call,
        Name::PresenceUpdate => return presence(delivery, envelope, event, whole),
        // What concerns the instance, or counts a list as one event.
        _ => return single(delivery, envelope, event, whole),
    };
    let Some(data) = envelope.data() else {
        return delivery.unknown(event, whole, UnknownReason::SchemaMismatch);
    };
    for (place, element) in one_or_each(data).into_iter().enumerate() {
        if delivery.is_full() {
            return;
        }
        let raw = if place == 0 { whole } else { element };
        delivery.push(event, raw, decode(envelope, element));
    }
    if delivery.len() == 0 {
        delivery.unknown(event, whole, UnknownReason::SchemaMismatch);
    }
}

/// One presence event per participant.
fn presence(delivery: &mut Delivery<'_>, envelope: &Envelope<'_>, event: &str, whole: &RawValue) {
    let found = envelope
        .data()
        .and_then(Members::of)
        .and_then(|data| Some((data.text("id")?, data.object("presences")?)));
    let Some((chat, presences)) = found else {
        return delivery.unknown(event, whole, UnknownReason::SchemaMismatch);
    };
    for who in presences.names() {
        if delivery.is_full() {
            return;
        }
        let Some(element) = presences.raw(who) else { continue };
        let raw = if delivery.len() == 0 { whole } else { element };
        delivery.push(event, raw, around::presence(&chat, who, element));
    }
    if delivery.len() == 0 {
        delivery.unknown(event, whole, UnknownReason::SchemaMismatch);
    }
}

/// One or two events of `data` as a whole.
fn single(delivery: &mut Delivery<'_>, envelope: &Envelope<'_>, event: &str, whole: &RawValue) {
    let outcomes = match envelope.name {
        Name::MessagesSet | Name::ChatsSet | Name::ContactsSet | Name::MessagingHistorySet => {
            history::set(envelope).map(|understood| vec![understood])
        }
        Name::QrcodeUpdated => session::qr(envelope),
        _ => session::changed(envelope).map(|understood| vec![understood]),
    };
    match outcomes {
        Ok(all) => {
            for understood in all {
                delivery.push(event, whole, Ok(understood));
            }
        }
        Err(misfit) => delivery.push(event, whole, Err(misfit)),
    }
}

impl Envelope<'_> {
    fn data(&self) -> Option<&RawValue> {
        self.members.raw("data")
    }

    /// `data`, which must be an object.
    fn object(&self) -> Result<Members<'_>, Misfit> {
        self.data().and_then(Members::of).ok_or(Misfit::SHAPE)
    }

    /// The key of what has no id: its words, and when they were posted.
    fn key(&self, words: &str) -> Key {
        match &self.date_time {
            Some(at) => {
                let hash = hex::encode(&Sha256::digest(words)[..16]);
                Key::Composed(format!("e|{}|{hash}|{at}", self.name))
            }
            None => Key::Never,
        }
    }

    /// What concerns the instance as a whole.
    fn understood(&self, data: Data) -> Understood {
        let words = self.data().map_or("null", RawValue::get);
        Understood {
            key: self.key(&format!("{}|{words}", data.kind())),
            data,
            occurred_at: None,
            history: false,
            aliases: Vec::new(),
        }
    }
}
