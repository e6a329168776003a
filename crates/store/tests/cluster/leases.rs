//! Who runs the lanes of a shard, and what others may not move.

use super::*;

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
