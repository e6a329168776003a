//! Several gateways on one database. Only where the gateways of this run are on PostgreSQL.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    api::{Caller, Tenant, expect_problem, text},
    api_cloud_api::{TEXT, post, tenant},
    binary::{self, Served},
    command_line::{asked, zapbus},
    engine::{Database, needs_postgres},
    postgres::{KEY, say},
    receiver::Receiver,
    server::{Gateway, eventually, expect_json, text_message},
    socket::Socket,
};

/// Within this every node has heard of a change.
const SOON: Duration = Duration::from_secs(1);

/// What looking takes, and asking whether it was heard of.
const LOOK: Duration = Duration::from_millis(500);

/// Processes per processor that want to run, beyond which times say nothing.
const SWAMPED: f64 = 4.0;

/// How long it took until another node had heard of changes.
#[derive(Default)]
pub(crate) struct Delays(Vec<Duration>);

impl Delays {
    /// Asks until a change that was just made is known.
    async fn soon(&mut self, what: &str, done: impl AsyncFn() -> bool) {
        let since = Instant::now();
        eventually(what, async || done().await.then_some(())).await;
        self.0.push(since.elapsed());
    }

    /// A change was known after so long.
    pub(crate) fn push(&mut self, delay: Duration) {
        self.0.push(delay);
    }

    /// Mostly they were known within a second, and always soon after it: whoever has missed the word
    /// looks once a second.
    pub(crate) fn expect_soon(mut self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap();
        let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap();
        let processors = std::thread::available_parallelism().map_or(1.0, |it| it.get() as f64);
        self.0.sort_unstable();
        say(&format!("heard of after {:?}, under a load of {load}", self.0));
        if load <= SWAMPED * processors {
            let (median, most) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
            assert!(median <= SOON && most <= SOON + LOOK, "{:?}", self.0);
        }
    }
}

#[tokio::test]
async fn what_one_node_takes_away_is_gone_on_all() {
    needs_postgres!();
    let first = Gateway::start(|_| {}).await;
    let second = first.start_node(|_| {}).await;
    let status = async |token: &str, path: &str| {
        Caller::new(&second, token).get(path).await.status().as_u16()
    };

    let credentials = "/v1/accounts/default/credentials";
    let made = expect_json(first.post(credentials, &json!({ "name": "a" })).await, 201).await;
    let secret = text(&made, "secret");
    assert_eq!(status(&secret, "/v1/instances").await, 200);
    let one = format!("{credentials}/{}", text(&made, "id"));
    assert_eq!(first.request(Method::DELETE, &one).send().await.unwrap().status(), 204);
    let mut delays = Delays::default();
    let known = async || status(&secret, "/v1/instances").await == 401;
    delays.soon("a revoked token is refused", known).await;

    let instance = first.create_instance("shop").await;
    let (id, token) = (text(&instance, "id"), text(&instance, "token"));
    let path = format!("/v1/instances/{id}");
    assert_eq!(status(&token, &path).await, 200);
    assert_eq!(second.read("/v1/instances/shop").await["id"], *id);
    let renamed = first.request(Method::PATCH, &path).json(&json!({ "name": "store" }));
    expect_json(renamed.send().await.unwrap(), 200).await;
    let known = async || second.get("/v1/instances/shop").await.status() == 404;
    delays.soon("the old name is free", known).await;
    assert_eq!(second.read("/v1/instances/store").await["id"], *id);
    assert_eq!(first.request(Method::DELETE, &path).send().await.unwrap().status(), 204);
    // Each look-up has a memory of its own, and what is not in it is asked of the database.
    delays.soon("a deleted instance is nobody", async || status(&token, &path).await == 401).await;
    delays.soon("and not found", async || second.get(&path).await.status() == 404).await;
    delays.expect_soon();

    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn an_app_level_source_is_known_on_all_nodes() {
    needs_postgres!();
    let first = Gateway::start(|_| {}).await;
    let second = first.start_node(|_| {}).await;
    // Nobody has one yet, and the second node knows.
    let nobody = post(&second, "/sources/cloud-api", "hush", TEXT).await;
    expect_problem(nobody, 404, "account_not_found").await;
    tenant(&first, "acme", "hush", Some("900000000000101")).await;
    eventually("the source is known", async || {
        let posted = post(&second, "/sources/cloud-api", "hush", TEXT).await;
        (posted.status() == 200).then_some(())
    })
    .await;
    // Whichever node a repeat comes to.
    let again = expect_json(post(&first, "/sources/cloud-api", "hush", TEXT).await, 200).await;
    assert_eq!(again["stored"], 0);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn limits_of_an_account_are_divided_among_the_nodes() {
    needs_postgres!();
    let first = Gateway::start(|config| {
        config.realtime.max_connections_per_account = 3;
        config.ryze.requests_per_minute = 5;
        config.ryze.creations_per_minute = 0;
    })
    .await;
    let tenant = Tenant::create(&first, "acme", "http://127.0.0.1:9/").await;
    // Who is nobody spends nothing, and is told what there would be.
    let requests = async |node: &Gateway| {
        let url = format!("{}/api/instance/list", node.url);
        let answer = node.client.get(url).send().await.unwrap();
        answer.headers()["x-ratelimit-limit"].to_str().unwrap().to_owned()
    };
    let bearer = [("authorization", format!("Bearer {}", tenant.caller.token))];
    let connect = async |node: &Gateway| {
        Socket::connect(&node.url, "/v1/stream", &bearer).await.map_err(|(status, _)| status)
    };
    assert_eq!(requests(&first).await, "5", "alone it has all");

    let second = first.start_node(|_| {}).await;
    let nodes = [&first, &second];
    for node in nodes {
        let share = async || (requests(node).await == "3").then_some(());
        eventually("it knows of the other", share).await;
    }
    let mut open = Vec::new();
    for node in nodes {
        for _ in 0..2 {
            open.push(connect(node).await.unwrap_or_else(|status| panic!("{status}")));
        }
        assert_eq!(connect(node).await.err(), Some(429));
    }

    second.stop().await;
    let all = async || (requests(&first).await == "5").then_some(());
    eventually("it is alone again", all).await;
    open.push(connect(&first).await.unwrap_or_else(|status| panic!("{status}")));
    assert_eq!(connect(&first).await.err(), Some(429));
    first.stop().await;
}

/// Instances in more than one shard, with events in turn.
async fn scattered(gateway: &Gateway, instances: usize, events: usize) -> Vec<String> {
    let mut names = Vec::new();
    for n in 0..instances {
        let name = format!("shop-{n}");
        gateway.create_instance(&name).await;
        names.push(name);
    }
    let shards: std::collections::BTreeSet<_> = gateway.read("/v1/instances").await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|instance| gateway.app.store.shard_of(text(instance, "id").parse().unwrap()))
        .collect();
    assert!(shards.len() > 1, "{instances} instances are in one shard");
    let mut posted = Vec::new();
    for n in 0..events {
        let event = text_message("5511999990001", &format!("m-{n}"), "x");
        let stored = gateway.post_event(&names[n % names.len()], &event).await;
        posted.push(text(&stored, "id"));
    }
    posted
}

/// The ids of a page of events.
pub(crate) fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|event| text(event, "id")).collect()
}

