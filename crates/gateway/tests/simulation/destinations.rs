//! What a person does with destinations and their replays, and what the answers mean.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use zapbus_event::Filter;

use crate::{
    driver::Driver,
    node::Node,
    world::{Inner, Replay, Target, Will, Wish},
};

/// What destinations want.
const FILTERS: [&[&str]; 6] = [
    &["*"],
    &["*"],
    &["message.*"],
    &["message.received"],
    &["message.*", "presence.*"],
    &["contact.*", "destination.*"],
];

/// Destinations that are not deleted.
const MOST_TARGETS: usize = 5;

impl Driver {
    pub(crate) fn pick_target(&mut self, fits: impl Fn(&Target) -> bool) -> Option<usize> {
        let world = self.world.lock();
        let fitting: Vec<usize> = world
            .targets
            .iter()
            .enumerate()
            .filter(|(_, target)| !target.deleted && !target.busy && fits(target))
            .map(|(at, _)| at)
            .collect();
        (!fitting.is_empty()).then(|| *self.chance.pick(&fitting))
    }

    /// A person creates, changes, stops or deletes a destination.
    pub(crate) async fn touch_target(&mut self, node: &Node) {
        if let Some(at) = self.pick_target(|target| target.doubtful) {
            self.ask(node, at).await;
            return;
        }
        let there = self.world.lock().targets.iter().filter(|target| !target.deleted).count();
        if there == 0 || (there < MOST_TARGETS && self.chance.one_in(3)) {
            // Ids of one millisecond have an order that no seed decides.
            let now = self.world.lock().trace.now();
            let alone = self.world.lock().targets.iter().all(|it| it.id.is_some() || it.deleted);
            if alone && (now > self.made_at + 1_000 || there == 0) {
                self.create(node);
            }
            return;
        }
        let Some(at) = self.pick_target(|target| target.id.is_some() && !target.doubtful) else {
            return;
        };
        match self.chance.below(12) {
            0..3 => self.pause(node, at),
            3..7 => self.resume(node, at),
            7..11 => self.change(node, at),
            _ => self.delete(node, at),
        }
    }

    fn settings(&mut self) -> Value {
        let waits = [json!([0.0, 1.0]), json!([1.0, 5.0, 30.0]), json!([5.0, 60.0, 3600.0])];
        let retry = match self.chance.below(6) {
            0 => json!({ "preset": "native" }),
            1 => json!({ "preset": "evolution" }),
            2 => json!({ "preset": "ryze" }),
            _ => json!({
                "preset": *self.chance.pick(&["native", "vzaps", "ryze"]),
                "waits_s": self.chance.pick(&waits),
                "timeout_s": *self.chance.pick(&[1.0, 15.0]),
            }),
        };
        json!({
            "events": *self.chance.pick(&FILTERS),
            "ordering": *self.chance.pick(&["none", "key", "key", "strict"]),
            "max_in_flight": *self.chance.pick(&[1, 2, 5, 64]),
            "rate_limit_per_s": *self.chance.pick(&[Value::Null, Value::Null, json!(0.05), json!(20.0)]),
            "exclude_ephemeral": self.chance.one_in(4),
            "retry": retry,
        })
    }

    fn create(&mut self, node: &Node) {
        let mut body = self.settings();
        let world = &mut *self.world.lock();
        let begun = world.tick();
        let label = format!("t{}", self.made);
        self.made += 1;
        self.made_at = world.trace.now();
        let instance = (!self.chance.one_in(3))
            .then(|| self.chance.below(world.instances.len() as u64) as usize);
        let beginning = self.chance.one_in(4);
        body["label"] = json!(label);
        body["channel"] =
            json!({ "type": "webhook", "url": format!("https://{label}.example/hook") });
        body["start"] = json!(if beginning { "beginning" } else { "now" });
        body["disable_after_s"] = json!(*self.chance.pick(&[600, 3_600, 432_000]));
        let path = match instance {
            Some(instance) => {
                format!("/v1/instances/{}/destinations", world.instances[instance])
            }
            None => "/v1/destinations".to_owned(),
        };
        let may_since = if beginning { 0 } else { begun };
        let mut target = Target::new(label.clone(), instance, may_since);
        target.wishes.push(wish_of(&body));
        target.ordering = ordering_of(&body);
        target.beginning = beginning;
        target.max_allowed = body["max_in_flight"].as_u64().unwrap_or_default() as u32;
        let at = world.targets.len();
        world.targets.push(target);
        world.trace.note(&format!("creates {label} for {instance:?}: {body}"));
        self.tell(
            node,
            at,
            Method::POST,
            path,
            Some(body),
            move |target, tick, _, answer| {
                target.since = if beginning { 0 } else { tick };
                target.will = Will::Active;
                target.take(answer, tick);
            },
            world,
        );
    }

    fn pause(&mut self, node: &Node, at: usize) {
        let world = &mut *self.world.lock();
        let path = world.targets[at].path("/pause");
        world.targets[at].will = Will::Uncertain;
        self.tell(
            node,
            at,
            Method::POST,
            path,
            None,
            |target, tick, now, answer| {
                target.will = Will::Stopped(now);
                target.take(answer, tick);
            },
            world,
        );
    }

