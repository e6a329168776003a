//! Random journals, lanes, rows, times and sizes, pruned in tiny steps, against what may be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use zapbus_event::{Filter, InstanceId, Kind, Position};
use zapbus_store::{
    Append, Budget, DeadReason, DeliveryQuery, LIVE, LaneId, NewEvent, Reader, RetentionPolicy,
    Start, State, WhenFull,
};

use crate::engine::*;

const SHORT: Duration = Duration::from_secs(12 * 3600);
const USUAL: Duration = Duration::from_secs(2 * 24 * 3600);
const OWED: Duration = Duration::from_secs(5 * 24 * 3600);
const DEAD: Duration = Duration::from_secs(4 * 24 * 3600);
const EPHEMERAL: Duration = HOUR;

#[derive(Debug, Clone)]
enum Step {
    /// Events of (instance, sort): 0 message, 1 call, 2 typing, 3 a large message.
    Append(Vec<(usize, u8)>),
    /// A lane's cursor as a share of the head, and the states of a few events beyond it.
    Settle {
        lane: usize,
        share: u8,
        states: Vec<u8>,
    },
    Replay {
        lane: usize,
    },
    Wait(u32),
    /// Rows in a step, and how many steps before something else happens; 0 is until the end.
    Prune {
        rows: usize,
        steps: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..3_usize, 0..4_u8), 1..20).prop_map(Step::Append),
        4 => (0..5_usize, 0..=100_u8, prop::collection::vec(0..4_u8, 0..4))
            .prop_map(|(lane, share, states)| Step::Settle { lane, share, states }),
        1 => (0..5_usize).prop_map(|lane| Step::Replay { lane }),
        3 => (0..80_u32).prop_map(Step::Wait),
        4 => (1..12_usize, prop_oneof![Just(0), 1..30_usize])
            .prop_map(|(rows, steps)| Step::Prune { rows, steps }),
    ]
}

struct Known {
    instance: usize,
    kind: Kind,
    ephemeral: bool,
    at: i64,
}

struct Lane {
    id: LaneId,
    /// Of all instances if none.
    instance: Option<usize>,
    filter: Filter,
    /// What it was owed when last looked.
    owed: BTreeSet<u64>,
}

struct Story {
    engine: Engine,
    policy: RetentionPolicy,
    instances: Vec<InstanceId>,
    lanes: Vec<Lane>,
    events: BTreeMap<u64, Known>,
    /// Gaps that were told: destination, from, to.
    gaps: Vec<(LaneId, u64, u64)>,
    told_upto: Position,
}

impl Story {
    async fn begin(max_bytes: u64, when_full: WhenFull) -> Self {
        let engine = Engine::start().await;
        let mut instances = Vec::new();
        for n in 0..3 {
            instances.push(engine.instance(&format!("i{n}")).await);
        }
        let account = engine.account().await.id;
        let mut lanes = Vec::new();
        let wanted: [(Option<usize>, &[&str]); 5] = [
            (Some(0), &["*"]),
            (Some(0), &["call.*"]),
            (Some(1), &["message.*"]),
            (Some(2), &["group.*"]),
            (None, &["call.*"]),
        ];
        for (n, (instance, patterns)) in wanted.into_iter().enumerate() {
            let of = instance.map(|instance: usize| instances[instance]);
            let mut destination = new_destination(account, of, &format!("d{n}"));
            destination.filter = filter(patterns);
            let id = LaneId { destination: destination.id, run: LIVE };
            let filter = destination.filter.clone();
            let store = engine.store();
            store.create_destination(destination, Start::Now, &actor(), None).await.unwrap();
            lanes.push(Lane { id, instance, filter, owed: BTreeSet::new() });
        }
        let policy = RetentionPolicy {
            journal: USUAL,
            overrides: [(instances[1], SHORT)].into(),
            owed: OWED,
            dead: DEAD,
            ephemeral: EPHEMERAL,
            log: USUAL,
            max_bytes,
            when_full,
            ..RetentionPolicy::default()
        };
        let told_upto = *engine.store().head().borrow();
        let (events, gaps) = (BTreeMap::new(), Vec::new());
        Self { engine, policy, instances, lanes, events, gaps, told_upto }
    }

    async fn stored(&self) -> BTreeSet<u64> {
        let events = self.engine.read_all(Reader::All, Position::START).await;
        events.iter().map(|event| event.seq.0).collect()
    }

