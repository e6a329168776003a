//! Live consumers: what each of them asked for, what has come to it, and what must follow from that.
//!
//! A consumer knows only what comes out of its connections: frames, and whether the gateway has read
//! what it said. What it had in its pipe when a connection ended was written to it, and it has seen it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;
use tokio::sync::Notify;
use zapbus_event::Filter;

use crate::{
    endpoints::number_after,
    world::{GRACE_MS, Inner, Posted},
};

/// Acknowledgements are written every second, after what is being written: what was heard so long
/// before a crash does not come again. Milliseconds.
const WRITTEN_WITHIN_MS: u64 = 5_000;

/// What is asked for with every connection.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) instance: Option<usize>,
    /// The gateway keeps its cursor; without a name it says itself after what to go on.
    pub(crate) name: Option<String>,
    /// It acknowledges.
    pub(crate) explicit: bool,
    pub(crate) types: &'static str,
    pub(crate) exclude_ephemeral: bool,
    pub(crate) max_unacked: usize,
    pub(crate) ack_wait_s: u64,
    /// Connections at the same time.
    pub(crate) at_once: usize,
}

/// Whether a person has had it forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgetting {
    No,
    UnderWay,
    /// A request was cut off or failed.
    Uncertain,
}

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    Politely,
    AtOnce,
}

/// What a consumer has seen of an event.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) count: u32,
    /// It was acknowledged.
    pub(crate) acked: bool,
    /// When the gateway had read that for certain: life and virtual millisecond.
    heard: Option<(u32, u64)>,
    pub(crate) dead: bool,
}

/// A connection, as its client sees it.
#[derive(Debug)]
pub(crate) struct Link {
    epoch: u32,
    pub(crate) opened: bool,
    begun: u64,
    /// It has read whatever came since then, in virtual milliseconds.
    reads_since: u64,
    pub(crate) stalled_until: u64,
    pub(crate) leaving: Option<Leaving>,
    wake: Arc<Notify>,
    /// How often events came on it.
    times: HashMap<usize, u32>,
    newest: HashMap<(usize, u64), u64>,
    /// What came on it at this tick and was not acknowledged on it.
    open: BTreeMap<usize, u64>,
    acked: BTreeSet<usize>,
    /// The gateway has read these acknowledgements on it.
    heard: BTreeSet<usize>,
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) label: String,
    pub(crate) plan: Plan,
    filter: Filter,
    /// Counts how often it was forgotten.
    epoch: u32,
    pub(crate) id: Option<String>,
    /// It gets what is posted after this.
    since: u64,
    /// It may get what was posted after this.
    may_since: Option<u64>,
    /// Without a name: after what it goes on.
    pub(crate) after: Option<String>,
    pub(crate) forgetting: Forgetting,
    pub(crate) seen: BTreeMap<usize, Seen>,
    ids: HashMap<String, usize>,
    newest: HashMap<(usize, u64), u64>,
    /// Stretches of which it was told that something is missing.
    gaps: Vec<(u64, u64)>,
    pub(crate) links: BTreeMap<u64, Link>,
}

impl Link {
    pub(crate) fn leave(&mut self, how: Leaving) {
        self.leaving = Some(how);
        self.wake.notify_one();
    }

    /// Reads nothing until then. What lies in the pipe meanwhile may be old.
    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = until;
        self.reads_since = until;
        self.wake.notify_one();
    }
}

/// What a frame was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// An event to be acknowledged: its number and id.
    Event(usize, String),
    Pong,
    Other,
}

impl Consumer {
    pub(crate) fn new(label: String, plan: Plan) -> Self {
        let patterns: Vec<&str> = plan.types.split(',').collect();
        let filter = Filter::parse(&patterns).expect("patterns of the simulation");
        Self {
            label,
            plan,
            filter,
            epoch: 0,
            id: None,
            since: u64::MAX,
            may_since: None,
            after: None,
            forgetting: Forgetting::No,
            seen: BTreeMap::new(),
            ids: HashMap::new(),
            newest: HashMap::new(),
            gaps: Vec::new(),
            links: BTreeMap::new(),
        }
    }

