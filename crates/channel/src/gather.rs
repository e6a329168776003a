//! Puts together what is sent at the same time, for peers that take several messages at once.
//!
//! Whoever sends waits for a report of its own message; requests are made by tasks of their own, so
//! that a sender who goes away takes nobody's message with it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use crate::{Message, Outcome, Report, Scope};

/// What one request may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Messages.
    pub(crate) count: usize,
    /// Bytes of all of them together.
    pub(crate) bytes: usize,
    /// Requests under way at one time.
    pub(crate) requests: usize,
    /// How long a message may wait for its request to begin.
    pub(crate) patience: Duration,
}

/// One message on its way into a request.
#[derive(Debug)]
pub(crate) struct Item<T> {
    /// What the peer calls the place it goes to: a request has one.
    pub(crate) place: String,
    /// What it takes of [`Limits::bytes`].
    pub(crate) bytes: usize,
    pub(crate) message: Message,
    /// What the peer needs besides.
    pub(crate) more: T,
}

/// A peer that takes several messages in one request.
pub(crate) trait Peer: Send + Sync + 'static {
    /// See [`Item::more`].
    type More: Send + 'static;

    /// Sends them in one request (or however many it takes): one report each, in their order. Their
    /// place is one and the same.
    fn post(&self, items: Vec<Item<Self::More>>) -> impl Future<Output = Vec<Report>> + Send;
}

struct Waiting<T> {
    item: Item<T>,
    since: Instant,
    answer: oneshot::Sender<Report>,
}

/// What is to be done next.
struct Next<T> {
    /// They have waited too long.
    late: Vec<Waiting<T>>,
    /// One request.
    batch: Vec<Waiting<T>>,
}

struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    requests: usize,
}

/// Gathers messages for a peer.
pub(crate) struct Gather<P: Peer> {
    peer: P,
    limits: Limits,
    queue: Mutex<Queue<P::More>>,
}

impl<P: Peer> Gather<P> {
    pub(crate) fn new(peer: P, limits: Limits) -> Arc<Self> {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), requests: 0 });
        Arc::new(Self { peer, limits, queue })
    }

    pub(crate) fn peer(&self) -> &P {
        &self.peer
    }

    fn queue(&self) -> MutexGuard<'_, Queue<P::More>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one message, with others that are sent at the same time.
    pub(crate) async fn send(self: &Arc<Self>, item: Item<P::More>) -> Report {
        let (answer, report) = oneshot::channel();
        let begin = {
            let mut queue = self.queue();
            queue.waiting.push_back(Waiting { item, since: Instant::now(), answer });
            let begin = queue.requests < self.limits.requests;
            queue.requests += usize::from(begin);
            begin
        };
        if begin {
            tokio::spawn(Arc::clone(self).work());
        }
        report.await.unwrap_or_else(|_| {
            failed(
                Outcome::Retry { after: None, scope: Scope::Event },
                "the request was broken off",
            )
        })
    }

    /// Makes requests until nobody waits.
    async fn work(self: Arc<Self>) {
        let mut turn = Turn { gather: &self, given_back: false };
        // Whoever sends at this moment comes along.
        tokio::task::yield_now().await;
        loop {
            let Some(Next { late, batch }) = turn.take() else { return };
            for waiting in late {
                let error = format!(
                    "not sent within {} s: the requests before it take too long",
                    self.limits.patience.as_secs_f64()
                );
                let outcome = Outcome::Retry { after: None, scope: Scope::Destination };
                waiting.answer.send(failed(outcome, error)).ok();
            }
            let (items, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.item, waiting.answer)).unzip();
            if items.is_empty() {
                continue;
            }
            let reports = self.peer.post(items).await;
            for (answer, report) in answers.into_iter().zip(reports) {
                answer.send(report).ok();
            }
        }
    }
}

