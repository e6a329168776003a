//! Named subscribers and tickets.

use std::collections::BTreeMap;

use zapbus_event::{AccountId, InstanceId, Position, SubscriberId, Timestamp};
use zapbus_store::{
    Advance, OpenEvent, Progress, RetentionPolicy, ShardId, Subscriber, SubscriberQuery,
    subscriber::SUBSCRIBERS,
};

use crate::engine::*;

fn subscriber(
    engine: &Engine,
    account: Option<AccountId>,
    instance: Option<InstanceId>,
    name: &str,
) -> Subscriber {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&unique().to_be_bytes());
    Subscriber {
        id: SubscriberId::from_bytes(id),
        account,
        instance,
        owner: "crd_x".to_owned(),
        name: name.to_owned(),
        dialect: "native".to_owned(),
        filter: filter(&["message.*"]),
        progress: Progress::at([(ShardId::default(), Position(7))]),
        created_at: engine.now(),
        used_at: engine.now(),
    }
}

fn open(seq: u64, deliveries: u32, at: Timestamp) -> OpenEvent {
    let shard = ShardId::default();
    OpenEvent { shard, seq: Position(seq), deliveries, sent_at: at, parked: false, round: 0 }
}

fn advance(sent: u64, open: Vec<OpenEvent>, done: &[u64]) -> Advance {
    let sent = BTreeMap::from([(ShardId::default(), Position(sent))]);
    let done = done.iter().map(|seq| (ShardId::default(), Position(*seq))).collect();
    Advance { progress: Progress { sent, open }, done }
}

#[tokio::test]
async fn a_subscriber_is_found_again_where_it_stood() {
    let mut engine = Engine::start().await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    let new = subscriber(&engine, Some(account), Some(instance), "crm");
    assert_eq!(engine.store().open_subscriber(new.clone()).await.unwrap(), new);
    engine.advance(MINUTE);
    let now = engine.now();
    let news = advance(12, vec![open(9, 1, now), open(12, 1, now)], &[]);
    let merged = engine.store().advance_subscribers(vec![(new.id, news)]).await.unwrap();
    let merged = merged[0].clone().unwrap();
    assert_eq!(merged.sent_in(ShardId::default()), Position(12));
    engine.reopen().await;
    // What it would begin with now makes no difference.
    let again = Subscriber {
        progress: Progress::at([(ShardId::default(), Position(99))]),
        used_at: engine.now(),
        ..new.clone()
    };
    let found = engine.store().open_subscriber(again).await.unwrap();
    assert_eq!(found, Subscriber { progress: merged, used_at: engine.now(), ..new });
}