    fn resume(&mut self, node: &Node, at: usize) {
        let world = &mut *self.world.lock();
        let path = world.targets[at].path("/resume");
        let from_now = self.chance.one_in(3);
        let body = json!({ "from": if from_now { "now" } else { "cursor" } });
        let target = &mut world.targets[at];
        target.will = Will::Uncertain;
        if from_now {
            target.since = u64::MAX;
        }
        target.sent_at.clear();
        self.tell(
            node,
            at,
            Method::POST,
            path,
            Some(body),
            move |target, tick, _, answer| {
                target.will = Will::Active;
                // A person's word is believed: the outage is forgotten.
                target.deaths_allowed += 1;
                if from_now {
                    target.since = tick;
                }
                target.take(answer, tick);
            },
            world,
        );
    }

    fn change(&mut self, node: &Node, at: usize) {
        let mut body = self.settings();
        let world = &mut *self.world.lock();
        let path = world.targets[at].path("");
        let members = body.as_object_mut().expect("an object");
        let names: Vec<String> = members.keys().cloned().collect();
        for name in names {
            if self.chance.one_in(2) {
                members.remove(&name);
            }
        }
        let target = &mut world.targets[at];
        let before = target.wishes.last().cloned();
        let mut wish = wish_of(&body);
        if let Some(before) = before {
            if body.get("events").is_none() {
                wish.filter = before.filter;
            }
            if body.get("exclude_ephemeral").is_none() {
                wish.exclude_ephemeral = before.exclude_ephemeral;
            }
        }
        target.wishes.push(wish);
        let next = body["max_in_flight"].as_u64().map_or(0, |next| next as u32);
        target.max_allowed = target.max_allowed.max(next);
        target.rate = None;
        let ordering = ordering_of(&body);
        if body.get("ordering").is_some() && ordering != target.ordering {
            target.ordered_since = u64::MAX;
        }
        self.tell(
            node,
            at,
            Method::PATCH,
            path,
            Some(body),
            |target, tick, _, answer| {
                target.take(answer, tick);
            },
            world,
        );
    }

    fn delete(&mut self, node: &Node, at: usize) {
        let world = &mut *self.world.lock();
        let path = world.targets[at].path("");
        world.targets[at].will = Will::Uncertain;
        world.targets[at].since = u64::MAX;
        self.tell(
            node,
            at,
            Method::DELETE,
            path,
            None,
            |target, _, now, _| {
                target.deleted = true;
                target.will = Will::Stopped(now);
            },
            world,
        );
    }

