//! Several nodes on one PostgreSQL: what no single node can show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that this suite asks.
const POSTGRES: bool = true;

#[path = "contract/engine.rs"]
#[expect(dead_code, reason = "what the contract needs besides")]
mod engine;
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
async fn shards_are_spread_and_handed_over_at_once_when_a_node_leaves() {
    let database = Database::new().await;
    let a = database.node("a").await;
    until_held(&a, 4).await;
    let b = database.node("b").await;
    until_held(&b, 2).await;
    until_held(&a, 2).await;
    let (of_a, of_b) = (a.leases().borrow().clone(), b.leases().borrow().clone());
    assert!(of_a.keys().all(|shard| !of_b.contains_key(shard)), "{of_a:?} {of_b:?}");
    let cluster = a.cluster().await.unwrap();
    assert_eq!((cluster.nodes.len(), cluster.shards.len()), (2, 4));
    assert!(cluster.shards.iter().all(|shard| shard.owner.is_some()));
    for (shard, lease) in &of_b {
        assert!(b.holds(*shard, lease.epoch));
        assert!(!a.holds(*shard, lease.epoch));
    }
    b.close().await;
    until_held(&a, 4).await;
    assert!(a.leases().borrow().iter().all(|(shard, lease)| match of_b.get(shard) {
        Some(before) => lease.epoch > before.epoch,
        None => of_a[shard] == *lease,
    }));
    a.close().await;
}

#[tokio::test]
async fn a_node_that_lost_a_shard_moves_nothing_there() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let (lane, shard) = (lane(&a, shop).await, a.shard_of(shop));
    let first = say(&a, shop, "1").await.unwrap();
    let second = say(&a, shop, "2").await.unwrap();
    a.settle(vec![settlement(lane, first)], Urgency::Now).await.unwrap();
    let before: Lease = a.leases().borrow()[&shard];
    // What a takeover does, without waiting for one.
    let client = database.server.connect(&database.name).await;
    client
        .execute(
            "UPDATE lease SET owner = '\\x01', epoch = epoch + 1, expires_at = 'infinity' \
             WHERE shard = $1",
            &[&i32::from(shard.0)],
        )
        .await
        .unwrap();
    let refused = a.settle(vec![settlement(lane, second)], Urgency::Now).await;
    assert!(
        matches!(&refused, Err(StoreError::LeaseLost { shard: lost }) if *lost == shard),
        "{refused:?}"
    );
    assert_eq!(a.lane(lane).await.unwrap().unwrap().cursor, first);
    assert!(!a.holds(shard, before.epoch));
    assert!(!a.leases().borrow().contains_key(&shard));
    // It is told from others: those are settled as ever, and appends go on everywhere.
    say(&a, shop, "3").await.unwrap();
    a.close().await;
}

#[tokio::test]
async fn a_lane_from_before_a_shard_was_lost_moves_nothing_when_the_node_has_it_again() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let (lane, shard) = (lane(&a, shop).await, a.shard_of(shop));
    let first = say(&a, shop, "1").await.unwrap();
    let second = say(&a, shop, "2").await.unwrap();
    until_held(&a, 4).await;
    let before: Lease = a.leases().borrow()[&shard];
    let under = |epoch, cursor| Settlement { epoch, ..settlement(lane, cursor) };
    a.settle(vec![under(Some(before.epoch), first)], Urgency::Now).await.unwrap();
    // Somebody else had it in between, and gave it away again.
    let client = database.server.connect(&database.name).await;
    client
        .execute(
            "UPDATE lease SET owner = NULL, epoch = epoch + 1, expires_at = '-infinity' \
             WHERE shard = $1",
            &[&i32::from(shard.0)],
        )
        .await
        .unwrap();
    let mut leases = a.leases();
    let again = leases.wait_for(|held| held.get(&shard).is_some_and(|it| it.epoch > before.epoch));
    let now = tokio::time::timeout(SOON, again).await.unwrap().unwrap()[&shard];
    assert!(a.holds(shard, now.epoch));
    let refused = a.settle(vec![under(Some(before.epoch), second)], Urgency::Now).await;
    assert!(
        matches!(&refused, Err(StoreError::LeaseLost { shard: lost }) if *lost == shard),
        "{refused:?}"
    );
    assert_eq!(a.lane(lane).await.unwrap().unwrap().cursor, first);
    // Only that lane is refused: beside it and afterwards those of today are settled.
    assert!(a.holds(shard, now.epoch));
    let (old, new) = tokio::join!(
        a.settle(vec![under(Some(before.epoch), second)], Urgency::CanRide),
        a.settle(vec![under(Some(now.epoch), second)], Urgency::CanRide),
    );
    assert!(matches!(old, Err(StoreError::LeaseLost { .. })), "{old:?}");
    new.unwrap();
    assert_eq!(a.lane(lane).await.unwrap().unwrap().cursor, second);
    a.settle(vec![under(None, second)], Urgency::Now).await.unwrap();
    a.close().await;
}

