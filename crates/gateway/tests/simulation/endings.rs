//! Instances come to their end: they take nothing more, get ten minutes to deliver what they have,
//! and are put away.

use std::{sync::Arc, time::Duration};

use http::Method;
use zapbus_event::Timestamp;
use zapbus_gateway::upkeep;

use crate::{
    driver::Driver,
    erasing::Doomed,
    node::Node,
    world::{Inner, Will},
};

/// What a deleted instance has is delivered for at least so long.
const DRAINS_FOR: Duration = Duration::from_secs(600);

/// An instance that is to be deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ending {
    /// A request is under way.
    pub(crate) busy: bool,
    /// When somebody first asked for it, by the gateway's clock.
    asked: Timestamp,
    /// Somebody was told, at this tick, that it is deleted.
    pub(crate) told: Option<u64>,
    /// Nothing is left of it.
    is_over: bool,
}

impl Driver {
    /// A person deletes an instance; one at least stays.
    pub(crate) fn end_instance(&mut self, node: &Node) {
        let world = &mut *self.world.lock();
        let now = (node.app.clock)();
        let doubtful =
            world.endings.iter().find(|(_, ending)| ending.told.is_none() && !ending.busy);
        let instance = match doubtful {
            Some((instance, _)) => *instance,
            None => {
                let count = world.instances.len();
                let alive: Vec<usize> =
                    (0..count).filter(|instance| !world.endings.contains_key(instance)).collect();
                if alive.len() < 2 {
                    return;
                }
                *self.chance.pick(&alive)
            }
        };
        world.trace.note(&format!("deletes instance {instance}"));
        let new = Ending { asked: now, ..Ending::default() };
        world.endings.entry(instance).or_insert(new).busy = true;
        world.under_way += 1;
        let path = format!("/v1/instances/{}", world.instances[instance]);
        let (node, world) = (node.clone(), Arc::clone(&self.world));
        tokio::task::spawn_local(async move {
            let (status, _) = node.request(Method::DELETE, &path, None).await;
            let world = &mut *world.lock();
            world.under_way -= 1;
            world.trace.note(&format!("instance {instance} is deleted: {status}"));
            let tick = world.tick();
            let Some(ending) = world.endings.get_mut(&instance) else { return };
            ending.busy = false;
            // One that was deleted before is not known any more.
            if matches!(status, 204 | 404) {
                ending.told.get_or_insert(tick);
            }
        });
    }

    /// What upkeep does with deleted instances, now and then.
    pub(crate) async fn put_away(&self, node: &Node) {
        let endings: Vec<(usize, Timestamp, String)> = {
            let world = self.world.lock();
            let open = world.endings.iter().filter(|(_, ending)| !ending.is_over);
            open.map(|(at, ending)| (*at, ending.asked, world.instances[*at].clone())).collect()
        };
        let mut owed = Vec::new();
        for (instance, ..) in &endings {
            let world = &mut *self.world.lock();
            owed.extend(world.unseen(*instance).into_iter().map(|(at, n)| (*instance, at, n)));
            world.erasing.push(Doomed::Instance(*instance));
            for target in world.targets.iter_mut().filter(|it| it.instance == Some(*instance)) {
                if !target.deleted {
                    target.will = Will::Uncertain;
                    target.doubtful = true;
                }
            }
        }
        let begun = self.world.lock().tick();
        let done = upkeep::put_away_deleted(&node.app).await;
        let left = loop {
            match node.app.store.deleted_instances().await {
                Ok(left) => break left,
                Err(_) => self.wait(Duration::from_millis(100)).await,
            }
        };
        let now = (node.app.clock)();
        let world = &mut *self.world.lock();
        for (instance, asked, id) in endings {
            let doomed = Doomed::Instance(instance);
            let is_told = world.endings.get(&instance).is_some_and(|ending| ending.told.is_some());
            let stays = left.iter().any(|it| it.id.to_string() == id);
            world.trace.note(&format!("instance {instance} is put away: {}", !stays));
            if stays && done.is_ok() {
                world.spared(doomed);
                continue;
            }
            // Where nobody was told, it may be there and have no end, or be gone.
            let is_over = !stays && is_told;
            world.erased(doomed, is_over.then_some(begun));
            if !is_over {
                continue;
            }
            if let Some(ending) = world.endings.get_mut(&instance) {
                ending.is_over = true;
            }
            let gone = world.trace.now();
            for target in world.targets.iter_mut().filter(|it| it.instance == Some(instance)) {
                target.deleted = true;
                target.will = Will::Stopped(gone);
            }
            if now.since(asked) < DRAINS_FOR {
                let lost = owed.iter().filter(|(of, at, n)| {
                    let arrivals = &world.targets[*at].arrivals;
                    *of == instance && arrivals.get(&(0, *n)).is_none_or(|it| it.count == 0)
                });
                let lost: Vec<usize> = lost.map(|(.., n)| *n).collect();
                if !lost.is_empty() {
                    world.violated(format!(
                        "instance {instance} is put away before {lost:?} were ever sent"
                    ));
                }
            }
        }
    }

    /// All is well: whatever was deleted is put away in the end.
    pub(crate) async fn end_all(&mut self, node: &Node) {
        loop {
            let (open, doubtful) = {
                let world = self.world.lock();
                let mut endings = world.endings.values();
                let open = endings.any(|ending| !ending.is_over);
                (open, world.endings.values().any(|ending| ending.told.is_none()))
            };
            if !open {
                return;
            }
            if doubtful {
                self.end_instance(node);
            }
            self.wait(DRAINS_FOR).await;
            self.put_away(node).await;
        }
    }
}

impl Inner {
    /// What its own destinations have never seen of an instance: target and event.
    fn unseen(&self, instance: usize) -> Vec<(usize, usize)> {
        let own = self.targets.iter().enumerate().filter(|(_, target)| {
            let certain = !target.deleted && !target.busy && !target.doubtful;
            certain && target.will == Will::Active && target.instance == Some(instance)
        });
        own.flat_map(|(at, target)| {
            let unseen = self
                .owed(target)
                .into_iter()
                .filter(|n| target.arrivals.get(&(0, *n)).is_none_or(|arrival| arrival.count == 0));
            unseen.map(move |n| (at, n)).collect::<Vec<_>>()
        })
        .collect()
    }
}
