//! What goes although it is owed: lanes are moved past it first, then it is freed.

use std::time::Duration;

use zapbus_event::{Position, Timestamp};

use super::{
    Ages, Ground, Left, Progress,
    gap::Lanes,
    ground::sql,
    journal::{self, Rule},
};
use crate::{fault::Result, retention::Pruned};

/// How often it is looked for what is owed for too long, at the most: each look that finds
/// something makes a gap.
const PAUSE: Duration = Duration::from_secs(3600);

/// A stretch from the oldest event to a position that is given up, a little at a time.
#[derive(Clone)]
pub(super) struct GivingUp {
    to: Position,
    rule: Rule,
    reason: &'static str,
    /// Lanes that are still to be moved.
    lanes: Option<Lanes>,
    /// When they are: the last position that was freed or left.
    at: i64,
    freed: u64,
}

impl GivingUp {
    /// With the events of young dead letters, or without.
    pub(super) fn new(
        to: Position,
        since: Timestamp,
        with_dead: bool,
        reason: &'static str,
    ) -> Self {
        let rule = Rule::GivenUp { since, with_dead };
        Self { to, rule, reason, lanes: Some(Lanes::default()), at: 0, freed: 0 }
    }

    /// Goes on. When it is done: how many events have gone.
    pub(super) fn go_on(
        &mut self,
        tx: &mut dyn Ground,
        ages: &Ages<'_>,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<Option<u64>> {
        if let Some(lanes) = &mut self.lanes {
            if !lanes.move_on(tx, self.to, self.reason, left, pruned)? {
                return Ok(None);
            }
            self.lanes = None;
        }
        let before = pruned.events;
        let upto = sql(self.to);
        let ended = journal::free_page(tx, ages, (&mut self.at, upto), self.rule, left, pruned)?;
        self.freed += pruned.events - before;
        Ok(ended.then_some(self.freed))
    }
}

/// What is owed for longer than anything is kept for.
#[derive(Clone, Default)]
pub(crate) struct Owed {
    giving_up: Option<GivingUp>,
    /// When it was last looked.
    looked_at: Option<Timestamp>,
}

/// Gives up what is owed for too long.
pub(super) fn give_up(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let mut pass = std::mem::take(&mut tx.pruner().owed);
    if pass.giving_up.is_none() {
        pass.giving_up = look(tx, ages, &mut pass.looked_at)?;
    }
    let mut progress = Progress::Round;
    while let Some(giving_up) = &mut pass.giving_up {
        if giving_up.go_on(tx, ages, left, pruned)?.is_some() {
            pass.giving_up = None;
        } else if left.is_used_up() {
            progress = Progress::Going;
            break;
        }
    }
    tx.pruner().owed = pass;
    Ok(progress)
}

fn look(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    looked_at: &mut Option<Timestamp>,
) -> Result<Option<GivingUp>> {
    let owed = ages.policy.owed.max(ages.longest());
    let pause = (owed / 100).min(PAUSE);
    if looked_at.is_some_and(|last| ages.now.since(last) < pause) {
        return Ok(None);
    }
    *looked_at = Some(ages.now);
    let to = tx.position_at(ages.now - owed)?.min(tx.head());
    if tx.oldest()? > sql(to) {
        return Ok(None);
    }
    let reason = "kept for as long as is kept (retention.owed)";
    Ok(Some(GivingUp::new(to, tx.now(), false, reason)))
}
