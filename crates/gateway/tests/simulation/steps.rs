//! What those who post, endpoints and operators do.

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::{Value, json};
use zapbus_channel::Scope;
use zapbus_event::{Kind, Position};
use zapbus_store::{Budget, DeliveryId};

use crate::{
    driver::Driver,
    node::Node,
    world::{Inner, Mood, Posted, World},
};

/// What is posted.
const KINDS: [Kind; 6] = [
    Kind::MessageReceived,
    Kind::MessageReceived,
    Kind::MessageReceived,
    Kind::MessageSent,
    Kind::ContactUpdated,
    Kind::PresenceChat,
];

impl Driver {
    /// Somebody posts events; some of them once more.
    pub(crate) fn post(&mut self, node: &Node) {
        let world = &mut *self.world.lock();
        let begun = world.tick();
        let instance = self.chance.below(world.instances.len() as u64) as usize;
        let count = 1 + self.chance.below(*self.chance.clone().pick(&[1, 4, 12]));
        let mut numbers = Vec::new();
        let mut bodies = Vec::new();
        for _ in 0..count {
            let known = world.events.len() as u64;
            let old = self.chance.below(known.max(1)) as usize;
            let again =
                self.chance.one_in(8) && known > 0 && world.events[old].instance == instance;
            let n = if again && !numbers.contains(&old) {
                old
            } else {
                let kind = *self.chance.pick(&KINDS);
                world.events.push(Posted {
                    instance,
                    chat: self.chance.below(4),
                    kind,
                    ephemeral: kind == Kind::PresenceChat,
                    person: self.mortal.then(|| self.chance.below(4)),
                    begun,
                    seq: None,
                    acked: None,
                    erased: false,
                    gone_at: None,
                });
                world.events.len() - 1
            };
            let event = &world.events[n];
            let mut data =
                serde_json::to_value(zapbus_event::sample(event.kind)).expect("a sample");
            if self.chance.one_in(6) {
                let long = 1 + self.chance.below(6_000) as usize;
                data["padding"] = json!("x".repeat(long));
            }
            if let Some(person) = event.person {
                data["about"] = json!(format!("person-{person}"));
            }
            bodies.push(json!({
                "type": event.kind,
                "id": format!("sim-{n}"),
                "ordering_key": format!("chat-{}", event.chat),
                "data": data,
            }));
            numbers.push(n);
        }
        let newest = world.events.iter().filter(|event| event.acked.is_some());
        let newest = newest.filter_map(|event| event.seq).max().unwrap_or(0);
        let id = world.instances[instance].clone();
        world.trace.note(&format!("posts {numbers:?} to instance {instance}"));
        world.under_way += 1;
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            let path = format!("/v1/instances/{id}/events");
            let (status, answer) =
                node.request(Method::POST, &path, Some(Value::Array(bodies))).await;
            let world = &mut *world.lock();
            let gone = world.endings.get(&instance).and_then(|ending| ending.told);
            if status == 200 && gone.is_some_and(|told| told < begun) {
                world.violated(format!("a deleted instance takes {numbers:?}"));
            }
            world.posted(&numbers, newest, status, &answer);
        });
    }

    /// An endpoint becomes another.
    pub(crate) fn change_mood(&mut self) {
        let world = &mut *self.world.lock();
        if world.targets.is_empty() {
            return;
        }
        let at = self.chance.below(world.targets.len() as u64) as usize;
        let scope = *self.chance.pick(&[Scope::Event, Scope::Destination]);
        let mood = match self.chance.below(14) {
            0..5 => Mood::Healthy,
            5 => Mood::Slow(Duration::from_millis(self.chance.below(14_000))),
            6 | 7 => Mood::Failing { scope, after: None, status: Some(503) },
            8 => {
                let after = Some(Duration::from_secs(self.chance.below(3_601)));
                Mood::Failing { scope, after, status: Some(429) }
            }
            9 | 10 => Mood::Flapping(1 + self.chance.below(4)),
            11 => Mood::Hanging,
            12 => Mood::Refusing(1 + self.chance.below(8)),
            _ => Mood::Gone,
        };
        let target = &mut world.targets[at];
        if self.chance.one_in(5) {
            target.poison = self.chance.below(9);
        }
        target.mood = mood;
        let what = format!("{} is {:?}, poison {}", target.label, target.mood, target.poison);
        world.trace.note(&what);
    }

    /// A person sends deliveries again.
    pub(crate) fn redeliver(&mut self, node: &Node) {
        let Some(at) = self.pick_target(|target| target.id.is_some() && !target.doubtful) else {
            return;
        };
        let in_bulk = self.chance.one_in(4);
        let mut chance = self.chance.fork();
        let id = self.world.lock().targets[at].id.clone().unwrap_or_default();
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        world.lock().under_way += 1;
        tokio::task::spawn_local(async move {
            if in_bulk {
                world.lock().targets[at].bulk = true;
                let body = json!({ "destination": id, "status": ["dead"] });
                let (status, _) =
                    node.request(Method::POST, "/v1/deliveries/retry", Some(body)).await;
                world.lock().trace.note(&format!("dead ones again: {status}"));
            } else {
                let path = format!(
                    "/v1/deliveries?destination={id}&status=delivered,dead,retrying&limit=30"
                );
                let (_, page) = node.request(Method::GET, &path, None).await;
                let rows = page["data"].as_array().cloned().unwrap_or_default();
                if !rows.is_empty() {
                    let row = chance.pick(&rows).clone();
                    send_again(&node, &world, at, row["id"].as_str().unwrap_or_default()).await;
                }
            }
            world.lock().under_way -= 1;
        });
    }

    /// Retention goes over the store in small steps.
    pub(crate) fn prune(&mut self, node: &Node) {
        let rows = 1 + self.chance.below(60) as usize;
        let budget = Budget { rows, time: Duration::from_secs(1) };
        let (policy, tight) = (self.policy.clone(), self.tight);
        let (store, world) = (node.app.store.clone(), Arc::clone(&self.world));
        let times = 1 + self.chance.below(6);
        {
            let world = &mut *self.world.lock();
            world.pruned = true;
            world.vanishing += 1;
        }
        tokio::task::spawn_local(async move {
            for _ in 0..times {
                let Ok(pruned) = store.prune(&policy, budget).await else { break };
                let (events, rows) = (pruned.events, pruned.deliveries);
                if events + rows > 0 {
                    world.lock().trace.note(&format!("pruned {events} events, {rows} rows"));
                }
                if pruned.gaps > 0 && !tight {
                    world.lock().violated("what is owed gave way to age".to_owned());
                }
            }
            let world = &mut *world.lock();
            world.vanishing -= 1;
            world.vanished();
        });
    }
}