#[tokio::test]
async fn nodes_that_write_at_once_lose_nothing_of_each_other() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let new = subscriber(&engine, Some(account), None, "crm");
    let new = Subscriber { progress: Progress::default(), ..new };
    engine.store().open_subscriber(new.clone()).await.unwrap();
    let now = engine.now();
    // One offers all; eight others have heard of some each.
    let opened = (1..=80).map(|seq| open(seq, 1, now)).collect();
    let writes = vec![(new.id, advance(80, opened, &[]))];
    engine.store().advance_subscribers(writes).await.unwrap();
    let mut tasks = Vec::new();
    for writer in 0..8_u64 {
        let (store, id) = (engine.store().clone(), new.id);
        tasks.push(tokio::spawn(async move {
            for step in 0..9 {
                let news = advance(80, Vec::new(), &[writer * 10 + step + 1]);
                store.advance_subscribers(vec![(id, news)]).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let found = engine.store().subscriber(new.id).await.unwrap().unwrap();
    let left: Vec<u64> = found.progress.open.iter().map(|event| event.seq.0).collect();
    assert_eq!(left, [10, 20, 30, 40, 50, 60, 70, 80]);
}

#[tokio::test]
async fn one_that_is_gone_is_said_to_be_gone() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let (one, other) = (
        subscriber(&engine, Some(account), None, "one"),
        subscriber(&engine, Some(account), None, "other"),
    );
    for new in [&one, &other] {
        engine.store().open_subscriber(new.clone()).await.unwrap();
    }
    assert!(engine.store().delete_subscriber(one.id).await.unwrap());
    assert!(!engine.store().delete_subscriber(one.id).await.unwrap());
    let news = || advance(9, Vec::new(), &[]);
    let merged =
        engine.store().advance_subscribers(vec![(one.id, news()), (other.id, news())]).await;
    let merged = merged.unwrap();
    assert_eq!(merged[0], None);
    assert_eq!(merged[1].as_ref().unwrap().sent_in(ShardId::default()), Position(9));
    assert_eq!(engine.store().subscriber(one.id).await.unwrap(), None);
}

#[tokio::test]
async fn they_are_listed_by_account_and_instance() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let (shop, help) = (engine.instance("shop").await, engine.instance("help").await);
    let mut made = Vec::new();
    for (instance, name) in [(Some(shop), "a"), (Some(help), "b"), (None, "c")] {
        let new = subscriber(&engine, Some(account), instance, name);
        made.push(engine.store().open_subscriber(new).await.unwrap());
    }
    let everybodys = subscriber(&engine, None, None, "d");
    made.push(engine.store().open_subscriber(everybodys).await.unwrap());
    let list = async |query: SubscriberQuery| {
        let found = engine.store().subscribers(query).await.unwrap();
        found.into_iter().map(|it| it.name).collect::<Vec<_>>().concat()
    };
    let all = SubscriberQuery { limit: 10, ..SubscriberQuery::default() };
    assert_eq!(list(all).await, "abcd");
    assert_eq!(list(SubscriberQuery { account: Some(account), ..all }).await, "abc");
    assert_eq!(list(SubscriberQuery { instance: Some(help), ..all }).await, "b");
    let rest = SubscriberQuery { after: Some(made[0].id), limit: 2, ..all };
    assert_eq!(list(rest).await, "bc");
    // They go with what they belong to.
    engine.store().mark_instance_deleted(help, message("gone"), &actor()).await.unwrap();
    engine.store().drop_instance(help).await.unwrap();
    assert_eq!(list(SubscriberQuery { instance: Some(help), ..all }).await, "");
    assert_eq!(list(all).await, "acd");
}

#[tokio::test]
async fn those_that_nobody_uses_are_forgotten() {
    let engine = Engine::start().await;
    let account = engine.account().await.id;
    let instance = engine.instance("shop").await;
    let first = subscriber(&engine, Some(account), Some(instance), "first");
    engine.store().open_subscriber(first.clone()).await.unwrap();
    engine.advance(MINUTE);
    for _ in 0..SUBSCRIBERS {
        let new = subscriber(&engine, Some(account), Some(instance), "x");
        engine.store().open_subscriber(new).await.unwrap();
    }
    assert_eq!(engine.store().subscriber(first.id).await.unwrap(), None);
    let query = SubscriberQuery { limit: SUBSCRIBERS + 1, ..SubscriberQuery::default() };
    assert_eq!(engine.store().subscribers(query).await.unwrap().len(), SUBSCRIBERS);

    engine.advance(29 * DAY);
    let used = subscriber(&engine, Some(account), Some(instance), "used");
    engine.store().open_subscriber(used.clone()).await.unwrap();
    engine.advance(2 * DAY);
    engine.prune(&RetentionPolicy::default()).await;
    let left = engine.store().subscribers(query).await.unwrap();
    assert_eq!(left.iter().map(|it| it.id).collect::<Vec<_>>(), [used.id]);
}

#[tokio::test]
async fn a_ticket_is_taken_once_and_in_time() {
    let engine = Engine::start().await;
    let store = engine.store();
    let until = engine.now() + MINUTE;
    for ticket in [1, 2, 3] {
        store.keep_ticket([ticket; 32], vec![ticket, 7], until).await.unwrap();
    }
    let (one, two) = tokio::join!(
        store.take_ticket([1; 32], engine.now()),
        store.take_ticket([1; 32], engine.now()),
    );
    let taken: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(taken, [vec![1, 7]]);
    assert_eq!(store.take_ticket([9; 32], engine.now()).await.unwrap(), None);
    engine.advance(MINUTE);
    assert_eq!(store.take_ticket([2; 32], engine.now()).await.unwrap(), None);
    engine.advance(MINUTE);
    engine.prune(&RetentionPolicy::default()).await;
    // Late, it would have been refused in any case; by now there is nothing left of it.
    let early = Timestamp::from_millis(BEGIN);
    assert_eq!(store.take_ticket([3; 32], early).await.unwrap(), None);
}
