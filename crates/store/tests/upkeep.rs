//! What nodes on one PostgreSQL look after: schema, partitions, keys, rows that two want at once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that this suite asks.
const POSTGRES: bool = true;

#[path = "contract/engine.rs"]
#[expect(dead_code, reason = "what the contract needs besides")]
mod engine;
#[path = "contract/nodes.rs"]
#[expect(dead_code, reason = "what tests of several nodes need besides")]
mod nodes;
#[path = "contract/server.rs"]
#[expect(dead_code, reason = "what other tests need besides")]
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use engine::{BEGIN, DAY, actor, delivered};
use nodes::{Database, SOON, eventually, instance, lane, options, say, settlement};
use zapbus_event::{Position, Timestamp};
use zapbus_store::{
    Appends, DeliveryQuery, Key, Limit, OpenError, Options, Postgres, Reader, Settlement, ShardId,
    Store, Urgency,
};

/// Options with a clock of their own.
fn at(mut options: Options, clock: &Arc<AtomicI64>) -> Options {
    let clock = Arc::clone(clock);
    options.clock = Arc::new(move || Timestamp::from_millis(clock.load(Ordering::Relaxed)));
    options
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_together_make_the_schema_once() {
    let database = Database::new().await;
    let url = database.server.url(&database.name);
    let plan = Store::plan_postgres(&Postgres::new(&url)).await.unwrap();
    assert_eq!((plan.from, plan.names.len()), (0, plan.to as usize));
    let mut nodes = tokio::task::JoinSet::new();
    for n in 0..6 {
        let options = options(&url, &format!("node {n}"), |it| it.connections = 2);
        nodes.spawn(Store::open(options));
    }
    let opened: Vec<_> = nodes.join_all().await.into_iter().map(Result::unwrap).collect();
    let made: Vec<_> = opened.iter().filter(|opened| opened.first_start).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].migrated, plan.names);
    let accounts = opened[0].store.accounts().await.unwrap();
    assert_eq!(accounts.len(), 1, "and one default account");
    for opened in opened {
        opened.store.close().await;
    }
    let plan = Store::plan_postgres(&Postgres::new(&url)).await.unwrap();
    assert_eq!((plan.from, plan.names.len()), (plan.to, 0));
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_those_who_are_up_go_on() {
    let database = Database::new().await;
    let old = database.node("old").await;
    let shop = instance(&old, "shop").await;
    // What a newer version leaves: steps that we do not know, and columns that we do not fill.
    let client = database.server.connect(&database.name).await;
    client
        .batch_execute(
            "INSERT INTO zapbus_migration (version, name) VALUES (99, '0099_later'); \
             ALTER TABLE instance ADD COLUMN later text; ALTER TABLE lane ADD COLUMN later int; \
             ALTER TABLE journal ADD COLUMN later bytea; ALTER TABLE delivery ADD COLUMN later int",
        )
        .await
        .unwrap();
    let lane = lane(&old, shop).await;
    let said = say(&old, shop, "still").await.unwrap();
    old.settle(vec![settlement(lane, said)], Urgency::Now).await.unwrap();
    assert_eq!(old.lane(lane).await.unwrap().unwrap().cursor, said);
    let url = database.server.url(&database.name);
    let refused = Store::open(options(&url, "b", |_| {})).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    let refused = Store::plan_postgres(&Postgres::new(&url)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, .. }), "{refused}");
    old.close().await;
}

#[tokio::test]
async fn a_schema_of_an_older_version_is_brought_up_while_its_nodes_run() {
    let database = Database::new().await;
    let old = database.node("old").await;
    let shop = instance(&old, "shop").await;
    let client = database.server.connect(&database.name).await;
    // As the version left it that did not know the last five steps.
    client
        .batch_execute(
            "ALTER TABLE node DROP COLUMN key, DROP COLUMN lag_ms; DROP TABLE refusal, subscriber, ticket; \
             DROP TABLE blob_part, stray, wanted_file; \
             ALTER TABLE blob DROP COLUMN object, DROP COLUMN there, DROP COLUMN touched; \
             DROP FUNCTION zapbus_go_beyond; \
             DO $$ BEGIN EXECUTE (SELECT 'DROP FUNCTION ' || oid::regprocedure FROM pg_proc \
             WHERE proname = 'zapbus_append' AND pronargs = 25); END $$; \
             DELETE FROM zapbus_migration WHERE version >= 3",
        )
        .await
        .unwrap();
    // Somebody reads the table that the step wants to change, for a while: others are not held up.
    let reader = database.server.connect(&database.name).await;
    reader.batch_execute("BEGIN; SELECT * FROM node").await.unwrap();
    let url = database.server.url(&database.name);
    let new = tokio::spawn(Store::open(options(&url, "new", |_| {})));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!new.is_finished());
    reader.batch_execute("COMMIT").await.unwrap();
    let new = new.await.unwrap().unwrap();
    assert_eq!(new.migrated.len(), 5);
    assert!(!new.first_start);
    say(&new.store, shop, "on the new one").await.unwrap();
    let said = async || say(&old, shop, "on the old one").await.ok();
    eventually(SOON, said).await;
    old.close().await;
    new.store.close().await;
}

