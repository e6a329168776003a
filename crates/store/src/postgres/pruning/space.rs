//! The space is one for all shards, and so is what gives way when it is used up: the node that holds
//! the first shard goes through all of them, time by time. Each shard frees what is older than a
//! time; when all have, the time moves on. What is owed goes only when no shard has anything else.
//!
//! Nothing of it is needed after a crash, or by the next node that holds the first shard: it begins
//! anew. Only whether events are refused is in the database, where every node reads it.

use super::{add, now, used_bytes};
use crate::{
    StoreError,
    fault::Result,
    postgres::{Engine, Shared, lock, pool::Session},
    pruning::{Reach, Stand},
    retention::{Budget, Pruned, RetentionPolicy, WhenFull},
};

/// Into so many parts the time from the oldest event to now is divided.
const PARTS: i64 = 32;

/// What the node that looks after the space remembers.
#[derive(Default)]
pub(crate) struct Space {
    round: Option<Round>,
    /// What it has decided on refusing events, if it has yet.
    decided: Option<Option<String>>,
}

impl Space {
    /// What another node has decided counts, or what one has before: not what this one decided when
    /// it looked after the space for the last time.
    pub(crate) fn hears(&mut self, looks_after: bool) -> bool {
        if !looks_after {
            *self = Self::default();
        }
        self.decided.is_none()
    }
}

/// Once from the oldest event to the newest, and a second time with what is owed.
#[derive(Clone, Copy)]
struct Round {
    oldest: i64,
    newest: i64,
    reach: Reach,
}

impl Round {
    async fn begin(shared: &Shared, session: &Session) -> Result<Self> {
        let row = session
            .one(
                "SELECT min(j.received_at) FROM shard s CROSS JOIN LATERAL \
                 (SELECT received_at FROM journal j WHERE j.shard = s.shard ORDER BY seq LIMIT 1) j",
                &[],
            )
            .await?;
        let newest = now(shared, session).await?.as_millis();
        let oldest = row.try_get::<_, Option<i64>>(0)?.unwrap_or(newest);
        let round = Self { oldest, newest, reach: Reach::ALL };
        let alone = shared.shards.len() == 1;
        Ok(if alone { round } else { round.again(false) })
    }

    fn again(self, owed: bool) -> Self {
        let reach = Reach { upto: self.oldest, owed, begun: true };
        Self { reach, ..self }.later()
    }

    fn later(mut self) -> Self {
        let part = ((self.newest - self.oldest) / PARTS).max(1);
        let upto = self.reach.upto.saturating_add(part);
        // Events may be newer than the clock says.
        self.reach.upto = if upto >= self.newest { i64::MAX } else { upto };
        self
    }

    /// When every shard has done what it may.
    fn next(self) -> Option<Self> {
        match self.reach {
            Reach { upto, .. } if upto < i64::MAX => Some(self.later()),
            Reach { owed: false, .. } => Some(self.again(true)),
            Reach { .. } => None,
        }
    }
}

/// One step for each shard.
pub(super) async fn make_room(
    engine: &Engine,
    policy: &RetentionPolicy,
    budget: Budget,
) -> Result<Pruned, StoreError> {
    let shared = &engine.shared;
    let session = shared.pool.session().await?;
    let under_way = lock(&shared.space).round;
    let mut total = Pruned::default();
    let too_much = used_bytes(&session, policy.max_bytes).await? > policy.max_bytes;
    let round = match under_way {
        None if !too_much => {
            for shard in &shared.shards {
                lock(&shard.pruner).take_back_refusal();
            }
            decide(shared, &session, None).await?;
            return Ok(total);
        }
        None => Round::begin(shared, &session).await?,
        Some(round) => round,
    };
    drop(session);
    let mut stands = Vec::with_capacity(shared.shards.len());
    for shard in shared.all() {
        let pruned = engine.prune_shard(shard, policy, budget, Some(round.reach)).await?;
        stands.push(match &pruned {
            Some(_) => lock(&shared.shard(shard).pruner).stand(),
            None => Stand::Goes,
        });
        add(&mut total, pruned.unwrap_or_default());
    }
    let next = if stands.contains(&Stand::Goes) {
        Some(round)
    } else if stands.contains(&Stand::Waits) {
        round.next()
    } else {
        None
    };
    total.more = next.is_some();
    lock(&shared.space).round = next;
    let refusal = shared.shards.iter().find_map(|shard| lock(&shard.pruner).refusal());
    // As long as something may still help, it stays as it is.
    if refusal.is_some() || next.is_none() || policy.when_full != WhenFull::Refuse {
        let session = shared.pool.session().await?;
        decide(shared, &session, refusal).await?;
    }
    Ok(total)
}

/// Every node reads it with its next sign of life.
async fn decide(shared: &Shared, session: &Session, refusal: Option<String>) -> Result<()> {
    let known = lock(&shared.space).decided.as_ref() == Some(&refusal);
    if known {
        return Ok(());
    }
    match &refusal {
        Some(reason) => {
            session
                .execute(
                    "INSERT INTO refusal (reason) VALUES ($1) \
                     ON CONFLICT (one) DO UPDATE SET reason = excluded.reason",
                    &[reason],
                )
                .await?
        }
        None => session.execute("DELETE FROM refusal", &[]).await?,
    };
    lock(&shared.space).decided = Some(refusal.clone());
    shared.set_refusal(refusal);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_goes_from_the_oldest_to_the_newest_twice() {
        let begun = Round { oldest: 1_000, newest: 4_200, reach: Reach::ALL }.again(false);
        assert_eq!((begun.reach.upto, begun.reach.owed), (1_100, false));
        let rest: Vec<(i64, bool)> = std::iter::successors(Some(begun), |round| round.next())
            .map(|round| (round.reach.upto, round.reach.owed))
            .collect();
        assert_eq!(rest.len(), 2 * PARTS as usize);
        assert!(rest[..32].is_sorted() && rest[32..].is_sorted());
        assert_eq!(
            (rest[31], rest[32], rest[63]),
            ((i64::MAX, false), (1_100, true), (i64::MAX, true))
        );
    }
}
