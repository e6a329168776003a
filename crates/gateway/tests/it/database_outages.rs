//! A database that is away, read-only, stuck, slow, or replaced by its standby: events are refused
//! with 503, lanes stop and use up no attempt, and everything goes on by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde_json::{Value, json};
use zapbus_gateway::config::Secret;
use zapbus_store::ShardId;

use crate::{
    api::{expect_problem, text},
    api_cloud_api::{connect, post, put, source, types},
    engine::{Database, needs_postgres},
    lane::{arrivals, deliveries, expect_chats_in_order, hook, impatient, is, post_many},
    postgres::{KEY, Server, programs_or_skip},
    proxy::{Link, Proxy},
    receiver::{Receiver, Reply},
    server::{Gateway, eventually, expect_json, text_message},
};

const CHATS: usize = 4;
const EACH: usize = 10;
/// What each delivery takes: there is a backlog when the database fails.
const A_WHILE: Duration = Duration::from_millis(100);

/// A gateway with a backlog, whose database fails.
struct Story {
    gateway: Gateway,
    receiver: Receiver,
    destination: String,
}

impl Story {
    async fn begin(gateway: Gateway) -> Self {
        let receiver = Receiver::scripted(|_| Reply::ok().after(A_WHILE)).await;
        gateway.create_instance("shop").await;
        let one = json!({ "max_in_flight": 1 });
        let destination = hook(&gateway, &receiver.url("/"), one).await;
        post_many(&gateway, CHATS, CHATS * EACH).await;
        receiver.wait_for(3).await;
        Self { gateway, receiver, destination }
    }

    async fn post(&self, id: &str) -> reqwest::Response {
        let event = text_message("another", id, "x");
        self.gateway.post("/v1/instances/shop/events", &event).await
    }

    /// Nothing is taken, and nothing is sent once what was under way has come to its end.
    async fn stands_still(&self) {
        let refused = eventually("an event is refused", async || {
            let answer = self.post("another-refused").await;
            (answer.status() != 200).then_some(answer)
        })
        .await;
        let problem = expect_problem(refused, 503, "unavailable").await;
        assert!(problem["detail"].as_str().unwrap().contains("database"), "{problem}");
        eventually("nothing is sent", async || {
            let before = self.receiver.received().len();
            tokio::time::sleep(5 * A_WHILE).await;
            (self.receiver.received().len() == before).then_some(())
        })
        .await;
        let sent = self.receiver.received().len();
        assert!(sent < CHATS * EACH, "all {sent} were sent");
    }

    async fn is_not_ready(&self) {
        let ready = format!("{}/readyz", self.gateway.url);
        let why = eventually("it is not ready", async || {
            let answer = self.gateway.client.get(&ready).send().await.unwrap();
            (answer.status() == 503).then_some(answer)
        })
        .await;
        let why = expect_json(why, 503).await;
        assert_eq!(why["reason"], "store_unavailable", "{why}");
    }

    /// Everything goes on, as if nothing had been.
    async fn goes_on(&self) {
        eventually("events are taken again", async || {
            (self.post("another-last").await.status() == 200).then_some(())
        })
        .await;
        let ready = format!("{}/readyz", self.gateway.url);
        eventually("it is ready again", async || {
            (self.gateway.client.get(&ready).send().await.unwrap().status() == 200).then_some(())
        })
        .await;
        let all = |received: &[_]| {
            let arrivals = arrivals(received);
            // One that was refused may have been stored before the answer was lost.
            let own = arrivals.keys().filter(|id| *id != "another-refused").count();
            own == CHATS * EACH + 1
        };
        let received = self.receiver.wait_until("everything arrives", all).await;
        expect_chats_in_order(&received, CHATS, EACH);
        // What was in flight may come again: one, as the window is of one.
        let twice: usize = arrivals(&received).values().map(|times| times - 1).sum();
        assert!(twice <= 1, "{twice} came twice");
        let log = eventually("everything is settled", async || {
            let log = deliveries(&self.gateway, &format!("destination={}", self.destination)).await;
            let settled = log.iter().filter(|it| it["status"] == "delivered").count();
            (settled > CHATS * EACH && settled == log.len()).then_some(log)
        })
        .await;
        let once = |it: &Value| it["attempts"] == 1;
        assert!(log.iter().all(once), "an attempt was used up: {log:#?}");
        is(&self.gateway, &self.destination, "flowing").await;
    }
}

