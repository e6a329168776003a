//! Realistic traffic from a seed: what WhatsApp numbers would report, in the order of virtual time.
//!
//! [`Traffic`] is an endless iterator. People and a shop talk, receipts follow the messages they
//! are about, groups chat, calls ring, sessions drop and come back, campaigns bring storms; every
//! type of the catalog but the gateway's own `destination.*` appears. Now and then an event is
//! reported twice, as upstreams do. The same [`Plan`] gives the same events, byte for byte.
//!
//! ```
//! use zapbus_event::traffic::{Plan, Traffic};
//!
//! let plan = Plan { seed: 7, ..Plan::default() };
//! let first = Traffic::new(&plan).next().expect("traffic has no end");
//! assert!(first.native().contains("instance.connecting"));
//! ```

mod cast;
mod cloud_api;
mod content;
mod plot;
mod random;
mod story;
mod words;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    ops::RangeInclusive,
    time::Duration,
};

pub use self::cloud_api::cloud_api_body;
use self::{
    cast::Cast,
    plot::{Decks, Plot},
    random::Random,
    story::Story,
};
use crate::{Data, Kind, Timestamp};

/// What traffic is to be like.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Events per second of virtual time, on average over some seconds: 0.01 to 100,000.
    pub rate_per_s: f64,
    /// How many chats there are: 1 to 79,000. One in eight is a group.
    pub chats: usize,
    /// Over how many instances they are spread: 1 or more.
    pub instances: usize,
    /// Where virtual time begins.
    pub start: Timestamp,
}

impl Default for Plan {
    /// 20 events a second in 200 chats of one instance, from the beginning of 2026.
    fn default() -> Self {
        Self {
            seed: 1,
            rate_per_s: 20.0,
            chats: 200,
            instances: 1,
            start: Timestamp::from_millis(1_767_225_600_000),
        }
    }
}

/// One event that an instance reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulated {
    /// When, from the start of virtual time.
    pub after: Duration,
    /// The time it names; a repetition names that of the first report.
    pub occurred_at: Timestamp,
    /// Which instance, counted from 0.
    pub instance: usize,
    /// Its id: unique for the plan's seed, but for repetitions.
    pub id: String,
    /// It was reported before, with this id.
    pub repeated: bool,
    /// What happened.
    pub data: Data,
}

impl Simulated {
    /// Its type.
    pub fn kind(&self) -> Kind {
        self.data.kind()
    }

    /// As it is posted to native ingest.
    pub fn native(&self) -> String {
        #[derive(serde::Serialize)]
        struct Posted<'a> {
            r#type: Kind,
            id: &'a str,
            occurred_at: Timestamp,
            data: &'a Data,
        }
        let posted = Posted {
            r#type: self.kind(),
            id: &self.id,
            occurred_at: self.occurred_at,
            data: &self.data,
        };
        // As for payloads: no map here has keys that are not text.
        serde_json::to_string(&posted).unwrap_or_default()
    }
}

/// The share of the rate that long stories make up; small ones fill the rest, moment by moment.
const LONG_SHARE: f64 = 0.6;

/// Rates that make sense; others are brought into this range.
const RATES: RangeInclusive<f64> = 0.01..=1e5;

/// The share of events that are reported twice.
const REPEATED: f64 = 0.02;

/// The traffic of a [`Plan`]. Endless.
#[derive(Debug)]
pub struct Traffic {
    plan: Plan,
    random: Random,
    cast: Cast,
    decks: Decks,
    /// What is told already and has not happened yet, by time and then by order of telling.
    ahead: BinaryHeap<Reverse<Ahead>>,
    told: u64,
    /// The end of the stretch of virtual time that has been filled.
    filled: Duration,
    /// How much of it a step fills.
    step: Duration,
    /// Events that long stories, and everything together, may still bring.
    long_credit: f64,
    credit: f64,
    /// What bursts told, by order of telling: the rate does not count it.
    extra: Vec<RangeInclusive<u64>>,
    /// Of the stretch that is filled, what has not been given out.
    ready: VecDeque<Simulated>,
    /// Events given an id so far.
    given: u64,
}

#[derive(Debug)]
struct Ahead {
    at: Duration,
    order: u64,
    instance: usize,
    data: Data,
    /// It is the repetition of the event with this id, which happened then.
    repeats: Option<(String, Timestamp)>,
}