#[tokio::test]
async fn an_erasure_takes_nothing_from_memory_that_is_still_in_the_journal() {
    let database = Database::new().await;
    let (a, b) = (database.node("a").await, database.node("b").await);
    let shop = instance(&a, "shop").await;
    let of = Reader::Instance(shop);
    let read = async |store: &Store, after| {
        let page = store.read_after(of, after, Limit::default()).await.unwrap();
        (page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), page.upto)
    };
    let shard = a.shard_of(shop);
    let start = *a.head_in(shard).borrow();
    let (mut changes_of_a, mut changes_of_b) = (a.changes(), b.changes());
    let to_be_erased = say(&a, shop, "1").await.unwrap();
    // Both follow the journal in memory.
    for store in [&a, &b] {
        eventually(SOON, async || (read(store, start).await.0 == [to_be_erased]).then_some(()))
            .await;
    }
    a.erase(Erase::Instance(shop), &actor()).await.unwrap();
    let kept = say(&a, shop, "2").await.unwrap();
    for (store, changes) in [(&a, &mut changes_of_a), (&b, &mut changes_of_b)] {
        let erased = async { while changes.recv().await.unwrap() != Change::Erased(shop) {} };
        tokio::time::timeout(SOON, erased).await.expect("every node hears of it");
        let found = eventually(SOON, async || {
            let (found, upto) = read(store, start).await;
            (upto >= kept).then_some(found)
        })
        .await;
        assert_eq!(found, [kept], "what came after the erasure is there, and nothing else");
    }
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn a_node_that_died_is_taken_over() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let (lane, shard) = (lane(&a, shop).await, a.shard_of(shop));
    let first = say(&a, shop, "1").await.unwrap();
    let epoch = a.leases().borrow()[&shard].epoch;
    // Dropped without a word, as by SIGKILL.
    drop(a);
    let died = Instant::now();
    let b = database.node("b").await;
    until_held(&b, 4).await;
    println!("all shards taken over {:?} after the node died", died.elapsed());
    assert!(b.leases().borrow()[&shard].epoch > epoch);
    let start = b.lane(lane).await.unwrap().unwrap();
    assert!(start.cursor < first, "what was not settled is sent");
    b.settle(vec![settlement(lane, first)], Urgency::Now).await.unwrap();
    b.close().await;
}

