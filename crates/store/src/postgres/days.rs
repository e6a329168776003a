//! From which day on the events beyond a position are.
//!
//! The journal lies in partitions by time and is asked by position. Within a shard neither goes back,
//! so where a day begins is a fact that stays true once the day has begun: it is looked up once, kept
//! in memory, and lets a reader leave the days before it alone, whoever it is and wherever its
//! position comes from. Nothing has to be stored with a cursor for that.

use std::sync::Mutex;

use zapbus_event::{Position, Timestamp};

use super::{
    Shared, lock,
    pool::Session,
    row::{position, sql},
};
use crate::{ShardId, fault::Result};

const DAY_MS: i64 = 86_400_000;
/// More days than this are not told apart: what is older is read from the oldest of them on.
const MOST: i64 = 400;

/// Where days begin, in one shard.
#[derive(Debug, Default)]
pub(crate) struct Days {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Ends of the days before, in order, and when each one after them begins, in milliseconds.
    begins: Vec<(Position, i64)>,
    /// The newest day that was looked at.
    newest: Option<i64>,
}

impl Days {
    /// The time at or after which every stored event beyond a position was received.
    fn find(&self, after: Position) -> i64 {
        let known = lock(&self.known);
        let later = known.begins.partition_point(|(last, _)| *last <= after);
        later.checked_sub(1).and_then(|at| known.begins.get(at)).map_or(i64::MIN, |(_, at)| *at)
    }

    fn knows(&self, day: i64) -> bool {
        lock(&self.known).newest.is_some_and(|newest| newest >= day)
    }

    /// After the database was taken back in time.
    pub(super) fn forget(&self) {
        *lock(&self.known) = Known::default();
    }
}

/// The time from which on a reader beyond `after` has to look, in milliseconds.
pub(super) async fn since(
    shared: &Shared,
    session: &Session,
    shard: ShardId,
    after: Position,
) -> Result<i64> {
    let followed = &shared.shard(shard).followed;
    // The day of the newest event: no other one has to be known yet.
    let today = followed.newest_at().div_euclid(DAY_MS);
    if !followed.days.knows(today) {
        learn(session, &followed.days, shard, today).await?;
    }
    Ok(followed.days.find(after))
}

async fn learn(session: &Session, days: &Days, shard: ShardId, today: i64) -> Result<()> {
    let number = i32::from(shard.0);
    let first = session
        .first("SELECT received_at FROM journal WHERE shard = $1 ORDER BY seq LIMIT 1", &[&number])
        .await?;
    let Some(first) = first else { return Ok(()) };
    let oldest = Timestamp::from_millis(first.try_get(0)?).as_millis().div_euclid(DAY_MS);
    let wanted: Vec<i64> = (oldest.max(today - MOST)..=today).map(|day| day * DAY_MS).collect();
    let rows = session
        .query(
            "SELECT d.at, (SELECT j.seq FROM journal j WHERE j.shard = $1 \
             AND j.received_at < d.at ORDER BY j.seq DESC LIMIT 1) \
             FROM unnest($2::bigint[]) AS d(at) ORDER BY d.at",
            &[&number, &wanted],
        )
        .await?;
    let mut begins = Vec::with_capacity(rows.len());
    for row in &rows {
        let last: Option<i64> = row.try_get(1)?;
        // Nothing is stored before it: whoever reads begins there.
        begins.push((last.map_or(Position::START, position), row.try_get(0)?));
    }
    debug_assert!(begins.is_sorted_by_key(|(last, _)| sql(*last)));
    *lock(&days.known) = Known { begins, newest: Some(today) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_in_the_day_that_began_last_before_it() {
        let days = Days::default();
        assert_eq!(days.find(Position(5)), i64::MIN);
        *lock(&days.known) = Known {
            begins: vec![
                (Position(0), 0),
                (Position(10), 100),
                (Position(10), 200),
                (Position(30), 300),
            ],
            newest: Some(3),
        };
        let found: Vec<i64> =
            [0, 9, 10, 29, 30, 99].map(|after| days.find(Position(after))).to_vec();
        assert_eq!(found, [0, 0, 200, 200, 300, 300]);
    }
}
