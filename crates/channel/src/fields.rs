//! What the configs of several channels have in common.

use std::time::Duration;

use crate::Fault;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if asks for it")]
pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if asks for it")]
pub(crate) fn is_true(value: &bool) -> bool {
    *value
}

/// Times in configs: seconds.
pub(crate) struct Seconds;

impl Seconds {
    /// As a duration; `None` for what no duration can be.
    pub(crate) fn duration(seconds: f64) -> Option<Duration> {
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// What is wrong with one, if it is given.
    pub(crate) fn fault(path: &str, value: Option<f64>, most: f64) -> Option<Fault> {
        let wrong = value.is_some_and(|value| !(0.05..=most).contains(&value));
        wrong.then(|| Fault::new(path, format!("expected seconds between 0.05 and {most}")))
    }
}
