//! Receivers with every vice at once, then they mend their ways: all that is owed arrives, nothing
//! is dead, and no lane is stuck.
//!
//! `ZAPBUS_VICES_MINUTES` makes it last.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::load::{
    Api, Load, MAX_IN_FLIGHT, Shape, Target, from_environment,
    receiver::{Received, Reply},
    start,
};

/// In the short form.
const SHORT: Duration = Duration::from_secs(12);

/// Bytes of an answer that nobody asked for.
const HUGE: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn receivers_have_every_vice_at_once() {
    let lasts = from_environment("ZAPBUS_VICES_MINUTES")
        .map_or(SHORT, |minutes| Duration::from_secs(60 * minutes));
    let folder = tempfile::tempdir().unwrap();
    let gateway = start(folder.path()).await;
    let api = Api::new(&gateway.url);
    let good = vec![Target::good("good", "key").await, Target::good("global", "key").await];
    let vicious = vicious().await;
    api.set_up(&good).await;
    for target in &vicious {
        api.call(Method::POST, target.path(), target.destination()).await;
    }
    let pause = Duration::from_millis(50);
    let shape = Shape { writers: 2, chats_per_writer: 10, pause, text: 200 };
    let mut load = Load::start(&gateway.url, shape);

    let began = Instant::now();
    let mut bounds = Bounds::new(gateway.pid(), good.len() + vicious.len());
    while began.elapsed() < lasts {
        tokio::time::sleep(Duration::from_millis(500)).await;
        bounds.look(began.elapsed() > lasts / 3);
    }
    assert_eq!(load.refusals(), 0, "{}", load.refusal());
    // Those that take everything had it all the time, whatever the others did.
    let so_far = load.acknowledged();
    for target in &good {
        let taken = target.tally.accepted_count();
        assert!(taken * 10 >= so_far * 9, "{}: {taken} of {so_far}", target.name);
    }

    for target in &vicious {
        target.script(|_, _| Reply::ok());
    }
    for destination in destinations(&api).await {
        if destination["state"] == "disabled" {
            assert_eq!(destination["label"], "gone");
            let id = destination["id"].as_str().unwrap();
            api.call(Method::POST, &format!("/v1/destinations/{id}/resume"), json!({})).await;
        }
    }
    load.goes_on(20).await;
    let acknowledged = load.stop().await;
    println!("{} events acknowledged; {bounds:?}", acknowledged.len());
    for target in good.iter().chain(&vicious) {
        target.expect_all(&acknowledged).await;
        target.expect_order(0);
    }
    let dead = api.read("/v1/deliveries?status=dead&limit=10").await;
    assert_eq!(dead["data"], json!([]));
    expect_flowing(&api).await;
    gateway.kill().await;
}

/// Each does one thing wrong, all the time.
async fn vicious() -> Vec<Target> {
    let always = |name, reply: Reply| {
        Target::with(name, "key", patient(), move |_: &Received, _| reply.clone())
    };
    vec![
        always("error", Reply::status(500)).await,
        always("late", Reply::ok().after(Duration::from_secs(3))).await,
        always("drip", Reply::ok().drip(Duration::from_millis(100))).await,
        always("reset", Reply::reset()).await,
        always("reset-in-body", Reply::reset_in_body()).await,
        always("cut", Reply::cut()).await,
        always("garbage", Reply::garbage()).await,
        always("huge-error", Reply::status(502).body(vec![b'x'; HUGE])).await,
        always("gone", Reply::status(410)).await,
        always("busy", Reply::status(429).header("retry-after", "1")).await,
        always("redirect", Reply::status(302).header("location", "/elsewhere")).await,
        always("mute", Reply::hang()).await,
        always("closing", Reply::ok().header("connection", "close")).await,
        Target::with("huge", "key", patient(), |request, _| {
            // Enough of it to matter, not so much that the machine does nothing else.
            let body = if request.index.is_multiple_of(20) { HUGE } else { 10 };
            Reply::ok().body(vec![b'x'; body])
        })
        .await,
        Target::with("picky", "key", patient(), refuse_half).await,
        Target::with("picky-strict", "strict", patient(), refuse_half).await,
        Target::with("moody", "key", patient(), |request, _| match request.index / 20 % 3 {
            0 => Reply::ok(),
            1 => Reply::status(503),
            _ => Reply::close(),
        })
        .await,
    ]
}

/// Schedules that outlast the vices in the long form too.
fn patient() -> Value {
    json!({ "retry": {
        "waits_s": [0.5, 1, 2, 4, 8, 15, 30], "max_attempts": 50, "timeout_s": 1,
    }})
}

fn refuse_half(request: &Received, _: usize) -> Reply {
    let body = request.json();
    let id = body["data"]["message"]["id"].as_str().unwrap();
    let sum: usize = id.bytes().map(usize::from).sum();
    if sum.is_multiple_of(2) { Reply::status(400) } else { Reply::ok() }
}

async fn destinations(api: &Api) -> Vec<Value> {
    let page = api.read("/v1/instances/shop/destinations?limit=100").await;
    page["data"].as_array().unwrap().clone()
}

/// Every destination is delivered to again. Whatever was owed last is settled within seconds.
async fn expect_flowing(api: &Api) {
    let began = Instant::now();
    for destination in destinations(api).await {
        let path = format!("/v1/destinations/{}", destination["id"].as_str().unwrap());
        loop {
            let shown = api.read(&path).await;
            let status = &shown["status"];
            let owed = ["in_flight", "retrying", "waiting"];
            if status["health"] == "flowing" && owed.iter().all(|name| status[name] == 0) {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "stuck: {shown}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What the gateway uses stays within bounds meanwhile.
#[derive(Debug)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no /proc to look at"))]
struct Bounds {
    pid: u32,
    most_files: u64,
    /// Once it has met everybody.
    settled_kib: Option<u64>,
}

impl Bounds {
    fn new(pid: u32, destinations: usize) -> Self {
        // A connection for each send, one for each caller, and what it has open itself.
        let most_files = (destinations * MAX_IN_FLIGHT + 64) as u64;
        Self { pid, most_files, settled_kib: None }
    }

    #[cfg(target_os = "linux")]
    fn look(&mut self, is_settled: bool) {
        let usage = crate::gauge::usage(self.pid);
        assert!(usage.files <= self.most_files, "{usage:?}: at most {} files", self.most_files);
        if is_settled {
            let settled = *self.settled_kib.get_or_insert(usage.memory_kib);
            let most = settled * 3 / 2 + (48 << 10);
            assert!(usage.memory_kib <= most, "{usage:?}: {settled} KiB before");
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn look(&mut self, _: bool) {}
}
