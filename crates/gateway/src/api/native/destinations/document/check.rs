//! What may be wrong with a destination.

use serde_json::Value;
use zapbus_event::{Dialect, Filter};
use zapbus_store::{Destination, Start};

use super::{
    ChangeDestination, Choices, CreateDestination, Place,
    channel::{channel_of, merged},
    known_spec, spec_of,
};
use crate::{
    api::error::{ApiError, Fault},
    app::App,
    environment::is_of_environment,
    spec::{DEFAULT_DISABLE_AFTER_S, DEFAULT_MAX_IN_FLIGHT, Preset, Retry, Spec},
};

/// The label of a destination that was given none.
const DEFAULT_LABEL: &str = "default";

/// Patterns a filter may have at most.
const MAX_PATTERNS: usize = 200;

/// A destination that was asked for and has no fault.
pub(in crate::api::native::destinations) struct Checked {
    pub(in crate::api::native::destinations) label: String,
    pub(in crate::api::native::destinations) filter: Filter,
    pub(in crate::api::native::destinations) exclude_ephemeral: bool,
    pub(in crate::api::native::destinations) spec: Spec,
}

impl CreateDestination {
    /// What is asked for, or everything that is wrong with it.
    pub(in crate::api::native::destinations) fn check(
        self,
        app: &App,
    ) -> Result<Checked, ApiError> {
        let mut faults = Vec::new();
        let label = self.label.unwrap_or_else(|| DEFAULT_LABEL.to_owned());
        faults.extend(label_fault(&label));
        let dialect = dialect_of(self.dialect.as_deref(), &mut faults).unwrap_or_default();
        let filter = filter_of(self.events.as_deref().unwrap_or(&[]), "events", &mut faults);
        let channel = channel_of(app, self.channel, None, &mut faults);
        let Some(channel) = channel else {
            return Err(ApiError::Invalid(faults));
        };
        let mut spec = Spec::new(channel);
        spec.dialect = dialect;
        spec.ordering = self.ordering.unwrap_or_default();
        spec.max_in_flight = self.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT);
        spec.rate_limit_per_s = self.rate_limit_per_s;
        spec.retry = self.retry.unwrap_or_else(|| default_retry(dialect));
        spec.disable_after_s = self.disable_after_s.unwrap_or(DEFAULT_DISABLE_AFTER_S);
        spec.include_raw = self.include_raw;
        spec.fallback = self.fallback.unwrap_or_default();
        spec.media_key = self.media_key.unwrap_or(dialect != Dialect::Native);
        spec.inline_media = self.inline_media;
        let choices = Choices { ryze: self.ryze, evolution: self.evolution };
        choices.put_in(&mut spec, &mut faults);
        spec.wait_for_media_s = self.wait_for_media_s;
        check_numbers(&spec, &mut faults);
        if !faults.is_empty() {
            return Err(ApiError::Invalid(faults));
        }
        Ok(Checked { label, filter, exclude_ephemeral: self.exclude_ephemeral, spec })
    }

    /// Where it starts, as it was asked for.
    pub(in crate::api::native::destinations) fn start(&self) -> Result<Place, ApiError> {
        self.start
            .as_deref()
            .map_or(Ok(Place::Start(Start::Now)), |text| Place::read("start", text))
    }
}

impl ChangeDestination {
    /// Whether the caller sets a signing secret, or has one made, and so is shown the one in force.
    pub(in crate::api::native::destinations) fn gives_secret(&self, stored: &Destination) -> bool {
        let given = self.channel.as_ref().is_some_and(|members| members.contains_key("secret"));
        given || stored.spec.is_null()
    }

    /// What is then asked for, or everything that is wrong with it.
    pub(in crate::api::native::destinations) fn check(
        mut self,
        app: &App,
        stored: &Destination,
    ) -> Result<Checked, ApiError> {
        let mut faults = Vec::new();
        let mut spec = match known_spec(stored)? {
            Some(spec) => spec,
            // Nothing is left to merge with.
            None => match self.channel.take() {
                Some(members) => {
                    let channel = channel_of(app, Value::Object(members), None, &mut faults);
                    Spec::new(channel.ok_or(ApiError::Invalid(faults.clone()))?)
                }
                None => spec_of(stored)?,
            },
        };
        let label = self.label.unwrap_or_else(|| stored.label.clone());
        if label != stored.label {
            faults.extend(label_fault(&label));
        }
        if let Some(dialect) = dialect_of(self.dialect.as_deref(), &mut faults) {
            spec.dialect = dialect;
        }
        let filter = match &self.events {
            Some(patterns) => filter_of(patterns, "events", &mut faults),
            None => stored.filter.clone(),
        };
        if let Some(members) = self.channel {
            let merged = merged(&spec.channel, members)?;
            if let Some(channel) = channel_of(app, merged, Some(&spec.channel), &mut faults) {
                spec.set_channel(channel);
            }
        }
        if let Some(ordering) = self.ordering {
            spec.ordering = ordering;
        }
        if let Some(max_in_flight) = self.max_in_flight {
            spec.max_in_flight = max_in_flight;
        }
        if let Some(rate) = self.rate_limit_per_s {
            spec.rate_limit_per_s = rate;
        }
        if let Some(retry) = self.retry {
            spec.retry = retry;
        }
        if let Some(seconds) = self.disable_after_s {
            spec.disable_after_s = seconds;
        }
        if let Some(include_raw) = self.include_raw {
            spec.include_raw = include_raw;
        }
        if let Some(fallback) = self.fallback {
            spec.fallback = fallback;
        }
        if let Some(media_key) = self.media_key {
            spec.media_key = media_key;
        }
        if let Some(inline_media) = self.inline_media {
            spec.inline_media = inline_media;
        }
        let choices = Choices { ryze: self.ryze, evolution: self.evolution };
        choices.put_in(&mut spec, &mut faults);
        if let Some(wait_for_media_s) = self.wait_for_media_s {
            spec.wait_for_media_s = wait_for_media_s;
        }
        check_numbers(&spec, &mut faults);
        if !faults.is_empty() {
            return Err(ApiError::Invalid(faults));
        }
        let exclude_ephemeral = self.exclude_ephemeral.unwrap_or(stored.exclude_ephemeral);
        Ok(Checked { label, filter, exclude_ephemeral, spec })
    }
}

