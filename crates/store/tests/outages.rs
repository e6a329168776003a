//! A database that is away, slow, read-only or another one than it was: nodes say so, lose nothing,
//! and go on by themselves. Each test has a server of its own.

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
mod server;

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nodes::{SOON, eventually, instance, lane, options, say, settlement};
use server::Server;
use tempfile::TempDir;
use zapbus_event::{InstanceId, Position};
use zapbus_store::{AppendError, Appends, Postgres, Store, StoreError, Urgency};

/// A folder that the user of a server may write to.
fn open_folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    (folder, path)
}

/// A server that nobody else uses.
async fn own_server(path: &Path) -> Arc<Server> {
    let programs = server::programs_or_skip();
    let path = path.join("pg");
    Arc::new(tokio::task::spawn_blocking(move || Server::make(programs, path)).await.unwrap())
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap();
}

fn short(postgres: &mut Postgres) {
    postgres.lease = Duration::from_millis(900);
}

/// Every event that was answered is stored.
async fn check_stored(store: &Store, shop: InstanceId, answered: &[(String, Position)]) {
    for (key, seq) in answered {
        let found = store.event_at_in(store.shard_of(shop), *seq).await.unwrap();
        assert_eq!(found.unwrap().dedup_key.as_deref(), Some(key.as_str()), "{seq} was answered");
    }
}