    /// Sends a request about a target; `done` takes in what a success means.
    #[expect(clippy::too_many_arguments, reason = "a request and who it is about")]
    fn tell(
        &self,
        node: &Node,
        at: usize,
        method: Method,
        path: String,
        body: Option<Value>,
        done: impl FnOnce(&mut Target, u64, u64, &Value) + 'static,
        world: &mut Inner,
    ) {
        let label = world.targets[at].label.clone();
        let shown = body.as_ref().map(Value::to_string).unwrap_or_default();
        let shown_path = path.split('/').skip(4).collect::<Vec<_>>().join("/");
        world.trace.note(&format!("{label}: {method} {shown_path} {shown}"));
        world.targets[at].busy = true;
        world.under_way += 1;
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            let (status, answer) = node.request(method, &path, body).await;
            let world = &mut *world.lock();
            world.under_way -= 1;
            let (tick, now) = (world.tick(), world.trace.now());
            world.trace.note(&format!("{label}: answered {status}"));
            let pruned = world.pruned;
            let target = &mut world.targets[at];
            target.busy = false;
            if (200..300).contains(&status) {
                done(target, tick, now, &answer);
                if target.beginning && pruned {
                    // What was pruned before is owed to nobody, and nobody knows what that was.
                    target.since = target.since.max(tick);
                }
                target.beginning = false;
            } else {
                target.doubtful = true;
            }
            world.forget_rate(at);
        });
    }

    /// Asks what has become of a target about which a request was cut off or failed.
    pub(crate) async fn ask(&self, node: &Node, at: usize) {
        let (status, answer) = node.request(Method::GET, "/v1/destinations?limit=1000", None).await;
        if status != 200 {
            return;
        }
        let found = {
            let world = self.world.lock();
            let url = format!("https://{}.example/hook", world.targets[at].label);
            let mut there = answer["data"].as_array().into_iter().flatten();
            there.find(|destination| destination["channel"]["url"] == url.as_str()).cloned()
        };
        let mut runs = Value::Null;
        if let Some(found) = &found {
            let id = found["id"].as_str().unwrap_or_default();
            let (status, answer) =
                node.request(Method::GET, &format!("/v1/destinations/{id}/runs"), None).await;
            if status != 200 {
                return;
            }
            runs = answer;
        }
        let world = &mut *self.world.lock();
        let (tick, now) = (world.tick(), world.trace.now());
        let target = &mut world.targets[at];
        target.doubtful = false;
        target.deaths_allowed += 1;
        // What was asked for may have been done at any time until now.
        target.since = if target.since == u64::MAX { tick } else { target.since };
        target.ordered_since = target.ordered_since.max(tick);
        match found {
            Some(found) => {
                target.will = match found["state"].as_str() {
                    Some("paused") => Will::Stopped(now),
                    _ => Will::Active,
                };
                target.take(&found, tick);
                for run in runs["data"].as_array().into_iter().flatten() {
                    target.take_run(run, now);
                }
            }
            None => {
                target.deleted = true;
                target.will = Will::Stopped(now);
            }
        }
        let what = format!("{}: found {:?}, deleted {}", target.label, target.will, target.deleted);
        world.trace.note(&what);
        world.forget_rate(at);
    }

    /// A person begins, pauses, resumes or calls off a replay.
    pub(crate) fn touch_run(&mut self, node: &Node) {
        let Some(at) = self.pick_target(|target| target.id.is_some() && !target.doubtful) else {
            return;
        };
        let world = &mut *self.world.lock();
        let runs: Vec<u32> = world.targets[at].runs.keys().copied().collect();
        if runs.is_empty() || self.chance.one_in(2) {
            let from = match self.chance.below(3) {
                0 => "beginning".to_owned(),
                _ => {
                    let seqs = world.events.iter().filter_map(|event| event.seq);
                    let seqs: Vec<u64> = seqs.collect();
                    if seqs.is_empty() {
                        return;
                    }
                    self.chance.pick(&seqs).to_string()
                }
            };
            let path = world.targets[at].path("/replay");
            let mut body = json!({ "from": from });
            if self.chance.one_in(2) {
                body["types"] = json!(*self.chance.pick(&FILTERS));
            }
            self.tell(
                node,
                at,
                Method::POST,
                path,
                Some(body),
                |target, _, now, answer| {
                    target.take_run(answer, now);
                },
                world,
            );
            return;
        }
        let run = *self.chance.pick(&runs);
        let verb = *self.chance.pick(&["pause", "resume", "cancel"]);
        let path = world.targets[at].path(&format!("/runs/{run}/{verb}"));
        if let Some(replay) = world.targets[at].runs.get_mut(&run) {
            replay.will = Will::Uncertain;
        }
        self.tell(
            node,
            at,
            Method::POST,
            path,
            None,
            |target, _, now, answer| {
                target.take_run(answer, now);
            },
            world,
        );
    }
}

impl Target {
    fn path(&self, rest: &str) -> String {
        format!("/v1/destinations/{}{rest}", self.id.as_deref().unwrap_or_default())
    }

    /// Takes in what an answer says about the destination.
    fn take(&mut self, answer: &Value, tick: u64) {
        let Some(id) = answer["id"].as_str() else { return };
        self.id = Some(id.to_owned());
        let ordering = ordering_of(answer);
        if ordering != self.ordering || self.ordered_since == u64::MAX {
            self.ordered_since = tick;
        }
        self.ordering = ordering;
        self.max_in_flight = answer["max_in_flight"].as_u64().unwrap_or_default() as u32;
        self.max_allowed = self.max_in_flight;
        self.rate = answer["rate_limit_per_s"].as_f64();
        let wish = wish_of(answer);
        if let Some(last) = self.wishes.last()
            && last.filter == wish.filter
            && last.exclude_ephemeral == wish.exclude_ephemeral
        {
            let last = self.wishes.len() - 1;
            for (index, wish) in self.wishes.iter_mut().enumerate() {
                if index < last {
                    wish.until.get_or_insert(tick);
                }
            }
            return;
        }
        for wish in &mut self.wishes {
            wish.until.get_or_insert(tick);
        }
        self.wishes.push(wish);
    }

    fn take_run(&mut self, answer: &Value, now: u64) {
        let Some(run) = answer["run"].as_u64() else { return };
        let number = |name: &str| answer[name].as_u64().unwrap_or_default();
        let types: Vec<String> =
            serde_json::from_value(answer["types"].clone()).unwrap_or_default();
        let state = answer["state"].as_str().unwrap_or_default();
        let will = match state {
            "paused" | "cancelled" => Will::Stopped(now),
            _ => Will::Active,
        };
        let replay = Replay {
            from: number("from"),
            to: number("to"),
            filter: Filter::parse(&types).expect("what it said itself"),
            will,
            cancelled: state == "cancelled",
        };
        self.runs.insert(run as u32, replay);
    }
}

fn wish_of(body: &Value) -> Wish {
    let types: Vec<String> = serde_json::from_value(body["events"].clone()).unwrap_or_default();
    Wish {
        filter: Filter::parse(&types).expect("a filter of the simulation's"),
        exclude_ephemeral: body["exclude_ephemeral"].as_bool().unwrap_or_default(),
        until: None,
    }
}

fn ordering_of(body: &Value) -> &'static str {
    match body["ordering"].as_str() {
        Some("none") => "none",
        Some("strict") => "strict",
        _ => "key",
    }
}