    /// It begins anew: nothing is remembered of it.
    pub(crate) fn reset(&mut self) {
        let fresh = Self::new(self.label.clone(), self.plan.clone());
        let (epoch, mut links) = (self.epoch + 1, std::mem::take(&mut self.links));
        for link in links.values_mut() {
            link.leave(Leaving::AtOnce);
        }
        *self = Self { epoch, links, ..fresh };
    }

    fn wants(&self, event: &Posted) -> bool {
        self.filter.matches(event.kind, None)
            && !(event.ephemeral && self.plan.exclude_ephemeral)
            && self.plan.instance.is_none_or(|instance| instance == event.instance)
    }

    /// Whether it has nothing more to expect of an event.
    fn is_done_with(&self, n: usize) -> bool {
        self.seen.get(&n).is_some_and(|seen| {
            seen.dead || if self.plan.explicit { seen.acked } else { seen.count > 0 }
        })
    }
}

impl Inner {
    /// A consumer connects: the number of the connection.
    pub(crate) fn connects(&mut self, at: usize) -> (u64, Arc<Notify>) {
        let (tick, now) = (self.tick(), self.trace.now());
        self.linked += 1;
        let wake = Arc::new(Notify::new());
        let consumer = &mut self.consumers[at];
        consumer.may_since.get_or_insert(tick);
        let link = Link {
            epoch: consumer.epoch,
            opened: false,
            begun: now,
            reads_since: now,
            stalled_until: 0,
            leaving: None,
            wake: Arc::clone(&wake),
            times: HashMap::new(),
            newest: HashMap::new(),
            open: BTreeMap::new(),
            acked: BTreeSet::new(),
            heard: BTreeSet::new(),
        };
        consumer.links.insert(self.linked, link);
        self.trace.note(&format!("{} connects ({})", self.consumers[at].label, self.linked));
        (self.linked, wake)
    }

    /// A connection has ended.
    pub(crate) fn disconnected(&mut self, at: usize, link: u64, why: &str) {
        if self.consumers[at].links.remove(&link).is_some() {
            let label = &self.consumers[at].label;
            self.trace.note(&format!("{label} has lost connection {link}: {why}"));
        }
    }

    /// Takes in a frame.
    pub(crate) fn frame(&mut self, at: usize, link: u64, text: &str) -> Came {
        let (tick, epoch) = (self.tick(), self.consumers[at].epoch);
        let Some(on) = self.consumers[at].links.get_mut(&link).filter(|on| on.epoch == epoch)
        else {
            return Came::Other;
        };
        let Ok(frame) = serde_json::from_str::<Value>(text) else {
            let label = self.consumers[at].label.clone();
            self.violated(format!("{label}: a frame is no JSON: {text:.80}"));
            return Came::Other;
        };
        let opened = std::mem::replace(&mut on.opened, true);
        let consumer = &mut self.consumers[at];
        match frame["type"].as_str().unwrap_or_default() {
            "stream.opened" => {
                if consumer.since == u64::MAX {
                    consumer.since = tick;
                }
                consumer.id = frame["subscriber"].as_str().map(str::to_owned);
                if consumer.plan.name.is_none() && consumer.after.is_none() {
                    consumer.after = frame["cursor"].as_str().map(str::to_owned);
                }
                let note = format!("{} is open at {}", consumer.label, frame["cursor"]);
                self.trace.note(&note);
                if opened {
                    self.violated(format!("connection {link} was opened twice"));
                }
            }
            "stream.pong" => return Came::Pong,
            "stream.gap" => {
                let end = |end: &str| number_after(frame[end].as_str()?, "pos_");
                let gap = end("after").zip(end("cursor"));
                consumer.gaps.extend(gap);
                let note = format!("{} is told of a gap: {gap:?}", consumer.label);
                self.trace.note(&note);
                if gap.is_none() {
                    self.violated(format!("nobody can read the gap {frame}"));
                }
            }
            "stream.dead" => self.dies(at, link, &frame),
            "stream.error" => {}
            _ => {
                // Events of the gateway itself are nobody's posts.
                let Some(n) = number_after(text, "\"client_id\":\"sim-") else {
                    return Came::Other;
                };
                let (id, seq) = (frame["id"].as_str(), frame["seq"].as_u64());
                let (id, seq) = (id.unwrap_or_default().to_owned(), seq.unwrap_or_default());
                self.comes(at, link, n as usize, seq, &id);
                return Came::Event(n as usize, id);
            }
        }
        Came::Other
    }