/// The right to make one request at a time: one of [`Limits::requests`]. A request that panics takes
/// its messages with it, but not this.
struct Turn<'a, P: Peer> {
    gather: &'a Arc<Gather<P>>,
    given_back: bool,
}

impl<P: Peer> Drop for Turn<'_, P> {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        let mut queue = self.gather.queue();
        let runtime = Handle::try_current().ok().filter(|_| !queue.waiting.is_empty());
        match runtime {
            // Somebody waits for the next request, and nobody may come to begin it.
            Some(runtime) => drop(runtime.spawn(Arc::clone(self.gather).work())),
            None => queue.requests -= 1,
        }
    }
}

impl<P: Peer> Turn<'_, P> {
    /// The next request: what waits for the place of the oldest, as far as it fits. And those that
    /// have waited too long. `None`: there is nothing, and the turn is over.
    fn take(&mut self) -> Option<Next<P::More>> {
        let Gather { limits, .. } = &**self.gather;
        let mut queue = self.gather.queue();
        let now = Instant::now();
        let mut late = Vec::new();
        while queue.waiting.front().is_some_and(|it| now - it.since > limits.patience) {
            late.extend(queue.waiting.pop_front());
        }
        let mut batch: Vec<Waiting<P::More>> = Vec::new();
        let mut bytes = 0;
        let mut index = 0;
        while batch.len() < limits.count && index < queue.waiting.len() {
            let next = &queue.waiting[index].item;
            let same = batch.first().is_none_or(|first| first.item.place == next.place);
            let fits = batch.is_empty() || bytes + next.bytes <= limits.bytes;
            if same && fits {
                bytes += next.bytes;
                batch.extend(queue.waiting.remove(index));
            } else if same {
                // Those behind it must not overtake it.
                break;
            } else {
                index += 1;
            }
        }
        if late.is_empty() && batch.is_empty() {
            // Together with the look at the queue: who comes next begins a request of their own.
            queue.requests -= 1;
            self.given_back = true;
            return None;
        }
        Some(Next { late, batch })
    }
}

