//! What events are posted to, and who gets them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    callers::{Acknowledged, Shop, is_received},
    leases::{History, Leases},
    load::{
        Api, MAX_IN_FLIGHT, Target,
        receiver::{Received, Reply},
    },
};

/// Shards have one, several or none of them.
const SHOPS: usize = 16;

/// Instances, and destinations with their receivers.
pub(crate) struct Shops {
    pub(crate) shops: Vec<Shop>,
    pub(crate) destinations: Vec<Destination>,
}

/// A destination and what it takes.
pub(crate) struct Destination {
    pub(crate) target: Target,
    /// What the gateway calls it.
    id: String,
    /// Of which shop; `None`: of all.
    shop: Option<usize>,
    /// Only messages that were received.
    only_received: bool,
    /// It refuses some events at first.
    is_poor: bool,
}

impl Shops {
    /// Makes all of it. What is sent to a destination is noted in `leases`.
    pub(crate) async fn open(api: &Api, leases: &Leases) -> Self {
        let mut shops = Vec::new();
        let mut destinations = Vec::new();
        for number in 0..SHOPS {
            let body = json!({ "name": format!("shop-{number}") });
            let made = api.call(Method::POST, "/v1/instances", body).await;
            let text = |member: &str| made[member].as_str().unwrap().to_owned();
            let shop = Shop { id: text("id"), token: text("token") };
            let mut destination = Destination::of_shop(number, leases).await;
            let path = format!("/v1/instances/{}/destinations", shop.id);
            destination.make(api, &path).await;
            destinations.push(destination);
            shops.push(shop);
        }
        for (name, ordering, only_received) in
            [("all", "key", false), ("all received", "strict", true)]
        {
            let mut destination = Destination::of_all(name, ordering, only_received, leases).await;
            destination.make(api, "/v1/destinations").await;
            destinations.push(destination);
        }
        Self { shops, destinations }
    }
}

impl Destination {
    async fn of_shop(number: usize, leases: &Leases) -> Self {
        let ordering = if number % 3 == 2 { "strict" } else { "key" };
        let name = format!("shop {number}, {ordering}");
        let is_poor = number % 4 == 3;
        let target = target(name, ordering, is_poor, leases).await;
        let only_received = number % 4 == 1;
        Self { target, id: String::new(), shop: Some(number), only_received, is_poor }
    }

    async fn of_all(name: &str, ordering: &'static str, only: bool, leases: &Leases) -> Self {
        let target = target(name.to_owned(), ordering, false, leases).await;
        Self { target, id: String::new(), shop: None, only_received: only, is_poor: false }
    }

    async fn make(&mut self, api: &Api, path: &str) {
        let made = api.call(Method::POST, path, self.body()).await;
        self.id = made["id"].as_str().unwrap().to_owned();
    }

    fn body(&self) -> Value {
        let mut body = self.target.destination();
        if self.only_received {
            body["events"] = json!(["message.received"]);
        }
        body
    }

    /// What of the acknowledged events, by shop, must arrive here.
    fn owed<'a>(&self, all: &'a [Vec<Acknowledged>]) -> impl Iterator<Item = &'a Acknowledged> {
        let own = all.iter().enumerate().filter(|(shop, _)| self.shop.is_none_or(|it| it == *shop));
        let events = own.flat_map(|(_, events)| events);
        events.filter(|event| !self.only_received || is_received(&event.id))
    }

    /// Waits until all that is owed has arrived; then nothing else has, first arrivals were in
    /// order, and events came again only where a shard changed hands `times` or a settlement was of
    /// unknown fate.
    pub(crate) async fn expect(
        &self,
        all: &[Vec<Acknowledged>],
        times: usize,
        (api, history): (&Api, &History),
    ) {
        let owed: Vec<String> = self.owed(all).map(|event| event.id.clone()).collect();
        let missing = self.target.never_arrived(&owed).await;
        if let Some(first) = missing.first() {
            let name = &self.target.name;
            println!(
                "{name}: {} of {} acknowledged events never arrived",
                missing.len(),
                owed.len()
            );
            let event = self.owed(all).find(|event| event.id == *first).unwrap();
            println!("{}", history.story(name, event.at));
            panic!("{name}: {} never arrived: {}", event.id, self.story(event, api).await);
        }
        let tallied = self.target.tally.so_far();
        let strangers: Vec<_> =
            tallied.events.keys().filter(|id| self.only_received && !is_received(id)).collect();
        assert!(strangers.is_empty(), "{}: nobody asked for {strangers:?}", self.target.name);
        self.target.expect_order(MAX_IN_FLIGHT * times);
    }

    /// What the gateway tells of an event that has not arrived.
    async fn story(&self, event: &Acknowledged, api: &Api) -> String {
        let answer = &event.answer["results"][0];
        let (id, before) = (&answer["id"], answer["seq"].as_u64().unwrap_or(1) - 1);
        let id = id.as_str().unwrap_or_default();
        let destination = api.read(&format!("/v1/destinations/{}", self.id)).await;
        let deliveries = api.read(&format!("/v1/deliveries?event_id={id}")).await;
        let instance = destination["instance"].as_str().unwrap_or_default();
        let journal = format!("/v1/instances/{instance}/events?after={before}&limit=1");
        let journal = if instance.is_empty() { Value::Null } else { api.read(&journal).await };
        format!("{answer}\ndeliveries: {deliveries}\njournal: {journal}\n{destination}")
    }

    /// Arrivals beyond the first, where nobody asked for them.
    pub(crate) fn repeats(&self) -> usize {
        if self.is_poor { 0 } else { self.target.tally.so_far().repeats() }
    }
}

/// A receiver that is quick, with something in flight at every instant; a poor one refuses every
/// seventh event at first.
async fn target(name: String, ordering: &'static str, is_poor: bool, leases: &Leases) -> Target {
    let (leases, destination) = (leases.clone(), name.clone());
    let script = move |request: &Received, before: usize| {
        leases.note(&destination, request);
        if is_poor && before == 0 && request.index.is_multiple_of(7) {
            Reply::status(500)
        } else {
            Reply::ok().after(Duration::from_millis(request.index as u64 * 7 % 20))
        }
    };
    if is_poor {
        let patient = json!({ "retry": { "waits_s": [0.2], "max_attempts": 50 } });
        Target::with(name, ordering, patient, script).await
    } else {
        Target::with(name, ordering, json!({}), script).await.that_takes_everything()
    }
}