    /// Notes what is owed now, before something is pruned.
    async fn note_owed(&mut self) {
        let rows = self.rows().await;
        for lane in &mut self.lanes {
            let Some(start) = self.engine.store().lane(lane.id).await.unwrap() else { continue };
            let end = if lane.id.run == LIVE {
                u64::MAX
            } else {
                let runs = self.engine.store().runs(lane.id.destination).await.unwrap();
                runs.iter().find(|run| run.lane == lane.id).unwrap().to.0
            };
            lane.owed = self
                .events
                .iter()
                .filter(|(seq, known)| match rows.get(&(lane.id, **seq)) {
                    Some(state) => matches!(state, State::Retrying { .. } | State::Waiting),
                    None => {
                        let its_own = lane.instance.is_none_or(|own| own == known.instance);
                        start.cursor.0 < **seq
                            && **seq <= end
                            && its_own
                            && !known.ephemeral
                            && lane.filter.matches(known.kind, None)
                    }
                })
                .map(|(seq, _)| *seq)
                .collect();
        }
    }

    async fn rows(&self) -> BTreeMap<(LaneId, u64), State> {
        let mut rows = BTreeMap::new();
        let mut after = None;
        loop {
            let query = DeliveryQuery::default();
            let page = self.engine.store().search(query, after, 100).await.unwrap();
            for delivery in page.deliveries {
                rows.insert((delivery.id.lane, delivery.id.seq.0), delivery.state);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return rows,
            }
        }
    }

    /// Nothing that was owed is gone without a row and an event.
    async fn check_losses(&mut self) {
        for event in self.engine.read_all(Reader::All, self.told_upto).await {
            self.told_upto = event.seq;
            if event.kind == Kind::DestinationGap {
                let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
                let destination = data["destination"].as_str().unwrap().parse().unwrap();
                let number = |name: &str| data[name].as_u64().unwrap();
                let lane = LaneId { destination, run: LIVE };
                self.gaps.push((lane, number("from"), number("to")));
            }
        }
        let stored = self.stored().await;
        let rows = self.rows().await;
        for lane in &self.lanes {
            for seq in lane.owed.iter().filter(|seq| !stored.contains(seq)) {
                let told = self.gaps.iter().any(|(told, from, to)| {
                    told.destination == lane.id.destination && (from..=to).contains(&seq)
                });
                assert!(told, "{seq} of {:?} went without an event", lane.id);
                let row = rows.iter().any(|((of, from), state)| match state {
                    State::Expired { to, .. } => *of == lane.id && (*from..=to.0).contains(seq),
                    _ => false,
                });
                assert!(row, "{seq} of {:?} went without a row", lane.id);
            }
        }
        self.events.retain(|seq, _| stored.contains(seq));
    }

    async fn prune(&mut self, rows: usize, steps: usize) {
        // Time does not stand still between what somebody asks for and what is given up.
        self.engine.advance(Duration::from_millis(1));
        let budget = Budget { rows, time: Duration::from_secs(60) };
        let mut taken = 0;
        loop {
            self.note_owed().await;
            let pruned = self.engine.store().prune(&self.policy, budget).await.unwrap();
            assert!(pruned.events <= rows as u64 + 1, "{pruned:?} in {rows} rows");
            assert!(pruned.gaps <= rows as u64, "{pruned:?} in {rows} rows");
            if pruned.events + pruned.gaps + pruned.deliveries > 0 {
                self.check_losses().await;
            }
            taken += 1;
            if !pruned.more {
                break;
            }
            if taken == steps {
                return;
            }
            assert!(taken < 5_000, "a round does not end");
        }
        if steps == 0 {
            // Of what was under way, this may only have been the rest.
            self.check_kept().await;
        }
    }

