//! Random stories against a model that is too simple to be wrong.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use zapbus_event::{EventId, InstanceId, Position};
use zapbus_store::{
    Append, Limit, NewEvent, Reader, RetentionPolicy, Row, Settlement, Start, State, Urgency,
};

use zapbus_store::ShardId;

use crate::engine::*;

#[derive(Debug, Clone)]
enum Step {
    /// Events of (instance, key); key 0 is none.
    Append(Vec<(usize, u8)>),
    /// The lane's cursor as a share of the head, and a row's state a few events behind it.
    Settle {
        lane: usize,
        share: u8,
        back: u8,
        state: u8,
    },
    Reopen,
    Wait(u32),
    Prune,
    Page {
        lane: usize,
        events: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec((0..3_usize, 0..12_u8), 1..6).prop_map(Step::Append),
        3 => (0..3_usize, 0..=100_u8, 0..6_u8, 0..4_u8)
            .prop_map(|(lane, share, back, state)| Step::Settle { lane, share, back, state }),
        1 => Just(Step::Reopen),
        1 => (0..72_u32).prop_map(Step::Wait),
        1 => Just(Step::Prune),
        2 => (0..3_usize, 1..8_usize).prop_map(|(lane, events)| Step::Page { lane, events }),
    ]
}

#[derive(Default)]
struct Model {
    /// Every event ever stored.
    events: BTreeMap<u64, (EventId, InstanceId)>,
    keys: HashMap<(usize, u8), EventId>,
    cursors: [u64; 3],
    rows: [BTreeMap<u64, State>; 3],
}

async fn tell(steps: Vec<Step>) {
    let mut engine = Engine::start().await;
    let mut instances = Vec::new();
    let mut lanes = Vec::new();
    let mut model = Model::default();
    for n in 0..3 {
        let instance = engine.instance(&format!("i{n}")).await;
        instances.push(instance);
        lanes.push(engine.lane(instance, Start::Now).await);
        model.cursors[n] = engine.store().head().borrow().0;
    }
    // Creations are not part of the story.
    let begin = *engine.store().head().borrow();
    for step in steps {
        match step {
            Step::Append(said) => {
                let events = said
                    .iter()
                    .map(|(n, key)| {
                        let name = format!("k{key}");
                        let keys: &[&str] = if *key == 0 { &[] } else { &[&name] };
                        NewEvent { instance: instances[*n], draft: keyed("x", keys) }
                    })
                    .collect();
                let appended = engine.store().append(Append { events, body: None }).await.unwrap();
                for ((n, key), appended) in said.iter().zip(appended) {
                    let known = model.keys.get(&(*n, *key)).filter(|_| *key != 0);
                    assert_eq!(appended.duplicate, known.is_some());
                    match known {
                        Some(first) => assert_eq!(appended.id, *first),
                        None => {
                            let newest =
                                model.events.last_key_value().map_or(begin.0, |(seq, _)| *seq);
                            assert!(appended.seq.0 > newest, "positions only grow");
                            model.events.insert(appended.seq.0, (appended.id, instances[*n]));
                            model.keys.insert((*n, *key), appended.id);
                        }
                    }
                }
            }
            Step::Settle { lane, share, back, state } => {
                let head = engine.store().head().borrow().0;
                let cursor = begin.0 + (head - begin.0) * u64::from(share) / 100;
                let own: Vec<u64> = model
                    .events
                    .iter()
                    .filter(|(_, (_, instance))| *instance == instances[lane])
                    .map(|(seq, _)| *seq)
                    .collect();
                let mut rows: Vec<Row> = Vec::new();
                let seq = own.iter().rev().nth(usize::from(back)).copied();
                // A lane sends only what is there.
                let stored = match seq {
                    Some(seq) => engine.store().event_at(Position(seq)).await.unwrap().is_some(),
                    None => false,
                };
                if let Some(seq) = seq.filter(|_| stored) {
                    let state = match state {
                        0 => State::Delivered,
                        1 => State::Retrying { due: engine.now() },
                        2 => State::Waiting,
                        _ => State::Cancelled,
                    };
                    rows.push(row(Position(seq), state));
                    model.rows[lane].insert(seq, state);
                }
                model.cursors[lane] = model.cursors[lane].max(cursor);
                let settlement = Settlement {
                    lane: lanes[lane],
                    epoch: None,
                    shard: ShardId::default(),
                    cursor: Some(Position(cursor)),
                    health: None,
                    rows,
                    events: Vec::new(),
                };
                engine.store().settle(vec![settlement], Urgency::Now).await.unwrap();
            }
            Step::Reopen => engine.reopen().await,
            // At most a few days in a story: what is owed or held is never old enough to go.
            Step::Wait(hours) => engine.advance(hours * HOUR),
            Step::Prune => {
                let policy = RetentionPolicy { journal: 2 * DAY, ..RetentionPolicy::default() };
                let pruned = engine.prune(&policy).await;
                assert_eq!(pruned.gaps, 0);
            }
            Step::Page { lane, events } => {
                let of = Reader::Instance(instances[lane]);
                let mut at = Position(model.cursors[lane]);
                let mut read = Vec::new();
                loop {
                    let limit = Limit { events, bytes: 1 << 20 };
                    let page = engine.store().read_after(of, at, limit).await.unwrap();
                    read.extend(page.events.iter().map(|event| (event.seq.0, event.id)));
                    at = page.upto;
                    if page.at_head {
                        break;
                    }
                }
                let expected: Vec<(u64, EventId)> = model
                    .events
                    .range(model.cursors[lane] + 1..)
                    .filter(|(_, (_, instance))| *instance == instances[lane])
                    .map(|(seq, (id, _))| (*seq, *id))
                    .collect();
                assert_eq!(read, expected, "nothing beyond a cursor is ever missing");
            }
        }
        for (n, lane) in lanes.iter().enumerate() {
            let start = engine.store().lane(*lane).await.unwrap().unwrap();
            assert_eq!(start.cursor.0, model.cursors[n]);
            let beyond: Vec<u64> =
                model.rows[n].range(model.cursors[n] + 1..).map(|(seq, _)| *seq).collect();
            assert_eq!(start.beyond.iter().map(|seq| seq.0).collect::<Vec<_>>(), beyond);
            let due = engine.store().due(*lane, engine.now(), 1_000).await.unwrap();
            let retrying = model.rows[n].values().filter(|it| matches!(it, State::Retrying { .. }));
            assert_eq!(due.len(), retrying.count());
            assert!(due.iter().all(|row| row.event.is_some()), "what is held keeps its event");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if crate::POSTGRES { 6 } else { 24 }, ..ProptestConfig::default() })]

    #[test]
    fn any_story_ends_as_the_model_says(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(tell(steps));
    }
}
