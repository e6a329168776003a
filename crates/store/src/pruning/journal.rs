//! Which events go because of their age, and what stands in the way.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use zapbus_event::{InstanceId, Timestamp};

use super::{Ages, Doomed, Ground, Left, Progress, Pruner};
use crate::{encoding::is_ephemeral, fault::Result, retention::Pruned};

/// Which of the events that are looked at go. Never those that a lane has still to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Those too old for their instance that no row needs.
    Age,
    /// Those that no row is to send, whatever their age.
    Unowed,
    /// Those that lanes were moved past, with rows that were to be sent; but not with those that
    /// came since: nobody has been told of their loss.
    GivenUp {
        /// When the first lane was moved.
        since: Timestamp,
        /// With those of dead letters that are young enough to be kept otherwise.
        with_dead: bool,
    },
}

/// What rows say of one event.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    to_send: bool,
    /// When the last row to be sent was made, or somebody asked for it again by hand.
    made_at: Option<i64>,
    died_at: Option<i64>,
}

/// What stands in the way of pruning an event: what lanes have not passed, and rows that need it.
struct Claims {
    /// Of each instance: from where to where lanes are still to read.
    owed: HashMap<InstanceId, Vec<(i64, i64)>>,
    rows: BTreeMap<i64, Claim>,
}

impl Claims {
    /// Rows of the positions between the two.
    fn between(tx: &mut dyn Ground, first: i64, last: i64) -> Result<Self> {
        let mut rows = BTreeMap::<i64, Claim>::new();
        for row in tx.open_rows(first, last)? {
            let claim = rows.entry(row.seq).or_default();
            if row.dead {
                claim.died_at = claim.died_at.max(Some(row.updated_at));
                continue;
            }
            claim.to_send = true;
            let made_at = if row.manual { row.updated_at } else { row.created_at };
            claim.made_at = claim.made_at.max(Some(made_at));
        }
        Ok(Self { owed: HashMap::new(), rows })
    }

    fn is_owed(&mut self, tx: &mut dyn Ground, instance: InstanceId, seq: i64) -> Result<bool> {
        let stretches = match self.owed.entry(instance) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(tx.owed_stretches(instance)?),
        };
        Ok(stretches.iter().any(|(from, to)| *from < seq && seq <= *to))
    }
}

/// Those of a page that may go by the rule.
pub(super) fn those_free(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    page: &[Doomed],
    rule: Rule,
) -> Result<Vec<Doomed>> {
    let (Some(first), Some(last)) = (page.first(), page.last()) else {
        return Ok(Vec::new());
    };
    let mut claims = Claims::between(tx, first.seq, last.seq)?;
    let dead_since = ages.before(ages.policy.dead);
    let mut free = Vec::new();
    for event in page {
        let claim = claims.rows.get(&event.seq).copied().unwrap_or_default();
        let young_dead = claim.died_at.is_some_and(|died| died >= dead_since);
        let goes = match rule {
            Rule::Age => {
                let old = event.received_at < ages.before(ages.of(event.instance));
                old && !claim.to_send && !young_dead
            }
            Rule::Unowed => !claim.to_send,
            Rule::GivenUp { since, with_dead } => {
                let came_since = claim.made_at.is_some_and(|made| made >= since.as_millis());
                !came_since && (with_dead || !young_dead)
            }
        };
        // An ephemeral event is owed to nobody.
        let skipped = is_ephemeral(event.flags);
        if goes && (skipped || !claims.is_owed(tx, event.instance, event.seq)?) {
            free.push(*event);
        }
    }
    Ok(free)
}

/// One page of a walk through the journal: deletes what may go. True when that was the last.
pub(super) fn free_page(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    (at, upto): (&mut i64, i64),
    rule: Rule,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<bool> {
    let wanted = left.page();
    let page = tx.next_events(None, *at, upto, wanted)?;
    left.spend(page.len());
    if let Some(last) = page.last() {
        *at = last.seq;
    }
    let free = those_free(tx, ages, &page, rule)?;
    tx.delete_events(&free, pruned)?;
    Ok(page.len() < wanted)
}

/// The next events after where a pass stands.
fn next_page(
    tx: &mut dyn Ground,
    at: impl Fn(&Pruner) -> i64,
    wanted: usize,
) -> Result<Vec<Doomed>> {
    let at = at(tx.pruner());
    tx.next_events(None, at, i64::MAX, wanted)
}

/// Walks through what is old enough, oldest first.
pub(super) fn by_age(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.policy.journal);
    loop {
        let wanted = left.page();
        let mut page = next_page(tx, |pruner| pruner.age_at, wanted)?;
        page.truncate(page.partition_point(|event| event.received_at < young));
        left.spend(page.len());
        let free = those_free(tx, ages, &page, Rule::Age)?;
        tx.delete_events(&free, pruned)?;
        match page.last() {
            Some(last) if page.len() == wanted => tx.pruner().age_at = last.seq,
            _ => {
                tx.pruner().age_at = 0;
                return Ok(Progress::Round);
            }
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}

/// Instances whose events are kept for a shorter time than the others', one after the other.
pub(super) fn of_single_instances(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let usual = ages.policy.journal;
    let mut shorter: Vec<(InstanceId, i64)> = ages
        .own
        .iter()
        .filter(|(_, age)| **age < usual)
        .map(|(instance, age)| (*instance, ages.before(*age)))
        .collect();
    shorter.sort_unstable();
    let (instance, mut at) = match tx.pruner().single_at.take() {
        Some(stopped) => stopped,
        None => match shorter.first() {
            Some((first, _)) => (*first, 0),
            None => return Ok(Progress::Round),
        },
    };
    let begin = shorter.partition_point(|(other, _)| *other < instance);
    for (other, young) in &shorter[begin..] {
        if *other != instance {
            at = 0;
        }
        loop {
            if left.is_used_up() {
                tx.pruner().single_at = Some((*other, at));
                return Ok(Progress::Going);
            }
            let wanted = left.page();
            let mut page = tx.next_events(Some(*other), at, i64::MAX, wanted)?;
            page.truncate(page.partition_point(|event| event.received_at < *young));
            // An instance that has nothing costs a look too.
            left.spend(page.len().max(1));
            let free = those_free(tx, ages, &page, Rule::Age)?;
            tx.delete_events(&free, pruned)?;
            match page.last() {
                Some(last) if page.len() == wanted => at = last.seq,
                _ => break,
            }
        }
    }
    Ok(Progress::Round)
}

/// Ephemeral events. Lanes have long skipped them.
pub(super) fn ephemeral(
    tx: &mut dyn Ground,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.policy.ephemeral);
    loop {
        let wanted = left.page();
        let mut page = next_page(tx, |pruner| pruner.ephemeral_at, wanted)?;
        page.truncate(page.partition_point(|event| event.received_at < young));
        left.spend(page.len());
        if let Some(last) = page.last() {
            tx.pruner().ephemeral_at = last.seq;
        }
        let ended = page.len() < wanted;
        page.retain(|event| is_ephemeral(event.flags));
        tx.delete_events(&page, pruned)?;
        if ended {
            return Ok(Progress::Round);
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}
