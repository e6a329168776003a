//! What one node changes and the others hear of.

use super::*;

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
