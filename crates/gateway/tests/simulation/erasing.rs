//! What goes although somebody may still want it: erasures, and what a small disk has no room for.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use zapbus_event::DestinationId;
use zapbus_store::{LIVE, RetentionPolicy, State, Status, WhenFull, simulation::Chance};

use crate::{
    driver::Driver,
    node::Node,
    world::{Inner, Posted, Target},
};

/// A policy under which what is owed gives way, or events are refused, when space runs out.
pub(crate) fn tight(policy: RetentionPolicy, chance: &mut Chance) -> RetentionPolicy {
    RetentionPolicy {
        max_bytes: *chance.pick(&[400 << 10, 700 << 10, 1 << 20]),
        when_full: *chance.pick(&[WhenFull::Gap, WhenFull::Gap, WhenFull::Refuse]),
        // The lines that say what was lost must outlive the seed.
        log: policy.owed,
        ..policy
    }
}

/// A stretch of a run that its lane was moved past: run, first and last position.
pub(crate) type Lost = (u32, u64, u64);

/// What somebody has erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doomed {
    Instance(usize),
    Chat {
        instance: usize,
        chat: u64,
    },
    /// In whichever instance.
    Person(u64),
}

impl Doomed {
    pub(crate) fn concerns(self, event: &Posted) -> bool {
        match self {
            Self::Instance(instance) => event.instance == instance,
            Self::Chat { instance, chat } => event.instance == instance && event.chat == chat,
            Self::Person(person) => event.person == Some(person),
        }
    }
}

impl Driver {
    /// Everything of an instance is erased.
    pub(crate) fn erase(&mut self, node: &Node) {
        let instances = self.world.lock().instances.len() as u64;
        let instance = self.chance.below(instances) as usize;
        self.erase_what(node, Doomed::Instance(instance));
    }

    /// Everything of a chat or about a person is erased.
    pub(crate) fn erase_some(&mut self, node: &Node) {
        let instances = self.world.lock().instances.len() as u64;
        let instance = self.chance.below(instances) as usize;
        let doomed = match self.chance.below(3) {
            0 => Doomed::Person(self.chance.below(4)),
            1 => Doomed::Chat { instance, chat: self.chance.below(4) },
            _ => Doomed::Instance(instance),
        };
        self.erase_what(node, doomed);
    }

    fn erase_what(&self, node: &Node, doomed: Doomed) {
        let world = &mut *self.world.lock();
        let begun = world.tick();
        let body = match doomed {
            Doomed::Instance(instance) => {
                json!({ "type": "instance", "instance": world.instances[instance] })
            }
            Doomed::Chat { instance, chat } => {
                let instance = &world.instances[instance];
                json!({ "type": "chat", "instance": instance, "chat": format!("chat-{chat}") })
            }
            Doomed::Person(person) => {
                json!({ "type": "person", "address": format!("person-{person}") })
            }
        };
        world.trace.note(&format!("erases {doomed:?}"));
        world.erasing.push(doomed);
        world.under_way += 1;
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            let (status, answer) = node.request(Method::POST, "/v1/erasures", Some(body)).await;
            let world = &mut *world.lock();
            world.under_way -= 1;
            world.trace.note(&format!("erased {doomed:?}: {status} {answer}"));
            world.erased(doomed, (status == 200).then_some(begun));
        });
    }

    /// What lanes of a destination were moved past because there was no room.
    pub(crate) async fn lost(&self, node: &Node, id: DestinationId) -> Vec<Lost> {
        if !self.tight {
            return Vec::new();
        }
        let rows = self.log_of(node, id, &[Status::Expired]).await;
        let lost = rows.into_iter().filter_map(|row| match row.state {
            State::Expired { to, .. } => Some((row.id.lane.run, row.id.seq.0, to.0)),
            _ => None,
        });
        lost.collect()
    }

    /// Whether an event may have died and then made room, with its line: nobody is owed the dead.
    pub(crate) fn may_be_buried(&self, target: &Target, n: usize) -> bool {
        self.tight && target.arrivals.get(&(LIVE, n)).is_some_and(|arrival| arrival.count > 0)
    }
}

/// Whether the log says that an event of a run was lost.
pub(crate) fn is_lost(lost: &[Lost], run: u32, seq: u64) -> bool {
    lost.iter().any(|(of, from, to)| *of == run && (*from..=*to).contains(&seq))
}

impl Inner {
    /// It is not being erased any more.
    pub(crate) fn spared(&mut self, doomed: Doomed) {
        if let Some(at) = self.erasing.iter().position(|erasing| *erasing == doomed) {
            self.erasing.swap_remove(at);
        }
    }

    /// An erasure has ended, or was cut off: whatever is known by now may be gone, and what was
    /// stored before `since` is.
    pub(crate) fn erased(&mut self, doomed: Doomed, since: Option<u64>) {
        self.spared(doomed);
        self.vanished();
        let now = self.trace.now();
        for event in self.events.iter_mut().filter(|event| doomed.concerns(event)) {
            event.erased = true;
            if event.acked < since && event.acked.is_some() {
                event.gone_at.get_or_insert(now);
            }
        }
    }
}