/// Appends until told to stop; what was answered, and how often it was told to repeat.
async fn keep_saying(
    store: Store,
    shop: InstanceId,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> (Vec<(String, Position)>, usize) {
    let (mut answered, mut refused) = (Vec::new(), 0);
    let mut n = 0;
    while !*stop.borrow_and_update() {
        n += 1;
        let key = n.to_string();
        match say(&store, shop, &key).await {
            Ok(seq) => answered.push((key, seq)),
            Err(AppendError::Unavailable { .. }) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    (answered, refused)
}

async fn until_stopped(store: &Store) {
    let mut health = store.health();
    let stopped = health.wait_for(|it| it.appends != Appends::Ok);
    tokio::time::timeout(SOON, stopped).await.expect("it says so").unwrap();
}

async fn until_going(store: &Store) {
    let mut health = store.health();
    let going = health.wait_for(|it| it.appends == Appends::Ok);
    tokio::time::timeout(SOON, going).await.expect("it goes on by itself").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_is_no_loss() {
    let (_folder, path) = open_folder();
    let server = own_server(&path).await;
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
    check_stored(&store, shop, &answered).await;
    store.close().await;
    blocking(move || server.stop("immediate")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_takes_no_writes_is_said_to_be_so_until_it_does() {
    let (_folder, path) = open_folder();
    let server = own_server(&path).await;
    let store = Store::open(options(&server.url("postgres"), "a", short)).await.unwrap().store;
    let shop = instance(&store, "shop").await;
    let lane = lane(&store, shop).await;
    let first = say(&store, shop, "first").await.unwrap();
    let client = server.connect("postgres").await;
    client.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until_stopped(&store).await;
    let refused = say(&store, shop, "second").await;
    assert!(
        matches!(&refused, Err(AppendError::Unavailable { reason }) if reason.contains("read-only")),
        "{refused:?}"
    );
    let settled = store.settle(vec![settlement(lane, first)], Urgency::Now).await;
    assert!(
        matches!(settled, Err(StoreError::Unavailable { .. } | StoreError::LeaseLost { .. })),
        "{settled:?}"
    );
    // It does not waver: reading goes on all the while.
    for _ in 0..20 {
        assert_ne!(store.health().borrow().appends, Appends::Ok);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.instances(None, None, 100).await.unwrap().len(), 2);
    client.batch_execute("ALTER SYSTEM RESET default_transaction_read_only").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    until_going(&store).await;
    let second = say(&store, shop, "second").await.unwrap();
    assert!(second > first);
    let lane_moves = async || store.settle(vec![settlement(lane, first)], Urgency::Now).await.ok();
    eventually(SOON, lane_moves).await;
    store.close().await;
    blocking(move || server.stop("immediate")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_holds_nobody_for_long() {
    let (_folder, path) = open_folder();
    let server = own_server(&path).await;
    let store = Store::open(options(&server.url("postgres"), "a", short)).await.unwrap().store;
    let shop = instance(&store, "shop").await;
    say(&store, shop, "first").await.unwrap();
    // Somebody else has locked the journal, and takes their time.
    let client = server.connect("postgres").await;
    client.batch_execute("BEGIN; LOCK TABLE journal IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for n in 0..200 {
        let store = store.clone();
        asking.spawn(async move {
            let said = say(&store, shop, &format!("during {n}")).await;
            assert!(matches!(said, Err(AppendError::Unavailable { .. })), "{said:?}");
            // And those who read.
            let at = store.position_at_in(store.shard_of(shop), zapbus_event::Timestamp::default());
            assert!(at.await.is_err());
        });
    }
    asking.join_all().await;
    let took = begun.elapsed();
    println!("200 callers were answered within {took:?}");
    assert!(took < Duration::from_secs(60));
    // However many ask, connections are as many as were allowed: four, one that listens, ours.
    let row = client
        .query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'zapbus'", &[])
        .await
        .unwrap();
    assert!(row.get::<_, i64>(0) <= 5);
    client.batch_execute("COMMIT").await.unwrap();
    let said = async || say(&store, shop, "after").await.ok();
    eventually(SOON, said).await;
    store.close().await;
    blocking(move || server.stop("immediate")).await;
}

/// A standby that waits for nobody's word but confirms every commit.
async fn standby_of(server: &Arc<Server>, path: &Path) -> Arc<Server> {
    let (server, folder) = (Arc::clone(server), path.join("standby"));
    Arc::new(tokio::task::spawn_blocking(move || server.standby(folder)).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_nothing() {
    let (_folder, path) = open_folder();
    let server = own_server(&path).await;
    let standby = standby_of(&server, &path).await;
    server.wait_for_standbys().await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres",
        server.port, standby.port
    );
    let facts = async || {
        let facts = Store::server_facts(&Postgres::new(&url)).await.unwrap();
        (facts.synchronous_standbys == Some(1)).then_some(facts)
    };
    let facts = eventually(SOON, facts).await;
    assert_eq!((facts.synchronous_standby_names.as_str(), facts.read_only), ("*", false));
    let other = server.port.to_string();
    let asleep = Postgres::new(url.replace(&format!("127.0.0.1:{other},"), ""));
    assert!(Store::server_facts(&asleep).await.unwrap().read_only, "it says which one it is");

    let store = Store::open(options(&url, "a", short)).await.unwrap().store;
    let shop = instance(&store, "shop").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let saying = tokio::spawn(keep_saying(store.clone(), shop, stopped));
    let head = store.head_in(store.shard_of(shop));
    eventually(SOON, async || (head.borrow().0 > 50).then_some(())).await;
    let began = Instant::now();
    {
        let (server, standby) = (Arc::clone(&server), Arc::clone(&standby));
        blocking(move || {
            server.stop("immediate");
            standby.promote();
        })
        .await;
    }
    // It waits for no standby of its own any more.
    let client = standby.connect("postgres").await;
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = ''").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let again = async || say(&store, shop, "after the failover").await.ok();
    eventually(SOON, again).await;
    println!("events are taken again {:?} after the server was killed", began.elapsed());
    stop.send(true).unwrap();
    let (answered, refused) = saying.await.unwrap();
    assert!(answered.len() > 20 && refused > 0, "{} {refused}", answered.len());
    check_stored(&store, shop, &answered).await;
    store.close().await;
    blocking(move || standby.stop("immediate")).await;
}

#[tokio::test]
async fn only_a_server_that_the_certificate_names_is_trusted() {
    let (_folder, path) = open_folder();
    let programs = server::programs_or_skip();
    let stranger_folder = tempfile::tempdir().unwrap();
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
    // Another authority, though of the same name.
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = stranger_folder.path().join("other.crt");
    std::fs::write(&file, stranger.cert.pem()).unwrap();
    let strange = format!("sslmode=verify-full&sslrootcert={}", file.display());
    let other_root = plan("localhost", &strange).await.unwrap_err().to_string();
    assert!(other_root.contains("certificate"), "{other_root}");
    plan("localhost", "sslmode=disable").await.unwrap();
    // And it is spoken to that way by a node, its listener included.
    let url = format!("postgres://postgres@localhost:{}/postgres?{trusted}", server.port);
    let store = Store::open(options(&url, "a", |_| {})).await.unwrap().store;
    let shop = instance(&store, "shop").await;
    say(&store, shop, "over TLS").await.unwrap();
    let client = server.connect("postgres").await;
    let listens = async || {
        let row = client
            .query_one(
                "SELECT count(*), count(*) FILTER (WHERE s.ssl) FROM pg_stat_activity a \
                 JOIN pg_stat_ssl s USING (pid) WHERE a.application_name = 'zapbus'",
                &[],
            )
            .await
            .unwrap();
        let (all, encrypted): (i64, i64) = (row.get(0), row.get(1));
        (all >= 2 && all == encrypted).then_some(())
    };
    eventually(SOON, listens).await;
    store.close().await;
    blocking(move || server.stop("immediate")).await;
}