/// Refuses to touch what the operator's environment defines.
pub(in crate::api::native) fn refuse_environment(
    destination: &Destination,
) -> Result<(), ApiError> {
    if is_of_environment(&destination.label) {
        return Err(ApiError::Conflict {
            code: "managed_by_environment",
            reason: "This destination comes from the gateway's environment; change it there."
                .to_owned(),
        });
    }
    Ok(())
}

fn label_fault(label: &str) -> Option<Fault> {
    let fits = (1..=64).contains(&label.chars().count())
        && label.trim() == label
        && !label.chars().any(char::is_control);
    if !fits {
        return Some(Fault::new("label", "expected 1 to 64 characters, no control characters"));
    }
    is_of_environment(label)
        .then(|| Fault::new("label", "`env/` is for destinations from the gateway's environment"))
}

fn dialect_of(name: Option<&str>, faults: &mut Vec<Fault>) -> Option<Dialect> {
    match name?.parse() {
        Ok(dialect) => Some(dialect),
        Err(error) => {
            let error: zapbus_event::DialectError = error;
            faults.push(Fault::new("dialect", error.to_string()));
            None
        }
    }
}

/// Compiles patterns; each that is none is a fault of its own.
pub(in crate::api::native) fn filter_of(
    patterns: &[String],
    path: &str,
    faults: &mut Vec<Fault>,
) -> Filter {
    if patterns.len() > MAX_PATTERNS {
        faults.push(Fault::new(path, format!("expected at most {MAX_PATTERNS} patterns")));
        return Filter::default();
    }
    let before = faults.len();
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err(error) = Filter::parse(&[pattern]) {
            faults.push(Fault::new(format!("{path}[{index}]"), error.to_string()));
        }
    }
    if faults.len() > before {
        return Filter::default();
    }
    Filter::parse(patterns).unwrap_or_default()
}

/// The schedule of a dialect's own product.
fn default_retry(dialect: Dialect) -> Retry {
    Retry {
        preset: match dialect {
            Dialect::Native => Preset::Native,
            Dialect::Vzaps => Preset::Vzaps,
            Dialect::Evolution => Preset::Evolution,
            Dialect::Ryze => Preset::Ryze,
        },
        ..Retry::default()
    }
}

fn check_numbers(spec: &Spec, faults: &mut Vec<Fault>) {
    let mut range = |path: &str, fits: bool, expected: &str| {
        if !fits {
            faults.push(Fault::new(path, format!("expected {expected}")));
        }
    };
    range("max_in_flight", (1..=1_000).contains(&spec.max_in_flight), "1 to 1000");
    range(
        "rate_limit_per_s",
        spec.rate_limit_per_s.is_none_or(|rate| (0.01..=10_000.0).contains(&rate)),
        "0.01 to 10000",
    );
    range(
        "disable_after_s",
        (60..=31_536_000).contains(&spec.disable_after_s),
        "60 to 31536000 seconds",
    );
    let retry = &spec.retry;
    range(
        "retry.max_attempts",
        retry.max_attempts.is_none_or(|attempts| (1..=50).contains(&attempts)),
        "1 to 50",
    );
    range(
        "retry.timeout_s",
        retry.timeout_s.is_none_or(|seconds| (0.1..=120.0).contains(&seconds)),
        "0.1 to 120",
    );
    range(
        "retry.jitter",
        retry.jitter.is_none_or(|jitter| (0.0..=1.0).contains(&jitter)),
        "0 to 1",
    );
    range(
        "retry.final_statuses",
        retry.final_statuses.as_ref().is_none_or(|statuses| {
            statuses.len() <= 50 && statuses.iter().all(|status| (300..=599).contains(status))
        }),
        "at most 50 answers from 300 to 599",
    );
    if let Some(waits) = &retry.waits_s {
        range("retry.waits_s", (1..=50).contains(&waits.len()), "1 to 50 values");
        for (index, wait) in waits.iter().enumerate() {
            range(
                &format!("retry.waits_s[{index}]"),
                (0.0..=86_400.0).contains(wait),
                "0 to 86400 seconds",
            );
        }
    }
}
