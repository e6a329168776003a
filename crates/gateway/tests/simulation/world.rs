//! What lies outside of the gateway: those who post, the endpoints, and what each of them knows.
//!
//! Nothing here looks into the gateway. An endpoint sees messages, a poster sees answers; what must
//! follow from them is said by the rules in this file and in `check.rs`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zapbus_channel::Scope;
use zapbus_event::{Filter, Kind};
use zapbus_store::simulation::Chance;

use crate::{endings::Ending, erasing::Doomed, subscribers::Consumer, trace::Trace};

/// What was being sent, rendered or read when a person stopped it may still arrive for so long.
pub(crate) const GRACE_MS: u64 = 20_000;

/// An event that somebody posts.
#[derive(Debug, Clone)]
pub(crate) struct Posted {
    pub(crate) instance: usize,
    pub(crate) chat: u64,
    pub(crate) kind: Kind,
    pub(crate) ephemeral: bool,
    /// Whom it names.
    pub(crate) person: Option<u64>,
    /// When it was posted first.
    pub(crate) begun: u64,
    /// Its position, once somebody was told, or has seen it.
    pub(crate) seq: Option<u64>,
    /// When the poster was told that it is stored.
    pub(crate) acked: Option<u64>,
    /// It may have been erased.
    pub(crate) erased: bool,
    /// The virtual millisecond since which it has been erased for certain.
    pub(crate) gone_at: Option<u64>,
}

/// One version of what a destination wants.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) filter: Filter,
    pub(crate) exclude_ephemeral: bool,
    /// Until when it may have been in force; `None`: it is.
    pub(crate) until: Option<u64>,
}

impl Wish {
    fn takes(&self, event: &Posted) -> bool {
        self.filter.matches(event.kind, None) && !(event.ephemeral && self.exclude_ephemeral)
    }
}

/// How an endpoint is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mood {
    Healthy,
    Slow(Duration),
    Failing { scope: Scope, after: Option<Duration>, status: Option<u16> },
    Flapping(u64),
    Hanging,
    Refusing(u64),
    Gone,
}

/// What a person has done with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Will {
    Active,
    /// Since this virtual millisecond nothing new may be sent.
    Stopped(u64),
    /// Nobody knows: a request is under way, or was cut off.
    Uncertain,
}

/// A replay.
#[derive(Debug, Clone)]
pub(crate) struct Replay {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) filter: Filter,
    pub(crate) will: Will,
    pub(crate) cancelled: bool,
}

/// What an endpoint has seen of one event in one run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrival {
    pub(crate) count: u32,
    /// The lane was told that it was accepted, in this life of the gateway.
    pub(crate) accepted_in: Option<u32>,
    /// It was on its way when the gateway of this life ended.
    pub(crate) cut_in: Option<u32>,
    /// The last life in which it came.
    life: u32,
    pub(crate) accepted: bool,
    /// Somebody asked for it again.
    pub(crate) manual: bool,
}

