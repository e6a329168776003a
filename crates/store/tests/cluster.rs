//! Several nodes on one PostgreSQL: what no single node can show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that this suite asks.
const POSTGRES: bool = true;

#[path = "cluster/changes.rs"]
mod changes;
#[path = "contract/engine.rs"]
#[expect(dead_code, reason = "what the contract needs besides")]
mod engine;
#[path = "cluster/leases.rs"]
mod leases;
#[path = "contract/nodes.rs"]
mod nodes;
#[path = "contract/server.rs"]
#[expect(dead_code, reason = "what other tests need besides")]
mod server;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use engine::{actor, keyed, message, new_destination};
use nodes::{Database, SOON, eventually, instance, lane, options, say, settlement, until_held};
use zapbus_event::{Position, Timestamp};
use zapbus_store::{
    Append, AppendError, Change, Erase, InstancePatch, Key, LIVE, LaneId, Lease, Limit, NewEvent,
    Postgres, Reader, Settlement, ShardId, Start, Store, StoreError, Urgency,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_append_to_one_shard_and_nobody_skips_an_event() {
    let database = Database::new().await;
    let (a, b) = (database.node("a").await, database.node("b").await);
    let shop = instance(&a, "shop").await;
    // A reader on each node, from the tail of its memory, for as long as both append.
    let mut readers = tokio::task::JoinSet::new();
    let total = 400_usize;
    for store in [a.clone(), b.clone()] {
        readers.spawn(async move {
            let shard = store.shard_of(shop);
            let mut head = store.head_in(shard);
            let mut at = Position::START;
            let mut seen = Vec::new();
            while seen.len() < total + 1 {
                let page =
                    store.read_after(Reader::Instance(shop), at, Limit::default()).await.unwrap();
                seen.extend(page.events.iter().map(|event| event.seq));
                at = page.upto;
                if page.at_head && seen.len() < total + 1 {
                    tokio::time::timeout(SOON, head.changed()).await.unwrap().unwrap();
                }
            }
            seen
        });
    }
    let mut writers = tokio::task::JoinSet::new();
    for (n, store) in [&a, &b].into_iter().enumerate() {
        for task in 0..4 {
            let store = store.clone();
            writers.spawn(async move {
                let mut last = Position::START;
                for event in 0..total / 8 {
                    let seq = say(&store, shop, &format!("{n}/{task}/{event}")).await.unwrap();
                    assert!(seq > last, "who is answered first comes first");
                    last = seq;
                }
            });
        }
    }
    writers.join_all().await;
    let seen = readers.join_all().await;
    for seen in &seen {
        assert!(seen.is_sorted_by(|a, b| a < b), "in order, each once");
    }
    assert_eq!(seen[0], seen[1]);
    // A key that came through one node is known on the other.
    let again = Append {
        events: vec![NewEvent { instance: shop, draft: keyed("x", &["0/0/0"]) }],
        body: None,
    };
    assert!(b.append(again).await.unwrap()[0].duplicate);
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_has_shown_the_journal_does_not_deny() {
    let database = Database::new().await;
    let b = database.node("b").await;
    let shop = instance(&b, "shop").await;
    say(&b, shop, "before").await.unwrap();
    // Its memory begins here: what is read from before is read from the database.
    let a = database.node("a").await;
    let shard = a.shard_of(shop);
    let floor = *a.head_in(shard).borrow();
    let mut writers = tokio::task::JoinSet::new();
    for task in 0..4 {
        let store = b.clone();
        writers.spawn(async move {
            for event in 0..200 {
                say(&store, shop, &format!("{task}/{event}")).await.unwrap();
            }
        });
    }
    let mut seen = 0;
    // Until the other node has heard of some of it, however busy the machine is.
    while !writers.is_empty() || seen == 0 {
        while writers.try_join_next().is_some() {}
        let Some(memory) = a.tail_after_in(shard, Reader::All, floor, Limit::default()) else {
            panic!("memory holds all of it");
        };
        let journal = a.read_after(Reader::Instance(shop), Position::START, Limit::default());
        let journal = journal.await.unwrap();
        assert!(journal.upto >= memory.upto, "shown up to {:?}: {journal:?}", memory.upto);
        seen = memory.events.len();
    }
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_client_frozen_in_the_middle_of_an_append_stops_nobody_for_long() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let shard = a.shard_of(shop);
    // A node that takes the shard's lock and then neither commits nor goes away.
    let frozen = database.server.connect(&database.name).await;
    frozen
        .batch_execute(&format!(
            "SET idle_in_transaction_session_timeout = '2s'; BEGIN; \
             SELECT pg_advisory_xact_lock(2053206388, {shard})"
        ))
        .await
        .unwrap();
    let begun = Instant::now();
    let mut tries = 0;
    eventually(SOON, async || {
        tries += 1;
        say(&a, shop, "x").await.ok()
    })
    .await;
    println!("taken after {:?} and {tries} tries", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10));
    a.close().await;
}

#[tokio::test]
async fn without_a_key_or_with_another_nobody_gets_in() {
    let database = Database::new().await;
    let url = database.server.url(&database.name);
    let mut keyless = options(&url, "a", |_| {});
    keyless.keys.clear();
    let refused = Store::open(keyless.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("ZAPBUS_ENCRYPTION_KEY"), "{refused}");
    let first = database.node("a").await;
    first.close().await;
    keyless.keys = vec![Key::generate().unwrap()];
    let refused = Store::open(keyless).await.unwrap_err();
    let needed = Key::parse(server::KEY).unwrap().id();
    assert!(refused.to_string().contains(&needed), "{refused}");
    let plan = Store::plan_postgres(&Postgres::new(&url)).await.unwrap();
    assert_eq!((plan.from, plan.names.len()), (plan.to, 0));
    let nowhere = Postgres::new("postgres://postgres:very-secret@127.0.0.1:1/none");
    let refused = Store::plan_postgres(&nowhere).await.unwrap_err().to_string();
    assert!(refused.contains("127.0.0.1") && !refused.contains("very-secret"), "{refused}");
}

#[tokio::test]
async fn a_database_taken_back_in_time_gives_out_no_position_twice() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let shard = a.shard_of(shop);
    say(&a, shop, "1").await.unwrap();
    let lost = say(&a, shop, "2").await.unwrap();
    // What a restored backup looks like to a node that is still running.
    let client = database.server.connect(&database.name).await;
    client
        .execute(
            "DELETE FROM journal WHERE instance = $1 AND seq = $2",
            &[&&shop.to_bytes()[..], &i64::try_from(lost.0).unwrap()],
        )
        .await
        .unwrap();
    eventually(SOON, async || (*a.head_in(shard).borrow() > lost).then_some(())).await;
    let next = say(&a, shop, "3").await.unwrap();
    assert!(next.0 > lost.0 + (1 << 31), "{next} after {lost}");
    assert!(a.gap_after(Reader::Instance(shop), lost).await.unwrap());
    assert!(!a.gap_after(Reader::Instance(shop), next).await.unwrap());
    a.close().await;
}

