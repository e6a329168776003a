//! Pruning, in steps of a few milliseconds between commits. The
//! rules are here; what an engine has to be asked for them is a [`Ground`].
//!
//! There are several passes: what is owed for too long, what gives way to size, what is old, and
//! so on. Each has a position of its own and goes **once round**: from the oldest to where nothing
//! is left for it. A step gives the passes their turns, a share of its rows and time each, and the
//! next step goes on with the pass whose turn it is then; so no pass waits for another, however
//! much that one has to look at, and there is no more to do when each has come round. What becomes
//! due behind a pass in the meantime is the next round's.
//!
//! Nothing here is needed after a crash: a pass that starts over finds what is left.
//!
//! Ages are told by the clock, and not by the time of the newest event, which stays in the future
//! for as long as it takes when a clock once ran ahead.

mod gap;
mod ground;
mod journal;
mod log;
mod others;
mod owed;
mod size;

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;
use zapbus_event::{InstanceId, Timestamp};

pub(crate) use self::{
    ground::{Doomed, Glimpse, Ground, Lane, Line, OpenRow},
    size::{Reach, Stand},
};
use self::{others::Others, owed::Owed, size::Size};
use crate::{
    fault::Result,
    retention::{Budget, Pruned, RetentionPolicy},
};

/// Rows taken at a time, between two looks at the clock.
const PAGE: usize = 32;
/// One turn of one pass gets this part of what a step may do.
const TURNS: u32 = 4;
/// When the time of the newest event is so far ahead of the clock, it is worth a line.
const AHEAD: Duration = Duration::from_secs(60);

/// One turn of a pass.
type Pass = fn(&mut dyn Ground, &Ages<'_>, &mut Left, &mut Pruned) -> Result<Progress>;

const PASSES: [Pass; 9] = [
    owed::give_up,
    size::give_way,
    journal::by_age,
    journal::of_single_instances,
    journal::ephemeral,
    log::by_age,
    others::bodies,
    others::small_things,
    others::leftovers,
];

/// How a pass stands after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// It goes on from its position.
    Going,
    /// It has come round.
    Round,
}

/// Where pruning stands.
#[derive(Clone, Default)]
pub(crate) struct Pruner {
    /// The pass whose turn it is.
    turn: usize,
    /// Passes that have come round, until all have.
    round: [bool; PASSES.len()],
    owed: Owed,
    size: Size,
    /// The last position that was looked at for its age.
    age_at: i64,
    /// The same of instances with a retention of their own.
    single_at: Option<(InstanceId, i64)>,
    /// The same of the pass for ephemeral events, which looks at every event once.
    ephemeral_at: i64,
    /// The last row of the delivery log that was looked at.
    log_at: i64,
    others: Others,
    /// Why appends are refused, if they are.
    refusal: Option<String>,
    /// The newest event is well ahead of the clock, and that has been said.
    ahead: bool,
}

impl Pruner {
    /// Why no events are taken: space is used up, and all of it by what somebody is owed.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.clone()
    }

    /// There is room: events are taken again.
    pub(crate) fn take_back_refusal(&mut self) {
        self.refusal = None;
    }

    /// How what gives way to size stands.
    pub(crate) fn stand(&self) -> Stand {
        self.size.stand()
    }
}

/// What may still be done.
pub(crate) struct Left {
    rows: usize,
    until: Instant,
}

impl Left {
    fn of(budget: Budget) -> Self {
        Self { rows: budget.rows.max(1), until: Instant::now() + budget.time }
    }

    pub(crate) fn spend(&mut self, rows: usize) {
        self.rows = self.rows.saturating_sub(rows);
    }

    fn is_used_up(&self) -> bool {
        self.rows == 0 || Instant::now() >= self.until
    }

    /// Rows to take in one go. At least one: whoever has a turn gets on.
    pub(crate) fn page(&self) -> usize {
        self.rows.clamp(1, PAGE)
    }
}

/// How long the journal keeps events of each instance, and what time it is.
pub(crate) struct Ages<'a> {
    pub(crate) policy: &'a RetentionPolicy,
    own: HashMap<InstanceId, Duration>,
    pub(crate) now: Timestamp,
}

impl Ages<'_> {
    fn of(&self, instance: InstanceId) -> Duration {
        self.own.get(&instance).copied().unwrap_or(self.policy.journal)
    }

    pub(crate) fn longest(&self) -> Duration {
        self.own.values().copied().max().unwrap_or_default().max(self.policy.journal)
    }

    fn shortest(&self) -> Duration {
        self.own.values().copied().min().unwrap_or(self.policy.journal).min(self.policy.journal)
    }

    /// What is older than this is older than `age`.
    pub(crate) fn before(&self, age: Duration) -> i64 {
        (self.now - age).as_millis()
    }
}

/// One step.
pub(crate) fn prune(
    tx: &mut dyn Ground,
    policy: &RetentionPolicy,
    budget: Budget,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let ages = ages(tx, policy);
    let mut left = Left::of(budget);
    let turns = TURNS as usize;
    while tx.pruner().round.contains(&false) {
        let turn = tx.pruner().turn;
        tx.pruner().turn = (turn + 1) % PASSES.len();
        if tx.pruner().round[turn] {
            continue;
        }
        let rows = (budget.rows / turns).clamp(1, left.rows.max(1));
        let mut share = Left::of(Budget { rows, time: budget.time / TURNS });
        let progress = PASSES[turn](tx, &ages, &mut share, &mut pruned)?;
        tx.pruner().round[turn] = progress == Progress::Round;
        // A turn that only looked counts too.
        left.spend((rows - share.rows).max(1));
        if left.is_used_up() {
            break;
        }
    }
    pruned.more = tx.pruner().round.contains(&false);
    if !pruned.more {
        tx.pruner().round = Default::default();
    }
    size::take_back_refusal(tx, policy)?;
    count(tx, &pruned);
    Ok(pruned)
}

/// A step of what gives way to size alone, as far as [`Ground::reach`] lets it.
pub(crate) fn make_room(
    tx: &mut dyn Ground,
    policy: &RetentionPolicy,
    budget: Budget,
) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    let ages = ages(tx, policy);
    size::give_way(tx, &ages, &mut Left::of(budget), &mut pruned)?;
    size::take_back_refusal(tx, policy)?;
    count(tx, &pruned);
    Ok(pruned)
}

fn ages<'a>(tx: &mut dyn Ground, policy: &'a RetentionPolicy) -> Ages<'a> {
    let mut own = policy.overrides.clone();
    own.extend(tx.retentions());
    Ages { policy, own, now: clock(tx) }
}

fn count(tx: &dyn Ground, pruned: &Pruned) {
    let metrics = tx.metrics();
    metrics.pruned_events.add(pruned.events);
    metrics.pruned_rows.add(pruned.deliveries);
    metrics.gaps.add(pruned.gaps);
}

/// The time by which things are old. Not the transaction's, which never goes back: an hour in which
/// the clock was a year ahead must not cost a year of events.
fn clock(tx: &mut dyn Ground) -> Timestamp {
    let clock = tx.clock();
    let now = tx.now();
    let ahead = now.since(clock) > AHEAD;
    if ahead && !tx.pruner().ahead {
        tracing::warn!(event = "store.clock_behind", %clock, newest = %now, "the newest event is ahead of the clock: retention goes by the clock");
    }
    tx.pruner().ahead = ahead;
    clock.min(now)
}