#[tokio::test]
async fn what_one_node_changes_is_known_on_the_other() {
    let database = Database::new().await;
    let (a, b) = (database.node("a").await, database.node("b").await);
    let shop = instance(&a, "shop").await;
    // At once: nobody who was answered is told that it is unknown.
    say(&b, shop, "1").await.unwrap();
    let mut changes = b.changes();
    let lane = lane(&a, shop).await;
    let heard = async {
        loop {
            if changes.recv().await.unwrap() == Change::Destination(lane.destination) {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, heard).await.expect("it is told");
    assert!(b.destination_head(lane.destination).await.unwrap().is_some());
    a.delete_destination(lane.destination, &actor()).await.unwrap();
    assert!(b.lane(lane).await.unwrap().is_none());
    let patch = InstancePatch { name: Some("other".to_owned()), ..InstancePatch::default() };
    a.update_instance(shop, patch, &actor()).await.unwrap();
    assert_eq!(b.instances_named("other").await.unwrap().len(), 1);
    a.mark_instance_deleted(shop, message("gone"), &actor()).await.unwrap();
    let refused = say(&b, shop, "2").await;
    assert!(matches!(refused, Err(AppendError::UnknownInstance { index: 0 })), "{refused:?}");
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn whoever_reads_a_whole_account_misses_nothing_of_an_instance_made_elsewhere() {
    let database = Database::new().await;
    let one_shard = |options: &mut Postgres| options.shards = 1;
    let a = database.node_with("a", one_shard).await;
    let b = database.node_with("b", one_shard).await;
    let account = a.account_by_name("default").await.unwrap().unwrap().id;
    let own = instance(&b, "known-to-b").await;
    let mut reader = Position::START;
    for n in 0..20 {
        // Sometimes somebody follows the journal in memory, sometimes nobody has for long.
        if n % 2 == 0 {
            let _ = b.tail_after(Reader::All, reader, Limit::default());
        }
        let shop = instance(&a, &format!("made-by-a-{n}")).await;
        let theirs = say(&a, shop, "theirs").await.unwrap();
        let ours = say(&b, own, &format!("ours-{n}")).await.unwrap();
        assert!(theirs < ours);
        let mut found = BTreeSet::new();
        let of = Reader::Account(account);
        eventually(SOON, async || {
            let page = b.read_after(of, reader, Limit::default()).await.unwrap();
            found.extend(page.events.iter().map(|event| event.seq));
            reader = page.upto.max(reader);
            (reader >= ours).then_some(())
        })
        .await;
        assert!(found.contains(&theirs), "{n}: {theirs} is missing in {found:?}");
    }
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn what_is_not_erased_stays_in_sight_of_all_nodes() {
    let database = Database::new().await;
    let (a, b) = (database.node("a").await, database.node("b").await);
    let shop = instance(&a, "shop").await;
    let mut changes: Vec<_> = [&a, &b].map(Store::changes).into();
    let append = async |text: &str| {
        let events = vec![NewEvent { instance: shop, draft: message(text) }];
        a.append(Append { events, body: None }).await.unwrap()[0].seq
    };
    let read = async |store: &Store| {
        let limit = Limit { events: 100, bytes: 1 << 20 };
        let shard = store.shard_of(shop);
        // As lanes do: from memory if it is there.
        let of = Reader::Instance(shop);
        let page = match store.tail_after_in(shard, of, Position::START, limit) {
            Some(page) => page,
            None => store.read_after_in(shard, of, Position::START, limit).await.unwrap(),
        };
        page.events.iter().map(|event| event.seq).collect::<Vec<_>>()
    };
    let gone = append("from 5511999990001@s.whatsapp.net").await;
    let stays = append("from 5511999990002@s.whatsapp.net").await;
    for store in [&a, &b] {
        eventually(SOON, async || read(store).await.contains(&stays).then_some(())).await;
    }
    let chat = "5511999990001@s.whatsapp.net".to_owned();
    let erased = a.erase(Erase::Chat { instance: shop, chat }, &actor()).await.unwrap();
    assert_eq!(erased.events, 1);
    for (store, changes) in [&a, &b].into_iter().zip(&mut changes) {
        let told = async { while changes.recv().await.unwrap() != Change::Erased(shop) {} };
        tokio::time::timeout(SOON, told).await.expect("it hears of it");
        let found = read(store).await;
        assert!(found.contains(&stays) && !found.contains(&gone), "{found:?}");
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
async fn a_global_lane_has_a_cursor_in_each_shard() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let account = a.account_by_name("default").await.unwrap().unwrap().id;
    let mut shops = Vec::new();
    for n in 0..12 {
        shops.push(instance(&a, &format!("shop{n}")).await);
    }
    let used: BTreeSet<ShardId> = shops.iter().map(|shop| a.shard_of(*shop)).collect();
    assert!(used.len() > 1, "twelve instances are not all in one of four shards");
    let global = new_destination(account, None, "all");
    let lane = LaneId { destination: global.id, run: LIVE };
    a.create_destination(global, Start::Now, &actor(), None).await.unwrap();
    let mut cursors = Vec::new();
    for shop in &shops {
        let shard = a.shard_of(*shop);
        let seq = say(&a, *shop, "k").await.unwrap();
        let moved = Settlement { shard, ..settlement(lane, seq) };
        a.settle(vec![moved], Urgency::Now).await.unwrap();
        cursors.push((shard, seq));
    }
    for shard in used {
        let last = cursors.iter().rev().find(|(of, _)| *of == shard).unwrap().1;
        let start = a.lane_in(lane, shard).await.unwrap().unwrap();
        assert_eq!(start.cursor, last);
        let mut pages = Vec::new();
        let page =
            a.read_after_in(shard, Reader::Account(account), Position::START, Limit::default());
        pages.extend(page.await.unwrap().events);
        assert!(pages.iter().all(|event| a.shard_of(event.instance) == shard));
    }
    let everything = engine::filter(&["*"]);
    let run = a.create_run(lane.destination, Start::Beginning, everything, &actor()).await;
    for (shard, _) in &cursors {
        let start = a.lane_in(lane, *shard).await.unwrap().unwrap();
        let runs = a.runs_in(lane.destination, *shard).await.unwrap();
        assert_eq!(runs.len(), 1);
        assert_eq!((runs[0].lane, runs[0].to), (run.as_ref().unwrap().lane, start.cursor));
        assert!(runs[0].from < runs[0].to);
    }
    let all = a.read_after(Reader::All, Position::START, Limit::default()).await;
    assert!(matches!(all, Err(StoreError::Refused { .. })), "of which shard?");
    // All shards at once say what each says by itself.
    let run = run.unwrap().lane;
    for lane in [lane, run] {
        let starts = a.lane_starts(lane).await.unwrap().unwrap();
        let stand = a.cursors(lane).await.unwrap();
        assert_eq!((starts.len(), stand.len()), (4, 4));
        for (found, (shard, cursor)) in starts.iter().zip(stand) {
            assert_eq!((found.shard, found.start.cursor), (shard, cursor));
            let alone = a.lane_in(lane, shard).await.unwrap().unwrap();
            assert_eq!(found.start.cursor, alone.cursor);
            assert_eq!(found.start.beyond, alone.beyond);
            assert_eq!(found.start.held, alone.held);
            let runs = a.runs_in(lane.destination, shard).await.unwrap();
            assert_eq!(found.end, (lane.run != LIVE).then_some(runs[0].to));
        }
    }
    // What failed waits in a row, of which the shards of others know nothing.
    let (shard, seq) = cursors[0];
    let failed = zapbus_store::State::Retrying { due: Timestamp::from_millis(1) };
    let again = Settlement { shard, rows: vec![engine::row(seq, failed)], ..settlement(lane, seq) };
    a.settle(vec![again], Urgency::Now).await.unwrap();
    let holding: Vec<_> = a.lane_starts(lane).await.unwrap().unwrap();
    let holding = holding.iter().filter(|start| !start.start.held.is_empty());
    assert_eq!(holding.map(|start| start.shard).collect::<Vec<_>>(), [shard]);
    assert_eq!(a.runs_with_rows(lane.destination).await.unwrap(), [LIVE]);
    // A change may move all cursors to the head.
    for shop in &shops {
        say(&a, *shop, "later").await.unwrap();
    }
    let stored = a.destination(lane.destination).await.unwrap().unwrap();
    let to_the_head: Vec<_> = (0..4).map(|n| (ShardId(n), Position(u64::MAX))).collect();
    a.update_destination_in(stored, &to_the_head, true, &actor()).await.unwrap();
    for (shard, cursor) in a.cursors(lane).await.unwrap() {
        assert_eq!(cursor, *a.head_in(shard).borrow(), "{shard}");
    }
    assert!(a.runs_with_rows(lane.destination).await.unwrap().is_empty(), "they were called off");
    let log = a.search(zapbus_store::DeliveryQuery::default(), None, 100).await.unwrap();
    assert_eq!(log.deliveries.len(), 12);
    for line in log.deliveries {
        assert!(a.delivery(line.id.to_string().parse().unwrap()).await.unwrap().is_some());
    }
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

/// So often the database has turned down a statement or a transaction.
async fn rollbacks(database: &Database) -> i64 {
    let client = database.server.connect(&database.name).await;
    let query = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()";
    client.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_change_that_could_not_be_taken_in_is_taken_in_later() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let mut changes = a.changes();
    let before = rollbacks(&database).await;
    let client = database.server.connect(&database.name).await;
    client
        .execute(
            "WITH moved AS (INSERT INTO change (what, id) VALUES (1, $1)) SELECT 1",
            &[&&shop.to_bytes()[..]],
        )
        .await
        .unwrap();
    tokio::time::timeout(SOON, changes.recv()).await.unwrap().unwrap();
    // Nobody can look into it now.
    client
        .batch_execute(&format!(
            "BEGIN; ALTER TABLE instance RENAME TO elsewhere; \
             INSERT INTO change (what, id) VALUES (1, '\\x{}'); COMMIT",
            hex::encode(shop.to_bytes())
        ))
        .await
        .unwrap();
    eventually(SOON, async || (rollbacks(&database).await > before).then_some(())).await;
    client.batch_execute("ALTER TABLE elsewhere RENAME TO instance").await.unwrap();
    let heard = tokio::time::timeout(SOON, changes.recv()).await.expect("it is found again");
    assert_eq!(heard.unwrap(), Change::Instance(shop));
    a.close().await;
}

#[tokio::test]
async fn while_somebody_writes_for_long_each_change_is_told_once() {
    let database = Database::new().await;
    let (a, b) = (database.node("a").await, database.node("b").await);
    // Whatever comes now is not over for whoever asks the server.
    let long = database.server.connect(&database.name).await;
    long.batch_execute("BEGIN; SELECT pg_current_xact_id()").await.unwrap();
    let mut changes = b.changes();
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(Change::Instance(instance(&a, &format!("shop{n}")).await));
        // Each makes it look again.
        let told = tokio::time::timeout(SOON, changes.recv()).await.expect("it is told").unwrap();
        let known = made.iter().position(|known| *known == told);
        assert_eq!(known, Some(n), "told before: {told:?}");
    }
    long.batch_execute("COMMIT").await.unwrap();
    a.close().await;
    b.close().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_much_is_asked_leases_are_renewed_and_events_taken() {
    let database = Database::new().await;
    let a = database.node("a").await;
    let shop = instance(&a, "shop").await;
    let shard = a.shard_of(shop);
    let epoch = a.leases().borrow()[&shard].epoch;
    let client = database.server.connect(&database.name).await;
    // Every question for credentials waits until the server gives up on it.
    client.batch_execute("BEGIN; LOCK TABLE audit IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let store = a.clone();
        asking.spawn(async move {
            loop {
                let _ = store.audit(None, None, 10).await;
            }
        });
    }
    for n in 0..20 {
        let begun = Instant::now();
        say(&a, shop, &n.to_string()).await.unwrap();
        assert!(a.holds(shard, epoch), "after {n}");
        // Long enough that a lease which is not renewed ends.
        tokio::time::sleep(Duration::from_millis(200).saturating_sub(begun.elapsed())).await;
    }
    asking.shutdown().await;
    client.batch_execute("COMMIT").await.unwrap();
    a.close().await;
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
