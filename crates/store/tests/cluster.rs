//! Several nodes on one PostgreSQL: what no single node can show.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

/// The engine that this suite asks.
const POSTGRES: bool = true;

#[path = "contract/engine.rs"]
#[expect(dead_code, reason = "what the contract needs besides")]
mod engine;
#[path = "contract/server.rs"]
mod server;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use engine::{actor, delivered, keyed, message, new_destination, new_instance};
use server::Server;
use zapbus_event::{InstanceId, Position, Timestamp};
use zapbus_store::{
    Append, AppendError, Appends, Change, InstancePatch, Key, LIVE, LaneId, Lease, Limit, NewEvent,
    Options, Postgres, Reader, Settlement, ShardId, Start, Store, StoreError, Urgency,
};

/// A database that several nodes share.
struct Database {
    server: &'static Server,
    name: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.forget(&self.name);
    }
}

impl Database {
    async fn new() -> Self {
        let server = server::shared().await;
        Self { server, name: server.database(false).await }
    }

    async fn node(&self, name: &str) -> Store {
        self.node_with(name, |_| {}).await
    }

    async fn node_with(&self, name: &str, change: impl FnOnce(&mut Postgres)) -> Store {
        Store::open(options(&self.server.url(&self.name), name, change)).await.unwrap().store
    }
}

fn options(url: &str, name: &str, change: impl FnOnce(&mut Postgres)) -> Options {
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

async fn instance(store: &Store, name: &str) -> InstanceId {
    let account = store.account_by_name("default").await.unwrap().unwrap().id;
    let instance = new_instance(account, name);
    let id = instance.id;
    let born = engine::draft(zapbus_event::Kind::InstanceLifecycle, r#"{"action":"created"}"#);
    store.create_instance(instance, born, &actor(), None).await.unwrap();
    id
}

async fn lane(store: &Store, instance: InstanceId) -> LaneId {
    let account = store.account_by_name("default").await.unwrap().unwrap().id;
    let destination = new_destination(account, Some(instance), &engine::unique().to_string());
    let lane = LaneId { destination: destination.id, run: LIVE };
    store.create_destination(destination, Start::Now, &actor(), None).await.unwrap();
    lane
}

async fn say(store: &Store, instance: InstanceId, key: &str) -> Result<Position, AppendError> {
    let events = vec![NewEvent { instance, draft: keyed("x", &[key]) }];
    Ok(store.append(Append { events, body: None }).await?[0].seq)
}

fn settlement(lane: LaneId, cursor: Position) -> Settlement {
    Settlement {
        lane,
        shard: ShardId::default(),
        cursor: Some(cursor),
        health: None,
        rows: vec![delivered(cursor, Timestamp::from_millis(1))],
        events: Vec::new(),
    }
}

/// Waits for something that other nodes do by themselves.
async fn eventually<T>(within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < until, "not within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const SOON: Duration = Duration::from_secs(20);

async fn until_held(store: &Store, shards: usize) {
    let mut leases = store.leases();
    let held =
        leases.wait_for(|held| held.len() == shards && held.values().all(|lease| !lease.leaving));
    tokio::time::timeout(SOON, held).await.expect("shards are spread").unwrap();
}

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
    let log = a.search(zapbus_store::DeliveryQuery::default(), None, 100).await.unwrap();
    assert_eq!(log.deliveries.len(), 12);
    for line in log.deliveries {
        assert!(a.delivery(line.id.to_string().parse().unwrap()).await.unwrap().is_some());
    }
    a.close().await;
}

/// A server of its own, because it is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let programs = server::programs_or_skip();
    let path = folder.path().to_owned();
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let server = Arc::new(
        tokio::task::spawn_blocking(move || Server::make(programs, path.join("pg"))).await.unwrap(),
    );
    let short = |postgres: &mut Postgres| postgres.lease = Duration::from_millis(900);
    let store = Store::open(options(&server.url("postgres"), "a", short)).await.unwrap().store;
    let shop = instance(&store, "shop").await;
    let shard = store.shard_of(shop);
    let epoch = store.leases().borrow()[&shard].epoch;
    assert!(store.holds(shard, epoch));
    let mut health = store.health();
    let mut answered = Vec::new();
    let writing = async {
        let mut refused = 0;
        for n in 0..100_000 {
            let key = n.to_string();
            match say(&store, shop, &key).await {
                Ok(seq) => answered.push((key, seq)),
                Err(AppendError::Unavailable { .. }) => {
                    refused += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(other) => panic!("{other}"),
            }
            let after = answered.len();
            if refused > 0
                && after > 200
                && n % 50 == 0
                && store.health().borrow().appends == Appends::Ok
            {
                break;
            }
        }
        refused
    };
    let restart = {
        let server = Arc::clone(&server);
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            tokio::task::spawn_blocking(move || {
                server.stop("immediate");
                std::thread::sleep(Duration::from_millis(1_500));
                server.start();
            })
            .await
            .unwrap();
        }
    };
    let watching = async {
        let stopped = health.wait_for(|it| it.appends != Appends::Ok);
        tokio::time::timeout(SOON, stopped).await.expect("it says so").unwrap();
        // It cannot know any more that no other node has its shards.
        eventually(SOON, async || (!store.holds(shard, epoch)).then_some(())).await;
    };
    let (refused, (), ()) = tokio::time::timeout(Duration::from_secs(60), async {
        tokio::join!(writing, restart, watching)
    })
    .await
    .expect("it goes on by itself");
    assert!(refused > 0);
    // Nobody else was there to take them.
    eventually(SOON, async || store.holds(shard, epoch).then_some(())).await;
    for (key, seq) in &answered {
        let found = store.event_at_in(store.shard_of(shop), *seq).await.unwrap();
        assert_eq!(found.unwrap().dedup_key.as_deref(), Some(key.as_str()), "{seq} was answered");
    }
    store.close().await;
    tokio::task::spawn_blocking(move || server.stop("immediate")).await.unwrap();
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
async fn only_a_server_that_the_certificate_names_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let programs = server::programs_or_skip();
    let path = folder.path().to_owned();
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (root, key) = (path.join("root.crt"), path.join("root.key"));
    std::fs::write(&root, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let server = tokio::task::spawn_blocking(move || {
        let server = Server::make(programs, path.join("pg"));
        // The server wants them to be its own, and nobody else's.
        let script = "cp root.crt pg/data/server.crt && cp root.key pg/data/server.key \
                      && chmod 600 pg/data/server.key && echo ssl=on >> pg/data/postgresql.conf";
        let status = server::as_server_user(std::path::Path::new("sh"))
            .args(["-c", script])
            .current_dir(&path)
            .status()
            .unwrap();
        assert!(status.success());
        server.stop("fast");
        server.start();
        server
    })
    .await
    .unwrap();
    let plan = async |host: &str, more: &str| {
        let url = format!("postgres://postgres@{host}:{}/postgres?{more}", server.port);
        Store::plan_postgres(&Postgres::new(url)).await
    };
    let trusted = format!("sslmode=verify-full&sslrootcert={}", root.display());
    plan("localhost", &trusted).await.unwrap();
    let other_name = plan("127.0.0.1", &trusted).await.unwrap_err().to_string();
    assert!(other_name.contains("certificate"), "{other_name}");
    let other_root = plan("localhost", "sslmode=verify-full").await.unwrap_err().to_string();
    assert!(other_root.contains("certificate"), "{other_root}");
    plan("localhost", "sslmode=disable").await.unwrap();
    tokio::task::spawn_blocking(move || server.stop("immediate")).await.unwrap();
}