    /// After a whole round, nothing is kept that could go.
    async fn check_kept(&mut self) {
        // A replay may want what is owed for too long, until that is looked for again.
        self.engine.advance(HOUR);
        let mut more = true;
        while more {
            self.note_owed().await;
            let budget = Budget { rows: 500, time: Duration::from_secs(60) };
            let step = self.engine.store().prune(&self.policy, budget).await.unwrap();
            self.check_losses().await;
            more = step.more;
        }
        let rows = self.rows().await;
        let stored = self.stored().await;
        let now = self.engine.now();
        let before = |age: Duration| (now - age).as_millis();
        let mut cursors = Vec::new();
        for lane in &self.lanes {
            let cursor = self.engine.store().lane(lane.id).await.unwrap().unwrap().cursor.0;
            let runs = self.engine.store().runs(lane.id.destination).await.unwrap();
            let run = runs.iter().find(|run| run.lane == lane.id);
            cursors.push((cursor, run.map_or(u64::MAX, |run| run.to.0)));
        }
        let mut all_owed = true;
        for (seq, known) in self.events.iter().filter(|(seq, _)| stored.contains(seq)) {
            let unread = self.lanes.iter().zip(&cursors).any(|(lane, (cursor, end))| {
                lane.instance.is_none_or(|own| own == known.instance)
                    && cursor < seq
                    && seq <= end
                    && !known.ephemeral
            });
            let of_it = || self.lanes.iter().filter_map(|lane| rows.get(&(lane.id, *seq)));
            let to_send = of_it().any(|it| matches!(it, State::Retrying { .. } | State::Waiting));
            let dead = of_it().any(|it| matches!(it, State::Dead { .. }));
            all_owed &= unread || to_send;
            let age = if known.instance == 1 { SHORT } else { USUAL };
            assert!(
                known.at >= before(age) || unread || to_send || dead,
                "{seq} is kept although it is old and nobody needs it"
            );
            assert!(!known.ephemeral || known.at >= before(EPHEMERAL), "{seq} is ephemeral");
            assert!(known.at >= before(OWED + OWED / 100) || dead, "{seq} is owed for too long");
        }
        let sizes = self.engine.store().sizes().await.unwrap();
        if sizes.used + sizes.blobs > self.policy.max_bytes {
            match self.policy.when_full {
                WhenFull::Refuse => assert!(all_owed, "there was something to free: {sizes:?}"),
                WhenFull::Gap => {
                    let left = self.events.keys().any(|seq| stored.contains(seq));
                    assert!(!left, "there was something to give up: {sizes:?}");
                }
            }
        }
    }

    async fn tell(&mut self, step: Step) {
        let head = self.engine.store().head().borrow().0;
        match step {
            Step::Append(said) => {
                let drafts = said.iter().map(|(n, sort)| {
                    let draft = match sort {
                        0 => message("x"),
                        1 => draft(Kind::CallUpdated, "{}"),
                        2 => typing(),
                        _ => message(&"x".repeat(9_000)),
                    };
                    NewEvent { instance: self.instances[*n], draft }
                });
                let events: Vec<NewEvent> = drafts.collect();
                let kinds: Vec<(Kind, bool)> =
                    events.iter().map(|it| (it.draft.kind, it.draft.ephemeral)).collect();
                let append = Append { events, body: None };
                // Refused, if everything is owed.
                let Ok(appended) = self.engine.store().append(append).await else { return };
                for (((n, _), (kind, ephemeral)), it) in said.iter().zip(kinds).zip(appended) {
                    let at = it.received_at.as_millis();
                    self.events.insert(it.seq.0, Known { instance: *n, kind, ephemeral, at });
                }
            }
            Step::Settle { lane, share, states } => {
                let lane = &self.lanes[lane % self.lanes.len()];
                let cursor = head * u64::from(share) / 100;
                let its_own = |known: &&Known| {
                    lane.instance.is_none_or(|own| own == known.instance) && !known.ephemeral
                };
                let seqs = self.events.range(..=cursor).filter(|(_, known)| its_own(known)).rev();
                let rows = seqs.zip(states).map(|((seq, _), state)| {
                    let state = match state {
                        0 => State::Delivered,
                        1 => State::Retrying { due: self.engine.now() },
                        2 => State::Waiting,
                        _ => State::Dead { reason: DeadReason::Attempts },
                    };
                    row(Position(*seq), state)
                });
                let rows = rows.collect();
                self.engine.settle(lane.id, Some(Position(cursor)), rows).await;
            }
            Step::Replay { lane } => {
                let lane = &self.lanes[lane % 5];
                let (destination, instance) = (lane.id.destination, lane.instance);
                let filter = Filter::default();
                let (store, from) = (self.engine.store(), Start::Beginning);
                let made = store.create_run(destination, from, filter.clone(), &actor()).await;
                // So many at a time.
                let Ok(run) = made else { return };
                self.lanes.push(Lane { id: run.lane, instance, filter, owed: BTreeSet::new() });
            }
            Step::Wait(hours) => self.engine.advance(hours * HOUR),
            Step::Prune { rows, steps } => self.prune(rows, steps).await,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::POSTGRES { 6 } else { 64 }, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_is_told_and_what_may_go_goes(
        max_kib in prop_oneof![Just(1_u64 << 30), 500..1_200_u64],
        refuse in any::<bool>(),
        steps in prop::collection::vec(step(), 5..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let when_full = if refuse { WhenFull::Refuse } else { WhenFull::Gap };
            let mut story = Story::begin(max_kib << 10, when_full).await;
            for step in steps {
                story.tell(step).await;
            }
            story.prune(7, 0).await;
        });
    }
}
