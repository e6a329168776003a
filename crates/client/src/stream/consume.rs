//! Events handed to a function, several at a time and in order where it counts.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
    future::Future,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use super::{Dead, Delivery, Gap, Item, Received, Subscribe};
use crate::Error;

/// Pauses before an event comes again double so often at most.
const MOST_DOUBLINGS: u32 = 6;

/// What order events are handled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Events of one chat one after the other, those of different chats at the same time. An event
    /// that is handed back does not stop the later ones of its chat.
    #[default]
    Chat,
    /// In any order.
    None,
}

/// Why an event was not done.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failed {
    /// The function has returned an error.
    Returned(String),
    /// The function has panicked.
    Panicked(String),
    /// The function was stopped: it took longer than the end allows.
    Stopped,
    /// A frame could not be read; it was no event's.
    Unreadable(Error),
}

impl Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Returned(error) => f.write_str(error),
            Self::Panicked(what) => write!(f, "the handler has panicked: {what}"),
            Self::Stopped => f.write_str("the handler was stopped by the end"),
            Self::Unreadable(error) => error.fmt(f),
        }
    }
}

/// What becomes known beside events.
type OnFailure = Arc<dyn Fn(&str, &Failed) + Send + Sync>;
type OnGap = Arc<dyn Fn(&Gap) + Send + Sync>;
type OnDead = Arc<dyn Fn(&Dead) + Send + Sync>;

/// How to consume. See [`Subscribe::consume`].
#[must_use = "nothing is consumed before it is run"]
pub struct Consumer {
    subscribe: Subscribe,
    concurrency: usize,
    order: Order,
    retry_after: Duration,
    drain_within: Duration,
    on_failure: OnFailure,
    on_gap: OnGap,
    on_dead: OnDead,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("subscribe", &self.subscribe)
            .field("concurrency", &self.concurrency)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

/// What was done until the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Consuming {
    /// Events that were done.
    pub done: u64,
    /// Times that an event was handed back.
    pub failed: u64,
}

impl Subscribe {
    /// Hands events to a function: acknowledged when it returns, handed back when it fails.
    pub fn consume(self) -> Consumer {
        Consumer {
            subscribe: self,
            concurrency: 1,
            order: Order::Chat,
            retry_after: Duration::from_secs(1),
            drain_within: Duration::from_secs(30),
            on_failure: Arc::new(|_, _| {}),
            on_gap: Arc::new(|_| {}),
            on_dead: Arc::new(|_| {}),
        }
    }
}

impl Consumer {
    /// How many events are handled at the same time; one, if not said.
    pub fn concurrency(mut self, events: usize) -> Self {
        self.concurrency = events.max(1);
        self
    }

    /// What order holds.
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// The pause before an event that failed comes again; it doubles each time. One second, if not
    /// said.
    pub fn retry_after(mut self, pause: Duration) -> Self {
        self.retry_after = pause;
        self
    }

    /// How long events that are being handled may take after the end is asked for; 30 seconds, if
    /// not said. What takes longer is stopped and comes again.
    pub fn drain_within(mut self, patience: Duration) -> Self {
        self.drain_within = patience;
        self
    }

    /// Is told of each failure, with the event's id (empty where it has none).
    pub fn on_failure(mut self, tell: impl Fn(&str, &Failed) + Send + Sync + 'static) -> Self {
        self.on_failure = Arc::new(tell);
        self
    }

    /// Is told when events are missing.
    pub fn on_gap(mut self, tell: impl Fn(&Gap) + Send + Sync + 'static) -> Self {
        self.on_gap = Arc::new(tell);
        self
    }

    /// Is told when an event will not come again.
    pub fn on_dead(mut self, tell: impl Fn(&Dead) + Send + Sync + 'static) -> Self {
        self.on_dead = Arc::new(tell);
        self
    }

