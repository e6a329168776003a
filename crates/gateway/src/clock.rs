//! What time it is. Passed in everywhere, so that tests set it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use zapbus_event::Timestamp;
use zapbus_store::Clock;

/// The computer's clock.
pub fn system() -> Clock {
    Arc::new(|| {
        // A clock set before 1970 reads as 1970: the journal's times never go back anyway.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    })
}

/// A clock behind the computer's that changes by more than this has jumped.
const JUMP_MS: i64 = 1_000;

/// Time as durations need it: it goes ahead with the computer's clock, but never back. When that
/// clock goes back, this one stays ahead of it and loses half of every second until they agree.
///
/// Without it, whatever was due a second after the computer's clock went back by an hour would be
/// due an hour late. What others compare with their own clock must not be taken from here.
pub fn steady(wall: Clock) -> Clock {
    let began = Instant::now();
    let state = Mutex::new(Steady::at(wall().as_millis()));
    Arc::new(move || {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        // Both under the lock: read in another order they would look like a jump.
        let elapsed = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(state.show(wall().as_millis(), elapsed))
    })
}

/// All in milliseconds.
struct Steady {
    wall: i64,
    elapsed: i64,
    /// How far what is shown is ahead of the computer's clock, in half milliseconds.
    ahead_halves: i64,
    shown: i64,
}

impl Steady {
    fn at(wall: i64) -> Self {
        Self { wall, elapsed: 0, ahead_halves: 0, shown: wall }
    }

    fn show(&mut self, wall: i64, elapsed: i64) -> i64 {
        let passed = elapsed.saturating_sub(self.elapsed);
        let jumped = wall.saturating_sub(self.wall).saturating_sub(passed);
        let mut ahead = self.ahead_halves;
        if jumped.saturating_abs() > JUMP_MS {
            ahead = ahead.saturating_sub(jumped.saturating_mul(2));
        }
        self.ahead_halves = ahead.saturating_sub(passed).max(0);
        (self.wall, self.elapsed) = (wall, elapsed);
        self.shown = self.shown.max(wall.saturating_add(self.ahead_halves / 2));
        self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn it_follows_the_computers_clock() {
        let mut steady = Steady::at(1_000_000);
        assert_eq!(steady.show(1_000_010, 10), 1_000_010);
        // A day ahead, or a machine that slept.
        assert_eq!(steady.show(1_000_020 + 24 * HOUR, 20), 1_000_020 + 24 * HOUR);
        // A small correction is waited for.
        assert_eq!(steady.show(999_920 + 24 * HOUR, 30), 1_000_020 + 24 * HOUR);
        assert_eq!(steady.show(1_000_030 + 24 * HOUR, 140), 1_000_030 + 24 * HOUR);
    }

    #[test]
    fn it_goes_on_at_half_its_pace_when_the_computers_clock_went_back() {
        let mut steady = Steady::at(10 * HOUR);
        assert_eq!(steady.show(9 * HOUR + 100, 100), 10 * HOUR + 50);
        for second in 1..=7_200_i64 {
            let elapsed = 100 + second * 1_000;
            let shown = steady.show(9 * HOUR + elapsed, elapsed);
            assert_eq!(shown, (10 * HOUR + elapsed / 2).max(9 * HOUR + elapsed));
        }
        assert_eq!(steady.show(11 * HOUR + 300, 2 * HOUR + 300), 11 * HOUR + 300);
    }

    #[test]
    fn a_clock_that_comes_back_from_the_past_is_believed() {
        let mut steady = Steady::at(10 * HOUR);
        steady.show(9 * HOUR, 0);
        assert_eq!(steady.show(10 * HOUR + 1_000, 1_000), 10 * HOUR + 1_000);
        assert_eq!(steady.show(10 * HOUR + 2_000, 2_000), 10 * HOUR + 2_000);
    }

    #[test]
    fn no_clock_however_wild_breaks_it() {
        let mut steady = Steady::at(i64::MIN);
        let mut last = i64::MIN;
        for (n, wall) in [i64::MAX, i64::MIN, 0, -1, i64::MAX, 5].into_iter().enumerate() {
            let shown = steady.show(wall, n as i64);
            assert!(shown >= last);
            last = shown;
        }
    }
}
