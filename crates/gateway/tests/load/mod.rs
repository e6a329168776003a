//! Load for a gateway that may fail at any instant, and targets that count what arrives.
//!
//! [`Load`] posts events one after another, per chat, until each is answered 2xx; what was
//! answered is what must arrive. [`Target`] is a destination with a receiver that tallies ids.

#[path = "../it/binary.rs"]
pub(crate) mod binary;
#[path = "../it/receiver.rs"]
pub(crate) mod receiver;

pub(crate) mod database;
pub(crate) mod engine;
mod tally;
mod target;
pub(crate) mod writers;

use std::path::Path;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::process::Command;

use self::binary::Served;
pub(crate) use self::{
    target::{MAX_IN_FLIGHT, Target},
    writers::{Load, Shape},
};

pub(crate) const ADMIN_TOKEN: &str = "zb_admin_of_the_fault_tests_0123456789";
pub(crate) const APP_SECRET: &str = "app-secret-of-the-fault-tests";
pub(crate) const PHONE_NUMBER_ID: &str = "900000000000101";

/// A number of the environment; the test fails if it is something else.
pub(crate) fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: expected a number")))
}

/// SplitMix64: good enough to choose instants, and the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From the variable, or from the time.
    pub(crate) fn from_environment(name: &str) -> Self {
        Self(from_environment(name).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.expect("a clock after 1970").as_nanos() as u64
        }))
    }

    /// A number of `low..high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (mixed ^ (mixed >> 31)) % (high - low)
    }
}

/// What every gateway here is started with. With `ZAPBUS_TEST_ENGINE=postgres` its store is in a
/// database that belongs to its folder.
pub(crate) fn configure(command: &mut Command) {
    engine::configure(command);
    command
        .args(["--log-level", "warn"])
        .env("ZAPBUS_ADMIN_TOKEN", ADMIN_TOKEN)
        // Outages of a second are probed within the second.
        .env("ZAPBUS_LANES_PROBE_FIRST_S", "0.2")
        .env("ZAPBUS_LANES_PROBE_MAX_S", "1");
}

/// A gateway on this folder, ready.
pub(crate) async fn start(folder: &Path) -> Served {
    Served::start(folder, configure).await
}

/// The gateway's API with the operator's token.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    url: String,
}

impl Api {
    pub(crate) fn new(url: &str) -> Self {
        Self { client: Client::new(), url: url.to_owned() }
    }

    /// A call that must succeed.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.url));
        let response = request.bearer_auth(ADMIN_TOKEN).json(&body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// A read that must succeed.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request.bearer_auth(ADMIN_TOKEN).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// `/readyz`: its status and what it says.
    pub(crate) async fn readiness(&self) -> (u16, Value) {
        let response = self.client.get(format!("{}/readyz", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The instance `shop`, reachable by both sources, and the destinations of `targets`.
    pub(crate) async fn set_up(&self, targets: &[Target]) {
        self.call(Method::POST, "/v1/instances", json!({ "name": "shop" })).await;
        let source = json!({
            "type": "cloud-api",
            "app_secret": APP_SECRET,
            "verify_token": "verify",
            "phone_number_id": PHONE_NUMBER_ID,
        });
        self.call(Method::PUT, "/v1/instances/shop/source", source).await;
        for target in targets {
            self.call(Method::POST, target.path(), target.destination()).await;
        }
    }
}
