//! What is wrong with a config, and where; reading with messages that help.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use utoipa::ToSchema;

/// One thing that is wrong with a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Fault {
    /// Where, with dots between the steps: `headers.x-tenant`. Empty for the config itself.
    pub path: String,
    /// What is wrong, what was expected, what to do. Never a secret.
    pub message: String,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// Reads one struct, keeping the path of what does not fit.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match error.path().to_string() {
            path if path == "." => String::new(),
            path => path,
        };
        let message = error.inner().to_string();
        match missing_field(&message) {
            Some(name) => {
                let dot = if path.is_empty() { "" } else { "." };
                Fault::new(format!("{path}{dot}{name}"), "is missing")
            }
            None => Fault::new(path, suggest(message)),
        }
    })
}

/// The name in serde's "missing field `x`".
fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

/// Adds the nearest right name to serde's "unknown field" and "unknown variant", whose lists
/// come from the types and cannot drift.
fn suggest(message: String) -> String {
    if !message.starts_with("unknown ") {
        return message;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let Some(wrong) = names.next() else {
        return message;
    };
    match nearest(wrong, names) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message,
    }
}

/// The most similar of the names, if any is similar enough to have been meant.
pub(crate) fn nearest<'a>(
    wrong: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (strsim::jaro_winkler(wrong, name), name))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