/// A destination and its endpoint.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) label: String,
    pub(crate) id: Option<String>,
    pub(crate) instance: Option<usize>,
    pub(crate) ordering: &'static str,
    /// Events posted since then are subject to that order.
    pub(crate) ordered_since: u64,
    pub(crate) wishes: Vec<Wish>,
    /// It starts in the past.
    pub(crate) beginning: bool,
    /// It gets what is posted after this.
    pub(crate) since: u64,
    /// It may get what was posted after this.
    pub(crate) may_since: u64,
    pub(crate) will: Will,
    pub(crate) deleted: bool,
    /// A request about it is under way.
    pub(crate) busy: bool,
    /// What is known of it must be asked for again.
    pub(crate) doubtful: bool,
    pub(crate) max_in_flight: u32,
    /// The greater of what it was and what it will be, while it changes.
    pub(crate) max_allowed: u32,
    pub(crate) rate: Option<f64>,
    pub(crate) mood: Mood,
    /// Every n-th event fails here, always.
    pub(crate) poison: u64,
    pub(crate) flying: u32,
    pub(crate) runs: BTreeMap<u32, Replay>,
    pub(crate) arrivals: HashMap<(u32, usize), Arrival>,
    /// Rows were sent again by hand in numbers.
    pub(crate) bulk: bool,
    /// Greatest position that came, by run and chat; in all, and in this life.
    newest: HashMap<(u32, usize, u64), u64>,
    newest_here: HashMap<(u32, usize, u64), u64>,
    /// Run and number of the events that are under way.
    pub(crate) in_hand: BTreeSet<(u32, usize)>,
    /// First attempts under way.
    pub(crate) first_flying: BTreeSet<(u32, usize, u64)>,
    /// Events that came again although they had been accepted, by the life that ended between.
    again: BTreeMap<u32, BTreeSet<(u32, usize)>>,
    /// How wide the window was, in each life.
    windows: BTreeMap<u32, u32>,
    pub(crate) sent_at: Vec<u64>,
    /// Sends count against the rate that arrive from then on.
    rated_from: u64,
    pub(crate) accepted: u64,
    /// Events that may have died without one being accepted between: one at first, and one more
    /// whenever an outage may have been forgotten.
    pub(crate) deaths_allowed: u64,
    /// Run, event, how often it had come by then, and when.
    pub(crate) asked_again: Vec<(u32, usize, u32, u64)>,
}

/// Everything outside.
pub(crate) struct World(Mutex<Inner>);

pub(crate) struct Inner {
    pub(crate) chance: Chance,
    pub(crate) trace: Trace,
    /// Counts whatever is noticed.
    pub(crate) tick: u64,
    pub(crate) life: u32,
    /// The last life that did not end in order.
    pub(crate) crashed: u32,
    pub(crate) events: Vec<Posted>,
    pub(crate) targets: Vec<Target>,
    /// Everything is well again.
    pub(crate) healed: bool,
    /// Retention has taken events away that nobody was owed.
    pub(crate) pruned: bool,
    /// Milliseconds by which one send may come later than another that left the gate with it: to
    /// render it, the name of its instance may have to be read first.
    pub(crate) late: u64,
    /// Commits fail now and then.
    pub(crate) disk_fails: bool,
    pub(crate) violations: Vec<String>,
    pub(crate) under_way: u32,
    /// What is being erased.
    pub(crate) erasing: Vec<Doomed>,
    pub(crate) instances: Vec<String>,
    /// Instances that are to be deleted.
    pub(crate) endings: BTreeMap<usize, Ending>,
    pub(crate) consumers: Vec<Consumer>,
    /// Connections there have been.
    pub(crate) linked: u64,
    /// Prunings under way, and the tick of the last time at which events may have gone.
    pub(crate) vanishing: u32,
    pub(crate) vanished: u64,
    /// By life: when it ended or began to stop, in virtual milliseconds, and whether in order.
    pub(crate) endings_of_lives: BTreeMap<u32, (u64, bool)>,
}