async fn end_connections(admin: &tokio_postgres::Client, name: &str) {
    let query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    admin.query(query, &[&name]).await.unwrap();
}

/// Changes a setting of the gateway's database for every connection.
async fn alter(gateway: &Gateway, setting: &str) {
    let database = gateway.database();
    let (admin, name) = (database.connect_beside().await, database.name());
    admin.batch_execute(&format!("ALTER DATABASE {name} {setting}")).await.unwrap();
    end_connections(&admin, name).await;
}

#[tokio::test]
async fn a_database_that_is_away_is_waited_for() {
    needs_postgres!();
    let story = Story::begin(Gateway::start(impatient).await).await;
    alter(&story.gateway, "ALLOW_CONNECTIONS false").await;
    story.stands_still().await;
    story.is_not_ready().await;
    // What only reads is put off too, and says so.
    expect_problem(story.gateway.get("/v1/deliveries").await, 503, "unavailable").await;
    alter(&story.gateway, "ALLOW_CONNECTIONS true").await;
    story.goes_on().await;
    story.gateway.stop().await;
}

#[tokio::test]
async fn a_database_that_is_read_only_is_as_good_as_away() {
    needs_postgres!();
    let story = Story::begin(Gateway::start(impatient).await).await;
    alter(&story.gateway, "SET default_transaction_read_only = on").await;
    story.stands_still().await;
    story.is_not_ready().await;
    // Who only reads notices nothing.
    story.gateway.read("/v1/deliveries").await;
    alter(&story.gateway, "RESET ALL").await;
    story.goes_on().await;
    story.gateway.stop().await;
}

#[tokio::test]
async fn a_database_whose_tables_are_locked_is_not_waited_for_without_end() {
    needs_postgres!();
    let story = Story::begin(Gateway::start(impatient).await).await;
    // Somebody's migration, say: it holds on for longer than a statement may take.
    let somebody = story.gateway.database().connect().await;
    let lock = "BEGIN; LOCK TABLE lease, journal IN ACCESS EXCLUSIVE MODE";
    somebody.batch_execute(lock).await.unwrap();
    story.stands_still().await;
    somebody.batch_execute("COMMIT").await.unwrap();
    story.goes_on().await;
    story.gateway.stop().await;
}

/// A gateway on a database that it reaches by way of a proxy.
async fn start_behind(proxy: &Proxy, database: &Database) -> Gateway {
    Gateway::start_on_sqlite(|config| {
        impatient(config);
        database.configure(config);
        config.database_url = Some(Secret::new(database.url_by_way_of(proxy.address())));
    })
    .await
}

#[tokio::test]
async fn a_database_that_is_too_slow_is_as_good_as_away() {
    needs_postgres!();
    let database = Database::make(true).await;
    let proxy = Proxy::start(database.address()).await;
    let story = Story::begin(start_behind(&proxy, &database).await).await;
    // Longer there and back than anybody waits for an answer.
    proxy.set(Link::Slow(Duration::from_secs(3))).await;
    story.stands_still().await;
    story.is_not_ready().await;
    proxy.set(Link::Good).await;
    story.goes_on().await;
    story.gateway.stop().await;
}

/// A server that stops when the test ends.
struct Own(Server);

impl Own {
    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.0.port).into()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.stop("immediate");
    }
}