#[tokio::test]
async fn readiness_ends_before_partitions_do() {
    let database = Database::new().await;
    let clock = Arc::new(AtomicI64::new(BEGIN));
    let url = database.server.url(&database.name);
    let store = Store::open(at(
        options(&url, "a", |postgres| {
            postgres.database_clock = false;
            postgres.ahead = 8;
        }),
        &clock,
    ))
    .await
    .unwrap()
    .store;
    let shop = instance(&store, "shop").await;
    let mut health = store.health();
    assert_eq!(health.borrow().unready, None);
    // From here on nobody can make one.
    let client = database.server.connect(&database.name).await;
    client
        .batch_execute("ALTER FUNCTION zapbus_partition RENAME TO zapbus_partition_away")
        .await
        .unwrap();
    // Five hours on there are three left, which is no reason yet.
    clock.fetch_add(5 * millis(engine::HOUR), Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(health.borrow().unready, None);
    clock.fetch_add(millis(engine::HOUR), Ordering::Relaxed);
    let unready = health.wait_for(|it| it.unready.is_some());
    let said = tokio::time::timeout(SOON, unready).await.unwrap().unwrap().clone();
    assert!(said.unready.unwrap().contains("2 days or hours"));
    assert_eq!(said.appends, Appends::Ok);
    say(&store, shop, "events are taken still").await.unwrap();
    client
        .batch_execute("ALTER FUNCTION zapbus_partition_away RENAME TO zapbus_partition")
        .await
        .unwrap();
    let ready = health.wait_for(|it| it.unready.is_none());
    tokio::time::timeout(SOON, ready).await.expect("it mends itself").unwrap();
    // Eight days from then on, as of the new time.
    let last = (BEGIN + 6 * millis(engine::HOUR)) / millis(DAY) + 8;
    let made = client
        .query_one(&format!("SELECT to_regclass('journal_full_{last}') IS NOT NULL"), &[])
        .await
        .unwrap();
    assert!(made.get::<_, bool>(0));
    store.close().await;
}

/// How often the indexes of a day's events were looked into, by connections that are closed.
async fn scans(database: &Database, days: std::ops::Range<i64>) -> i64 {
    let client = database.server.connect(&database.name).await;
    let names: Vec<String> =
        days.map(|day| format!("journal_full_{}", BEGIN / millis(DAY) + day)).collect();
    let gone = async || {
        let row = client
            .query_one(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'zapbus' \
                 AND datname = current_database()",
                &[],
            )
            .await
            .unwrap();
        (row.get::<_, i64>(0) == 0).then_some(())
    };
    eventually(SOON, gone).await;
    let query = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_tables \
                 WHERE relname = ANY ($1)";
    client.query_one(query, &[&names]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_lane_reads_from_the_day_of_its_cursor_on() {
    const ROUNDS: i64 = 50;
    let database = Database::new().await;
    let clock = Arc::new(AtomicI64::new(BEGIN));
    let url = database.server.url(&database.name);
    let options = at(
        options(&url, "a", |postgres| {
            postgres.database_clock = false;
            postgres.ahead = 0;
            postgres.shards = 1;
        }),
        &clock,
    );
    let store = Store::open(options.clone()).await.unwrap().store;
    let shop = instance(&store, "shop").await;
    let lane = lane(&store, shop).await;
    let mut last = Position::START;
    let mut days = Vec::new();
    for day in 0..6 {
        for n in 0..20 {
            last = say(&store, shop, &format!("{day}/{n}")).await.unwrap();
        }
        days.push(last);
        clock.fetch_add(millis(DAY), Ordering::Relaxed);
    }
    let row = delivered(days[3], Timestamp::from_millis(1));
    let at = Settlement { rows: vec![row], ..settlement(lane, days[3]) };
    store.settle(vec![at], Urgency::Now).await.unwrap();
    store.close().await;
    let (old, new) = (scans(&database, 0..3).await, scans(&database, 4..6).await);
    // Without memory of any of it, and often enough for the server to make up its mind about a plan.
    let store = Store::open(options).await.unwrap().store;
    let limit = Limit { events: 10, bytes: 1 << 20 };
    for _ in 0..ROUNDS {
        let start = store.lane(lane).await.unwrap().unwrap();
        assert_eq!(start.cursor, days[3]);
        let page = store.read_after(Reader::Instance(shop), start.cursor, limit).await.unwrap();
        assert_eq!(page.events.len(), 10);
        assert!(store.behind(lane, start.cursor).await.unwrap().oldest.is_some());
        let all = store.read_after(Reader::All, start.cursor, limit).await.unwrap();
        assert_eq!(all.events.len(), 10);
        let found = store.event_at(page.events[0].seq).await.unwrap();
        assert_eq!(found.map(|event| event.id), Some(page.events[0].id));
    }
    let early = store.read_after(Reader::Instance(shop), Position::START, limit).await.unwrap();
    assert_eq!(early.events.len(), 10);
    store.close().await;
    let (old, new) = (scans(&database, 0..3).await - old, scans(&database, 4..6).await - new);
    println!("{ROUNDS} rounds looked {old} times into old days and {new} times into new ones");
    // To find the end of the journal, and where days begin, all are looked into: a few times.
    assert!(new >= 4 * ROUNDS && old < ROUNDS, "{old} {new}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_much_again_and_settling_it_do_not_stand_in_each_others_way() {
    let database = Database::new().await;
    let store = database.node("a").await;
    let shop = instance(&store, "shop").await;
    let lane = lane(&store, shop).await;
    let mut positions = Vec::new();
    for n in 0..300 {
        positions.push(say(&store, shop, &n.to_string()).await.unwrap());
    }
    let rows = |order: &[Position]| -> Vec<_> {
        order.iter().map(|seq| delivered(*seq, Timestamp::from_millis(1))).collect()
    };
    let settled = |order: &[Position]| Settlement {
        lane,
        epoch: None,
        shard: ShardId::default(),
        cursor: None,
        health: None,
        rows: rows(order),
        events: Vec::new(),
    };
    store.settle(vec![settled(&positions)], Urgency::Now).await.unwrap();
    let again = {
        let store = store.clone();
        async move {
            let mut sent = 0;
            for _ in 0..20 {
                let query = DeliveryQuery::default();
                let now = Timestamp::from_millis(2);
                let done = store.redeliver_where(query, None, 1_000, false, now, &actor()).await;
                sent += done.expect("no deadlock comes up to the caller").redelivered;
            }
            sent
        }
    };
    let settling = {
        let store = store.clone();
        let mut order = positions.clone();
        async move {
            for _ in 0..60 {
                // In every order but that of the others.
                order.reverse();
                order.rotate_left(37);
                let part = settled(&order[..150]);
                store.settle(vec![part], Urgency::Now).await.expect("nor here");
            }
        }
    };
    let (sent, ()) = tokio::join!(tokio::spawn(again), settling);
    assert!(sent.unwrap() > 0);
    store.close().await;
}

#[tokio::test]
async fn a_key_is_changed_while_several_nodes_are_up() {
    let database = Database::new().await;
    let (old, new) = (Key::parse(server::KEY).unwrap(), Key::generate().unwrap());
    let url = database.server.url(&database.name);
    let with = |name: &str, keys: &[&Key]| {
        let mut options = options(&url, name, |_| {});
        options.keys = keys.iter().map(|key| (*key).clone()).collect();
        options
    };
    let open = async |options: Options| Store::open(options).await.unwrap().store;
    let before = open(with("before", &[&old])).await;
    let shop = instance(&before, "shop").await;
    let lane = lane(&before, shop).await;
    before.close().await;
    // One after the other is started anew with both keys; while one still encrypts with the old one
    // nothing is taken off the list.
    let late = open(with("late", &[&old, &new])).await;
    let first = open(with("first", &[&new, &old])).await;
    let second = open(with("second", &[&new, &old])).await;
    let done = first.rekey(&actor()).await.unwrap();
    assert!(done.rewritten >= 3 && done.unreadable == 0, "{done:?}");
    assert_eq!(done.keys, [new.id(), old.id()]);
    late.close().await;
    let done = second.rekey(&actor()).await.unwrap();
    assert_eq!(done.keys, [new.id()], "two nodes are up, and both have it");
    let found = first.destination(lane.destination).await.unwrap().unwrap();
    assert!(found.spec["channel"]["secret"].is_string());
    first.close().await;
    second.close().await;
    let refused = Store::open(with("old", &[&old])).await.unwrap_err();
    assert!(refused.to_string().contains(&new.id()), "{refused}");
    let after = open(with("after", &[&new])).await;
    let token = after.instance(shop).await.unwrap().unwrap().token;
    assert!(token.starts_with("token of shop"), "{token}");
    after.close().await;
}

#[tokio::test]
async fn what_a_server_promises_is_told() {
    let database = Database::new().await;
    let url = database.server.url(&database.name);
    let facts = Store::server_facts(&Postgres::new(&url)).await.unwrap();
    assert!(facts.supported && !facts.read_only, "{facts:?}");
    // That is how servers of tests are started.
    assert!(!facts.fsync && !facts.full_page_writes);
    assert_eq!((facts.synchronous_commit.as_str(), facts.max_connections), ("on", 300));
    assert_eq!(
        (facts.synchronous_standby_names.as_str(), facts.synchronous_standbys),
        ("", Some(0))
    );
}
