//! What goes although somebody may still want it: erasures, and what a small disk has no room for.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use zapbus_event::DestinationId;
use zapbus_store::{LIVE, RetentionPolicy, State, Status, WhenFull, simulation::Chance};

use crate::{
    driver::Driver,
    node::Node,
    world::{Inner, Target},
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

impl Driver {
    /// Everything of an instance is erased.
    pub(crate) fn erase(&mut self, node: &Node) {
        let world = &mut *self.world.lock();
        let begun = world.tick();
        let instance = self.chance.below(world.instances.len() as u64) as usize;
        let body = json!({ "type": "instance", "instance": world.instances[instance] });
        world.trace.note(&format!("erases instance {instance}"));
        world.erasing.push(instance);
        world.under_way += 1;
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            let (status, answer) = node.request(Method::POST, "/v1/erasures", Some(body)).await;
            let world = &mut *world.lock();
            world.under_way -= 1;
            world.trace.note(&format!("erased instance {instance}: {status} {answer}"));
            world.erased(instance, (status == 200).then_some(begun));
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
    /// An erasure has ended, or was cut off: whatever is known by now may be gone, and what was
    /// stored before `since` is.
    pub(crate) fn erased(&mut self, instance: usize, since: Option<u64>) {
        if let Some(at) = self.erasing.iter().position(|erasing| *erasing == instance) {
            self.erasing.swap_remove(at);
        }
        let now = self.trace.now();
        for event in self.events.iter_mut().filter(|event| event.instance == instance) {
            event.erased = true;
            if event.acked < since && event.acked.is_some() {
                event.gone_at.get_or_insert(now);
            }
        }
    }
}