/// A server and its standby, whose word commits wait for.
async fn two_servers(folder: PathBuf) -> (Own, Own) {
    let programs = programs_or_skip();
    let made = tokio::task::spawn_blocking(move || {
        let first = Own(Server::make(programs, folder.join("first")));
        let second = Own(first.0.standby(folder.join("second")));
        (first, second)
    });
    let (first, second) = made.await.unwrap();
    first.0.wait_for_standbys().await;
    let client = first.0.connect("postgres").await;
    eventually("commits wait for the standby", async || {
        let query = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
        client.query_opt(query, &[]).await.unwrap().map(drop)
    })
    .await;
    (first, second)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_over_behind_the_same_address() {
    needs_postgres!();
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let (first, second) = two_servers(folder.path().to_owned()).await;
    let proxy = Proxy::start(first.address()).await;
    let gateway = Gateway::start_on_sqlite(|config| {
        impatient(config);
        let url = format!("postgres://postgres@{}/postgres", proxy.address());
        config.database_url = Some(Secret::new(url));
        config.encryption_key = vec![Secret::new(KEY)];
    })
    .await;
    let story = Story::begin(gateway).await;
    drop(tokio::task::spawn_blocking(|| drop(first)).await);
    story.stands_still().await;
    story.is_not_ready().await;
    proxy.lead_to(second.address());
    let second = tokio::task::spawn_blocking(move || {
        second.0.promote();
        second
    });
    let second = second.await.unwrap();
    story.goes_on().await;
    story.gateway.stop().await;
    drop(tokio::task::spawn_blocking(|| drop(second)).await);
}

/// What Meta posts when these numbers got a message each.
fn messages_to(numbers: &[String]) -> String {
    let change = |number: &String| {
        json!({ "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": { "display_phone_number": "5511999990000", "phone_number_id": number },
            "contacts": [{ "profile": { "name": "Ana Exemplo" }, "wa_id": "5511999990001" }],
            "messages": [{
                "from": "5511999990001", "id": format!("wamid.{number}"),
                "timestamp": "1767225601", "type": "text", "text": { "body": "Olá" },
            }],
        }})
    };
    let changes: Vec<Value> = numbers.iter().map(change).collect();
    let entry = json!([{ "id": "900000000000001", "changes": changes }]);
    json!({ "object": "whatsapp_business_account", "entry": entry }).to_string()
}

#[tokio::test]
async fn the_half_of_a_body_that_was_stored_is_known_when_it_comes_again() {
    needs_postgres!();
    let gateway = Gateway::start(impatient).await;
    let receiver = Receiver::start().await;
    expect_json(put(&gateway, "/v1/source", &source(None)).await, 200).await;
    let (mut shops, mut numbers) = (Vec::new(), Vec::new());
    for n in 0..8 {
        let (name, number) = (format!("shop-{n}"), format!("90000000000010{n}"));
        let id = connect(&gateway, &name, Some(&number)).await;
        shops.push((name, gateway.app.store.shard_of(id.parse().unwrap())));
        numbers.push(number);
    }
    let body = json!({
        "channel": { "type": "webhook", "url": receiver.url("/") }, "events": ["message.*"],
    });
    expect_json(gateway.post("/v1/destinations", &body).await, 201).await;

    // Shards are written one after another; the last of these is in somebody's hands.
    let last: ShardId = shops.iter().map(|(_, shard)| *shard).max().unwrap();
    let late = shops.iter().filter(|(_, shard)| *shard == last).count();
    assert!(late < shops.len(), "all are in one shard");
    let somebody = gateway.database().connect().await;
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock(2053206388, {last})");
    somebody.batch_execute(&lock).await.unwrap();
    let body = messages_to(&numbers);
    let send = async || post(&gateway, "/sources/cloud-api", "app-secret", &body).await;
    expect_problem(send().await, 503, "unavailable").await;
    for (name, shard) in &shops {
        let expected: &[&str] = if *shard == last { &[] } else { &["message.received"] };
        assert_eq!(types(&gateway, name).await, expected, "{name}");
    }

    somebody.batch_execute("COMMIT").await.unwrap();
    let stored = expect_json(send().await, 200).await;
    assert_eq!(stored["stored"], late);
    let received = receiver.wait_for(shops.len()).await;
    let ids: std::collections::BTreeSet<String> =
        received.iter().map(|it| text(&it.json(), "id")).collect();
    assert_eq!(ids.len(), shops.len());
    receiver.stays_at(shops.len()).await;
    assert_eq!(expect_json(send().await, 200).await["stored"], 0);
    gateway.stop().await;
}
