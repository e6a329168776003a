//! What all channels are asked in: `{"<channel>": {"enabled", "events", …}}`, the same without the outer
//! object, and the names of the first version.

use serde_json::Value;
use zapbus_event::dialect::evolution::Names;

use super::{answer::Failure, body::Members, names};

/// The request that a block stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Its own, in an object of the channel's name: it says itself whether it is switched on.
    Nested,
    /// Its own, without that object.
    Flat,
    /// That which makes an instance: what is there is switched on, unless it says otherwise.
    Create,
}

/// The block in a request to set a channel. `marks` are members by which a body without an outer
/// object is known.
pub(super) fn open(
    body: &Members,
    channel: &str,
    marks: &[&str],
) -> Result<(Members, Form), Failure> {
    if let Some(inner) = body.object(channel) {
        return Ok((inner, Form::Nested));
    }
    // A text there is the URL of the first version.
    let is_text = matches!(body.first(&[channel]), Some((_, Value::String(_))));
    if body.has(marks) && (is_text || !body.has(&[channel])) {
        return Ok((body.clone(), Form::Flat));
    }
    let fault = match body.has(&[channel]) {
        true => body.not_a(channel, "object"),
        false => body.requires(channel),
    };
    Err(Failure::schema(vec![fault]))
}

/// What every block says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    /// Whether it is to be switched on.
    pub(super) enabled: bool,
    /// The names it subscribes to.
    pub(super) names: Names,
}

impl Common {
    /// What is asked for; what is wrong is added to `faults`.
    pub(super) fn read(
        members: &Members,
        form: Form,
        event_keys: &[&str],
        faults: &mut Vec<String>,
    ) -> Self {
        let enabled = match members.truth(&["enabled"]) {
            Ok(None) if form == Form::Nested => {
                faults.push(members.requires("enabled"));
                false
            }
            Ok(enabled) => enabled.unwrap_or(true),
            Err(fault) => {
                faults.push(fault);
                false
            }
        };
        let names = names::read(members, event_keys).unwrap_or_else(|fault| {
            faults.push(fault);
            None
        });
        Self { enabled, names: names.unwrap_or(Names::ALL) }
    }

    /// The names as a stored row shows them: none while it is switched off.
    pub(super) fn list(self) -> Vec<String> {
        if self.enabled { self.names.list() } else { Vec::new() }
    }
}

/// Nothing, or everything that is wrong.
pub(super) fn refuse_if_any(faults: Vec<String>) -> Result<(), Failure> {
    if faults.is_empty() { Ok(()) } else { Err(Failure::schema(faults)) }
}
