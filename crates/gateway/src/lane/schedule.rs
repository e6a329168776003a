//! When the next attempt is due: a pure function of how many there were.

use std::time::Duration;

use crate::spec::{Preset, Retry};

/// A retry schedule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule {
    /// The wait after attempt n is `waits[n - 1]`; the last one repeats.
    waits: Vec<Duration>,
    /// Attempts in all.
    max_attempts: u32,
    /// A wait is never jittered below this.
    floor: Duration,
    /// The share by which a wait is stretched or shortened at most.
    jitter: f64,
    /// Answers that end an event while its neighbours succeed.
    finals: Vec<u16>,
}

/// The share by which a wait is stretched or shortened when nobody says.
const JITTER: f64 = 0.2;

/// Answers that Evolution API does not retry.
const EVOLUTION_FINALS: [u16; 5] = [400, 401, 403, 404, 422];

impl Schedule {
    pub(crate) fn of(retry: &Retry) -> Self {
        let preset = preset_waits(retry.preset);
        let waits = match &retry.waits_s {
            Some(waits) => waits.iter().map(|wait| Duration::from_secs_f64(*wait)).collect(),
            None => preset,
        };
        let max_attempts = retry.max_attempts.unwrap_or(waits.len() as u32 + 1).max(1);
        // Evolution's own rule: jitter never makes a wait shorter than the first one.
        let floor = match retry.preset {
            Preset::Evolution => waits.first().copied().unwrap_or_default(),
            Preset::Native | Preset::Vzaps | Preset::Ryze => Duration::ZERO,
        };
        let finals = match (&retry.final_statuses, retry.preset) {
            (Some(statuses), _) => statuses.clone(),
            (None, Preset::Evolution) => EVOLUTION_FINALS.to_vec(),
            (None, Preset::Native | Preset::Vzaps | Preset::Ryze) => Vec::new(),
        };
        let jitter = retry.jitter.unwrap_or(JITTER).clamp(0.0, 1.0);
        Self { waits, max_attempts, floor, jitter, finals }
    }

    /// Whether an event that got this answer is not tried again, as long as others are taken.
    pub(crate) fn is_final(&self, status: u16) -> bool {
        self.finals.contains(&status)
    }

    /// Attempts in all, the first included.
    pub(crate) fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The wait before the next attempt, or `None` when `attempts` have used the schedule up.
    /// `random` is uniform in 0..1.
    pub(crate) fn wait_after(&self, attempts: u32, random: f64) -> Option<Duration> {
        (attempts < self.max_attempts).then(|| self.jittered(attempts, random))
    }

    /// The wait that would follow `attempts`, whether or not they are used up.
    pub(crate) fn jittered(&self, attempts: u32, random: f64) -> Duration {
        let index = (attempts.max(1) as usize - 1).min(self.waits.len().saturating_sub(1));
        let wait = self.waits.get(index).copied().unwrap_or_default();
        wait.mul_f64(1.0 + self.jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0)).max(self.floor)
    }
}

/// How long one attempt may take when the destination does not say.
pub(crate) fn preset_timeout(preset: Preset) -> Duration {
    Duration::from_secs(match preset {
        Preset::Native => 15,
        Preset::Vzaps => 10,
        Preset::Ryze => 5,
        Preset::Evolution => 30,
    })
}

fn preset_waits(preset: Preset) -> Vec<Duration> {
    let seconds = |waits: &[u64]| waits.iter().map(|s| Duration::from_secs(*s)).collect();
    match preset {
        Preset::Native => seconds(&[5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200]),
        // Nine waits from 1 s to 1 h, each the same factor longer than the one before.
        Preset::Vzaps => {
            let factor = 3_600_f64.powf(1.0 / 8.0);
            (0..9).map(|n| Duration::from_secs_f64(factor.powi(n))).collect()
        }
        Preset::Ryze => seconds(&[1, 15, 240, 3_600]),
        Preset::Evolution => seconds(&[5, 10, 20, 40, 80, 160, 300, 300, 300]),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(retry: &Retry) -> Vec<f64> {
        let schedule = Schedule::of(retry);
        (1..).map_while(|n| schedule.wait_after(n, 0.5)).map(|wait| wait.as_secs_f64()).collect()
    }

    #[test]
    fn presets_have_the_published_number_of_attempts_and_ends() {
        for (preset, attempts, first, last) in [
            (Preset::Native, 11, 5.0, 43_200.0),
            (Preset::Vzaps, 10, 1.0, 3_600.0),
            (Preset::Ryze, 5, 1.0, 3_600.0),
            (Preset::Evolution, 10, 5.0, 300.0),
        ] {
            let waits = waits(&Retry { preset, ..Retry::default() });
            assert_eq!(waits.len() + 1, attempts, "{preset:?}");
            assert!((waits[0] - first).abs() < 1e-6, "{preset:?}");
            assert!((waits[waits.len() - 1] - last).abs() < 1e-3, "{preset:?}");
        }
    }

    #[test]
    fn own_waits_set_the_attempts_and_the_last_one_repeats() {
        let mut retry = Retry { waits_s: Some(vec![1.0, 2.0]), ..Retry::default() };
        assert_eq!(waits(&retry), [1.0, 2.0]);
        retry.max_attempts = Some(5);
        assert_eq!(waits(&retry), [1.0, 2.0, 2.0, 2.0]);
        retry.max_attempts = Some(1);
        assert_eq!(waits(&retry), [0.0; 0]);
    }

    #[test]
    fn evolutions_jitter_never_goes_below_the_first_wait() {
        let retry = Retry { preset: Preset::Evolution, ..Retry::default() };
        let schedule = Schedule::of(&retry);
        let first = |random| schedule.jittered(1, random).as_secs_f64();
        assert!((first(0.0) - 5.0).abs() < 1e-9 && (first(1.0) - 6.0).abs() < 1e-9);
        assert!((schedule.jittered(7, 1.0).as_secs_f64() - 360.0).abs() < 1e-6);
        let none = Schedule::of(&Retry { jitter: Some(0.0), ..retry });
        assert_eq!(none.jittered(3, 0.9), Duration::from_secs(20));
    }

    #[test]
    fn the_final_answers_are_those_of_the_preset_or_ones_own() {
        let evolution = Retry { preset: Preset::Evolution, ..Retry::default() };
        let schedule = Schedule::of(&evolution);
        assert!([400, 401, 403, 404, 422].into_iter().all(|status| schedule.is_final(status)));
        assert!([408, 409, 410, 429, 500].into_iter().all(|status| !schedule.is_final(status)));
        assert!(!Schedule::of(&Retry::default()).is_final(400));
        let own = Schedule::of(&Retry { final_statuses: Some(vec![409]), ..evolution });
        assert!(own.is_final(409) && !own.is_final(400));
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_fifth(attempts in 1..20_u32, random in 0.0..1.0_f64) {
            let schedule = Schedule::of(&Retry::default());
            let plain = schedule.jittered(attempts, 0.5).as_secs_f64();
            let wait = schedule.jittered(attempts, random).as_secs_f64();
            prop_assert!((wait / plain - 1.0).abs() <= JITTER + 1e-9);
        }
    }
}
