//! Mixed load for a long time: memory, open files, threads and the store must not grow.
//!
//! Everything that comes must go again: instances and destinations are made and deleted, receivers
//! fail and recover, stretches are replayed, pruning keeps half a minute. `ZAPBUS_SOAK_MINUTES`
//! makes it last, `ZAPBUS_SOAK_PAUSE_MS` (40) sets the pause after each post; every look is a line of `target/tmp/soak.csv`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    gauge::{Usage, bytes_below, usage},
    load::{
        Api, Load, Shape, Target, binary::Served, configure, from_environment, receiver::Reply,
        writers::message,
    },
};

/// In the short form.
const SHORT: Duration = Duration::from_secs(40);

/// Instances that come and go, alive at a time.
const GUESTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows() {
    let minutes = from_environment("ZAPBUS_SOAK_MINUTES");
    let lasts = minutes.map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    let soak = Soak::start().await;
    let began = Instant::now();
    let every = (lasts / 90).clamp(Duration::from_millis(400), Duration::from_secs(10));
    let mut looks = Vec::new();
    let mut round = 0;
    while began.elapsed() < lasts {
        soak.turn(round).await;
        round += 1;
        looks.push(soak.look(began.elapsed()));
        tokio::time::sleep(every).await;
    }
    let csv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.csv");
    std::fs::write(&csv, table(&looks)).unwrap();
    println!("{} looks in {}", looks.len(), csv.display());
    let grown = growth(&looks, minutes.is_none());
    soak.finish().await;
    assert!(grown.is_empty(), "it grows: {grown:#?}\n{}", table(&looks));
}

/// A gateway that keeps little, and everybody who makes it work.
struct Soak {
    gateway: Served,
    api: Api,
    load: Load,
    steady: Vec<Target>,
    guest: Target,
    data: PathBuf,
    _folder: TempDir,
}

/// One look at what it uses.
struct Look {
    at: Duration,
    usage: Usage,
    database: u64,
    log: u64,
    blobs: u64,
}

impl Soak {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Served::start(folder.path(), |command| {
            configure(command);
            for (name, value) in [
                ("ZAPBUS_RETENTION_JOURNAL_S", "5"),
                ("ZAPBUS_RETENTION_LOG_S", "5"),
                ("ZAPBUS_RETENTION_DEAD_S", "5"),
                ("ZAPBUS_RETENTION_OWED_S", "20"),
                ("ZAPBUS_RETENTION_AUDIT_S", "5"),
                ("ZAPBUS_RETENTION_EPHEMERAL_S", "5"),
                ("ZAPBUS_RETENTION_EVERY_S", "1"),
                ("ZAPBUS_STORE_DEDUP_WINDOW_S", "30"),
            ] {
                command.env(name, value);
            }
        })
        .await;
        let steady = vec![
            Target::good("key", "key").await,
            Target::good("strict", "strict").await,
            Target::good("global", "key").await,
            // Away a third of the time; some of what it missed is pruned before it is back.
            Target::with("moody", "key", json!({ "retry": { "waits_s": [0.5] } }), |_, _| {
                Reply::ok()
            })
            .await,
        ];
        let guest = Target::good("guest", "key").await;
        let api = Api::new(&gateway.url);
        api.set_up(&steady).await;
        let pause = from_environment("ZAPBUS_SOAK_PAUSE_MS").unwrap_or(40);
        let pause = Duration::from_millis(pause);
        let shape = Shape { writers: 2, chats_per_writer: 10, pause, text: 500 };
        let load = Load::start(&gateway.url, shape);
        let data = folder.path().join("data");
        Self { gateway, api, load, steady, guest, data, _folder: folder }
    }

    /// Something of everything that happens to a gateway.
    async fn turn(&self, round: usize) {
        let moody = &self.steady[3];
        match round % 12 {
            0 => moody.script(|_, _| Reply::status(503)),
            4 => moody.script(|_, _| Reply::ok()),
            7 => self.replay().await,
            _ => {}
        }
        self.welcome(round).await;
        if let Some(left) = round.checked_sub(GUESTS) {
            self.api.call(Method::DELETE, &format!("/v1/instances/guest{left}"), json!({})).await;
        }
        // A picture large enough for the blob folder, and somebody typing.
        let mut picture = message(0, &format!("c900-{round}"), 10);
        picture["data"]["content"]["body"] = json!(blob(round));
        self.post("shop", &picture).await;
        let typing = json!({
            "type": "presence.chat",
            "data": {
                "chat": { "id": "5511999900000@s.whatsapp.net", "kind": "user" },
                "participant": { "id": "5511999900000@s.whatsapp.net", "kind": "user" },
                "state": "typing",
            },
        });
        self.post("shop", &typing).await;
    }

    /// A new instance with a destination, and an event for it.
    async fn welcome(&self, round: usize) {
        let name = format!("guest{round}");
        self.api.call(Method::POST, "/v1/instances", json!({ "name": name })).await;
        let path = format!("/v1/instances/{name}/destinations");
        self.api.call(Method::POST, &path, self.guest.destination()).await;
        self.post(&name, &message(1, &format!("c901-{round}"), 50)).await;
    }

    async fn post(&self, instance: &str, event: &Value) {
        let path = format!("/v1/instances/{instance}/events");
        self.api.call(Method::POST, &path, event.clone()).await;
    }

    /// The last seconds once more.
    async fn replay(&self) {
        let page = self.api.read("/v1/instances/shop/destinations?limit=100").await;
        let all = page["data"].as_array().unwrap();
        let key = all.iter().find(|it| it["label"] == "key").unwrap();
        let oldest = self.api.read("/v1/instances/shop/events?limit=1").await;
        let path = format!("/v1/destinations/{}/replay", key["id"].as_str().unwrap());
        let from = oldest["data"][0]["received_at"].clone();
        self.api.call(Method::POST, &path, json!({ "from": from })).await;
    }

    fn look(&self, at: Duration) -> Look {
        let length =
            |name: &str| std::fs::metadata(self.data.join(name)).map_or(0, |found| found.len());
        Look {
            at,
            usage: usage(self.gateway.pid()),
            database: length("zapbus.db"),
            log: length("zapbus.db-wal"),
            blobs: bytes_below(&self.data.join("blobs")),
        }
    }

    /// Nothing of it was for show: it took events to the end, and those who were there got them.
    async fn finish(mut self) {
        self.steady[3].script(|_, _| Reply::ok());
        let acknowledged = self.load.stop().await;
        println!("{} events acknowledged", acknowledged.len());
        assert_eq!(self.load.refusals(), 0, "{}", self.load.refusal());
        for target in &self.steady[..3] {
            target.expect_all(&acknowledged).await;
        }
        assert!(self.guest.tally.accepted_count() > 0);
        self.gateway.signal("TERM").await;
        assert!(self.gateway.ended().await.success());
    }
}

