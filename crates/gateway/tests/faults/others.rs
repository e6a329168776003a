//! Destinations that have nothing to do with what fails, and how long their events take meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::json;

use crate::load::{Api, Target, receiver::Reply, writers::message};

const OTHERS: usize = 20;

/// Events posted to the others in each phase.
const PROBES: usize = 60;

/// What makes no difference: timers, the scheduler, a disk sync.
const FLOOR: Duration = Duration::from_millis(25);

/// That no phase took much longer than the time before.
pub(crate) fn expect_unharmed(
    healthy: Duration,
    phases: impl IntoIterator<Item = (&'static str, Duration)>,
) {
    for (phase, latency) in phases {
        assert!(latency <= healthy.max(FLOOR) * 10, "{latency:?} {phase}, {healthy:?} before it");
    }
}

/// Destinations that take everything, and when they took it.
pub(crate) struct Others {
    targets: Vec<Target>,
    arrived: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
}

impl Others {
    pub(crate) async fn start(api: &Api) -> Self {
        let arrived: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
        let mut targets = Vec::new();
        for n in 0..OTHERS {
            let arrived = arrived.clone();
            let name: &'static str = format!("other{n}").leak();
            let target = Target::with(name, "key", json!({}), move |request, _| {
                let id = request.json()["data"]["message"]["id"].as_str().unwrap().to_owned();
                arrived.lock().unwrap().entry(id).or_default().push(request.at);
                Reply::ok()
            });
            targets.push(target.await);
        }
        api.set_up(&targets).await;
        Self { targets, arrived }
    }

    /// The median time from a post to its arrival, over all of them.
    pub(crate) async fn median(&self, api: &Api, phase: usize) -> Duration {
        let mut posted = Vec::new();
        for n in 0..PROBES {
            let id = format!("c{}-{}", n % 10, phase * PROBES + n / 10);
            let event = message(n % 10, &id, 100);
            posted.push((id, Instant::now()));
            api.call(Method::POST, "/v1/instances/shop/events", event).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ids: Vec<String> = posted.iter().map(|(id, _)| id.clone()).collect();
        for target in &self.targets {
            target.expect_all(&ids).await;
        }
        let arrived = self.arrived.lock().unwrap();
        let mut latencies: Vec<Duration> = posted
            .iter()
            .flat_map(|(id, at)| arrived[id].iter().map(|arrived| arrived.duration_since(*at)))
            .collect();
        assert_eq!(latencies.len(), PROBES * OTHERS, "each arrives once");
        latencies.sort_unstable();
        latencies[latencies.len() / 2]
    }
}
