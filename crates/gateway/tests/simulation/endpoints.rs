//! The endpoints: what they answer, and what they see.

use std::{sync::Arc, time::Duration};

use zapbus_channel::{
    Config, Message, Outcome, Scope,
    simulation::{Answer, Endpoints, Exchange},
};

use crate::world::{Inner, Mood, World};

impl Inner {
    fn answer(&mut self, at: usize, n: Option<usize>) -> Answer {
        let ok = |takes| Answer { takes, outcome: Outcome::Accepted, status: Some(200) };
        let retry = |takes, scope, after, status| Answer {
            takes,
            outcome: Outcome::Retry { after, scope },
            status,
        };
        let quick = self.chance.delay(Duration::from_millis(150));
        let target = &self.targets[at];
        if self.healed {
            return ok(quick);
        }
        let poisonous = n.is_some_and(|n| target.poison > 0 && n as u64 % target.poison == 3);
        if poisonous {
            return retry(quick, Scope::Event, None, Some(500));
        }
        match target.mood.clone() {
            Mood::Healthy => ok(quick),
            Mood::Slow(by) => ok(by + quick),
            Mood::Failing { scope, after, status } => retry(quick, scope, after, status),
            Mood::Flapping(n) if self.chance.one_in(n) => {
                retry(quick, Scope::Event, None, Some(500))
            }
            Mood::Flapping(_) => ok(quick),
            Mood::Hanging => ok(Duration::from_secs(3_600)),
            Mood::Refusing(n) if self.chance.one_in(n) => {
                Answer { takes: quick, outcome: Outcome::Refused, status: Some(413) }
            }
            Mood::Refusing(_) => ok(quick),
            Mood::Gone => Answer { takes: quick, outcome: Outcome::Gone, status: Some(410) },
        }
    }
}

/// The endpoints, as channels reach them.
pub(crate) struct Outside(pub(crate) Arc<World>);

struct OnItsWay {
    world: Arc<World>,
    life: u32,
    target: usize,
    event: Option<(u32, usize, bool)>,
    told: bool,
}

impl Endpoints for Outside {
    fn arrives(&self, config: &Config, message: &Message) -> (Answer, Box<dyn Exchange>) {
        let Config::Webhook(webhook) = config else {
            panic!("this world has only webhooks");
        };
        let url = webhook.url.as_str();
        let mut world = self.0.lock();
        let at = world
            .targets
            .iter()
            .position(|target| url.contains(&format!("//{}.example", target.label)))
            .expect("every URL is one of the simulation's");
        let body = String::from_utf8_lossy(&message.body);
        let n = number_after(&body, "\"client_id\":\"sim-").map(|n| n as usize);
        let seq = number_after(&body, "\"seq\":").unwrap_or_default();
        let run = message.replay.as_deref().map_or(0, |run| run.parse().unwrap_or(u32::MAX));
        let mut event = None;
        match n {
            Some(n) => {
                let chat = (run, world.events[n].instance, world.events[n].chat);
                let before = world.targets[at].first_flying.contains(&chat);
                world.arrives(at, run, n, seq);
                let first = !before && world.targets[at].first_flying.contains(&chat);
                world.targets[at].in_hand.insert((run, n));
                event = Some((run, n, first));
            }
            None => world.targets[at].flying += 1,
        }
        let answer = world.answer(at, n);
        let life = world.life;
        let exchange =
            OnItsWay { world: Arc::clone(&self.0), life, target: at, event, told: false };
        (answer, Box::new(exchange))
    }
}

impl Exchange for OnItsWay {
    fn reported(&mut self, outcome: &Outcome) {
        self.told = true;
        let mut world = self.world.lock();
        let (life, label) = (world.life, world.targets[self.target].label.clone());
        if *outcome == Outcome::Accepted {
            world.targets[self.target].accepted += 1;
        }
        let Some((run, n, _)) = self.event else { return };
        world.trace.note(&format!("{label} -> sim-{n} run {run} {outcome:?}"));
        if *outcome == Outcome::Accepted {
            let arrival = world.targets[self.target].arrivals.entry((run, n)).or_default();
            arrival.accepted = true;
            arrival.accepted_in = Some(life);
        }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut world = self.world.lock();
        let same_life = world.life == self.life;
        let target = &mut world.targets[self.target];
        if same_life {
            target.flying = target.flying.saturating_sub(1);
        }
        let Some((run, n, first)) = self.event else { return };
        if !self.told {
            let arrival = target.arrivals.entry((run, n)).or_default();
            arrival.cut_in = Some(self.life);
        }
        if same_life {
            target.in_hand.remove(&(run, n));
        }
        if first && same_life {
            let event = &world.events[n];
            let chat = (run, event.instance, event.chat);
            world.targets[self.target].first_flying.remove(&chat);
        }
    }
}

/// The number that follows the first `mark`.
pub(crate) fn number_after(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}
