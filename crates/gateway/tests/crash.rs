//! Kills the real binary with SIGKILL under load, again and again on one folder, and then counts:
//! every event whose POST was answered 2xx has arrived at every destination, first arrivals are in
//! order per chat, and repeats are no more than what was in flight.
//!
//! `ZAPBUS_CRASH_ROUNDS` (8) and `ZAPBUS_CRASH_SEED` (the time) decide how often and when.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]
#![expect(clippy::print_stdout, reason = "the seed and the figures are for whoever runs it")]

#[path = "it/binary.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod binary;
#[path = "it/receiver.rs"]
#[expect(dead_code, reason = "the stories need more of it")]
mod receiver;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hmac::{Hmac, KeyInit, Mac};
use reqwest::Client;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::watch;

use self::{
    binary::Served,
    receiver::{Received, Receiver, Reply},
};

const ADMIN_TOKEN: &str = "zb_admin_of_the_crash_test_0123456789";
const APP_SECRET: &str = "app-secret-of-the-crash-test";
const PHONE_NUMBER_ID: &str = "900000000000101";
const WRITERS: usize = 8;
const CHATS_PER_WRITER: usize = 5;
const MAX_IN_FLIGHT: usize = 8;
const ROUNDS: usize = 8;

/// How long nothing new may arrive while something is still owed.
const QUIET: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let rounds = from_environment("ZAPBUS_CRASH_ROUNDS").unwrap_or(ROUNDS as u64) as usize;
    let seed = from_environment("ZAPBUS_CRASH_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        now.as_nanos() as u64
    });
    println!("{rounds} rounds, ZAPBUS_CRASH_SEED={seed}");
    let mut dice = Dice(seed);

    let folder = tempfile::tempdir().unwrap();
    let targets = Target::all().await;
    let mut gateway = start(folder.path()).await;
    set_up(&gateway.url, &targets).await;

    let url = watch::Sender::new(gateway.url.clone());
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(writer, url.subscribe(), stop.clone())))
        .collect();

    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(dice.between(100, 900))).await;
        gateway.kill().await;
        gateway = start(folder.path()).await;
        url.send_replace(gateway.url.clone());
    }
    // The last round ends without a kill: everybody finishes the post they are at.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    println!("{} events acknowledged", acknowledged.len());
    assert!(acknowledged.len() > rounds * WRITERS, "too little load to prove anything");

    for target in &targets {
        target.check(&acknowledged, rounds).await;
    }
    gateway.kill().await;
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

/// SplitMix64: good enough to choose instants, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (mixed ^ (mixed >> 31)) % (high - low)
    }
}

async fn start(folder: &Path) -> Served {
    Served::start(folder, |command| {
        command.args(["--log-level", "warn"]).env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN);
    })
    .await
}

/// A destination and its receiver.
struct Target {
    name: &'static str,
    ordering: &'static str,
    receiver: Receiver,
}

impl Target {
    async fn all() -> Vec<Self> {
        let mut targets = Vec::new();
        for (name, ordering) in
            [("key", "key"), ("strict", "strict"), ("none", "none"), ("global", "key")]
        {
            // Up to a few milliseconds: so that something is in flight at every instant.
            let receiver = Receiver::scripted(|received| {
                Reply::ok().after(Duration::from_millis(received.index as u64 * 7 % 5))
            })
            .await;
            targets.push(Self { name, ordering, receiver });
        }
        targets
    }

