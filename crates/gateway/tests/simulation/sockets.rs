//! The connections of live consumers: real WebSockets through a pipe, whose clients read, stall,
//! acknowledge and break off as the seed says.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::{SinkExt as _, Stream as _, StreamExt as _};
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use zapbus_store::simulation::Chance;

use crate::{
    driver::Driver,
    node::{Node, Socket},
    subscribers::{Came, Consumer, Forgetting, Leaving, Plan},
    world::World,
};

/// What consumers want.
const TYPES: [&str; 5] = ["*", "*", "message.*", "message.received", "message.*,presence.*"];

/// Consumers of one seed at most.
const MOST_CONSUMERS: u64 = 3;

/// Looks until every consumer has what it was promised, in the end.
const LOOKS: u32 = 60;

/// Nobody was ever sent this.
const UNKNOWN: &str = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// One who says goodbye waits so long for the answer.
const GOODBYE: Duration = Duration::from_secs(2);

/// A client on its connection.
struct Client {
    world: Arc<World>,
    at: usize,
    link: u64,
    socket: Socket,
    wake: Arc<Notify>,
    chance: Chance,
    plan: Plan,
    /// When to acknowledge what: virtual millisecond, number, id.
    later: Vec<(u64, usize, String)>,
    last: Option<String>,
    /// Acknowledged since the gateway was last asked whether it reads.
    since_ping: Vec<usize>,
    /// Acknowledged before a question that it has not answered yet.
    asked: Option<Vec<usize>>,
}

impl Client {
    async fn run(mut self) {
        while let Some(wait) = self.due() {
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                frame = self.socket.next(), if !self.stalls() => match frame {
                    Some(Ok(Message::Text(text))) => self.take(&text),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                () = tokio::time::sleep(wait) => {
                    if self.stalls() {
                        continue;
                    }
                    if !self.acknowledge().await {
                        return;
                    }
                }
            }
        }
        if self.leaving() == Some(Leaving::Politely) {
            let _ = tokio::time::timeout(GOODBYE, self.socket.send(Message::Close(None))).await;
            let rest = async {
                while let Some(Ok(frame)) = self.socket.next().await {
                    if let Message::Text(text) = frame {
                        self.world.lock().frame(self.at, self.link, &text);
                    }
                }
            };
            let _ = tokio::time::timeout(GOODBYE, rest).await;
        }
    }

    fn leaving(&self) -> Option<Leaving> {
        let world = self.world.lock();
        world.consumers[self.at]
            .links
            .get(&self.link)
            .map_or(Some(Leaving::AtOnce), |it| it.leaving)
    }

    /// Virtual milliseconds for which nothing is read.
    fn stalled_for(&self) -> u64 {
        let world = self.world.lock();
        let link = world.consumers[self.at].links.get(&self.link);
        link.map_or(0, |link| link.stalled_until.saturating_sub(world.trace.now()))
    }

    fn stalls(&self) -> bool {
        self.stalled_for() > 0
    }

    /// How long until it does something by itself; `None`: it leaves.
    fn due(&self) -> Option<Duration> {
        if self.leaving().is_some() {
            return None;
        }
        let stalled = self.stalled_for();
        let now = self.world.lock().trace.now();
        let next = self.later.iter().map(|(due, ..)| due.saturating_sub(now)).min();
        let wait = if stalled > 0 { stalled } else { next.unwrap_or(u64::MAX).min(3_600_000) };
        Some(Duration::from_millis(wait))
    }

    fn take(&mut self, text: &str) {
        let came = self.world.lock().frame(self.at, self.link, text);
        let now = self.world.lock().trace.now();
        match came {
            Came::Event(n, id) if self.plan.explicit => {
                let wait = self.plan.ack_wait_s * 1_000;
                let delay = match self.chance.below(20) {
                    _ if self.world.lock().healed => 0,
                    0..10 => 0,
                    10..15 => self.chance.below(2_000),
                    15..19 => self.chance.below(2 * wait),
                    // When it comes again, perhaps.
                    _ => return,
                };
                self.later.push((now + delay, n, id));
            }
            Came::Pong => {
                if let Some(heard) = self.asked.take() {
                    self.world.lock().heard(self.at, self.link, &heard);
                }
            }
            Came::Event(..) | Came::Other => {}
        }
    }

