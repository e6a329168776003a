//! How long to wait before the next attempt.

use std::time::Duration;

/// Pauses that double, with jitter, so that clients that were cut off together do not come back
/// together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Backoff {
    /// Before the first repeat.
    pub(crate) first: Duration,
    /// They do not grow beyond it.
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The pause before repeat number `attempt` (from 1 on): between half of it and all of it.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(20);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(0.5 + random() / 2.0)
    }
}

/// From 0 to 1.
pub(crate) fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without a random source clients come back together, and that is all.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(30) };
        for (attempt, most) in [(1, 1), (2, 2), (5, 16), (6, 30), (u32::MAX, 30)] {
            let pause = backoff.pause(attempt).as_secs_f64();
            let most = f64::from(most);
            assert!((most / 2.0..=most).contains(&pause), "{attempt}: {pause}");
        }
    }
}
