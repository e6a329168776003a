//! What differs between the dialects of live connections: the bytes of frames, and how
//! acknowledgements are read. Everything else is one machinery.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use zapbus_event::{
    Event, EventId, Position,
    dialect::{self, Part},
};

use crate::{directory::Directory, reading::Places};

/// A connection that has begun.
#[derive(Debug)]
pub(crate) struct Opened<'a> {
    /// Where it begins.
    pub(crate) places: &'a Places,
    /// The subscriber, if it has a name.
    pub(crate) subscriber: Option<zapbus_event::SubscriberId>,
    /// Whether the client acknowledges.
    pub(crate) explicit: bool,
}

/// Events between two places that are not stored any more.
#[derive(Debug)]
pub(crate) struct Gap<'a> {
    /// What was seen last.
    pub(crate) after: &'a Places,
    /// The first position still there, of a reader of one instance.
    pub(crate) first: Option<Position>,
    /// From here on everything is there.
    pub(crate) resumes: &'a Places,
}

/// An event that was sent as often as may be.
#[derive(Debug)]
pub(crate) struct Dead {
    /// Which; unknown when it was sent on an earlier connection and is not stored any more.
    pub(crate) id: Option<EventId>,
    /// How often it was sent.
    pub(crate) deliveries: u32,
}

/// What a client's message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// These events are done.
    Acks(Vec<EventId>),
    /// This event could not be done: again after a pause.
    Later(EventId, Duration),
    /// These events are being worked on.
    Working(Vec<EventId>),
    /// These events are not to come again.
    Rejects(Vec<EventId>),
    /// A part of an event is done, and others are not yet.
    Part,
    /// It wants an answer.
    Ask(Bytes),
    /// Nothing that concerns us.
    Nothing,
    /// More than it may say.
    TooLong,
    /// Nothing that anybody could read, with what to answer if something.
    Nonsense(Option<Bytes>),
}

/// How one kind of endpoint writes and reads. Frames of a WebSocket are texts: UTF-8.
pub(crate) trait Protocol: Send + 'static {
    /// Its name in metrics.
    fn name(&self) -> &'static str;

    /// The first frame, if it has one.
    fn opened(&self, opened: &Opened<'_>) -> Option<Bytes>;

    /// How the next event is rendered, where that may change while the connection is open.
    fn options(
        &mut self,
        _directory: &Directory,
    ) -> impl Future<Output = Option<dialect::Options>> + Send {
        std::future::ready(None)
    }

    /// Called before each event: what decides about it may have changed.
    fn look(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// An event as frames. The bytes of a part, unchanged, are shared by all who get them.
    fn event(&mut self, event: &Arc<Event>, parts: &[Part], frames: &mut Vec<Bytes>);

    /// A gap, where the dialect has words for it.
    fn gap(&self, gap: &Gap<'_>) -> Option<Bytes>;

    /// An event given up, where the dialect has words for it.
    fn dead(&self, dead: &Dead) -> Option<Bytes>;

    /// Reads a client's message.
    fn read(&mut self, message: &str) -> Said;

    /// What shows that the connection lives, where the transport has nothing for it.
    fn heartbeat(&self) -> Option<Bytes> {
        None
    }

    /// How often to show it, if not as configured.
    fn ping_every(&self) -> Option<Duration> {
        None
    }

    /// How long after that an answer may come, if not as configured.
    fn pong_within(&self) -> Option<Duration> {
        None
    }
}