async fn send_again(node: &Node, world: &Arc<World>, at: usize, id: &str) {
    let Ok(delivery) = id.parse::<DeliveryId>() else { return };
    let run = delivery.lane.run;
    let before = {
        let world = &mut *world.lock();
        let Some(n) = world.number_at(delivery.seq) else { return };
        let target = &mut world.targets[at];
        // The outcome of a send that is under way settles both.
        let in_hand = u32::from(target.in_hand.contains(&(run, n)));
        let arrival = target.arrivals.entry((run, n)).or_default();
        arrival.manual = true;
        let count = arrival.count.saturating_sub(in_hand);
        (n, count, world.tick())
    };
    let (status, _) = node.request(Method::POST, &format!("/v1/deliveries/{id}/retry"), None).await;
    let (n, count, begun) = before;
    let world = &mut *world.lock();
    world.trace.note(&format!("sim-{n} of run {run} again: {status}"));
    // Where commits fail, the lane may still have the send in hand whose row was seen: then its
    // outcome settles both.
    if status == 202 && !world.targets[at].deleted && !world.disk_fails {
        world.targets[at].asked_again.push((run, n, count, begun));
    }
}

impl Inner {
    /// The event at a position, if anybody knows.
    pub(crate) fn number_at(&self, seq: Position) -> Option<usize> {
        self.events.iter().position(|event| event.seq == Some(seq.0))
    }

    /// Somebody who posted gets an answer.
    fn posted(&mut self, numbers: &[usize], newest: u64, status: u16, answer: &Value) {
        self.under_way -= 1;
        let tick = self.tick();
        self.trace.note(&format!("posted {numbers:?}: {status}"));
        if status != 200 {
            return;
        }
        for (n, result) in numbers.iter().zip(answer["results"].as_array().into_iter().flatten()) {
            let (Some(seq), Some(duplicate)) =
                (result["seq"].as_u64(), result["duplicate"].as_bool())
            else {
                continue;
            };
            self.trace.note(&format!("sim-{n} is {seq}, duplicate {duplicate}"));
            let event = &mut self.events[*n];
            let mut wrong = Vec::new();
            if event.seq.is_some_and(|known| known != seq) {
                wrong.push(format!("sim-{n} is at {seq}, and was at {:?}", event.seq));
            }
            if event.acked.is_some() && !duplicate {
                wrong.push(format!("sim-{n} was stored twice"));
            }
            if !duplicate && seq <= newest {
                wrong.push(format!("sim-{n} is at {seq}, before {newest}, which was there first"));
            }
            event.seq = Some(seq);
            event.acked.get_or_insert(tick);
            wrong.into_iter().for_each(|what| self.violated(what));
        }
    }
}