/// A report of what was not sent.
pub(crate) fn failed(outcome: Outcome, error: impl Into<String>) -> Report {
    Report {
        outcome,
        status: None,
        latency: Duration::ZERO,
        error: Some(error.into()),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
        excerpt: Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::message;

    /// Writes down what comes, and answers when it is let.
    struct Slow {
        seen: Mutex<Vec<Vec<String>>>,
        turns: tokio::sync::Semaphore,
    }

    impl Peer for Slow {
        type More = ();

        async fn post(&self, items: Vec<Item<()>>) -> Vec<Report> {
            let ids = items.iter().map(|item| item.message.id.clone()).collect();
            self.seen.lock().unwrap().push(ids);
            self.turns.acquire().await.unwrap().forget();
            items.iter().map(|item| failed(Outcome::Accepted, item.message.id.as_str())).collect()
        }
    }

    fn gather(count: usize, bytes: usize) -> Arc<Gather<Slow>> {
        let peer = Slow { seen: Mutex::default(), turns: tokio::sync::Semaphore::new(0) };
        let limits = Limits { count, bytes, requests: 1, patience: Duration::from_secs(5) };
        Gather::new(peer, limits)
    }

    fn item(id: &str, place: &str, bytes: usize) -> Item<()> {
        let mut message = message("shop");
        message.id = id.to_owned();
        Item { place: place.to_owned(), bytes, message, more: () }
    }

    async fn send_all(gather: &Arc<Gather<Slow>>, items: Vec<Item<()>>) -> Vec<String> {
        let mut tasks = Vec::new();
        for item in items {
            let gather = Arc::clone(gather);
            tasks.push(tokio::spawn(async move { gather.send(item).await }));
            tokio::task::yield_now().await;
        }
        // Now that all of them wait, the first is answered.
        gather.peer.turns.add_permits(100);
        let mut said = Vec::new();
        for task in tasks {
            said.push(task.await.unwrap().error.unwrap());
        }
        said
    }

    #[tokio::test]
    async fn what_is_sent_meanwhile_goes_together() {
        let gather = gather(3, 100);
        let items = vec![
            item("a1", "a", 1),
            item("a2", "a", 60),
            item("b1", "b", 1),
            item("a3", "a", 60),
            item("a4", "a", 1),
            item("b2", "b", 1),
        ];
        let said = send_all(&gather, items).await;
        // Each gets the report of its own message.
        assert_eq!(said, ["a1", "a2", "b1", "a3", "a4", "b2"]);
        let seen = gather.peer.seen.lock().unwrap().clone();
        // Never more than fits, one place at a time, in order within a place.
        let of = |place: char| -> Vec<String> {
            seen.iter().flatten().filter(|id| id.starts_with(place)).cloned().collect()
        };
        assert_eq!(of('a'), ["a1", "a2", "a3", "a4"]);
        assert_eq!(of('b'), ["b1", "b2"]);
        for request in &seen {
            assert!(request.len() <= 3);
            assert!(request.iter().all(|id| id[..1] == request[0][..1]), "{seen:?}");
            assert!(!(request.contains(&"a2".to_owned()) && request.contains(&"a3".to_owned())));
        }
        assert!(seen.len() < 6, "{seen:?}");
        assert_eq!(gather.queue().requests, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_so() {
        let gather = gather(1, 100);
        let first = tokio::spawn({
            let gather = Arc::clone(&gather);
            async move { gather.send(item("a", "a", 1)).await }
        });
        tokio::task::yield_now().await;
        let second = tokio::spawn({
            let gather = Arc::clone(&gather);
            async move { gather.send(item("b", "a", 1)).await }
        });
        tokio::time::sleep(Duration::from_secs(6)).await;
        gather.peer.turns.add_permits(1);
        assert_eq!(first.await.unwrap().outcome, Outcome::Accepted);
        let second = second.await.unwrap();
        let retry = Outcome::Retry { after: None, scope: Scope::Destination };
        assert_eq!(second.outcome, retry);
        assert_eq!(gather.peer.seen.lock().unwrap().len(), 1, "it was not sent");
    }

    /// Panics at one message, and takes all others.
    struct Shaky;

    impl Peer for Shaky {
        type More = ();

        async fn post(&self, items: Vec<Item<()>>) -> Vec<Report> {
            assert!(items[0].message.id != "bad", "it cannot bear this message");
            items.iter().map(|_| failed(Outcome::Accepted, "")).collect()
        }
    }

    #[tokio::test]
    async fn a_panic_costs_its_own_messages_and_no_place() {
        let limits = Limits { count: 1, bytes: 100, requests: 1, patience: Duration::from_secs(5) };
        let gather = Gather::new(Shaky, limits);
        for _ in 0..3 {
            let ids = ["bad", "bad", "good"];
            let sends = ids.map(|id| {
                let gather = Arc::clone(&gather);
                tokio::spawn(async move { gather.send(item(id, "a", 1)).await.outcome })
            });
            let mut outcomes = Vec::new();
            for send in sends {
                outcomes.push(send.await.unwrap());
            }
            let again = Outcome::Retry { after: None, scope: Scope::Event };
            assert_eq!(outcomes, [again.clone(), again, Outcome::Accepted]);
        }
        assert_eq!(gather.queue().requests, 0);
    }

    #[tokio::test]
    async fn a_sender_who_goes_away_takes_nobody_along() {
        let gather = gather(1, 100);
        let first = tokio::spawn({
            let gather = Arc::clone(&gather);
            async move { gather.send(item("a", "a", 1)).await }
        });
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        first.abort();
        gather.peer.turns.add_permits(2);
        let report = gather.send(item("b", "a", 1)).await;
        assert_eq!(report.error.as_deref(), Some("b"));
    }
}
