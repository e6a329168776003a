//! A namespace of Socket.IO: an instance's events, or those of all with the global mode.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use zapbus_event::{
    Dialect, Event, EventId, Filter,
    dialect::{
        Fallback, Options, Part,
        evolution::{Choice, Names},
    },
};
use zapbus_store::{RESERVED_INSTANCE, Reader, Role};

use super::{
    access::{Access, Refused, Visitor, Wishes},
    names::Wanted,
    packet,
};
use crate::{
    api::{
        error::{ApiError, What},
        native::{events::places_of_stream, name_fault},
    },
    app::App,
    directory::Known,
    realtime::{
        Acks, Dead, Full, Gap, MOST_UNACKED, Opened, Opening, Protocol, Ready, Said, Start,
        SubscriberKey, Wants,
    },
};

/// Numbers of acknowledgements that are remembered: as many events as may wait, of several parts
/// each.
const MOST_NUMBERS: usize = 4 * MOST_UNACKED as usize;

/// A namespace that was joined.
pub(super) enum Joined {
    /// It is there, and nothing is ever sent in it.
    Quiet(Bytes),
    /// It is a subscription.
    Subscribed(Box<Ready>, Box<Frames>),
}

/// Joins a namespace.
pub(super) async fn join(
    app: &App,
    visitor: &Visitor,
    name: &str,
    auth: &serde_json::Value,
) -> Result<Joined, Refused> {
    let wishes = visitor.wishes.with(auth);
    let access = visitor.access(app, &wishes).await?;
    // The key may have been revoked since the session began.
    if !app.realtime.still_welcome(&access.caller.standing(None)).await {
        return Err(Refused::WrongKey);
    }
    let subject = match name.strip_prefix('/').unwrap_or(name) {
        "" => match whole(app, &access).await? {
            Some(subject) => subject,
            None => {
                let frame = packet::joined(&packet::place(name), &new_id()?, None);
                return Ok(Joined::Quiet(frame));
            }
        },
        instance => Subject::Instance(find(app, &access, instance).await?),
    };
    let (ready, resumed) = open(app, &access, &subject, &wishes).await?;
    let frames = Frames {
        place: packet::place(name).into_owned(),
        sid: new_id()?,
        // With the same one a client takes what it was for whole.
        pid: match (wishes.ids, wishes.pid.filter(|_| resumed)) {
            (false, _) => None,
            (true, Some(pid)) => Some(pid),
            (true, None) => Some(new_id()?),
        },
        ids: wishes.ids,
        ack: wishes.ack.then(Numbers::default),
        wanted: subject.wanted(app),
    };
    Ok(Joined::Subscribed(Box::new(ready), Box::new(frames)))
}

/// An id of 128 bits.
pub(super) fn new_id() -> Result<String, Refused> {
    let random = zapbus_store::random_bits().map_err(ApiError::internal)?;
    Ok(format!("{random:032x}"))
}

/// Whose events.
pub(super) enum Subject {
    Instance(Arc<Known>),
    Account(Access),
}

impl Subject {
    pub(super) fn wanted(&self, app: &App) -> Wanted {
        match self {
            Self::Instance(known) => Wanted::of(app, &known.instance),
            Self::Account(_) => Wanted::everything(app),
        }
    }
}

/// What the root is: everything that the caller reaches, with the global mode; nothing without.
async fn whole(app: &App, access: &Access) -> Result<Option<Subject>, Refused> {
    if !app.config.evolution.websocket.global_events {
        return Ok(None);
    }
    reached(app, access).await.map(Some)
}

/// Everything that a caller reaches: an instance's token its own instance.
pub(super) async fn reached(app: &App, access: &Access) -> Result<Subject, Refused> {
    match (access.caller.role, access.caller.instance) {
        (Role::Instance, Some(own)) => {
            let known = app.directory.instance(own).await?.ok_or(Refused::WrongKey)?;
            Ok(Subject::Instance(known))
        }
        _ => Ok(Subject::Account(*access)),
    }
}