/// Base64 over the limit of what stays in the journal, another one each time.
fn blob(round: usize) -> String {
    let unit = format!("{:08x}", round * 2_654_435_761 % 0xffff_ffff);
    unit.repeat(100_000 / unit.len())
}

fn table(looks: &[Look]) -> String {
    let mut csv = String::from("seconds,memory_kib,files,threads,database,wal,blobs\n");
    for Look { at, usage, database, log, blobs } in looks {
        let Usage { memory_kib, files, threads } = usage;
        let at = at.as_secs_f64();
        writeln!(csv, "{at:.1},{memory_kib},{files},{threads},{database},{log},{blobs}").unwrap();
    }
    csv
}

/// What is larger in the last third than in the first, warm-up left out, beyond what chance does.
fn growth(looks: &[Look], short: bool) -> Vec<String> {
    // Caches fill and the allocator finds its size; in the short form that is all there is time for.
    let warm = &looks[looks.len() / if short { 2 } else { 5 }..];
    let third = warm.len() / 3;
    let (first, last) = (&warm[..third], &warm[warm.len() - third..]);
    let slack = if short { 3 } else { 1 };
    let mut grown = Vec::new();
    // What is measured, the share by which it may grow, and what is too little to matter.
    type Measure = fn(&Look) -> u64;
    let measures: [(&str, Measure, f64, u64); 6] = [
        ("memory in KiB", |look| look.usage.memory_kib, 0.15, 12 << 10),
        ("open files", |look| look.usage.files, 0.2, 8),
        ("threads", |look| look.usage.threads, 0.1, 3),
        ("database", |look| look.database, 0.2, 8 << 20),
        // Between two of its starts over it grows to 64 MiB, whatever the load.
        ("write-ahead log", |look| look.log, 0.5, 64 << 20),
        ("blobs", |look| look.blobs, 0.3, 2 << 20),
    ];
    for (name, measure, share, floor) in measures {
        let mean =
            |looks: &[Look]| looks.iter().map(measure).sum::<u64>() / (looks.len() as u64).max(1);
        let (before, after) = (mean(first), mean(last));
        let most = before + (before as f64 * share) as u64 + floor * slack;
        println!("{name}: {before} in the first third, {after} in the last");
        if after > most {
            grown.push(format!("{name}: {before}, then {after}; at most {most} expected"));
        }
    }
    grown
}
