//! A subscription as its owner sees it: a stream of items.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{
    delivery::Delivery,
    engine::Heard,
    shared::{Command, Shared, State},
};
use crate::Error;

/// Events between two places that will not come.
///
/// After a gap of which nothing is known (`after` and `cursor` are `None`) the connection had
/// broken, in a dialect whose events cannot be acknowledged: what was on its way is lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The last place before it.
    pub after: Option<String>,
    /// The first position that is still stored, of a subscription to one instance.
    pub first: Option<i64>,
    /// From here on everything is there.
    pub cursor: Option<String>,
}

/// An event that was sent as often as may be and never acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dead {
    /// Its id, if it is known.
    pub id: Option<String>,
    /// How often it was sent.
    pub deliveries: u32,
}

/// What a subscription brings.
#[derive(Debug)]
#[non_exhaustive]
pub enum Item {
    /// An event.
    Delivery(Delivery),
    /// Events are missing, and will not come.
    Gap(Gap),
    /// An event will not come again.
    Dead(Dead),
    /// A frame could not be read; the rest goes on.
    Trouble(Error),
}

impl Item {
    /// The event, if it is one.
    pub fn delivery(self) -> Option<Delivery> {
        match self {
            Self::Delivery(delivery) => Some(delivery),
            _ => None,
        }
    }
}

/// A live subscription: a [`Stream`] that brings events as they happen, over connections that come
/// and go. It ends after [`close`](Self::close), or with an error when it can go on no more.
///
/// Dropped, it closes its connection in the background.
#[derive(Debug)]
pub struct Subscription {
    heard: mpsc::Receiver<Heard>,
    shared: Arc<Shared>,
    engine: JoinHandle<()>,
    ended: bool,
}

impl Subscription {
    pub(crate) fn new(
        heard: mpsc::Receiver<Heard>,
        shared: Arc<Shared>,
        engine: JoinHandle<()>,
    ) -> Self {
        Self { heard, shared, engine, ended: false }
    }

    /// The next item; `None` after the end.
    ///
    /// # Errors
    ///
    /// Why the subscription has ended, if nobody closed it: the token is refused, the instance is
    /// gone, an event is too large, connecting failed as often as it may.
    pub async fn next(&mut self) -> Option<Result<Item, Error>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await
    }

    /// Waits for the next item, and takes what is there besides, up to `most` in all. Nothing after
    /// the end.
    pub async fn next_many(&mut self, most: usize) -> Vec<Result<Item, Error>> {
        let mut items = Vec::new();
        while items.is_empty() && !self.ended && most > 0 {
            let mut heard = Vec::new();
            if self.heard.recv_many(&mut heard, most).await == 0 {
                self.ended = true;
            }
            items.extend(heard.into_iter().filter_map(|heard| self.item(heard)));
        }
        items
    }

    /// What is there already, up to `most`; nothing is waited for.
    pub fn ready_many(&mut self, most: usize) -> Vec<Result<Item, Error>> {
        let mut items = Vec::new();
        while items.len() < most
            && let Ok(heard) = self.heard.try_recv()
        {
            items.extend(self.item(heard));
        }
        items
    }

    /// How it is.
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Looks at it from elsewhere.
    pub fn glance(&self) -> Glance {
        Glance(self.shared.clone())
    }

    /// Tells each time that changes.
    pub fn watch_state(&self) -> watch::Receiver<State> {
        self.shared.watch()
    }

    /// By how much the last event that arrived was late: from when the gateway stored it until now.
    /// The gateway's clock counts, whatever ours says. `None` before the first event.
    pub fn lag(&self) -> Option<Duration> {
        self.shared.lag(Timestamp::now())
    }

    /// Up to where everything is settled: an event id, or a cursor. To be kept by those who
    /// subscribe without a name and want to go on there next time.
    pub fn cursor(&self) -> Option<String> {
        self.shared.ledger().cursor().map(|cursor| cursor.to_string())
    }

    /// Events that were handed out and are not settled.
    pub fn unsettled(&self) -> usize {
        self.shared.ledger().held()
    }

    /// Ends it: what was said about events is sent, and the connection closed in order. What was
    /// not settled comes again with the next subscription.
    pub async fn close(mut self) {
        self.heard.close();
        // It may have ended by itself.
        let _ = self.shared.send(Command::Close);
        while self.heard.recv().await.is_some() {}
        let _ = (&mut self.engine).await;
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Item, Error>>> {
        while !self.ended {
            match ready!(self.heard.poll_recv(cx)) {
                Some(heard) => {
                    if let Some(item) = self.item(heard) {
                        return Poll::Ready(Some(item));
                    }
                }
                None => self.ended = true,
            }
        }
        Poll::Ready(None)
    }

    /// What its owner is given of it.
    fn item(&mut self, heard: Heard) -> Option<Result<Item, Error>> {
        Some(Ok(match heard {
            Heard::Delivery(delivery) => Item::Delivery(delivery),
            Heard::Gap(gap) => Item::Gap(gap),
            Heard::Dead(dead) => Item::Dead(dead),
            Heard::Trouble(error) => Item::Trouble(error),
            // Seen in the state.
            Heard::Opened | Heard::Closed | Heard::Broken(_) => return None,
            Heard::Ended(error) => {
                self.ended = true;
                return error.map(Err);
            }
        }))
    }
}

/// A subscription, seen from elsewhere than where it is read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Glance(Arc<Shared>);

impl Glance {
    /// See [`Subscription::state`].
    pub fn state(&self) -> State {
        self.0.state()
    }

    /// See [`Subscription::lag`].
    pub fn lag(&self) -> Option<Duration> {
        self.0.lag(Timestamp::now())
    }

    /// See [`Subscription::cursor`].
    pub fn cursor(&self) -> Option<String> {
        self.0.ledger().cursor().map(|cursor| cursor.to_string())
    }

    /// See [`Subscription::unsettled`].
    pub fn unsettled(&self) -> usize {
        self.0.ledger().held()
    }
}

impl Stream for Subscription {
    type Item = Result<Item, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_item(cx)
    }
}