/// The instance with this name, as it is or as URLs write it. What a caller does not see is answered
/// like what is not there.
pub(super) async fn find(app: &App, access: &Access, name: &str) -> Result<Arc<Known>, Refused> {
    let decoded = percent_decode_str(name).decode_utf8().map_err(|_| Refused::NoNamespace)?;
    for name in [name, &decoded] {
        match access.caller.instance(app, name).await {
            Ok(known) if known.instance.name == RESERVED_INSTANCE => {}
            Ok(known) if known.instance.account == access.account => return Ok(known),
            Ok(_) | Err(ApiError::NotFound(What::Instance)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Refused::NoNamespace)
}

/// Makes a subscription ready. Whether it goes on where the client was, with nothing missing.
pub(super) async fn open(
    app: &App,
    access: &Access,
    subject: &Subject,
    wishes: &Wishes,
) -> Result<(Ready, bool), Refused> {
    let (reader, instance) = match subject {
        Subject::Instance(known) => (Reader::Instance(known.instance.id), Some(known.instance.id)),
        Subject::Account(access) => (Reader::Account(access.account), None),
    };
    if let Some(name) = &wishes.subscriber
        && let Some(fault) = name_fault("subscriber", name)
    {
        return Err(Refused::Bad(format!("subscriber: {}", fault.message)));
    }
    let mut resumed = false;
    // What a client remembers by itself is newer than what it was made with.
    let remembered = wishes.pid.as_ref().and(wishes.offset.as_ref());
    let start = match remembered.or(wishes.last_event_id.as_ref()) {
        None => Start::Now,
        Some(id) => {
            let id: EventId = id.parse().map_err(|_| {
                Refused::Bad("last_event_id: expected the id of an event: evt_…".to_owned())
            })?;
            let (places, exact) =
                places_of_stream(app, &access.caller, reader, &id.to_string()).await?;
            resumed = !places.has_gap(&app.store, reader).await?;
            match remembered {
                Some(_) => Start::Again(places),
                None => Start::After { places, exact },
            }
        }
    };
    let slot = app.realtime.admit(Some(access.account)).map_err(|full| {
        Refused::Failed(ApiError::TooManyConnections { of_account: full == Full::Account })
    })?;
    let owner = match access.anonymous {
        true => "anonymous".to_owned(),
        false => access.caller.actor().0,
    };
    let opening = Opening {
        standing: access.caller.standing(instance),
        account: Some(access.account),
        reader,
        wants: Wants { filter: filter(), exclude_ephemeral: false },
        dialect: Dialect::Evolution,
        options: Options {
            live: true,
            media_key: true,
            evolution: Choice {
                show_key: app.config.evolution.expose_api_key.unwrap_or_default(),
                ..Choice::default()
            },
            ..Options::default()
        },
        start,
        subscriber: wishes.subscriber.clone().map(|name| SubscriberKey { owner, name }),
        acks: if wishes.ack { Acks::Explicit } else { Acks::Auto },
        window: app.realtime.config().window(),
    };
    Ok((app.realtime.open(slot, opening).await?, resumed))
}

/// Everything that has a name: which of it an instance wants may change while it is connected.
fn filter() -> Filter {
    Names::ALL.filter(Fallback::Skip).unwrap_or_default()
}

/// The packets of a namespace.
pub(super) struct Frames {
    place: String,
    sid: String,
    pid: Option<String>,
    ids: bool,
    ack: Option<Numbers>,
    wanted: Wanted,
}

impl Protocol for Frames {
    fn name(&self) -> &'static str {
        "socketio"
    }

    fn opened(&self, _: &Opened<'_>) -> Option<Bytes> {
        Some(packet::joined(&self.place, &self.sid, self.pid.as_deref()))
    }

    async fn look(&mut self) {
        self.wanted.look().await;
    }

    fn event(&mut self, event: &Arc<Event>, parts: &[Part], frames: &mut Vec<Bytes>) {
        let wanted = parts.iter().filter(|part| self.wanted.wants(&part.name));
        let wanted: Vec<&Part> = wanted.collect();
        if wanted.is_empty() {
            return;
        }
        let mut numbers = self.ack.as_mut().map(|ack| ack.give(event.id, wanted.len()));
        let id = self.ids.then(|| event.id.to_string());
        for (place, part) in wanted.iter().enumerate() {
            let number = numbers.as_mut().and_then(Iterator::next);
            // Whoever breaks off between two parts gets all of them again.
            let behind = id.as_deref().filter(|_| place + 1 == wanted.len());
            frames.push(packet::event(&self.place, number, &part.name, &part.body, behind));
        }
    }

    fn gap(&self, _: &Gap<'_>) -> Option<Bytes> {
        None
    }

    fn dead(&self, _: &Dead) -> Option<Bytes> {
        None
    }

    /// The number of an acknowledgement.
    fn read(&mut self, message: &str) -> Said {
        let number = message.parse::<u64>().ok();
        let Some((number, ack)) = number.zip(self.ack.as_mut()) else { return Said::Nothing };
        let waits = ack.open.contains_key(&number);
        match ack.take(number) {
            Some(id) => Said::Acks(vec![id]),
            None if waits => Said::Part,
            None => Said::Nothing,
        }
    }
}

/// Which event an acknowledgement is of. An event of several parts is done when all are.
#[derive(Debug, Default)]
struct Numbers {
    next: u64,
    open: BTreeMap<u64, EventId>,
    /// The same, by event.
    of: HashMap<EventId, Vec<u64>>,
}

impl Numbers {
    /// Numbers for the parts of an event: those of before if it comes again, so that an answer to
    /// either counts.
    fn give(&mut self, id: EventId, parts: usize) -> std::vec::IntoIter<u64> {
        let numbers = self.of.entry(id).or_default();
        // Of parts that were acknowledged the event waits no more.
        while numbers.len() < parts {
            numbers.push(self.next);
            self.open.insert(self.next, id);
            self.next += 1;
        }
        let given = numbers.clone().into_iter();
        while self.open.len() > MOST_NUMBERS {
            if let Some((number, id)) = self.open.pop_first() {
                self.forget(number, id);
            }
        }
        given
    }

    /// The event that is done with this.
    fn take(&mut self, number: u64) -> Option<EventId> {
        let id = self.open.remove(&number)?;
        self.forget(number, id).then_some(id)
    }

    /// Whether that was the last one of the event.
    fn forget(&mut self, number: u64, id: EventId) -> bool {
        let Some(numbers) = self.of.get_mut(&id) else { return true };
        numbers.retain(|known| *known != number);
        let is_done = numbers.is_empty();
        if is_done {
            self.of.remove(&id);
        }
        is_done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> EventId {
        EventId::new(zapbus_event::Timestamp::from_millis(0), number)
    }

    #[test]
    fn an_event_is_done_when_all_its_parts_are() {
        let mut numbers = Numbers::default();
        let first: Vec<u64> = numbers.give(id(1), 2).collect();
        let second: Vec<u64> = numbers.give(id(2), 1).collect();
        assert_eq!((&first[..], &second[..]), (&[0, 1][..], &[2][..]));
        assert_eq!(numbers.take(1), None);
        assert_eq!(numbers.take(2), Some(id(2)));
        assert_eq!(numbers.take(2), None, "once");
        assert_eq!(numbers.take(0), Some(id(1)));
        assert_eq!(numbers.take(7), None);
    }

    #[test]
    fn an_event_that_comes_again_keeps_its_numbers() {
        let mut numbers = Numbers::default();
        let before: Vec<u64> = numbers.give(id(1), 1).collect();
        assert_eq!(numbers.give(id(1), 1).collect::<Vec<_>>(), before);
        assert_eq!(numbers.take(before[0]), Some(id(1)));
        // Acknowledged, and still sent again: on another connection of the same name it waits.
        assert_eq!(numbers.give(id(1), 1).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_is_never_acknowledged_is_forgotten_in_the_end() {
        let mut numbers = Numbers::default();
        for event in 0..=MOST_NUMBERS as u128 {
            numbers.give(id(event), 1);
        }
        assert_eq!((numbers.open.len(), numbers.of.len()), (MOST_NUMBERS, MOST_NUMBERS));
        assert_eq!(numbers.take(0), None);
    }
}
