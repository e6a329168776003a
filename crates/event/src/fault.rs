//! Where and why JSON does not have the expected shape.

use std::fmt;

use serde::Deserialize;
use serde_path_to_error::Segment;

use crate::strict::Strict;

/// The place (`content.media.mime`; empty for the whole) and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Fault {
    /// The same fault, seen from one level further out.
    pub(crate) fn under(mut self, parent: &str) -> Self {
        self.path = join(parent, &self.path);
        self
    }
}

/// The form in which a fault of a nested shape travels through serde's errors, from which
/// [`read`] takes it apart again.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "in `{}`: {}", self.path, self.message)
        }
    }
}

/// Reads one JSON value of a known shape.
pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    // Keeping track of the path costs more than reading. Hardly anything is wrong, and then it
    // is read once more.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match T::deserialize(Strict(&mut json)).and_then(|value| json.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) => read_tracked(bytes),
    }
}

/// [`read`], knowing all the time where it is.
fn read_tracked<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let value = T::deserialize(Strict(tracked)).map_err(|error| {
        let outer = match track.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        locate(outer, &error)
    })?;
    json.end().map_err(|error| locate(String::new(), &error))?;
    Ok(value)
}

/// The longest path into members that nobody has checked, in bytes.
const MAX_PATH: usize = 128;

/// The member in which a text that is not JSON breaks off; empty for the whole.
pub(crate) fn broken_member(bytes: &[u8]) -> String {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let mut path = String::new();
    if serde_json::Value::deserialize(tracked).is_ok() {
        return path;
    }
    for segment in &track.path() {
        let inner = match segment {
            Segment::Seq { index } => format!("[{index}]"),
            Segment::Map { key } => key.clone(),
            // Between members.
            Segment::Enum { .. } | Segment::Unknown => break,
        };
        if path.len() + inner.len() > MAX_PATH {
            break;
        }
        path = join(&path, &inner);
    }
    path
}

fn locate(outer: String, error: &serde_json::Error) -> Fault {
    let mut message = error.to_string();
    // The path says where; a line and column of a nested text would only mislead.
    if error.is_data() {
        let at = format!(" at line {} column {}", error.line(), error.column());
        if let Some(bare) = message.strip_suffix(&at) {
            message.truncate(bare.len());
        }
    }
    let nested = message.strip_prefix("in `").and_then(|rest| rest.split_once("`: "));
    match nested {
        Some((inner, message)) => Fault { path: join(&outer, inner), message: message.to_owned() },
        None => Fault { path: outer, message: plain(&message) },
    }
}

/// Serde's sentence in words of JSON, and without the middle of a value that is long.
fn plain(message: &str) -> String {
    let (found, expected) = match message.rsplit_once(", expected ") {
        Some((found, expected)) => (found, Some(expected)),
        None => (message, None),
    };
    let found = match found {
        "invalid type: sequence" => "invalid type: list",
        "invalid type: map" => "invalid type: object",
        found => found,
    };
    let mut message = cut(found);
    if let Some(expected) = expected {
        message.push_str(", expected ");
        message.push_str(match expected {
            "a sequence" => "a list",
            "a map" => "an object",
            "u8" => "a whole number from 0 to 255",
            "u32" | "u64" => "a whole number from 0",
            "i64" => "a whole number",
            "f64" => "a number",
            shape if shape.starts_with("struct ") => "an object",
            expected => expected,
        });
    }
    message
}

/// The longest part of a message that repeats what was posted, in characters.
const MAX_FOUND: usize = 200;

fn cut(found: &str) -> String {
    match found.char_indices().nth(MAX_FOUND) {
        Some((end, _)) => format!("{}…", &found[..end]),
        None => found.to_owned(),
    }
}

fn join(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", path) | (path, "") => path.to_owned(),
        (outer, inner) if inner.starts_with('[') => format!("{outer}{inner}"),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}
