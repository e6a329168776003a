//! Several nodes on one database, and short words for what their tests do often.

use std::time::{Duration, Instant};

use zapbus_event::{InstanceId, Position, Timestamp};
use zapbus_store::{
    Append, AppendError, Key, LIVE, LaneId, NewEvent, Options, Postgres, Settlement, ShardId,
    Start, Store,
};

use crate::{
    engine::{self, actor, delivered, keyed, new_destination, new_instance},
    server::{self, Server},
};

/// A database that several nodes share.
pub(crate) struct Database {
    pub(crate) server: &'static Server,
    pub(crate) name: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.forget(&self.name);
    }
}

impl Database {
    pub(crate) async fn new() -> Self {
        let server = server::shared().await;
        Self { server, name: server.database(false).await }
    }

    pub(crate) async fn node(&self, name: &str) -> Store {
        self.node_with(name, |_| {}).await
    }

    pub(crate) async fn node_with(&self, name: &str, change: impl FnOnce(&mut Postgres)) -> Store {
        Store::open(options(&self.server.url(&self.name), name, change)).await.unwrap().store
    }
}

pub(crate) fn options(url: &str, name: &str, change: impl FnOnce(&mut Postgres)) -> Options {
    let mut options = Options::new("unused");
    options.keys = vec![Key::parse(server::KEY).unwrap()];
    let mut postgres = Postgres {
        shards: 4,
        node: name.to_owned(),
        connections: 4,
        handover: Duration::from_millis(200),
        ..Postgres::new(url)
    };
    change(&mut postgres);
    options.postgres = Some(postgres);
    options
}

pub(crate) async fn instance(store: &Store, name: &str) -> InstanceId {
    let account = store.account_by_name("default").await.unwrap().unwrap().id;
    let instance = new_instance(account, name);
    let id = instance.id;
    let born = engine::draft(zapbus_event::Kind::InstanceLifecycle, r#"{"action":"created"}"#);
    store.create_instance(instance, born, &actor(), None).await.unwrap();
    id
}

pub(crate) async fn lane(store: &Store, instance: InstanceId) -> LaneId {
    let account = store.account_by_name("default").await.unwrap().unwrap().id;
    let destination = new_destination(account, Some(instance), &engine::unique().to_string());
    let lane = LaneId { destination: destination.id, run: LIVE };
    store.create_destination(destination, Start::Now, &actor(), None).await.unwrap();
    lane
}

pub(crate) async fn say(
    store: &Store,
    instance: InstanceId,
    key: &str,
) -> Result<Position, AppendError> {
    let events = vec![NewEvent { instance, draft: keyed("x", &[key]) }];
    Ok(store.append(Append { events, body: None }).await?[0].seq)
}

pub(crate) fn settlement(lane: LaneId, cursor: Position) -> Settlement {
    Settlement {
        lane,
        epoch: None,
        shard: ShardId::default(),
        cursor: Some(cursor),
        health: None,
        rows: vec![delivered(cursor, Timestamp::from_millis(1))],
        events: Vec::new(),
    }
}

/// Waits for something that other nodes do by themselves.
pub(crate) async fn eventually<T>(within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn until_held(store: &Store, shards: usize) {
    let mut leases = store.leases();
    let held =
        leases.wait_for(|held| held.len() == shards && held.values().all(|lease| !lease.leaving));
    tokio::time::timeout(SOON, held).await.expect("shards are spread").unwrap();
}