    async fn check(&self, acknowledged: &[Event], kills: usize) {
        let mut missing: HashSet<&str> = acknowledged.iter().map(|event| &*event.id).collect();
        let (mut seen, mut last) = (0, Instant::now());
        while !missing.is_empty() && last.elapsed() < QUIET {
            let received = self.receiver.received();
            for request in &received[seen..] {
                missing.remove(message_id(request).as_str());
            }
            if received.len() > seen {
                (seen, last) = (received.len(), Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(
            missing.is_empty(),
            "{}: {} of {} acknowledged events never arrived, for example {:?}",
            self.name,
            missing.len(),
            acknowledged.len(),
            missing.iter().take(5).collect::<Vec<_>>()
        );

        let received = self.receiver.received();
        let mut arrivals: HashMap<String, usize> = HashMap::new();
        let mut firsts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for request in &received {
            let id = message_id(request);
            let (chat, number) = place_of(&id);
            let count = arrivals.entry(id).or_default();
            *count += 1;
            if *count == 1 {
                firsts.entry(chat).or_default().push(number);
            }
        }
        if self.ordering != "none" {
            for (chat, numbers) in &firsts {
                assert!(
                    numbers.is_sorted(),
                    "{}: first arrivals of chat {chat} are out of order: {numbers:?}",
                    self.name
                );
            }
        }
        let repeats = received.len() - arrivals.len();
        println!(
            "{}: {} arrivals of {} events over {} connections, {repeats} repeats",
            self.name,
            received.len(),
            arrivals.len(),
            received.iter().map(|request| request.connection + 1).max().unwrap_or(0)
        );
        assert!(
            repeats <= MAX_IN_FLIGHT * kills,
            "{}: {repeats} repeats after {kills} kills with {MAX_IN_FLIGHT} in flight at most",
            self.name
        );
    }
}

/// Both sources carry it: `c<chat>-<number>`.
fn message_id(request: &Received) -> String {
    let body = request.json();
    let id = body["data"]["message"]["id"].as_str().unwrap_or_else(|| panic!("{body}"));
    id.trim_start_matches("wamid.").to_owned()
}

fn place_of(id: &str) -> (String, u64) {
    let (chat, number) = id.split_once('-').unwrap();
    (chat.to_owned(), number.parse().unwrap())
}

async fn set_up(url: &str, targets: &[Target]) {
    let client = Client::new();
    let call = async |method: reqwest::Method, path: &str, body: Value| {
        let request = client.request(method, format!("{url}{path}")).bearer_auth(ADMIN_TOKEN);
        let response = request.json(&body).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{path}: {status}: {}", response.text().await.unwrap());
    };
    call(reqwest::Method::POST, "/v1/instances", json!({ "name": "shop" })).await;
    let source = json!({
        "type": "cloud-api",
        "app_secret": APP_SECRET,
        "verify_token": "verify",
        "phone_number_id": PHONE_NUMBER_ID,
    });
    call(reqwest::Method::PUT, "/v1/instances/shop/source", source).await;
    for target in targets {
        let path = match target.name {
            "global" => "/v1/destinations",
            _ => "/v1/instances/shop/destinations",
        };
        let destination = json!({
            "label": target.name,
            "channel": { "type": "webhook", "url": target.receiver.url("/") },
            "events": ["message.*"],
            "ordering": target.ordering,
            "max_in_flight": MAX_IN_FLIGHT,
        });
        call(reqwest::Method::POST, path, destination).await;
    }
}

/// An event that was answered 2xx.
struct Event {
    id: String,
}

/// Posts to the writer's own chats in turn, one event after another; an event whose fate is unknown
/// is posted again until it is answered.
async fn write(
    writer: usize,
    mut url: watch::Receiver<String>,
    stop: Arc<AtomicBool>,
) -> Vec<Event> {
    let client = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
    let mut acknowledged = Vec::new();
    for number in 0.. {
        for chat in 0..CHATS_PER_WRITER {
            if stop.load(Ordering::SeqCst) {
                return acknowledged;
            }
            let chat = writer * CHATS_PER_WRITER + chat;
            let id = format!("c{chat}-{number}");
            loop {
                let base = url.borrow_and_update().clone();
                let request = if number % 2 == 0 {
                    native(&client, &base, chat, &id)
                } else {
                    cloud_api(&client, &base, chat, &id)
                };
                match request.send().await {
                    Ok(response) if response.status().is_success() => break,
                    Ok(response) if response.status().as_u16() == 503 => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Ok(response) => {
                        panic!("{id}: {}: {:?}", response.status(), response.text().await);
                    }
                    // Killed: the next one comes at another address.
                    Err(_) => {
                        let next = url.changed();
                        // Both mean the same: try again.
                        drop(tokio::time::timeout(Duration::from_secs(1), next).await);
                    }
                }
            }
            acknowledged.push(Event { id });
        }
    }
    acknowledged
}

fn native(client: &Client, base: &str, chat: usize, id: &str) -> reqwest::RequestBuilder {
    let address = json!({ "id": format!("{}@s.whatsapp.net", phone(chat)), "kind": "user" });
    let event = json!({
        "type": "message.received",
        "id": id,
        "data": {
            "message": { "id": id, "chat": address["id"], "from_me": false },
            "chat": address,
            "sender": address,
            "content": { "kind": "text", "body": "native" },
        },
    });
    client.post(format!("{base}/v1/instances/shop/events")).bearer_auth(ADMIN_TOKEN).json(&event)
}

fn cloud_api(client: &Client, base: &str, chat: usize, id: &str) -> reqwest::RequestBuilder {
    let body = json!({
        "object": "whatsapp_business_account",
        "entry": [{ "id": "900000000000001", "changes": [{ "field": "messages", "value": {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": "5511999990000",
                "phone_number_id": PHONE_NUMBER_ID,
            },
            "contacts": [{ "profile": { "name": "Ana" }, "wa_id": phone(chat) }],
            "messages": [{
                "from": phone(chat),
                "id": format!("wamid.{id}"),
                "timestamp": "1767225617",
                "type": "text",
                "text": { "body": "cloud api" },
            }],
        }}]}],
    })
    .to_string();
    let mac = Hmac::<Sha256>::new_from_slice(APP_SECRET.as_bytes()).unwrap();
    let signature = hex::encode(mac.chain_update(&body).finalize().into_bytes());
    client
        .post(format!("{base}/sources/cloud-api/shop"))
        .header("x-hub-signature-256", format!("sha256={signature}"))
        .header("content-type", "application/json")
        .body(body)
}

fn phone(chat: usize) -> String {
    format!("55119999{chat:05}")
}