impl PartialEq for Ahead {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Ahead {}

impl PartialOrd for Ahead {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ahead {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl Traffic {
    /// From the beginning: every instance connects, then people arrive.
    pub fn new(plan: &Plan) -> Self {
        let rate = match plan.rate_per_s {
            rate if rate.is_nan() => *RATES.start(),
            rate => rate.clamp(*RATES.start(), *RATES.end()),
        };
        let plan = Plan { rate_per_s: rate, instances: plan.instances.max(1), ..plan.clone() };
        let mut traffic = Self {
            random: Random::new(plan.seed),
            cast: Cast::new(plan.seed, plan.chats, plan.instances),
            decks: Decks::new(),
            ahead: BinaryHeap::new(),
            told: 0,
            filled: Duration::ZERO,
            step: Duration::from_secs_f64((20.0 / rate).clamp(0.05, 10.0)),
            long_credit: 0.0,
            credit: 0.0,
            extra: Vec::new(),
            ready: VecDeque::new(),
            given: 0,
            plan,
        };
        for instance in 0..traffic.plan.instances {
            traffic.begin(Duration::ZERO, Some(instance), Duration::ZERO, plot::opening);
        }
        traffic
    }

    /// A campaign starts now: one message of an instance to this many people, then their receipts
    /// and replies, on top of the plan's rate.
    pub fn burst(&mut self, people: usize) {
        let at = self.filled;
        let told = self.told;
        self.begin(at, None, at, |story| Plot::Campaign.tell(story, people));
        // Nothing else is left out for it.
        self.extra.push(told + 1..=self.told);
    }

    /// Tells a story and remembers what happens in it. Gives the number of its events: in all,
    /// and before `to`.
    fn begin(
        &mut self,
        at: Duration,
        instance: Option<usize>,
        to: Duration,
        tell: impl FnOnce(&mut Story<'_>),
    ) -> (usize, usize) {
        let instance = instance.unwrap_or_else(|| self.random.below(self.plan.instances));
        let mut story = Story::new(&mut self.random, &self.cast, instance, at);
        tell(&mut story);
        let events = story.events;
        let count = (events.len(), events.iter().filter(|(at, _)| *at < to).count());
        for (at, data) in events {
            self.foresee(at, instance, data, None);
        }
        count
    }

    fn foresee(
        &mut self,
        at: Duration,
        instance: usize,
        data: Data,
        repeats: Option<(String, Timestamp)>,
    ) {
        self.told += 1;
        self.ahead.push(Reverse(Ahead { at, order: self.told, instance, data, repeats }));
    }

    /// Fills the next stretch of virtual time and puts what happens in it in order.
    fn fill(&mut self) {
        let (from, to) = (self.filled, self.filled + self.step);
        let seconds = self.step.as_secs_f64();
        let due = self.plan.rate_per_s * seconds * self.random.between(0.6, 1.4);
        self.credit += due;
        self.long_credit += due * LONG_SHARE;
        while self.long_credit > 0.0 {
            let plot = self.decks.long(&mut self.random);
            let at = self.moment(from);
            let crowd = self.crowd();
            let (events, _) = self.begin(at, None, to, |story| plot.tell(story, crowd));
            self.long_credit -= events as f64;
        }
        let ordinary = |event: &Ahead| !self.extra.iter().any(|burst| burst.contains(&event.order));
        let soon = self.ahead.iter().filter(|event| event.0.at < to && ordinary(&event.0));
        let mut happens = soon.count() as f64;
        while happens < self.credit {
            let plot = self.decks.small(&mut self.random);
            let at = self.moment(from);
            let (_, begun) = self.begin(at, None, to, |story| plot.tell(story, 1));
            happens += begun as f64;
        }
        while self.ahead.peek().is_some_and(|event| event.0.at < to) {
            if let Some(Reverse(event)) = self.ahead.pop() {
                if !self.extra.iter().any(|burst| burst.contains(&event.order)) {
                    self.credit -= 1.0;
                }
                let simulated = self.happen(event);
                self.ready.push_back(simulated);
            }
        }
        self.filled = to;
    }

    /// A moment in the step that begins at `from`.
    fn moment(&mut self, from: Duration) -> Duration {
        let millis = self.step.as_millis() as usize;
        from + Duration::from_millis(self.random.below(millis) as u64)
    }

    /// How many people a campaign writes to: more where there is more going on.
    fn crowd(&self) -> usize {
        (10 + (self.plan.rate_per_s * 1.5) as usize).min(self.cast.chats()).min(500)
    }

    fn happen(&mut self, event: Ahead) -> Simulated {
        let Ahead { at, instance, data, repeats, .. } = event;
        let repeated = repeats.is_some();
        let (id, occurred_at) = repeats.unwrap_or_else(|| {
            self.given += 1;
            (format!("sim-{:x}-{}", self.plan.seed, self.given), self.plan.start + at)
        });
        if !repeated && self.random.chance(REPEATED) {
            let again = at + Duration::from_millis(300 + self.random.below(4_000) as u64);
            self.foresee(again, instance, data.clone(), Some((id.clone(), occurred_at)));
        }
        Simulated { after: at, occurred_at, instance, id, repeated, data }
    }
}

impl Iterator for Traffic {
    type Item = Simulated;

    fn next(&mut self) -> Option<Simulated> {
        while self.ready.is_empty() {
            self.fill();
        }
        self.ready.pop_front()
    }
}