impl World {
    pub(crate) fn new(chance: Chance, instances: Vec<String>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            chance,
            trace: Trace::default(),
            tick: 0,
            life: 0,
            crashed: 0,
            events: Vec::new(),
            targets: Vec::new(),
            healed: false,
            pruned: false,
            late: 0,
            disk_fails: false,
            violations: Vec::new(),
            under_way: 0,
            erasing: Vec::new(),
            instances,
            endings: BTreeMap::new(),
            consumers: Vec::new(),
            linked: 0,
            vanishing: 0,
            vanished: 0,
            endings_of_lives: BTreeMap::new(),
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(crate) fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    pub(crate) fn violated(&mut self, what: String) {
        self.trace.note(&format!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// A gateway begins its life; the one before ended in order, or not.
    pub(crate) fn begins(&mut self, clean: bool) {
        if !clean {
            self.crashed = self.life;
        }
        self.life += 1;
        self.under_way = 0;
        self.all_disconnected();
        for doomed in self.erasing.clone() {
            self.erased(doomed, None);
        }
        self.endings.values_mut().for_each(|ending| ending.busy = false);
        for target in &mut self.targets {
            target.newest_here.clear();
            target.first_flying.clear();
            target.in_hand.clear();
            target.flying = 0;
            target.sent_at.clear();
            if target.busy {
                target.busy = false;
                target.doubtful = true;
            }
        }
    }

    /// Who waits for what: the events that the live run of a target has to deliver.
    pub(crate) fn owed(&self, target: &Target) -> Vec<usize> {
        let wants = |event: &Posted| {
            let mut wishes = target.wishes.iter();
            wishes.all(|wish| {
                wish.until.is_some_and(|until| until < event.begun) || wish.takes(event)
            })
        };
        let is_owed = |event: &Posted| {
            event.acked.is_some()
                && !event.ephemeral
                && !event.erased
                && !self.erasing.iter().any(|doomed| doomed.concerns(event))
                && event.begun > target.since
                && target.instance.is_none_or(|instance| instance == event.instance)
                && wants(event)
        };
        let events = self.events.iter().enumerate();
        events.filter(|(_, event)| is_owed(event)).map(|(n, _)| n).collect()
    }

    /// How an event fares that has come to `target`: everything that is forbidden is noted.
    pub(crate) fn arrives(&mut self, at: usize, run: u32, n: usize, seq: u64) {
        let now = self.trace.now();
        let Self { targets, events, life, tick, crashed, late, .. } = self;
        *tick += 1;
        let (life, crashed, late) = (*life, *crashed, *late);
        let target = &mut targets[at];
        let event = &mut events[n];
        let mut wrong = Vec::new();
        if *event.seq.get_or_insert(seq) != seq {
            wrong.push(format!("sim-{n} came as {seq}, but it was told as {:?}", event.seq));
        }
        if event.gone_at.is_some_and(|gone| now > gone + GRACE_MS) {
            wrong.push(format!("sim-{n} came although it was erased: {event:?}"));
        }
        let stopped = |will: Will| match will {
            Will::Stopped(since) => now > since + GRACE_MS,
            Will::Active | Will::Uncertain => false,
        };
        if stopped(target.will) {
            wrong.push(format!("sim-{n} came although the destination stands still"));
        }
        let window = target.windows.entry(life).or_default();
        *window = target.max_allowed.max(*window);
        target.flying += 1;
        if target.flying > target.max_allowed {
            wrong.push(format!("{} in flight of {}", target.flying, target.max_allowed));
        }
        let mut wishes = target.wishes.iter();
        let wished = wishes
            .any(|wish| wish.until.is_none_or(|until| until >= event.begun) && wish.takes(event));
        if target.instance.is_some_and(|instance| instance != event.instance) {
            wrong.push(format!("sim-{n} is of another instance"));
        }
        let arrival = target.arrivals.entry((run, n)).or_default();
        if run == 0 {
            if !wished && !arrival.manual {
                wrong.push(format!("sim-{n} was never wanted"));
            }
            if !arrival.manual && event.acked.is_some_and(|acked| acked < target.may_since) {
                wrong.push(format!("sim-{n} is older than the destination"));
            }
        } else if let Some(replay) = target.runs.get(&run) {
            if stopped(replay.will) && (replay.cancelled || !arrival.manual) {
                wrong.push(format!("sim-{n} came in replay {run}, which stands still"));
            }
            let inside = seq > replay.from && seq <= replay.to;
            if !inside || !replay.filter.matches(event.kind, None) {
                wrong.push(format!("sim-{n} does not belong to replay {run}"));
            }
        }

        let chat = (run, event.instance, event.chat);
        // What an earlier filter did not want lies behind, if a later one takes it up.
        let always = target
            .wishes
            .iter()
            .all(|wish| wish.until.is_some_and(|until| until < event.begun) || wish.takes(event));
        let always = always || run != 0;
        let keyed = always && target.ordering != "none" && target.ordered_since < event.begun;
        if arrival.count == 0 && keyed && !arrival.manual {
            if target.newest.get(&chat).is_some_and(|newest| *newest > seq) {
                wrong.push(format!("sim-{n} came first after a later one of its chat (run {run})"));
            }
            if !target.first_flying.insert(chat) {
                wrong.push(format!("sim-{n} came beside an earlier one of its chat (run {run})"));
            }
        }
        let strict = keyed && target.ordering == "strict";
        if strict
            && !target.bulk
            && !arrival.manual
            && target.newest_here.get(&chat).is_some_and(|newest| *newest > seq)
        {
            wrong.push(format!("sim-{n} came after a later one of its chat, in strict order"));
        }
        if !arrival.manual {
            if arrival.accepted_in == Some(life) {
                wrong.push(format!("sim-{n} was accepted, and came again (run {run})"));
            }
            let settled_before = arrival.accepted_in.is_some_and(|before| before < life);
            let cut_before = arrival.cut_in.is_some_and(|before| before < life);
            if (settled_before || cut_before) && arrival.life < life {
                if arrival.life > crashed {
                    wrong.push(format!("sim-{n} came again after an orderly stop (run {run})"));
                }
                let again = target.again.entry(arrival.life).or_default();
                again.insert((run, n));
                let (again, window) = (again.len(), target.windows[&arrival.life]);
                if again > window as usize {
                    wrong.push(format!("{again} came twice after a crash, {window} could be out"));
                }
            }
        }
        arrival.count += 1;
        arrival.life = life;
        // What becomes of this attempt is not known yet.
        arrival.accepted_in = None;
        arrival.cut_in = None;
        for newest in [&mut target.newest, &mut target.newest_here] {
            let newest = newest.entry(chat).or_default();
            *newest = seq.max(*newest);
        }
        if let Some(rate) = target.rate.filter(|_| now >= target.rated_from) {
            target.sent_at.push(now);
            let last = target.sent_at.len() - 1;
            for (index, from) in target.sent_at.iter().enumerate().rev().take(32) {
                let count = (last - index + 1) as f64;
                // As far apart may they have left the gate.
                let apart = (now - *from + late) as f64 / 1_000.0;
                let allowed = (rate / 100.0).max(1.0) + rate * apart;
                if count > allowed {
                    let over = now - *from;
                    wrong.push(format!("{count} sends in {over} ms at {rate}/s"));
                    break;
                }
            }
        }
        let label = target.label.clone();
        self.trace.note(&format!("{label} <- sim-{n} at {seq} run {run}"));
        for what in wrong {
            self.violated(format!("{label}: {what}"));
        }
    }

    /// The rate of a target starts anew: the clock jumped, or it was configured.
    pub(crate) fn forget_rates(&mut self) {
        (0..self.targets.len()).for_each(|at| self.forget_rate(at));
    }

    /// What has left the gate by now may still be about to arrive.
    pub(crate) fn forget_rate(&mut self, at: usize) {
        let from = self.trace.now() + self.late;
        let target = &mut self.targets[at];
        target.sent_at.clear();
        target.rated_from = from;
    }
}

impl Target {
    pub(crate) fn new(label: String, instance: Option<usize>, since: u64) -> Self {
        Self {
            label,
            id: None,
            instance,
            ordering: "key",
            ordered_since: 0,
            wishes: Vec::new(),
            beginning: false,
            since: u64::MAX,
            may_since: since,
            will: Will::Uncertain,
            deleted: false,
            busy: true,
            doubtful: false,
            max_in_flight: 0,
            max_allowed: u32::MAX,
            rate: None,
            mood: Mood::Healthy,
            poison: 0,
            flying: 0,
            runs: BTreeMap::new(),
            arrivals: HashMap::new(),
            bulk: false,
            newest: HashMap::new(),
            newest_here: HashMap::new(),
            in_hand: BTreeSet::new(),
            first_flying: BTreeSet::new(),
            again: BTreeMap::new(),
            windows: BTreeMap::new(),
            sent_at: Vec::new(),
            rated_from: 0,
            accepted: 0,
            deaths_allowed: 1,
            asked_again: Vec::new(),
        }
    }
}