    /// Consumes until `until` is there, then lets what has begun finish.
    ///
    /// # Errors
    ///
    /// What [`Subscribe::open`] says at the start, and
    /// [`Subscription::next`](super::Subscription::next) later.
    pub async fn run<H, F, E>(
        self,
        handler: H,
        until: impl Future<Output = ()> + Send,
    ) -> Result<Consuming, Error>
    where
        H: Fn(Received) -> F,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let mut subscription = self.subscribe.clone().open().await?;
        let most_waiting = self.subscribe.max_unacked_of();
        let mut still_at_it = interval((self.subscribe.ack_wait_of() / 3).max(SHORTEST));
        still_at_it.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = Work::new(&self, handler);
        let mut until = std::pin::pin!(until);
        let ended = loop {
            tokio::select! {
                () = &mut until => break Ok(()),
                item = subscription.next(), if work.waiting < most_waiting => match item {
                    Some(Ok(Item::Delivery(delivery))) => work.take(delivery),
                    Some(Ok(Item::Gap(gap))) => (self.on_gap)(&gap),
                    Some(Ok(Item::Dead(dead))) => work.bury(&dead),
                    Some(Ok(Item::Trouble(error))) => {
                        (self.on_failure)("", &Failed::Unreadable(error));
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                Some(ended) = work.running.join_next_with_id() => work.ended(ended),
                _ = still_at_it.tick() => work.still_at_it(),
            }
        };
        // What has not begun comes again.
        work.ready.clear();
        work.behind.clear();
        let deadline = Instant::now() + self.drain_within;
        while !work.running.is_empty() {
            tokio::select! {
                ended = timeout_at(deadline, work.running.join_next_with_id()) => match ended {
                    Ok(Some(ended)) => work.ended(ended),
                    Ok(None) => break,
                    Err(_) => work.running.abort_all(),
                },
                _ = still_at_it.tick() => work.still_at_it(),
            }
        }
        let done = work.tally;
        drop(work);
        subscription.close().await;
        ended.map(|()| done)
    }
}

/// The shortest time between two signs that events are worked on.
const SHORTEST: Duration = Duration::from_millis(50);

/// Events on their way through the handler.
struct Work<'a, H> {
    consumer: &'a Consumer,
    handler: H,
    running: JoinSet<Result<(), String>>,
    /// What is being handled.
    deliveries: HashMap<Id, Delivery>,
    /// Chats of which an event is being handled or next, with those behind it.
    behind: HashMap<String, VecDeque<Delivery>>,
    /// Events whose turn it is.
    ready: VecDeque<Delivery>,
    waiting: usize,
    /// Failures in a row, by event.
    failures: HashMap<String, u32>,
    tally: Consuming,
}

impl<'a, H, F, E> Work<'a, H>
where
    H: Fn(Received) -> F,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    fn new(consumer: &'a Consumer, handler: H) -> Self {
        Self {
            consumer,
            handler,
            running: JoinSet::new(),
            deliveries: HashMap::new(),
            behind: HashMap::new(),
            ready: VecDeque::new(),
            waiting: 0,
            failures: HashMap::new(),
            tally: Consuming::default(),
        }
    }

    /// What an event waits for others by.
    fn key(&self, received: &Received) -> Option<String> {
        match self.consumer.order {
            Order::Chat => received.ordering_key().map(str::to_owned),
            Order::None => None,
        }
    }

    fn take(&mut self, delivery: Delivery) {
        self.waiting += 1;
        if let Some(key) = self.key(&delivery) {
            if let Some(behind) = self.behind.get_mut(&key) {
                behind.push_back(delivery);
                return;
            }
            self.behind.insert(key, VecDeque::new());
        }
        self.ready.push_back(delivery);
        self.begin();
    }

    /// Begins as many as may run.
    fn begin(&mut self) {
        while self.running.len() < self.consumer.concurrency
            && let Some(delivery) = self.ready.pop_front()
        {
            self.waiting -= 1;
            let handling = (self.handler)(delivery.received().clone());
            let task = self
                .running
                .spawn(async move { handling.await.map_err(|error| error.to_string()) });
            self.deliveries.insert(task.id(), delivery);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) {
        let (task, failed) = match ended {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => (task, Some(Failed::Returned(error))),
            Err(error) => (error.id(), Some(why(error))),
        };
        let Some(delivery) = self.deliveries.remove(&task) else { return };
        let key = self.key(&delivery);
        let id = delivery.id().unwrap_or_default().to_owned();
        // Where the subscription has ended, the event comes again all the same.
        match failed {
            None => {
                self.tally.done += 1;
                self.failures.remove(&id);
                let _ = delivery.ack();
            }
            Some(failed) => {
                self.tally.failed += 1;
                let times = self.failures.entry(id.clone()).or_default();
                let pause = self.consumer.retry_after * (1 << (*times).min(MOST_DOUBLINGS));
                *times += 1;
                (self.consumer.on_failure)(&id, &failed);
                let _ = delivery.nack(Some(pause));
            }
        }
        if let Some(key) = key
            && let Some(behind) = self.behind.get_mut(&key)
        {
            match behind.pop_front() {
                Some(next) => self.ready.push_back(next),
                None => drop(self.behind.remove(&key)),
            }
        }
        self.begin();
    }

    fn bury(&mut self, dead: &Dead) {
        if let Some(id) = &dead.id {
            self.failures.remove(id);
        }
        (self.consumer.on_dead)(dead);
    }

    /// Nothing of this comes again while it is worked on or waits for its turn.
    fn still_at_it(&self) {
        let behind = self.behind.values().flatten();
        for delivery in self.deliveries.values().chain(&self.ready).chain(behind) {
            // The end shows elsewhere.
            let _ = delivery.in_progress();
        }
    }
}

fn why(error: JoinError) -> Failed {
    if error.is_cancelled() {
        return Failed::Stopped;
    }
    let what = error.into_panic();
    let text = what.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| what.downcast_ref::<String>().cloned());
    Failed::Panicked(text.unwrap_or_else(|| "it does not say why".to_owned()))
}