    /// Acknowledges what is due, in some order. False: the connection is broken.
    async fn acknowledge(&mut self) -> bool {
        let now = self.world.lock().trace.now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.later).into_iter().partition(|(due, ..)| *due <= now);
        self.later = later;
        if due.is_empty() {
            return true;
        }
        let numbers: Vec<usize> = due.iter().map(|(_, n, _)| *n).collect();
        let mut ids: Vec<String> = due.into_iter().map(|(.., id)| id).collect();
        if self.chance.one_in(2) {
            ids.reverse();
        }
        if self.chance.one_in(6) {
            ids.push(UNKNOWN.to_owned());
        }
        if self.chance.one_in(6) {
            ids.extend(self.last.clone());
        }
        self.last = ids.first().cloned();
        self.world.lock().acknowledges(self.at, self.link, &numbers);
        self.since_ping.extend(numbers);
        let mut said = match ids.as_slice() {
            [id] => vec![json!({ "type": "ack", "id": id }).to_string()],
            ids => vec![json!({ "type": "ack", "ids": ids }).to_string()],
        };
        if self.chance.one_in(20) {
            said.push("{".to_owned());
        }
        // An answer shows that it has read all this. It may leave a question without one: then
        // nobody can tell which of two it answers, and none is asked any more.
        if self.asked.is_none() {
            self.asked = Some(std::mem::take(&mut self.since_ping));
            said.push(json!({ "type": "ping" }).to_string());
        }
        for message in said {
            if self.socket.send(Message::text(message)).await.is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Client {
    /// However it ends, what lies in its pipe was written to it.
    fn drop(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut self.socket).poll_next(&mut nobody) {
            if let Message::Text(text) = frame {
                self.world.lock().frame(self.at, self.link, &text);
            }
        }
        self.world.lock().disconnected(self.at, self.link, "it has ended");
    }
}

impl Consumer {
    fn path(&self, instances: &[String]) -> String {
        let mut path = match self.plan.instance {
            Some(instance) => format!("/v1/instances/{}/stream?", instances[instance]),
            None => "/v1/stream?".to_owned(),
        };
        let plan = &self.plan;
        path += &format!("types={}&exclude_ephemeral={}", plan.types, plan.exclude_ephemeral);
        if plan.explicit {
            let (most, wait) = (plan.max_unacked, plan.ack_wait_s);
            path += &format!("&ack=explicit&max_unacked={most}&ack_wait={wait}");
        }
        match (&plan.name, &self.after) {
            (Some(name), _) => path += &format!("&subscriber={name}"),
            (None, Some(after)) => path += &format!("&after={after}"),
            (None, None) => {}
        }
        path
    }
}

impl Driver {
    /// Decides who listens in this seed.
    pub(crate) fn make_consumers(&mut self) {
        let Some(live) = &mut self.live else { return };
        let world = &mut *self.world.lock();
        for at in 0..=live.below(MOST_CONSUMERS) {
            let is_named = !live.one_in(3);
            let plan = Plan {
                instance: (!live.one_in(3))
                    .then(|| live.below(world.instances.len() as u64) as usize),
                name: is_named.then(|| format!("consumer-{at}")),
                explicit: is_named && !live.one_in(3),
                types: live.pick::<&str>(&TYPES),
                exclude_ephemeral: live.one_in(3),
                max_unacked: *live.pick(&[1, 3, 8, 256]),
                ack_wait_s: *live.pick(&[1, 10, 60]),
                at_once: if is_named && live.one_in(3) { 2 } else { 1 },
            };
            world.trace.note(&format!("consumer-{at} is {plan:?}"));
            world.consumers.push(Consumer::new(format!("consumer-{at}"), plan));
        }
    }

    /// A consumer connects, breaks off, stops reading for a while, or is forgotten.
    pub(crate) fn touch_consumers(&mut self, node: &Node) {
        let Some(mut live) = self.live.take() else { return };
        let count = self.world.lock().consumers.len() as u64;
        let at = live.below(count) as usize;
        match live.below(16) {
            0..5 => self.connect(node, at, &mut live),
            5 => self.leave(at, *live.pick(&[Leaving::Politely, Leaving::AtOnce])),
            6 => {
                let longest = *live.pick(&[500, 5_000, 60_000, 900_000]);
                self.stall(at, live.below(longest));
            }
            7 if live.one_in(4) => self.forget(node, at),
            8 => self.forget_again(node, at),
            _ => {}
        }
        self.live = Some(live);
    }