    /// An event was sent as often as may be.
    fn dies(&mut self, at: usize, link: u64, frame: &Value) {
        let consumer = &mut self.consumers[at];
        // After a restart nobody knows its id any more; the record does.
        let n = frame["id"].as_str().and_then(|id| consumer.ids.get(id)).copied();
        let mut wrong = None;
        if let Some(n) = n {
            let seen = consumer.seen.entry(n).or_default();
            seen.dead = true;
            let on = &consumer.links[&link];
            if on.heard.contains(&n) {
                wrong = Some(format!("sim-{n} is dead, and was acknowledged on {link}"));
            }
        }
        if let Some(on) = consumer.links.get_mut(&link) {
            match n {
                Some(n) => on.open.remove(&n),
                // One of them.
                None => on.open.pop_first().map(|(_, tick)| tick),
            };
        }
        let label = consumer.label.clone();
        self.trace.note(&format!("{label} is told that {n:?} is dead"));
        if !consumer_may_give_up(frame) {
            wrong = Some(format!("{frame} is dead too early"));
        }
        wrong.into_iter().for_each(|what| self.violated(format!("{label}: {what}")));
    }

    /// An event has come: everything that is forbidden is noted.
    fn comes(&mut self, at: usize, link: u64, n: usize, seq: u64, id: &str) {
        let (tick, now, life) = (self.tick(), self.trace.now(), self.life);
        let steady = self.vanishing == 0 && self.erasing.is_empty();
        let (vanished, certain) = (self.vanished, !self.disk_fails);
        let Self { consumers, events, endings_of_lives, .. } = self;
        let (consumer, event) = (&mut consumers[at], &mut events[n]);
        let mut wrong = Vec::new();
        if *event.seq.get_or_insert(seq) != seq {
            wrong.push(format!("sim-{n} came as {seq}, but it was told as {:?}", event.seq));
        }
        if !consumer.wants(event) {
            wrong.push(format!("sim-{n} was never wanted"));
        }
        let is_older =
            event.acked.zip(consumer.may_since).is_some_and(|(acked, since)| acked < since);
        if consumer.plan.name.is_some() && is_older {
            wrong.push(format!("sim-{n} is older than the subscriber"));
        }
        let chat = (event.instance, event.chat);
        let seen = consumer.seen.entry(n).or_default();
        let Some(on) = consumer.links.get_mut(&link) else { return };
        if let Some(gone) = event.gone_at
            && now > gone + GRACE_MS
            && (on.reads_since <= gone || on.begun > gone)
        {
            wrong.push(format!("sim-{n} came although it was erased"));
        }
        let times = on.times.entry(n).or_default();
        if *times == 0 {
            if on.newest.get(&chat).is_some_and(|newest| *newest > seq) {
                wrong.push(format!("sim-{n} came after a later one of its chat"));
            }
            on.newest.insert(chat, seq);
        } else if !consumer.plan.explicit {
            wrong.push(format!("sim-{n} came twice on one connection"));
        }
        *times += 1;
        let newest = consumer.newest.entry(chat).or_default();
        if seen.count == 0 && consumer.plan.at_once == 1 && *newest > seq {
            wrong.push(format!("sim-{n} came first after a later one of its chat"));
        }
        *newest = seq.max(*newest);
        if on.heard.contains(&n) {
            wrong.push(format!("sim-{n} was acknowledged, and came again on the same connection"));
        }
        // What was in a pipe by then may be read later.
        if let Some((before, heard)) = seen.heard.filter(|(_, heard)| on.begun > *heard) {
            let again = match endings_of_lives.get(&before) {
                None => before == life,
                // What was heard while it stopped, or in the last second, may come again.
                Some((end, true)) => certain && heard < *end,
                Some((end, false)) => certain && heard + WRITTEN_WITHIN_MS < *end,
            };
            if again {
                wrong.push(format!("sim-{n} was acknowledged in life {before}, and came again"));
            }
        }
        seen.count += 1;
        if consumer.plan.explicit && !on.acked.contains(&n) {
            on.open.insert(n, tick);
            let open = on.open.values().filter(|tick| **tick > vanished).count();
            if steady && consumer.plan.at_once == 1 && open > consumer.plan.max_unacked {
                let most = consumer.plan.max_unacked;
                wrong.push(format!("{open} are unacknowledged, {most} may be"));
            }
        }
        consumer.ids.insert(id.to_owned(), n);
        if consumer.plan.name.is_none() {
            // Either is good; which one it is, the number says.
            consumer.after =
                Some(if n.is_multiple_of(2) { id.to_owned() } else { format!("pos_{seq}") });
        }
        let label = consumer.label.clone();
        self.trace.note(&format!("{label} <- sim-{n} at {seq} on {link}"));
        wrong.into_iter().for_each(|what| self.violated(format!("{label}: {what}")));
    }

