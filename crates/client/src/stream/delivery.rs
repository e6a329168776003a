//! An event in somebody's hands.

use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use serde::de::DeserializeOwned;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::shared::{Command, Shared};
use crate::{Error, Event};

/// What can be seen of an event before its document is read as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Seen {
    /// Without, it cannot be acknowledged.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) kind: String,
    pub(crate) key: Option<String>,
    pub(crate) stored: Option<jiff::Timestamp>,
}

/// One event of a subscription, to be settled: [`ack`](Self::ack) when it is done,
/// [`nack`](Self::nack) when it is to come again, [`reject`](Self::reject) when it is not.
///
/// Dropped without any of these, it comes again when the server's time for acknowledgements
/// (`ack_wait`) is over, or with the next connection.
///
/// What it holds is read through [`Received`].
#[derive(Debug)]
pub struct Delivery {
    received: Received,
    shared: Arc<Shared>,
    settled: bool,
}

/// An event as it arrived. Cheap to clone.
#[derive(Clone)]
pub struct Received {
    seen: Seen,
    document: Utf8Bytes,
    again: bool,
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the document: people's messages do not belong in logs.
        f.debug_struct("Received")
            .field("id", &self.seen.id)
            .field("kind", &self.seen.kind)
            .field("again", &self.again)
            .finish_non_exhaustive()
    }
}

impl Received {
    /// The event's id, to deduplicate by. `None` in dialects whose events have none.
    pub fn id(&self) -> Option<&str> {
        self.seen.id.as_deref()
    }

    /// The event's type, in the words of the subscription's dialect. It may be one that this
    /// version of the library has never heard of.
    pub fn kind(&self) -> &str {
        &self.seen.kind
    }

    /// What the event's order is kept by: usually its chat. Only the native dialect says it.
    pub fn ordering_key(&self) -> Option<&str> {
        self.seen.key.as_deref()
    }

    /// Whether this subscription was given it before.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// The JSON document as it was sent.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The event, of a subscription in the native dialect.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] when the document is none of the native dialect.
    pub fn event(&self) -> Result<Event, Error> {
        self.read()
    }

    /// The document as a type of your own.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] when it is not of that shape.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.document).map_err(|error| {
            let id = self.id().unwrap_or("without id");
            Error::Unreadable(format!("event {id} ({}) has another shape: {error}", self.kind()))
        })
    }
}

impl Deref for Delivery {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.received
    }
}

impl Delivery {
    pub(crate) fn new(seen: Seen, document: Utf8Bytes, again: bool, shared: Arc<Shared>) -> Self {
        let settled = seen.id.is_none();
        Self { received: Received { seen, document, again }, shared, settled }
    }

    /// The event as it arrived.
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// It is done. The server is told in the background, together with others;
    /// [`Subscription::close`](super::Subscription::close) waits for that.
    ///
    /// # Errors
    ///
    /// [`Error::SubscriptionClosed`] when nobody can be told any more; the event comes again.
    pub fn ack(mut self) -> Result<(), Error> {
        self.settle(Command::Ack)
    }

    /// It could not be done: it comes again after `after`, or, with `None`, when `ack_wait` is
    /// over. Each time counts; after the server's last one the event is dead.
    ///
    /// # Errors
    ///
    /// [`Error::SubscriptionClosed`], as for [`ack`](Self::ack).
    pub fn nack(mut self, after: Option<Duration>) -> Result<(), Error> {
        let Some(id) = self.seen.id.clone() else { return Ok(()) };
        self.settled = true;
        self.shared.ledger().give_back(&id);
        self.shared.send(Command::Nack(id, after))
    }

    /// It is not to come again, and was not done: the server lists it as dead.
    ///
    /// # Errors
    ///
    /// [`Error::SubscriptionClosed`], as for [`ack`](Self::ack).
    pub fn reject(mut self) -> Result<(), Error> {
        self.settle(Command::Reject)
    }

    /// It is being worked on: the time for its acknowledgement begins anew.
    ///
    /// # Errors
    ///
    /// [`Error::SubscriptionClosed`], as for [`ack`](Self::ack).
    pub fn in_progress(&self) -> Result<(), Error> {
        let Some(id) = self.seen.id.clone() else { return Ok(()) };
        self.shared.send(Command::Progress(id))
    }

    fn settle(&mut self, command: impl FnOnce(Arc<str>) -> Command) -> Result<(), Error> {
        let Some(id) = self.seen.id.clone() else { return Ok(()) };
        self.settled = true;
        self.shared.ledger().settle(&id);
        self.shared.send(command(id))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.settled
            && let Some(id) = &self.seen.id
        {
            self.shared.ledger().give_back(id);
        }
    }
}