/// Every page of a list, from a place on.
async fn all_pages(gateway: &Gateway, query: &str, after: Option<&str>) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), after.map(str::to_owned));
    loop {
        let place = after.iter().map(|after| format!("&after={after}")).collect::<String>();
        let page = gateway.read(&format!("/v1/events?{query}{place}")).await;
        found.extend(ids(&page));
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return found,
        }
    }
}

#[tokio::test]
async fn an_account_is_read_over_all_shards() {
    needs_postgres!();
    let gateway = Gateway::start(|_| {}).await;
    let posted = scattered(&gateway, 12, 40).await;
    for limit in [1, 7, 100] {
        let query = format!("types=message.*&limit={limit}");
        assert_eq!(all_pages(&gateway, &query, None).await, posted, "by {limit}");
    }
    let page = gateway.read("/v1/events?types=message.*&limit=25").await;
    assert_eq!(ids(&page), posted[..25]);
    let rest = all_pages(&gateway, "types=message.*", page["next"].as_str()).await;
    assert_eq!(rest, posted[25..]);

    // After an event: nothing is missed, and what came in the same millisecond may come again.
    let after = all_pages(&gateway, "types=message.*", Some(&posted[19])).await;
    assert!(posted[20..].iter().all(|id| after.contains(id)), "{after:?}");
    assert!(!after.contains(&posted[0]) && !after.contains(&posted[19]), "{after:?}");
    let shown = gateway.read(&format!("/v1/events/{}", posted[30])).await;
    assert_eq!(shown["id"], *posted[30]);
    let time = text(&shown, "received_at");
    let since = all_pages(&gateway, "types=message.*", Some(&time)).await;
    assert!(posted[30..].iter().all(|id| since.contains(id)), "{since:?}");

    // At the end the cursor waits for what comes.
    let end = gateway.read("/v1/events?limit=1000").await;
    let cursor = text(&end, "cursor");
    assert_eq!(end["next"], Value::Null);
    let event = text_message("5511999990002", "late", "x");
    let late = text(&gateway.post_event("shop-5", &event).await, "id");
    let page = gateway.read(&format!("/v1/events?after={cursor}")).await;
    assert_eq!(ids(&page), [late]);

    // A position means something to an instance alone.
    let instance = gateway.read("/v1/instances/shop-5/events?types=message.*&limit=1").await;
    let seq = instance["data"][0]["seq"].as_u64().unwrap();
    let path = format!("/v1/instances/shop-5/events?types=message.*&after={seq}");
    assert!(!ids(&gateway.read(&path).await).is_empty());
    let refused = gateway.get(&format!("/v1/events?after={seq}")).await;
    let problem = expect_problem(refused, 400, "invalid_query").await;
    assert!(problem["detail"].as_str().unwrap().contains("belongs to an instance"), "{problem}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_destination_starts_and_replays_from_an_event_in_any_shard() {
    needs_postgres!();
    let gateway = Gateway::start(|_| {}).await;
    let receiver = Receiver::start().await;
    let posted = scattered(&gateway, 12, 24).await;
    for n in [3, 7] {
        let start = json!({ "label": format!("from-{n}"), "start": posted[n] });
        gateway.create_webhook(&format!("shop-{n}"), &receiver.url("/hook"), start).await;
    }
    // The one after: an instance has every twelfth.
    let found = receiver.wait_for(2).await;
    let mut found: Vec<String> =
        found.iter().map(|received| text(&received.json(), "id")).collect();
    found.sort();
    let mut expected = vec![posted[15].clone(), posted[19].clone()];
    expected.sort();
    assert_eq!(found, expected);

    // Of a whole account there is only the time to go by.
    let url = receiver.url("/all");
    let channel = json!({ "type": "webhook", "url": url });
    let body = json!({ "channel": channel, "label": "all", "start": "now" });
    let made = expect_json(gateway.post("/v1/destinations", &body).await, 201).await;
    let id = text(&made, "id");
    assert_eq!(
        gateway.read(&format!("/v1/destinations/{id}")).await["status"]["cursor"],
        Value::Null
    );
    let path = format!("/v1/destinations/{id}/replay");
    let body = json!({ "from": posted[12], "types": ["message.*"], "dry_run": true });
    let count = expect_json(gateway.post(&path, &body).await, 200).await;
    assert!((11..=13).contains(&count["events"].as_u64().unwrap()), "{count}");
    let body = json!({ "from": "17", "dry_run": true });
    let problem = expect_problem(gateway.post(&path, &body).await, 422, "invalid").await;
    assert!(problem["detail"].as_str().unwrap().contains("whole account"), "{problem}");
    let body = json!({ "from": "beginning", "types": ["message.*"] });
    let run = expect_json(gateway.post(&path, &body).await, 201).await;
    let shown = gateway.read(&format!("/v1/destinations/{id}/runs/{}", run["run"])).await;
    assert_eq!(shown["shards"].as_array().unwrap().len(), 16, "{shown}");
    gateway.stop().await;
}

#[tokio::test]
async fn shards_are_shared_and_handed_over() {
    needs_postgres!();
    let first = Gateway::start(|config| config.cluster.node = Some("left".to_owned())).await;
    let second = first.start_node(|config| config.cluster.node = Some("right".to_owned())).await;
    let held = async |gateway: &Gateway| {
        let cluster = gateway.read("/v1/cluster").await;
        let nodes = cluster["nodes"].as_array().unwrap().iter();
        let mut held: Vec<(String, u64)> =
            nodes.map(|node| (text(node, "name"), node["shards"].as_u64().unwrap())).collect();
        held.sort();
        held
    };
    let even = [("left".to_owned(), 8), ("right".to_owned(), 8)];
    eventually("each has its half", async || (held(&first).await == even).then_some(())).await;
    assert_eq!(held(&second).await, even, "whoever is asked");

    let cluster = asked(&first, &["cluster"]).await;
    assert_eq!(cluster["engine"], "postgres");
    let shards = cluster["shards"].as_array().unwrap();
    assert_eq!(shards.len(), 16);
    assert!(shards.iter().all(|shard| shard["lease_s"].as_f64().unwrap() <= 3.0), "{cluster}");
    let table = zapbus(&first, &["cluster"]).await;
    assert_eq!(table.code, 0, "{table:?}");
    assert!(table.stdout.contains("left *") && table.stdout.contains("right"), "{table:?}");
    // A gauge is set with a node's next sign of life.
    let metrics = eventually("the figures say so too", async || {
        let metrics = first.get("/metrics").await.text().await.unwrap();
        let lines =
            ["zapbus_cluster_nodes 2", "zapbus_cluster_shards_held 8", "zapbus_cluster_shards 16"];
        lines.iter().all(|line| metrics.contains(line)).then_some(metrics)
    })
    .await;
    for name in ["zapbus_lease_renewals_total", "zapbus_store_connections_used"] {
        assert!(metrics.contains(name), "{name}");
    }

    second.stop().await;
    let all = [("left".to_owned(), 16)];
    eventually("the one that stays has all", async || (held(&first).await == all).then_some(()))
        .await;
    let event = text_message("5511999990001", "m", "x");
    first.create_instance("shop").await;
    first.post_event("shop", &event).await;
    first.stop().await;
}

#[tokio::test]
async fn a_server_has_backups_of_its_own() {
    needs_postgres!();
    let gateway = Gateway::start(|_| {}).await;
    let refused = gateway.post("/v1/backups", &json!({})).await;
    let problem = expect_problem(refused, 409, "store_on_server").await;
    assert!(problem["detail"].as_str().unwrap().contains("pg_dump"), "{problem}");
    let said = zapbus(&gateway, &["backup", "x"]).await;
    assert!(said.code == 1 && said.stderr.contains("pg_basebackup"), "{said:?}");
    let health = gateway.read("/v1/health").await;
    assert_eq!(health["store"]["engine"], "postgres");
    assert_eq!(health["store"]["free_bytes"], Value::Null);
    assert_eq!(health["encryption"]["key_in_data_folder"], false);
    // The server of the tests runs without fsync.
    let said = zapbus(&gateway, &["doctor", "--json"]).await;
    assert_eq!(said.code, 1, "{said:?}");
    let found: Value = serde_json::from_str(&said.stdout).unwrap();
    let codes: Vec<&str> =
        found["findings"].as_array().unwrap().iter().filter_map(|it| it["code"].as_str()).collect();
    for code in ["server_not_durable", "no_synchronous_standby"] {
        assert!(codes.contains(&code), "{code}: {found}");
    }
    for code in ["disk", "no_backup", "key_in_data_folder"] {
        assert!(!codes.contains(&code), "{code}: {found}");
    }
    gateway.stop().await;
}

/// The variables that lead the binary to a database.
fn led_to(database: &Database) -> [(&'static str, String); 2] {
    [("ZAPBUS_DATABASE_URL", database.url()), ("ZAPBUS_ENCRYPTION_KEY", KEY.to_owned())]
}

#[tokio::test]
async fn a_database_is_prepared_before_a_node_needs_it() {
    needs_postgres!();
    let database = Database::make(false).await;
    let folder = tempfile::tempdir().unwrap();
    let migrate = async |arguments: &[&str]| {
        let mut command = binary::command(folder.path());
        command.arg("migrate").args(arguments).envs(led_to(&database));
        let said = binary::run(command).await;
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        assert!(!folder.path().join("zapbus-data").exists(), "nothing is kept here");
        said.stdout
    };
    let plan = migrate(&["--plan"]).await;
    assert!(plan.contains("no store in postgres://") && plan.contains("0001_initial"), "{plan}");
    let steps: Value = serde_json::from_str(&migrate(&["--plan", "--json"]).await).unwrap();
    assert_eq!((&steps["from"], &steps["taken"]), (&json!(0), &json!([])));
    let done = migrate(&[]).await;
    assert!(done.contains("Done: "), "{done}");
    let again = migrate(&[]).await;
    assert!(again.contains("Nothing to do."), "{again}");

    let mut keyless = binary::command(folder.path());
    keyless.arg("migrate").env("ZAPBUS_DATABASE_URL", database.url());
    let said = binary::run(keyless).await;
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("encryption_key: is needed"), "{said:?}");
}

#[tokio::test]
async fn nodes_that_start_together_make_one_token() {
    needs_postgres!();
    let database = Database::make(false).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = async |folder: &tempfile::TempDir| {
        Served::start(folder.path(), |command| {
            command.envs(led_to(&database));
        })
        .await
    };
    let (first, second) = tokio::join!(start(&folders[0]), start(&folders[1]));
    let token = async |served: &Served| {
        // The one that makes the tables is not always the one that makes the token.
        eventually("it has said who the operator is", async || {
            let said = served.stdout();
            let says = |words: &str| said.contains(words).then_some(());
            says("admin token").or_else(|| says("the token of the first start"))
        })
        .await;
        let said = served.stdout();
        assert!(said.contains("postgres://127.0.0.1/test_"), "{said}");
        let line = said.lines().find_map(|line| line.trim().strip_prefix("admin token"));
        line.map(|token| token.trim().to_owned())
    };
    let made: Vec<String> =
        [token(&first).await, token(&second).await].into_iter().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    for served in [&first, &second] {
        let url = format!("{}/v1/cluster", served.url);
        let answer = reqwest::Client::new().get(url).bearer_auth(&made[0]).send().await.unwrap();
        let cluster = expect_json(answer, 200).await;
        assert_eq!(cluster["nodes"].as_array().unwrap().len(), 2, "{cluster}");
    }
    first.kill().await;
    second.kill().await;
}