    /// A consumer acknowledges events on a connection.
    pub(crate) fn acknowledges(&mut self, at: usize, link: u64, events: &[usize]) {
        let consumer = &mut self.consumers[at];
        let Some(on) = consumer.links.get_mut(&link).filter(|on| on.epoch == consumer.epoch) else {
            return;
        };
        for n in events {
            on.open.remove(n);
            on.acked.insert(*n);
            if let Some(seen) = consumer.seen.get_mut(n) {
                seen.acked = true;
            }
        }
        let label = consumer.label.clone();
        self.trace.note(&format!("{label} acknowledges {events:?} on {link}"));
    }

    /// The gateway has read these acknowledgements.
    pub(crate) fn heard(&mut self, at: usize, link: u64, events: &[usize]) {
        let heard = (self.life, self.trace.now());
        let consumer = &mut self.consumers[at];
        let Some(on) = consumer.links.get_mut(&link).filter(|on| on.epoch == consumer.epoch) else {
            return;
        };
        for n in events {
            on.heard.insert(*n);
            if let Some(seen) = consumer.seen.get_mut(n) {
                seen.heard = Some(heard);
            }
        }
    }

    /// What a consumer wanted, was promised, and neither had nor was told to be missing.
    pub(crate) fn lacks(
        &self,
        at: usize,
        stored: &HashSet<u64>,
        dead: &HashSet<u64>,
    ) -> Vec<usize> {
        let consumer = &self.consumers[at];
        let is_owed = |event: &Posted| {
            event.acked.is_some()
                && !event.ephemeral
                && !event.erased
                && !self.erasing.iter().any(|doomed| doomed.concerns(event))
                && event.begun > consumer.since
                && consumer.wants(event)
        };
        let is_excused = |n: usize, event: &Posted| {
            let Some(seq) = event.seq else { return false };
            let came = consumer.seen.get(&n).is_some_and(|seen| seen.count > 0);
            dead.contains(&seq)
                || consumer.gaps.iter().any(|(after, upto)| seq > *after && seq <= *upto)
                // It would have come again.
                || (came && !stored.contains(&seq))
        };
        let events = self.events.iter().enumerate().filter(|(_, event)| is_owed(event));
        let lacking =
            events.filter(|(n, event)| !consumer.is_done_with(*n) && !is_excused(*n, event));
        lacking.map(|(n, _)| n).collect()
    }

    /// A gateway begins its life: nobody is connected.
    pub(crate) fn all_disconnected(&mut self) {
        for consumer in &mut self.consumers {
            consumer.links.clear();
            if consumer.forgetting == Forgetting::UnderWay {
                consumer.forgetting = Forgetting::Uncertain;
            }
        }
        self.vanishing = 0;
    }

    /// Events may be gone: an open one that is gone makes room.
    pub(crate) fn vanished(&mut self) {
        self.vanished = self.tick();
    }
}

/// Whether an event was sent as often as the gateway's default says.
fn consumer_may_give_up(frame: &Value) -> bool {
    let most = zapbus_gateway::realtime::Config::default().max_deliveries;
    frame["deliveries"].as_u64().is_some_and(|deliveries| deliveries >= u64::from(most))
}
