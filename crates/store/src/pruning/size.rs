//! What gives way when the space is used up (`retention.max_bytes`).
//!
//! First what nobody is owed goes, oldest first and all the way to the newest if need be, events
//! and whole bodies alike; the space is measured again after every page. Only when there is
//! nothing left of that, and with `retention.when_full = "gap"`, what is owed goes: as many of the
//! oldest events as weigh what is too much, with lanes moved just past those. One round gives up
//! nothing that came after it began, so it ends even if nothing is left that could help.

use zapbus_event::Position;

use super::{
    Ages, Ground, Left, Progress,
    ground::{position, sql},
    journal::{self, Rule},
    owed::GivingUp,
};
use crate::{
    fault::Result,
    retention::{Pruned, RetentionPolicy, WhenFull},
};

/// This share of the bound is freed at a time, so that a lane that falls behind gets few large gaps
/// and not many small ones.
const FREED_SHARE: u64 = 20;
const REASON: &str = "space ran out (retention.max_bytes)";

/// Where the pass stands.
#[derive(Clone, Default)]
pub(crate) struct Size {
    /// Nothing beyond goes in this round.
    upto: Position,
    stage: Stage,
}

#[derive(Clone, Default)]
enum Stage {
    #[default]
    Rest,
    /// Frees what nobody is owed, from the oldest on.
    Unowed { at: i64 },
    /// There are no such events: whole bodies go, oldest first.
    Bodies,
    /// Weighs what is owed, from the oldest on.
    Weighing { at: i64, weight: u64 },
    /// Gives up what was weighed.
    GivingUp(GivingUp),
}

/// Takes events again as soon as there is room.
pub(super) fn take_back_refusal(tx: &mut dyn Ground, policy: &RetentionPolicy) -> Result<()> {
    let refused = tx.pruner().refusal.is_some();
    if refused
        && (policy.when_full != WhenFull::Refuse
            || tx.used_bytes(policy.max_bytes)? <= policy.max_bytes)
    {
        tx.pruner().refusal = None;
    }
    Ok(())
}

/// Frees space while too much is used.
pub(super) fn give_way(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let mut pass = std::mem::take(&mut tx.pruner().size);
    let progress = loop {
        match pass.go_on(tx, ages, left, pruned)? {
            Some(stage) => pass.stage = stage,
            None => {
                pass.stage = Stage::Rest;
                break Progress::Round;
            }
        }
        if left.is_used_up() {
            break Progress::Going;
        }
    };
    tx.pruner().size = pass;
    Ok(progress)
}

impl Size {
    /// One page. Gives how it goes on, if it does.
    fn go_on(
        &mut self,
        tx: &mut dyn Ground,
        ages: &Ages<'_>,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<Option<Stage>> {
        let bound = ages.policy.max_bytes;
        let used = tx.used_bytes(bound - bound / FREED_SHARE)?;
        let too_much = used.saturating_sub(bound - bound / FREED_SHARE);
        match std::mem::take(&mut self.stage) {
            Stage::Rest if used > bound => {
                self.upto = tx.head();
                Ok(Some(Stage::Unowed { at: 0 }))
            }
            // What lanes were moved past goes in any case.
            Stage::GivingUp(mut giving_up) => {
                Ok(match giving_up.go_on(tx, ages, left, pruned)? {
                    None => Some(Stage::GivingUp(giving_up)),
                    // Something new is owed, and nothing else was there.
                    Some(0) => None,
                    Some(_) => Some(Stage::Weighing { at: 0, weight: 0 }),
                })
            }
            _ if too_much == 0 => Ok(None),
            Stage::Rest => Ok(None),
            Stage::Unowed { at } => {
                let next = self.free_unowed(tx, ages, at, too_much, left, pruned)?;
                Ok(Some(next.map_or(Stage::Bodies, |at| Stage::Unowed { at })))
            }
            Stage::Bodies => {
                if free_body(tx, i64::MAX, left, pruned)? {
                    return Ok(Some(Stage::Bodies));
                }
                if used <= bound {
                    return Ok(None);
                }
                if ages.policy.when_full == WhenFull::Refuse {
                    tx.pruner().refusal = Some(
                        "its share of the disk is used up by events that destinations are still \
                         owed (retention.max_bytes, retention.when_full = \"refuse\")"
                            .to_owned(),
                    );
                    return Ok(None);
                }
                Ok(Some(Stage::Weighing { at: 0, weight: 0 }))
            }
            Stage::Weighing { at, weight } => {
                // Far from the bound, weights are not trusted with all of it.
                let wanted = if too_much > bound / 10 { too_much - too_much / 4 } else { too_much };
                self.weigh_on(tx, at, weight, wanted, left)
            }
        }
    }

    /// Frees what nobody is owed in the next page. Gives where it ended unless it was the last.
    fn free_unowed(
        &self,
        tx: &mut dyn Ground,
        ages: &Ages<'_>,
        at: i64,
        too_much: u64,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<Option<i64>> {
        let wanted = left.page();
        let page = tx.next_events(None, at, sql(self.upto), wanted)?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        // Bodies go with the events of their time.
        if free_body(tx, last.received_at, left, pruned)? {
            return Ok(Some(at));
        }
        left.spend(page.len());
        let mut free = journal::those_free(tx, ages, &page, Rule::Unowed)?;
        let mut freed = 0;
        let mut enough = free.len();
        for (index, weight) in tx.weigh(&free)?.into_iter().enumerate() {
            freed += weight;
            if freed >= too_much {
                enough = index + 1;
                break;
            }
        }
        let next = match free.get(enough) {
            // Weights are no more than nearly right: it goes on here if that was not enough.
            Some(_) => free[enough - 1].seq,
            None if page.len() == wanted => last.seq,
            None => sql(self.upto),
        };
        free.truncate(enough);
        tx.delete_events(&free, pruned)?;
        Ok(Some(next))
    }

    /// Weighs the next page of what is owed.
    fn weigh_on(
        &self,
        tx: &mut dyn Ground,
        at: i64,
        mut weight: u64,
        wanted: u64,
        left: &mut Left,
    ) -> Result<Option<Stage>> {
        let rows = left.page();
        let page = tx.next_events(None, at, sql(self.upto), rows)?;
        left.spend(page.len());
        let mut last = at;
        for (event, weighs) in page.iter().zip(tx.weigh(&page)?) {
            weight += weighs;
            last = event.seq;
            if weight >= wanted {
                break;
            }
        }
        if weight < wanted && page.len() == rows {
            return Ok(Some(Stage::Weighing { at: last, weight }));
        }
        Ok((last > 0)
            .then(|| Stage::GivingUp(GivingUp::new(position(last), tx.now(), true, REASON))))
    }
}

/// Deletes the oldest whole body that came at this time or before. True when there was one.
fn free_body(tx: &mut dyn Ground, upto: i64, left: &mut Left, pruned: &mut Pruned) -> Result<bool> {
    let gone = tx.free_body(upto)?;
    if gone {
        left.spend(1);
        pruned.others += 1;
    }
    Ok(gone)
}
