//! Which events go because of their age, and what stands in the way.

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

use rusqlite::{OptionalExtension, params};
use zapbus_event::{InstanceId, Timestamp};

use super::{
    Ages, Left, Progress,
    remove::{Doomed, delete_events},
};
use crate::{
    delivery::Status,
    retention::Pruned,
    sqlite::{
        Tx,
        fault::Result,
        row::{self, limit},
        settle::status_number,
    },
};

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
    fn between(tx: &Tx<'_>, first: i64, last: i64) -> Result<Self> {
        let mut statement = tx.conn.prepare_cached(
            "SELECT seq, status, created_at, updated_at, manual FROM delivery \
             INDEXED BY delivery_open \
             WHERE status BETWEEN 1 AND 3 AND seq BETWEEN ?1 AND ?2",
        )?;
        let mut found = statement.query([first, last])?;
        let mut rows = BTreeMap::<i64, Claim>::new();
        while let Some(row) = found.next()? {
            let claim = rows.entry(row.get(0)?).or_default();
            let updated_at = Some(row.get(3)?);
            if row.get::<_, i64>(1)? == status_number(Status::Dead) {
                claim.died_at = claim.died_at.max(updated_at);
                continue;
            }
            claim.to_send = true;
            let made_at = if row.get(4)? { updated_at } else { Some(row.get(2)?) };
            claim.made_at = claim.made_at.max(made_at);
        }
        Ok(Self { owed: HashMap::new(), rows })
    }

    fn is_owed(&mut self, tx: &Tx<'_>, instance: InstanceId, seq: i64) -> Result<bool> {
        let stretches = match self.owed.entry(instance) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(owed_stretches(tx, instance)?),
        };
        Ok(stretches.iter().any(|(from, to)| *from < seq && seq <= *to))
    }
}

/// What lanes and replays have still to read of an instance's events.
fn owed_stretches(tx: &Tx<'_>, instance: InstanceId) -> Result<Vec<(i64, i64)>> {
    let Some(account) = tx.shared.directory().account_of(instance) else {
        return Ok(Vec::new());
    };
    let mut statement = tx.conn.prepare_cached(
        "SELECT l.cursor, ifnull(l.to_seq, 9223372036854775807) \
         FROM destination d JOIN lane l ON l.destination = d.n \
         WHERE d.account = ?1 AND d.instance IN (?2, x'') AND d.deleted_at IS NULL \
         AND l.state IN ('running', 'paused')",
    )?;
    let found = statement.query_map(params![account.to_bytes(), instance.to_bytes()], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// The oldest position that is stored; beyond all when there is none.
pub(super) fn oldest(tx: &Tx<'_>) -> Result<i64> {
    let oldest = tx
        .conn
        .prepare_cached("SELECT seq FROM journal ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(oldest.unwrap_or(i64::MAX))
}

/// The next events of all instances, after a position and up to another.
pub(super) fn next_events(tx: &Tx<'_>, at: i64, upto: i64, wanted: usize) -> Result<Vec<Doomed>> {
    events(
        tx,
        "SELECT seq, instance, received_at, flags FROM journal WHERE seq > ?1 AND seq <= ?2 \
         ORDER BY seq LIMIT ?3",
        params![at, upto, limit(wanted)],
    )
}

fn events(tx: &Tx<'_>, query: &str, params: impl rusqlite::Params) -> Result<Vec<Doomed>> {
    let mut statement = tx.conn.prepare_cached(query)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(Doomed {
            seq: row.get(0)?,
            instance: row::instance_id(row, 1)?,
            received_at: row.get(2)?,
            flags: row.get(3)?,
        });
    }
    Ok(found)
}

/// Those of a page that may go by the rule.
pub(super) fn those_free(
    tx: &Tx<'_>,
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
        let skipped = row::is_ephemeral(event.flags);
        if goes && (skipped || !claims.is_owed(tx, event.instance, event.seq)?) {
            free.push(*event);
        }
    }
    Ok(free)
}

/// One page of a walk through the journal: deletes what may go. True when that was the last.
pub(super) fn free_page(
    tx: &mut Tx<'_>,
    ages: &Ages<'_>,
    (at, upto): (&mut i64, i64),
    rule: Rule,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<bool> {
    let wanted = left.page();
    let page = next_events(tx, *at, upto, wanted)?;
    left.spend(page.len());
    if let Some(last) = page.last() {
        *at = last.seq;
    }
    let free = those_free(tx, ages, &page, rule)?;
    delete_events(tx, &free, pruned)?;
    Ok(page.len() < wanted)
}

/// Walks through what is old enough, oldest first.
pub(super) fn by_age(
    tx: &mut Tx<'_>,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.policy.journal);
    loop {
        let wanted = left.page();
        let mut page = next_events(tx, tx.memory.pruner.age_at, i64::MAX, wanted)?;
        page.truncate(page.partition_point(|event| event.received_at < young));
        left.spend(page.len());
        let free = those_free(tx, ages, &page, Rule::Age)?;
        delete_events(tx, &free, pruned)?;
        match page.last() {
            Some(last) if page.len() == wanted => tx.memory.pruner.age_at = last.seq,
            _ => {
                tx.memory.pruner.age_at = 0;
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
    tx: &mut Tx<'_>,
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
    let (instance, mut at) = match tx.memory.pruner.single_at.take() {
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
                tx.memory.pruner.single_at = Some((*other, at));
                return Ok(Progress::Going);
            }
            let wanted = left.page();
            let mut page = events(
                tx,
                "SELECT seq, instance, received_at, flags FROM journal \
                 WHERE instance = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                params![other.to_bytes(), at, limit(wanted)],
            )?;
            page.truncate(page.partition_point(|event| event.received_at < *young));
            // An instance that has nothing costs a look too.
            left.spend(page.len().max(1));
            let free = those_free(tx, ages, &page, Rule::Age)?;
            delete_events(tx, &free, pruned)?;
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
    tx: &mut Tx<'_>,
    ages: &Ages<'_>,
    left: &mut Left,
    pruned: &mut Pruned,
) -> Result<Progress> {
    let young = ages.before(ages.policy.ephemeral);
    loop {
        let wanted = left.page();
        let mut page = next_events(tx, tx.memory.pruner.ephemeral_at, i64::MAX, wanted)?;
        page.truncate(page.partition_point(|event| event.received_at < young));
        left.spend(page.len());
        if let Some(last) = page.last() {
            tx.memory.pruner.ephemeral_at = last.seq;
        }
        let ended = page.len() < wanted;
        page.retain(|event| row::is_ephemeral(event.flags));
        delete_events(tx, &page, pruned)?;
        if ended {
            return Ok(Progress::Round);
        }
        if left.is_used_up() {
            return Ok(Progress::Going);
        }
    }
}