    fn connect(&self, node: &Node, at: usize, live: &mut Chance) {
        let chance = live.fork();
        let pipe = *live.pick(&[600, 4 << 10, 64 << 10]);
        let (path, plan, link, wake) = {
            let world = &mut *self.world.lock();
            let consumer = &world.consumers[at];
            let plan = consumer.plan.clone();
            let is_over = plan.instance.is_some_and(|it| world.endings.contains_key(&it));
            let is_full = consumer.links.len() >= plan.at_once;
            if is_over || is_full || consumer.forgetting != Forgetting::No {
                return;
            }
            let path = consumer.path(&world.instances);
            let (link, wake) = world.connects(at);
            (path, plan, link, wake)
        };
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            match node.socket(&path, pipe).await {
                Ok(socket) => {
                    let client = Client {
                        world,
                        at,
                        link,
                        socket,
                        wake,
                        chance,
                        plan,
                        later: Vec::new(),
                        last: None,
                        since_ping: Vec::new(),
                        asked: None,
                    };
                    client.run().await;
                }
                Err(status) => {
                    world.lock().disconnected(at, link, &format!("refused with {status}"));
                }
            }
        });
    }

    /// All connections of a consumer end.
    fn leave(&self, at: usize, how: Leaving) {
        let world = &mut *self.world.lock();
        for link in world.consumers[at].links.values_mut().filter(|link| link.opened) {
            link.leave(how);
        }
        let label = &world.consumers[at].label;
        world.trace.note(&format!("{label} leaves: {how:?}"));
    }

    /// One of them reads nothing for a while.
    fn stall(&self, at: usize, for_ms: u64) {
        let world = &mut *self.world.lock();
        let until = world.trace.now() + for_ms;
        let consumer = &mut world.consumers[at];
        let Some(link) = consumer.links.values_mut().find(|link| link.opened) else { return };
        link.stall(until);
        let label = &consumer.label;
        world.trace.note(&format!("{label} reads nothing for {for_ms} ms"));
    }

    /// All of them read.
    fn read_on(&self, at: usize) {
        let world = &mut *self.world.lock();
        let now = world.trace.now();
        let links = world.consumers[at].links.values_mut();
        links.filter(|link| link.stalled_until > now).for_each(|link| link.stall(now));
    }

    fn forget_again(&self, node: &Node, at: usize) {
        let forgetting = self.world.lock().consumers[at].forgetting;
        if forgetting == Forgetting::Uncertain {
            self.forget(node, at);
        }
    }

    /// A person has a subscriber forgotten.
    fn forget(&self, node: &Node, at: usize) {
        let path = {
            let world = &mut *self.world.lock();
            let consumer = &mut world.consumers[at];
            let Some(id) = consumer.id.clone() else { return };
            if consumer.forgetting == Forgetting::UnderWay
                || consumer.links.values().any(|link| !link.opened)
            {
                return;
            }
            consumer.forgetting = Forgetting::UnderWay;
            let label = &consumer.label;
            world.trace.note(&format!("{label} is to be forgotten"));
            world.under_way += 1;
            format!("/v1/subscribers/{id}")
        };
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            let (status, _) = node.request(Method::DELETE, &path, None).await;
            let world = &mut *world.lock();
            world.under_way -= 1;
            let consumer = &mut world.consumers[at];
            if matches!(status, 204 | 404) {
                consumer.reset();
            } else {
                consumer.forgetting = Forgetting::Uncertain;
            }
            let label = &consumer.label;
            world.trace.note(&format!("{label} is forgotten: {status}"));
        });
    }

    /// All is well: everybody who is still there gets what was promised.
    pub(crate) async fn settle_consumers(&mut self, node: &Node) {
        let Some(mut live) = self.live.take() else { return };
        let count = self.world.lock().consumers.len();
        for look in 0..LOOKS {
            for at in 0..count {
                self.read_on(at);
                self.forget_again(node, at);
                self.connect(node, at, &mut live);
            }
            self.wait(Duration::from_secs(31)).await;
            let Some(open) = self.still_lacking(node, count).await else {
                self.note(&format!("consumers have everything after {look} looks"));
                break;
            };
            if look + 1 == LOOKS {
                self.world.lock().violated(open);
            }
        }
        self.live = Some(live);
    }

    async fn still_lacking(&self, node: &Node, count: usize) -> Option<String> {
        let stored = self.stored(node).await;
        let (_, listed) = node.request(Method::GET, "/v1/subscribers?limit=1000", None).await;
        for at in 0..count {
            let world = self.world.lock();
            let consumer = &world.consumers[at];
            let label = &consumer.label;
            if consumer.plan.instance.is_some_and(|it| world.endings.contains_key(&it)) {
                continue;
            }
            if consumer.forgetting != Forgetting::No {
                return Some(format!("{label} cannot be forgotten"));
            }
            if !consumer.links.values().any(|link| link.opened) {
                return Some(format!("{label} cannot connect"));
            }
            let mut there = listed["data"].as_array().into_iter().flatten();
            let record = there
                .find(|it| it["id"].as_str().is_some_and(|id| consumer.id.as_deref() == Some(id)));
            let dead = record.and_then(|it| it["dead"].as_array());
            let dead: HashSet<u64> =
                dead.into_iter().flatten().filter_map(|it| it["seq"].as_u64()).collect();
            let lacks = world.lacks(at, &stored, &dead);
            if !lacks.is_empty() {
                let first = &world.events[lacks[0]];
                let cursor = record.map_or(Value::Null, |it| it["cursor"].clone());
                return Some(format!(
                    "{label} has never had {lacks:?} (the first: {first:?}), it stands at {cursor}"
                ));
            }
        }
        None
    }
}
