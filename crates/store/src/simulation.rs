//! The store without threads, on a clock that a test moves: for the deterministic simulation.
//!
//! The engine is the real one, with its real database file. Only who runs it differs: reads run
//! where they are asked for, and the writer is a task of the simulated runtime. Both take virtual
//! time, by the seed. A crash is the end of that runtime: a commit that was still waiting for its
//! turn is gone, one that had not been answered is in the file.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use zapbus_event::{Position, SubscriberId};

use crate::{
    delivery::{Settlement, State},
    subscriber::Advance,
};

/// A seeded source of choices (SplitMix64).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The same seed makes the same choices.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if `bound` is.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// True once in `n` times; never if `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    /// One of them. Panics when there are none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// Another source, independent of what this one is asked later.
    pub fn fork(&mut self) -> Self {
        Self(self.bits())
    }

    /// Most often nothing or little, sometimes up to `longest`.
    pub fn delay(&mut self, longest: Duration) -> Duration {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(match self.below(8) {
            0..4 => 0,
            4..7 => self.below(3).min(longest),
            _ => self.below(longest.saturating_add(1)),
        })
    }
}

thread_local! {
    static IDS: RefCell<Option<Chance>> = const { RefCell::new(None) };
}

/// New ids of this thread come from `chance` from now on.
pub fn seed_ids(chance: Chance) {
    IDS.set(Some(chance));
}

/// Bits for an id, where they are seeded.
pub(crate) fn seeded_bits() -> Option<u128> {
    IDS.with_borrow_mut(|ids| {
        let ids = ids.as_mut()?;
        Some((u128::from(ids.bits()) << 64) | u128::from(ids.bits()))
    })
}

/// How the simulated disk is.
#[derive(Debug, Clone, Copy)]
pub struct Temper {
    /// A read takes up to this, before and after the database is asked.
    pub read: Duration,
    /// A commit takes up to this, before it is durable and again before it is answered.
    pub commit: Duration,
    /// One commit in so many fails; 0: none.
    pub failing: u64,
}

/// A fault that somebody might build in. The simulation has to notice each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Appends are answered before they are committed.
    AnswersTooEarly,
    /// A settlement moves the cursor past what was sent but is not settled.
    CursorAtSend,
    /// A failure leaves no row behind.
    ForgetsRetries,
    /// A delivery leaves no row behind, and the cursor stays where it is.
    ForgetsDeliveries,
    /// What a subscriber has acknowledged is not written down.
    ForgetsAcks,
    /// What a subscriber was offered and has not acknowledged is not written down.
    ForgetsOffers,
}

/// What became of a commit that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The disk is full; nothing is written.
    Full,
    /// Nothing is written.
    Lost,
    /// It is written, and nobody knows.
    Unknown,
}

/// What a simulated store is steered by. Clones are the same.
#[derive(Debug, Clone)]
pub struct Simulation(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    chance: Chance,
    temper: Temper,
    mutation: Option<Mutation>,
    failures: u64,
}

impl Simulation {
    /// A store that does as `chance` says.
    pub fn new(chance: Chance, temper: Temper, mutation: Option<Mutation>) -> Self {
        Self(Arc::new(Mutex::new(Inner { chance, temper, mutation, failures: 0 })))
    }

    /// The disk is another from now on.
    pub fn set_temper(&self, temper: Temper) {
        self.inner().temper = temper;
    }

    /// Commits that failed on purpose.
    pub fn failures(&self) -> u64 {
        self.inner().failures
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets virtual time pass as a part of a read takes it.
    pub(crate) async fn read_pause(&self) {
        let pause = {
            let inner = &mut *self.inner();
            inner.chance.delay(inner.temper.read)
        };
        rest(pause).await;
    }

    /// The same for a part of a commit.
    pub(crate) async fn commit_pause(&self) {
        let pause = {
            let inner = &mut *self.inner();
            inner.chance.delay(inner.temper.commit)
        };
        rest(pause).await;
    }

    /// Whether this commit fails.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let inner = &mut *self.inner();
        if !inner.chance.one_in(inner.temper.failing) {
            return None;
        }
        inner.failures += 1;
        Some(*inner.chance.pick(&[Failure::Full, Failure::Lost, Failure::Unknown]))
    }

    pub(crate) fn answers_too_early(&self) -> bool {
        self.inner().mutation == Some(Mutation::AnswersTooEarly)
    }

    /// Makes of a settlement what a faulty lane would.
    pub(crate) fn bend(&self, settlements: &mut [Settlement], head: Position) {
        let mutation = self.inner().mutation;
        for settlement in settlements {
            match mutation {
                Some(Mutation::CursorAtSend) if !settlement.rows.is_empty() => {
                    settlement.cursor = Some(head);
                }
                Some(Mutation::ForgetsRetries) => {
                    settlement.rows.retain(|row| !matches!(row.state, State::Retrying { .. }));
                }
                Some(Mutation::ForgetsDeliveries) => {
                    settlement.rows.retain(|row| row.state != State::Delivered);
                    settlement.cursor = None;
                }
                _ => {}
            }
        }
    }
}

impl Simulation {
    /// Makes of what is written about subscribers what faulty ones would.
    pub(crate) fn bend_advances(&self, advances: &mut [(SubscriberId, Advance)]) {
        let mutation = self.inner().mutation;
        for (_, advance) in advances {
            match mutation {
                Some(Mutation::ForgetsAcks) => advance.done.clear(),
                Some(Mutation::ForgetsOffers) => advance.progress.open.clear(),
                _ => {}
            }
        }
    }
}

async fn rest(pause: Duration) {
    if pause.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(pause).await;
    }
}
