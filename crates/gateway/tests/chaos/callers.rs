//! Callers of many instances, behind what does the work of a load balancer: whoever does not answer
//! is left alone for a while, and the post goes to another node, until somebody answers 2xx.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::{Client, Response};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    leases::{Moment, now},
    load::writers::message,
};

/// Each posts one event after another.
const CALLERS_PER_SHOP: usize = 2;
const CHATS_PER_CALLER: usize = 3;

/// Between an answer and the caller's next post.
const PAUSE: Duration = Duration::from_millis(130);

/// What a load balancer waits for an answer, and for how long it leaves a node alone.
const TIMEOUT: Duration = Duration::from_secs(3);
const ALONE: Duration = Duration::from_secs(1);

/// Every so many-th event is a message that was sent, the others were received.
const SENT: u64 = 4;

/// An instance that events are posted to.
#[derive(Debug, Clone)]
pub(crate) struct Shop {
    pub(crate) id: String,
    pub(crate) token: String,
}

/// An event that was answered 2xx.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    /// What its caller calls it.
    pub(crate) id: String,
    /// What the gateway answered.
    pub(crate) answer: Value,
    pub(crate) at: Moment,
}

/// Callers at work.
pub(crate) struct Callers {
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

struct Shared {
    /// Where nodes listen, those that are away too.
    nodes: Mutex<Vec<String>>,
    stop: AtomicBool,
    /// By shop.
    acknowledged: Mutex<Vec<Vec<Acknowledged>>>,
    refusals: AtomicUsize,
    /// The longest that a post took, with all its repeats.
    longest: Mutex<Duration>,
}

impl Callers {
    pub(crate) fn start(nodes: Vec<String>, shops: &[Shop]) -> Self {
        let shared = Arc::new(Shared {
            nodes: Mutex::new(nodes),
            stop: AtomicBool::new(false),
            acknowledged: Mutex::new(vec![Vec::new(); shops.len()]),
            refusals: AtomicUsize::new(0),
            longest: Mutex::default(),
        });
        let callers = (0..shops.len() * CALLERS_PER_SHOP)
            .map(|number| {
                let shop = number / CALLERS_PER_SHOP;
                let caller = Caller::new(number, shop, shops[shop].clone(), shared.clone());
                tokio::spawn(caller.run())
            })
            .collect();
        Self { shared, callers }
    }

    /// A node listens somewhere else now.
    pub(crate) fn moved_to(&self, node: usize, url: &str) {
        self.shared.nodes.lock().unwrap()[node] = url.to_owned();
    }

    /// Posts answered 503 so far.
    pub(crate) fn refusals(&self) -> usize {
        self.shared.refusals.load(Ordering::SeqCst)
    }

    /// The longest that a post took until it was answered 2xx.
    pub(crate) fn longest(&self) -> Duration {
        *self.shared.longest.lock().unwrap()
    }

    /// Events answered 2xx so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.acknowledged.lock().unwrap().iter().map(Vec::len).sum()
    }

    /// Waits until `count` more events are answered 2xx.
    pub(crate) async fn go_on(&self, count: usize) {
        let (before, began) = (self.acknowledged(), Instant::now());
        while self.acknowledged() < before + count {
            assert!(began.elapsed() < Duration::from_secs(60), "posts are not taken any more");
            self.expect_well();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// None of them has met an answer that must not be.
    pub(crate) fn expect_well(&self) {
        let stopped = self.shared.stop.load(Ordering::SeqCst);
        let gone = self.callers.iter().filter(|caller| caller.is_finished()).count();
        assert!(stopped || gone == 0, "{gone} callers met what must not be: see above");
    }

    /// Everybody finishes the post they are at. Gives what was answered 2xx, by shop.
    pub(crate) async fn stop(&mut self) -> Vec<Vec<Acknowledged>> {
        self.shared.stop.store(true, Ordering::SeqCst);
        for caller in self.callers.drain(..) {
            caller.await.unwrap();
        }
        std::mem::take(&mut self.shared.acknowledged.lock().unwrap())
    }
}

/// Whether the event with this id is a message that was received; else it was sent.
pub(crate) fn is_received(id: &str) -> bool {
    let number: u64 = id.split_once('-').and_then(|(_, number)| number.parse().ok()).unwrap();
    number % SENT != SENT - 1
}

struct Caller {
    number: usize,
    index: usize,
    shop: Shop,
    shared: Arc<Shared>,
    client: Client,
    /// The node whose turn it is, and until when each is left alone.
    next: usize,
    alone: Vec<Instant>,
}

impl Caller {
    fn new(number: usize, index: usize, shop: Shop, shared: Arc<Shared>) -> Self {
        let client = Client::builder().timeout(TIMEOUT).build().unwrap();
        let alone = vec![Instant::now(); shared.nodes.lock().unwrap().len()];
        Self { number, index, shop, shared, client, next: number, alone }
    }

    async fn run(mut self) {
        for number in 0_u64.. {
            for chat in self.number * CHATS_PER_CALLER..(self.number + 1) * CHATS_PER_CALLER {
                if self.shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let id = format!("c{chat}-{number}");
                let began = Instant::now();
                let answer = loop {
                    if let Some(answer) = self.post(chat, &id).await {
                        break answer;
                    }
                };
                {
                    let mut longest = self.shared.longest.lock().unwrap();
                    *longest = began.elapsed().max(*longest);
                }
                let acknowledged = Acknowledged { id, answer, at: now() };
                self.shared.acknowledged.lock().unwrap()[self.index].push(acknowledged);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Posts to the node whose turn it is; gives what it answered if that was 2xx.
    async fn post(&mut self, chat: usize, id: &str) -> Option<Value> {
        let Some((node, url)) = self.node() else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return None;
        };
        let post = self.client.post(format!("{url}/v1/instances/{}/events", self.shop.id));
        let post = post.bearer_auth(&self.shop.token).json(&event(chat, id));
        match post.send().await {
            Ok(response) if response.status().is_success() => {
                // Killed while it answered: then it is posted again.
                return response.json().await.ok();
            }
            Ok(response) => self.shared.note_refusal(id, response).await,
            // Gone, or silent for too long: nobody knows what became of it.
            Err(_) => {}
        }
        self.alone[node] = Instant::now() + ALONE;
        None
    }

    /// The next node that is not left alone.
    fn node(&mut self) -> Option<(usize, String)> {
        let nodes = self.shared.nodes.lock().unwrap();
        let now = Instant::now();
        for _ in 0..nodes.len() {
            self.next = (self.next + 1) % nodes.len();
            if self.alone[self.next] <= now {
                return Some((self.next, nodes[self.next].clone()));
            }
        }
        None
    }
}

impl Shared {
    /// Anything but a 503 that says when to come again fails the test.
    async fn note_refusal(&self, id: &str, response: Response) {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").cloned();
        // Killed while it answered.
        let Ok(text) = response.text().await else { return };
        assert_eq!(status, 503, "{id}: {text}");
        let problem: Value = serde_json::from_str(&text).unwrap();
        let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        assert!(seconds.is_some(), "a 503 without Retry-After: {text}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.to_lowercase().contains("again"), "it does not say what to do: {text}");
        self.refusals.fetch_add(1, Ordering::SeqCst);
    }
}

fn event(chat: usize, id: &str) -> Value {
    let mut event = message(chat, id, 200);
    if !is_received(id) {
        event["type"] = json!("message.sent");
        event["data"]["message"]["from_me"] = json!(true);
        event["data"]["origin"] = json!("api");
        event["data"]["status"] = json!("sent");
    }
    event
}
