//! What a client asks for, and a subscription made of it that may begin.

use std::sync::Arc;

use axum::{body::Body, extract::ws::WebSocket};
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use zapbus_event::{AccountId, Dialect, InstanceId, SubscriberId, dialect};
use zapbus_store::{Place, Progress, Reader};

use super::{
    Realtime,
    connection::{Connection, State},
    feed::Feed,
    hub::{Hung, Wants},
    ledger::Ledger,
    link::{FromLink, Link, LinkEnd},
    protocol::Protocol,
    slots::Slot,
    subscription::{Acks, Subscription, Window},
    wire::Wire,
};
use crate::{api::Standing, reading::Places};

/// A subscriber's name, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SubscriberKey {
    /// The credential: two that use the same name are two subscribers.
    pub(crate) owner: String,
    /// What the client calls itself.
    pub(crate) name: String,
}

/// What a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Opening {
    /// Who it is, looked at again from time to time.
    pub(crate) standing: Standing,
    /// Whose account the subscriber is listed under.
    pub(crate) account: Option<AccountId>,
    /// Whose events.
    pub(crate) reader: Reader,
    /// Which of them.
    pub(crate) wants: Wants,
    /// In which words.
    pub(crate) dialect: Dialect,
    /// Rendered how.
    pub(crate) options: dialect::Options,
    /// From where; a subscriber that is known goes on where it stands.
    pub(crate) start: Start,
    /// The name under which the gateway keeps the cursor.
    pub(crate) subscriber: Option<SubscriberKey>,
    /// Who acknowledges.
    pub(crate) acks: Acks,
    /// How much may be unacknowledged.
    pub(crate) window: Window,
}

/// Where a subscription begins.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    /// With what is committed from now on.
    Now,
    /// Behind these places; what is missing there is a gap if they were seen (`exact`).
    After { places: Places, exact: bool },
    /// The same, and a known subscriber goes back to there too: it has not seen what it was sent
    /// since.
    Again(Places),
}

/// A subscription that may begin.
pub(crate) struct Ready {
    pub(super) realtime: Realtime,
    pub(super) slot: Slot,
    pub(super) hung: Hung,
    pub(super) feed: Feed,
    pub(super) subscription: Subscription,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) standing: Standing,
    pub(super) dialect: Dialect,
    pub(super) options: dialect::Options,
}

/// Where to go on: a known subscriber where it stands, any other where it says.
pub(super) fn where_to(places: &Places, progress: &Progress, again: bool) -> Places {
    let place = |(shard, given): &Place| {
        let known = progress.sent.get(shard).copied();
        (
            *shard,
            match known {
                Some(known) if again => known.min(*given),
                Some(known) => known,
                None => *given,
            },
        )
    };
    Places(places.0.iter().map(place).collect())
}

pub(super) fn subscriber_id(
    key: &SubscriberKey,
    opening: &Opening,
    instance: Option<InstanceId>,
) -> SubscriberId {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        // With its length: no two lists of parts are the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(&opening.account.map_or([0; 16], AccountId::to_bytes));
    add(&instance.map_or([0; 16], InstanceId::to_bytes));
    add(key.owner.as_bytes());
    add(key.name.as_bytes());
    add(opening.dialect.as_str().as_bytes());
    add(&[u8::from(opening.wants.exclude_ephemeral)]);
    for pattern in opening.wants.filter.patterns() {
        add(pattern.as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    SubscriberId::from_bytes(id)
}

impl Ready {
    /// Serves a WebSocket to its end.
    pub(crate) async fn serve(self, socket: WebSocket, protocol: impl Protocol) {
        let connections = self.realtime.inner.connections.clone();
        let connection = self.connection(Wire::Socket(Box::new(socket)), protocol);
        connections.track_future(connection.run()).await;
    }

    /// Begins, and gives the body of the response.
    pub(crate) fn stream(self, protocol: impl Protocol) -> Body {
        let (wire, mut chunks) = Wire::events();
        let connections = self.realtime.inner.connections.clone();
        connections.spawn(self.connection(wire, protocol).run());
        let chunks = stream::poll_fn(move |cx| chunks.poll_recv(cx));
        Body::from_stream(futures_util::StreamExt::map(chunks, Ok::<_, std::convert::Infallible>))
    }

    /// Begins on a transport that whoever listens to `sender` owns and shares among several.
    pub(crate) fn link(
        self,
        number: u64,
        sender: mpsc::Sender<FromLink>,
        protocol: impl Protocol,
    ) -> LinkEnd {
        let (link, end) = Link::new(number, sender);
        let connections = self.realtime.inner.connections.clone();
        connections.spawn(self.connection(Wire::Link(Box::new(link)), protocol).run());
        end
    }

    fn connection<P: Protocol>(self, wire: Wire, protocol: P) -> Connection<P> {
        let Self { realtime, slot, hung, feed, subscription, ledger, standing, dialect, options } =
            self;
        let figures = realtime.inner.telemetry.realtime(protocol.name());
        Connection {
            realtime,
            protocol,
            wire,
            hung,
            subscription,
            feed,
            ledger,
            dialect,
            options,
            standing,
            slot,
            figures,
            state: State::default(),
        }
    }
}