#[tokio::test]
async fn nothing_is_numbered_as_what_was_lost() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let shard = a.shard_of(shop);
    for n in 0..10 {
        say(&a, shop, &n.to_string()).await.unwrap();
    }
    let known = *a.head_in(shard).borrow();
    let epoch = a.leases().borrow()[&shard].epoch;
    let client = database.server.connect(&database.name).await;
    // As after a failover to a server that had not got the last of it.
    let gone = "DELETE FROM journal WHERE shard = $1 AND seq > $2";
    let last = i64::try_from(known.0).unwrap() - 5;
    client.execute(gone, &[&i32::from(shard.0), &last]).await.unwrap();
    let next = say(&a, shop, "the first one after").await.unwrap();
    assert!(next.0 > known.0 + (1 << 32), "{next} after {known}");
    let of = Reader::Instance(shop);
    let page = a.read_after(of, known, Limit::default()).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [next]);
    assert!(a.gap_after(of, known).await.unwrap(), "it is told");
    // Lanes begin anew, from where they stand in the database.
    let mut leases = a.leases();
    let anew = leases.wait_for(|held| held.get(&shard).is_some_and(|lease| lease.epoch > epoch));
    tokio::time::timeout(SOON, anew).await.expect("it takes its shards again").unwrap();
    // Nobody else is told of a loss that is none.
    let b = database.node("b").await;
    let more = say(&b, shop, "on another node").await.unwrap();
    assert_eq!(more.0, next.0 + 1);
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_still_takes_its_room() {
    let database = Database::new().await;
    let mut options = options(&database.server.url(&database.name), "a", |_| {});
    options.queue_bytes = 64 << 10;
    let a = Store::open(options).await.unwrap().store;
    let shop = instance(&a, "shop").await;
    let shard = a.shard_of(shop);
    let client = database.server.connect(&database.name).await;
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock(2053206388, {shard})");
    client.batch_execute(&lock).await.unwrap();
    let mut busy = false;
    for n in 0..40 {
        let large = message(&format!("{n} {}", "x".repeat(8 << 10)));
        let events = vec![NewEvent { instance: shop, draft: large }];
        let said = a.append(Append { events, body: None });
        // Its caller goes away.
        if let Ok(said) = tokio::time::timeout(Duration::from_millis(20), said).await
            && matches!(said, Err(AppendError::Busy { .. }))
        {
            busy = true;
            break;
        }
    }
    assert!(busy, "forty times eight KiB found room in 64");
    client.batch_execute("COMMIT").await.unwrap();
    eventually(SOON, async || say(&a, shop, "there is room again").await.ok()).await;
    a.close().await;
}

#[tokio::test]
async fn a_database_that_confirms_what_it_may_lose_is_refused() {
    let database = Database::new().await;
    let client = database.server.connect(&database.name).await;
    let set = format!("ALTER DATABASE \"{}\" SET synchronous_commit = off", database.name);
    client.batch_execute(&set).await.unwrap();
    let url = database.server.url(&database.name);
    let refused = Store::open(crate::nodes::options(&url, "a", |_| {})).await;
    let refused = refused.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("synchronous_commit is off"), "{refused}");
}
