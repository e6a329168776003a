//! From facts to findings: what a fact means and what to do about it. Pure, so that each has a
//! test.

use serde_json::{Value, json};
use zapbus_event::Timestamp;

use crate::config::Mistake;

mod lanes;
mod machine;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Events are not taken or not delivered, or soon will not be.
    Problem,
    /// It works, and something is not as it should be.
    Warning,
    /// Good to know.
    Note,
}

impl Severity {
    /// Of one width.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Problem => "problem",
            Self::Warning => "warning",
            Self::Note => "note   ",
        }
    }

    pub(super) const fn style(self) -> anstyle::Style {
        let color = match self {
            Self::Problem => anstyle::AnsiColor::Red,
            Self::Warning => anstyle::AnsiColor::Yellow,
            Self::Note => anstyle::AnsiColor::Cyan,
        };
        color.on_default().bold()
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Stable, for scripts.
    pub(super) code: &'static str,
    /// What is so, in a sentence.
    pub(super) what: String,
    /// What to do about it.
    pub(super) advice: String,
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { severity, code, what: what.into(), advice: advice.into() }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "severity": self.severity.name().trim_end(),
            "code": self.code,
            "what": self.what,
            "advice": self.advice,
        })
    }
}

/// A mistake in the configuration on this machine.
pub(super) fn of_mistake(mistake: &Mistake) -> Finding {
    Finding::new(
        Severity::Problem,
        "configuration",
        format!("The configuration here has a mistake: {mistake}."),
        "A gateway started with it would not start. `zapbus check-config` shows all of it.",
    )
}

/// What the gateway says about itself; `now` is the time here, in milliseconds.
pub(super) fn of_health(health: &Value, now: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    machine::look(health, now, &mut found);
    lanes::look(health, &mut found);
    found
}

/// A time of the answer, in milliseconds.
fn millis(value: &Value) -> Option<i64> {
    value.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_millis)
}

/// Two units at most: `3 d 4 h`, `12 min`, `40 s`.
fn duration(millis: i64) -> String {
    let seconds = millis.max(0) / 1_000;
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let Some(at) = units.iter().position(|(length, _)| seconds >= *length) else {
        return "less than a second".to_owned();
    };
    let (length, name) = units[at];
    let mut text = format!("{} {name}", seconds / length);
    if let Some((next, name)) = units.get(at + 1)
        && seconds % length / next > 0
        && at < 2
    {
        text.push_str(&format!(" {} {name}", seconds % length / next));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (millis, said) in [
            (0, "less than a second"),
            (40_000, "40 s"),
            (720_000, "12 min"),
            (725_000, "12 min"),
            (5_400_000, "1 h 30 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(millis), said);
        }
    }
}
