//! What gives way when the space is used up (`retention.max_bytes`).
//!
//! First what nobody is owed goes, oldest first and all the way to the newest if need be, events
//! and whole bodies alike; the space is measured again after every page. Only when there is
//! nothing left of that, and with `retention.when_full = "gap"`, what is owed goes: as many of the
//! oldest events as weigh what is too much, with lanes moved just past those. One round gives up
//! nothing that came after it began, so it ends even if nothing is left that could help.
//!
//! Where the space is shared with others that have events too, each goes only as far as its [`Reach`]
//! and waits there: so what is oldest among all of them goes first, and nothing that is owed goes
//! anywhere while there is something somewhere that is not.

use zapbus_event::Position;

use super::{
    Ages, Doomed, Ground, Left, Progress,
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

/// How far it may go for now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reach {
    /// Events that were received later stay, in milliseconds.
    pub(crate) upto: i64,
    /// What is owed may go.
    pub(crate) owed: bool,
    /// Others have begun: it frees its part also if what they freed is enough for the bound itself.
    pub(crate) begun: bool,
}

impl Reach {
    /// Nobody else has events.
    pub(crate) const ALL: Self = Self { upto: i64::MAX, owed: true, begun: false };
}

/// How the pass stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// There is nothing to do, or nothing more that could help.
    Rests,
    /// It went as far as its reach.
    Waits,
    /// It goes on with the next step.
    Goes,
}

/// Where the pass stands.
#[derive(Clone, Default)]
pub(crate) struct Size {
    /// Nothing beyond goes in this round.
    upto: Position,
    stage: Stage,
    /// It went as far as its reach.
    waits: bool,
}

/// How it goes on after a page.
enum Next {
    Goes(Stage),
    Waits(Stage),
    Ends,
}

/// Events in order, without those beyond the reach.
struct Page {
    events: Vec<Doomed>,
    /// There may be more.
    full: bool,
    /// Some are beyond the reach.
    cut: bool,
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
    let refused = tx.reach().is_some() && tx.pruner().refusal.is_some();
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
    let Some(reach) = tx.reach() else {
        return Ok(Progress::Round);
    };
    let mut pass = std::mem::take(&mut tx.pruner().size);
    pass.waits = false;
    let progress = loop {
        match pass.go_on(tx, (ages, reach), left, pruned)? {
            Next::Goes(stage) => pass.stage = stage,
            Next::Waits(stage) => {
                (pass.stage, pass.waits) = (stage, true);
                break Progress::Round;
            }
            Next::Ends => {
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
    pub(super) fn stand(&self) -> Stand {
        match self.stage {
            Stage::Rest => Stand::Rests,
            _ if self.waits => Stand::Waits,
            _ => Stand::Goes,
        }
    }

    /// One page.
    fn go_on(
        &mut self,
        tx: &mut dyn Ground,
        (ages, reach): (&Ages<'_>, Reach),
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<Next> {
        let bound = ages.policy.max_bytes;
        let used = tx.used_bytes(bound - bound / FREED_SHARE)?;
        let too_much = used.saturating_sub(bound - bound / FREED_SHARE);
        let weighing = Stage::Weighing { at: 0, weight: 0 };
        match std::mem::take(&mut self.stage) {
            Stage::Rest if used > bound || (reach.begun && too_much > 0) => {
                self.upto = tx.head();
                Ok(Next::Goes(Stage::Unowed { at: 0 }))
            }
            // What lanes were moved past goes in any case.
            Stage::GivingUp(mut giving_up) => {
                Ok(match giving_up.go_on(tx, ages, left, pruned)? {
                    None => Next::Goes(Stage::GivingUp(giving_up)),
                    // Something new is owed, and nothing else was there.
                    Some(0) if reach.upto == i64::MAX => Next::Ends,
                    Some(0) => Next::Waits(weighing),
                    Some(_) => Next::Goes(weighing),
                })
            }
            _ if too_much == 0 => Ok(Next::Ends),
            Stage::Rest => Ok(Next::Ends),
            Stage::Unowed { at } => {
                let page = self.page(tx, at, reach, left)?;
                if page.events.is_empty() {
                    let waits = Next::Waits(Stage::Unowed { at });
                    return Ok(if page.cut { waits } else { Next::Goes(Stage::Bodies) });
                }
                let at = self.free_unowed(tx, (ages, at), &page, too_much, left, pruned)?;
                Ok(Next::Goes(Stage::Unowed { at }))
            }
            Stage::Bodies => {
                if free_body(tx, i64::MAX, left, pruned)? {
                    return Ok(Next::Goes(Stage::Bodies));
                }
                if used <= bound {
                    return Ok(Next::Ends);
                }
                if !reach.owed {
                    return Ok(Next::Waits(Stage::Bodies));
                }
                if ages.policy.when_full == WhenFull::Refuse {
                    tx.pruner().refusal = Some(
                        "its share of the disk is used up by events that destinations are still \
                         owed (retention.max_bytes, retention.when_full = \"refuse\")"
                            .to_owned(),
                    );
                    return Ok(Next::Ends);
                }
                Ok(Next::Goes(weighing))
            }
            Stage::Weighing { at, weight } => {
                // Far from the bound, weights are not trusted with all of it.
                let wanted = if too_much > bound / 10 { too_much - too_much / 4 } else { too_much };
                let page = self.page(tx, at, reach, left)?;
                Self::weigh_on(tx, (at, weight), wanted, &page, left)
            }
        }
    }

    fn page(&self, tx: &mut dyn Ground, at: i64, reach: Reach, left: &Left) -> Result<Page> {
        let wanted = left.page();
        let mut events = tx.next_events(None, at, sql(self.upto), wanted)?;
        let full = events.len() == wanted;
        let within = events.partition_point(|event| event.received_at <= reach.upto);
        let cut = within < events.len();
        events.truncate(within);
        Ok(Page { events, full, cut })
    }

    /// Frees what nobody is owed of a page. Gives where it ended.
    fn free_unowed(
        &self,
        tx: &mut dyn Ground,
        (ages, at): (&Ages<'_>, i64),
        page: &Page,
        too_much: u64,
        left: &mut Left,
        pruned: &mut Pruned,
    ) -> Result<i64> {
        let Some(last) = page.events.last() else {
            return Ok(at);
        };
        // Bodies go with the events of their time.
        if free_body(tx, last.received_at, left, pruned)? {
            return Ok(at);
        }
        left.spend(page.events.len());
        let mut free = journal::those_free(tx, ages, &page.events, Rule::Unowed)?;
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
            None if page.full || page.cut => last.seq,
            None => sql(self.upto),
        };
        free.truncate(enough);
        tx.delete_events(&free, pruned)?;
        Ok(next)
    }

    /// Weighs a page of what is owed.
    fn weigh_on(
        tx: &mut dyn Ground,
        (at, mut weight): (i64, u64),
        wanted: u64,
        page: &Page,
        left: &mut Left,
    ) -> Result<Next> {
        left.spend(page.events.len());
        let mut last = at;
        for (event, weighs) in page.events.iter().zip(tx.weigh(&page.events)?) {
            weight += weighs;
            last = event.seq;
            if weight >= wanted {
                break;
            }
        }
        if weight < wanted && page.full && !page.cut {
            return Ok(Next::Goes(Stage::Weighing { at: last, weight }));
        }
        Ok(if last > 0 {
            Next::Goes(Stage::GivingUp(GivingUp::new(position(last), tx.now(), true, REASON)))
        } else if page.cut {
            Next::Waits(Stage::Weighing { at: 0, weight: 0 })
        } else {
            Next::Ends
        })
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
